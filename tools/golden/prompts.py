"""Prompts of mixed length, their patching partners, and sets of heads, drawn from a seed."""

from dataclasses import dataclass

import torch

# (length, index of the prompt whose tokens it starts with, how many of them). Prompt 3 is a prefix of prompt 1,
# prompt 2 repeats prompt 0, and prompt 7 starts with another token than all the others.
SHAPES = [(8, None, 0), (8, 0, 4), (8, 0, 8), (5, 1, 5), (5, 0, 2), (13, 0, 1), (13, 5, 9), (3, None, 0), (7, 5, 4)]
SET_SIZES = [2, 3, 4, 5]


@dataclass(frozen=True)
class Prompts:
    tokens: list[list[int]]
    # Same lengths as `tokens`: the clean run of activation patching.
    partners: list[list[int]]
    correct: list[int]
    distractor: list[int]


def draw_prompts(n_ids: int, generator: torch.Generator) -> Prompts:
    def ids(n: int) -> list[int]:
        return torch.randint(1, n_ids, (n,), generator=generator).tolist()

    tokens: list[list[int]] = []
    for index, (length, source, n_shared) in enumerate(SHAPES):
        shared = tokens[source][:n_shared] if source is not None else [0 if index == 0 else 3]
        tokens.append(shared + ids(length - len(shared)))

    partners = []
    for prompt in tokens:
        # As a task's corrupted prompt: the first token and half of the others stay.
        other = ids(len(prompt))
        stays = torch.rand(len(prompt), generator=generator) < 0.5
        partner = [own if i == 0 or stays[i] else other[i] for i, own in enumerate(prompt)]
        # At least one token between the first and the last differs.
        middle = len(prompt) // 2
        if partner[middle] == prompt[middle]:
            partner[middle] = prompt[middle] % (n_ids - 1) + 1
        partners.append(partner)

    answers = [torch.randperm(n_ids, generator=generator)[:2].tolist() for _ in tokens]
    answers[2] = answers[0]  # the duplicate asks the same question
    return Prompts(tokens, partners, [a for a, _ in answers], [b for _, b in answers])


def draw_head_sets(n_layers: int, n_heads: int, generator: torch.Generator) -> list[list[tuple[int, int]]]:
    """Sets of heads over at least two layers, in no particular order."""
    sets = []
    for size in SET_SIZES:
        while True:
            chosen = torch.randperm(n_layers * n_heads, generator=generator)[:size].tolist()
            heads = [(index // n_heads, index % n_heads) for index in chosen]
            if len({layer for layer, _ in heads}) > 1:
                break
        sets.append(heads)
    return sets
