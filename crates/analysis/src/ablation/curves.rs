//! Curves over the number of ablated heads, and the areas between them, estimated for all held-out prompts.
//!
//! Hero sets are run on all of them, random sets on a subsample. Let y(s, p) be the change of the measure by set s on prompt
//! p, and x(s, p) the sum of its heads' individual Δ, which the scan has for every set and prompt. With b the slope of y on x
//! over the sets that were run, the mean of y over all sets and all prompts is estimated by
//!
//! ```text
//! ȳ(run sets, subsample) − b · [x̄(run sets, subsample) − x̄(all sets, all prompts)]
//! ```
//!
//! This is a control variate for the draw of the sets and, as in two-phase sampling, for the draw of the prompts. It is the
//! mean of one quantity over the subsample plus the mean of another over all prompts; the intervals are based on this.

use super::evaluate::{Evaluation, KINDS, Task, half_width, not_drawn, total, variance};
use super::measure::Measure;
use super::{
    ComparedSets, CurveArea, MEASURED, Selection, SetKind, SetMeans, SummaryRow, TaskSummary, set_type,
};
use crate::contrast::Side;
use crate::model_measures::LEVEL;
use crate::ranged::Ranged;
use crate::stats::bootstrap::{BootstrapMean, BootstrapOptions, bootstrap_means, weighted_mean};
use crate::stats::interval::{quantile, share_interval};
use crate::stats::{Interval, Seed};

/// Least-squares fit of the changes by a pool's sets on the sums of their heads' Δ.
struct Control {
    slope: f64,
    /// Variance between sets, and the variance that the sums do not explain.
    variance: f64,
    residual: f64,
}

impl Control {
    fn fit(sums: &[f64], values: &[f64]) -> Self {
        let n = sums.len() as f64;
        let mean = |v: &[f64]| v.iter().sum::<f64>() / n;
        let (mean_x, mean_y) = (mean(sums), mean(values));
        let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
        for (x, y) in sums.iter().zip(values) {
            xx += (x - mean_x).powi(2);
            xy += (x - mean_x) * (y - mean_y);
            yy += (y - mean_y).powi(2);
        }
        // Too few sets to estimate a slope, or all sums equal.
        let slope = if n >= 10.0 && xx > 1e-20 * n { xy / xx } else { 0.0 };
        Self { slope, variance: yy / n, residual: (yy - slope * xy).max(0.0) / n }
    }

    fn removed(&self) -> Option<f64> {
        (self.variance > 0.0).then(|| 1.0 - self.residual / self.variance)
    }
}

/// The mean change by the random sets of a pool, estimated for all sets and all prompts.
struct Estimate {
    value: f64,
    control: Control,
}

fn estimate(e: &Evaluation, task: &Task, pool: usize, change: impl Fn(&SetMeans) -> f64) -> Estimate {
    let run = &task.random[pool];
    let sums: Vec<f64> = run.iter().map(|m| m.sum_delta).collect();
    let values: Vec<f64> = run.iter().map(change).collect();
    let control = Control::fit(&sums, &values);
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let expected =
        e.plan.pools[pool].expected_sum(|head| weighted_mean(task.effect(head), &task.outcomes.weights));
    Estimate { value: mean(&values) - control.slope * (mean(&sums) - expected), control }
}

/// The table [`super::SUMMARY_TABLE`].
pub(super) fn summary(e: &Evaluation) -> Vec<SummaryRow> {
    let base = |selection: Selection, k, kind| {
        let selection = selection.name(e.contrast);
        SummaryRow {
            family: e.origin.family.clone(),
            model: e.origin.model.clone(),
            k,
            set_type: set_type(&selection, kind),
            selection,
            status: MEASURED.to_owned(),
            split: Some(e.origin.split),
            ..SummaryRow::default()
        }
    };
    let intervals = [0, 1].map(|at| hero_intervals(e, at));
    let of_one_set = |mut row: SummaryRow, place: Option<usize>, at: usize| {
        row.n_sets = 1;
        row.interval_over = "prompts".to_owned();
        for ((summary, task), intervals) in row.tasks.iter_mut().zip(&e.tasks).zip(&intervals) {
            let means = place.map_or(task.base, |s| task.sets[s]);
            let ends = |measure: usize| intervals[at][measure].map(|interval| (interval.low, interval.high));
            let interaction =
                (e.sums_compare && place.is_some()).then(|| (means.delta - means.sum_delta, ends(2)));
            *summary = of_task(means, [ends(0), ends(1)], interaction);
            summary.n_sets = 1;
        }
        row
    };
    let mut rows = vec![of_one_set(base(Selection::All, 0, SetKind::Baseline), None, 0)];
    let mut at = 0;
    for comparison in &e.plan.comparisons {
        let (selection, k) = (comparison.selection, comparison.k);
        match &comparison.sets {
            Err(why) => rows.extend(
                [SetKind::Hero, SetKind::Random]
                    .map(|kind| SummaryRow { status: why.clone(), ..base(selection, k, kind) }),
            ),
            Ok(sets) => {
                at += 1;
                rows.push(of_one_set(base(selection, k, SetKind::Hero), Some(sets.hero), at));
                let kind = |pool: usize| e.plan.pools[pool].kind;
                rows.extend(sets.pools().map(|pool| of_many_sets(e, base(selection, k, kind(pool)), pool)));
            }
        }
    }
    rows
}

/// Intervals over prompts of the baseline and then of each hero set: accuracy, mean difference, interaction.
fn hero_intervals(e: &Evaluation, at: usize) -> Vec<[Option<Interval>; 3]> {
    let task = &e.tasks[at];
    let (outcomes, weights) = (task.outcomes, &task.outcomes.weights);
    let (mut shares, mut series) = (Vec::new(), Vec::new());
    let heroes = e.measured().map(|(.., sets)| Some(sets.hero));
    for place in std::iter::once(None).chain(heroes) {
        let outcome = place.map_or(&outcomes.base, |s| &outcomes.sets[s]);
        shares.push(share_interval(Measure::Acc.mean(outcome, weights), weights, LEVEL));
        series.push(Measure::MeanDiff.values(outcome));
        let deltas = super::task_values(&outcomes.base, outcome).into_iter().enumerate();
        let heads = place.map_or(&[][..], |s| &e.plan.sets[s]);
        series.push(deltas.map(|(prompt, delta)| delta - task.sum_of(heads, prompt)).collect());
    }
    let options =
        BootstrapOptions { n_resamples: e.settings.n_resamples, level: LEVEL, thresholds: Vec::new() };
    let seed = Seed::new(e.origin.seed, &[&e.origin.model, &outcomes.task, "ablation of sets"]);
    let means = bootstrap_means(&series, weights, &options, &seed);
    let of_set =
        |(share, means): (Option<Interval>, &[BootstrapMean])| [share, means[0].interval, means[1].interval];
    shares.into_iter().zip(means.chunks(2)).map(of_set).collect()
}

fn of_many_sets(e: &Evaluation, mut row: SummaryRow, pool: usize) -> SummaryRow {
    let counts = [0, 1].map(|at| e.tasks[at].random[pool].len());
    row.n_sets = counts[0].max(counts[1]);
    for (summary, n) in row.tasks.iter_mut().zip(counts) {
        summary.n_sets = n;
    }
    if row.n_sets == 0 {
        return SummaryRow { status: not_drawn(), ..row };
    }
    if let Some(missing) = counts.iter().position(|&n| n == 0) {
        row.status = format!("{}: {}", e.contrast.key(Side::BOTH[missing]), not_drawn());
    }
    row.interval_over = "sets".to_owned();
    for (at, task) in e.tasks.iter().enumerate().filter(|(at, _)| counts[*at] > 0) {
        let base = |measure: Measure| measure.of(&task.base);
        let base_few = |measure: Measure| measure.mean(&task.base_few, &task.few);
        let of = |measure: Measure| estimate(e, task, pool, |m| measure.of(m) - base_few(measure));
        let (acc, mean_diff) = (of(Measure::Acc), of(Measure::MeanDiff));
        let delta = estimate(e, task, pool, |m| m.delta);
        let sum_delta =
            e.plan.pools[pool].expected_sum(|head| weighted_mean(task.effect(head), &task.outcomes.weights));
        let central = |value: &dyn Fn(&SetMeans) -> f64| {
            let mut values: Vec<f64> = task.random[pool].iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            let tail = 0.5 * (1.0 - LEVEL);
            (quantile(&values, tail), quantile(&values, 1.0 - tail))
        };
        // The spread of the sets on the subsample, around the baseline on all prompts.
        let ends = Measure::BOTH.map(|measure| {
            let (low, high) = central(&|m| measure.of(m));
            let shift = base(measure) - base_few(measure);
            let within = |x: f64| if measure == Measure::Acc { x.clamp(0.0, 1.0) } else { x };
            Some((within(low + shift), within(high + shift)))
        });
        let means = SetMeans {
            acc: (base(Measure::Acc) + acc.value).clamp(0.0, 1.0),
            mean_diff: base(Measure::MeanDiff) + mean_diff.value,
            delta: delta.value,
            sum_delta,
            n_prompts: task.base.n_prompts,
        };
        let interaction =
            e.sums_compare.then(|| (delta.value - sum_delta, Some(central(&|m| m.delta - m.sum_delta))));
        row.tasks[at] = TaskSummary {
            n_sets: counts[at],
            variance_removed: mean_diff.control.removed(),
            ..of_task(means, ends, interaction)
        };
    }
    row
}

/// The figures of a row on one task; `ends` are those of accuracy and of the mean difference.
fn of_task(
    means: SetMeans,
    ends: [Option<(f64, f64)>; 2],
    interaction: Option<(f64, Option<(f64, f64)>)>,
) -> TaskSummary {
    TaskSummary {
        acc: Ranged::new(Some(means.acc), ends[0]),
        mean_diff: Ranged::new(Some(means.mean_diff), ends[1]),
        delta: Some(means.delta),
        sum_delta: interaction.map(|_| means.sum_delta),
        interaction: interaction.map_or_else(Ranged::default, |(value, ends)| Ranged::new(Some(value), ends)),
        ..TaskSummary::default()
    }
}

/// The table [`super::AREA_TABLE`].
pub(super) fn areas(e: &Evaluation) -> Vec<CurveArea> {
    let mut areas = Vec::new();
    for (at, task) in e.tasks.iter().enumerate() {
        for selection in Selection::ALL {
            for measure in Measure::BOTH {
                for kind in KINDS {
                    let curve: Vec<(usize, &ComparedSets, usize)> = e
                        .measured()
                        .filter(|(of, ..)| *of == selection)
                        .filter_map(|(_, k, sets)| Some((k, sets, e.pool(sets, kind)?)))
                        .filter(|(.., pool)| !task.random[*pool].is_empty())
                        .collect();
                    let mut area = CurveArea {
                        selection: selection.name(e.contrast),
                        task: e.contrast.key(Side::BOTH[at]).to_owned(),
                        measure: measure.name().to_owned(),
                        against: kind,
                        area: None,
                        ci_low: None,
                        ci_high: None,
                        variance_removed: None,
                        sizes: curve.iter().map(|(k, ..)| *k).collect(),
                        status: MEASURED.to_owned(),
                    };
                    if curve.is_empty() {
                        area.status = why_no_curve(e, selection);
                    } else {
                        between(e, task, &curve, measure, &mut area);
                    }
                    areas.push(area);
                }
            }
        }
    }
    areas
}

/// Fills in random minus hero, averaged over ln k.
fn between(
    e: &Evaluation,
    task: &Task,
    curve: &[(usize, &ComparedSets, usize)],
    measure: Measure,
    area: &mut CurveArea,
) {
    let outcomes = task.outcomes;
    let (base, base_few) = (measure.values(&outcomes.base), measure.values(&task.base_few));
    // The estimate is a mean of `on_few` over the subsample plus a mean of `on_all` over all prompts.
    let (mut on_few, mut on_all) = (vec![0.0; task.few.len()], vec![0.0; base.len()]);
    let (mut from_sets, mut from_sets_before) = (0.0, 0.0);
    for (&(_, sets, at), weight) in curve.iter().zip(log_trapezoid(&area.sizes)) {
        let (pool, run) = (&e.plan.pools[at], &task.random[at]);
        let control = estimate(e, task, at, |m| measure.of(m)).control;
        let n_run = run.len() as f64;
        // Sets are drawn without replacement: if all were run, no sampling variance is left.
        let left = 1.0 - n_run / pool.n_possible as f64;
        from_sets += weight * weight * left * control.residual / n_run;
        from_sets_before += weight * weight * left * control.variance / n_run;
        let random = task.mean_of_sets(measure, at);
        let sets_run = &pool.sets[..run.len()];
        for (place, &prompt) in outcomes.subsample.iter().enumerate() {
            let sum = sets_run.iter().map(|set| task.sum_of(set, prompt)).sum::<f64>() / n_run;
            on_few[place] += weight * (random[place] - base_few[place] - control.slope * sum);
        }
        let hero = measure.values(&outcomes.sets[sets.hero]);
        for (prompt, figure) in on_all.iter_mut().enumerate() {
            let expected = pool.expected_sum(|head| task.effect(head)[prompt]);
            *figure += weight * (control.slope * expected - (hero[prompt] - base[prompt]));
        }
    }
    let value = weighted_mean(&on_few, &task.few) + weighted_mean(&on_all, &outcomes.weights);
    area.area = Some(value);
    area.variance_removed = (from_sets_before > 0.0).then(|| 1.0 - from_sets / from_sets_before);
    let (n_few, n_all) = (total(&task.few), total(&outcomes.weights));
    let of_all_on_few: Vec<f64> = outcomes.subsample.iter().map(|&p| on_all[p]).collect();
    let variance = (|| {
        // The subsample is part of all prompts, so the two means are correlated.
        let few = variance(&on_few, &on_few, &task.few)? / n_few;
        let both = variance(&on_few, &of_all_on_few, &task.few)? / n_all;
        let all = variance(&on_all, &on_all, &outcomes.weights)? / n_all;
        Some((few + 2.0 * both + all).max(0.0) + from_sets)
    })();
    if let Some(half) = half_width(variance, 1.0, n_few) {
        (area.ci_low, area.ci_high) = (Some(value - half), Some(value + half));
    }
}

fn why_no_curve(e: &Evaluation, selection: Selection) -> String {
    let mut of_selection = e.plan.comparisons.iter().filter(|c| c.selection == selection).peekable();
    if of_selection.peek().is_none() {
        return format!("too few heads: {}", e.origin.n_heads_total());
    }
    of_selection.find_map(|c| c.sets.as_ref().err().cloned().filter(|_| c.k == 1)).unwrap_or_else(not_drawn)
}

/// Weights that average a curve at these k's over ln k by the trapezoidal rule. They sum to 1.
fn log_trapezoid(sizes: &[usize]) -> Vec<f64> {
    let logs: Vec<f64> = sizes.iter().map(|&k| (k as f64).ln()).collect();
    let [first, .., last] = logs[..] else { return vec![1.0; sizes.len()] };
    let mut weights = vec![0.0; sizes.len()];
    for (i, pair) in logs.windows(2).enumerate() {
        let half = 0.5 * (pair[1] - pair[0]) / (last - first);
        weights[i] += half;
        weights[i + 1] += half;
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_average_over_log_k() {
        assert_eq!(log_trapezoid(&[1]), [1.0]);
        assert!(log_trapezoid(&[]).is_empty());
        let weights = log_trapezoid(&[1, 2, 4]);
        assert!(weights.iter().zip([0.25, 0.5, 0.25]).all(|(w, e)| (w - e).abs() < 1e-12), "{weights:?}");
    }

    #[test]
    fn sums_account_for_what_follows_from_them() {
        let sums: Vec<f64> = (0..40).map(f64::from).collect();
        let twice: Vec<f64> = sums.iter().map(|x| 2.0 * x + 1.0).collect();
        let control = Control::fit(&sums, &twice);
        assert!((control.slope - 2.0).abs() < 1e-12 && (control.removed().unwrap() - 1.0).abs() < 1e-12);
        let unrelated: Vec<f64> = (0..40).map(|i| f64::from(i * 37 % 11)).collect();
        assert!(Control::fit(&sums, &unrelated).removed().unwrap() < 0.1);
        assert_eq!(Control::fit(&[1.0; 40], &unrelated).slope, 0.0);
        assert_eq!(Control::fit(&[1.0; 40], &[2.0; 40]).removed(), None);
    }
}
