//! The joint table of a contrast: every head of every model with its effect on both tasks.
//!
//! All further tables of the contrast are functions of this one, whether it was joined from scans ([`from_scans`]) or read
//! from a CSV ([`import`]), so both give the same bytes. Models are in the study's order (known families first, each by
//! size) and heads are ordered by layer and head, regardless of the order of the input.

mod columns;
mod from_scans;
mod import;
mod row;

use std::cmp::Ordering;

pub(crate) use columns::does_columns;
pub(crate) use from_scans::model_info;
pub use from_scans::{ScanPair, from_scans};
pub use import::{DuplicateHead, Import, MAX_ROWS, import, import_reader};

use crate::contrast::{Contrast, Side};
use crate::effect::Effect;
use crate::known_models;
use crate::scan_file::Performance;
use crate::stats::Interval;
use crate::stats::correlation_bootstrap::PromptNoise;

/// One head.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadRow {
    /// Block, from 0.
    pub layer: u32,
    /// Head within its block, from 0.
    pub head: u32,
    /// Its effect on each task of the contrast.
    pub effects: [Effect; 2],
}

impl HeadRow {
    /// The effect on one of the tasks.
    #[must_use]
    pub fn effect(&self, side: Side) -> &Effect {
        &self.effects[side as usize]
    }

    /// Δ on both tasks, if it was measured on both.
    #[must_use]
    pub fn deltas(&self) -> Option<(f64, f64)> {
        self.effects[0].delta.zip(self.effects[1].delta)
    }

    /// Δ on the held-out prompts of both tasks, if there are any.
    #[must_use]
    pub fn held_out_deltas(&self) -> Option<(f64, f64)> {
        self.effects[0].held_out_delta().zip(self.effects[1].held_out_delta())
    }
}

/// A joint table's information about a model, apart from its heads.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ModelInfo {
    /// Family.
    pub family: String,
    /// Name in tables.
    pub model: String,
    /// Size in millions of parameters: nominal for the known models, otherwise counted, if known.
    pub params_m: Option<f64>,
    /// Number of blocks, if known.
    pub n_layers: Option<u32>,
    /// Heads per block, if known.
    pub n_heads: Option<u32>,
    /// Hugging Face id or folder.
    pub hf_name: Option<String>,
    /// Protocol of the prompts.
    pub protocol: Option<String>,
    /// Ablation method.
    pub ablation: Option<String>,
    /// Treatment of the value bias.
    pub value_bias: Option<String>,
    /// Reference prompts of mean and resample ablation.
    pub reference: Option<String>,
    /// Seed of the prompts.
    pub seed: Option<String>,
    /// Version of the program that measured.
    pub program_version: Option<String>,
    /// Hash of the weights.
    pub weight_hash: Option<String>,
    /// How well the model does both tasks, on the prompts used to select heads.
    pub performance: [Performance; 2],
    /// The correlation between the tasks over prompts.
    pub over_prompts: CorrelationsOverPrompts,
}

/// The correlations over a model's heads as estimates from the prompts of both tasks, if measured.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CorrelationsOverPrompts {
    /// Of Pearson's correlation.
    pub pearson: OverPrompts,
    /// Of Spearman's correlation.
    pub spearman: OverPrompts,
    /// Of Pearson's correlation on held-out prompts.
    pub held_out_pearson: OverPrompts,
    /// Of Spearman's correlation on held-out prompts.
    pub held_out_spearman: OverPrompts,
    /// Pearson's correlation without measurement noise.
    pub disattenuated: Disattenuated,
    /// The same on held-out prompts.
    pub held_out_disattenuated: Disattenuated,
}

/// The uncertainty of one correlation over prompts.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct OverPrompts {
    /// The effect of sampling prompts, needed for its interval over heads; see
    /// [`crate::stats::correlation_bootstrap`].
    pub noise: Option<PromptNoise>,
    /// Its 95% interval over prompts; see [`crate::stats::correlation_prompts`].
    pub prompts: Option<Interval>,
    /// Its 95% interval over templates.
    pub templates: Option<Interval>,
}

/// A correlation corrected for measurement noise; see [`crate::stats::correlation_prompts::disattenuated`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Disattenuated {
    /// The correlation.
    pub value: Option<f64>,
    /// Its 95% interval over prompts.
    pub interval: Option<Interval>,
}

impl ModelInfo {
    /// How well the model does one of the tasks.
    #[must_use]
    pub fn performance(&self, side: Side) -> &Performance {
        &self.performance[side as usize]
    }

    /// The tasks that the model does not do: its rows say little about how they are done.
    #[must_use]
    pub fn tasks_not_done(&self) -> Vec<Side> {
        Side::BOTH.into_iter().filter(|&side| self.performance(side).does_task() == Some(false)).collect()
    }

    /// Heads of the whole model, if its shape is known.
    #[must_use]
    pub fn n_heads_total(&self) -> Option<usize> {
        self.n_layers.zip(self.n_heads).map(|(layers, heads)| layers as usize * heads as usize)
    }

    /// The study's order: known families first, then by size (unknown sizes last), then by name.
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        let size = |info: &Self| info.params_m.unwrap_or(f64::INFINITY);
        known_models::family_rank(&self.family)
            .cmp(&known_models::family_rank(&other.family))
            .then_with(|| self.family.cmp(&other.family))
            .then_with(|| size(self).total_cmp(&size(other)))
            .then_with(|| self.model.cmp(&other.model))
    }
}

/// One model with all its heads that were measured.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelHeads {
    /// The model.
    pub info: ModelInfo,
    /// Its heads, ordered by layer and head.
    pub heads: Vec<HeadRow>,
}

impl ModelHeads {
    /// Number of blocks: as recorded, else one more than the last block seen.
    #[must_use]
    pub fn n_layers(&self) -> u32 {
        self.info.n_layers.unwrap_or_else(|| self.heads.iter().map(|h| h.layer + 1).max().unwrap_or(0))
    }

    /// Depth of a block between 0 (first) and 1 (last); 0 in a model of one block.
    #[must_use]
    pub fn relative_depth(&self, layer: u32) -> f64 {
        match self.n_layers() {
            0 | 1 => 0.0,
            n => f64::from(layer) / f64::from(n - 1),
        }
    }

    /// The row of one head.
    #[must_use]
    pub fn head(&self, layer: u32, head: u32) -> Option<&HeadRow> {
        let place = self.heads.binary_search_by_key(&(layer, head), |h| (h.layer, h.head)).ok()?;
        Some(&self.heads[place])
    }

    /// Δ on both tasks, as two columns, over the heads measured on both. `([n], [n])`
    #[must_use]
    pub fn deltas(&self) -> (Vec<f64>, Vec<f64>) {
        self.heads.iter().filter_map(HeadRow::deltas).unzip()
    }

    /// The same over held-out prompts.
    #[must_use]
    pub fn held_out_deltas(&self) -> (Vec<f64>, Vec<f64>) {
        self.heads.iter().filter_map(HeadRow::held_out_deltas).unzip()
    }
}

/// All models of a study with their heads.
#[derive(Debug, Clone, PartialEq)]
pub struct JointTable {
    /// The two tasks.
    pub contrast: Contrast,
    /// The models, in the study's order.
    pub models: Vec<ModelHeads>,
    /// Thresholds for which the table holds the probability that |Δ| reaches them.
    pub taus: Vec<f64>,
}

impl JointTable {
    /// Puts models and heads in the study's order.
    fn new(contrast: Contrast, mut models: Vec<ModelHeads>, taus: Vec<f64>) -> Self {
        models.sort_by(|a, b| a.info.order(&b.info));
        for model in &mut models {
            model.heads.sort_by_key(|h| (h.layer, h.head));
        }
        Self { contrast, models, taus }
    }

    /// Every head with its model.
    pub fn rows(&self) -> impl Iterator<Item = (&ModelInfo, &HeadRow)> {
        self.models.iter().flat_map(|m| m.heads.iter().map(move |h| (&m.info, h)))
    }

    /// Number of heads over all models.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.models.iter().map(|m| m.heads.len()).sum()
    }

    /// The model of this name.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<&ModelHeads> {
        self.models.iter().find(|m| m.info.model == name)
    }

    /// Position of `tau` among [`JointTable::taus`].
    #[must_use]
    pub fn tau_index(&self, tau: f64) -> Option<usize> {
        self.taus.iter().position(|&t| t == tau)
    }
}
