//! The effect of ablating one head on one task, and its uncertainty.

use crate::direct::DirectEffect;
use crate::scan_file::HeadDelta;

/// The uncertainty of an effect, and its held-out values. Any value may be missing, as in a table from another
/// program.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EffectDetail {
    /// Lower end of the 95% interval of Δ over prompts.
    pub ci_low: Option<f64>,
    /// Upper end of that interval.
    pub ci_high: Option<f64>,
    /// Lower end of the 95% interval of Δ over templates.
    pub low_templates: Option<f64>,
    /// Upper end of that interval.
    pub high_templates: Option<f64>,
    /// Two-sided p-value of Δ = 0.
    pub p_value: Option<f64>,
    /// Benjamini–Hochberg q-value over the heads of the model.
    pub q_value: Option<f64>,
    /// Δ on held-out prompts.
    pub held_out_delta: Option<f64>,
    /// Lower end of its 95% interval over prompts.
    pub held_out_ci_low: Option<f64>,
    /// Upper end of that interval.
    pub held_out_ci_high: Option<f64>,
    /// Lower end of its 95% interval over templates.
    pub held_out_low_templates: Option<f64>,
    /// Upper end of that interval.
    pub held_out_high_templates: Option<f64>,
    /// p-value on held-out prompts.
    pub held_out_p_value: Option<f64>,
    /// q-value on held-out prompts.
    pub held_out_q_value: Option<f64>,
    /// For each threshold τ of the table, the share of bootstrap resamples with |Δ| ≥ τ.
    pub prob_abs_delta_ge_tau: Vec<Option<f64>>,
    /// Direct effect and compensation, where the scan has them.
    pub direct: Option<DirectEffect>,
    /// The same on held-out prompts.
    pub held_out_direct: Option<DirectEffect>,
}

/// The effect of ablating one head on one task.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Effect {
    /// Δ, in logits; `None` if it was not measured.
    pub delta: Option<f64>,
    /// Its uncertainty, where known. Boxed: most imported tables have none.
    pub detail: Option<Box<EffectDetail>>,
}

impl Effect {
    /// Δ on held-out prompts, if there are any.
    #[must_use]
    pub fn held_out_delta(&self) -> Option<f64> {
        self.detail.as_ref()?.held_out_delta
    }
}

impl From<&HeadDelta> for Effect {
    fn from(head: &HeadDelta) -> Self {
        let detail = EffectDetail {
            ci_low: head.delta_ci_low,
            ci_high: head.delta_ci_high,
            low_templates: head.delta_low_templates,
            high_templates: head.delta_high_templates,
            p_value: head.p_value,
            q_value: head.q_value,
            held_out_delta: head.held_out_delta,
            held_out_ci_low: head.held_out_ci_low,
            held_out_ci_high: head.held_out_ci_high,
            held_out_low_templates: head.held_out_low_templates,
            held_out_high_templates: head.held_out_high_templates,
            held_out_p_value: head.held_out_p_value,
            held_out_q_value: head.held_out_q_value,
            prob_abs_delta_ge_tau: head.prob_abs_delta_ge_tau.clone(),
            direct: head.direct.clone(),
            held_out_direct: head.held_out_direct.clone(),
        };
        Self { delta: Some(head.delta), detail: Some(Box::new(detail)) }
    }
}
