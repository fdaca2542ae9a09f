//! A scan: the effect of every head on a task. `cargo run --release --example scan -- [MODEL [TASK]]`

use circuit_scaling::prelude::*;

fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let model = Model::load(&args.next().unwrap_or("mini-gpt2-l".to_owned()))?;
    let mut setup = Setup::of(&args.next().unwrap_or("ioi".to_owned()))?;
    setup.prompts.n_prompts = Some(160);
    let scan = model.scan(&setup, None, &mut silent)?;
    let base = &scan.file.baseline;
    println!("{} on {}: logit difference {:.3}", model.name(), setup.task.name(), base.base_logit_diff_mean);
    for head in scan.file.top_suppressor_candidates.iter().take(5) {
        let range = match (head.delta_ci_low, head.delta_ci_high) {
            (Some(low), Some(high)) => format!("[{low:+.3}, {high:+.3}]"),
            _ => "too few prompts for an interval".to_owned(),
        };
        println!("L{}H{}: Δ = {:+.3} {range}", head.layer, head.head, head.delta);
    }
    Ok(())
}
