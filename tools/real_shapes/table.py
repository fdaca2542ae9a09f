"""docs/compatibility.md from results.json: `python table.py`."""

import json
from pathlib import Path

import models

HERE = Path(__file__).parent
OUT = HERE.parents[1] / "docs/compatibility.md"

# Measured by run.py; the study's order.
ORDER = [*models.GPT2, *models.PYTHIA, *models.OPT, *models.NEO]

HEAD = """# The 17 models at their real shapes

Each of the published study's models was written with random weights at its real shape, in the layout, number type and file format
that its Hub repository has, by [tools/real_shapes](../tools/real_shapes/run.py); loaded, inspected, asked for next tokens and scanned by
the program (`scan --heads`: the first and the last head of the first, middle and last layer, IOI, both value biases); and its logits and
the effects of those heads were compared with Hugging Face Transformers in float32 on the same files and prompts. The weights
themselves are not the published ones. The published vocabularies of GPT-2 and Pythia
were used; OPT's is GPT-2's with other ids, in the files of its repository.

- **logits**: largest difference over three prompts (9, 23 and 280 tokens) and 64 tokens, relative to the largest logit. The bound
  is 2e-5, as for the golden files.
- **Δ**: the same for the changes of the logit difference that ablating one of the six heads makes, over the scanned prompts; in
  brackets the largest change itself, in logits.
- **load**: from the first byte of `config.json` to weights packed for the matrix product, the file not in memory before; in brackets
  the time that reading the file alone took, likewise; *from memory*, where it was measured: the same with the file in memory
  already. The bound is twice the reading. A scan also hashes the weights (**hash**, read from
  memory) and parses the tokenizer (0.1 to 0.4 s).
- **peak**: the process's largest resident size while loading, as a multiple of the float32 weights. The bound is 1.2.

Times are of two cores of a virtual machine and a disk that reads {rate} GB/s, depending on the hour. Models were compared on the files
that the program scanned, or, where the table says *library*, on two random prompts through the engine's library. A dash stands for what
was not measured with this loader.{missing}

| model | format on disk | compared | logits agree | Δ agree | load (read), s | × read | hash, s | peak × weights |
|---|---|---|---|---|---|---|---|---|
"""



FOOT = """
## GPT-Neo

GPT-Neo does not scale its attention scores. With weights drawn at 0.02 they have a standard deviation of about 9 at 128 dimensions a
head (2048 × 0.02² for each of q and k, times √128), so that softmax is nearly a choice of one token, and what float32 rounds off such scores
comes back multiplied, layer by layer. The bound of 2e-5 is one for two float32 programs on scores of order one. Where Transformers in float32
itself is further than that from Transformers in float64, agreement means that neither is much further than the other:

| model | logits: program | logits: Transformers, float32 | Δ: program | Δ: Transformers, float32 |
|---|--:|--:|--:|--:|
{float64}
(Largest differences from Transformers in float64, its casts of scores to float32 taken out.) Trained GPT-Neo checkpoints have learned
their scores unscaled.

## Load times

The bound on loading holds for some models and not for others, and moves with the disk. With the file in memory already, a model of 0.3 to 1.5 GiB
loads in 0.1 to 0.7 s: conversion and packing are not what misses the bound.

## Today's families at real shapes

Random weights in bfloat16, made and compared by [tools/real_shapes/decoders.py](../tools/real_shapes/decoders.py) with Transformers 5.24.0 in
float32: 32 logits after two prompts, and the changes that zeroing three heads makes.

| shape | logits, largest difference / largest logit | changes, largest difference in logits (largest change) | load, two busy cores | peak |
|---|--:|--:|--:|--:|
| Llama-3.2-1B (8 key heads for 32, Llama 3's rotary scaling) | 3.5e-6 | 2.3e-5 (1.61) | 9.5 s | 1.01 × 4.60 GiB |
| Qwen2.5-1.5B (2 key heads for 12, q/k/v biases) | 5.3e-6 | 3.1e-5 (3.78) | 33.8 s | 1.01 × 5.75 GiB |
| Gemma-2-2B (4 key heads for 8, norms on both sides, soft caps) | 3.6e-6 | 1.9e-5 (2.41) | 9.3 s | 1.01 × 9.74 GiB |
"""


def worst_of(differences):
    """`(logits, Δ)` of largest differences by value bias."""
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
    # Without a hash it was measured with an earlier loader.
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
    """How far the program and Transformers in float32 each are from Transformers in float64."""
    ours, theirs = (worst_of(r["from_float64"][who]) for who in ("program", "transformers"))
    return [name, *(f"{x:.1e}" for x in (ours[0], theirs[0], ours[1], theirs[1]))]


def main():
    results = json.loads((HERE / "results.json").read_text())
    missing = [name for name in ORDER if "agree" not in results.get(name, {})]
    missing = f" A cell that says *not run* has not been tried: {', '.join(missing)}." if missing else ""
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
