"""The same checkpoints in TransformerLens with its default weight processing, in float64, as an independent reference."""

import copy

import torch
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import (
    convert_gpt2_weights,
    convert_neo_weights,
    convert_neox_weights,
    convert_opt_weights,
)
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.modeling_utils import no_init_weights

CONVERT = {
    "gpt2": convert_gpt2_weights,
    "gpt_neox": convert_neox_weights,
    "opt": convert_opt_weights,
    "gpt_neo": convert_neo_weights,
}


def can_represent(config) -> bool:
    """TransformerLens has no post-norm blocks and always ends with a norm."""
    return config.model_type != "opt" or (config.do_layer_norm_before and not config._remove_final_layer_norm)


def with_all_biases(hf: PreTrainedModel) -> PreTrainedModel:
    """The same function with explicit zero biases and unit norms, which the weight conversions assume."""
    config = copy.deepcopy(hf.config)
    config.attention_bias = config.enable_bias = config.layer_norm_elementwise_affine = True
    with no_init_weights():
        full = AutoModelForCausalLM.from_config(config)
    for module in full.modules():
        if isinstance(module, torch.nn.LayerNorm):
            torch.nn.init.ones_(module.weight)
        if getattr(module, "bias", None) is not None and isinstance(module.bias, torch.nn.Parameter):
            torch.nn.init.zeros_(module.bias)
    full.tie_weights()
    missing, unexpected = full.load_state_dict(hf.state_dict(), strict=False)
    assert not unexpected and all("bias" in key or "norm" in key for key in missing), (missing, unexpected)
    return full


def lens_config(config) -> HookedTransformerConfig:
    d_model, n_heads = config.hidden_size, config.num_attention_heads
    common = dict(
        n_layers=config.num_hidden_layers,
        n_heads=n_heads,
        d_model=d_model,
        d_head=d_model // n_heads,
        n_ctx=config.max_position_embeddings,
        d_vocab=config.vocab_size,
        normalization_type="LN",
        dtype=torch.float64,
        device="cpu",
    )
    match config.model_type:
        case "gpt2":
            family = dict(
                act_fn=config.activation_function,
                d_mlp=config.n_inner or 4 * d_model,
                eps=config.layer_norm_epsilon,
                use_attn_scale=config.scale_attn_weights,
                scale_attn_by_inverse_layer_idx=config.scale_attn_by_inverse_layer_idx,
            )
        case "gpt_neo":
            family = dict(
                act_fn=config.activation_function,
                d_mlp=config.intermediate_size or 4 * d_model,
                eps=config.layer_norm_epsilon,
                use_attn_scale=False,
                use_local_attn=True,
                attn_types=config.attention_layers,
                window_size=config.window_size,
            )
        case "gpt_neox":
            family = dict(
                act_fn=config.hidden_act,
                d_mlp=config.intermediate_size,
                eps=config.layer_norm_eps,
                parallel_attn_mlp=config.use_parallel_residual,
                positional_embedding_type="rotary",
                rotary_adjacent_pairs=False,
                rotary_dim=int(config.rotary_pct * (d_model // n_heads)),
                rotary_base=config.rotary_emb_base,
            )
        case "opt":
            family = dict(act_fn=config.activation_function, d_mlp=config.ffn_dim, eps=1e-5)
    return HookedTransformerConfig(**common, **family)


class Lens:
    """A checkpoint in TransformerLens, answering what the hooks on Hugging Face modules answer."""

    def __init__(self, hf: PreTrainedModel):
        full = with_all_biases(hf).double()
        cfg = lens_config(hf.config)
        state = CONVERT[hf.config.model_type](full, cfg)
        if getattr(hf.config, "word_embed_proj_dim", cfg.d_model) != cfg.d_model:
            decoder = full.model.decoder
            state["embed.W_E"] = decoder.embed_tokens.weight @ decoder.project_in.weight.T
            state["unembed.W_U"] = (full.lm_head.weight @ decoder.project_out.weight).T
        self.model = HookedTransformer(cfg)
        self.model.load_and_process_state_dict(
            {key: value.detach().clone() for key, value in state.items()},
            fold_ln=True,
            center_writing_weights=True,
            center_unembed=True,
            fold_value_biases=True,
        )
        rotary = cfg.positional_embedding_type == "rotary"
        self.hook_names = {"q": "hook_rot_q" if rotary else "hook_q", "k": "hook_rot_k" if rotary else "hook_k"}

    def hook_name(self, layer: int, stream: str) -> str:
        return f"blocks.{layer}.attn.{self.hook_names.get(stream, f'hook_{stream}')}"

    @torch.no_grad()
    def logits(self, tokens: list[int], edits: list[tuple[int, int, str, torch.Tensor | float]] = ()) -> torch.Tensor:
        """[len, d_vocab], minus each position's mean over the vocabulary (the unembedding is centred)."""
        fwd_hooks = []
        for layer, head, stream, value in edits:
            # q, k, v, z: [1, len, n_heads, d_head]; pattern: [1, n_heads, len, len]
            index = (slice(None), head) if stream == "pattern" else (slice(None), slice(None), head)

            def replace(x, hook, index=index, value=value):
                x = x.clone()
                x[index] = value
                return x

            fwd_hooks.append((self.hook_name(layer, stream), replace))
        return self.model.run_with_hooks(torch.tensor([tokens]), fwd_hooks=fwd_hooks)[0]

    @torch.no_grad()
    def streams(self, tokens: list[int]) -> dict[str, torch.Tensor]:
        """stream -> [n_layers, len, n_heads, d_head], pattern -> [n_layers, n_heads, len, len]"""
        _, cache = self.model.run_with_cache(torch.tensor([tokens]))
        return {
            stream: torch.stack([cache[self.hook_name(layer, stream)][0] for layer in range(self.model.cfg.n_layers)])
            for stream in ("q", "k", "v", "z", "pattern")
        }
