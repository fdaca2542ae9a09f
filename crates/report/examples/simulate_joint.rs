//! Prints a simulated joint table of the 17 published models at their real head counts, or of the named ones, to try
//! out figures, notes and the page: `cargo run --release --example simulate_joint -- [STRENGTH] [MODEL…]`.

#[path = "../tests/common/mod.rs"]
mod common;

use std::io::Write;

use cs_analysis::known_models::KNOWN_MODELS;

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let strength = match arguments.next().map(|s| s.parse()) {
        None => 1.0,
        Some(Ok(strength)) => strength,
        Some(Err(_)) => {
            eprintln!("usage: simulate_joint [STRENGTH] [MODEL…]");
            std::process::exit(2);
        }
    };
    let names: Vec<String> = arguments.collect();
    let models = match names.as_slice() {
        [] => KNOWN_MODELS.to_vec(),
        names => common::models(&names.iter().map(String::as_str).collect::<Vec<_>>()),
    };
    std::io::stdout().write_all(common::joint_csv(&models, strength).as_bytes())
}
