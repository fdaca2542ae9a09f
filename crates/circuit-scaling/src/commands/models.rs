//! `models`: the models that have a name.

use std::fmt::Write;

use cs_model::families::FAMILIES;

use crate::miniatures::MINIATURES;

/// Lists the bundled miniatures and the published models.
pub fn models() -> String {
    let mut text = String::from("Bundled miniatures (trained for this project, no download needed):\n");
    for miniature in MINIATURES {
        let _ = writeln!(text, "  {:16} {}", miniature.name, miniature.family);
    }
    text.push_str("\nPublished models (downloaded from the Hugging Face Hub the first time; any other id works as well):\n");
    for known in FAMILIES.iter().flat_map(|family| family.known_models) {
        let heads = known.n_layers * known.n_heads;
        let _ = writeln!(
            text,
            "  {:16} {:9} {:5} heads, {:5} M parameters  {}",
            known.name, known.family, heads, known.params_m, known.hub_id
        );
    }
    let types: Vec<&str> = FAMILIES.iter().map(|family| family.model_type).collect();
    let _ = writeln!(text, "\nArchitectures (model_type in config.json): {}", types.join(", "));
    text
}

#[cfg(test)]
mod tests {
    use cs_analysis::known_models::KNOWN_MODELS;
    use cs_model::families::known_model;

    #[test]
    fn the_studys_models_are_what_tables_know_of_them() {
        for of_study in &KNOWN_MODELS {
            let known = known_model(of_study.name).unwrap();
            assert_eq!(
                (known.name, known.family, known.hub_id),
                (of_study.name, of_study.family, of_study.hf_name)
            );
            let sizes = (known.n_layers, known.n_heads, known.params_m);
            assert_eq!(sizes, (of_study.n_layers as usize, of_study.n_heads as usize, of_study.params_m));
        }
    }
}
