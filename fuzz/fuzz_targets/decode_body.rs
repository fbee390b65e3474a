//! See `coracle_sim::bodies::decode_body`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| coracle_sim::bodies::decode_body(data));
