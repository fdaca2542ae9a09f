//! `inspect`: describes a model.

use std::fmt::Write;

use cs_model::families::Parameters;
use cs_model::spec::{
    BlockLayout, ModelSpec, NormKind, NormPlacement, Positions, QkNorm, Rotary, RotaryFrequencies,
    RotaryPairing, RotaryScaling,
};

use crate::args::ModelArgs;
use crate::downloads;
use crate::error::CliError;
use crate::handle::ModelHandle;
use crate::progress::Display;

/// Prints spec, heads, parameters, hash and memory.
pub fn inspect(args: &ModelArgs, display: Display) -> Result<String, CliError> {
    let model = downloads::with_revision(std::slice::from_ref(&args.model), args.revision.as_deref());
    downloads::fetch(&model, display)?;
    let handle = ModelHandle::open(&model[0], display)?;
    let tokenizer = handle.tokenizer()?;
    let (spec, checkpoint) = (handle.spec(), &handle.info.checkpoint);
    let mut text = String::new();
    let mut line = |key: &str, value: String| {
        let _ = writeln!(text, "{key:22} {value}");
    };
    line("model", handle.name.clone());
    let commit = handle.commit.as_ref().map(|commit| format!(" at {commit}")).unwrap_or_default();
    line("source", format!("{}{commit}", handle.hf_name));
    line("family", format!("{} (model_type {})", handle.family, handle.info.config.family.model_type));
    line("heads", format!("{} ({} layers × {})", spec.n_heads_total(), spec.n_layers, spec.n_heads));
    line("key and value heads", key_heads(spec));
    line("parameters", format!("{} ({})", checkpoint.n_params(), checkpoint.dtypes().join(", ")));
    let weights = checkpoint.weight_bytes() as f64 / 1048576.0;
    line(
        "memory",
        format!("{weights:.1} MiB of float32 weights, and activations as --memory allows (1 GiB)"),
    );
    line("d_model", spec.d_model.to_string());
    line("d_head", spec.d_head.to_string());
    line("d_mlp", spec.d_mlp.to_string());
    line("d_vocab", vocabulary(spec, tokenizer.vocab_size()));
    line("d_embed", spec.d_embed.to_string());
    line("n_ctx", spec.n_ctx.to_string());
    line("positions", positions(spec));
    line("block", block(spec));
    line("final norm", yes_no(spec.final_norm).into());
    line("norm eps", spec.norm_eps.to_string());
    line("norms of q and k", qk_norm(spec).into());
    let gate = if spec.gated_mlp { ", gated" } else { "" };
    line("activation", format!("{:?}{gate}", spec.activation));
    line("attention scale", by_layer(&spec.attn_scale));
    let windows: Vec<String> =
        spec.windows.iter().map(|w| w.map_or("all".into(), |w| format!("{w} tokens"))).collect();
    line("a query attends to", by_layer(&windows));
    let or_none = |x: Option<f32>| x.map_or("none".to_owned(), |x| x.to_string());
    line("soft cap of scores", or_none(spec.attn_softcap));
    line("soft cap of logits", or_none(spec.logit_softcap));
    line("embedding scale", or_none(spec.embed_scale));
    line("biases", biases(&handle.info.config.parameters));
    line("tied unembedding", yes_no(spec.tied_unembed).into());
    let bos = |id| format!("{id} {:?}", tokenizer.token_text(id).unwrap_or_default());
    line("BOS", tokenizer.bos_id().map_or_else(|| "none".to_owned(), bos));
    line("weights (sha-256)", checkpoint.weight_hash().to_owned());
    line("tokenizer (sha-256)", tokenizer.hash().to_owned());
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
        Positions::Rotary(Rotary { n_dims, pairing, frequencies, .. }) => {
            let sets: Vec<String> = frequencies.iter().map(frequencies_of).collect();
            let pairing = match pairing {
                RotaryPairing::Halves => "",
                RotaryPairing::Interleaved => " interleaved",
            };
            format!("rotary, {n_dims} of {} dimensions{pairing}, {}", spec.d_head, sets.join("; "))
        }
    }
}

/// The base of the rotary frequencies, and their scaling.
fn frequencies_of(set: &RotaryFrequencies) -> String {
    let scaling = match &set.scaling {
        RotaryScaling::None => String::new(),
        RotaryScaling::Linear { factor } => format!(", linear scaling by {factor}"),
        RotaryScaling::Yarn { factor, attention_factor, original_n_ctx, .. } => {
            format!(", yarn by {factor} from {original_n_ctx} tokens, attention factor {attention_factor:.4}")
        }
        RotaryScaling::Llama3 { factor, original_n_ctx, .. } => {
            format!(", llama3 scaling by {factor} from {original_n_ctx} tokens")
        }
        RotaryScaling::LongRope { attention_factor, .. } => {
            format!(", longrope's short factors, attention factor {attention_factor:.4}")
        }
    };
    format!("base {}{scaling}", set.base)
}

fn key_heads(spec: &ModelSpec) -> String {
    match spec.group_size() {
        1 => format!("{} per layer, one per head", spec.n_kv_heads),
        n => format!("{} per layer, one per {n} heads", spec.n_kv_heads),
    }
}

fn block(spec: &ModelSpec) -> String {
    let layout = match spec.block {
        BlockLayout::Sequential => "sequential",
        BlockLayout::Parallel => "parallel",
        BlockLayout::ParallelOneNorm => "parallel with one norm",
    };
    let kind = match spec.norm_kind {
        NormKind::Layer => "layer norms",
        NormKind::Rms => "RMS norms",
        NormKind::RmsOnePlus => "RMS norms with 1 + w",
    };
    let place = match spec.norm {
        NormPlacement::Pre => "before each branch",
        NormPlacement::Post => "after each addition",
        NormPlacement::Branch => "after each branch",
        NormPlacement::PreAndBranch => "before and after each branch",
    };
    format!("{layout}, {kind} {place}")
}

fn qk_norm(spec: &ModelSpec) -> &'static str {
    match spec.qk_norm {
        QkNorm::None => "none",
        QkNorm::PerHead => "per head",
        QkNorm::AllHeads => "over all heads",
    }
}

fn biases(has: &Parameters) -> String {
    let parts = [
        (has.qkv_bias, "q, k, v"),
        (has.attn_out_bias, "W_O"),
        (has.mlp_bias, "MLP"),
        (has.unembed_bias, "unembedding"),
    ];
    let names: Vec<&str> = parts.into_iter().filter(|(has, _)| *has).map(|(_, name)| name).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// One value if all layers agree, else all of them.
fn by_layer<T: PartialEq + ToString>(values: &[T]) -> String {
    match values {
        [first, rest @ ..] if rest.iter().all(|v| v == first) => first.to_string(),
        _ => values.iter().map(T::to_string).collect::<Vec<_>>().join(", "),
    }
}

fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}
