//! The trained miniature models, compiled into the program so that it works without any files.

use cs_model::ModelFiles;

/// One bundled model.
pub struct Miniature {
    /// Short name.
    pub name: &'static str,
    /// Family, as for the real models.
    pub family: &'static str,
    files: &'static [(&'static str, &'static [u8])],
}

impl Miniature {
    /// The model's files.
    pub fn files(&self) -> ModelFiles {
        ModelFiles::embedded(self.name, self.files)
    }
}

macro_rules! miniatures {
    ($($family:literal: $($name:literal)+;)+) => {
        &[$($(Miniature {
            name: $name,
            family: $family,
            files: &[
                ("config.json", include_bytes!(concat!("../../../models/", $name, "/config.json"))),
                ("model.safetensors", include_bytes!(concat!("../../../models/", $name, "/model.safetensors"))),
                ("tokenizer.json", include_bytes!(concat!("../../../models/", $name, "/tokenizer.json"))),
                (
                    "tokenizer_config.json",
                    include_bytes!(concat!("../../../models/", $name, "/tokenizer_config.json")),
                ),
            ],
        },)+)+]
    };
}

/// All bundled models by family, smallest first. It is a `static` because each use of a constant would embed the files again.
pub static MINIATURES: &[Miniature] = miniatures! {
    "gpt2": "mini-gpt2-s" "mini-gpt2-m" "mini-gpt2-l";
    "pythia": "mini-pythia-s" "mini-pythia-m" "mini-pythia-l";
    "opt": "mini-opt-s" "mini-opt-m" "mini-opt-l";
    "gpt-neo": "mini-gpt-neo-s" "mini-gpt-neo-m" "mini-gpt-neo-l";
};

/// The bundled model with this name, ignoring case.
pub fn find(name: &str) -> Option<&'static Miniature> {
    MINIATURES.iter().find(|m| m.name.eq_ignore_ascii_case(name))
}
