//! The columns of a joint table, defined once for writing and reading.

use super::{JointTable, ModelInfo};
use crate::contrast::{Contrast, Side};
use crate::effect::{Effect, EffectDetail};
use crate::scan_file::Performance;
use crate::stats::Interval;
use crate::stats::correlation_bootstrap::PromptNoise;
use crate::table::{Table, format_float};

/// The columns of every joint table before those of its two tasks.
pub(super) const REQUIRED: [&str; 4] = ["family", "model", "layer", "head"];

/// The column with a task's Δ.
pub(super) fn delta_column(key: &str) -> String {
    format!("delta_{key}")
}

type DetailCell = for<'a> fn(&'a mut EffectDetail) -> &'a mut Option<f64>;

/// A column about the uncertainty of an effect: its name, with `{}` for the task, and its cell.
pub(super) struct DetailColumn {
    pub template: &'static str,
    pub cell: DetailCell,
}

/// The columns after the required ones, once for each task.
pub(super) const DETAIL: [DetailColumn; 13] = [
    DetailColumn { template: "delta_{}_ci_low", cell: |d| &mut d.ci_low },
    DetailColumn { template: "delta_{}_ci_high", cell: |d| &mut d.ci_high },
    DetailColumn { template: "delta_{}_low_templates", cell: |d| &mut d.low_templates },
    DetailColumn { template: "delta_{}_high_templates", cell: |d| &mut d.high_templates },
    DetailColumn { template: "p_value_{}", cell: |d| &mut d.p_value },
    DetailColumn { template: "q_value_{}", cell: |d| &mut d.q_value },
    DetailColumn { template: "held_out_delta_{}", cell: |d| &mut d.held_out_delta },
    DetailColumn { template: "held_out_delta_{}_ci_low", cell: |d| &mut d.held_out_ci_low },
    DetailColumn { template: "held_out_delta_{}_ci_high", cell: |d| &mut d.held_out_ci_high },
    DetailColumn { template: "held_out_delta_{}_low_templates", cell: |d| &mut d.held_out_low_templates },
    DetailColumn { template: "held_out_delta_{}_high_templates", cell: |d| &mut d.held_out_high_templates },
    DetailColumn { template: "held_out_p_value_{}", cell: |d| &mut d.held_out_p_value },
    DetailColumn { template: "held_out_q_value_{}", cell: |d| &mut d.held_out_q_value },
];

/// Prefix of the columns with the bootstrap probability of |Δ| ≥ τ; τ follows.
pub(super) fn probability_prefix(key: &str) -> String {
    format!("prob_abs_delta_{key}_ge_")
}

type InfoText = for<'a> fn(&'a mut ModelInfo) -> &'a mut Option<String>;

/// Text columns with the same value for every head of a model.
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

type PerformanceCell = for<'a> fn(&'a mut Performance) -> &'a mut Option<f64>;

/// Columns with the same value for every head of a model, once per task: how well the model does it. `{}` is the task.
pub(super) const PERFORMANCE: [(&str, PerformanceCell); 4] = [
    ("base_logit_diff_{}", |p| &mut p.logit_diff),
    ("base_logit_diff_{}_ci_low", |p| &mut p.logit_diff_low),
    ("base_logit_diff_{}_ci_high", |p| &mut p.logit_diff_high),
    ("accuracy_{}", |p| &mut p.accuracy),
];

type NumberCell = for<'a> fn(&'a mut ModelInfo) -> &'a mut Option<f64>;

/// Numeric columns with the same value for every head of a model: the correlation between the tasks without measurement
/// noise.
pub(super) const INFO_NUMBER: [(&str, NumberCell); 2] = [
    ("pearson_disattenuated", |m| &mut m.over_prompts.disattenuated.value),
    ("held_out_pearson_disattenuated", |m| &mut m.over_prompts.held_out_disattenuated.value),
];

/// Two columns that belong together: in each row, both cells have a number or both are empty.
pub(super) struct PairColumn {
    pub names: [&'static str; 2],
    pub read: fn(&ModelInfo) -> Option<[f64; 2]>,
    pub write: fn(&mut ModelInfo, Option<[f64; 2]>),
}

/// The columns of an interval.
macro_rules! ends {
    ($name:literal, $($place:ident).+) => {
        PairColumn {
            names: [concat!($name, "_low"), concat!($name, "_high")],
            read: |m| m.over_prompts.$($place).+.map(|i| [i.low, i.high]),
            write: |m, ends| m.over_prompts.$($place).+ = ends.map(|[low, high]| Interval { low, high }),
        }
    };
}

/// The columns of the prompts' effect on a correlation, on Fisher's scale.
macro_rules! noise {
    ($name:literal, $($place:ident).+) => {
        PairColumn {
            names: [concat!($name, "_bias"), concat!($name, "_sd")],
            read: |m| m.over_prompts.$($place).+.noise.map(|n| [n.bias, n.sd]),
            write: |m, noise| m.over_prompts.$($place).+.noise = noise.map(|[bias, sd]| PromptNoise { bias, sd }),
        }
    };
}

/// Columns about the correlations over prompts.
pub(super) const INFO_PAIR: [PairColumn; 14] = [
    noise!("pearson_z_prompt", pearson),
    noise!("spearman_z_prompt", spearman),
    noise!("held_out_pearson_z_prompt", held_out_pearson),
    noise!("held_out_spearman_z_prompt", held_out_spearman),
    ends!("pearson_prompts", pearson.prompts),
    ends!("pearson_templates", pearson.templates),
    ends!("spearman_prompts", spearman.prompts),
    ends!("spearman_templates", spearman.templates),
    ends!("held_out_pearson_prompts", held_out_pearson.prompts),
    ends!("held_out_pearson_templates", held_out_pearson.templates),
    ends!("held_out_spearman_prompts", held_out_spearman.prompts),
    ends!("held_out_spearman_templates", held_out_spearman.templates),
    ends!("pearson_disattenuated", disattenuated.interval),
    ends!("held_out_pearson_disattenuated", held_out_disattenuated.interval),
];

impl JointTable {
    /// The table [`Contrast::joint_table`]: `family, model, layer, head, delta_<a>, delta_<b>`, then intervals,
    /// p- and q-values, held-out effects, probabilities of reaching each τ, and information about the model.
    #[must_use]
    pub fn to_table(&self) -> Table {
        let mut table = Table::new(self.contrast.joint_table())
            .text("family", self.rows().map(|(m, _)| m.family.as_str()))
            .text("model", self.rows().map(|(m, _)| m.model.as_str()))
            .integer("layer", self.rows().map(|(_, h)| h.layer))
            .integer("head", self.rows().map(|(_, h)| h.head));
        for side in Side::BOTH {
            let name = delta_column(self.contrast.key(side));
            table = table.float(name, self.rows().map(|(_, h)| h.effect(side).delta));
        }
        for side in Side::BOTH {
            let key = self.contrast.key(side);
            for column in &DETAIL {
                table = table.float(
                    column.template.replace("{}", key),
                    self.rows().map(|(_, h)| read_detail(h.effect(side), column.cell)),
                );
            }
            for (index, &tau) in self.taus.iter().enumerate() {
                let probability = |effect: &Effect| {
                    effect.detail.as_ref().and_then(|d| d.prob_abs_delta_ge_tau.get(index).copied().flatten())
                };
                let name = format!("{}{}", probability_prefix(key), format_float(tau));
                table = table.float(name, self.rows().map(|(_, h)| probability(h.effect(side))));
            }
        }
        table = table
            .float("params_m", self.rows().map(|(m, _)| m.params_m))
            .integer("n_layers", self.rows().map(|(m, _)| m.n_layers))
            .integer("n_heads", self.rows().map(|(m, _)| m.n_heads));
        for (name, cell) in INFO_TEXT {
            table = table.text(name, self.per_model(|info| cell(&mut info.clone()).clone()));
        }
        for column in INFO_PAIR {
            for (at, name) in column.names.into_iter().enumerate() {
                table = table.float(name, self.per_model(|info| (column.read)(info).map(|pair| pair[at])));
            }
        }
        for side in Side::BOTH {
            for (template, cell) in PERFORMANCE {
                let value = |info: &ModelInfo| *cell(&mut info.performance(side).clone());
                table = table.float(template.replace("{}", self.contrast.key(side)), self.per_model(value));
            }
        }
        for (name, cell) in INFO_NUMBER {
            table = table.float(name, self.per_model(|info| *cell(&mut info.clone())));
        }
        table
    }

    /// The value of `cell` for a model, repeated for each of its heads.
    fn per_model<T: Clone>(&self, cell: impl Fn(&ModelInfo) -> T) -> impl Iterator<Item = T> {
        self.models.iter().flat_map(move |m| std::iter::repeat_n(cell(&m.info), m.heads.len()))
    }
}

/// Reads a detail through the accessor that is also used to write it.
fn read_detail(effect: &Effect, cell: DetailCell) -> Option<f64> {
    let mut detail = effect.detail.as_deref()?.clone();
    *cell(&mut detail)
}

/// Adds which of the two tasks each row's model does ([`Performance::does_task`]); empty if that is not known.
pub(crate) fn does_columns<'a>(
    mut table: Table,
    contrast: &Contrast,
    rows: impl Iterator<Item = &'a [Performance; 2]> + Clone,
) -> Table {
    for side in Side::BOTH {
        let does = rows.clone().map(|of_tasks| of_tasks[side as usize].does_task());
        table = table.boolean(format!("does_{}", contrast.key(side)), does);
    }
    table
}
