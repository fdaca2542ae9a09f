"""The tiny checkpoints: the family and quirk that each one covers, and the layout of its file."""

from dataclasses import dataclass, field

import torch
from transformers import GPT2Config, GPTNeoConfig, GPTNeoXConfig, OPTConfig, PretrainedConfig

# Keys found in the config.json files on the Hugging Face hub. They are older than many options, so a reader must
# know the defaults of missing keys.
HUB_KEYS = {
    "gpt2": "activation_function architectures attn_pdrop bos_token_id embd_pdrop eos_token_id initializer_range"
    " layer_norm_epsilon model_type n_ctx n_embd n_head n_layer n_positions resid_pdrop vocab_size",
    "gpt_neox": "architectures bos_token_id eos_token_id hidden_act hidden_size initializer_range intermediate_size"
    " layer_norm_eps max_position_embeddings model_type num_attention_heads num_hidden_layers rotary_emb_base"
    " rotary_pct tie_word_embeddings torch_dtype use_cache use_parallel_residual vocab_size",
    "opt": "_remove_final_layer_norm activation_dropout activation_function architectures attention_dropout"
    " bos_token_id do_layer_norm_before dropout eos_token_id ffn_dim hidden_size init_std layerdrop"
    " max_position_embeddings model_type num_attention_heads num_hidden_layers pad_token_id prefix torch_dtype"
    " use_cache vocab_size word_embed_proj_dim",
    "gpt_neo": "activation_function architectures attention_dropout attention_layers attention_types bos_token_id"
    " embed_dropout eos_token_id hidden_size initializer_range intermediate_size layer_norm_epsilon"
    " max_position_embeddings model_type num_heads num_layers resid_dropout use_cache vocab_size window_size",
    "llama": "architectures bos_token_id eos_token_id hidden_act hidden_size initializer_range intermediate_size"
    " max_position_embeddings model_type num_attention_heads num_hidden_layers pad_token_id rms_norm_eps"
    " tie_word_embeddings torch_dtype use_cache vocab_size",
    "qwen2": "architectures attention_dropout bos_token_id eos_token_id hidden_act hidden_size initializer_range"
    " intermediate_size max_position_embeddings max_window_layers model_type num_attention_heads num_hidden_layers"
    " num_key_value_heads rms_norm_eps rope_theta sliding_window tie_word_embeddings torch_dtype use_cache"
    " use_sliding_window vocab_size",
    "gemma3_text": "architectures attention_bias attention_dropout attn_logit_softcapping bos_token_id eos_token_id"
    " final_logit_softcapping head_dim hidden_activation hidden_size initializer_range intermediate_size"
    " max_position_embeddings model_type num_attention_heads num_hidden_layers num_key_value_heads pad_token_id"
    " query_pre_attn_scalar rms_norm_eps rope_local_base_freq rope_scaling rope_theta sliding_window torch_dtype"
    " use_cache vocab_size",
    "gptj": "activation_function architectures attn_pdrop bos_token_id embd_pdrop eos_token_id initializer_range"
    " layer_norm_epsilon model_type n_embd n_head n_inner n_layer n_positions resid_pdrop rotary_dim"
    " tie_word_embeddings use_cache vocab_size",
}


@dataclass(frozen=True)
class Golden:
    """One checkpoint to generate."""

    name: str
    config: PretrainedConfig
    quirks: list[str]
    dtype: torch.dtype = torch.float32
    # (from, to): key prefixes changed in the saved file, as files on the hub have them.
    rename_prefix: tuple[str, str] | None = None
    # Mask and rotary buffers that old versions of the library wrote into the file.
    old_buffers: bool = False
    # Write `lm_head.weight` although it is tied to the embedding.
    write_tied_head: bool = False
    # Keep only the keys that the hub's config.json of this family has, under their old names.
    hub_config: bool = False
    # Further keys of config.json, which the hub's files have and the library no longer writes.
    extra_config: dict = field(default_factory=dict)
    # Scale of untied embeddings and of positions. Small ones make the norms' epsilon matter.
    input_size: float = 1.0
    # The last ids of the vocabulary that no prompt and no answer uses.
    n_padding_ids: int = 0
    # Major versions of Transformers that write the checkpoint, and whose values are expected.
    saved_by: int = 4
    measured_by: int = 4
    # Prompts of other lengths than these would be rotated by other frequencies.
    rotary_depends_on_length: bool = False

    @property
    def family(self) -> str:
        return self.config.model_type


def gpt2(n_layers: int, n_heads: int, d_head: int, d_vocab: int = 41, **kwargs) -> GPT2Config:
    return GPT2Config(
        vocab_size=d_vocab, n_positions=16, n_embd=n_heads * d_head, n_layer=n_layers, n_head=n_heads,
        bos_token_id=0, eos_token_id=0, **kwargs,
    )  # fmt: skip


def gpt_neox(n_layers: int, n_heads: int, d_head: int, d_mlp: int, d_vocab: int = 44, **kwargs) -> GPTNeoXConfig:
    return GPTNeoXConfig(
        vocab_size=d_vocab, max_position_embeddings=16, hidden_size=n_heads * d_head, num_hidden_layers=n_layers,
        num_attention_heads=n_heads, intermediate_size=d_mlp, bos_token_id=0, eos_token_id=0, **kwargs,
    )  # fmt: skip


def opt(n_layers: int, n_heads: int, d_head: int, d_mlp: int, d_vocab: int = 43, **kwargs) -> OPTConfig:
    return OPTConfig(
        vocab_size=d_vocab, max_position_embeddings=16, hidden_size=n_heads * d_head, num_hidden_layers=n_layers,
        num_attention_heads=n_heads, ffn_dim=d_mlp, **kwargs,
    )  # fmt: skip


def gpt_neo(n_layers: int, n_heads: int, d_head: int, window: int, d_vocab: int = 42, **kwargs) -> GPTNeoConfig:
    return GPTNeoConfig(
        vocab_size=d_vocab, max_position_embeddings=16, hidden_size=n_heads * d_head, num_layers=n_layers,
        num_heads=n_heads, window_size=window, bos_token_id=0, eos_token_id=0, **kwargs,
    )  # fmt: skip


CONFIGS = [
    # One of each family in its usual form.
    Golden("gpt2-default", gpt2(3, 3, 5), ["gelu_new", "tied unembedding", "keys with `transformer.`"]),
    Golden(
        "neox-parallel",
        gpt_neox(3, 3, 8, 25, rotary_pct=0.25),
        ["parallel block", "rotary_pct 0.25", "exact gelu", "untied unembedding", "interleaved qkv"],
    ),
    Golden("opt-prenorm", opt(3, 3, 7, 20), ["pre-norm", "relu", "positions start at 2", "keys with `model.decoder.`"]),
    Golden(
        "neo-alternating",
        gpt_neo(4, 3, 5, 4, attention_types=[[["global", "local"], 2]]),
        ["global and local layers alternate", "window 4", "unscaled scores", "no q/k/v biases", "gelu_new"],
    ),
    # GPT-2.
    Golden(
        "gpt2-old-hub",
        gpt2(2, 3, 5),
        ["keys without prefix", "mask buffers in the file", "config.json with the hub's keys only"],
        rename_prefix=("transformer.", ""),
        old_buffers=True,
        hub_config=True,
        extra_config={"n_ctx": 16},
    ),
    Golden("gpt2-gelu-exact", gpt2(2, 5, 5, n_inner=36, activation_function="gelu"), ["exact gelu", "n_inner", "5 heads"]),
    Golden(
        "gpt2-relu",
        gpt2(3, 3, 7, n_inner=17, activation_function="relu", layer_norm_epsilon=1e-2),
        ["relu", "n_inner smaller than n_embd", "layer_norm_epsilon 1e-2"],
    ),
    Golden("gpt2-unscaled", gpt2(3, 3, 5, scale_attn_weights=False), ["scale_attn_weights false"]),
    Golden(
        "gpt2-inverse-layer",
        gpt2(4, 3, 5, n_inner=30, scale_attn_by_inverse_layer_idx=True, activation_function="gelu_pytorch_tanh"),
        ["scale_attn_by_inverse_layer_idx true", "gelu_pytorch_tanh", "4 layers"],
    ),
    Golden(
        "gpt2-unscaled-inverse-layer",
        gpt2(3, 3, 5, scale_attn_weights=False, scale_attn_by_inverse_layer_idx=True, activation_function="gelu_fast"),
        ["scale_attn_weights false and scale_attn_by_inverse_layer_idx true together", "gelu_fast"],
    ),
    Golden("gpt2-untied", gpt2(2, 3, 5, n_inner=30, tie_word_embeddings=False), ["untied unembedding", "n_inner"]),
    Golden(
        "gpt2-f16",
        gpt2(2, 3, 12, n_inner=50),
        ["float16 file", "d_head 12", "keys without prefix"],
        dtype=torch.float16,
        rename_prefix=("transformer.", ""),
    ),
    Golden("gpt2-bf16", gpt2(2, 3, 12, n_inner=50), ["bfloat16 file", "d_head 12"], dtype=torch.bfloat16),
    # GPT-NeoX (Pythia).
    Golden(
        "neox-sequential",
        gpt_neox(2, 3, 8, 30, rotary_pct=0.5, use_parallel_residual=False, hidden_act="gelu_new", layer_norm_eps=1e-3),
        ["use_parallel_residual false", "rotary_pct 0.5", "gelu_new", "layer_norm_eps 1e-3"],
    ),
    Golden(
        "neox-full-rotary",
        gpt_neox(2, 3, 6, 30, rotary_pct=1.0, rotary_emb_base=500, hidden_act="gelu_fast", tie_word_embeddings=True),
        ["rotary_pct 1.0", "rotary_emb_base 500", "gelu_fast", "tied unembedding"],
    ),
    Golden(
        "neox-no-attention-bias",
        gpt_neox(3, 3, 7, 25, rotary_pct=0.4, attention_bias=False, tie_word_embeddings=True),
        ["attention_bias false", "rotary_pct 0.4 of d_head 7: 2.8, truncated to 2", "tied unembedding", "keys without `gpt_neox.`"],
        rename_prefix=("gpt_neox.", ""),
    ),
    Golden(
        "neox-pythia-f16",
        gpt_neox(2, 3, 16, 24, d_vocab=48),
        ["float16 file", "mask and rotary buffers in the file", "config.json with the hub's keys only", "vocabulary padded beyond the prompts' tokens"],
        dtype=torch.float16,
        old_buffers=True,
        hub_config=True,
        n_padding_ids=8,
    ),
    # OPT.
    Golden(
        "opt-postnorm",
        opt(3, 3, 7, 30, do_layer_norm_before=False, word_embed_proj_dim=13),
        ["post-norm", "project_in and project_out", "no final norm", "keys with `decoder.`", "config.json with the hub's keys only"],
        rename_prefix=("model.decoder.", "decoder."),
        hub_config=True,
        extra_config={"activation_dropout": 0.0, "prefix": "</s>"},
    ),
    Golden("opt-no-bias", opt(2, 5, 5, 33, enable_bias=False), ["enable_bias false", "norms keep their biases", "5 heads"]),
    Golden(
        "opt-plain-norm",
        opt(3, 3, 5, 40, layer_norm_elementwise_affine=False),
        ["layer_norm_elementwise_affine false", "`lm_head.weight` written although tied"],
        write_tied_head=True,
    ),
    Golden(
        "opt-no-final-norm",
        opt(3, 3, 5, 31, _remove_final_layer_norm=True, activation_function="gelu"),
        ["_remove_final_layer_norm true", "exact gelu"],
    ),
    Golden(
        "opt-projected-f16",
        opt(2, 3, 12, 50, word_embed_proj_dim=16, tie_word_embeddings=False),
        ["float16 file", "pre-norm with project_in and project_out", "untied unembedding", "d_head 12", "inputs so small that epsilon matters"],
        dtype=torch.float16,
        input_size=0.02,
    ),
    Golden(
        "opt-postnorm-no-bias",
        opt(3, 3, 5, 25, do_layer_norm_before=False, enable_bias=False, activation_function="gelu_new"),
        ["post-norm without projections", "enable_bias false", "gelu_new"],
    ),
    # GPT-Neo.
    Golden(
        "neo-local-first",
        gpt_neo(3, 3, 7, 3, attention_types=[[["local"], 2], [["global"], 1]], intermediate_size=29, activation_function="gelu"),
        ["two local layers, then a global one", "window 3", "intermediate_size", "exact gelu"],
    ),
    Golden(
        "neo-old-hub",
        gpt_neo(2, 3, 5, 5, attention_types=[[["global", "local"], 1]], layer_norm_epsilon=1e-3),
        ["keys without prefix", "mask buffers in the file", "config.json with the hub's keys only", "layer_norm_epsilon 1e-3"],
        rename_prefix=("transformer.", ""),
        old_buffers=True,
        hub_config=True,
    ),
]  # fmt: skip
