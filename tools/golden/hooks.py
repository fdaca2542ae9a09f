"""Attention heads of Hugging Face models: the modules with their q, k, v and z, and hooks that read and replace them."""

from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.models.gpt_neox.modeling_gpt_neox import apply_rotary_pos_emb

STREAMS = ["q", "k", "v", "z"]


@dataclass(frozen=True)
class Layer:
    """The modules of one block that concern heads."""

    block: nn.Module
    # The norm whose output attention reads; none in a post-norm block.
    norm: nn.Module | None
    # Modules whose outputs hold q, k and v; their z is the input of `out`.
    q: nn.Module
    k: nn.Module
    v: nn.Module
    out: nn.Module
    # The norm between attention and MLP, and whether resid_mid is its input or (post-norm) its output.
    mid_norm: nn.Module
    mid_is_output: bool


@dataclass
class Run:
    """The results of one forward pass of one prompt, and what was captured."""

    logits: torch.Tensor  # [len, d_vocab]
    pattern: torch.Tensor  # [n_layers, n_heads, len, len]
    # stream -> [n_layers, len, n_heads, d_head]; q and k as the projection leaves them, before rotary
    heads: dict[str, torch.Tensor]
    # resid_pre, resid_mid, resid_post -> [n_layers, len, d_model]
    resid: dict[str, torch.Tensor]


@dataclass
class Edit:
    """Replaces one stream of one head at all positions, by `value` ([len, d_head]; `pattern`: [len, len])."""

    layer: int
    head: int
    stream: str
    value: torch.Tensor


@dataclass
class Model:
    """One decoder-only language model, seen as layers of heads."""

    hf: PreTrainedModel
    layers: list[Layer] = field(init=False)
    # Every query head has its own key and value head, and scores are not capped.
    group = 1
    scores_are_linear = True

    def __post_init__(self):
        config = self.hf.config
        self.family: str = config.model_type
        self.n_layers: int = config.num_hidden_layers
        self.n_heads: int = config.num_attention_heads
        self.d_head: int = config.hidden_size // self.n_heads
        # Pythia's blocks add attention and MLP to the same residual, so there is no resid_mid.
        self.parallel: bool = self.family == "gpt_neox" and config.use_parallel_residual
        self.layers = [getattr(self, f"_{self.family}_layer")(block) for block in self._blocks()]

    def _blocks(self):
        match self.family:
            case "gpt2" | "gpt_neo":
                return self.hf.transformer.h
            case "gpt_neox":
                return self.hf.gpt_neox.layers
            case "opt":
                return self.hf.model.decoder.layers
            case other:
                raise ValueError(f"unknown family {other}")

    def _gpt2_layer(self, block) -> Layer:
        qkv = block.attn.c_attn
        return Layer(block, block.ln_1, qkv, qkv, qkv, block.attn.c_proj, block.ln_2, False)

    def _gpt_neo_layer(self, block) -> Layer:
        attn = block.attn.attention
        return Layer(block, block.ln_1, attn.q_proj, attn.k_proj, attn.v_proj, attn.out_proj, block.ln_2, False)

    def _gpt_neox_layer(self, block) -> Layer:
        qkv = block.attention.query_key_value
        return Layer(
            block, block.input_layernorm, qkv, qkv, qkv, block.attention.dense, block.post_attention_layernorm, False
        )

    def _opt_layer(self, block) -> Layer:
        attn = block.self_attn
        post_norm = not block.do_layer_norm_before
        return Layer(
            block,
            None if post_norm else block.self_attn_layer_norm,
            attn.q_proj,
            attn.k_proj,
            attn.v_proj,
            attn.out_proj,
            block.self_attn_layer_norm if post_norm else block.final_layer_norm,
            post_norm,
        )

    def columns(self, stream: str, head: int) -> slice:
        """The columns of a head's stream in the output of its projection (z: in the input of the output projection)."""
        d = self.d_head
        if stream != "z" and self.family == "gpt2":  # all q, then all k, then all v
            start = ("qkv".index(stream) * self.n_heads + head) * d
        elif stream != "z" and self.family == "gpt_neox":  # q, k, v of head 0, then of head 1, ...
            start = (head * 3 + "qkv".index(stream)) * d
        else:
            start = head * d
        return slice(start, start + d)

    def split_heads(self, stream: str, x: torch.Tensor) -> torch.Tensor:
        """[..., width] -> [..., n_heads, d_head]"""
        return torch.stack([x[..., self.columns(stream, head)] for head in range(self.n_heads)], dim=-2)

    @torch.no_grad()
    def constant_v(self, layer: int) -> torch.Tensor:
        """c_h = b_V^h + beta W_V^h, the input-independent part of v: [n_heads, d_head]."""
        norm, v = self.layers[layer].norm, self.layers[layer].v
        beta = None if norm is None else norm.bias
        if beta is None:
            beta = torch.zeros(self.hf.config.hidden_size, dtype=self.hf.dtype)
        return self.split_heads("v", v(beta[None, :])[0])

    @torch.no_grad()
    def run(self, tokens: list[int], edits: list[Edit] = ()) -> Run:
        """One prompt, alone and unpadded, with some streams replaced."""
        captured: dict[tuple[str, int], torch.Tensor] = {}
        with hooks() as hook:
            for index, layer in enumerate(self.layers):
                here = [edit for edit in edits if edit.layer == index]
                self._hook_heads(hook, index, layer, here, captured)
                self._hook_residual(hook, index, layer, captured)
            out = self.hf(torch.tensor([tokens]), output_attentions=True, use_cache=False)

        def stacked(name: str) -> torch.Tensor:
            return torch.stack([captured[name, index] for index in range(self.n_layers)])

        resid = {name: stacked(name) for name in ("resid_pre", "resid_mid", "resid_post")}
        if self.parallel:
            del resid["resid_mid"]
        return Run(
            logits=out.logits[0],
            pattern=torch.stack([pattern[0] for pattern in out.attentions]),
            heads={stream: stacked(stream) for stream in STREAMS},
            resid=resid,
        )

    def _hook_heads(self, hook, index: int, layer: Layer, edits: list[Edit], captured: dict) -> None:
        for stream in "qkv":
            # One closure each: `stream` must not be the loop's last value.
            def project(_module, _args, output, stream=stream):
                output = output.clone()
                for edit in edits:
                    if edit.stream == stream:
                        output[0, :, self.columns(stream, edit.head)] = edit.value
                captured[stream, index] = self.split_heads(stream, output[0])
                return output

            hook(getattr(layer, stream).register_forward_hook(project))

        def before_output(_module, args):
            z = args[0].clone()
            for edit in edits:
                columns = self.columns("z", edit.head)
                if edit.stream == "z":
                    z[0, :, columns] = edit.value
                elif edit.stream == "pattern":
                    z[0, :, columns] = edit.value @ captured["v", index][:, edit.head]
            captured["z", index] = self.split_heads("z", z[0])
            return (z,)

        hook(layer.out.register_forward_pre_hook(before_output))

    def _hook_residual(self, hook, index: int, layer: Layer, captured: dict) -> None:
        d_model = self.hf.config.hidden_size

        def keep(name: str, x) -> None:
            x = x[0] if isinstance(x, tuple) else x
            captured[name, index] = x.reshape(-1, d_model).clone()  # one prompt: [len, d_model]

        def before_block(_module, args, kwargs):
            keep("resid_pre", args[0] if args else kwargs["hidden_states"])

        hook(layer.block.register_forward_pre_hook(before_block, with_kwargs=True))
        if layer.mid_is_output:
            hook(layer.mid_norm.register_forward_hook(lambda _module, _args, output: keep("resid_mid", output)))
        else:
            hook(layer.mid_norm.register_forward_pre_hook(lambda _module, args: keep("resid_mid", args[0])))
        hook(layer.block.register_forward_hook(lambda _module, _args, output: keep("resid_post", output)))

    @torch.no_grad()
    def after_rotary(self, q: torch.Tensor, k: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """q and k ([n_layers, len, n_heads, d_head]) as the scores use them; only NeoX's rotary changes them."""
        if self.family != "gpt_neox":
            return q, k
        positions = torch.arange(q.shape[1])[None]
        cos, sin = self.hf.gpt_neox.rotary_emb(q, positions)  # [1, len, d_rotary]
        return apply_rotary_pos_emb(q, k, cos, sin, unsqueeze_dim=2)


@contextmanager
def hooks():
    """Yields a function that keeps hook handles, and removes them all at the end."""
    handles = []
    try:
        yield handles.append
    finally:
        for handle in handles:
            handle.remove()
