"""Makes bridge.safetensors beside a golden checkpoint: `hook_z` zeroed in a TransformerLens 4 bridge, as it comes and in its compatibility mode.

    python bridge.py [NAME ...]

Run it with the packages of requirements5.txt. As it comes, a bridge leaves the value biases inside the heads (`--value-bias in-head`); `enable_compatibility_mode()` folds them
into the output bias (`folded`). Both are checked against expected.safetensors.
"""

import argparse
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here needs the network

import torch
from safetensors.torch import load_file, save_file
from transformer_lens.model_bridge import TransformerBridge

from checkpoints import load_checkpoint
from make_golden import GOLDEN, MAX_NOISE, disagreement


@torch.no_grad()
def zeroed(bridge: TransformerBridge, expected: dict[str, torch.Tensor]) -> torch.Tensor:
    """Logit differences with z of each head zeroed: [n_layers, n_heads, n_prompts]."""
    prompts = expected["prompt_tokens"].split(expected["prompt_lengths"].tolist())
    answers = list(zip(expected["correct_ids"].tolist(), expected["distractor_ids"].tolist()))
    diffs = torch.empty(bridge.cfg.n_layers, bridge.cfg.n_heads, len(prompts))
    for layer, head, i in torch.cartesian_prod(*map(torch.arange, diffs.shape)).tolist():

        def zero(z, hook, head=head):  # z: [1, len, n_heads, d_head]
            z = z.clone()
            z[:, :, head] = 0
            return z

        hooks = [(f"blocks.{layer}.attn.hook_z", zero)]
        logits = bridge.run_with_hooks(prompts[i][None].long(), fwd_hooks=hooks)[0, -1]
        correct, distractor = answers[i]
        diffs[layer, head, i] = logits[correct] - logits[distractor]
    return diffs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["gpt2-default"])
    for name in parser.parse_args().names:
        folder = GOLDEN / name
        expected = load_file(folder / "expected.safetensors")
        bridge = TransformerBridge.boot_transformers(str(folder), hf_model=load_checkpoint(folder))
        tables = {"zero": zeroed(bridge, expected)}
        bridge.enable_compatibility_mode(disable_warnings=True)
        tables["zero_compatible"] = zeroed(bridge, expected)
        for table, own in [("zero", "zero_in_head"), ("zero_compatible", "zero_folded")]:
            found = disagreement(tables[table], expected[own])
            print(f"{name}: {table} differs from {own} by {found:.1e}")
            assert found < MAX_NOISE
        apart = disagreement(tables["zero"], tables["zero_compatible"])
        print(f"{name}: the two differ by {apart:.1e}")
        save_file({key: value.contiguous() for key, value in tables.items()}, folder / "bridge.safetensors")


if __name__ == "__main__":
    main()
