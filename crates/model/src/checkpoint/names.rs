//! What each architecture calls its parameters.

use crate::config::Architecture;

/// How an architecture stores the matrices of its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// `[d_in, d_out]`, Hugging Face's `Conv1D`.
    InOut,
    /// `[d_out, d_in]`, `nn.Linear`.
    OutIn,
}

/// Names of an architecture's tensors. Names of a block's parts follow `{block}.{layer}.`; a layer's or matrix's name
/// is followed by `.weight` or `.bias`.
pub(super) struct Names {
    /// `model_type`, for messages.
    pub(super) model_type: &'static str,
    /// What a file may put before every name, depending on the class that saved it. The first that fits is removed.
    pub(super) prefixes: &'static [&'static str],
    pub(super) embed: &'static str,
    pub(super) pos_embed: &'static str,
    pub(super) block: &'static str,
    pub(super) ln1: &'static str,
    /// One fused matrix, or those of query, key and value.
    pub(super) qkv: &'static [&'static str],
    pub(super) w_o: &'static str,
    pub(super) ln2: &'static str,
    pub(super) w_in: &'static str,
    pub(super) w_out: &'static str,
    pub(super) ln_final: &'static str,
    pub(super) unembed: &'static str,
    pub(super) stored: Stored,
    /// Whether the fused matrix goes head by head, `[n_heads, 3, d_head]`, instead of q, k, v.
    pub(super) qkv_per_head: bool,
    /// Constants that some versions of Transformers saved with a block: causal masks, rotary frequencies.
    pub(super) buffers: &'static [&'static str],
}

static GPT2: Names = Names {
    model_type: "gpt2",
    prefixes: &["transformer."],
    embed: "wte",
    pos_embed: "wpe",
    block: "h",
    ln1: "ln_1",
    qkv: &["attn.c_attn"],
    w_o: "attn.c_proj",
    ln2: "ln_2",
    w_in: "mlp.c_fc",
    w_out: "mlp.c_proj",
    ln_final: "ln_f",
    unembed: "lm_head",
    stored: Stored::InOut,
    qkv_per_head: false,
    buffers: &["attn.bias", "attn.masked_bias"],
};

static GPT_NEOX: Names = Names {
    model_type: "gpt_neox",
    prefixes: &["gpt_neox."],
    embed: "embed_in",
    pos_embed: "",
    block: "layers",
    ln1: "input_layernorm",
    qkv: &["attention.query_key_value"],
    w_o: "attention.dense",
    ln2: "post_attention_layernorm",
    w_in: "mlp.dense_h_to_4h",
    w_out: "mlp.dense_4h_to_h",
    ln_final: "final_layer_norm",
    unembed: "embed_out",
    stored: Stored::OutIn,
    qkv_per_head: true,
    buffers: &[
        "attention.bias",
        "attention.masked_bias",
        "attention.rotary_emb.inv_freq",
        "rotary_emb.inv_freq",
    ],
};

static OPT: Names = Names {
    model_type: "opt",
    prefixes: &["model.decoder.", "decoder.", "model."],
    embed: "embed_tokens",
    pos_embed: "embed_positions",
    block: "layers",
    ln1: "self_attn_layer_norm",
    qkv: &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    w_o: "self_attn.out_proj",
    ln2: "final_layer_norm",
    w_in: "fc1",
    w_out: "fc2",
    ln_final: "final_layer_norm",
    unembed: "lm_head",
    stored: Stored::OutIn,
    qkv_per_head: false,
    buffers: &[],
};

static GPT_NEO: Names = Names {
    model_type: "gpt_neo",
    prefixes: &["transformer."],
    embed: "wte",
    pos_embed: "wpe",
    block: "h",
    ln1: "ln_1",
    qkv: &["attn.attention.q_proj", "attn.attention.k_proj", "attn.attention.v_proj"],
    w_o: "attn.attention.out_proj",
    ln2: "ln_2",
    w_in: "mlp.c_fc",
    w_out: "mlp.c_proj",
    ln_final: "ln_f",
    unembed: "lm_head",
    stored: Stored::OutIn,
    qkv_per_head: false,
    buffers: &["attn.attention.bias", "attn.attention.masked_bias"],
};

/// What wrappers of a whole model put before every name: `torch.compile`, and training on several devices.
const WRAPPERS: [&str; 2] = ["_orig_mod.", "module."];

/// The part that wrappers put before each of `names`; empty where some are without it.
pub(super) fn wrapper<'n>(names: impl Iterator<Item = &'n str> + Clone) -> &'n str {
    let Some(first) = names.clone().next() else { return "" };
    let mut len = 0;
    while let Some(part) = WRAPPERS.iter().find(|part| first[len..].starts_with(**part)) {
        let longer = &first[..len + part.len()];
        if !names.clone().all(|name| name.starts_with(longer)) {
            break;
        }
        len = longer.len();
    }
    &first[..len]
}

impl Names {
    pub(super) fn of(architecture: Architecture) -> &'static Names {
        match architecture {
            Architecture::Gpt2 => &GPT2,
            Architecture::GptNeoX => &GPT_NEOX,
            Architecture::Opt => &OPT,
            Architecture::GptNeo => &GPT_NEO,
        }
    }

    /// A tensor's name without the file's prefix.
    pub(super) fn canonical<'n>(&self, name: &'n str) -> &'n str {
        self.prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
    }

    /// Whether a canonical name belongs to a tensor that stands beside the decoder and changes none of its numbers: another
    /// head (`score`, `v_head`), a version, cached sines and cosines. Adapters are no such tensors, nor is what the
    /// decoder's own modules hold beyond their parameters.
    pub(super) fn is_beside(&self, canonical: &str) -> bool {
        const CACHED: [&str; 2] = ["cos_cached", "sin_cached"];
        const ADAPTERS: [&str; 4] = ["lora", "adapter", "prompt_e", "ia3"];
        let own = [self.embed, self.pos_embed, self.block, self.ln_final, self.unembed, "project_in", "project_out"];
        let top = canonical.split('.').next().unwrap_or_default();
        let is_cached = canonical.rsplit('.').next().is_some_and(|last| CACHED.contains(&last));
        let is_adapter = ADAPTERS.iter().any(|word| canonical.to_ascii_lowercase().contains(word));
        !is_adapter && (is_cached || !own.contains(&top))
    }

    /// Whether a canonical name belongs to a constant that is computed here instead of read: one per block, or (in
    /// some files) one for the whole model.
    pub(super) fn is_buffer(&self, canonical: &str) -> bool {
        let part = || {
            let rest = canonical.strip_prefix(self.block)?.strip_prefix('.')?;
            let (layer, part) = rest.split_once('.')?;
            layer.bytes().all(|b| b.is_ascii_digit()).then_some(part)
        };
        self.buffers.contains(&part().unwrap_or(canonical))
    }
}
