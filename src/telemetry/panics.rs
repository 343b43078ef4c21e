//! Panics: each is a bug of lockgate that ended no more than the connection, or the
//! task, that met it.

use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};

static COUNT: AtomicU64 = AtomicU64::new(0);

/// Counts them from now on; each is still told where it happened.
pub(crate) fn watch() {
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        COUNT.fetch_add(1, Ordering::Relaxed);
        tell(panic);
    }));
}

/// How many there were.
pub(crate) fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Other tests may panic meanwhile.
    #[test]
    fn each_panic_counts() {
        watch();
        let before = count();
        assert!(std::thread::spawn(|| panic!("one to be counted")).join().is_err());
        assert!(count() > before);
    }
}
