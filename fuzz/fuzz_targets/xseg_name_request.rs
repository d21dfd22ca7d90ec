#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| xseg::fuzz::name_request(data));
