//! Tokens and logits, with and without edited heads: `cargo run --release --example logits -- [MODEL]`

use circuit_scaling::prelude::*;

fn main() -> Result<(), Error> {
    let name = std::env::args().nth(1).unwrap_or("mini-gpt2-l".to_owned());
    let model = Model::load(&name)?;
    let clean = model.tokens("When John and Mary went to the store, John gave a gift to")?;
    let corrupted = model.tokens("When John and Mary went to the store, Mary gave a gift to")?;
    let tokenizer = model.tokenizer()?;
    let (Some(mary), Some(john)) = (tokenizer.single_token(" Mary"), tokenizer.single_token(" John")) else {
        println!("{} has no single tokens for these names", model.name());
        return Ok(());
    };
    // Mary − John at the last token, with some edits applied.
    let difference = |prompt: &Vec<u32>, edits: &[HeadEdit]| -> Result<f64, Error> {
        let prompt = std::slice::from_ref(prompt);
        let logits = model.logits(prompt, edits, Some(&[mary, john]), Options::default(), &mut silent)?;
        Ok(logits[0][0] - logits[0][1])
    };
    let head = HeadId { layer: model.spec().n_layers as u32 - 1, head: 0 };
    println!("clean                      {:+.3}", difference(&clean, &[])?);
    println!("clean, {head} ablated        {:+.3}", difference(&clean, &[zero(head)])?);
    println!("corrupted                  {:+.3}", difference(&corrupted, &[])?);
    let patched = patch(Stream::V, head, vec![clean.clone()]);
    println!("corrupted, {head} v of clean {:+.3}", difference(&corrupted, &[patched])?);
    Ok(())
}
