#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| xseg::fuzz::clone_request(data));
