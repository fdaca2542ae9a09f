#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    intake::Kind::Prompts.check(bytes);
});
