//! Set ablation: the strongest one, two, … heads of a scan together.
//! `cargo run --release --example ablate -- [MODEL [TASK]]`

use circuit_scaling::prelude::*;

fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let model = Model::load(&args.next().unwrap_or("mini-gpt2-l".to_owned()))?;
    let mut setup = Setup::of(&args.next().unwrap_or("ioi".to_owned()))?;
    setup.prompts.n_prompts = Some(160);
    let scan = model.scan(&setup, None, &mut silent)?;
    let strongest: Vec<(u32, u32)> =
        scan.file.top_suppressor_candidates.iter().map(|h| (h.layer, h.head)).collect();
    let sets: Vec<Vec<(u32, u32)>> = (1..=strongest.len()).map(|k| strongest[..k].to_vec()).collect();
    // Heads are selected on one split and evaluated on the other.
    let ablated = model.ablate(&setup, &sets, Split::HeldOut, &mut silent)?;
    let share = |correct: &[bool]| correct.iter().filter(|&&c| c).count() as f64 / correct.len() as f64;
    println!("heads ablated:  0, accuracy: {:.1}%", 100.0 * share(&ablated.outcomes.base.correct));
    for (set, outcome) in sets.iter().zip(&ablated.outcomes.sets) {
        println!("heads ablated: {:2}, accuracy: {:.1}%", set.len(), 100.0 * share(&outcome.correct));
    }
    Ok(())
}
