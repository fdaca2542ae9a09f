//! Where a study's files lie and what they are called.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Task name of indirect object identification, in files and tables.
pub const IOI: &str = "ioi";
/// Task name of anti-repeat (copy suppression), in files and tables.
pub const ANTI_REPEAT: &str = "anti_repeat";

/// The folder of one study.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The study in folder `root`, which need not exist yet.
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
        self.results().join(format!("{}_logitdiff_scan_{}.json", scan_prefix(task), file_safe_name(model)))
    }

    /// Logit differences per prompt and head: `results/per_prompt/<task>_<model>.safetensors`.
    #[must_use]
    pub fn per_prompt(&self, task: &str, model: &str) -> PathBuf {
        self.per_prompt_folder().join(format!("{task}_{}.safetensors", file_safe_name(model)))
    }

    /// Prompts as they were run: `results/prompts/<task>_<model>.jsonl`.
    #[must_use]
    pub fn prompts(&self, task: &str, model: &str) -> PathBuf {
        self.results().join("prompts").join(format!("{task}_{}.jsonl", file_safe_name(model)))
    }

    /// Clean and corrupted prompts as they were traced: `results/prompts/<task>_pairs_<model>.jsonl`.
    #[must_use]
    pub fn tracing_pairs(&self, task: &str, model: &str) -> PathBuf {
        self.results().join("prompts").join(format!("{task}_pairs_{}.jsonl", file_safe_name(model)))
    }

    /// Causal tracing of hero heads: `results/causal_tracing/hero_head_causal_results.json` for the value stream, with
    /// the stream's name before `.json` for any other.
    #[must_use]
    pub fn causal_results(&self, stream: &str) -> PathBuf {
        self.causal_file("hero_head_causal_results", stream)
    }

    /// The same for all heads, where all were traced.
    #[must_use]
    pub fn causal_results_of_all_heads(&self, stream: &str) -> PathBuf {
        self.causal_file("all_head_causal_results", stream)
    }

    fn causal_file(&self, stem: &str, stream: &str) -> PathBuf {
        self.results().join("causal_tracing").join(format!("{}.json", stream_name(stem, stream)))
    }

    /// Every ablated set: `results/ablation/hero_vs_random_ablation.csv`.
    #[must_use]
    pub fn ablated_sets(&self) -> PathBuf {
        self.ablation_folder().join("hero_vs_random_ablation.csv")
    }

    /// Everything that ablating sets of heads gave for one model: `results/ablation/ablation_<model>.json`.
    #[must_use]
    pub fn model_ablation(&self, model: &str) -> PathBuf {
        self.ablation_folder().join(format!("ablation_{}.json", file_safe_name(model)))
    }

    /// `results/ablation`.
    #[must_use]
    pub fn ablation_folder(&self) -> PathBuf {
        self.results().join("ablation")
    }

    /// Where a model's heads attend at the last token: `results/attention/attention_<model>.json`.
    #[must_use]
    pub fn attention(&self, model: &str) -> PathBuf {
        self.attention_folder().join(format!("attention_{}.json", file_safe_name(model)))
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

/// How scan files of a task begin. IOI scans look for copy suppressors, hence their historical name.
#[must_use]
pub fn scan_prefix(task: &str) -> &str {
    if task == IOI { "copy_suppression" } else { task }
}

/// Name of a file or table on causal tracing: that of the value stream is `stem`, others end in the stream's name.
#[must_use]
pub fn stream_name(stem: &str, stream: &str) -> String {
    if stream == "v" { stem.to_owned() } else { format!("{stem}_{stream}") }
}

/// A model's name as part of a file name: Hugging Face ids and folders contain what file names must not.
///
/// `/` becomes `--`. Where that alone could make two names equal, or where anything else had to be replaced or cut,
/// eight hex digits of the name's SHA-256 follow, so that different models never share a file.
#[must_use]
pub fn file_safe_name(model: &str) -> String {
    const LONGEST: usize = 100;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '=' | '+');
    let mut safe: String =
        model.replace('/', "--").chars().map(|c| if is_plain(c) { c } else { '_' }).take(LONGEST).collect();
    let unambiguous = model.chars().all(|c| is_plain(c) || c == '/')
        && !model.contains("--")
        && !model.contains("-/")
        && !model.contains("/-")
        && !model.starts_with(['.', '/', '-'])
        && model.len() <= LONGEST / 2
        && !model.is_empty();
    if !unambiguous {
        let digest = Sha256::digest(model.as_bytes());
        let hex: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        safe = format!("{}-{hex}", safe.trim_start_matches(['.', '-']));
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn different_models_never_share_a_file() {
        assert_eq!(file_safe_name("pythia-1.4b"), "pythia-1.4b");
        assert_eq!(file_safe_name("EleutherAI/pythia-70m"), "EleutherAI--pythia-70m");
        assert_eq!(file_safe_name("pythia-70m@step1000"), "pythia-70m@step1000");
        assert_eq!(file_safe_name("lr=1e-3+wd"), "lr=1e-3+wd");
        let awkward = [
            "a/b",
            "a--b",
            "a-/-b",
            "a/-b",
            "a-/b",
            "/a/b",
            "./a/b",
            "../a/b",
            "a b",
            "a\\b",
            "a_b",
            "",
            "é",
            "è",
            "..",
            "-a",
            "модель 1",
            "模型",
            "a@b",
            "a=b",
            "a+b",
            "a\nb",
        ];
        let mut names: Vec<String> = awkward.iter().map(|n| file_safe_name(n)).collect();
        names.push(file_safe_name(&"x".repeat(300)));
        names.push(file_safe_name(&"x".repeat(301)));
        for name in &names {
            assert!(name.len() <= 110 && !name.starts_with('.') && !name.contains(['/', '\\']), "{name}");
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), awkward.len() + 2);
    }
}
