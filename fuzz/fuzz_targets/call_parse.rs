//! See `coracle_sim::bodies::call_parse`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| coracle_sim::bodies::call_parse(data));
