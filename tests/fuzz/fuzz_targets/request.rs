//! Whatever we take for a request has one strict meaning, and we forward just that.
#![no_main]

use lockgate::http1;

#[path = "../oracle.rs"]
#[allow(dead_code, reason = "each target uses a part of it")]
mod oracle;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    oracle::check_request(input, &http1::HeadLimits::default());
    oracle::check_request(input, &oracle::SMALL);
});
