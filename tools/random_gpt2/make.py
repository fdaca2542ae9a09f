"""A GPT-2 of any shape with random weights, as Transformers initialises them, for timing without real weights.

    python tools/random_gpt2/make.py OUT                                     # 6 layers of 8 heads, 256 wide
    python tools/random_gpt2/make.py OUT --layers 12 --heads 12 --width 768  # GPT-2 small's shape

The same shape and seed give the same file. Needs numpy and safetensors. The tokenizer is copied from another checkpoint's
folder, by default a miniature's.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

MINIATURE = Path(__file__).parents[2] / "models" / "mini-gpt2-l"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--deviation", type=float, default=0.02, help="standard deviation of the weights")
    parser.add_argument("--tokenizer", type=Path, default=MINIATURE, help="folder with a tokenizer.json")
    args = parser.parse_args()

    tokenizer = json.loads((args.tokenizer / "tokenizer.json").read_text())
    ids = tokenizer["model"]["vocab"] | {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    rng = np.random.default_rng(args.seed)
    d, n_ctx, d_vocab, bos = args.width, 1024, max(ids.values()) + 1, ids["<|endoftext|>"]

    def normal(*shape, deviation=args.deviation):
        return rng.normal(0.0, deviation, shape).astype(np.float32)

    def norm(name):
        return {f"{name}.weight": np.ones(d, np.float32), f"{name}.bias": np.zeros(d, np.float32)}

    def conv1d(name, d_in, d_out, deviation=args.deviation):
        weight = normal(d_in, d_out, deviation=deviation)
        return {f"{name}.weight": weight, f"{name}.bias": np.zeros(d_out, np.float32)}

    # What adds to the residual stream is smaller in deeper models.
    residual = args.deviation / np.sqrt(2 * args.layers)
    tensors = {"wte.weight": normal(d_vocab, d), "wpe.weight": normal(n_ctx, d), **norm("ln_f")}
    for layer in range(args.layers):
        h = f"h.{layer}"
        tensors |= norm(f"{h}.ln_1") | norm(f"{h}.ln_2")
        tensors |= conv1d(f"{h}.attn.c_attn", d, 3 * d) | conv1d(f"{h}.attn.c_proj", d, d, residual)
        tensors |= conv1d(f"{h}.mlp.c_fc", d, 4 * d) | conv1d(f"{h}.mlp.c_proj", 4 * d, d, residual)

    config = {
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "activation_function": "gelu_new",
        "n_embd": d, "n_head": args.heads, "n_layer": args.layers, "n_positions": n_ctx, "n_ctx": n_ctx,
        "layer_norm_epsilon": 1e-5, "vocab_size": d_vocab,
        "bos_token_id": bos, "eos_token_id": bos,
    }  # fmt: skip
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file(tensors, args.out / "model.safetensors", metadata={"format": "pt"})
    for name in ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt"]:
        if (args.tokenizer / name).exists():
            shutil.copy(args.tokenizer / name, args.out / name)


if __name__ == "__main__":
    main()
