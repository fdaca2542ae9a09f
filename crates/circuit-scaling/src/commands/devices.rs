//! `devices`: the devices available on this machine.

use std::fmt::Write;

use cs_engine::device;

/// Lists the CPU and the GPUs, with the reason if one is not used.
pub fn devices() -> String {
    let (found, why_no_cards) = device::devices();
    let mut text = String::new();
    for device in found {
        let use_of_it =
            device.why_not.map_or_else(|| "can be used".to_owned(), |why| format!("not used: {why}"));
        let _ = writeln!(text, "{:8} {:24} {use_of_it}", device.word, device.name);
    }
    if let Some(why) = why_no_cards {
        let _ = writeln!(text, "{:8} {:24} not used: {why}", "cuda", "no GPU");
    }
    text
}
