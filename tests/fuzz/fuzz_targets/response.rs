//! Whatever we take for a response has one strict meaning.
#![no_main]

use lockgate::http1;

#[path = "../oracle.rs"]
#[allow(dead_code, reason = "each target uses a part of it")]
mod oracle;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    for method in [http1::Method::Get, http1::Method::Head, http1::Method::Connect] {
        oracle::check_response(input, &http1::HeadLimits::default(), method);
    }
    oracle::check_response(input, &oracle::SMALL, http1::Method::Get);
});
