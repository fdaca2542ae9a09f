//! The provenance in a scan's files.

use std::collections::BTreeSet;

use cs_analysis::head_id::HeadId;
use cs_analysis::scan_file::{Provenance, ScanMeta};
use cs_circuits::prompts::{PromptSet, Tokenize};
use cs_circuits::scan::ScanOptions;

use crate::handle::ModelHandle;

/// The option under which results record the commit of a model's files on the Hub.
pub const COMMIT: &str = "commit";

/// The description of a scan of `only_heads`, or of all heads, before it runs.
pub fn scan_meta(
    handle: &ModelHandle,
    prompts: &PromptSet,
    scan: ScanOptions,
    only_heads: Option<&[HeadId]>,
) -> ScanMeta {
    let spec = handle.spec();
    let mut options = serde_json::Map::new();
    options.insert("prompts".into(), prompts.n_prompts.into());
    options.insert("hold_out".into(), prompts.hold_out.as_str().into());
    options.insert("task_hash".into(), prompts.task.hash().into());
    options.insert("tokenizer_hash".into(), handle.hash().into());
    options.insert("bos_id".into(), handle.bos_id().into());
    if let Some(commit) = &handle.commit {
        options.insert(COMMIT.into(), commit.as_str().into());
    }
    ScanMeta {
        model_name: handle.name.clone(),
        hf_name: handle.hf_name.clone(),
        family: handle.family.clone(),
        task: prompts.task.name().to_owned(),
        protocol: prompts.protocol.to_string(),
        seed: prompts.seed,
        value_bias: scan.value_bias.to_string(),
        ablation: scan.ablation.to_string(),
        reference: scan.reference_name(),
        n_layers: spec.n_layers as u32,
        n_heads: spec.n_heads as u32,
        n_params: Some(handle.info.checkpoint.n_params() as u64),
        device: handle.compute.recorded_device(),
        precision: handle.compute.recorded_precision(),
        only_heads: only_heads
            .map(|heads| heads.iter().copied().collect::<BTreeSet<_>>().into_iter().collect()),
        note: String::new(),
        provenance: Provenance {
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            weight_hash: handle.info.checkpoint.weight_hash().to_owned(),
            options,
        },
    }
}
