"""Attention heads of the families whose attention is one function, `eager_attention_forward(module, query, key, value, ...)`.

Its arguments and results are q, k (both after norms and rotary), v, z and the pattern, so every stream is read and replaced there.
Keys and values are first given to every query head of their group: an edit of k or v at one query head leaves the others of its group as they are.
"""

import sys
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from hooks import STREAMS, Edit, Run, hooks


class Model:
    """One decoder-only language model, seen as layers of heads."""

    def __init__(self, hf: PreTrainedModel):
        self.hf = hf
        config = hf.config
        self.family: str = config.model_type
        self.n_layers: int = config.num_hidden_layers
        self.n_heads: int = config.num_attention_heads
        self.n_kv_heads: int = getattr(config, "num_key_value_heads", self.n_heads)
        # Query heads to a key and value head.
        self.group: int = self.n_heads // self.n_kv_heads
        self.blocks = hf.transformer.h if self.family == "gptj" else hf.model.layers
        self.attentions = [block.attn if self.family == "gptj" else block.self_attn for block in self.blocks]
        self.d_head: int = self.attentions[0].head_dim
        self.parallel: bool = self.family == "gptj" or getattr(config, "use_parallel_residual", False)
        # Capped scores are not linear; their scale is only checked without a cap.
        self.scores_are_linear: bool = self.family != "gemma2" or config.attn_logit_softcapping is None

    def attention_norm(self, block):
        """The norm whose output attention reads; none if norms are after the branches."""
        match self.family:
            case "gptj":
                return block.ln_1
            case "olmo2":
                return None
            case _:
                return block.input_layernorm

    def mid_module(self, block):
        """The module whose input is resid_mid."""
        match self.family:
            case "olmo2":
                return block.mlp
            case "gemma2" | "gemma3_text":
                return block.pre_feedforward_layernorm
            case _:
                return block.post_attention_layernorm

    @torch.no_grad()
    def constant_v(self, layer: int) -> torch.Tensor:
        """c_h = b_V^h + beta W_V^h, the input-independent part of v: [n_heads, d_head]."""
        beta = getattr(self.attention_norm(self.blocks[layer]), "bias", None)
        if beta is None:
            beta = torch.zeros(self.hf.config.hidden_size, dtype=self.hf.dtype)
        attention = self.attentions[layer]
        v = attention.qkv_proj(beta) if self.family == "phi3" else attention.v_proj(beta)
        return v[-self.n_kv_heads * self.d_head :].view(self.n_kv_heads, self.d_head).repeat_interleave(self.group, 0)

    def after_rotary(self, q: torch.Tensor, k: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """q and k as the scores use them, which is how they were captured."""
        return q, k

    @torch.no_grad()
    def run(self, tokens: list[int], edits: list[Edit] = ()) -> Run:
        """One prompt, alone and unpadded, with some streams replaced; `k` and `v` are given for every query head."""
        captured: dict[tuple[str, int], torch.Tensor] = {}
        self._forget_earlier_lengths()
        with hooks() as hook, self._attention(edits, captured):
            for index, block in enumerate(self.blocks):
                self._hook_residual(hook, index, block, captured)
            logits = self.hf(torch.tensor([tokens]), use_cache=False).logits[0]

        def stacked(name: str) -> torch.Tensor:
            return torch.stack([captured[name, index] for index in range(self.n_layers)])

        resid = ["resid_pre", "resid_post"] if self.parallel else ["resid_pre", "resid_mid", "resid_post"]
        return Run(
            logits=logits,
            pattern=stacked("pattern"),
            heads={stream: stacked(stream) for stream in STREAMS},
            resid={name: stacked(name) for name in resid},
        )

    def _forget_earlier_lengths(self) -> None:
        """Resets `dynamic` rotary: the library keeps the frequencies of the longest prompt so far for some shorter ones."""
        rotary = getattr(getattr(self.hf, "model", None), "rotary_emb", None)
        if getattr(rotary, "rope_type", None) == "dynamic":
            rotary.register_buffer("inv_freq", rotary.original_inv_freq, persistent=False)
            rotary.max_seq_len_cached = rotary.original_max_seq_len

    @contextmanager
    def _attention(self, edits: list[Edit], captured: dict):
        """Stands in for the library's attention function while a prompt runs."""
        modeling = sys.modules[type(self.hf).__module__]
        eager = modeling.eager_attention_forward

        def attend(module, query, key, value, attention_mask, **kwargs):
            # All are [1, heads, len, d_head].
            layer = self.attentions.index(module)
            streams = {"q": query, "k": self._of_every_head(key), "v": self._of_every_head(value)}
            here = [edit for edit in edits if edit.layer == layer]
            for edit in here:
                if edit.stream in streams:
                    streams[edit.stream] = streams[edit.stream].clone()
                    streams[edit.stream][0, edit.head] = edit.value
            with grouped_by_one(module):
                z, pattern = eager(module, *streams.values(), attention_mask, **kwargs)
            # z is [1, len, n_heads, d_head]
            for edit in here:
                if edit.stream == "z":
                    z[0, :, edit.head] = edit.value
                elif edit.stream == "pattern":
                    z[0, :, edit.head] = edit.value @ streams["v"][0, edit.head]
            for stream, x in streams.items():
                captured[stream, layer] = x[0].transpose(0, 1)
            captured["z", layer] = z[0].clone()
            captured["pattern", layer] = pattern[0]
            return z, pattern

        modeling.eager_attention_forward = attend
        try:
            yield
        finally:
            modeling.eager_attention_forward = eager
        assert len([name for name, _ in captured if name == "z"]) == self.n_layers, "attention was not intercepted"

    def _of_every_head(self, x: torch.Tensor) -> torch.Tensor:
        """[1, n_kv_heads, len, d_head] -> [1, n_heads, len, d_head]"""
        return x.repeat_interleave(self.group, dim=1)

    def _hook_residual(self, hook, index: int, block, captured: dict) -> None:
        def keep(name: str, x) -> None:
            captured[name, index] = (x[0] if isinstance(x, tuple) else x)[0].clone()  # one prompt: [len, d_model]

        def before_block(_module, args, kwargs):
            keep("resid_pre", args[0] if args else kwargs["hidden_states"])

        hook(block.register_forward_pre_hook(before_block, with_kwargs=True))
        if not self.parallel:
            hook(self.mid_module(block).register_forward_pre_hook(lambda _module, args: keep("resid_mid", args[0])))
        hook(block.register_forward_hook(lambda _module, _args, output: keep("resid_post", output)))


@contextmanager
def grouped_by_one(module):
    """Makes attention treat every query head as having its own key and value head."""
    if not hasattr(module, "num_key_value_groups"):
        yield
        return
    groups, module.num_key_value_groups = module.num_key_value_groups, 1
    try:
        yield
    finally:
        module.num_key_value_groups = groups
