#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| archip_driver::fuzz::mark(data));
