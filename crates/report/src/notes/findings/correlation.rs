//! Whether the same heads do both tasks.

use cs_analysis::contrast::Side;
use cs_analysis::joint::ModelInfo;
use cs_analysis::model_measures::{ModelCorrelations, TaskCorrelation};
use cs_analysis::stats::Interval;
use cs_analysis::study::ContrastStudy;

use super::{Finding, csv, models};
use crate::figures::palette::side_label;
use crate::words;

/// How many correlations are positive, and how many intervals are above or below 0.
struct Signs {
    known: usize,
    positive: usize,
    with_interval: usize,
    above: usize,
    below: usize,
}

impl Signs {
    fn new(correlations: impl Iterator<Item = TaskCorrelation>) -> Self {
        let mut signs = Self { known: 0, positive: 0, with_interval: 0, above: 0, below: 0 };
        for correlation in correlations {
            let Some(estimate) = correlation.estimate else { continue };
            signs.known += 1;
            signs.positive += usize::from(estimate > 0.0);
            if let Some((interval, _)) = correlation.shown() {
                signs.with_interval += 1;
                signs.above += usize::from(interval.low > 0.0);
                signs.below += usize::from(interval.high < 0.0);
            }
        }
        signs
    }

    fn sentence(&self, of: &str) -> String {
        if self.known == 0 {
            return format!("{of} is defined for no model.");
        }
        let intervals = match self.with_interval {
            0 => "no interval can be estimated".to_owned(),
            n if self.above + self.below == 0 => {
                format!("of {}, none excludes 0", words::counted(n, "interval", "intervals"))
            }
            n => format!(
                "of {}, {} {} wholly above 0 and {} wholly below",
                words::counted(n, "interval", "intervals"),
                words::none_or(self.above),
                if self.above < 2 { "is" } else { "are" },
                words::none_or(self.below)
            ),
        };
        format!(
            "{of} is positive in {} of {}; {intervals}.",
            words::none_or(self.positive),
            models(self.known)
        )
    }
}

pub(in crate::notes) fn correlation_sentences(
    study: &ContrastStudy,
    keep: impl Fn(&ModelInfo) -> bool,
) -> String {
    type Of = fn(&ModelCorrelations) -> TaskCorrelation;
    let [a, b] = Side::BOTH.map(|side| side_label(study.contrast(), side));
    let pearson = format!("Pearson's correlation between Δ {a} and Δ {b} over a model's heads");
    let kinds: [(&str, Of); 3] = [
        (&pearson, |c| c.pearson),
        ("Spearman's", |c| c.spearman),
        ("Pearson's on held-out prompts", |c| c.held_out_pearson),
    ];
    let sentence = |(name, of): (&str, Of)| {
        let signs = Signs::new(study.correlations.iter().filter(|c| keep(&c.info)).map(of));
        (signs.known > 0 || !name.contains("held-out")).then(|| signs.sentence(name))
    };
    kinds.into_iter().filter_map(sentence).collect::<Vec<_>>().join(" ")
}

pub(super) fn correlations(study: &ContrastStudy) -> Finding {
    let mut text = correlation_sentences(study, |_| true);
    if let Some(over) = words::intervals_over(study.correlations.iter().map(|c| &c.pearson)) {
        text += &format!(" These intervals are over {over}.");
    }
    let templates: Vec<Interval> = study.correlations.iter().filter_map(|c| c.pearson.templates).collect();
    if !templates.is_empty() {
        let zero = templates.iter().filter(|i| i.low <= 0.0 && i.high >= 0.0).count();
        text += &format!(
            " The interval of Pearson's correlation over templates (what prompts from other templates would give for the same \
             model) includes 0 in {} of {}.",
            words::none_or(zero),
            models(templates.len())
        );
    }
    let corrected: Vec<f64> = study.correlations.iter().filter_map(|c| c.disattenuated.value).collect();
    if let Some(first) = corrected.first() {
        let (low, high) = corrected.iter().fold((*first, *first), |(l, h), v| (l.min(*v), h.max(*v)));
        text += &format!(
            " Corrected for measurement noise, which attenuates a correlation towards 0, Pearson's correlation is {} in {}.",
            words::from_to(low, high, 2, ""),
            models(corrected.len())
        );
    }
    Finding::new(
        "Do the same heads do both tasks",
        text,
        [csv(&study.contrast().table("corr_vs_scale_cross_family"))],
    )
}
