//! Joining the scans of both tasks.

use super::{
    CorrelationsOverPrompts, Disattenuated, HeadRow, JointTable, ModelHeads, ModelInfo, OverPrompts,
};
use crate::contrast::Contrast;
use crate::error::{AnalysisError, Result};
use crate::known_models;
use crate::model_measures::LEVEL;
use crate::per_prompt::PerPromptScan;
use crate::scan_file::{HeadDelta, ScanFile, ScanMeta, Split};
use crate::stats::Seed;
use crate::stats::correlation_bootstrap::Measured;
use crate::stats::correlation_prompts::{Over, disattenuated, resampled};

/// The scans of one model on both tasks of a contrast.
#[derive(Debug, Clone, PartialEq)]
pub struct ScanPair {
    /// A scan on each task, in the contrast's order.
    pub scans: [ScanFile; 2],
    /// The correlation between them over prompts; see [`ScanPair::with_prompts`].
    pub over_prompts: CorrelationsOverPrompts,
}

impl ScanPair {
    /// Both scans of a model, without the information from their per-prompt files.
    #[must_use]
    pub fn new(a: ScanFile, b: ScanFile) -> Self {
        Self { scans: [a, b], over_prompts: CorrelationsOverPrompts::default() }
    }

    /// Adds the correlation between the tasks over prompts: its intervals over prompts and templates, the
    /// correlation without measurement noise, and the prompts' contribution to its interval over heads.
    ///
    /// # Errors
    /// If the per-prompt files do not belong to the scans.
    pub fn with_prompts(mut self, a: &PerPromptScan, b: &PerPromptScan) -> Result<Self> {
        for (scan, side) in self.scans.iter().zip([a, b]) {
            side.check()?;
            if (&scan.meta, scan.heads.len(), scan.split)
                != (&side.meta, side.n_scanned_heads(), side.main_split())
            {
                return Err(AnalysisError::inconsistent(
                    format!("scan of {} on {}", scan.meta.model_name, scan.meta.task),
                    "its file in `per_prompt` belongs to another scan",
                    "scan the model again on this task",
                ));
            }
        }
        let on = |split: Split| {
            let effects = [a, b].map(|side| side.differences(split));
            let [x, y] =
                [0, 1].map(|at| Measured { series: &effects[at].heads, weights: &effects[at].weights });
            let over = |what: Over, purpose: &str| {
                let seeds = [a, b].map(|side| {
                    let meta = &side.meta;
                    Seed::new(meta.seed, &[&meta.model_name, &meta.task, split.as_str(), purpose])
                });
                resampled(x, y, what, LEVEL, &seeds)
            };
            let prompts = over(Over::Prompts, "prompts");
            let templates = Over::Templates([&effects[0].templates, &effects[1].templates]);
            let templates = over(templates, "templates");
            let corrected = disattenuated(x, y, LEVEL);
            (
                [0, 1].map(|kind| OverPrompts {
                    noise: prompts[kind].noise,
                    prompts: prompts[kind].interval,
                    templates: templates[kind].interval,
                }),
                Disattenuated {
                    value: corrected.map(|c| c.value),
                    interval: corrected.and_then(|c| c.interval),
                },
            )
        };
        let ([pearson, spearman], disattenuated) = on(self.scans[0].split);
        self.over_prompts = CorrelationsOverPrompts {
            pearson,
            spearman,
            disattenuated,
            ..CorrelationsOverPrompts::default()
        };
        if self.scans.iter().all(|scan| scan.held_out.is_some()) {
            let ([pearson, spearman], disattenuated) = on(Split::HeldOut);
            self.over_prompts.held_out_pearson = pearson;
            self.over_prompts.held_out_spearman = spearman;
            self.over_prompts.held_out_disattenuated = disattenuated;
        }
        Ok(self)
    }
}

/// The joint table of these models' scans on the tasks of `contrast`.
///
/// # Errors
/// [`AnalysisError::Inconsistent`] if two scans that should be compared were made differently (model, weights, protocol, ablation,
/// value bias, thresholds), a scan is for another task or for only some heads, or a model is given twice.
pub fn from_scans(contrast: &Contrast, pairs: &[ScanPair]) -> Result<JointTable> {
    let mut models: Vec<ModelHeads> = Vec::with_capacity(pairs.len());
    let Some(first) = pairs.first() else {
        return Err(AnalysisError::inconsistent("joint table", "no scans", "scan at least one model first"));
    };
    for pair in pairs {
        check_pair(contrast, pair)?;
        check_same_study(&first.scans[0], &pair.scans[0])?;
        let [a, b] = &pair.scans;
        let name = &a.meta.model_name;
        if models.iter().any(|m| m.info.model == *name) {
            return Err(AnalysisError::inconsistent(
                format!("model {name}"),
                "given twice",
                "name each model once",
            ));
        }
        let row = |(a, b): (&HeadDelta, &HeadDelta)| HeadRow {
            layer: a.layer,
            head: a.head,
            effects: [a.into(), b.into()],
        };
        models.push(ModelHeads {
            info: ModelInfo {
                performance: [a.baseline.performance(), b.baseline.performance()],
                over_prompts: pair.over_prompts,
                ..model_info(&a.meta)
            },
            heads: a.heads.iter().zip(&b.heads).map(row).collect(),
        });
    }
    Ok(JointTable::new(contrast.clone(), models, first.scans[0].taus.clone()))
}

/// What a scan records about its model, independent of the task.
pub(crate) fn model_info(scan: &ScanMeta) -> ModelInfo {
    let nominal = known_models::find(&scan.model_name).map(|known| known.params_m);
    // Parameter counts are far below 2^53, so the operand is exact.
    let counted = scan.n_params.map(|n| n as f64 / 1e6);
    ModelInfo {
        family: scan.family.clone(),
        model: scan.model_name.clone(),
        params_m: nominal.or(counted),
        n_layers: Some(scan.n_layers),
        n_heads: Some(scan.n_heads),
        hf_name: some_text(&scan.hf_name),
        protocol: some_text(&scan.protocol),
        ablation: some_text(&scan.ablation),
        value_bias: some_text(&scan.value_bias),
        reference: scan.reference.as_deref().and_then(some_text),
        seed: Some(scan.seed.to_string()),
        program_version: some_text(&scan.provenance.program_version),
        weight_hash: some_text(&scan.provenance.weight_hash),
        ..ModelInfo::default()
    }
}

/// The reference prompts for an error message.
fn reference(scan: &ScanMeta) -> &str {
    scan.reference.as_deref().unwrap_or("none")
}

fn some_text(text: &str) -> Option<String> {
    // Cells are trimmed when a table is read, so they are trimmed here too.
    Some(text.trim()).filter(|t| !t.is_empty()).map(str::to_owned)
}

/// Both scans of a model may differ only in the task.
fn check_pair(contrast: &Contrast, pair: &ScanPair) -> Result<()> {
    let ([a, b], [task_a, task_b]) = (&pair.scans, contrast.tasks());
    for (scan, task) in [(a, task_a), (b, task_b)] {
        if scan.meta.task != task {
            return Err(AnalysisError::inconsistent(
                format!("scan of {}", scan.meta.model_name),
                format!("its task is `{}` instead of `{task}`", scan.meta.task),
                format!("scan the model on `{task}`"),
            ));
        }
    }
    for scan in [a, b] {
        if let Some(only) = &scan.meta.only_heads {
            return Err(AnalysisError::inconsistent(
                format!("scan of {} on {}", scan.meta.model_name, scan.meta.task),
                format!(
                    "it covers {} of {} heads",
                    only.len(),
                    u64::from(scan.meta.n_layers) * u64::from(scan.meta.n_heads)
                ),
                "scan the model again without --heads",
            ));
        }
    }
    let same = |field: &str, of_a: &dyn std::fmt::Display, of_b: &dyn std::fmt::Display| {
        let (of_a, of_b) = (of_a.to_string(), of_b.to_string());
        if of_a == of_b {
            return Ok(());
        }
        Err(AnalysisError::inconsistent(
            format!("scans of {}", a.meta.model_name),
            format!("`{field}` is `{of_a}` for {task_a} and `{of_b}` for {task_b}"),
            "scan the model again on both tasks with the same options",
        ))
    };
    same("model_name", &a.meta.model_name, &b.meta.model_name)?;
    same("family", &a.meta.family, &b.meta.family)?;
    same("weight_hash", &a.meta.provenance.weight_hash, &b.meta.provenance.weight_hash)?;
    same("protocol", &a.meta.protocol, &b.meta.protocol)?;
    same("split", &a.split, &b.split)?;
    same("seed", &a.meta.seed, &b.meta.seed)?;
    same("ablation", &a.meta.ablation, &b.meta.ablation)?;
    same("value_bias", &a.meta.value_bias, &b.meta.value_bias)?;
    same("reference", &reference(&a.meta), &reference(&b.meta))?;
    same("n_layers", &a.meta.n_layers, &b.meta.n_layers)?;
    same("n_heads", &a.meta.n_heads, &b.meta.n_heads)?;
    same("taus", &format!("{:?}", a.taus), &format!("{:?}", b.taus))
}

/// All models must have been scanned in the same way.
fn check_same_study(first: &ScanFile, other: &ScanFile) -> Result<()> {
    let fields = [
        ("protocol", &first.meta.protocol, &other.meta.protocol),
        ("ablation", &first.meta.ablation, &other.meta.ablation),
        ("value_bias", &first.meta.value_bias, &other.meta.value_bias),
    ]
    .map(|(field, a, b)| (field, a.as_str(), b.as_str()));
    let references = ("reference", reference(&first.meta), reference(&other.meta));
    for (field, a, b) in fields.into_iter().chain([references]) {
        if a != b {
            return Err(AnalysisError::inconsistent(
                format!("scans of {} and {}", first.meta.model_name, other.meta.model_name),
                format!("`{field}` is `{a}` for one and `{b}` for the other"),
                "scan them with the same options, or into different folders",
            ));
        }
    }
    if first.taus != other.taus {
        return Err(AnalysisError::inconsistent(
            format!("scans of {} and {}", first.meta.model_name, other.meta.model_name),
            format!("`taus` are {:?} for one and {:?} for the other", first.taus, other.taus),
            "make both scan files again with the same thresholds",
        ));
    }
    Ok(())
}
