//! `inspect`: what a model is.

use std::fmt::Write;

use cs_model::spec::{ModelSpec, Positions, Rotary};

use crate::args::ModelArgs;
use crate::downloads;
use crate::error::CliError;
use crate::progress::Display;
use crate::subject::Subject;

/// Prints spec, heads, parameters, hash and memory.
pub fn inspect(args: &ModelArgs, display: Display) -> Result<String, CliError> {
    let model = downloads::with_revision(std::slice::from_ref(&args.model), args.revision.as_deref());
    downloads::fetch(&model, display)?;
    let subject = Subject::open(&model[0], display)?;
    let (spec, checkpoint) = (subject.spec(), &subject.info.checkpoint);
    let mut text = String::new();
    let mut line = |key: &str, value: String| {
        let _ = writeln!(text, "{key:22} {value}");
    };
    line("model", subject.name.clone());
    let commit = subject.commit.as_ref().map(|commit| format!(" at {commit}")).unwrap_or_default();
    line("source", format!("{}{commit}", subject.hf_name));
    line("family", subject.family.clone());
    line("heads", format!("{} ({} layers × {})", spec.n_heads_total(), spec.n_layers, spec.n_heads));
    line("parameters", format!("{} ({})", checkpoint.n_params(), checkpoint.dtypes().join(", ")));
    let weights = checkpoint.weight_bytes() as f64 / 1048576.0;
    line(
        "memory",
        format!("{weights:.1} MiB of float32 weights, and activations as --memory allows (1 GiB)"),
    );
    line("d_model", spec.d_model.to_string());
    line("d_head", spec.d_head.to_string());
    line("d_mlp", spec.d_mlp.to_string());
    line("d_vocab", vocabulary(spec, subject.tokenizer().vocab_size()));
    line("d_embed", spec.d_embed.to_string());
    line("n_ctx", spec.n_ctx.to_string());
    line("positions", positions(spec));
    line("block", format!("{:?}, {:?}-norm", spec.block, spec.norm).to_lowercase());
    line("final norm", yes_no(spec.final_norm).into());
    line("norm eps", spec.norm_eps.to_string());
    line("activation", format!("{:?}", spec.activation));
    line("attention scale", by_layer(&spec.attn_scale));
    let windows: Vec<String> =
        spec.windows.iter().map(|w| w.map_or("all".into(), |w| format!("{w} tokens"))).collect();
    line("a query sees", by_layer(&windows));
    line("tied unembedding", yes_no(spec.tied_unembed).into());
    let bos = subject.tokenizer().bos_id();
    line("BOS", format!("{bos} {:?}", subject.tokenizer().token_text(bos).unwrap_or_default()));
    line("weights (sha-256)", checkpoint.weight_hash().to_owned());
    line("tokenizer (sha-256)", subject.tokenizer().hash().to_owned());
    Ok(text)
}

fn vocabulary(spec: &ModelSpec, n_tokens: usize) -> String {
    match spec.d_vocab - n_tokens.min(spec.d_vocab) {
        0 => spec.d_vocab.to_string(),
        padding => format!("{} ({n_tokens} tokens, {padding} rows of padding)", spec.d_vocab),
    }
}

fn positions(spec: &ModelSpec) -> String {
    match &spec.positions {
        Positions::Learned { offset: 0 } => "learned".into(),
        Positions::Learned { offset } => format!("learned, from row {offset}"),
        Positions::Rotary(Rotary { n_dims, frequencies, .. }) => {
            let bases: Vec<String> = frequencies.iter().map(|set| set.base.to_string()).collect();
            format!("rotary, {n_dims} of {} dimensions, base {}", spec.d_head, bases.join(" and "))
        }
    }
}

/// One value where all layers agree, else all of them.
fn by_layer<T: PartialEq + ToString>(values: &[T]) -> String {
    match values {
        [first, rest @ ..] if rest.iter().all(|v| v == first) => first.to_string(),
        _ => values.iter().map(T::to_string).collect::<Vec<_>>().join(", "),
    }
}

fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}
