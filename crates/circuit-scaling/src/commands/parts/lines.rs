//! A study's work as divisible lines.

use cs_analysis::ablation::HeadSet;
use cs_circuits::parts::{Line, Piece};
use cs_circuits::prompts::{PromptSet, TokenizedPrompts};
use cs_circuits::scan::ScanOptions;
use cs_circuits::{ablate, scan, trace};
use cs_engine::Cost;
use cs_engine::intervention::Stream;

use super::super::costs::Model;
use super::experiments::Experiments;
use super::plan::{Unit, UnitKind, head_at};
use crate::args::{RunArgs, Stage};
use crate::error::CliError;
use crate::handle::ModelHandle;

/// The cost of loading a byte of float32 weights, in operations: reading, checking and packing a gigabyte takes about as long
/// as 10¹² operations of matrix products.
pub const LOADING: f64 = 1000.0;

/// Lines, with the measurement of each.
#[derive(Default)]
pub struct Lines {
    pub lines: Vec<Line>,
    of: Vec<Of>,
}

struct Of {
    kind: UnitKind,
    model: String,
    task: String,
    n_heads: usize,
}

impl Lines {
    fn add(
        &mut self,
        kind: UnitKind,
        (index, handle): (usize, &ModelHandle),
        task: &str,
        work: (f64, Vec<f64>),
    ) {
        let (base, items) = work;
        self.lines.push(Line { model: index, base, items });
        let n_heads = handle.spec().n_heads;
        self.of.push(Of { kind, model: handle.name.clone(), task: task.to_owned(), n_heads });
    }

    /// The unit for a piece of a line.
    pub fn unit(&self, piece: &Piece) -> Unit {
        let of = &self.of[piece.line];
        let (from, to) = (piece.items.start, piece.items.end);
        let all = self.lines[piece.line].items.len();
        let items = match of.kind {
            UnitKind::Scan => format!("{} to {}", head_at(from, of.n_heads), head_at(to - 1, of.n_heads)),
            UnitKind::Attend | UnitKind::Roles => "all heads".to_owned(),
            UnitKind::Trace => format!("hero heads {} to {to} of {all}", from + 1),
            UnitKind::HeroSets | UnitKind::RandomSets => format!("sets {} to {to} of {all}", from + 1),
        };
        let line = &self.lines[piece.line];
        let tflop = (line.base + line.items[from..to].iter().sum::<f64>()) / 1e12;
        Unit { kind: of.kind, model: of.model.clone(), task: of.task.clone(), from, to, items, tflop }
    }

    /// Operations of all lines on one machine that loads each model once.
    pub fn total(&self, loading: &[f64]) -> f64 {
        let whole: Vec<Piece> =
            self.lines.iter().enumerate().map(|(line, l)| Piece { line, items: 0..l.items.len() }).collect();
        cs_circuits::parts::cost(&whole, &self.lines, loading)
    }
}

/// The cost of loading each model.
pub fn loading(handles: &[ModelHandle]) -> Vec<f64> {
    handles.iter().map(|s| LOADING * s.info.checkpoint.weight_bytes() as f64).collect()
}

fn flops(cost: Cost) -> f64 {
    cost.dense + cost.attention
}

/// The cost of a run without branches, and the additional cost of a branch that starts at each layer.
fn by_layer<E>(n_layers: usize, cost: impl Fn(Option<u32>) -> Result<Cost, E>) -> Result<(f64, Vec<f64>), E> {
    let base = flops(cost(None)?);
    let added = (0..n_layers as u32).map(|layer| Ok(flops(cost(Some(layer))?) - base));
    Ok((base, added.collect::<Result<_, E>>()?))
}

/// The scans for which `is_done` is false.
///
/// # Errors
/// Prompts that a model cannot read, or a scan that does not fit into memory.
pub fn scans(
    (args, handles): (&RunArgs, &[ModelHandle]),
    prompts: &[PromptSet],
    is_done: impl Fn(&ModelHandle, &PromptSet) -> Result<bool, CliError>,
) -> Result<Lines, CliError> {
    let mut lines = Lines::default();
    if !args.stages().contains(&Stage::Scan) {
        return Ok(lines);
    }
    for (index, handle) in handles.iter().enumerate() {
        let options = handle.scan_options(args.measure.scan_options());
        for set in prompts {
            if is_done(handle, set)? {
                continue;
            }
            let (tokenized, spec) = (set.tokenize(handle)?, handle.spec());
            let cost = |layer: Option<u32>| {
                let head: Vec<_> =
                    layer.map(|l| head_at(l as usize * spec.n_heads, spec.n_heads)).into_iter().collect();
                scan::cost_of_heads(spec, &tokenized, &head, options)
            };
            let (base, of_layer) = by_layer(spec.n_layers, cost)
                .map_err(|source| CliError::Scan { model: handle.name.clone(), source })?;
            let items = of_layer.into_iter().flat_map(|cost| vec![cost; spec.n_heads]).collect();
            lines.add(UnitKind::Scan, (index, handle), &tokenized.task, (base, items));
        }
    }
    Ok(lines)
}

/// Attention, tracing and set ablation, as far as they are part of the study. `models` are the handles in
/// order.
///
/// # Errors
/// A run that does not fit into memory.
pub fn experiments(
    (args, handles): (&RunArgs, &[ModelHandle]),
    models: &[(Model<'_>, Experiments)],
) -> Result<Lines, CliError> {
    let mut lines = Lines::default();
    let stages = args.stages();
    for (index, (model, experiments)) in models.iter().enumerate() {
        let handle = &handles[index];
        let options = handle.scan_options(args.measure.scan_options());
        let (name, spec) = (|| handle.name.clone(), handle.spec());
        if stages.contains(&Stage::Attend) {
            let mut roles = flops(model.random_tokens()?);
            for prompts in model.tokenized {
                let cost = flops(model.attention(prompts)?);
                roles += cost;
                lines.add(UnitKind::Attend, (index, handle), &prompts.task, (0.0, vec![cost]));
            }
            lines.add(UnitKind::Roles, (index, handle), "", (0.0, vec![roles]));
        }
        for (prompts, of_task) in model.tokenized.iter().zip(&experiments.of_tasks) {
            let mut add = |kind, work| lines.add(kind, (index, handle), &prompts.task, work);
            // A task without a contrast only has scans and attention.
            if !of_task.is_contrasted {
                continue;
            }
            let split = prompts.protocol.held_out_split();
            let pairs = prompts.tracing_pairs(split);
            if stages.contains(&Stage::Trace) && !pairs.pairs.is_empty() {
                let (base, of_layer) = by_layer(spec.n_layers, |layer| {
                    let head: Vec<(u32, u32)> = layer.map(|l| (l, 0)).into_iter().collect();
                    trace::cost(spec, &pairs, &head, Stream::V, options.engine)
                })
                .map_err(|source| CliError::Trace { model: name(), source: source.into() })?;
                let items = of_task.traced.iter().map(|head| of_layer[head.0 as usize]).collect();
                add(UnitKind::Trace, (base, at_least_one(items)));
            }
            if stages.contains(&Stage::Ablate) {
                let places = model.places(prompts, split);
                for (kind, places, sets) in [
                    (UnitKind::HeroSets, None, &of_task.heroes),
                    (UnitKind::RandomSets, Some(&places[..]), &of_task.random),
                ] {
                    let work = of_sets(handle, (prompts, places), sets, options)?;
                    add(kind, work);
                }
            }
        }
    }
    Ok(lines)
}

/// The cost of set ablation: a set costs as much as a branch that starts at its first layer, minus what it shares with other
/// sets.
fn of_sets(
    handle: &ModelHandle,
    (prompts, places): (&TokenizedPrompts, Option<&[usize]>),
    sets: &[HeadSet],
    options: ScanOptions,
) -> Result<(f64, Vec<f64>), CliError> {
    let split = prompts.protocol.held_out_split();
    let cost = |sets: &[HeadSet]| {
        ablate::cost(handle.spec(), prompts, (split, places), sets, options)
            .map_err(|source| CliError::Ablate { model: handle.name.clone(), source: source.into() })
    };
    let (base, of_layer) = by_layer(handle.spec().n_layers, |layer| {
        let set: Vec<HeadSet> = layer.map(|l| vec![(l, 0)]).into_iter().collect();
        cost(&set)
    })?;
    let alone: Vec<f64> =
        sets.iter().map(|set| set.first().map_or(0.0, |head| of_layer[head.0 as usize])).collect();
    let together = flops(cost(sets)?) - base;
    let share = together / alone.iter().sum::<f64>().max(1.0);
    Ok((base, at_least_one(alone.into_iter().map(|cost| cost * share).collect())))
}

/// A line without items is still run: its plain runs are results.
fn at_least_one(items: Vec<f64>) -> Vec<f64> {
    if items.is_empty() { vec![0.0] } else { items }
}
