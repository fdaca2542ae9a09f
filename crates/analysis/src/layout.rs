//! Paths and names of a study's files.

use std::path::{Path, PathBuf};

use crate::contrast::{Contrast, IOI};
use crate::file_name::file_safe_name;

/// The folder of one study.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The study in the folder `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The study's folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Scan file of one task and model: `results/<prefix>_logitdiff_scan_<model>.json`.
    #[must_use]
    pub fn scan(&self, task: &str, model: &str) -> PathBuf {
        self.results().join(format!("{}{}.json", scan_file_begin(task), file_safe_name(model)))
    }

    /// Logit differences per prompt and head: `results/per_prompt/<task>_<model>.safetensors`.
    #[must_use]
    pub fn per_prompt(&self, task: &str, model: &str) -> PathBuf {
        let name = format!("{}_{}.safetensors", file_safe_name(task), file_safe_name(model));
        self.per_prompt_folder().join(name)
    }

    /// Prompts as run: `results/prompts/<task>_<model>.jsonl`.
    #[must_use]
    pub fn prompts(&self, task: &str, model: &str) -> PathBuf {
        self.prompt_file(&format!("{}_{}", file_safe_name(task), file_safe_name(model)))
    }

    /// Clean and corrupted prompts as traced: `results/prompts/<task>_pairs_<model>.jsonl`.
    #[must_use]
    pub fn tracing_pairs(&self, task: &str, model: &str) -> PathBuf {
        self.prompt_file(&format!("{}_pairs_{}", file_safe_name(task), file_safe_name(model)))
    }

    fn prompt_file(&self, stem: &str) -> PathBuf {
        self.results().join("prompts").join(format!("{stem}.jsonl"))
    }

    /// Causal tracing of a contrast's hero heads: `results/causal_tracing/hero_head_causal_results.json` for the value stream,
    /// with the stream's name before `.json` for any other.
    #[must_use]
    pub fn causal_results(&self, contrast: &Contrast, stream: &str) -> PathBuf {
        self.causal_file(contrast, "hero_head_causal_results", stream)
    }

    /// The same for all heads, if all were traced.
    #[must_use]
    pub fn causal_results_of_all_heads(&self, contrast: &Contrast, stream: &str) -> PathBuf {
        self.causal_file(contrast, "all_head_causal_results", stream)
    }

    fn causal_file(&self, contrast: &Contrast, stem: &str, stream: &str) -> PathBuf {
        let folder = of_contrast(self.results().join("causal_tracing"), contrast);
        folder.join(format!("{}.json", stream_name(stem, stream)))
    }

    /// Every ablated set of a contrast: `results/ablation/hero_vs_random_ablation.csv`.
    #[must_use]
    pub fn ablated_sets(&self, contrast: &Contrast) -> PathBuf {
        self.ablation_folder(contrast).join("hero_vs_random_ablation.csv")
    }

    /// All results of a contrast's set ablation for one model: `results/ablation/ablation_<model>.json`.
    #[must_use]
    pub fn model_ablation(&self, contrast: &Contrast, model: &str) -> PathBuf {
        self.ablation_folder(contrast).join(format!("ablation_{}.json", file_safe_name(model)))
    }

    /// `results/ablation`, or a contrast's own folder in it ([`Contrast::folder`]).
    #[must_use]
    pub fn ablation_folder(&self, contrast: &Contrast) -> PathBuf {
        of_contrast(self.results().join("ablation"), contrast)
    }

    /// Where a model's heads attend at the last token: `results/attention/attention_<model>.json`.
    #[must_use]
    pub fn attention(&self, model: &str) -> PathBuf {
        self.attention_folder().join(format!("attention_{}.json", file_safe_name(model)))
    }

    /// Which roles a model's heads play: `results/attention/roles_<model>.json`.
    #[must_use]
    pub fn roles(&self, model: &str) -> PathBuf {
        self.attention_folder().join(format!("roles_{}.json", file_safe_name(model)))
    }

    /// `results/attention`.
    #[must_use]
    pub fn attention_folder(&self) -> PathBuf {
        self.results().join("attention")
    }

    /// `results`, for everything measured.
    #[must_use]
    pub fn results(&self) -> PathBuf {
        self.root.join("results")
    }

    /// `results/per_prompt`.
    #[must_use]
    pub fn per_prompt_folder(&self) -> PathBuf {
        self.results().join("per_prompt")
    }

    /// `paper/tables`.
    #[must_use]
    pub fn tables(&self) -> PathBuf {
        self.root.join("paper").join("tables")
    }

    /// `paper/figs`.
    #[must_use]
    pub fn figures(&self) -> PathBuf {
        self.root.join("paper").join("figs")
    }

    /// `paper/figs`, or a contrast's own folder in it ([`Contrast::folder`]).
    #[must_use]
    pub fn figures_of(&self, contrast: &Contrast) -> PathBuf {
        of_contrast(self.figures(), contrast)
    }

    /// `paper/notes`.
    #[must_use]
    pub fn notes(&self) -> PathBuf {
        self.root.join("paper").join("notes")
    }

    /// One table: `paper/tables/<name>.csv`.
    #[must_use]
    pub fn table(&self, name: &str) -> PathBuf {
        self.tables().join(format!("{name}.csv"))
    }
}

/// The folder of a contrast's files inside `folder`.
fn of_contrast(folder: PathBuf, contrast: &Contrast) -> PathBuf {
    contrast.folder().map_or_else(|| folder.clone(), |own| folder.join(own))
}

/// The part of all scan files' names between task and model.
pub const SCAN_FILE: &str = "_logitdiff_scan_";

/// Prefix of a task's scan files. IOI scans keep their name from the published study, `copy_suppression`.
#[must_use]
pub fn scan_file_begin(task: &str) -> String {
    let prefix = if task == IOI { "copy_suppression".to_owned() } else { file_safe_name(task) };
    format!("{prefix}{SCAN_FILE}")
}

/// Name of a file or table of causal tracing: `stem` for the value stream, otherwise with the stream's name
/// appended.
#[must_use]
pub fn stream_name(stem: &str, stream: &str) -> String {
    if stream == "v" { stem.to_owned() } else { format!("{stem}_{stream}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contrast::ANTI_REPEAT;

    #[test]
    fn scan_files_have_their_historical_names() {
        let layout = Layout::new("out");
        assert_eq!(
            layout.scan(IOI, "gpt2"),
            Path::new("out/results/copy_suppression_logitdiff_scan_gpt2.json")
        );
        assert_eq!(
            layout.scan(ANTI_REPEAT, "gpt2"),
            Path::new("out/results/anti_repeat_logitdiff_scan_gpt2.json")
        );
        assert_eq!(layout.scan("mine", "gpt2"), Path::new("out/results/mine_logitdiff_scan_gpt2.json"));
    }
}
