//! The second wave: the experiments on each model once all scans exist, run piece by piece and joined.

use std::path::Path;

use cs_analysis::ablation::{HeadSet, Outcome};
use cs_analysis::attention::TaskAttention;
use cs_analysis::contrast::Contrast;
use cs_analysis::effects::HeadEffects;
use cs_analysis::files::{read_json, write_json};
use cs_analysis::layout::Layout;
use cs_analysis::roles::RolesFile;
use cs_analysis::study_scans::StudyScans;
use cs_circuits::ablate::{self, Underway, subsample};
use cs_circuits::prompts::{PromptSet, TokenizedPrompts};
use cs_engine::intervention::Stream;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::costs::{Model, Planned};
use super::super::experiment::{StudyHeads, TestedModel};
use super::super::roles::measure_roles;
use super::plan::{Unit, UnitKind};
use super::results;
use crate::args::RunArgs;
use crate::digest::Digest256;
use crate::error::CliError;
use crate::handle::{LazyDecoder, ModelHandle};
use crate::measured::Measured;
use crate::partial::Partial;
use crate::progress::Display;

/// The experiments on a model, as items that can be divided.
pub struct Experiments {
    /// By task, in the study's order.
    pub of_tasks: Vec<OfTask>,
}

/// The experiments of all contrasts on one task.
#[derive(Default)]
pub struct OfTask {
    /// Whether there is any contrast.
    pub is_contrasted: bool,
    /// Heads to trace.
    pub traced: Vec<(u32, u32)>,
    /// Sets to run on all held-out prompts.
    pub heroes: Vec<HeadSet>,
    /// The random sets that will be needed as predicted from the scans, in order of their heads.
    pub random: Vec<HeadSet>,
}

impl Experiments {
    /// The experiments on a model: according to its scans, or placeholders without scans.
    pub fn of(model: &Model<'_>, contrasts: &[Planned]) -> Self {
        let mut of_tasks: Vec<OfTask> = model.tokenized.iter().map(|_| OfTask::default()).collect();
        for planned in contrasts {
            // A model may be missing from a contrast.
            if planned.heads.as_ref().is_some_and(|heads| heads.of_model(&model.handle.name).is_none()) {
                continue;
            }
            let (heroes, rounds) = model.sets(planned);
            for (task, rounds) in planned.contrast.tasks().into_iter().zip(rounds) {
                let Some(at) = model.tokenized.iter().position(|p| p.task == task) else { continue };
                let of_task = &mut of_tasks[at];
                of_task.is_contrasted = true;
                of_task.traced.extend(model.traced_heads(planned));
                of_task.heroes.extend(heroes.iter().cloned());
                of_task.random.extend(rounds.into_iter().flatten());
            }
        }
        for of_task in &mut of_tasks {
            of_task.traced.sort_unstable();
            of_task.traced.dedup();
            for sets in [&mut of_task.heroes, &mut of_task.random] {
                sets.sort_unstable();
                sets.dedup();
            }
        }
        Self { of_tasks }
    }
}

impl OfTask {
    /// The sets of a unit.
    fn sets(&self, unit: &Unit) -> &[HeadSet] {
        items(if unit.kind == UnitKind::HeroSets { &self.heroes } else { &self.random }, unit)
    }
}

/// The items of a unit; a line without items has an empty unit.
fn items<'a, T>(all: &'a [T], unit: &Unit) -> &'a [T] {
    &all[unit.from.min(all.len())..unit.to.min(all.len())]
}

/// The contents of a study's gathered scans.
pub struct Gathered {
    /// Effects of every head.
    pub effects: HeadEffects,
    /// Each contrast with its heads.
    pub contrasts: Vec<Planned>,
}

impl Gathered {
    /// Reads the scans of these models on these tasks.
    ///
    /// # Errors
    /// Scans that are missing or inconsistent.
    pub fn read(args: &RunArgs, models: &[String], tasks: &[String]) -> Result<Self, CliError> {
        let tables = &args.tables;
        let scans = StudyScans::read_all(&Layout::new(&tables.study.out), tasks, models)?;
        let planned = |contrast: Contrast| {
            let heads = StudyHeads::new(&scans.joint(&contrast, tables.tau)?, tables.tau, tables.top_k)?;
            Ok::<_, CliError>(Planned { contrast, heads: Some(heads) })
        };
        let contrasts = Contrast::choose(&tables.contrasts.contrast, tasks)?;
        let contrasts = contrasts.into_iter().map(planned).collect::<Result<_, _>>()?;
        Ok(Self { effects: scans.effects()?, contrasts })
    }

    /// A model to experiment on.
    ///
    /// # Errors
    /// A model that was not scanned, or with other weights.
    pub fn tested<'a>(
        &'a self,
        layout: &Layout,
        handle: &'a ModelHandle,
    ) -> Result<TestedModel<'a>, CliError> {
        let tasks: Vec<&str> = self.effects.tasks.iter().map(String::as_str).collect();
        let model = self.effects.models.iter().find(|m| m.info.model == handle.name);
        let model = model.ok_or_else(|| CliError::not_scanned(&handle.name, &tasks, layout.root()))?;
        TestedModel::new(layout, &model.info, &tasks, handle)
    }
}

/// A model's prompts, task by task.
///
/// # Errors
/// Prompts that its tokenizer cannot read.
pub fn tokenize(prompts: &[PromptSet], handle: &ModelHandle) -> Result<Vec<TokenizedPrompts>, CliError> {
    prompts.iter().map(|set| Ok(set.tokenize(handle)?)).collect()
}

/// A model to experiment on.
pub struct Bench<'a> {
    pub tested: &'a TestedModel<'a>,
    pub experiments: &'a Experiments,
    pub args: &'a RunArgs,
}

/// A part's attention results and their inputs.
#[derive(Serialize, Deserialize)]
struct Attention {
    inputs: Digest256,
    attention: TaskAttention,
}

/// A part's role results and their inputs.
#[derive(Serialize, Deserialize)]
struct Roles {
    inputs: Digest256,
    roles: RolesFile,
}

/// The inputs of a unit's results.
fn inputs(part: &Digest256, unit: &Unit) -> Digest256 {
    Digest256::of(&json!([part, unit]))
}

impl Bench<'_> {
    /// The index of a unit's task.
    fn task(&self, unit: &Unit) -> usize {
        self.tested.prompts.iter().position(|p| p.task == unit.task).unwrap_or(0)
    }

    fn of_task(&self, task: usize) -> &OfTask {
        &self.experiments.of_tasks[task]
    }

    /// The held-out prompts of a task on which a unit's sets are run, if not all of them.
    fn places(&self, unit: &Unit, task: usize) -> Option<Vec<usize>> {
        let n = self.args.sets.random_prompts(self.args.measure.effort.effort);
        let options = self.args.measure.scan_options();
        let of_task = || subsample(&self.tested.prompts[task], self.tested.split, n, options);
        (unit.kind == UnitKind::RandomSets).then(of_task)
    }

    /// Runs a unit, resuming if it was interrupted, and writes its results to `path`.
    ///
    /// # Errors
    /// A model that cannot be run, or files that cannot be written.
    pub fn measure(
        &self,
        unit: &Unit,
        (part, path): (&Digest256, &Path),
        decoder: &LazyDecoder<'_>,
        display: Display,
    ) -> Result<(), CliError> {
        let inputs = inputs(part, unit);
        if self.is_found(unit, part, path) {
            return Ok(());
        }
        let (name, task) = (&unit.model, self.task(unit));
        let prompts = &self.tested.prompts[task];
        let engine = self.args.measure.scan_options().engine;
        match unit.kind {
            UnitKind::Scan => Ok(()),
            UnitKind::Attend => {
                let prompts = prompts.restricted_to(self.tested.split);
                let bar = display.bar("attend", name, &unit.task, 1, "tasks");
                let mut observe = |done, total| {
                    // Attention is read too fast to be worth stopping.
                    let _ = bar.advance(done, total);
                };
                let (set, handle) = (&self.tested.sets[task], self.tested.handle);
                let decoder = decoder.get()?;
                let attention =
                    cs_circuits::attention::attend(decoder, set, &prompts, handle, engine, &mut observe)
                        .map_err(|source| CliError::Attend { model: name.clone(), source })?;
                Ok(write_json(path, &Attention { inputs, attention })?)
            }
            UnitKind::Roles => {
                let roles = measure_roles(self.tested, decoder.get()?, engine.memory, display)?;
                Ok(write_json(path, &Roles { inputs, roles })?)
            }
            UnitKind::Trace => {
                let pairs = prompts.tracing_pairs(self.tested.split);
                let heads = items(&self.of_task(task).traced, unit);
                let bar = display.bar("trace", name, &unit.task, heads.len() as u64, "heads");
                let mut observe = |progress: cs_engine::Progress| bar.advance(progress.done, progress.total);
                let decoder = decoder.get()?;
                let trace =
                    cs_circuits::trace::trace(decoder, &pairs, heads, Stream::V, engine, &mut observe)
                        .map_err(|source| CliError::Trace { model: name.clone(), source })?;
                let numbers = [&trace.clean, &trace.corrupted].into_iter().chain(&trace.influences).flatten();
                results::write(path, &inputs, numbers.copied())
            }
            UnitKind::HeroSets | UnitKind::RandomSets => {
                let (places, sets) = (self.places(unit, task), self.of_task(task).sets(unit));
                let mut partial = Partial::read(
                    &path.with_extension("partial"),
                    &inputs,
                    &self.tested.handle.compute.kind(),
                );
                let n_prompts = self.n_prompts(task, places.as_deref());
                let known =
                    partial.known.chunks_exact((3 * n_prompts).max(1)).map(Outcome::from_numbers).collect();
                let bar = display.bar("ablate", name, &unit.task, sets.len() as u64, "sets");
                let mut observe = |underway: Underway<'_>| {
                    if partial.is_due() {
                        let numbers: Vec<f32> = underway.sets.iter().flat_map(Outcome::numbers).collect();
                        partial.keep(&numbers);
                    }
                    bar.advance(underway.progress.done, underway.progress.total)
                };
                let (split, scan) = (self.tested.split, self.args.measure.scan_options());
                let decoder = decoder.get()?;
                let outcomes = ablate::resume(
                    decoder,
                    prompts,
                    (split, places.as_deref()),
                    sets,
                    scan,
                    known,
                    &mut observe,
                )
                .map_err(|source| CliError::Ablate { model: name.clone(), source })?;
                let numbers =
                    std::iter::once(&outcomes.base).chain(&outcomes.sets).flat_map(Outcome::numbers);
                results::write(path, &inputs, numbers.map(f64::from))?;
                partial.finish();
                Ok(())
            }
        }
    }

    fn n_prompts(&self, task: usize, places: Option<&[usize]>) -> usize {
        let all = || self.tested.prompts[task].of_split(self.tested.split).count();
        places.map_or_else(all, <[usize]>::len)
    }

    /// Whether a unit's results exist.
    fn is_found(&self, unit: &Unit, part: &Digest256, path: &Path) -> bool {
        self.collect(unit, (part, path), &mut Measured::default())
    }

    /// Adds a unit's results to `measured`; returns whether they existed.
    pub fn collect(&self, unit: &Unit, (part, path): (&Digest256, &Path), measured: &mut Measured) -> bool {
        self.try_collect(unit, (part, path), measured).is_some()
    }

    fn try_collect(
        &self,
        unit: &Unit,
        (part, path): (&Digest256, &Path),
        measured: &mut Measured,
    ) -> Option<()> {
        let (inputs, task) = (inputs(part, unit), self.task(unit));
        let of = (unit.model.clone(), unit.task.clone());
        match unit.kind {
            UnitKind::Scan => {}
            UnitKind::Attend => {
                let found: Attention = read_json(path, "").ok()?;
                (found.inputs == inputs).then_some(())?;
                measured.add_attention(of, found.attention);
            }
            UnitKind::Roles => {
                let found: Roles = read_json(path, "").ok()?;
                (found.inputs == inputs).then_some(())?;
                measured.add_roles(of.0, found.roles);
            }
            UnitKind::Trace => {
                let pairs = self.tested.prompts[task].tracing_pairs(self.tested.split).pairs.len();
                let heads = items(&self.of_task(task).traced, unit);
                let numbers = results::read(path, &inputs, (2 + heads.len()) * pairs)?;
                let mut rows = numbers.chunks_exact(pairs.max(1)).map(<[f64]>::to_vec);
                let plain = [rows.next()?, rows.next()?];
                measured.add_traces(of, plain, heads.iter().copied().zip(rows));
            }
            UnitKind::HeroSets | UnitKind::RandomSets => {
                let (places, sets) = (self.places(unit, task), self.of_task(task).sets(unit));
                let row = 3 * self.n_prompts(task, places.as_deref());
                let numbers = results::read(path, &inputs, (1 + sets.len()) * row)?;
                let numbers: Vec<f32> = numbers.into_iter().map(|x| x as f32).collect();
                let mut outcomes = numbers.chunks_exact(row.max(1)).map(Outcome::from_numbers);
                let base = outcomes.next()?;
                measured.add_sets((of, places.is_some()), base, sets.iter().cloned().zip(outcomes));
            }
        }
        Some(())
    }
}
