//! Cost estimates for the stages of a run that run models.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::hint::black_box;
use std::time::{Duration, Instant};

use cs_analysis::ablation::{
    AblationSettings, HeadSet, Outcome, Pool, TaskOutcomes, plan, run_random_sets, set_sizes,
};
use cs_analysis::contrast::Contrast;
use cs_analysis::head_id::HeadId;
use cs_analysis::layout::Layout;
use cs_analysis::per_prompt::PerPromptScan;
use cs_analysis::stats::bootstrap::{BootstrapOptions, bootstrap_means};
use cs_analysis::stats::{Seed, sign_flip_p_values};
use cs_analysis::study_scans::StudyScans;
use cs_circuits::ablate::{self, subsample};
use cs_circuits::prompts::{PromptSet, Split, TokenizedPrompts};
use cs_circuits::scan::{self, ScanOptions};
use cs_circuits::{attention, trace};
use cs_engine::intervention::Stream;
use cs_engine::{Cost, Rates};
use cs_model::spec::ModelSpec;

use super::experiment::StudyHeads;
use super::roles::repeated_tokens;
use crate::args::{RunArgs, Stage};
use crate::error::CliError;
use crate::handle::ModelHandle;

/// Calibration time of a `plan`, for all models together.
pub const CALIBRATION: Duration = Duration::from_secs(2);
/// Number of categories whose hero heads are traced.
const TRACED_CATEGORIES: usize = 3;

/// Hero sets, and each task's rounds of random sets.
pub(super) type PlannedSets = (Vec<HeadSet>, [Vec<Vec<HeadSet>>; 2]);

/// One stage of one model.
pub struct StageCost {
    /// The stage.
    pub stage: Stage,
    /// The model.
    pub model: String,
    /// Heads or sets of heads, over all tasks.
    pub n_branches: usize,
    /// Work of the forward passes.
    pub cost: Cost,
    /// Numbers resampled: series × prompts × resamples.
    resampled: f64,
    timing: Option<Timing>,
}

/// The speed of a model's device, and of resampling on this machine's CPU, in numbers per second.
#[derive(Clone, Copy)]
struct Timing {
    rates: Rates,
    statistics: f64,
}

impl StageCost {
    /// The estimated time of the stage in seconds; `None` before [`time`], or if this machine does not have the
    /// device.
    pub fn seconds(&self) -> Option<f64> {
        let Timing { rates, statistics } = self.timing.as_ref()?;
        Some(self.cost.seconds(rates) + self.resampled / statistics)
    }
}

/// Times the devices of models, if this machine has them, for about `calibration`.
///
/// # Errors
/// If a device fails.
pub fn time(costs: &mut [StageCost], handles: &[ModelHandle], calibration: Duration) -> Result<(), CliError> {
    let statistics = resampling_rate(calibration / 8);
    for (handle, rates) in handles.iter().zip(rates(handles, calibration)?) {
        let timing = rates.map(|rates| Timing { rates, statistics });
        costs.iter_mut().filter(|cost| cost.model == handle.name).for_each(|cost| cost.timing = timing);
    }
    Ok(())
}

/// The costs of every stage of a run that runs a model, stage by stage.
///
/// Hero heads are known once a study has its scans: if the folder of `args` has those of all models, stages that need them
/// are counted as they will be run, with as many random sets as the sums of their heads' effects require. Without scans, hero
/// heads are assumed to be spread over the model, and to differ from random ones at every size.
///
/// # Errors
/// Prompts that a model cannot read, or a run that does not fit into memory.
pub fn costs(
    args: &RunArgs,
    handles: &[ModelHandle],
    prompts: &[PromptSet],
) -> Result<Vec<StageCost>, CliError> {
    let stages = args.stages();
    let layout = Layout::new(&args.tables.study.out);
    let tasks: Vec<String> = prompts.iter().map(|p| p.task.name().to_owned()).collect();
    let contrasts = Contrast::choose(&args.tables.contrasts.contrast, &tasks)?;
    let names: Vec<String> = handles.iter().map(|s| s.name.clone()).collect();
    let scans = StudyScans::read_all(&layout, &tasks, &names).ok();
    let heads = |contrast: &Contrast| {
        let joint = scans.as_ref()?.joint(contrast, args.tables.tau).ok()?;
        StudyHeads::new(&joint, args.tables.tau, args.tables.top_k).ok()
    };
    let contrasts: Vec<Planned> =
        contrasts.into_iter().map(|contrast| Planned { heads: heads(&contrast), contrast }).collect();
    let mut costs = Vec::new();
    for handle in handles {
        let tokenized =
            prompts.iter().map(|p| Ok(p.tokenize(handle)?)).collect::<Result<Vec<_>, CliError>>()?;
        let model = Model {
            args,
            handle,
            tokenized: &tokenized,
            layout: &layout,
            options: handle.scan_options(args.measure.scan_options()),
        };
        for &stage in &stages {
            let Some((n_branches, cost, resampled)) = model.cost(stage, &contrasts)? else { continue };
            let model = handle.name.clone();
            costs.push(StageCost { stage, model, n_branches, cost, resampled, timing: None });
        }
    }
    costs.sort_by_key(|cost| stages.iter().position(|&s| s == cost.stage));
    Ok(costs)
}

/// Each model's rates on its device, measured for the time `calibration`; `None` if this machine does not have the
/// device.
///
/// # Errors
/// If a device fails.
pub(super) fn rates(handles: &[ModelHandle], calibration: Duration) -> Result<Vec<Option<Rates>>, CliError> {
    // Models with the same widths run at the same rate.
    let widths = |s: &ModelHandle| {
        let spec = s.spec();
        (s.compute.clone(), s.halves(), spec.d_model, spec.d_mlp, spec.d_head, spec.activation)
    };
    let n_widths = handles.iter().map(widths).collect::<std::collections::HashSet<_>>().len();
    let budget = calibration / n_widths.max(1) as u32;
    let mut known: HashMap<_, Option<Rates>> = HashMap::new();
    let mut all = Vec::new();
    for handle in handles {
        let rates = match known.entry(widths(handle)) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(slot) if !handle.compute.is_here() => *slot.insert(None),
            Entry::Vacant(slot) => {
                let rates = Rates::measure_on(&handle.compute, handle.spec(), handle.halves(), budget)?;
                *slot.insert(Some(rates))
            }
        };
        all.push(rates);
    }
    Ok(all)
}

/// Numbers resampled per second, by bootstrap means and sign flips together.
fn resampling_rate(budget: Duration) -> f64 {
    let series = vec![(0..240).map(|i| f64::from(i * 37 % 101)).collect::<Vec<f64>>(); 8];
    let weights = vec![1; 240];
    let options = BootstrapOptions { n_resamples: 512, level: 0.95, thresholds: vec![0.05; 5] };
    let seed = Seed::new(0, &["calibration"]);
    let (start, mut done) = (Instant::now(), 0.0);
    while done == 0.0 || start.elapsed() < budget {
        black_box(bootstrap_means(&series, &weights, &options, &seed));
        black_box(sign_flip_p_values(&series, &weights, options.n_resamples, &seed));
        done += 8.0 * 240.0 * 512.0;
    }
    done / start.elapsed().as_secs_f64()
}

/// Branches, their work, and numbers resampled.
type Work = (usize, Cost, f64);

/// A contrast of a run, with its heads if the folder has their scans.
pub(super) struct Planned {
    pub contrast: Contrast,
    pub heads: Option<StudyHeads>,
}

/// One model of a run.
pub(super) struct Model<'a> {
    pub args: &'a RunArgs,
    pub handle: &'a ModelHandle,
    pub tokenized: &'a [TokenizedPrompts],
    pub layout: &'a Layout,
    pub options: ScanOptions,
}

impl Model<'_> {
    fn spec(&self) -> &ModelSpec {
        self.handle.spec()
    }

    /// The prompts of the two tasks of a contrast.
    fn of_pair(&self, planned: &Planned) -> impl Iterator<Item = &TokenizedPrompts> {
        let tasks = planned.contrast.tasks().map(str::to_owned);
        tasks.into_iter().filter_map(|task| self.tokenized.iter().find(|p| p.task == task))
    }

    /// The work of a stage, if it runs the model.
    fn cost(&self, stage: Stage, contrasts: &[Planned]) -> Result<Option<Work>, CliError> {
        let of_contrasts = |of: &dyn Fn(&Planned) -> Result<Work, CliError>| {
            contrasts.iter().try_fold((0, Cost::default(), 0.0), |(n, cost, resampled), planned| {
                let (n_own, own, own_resampled) = of(planned)?;
                Ok((n + n_own, cost.and(own), resampled + own_resampled))
            })
        };
        match stage {
            Stage::Scan => self.scan().map(Some),
            Stage::Attend => self.attend().map(Some),
            Stage::Trace => of_contrasts(&|planned| self.trace(planned)).map(Some),
            Stage::Ablate => of_contrasts(&|planned| self.ablate(planned)).map(Some),
            Stage::Tables | Stage::Figures | Stage::Notes | Stage::Report => Ok(None),
        }
    }

    fn resamples(&self) -> f64 {
        f64::from(self.args.measure.effort.resampling().n_resamples)
    }

    fn scan(&self) -> Result<Work, CliError> {
        let n_heads = self.spec().n_heads_total();
        let (mut cost, mut resampled) = (Cost::default(), 0.0);
        for prompts in self.tokenized {
            let of_task = scan::cost(self.spec(), prompts, self.options)
                .map_err(|source| CliError::Scan { model: self.handle.name.clone(), source })?;
            cost = cost.and(of_task);
            // Δ needs a bootstrap and sign flips; direct effect and compensation need a bootstrap each.
            resampled += 2.0 * (n_heads * prompts.prompts.len()) as f64 * self.resamples();
        }
        Ok((n_heads * self.tokenized.len(), cost, resampled))
    }

    fn attend(&self) -> Result<Work, CliError> {
        let mut cost = self.random_tokens()?;
        for prompts in self.tokenized {
            let of_task = self.attention(prompts)?;
            // Once for attention by kind of token, once for roles.
            cost = cost.and(of_task).and(of_task);
        }
        Ok((self.spec().n_heads_total(), cost, 0.0))
    }

    /// The run on random tokens for role scores.
    pub(super) fn random_tokens(&self) -> Result<Cost, CliError> {
        let random = repeated_tokens(self.handle, self.args.measure.seed)?;
        random.cost(self.spec(), self.options.engine).map_err(|source| self.attention_error(source))
    }

    /// Attention on the held-out prompts of a task.
    pub(super) fn attention(&self, prompts: &TokenizedPrompts) -> Result<Cost, CliError> {
        let held_out = prompts.restricted_to(prompts.protocol.held_out_split());
        attention::cost(self.spec(), &held_out, self.options.engine)
            .map_err(|source| self.attention_error(source))
    }

    fn trace(&self, planned: &Planned) -> Result<Work, CliError> {
        let heads = self.traced_heads(planned);
        let (mut cost, mut resampled) = (Cost::default(), 0.0);
        for prompts in self.of_pair(planned) {
            let pairs = prompts.tracing_pairs(prompts.protocol.held_out_split());
            if pairs.pairs.is_empty() {
                continue;
            }
            let of_task = trace::cost(self.spec(), &pairs, &heads, Stream::V, self.options.engine)
                .map_err(|source| self.trace_error(source))?;
            cost = cost.and(of_task);
            resampled += (heads.len() * pairs.pairs.len()) as f64 * self.resamples();
        }
        Ok((2 * heads.len(), cost, resampled))
    }

    /// The heads to trace, or placeholders for them.
    pub(super) fn traced_heads(&self, planned: &Planned) -> Vec<(u32, u32)> {
        match &planned.heads {
            Some(study) => {
                let own = study.heroes.iter().filter(|h| h.model == self.handle.name);
                own.map(|h| (h.head.layer, h.head.head)).collect()
            }
            None => spread(&self.all_heads(), TRACED_CATEGORIES * self.args.tables.top_k),
        }
    }

    /// The sets to ablate, as far as predictable.
    pub(super) fn sets(&self, planned: &Planned) -> PlannedSets {
        self.planned_sets(planned).unwrap_or_else(|| self.expected_sets())
    }

    fn ablate(&self, planned: &Planned) -> Result<Work, CliError> {
        let (heroes, random) = self.sets(planned);
        let (mut cost, mut n_sets, mut resampled) = (Cost::default(), 0, 0.0);
        for (prompts, rounds) in self.of_pair(planned).zip(&random) {
            let split = prompts.protocol.held_out_split();
            let places = self.places(prompts, split);
            let mut add = |places: Option<&[usize]>, sets: &[HeadSet]| -> Result<(), CliError> {
                let of_task = ablate::cost(self.spec(), prompts, (split, places), sets, self.options)
                    .map_err(|source| self.ablate_error(source))?;
                cost = cost.and(of_task);
                n_sets += sets.len();
                Ok(())
            };
            add(None, &heroes)?;
            rounds.iter().try_for_each(|sets| add(Some(&places), sets))?;
            // Accuracy, mean difference and interaction of each hero set.
            resampled += 3.0 * (heroes.len() * prompts.of_split(split).count()) as f64 * self.resamples();
        }
        Ok((n_sets, cost, resampled))
    }

    /// The prompts on which random sets are run, among those of a split.
    pub(super) fn places(&self, prompts: &TokenizedPrompts, split: Split) -> Vec<usize> {
        let n = self.args.sets.random_prompts(self.args.measure.effort.effort);
        subsample(prompts, split, n, self.options)
    }

    fn n_random_sets(&self) -> usize {
        self.args.sets.random_sets(self.args.measure.effort.effort)
    }

    fn all_heads(&self) -> Vec<(u32, u32)> {
        let spec = self.spec();
        HeadId::all(spec.n_layers as u32, spec.n_heads as u32).map(|id| (id.layer, id.head)).collect()
    }

    /// Hero sets, and each task's rounds of random sets, as predicted from the scans: the effect of a set is assumed to be
    /// the sum of its heads' effects.
    fn planned_sets(&self, planned: &Planned) -> Option<PlannedSets> {
        let heads = planned.heads.as_ref()?.of_model(&self.handle.name)?;
        let read = |task| PerPromptScan::read(&self.layout.per_prompt(task, &self.handle.name)).ok();
        let [a, b] = planned.contrast.tasks();
        let scans = [read(a)?, read(b)?];
        let plan = plan(&planned.contrast, heads, self.n_random_sets(), self.args.measure.seed);
        let mut outcomes = Vec::new();
        for (prompts, scan) in self.of_pair(planned).zip(&scans) {
            let split = prompts.protocol.held_out_split();
            let sums = Sums::new(scan, split, (0..prompts.of_split(split).count()).collect())?;
            outcomes.push(TaskOutcomes {
                task: prompts.task.clone(),
                weights: sums.weights.clone(),
                n_candidates: prompts.candidates.len(),
                base: sums.outcome(&[]),
                sets: plan.sets.iter().map(|set| sums.outcome(set)).collect(),
                subsample: self.places(prompts, split),
                random: vec![],
            });
        }
        let mut outcomes: [TaskOutcomes; 2] = outcomes.try_into().ok()?;
        let on_few: Vec<Sums> = (outcomes.iter().zip(&scans).zip(self.of_pair(planned)))
            .map(|((o, scan), prompts)| {
                Sums::new(scan, prompts.protocol.held_out_split(), o.subsample.clone())
            })
            .collect::<Option<_>>()?;
        let settings = AblationSettings {
            ablation: self.options.ablation.to_string(),
            value_bias: self.options.value_bias.to_string(),
            reference: self.options.reference_name(),
            n_random_sets: self.n_random_sets(),
            n_random_prompts: 0,
            tau: self.args.tables.tau,
            n_resamples: 0,
        };
        let mut rounds = [vec![], vec![]];
        let Ok(()) = run_random_sets(&plan, &settings, &mut outcomes, &mut |task, sets| {
            rounds[task].push(sets.to_vec());
            Ok::<_, Infallible>(sets.iter().map(|set| on_few[task].outcome(set)).collect())
        });
        Some((plan.sets, rounds))
    }

    /// The same without scans: a hero set of each size and selection (a single head counts for both all and its
    /// category), spread over the model, and all random sets of each size.
    fn expected_sets(&self) -> (Vec<HeadSet>, [Vec<Vec<HeadSet>>; 2]) {
        let all = self.all_heads();
        let sizes = set_sizes(all.len());
        let (name, seed) = (&self.handle.name, self.args.measure.seed);
        let drawn = |k: usize, n: usize| Pool::of_all(name, seed, &all, k, n).sets;
        let heroes = sizes.iter().flat_map(|&k| drawn(k, if k == 1 { 3 } else { 4 })).collect();
        let of_all: Vec<HeadSet> = sizes.iter().flat_map(|&k| drawn(k, self.n_random_sets())).collect();
        (heroes, [vec![of_all.clone()], vec![of_all]])
    }

    fn attention_error(&self, source: cs_engine::EngineError) -> CliError {
        CliError::Attend { model: self.handle.name.clone(), source: source.into() }
    }

    fn trace_error(&self, source: cs_engine::EngineError) -> CliError {
        CliError::Trace { model: self.handle.name.clone(), source: source.into() }
    }

    fn ablate_error(&self, source: cs_engine::EngineError) -> CliError {
        CliError::Ablate { model: self.handle.name.clone(), source: source.into() }
    }
}

/// `n` evenly spaced heads, or all.
fn spread(all: &[(u32, u32)], n: usize) -> Vec<(u32, u32)> {
    let n = n.min(all.len());
    (0..n).map(|i| all[i * all.len() / n]).collect()
}

/// Sets whose effects are the sums of their heads' effects.
struct Sums {
    heads: Vec<Vec<f64>>,
    base: Vec<f64>,
    weights: Vec<u32>,
    n_heads: u32,
}

impl Sums {
    /// On some prompts of a split; `None` if the scan is of other prompts.
    fn new(scan: &PerPromptScan, split: Split, places: Vec<usize>) -> Option<Self> {
        let prompts = scan.prompts_of(split);
        let differences = scan.differences(split);
        let places: Vec<usize> =
            places.into_iter().map(|p| (p < prompts.len()).then_some(p)).collect::<Option<_>>()?;
        let some = |values: &Vec<f64>| places.iter().map(|&p| values[p]).collect();
        Some(Self {
            heads: differences.heads.iter().map(some).collect(),
            base: places.iter().map(|&p| f64::from(scan.base[prompts[p]])).collect(),
            weights: places.iter().map(|&p| differences.weights[p]).collect(),
            n_heads: scan.meta.n_heads,
        })
    }

    fn outcome(&self, set: &[(u32, u32)]) -> Outcome {
        let of_prompt = |prompt: usize| {
            let sum =
                |&(layer, head): &(u32, u32)| self.heads[(layer * self.n_heads + head) as usize][prompt];
            (self.base[prompt] + set.iter().map(sum).sum::<f64>()) as f32
        };
        let values: Vec<f32> = (0..self.base.len()).map(of_prompt).collect();
        Outcome {
            correct: values.iter().map(|&v| v > 0.0).collect(),
            mean_diff: values.clone(),
            logit_diff: values,
        }
    }
}
