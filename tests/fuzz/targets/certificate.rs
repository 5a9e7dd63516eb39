#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::certificate::run(data));
