#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| mapperd::fuzz::volume_name(data));
