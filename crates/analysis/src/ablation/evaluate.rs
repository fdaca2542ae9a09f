//! From outcomes per prompt to rows, tests and areas.

use super::{
    AblationPlan, AblationSettings, Arm, ComparedSets, CurveArea, MEASURED, ModelAblation, Outcome, RawRow,
    Selection, SetKind, SetMeans, SetTest, SummaryRow, TaskOutcomes,
};
use crate::error::{AnalysisError, Result};
use crate::joint::StudyTask;
use crate::model_measures::LEVEL;
use crate::origin::Origin;
use crate::stats::bootstrap::{BootstrapMean, BootstrapOptions, bootstrap_means, weighted_mean};
use crate::stats::interval::quantile;
use crate::stats::{Seed, benjamini_hochberg};

/// What sets are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    /// Accuracy among all candidate names.
    Acc,
    /// Correct − mean of the other candidates.
    MeanDiff,
}

impl Measure {
    const BOTH: [Self; 2] = [Self::Acc, Self::MeanDiff];

    fn name(self) -> &'static str {
        match self {
            Self::Acc => "acc",
            Self::MeanDiff => "mean_diff",
        }
    }

    /// The measure on each prompt. `[n_prompts]`
    fn values(self, outcome: &Outcome) -> Vec<f64> {
        match self {
            Self::Acc => outcome.correct.iter().map(|&c| f64::from(u8::from(c))).collect(),
            Self::MeanDiff => outcome.mean_diff.iter().map(|&d| f64::from(d)).collect(),
        }
    }

    fn of(self, means: &SetMeans) -> f64 {
        match self {
            Self::Acc => means.acc,
            Self::MeanDiff => means.mean_diff,
        }
    }
}

/// The effect of a set on each prompt: logit difference (correct − distractor) minus that of `base`. `[n_prompts]`
#[must_use]
pub fn task_values(base: &Outcome, set: &Outcome) -> Vec<f64> {
    set.logit_diff.iter().zip(&base.logit_diff).map(|(&a, &b)| f64::from(a) - f64::from(b)).collect()
}

/// Rows, tests and areas of one model, from what the sets of `plan` gave on both tasks.
///
/// # Errors
/// When outcomes do not fit the plan or each other, or a task has fewer than 2 candidate names.
pub fn evaluate(
    origin: &Origin,
    settings: &AblationSettings,
    plan: &AblationPlan,
    ioi: &TaskOutcomes,
    anti: &TaskOutcomes,
) -> Result<ModelAblation> {
    let tasks = [Task::new(origin, plan, ioi)?, Task::new(origin, plan, anti)?];
    let mut evaluation =
        Evaluation { origin, settings, plan, tasks, curves: Vec::new(), rows: Vec::new(), tests: Vec::new() };
    evaluation.all_rows();
    evaluation.run();
    let summary = evaluation.summary();
    let areas = evaluation.areas();
    let Evaluation { rows, mut tests, .. } = evaluation;
    let p_values: Vec<f64> = tests.iter().filter_map(|t| t.p_value).collect();
    let mut q_values = benjamini_hochberg(&p_values).into_iter();
    for test in &mut tests {
        test.q_value = test.p_value.and_then(|_| q_values.next());
    }
    let caution = origin.caution().map(str::to_owned);
    Ok(ModelAblation {
        origin: origin.clone(),
        settings: settings.clone(),
        n_candidates: [ioi.n_candidates, anti.n_candidates],
        n_prompts: [ioi, anti].map(|t| t.weights.iter().map(|&w| u64::from(w)).sum()),
        rows,
        summary,
        tests,
        areas,
        notes: plan.notes.iter().cloned().chain(caution).collect(),
    })
}

/// One task's outcomes with the means of every set.
struct Task<'a> {
    outcomes: &'a TaskOutcomes,
    base: SetMeans,
    sets: Vec<SetMeans>,
}

impl<'a> Task<'a> {
    fn new(origin: &Origin, plan: &AblationPlan, outcomes: &'a TaskOutcomes) -> Result<Self> {
        outcomes.check(origin, plan)?;
        let TaskOutcomes { weights, base, sets, .. } = outcomes;
        let means = |outcome: &Outcome| SetMeans {
            acc: weighted_mean(&Measure::Acc.values(outcome), weights),
            mean_diff: weighted_mean(&Measure::MeanDiff.values(outcome), weights),
            delta: weighted_mean(&task_values(base, outcome), weights),
        };
        Ok(Self { outcomes, base: means(base), sets: sets.iter().map(means).collect() })
    }

    /// Mean over sets of a measure on each prompt. `[n_prompts]`
    fn mean_of_sets(&self, measure: Measure, sets: &[usize]) -> Vec<f64> {
        let mut sum = vec![0.0; self.outcomes.weights.len()];
        for &set in sets {
            let values = measure.values(&self.outcomes.sets[set]);
            sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        }
        sum.iter().map(|sum| sum / sets.len() as f64).collect()
    }
}

impl TaskOutcomes {
    fn check(&self, origin: &Origin, plan: &AblationPlan) -> Result<()> {
        let fault = |problem: String, mend: &str| {
            let what = format!("ablation of {} on {}", origin.model, self.task);
            Err(AnalysisError::inconsistent(what, problem, mend))
        };
        let n = self.weights.len();
        if self.n_candidates < 2 {
            return fault(
                format!("accuracy needs 2 or more candidate names and there are {}", self.n_candidates),
                "use names that the model's tokenizer has as single tokens",
            );
        }
        if n == 0 {
            return fault("no prompts".into(), "draw more prompts, so that some are held out");
        }
        let fits = |o: &Outcome| o.mean_diff.len() == n && o.logit_diff.len() == n && o.correct.len() == n;
        if self.sets.len() != plan.sets.len() || !fits(&self.base) || !self.sets.iter().all(fits) {
            return fault("outcomes do not fit the plan".into(), "ablate again");
        }
        let finite = |o: &Outcome| o.mean_diff.iter().chain(&o.logit_diff).all(|x| x.is_finite());
        if !finite(&self.base) || !self.sets.iter().all(finite) {
            return fault("a logit is not a finite number".into(), "check the checkpoint's weights");
        }
        Ok(())
    }
}

/// Hero minus random on each prompt, for one comparison.
struct Curve {
    selection: Selection,
    k: usize,
    task: usize,
    measure: Measure,
    against: SetKind,
    difference: Vec<f64>,
}

struct Evaluation<'a> {
    origin: &'a Origin,
    settings: &'a AblationSettings,
    plan: &'a AblationPlan,
    tasks: [Task<'a>; 2],
    curves: Vec<Curve>,
    rows: Vec<RawRow>,
    tests: Vec<SetTest>,
}

impl Evaluation<'_> {
    fn measured(&self) -> impl Iterator<Item = (Selection, usize, &ComparedSets)> {
        self.plan.comparisons.iter().filter_map(|c| Some((c.selection, c.k, c.sets.as_ref().ok()?)))
    }

    /// Bootstrap means of series over one task's prompts. Seeded by task alone, so that all share their resamples.
    fn bootstrap(&self, task: usize, series: &[Vec<f64>]) -> Vec<BootstrapMean> {
        let outcomes = self.tasks[task].outcomes;
        let options =
            BootstrapOptions { n_resamples: self.settings.n_resamples, level: LEVEL, thresholds: Vec::new() };
        let seed = Seed::new(self.origin.seed, &[&self.origin.model, &outcomes.task, "ablation of sets"]);
        bootstrap_means(series, &outcomes.weights, &options, &seed)
    }

    fn all_rows(&mut self) {
        let [ioi, anti] = &self.tasks;
        let mut rows = vec![RawRow {
            selection: Selection::All,
            k: 0,
            kind: SetKind::Baseline,
            index: 0,
            heads: Vec::new(),
            ioi: ioi.base,
            anti: anti.base,
        }];
        for (selection, k, sets) in self.measured() {
            let mut add = |kind, places: &[usize]| {
                rows.extend(places.iter().enumerate().map(|(index, &place)| RawRow {
                    selection,
                    k,
                    kind,
                    index,
                    heads: self.plan.sets[place].clone(),
                    ioi: ioi.sets[place],
                    anti: anti.sets[place],
                }));
            };
            add(SetKind::Hero, &[sets.hero]);
            for ((random, permuted), arm) in ARMS.into_iter().zip([&sets.random, &sets.matched]) {
                add(random, arm.others.as_deref().unwrap_or_default());
                add(permuted, &arm.permuted);
            }
        }
        self.rows = rows;
    }

    /// Every test, and the curves that areas are made of.
    fn run(&mut self) {
        let (mut curves, mut tests) = (Vec::new(), Vec::new());
        for (selection, k, sets) in self.measured() {
            for (at, task) in self.tasks.iter().enumerate() {
                for measure in Measure::BOTH {
                    for ((against, _), arm) in ARMS.into_iter().zip([&sets.random, &sets.matched]) {
                        let hero = measure.of(&task.sets[sets.hero]);
                        let test = SetTest {
                            selection,
                            k,
                            task: StudyTask::BOTH[at].name().to_owned(),
                            measure: measure.name().to_owned(),
                            against,
                            hero: Some(hero),
                            p_value: Some(two_sided_p(
                                hero,
                                arm.permuted.iter().map(|&s| measure.of(&task.sets[s])),
                            )),
                            n_permuted: arm.permuted.len(),
                            ..SetTest::empty(selection, k)
                        };
                        tests.push(with_random(test, arm, |s| measure.of(&task.sets[s])));
                        if let Ok(others) = &arm.others {
                            let hero = measure.values(&task.outcomes.sets[sets.hero]);
                            let random = task.mean_of_sets(measure, others);
                            let difference = hero.iter().zip(random).map(|(h, r)| h - r).collect();
                            curves.push(Curve { selection, k, task: at, measure, against, difference });
                        }
                    }
                }
            }
        }
        for at in 0..self.tasks.len() {
            let of_task: Vec<&Curve> = curves.iter().filter(|c| c.task == at).collect();
            let series: Vec<Vec<f64>> = of_task.iter().map(|c| c.difference.clone()).collect();
            for (curve, mean) in of_task.into_iter().zip(self.bootstrap(at, &series)) {
                let test = tests.iter_mut().find(|t: &&mut SetTest| {
                    (t.selection, t.k, t.against) == (curve.selection, curve.k, curve.against)
                        && t.task == StudyTask::BOTH[at].name()
                        && t.measure == curve.measure.name()
                });
                if let Some(test) = test {
                    test.difference_ci_low = mean.interval.map(|i| i.low);
                    test.difference_ci_high = mean.interval.map(|i| i.high);
                }
            }
        }
        (self.curves, self.tests) = (curves, tests);
    }

    fn summary(&self) -> Vec<SummaryRow> {
        let base = |selection: Selection, k, kind| SummaryRow {
            family: self.origin.family.clone(),
            model: self.origin.model.clone(),
            k,
            set_type: selection.set_type(kind),
            selection: selection.name().to_owned(),
            status: MEASURED.to_owned(),
            split: Some(self.origin.split),
            ..SummaryRow::default()
        };
        // Intervals over prompts: of the baseline, then of each hero set.
        let heroes: Vec<usize> = self.measured().map(|(.., sets)| sets.hero).collect();
        let intervals: Vec<Vec<BootstrapMean>> = self
            .tasks
            .iter()
            .enumerate()
            .map(|(at, task)| {
                let outcomes = std::iter::once(&task.outcomes.base)
                    .chain(heroes.iter().map(|&s| &task.outcomes.sets[s]));
                let series: Vec<Vec<f64>> =
                    outcomes.flat_map(|o| Measure::BOTH.map(|measure| measure.values(o))).collect();
                self.bootstrap(at, &series)
            })
            .collect();
        let of_one_set = |mut row: SummaryRow, place: Option<usize>, at: usize| {
            row.n_sets = 1;
            row.interval_over = "prompts".to_owned();
            for (task, intervals) in intervals.iter().enumerate() {
                let means = place.map_or(self.tasks[task].base, |s| self.tasks[task].sets[s]);
                let ends =
                    [&intervals[2 * at], &intervals[2 * at + 1]].map(|m| m.interval.map(|i| (i.low, i.high)));
                fill(&mut row, task, means, ends);
            }
            row
        };
        let mut rows = vec![of_one_set(base(Selection::All, 0, SetKind::Baseline), None, 0)];
        let mut at = 0;
        for comparison in &self.plan.comparisons {
            let (selection, k) = (comparison.selection, comparison.k);
            match &comparison.sets {
                Err(why) => rows.extend(
                    [SetKind::Hero, SetKind::Random, SetKind::RandomMatched]
                        .map(|kind| SummaryRow { status: why.clone(), ..base(selection, k, kind) }),
                ),
                Ok(sets) => {
                    at += 1;
                    rows.push(of_one_set(base(selection, k, SetKind::Hero), Some(sets.hero), at));
                    for ((kind, _), arm) in ARMS.into_iter().zip([&sets.random, &sets.matched]) {
                        rows.push(self.of_many_sets(base(selection, k, kind), &arm.others));
                    }
                }
            }
        }
        rows
    }

    fn of_many_sets(
        &self,
        mut row: SummaryRow,
        sets: &std::result::Result<Vec<usize>, String>,
    ) -> SummaryRow {
        let sets = match sets {
            Err(why) => return SummaryRow { status: why.clone(), ..row },
            Ok(sets) => sets,
        };
        row.n_sets = sets.len();
        row.interval_over = "sets".to_owned();
        for (at, task) in self.tasks.iter().enumerate() {
            let of = |value: &dyn Fn(&SetMeans) -> f64| -> Vec<f64> {
                sets.iter().map(|&s| value(&task.sets[s])).collect()
            };
            let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
            let (acc, mean_diff) = (of(&|m| m.acc), of(&|m| m.mean_diff));
            let means =
                SetMeans { acc: mean(&acc), mean_diff: mean(&mean_diff), delta: mean(&of(&|m| m.delta)) };
            let ends = [acc, mean_diff].map(|mut values| {
                values.sort_by(f64::total_cmp);
                let tail = 0.5 * (1.0 - LEVEL);
                Some((quantile(&values, tail), quantile(&values, 1.0 - tail)))
            });
            fill(&mut row, at, means, ends);
        }
        row
    }

    fn areas(&self) -> Vec<CurveArea> {
        let mut areas = Vec::new();
        for at in 0..self.tasks.len() {
            let mut wanted = Vec::new();
            let mut series = Vec::new();
            for selection in Selection::ALL {
                for measure in Measure::BOTH {
                    for (against, _) in ARMS {
                        let curves: Vec<&Curve> = self
                            .curves
                            .iter()
                            .filter(|c| {
                                (c.selection, c.task, c.measure, c.against)
                                    == (selection, at, measure, against)
                            })
                            .collect();
                        let sizes: Vec<usize> = curves.iter().map(|c| c.k).collect();
                        let weights = log_trapezoid(&sizes);
                        if !curves.is_empty() {
                            series.push(
                                (0..curves[0].difference.len())
                                    .map(|p| {
                                        -curves
                                            .iter()
                                            .zip(&weights)
                                            .map(|(c, w)| w * c.difference[p])
                                            .sum::<f64>()
                                    })
                                    .collect(),
                            );
                        }
                        wanted.push((selection, measure, against, sizes));
                    }
                }
            }
            let mut means = self.bootstrap(at, &series).into_iter();
            for (selection, measure, against, sizes) in wanted {
                let mean = if sizes.is_empty() { None } else { means.next() };
                areas.push(CurveArea {
                    selection,
                    task: StudyTask::BOTH[at].name().to_owned(),
                    measure: measure.name().to_owned(),
                    against,
                    area: mean.as_ref().map(|m| m.mean),
                    ci_low: mean.as_ref().and_then(|m| m.interval).map(|i| i.low),
                    ci_high: mean.as_ref().and_then(|m| m.interval).map(|i| i.high),
                    status: if mean.is_some() { MEASURED.to_owned() } else { self.why_no_curve(selection) },
                    sizes,
                });
            }
        }
        areas
    }

    fn why_no_curve(&self, selection: Selection) -> String {
        let of_selection = self.plan.comparisons.iter().filter(|c| c.selection == selection);
        let reasons = of_selection.filter_map(|c| match &c.sets {
            Err(why) => Some(why.clone()),
            Ok(sets) => sets.matched.others.clone().err(),
        });
        reasons.take(1).next().unwrap_or_else(|| format!("{} heads are too few", self.origin.n_heads_total()))
    }
}

/// Kinds of random sets, and the permuted ones that belong to them, in the order of [`ComparedSets`].
const ARMS: [(SetKind, SetKind); 2] =
    [(SetKind::Random, SetKind::Permuted), (SetKind::RandomMatched, SetKind::PermutedMatched)];

impl SetTest {
    fn empty(selection: Selection, k: usize) -> Self {
        Self {
            selection,
            k,
            task: String::new(),
            measure: String::new(),
            against: SetKind::Random,
            hero: None,
            random_mean: None,
            random_sd: None,
            difference: None,
            difference_ci_low: None,
            difference_ci_high: None,
            effect_size: None,
            p_value: None,
            q_value: None,
            n_random: 0,
            n_permuted: 0,
            status: MEASURED.to_owned(),
        }
    }
}

/// Adds mean, spread and effect size of the random sets, or why there are none.
fn with_random(mut test: SetTest, arm: &Arm, value: impl Fn(usize) -> f64) -> SetTest {
    let others = match &arm.others {
        Err(why) => return SetTest { status: why.clone(), ..test },
        Ok(others) => others,
    };
    let n = others.len() as f64;
    let mean = others.iter().map(|&s| value(s)).sum::<f64>() / n;
    let sd = (others.iter().map(|&s| (value(s) - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    let difference = test.hero.map(|hero| hero - mean);
    test.n_random = others.len();
    test.random_mean = Some(mean);
    test.random_sd = Some(sd).filter(|sd| sd.is_finite());
    test.difference = difference;
    // Sets that all give the same, up to rounding, leave no unit to measure the difference in.
    let varies = sd > 1e-12 * (1.0 + mean.abs());
    test.effect_size = difference.filter(|_| varies).map(|d| d / sd);
    test
}

/// Twice the smaller tail of `sets` beyond `hero`, the hero set counted in both (so never 0), and 1 at most.
fn two_sided_p(hero: f64, sets: impl Iterator<Item = f64>) -> f64 {
    let rounding = 1e-12 * (1.0 + hero.abs());
    let (mut n, mut below, mut above) = (1.0, 1.0, 1.0);
    for value in sets {
        n += 1.0;
        below += f64::from(u8::from(value <= hero + rounding));
        above += f64::from(u8::from(value >= hero - rounding));
    }
    (2.0 * f64::min(below, above) / n).min(1.0)
}

/// Weights with which a curve at these k's is averaged over ln k by trapezoids. They sum to 1.
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

/// Puts one task's figures into a row; `ends` are those of accuracy and of the mean difference.
fn fill(row: &mut SummaryRow, task: usize, means: SetMeans, ends: [Option<(f64, f64)>; 2]) {
    let [acc, mean_diff] = ends.map(|e| (e.map(|e| e.0), e.map(|e| e.1)));
    if task == 0 {
        (row.acc_ioi, row.mean_diff_ioi, row.delta_ioi) =
            (Some(means.acc), Some(means.mean_diff), Some(means.delta));
        (row.acc_ioi_low, row.acc_ioi_high) = acc;
        (row.mean_diff_ioi_low, row.mean_diff_ioi_high) = mean_diff;
    } else {
        (row.acc_anti, row.mean_diff_anti, row.delta_anti) =
            (Some(means.acc), Some(means.mean_diff), Some(means.delta));
        (row.acc_anti_low, row.acc_anti_high) = acc;
        (row.mean_diff_anti_low, row.mean_diff_anti_high) = mean_diff;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_value_counts_the_hero_set_and_both_tails() {
        let sets = || (0..99).map(f64::from);
        assert_eq!(two_sided_p(-1.0, sets()), 0.02);
        assert_eq!(two_sided_p(99.0, sets()), 0.02);
        assert_eq!(two_sided_p(49.0, sets()), 1.0);
        assert_eq!(two_sided_p(1.0, std::iter::repeat_n(1.0, 9)), 1.0);
    }

    #[test]
    fn areas_average_over_log_k() {
        assert_eq!(log_trapezoid(&[1]), [1.0]);
        assert!(log_trapezoid(&[]).is_empty());
        let weights = log_trapezoid(&[1, 2, 4]);
        assert!(weights.iter().zip([0.25, 0.5, 0.25]).all(|(w, e)| (w - e).abs() < 1e-12), "{weights:?}");
    }
}
