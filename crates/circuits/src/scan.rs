//! The head scan: ablates every head of a model, one at a time, on every prompt of a task.
//!
//! Δ of a head is the mean logit difference (correct − distractor, at the prompt's last token) with the head ablated
//! minus without. A scan records the logit difference of every prompt under every ablation; means, intervals and
//! p-values are computed from it without the model ([`cs_analysis::scan_summary`]).

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::str::FromStr;

use cs_analysis::head_id::HeadId;
use cs_analysis::per_prompt::PerPromptScan;
use cs_analysis::scan_file::ScanMeta;
use cs_engine::decoder::Decoder;
use cs_engine::intervention::{Branch, Replacement};
use cs_engine::{EngineError, Progress, Reading, Readings, Receiver};
use cs_model::spec::ModelSpec;
use serde::{Deserialize, Serialize};

use crate::direct::{self, direct_effects};
use crate::prompts::{PromptError, Reference, Split, TokenizedPrompt, TokenizedPrompts};

/// The replacement of an ablated head's `z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ablation {
    /// Only its input-independent part, or nothing: see [`ValueBias`].
    #[default]
    Zero,
    /// Its mean over the [reference prompts](Reference) of the same split, template and token length, position by position.
    Mean,
    /// Its value on one of the prompt's reference prompts.
    Resample,
}

/// How zero ablation treats the input-independent part of a head's value, `c_h = b_V + β W_V`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ValueBias {
    /// As part of the output bias: it is kept when the head is zeroed, as when zeroing `hook_z` in a `HookedTransformer`
    /// with its default weight processing, or in a TransformerLens 4 bridge after `enable_compatibility_mode()`.
    #[default]
    Folded,
    /// As part of the head: it is removed when the head is zeroed, as with a hook on a Hugging Face module, or in a
    /// TransformerLens 4 `TransformerBridge` by default.
    InHead,
}

impl Ablation {
    /// Name on the command line and in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Ablation::Zero => "zero",
            Ablation::Mean => "mean",
            Ablation::Resample => "resample",
        }
    }
}

impl ValueBias {
    /// Name on the command line and in files.
    pub fn as_str(self) -> &'static str {
        match self {
            ValueBias::Folded => "folded",
            ValueBias::InHead => "in-head",
        }
    }
}

impl fmt::Display for Ablation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for ValueBias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Ablation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Zero, Self::Mean, Self::Resample]
            .into_iter()
            .find(|a| a.as_str() == text)
            .ok_or_else(|| format!("unknown ablation `{text}`: use zero, mean or resample"))
    }
}

impl FromStr for ValueBias {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Folded, Self::InHead]
            .into_iter()
            .find(|v| v.as_str() == text)
            .ok_or_else(|| format!("unknown value bias `{text}`: use folded or in-head"))
    }
}

/// How heads are ablated, and the limits of the forward pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScanOptions {
    /// What replaces an ablated head's `z`.
    pub ablation: Ablation,
    /// Treatment of value biases, under zero ablation.
    pub value_bias: ValueBias,
    /// The source of values, under mean and resample ablation.
    pub reference: Reference,
    /// Limits of the forward pass.
    pub engine: cs_engine::Options,
}

impl ScanOptions {
    /// The ablation as a replacement of `z`.
    pub fn replacement(self) -> Replacement {
        match (self.ablation, self.value_bias, self.reference) {
            (Ablation::Zero, ValueBias::Folded, _) => Replacement::ValueBias,
            (Ablation::Zero, ValueBias::InHead, _) => Replacement::Zero,
            (Ablation::Mean, _, Reference::Abc) => Replacement::GroupMean,
            (Ablation::Mean, _, Reference::Same) => Replacement::OthersMean,
            (Ablation::Resample, ..) => Replacement::Source,
        }
    }

    /// The name of the reference prompts in files; none if the ablation uses none.
    pub fn reference_name(self) -> Option<String> {
        (self.ablation != Ablation::Zero).then(|| self.reference.to_string())
    }
}

/// Errors of a scan.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// See [`EngineError`].
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// See [`PromptError`].
    #[error(transparent)]
    Prompts(Box<PromptError>),
    /// A head that the model does not have.
    #[error(
        "there is no head {head}: the model has {n_layers} layers of {n_heads} heads, both counted from 0"
    )]
    NoSuchHead {
        /// The requested head.
        head: HeadId,
        /// Layers of the model.
        n_layers: u32,
        /// Heads per layer.
        n_heads: u32,
    },
    /// The forward pass gave NaN or an infinity.
    #[error(
        "the logit difference of prompt {prompt:?} is not a finite number: the model's weights overflow float32"
    )]
    NotFinite {
        /// The prompt's text.
        prompt: String,
    },
}

impl From<PromptError> for ScanError {
    fn from(error: PromptError) -> Self {
        Self::Prompts(Box::new(error))
    }
}

/// The state of a scan.
#[derive(Clone, Copy, Debug)]
pub struct Underway<'a> {
    /// Work done and in total.
    pub progress: Progress,
    /// Logit differences under each scanned head's ablation, `[n_scanned_heads, n_prompts]`; NaN if not measured yet.
    /// [`resume`] skips everything in it.
    pub ablated: &'a [f32],
}

/// Ablates every head of `decoder`, or those of [`ScanMeta::only_heads`], on all `prompts`.
///
/// `meta` describes the scan and is stored with it; its `n_layers`, `n_heads`, `ablation`, `value_bias` and `reference`
/// are filled in here. `observe` receives progress and may stop the scan ([`EngineError::Stopped`]).
///
/// # Errors
/// See [`ScanError`].
pub fn scan(
    decoder: &Decoder,
    prompts: &TokenizedPrompts,
    meta: ScanMeta,
    options: ScanOptions,
    observe: &mut dyn FnMut(Underway<'_>) -> ControlFlow<()>,
) -> Result<PerPromptScan, ScanError> {
    resume(decoder, prompts, meta, options, vec![], observe)
}

/// [`scan`] that skips what is in `known`: the [`Underway::ablated`] of an earlier scan with the same inputs, or
/// nothing. The result is bit-identical, since every logit depends only on its own prompt and branch.
///
/// # Errors
/// See [`ScanError`].
pub fn resume(
    decoder: &Decoder,
    prompts: &TokenizedPrompts,
    mut meta: ScanMeta,
    options: ScanOptions,
    known: Vec<f32>,
    observe: &mut dyn FnMut(Underway<'_>) -> ControlFlow<()>,
) -> Result<PerPromptScan, ScanError> {
    require_references(prompts, Split::All, options)?;
    let spec = decoder.spec();
    meta.n_layers = spec.n_layers as u32;
    meta.n_heads = spec.n_heads as u32;
    meta.ablation = options.ablation.to_string();
    meta.value_bias = options.value_bias.to_string();
    meta.reference = options.reference_name();

    if let Some(only) = &mut meta.only_heads {
        only.sort_unstable();
        only.dedup();
    }
    let heads = meta.scanned_heads();
    check_heads(spec, &heads)?;
    let branches = one_by_one(&heads, options);
    let n_prompts = prompts.prompts.len();
    let mut ablated = known;
    if ablated.len() != branches.len() * n_prompts {
        ablated = vec![f32::NAN; branches.len() * n_prompts];
    }
    let mut logit_differences =
        LogitDifferences { n_prompts, base: vec![f32::NAN; n_prompts], ablated, observe };
    let asked = engine_prompts(prompts, options);
    cs_engine::run(decoder, &asked, &branches, options.engine, &mut logit_differences)?;
    let LogitDifferences { base, ablated, .. } = logit_differences;
    let all = base.iter().chain(&ablated);
    if let Some(at) = all.into_iter().position(|x| !x.is_finite()) {
        let prompt = prompts.prompts[at % prompts.prompts.len()].text.clone();
        return Err(ScanError::NotFinite { prompt });
    }
    let direct = direct_effects(decoder, prompts, &heads, options.engine)?;
    if let Some(at) = direct.iter().flatten().position(|x| !x.is_finite()) {
        return Err(ScanError::NotFinite { prompt: prompts.prompts[at % n_prompts].text.clone() });
    }
    Ok(PerPromptScan {
        meta,
        base,
        ablated,
        direct,
        weight: prompts.prompts.iter().map(|p| p.weight).collect(),
        split: prompts.prompts.iter().map(|p| p.split).collect(),
        template: template_numbers(prompts),
        base_correct: correct_among_candidates(decoder, prompts, options.engine)?,
    })
}

/// Checks that a model has these heads.
///
/// # Errors
/// [`ScanError::NoSuchHead`]
pub fn check_heads(spec: &ModelSpec, heads: &[HeadId]) -> Result<(), ScanError> {
    let (n_layers, n_heads) = (spec.n_layers as u32, spec.n_heads as u32);
    match heads.iter().find(|id| id.layer >= n_layers || id.head >= n_heads) {
        Some(&head) => Err(ScanError::NoSuchHead { head, n_layers, n_heads }),
        None => Ok(()),
    }
}

/// The cost of [`scan`] on a model of this shape, without running it.
///
/// # Errors
/// See [`ScanError`].
pub fn cost(
    spec: &ModelSpec,
    prompts: &TokenizedPrompts,
    options: ScanOptions,
) -> Result<cs_engine::Cost, ScanError> {
    let heads: Vec<HeadId> = HeadId::all(spec.n_layers as u32, spec.n_heads as u32).collect();
    cost_of_heads(spec, prompts, &heads, options)
}

/// The same for some heads only.
///
/// # Errors
/// See [`ScanError`].
pub fn cost_of_heads(
    spec: &ModelSpec,
    prompts: &TokenizedPrompts,
    heads: &[HeadId],
    options: ScanOptions,
) -> Result<cs_engine::Cost, ScanError> {
    require_references(prompts, Split::All, options)?;
    let branches = one_by_one(heads, options);
    let asked = engine_prompts(prompts, options);
    let scan = cs_engine::cost(spec, &asked, &branches, options.engine)?;
    // Accuracy takes another plain run, and direct effects one more.
    let accuracy = cs_engine::cost(spec, &asked, &[], options.engine)?;
    Ok(scan.and(accuracy).and(direct::cost(spec, prompts, options.engine)?))
}

/// One branch per head.
fn one_by_one(heads: &[HeadId], options: ScanOptions) -> Vec<Branch> {
    let replacement = options.replacement();
    heads.iter().map(|id| Branch::ablate([(id.layer as usize, id.head as usize)], replacement)).collect()
}

/// Each prompt's template, numbered from 0 in order of appearance. `[n_distinct]`
fn template_numbers(prompts: &TokenizedPrompts) -> Vec<u32> {
    let mut numbers: BTreeMap<&str, u32> = BTreeMap::new();
    let number = |prompt| {
        let next = numbers.len() as u32;
        *numbers.entry(prompt).or_insert(next)
    };
    prompts.prompts.iter().map(|prompt| prompt.template.as_str()).map(number).collect()
}

/// For each prompt, whether the correct name has the highest logit among all candidates of the task.
///
/// # Errors
/// See [`ScanError`].
pub fn correct_among_candidates(
    decoder: &Decoder,
    prompts: &TokenizedPrompts,
    options: cs_engine::Options,
) -> Result<Vec<bool>, ScanError> {
    let candidates = prompts.candidate_ids();
    let mut plain = engine_prompts(prompts, ScanOptions::default());
    for (asked, prompt) in plain.iter_mut().zip(&prompts.prompts) {
        asked.read = candidates_to_read(&candidates, prompt);
    }
    let readings = Readings::collect(decoder, &plain, &[], options)?;
    let is_correct = |prompt| {
        let logits: &[f64] = readings.plain(prompt);
        logits[1..].iter().all(|&other| logits[0] > other)
    };
    Ok((0..plain.len()).map(is_correct).collect())
}

/// All candidates' tokens: the correct one, the distractor, and then the others.
pub(crate) fn candidates_to_read(candidates: &[u32], prompt: &TokenizedPrompt) -> Vec<u32> {
    let answers = [prompt.correct_id, prompt.distractor_id];
    let others = candidates.iter().copied().filter(|id| !answers.contains(id));
    answers.into_iter().chain(others).collect()
}

/// Checks that there is a replacement for every prompt's activations; [`scan`] does so first.
///
/// # Errors
/// Those of [`TokenizedPrompts::require_means`] and [`TokenizedPrompts::require_resample`].
pub fn require_references(
    prompts: &TokenizedPrompts,
    split: Split,
    options: ScanOptions,
) -> Result<(), PromptError> {
    match options.ablation {
        Ablation::Zero => Ok(()),
        Ablation::Mean => prompts.require_means(split, options.reference),
        Ablation::Resample => prompts.require_resample(split, options.reference),
    }
}

/// Prompts in the engine's form, with the groups, references and sources of the ablation; the correct and the distractor's
/// logits are read.
pub(crate) fn engine_prompts(prompts: &TokenizedPrompts, options: ScanOptions) -> Vec<cs_engine::Prompt> {
    let all: Vec<usize> = (0..prompts.prompts.len()).collect();
    some_engine_prompts(prompts, &all, options)
}

/// The same for some of the prompts; means are still over the references of all prompts.
pub(crate) fn some_engine_prompts(
    prompts: &TokenizedPrompts,
    places: &[usize],
    options: ScanOptions,
) -> Vec<cs_engine::Prompt> {
    let (ablation, reference) = (options.ablation, options.reference);
    let has_references = ablation == Ablation::Mean && reference == Reference::Abc;
    let as_read = |p: &TokenizedPrompt| cs_engine::Prompt {
        tokens: p.token_ids.clone(),
        source: p.resampled(reference).filter(|_| ablation == Ablation::Resample).map(<[u32]>::to_vec),
        group: 0,
        references: has_references.then(Vec::new),
        weight: if has_references { 1.0 } else { f64::from(p.weight) },
        read: vec![p.correct_id, p.distractor_id],
    };
    let mut asked: Vec<cs_engine::Prompt> = places.iter().map(|&p| as_read(&prompts.prompts[p])).collect();
    for (group, members) in prompts.mean_groups(Split::All).into_iter().enumerate() {
        let mut of_group: Vec<usize> = Vec::new();
        for (at, place) in places.iter().enumerate() {
            if members.contains(place) {
                asked[at].group = group as u32;
                of_group.push(at);
            }
        }
        // One prompt carries the references of all, each as often as its prompt was drawn, so that their sum is
        // bit-identical for any subset of prompts.
        if let Some(&first) = of_group.first()
            && let Some(references) = &mut asked[first].references
        {
            for prompt in members.iter().map(|&p| &prompts.prompts[p]) {
                let drawn = || prompt.references.iter().map(|reference| reference.token_ids.clone());
                (0..prompt.weight).for_each(|_| references.extend(drawn()));
            }
        }
    }
    asked
}

/// Receives logits and records their differences.
struct LogitDifferences<'a> {
    n_prompts: usize,
    base: Vec<f32>,    // [n_prompts]
    ablated: Vec<f32>, // [n_scanned_heads, n_prompts]
    observe: &'a mut dyn FnMut(Underway<'_>) -> ControlFlow<()>,
}

impl Receiver for LogitDifferences<'_> {
    fn reading(&mut self, reading: Reading<'_>) {
        let row = match reading.branch {
            None => &mut self.base[..],
            Some(head) => &mut self.ablated[head * self.n_prompts..][..self.n_prompts],
        };
        for (&prompt, logits) in reading.prompts.iter().zip(reading.logits.chunks_exact(2)) {
            row[prompt] = (logits[0] - logits[1]) as f32;
        }
    }

    fn progress(&mut self, progress: Progress) -> ControlFlow<()> {
        (self.observe)(Underway { progress, ablated: &self.ablated })
    }

    fn is_known(&self, head: usize, prompts: &[usize]) -> bool {
        prompts.iter().all(|&prompt| self.ablated[head * self.n_prompts + prompt].is_finite())
    }
}
