#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| mapperd::fuzz::rename_note(data));
