//! Ablation of sets of heads.
//!
//! See [`cs_analysis::ablation`] for the choice of sets and the evaluation of outcomes.

use std::ops::ControlFlow;

use cs_analysis::ablation::{HeadSet, Outcome, TaskOutcomes};
use cs_engine::decoder::Decoder;
use cs_engine::intervention::Branch;
use cs_engine::{EngineError, Progress, Reading, Receiver};
use cs_model::spec::ModelSpec;

use crate::prompts::{PromptError, Reference, Split, TokenizedPrompts};
use crate::scan::{Ablation, ScanOptions, candidates_to_read, require_references, some_engine_prompts};
use crate::task::Order;

/// Errors of set ablation.
#[derive(Debug, thiserror::Error)]
pub enum AblateError {
    /// See [`EngineError`].
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// See [`PromptError`].
    #[error(transparent)]
    Prompts(Box<PromptError>),
    /// Too few distinct answers.
    #[error(
        "{task}: {model}'s tokenizer gives {n} different answers for the {names} candidate names, and accuracy needs 2 or \
         more: use names that are single tokens"
    )]
    FewCandidates {
        /// The task.
        task: String,
        /// The model.
        model: String,
        /// Number of distinct answers.
        n: usize,
        /// Names.
        names: usize,
    },
}

impl From<PromptError> for AblateError {
    fn from(error: PromptError) -> Self {
        Self::Prompts(Box::new(error))
    }
}

/// The held-out prompts on which random sets are run: at most `n` indices into the prompts of a split, in order.
///
/// Prompts are taken in turn from each template and order, so every combination occurs equally often, to within one. If
/// prompts are each other's references for a mean, these are all prompts.
#[must_use]
pub fn subsample(prompts: &TokenizedPrompts, split: Split, n: usize, options: ScanOptions) -> Vec<usize> {
    /// Prompts of one template and order.
    type Stratum<'a> = (&'a str, Option<Order>);
    let mut strata: Vec<(Stratum<'_>, Vec<usize>)> = Vec::new();
    for (place, (_, prompt)) in prompts.of_split(split).enumerate() {
        let key = (prompt.template.as_str(), prompt.order);
        match strata.iter_mut().find(|(known, _)| *known == key) {
            Some((_, places)) => places.push(place),
            None => strata.push((key, vec![place])),
        }
    }
    let is_own_reference = options.ablation == Ablation::Mean && options.reference == Reference::Same;
    let n = if is_own_reference { usize::MAX } else { n };
    let turns = strata.iter().map(|(_, places)| places.len()).max().unwrap_or(0);
    let in_turn =
        (0..turns).flat_map(|turn| strata.iter().filter_map(move |(_, places)| places.get(turn).copied()));
    let mut places: Vec<usize> = in_turn.take(n).collect();
    places.sort_unstable();
    places
}

/// Ablates each of `sets` on the prompts of one split, or on some of them (`places`, indices as from [`subsample`]). Neither
/// the order of the heads in a set nor the order of the sets matters: sets that start with the same edits share one run until
/// they diverge.
///
/// `observe` receives progress and may stop the run ([`EngineError::Stopped`]).
///
/// # Errors
/// See [`AblateError`].
pub fn ablate_sets(
    decoder: &Decoder,
    prompts: &TokenizedPrompts,
    (split, places): (Split, Option<&[usize]>),
    sets: &[HeadSet],
    options: ScanOptions,
    observe: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<TaskOutcomes, AblateError> {
    resume(decoder, prompts, (split, places), sets, options, vec![], &mut |u| observe(u.progress))
}

/// [`ablate_sets`] that skips what is in `known`: the [`Underway::sets`] of an earlier run of the same sets, or nothing.
///
/// # Errors
/// See [`AblateError`].
pub fn resume(
    decoder: &Decoder,
    prompts: &TokenizedPrompts,
    (split, places): (Split, Option<&[usize]>),
    sets: &[HeadSet],
    options: ScanOptions,
    known: Vec<Outcome>,
    observe: &mut dyn FnMut(Underway<'_>) -> ControlFlow<()>,
) -> Result<TaskOutcomes, AblateError> {
    require_references(prompts, split, options)?;
    let candidates = prompts.candidate_ids();
    if candidates.len() < 2 {
        return Err(AblateError::FewCandidates {
            task: prompts.task.clone(),
            model: prompts.model.clone(),
            n: candidates.len(),
            names: prompts.candidates.len(),
        });
    }
    let prompts = prompts.restricted_to(split);
    let places = asked(&prompts, places);
    let mut read = some_engine_prompts(&prompts, &places, options);
    for (read, &place) in read.iter_mut().zip(&places) {
        read.read = candidates_to_read(&candidates, &prompts.prompts[place]);
    }
    let branches = branches(sets, options);
    let n_prompts = places.len();
    let empty = Outcome {
        mean_diff: vec![f32::NAN; n_prompts],
        logit_diff: vec![f32::NAN; n_prompts],
        correct: vec![false; n_prompts],
    };
    let fits = known.len() == sets.len() && known.iter().all(|of_set| of_set.n_prompts() == n_prompts);
    let mut outcomes = Outcomes {
        n_candidates: candidates.len(),
        base: empty.clone(),
        sets: if fits { known } else { vec![empty; sets.len()] },
        observe,
    };
    cs_engine::run(decoder, &read, &branches, options.engine, &mut outcomes)?;
    let Outcomes { base, sets, .. } = outcomes;
    Ok(of_task(&prompts, &places, base, sets))
}

/// The result of [`ablate_sets`], from known outcomes.
#[must_use]
pub fn recalled(
    prompts: &TokenizedPrompts,
    (split, places): (Split, Option<&[usize]>),
    base: Outcome,
    sets: Vec<Outcome>,
) -> TaskOutcomes {
    let prompts = prompts.restricted_to(split);
    let places = asked(&prompts, places);
    of_task(&prompts, &places, base, sets)
}

/// Outcomes on the prompts at these indices.
fn of_task(prompts: &TokenizedPrompts, places: &[usize], base: Outcome, sets: Vec<Outcome>) -> TaskOutcomes {
    TaskOutcomes {
        task: prompts.task.clone(),
        weights: places.iter().map(|&place| prompts.prompts[place].weight).collect(),
        n_candidates: prompts.candidate_ids().len(),
        base,
        sets,
        subsample: vec![],
        random: vec![],
    }
}

/// The state of a run of sets.
#[derive(Clone, Copy, Debug)]
pub struct Underway<'a> {
    /// Work done and in total.
    pub progress: Progress,
    /// Outcomes of each set so far; NaN on prompts that have not been run. [`resume`] skips everything in it.
    pub sets: &'a [Outcome],
}

/// The cost of [`ablate_sets`] on a model of this shape, without running it.
///
/// # Errors
/// See [`EngineError`].
pub fn cost(
    spec: &ModelSpec,
    prompts: &TokenizedPrompts,
    (split, places): (Split, Option<&[usize]>),
    sets: &[HeadSet],
    options: ScanOptions,
) -> Result<cs_engine::Cost, EngineError> {
    let prompts = prompts.restricted_to(split);
    let asked = some_engine_prompts(&prompts, &asked(&prompts, places), options);
    cs_engine::cost(spec, &asked, &branches(sets, options), options.engine)
}

/// The indices of the prompts to run: some, or all.
fn asked(prompts: &TokenizedPrompts, places: Option<&[usize]>) -> Vec<usize> {
    places.map_or_else(|| (0..prompts.prompts.len()).collect(), <[usize]>::to_vec)
}

/// One branch per set.
fn branches(sets: &[HeadSet], options: ScanOptions) -> Vec<Branch> {
    let replacement = options.replacement();
    let heads = |set: &HeadSet| set.iter().map(|&(l, h)| (l as usize, h as usize)).collect::<Vec<_>>();
    sets.iter().map(|set| Branch::ablate(heads(set), replacement)).collect()
}

/// Receives the candidates' logits and records outcomes.
struct Outcomes<'a> {
    n_candidates: usize,
    base: Outcome,
    sets: Vec<Outcome>,
    observe: &'a mut dyn FnMut(Underway<'_>) -> ControlFlow<()>,
}

impl Receiver for Outcomes<'_> {
    fn reading(&mut self, reading: Reading<'_>) {
        let outcome = match reading.branch {
            None => &mut self.base,
            Some(set) => &mut self.sets[set],
        };
        for (&prompt, logits) in reading.prompts.iter().zip(reading.logits.chunks_exact(self.n_candidates)) {
            let (correct, others) = (logits[0], &logits[1..]);
            let mean_of_others = others.iter().sum::<f64>() / others.len() as f64;
            outcome.mean_diff[prompt] = (correct - mean_of_others) as f32;
            outcome.logit_diff[prompt] = (correct - others[0]) as f32;
            outcome.correct[prompt] = others.iter().all(|&other| correct > other);
        }
    }

    fn progress(&mut self, progress: Progress) -> ControlFlow<()> {
        (self.observe)(Underway { progress, sets: &self.sets })
    }

    fn is_known(&self, set: usize, prompts: &[usize]) -> bool {
        prompts.iter().all(|&prompt| self.sets[set].mean_diff[prompt].is_finite())
    }
}
