//! From outcomes per prompt to rows and tests.

use super::curves;
use super::draws::WORTH_TESTING;
use super::measure::Measure;
use super::sequential::{compare, is_asked};
use super::{
    ALL_HEADS, AblationPlan, AblationSettings, ComparedSets, Evidence, HeadSet, MATCHED_LEVEL, MEASURED,
    ModelAblation, Outcome, Pool, RawRow, Selection, SetKind, SetMeans, SetTest, TaskOutcomes,
};
use crate::contrast::{Contrast, Side};
use crate::error::{AnalysisError, Result};
use crate::model_measures::LEVEL;
use crate::origin::Origin;
use crate::per_prompt::{Differences, PerPromptScan};
use crate::stats::bootstrap::weighted_mean;
use crate::stats::interval::student_quantile;
use crate::stats::two_stage;

/// Kinds of random sets, in the order of the tables.
pub(super) const KINDS: [SetKind; 2] = [SetKind::Random, SetKind::RandomMatched];

/// The effect of a set on each prompt: logit difference (correct − distractor) minus that of `base`. `[n_prompts]`
#[must_use]
pub fn task_values(base: &Outcome, set: &Outcome) -> Vec<f64> {
    set.logit_diff.iter().zip(&base.logit_diff).map(|(&a, &b)| f64::from(a) - f64::from(b)).collect()
}

/// Rows, tests and areas of one model, from the outcomes of its plan's sets on both tasks.
///
/// # Errors
/// If outcomes do not match the plan, the scans or each other, or a task has fewer than 2 candidate names.
pub fn evaluate(
    origin: &Origin,
    settings: &AblationSettings,
    evidence: Evidence<'_>,
) -> Result<ModelAblation> {
    let Evidence { contrast, plan, scans, outcomes: [a, b], .. } = evidence;
    let tasks = [Task::new(origin, plan, scans[0], a)?, Task::new(origin, plan, scans[1], b)?];
    // Sums of single-head effects only apply to sets that were ablated in the same way.
    let meta = &scans[0].meta;
    let sums_compare = meta.ablation == settings.ablation && meta.value_bias == settings.value_bias;
    let evaluation = Evaluation { contrast, origin, settings, plan, tasks, sums_compare };
    let caution = origin.caution().map(str::to_owned);
    Ok(ModelAblation {
        contrast: contrast.clone(),
        origin: origin.clone(),
        settings: settings.clone(),
        n_candidates: [a, b].map(|t| t.n_candidates),
        n_prompts: [a, b].map(|t| t.weights.iter().map(|&w| u64::from(w)).sum()),
        rows: evaluation.rows(),
        summary: curves::summary(&evaluation),
        tests: evaluation.tests(),
        areas: curves::areas(&evaluation),
        notes: plan.notes.iter().cloned().chain(caution).collect(),
    })
}

/// One task's outcomes, and the means of every set.
pub(super) struct Task<'a> {
    pub outcomes: &'a TaskOutcomes,
    /// Single-head effects on the same prompts.
    pub single: Differences,
    n_heads: u32,
    /// Weights of the subsample.
    pub few: Vec<u32>,
    /// The baseline on the subsample.
    pub base_few: Outcome,
    pub base: SetMeans,
    pub sets: Vec<SetMeans>,
    /// For each pool, the means of its sets that were run, on the subsample.
    pub random: Vec<Vec<SetMeans>>,
}

impl<'a> Task<'a> {
    fn new(
        origin: &Origin,
        plan: &AblationPlan,
        scan: &PerPromptScan,
        outcomes: &'a TaskOutcomes,
    ) -> Result<Self> {
        let single = scan.differences(origin.split);
        outcomes.check(origin, plan, &single)?;
        let few = outcomes.subsample_weights();
        let base_few = outcomes.base.at(&outcomes.subsample);
        let mut task = Self {
            outcomes,
            single,
            n_heads: scan.meta.n_heads,
            few,
            base_few,
            base: SetMeans::default(),
            sets: vec![],
            random: vec![],
        };
        let all: Vec<usize> = (0..outcomes.weights.len()).collect();
        task.base = task.means(&outcomes.base, &outcomes.base, &HeadSet::new(), &all);
        task.sets = (plan.sets.iter().zip(&outcomes.sets))
            .map(|(set, outcome)| task.means(outcome, &outcomes.base, set, &all))
            .collect();
        task.random = (plan.pools.iter().zip(&outcomes.random))
            .map(|(pool, found)| {
                let sets = pool.sets.iter().zip(found);
                sets.map(|(set, o)| task.means(o, &task.base_few, set, &outcomes.subsample)).collect()
            })
            .collect();
        Ok(task)
    }

    /// Means of a set over some of the task's prompts.
    fn means(&self, outcome: &Outcome, base: &Outcome, set: &[(u32, u32)], prompts: &[usize]) -> SetMeans {
        let weights: Vec<u32> = prompts.iter().map(|&p| self.outcomes.weights[p]).collect();
        let sums: Vec<f64> = prompts.iter().map(|&p| self.sum_of(set, p)).collect();
        SetMeans {
            acc: Measure::Acc.mean(outcome, &weights),
            mean_diff: Measure::MeanDiff.mean(outcome, &weights),
            delta: weighted_mean(&task_values(base, outcome), &weights),
            sum_delta: weighted_mean(&sums, &weights),
            n_prompts: weights.iter().map(|&w| u64::from(w)).sum(),
        }
    }

    /// A head's own effect on each prompt.
    pub fn effect(&self, (layer, head): (u32, u32)) -> &[f64] {
        &self.single.heads[(layer * self.n_heads + head) as usize]
    }

    /// Sum of the effects of a set's heads on a prompt.
    pub fn sum_of(&self, set: &[(u32, u32)], prompt: usize) -> f64 {
        set.iter().map(|&head| self.effect(head)[prompt]).sum()
    }

    /// A measure on each prompt of the subsample, averaged over the sets of a pool that were run.
    pub fn mean_of_sets(&self, measure: Measure, pool: usize) -> Vec<f64> {
        let found = &self.outcomes.random[pool];
        let mut sum = vec![0.0; self.few.len()];
        for outcome in found {
            sum.iter_mut().zip(measure.values(outcome)).for_each(|(sum, value)| *sum += value);
        }
        sum.iter().map(|sum| sum / found.len() as f64).collect()
    }
}

impl TaskOutcomes {
    fn check(&self, origin: &Origin, plan: &AblationPlan, single: &Differences) -> Result<()> {
        let fault = |problem: &str, fix: &str| {
            let what = format!("ablation of {} on {}", origin.model, self.task);
            Err(AnalysisError::inconsistent(what, problem.to_owned(), fix))
        };
        let n = self.weights.len();
        if self.n_candidates < 2 {
            return fault(
                &format!("accuracy needs 2 or more candidate names and there are {}", self.n_candidates),
                "use names that the model's tokenizer has as single tokens",
            );
        }
        if n == 0 || self.subsample.is_empty() {
            return fault("no prompts", "draw more prompts, so that some are held out");
        }
        let fits = |o: &Outcome, n| o.mean_diff.len() == n && o.logit_diff.len() == n && o.correct.len() == n;
        let sets_fit = self.sets.len() == plan.sets.len() && self.random.len() == plan.pools.len();
        let random = || self.random.iter().flatten();
        if !sets_fit
            || self.subsample.iter().any(|&p| p >= n)
            || !self.sets.iter().chain([&self.base]).all(|o| fits(o, n))
            || !random().all(|o| fits(o, self.subsample.len()))
            || self.random.iter().zip(&plan.pools).any(|(found, pool)| found.len() > pool.sets.len())
        {
            return fault("outcomes do not fit the plan", "ablate again");
        }
        if single.weights != self.weights {
            return fault("the scan is of other prompts", "scan and ablate again");
        }
        let finite = |o: &Outcome| o.mean_diff.iter().chain(&o.logit_diff).all(|x| x.is_finite());
        if !self.sets.iter().chain([&self.base]).chain(random()).all(finite) {
            return fault("a logit is not a finite number", "check the checkpoint's weights");
        }
        Ok(())
    }
}

/// The inputs to the parts of a [`ModelAblation`].
pub(super) struct Evaluation<'a> {
    pub contrast: &'a Contrast,
    pub origin: &'a Origin,
    pub settings: &'a AblationSettings,
    pub plan: &'a AblationPlan,
    pub tasks: [Task<'a>; 2],
    /// Whether single heads were ablated in the same way as the sets.
    pub sums_compare: bool,
}

impl Evaluation<'_> {
    pub fn measured(&self) -> impl Iterator<Item = (Selection, usize, &ComparedSets)> {
        self.plan.comparisons.iter().filter_map(|c| Some((c.selection, c.k, c.sets.as_ref().ok()?)))
    }

    /// The pool of this kind with which a hero set is compared.
    pub fn pool(&self, sets: &ComparedSets, kind: SetKind) -> Option<usize> {
        sets.pools().find(|&pool| self.plan.pools[pool].kind == kind)
    }

    fn rows(&self) -> Vec<RawRow> {
        let of_tasks = |means: &dyn Fn(&Task) -> Option<SetMeans>| self.tasks.each_ref().map(means);
        let mut rows = vec![RawRow {
            selection: ALL_HEADS.to_owned(),
            k: 0,
            kind: SetKind::Baseline,
            index: 0,
            heads: HeadSet::new(),
            tasks: of_tasks(&|task| Some(task.base)),
        }];
        for (selection, k, sets) in self.measured() {
            let row = |kind, index, heads: &HeadSet, tasks| RawRow {
                selection: selection.name(self.contrast),
                k,
                kind,
                index,
                heads: heads.clone(),
                tasks,
            };
            let hero = sets.hero;
            let means = of_tasks(&|task| task.sets.get(hero).copied());
            rows.push(row(SetKind::Hero, 0, &self.plan.sets[hero], means));
            for pool in sets.pools() {
                let kind = self.plan.pools[pool].kind;
                if kind == SetKind::Random && selection != Selection::All {
                    continue; // the same sets as for all heads
                }
                let n_run = self.tasks.iter().map(|task| task.random[pool].len()).max().unwrap_or(0);
                for (index, set) in self.plan.pools[pool].sets.iter().take(n_run).enumerate() {
                    let means = of_tasks(&|task| task.random[pool].get(index).copied());
                    rows.push(row(kind, index, set, means));
                }
            }
        }
        rows
    }

    /// Every test, with q-values.
    fn tests(&self) -> Vec<SetTest> {
        let mut tests = Vec::new();
        let mut is_worth_it = Vec::new();
        for (selection, k, sets) in self.measured() {
            for (at, task) in self.tasks.iter().enumerate() {
                for measure in Measure::BOTH {
                    for pool in sets.pools() {
                        is_worth_it.push(self.plan.pools[pool].is_worth_it(self.settings.n_random_sets));
                        let mut test = self.test(task, sets, pool, measure);
                        test.selection = selection.name(self.contrast);
                        test.k = k;
                        test.task = self.contrast.key(Side::BOTH[at]).to_owned();
                        tests.push(test);
                    }
                }
            }
        }
        for kind in KINDS {
            let family: Vec<usize> =
                (0..tests.len()).filter(|&i| is_worth_it[i] && tests[i].against == kind).collect();
            let p_values: Vec<f64> = family.iter().map(|&i| tests[i].p_value.unwrap_or(1.0)).collect();
            for (i, q_value) in family.into_iter().zip(two_stage(&p_values)) {
                tests[i].q_value = tests[i].p_value.and(Some(q_value));
            }
        }
        for (test, _) in
            tests.iter_mut().zip(is_worth_it).filter(|(test, worth)| !worth && test.p_value.is_some())
        {
            let n = test.n_possible.map_or(test.n_random, |n| n as usize).min(self.settings.n_random_sets);
            test.status = format!("too few different sets for p ≤ {WORTH_TESTING}: {n}");
        }
        tests
    }

    fn test(&self, task: &Task, sets: &ComparedSets, pool: usize, measure: Measure) -> SetTest {
        let hero = sets.hero;
        let Pool { kind, n_possible, .. } = self.plan.pools[pool];
        let outcomes = task.outcomes;
        let on_hero = measure.values(&outcomes.sets[hero].at(&outcomes.subsample));
        let hero_mean = weighted_mean(&on_hero, &task.few);
        let test = SetTest {
            selection: String::new(),
            k: self.plan.pools[pool].k,
            task: String::new(),
            measure: measure.name().to_owned(),
            against: kind,
            hero: Some(hero_mean),
            random_mean: None,
            random_sd: None,
            difference: None,
            difference_ci_low: None,
            difference_ci_high: None,
            effect_size: None,
            p_value: None,
            q_value: None,
            n_random: task.random[pool].len(),
            n_behind_p: 0,
            n_possible: i64::try_from(n_possible).is_ok().then_some(n_possible),
            n_prompts: task.few.iter().map(|&w| u64::from(w)).sum(),
            status: MEASURED.to_owned(),
        };
        let values: Vec<f64> = task.random[pool].iter().map(|means| measure.of(means)).collect();
        if !is_asked(self.plan, outcomes, sets, pool, measure) {
            return SetTest { status: not_drawn(), ..test };
        }
        let p = compare(self.plan, outcomes, (hero, pool), measure);
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let sd = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
        // If all sets give the same value up to rounding, there is no scale for an effect size.
        let varies = sd > 1e-12 * (1.0 + mean.abs());
        let difference: Vec<f64> =
            on_hero.iter().zip(task.mean_of_sets(measure, pool)).map(|(h, r)| h - r).collect();
        let half =
            half_width(variance(&difference, &difference, &task.few), total(&task.few), total(&task.few));
        let difference = hero_mean - mean;
        SetTest {
            random_mean: Some(mean),
            random_sd: Some(sd).filter(|sd| sd.is_finite()),
            difference: Some(difference),
            difference_ci_low: half.map(|h| difference - h),
            difference_ci_high: half.map(|h| difference + h),
            effect_size: varies.then(|| difference / sd),
            p_value: Some(p.p_value),
            n_behind_p: p.n_sets,
            ..test
        }
    }
}

/// Why layer-matched sets were not run.
pub(super) fn not_drawn() -> String {
    format!(
        "not drawn: the hero set has no larger effect than random sets of all heads (p > {MATCHED_LEVEL})"
    )
}

/// Number of draws, the sum of the weights.
pub(super) fn total(weights: &[u32]) -> f64 {
    weights.iter().copied().map(f64::from).sum()
}

/// Covariance over weighted prompts, or the variance of one series; `None` for fewer than 2 draws.
pub(super) fn variance(a: &[f64], b: &[f64], weights: &[u32]) -> Option<f64> {
    let n = total(weights);
    let (mean_a, mean_b) = (weighted_mean(a, weights), weighted_mean(b, weights));
    let products =
        a.iter().zip(b).zip(weights).map(|((a, b), &w)| f64::from(w) * (a - mean_a) * (b - mean_b));
    (n >= 2.0).then(|| products.sum::<f64>() / (n - 1.0))
}

/// Half the width of Student's interval of a mean of `n` draws of this variance, with `n_smallest` − 1 degrees of freedom.
pub(super) fn half_width(variance: Option<f64>, n: f64, n_smallest: f64) -> Option<f64> {
    variance.map(|v| student_quantile(0.5 + 0.5 * LEVEL, n_smallest - 1.0) * (v / n).sqrt())
}
