//! The provenance of an experiment: model, prompts, program.

use serde::{Deserialize, Serialize};

use crate::joint::ModelInfo;
use crate::per_prompt::PerPromptScan;
use crate::scan_file::{Provenance, Split};
use crate::table::Table;

/// Model, prompts and program of an experiment: everything that it takes to make it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// Model family.
    pub family: String,
    /// Name in tables and file names.
    pub model: String,
    /// Hugging Face id, or the folder for a local model.
    pub hf_name: String,
    /// Size in millions of parameters, if known.
    pub params_m: Option<f64>,
    /// Number of blocks.
    pub n_layers: u32,
    /// Heads per block.
    pub n_heads: u32,
    /// `standard` or `published`.
    pub protocol: String,
    /// Seed of the prompts, and of every draw of the experiment.
    pub seed: u64,
    /// The prompts on which heads were picked.
    pub picked_on: Split,
    /// The prompts used to evaluate them.
    pub split: Split,
    /// Program version, weight hash, options.
    pub provenance: Provenance,
}

impl Origin {
    /// The origin of an experiment on a model scanned as in `scan`, evaluated on the
    /// held-out prompts if there are any. `provenance` is the experiment's own.
    #[must_use]
    pub fn new(model: &ModelInfo, scan: &PerPromptScan, provenance: Provenance) -> Self {
        let has_held_out = scan.split.contains(&Split::HeldOut);
        Self {
            family: model.family.clone(),
            model: model.model.clone(),
            hf_name: scan.meta.hf_name.clone(),
            params_m: model.params_m,
            n_layers: scan.meta.n_layers,
            n_heads: scan.meta.n_heads,
            protocol: scan.meta.protocol.clone(),
            seed: scan.meta.seed,
            picked_on: scan.main_split(),
            split: if has_held_out { Split::HeldOut } else { Split::All },
            provenance,
        }
    }

    /// Heads over all blocks.
    #[must_use]
    pub fn n_heads_total(&self) -> usize {
        self.n_layers as usize * self.n_heads as usize
    }

    /// A warning if heads are selected and evaluated on the same prompts.
    #[must_use]
    pub fn caution(&self) -> Option<&'static str> {
        (self.picked_on == self.split).then_some(
            "heads were selected and evaluated on the same prompts, so their effects are overestimated",
        )
    }

    /// Adds the origin of each row as further columns.
    #[must_use]
    pub(crate) fn columns<'a>(table: Table, rows: impl Iterator<Item = &'a Self> + Clone) -> Table {
        table
            .text("split", rows.clone().map(|o| o.split.as_str()))
            .text("protocol", rows.clone().map(|o| o.protocol.as_str()))
            .text("seed", rows.clone().map(|o| o.seed.to_string()))
            .text("program_version", rows.clone().map(|o| o.provenance.program_version.as_str()))
            .text("weight_hash", rows.map(|o| o.provenance.weight_hash.as_str()))
    }
}
