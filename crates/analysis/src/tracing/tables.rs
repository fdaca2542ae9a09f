//! Tables of causal tracing.

use super::{CausalResult, Influence};
use crate::contrast::{Contrast, Side};
use crate::model_measures::LEVEL;
use crate::origin::Origin;
use crate::stats::correlation::Correlation;
use crate::stats::correlation_bootstrap::correlation_interval;
use crate::stats::{Interval, Seed};
use crate::table::Table;

/// The table `hero_head_causal_summary` (or whatever `name` says): the columns of the hero heads, `hf_name`, mean
/// influences, then intervals, tests, normalised influences and the baselines.
#[must_use]
pub fn summary_table(contrast: &Contrast, name: &str, results: &[CausalResult]) -> Table {
    let rows = || results.iter();
    let mut table = Table::new(contrast.table(name))
        .text("family", rows().map(|r| r.family.as_str()))
        .text("model", rows().map(|r| r.model.as_str()))
        .text("category", rows().map(|r| contrast.category(r.category)))
        .integer("layer", rows().map(|r| r.layer))
        .integer("head", rows().map(|r| r.head));
    for side in Side::BOTH {
        table = table.float(format!("delta_{}", contrast.key(side)), rows().map(|r| r.on(side).delta));
    }
    table = table
        .float("strength", rows().map(|r| r.strength))
        .text("hf_name", rows().map(|r| r.hf_name.as_str()));
    for side in Side::BOTH {
        let name = format!("mean_{}_influence", contrast.key(side));
        table = table.float(name, rows().map(|r| r.on(side).mean));
    }
    for side in Side::BOTH {
        let column = |of: fn(&Influence) -> Option<f64>| rows().map(move |r| of(&r.on(side).figures));
        let name = contrast.key(side);
        table = table
            .float(format!("{name}_influence_ci_low"), column(|i| i.ci_low))
            .float(format!("{name}_influence_ci_high"), column(|i| i.ci_high))
            .float(format!("{name}_influence_p_value"), column(|i| Some(i.p_value)))
            .float(format!("{name}_influence_q_value"), column(|i| Some(i.q_value)))
            .float(format!("normalised_{name}_influence"), column(|i| i.normalised))
            .float(format!("normalised_{name}_influence_ci_low"), column(|i| i.normalised_ci_low))
            .float(format!("normalised_{name}_influence_ci_high"), column(|i| i.normalised_ci_high))
            .float(format!("{name}_clean_logit_diff_mean"), column(|i| Some(i.clean_logit_diff_mean)))
            .float(format!("{name}_corrupted_logit_diff_mean"), column(|i| Some(i.corrupted_logit_diff_mean)))
            .integer(format!("n_pairs_{name}"), rows().map(|r| r.on(side).figures.n_pairs as usize));
    }
    let table = table
        .integer("rank", rows().map(|r| r.rank))
        .text("stream", rows().map(|r| r.stream.as_str()))
        .text("note", rows().map(|r| Some(r.note.as_str()).filter(|n| !n.is_empty())));
    Origin::columns(table, results.iter().map(|r| &r.origin))
}

/// Correlation between strength in ablation and influence in tracing, over the traced heads of one model.
#[derive(Debug, Clone, PartialEq)]
pub struct InfluenceCorrelation {
    /// Family.
    pub family: String,
    /// Model.
    pub model: String,
    /// The task of the influence.
    pub side: Side,
    /// What is correlated with what: see [`correlations`].
    pub relation: &'static str,
    /// Heads.
    pub n_heads: usize,
    /// Pearson's correlation and its interval over heads.
    pub pearson: (Option<f64>, Option<Interval>),
    /// Spearman's correlation and its interval over heads.
    pub spearman: (Option<f64>, Option<Interval>),
}

/// For each model and task: `strength_and_size`, the correlation of |Δ_a| + |Δ_b| with |influence|, and
/// `delta_and_influence`, that of the task's own Δ with influence, which is negative if heads whose ablation hurts
/// restore the answer when patched in. Over hero heads, which were selected for their strength, correlations are weaker
/// than over all heads.
#[must_use]
pub fn correlations(results: &[CausalResult]) -> Vec<InfluenceCorrelation> {
    let mut rows = Vec::new();
    for of_model in results.chunk_by(|a, b| a.model == b.model) {
        let first = &of_model[0];
        for side in Side::BOTH {
            let points = |x: &dyn Fn(&CausalResult) -> f64, y: fn(f64) -> f64| -> (Vec<f64>, Vec<f64>) {
                of_model.iter().map(|r| (x(r), y(r.on(side).mean))).unzip()
            };
            let relations = [
                ("strength_and_size", points(&|r| r.strength, f64::abs)),
                ("delta_and_influence", points(&|r| r.on(side).delta, |influence| influence)),
            ];
            for (relation, (x, y)) in relations {
                let of = |kind: Correlation| {
                    let task = first.contrast.key(side);
                    let words = [&first.model, &first.stream, "influence", task, relation, kind.name()];
                    let seed = Seed::new(first.origin.seed, &words);
                    (kind.of(&x, &y), correlation_interval(&x, &y, kind, None, LEVEL, &seed))
                };
                rows.push(InfluenceCorrelation {
                    family: first.family.clone(),
                    model: first.model.clone(),
                    side,
                    relation,
                    n_heads: x.len(),
                    pearson: of(Correlation::Pearson),
                    spearman: of(Correlation::Spearman),
                });
            }
        }
    }
    rows
}

/// The table of [`correlations`]; `heads` is `hero` or `all`.
#[must_use]
pub fn correlation_table(
    contrast: &Contrast,
    name: &str,
    heads: &str,
    correlations: &[InfluenceCorrelation],
) -> Table {
    let rows = || correlations.iter();
    let mut table = Table::new(contrast.table(name))
        .text("family", rows().map(|c| c.family.as_str()))
        .text("model", rows().map(|c| c.model.as_str()))
        .text("task", rows().map(|c| contrast.key(c.side)))
        .text("relation", rows().map(|c| c.relation))
        .text("heads", rows().map(|_| heads))
        .integer("n_heads", rows().map(|c| c.n_heads));
    type Of = fn(&InfluenceCorrelation) -> (Option<f64>, Option<Interval>);
    let kinds: [(&str, Of); 2] = [("pearson", |c| c.pearson), ("spearman", |c| c.spearman)];
    for (kind, of) in kinds {
        table = table
            .float(kind, rows().map(|c| of(c).0))
            .float(format!("{kind}_ci_low"), rows().map(|c| of(c).1.map(|i| i.low)))
            .float(format!("{kind}_ci_high"), rows().map(|c| of(c).1.map(|i| i.high)));
    }
    table
}
