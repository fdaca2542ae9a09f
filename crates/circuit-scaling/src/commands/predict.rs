//! `predict`: a model's most likely next tokens, to check that a checkpoint works.

use std::fmt::Write;

use cs_analysis::words::counted;
use cs_engine::{Options, Prompt, Readings};

use crate::args::PredictArgs;
use crate::downloads;
use crate::error::CliError;
use crate::handle::ModelHandle;
use crate::progress::Display;

/// Prints the top tokens after the prompt, with probabilities and logits.
pub fn predict(args: &PredictArgs, display: Display) -> Result<String, CliError> {
    let compute = args.device.choose(display)?;
    let model = downloads::with_revision(std::slice::from_ref(&args.model), args.revision.as_deref());
    downloads::fetch(&model, display)?;
    let mut handle = ModelHandle::open(&model[0], display)?;
    ModelHandle::run_on(std::slice::from_mut(&mut handle), &compute, display);
    let tokenizer = handle.tokenizer()?;
    let tokens = tokenizer.encode_with_bos(&args.prompt)?;
    let decoder = handle.load()?;
    let read = (0..handle.spec().d_vocab as u32).collect();
    let prompt = Prompt { tokens: tokens.clone(), read, weight: 1.0, ..Prompt::default() };
    // One plain run of one prompt.
    let memory = Options { memory: usize::MAX >> 8 };
    let readings = Readings::collect(&decoder, &[prompt], &[], memory)?;
    let logits = readings.plain(0);

    // Probabilities are over all rows of the unembedding, as in any framework, but padding rows are not shown.
    let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = logits.iter().map(|l| (l - highest).exp()).sum();
    let mut order: Vec<u32> = (0..logits.len() as u32).filter(|&id| tokenizer.is_real(id)).collect();
    order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));

    let mut text = format!(
        "{}, {}\n{:>5}  {:>11}  {:>9}  token\n",
        counted(tokens.len(), "token", "tokens"),
        if tokenizer.bos_id().is_some() { "BOS included" } else { "no BOS" },
        "rank",
        "probability",
        "logit"
    );
    for (rank, &id) in order.iter().take(args.top).enumerate() {
        let logit = logits[id as usize];
        let probability = 100.0 * (logit - highest).exp() / total;
        let shown = tokenizer.decode(&[id])?;
        let _ = writeln!(text, "{:5}  {probability:10.3}%  {logit:9.3}  {shown:?} ({id})", rank + 1);
    }
    Ok(text)
}
