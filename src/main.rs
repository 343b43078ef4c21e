//! The `lockgate` program.

use std::process::ExitCode;

/// Measured for idle memory and tail latency; the system's own allocator
/// keeps more after a storm.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    lockgate::cli::main()
}
