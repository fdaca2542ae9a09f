//! `models`: what can be named.

use std::fmt::Write;

use analysis::known_models::KNOWN_MODELS;

use crate::miniatures::MINIATURES;

/// Lists the shipped miniatures and the published models.
pub fn models() -> String {
    let mut text = String::from("Shipped miniatures (trained for this project, no download needed):\n");
    for miniature in MINIATURES {
        let _ = writeln!(text, "  {:16} {}", miniature.name, miniature.family);
    }
    text.push_str("\nPublished models (downloaded from the Hugging Face Hub the first time; any other id works as well):\n");
    for known in &KNOWN_MODELS {
        let heads = known.n_layers * known.n_heads;
        let _ = writeln!(
            text,
            "  {:16} {:8} {:5} heads, {:5} M parameters  {}",
            known.name, known.family, heads, known.params_m, known.hf_name
        );
    }
    text
}
