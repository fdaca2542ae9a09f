//! Sets of heads ablated together.
//!
//! See [`analysis::ablation`] for which sets, and for what becomes of the outcomes.

use std::ops::ControlFlow;

use analysis::ablation::{HeadSet, Outcome, TaskOutcomes};
use cs_engine::decoder::Decoder;
use cs_engine::intervention::Branch;
use cs_engine::{EngineError, Progress, Reading, Receiver};
use cs_model::spec::ModelSpec;

use crate::prompts::{PromptError, Split, TokenizedPrompts};
use crate::scan::{Ablation, ScanOptions, candidates_to_read, engine_prompts};

/// Why sets cannot be ablated.
#[derive(Debug, thiserror::Error)]
pub enum AblateError {
    /// See [`EngineError`].
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// See [`PromptError`].
    #[error(transparent)]
    Prompts(Box<PromptError>),
    /// No answer can be told from another.
    #[error(
        "{task}: {model}'s tokenizer gives {n} different answers for the {names} candidate names, and accuracy needs 2 or \
         more: use names that are single tokens"
    )]
    FewCandidates {
        /// The task.
        task: String,
        /// The model.
        model: String,
        /// Different answers.
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

/// Ablates each of `sets` on the prompts of one split. The order of the heads in a set does not matter.
///
/// `observe` hears of progress and may stop the run ([`EngineError::Stopped`]).
///
/// # Errors
/// See [`AblateError`].
pub fn ablate_sets(
    decoder: &Decoder,
    prompts: &TokenizedPrompts,
    split: Split,
    sets: &[HeadSet],
    options: ScanOptions,
    observe: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<TaskOutcomes, AblateError> {
    if options.ablation == Ablation::Resample {
        prompts.require_resample(split)?;
    }
    let prompts = prompts.restricted_to(split);
    let candidates = prompts.candidate_ids();
    if candidates.len() < 2 {
        return Err(AblateError::FewCandidates {
            task: prompts.task.clone(),
            model: prompts.model.clone(),
            n: candidates.len(),
            names: prompts.candidates.len(),
        });
    }
    let mut asked = engine_prompts(&prompts);
    for (asked, prompt) in asked.iter_mut().zip(&prompts.prompts) {
        asked.read = candidates_to_read(&candidates, prompt);
    }
    let branches = branches(sets, options);
    let n_prompts = prompts.prompts.len();
    let empty = Outcome {
        mean_diff: vec![f32::NAN; n_prompts],
        logit_diff: vec![f32::NAN; n_prompts],
        correct: vec![false; n_prompts],
    };
    let mut outcomes = Outcomes {
        n_candidates: candidates.len(),
        base: empty.clone(),
        sets: vec![empty; sets.len()],
        observe,
    };
    cs_engine::run(decoder, &asked, &branches, options.engine, &mut outcomes)?;
    let Outcomes { base, sets, .. } = outcomes;
    Ok(TaskOutcomes {
        task: prompts.task.clone(),
        weights: prompts.prompts.iter().map(|p| p.weight).collect(),
        n_candidates: candidates.len(),
        base,
        sets,
    })
}

/// What [`ablate_sets`] costs on a model of this shape, without running it.
///
/// # Errors
/// See [`EngineError`].
pub fn cost(
    spec: &ModelSpec,
    prompts: &TokenizedPrompts,
    split: Split,
    sets: &[HeadSet],
    options: ScanOptions,
) -> Result<cs_engine::Cost, EngineError> {
    let prompts = engine_prompts(&prompts.restricted_to(split));
    cs_engine::cost(spec, &prompts, &branches(sets, options), options.engine)
}

/// One branch per set.
fn branches(sets: &[HeadSet], options: ScanOptions) -> Vec<Branch> {
    let replacement = options.ablation.replacement(options.value_bias);
    let heads = |set: &HeadSet| set.iter().map(|&(l, h)| (l as usize, h as usize)).collect::<Vec<_>>();
    sets.iter().map(|set| Branch::ablate(heads(set), replacement)).collect()
}

/// Receives the candidates' logits and keeps what is compared.
struct Outcomes<'a> {
    n_candidates: usize,
    base: Outcome,
    sets: Vec<Outcome>,
    observe: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
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
        (self.observe)(progress)
    }
}
