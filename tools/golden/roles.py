"""roles.json: TransformerLens's head detector scores for previous-token, duplicate-token and induction heads.

    python roles.py        # versions: requirements.txt

Sequences are random tokens said twice, and tokens that recur several times. TransformerLens's score is the share of a head's attention,
over all queries, that its detection pattern marks; the program's is the same sum over the queries for which the pattern marks a key, so
that a head which does its job whenever there is one to do has a score of 1.
"""

import json
from importlib.metadata import version
from pathlib import Path

import torch
from transformer_lens.head_detector import (
    compute_head_attention_similarity_score,
    get_duplicate_token_head_detection_pattern,
    get_induction_head_detection_pattern,
    get_previous_token_head_detection_pattern,
)

from checkpoints import load_checkpoint
from lens import Lens

REPOSITORY = Path(__file__).resolve().parents[2]
GOLDEN = REPOSITORY / "crates/engine/tests/golden"
MODELS = ["crates/engine/tests/golden/gpt2-default", "models/mini-gpt2-s", "models/mini-gpt-neo-s"]
PATTERNS = {
    "previous_token": get_previous_token_head_detection_pattern,
    "duplicate_token": get_duplicate_token_head_detection_pattern,
    "induction": get_induction_head_detection_pattern,
}


def sequences(d_vocab, n_ctx):
    generator = torch.Generator().manual_seed(7)
    n = min(10, (n_ctx - 1) // 2)
    drawn = [torch.randperm(d_vocab - 1, generator=generator)[:n] for _ in range(2)]
    repeated = [[d_vocab - 1] + 2 * tokens.tolist() for tokens in drawn]
    recurring = torch.randint(4, (n,), generator=generator).tolist()
    return repeated + [recurring]


def scores(lens, tokens):
    """score -> [n_layers · n_heads]"""
    patterns = lens.streams(tokens)["pattern"].flatten(0, 1)  # [heads, len, len]
    found = {}
    for name, detection_pattern in PATTERNS.items():
        detection = detection_pattern(torch.tensor([tokens])).double()
        n_marked = (detection.sum(-1) > 0).sum().item()
        of_all = [
            compute_head_attention_similarity_score(
                pattern, detection, exclude_bos=False, exclude_current_token=False, error_measure="mul"
            )
            for pattern in patterns
        ]
        found[name] = [score * len(tokens) / n_marked for score in of_all]
    return found


def main():
    out = {"transformer_lens": version("transformer-lens"), "models": {}}
    for path in MODELS:
        lens = Lens(load_checkpoint(REPOSITORY / path))
        drawn = sequences(lens.model.cfg.d_vocab, lens.model.cfg.n_ctx)
        out["models"][path] = [{"tokens": tokens, **scores(lens, tokens)} for tokens in drawn]
        best = {name: max(out["models"][path][0][name]) for name in PATTERNS}
        print(path, {name: round(score, 3) for name, score in best.items()})
    out = json.loads(json.dumps(out), parse_float=lambda x: float(f"{float(x):.8g}"))
    (GOLDEN / "roles.json").write_text(json.dumps(out, separators=(",", ":")).replace("}]", "}]\n") + "\n")


main()
