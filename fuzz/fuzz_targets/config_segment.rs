#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| archip_config::fuzz::segment(data));
