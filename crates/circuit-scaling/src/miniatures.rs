//! The trained miniature models, compiled into the program so that it does its whole job from any folder.

use cs_model::ModelFiles;

/// One shipped model.
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

/// All shipped models, family by family, smallest first. A `static`: of a constant, each use would carry the files once more.
pub static MINIATURES: &[Miniature] = miniatures! {
    "gpt2": "mini-gpt2-s" "mini-gpt2-m" "mini-gpt2-l";
    "pythia": "mini-pythia-s" "mini-pythia-m" "mini-pythia-l";
    "opt": "mini-opt-s" "mini-opt-m" "mini-opt-l";
    "gpt-neo": "mini-gpt-neo-s" "mini-gpt-neo-m" "mini-gpt-neo-l";
};

/// The shipped model of this name, whatever the case of its letters.
pub fn find(name: &str) -> Option<&'static Miniature> {
    MINIATURES.iter().find(|m| m.name.eq_ignore_ascii_case(name))
}
