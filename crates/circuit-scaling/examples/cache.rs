//! Activations: where each head of the last layer attends most at the last token.
//! `cargo run --release --example cache -- [MODEL [PROMPT]]`

use circuit_scaling::prelude::*;

fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let model = Model::load(&args.next().unwrap_or("mini-gpt2-l".to_owned()))?;
    let text = args.next().unwrap_or("Alice met Bob. Alice talked to".to_owned());
    let cache = model.cache(&[model.tokens(&text)?], &[Activation::Pattern])?;
    let tokens = &cache[0].tokens;
    let Array { shape, values } = &cache[0].arrays[&Activation::Pattern]; // layers, heads, queries, keys
    let (n_layers, n_heads, n_positions) = (shape[0], shape[1], shape[2]);
    for head in 0..n_heads {
        let last_query = ((n_layers - 1) * n_heads + head + 1) * n_positions - 1;
        let weights = &values[last_query * n_positions..][..n_positions];
        let most = (0..n_positions).max_by(|&a, &b| weights[a].total_cmp(&weights[b])).unwrap_or(0);
        let token = model.tokenizer()?.decode(&tokens[most..=most])?;
        println!("L{}H{head}: {:.2} on {token:?} at {most}", n_layers - 1, weights[most]);
    }
    Ok(())
}
