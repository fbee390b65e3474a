//! See `coracle_sched_model::sched_preempt`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| coracle_sched_model::sched_preempt(data));
