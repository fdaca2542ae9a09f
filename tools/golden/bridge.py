"""What zeroing `hook_z` means in a TransformerLens 4 bridge, by default and in compatibility mode.

    python bridge.py        # writes bridge.json next to some golden checkpoints; versions: requirements5.txt

For each checkpoint the logit difference of every head and prompt of its `expected.safetensors`, with the head's z set to 0 at all
positions. The program's `in-head` must give the first table, its `folded` the second.
"""

import json
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM, AutoTokenizer

GOLDEN = Path(__file__).resolve().parents[2] / "crates/engine/tests/golden"
CHECKPOINTS = ["gpt2-default", "neox-parallel", "opt-prenorm", "neo-alternating", "qwen2-window", "gptj-default"]


def bridge(folder, compatible):
    # The bridge requires a tokenizer, which these checkpoints lack; all prompts are given as tokens.
    tokenizer = AutoTokenizer.from_pretrained(GOLDEN.parent / "files/folders/plain")
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager")
    made = TransformerBridge.boot_transformers(str(folder), hf_model=hf, tokenizer=tokenizer, dtype=torch.float64)
    if compatible:
        made.enable_compatibility_mode(disable_warnings=True)
    return made


def zeroed(model, expected):
    """[n_layers · n_heads, n_prompts]"""
    prompts = torch.split(expected["prompt_tokens"].long(), expected["prompt_lengths"].tolist())
    answers = list(zip(expected["correct_ids"].tolist(), expected["distractor_ids"].tolist()))
    table = []
    for layer in range(model.cfg.n_layers):
        for head in range(model.cfg.n_heads):

            def zero(z, hook, head=head):
                z = z.clone()
                z[:, :, head] = 0
                return z

            row = []
            for tokens, (correct, distractor) in zip(prompts, answers):
                with torch.no_grad():
                    hooks = [(f"blocks.{layer}.attn.hook_z", zero)]
                    logits = model.run_with_hooks(tokens[None], fwd_hooks=hooks, return_type="logits")[0, -1]
                row.append((logits[correct] - logits[distractor]).item())
            table.append(row)
    return table


def main():
    out = {"transformer_lens": version("transformer-lens"), "checkpoints": {}}
    for name in CHECKPOINTS:
        folder = GOLDEN / name
        expected = load_file(folder / "expected.safetensors")
        tables = [zeroed(bridge(folder, compatible), expected) for compatible in [False, True]]
        out["checkpoints"][name] = {"default": tables[0], "compatibility_mode": tables[1]}
        for table, own in zip(tables, ["zero_in_head", "zero_folded"]):
            worst = (torch.tensor(table) - expected[own].double().reshape(len(table), -1)).abs().max().item()
            print(f"{name}: {own} differs by {worst:.2e}")
    out = json.loads(json.dumps(out), parse_float=lambda x: float(f"{float(x):.8g}"))
    (GOLDEN / "bridge.json").write_text(json.dumps(out, separators=(",", ":")) + "\n")


main()
