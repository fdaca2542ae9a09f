"""docs/compatibility.md from results.json: `python table.py`."""

import json
from pathlib import Path

import models

HERE = Path(__file__).parent
OUT = HERE.parents[1] / "docs/compatibility.md"

# Measured by run.py; the study's order.
ORDER = [*models.GPT2, *models.PYTHIA, *models.OPT, *models.NEO]

HEAD = """# The 17 models at their real shapes

[tools/real_shapes](../tools/real_shapes/run.py) writes each of the published study's models with random weights at its real shape, in the
tensor layout, number type and file format of its Hub repository. The program loads and inspects the checkpoint, predicts next tokens and
scans it (`scan --heads`: the first and last head of the first, middle and last layer, IOI, both value biases); logits and the effects of
those heads are compared with Hugging Face Transformers in float32 on the same files and prompts. The weights are not the published ones.
The vocabularies of GPT-2 and Pythia are; OPT uses GPT-2's vocabulary with other ids, in the file layout of OPT's repository.

- **logits**: largest difference over three prompts (9, 23 and 280 tokens) and 64 tokens, relative to the largest logit. The bound
  is 2e-5, as for the golden files.
- **Δ**: the same for the effects of ablating the six heads on the logit difference, over the scanned prompts; in parentheses, the
  largest effect in logits.
- **load**: time from opening `config.json` until weights are packed for the matrix product, with a cold file cache; in parentheses, the
  time to only read the file, also cold; *from memory*, where measured: load time with a warm file cache. The bound is twice the
  reading time. A scan also hashes the weights (**hash**, with a warm cache) and parses the tokenizer (0.1 to 0.4 s).
- **peak**: peak resident memory while loading, as a multiple of the float32 weights. The bound is 1.2.

Times are for two cores of a virtual machine and a disk that reads {rate} GB/s, varying over the day. Models were compared on the files
that the program scanned, or, where the table says *library*, on two random prompts through the engine's library. A dash means that it
was not measured with this loader.{missing}

| model | format on disk | compared | logits agree | Δ agree | load (read), s | × read | hash, s | peak × weights |
|---|---|---|---|---|---|---|---|---|
"""



FOOT = """
## GPT-Neo

GPT-Neo does not scale its attention scores. With weights drawn at 0.02, the scores have a standard deviation of about 9 at `d_head` = 128
(2048 × 0.02² for each of q and k, times √128), so the softmax is nearly one-hot, and float32 rounding errors of such scores are amplified
layer by layer. The bound of 2e-5 is meant for two float32 programs with scores of order one. Where Transformers in float32 itself differs
by more than that from Transformers in float64, the criterion is that the program is not much further from float64 than Transformers is:

| model | logits: program | logits: Transformers, float32 | Δ: program | Δ: Transformers, float32 |
|---|--:|--:|--:|--:|
{float64}
(Largest differences from Transformers in float64, with its casts of scores to float32 removed.) Trained GPT-Neo checkpoints have learned
with unscaled scores.

## Load times

Whether the bound on loading holds depends on the model and on the disk. With a warm file cache, a model of 0.3 to 1.5 GiB loads in 0.1 to
0.7 s: conversion and packing are not the bottleneck.

## Recent families at real shapes

Random weights in bfloat16, made and compared by [tools/real_shapes/decoders.py](../tools/real_shapes/decoders.py) with Transformers 5.24.0 in
float32: 32 logits after two prompts, and the effects of zeroing three heads.

| shape | logits, largest difference / largest logit | effects, largest difference in logits (largest effect) | load, two busy cores | peak |
|---|--:|--:|--:|--:|
| Llama-3.2-1B (8 key/value heads for 32, Llama 3's rotary scaling) | 3.5e-6 | 2.3e-5 (1.61) | 9.5 s | 1.01 × 4.60 GiB |
| Qwen2.5-1.5B (2 key/value heads for 12, q/k/v biases) | 5.3e-6 | 3.1e-5 (3.78) | 33.8 s | 1.01 × 5.75 GiB |
| Gemma-2-2B (4 key/value heads for 8, norms on both sides, soft caps) | 3.6e-6 | 1.9e-5 (2.41) | 9.3 s | 1.01 × 9.74 GiB |
"""


def worst_of(differences):
    """Largest differences `(logits, Δ)` over the value biases."""
    deltas = [value for key, value in differences.items() if key.startswith("delta_difference")]
    return differences["logit_difference"], max(deltas)


def row(name, r):
    config, tensors, buffers, dtype, form, mb = models.describe(name)
    form = {"torch": "`pytorch_model.bin`", "safetensors": "`model.safetensors`"}[form]
    kind = {"F16": "float16", "F32": "float32"}[dtype]
    if r is None:
        return [name, f"{form}, {kind}", *["not run"] * 7]
    compared = logits = deltas = "not run"
    if "agree" in r:
        compared = "program" if "scanned" in r else "library"
        logits = f"{r['logit_difference']:.1e}"
        worst = max(r["delta_difference_in-head"], r["delta_difference_folded"])
        largest = max(r["largest_delta_in-head"], r["largest_delta_folded"])
        deltas = f"{worst:.1e} ({largest:.2f})"
        if not r["agree"]:
            logits += " (beyond the bound: see GPT-Neo below)"
    size = r["file_bytes"] / 1e6
    # Rows without a hash were measured with an earlier loader.
    load, ratio, hashed = "–", "–", "–"
    if "hash_seconds" in r:
        load = f"{r['load_seconds']:.1f} ({r['read_seconds']:.1f})"
        ratio = f"{r['load_seconds'] / r['read_seconds']:.1f}"
        hashed = f"{r['hash_seconds']:.1f}"
    if "warm_load_seconds" in r:
        load += f"; {r['warm_load_seconds']:.1f} from memory"
    peak = f"{r['load_peak_bytes'] / r['weight_bytes']:.2f} × {r['weight_bytes'] / 2**30:.2f} GiB"
    return [name, f"{form}, {kind}, {size:.0f} MB", compared, logits, deltas, load, ratio, hashed, peak]


def from_float64(name, r):
    """Differences of the program and of Transformers in float32 from Transformers in float64."""
    ours, theirs = (worst_of(r["from_float64"][who]) for who in ("program", "transformers"))
    return [name, *(f"{x:.1e}" for x in (ours[0], theirs[0], ours[1], theirs[1]))]


def main():
    results = json.loads((HERE / "results.json").read_text())
    missing = [name for name in ORDER if "agree" not in results.get(name, {})]
    missing = f" Not run: {', '.join(missing)}." if missing else ""
    rates = sorted(r["file_bytes"] / r["read_seconds"] / 1e9 for r in results.values())
    rate = f"{rates[0]:.1f} to {rates[-1]:.1f}"
    line = lambda cells: "| " + " | ".join(cells) + " |\n"
    text = HEAD.replace("{missing}", missing).replace("{rate}", rate)
    text += "".join(line(row(name, results.get(name))) for name in ORDER)
    exact = (line(from_float64(name, results[name])) for name in ORDER if "from_float64" in results.get(name, {}))
    text += FOOT.replace("{float64}", "".join(exact))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(text)


main()
