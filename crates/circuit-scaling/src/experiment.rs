//! Experiments on a [`Model`]'s heads for a task: scans, set ablation and tracing.

use cs_analysis::ablation::{HeadSet, TaskOutcomes};
use cs_analysis::head_id::HeadId;
use cs_analysis::per_prompt::PerPromptScan;
use cs_analysis::scan_file::{Resampling, ScanFile};
use cs_analysis::scan_summary::{SummaryOptions, summarise_scan};
use cs_analysis::tracing::TaskTrace;
use cs_circuits::ablate::ablate_sets;
use cs_circuits::prompts::{PromptOptions, PromptSet, Split, TokenizedPrompts, TracingPairs};
use cs_circuits::scan::{ScanOptions, Underway};
use cs_circuits::task::Task;
use cs_engine::intervention::Stream;

use crate::error::CliError;
use crate::left_out::left_out;
use crate::model::{Model, Observer};
use crate::scan_meta::scan_meta;

/// A task and how to measure it: the options of `circuit-scaling scan`, with its defaults.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The task.
    pub task: Task,
    /// The options for drawing its prompts.
    pub prompts: PromptOptions,
    /// What replaces an ablated head's output, and the memory limit.
    pub ablation: ScanOptions,
    /// Resamples of intervals and p-values.
    pub resampling: Resampling,
}

impl Setup {
    /// A task with every option at its default.
    pub fn new(task: Task) -> Self {
        let SummaryOptions { resampling, .. } = SummaryOptions::default();
        Self { task, prompts: PromptOptions::default(), ablation: ScanOptions::default(), resampling }
    }

    /// The same for a built-in task by name, or a task's file.
    ///
    /// # Errors
    /// A name that is neither, or a file without a valid task.
    pub fn of(task: &str) -> Result<Self, CliError> {
        Ok(Self::new(Task::load(task)?))
    }
}

/// The results of a scan.
#[derive(Clone, Debug)]
pub struct HeadScan {
    /// Every head's Δ with its intervals and p-values; the contents of `results/…_scan_<model>.json`.
    pub file: ScanFile,
    /// Logit differences of every prompt, with each head ablated and without ablation.
    pub per_prompt: PerPromptScan,
    /// The prompts, in the order of `per_prompt`.
    pub prompts: TokenizedPrompts,
    /// What was left out of the task, one line each.
    pub notes: Vec<String>,
}

/// The results of set ablation.
#[derive(Clone, Debug)]
pub struct AblatedSets {
    /// Outcomes of every prompt with every set ablated, and without ablation.
    pub outcomes: TaskOutcomes,
    /// The prompts, in the order of `outcomes`.
    pub prompts: TokenizedPrompts,
    /// What was left out of the task, one line each.
    pub notes: Vec<String>,
}

/// The results of tracing.
#[derive(Clone, Debug)]
pub struct TracedHeads {
    /// The heads, in the order of `trace`.
    pub heads: Vec<HeadId>,
    /// Influence of every head on every pair.
    pub trace: TaskTrace,
    /// The pairs, in the order of `trace`.
    pub pairs: TracingPairs,
    /// What was left out of the task, one line each.
    pub notes: Vec<String>,
}

impl Model {
    /// The prompts for the model.
    ///
    /// # Errors
    /// Too few names that are single tokens for the model's tokenizer, or options that the task does not
    /// support.
    pub fn prompts(&self, setup: &Setup) -> Result<TokenizedPrompts, CliError> {
        Ok(self.ask(setup)?.1)
    }

    /// The prompts, as text and as tokens, and what was left out of the task.
    fn ask(&self, setup: &Setup) -> Result<(PromptSet, TokenizedPrompts, Vec<String>), CliError> {
        self.tokenizer()?;
        let set = PromptSet::resolve(&setup.task, &setup.prompts, &[&self.handle])?;
        let (prompts, notes) = (set.tokenize(&self.handle)?, left_out(&setup.task, &set));
        Ok((set, prompts, notes))
    }

    /// Ablates each of `heads`, or every head, individually. The results are bit-identical to `circuit-scaling scan`
    /// with the same options.
    ///
    /// # Errors
    /// Those of [`Self::prompts`]; a head that the model does not have; prompts without references under mean and resample
    /// ablation; a run that `observe` stops.
    pub fn scan(
        &self,
        setup: &Setup,
        heads: Option<&[HeadId]>,
        observe: Observer<'_>,
    ) -> Result<HeadScan, CliError> {
        let (set, prompts, notes) = self.ask(setup)?;
        let meta = scan_meta(&self.handle, &set, setup.ablation, heads);
        let mut observe = |underway: Underway<'_>| observe(underway.progress);
        let per_prompt = cs_circuits::scan::scan(&self.decoder, &prompts, meta, setup.ablation, &mut observe)
            .map_err(|source| CliError::Scan { model: self.name().to_owned(), source })?;
        let summary = SummaryOptions { resampling: setup.resampling.clone(), ..SummaryOptions::default() };
        let file = summarise_scan(&per_prompt, &summary)?;
        Ok(HeadScan { file, per_prompt, prompts, notes })
    }

    /// Ablates each of `sets` of (layer, head) together, on the prompts of one split.
    ///
    /// # Errors
    /// See [`Self::scan`].
    pub fn ablate(
        &self,
        setup: &Setup,
        sets: &[HeadSet],
        split: Split,
        observe: Observer<'_>,
    ) -> Result<AblatedSets, CliError> {
        self.check_heads(sets.iter().flatten().map(|&(layer, head)| HeadId { layer, head }))?;
        let (_, prompts, notes) = self.ask(setup)?;
        let outcomes = ablate_sets(&self.decoder, &prompts, (split, None), sets, setup.ablation, observe)
            .map_err(|source| CliError::Ablate { model: self.name().to_owned(), source })?;
        Ok(AblatedSets { outcomes, prompts: prompts.restricted_to(split), notes })
    }

    /// Patches a stream of each of `heads`, or of every head, individually from clean into corrupted runs, on one
    /// split.
    ///
    /// # Errors
    /// As [`Self::scan`]; prompts without corrupted versions of equal length.
    pub fn trace(
        &self,
        setup: &Setup,
        heads: Option<&[HeadId]>,
        stream: Stream,
        split: Split,
        observe: Observer<'_>,
    ) -> Result<TracedHeads, CliError> {
        let heads = heads.map_or_else(|| self.heads(), <[HeadId]>::to_vec);
        self.check_heads(heads.iter().copied())?;
        let (_, prompts, notes) = self.ask(setup)?;
        let pairs = prompts.tracing_pairs(split);
        let places: Vec<(u32, u32)> = heads.iter().map(|head| (head.layer, head.head)).collect();
        let options = setup.ablation.engine;
        let trace = cs_circuits::trace::trace(&self.decoder, &pairs, &places, stream, options, observe)
            .map_err(|source| CliError::Trace { model: self.name().to_owned(), source })?;
        Ok(TracedHeads { heads, trace, pairs, notes })
    }
}

impl HeadScan {
    /// Δ of a head, in logits: mean logit difference with it ablated minus without; `None` for a head that was not scanned.
    pub fn delta(&self, head: HeadId) -> Option<f64> {
        let of_head = |h: &&cs_analysis::scan_file::HeadDelta| (h.layer, h.head) == (head.layer, head.head);
        self.file.heads.iter().find(of_head).map(|h| h.delta)
    }
}
