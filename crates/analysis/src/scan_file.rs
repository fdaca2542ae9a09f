//! The scan file: the effect of ablating each head of one model on one task.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::direct::DirectEffect;
use crate::error::{AnalysisError, Result};
use crate::files::{read_json, write_atomic};
use crate::head_id::HeadId;

/// How many heads `top_suppressor_candidates` and `top_anti_suppressors` list.
pub const TOP_HEADS: usize = 20;

/// Definition of accuracy, shown next to accuracies.
pub const ACCURACY: &str = "Accuracy: the share of prompts whose correct answer has the highest logit among all candidate answers of the \
                            task (not only above the distractor's).";

/// A subset of the prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Prompts used to select heads.
    Discovery,
    /// Prompts used to evaluate selected heads.
    HeldOut,
    /// Every prompt; the only split of the `published` protocol.
    All,
}

impl Split {
    /// The name in files: `discovery`, `held_out` or `all`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Discovery => "discovery",
            Self::HeldOut => "held_out",
            Self::All => "all",
        }
    }

    /// The split of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Discovery, Self::HeldOut, Self::All].into_iter().find(|split| split.as_str() == name)
    }

    /// Whether prompts of the split `other` belong to this one: `All` contains every prompt.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self == Self::All || self == other
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is needed to reproduce a result, in addition to the file's own fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Version of the program that measured.
    pub program_version: String,
    /// Hash of the model's weights.
    pub weight_hash: String,
    /// Every further option of the run, named as on the command line or in `study.toml`.
    #[serde(default)]
    pub options: serde_json::Map<String, serde_json::Value>,
}

/// What is scanned, and how: the part of a scan that is known before it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScanMeta {
    /// Name in tables and file names: a short name, a Hugging Face id, or a folder's name.
    pub model_name: String,
    /// Hugging Face id, or the folder for a local model.
    pub hf_name: String,
    /// Model family: `gpt2`, `pythia`, `opt`, `gpt-neo`, …
    pub family: String,
    /// Task: `ioi`, `anti_repeat`, or a custom task's own name.
    pub task: String,
    /// `standard` or `published`.
    pub protocol: String,
    /// Seed of the prompts, and of the resampling below.
    pub seed: u64,
    /// `folded` (the input-independent part of a head's value is kept) or `in-head`.
    pub value_bias: String,
    /// `zero`, `mean` or `resample`.
    pub ablation: String,
    /// The reference prompts of mean and resample ablation: `abc` or `same`; none for `zero`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The device that computed it, if not a CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// How products were computed there: `f32`, `split` or `half`; a CPU always uses float32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    /// Number of blocks.
    pub n_layers: u32,
    /// Attention heads per block.
    pub n_heads: u32,
    /// Parameters of the checkpoint.
    #[serde(default)]
    pub n_params: Option<u64>,
    /// The scanned heads, ordered by layer and head, if not all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_heads: Option<Vec<HeadId>>,
    /// Remarks for the reader.
    #[serde(default)]
    pub note: String,
    /// Program version, weight hash, options.
    pub provenance: Provenance,
}

impl ScanMeta {
    /// The heads that are scanned, ordered by layer and head.
    #[must_use]
    pub fn scanned_heads(&self) -> Vec<HeadId> {
        scanned_heads(self.only_heads.as_deref(), self.n_layers, self.n_heads)
    }
}

/// The heads in `only`, else all of the model.
fn scanned_heads(only: Option<&[HeadId]>, n_layers: u32, n_heads: u32) -> Vec<HeadId> {
    only.map_or_else(|| HeadId::all(n_layers, n_heads).collect(), <[HeadId]>::to_vec)
}

/// Whether these are different heads of a model of this shape, ordered by layer and head.
pub(crate) fn are_heads_of(heads: &[HeadId], n_layers: u32, n_heads: u32) -> bool {
    heads.is_sorted_by(|a, b| a < b) && heads.iter().all(|id| id.layer < n_layers && id.head < n_heads)
}

/// One head's effect on the task, with its uncertainty. Effects are Δ: mean logit difference with the head ablated
/// minus without, in logits; a negative Δ means that the head helps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadDelta {
    /// Block, from 0.
    pub layer: u32,
    /// Head within its block, from 0.
    pub head: u32,
    /// Δ over the prompts of the file's `split`.
    pub delta: f64,
    /// Lower end of the 95% bootstrap interval of `delta` over prompts; absent if there are too few.
    #[serde(default)]
    pub delta_ci_low: Option<f64>,
    /// Upper end of that interval.
    #[serde(default)]
    pub delta_ci_high: Option<f64>,
    /// Lower end of the 95% interval of `delta` over templates, by [`crate::stats::clusters::cluster_interval`]; absent for
    /// prompts of one template.
    #[serde(default)]
    pub delta_low_templates: Option<f64>,
    /// Upper end of that interval.
    #[serde(default)]
    pub delta_high_templates: Option<f64>,
    /// Two-sided sign-flip permutation p-value of Δ = 0.
    #[serde(default)]
    pub p_value: Option<f64>,
    /// Benjamini–Hochberg q-value over all heads of the model on this task.
    #[serde(default)]
    pub q_value: Option<f64>,
    /// For each of the file's `taus`, the share of bootstrap resamples in which |Δ| ≥ τ; `None` without an
    /// interval.
    #[serde(default)]
    pub prob_abs_delta_ge_tau: Vec<Option<f64>>,
    /// Δ over the held-out prompts; absent when there are none.
    #[serde(default)]
    pub held_out_delta: Option<f64>,
    /// Lower end of the 95% bootstrap interval of `held_out_delta` over prompts.
    #[serde(default)]
    pub held_out_ci_low: Option<f64>,
    /// Upper end of that interval.
    #[serde(default)]
    pub held_out_ci_high: Option<f64>,
    /// Lower end of the 95% interval of `held_out_delta` over templates.
    #[serde(default)]
    pub held_out_low_templates: Option<f64>,
    /// Upper end of that interval.
    #[serde(default)]
    pub held_out_high_templates: Option<f64>,
    /// Sign-flip p-value on the held-out prompts.
    #[serde(default)]
    pub held_out_p_value: Option<f64>,
    /// Benjamini–Hochberg q-value on the held-out prompts.
    #[serde(default)]
    pub held_out_q_value: Option<f64>,
    /// Direct effect and compensation over the prompts of the file's `split`, as fields of the head itself; absent for post-norm
    /// models.
    #[serde(flatten)]
    pub direct: Option<DirectEffect>,
    /// The same over the held-out prompts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out_direct: Option<DirectEffect>,
}

/// The model's own behaviour, without ablation, on one split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Number of prompts drawn, including weights.
    pub n_prompts: u64,
    /// Number of distinct prompts.
    pub n_distinct_prompts: u64,
    /// Number of distinct templates.
    #[serde(default)]
    pub n_templates: u64,
    /// Mean logit difference (correct − distractor), in logits.
    pub base_logit_diff_mean: f64,
    /// Lower end of its 95% bootstrap interval over prompts; absent for too few of them.
    #[serde(default)]
    pub base_logit_diff_ci_low: Option<f64>,
    /// Upper end of that interval.
    #[serde(default)]
    pub base_logit_diff_ci_high: Option<f64>,
    /// Lower end of its 95% interval over templates; absent for one template.
    #[serde(default)]
    pub base_logit_diff_low_templates: Option<f64>,
    /// Upper end of that interval.
    #[serde(default)]
    pub base_logit_diff_high_templates: Option<f64>,
    /// Share of prompts whose correct answer has the highest logit among all candidate answers of the task; see [`ACCURACY`].
    pub base_accuracy: f64,
}

impl Baseline {
    /// The values that determine whether the model does the task.
    #[must_use]
    pub fn performance(&self) -> Performance {
        Performance {
            logit_diff: Some(self.base_logit_diff_mean),
            logit_diff_low: self.base_logit_diff_ci_low,
            logit_diff_high: self.base_logit_diff_ci_high,
            accuracy: Some(self.base_accuracy),
        }
    }
}

/// How well a model does a task without ablation, as far as known.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Performance {
    /// Mean logit difference, in logits.
    pub logit_diff: Option<f64>,
    /// Lower end of its 95% interval over prompts.
    pub logit_diff_low: Option<f64>,
    /// Upper end of that interval.
    pub logit_diff_high: Option<f64>,
    /// Share of prompts whose correct answer has the highest logit of all candidates.
    pub accuracy: Option<f64>,
}

impl Performance {
    /// Whether the model does the task: the interval of its mean logit difference is above 0, and it is right at least
    /// once. `None` if unknown.
    #[must_use]
    pub fn does_task(&self) -> Option<bool> {
        let never_right = self.accuracy == Some(0.0);
        if never_right { Some(false) } else { self.logit_diff_low.map(|low| low > 0.0) }
    }
}

/// How the intervals and p-values of a scan file were computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resampling {
    /// Bootstrap resamples of the prompts.
    pub n_resamples: u32,
    /// Random sign flips for the p-values.
    pub n_permutations: u32,
    /// Coverage of the intervals.
    pub level: f64,
}

/// `results/<prefix>_logitdiff_scan_<model>.json`: every head of one model on one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScanFile {
    /// What was scanned, and how.
    #[serde(flatten)]
    pub meta: ScanMeta,
    /// The prompts behind `baseline` and every `delta`: `discovery`, or `all` if the protocol has no splits.
    pub split: Split,
    /// The unablated model on the prompts of `split`.
    #[serde(flatten)]
    pub baseline: Baseline,
    /// The unablated model on the held-out prompts; absent when there are none.
    #[serde(default)]
    pub held_out: Option<Baseline>,
    /// How intervals and p-values were made.
    #[serde(default)]
    pub resampling: Option<Resampling>,
    /// The thresholds of `prob_abs_delta_ge_tau`.
    #[serde(default)]
    pub taus: Vec<f64>,
    /// Every head that was scanned, ordered by layer and head: all of the model's, unless `only_heads` says otherwise.
    pub heads: Vec<HeadDelta>,
    /// The [`TOP_HEADS`] heads with the most negative Δ, most negative first.
    #[serde(default)]
    pub top_suppressor_candidates: Vec<HeadDelta>,
    /// The [`TOP_HEADS`] heads with the most positive Δ, most positive first.
    #[serde(default)]
    pub top_anti_suppressors: Vec<HeadDelta>,
}

impl ScanFile {
    /// Reads and checks a scan file.
    ///
    /// # Errors
    /// If the file cannot be read, is not JSON, lacks a field, or does not have every head (or every one of
    /// `only_heads`) once, in order and with a finite Δ.
    pub fn read(path: &Path) -> Result<Self> {
        let fix = "scan the model again";
        let scan: Self = read_json(path, fix)?;
        scan.check().map_err(|(field, problem)| {
            AnalysisError::format(path, format!("field `{field}`"), problem, fix)
        })?;
        Ok(scan)
    }

    /// Writes the scan file, atomically.
    ///
    /// # Errors
    /// When it cannot be written, or holds a number that is not finite.
    pub fn write(&self, path: &Path) -> Result<()> {
        self.check().map_err(|(field, problem)| {
            AnalysisError::inconsistent(
                format!("scan of {} on {}", self.meta.model_name, self.meta.task),
                format!("field `{field}`: {problem}"),
                "this scan cannot be stored",
            )
        })?;
        write_atomic(path, |out| {
            serde_json::to_writer_pretty(&mut *out, self)?;
            out.write_all(b"\n")
        })
    }

    /// The first field that is wrong, and why.
    fn check(&self) -> std::result::Result<(), (&'static str, String)> {
        let scanned = match &self.meta.only_heads {
            None => u64::from(self.meta.n_layers) * u64::from(self.meta.n_heads),
            Some(only) if !are_heads_of(only, self.meta.n_layers, self.meta.n_heads) => {
                return Err(("only_heads", "not heads of the model in order of layer and head".into()));
            }
            Some(only) => only.len() as u64,
        };
        // Checked first: a file may claim any number of layers.
        if self.heads.len() as u64 != scanned {
            let (found, layers, heads) = (self.heads.len(), self.meta.n_layers, self.meta.n_heads);
            let problem = match self.meta.only_heads {
                None => {
                    format!("number of heads {found}, but {layers} × {heads} (layers × heads) make {scanned}")
                }
                Some(_) => format!("number of heads {found}, but `only_heads` names {scanned}"),
            };
            return Err(("heads", problem));
        }
        for (expected, head) in
            scanned_heads(self.meta.only_heads.as_deref(), self.meta.n_layers, self.meta.n_heads)
                .iter()
                .zip(&self.heads)
        {
            let found = HeadId { layer: head.layer, head: head.head };
            if found != *expected {
                return Err(("heads", format!("found {found} instead of {expected}")));
            }
            if !head.delta.is_finite() {
                return Err(("heads", format!("the delta of {found} is not a finite number")));
            }
            if head.prob_abs_delta_ge_tau.len() != self.taus.len() {
                let problem = format!(
                    "{found} has {} entries in `prob_abs_delta_ge_tau` for {} `taus`",
                    head.prob_abs_delta_ge_tau.len(),
                    self.taus.len()
                );
                return Err(("heads", problem));
            }
        }
        if !self.baseline.base_logit_diff_mean.is_finite() {
            return Err(("base_logit_diff_mean", "not a finite number".into()));
        }
        Ok(())
    }

    /// The `top_*` lists of these heads: most negative Δ first, and most positive Δ first.
    ///
    /// Heads of equal Δ keep their order of layer and head.
    #[must_use]
    pub fn top_heads(heads: &[HeadDelta]) -> (Vec<HeadDelta>, Vec<HeadDelta>) {
        let mut ascending: Vec<&HeadDelta> = heads.iter().collect();
        ascending.sort_by(|a, b| a.delta.total_cmp(&b.delta));
        let mut descending: Vec<&HeadDelta> = heads.iter().collect();
        descending.sort_by(|a, b| b.delta.total_cmp(&a.delta));
        let top = |sorted: Vec<&HeadDelta>| sorted.into_iter().take(TOP_HEADS).cloned().collect();
        (top(ascending), top(descending))
    }
}
