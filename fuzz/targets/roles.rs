#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = cs_intake::Kind::Roles.check(bytes);
});
