"""The twelve miniature models: four architectures of Transformers, three sizes each."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
)

N_POSITIONS = 64
# GPT-Neo's local layers see this many tokens, fewer than the longest prompts have.
LOCAL_WINDOW = 16


@dataclass(frozen=True)
class Size:
    """One model size, with its number of steps and learning rate."""

    family: str
    n_layers: int
    n_heads: int
    d_model: int
    steps: int
    learning_rate: float
    copying_start: bool = False  # see start_by_copying


LADDER = {
    "mini-gpt2-s": Size("gpt2", 2, 4, 40, 4000, 3e-3, copying_start=True),
    "mini-gpt2-m": Size("gpt2", 3, 4, 64, 2400, 3e-3),
    "mini-gpt2-l": Size("gpt2", 5, 8, 96, 4000, 2e-3),
    "mini-pythia-s": Size("pythia", 2, 4, 40, 4000, 3e-3),
    "mini-pythia-m": Size("pythia", 3, 4, 64, 2400, 3e-3),
    "mini-pythia-l": Size("pythia", 4, 6, 96, 4000, 2e-3),
    "mini-opt-s": Size("opt", 2, 4, 40, 4000, 3e-3, copying_start=True),
    "mini-opt-m": Size("opt", 3, 4, 64, 5000, 3e-3),
    "mini-opt-l": Size("opt", 5, 8, 96, 4000, 2e-3),
    "mini-gpt-neo-s": Size("gpt-neo", 2, 4, 40, 4000, 3e-3, copying_start=True),
    "mini-gpt-neo-m": Size("gpt-neo", 4, 4, 56, 4000, 3e-3, copying_start=True),
    "mini-gpt-neo-l": Size("gpt-neo", 6, 8, 80, 4000, 2e-3),
}


@torch.no_grad()
def start_by_copying(model: PreTrainedModel, family: str) -> None:
    """Sets every head's W_O to its W_V transposed, so that a head initially copies some of what it attends to.

    Where the unembedding is the embedding, that makes an attended token likelier from the first step. Forty numbers are so
    few for a thousand tokens that the smallest models otherwise spend all their steps before they begin to copy names.
    """
    for name, module in model.named_modules():
        if family == "gpt2" and name.endswith(".attn"):
            d = module.c_proj.weight.shape[0]
            module.c_proj.weight.copy_(module.c_attn.weight[:, 2 * d :].T)
        elif hasattr(module, "v_proj"):
            module.out_proj.weight.copy_(module.v_proj.weight.T)


def build(size: Size, d_vocab: int, bos_id: int) -> PreTrainedModel:
    """A fresh model of a size; see `build_plain` for how it starts."""
    model = build_plain(size, d_vocab, bos_id)
    if size.copying_start:
        start_by_copying(model, size.family)
    return model


def build_plain(size: Size, d_vocab: int, bos_id: int) -> PreTrainedModel:
    """A fresh model. No dropout: a run sees each document about once, so there is nothing to overfit.

    Transformers' initial deviation of 0.02 is made for widths near 768; here it goes with the width, or attention would take
    thousands of steps to leave its flat start.
    """
    d, ids = size.d_model, {"bos_token_id": bos_id, "eos_token_id": bos_id}
    std = 0.8 * d**-0.5
    if size.family == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=d_vocab, n_positions=N_POSITIONS, n_embd=d, n_layer=size.n_layers, n_head=size.n_heads,
                resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, initializer_range=std, **ids,
            )
        )
    if size.family == "pythia":
        return GPTNeoXForCausalLM(
            GPTNeoXConfig(
                vocab_size=d_vocab, max_position_embeddings=N_POSITIONS, hidden_size=d, intermediate_size=4 * d,
                num_hidden_layers=size.n_layers, num_attention_heads=size.n_heads, rotary_pct=0.25,
                use_parallel_residual=True, tie_word_embeddings=False, initializer_range=std, **ids,
            )
        )
    if size.family == "opt":
        return OPTForCausalLM(
            OPTConfig(
                vocab_size=d_vocab, max_position_embeddings=N_POSITIONS, hidden_size=d, word_embed_proj_dim=d,
                ffn_dim=4 * d, num_hidden_layers=size.n_layers, num_attention_heads=size.n_heads,
                do_layer_norm_before=True, activation_function="relu", dropout=0.0, pad_token_id=1, init_std=std, **ids,
            )
        )
    if size.family == "gpt-neo":
        model = GPTNeoForCausalLM(
            GPTNeoConfig(
                vocab_size=d_vocab, max_position_embeddings=N_POSITIONS, hidden_size=d, num_layers=size.n_layers,
                num_heads=size.n_heads, attention_types=[[["global", "local"], size.n_layers // 2]],
                window_size=LOCAL_WINDOW, activation_function="gelu_new", resid_dropout=0.0, embed_dropout=0.0,
                attention_dropout=0.0, initializer_range=std, **ids,
            )
        )
        # Its scores are not divided by sqrt(d_head), so this wide a start would make attention too sharp to learn from:
        # queries and keys take half of that factor each.
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith(("q_proj.weight", "k_proj.weight")):
                    parameter *= (d // size.n_heads) ** -0.25
        return model
    raise ValueError(f"unknown family {size.family!r}")
