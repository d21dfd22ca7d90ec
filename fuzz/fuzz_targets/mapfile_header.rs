#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| mapfile::fuzz::header(data));
