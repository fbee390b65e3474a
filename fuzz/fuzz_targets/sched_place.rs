//! See `coracle_sim::bodies::sched_place`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| coracle_sim::bodies::sched_place(data));
