//! Moments as they are told: to programs in seconds since 1970, to people as in
//! the access log.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config::show_time;

/// In seconds since 1970.
pub(super) fn unix(time: SystemTime) -> u64 {
    since_1970(time).as_secs()
}

/// In milliseconds.
pub(super) fn unix_millis(time: SystemTime) -> u64 {
    u64::try_from(since_1970(time).as_millis()).unwrap_or(u64::MAX)
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// For people.
pub(super) fn shown(unix: u64) -> String {
    show_time(unix.try_into().unwrap_or(u32::MAX))
}
