"""Llama-3.2-1B, Qwen2.5-1.5B and Gemma-2-2B at their real shapes: random weights in bfloat16, logits and head effects compared with Transformers.

    cargo build --release --workspace --example probe
    python decoders.py --probe ../../target/release/examples/probe --scratch DIR

Python as in ../golden/requirements5.txt. Transformers computes in float32 on the same bfloat16 weights, after the program has ended.
The largest model takes 5.3 GB of disk and its float32 weights in memory.
"""

import argparse
import json
import shutil
import subprocess
import time
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

LLAMA = dict(
    model_type="llama", hidden_size=2048, num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8, head_dim=64,
    intermediate_size=8192, vocab_size=128256, max_position_embeddings=131072, rms_norm_eps=1e-5, tie_word_embeddings=True,
    rope_parameters=dict(rope_type="llama3", rope_theta=500000.0, factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0,
                         original_max_position_embeddings=8192), bos_token_id=128000,
)  # fmt: skip
QWEN = dict(
    model_type="qwen2", hidden_size=1536, num_hidden_layers=28, num_attention_heads=12, num_key_value_heads=2,
    intermediate_size=8960, vocab_size=151936, max_position_embeddings=131072, rms_norm_eps=1e-6, tie_word_embeddings=True,
    rope_parameters=dict(rope_type="default", rope_theta=1000000.0), use_sliding_window=False,
)  # fmt: skip
GEMMA = dict(
    model_type="gemma2", hidden_size=2304, num_hidden_layers=26, num_attention_heads=8, num_key_value_heads=4, head_dim=256,
    intermediate_size=9216, vocab_size=256000, max_position_embeddings=8192, rms_norm_eps=1e-6, sliding_window=4096,
    query_pre_attn_scalar=256, bos_token_id=2,
)  # fmt: skip
MODELS = {"Llama-3.2-1B": LLAMA, "Qwen2.5-1.5B": QWEN, "Gemma-2-2B": GEMMA}


def make(config, seed=0):
    """Random weights, gains and biases in bfloat16."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
            else:
                parameter.normal_(0, 0.03)
    return model


@torch.no_grad()
def logits(model, prompt, read, head=None):
    """At the last token; with one head's slice of the output projection's input zeroed, if asked."""
    handles = []
    if head is not None:
        layer, h = head
        width = model.config.num_attention_heads
        width = model.model.layers[layer].self_attn.o_proj.in_features // width

        def hook(_, inputs):
            z = inputs[0].clone()
            z[..., h * width : (h + 1) * width] = 0
            return (z,)

        handles.append(model.model.layers[layer].self_attn.o_proj.register_forward_pre_hook(hook))
    out = model(torch.tensor([prompt]), logits_to_keep=1).logits[0, -1, read].double()
    for handle in handles:
        handle.remove()
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--probe", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--models", default=",".join(MODELS))
    args = parser.parse_args()
    for name in args.models.split(","):
        config = dict(MODELS[name])
        config = AutoConfig.for_model(config.pop("model_type"), **config)
        folder = args.scratch / name
        model = make(config)
        model.save_pretrained(folder)
        generator = torch.Generator().manual_seed(1)
        draw = lambda n: torch.randint(config.vocab_size, (n,), generator=generator).tolist()  # noqa: E731
        start = draw(6)
        prompts, read = [start + draw(6), start + draw(20)], draw(32)
        n, heads = config.num_hidden_layers, config.num_attention_heads
        heads = [(0, 0), (n // 2, heads - 1), (n - 1, 1)]
        request = args.scratch / "request.json"
        request.write_text(json.dumps({"prompts": prompts, "read": read, "heads": heads}))
        del model
        said = json.loads(subprocess.run([args.probe, folder, request], check=True, capture_output=True, text=True).stdout)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        started = time.time()
        plain = torch.stack([logits(model, p, read) for p in prompts])
        zeroed = torch.stack([torch.stack([logits(model, p, read, head) for p in prompts]) for head in heads])
        del model
        shutil.rmtree(folder)
        own_plain, own_zeroed = torch.tensor(said["plain"]).double(), torch.tensor(said["zeroed"]).double()
        effects, own_effects = zeroed - plain, own_zeroed - own_plain
        off = lambda a, b: float((a - b).abs().max())  # noqa: E731
        gib = said["n_params"] * 4 / 2**30
        print(
            f"| {name} | {off(own_plain, plain) / float(plain.abs().max()):.1e} | {off(own_effects, effects):.1e} "
            f"({float(effects.abs().max()):.2f}) | {said['load_seconds']:.1f} | {said['load_peak_bytes'] / 2**30 / gib:.2f} × {gib:.2f} GiB |"
            f"   Transformers: {time.time() - started:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
