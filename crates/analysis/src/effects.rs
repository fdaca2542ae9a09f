//! The long table: the effect of every head of every model on every task and split. Every other table is derived from it, or
//! gives uncertainties for such a table.

use std::collections::HashMap;

use crate::contrast::Side;
use crate::direct::DirectEffect;
use crate::effect::Effect;
use crate::error::{AnalysisError, Result};
use crate::joint::{JointTable, ModelInfo, model_info};
use crate::scan_file::{Performance, ScanFile, Split};
use crate::table::Table;

/// Name of the table's file, without `.csv`.
pub const HEAD_EFFECTS: &str = "head_effects";

/// One head of a model on one task.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadEffect {
    /// Block, from 0.
    pub layer: u32,
    /// Head within its block, from 0.
    pub head: u32,
    /// The effect of ablating it.
    pub effect: Effect,
}

/// The heads of a model on one task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskHeads {
    /// The task's name, as in result files.
    pub task: String,
    /// The prompts used to select heads, if known.
    pub split: Option<Split>,
    /// How well the model does the task on them.
    pub performance: Performance,
    /// How well on held-out prompts, if there are any.
    pub held_out_performance: Option<Performance>,
    /// The heads that were measured, ordered by layer and head.
    pub heads: Vec<HeadEffect>,
}

impl TaskHeads {
    /// Δ of every measured head. `[n]`
    #[must_use]
    pub fn deltas(&self) -> Vec<f64> {
        self.heads.iter().filter_map(|h| h.effect.delta).collect()
    }

    /// The effect of one head.
    #[must_use]
    pub fn effect(&self, layer: u32, head: u32) -> Option<&Effect> {
        let place = self.heads.binary_search_by_key(&(layer, head), |h| (h.layer, h.head)).ok()?;
        Some(&self.heads[place].effect)
    }
}

/// A model on all tasks that it was scanned on.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelEffects {
    /// The model; fields about a pair of tasks have their defaults.
    pub info: ModelInfo,
    /// The tasks, in the study's order.
    pub tasks: Vec<TaskHeads>,
}

impl ModelEffects {
    /// The model's heads on a task, if it was scanned on it.
    #[must_use]
    pub fn on(&self, task: &str) -> Option<&TaskHeads> {
        self.tasks.iter().find(|of_task| of_task.task == task)
    }

    /// Blocks and heads per block: as recorded, else the largest seen.
    #[must_use]
    pub fn shape(&self) -> (u32, u32) {
        let heads = || self.tasks.iter().flat_map(|t| &t.heads);
        let layers = heads().map(|h| h.layer + 1).max().unwrap_or(0);
        let in_layer = heads().map(|h| h.head + 1).max().unwrap_or(0);
        (self.info.n_layers.unwrap_or(layers), self.info.n_heads.unwrap_or(in_layer).max(in_layer))
    }
}

/// Every effect of a study.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadEffects {
    /// The tasks, in order.
    pub tasks: Vec<String>,
    /// The models, in the study's order.
    pub models: Vec<ModelEffects>,
}

impl HeadEffects {
    /// The effects in these scans; `tasks` gives the order.
    ///
    /// # Errors
    /// If a model was scanned with different weights on different tasks, or twice on one.
    pub fn from_scans<'a>(tasks: &[String], scans: impl IntoIterator<Item = &'a ScanFile>) -> Result<Self> {
        let mut models: Vec<ModelEffects> = Vec::new();
        let mut weights: HashMap<String, &str> = HashMap::new();
        for scan in scans {
            let meta = &scan.meta;
            let hash = meta.provenance.weight_hash.as_str();
            let fault = |problem: String, fix: &str| {
                Err(AnalysisError::inconsistent(format!("scans of {}", meta.model_name), problem, fix))
            };
            if *weights.entry(meta.model_name.clone()).or_insert(hash) != hash {
                let fix = "scan the model again on all tasks";
                return fault(format!("the scan on {} has different weights", meta.task), fix);
            }
            let place = models.iter().position(|m| m.info.model == meta.model_name);
            let place = place.unwrap_or_else(|| {
                models.push(ModelEffects { info: model_info(meta), tasks: Vec::new() });
                models.len() - 1
            });
            if models[place].on(&meta.task).is_some() {
                return fault(format!("two are on {}", meta.task), "name each model once");
            }
            models[place].tasks.push(TaskHeads::from(scan));
        }
        Ok(Self::ordered(tasks.to_vec(), models))
    }

    /// The effects that a joint table holds.
    #[must_use]
    pub fn from_joint(joint: &JointTable) -> Self {
        let tasks = joint.contrast.tasks().map(str::to_owned).to_vec();
        let of_model = |model: &crate::joint::ModelHeads| {
            let on = |side: Side| {
                let head = |row: &crate::joint::HeadRow| HeadEffect {
                    layer: row.layer,
                    head: row.head,
                    effect: row.effect(side).clone(),
                };
                TaskHeads {
                    task: joint.contrast.task(side).to_owned(),
                    split: None,
                    performance: *model.info.performance(side),
                    held_out_performance: None,
                    heads: model.heads.iter().map(head).collect(),
                }
            };
            let info = ModelInfo {
                performance: Default::default(),
                over_prompts: Default::default(),
                ..model.info.clone()
            };
            ModelEffects { info, tasks: Side::BOTH.map(on).into() }
        };
        Self { tasks, models: joint.models.iter().map(of_model).collect() }
    }

    fn ordered(tasks: Vec<String>, mut models: Vec<ModelEffects>) -> Self {
        models.sort_by(|a, b| a.info.order(&b.info));
        let place = |name: &str| tasks.iter().position(|task| task == name).unwrap_or(tasks.len());
        models.iter_mut().for_each(|model| model.tasks.sort_by_key(|t| place(&t.task)));
        Self { tasks, models }
    }

    /// The model of this name.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<&ModelEffects> {
        self.models.iter().find(|m| m.info.model == name)
    }

    /// The table [`HEAD_EFFECTS`]: a row per model, head, task and split.
    ///
    /// Direct-effect columns are empty if the scans have none, and `split` if an imported table does not say
    /// which prompts were used.
    #[must_use]
    pub fn to_table(&self) -> Table {
        let rows: Vec<Row> = self.models.iter().flat_map(rows_of).collect();
        let rows = || rows.iter();
        let detail = |of: fn(&Row) -> Option<f64>| rows().map(of);
        let direct =
            |of: fn(&DirectEffect) -> Option<f64>| rows().map(move |r| r.figures.direct.and_then(of));
        Table::new(HEAD_EFFECTS)
            .text("family", rows().map(|r| r.info.family.as_str()))
            .text("model", rows().map(|r| r.info.model.as_str()))
            .integer("layer", rows().map(|r| r.head.layer))
            .integer("head", rows().map(|r| r.head.head))
            .text("task", rows().map(|r| r.task.task.as_str()))
            .text("split", rows().map(|r| r.split.map(Split::as_str)))
            .float("delta", detail(|r| r.figures.delta))
            .float("delta_low", detail(|r| r.figures.prompts[0]))
            .float("delta_high", detail(|r| r.figures.prompts[1]))
            .float("delta_low_templates", detail(|r| r.figures.templates[0]))
            .float("delta_high_templates", detail(|r| r.figures.templates[1]))
            .float("p", detail(|r| r.figures.p_value))
            .float("q", detail(|r| r.figures.q_value))
            .float("direct", direct(|d| Some(d.direct)))
            .float("base_logit_diff", detail(|r| r.performance.logit_diff))
            .float("direct_low", direct(|d| d.direct_low))
            .float("direct_high", direct(|d| d.direct_high))
            .float("compensation", direct(|d| d.compensation))
            .float("compensation_low", direct(|d| d.compensation_low))
            .float("compensation_high", direct(|d| d.compensation_high))
            .float("base_logit_diff_low", detail(|r| r.performance.logit_diff_low))
            .float("base_logit_diff_high", detail(|r| r.performance.logit_diff_high))
            .float("accuracy", detail(|r| r.performance.accuracy))
            .boolean("does_task", rows().map(|r| r.performance.does_task()))
            .float("params_m", detail(|r| r.info.params_m))
            .text("protocol", rows().map(|r| r.info.protocol.as_deref()))
            .text("ablation", rows().map(|r| r.info.ablation.as_deref()))
            .text("value_bias", rows().map(|r| r.info.value_bias.as_deref()))
            .text("reference", rows().map(|r| r.info.reference.as_deref()))
            .text("seed", rows().map(|r| r.info.seed.as_deref()))
    }
}

impl From<&ScanFile> for TaskHeads {
    fn from(scan: &ScanFile) -> Self {
        let head =
            |h: &crate::scan_file::HeadDelta| HeadEffect { layer: h.layer, head: h.head, effect: h.into() };
        Self {
            task: scan.meta.task.clone(),
            split: Some(scan.split),
            performance: scan.baseline.performance(),
            held_out_performance: scan.held_out.as_ref().map(|b| b.performance()),
            heads: scan.heads.iter().map(head).collect(),
        }
    }
}

/// Values of an effect on the prompts of one split.
#[derive(Default)]
struct Figures<'a> {
    delta: Option<f64>,
    prompts: [Option<f64>; 2],
    templates: [Option<f64>; 2],
    p_value: Option<f64>,
    q_value: Option<f64>,
    direct: Option<&'a DirectEffect>,
}

/// A row of the table.
struct Row<'a> {
    info: &'a ModelInfo,
    task: &'a TaskHeads,
    head: &'a HeadEffect,
    split: Option<Split>,
    performance: Performance,
    figures: Figures<'a>,
}

/// The rows of a model, ordered by head, then task, then split.
fn rows_of(model: &ModelEffects) -> Vec<Row<'_>> {
    let mut rows: Vec<Row> = Vec::new();
    for task in &model.tasks {
        for head in &task.heads {
            let row = |split, performance, figures| Row {
                info: &model.info,
                task,
                head,
                split,
                performance,
                figures,
            };
            let detail = head.effect.detail.as_deref();
            let main = Figures {
                delta: head.effect.delta,
                ..detail.map_or_else(Figures::default, |d| Figures {
                    delta: None,
                    prompts: [d.ci_low, d.ci_high],
                    templates: [d.low_templates, d.high_templates],
                    p_value: d.p_value,
                    q_value: d.q_value,
                    direct: d.direct.as_ref(),
                })
            };
            rows.push(row(task.split, task.performance, main));
            if let Some(detail) = detail.filter(|d| d.held_out_delta.is_some()) {
                let held_out = Figures {
                    delta: detail.held_out_delta,
                    prompts: [detail.held_out_ci_low, detail.held_out_ci_high],
                    templates: [detail.held_out_low_templates, detail.held_out_high_templates],
                    p_value: detail.held_out_p_value,
                    q_value: detail.held_out_q_value,
                    direct: detail.held_out_direct.as_ref(),
                };
                let performance = task.held_out_performance.unwrap_or_default();
                rows.push(row(Some(Split::HeldOut), performance, held_out));
            }
        }
    }
    // Stable: tasks and splits of a head keep their order.
    rows.sort_by_key(|r| (r.head.layer, r.head.head));
    rows
}
