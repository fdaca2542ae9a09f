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
  the time that reading the file alone took, likewise. The bound is twice that. A scan also hashes the weights (**hash**, read from
  memory) and parses the tokenizer (0.1 to 0.4 s).
- **peak**: the process's largest resident size while loading, as a multiple of the float32 weights. The bound is 1.2.

Times are of two cores of a virtual machine and a disk that reads {rate} GB/s, depending on the hour.{missing}{earlier}

| model | loads | format on disk | logits agree | Δ agree | load (read), s | × read | hash, s | peak × weights |
|---|---|---|---|---|---|---|---|---|
"""


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
        if not r["agree"]:
            logits += " **beyond the bound**"
    size = r["file_bytes"] / 1e6
    earlier = "hash_seconds" not in r
    load = f"{r['load_seconds']:.1f} ({r['read_seconds']:.1f})" + (" †" if earlier else "")
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
        ("**beyond the bound**", "not explained yet; which of the two programs is further from float64 was not measured", lambda r: r.get("agree") is False),
        ("‡", "compared through the library, on two random prompts", lambda r: "agree" in r and "scanned" not in r),
    ]
    found = [f" {mark}: {text}." for mark, text, holds in notes if any(map(holds, results.values()))]
    rates = sorted(r["file_bytes"] / r["read_seconds"] / 1e9 for r in results.values())
    rate = f"{rates[0]:.1f} to {rates[-1]:.1f}"
    text = HEAD.replace("{missing}", missing).replace("{rate}", rate).replace("{earlier}", "".join(found))
    for name in ORDER:
        text += "| " + " | ".join(row(name, results.get(name))) + " |\n"
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(text)


main()
