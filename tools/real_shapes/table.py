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
themselves are not the published ones: the place where this was run cannot reach the Hub. The published vocabularies of GPT-2 and Pythia
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

Times are of two cores of a virtual machine and a disk that reads {rate} GB/s, depending on the hour.{missing}{earlier}

| model | loads | format on disk | logits agree | Δ agree | load (read), s | × read | hash, s | peak × weights |
|---|---|---|---|---|---|---|---|---|
"""


FOOT = """
## GPT-Neo

GPT-Neo does not scale its attention scores. With weights drawn at 0.02 they have a standard deviation of about 9 at 128 dimensions a
head (2048 × 0.02² for each of q and k, times √128), so that softmax is nearly a choice of one token, and what float32 rounds off
such scores would come back multiplied, layer by layer (not traced through the layers). Both programs lose as much: from Transformers in float64 (its casts of scores to
float32 taken out) gpt-neo-1.3b's logits are 3.0e-5 away in this program and 3.4e-5 in Transformers' own float32, and the effects of heads
1.4e-5 and 1.1e-5. gpt-neo-2.7b, 32 layers deep, is the same on a larger scale: 9.4e-5 and 8.8e-5, effects 1.7e-5 and 1.5e-5. The bound of 2e-5 is one for two float32 programs on scores of order one; where Transformers itself is further than
that from float64, as here, agreement means that neither is much further than the other. gpt-neo-125m (64 dimensions a head, 768 wide: scores of order two) is
within the bound. Trained GPT-Neo checkpoints have learned their scores unscaled; how peaked they are was not measured.

## Load times

The bound on loading holds for some models and not for others on the machine where this was measured, and moves with its disk: reading
pythia-410m's file alone took 0.5 to 2.3 s in one quarter of an hour, loading it 1.7 to 3.3 s. With the file in memory already, a model
of 0.3 to 1.5 GiB loads in 0.1 to 0.7 s: conversion and packing are not what misses the bound. Without huge pages for the weights
(which the matrix products want) the cold load of pythia-410m took 1.4 to 1.6 s instead of 2.4 to 2.6: the system looks for huge pages while
the file's pages take up free memory. Asking for the file's pages from a second thread, and window by window, was tried and made no difference
that could be seen through this noise. Medians: of 12 pairs for pythia-70m, of 3 for gpt2, gpt2-medium, pythia-410m and opt-350m; the
other figures are single ones.

## Llama at its real shape

Llama-3.2-1B (1.24 billion parameters, Llama 3's rotary scaling, 8 key heads for 32) with random weights in bfloat16, made and compared by
[tools/real_shapes/decoders.py](../tools/real_shapes/decoders.py) with Transformers 5.24.0 in float32: logits of 32 tokens after two
prompts agree to 3.5e-06 of the largest, the changes that zeroing three heads makes (up to 1.61) to 2.3e-05 in logits. It loads in
9.5 s on two busy cores and takes 1.01 × 4.60 GiB at its peak.
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
        return [name, "not run", f"{form}, {kind}", *["not run"] * 6]
    logits = deltas = "not run"
    if "agree" in r:
        logits = f"{r['logit_difference']:.1e}"
        worst = max(r["delta_difference_in-head"], r["delta_difference_folded"])
        largest = max(r["largest_delta_in-head"], r["largest_delta_folded"])
        deltas = f"{worst:.1e} ({largest:.2f})"
        if "from_float64" in r:
            ours, theirs = (worst_of(r["from_float64"][who]) for who in ("program", "transformers"))
            logits += f" §: {ours[0]:.1e}, {theirs[0]:.1e}"
            deltas = f"{worst:.1e} §: {ours[1]:.1e}, {theirs[1]:.1e} ({largest:.2f})"
        if not r["agree"]:
            logits += " **beyond the bound**"
    size = r["file_bytes"] / 1e6
    earlier = "hash_seconds" not in r
    load = f"{r['load_seconds']:.1f} ({r['read_seconds']:.1f})" + (" †" if earlier else "")
    if "warm_load_seconds" in r:
        load += f"; {r['warm_load_seconds']:.1f} from memory"
    ratio = f"{r['load_seconds'] / r['read_seconds']:.1f}"
    peak = f"{r['load_peak_bytes'] / r['weight_bytes']:.2f} × {r['weight_bytes'] / 2**30:.2f} GiB"
    file = f"{form}, {kind}, {size:.0f} MB"
    if "agree" in r and "scanned" not in r:
        deltas += " ‡"
    return [name, "yes", file, logits, deltas, load, ratio, "–" if earlier else f"{r['hash_seconds']:.1f}", peak]


def main():
    results = json.loads((HERE / "results.json").read_text())
    missing = [name for name in ORDER if "agree" not in results.get(name, {})]
    missing = f" A cell that says *not run* has not been tried: {', '.join(missing)}." if missing else ""
    notes = [
        ("†", "the loader before panels were packed on all threads, on a busy machine", lambda r: "hash_seconds" not in r),
        ("**beyond the bound**", "see GPT-Neo below the table", lambda r: r.get("agree") is False),
        ("§", "after the mark, how far the program and Transformers in float32 each are from Transformers in float64", lambda r: "from_float64" in r),
        ("‡", "compared through the library, on two random prompts", lambda r: "agree" in r and "scanned" not in r),
    ]
    found = [f" {mark}: {text}." for mark, text, holds in notes if any(map(holds, results.values()))]
    rates = sorted(r["file_bytes"] / r["read_seconds"] / 1e9 for r in results.values())
    rate = f"{rates[0]:.1f} to {rates[-1]:.1f}"
    text = HEAD.replace("{missing}", missing).replace("{rate}", rate).replace("{earlier}", "".join(found))
    for name in ORDER:
        text += "| " + " | ".join(row(name, results.get(name))) + " |\n"
    text += FOOT
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(text)


main()
