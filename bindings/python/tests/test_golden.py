"""The golden checkpoints of Transformers and TransformerLens, through the module."""

import json

import circuit_scaling as cs
import numpy as np
import pytest
from conftest import GOLDEN, read_safetensors

TOLERANCE = 2e-5
NAMES = [
    entry["name"]
    for file in ("index.json", "decoders.json")
    for entry in json.loads((GOLDEN / file).read_text())
    if entry["name"] != "stablelm-parallel"
]


def close(expected: np.ndarray, got: np.ndarray) -> bool:
    return np.abs(expected - got).max() <= TOLERANCE * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_checkpoint(name: str) -> None:
    golden, model = read_safetensors(GOLDEN / name / "expected.safetensors"), cs.load(GOLDEN / name)
    lengths = golden["prompt_lengths"]
    is_read = lengths <= model.n_ctx
    cut = np.cumsum(lengths)[:-1]
    prompts, partners = (
        [part for part, keep in zip(np.split(golden[key], cut), is_read, strict=True) if keep]
        for key in ("prompt_tokens", "partner_tokens")
    )
    logits = [part[-1] for part, keep in zip(np.split(golden["logits"], cut), is_read, strict=True) if keep]
    assert close(np.array(logits), model.logits(prompts))

    at = np.arange(len(prompts))
    correct, distractor = golden["correct_ids"][is_read], golden["distractor_ids"][is_read]

    def differences(*edits: cs.Edit) -> np.ndarray:
        all_logits = model.logits(prompts, edits=edits)
        return all_logits[at, correct] - all_logits[at, distractor]

    layer, head = model.n_layers - 1, model.n_heads - 1
    which = f"L{layer}H{head}"
    edits = {
        "zero_folded": cs.zero(which),
        "zero_in_head": cs.zero(which, value_bias="in-head"),
        "mean_diff": cs.mean(which, reference=prompts),
        **{f"patch_{s}": cs.patch(s, which, source=partners) for s in ("q", "k", "v", "z", "pattern")},
    }
    for key, edit in edits.items():
        assert close(golden[key][layer, head][is_read], differences(edit)), key

    cache = model.cache(prompts[:1])[0]
    for key in ("resid_pre", "resid_mid", "resid_post", "q", "k", "v", "z", "pattern"):
        if key in golden and is_read[0]:
            assert close(golden[key], cache[key]), key
