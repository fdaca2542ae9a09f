"""Seeded random checkpoints on disk, in the layouts of the library and the Hub."""

import json
import re
import zlib
from contextlib import nullcontext
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from configs import HUB_KEYS, Golden


def seed_of(name: str, purpose: str) -> torch.Generator:
    """A generator that depends only on the checkpoint's name and the purpose."""
    return torch.Generator().manual_seed(zlib.crc32(f"{name}/{purpose}".encode()))


@torch.no_grad()
def draw_parameters(model: PreTrainedModel, input_size: float, generator: torch.Generator) -> None:
    """Draws every parameter, biases and norms too.

    A model with biases 0 and norm weights 1 would hide wrong conventions. The matrices are scaled so that logits are
    of size 1 to 10, attention is far from uniform, and every head matters.
    """
    embedding = model.get_input_embeddings().weight
    unembedding = model.get_output_embeddings().weight
    # Without a final norm the residual stream's full size reaches the logits.
    embedding_size = 1.0 if getattr(model.config, "_remove_final_layer_norm", False) else 2.5

    def normal(p: torch.Tensor, std: float, mean: float = 0.0) -> None:
        p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float32) * std + mean)

    for name, module in model.named_modules():
        for kind, p in module.named_parameters(recurse=False):
            if type(module).__name__.endswith("Norm"):
                # Gemma multiplies by 1 + w.
                one = 0.0 if kind == "bias" or type(module).__name__.startswith("Gemma") else 1.0
                normal(p, 0.3, mean=one)
            elif kind == "bias":
                normal(p, 0.3)
            elif p is unembedding:  # tied to the embedding or not
                normal(p, embedding_size / p.shape[1] ** 0.5)
            elif p is embedding:
                normal(p, input_size * embedding_size / p.shape[1] ** 0.5)
            elif isinstance(module, torch.nn.Embedding):  # positions
                normal(p, input_size * 0.5)
            else:
                fan_in = p.shape[0] if isinstance(module, Conv1D) else p.shape[1]
                normal(p, gain(name, model.config) / fan_in**0.5)


def gain(module_name: str, config) -> float:
    """Scale of a matrix's outputs for inputs of scale 1."""
    if re.search(r"c_attn|query_key_value|[qkv]_proj", module_name):
        # Scores that are not divided by sqrt(d_head) need smaller queries and keys.
        unscaled = config.model_type == "gpt_neo" or not getattr(config, "scale_attn_weights", True)
        return 1.0 if unscaled else 1.5
    return 1.2


def old_buffers(golden: Golden) -> dict[str, torch.Tensor]:
    """The buffers that old library versions stored, with the data types they had in the hub's files."""
    config = golden.config
    n_ctx = config.max_position_embeddings
    mask = torch.ones(n_ctx, n_ctx).tril().view(1, 1, n_ctx, n_ctx)
    buffers = {}
    for layer in range(config.num_hidden_layers):
        if golden.family == "gpt2":
            buffers[f"h.{layer}.attn.bias"] = mask.clone()
            buffers[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
        elif golden.family == "gpt_neox":
            attention = f"gpt_neox.layers.{layer}.attention"
            d_rotary = int(config.hidden_size // config.num_attention_heads * config.rotary_pct)
            buffers[f"{attention}.bias"] = mask.bool()
            buffers[f"{attention}.masked_bias"] = torch.tensor(-1e9).half()  # -inf
            buffers[f"{attention}.rotary_emb.inv_freq"] = (
                1 / config.rotary_emb_base ** (torch.arange(0, d_rotary, 2) / d_rotary)
            ).half()
        elif golden.family == "llama":
            d_head = config.hidden_size // config.num_attention_heads
            buffers[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = 1 / 10000 ** (
                torch.arange(0, d_head, 2) / d_head
            )
        elif golden.family == "gptj":
            buffers[f"transformer.h.{layer}.attn.bias"] = mask.bool()
            buffers[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e9)
        elif golden.family == "gpt_neo":
            buffers[f"h.{layer}.attn.attention.bias"] = mask.to(torch.uint8)
            buffers[f"h.{layer}.attn.attention.masked_bias"] = torch.tensor(-1e9)
    if golden.family == "gpt2":
        buffers["attn.masked_bias"] = torch.tensor(-1e4)
    return buffers


def uninitialised():
    """Skips the initialisation of parameters when creating a model, if the library has a switch for it."""
    return getattr(transformers.modeling_utils, "no_init_weights", nullcontext)()


def write_checkpoint(golden: Golden, folder: Path) -> None:
    """Writes config.json and model.safetensors."""
    # The library's own initialisation fails for OPT norms without weights, and nothing of it is kept anyway.
    with uninitialised():
        model = AutoModelForCausalLM.from_config(golden.config)
    model.tie_weights()
    draw_parameters(model, golden.input_size, seed_of(golden.name, "weights"))
    model = model.to(golden.dtype)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)

    file = folder / "model.safetensors"
    tensors = load_file(file)
    if golden.write_tied_head:
        tensors["lm_head.weight"] = model.get_output_embeddings().weight.detach().clone()
    if golden.rename_prefix:
        old, new = golden.rename_prefix
        tensors = {re.sub(f"^{re.escape(old)}", new, key): value for key, value in tensors.items()}
    if golden.old_buffers:
        tensors |= old_buffers(golden)
    save_file(tensors, file, metadata={"format": "pt"})

    config_file = folder / "config.json"
    config = json.loads(config_file.read_text())
    if golden.hub_config:
        config["torch_dtype"] = config.pop("dtype")
        config = {key: value for key, value in config.items() if key in HUB_KEYS[golden.family].split()}
    config |= golden.extra_config
    config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def load_checkpoint(folder: Path, config: PretrainedConfig | None = None) -> PreTrainedModel:
    """Reads a checkpoint back in float32, by the folder's configuration or another, and makes sure that the library found every weight in it."""
    model, info = AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    for problem in ("missing_keys", "mismatched_keys", "error_msgs"):
        assert not info[problem], f"{folder.name}: {problem} {info[problem]}"
    stored = load_file(folder / "model.safetensors")
    for name, parameter in model.named_parameters():
        found = [key for key in stored if name.endswith(key) or key.endswith(name)]
        if not found:  # OPT under `decoder.`, or a tied unembedding
            found = [key for key in stored if name.removeprefix("model.") == key]
        assert any(torch.equal(stored[key].float(), parameter) for key in found), f"{folder.name}: {name} not as stored"
    return model.eval()
