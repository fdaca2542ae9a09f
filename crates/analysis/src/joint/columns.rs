//! The columns of a joint table, in one place for writing and reading.

use super::{Effect, EffectDetail, JOINT_TABLE, JointTable, ModelInfo, StudyTask};
use crate::stats::correlation_bootstrap::PromptNoise;
use crate::table::{Table, format_float};

/// The columns every joint table has.
pub(super) const REQUIRED: [&str; 6] = ["family", "model", "layer", "head", "delta_ioi", "delta_anti"];

type DetailCell = for<'a> fn(&'a mut EffectDetail) -> &'a mut Option<f64>;

/// A column on the certainty of an effect: its name, with `{}` for the task, and its place.
pub(super) struct DetailColumn {
    pub template: &'static str,
    pub cell: DetailCell,
}

/// The columns after the required ones, once for each task.
pub(super) const DETAIL: [DetailColumn; 9] = [
    DetailColumn { template: "delta_{}_ci_low", cell: |d| &mut d.ci_low },
    DetailColumn { template: "delta_{}_ci_high", cell: |d| &mut d.ci_high },
    DetailColumn { template: "p_value_{}", cell: |d| &mut d.p_value },
    DetailColumn { template: "q_value_{}", cell: |d| &mut d.q_value },
    DetailColumn { template: "held_out_delta_{}", cell: |d| &mut d.held_out_delta },
    DetailColumn { template: "held_out_delta_{}_ci_low", cell: |d| &mut d.held_out_ci_low },
    DetailColumn { template: "held_out_delta_{}_ci_high", cell: |d| &mut d.held_out_ci_high },
    DetailColumn { template: "held_out_p_value_{}", cell: |d| &mut d.held_out_p_value },
    DetailColumn { template: "held_out_q_value_{}", cell: |d| &mut d.held_out_q_value },
];

/// The column with P(|Δ| ≥ τ) under the bootstrap.
pub(super) fn probability_column(task: StudyTask, tau: f64) -> String {
    format!("{}{}", probability_prefix(task), format_float(tau))
}

/// What the names of those columns begin with.
pub(super) fn probability_prefix(task: StudyTask) -> String {
    format!("prob_abs_delta_{}_ge_", task.name())
}

type InfoText = for<'a> fn(&'a mut ModelInfo) -> &'a mut Option<String>;

/// Columns that say the same for every head of a model, in words.
pub(super) const INFO_TEXT: [(&str, InfoText); 8] = [
    ("hf_name", |m| &mut m.hf_name),
    ("protocol", |m| &mut m.protocol),
    ("ablation", |m| &mut m.ablation),
    ("value_bias", |m| &mut m.value_bias),
    ("reference", |m| &mut m.reference),
    ("seed", |m| &mut m.seed),
    ("program_version", |m| &mut m.program_version),
    ("weight_hash", |m| &mut m.weight_hash),
];

type NoiseCell = for<'a> fn(&'a mut ModelInfo) -> &'a mut Option<PromptNoise>;

/// Columns on what the prompts do to the correlation; `_bias` and `_sd` follow.
pub(super) const NOISE: [(&str, NoiseCell); 4] = [
    ("pearson_z_prompt", |m| &mut m.correlation_noise.pearson),
    ("spearman_z_prompt", |m| &mut m.correlation_noise.spearman),
    ("held_out_pearson_z_prompt", |m| &mut m.correlation_noise.held_out_pearson),
    ("held_out_spearman_z_prompt", |m| &mut m.correlation_noise.held_out_spearman),
];

impl JointTable {
    /// The table `joint_ioi_anti_repeat_all`: `family, model, layer, head, delta_ioi, delta_anti`, then intervals,
    /// p- and q-values, held-out effects, probabilities of reaching each τ, and what is known of the model.
    #[must_use]
    pub fn to_table(&self) -> Table {
        let mut table = Table::new(JOINT_TABLE)
            .text("family", self.rows().map(|(m, _)| m.family.as_str()))
            .text("model", self.rows().map(|(m, _)| m.model.as_str()))
            .integer("layer", self.rows().map(|(_, h)| h.layer))
            .integer("head", self.rows().map(|(_, h)| h.head))
            .float("delta_ioi", self.rows().map(|(_, h)| h.ioi.delta))
            .float("delta_anti", self.rows().map(|(_, h)| h.anti.delta));
        for task in StudyTask::BOTH {
            for column in &DETAIL {
                table = table.float(
                    column.template.replace("{}", task.name()),
                    self.rows().map(|(_, h)| read_detail(h.effect(task), column.cell)),
                );
            }
            for (index, &tau) in self.taus.iter().enumerate() {
                let probability = |effect: &Effect| {
                    effect.detail.as_ref().and_then(|d| d.prob_abs_delta_ge_tau.get(index).copied().flatten())
                };
                table = table.float(
                    probability_column(task, tau),
                    self.rows().map(|(_, h)| probability(h.effect(task))),
                );
            }
        }
        table = table
            .float("params_m", self.rows().map(|(m, _)| m.params_m))
            .integer("n_layers", self.rows().map(|(m, _)| m.n_layers))
            .integer("n_heads", self.rows().map(|(m, _)| m.n_heads));
        for (name, cell) in INFO_TEXT {
            table = table.text(name, self.per_model(|info| cell(&mut info.clone()).clone()));
        }
        for (name, cell) in NOISE {
            let noise = |info: &ModelInfo| *cell(&mut info.clone());
            table = table
                .float(format!("{name}_bias"), self.per_model(|info| noise(info).map(|n| n.bias)))
                .float(format!("{name}_sd"), self.per_model(|info| noise(info).map(|n| n.sd)));
        }
        table
    }

    /// What `cell` says of a model, once for each of its heads.
    fn per_model<T: Clone>(&self, cell: impl Fn(&ModelInfo) -> T) -> impl Iterator<Item = T> {
        self.models.iter().flat_map(move |m| std::iter::repeat_n(cell(&m.info), m.heads.len()))
    }
}

/// A detail through the accessor that also serves for writing into it.
fn read_detail(effect: &Effect, cell: DetailCell) -> Option<f64> {
    let mut detail = effect.detail.as_deref()?.clone();
    *cell(&mut detail)
}
