//! See `coracle_store::fuzz::store_against_model`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| coracle_store::fuzz::store_against_model(data));
