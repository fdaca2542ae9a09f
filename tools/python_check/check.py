"""Checks of the Python module against torch: see README.md."""

import argparse
import copy
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import circuit_scaling as cs
import numpy as np
import psutil
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

TOLERANCE = 2e-5


@contextmanager
def zeroed(hf: torch.nn.Module, layer: int, head: int) -> Iterator[None]:
    """Zeroes one head's z, its slice of the output projection's input."""
    attention = hf.model.layers[layer].self_attn

    def hook(module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        z = args[0].clone()
        z[..., head * attention.head_dim : (head + 1) * attention.head_dim] = 0
        return (z,)

    handle = attention.o_proj.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def differences(hf: torch.nn.Module, prompts: list[dict]) -> np.ndarray:
    """Logit differences of prompts, batched by length. [n_prompts]"""
    found = np.empty(len(prompts))
    lengths = np.array([len(prompt["token_ids"]) for prompt in prompts])
    for length in np.unique(lengths):
        at = np.flatnonzero(lengths == length)
        ids = torch.tensor([prompts[i]["token_ids"] for i in at])
        logits = hf(ids, logits_to_keep=1).logits[:, -1].numpy()
        for row, i in zip(logits, at, strict=True):
            found[i] = row[prompts[i]["correct_id"]] - row[prompts[i]["distractor_id"]]
    return found


def worst_delta(hf: torch.nn.Module, model: cs.Model, heads: list[str] | None, n_prompts: int) -> float:
    """The largest difference between Δ of a scan and Δ of hooks on the same model in float64."""
    scan = model.scan("ioi", prompts=n_prompts, resamples=100, value_bias="in-head", heads=heads)
    exact = copy.deepcopy(hf).double()
    split = [prompt for prompt in scan.prompts if prompt["split"] == "discovery"]
    weights = [prompt["weight"] for prompt in split]
    base = differences(exact, split)
    worst = 0.0
    for row in scan.file["heads"]:
        with zeroed(exact, row["layer"], row["head"]):
            delta = np.average(differences(exact, split) - base, weights=weights)
        worst = max(worst, abs(delta - row["delta"]))
    return worst


def random_qwen2(tokenizer_folder: Path) -> tuple[torch.nn.Module, object]:
    """A small Qwen2 with random weights and grouped heads, in bfloat16's values, and a tokenizer that fits it."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.15,
        bos_token_id=None,
        eos_token_id=None,
    )
    hf = Qwen2ForCausalLM(config).eval()
    for name, parameter in hf.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    return hf, tokenizer


def deltas(folder: Path) -> bool:
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = cs.from_transformers(hf, tokenizer)
    layers, heads = model.n_layers, model.n_heads
    some = [f"L{i // heads}H{i % heads}" for i in range(0, layers * heads, layers + 1)]
    results = {"the real model": worst_delta(hf, model, some, 16)}
    as_stored = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    again = cs.from_transformers(as_stored, tokenizer)
    same = np.array_equal(again.logits("A text"), cs.load(folder).logits("A text"))
    print(f"as stored ({as_stored.dtype}), the same logits as from the folder: {same}")
    hf, tokenizer = random_qwen2(folder)
    results["a random Qwen2"] = worst_delta(hf, cs.from_transformers(hf, tokenizer), None, 32)
    for name, worst in results.items():
        print(f"{name}: Δ differs from hooks in float64 by at most {worst:.1e} (allowed: {TOLERANCE:.0e})")
    return same and all(worst <= TOLERANCE for worst in results.values())


def leaks() -> bool:
    memory = psutil.Process().memory_info
    model = cs.load("mini-gpt2-s")
    prompt = model.tokens("When John and Mary went to the store, John gave a gift to")

    def calls(n: int) -> None:
        for _ in range(n):
            model.tokens("a text")
            model.logits([prompt], edits=[cs.zero("L1H1"), cs.patch("v", "L0H0", source=[prompt])])
            model.cache([prompt])
            try:
                model.logits([[-1]])
            except cs.InputError:
                pass
        gc.collect()

    calls(500)
    before = memory().rss
    calls(10_000)
    of_calls = (before, memory().rss)

    config = Qwen2Config(vocab_size=1001, hidden_size=512, intermediate_size=1024, num_hidden_layers=4)
    config.num_attention_heads = config.num_key_value_heads = 8
    hf = Qwen2ForCausalLM(config)
    tokenizer = AutoTokenizer.from_pretrained(miniature())
    for _ in range(5):
        cs.from_transformers(hf, tokenizer, name="m")
    gc.collect()
    before = memory().rss
    for _ in range(50):
        cs.from_transformers(hf, tokenizer, name="m")
    gc.collect()
    of_models = (before, memory().rss)
    size = sum(p.numel() * 4 for p in hf.parameters())
    said = (" to ".join(f"{rss / 2**20:.1f}" for rss in of) for of in (of_calls, of_models))
    print(f"resident memory over 10,000 calls of each kind: {next(said)} MiB")
    print(f"resident memory over 50 models of {size / 2**20:.0f} MiB built from one in memory: {next(said)} MiB")
    return of_calls[1] - of_calls[0] < 4 << 20 and of_models[1] - of_models[0] < 2 * size


def miniature() -> Path:
    """The folder of a bundled model."""
    return Path(__file__).parents[2] / "models" / "mini-gpt2-s"


def speed(folder: Path, rounds: int) -> bool:
    model = cs.load(folder)
    heads = [f"L{layer}H0" for layer in range(0, model.n_layers, 3)]
    here, command = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        model.scan("ioi", prompts=40, resamples=100, heads=heads)
        here.append(time.perf_counter() - start)
        with tempfile.TemporaryDirectory() as out:
            line = ["--models", folder, "--task", "ioi", "--prompts", 40, "--resamples", 100, "--out", out]
            args = ["--json-progress", "scan", *line, "--heads", ",".join(heads)]
            done = subprocess.run(
                [sys.executable, "-m", "circuit_scaling", *map(str, args)], capture_output=True, text=True, check=True
            )
        said = [json.loads(text) for text in done.stderr.splitlines()]
        (note,) = [event["text"] for event in said if event["event"] == "note" and " heads in " in event["text"]]
        command.append(float(note.split(" heads in ")[1].split()[0]))
    ratio = sorted(a / b for a, b in zip(here, command, strict=True))
    print(f"here over command, round by round: {' '.join(f'{r:.2f}' for r in ratio)}")
    print(f"{len(heads)} heads here:       {' '.join(f'{s:.1f}' for s in here)} s, best {min(here):.1f}")
    print(f"{len(heads)} heads by command: {' '.join(f'{s:.1f}' for s in command)} s, best {min(command):.1f}")
    return min(here) < 1.1 * min(command) + 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["deltas", "leaks", "speed"])
    parser.add_argument("--model", type=Path, help="folder of a real model of the Llama family")
    parser.add_argument("--rounds", type=int, default=4, help="rounds of the check of speed")
    args = parser.parse_args()
    if args.what != "leaks" and args.model is None:
        parser.error("--model is needed")
    checks = {"deltas": lambda: deltas(args.model), "leaks": leaks, "speed": lambda: speed(args.model, args.rounds)}
    sys.exit(0 if checks[args.what]() else 1)


main()
