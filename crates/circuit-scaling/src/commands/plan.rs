//! `plan`: what a run will cost, before it is started.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

use circuits::prompts::{PromptSet, Tokenize};
use circuits::scan;
use circuits::task::Task;
use cs_engine::{Cost, Options, Rates};

use crate::args::PlanArgs;
use crate::error::CliError;
use crate::progress::Display;
use crate::subject::Subject;

/// Time for the calibration, all models together.
const CALIBRATION: Duration = Duration::from_secs(2);

/// Prints heads, forest nodes, operations, memory and expected time of each model's scans, and of all together.
pub fn plan(args: &PlanArgs, display: Display) -> Result<String, CliError> {
    let mut measure = args.measure.clone();
    measure.fetch_models(display)?;
    let subjects = Subject::open_all(&measure.models, display)?;
    let tokenizers: Vec<&dyn Tokenize> = subjects.iter().map(|s| s as &dyn Tokenize).collect();
    let prompts = args
        .tasks
        .iter()
        .map(|task| Ok(PromptSet::resolve(&Task::load(task)?, &measure.prompt_options(), &tokenizers)?))
        .collect::<Result<Vec<_>, CliError>>()?;
    let engine = Options { memory: measure.memory };

    // Models of one width run at one rate.
    let widths = |s: &Subject| (s.spec().d_model, s.spec().d_mlp, s.spec().d_head, s.spec().activation);
    let n_widths = subjects.iter().map(widths).collect::<std::collections::HashSet<_>>().len();
    let mut rates: HashMap<_, Rates> = HashMap::new();

    let mut text = format!(
        "{:16} {:>6} {:>8} {:>8} {:>9} {:>10} {:>10} {:>9}\n",
        "model", "heads", "tokens", "nodes", "TFLOP", "weights", "working", "time"
    );
    let (mut n_heads, mut total, mut seconds, mut largest) = (0, Cost::default(), 0.0, 0);
    for subject in &subjects {
        let spec = subject.spec();
        let rates = *rates
            .entry(widths(subject))
            .or_insert_with(|| Rates::measure(spec, CALIBRATION / n_widths.max(1) as u32));
        let mut cost = Cost::default();
        for prompts in &prompts {
            let tokenized = prompts.tokenize(subject)?;
            let of_task = scan::cost(spec, &tokenized, measure.ablation, measure.value_bias, engine)
                .map_err(|source| CliError::Scan { model: subject.name.clone(), source })?;
            cost = sum(cost, of_task);
        }
        let weights = 4 * subject.info.checkpoint.n_params();
        line(&mut text, &subject.name, spec.n_heads_total(), &cost, weights, cost.seconds(&rates));
        n_heads += spec.n_heads_total();
        total = sum(total, cost);
        seconds += cost.seconds(&rates);
        largest = largest.max(weights);
    }
    if subjects.len() > 1 {
        line(&mut text, "all", n_heads, &total, largest, seconds);
    }
    text += "Scans only, one model in memory at a time; time from a calibration of this machine as busy as it is now.\n";
    Ok(text)
}

/// One after the other: operations add up, memory does not.
fn sum(a: Cost, b: Cost) -> Cost {
    Cost {
        n_tokens: a.n_tokens + b.n_tokens,
        n_nodes: a.n_nodes + b.n_nodes,
        dense: a.dense + b.dense,
        attention: a.attention + b.attention,
        memory: a.memory.max(b.memory),
    }
}

fn line(text: &mut String, name: &str, n_heads: usize, cost: &Cost, weights: usize, seconds: f64) {
    let mib = |bytes: usize| format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20));
    let time = match seconds {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    };
    let _ = writeln!(
        text,
        "{name:16} {n_heads:6} {:8} {:8} {:9.3} {:>10} {:>10} {time:>9}",
        cost.n_tokens,
        cost.n_nodes,
        (cost.dense + cost.attention) / 1e12,
        mib(weights),
        mib(cost.memory)
    );
}
