"""Everything that the parity tests compare with, measured on one checkpoint."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import torch

from hooks import Edit, Model, Run
from prompts import Prompts

if TYPE_CHECKING:  # only one of the library versions has it
    from lens import Lens

HeadSets = list[list[tuple[int, int]]]
PATCHED = ["v", "z", "q", "k", "pattern"]


def clean_value(run: Run, layer: int, head: int, stream: str) -> torch.Tensor:
    """The value of a stream that patching puts into another run."""
    if stream == "pattern":
        return run.pattern[layer, head]
    return run.heads[stream][layer, :, head]


def logit_diff(logits: torch.Tensor, prompts: Prompts, index: int) -> torch.Tensor:
    return logits[-1, prompts.correct[index]] - logits[-1, prompts.distractor[index]]


def mean_z(runs: list[Run]) -> list[torch.Tensor]:
    """For each prompt, z's mean over all prompts of its length: [n_layers, len, n_heads, d_head]."""
    by_length = defaultdict(list)
    for run in runs:
        by_length[len(run.logits)].append(run.heads["z"])
    return [torch.stack(by_length[len(run.logits)]).mean(0) for run in runs]


def interventions(model: Model, prompts: Prompts, sets: HeadSets, runs: list[Run], partners: list[Run]):
    """Yields (table, row, prompt, edits) of every intervention; a row is a head or a set of heads."""
    constant = [model.constant_v(layer) for layer in range(model.n_layers)]
    means = mean_z(runs)
    for i, (run, partner) in enumerate(zip(runs, partners)):
        zero = torch.zeros(len(run.logits), model.d_head, dtype=run.logits.dtype)

        def zero_in_head(layer, head):
            return Edit(layer, head, "z", zero)

        def zero_folded(layer, head):
            return Edit(layer, head, "z", zero + constant[layer][head])

        def patch(layer, head, stream):
            return Edit(layer, head, stream, clean_value(partner, layer, head, stream))

        for row in range(model.n_layers * model.n_heads):
            head = divmod(row, model.n_heads)
            yield "zero_in_head", row, i, [zero_in_head(*head)]
            yield "zero_folded", row, i, [zero_folded(*head)]
            yield "mean_diff", row, i, [Edit(*head, "z", means[i][head[0], :, head[1]])]
            for stream in PATCHED:
                yield f"patch_{stream}", row, i, [patch(*head, stream)]
        for row, heads in enumerate(sets):
            yield "set_zero_in_head", row, i, [zero_in_head(*head) for head in heads]
            yield "set_zero_folded", row, i, [zero_folded(*head) for head in heads]
            yield "set_patch_z", row, i, [patch(*head, "z") for head in heads]


class Tables(dict):
    """table -> [rows, n_prompts], made when it is first written to, of NaN until it is filled in."""

    def __init__(self, model: Model, prompts: Prompts, sets: HeadSets):
        super().__init__()
        self.n_heads, self.n_sets = model.n_layers * model.n_heads, len(sets)
        self.n_prompts = len(prompts.tokens)

    def __missing__(self, name: str) -> torch.Tensor:
        rows = self.n_sets if name.startswith("set_") else self.n_heads
        self[name] = torch.full((rows, self.n_prompts), torch.nan, dtype=torch.float64)
        return self[name]


def by_layer(tables: dict[str, torch.Tensor], model: Model) -> dict[str, torch.Tensor]:
    """[n_layers * n_heads, n_prompts] -> [n_layers, n_heads, n_prompts]; tables of sets stay as they are."""
    shaped = {}
    for name, table in tables.items():
        assert not table.isnan().any(), name
        shaped[name] = table if name.startswith("set_") else table.unflatten(0, (model.n_layers, model.n_heads))
    return shaped


def measure(model: Model, prompts: Prompts, sets: HeadSets) -> dict[str, torch.Tensor]:
    """All expected values of a checkpoint, from hooks on the Hugging Face modules."""
    runs = [model.run(tokens) for tokens in prompts.tokens]
    partners = [model.run(tokens) for tokens in prompts.partners]
    check_captures(model, runs[0])

    tables = Tables(model, prompts, sets)
    for name, row, i, edits in interventions(model, prompts, sets, runs, partners):
        tables[name][row, i] = logit_diff(model.run(prompts.tokens[i], edits).logits, prompts, i)

    first = runs[0]
    q, k = model.after_rotary(first.heads["q"], first.heads["k"])
    return {
        "logits": torch.cat([run.logits for run in runs]),
        "base_diff": torch.stack([logit_diff(run.logits, prompts, i) for i, run in enumerate(runs)]),
        **by_layer(tables, model),
        **first.resid,
        "q": q,
        "k": k[:, :, :: model.group],
        "v": first.heads["v"][:, :, :: model.group],
        "z": first.heads["z"],
        "pattern": first.pattern,
    }


def check_captures(model: Model, run: Run) -> None:
    """The captured streams must be consistent: z = pattern v, and rows of pattern sum to one."""
    z = torch.einsum("lhqk,lkhd->lqhd", run.pattern, run.heads["v"])
    torch.testing.assert_close(z, run.heads["z"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(run.pattern.sum(-1), torch.ones_like(run.pattern[..., 0]), rtol=1e-5, atol=0)
    check_scores(model, run)
    for layer in range(1, model.n_layers):
        torch.testing.assert_close(run.resid["resid_pre"][layer], run.resid["resid_post"][layer - 1])


def check_scores(model: Model, run: Run) -> None:
    """Patterns must be those of q and k after rotary, but for one scale of all scores of a head."""
    if not model.scores_are_linear:
        return
    q, k = model.after_rotary(run.heads["q"], run.heads["k"])
    scores = torch.einsum("lqhd,lkhd->lhqk", q, k)
    # Where two keys are visible, the ratio of their weights gives the scale of the scores, whatever the mask.
    for layer in range(model.n_layers):
        row = run.pattern[layer, :, 2]  # [n_heads, len]; position 2 sees keys 1 and 2 under every window tested
        scale = (row[:, 2] / row[:, 1]).log() / (scores[layer, :, 2, 2] - scores[layer, :, 2, 1])
        torch.testing.assert_close(scale, scale.mean().expand_as(scale), rtol=1e-3, atol=0)


def measure_with_lens(model: Model, lens: Lens, prompts: Prompts, sets: HeadSets) -> dict[str, torch.Tensor]:
    """The same tables from TransformerLens; `z` and `v` there lack the constant part, which its processing folds away."""
    streams = [lens.streams(tokens) for tokens in prompts.tokens]
    partners = [lens.streams(tokens) for tokens in prompts.partners]
    by_length = defaultdict(list)
    for stream in streams:
        by_length[stream["z"].shape[1]].append(stream["z"])

    tables = Tables(model, prompts, sets)

    def fill(name: str, row: int, i: int, edits) -> None:
        tables[name][row, i] = logit_diff(lens.logits(prompts.tokens[i], edits), prompts, i)

    def patch(i: int, layer: int, head: int, stream: str):
        source = partners[i][stream][layer]
        return layer, head, stream, source[head] if stream == "pattern" else source[:, head]

    for i, tokens in enumerate(prompts.tokens):
        mean = torch.stack(by_length[len(tokens)]).mean(0)
        for row in range(model.n_layers * model.n_heads):
            layer, head = divmod(row, model.n_heads)
            fill("zero_folded", row, i, [(layer, head, "z", 0.0)])
            fill("mean_diff", row, i, [(layer, head, "z", mean[layer, :, head])])
            for stream in PATCHED:
                fill(f"patch_{stream}", row, i, [patch(i, layer, head, stream)])
        for row, heads in enumerate(sets):
            fill("set_zero_folded", row, i, [(*head, "z", 0.0) for head in heads])
            fill("set_patch_z", row, i, [patch(i, *head, "z") for head in heads])

    first = streams[0]
    constant = torch.stack([model.constant_v(layer) for layer in range(model.n_layers)])  # [n_layers, n_heads, d_head]
    return {
        "base_diff": torch.stack(
            [logit_diff(lens.logits(tokens), prompts, i) for i, tokens in enumerate(prompts.tokens)]
        ),
        "centred_logits": torch.cat([lens.logits(tokens) for tokens in prompts.tokens]),
        **by_layer(tables, model),
        "q": first["q"],
        "k": first["k"],
        "v": first["v"] + constant[:, None].double(),
        "z": first["z"] + constant[:, None].double(),
        "pattern": first["pattern"],
    }
