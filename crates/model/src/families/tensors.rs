//! Names and layouts of a family's tensors.

/// How the matrices of a family's blocks are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// `[d_in, d_out]`, Hugging Face's `Conv1D`.
    InOut,
    /// `[d_out, d_in]`, `nn.Linear`.
    OutIn,
}

/// The tensors that hold a block's `W_Q`, `W_K` and `W_V`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QkvTensors {
    /// One tensor: all queries, all keys, all values.
    Fused(&'static str),
    /// One tensor, ordered by head: `[n_heads, 3, d_head]`.
    FusedPerHead(&'static str),
    /// Three tensors.
    Separate([&'static str; 3]),
}

/// The tensors of a block's MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MlpTensors {
    /// `W_in`, `W_out`.
    Plain([&'static str; 2]),
    /// `W_gate`, `W_in`, `W_out`.
    Gated([&'static str; 3]),
    /// `W_gate` stacked on `W_in` in one tensor, then `W_out`.
    FusedGate([&'static str; 2]),
}

/// Names of a family's tensors. Names of a block's parts are prefixed by `{block}.{layer}.`, and a norm's or matrix's
/// name is followed by `.weight` or `.bias`. The [`ModelSpec`](crate::spec::ModelSpec) and
/// [`Parameters`](super::Parameters) determine which of them a checkpoint has; names of parts that the family never has
/// are empty.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tensors {
    /// Prefixes of all names, which depend on the class that saved the file. The first one that matches is removed.
    pub(crate) prefixes: &'static [&'static str],
    pub(crate) embed: &'static str,
    pub(crate) pos_embed: &'static str,
    pub(crate) block: &'static str,
    pub(crate) ln1: &'static str,
    /// The norm of attention's output.
    pub(crate) ln1_post: &'static str,
    pub(crate) qkv: QkvTensors,
    pub(crate) q_norm: &'static str,
    pub(crate) k_norm: &'static str,
    pub(crate) w_o: &'static str,
    pub(crate) ln2: &'static str,
    /// The norm of the MLP's output.
    pub(crate) ln2_post: &'static str,
    pub(crate) mlp: MlpTensors,
    pub(crate) ln_final: &'static str,
    pub(crate) unembed: &'static str,
    pub(crate) stored: Stored,
    /// Constants that some versions of Transformers saved with a block: causal masks, rotary frequencies.
    pub(crate) buffers: &'static [&'static str],
}

/// Prefixes added by wrappers of a whole model: `torch.compile`, and data-parallel training.
const WRAPPERS: [&str; 2] = ["_orig_mod.", "module."];

/// The wrapper prefix shared by all `names`; empty if some lack it.
pub(crate) fn wrapper<'n>(names: impl Iterator<Item = &'n str> + Clone) -> &'n str {
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

impl Tensors {
    /// A tensor's name without the file's prefix.
    pub(crate) fn canonical<'n>(&self, name: &'n str) -> &'n str {
        self.prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
    }

    /// Whether a canonical name belongs to a tensor outside the decoder that does not affect it: another output head
    /// (`score`, `v_head`), a version number, cached sines and cosines. Adapters do affect it, and so may unknown tensors
    /// in the decoder's own modules.
    pub(crate) fn is_outside_decoder(&self, canonical: &str) -> bool {
        const CACHED: [&str; 2] = ["cos_cached", "sin_cached"];
        const ADAPTERS: [&str; 4] = ["lora", "adapter", "prompt_e", "ia3"];
        let own = [
            self.embed,
            self.pos_embed,
            self.block,
            self.ln_final,
            self.unembed,
            "project_in",
            "project_out",
        ];
        let top = canonical.split('.').next().unwrap_or_default();
        let is_cached = canonical.rsplit('.').next().is_some_and(|last| CACHED.contains(&last));
        let is_adapter = ADAPTERS.iter().any(|word| canonical.to_ascii_lowercase().contains(word));
        !is_adapter && (is_cached || !own.contains(&top))
    }

    /// Whether a canonical name belongs to a constant that is recomputed instead of read: one per block, or (in
    /// some files) one for the whole model.
    pub(crate) fn is_buffer(&self, canonical: &str) -> bool {
        let part = || {
            let rest = canonical.strip_prefix(self.block)?.strip_prefix('.')?;
            let (layer, part) = rest.split_once('.')?;
            layer.bytes().all(|b| b.is_ascii_digit()).then_some(part)
        };
        self.buffers.contains(&part().unwrap_or(canonical))
    }
}
