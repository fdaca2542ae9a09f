//! Causal tracing: one head's stream from the clean run, patched into the corrupted run.
//!
//! See [`cs_analysis::tracing`] for the definitions and the output.

use std::ops::ControlFlow;

use cs_analysis::tracing::TaskTrace;
use cs_engine::decoder::Decoder;
use cs_engine::intervention::{Branch, Replacement, Stream};
use cs_engine::{EngineError, Progress, Reading, Readings, Receiver};
use cs_model::spec::ModelSpec;

use crate::prompts::{TracingPair, TracingPairs};

/// Errors of tracing.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// See [`EngineError`].
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Nothing to trace on.
    #[error("{task}: no prompt has a corrupted version of equal length in {model}'s tokens: {fix}")]
    NoPairs {
        /// The task.
        task: String,
        /// The model.
        model: String,
        /// What to do.
        fix: &'static str,
    },
}

/// Patches `stream` of each of `heads` (layer, head), one at a time and at all positions, from the clean run of every pair
/// into its corrupted run. Logit differences are for the clean prompt's answers in all runs.
///
/// `observe` receives progress and may stop the run ([`EngineError::Stopped`]).
///
/// # Errors
/// See [`TraceError`].
pub fn trace(
    decoder: &Decoder,
    pairs: &TracingPairs,
    heads: &[(u32, u32)],
    stream: Stream,
    options: cs_engine::Options,
    observe: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<TaskTrace, TraceError> {
    if pairs.pairs.is_empty() {
        let fix = match pairs.from_file {
            true => "give each row of the file a `corrupted` of as many tokens as `clean`",
            false => "use --protocol standard, or names that are single tokens",
        };
        return Err(TraceError::NoPairs { task: pairs.task.clone(), model: pairs.model.clone(), fix });
    }
    let n_pairs = pairs.pairs.len();
    let (prompts, branches) = (corrupted(pairs), branches(heads, stream));
    let mut patched = Differences {
        plain: vec![f64::NAN; n_pairs],
        branches: vec![vec![f64::NAN; n_pairs]; heads.len()],
        observe,
    };
    cs_engine::run(decoder, &prompts, &branches, options, &mut patched)?;

    let clean = clean(prompts);
    let clean = Readings::collect(decoder, &clean, &[], options)?;
    let Differences { plain: corrupted, mut branches, .. } = patched;
    for patched in &mut branches {
        patched.iter_mut().zip(&corrupted).for_each(|(patched, corrupted)| *patched -= corrupted);
    }
    Ok(TaskTrace {
        task: pairs.task.clone(),
        clean: (0..n_pairs).map(|pair| difference(clean.plain(pair))).collect(),
        corrupted,
        influences: branches,
        weights: pairs.pairs.iter().map(|pair| pair.weight).collect(),
        n_left_out: pairs.left_out.len(),
    })
}

/// The cost of [`trace()`] on a model of this shape, without running it.
///
/// # Errors
/// See [`EngineError`].
pub fn cost(
    spec: &ModelSpec,
    pairs: &TracingPairs,
    heads: &[(u32, u32)],
    stream: Stream,
    options: cs_engine::Options,
) -> Result<cs_engine::Cost, EngineError> {
    let prompts = corrupted(pairs);
    let patched = cs_engine::cost(spec, &prompts, &branches(heads, stream), options)?;
    Ok(patched.and(cs_engine::cost(spec, &clean(prompts), &[], options)?))
}

/// The corrupted prompts, with the clean ones as their sources.
fn corrupted(pairs: &TracingPairs) -> Vec<cs_engine::Prompt> {
    let prompt = |pair: &TracingPair| cs_engine::Prompt {
        tokens: pair.corrupted_token_ids.clone(),
        source: Some(pair.clean_token_ids.clone()),
        weight: f64::from(pair.weight),
        read: vec![pair.correct_id, pair.distractor_id],
        ..cs_engine::Prompt::default()
    };
    pairs.pairs.iter().map(prompt).collect()
}

/// The clean prompts for the result of [`corrupted`].
fn clean(corrupted: Vec<cs_engine::Prompt>) -> Vec<cs_engine::Prompt> {
    let swap = |prompt: cs_engine::Prompt| cs_engine::Prompt {
        tokens: prompt.source.unwrap_or_default(),
        source: None,
        ..prompt
    };
    corrupted.into_iter().map(swap).collect()
}

/// One branch per head.
fn branches(heads: &[(u32, u32)], stream: Stream) -> Vec<Branch> {
    let patch = |&(layer, head): &(u32, u32)| {
        Branch::patch([(layer as usize, head as usize)], stream, Replacement::Source)
    };
    heads.iter().map(patch).collect()
}

/// Correct − distractor.
fn difference(logits: &[f64]) -> f64 {
    logits[0] - logits[1]
}

/// Receives logits and records their differences.
struct Differences<'a> {
    plain: Vec<f64>,         // [n_pairs]
    branches: Vec<Vec<f64>>, // [n_heads][n_pairs]
    observe: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
}

impl Receiver for Differences<'_> {
    fn reading(&mut self, reading: Reading<'_>) {
        let row = match reading.branch {
            None => &mut self.plain,
            Some(branch) => &mut self.branches[branch],
        };
        for (&pair, logits) in reading.prompts.iter().zip(reading.logits.chunks_exact(2)) {
            row[pair] = difference(logits);
        }
    }

    fn progress(&mut self, progress: Progress) -> ControlFlow<()> {
        (self.observe)(progress)
    }
}
