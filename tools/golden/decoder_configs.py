"""The tiny checkpoints of the families with grouped-query attention, RMS norms, gates and scaled rotary, and their quirks.

Arguments are those of Transformers 4; version 5 understands them, and writes them its own way.
"""

import torch
from transformers import (
    Gemma2Config,
    Gemma3TextConfig,
    GPTJConfig,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    Phi3Config,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
    StableLmConfig,
)

from configs import Golden

CLASSES = {
    "gemma2": Gemma2Config,
    "gemma3_text": Gemma3TextConfig,
    "llama": LlamaConfig,
    "mistral": MistralConfig,
    "olmo2": Olmo2Config,
    "phi3": Phi3Config,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
    "stablelm": StableLmConfig,
}
IDS = dict(bos_token_id=0, eos_token_id=0, pad_token_id=None)


def decoder(
    family: str, n_layers: int, heads: tuple[int, int], d_model: int, d_mlp: int, d_vocab=43, **kwargs
) -> PretrainedConfig:
    """`heads` counts query heads, then key and value heads."""
    kwargs = dict(max_position_embeddings=16) | kwargs
    return CLASSES[family](
        vocab_size=d_vocab, hidden_size=d_model, intermediate_size=d_mlp, num_hidden_layers=n_layers,
        num_attention_heads=heads[0], num_key_value_heads=heads[1], **IDS, **kwargs,
    )  # fmt: skip


def gptj(n_layers: int, n_heads: int, d_head: int, rotary_dim: int, d_vocab: int = 42, **kwargs) -> GPTJConfig:
    return GPTJConfig(
        vocab_size=d_vocab, n_positions=16, n_embd=n_heads * d_head, n_layer=n_layers, n_head=n_heads,
        rotary_dim=rotary_dim, bos_token_id=0, eos_token_id=0, **kwargs,
    )  # fmt: skip


def golden(name: str, config: PretrainedConfig, quirks: list[str], saved_by: int, **kwargs) -> Golden:
    return Golden(name, config, quirks, saved_by=saved_by, measured_by=5, **kwargs)


DECODERS = [
    # Llama.
    golden("llama-default", decoder("llama", 3, (3, 1), 21, 17, head_dim=10), ["one key head", "head_dim 10 of d_model 21", "untied"], 5),
    golden(
        "llama-3-rotary",
        decoder(
            "llama", 2, (6, 2), 30, 33, head_dim=16, max_position_embeddings=128, tie_word_embeddings=True, rope_theta=10000.0, rms_norm_eps=1e-5,
            rope_scaling={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64},
        ),
        ["rotary scaling llama3 with wavelengths on all three sides", "2 key heads for 6", "tied", "bfloat16 file"],
        4,
        dtype=torch.bfloat16,
    ),
    golden(
        "llama-biases",
        decoder(
            "llama", 2, (5, 5), 30, 19, attention_bias=True, mlp_bias=True, hidden_act="gelu", rms_norm_eps=1e-2,
            rope_scaling={"rope_type": "linear", "factor": 2.5},
        ),
        ["attention_bias and mlp_bias", "rotary scaling linear", "as many key heads as heads", "exact gelu in the gate", "rms_norm_eps 1e-2"],
        5,
    ),
    golden(
        "llama-old-hub",
        decoder("llama", 2, (3, 3), 24, 28, rms_norm_eps=1e-5),
        ["config.json with Llama 2's first keys only", "rotary buffers in the file", "float16 file"],
        4,
        dtype=torch.float16,
        hub_config=True,
        old_buffers=True,
        extra_config={"pretraining_tp": 1, "rope_scaling": None},
    ),
    golden(
        "llama-dynamic-within",
        decoder("llama", 2, (4, 2), 20, 15, head_dim=6, rope_scaling={"type": "dynamic", "factor": 3.0}),
        ["rotary scaling dynamic, prompts within max_position_embeddings", "`type` for `rope_type`"],
        4,
    ),
    golden(
        "llama-dynamic-beyond",
        decoder("llama", 2, (3, 1), 18, 15, head_dim=8, max_position_embeddings=8, rope_scaling={"rope_type": "dynamic", "factor": 3.0}),
        ["rotary scaling dynamic, prompts of 13 tokens beyond max_position_embeddings 8"],
        5,
        rotary_depends_on_length=True,
    ),
    # Mistral.
    golden(
        "mistral-window",
        decoder("mistral", 3, (3, 1), 18, 23, head_dim=8, sliding_window=4),
        ["sliding_window 4 in every layer", "one key head", "head_dim 8 of d_model 18"],
        4,
    ),
    golden(
        "mistral-no-window",
        decoder("mistral", 2, (6, 3), 36, 20, sliding_window=None, rope_theta=1000000.0, hidden_act="gelu_pytorch_tanh", tie_word_embeddings=True),
        ["sliding_window null", "3 key heads for 6", "rope_theta 1e6", "tied", "tanh gelu in the gate"],
        5,
    ),
    # Qwen2.
    golden(
        "qwen2-window",
        decoder("qwen2", 3, (6, 2), 24, 21, tie_word_embeddings=True, use_sliding_window=True, sliding_window=3, max_window_layers=1),
        ["use_sliding_window with window 3 from layer 1 on", "biases of q, k, v", "tied", "config.json with the hub's keys only: no layer_types"],
        4,
        hub_config=True,
    ),
    golden(
        "qwen2-yarn",
        decoder(
            "qwen2", 2, (3, 1), 36, 20, max_position_embeddings=64, sliding_window=4, max_window_layers=1, rope_theta=100.0,
            rope_scaling={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "beta_fast": 1.0, "beta_slow": 0.25},
        ),
        ["rotary scaling yarn with a ramp", "a sliding_window that use_sliding_window turns off", "biases of q, k, v", "untied"],
        5,
    ),
    # Qwen3.
    golden(
        "qwen3-default",
        decoder("qwen3", 3, (4, 2), 20, 17, head_dim=12, rms_norm_eps=1e-3),
        ["q and k norms per head", "head_dim 12 of d_model 20", "rms_norm_eps 1e-3"],
        5,
    ),
    golden(
        "qwen3-biases",
        decoder(
            "qwen3", 3, (3, 1), 21, 18, head_dim=12, max_position_embeddings=256, attention_bias=True, tie_word_embeddings=True, use_sliding_window=True, sliding_window=4,
            max_window_layers=2, rope_theta=100.0,
            rope_scaling={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 4.0, "beta_slow": 1.0, "attention_factor": 1.25, "truncate": False},
        ),
        ["attention_bias with q and k norms", "yarn with attention_factor, without truncation", "window 4 in the last layer", "tied"],
        4,
    ),
    # Gemma 2.
    golden(
        "gemma2-default",
        decoder(
            "gemma2", 4, (3, 1), 18, 19, head_dim=8, query_pre_attn_scalar=20, sliding_window=3,
            attn_logit_softcapping=2.0, final_logit_softcapping=4.0,
        ),
        ["windows in even layers", "soft caps of scores and logits", "query_pre_attn_scalar 20 with head_dim 8", "norms of both sides, `1 + w`", "scaled embedding", "tied"],
        4,
    ),
    golden(
        "gemma2-no-caps",
        decoder(
            "gemma2", 3, (6, 2), 24, 15, head_dim=10, query_pre_attn_scalar=6, sliding_window=4, attention_bias=True, hidden_activation="gelu",
            attn_logit_softcapping=None, final_logit_softcapping=None, tie_word_embeddings=False, layer_types=["full_attention", "sliding_attention", "sliding_attention"],
        ),
        ["no soft caps", "attention_bias", "layer_types that do not alternate", "untied", "exact gelu", "bfloat16 file"],
        5,
        dtype=torch.bfloat16,
    ),
    # Gemma 3.
    golden(
        "gemma3-five-to-one",
        decoder(
            "gemma3_text", 7, (2, 1), 14, 13, head_dim=8, query_pre_attn_scalar=11, sliding_window=3, rope_theta=1000.0, rope_local_base_freq=50.0,
            rope_scaling={"rope_type": "linear", "factor": 8.0},
        ),
        ["five windowed layers to a full one", "a rotary base for each kind, linear scaling in full layers only", "q and k norms per head, `1 + w`", "config.json with the hub's keys only: sliding_window_pattern for layer_types"],
        4,
        hub_config=True,
        extra_config={"sliding_window_pattern": 6},
    ),
    golden(
        "gemma3-layer-types",
        decoder(
            "gemma3_text", 3, (3, 3), 21, 16, head_dim=6, query_pre_attn_scalar=9, sliding_window=4, attention_bias=True, final_logit_softcapping=3.0,
            layer_types=["full_attention", "sliding_attention", "full_attention"], rope_theta=500.0, rope_local_base_freq=20.0,
        ),
        ["layer_types", "rope_parameters for each kind of layer", "soft cap of logits", "attention_bias"],
        5,
    ),
    # OLMo 2.
    golden(
        "olmo2-default",
        decoder("olmo2", 3, (3, 1), 24, 17, rms_norm_eps=1e-3),
        ["norms after attention and MLP, none before", "q and k norms over all heads", "one key head", "untied"],
        5,
    ),
    golden(
        "olmo2-biases",
        decoder("olmo2", 2, (5, 5), 30, 22, attention_bias=True, tie_word_embeddings=True, rope_scaling={"type": "linear", "factor": 4.0}, rope_theta=500.0),
        ["attention_bias", "as many key heads as heads", "rotary scaling linear", "tied"],
        4,
    ),
    # Phi 3.
    golden(
        "phi3-window",
        decoder("phi3", 3, (3, 3), 24, 19, sliding_window=4),
        ["fused q, k, v and fused gate and up", "sliding_window 4"],
        4,
    ),
    golden(
        "phi3-longrope-short",
        decoder(
            "phi3", 2, (6, 2), 48, 25, tie_word_embeddings=True, max_position_embeddings=64, original_max_position_embeddings=16, partial_rotary_factor=0.75,
            rope_scaling={"type": "longrope", "short_factor": [1.0, 1.5, 2.0], "long_factor": [1.0, 4.0, 9.0]},
        ),
        ["rotary scaling longrope, prompts within original_max_position_embeddings", "partial_rotary_factor 0.75", "2 key heads for 6", "tied"],
        4,
    ),
    golden(
        "phi3-longrope-both",
        decoder(
            "phi3", 2, (4, 1), 32, 20, max_position_embeddings=64, original_max_position_embeddings=8,
            rope_scaling={"type": "longrope", "short_factor": [1.0, 1.1, 1.3, 1.6], "long_factor": [1.0, 2.0, 5.0, 9.0]},
        ),
        ["rotary scaling longrope, prompts on both sides of original_max_position_embeddings 8", "one key head for 4"],
        5,
        rotary_depends_on_length=True,
    ),
    # GPT-J.
    golden(
        "gptj-default",
        gptj(3, 3, 10, 4),
        ["parallel block with one norm", "rotary of neighbouring pairs over 4 of 10", "unembedding bias", "tanh gelu"],
        5,
    ),
    golden(
        "gptj-old-hub",
        gptj(2, 5, 6, 6, n_inner=23, activation_function="gelu", layer_norm_epsilon=1e-3),
        ["config.json with the hub's keys only", "mask buffers in the file", "rotary over the whole head", "n_inner", "float16 file"],
        4,
        dtype=torch.float16,
        hub_config=True,
        old_buffers=True,
    ),
    # StableLM.
    golden(
        "stablelm-default",
        decoder("stablelm", 3, (3, 1), 24, 17, use_qkv_bias=True),
        ["layer norms with biases before a gated MLP", "partial_rotary_factor 0.25 of d_head 8", "use_qkv_bias", "one key head"],
        5,
    ),
    golden(
        "stablelm-parallel",
        decoder("stablelm", 2, (6, 2), 48, 20, use_parallel_residual=True, qk_layernorm=True, partial_rotary_factor=0.5, tie_word_embeddings=True, layer_norm_eps=1e-3),
        ["use_parallel_residual with one norm", "qk_layernorm: a layer norm for every head", "partial_rotary_factor 0.5", "tied"],
        4,
    ),
]  # fmt: skip
