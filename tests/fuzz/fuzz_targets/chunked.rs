//! A chunked body means the same to us, however it arrives, as to a reader that has all of it.
#![no_main]

use lockgate::http1;

#[path = "../oracle.rs"]
#[allow(dead_code, reason = "each target uses a part of it")]
mod oracle;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    oracle::check_chunked(input, 32 << 10);
    oracle::check_chunked(input, 16);
});
