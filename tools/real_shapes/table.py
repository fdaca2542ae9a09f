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
that its Hub repository has, by [tools/real_shapes](../tools/real_shapes/run.py); loaded, inspected and asked for next tokens by the
program; and its logits and the effects of single heads in the first, middle and last layer (`in-head` and `folded` zero ablation,
the lower and the higher end of the layer) were compared with Hugging Face Transformers in float32 on the same files. The weights
themselves are not the published ones: the place where this was run cannot reach the Hub. The published vocabularies of GPT-2 and Pythia
were used; OPT's is GPT-2's with other ids, in the files of its repository.

- **logits**: largest difference over three prompts (9, 23 and 280 tokens) and 64 tokens, relative to the largest logit. The bound
  is 2e-5, as for the golden files.
- **Δ**: the same for the changes that ablating one of six heads makes, over two prompts; in brackets the largest change itself, in logits.
- **load**: from the first byte of `config.json` to weights packed for the matrix product, the file not in memory before; in
  brackets the time that reading the file alone took.
- **peak**: the process's largest resident size while loading, as a multiple of the float32 weights. The bound is 1.2.

A cell that says *not run* has not been tried: {missing}. These are times on two cores that other work kept
busy throughout, so take them as upper bounds.

| model | loads | format on disk | logits agree | Δ agree | load (read), s | peak × weights |
|---|---|---|---|---|---|---|
"""


def row(name, r):
    config, tensors, buffers, dtype, form, mb = models.describe(name)
    form = {"torch": "`pytorch_model.bin`", "safetensors": "`model.safetensors`"}[form]
    kind = {"F16": "float16", "F32": "float32"}[dtype]
    if r is None:
        return [name, "not run", f"{form}, {kind}", *["not run"] * 4]
    compared = r["compared"]
    logits = f"{r['logit_difference']:.1e}" if compared else "not run"
    deltas = "not run"
    if compared:
        worst = max(r["delta_difference_in_head"], r["delta_difference_folded"])
        largest = max(r["largest_delta_in_head"], r["largest_delta_folded"])
        assert r["agree"], name
        deltas = f"{worst:.1e} ({largest:.2f})"
    size = r["file_bytes"] / 1e6
    load = f"{r['load_seconds']:.1f} ({r['read_seconds']:.1f})"
    peak = f"{r['load_peak_bytes'] / r['weight_bytes']:.2f} × {r['weight_bytes'] / 2**30:.2f} GiB"
    return [name, "yes", f"{form}, {kind}, {size:.0f} MB", logits, deltas, load, peak]


def main():
    results = json.loads((HERE / "results.json").read_text())
    missing = [name for name in ORDER if name not in results or not results[name]["compared"]]
    text = HEAD.replace("{missing}", ", ".join(missing) or "there is none")
    for name in ORDER:
        text += "| " + " | ".join(row(name, results.get(name))) + " |\n"
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(text)


main()
