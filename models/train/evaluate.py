"""Measures the miniature models: accuracy and logit difference per task, and logits to compare another program with.

    python models/train/evaluate.py MODEL_DIR...                          both tasks, prompts sampled here
    python models/train/evaluate.py MODEL_DIR --prompts FILE.jsonl        the prompts of a program run
    python models/train/evaluate.py --logits MODEL_DIR FILE.jsonl OUT.json    float32 logits at each prompt's last token

Weights are read as stored (float16) and computed with in float32.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from corpus import TASK_FILES, Task, load_task


@dataclass
class Prompt:
    """A tokenized prompt: `token_ids` start with BOS."""

    token_ids: list[int]
    correct_id: int
    distractor_id: int
    weight: int = 1
    template: str = ""
    split: str = ""


def sample_prompts(task: Task, tokenizer, n: int, seed: int) -> list[Prompt]:
    """Draws `n` test prompts: one name from each list in random order, either one repeated, templates in turn."""
    rng = random.Random(f"{task.name} {seed}")
    templates = list(task.templates.items())
    pairs = sorted(tuple(sorted(pair)) for pair in task.pairs)
    prompts = []
    for i in range(n):
        template_id, template = templates[i % len(templates)]
        people = list(rng.choice(pairs))
        rng.shuffle(people)
        repeated = rng.randrange(2) if task.orders == "both" else 0
        fields = {key: rng.choice(words) for key, words in task.fillers.items()}
        text = template.format(first=people[0], second=people[1], repeated=people[repeated], **fields)
        prompts.append(
            Prompt(
                token_ids=[tokenizer.bos_token_id, *tokenizer.encode(text, add_special_tokens=False)],
                correct_id=name_id(tokenizer, people[1 - repeated]),
                distractor_id=name_id(tokenizer, people[repeated]),
                template=template_id,
            )
        )
    return prompts


def name_id(tokenizer, name: str) -> int:
    """The one token of a name behind a space."""
    ids = tokenizer.encode(f" {name}", add_special_tokens=False)
    if len(ids) != 1:
        raise ValueError(f"{name!r} is {len(ids)} tokens")
    return ids[0]


def read_prompts(path: Path) -> list[Prompt]:
    """Reads a program's prompt file, one JSON object a line."""
    fields = ("token_ids", "correct_id", "distractor_id", "weight")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [Prompt(**{field: row[field] for field in fields}, template=row.get("template", ""), split=row.get("split", "")) for row in rows]


@torch.no_grad()
def last_logits(model, prompts: list[Prompt], batch_size: int = 256) -> torch.Tensor:
    """Logits at the last token, `[n_prompts, d_vocab]`. Prompts of one length go together, so nothing is padded."""
    out = [torch.empty(0)] * len(prompts)
    by_length = defaultdict(list)
    for i, prompt in enumerate(prompts):
        by_length[len(prompt.token_ids)].append(i)
    for indices in by_length.values():
        for start in range(0, len(indices), batch_size):
            chunk = indices[start : start + batch_size]
            tokens = torch.tensor([prompts[i].token_ids for i in chunk])
            logits = model(tokens, attention_mask=torch.ones_like(tokens), use_cache=False).logits[:, -1]
            for i, row in zip(chunk, logits):
                out[i] = row
    return torch.stack(out)


def score(model, prompts: list[Prompt], candidates: list[int]) -> dict[str, float]:
    """Weighted accuracy (the correct name is first among `candidates`) and mean logit difference."""
    logits = last_logits(model, prompts).double()
    weight = torch.tensor([float(p.weight) for p in prompts], dtype=torch.float64)
    correct = torch.tensor([p.correct_id for p in prompts])
    distractor = torch.tensor([p.distractor_id for p in prompts])
    rows = torch.arange(len(prompts))
    difference = logits[rows, correct] - logits[rows, distractor]
    best = torch.tensor(candidates)[logits[:, candidates].argmax(dim=1)]
    mean = lambda x: float((x.double() * weight).sum() / weight.sum())  # noqa: E731
    return {
        "accuracy": round(mean(best == correct), 4),
        "accuracy_of_two": round(mean(difference > 0), 4),
        "logit_diff": round(mean(difference), 4),
        "n": int(weight.sum()),
    }


def load(folder: Path):
    """Model (float32, eager attention) and tokenizer of a checkpoint folder."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    return model, AutoTokenizer.from_pretrained(folder)


def score_tasks(model, tokenizer, n: int = 800, seed: int = 0) -> dict[str, dict[str, float]]:
    """Both tasks on prompts sampled here."""
    found = {}
    for key, path in TASK_FILES.items():
        task = load_task(path)
        candidates = [name_id(tokenizer, name) for name in task.names]
        found[key] = score(model, sample_prompts(task, tokenizer, n, seed), candidates)
    return found


def score_study(model, tokenizer, study: Path, name: str) -> dict[str, dict[str, dict[str, float]]]:
    """Both tasks on the prompts of a program run, by split: what the program prints, by another program."""
    found = {}
    for key, path in TASK_FILES.items():
        candidates = [name_id(tokenizer, person) for person in load_task(path).names]
        prompts = read_prompts(study / "results" / "prompts" / f"{key}_{name}.jsonl")
        splits = sorted({p.split for p in prompts})
        found[key] = {split: score(model, [p for p in prompts if p.split == split], candidates) for split in splits}
    return found


def dump_logits(folder: Path, prompts: list[Prompt], digits: int = 9) -> dict:
    """Last-token logits of a few prompts, as many digits as tell float32 numbers apart."""
    model, _ = load(folder)
    rows = last_logits(model, prompts)
    return {
        "model": folder.name,
        "prompts": [
            {"token_ids": p.token_ids, "logits": [float(f"{x:.{digits}g}") for x in row.tolist()]}
            for p, row in zip(prompts, rows)
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path, help="checkpoint folders")
    parser.add_argument("--prompts", type=Path, help="score this JSONL file of prompts instead of sampling")
    parser.add_argument("--n", type=int, default=800, help="prompts sampled per task")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--logits", nargs=3, metavar=("MODEL_DIR", "PROMPTS", "OUT"), help="write last-token logits")
    args = parser.parse_args()
    if args.logits:
        folder, prompts, out = map(Path, args.logits)
        out.write_text(json.dumps(dump_logits(folder, read_prompts(prompts))) + "\n", encoding="utf-8")
    for folder in args.models:
        model, tokenizer = load(folder)
        if args.prompts:
            names = sorted({name for path in TASK_FILES.values() for name in load_task(path).names})
            candidates = [name_id(tokenizer, name) for name in names]
            result = {args.prompts.name: score(model, read_prompts(args.prompts), candidates)}
        else:
            result = score_tasks(model, tokenizer, args.n, args.seed)
        print(json.dumps({"model": folder.name, **result}))


if __name__ == "__main__":
    main()
