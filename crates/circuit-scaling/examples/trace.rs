//! Causal tracing: how much of the answer each head's clean values restore in the corrupted run.
//! `cargo run --release --example trace -- [MODEL [TASK]]`

use circuit_scaling::prelude::*;

fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let model = Model::load(&args.next().unwrap_or("mini-gpt2-l".to_owned()))?;
    let mut setup = Setup::of(&args.next().unwrap_or("ioi".to_owned()))?;
    setup.prompts.n_prompts = Some(160);
    let traced = model.trace(&setup, None, Stream::V, Split::All, &mut silent)?;
    let mean = |influences: &Vec<f64>| influences.iter().sum::<f64>() / influences.len() as f64;
    let mut heads: Vec<(HeadId, f64)> =
        traced.heads.iter().copied().zip(traced.trace.influences.iter().map(mean)).collect();
    heads.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
    for (head, influence) in heads.iter().take(5) {
        println!("{head}: {influence:+.3} over {} distinct pairs", traced.pairs.pairs.len());
    }
    Ok(())
}
