"""Checks what ships in `models/` and writes what is derived from it. Run after training.

    cargo run --release -- run --stages scan --out STUDY
    python models/train/release.py STUDY

Scores every model on the prompts of that run with Transformers and puts the scores into `models/cards.json`, where the
program's tests compare them with its own; writes `models/golden_logits.json` (last-token logits by Transformers, for the
same purpose) and the tables in `models/README.md`. Fails if a checkpoint does not give the numbers of `cards.json`, if a name is not one token, or if all
together is over the limit.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

import torch

from architectures import LADDER
from corpus import TASK_FILES, load_task
from evaluate import dump_logits, load, name_id, sample_prompts, score_study, score_tasks
from train import HERE, MODELS

SIZE_LIMIT = 8_000_000  # bytes, of everything compiled into the binary
GOLDEN_PROMPTS = (("ioi", "long_argument"), ("ioi", "when_went"), ("anti_repeat", "met_talked"))
BEGIN, END = "<!-- tables: written by train/release.py -->", "<!-- end of tables -->"


def shipped_bytes(cards: dict) -> int:
    """Size of the checkpoint folders of `cards.json`."""
    return sum(file.stat().st_size for name in cards for file in (MODELS / name).iterdir())


def golden(name: str, tokenizer) -> dict:
    """The golden entry of one model: three prompts, one of them longer than GPT-Neo's local window."""
    prompts = []
    for task, template in GOLDEN_PROMPTS:
        drawn = sample_prompts(load_task(TASK_FILES[task]), tokenizer, 40, seed=1)
        prompts.append(next(p for p in drawn if p.template == template))
    return dump_logits(MODELS / name, prompts)


def tables(cards: dict) -> str:
    """The README's tables, from `cards.json` and the loss curves."""
    lines = [
        "| model | parameters | layers x heads | steps | seconds | IOI accuracy | IOI logit difference | anti-repeat accuracy "
        "| anti-repeat logit difference |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, card in cards.items():
        ioi, anti = (card["study"][task]["discovery"] for task in ("ioi", "anti_repeat"))
        lines.append(
            f"| `{name}` | {card['params']:,} | {card['n_layers']} x {card['n_heads']} | {card['steps']:,} "
            f"| {card['train_seconds']:,} | {ioi['accuracy']:.1%} | {ioi['logit_diff']:+.2f} | {anti['accuracy']:.1%} "
            f"| {anti['logit_diff']:+.2f} |"
        )
    lines += ["", "Training loss at these shares of the steps, and validation loss at the end:", ""]
    shares = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
    lines.append("| model | " + " | ".join(f"{share:.0%}" for share in shares) + " | validation |")
    lines.append("|---|" + "--:|" * (len(shares) + 1))
    for name, card in cards.items():
        with open(HERE / "logs" / f"{name}.csv", encoding="utf-8") as file:
            rows = [(int(row["step"]), float(row["train_loss"])) for row in csv.DictReader(file)]
        picked = [min(rows, key=lambda row: abs(row[0] - share * card["steps"]))[1] for share in shares]
        lines.append(f"| `{name}` | " + " | ".join(f"{loss:.2f}" for loss in picked) + f" | {card['final_loss']:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder of a run with the default options")
    study = parser.parse_args().study
    torch.set_num_threads(1)
    cards = json.loads((MODELS / "cards.json").read_text(encoding="utf-8"))
    if missing := [name for name in LADDER if name not in cards]:
        print(f"not trained yet: {', '.join(missing)}")
    entries = []
    for name in cards:
        model, tokenizer = load(MODELS / name)
        for path in TASK_FILES.values():
            for person in load_task(path).names:
                name_id(tokenizer, person)
        if (measured := score_tasks(model, tokenizer)) != cards[name]["tasks"]:
            sys.exit(f"{name}: cards.json says {cards[name]['tasks']}, the checkpoint gives {measured}")
        cards[name]["study"] = score_study(model, tokenizer, study, name)
        entries.append(golden(name, tokenizer))
    (MODELS / "cards.json").write_text(json.dumps(cards, indent=1) + "\n", encoding="utf-8")
    (MODELS / "golden_logits.json").write_text(json.dumps(entries, separators=(",", ":")) + "\n", encoding="utf-8")
    if (size := shipped_bytes(cards)) > SIZE_LIMIT:
        sys.exit(f"the models are {size:,} bytes, over the limit of {SIZE_LIMIT:,}")
    readme = MODELS / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    readme.write_text(f"{before}\n{tables(cards)}\n\nAll folders together: {size:,} bytes.\n{after}", encoding="utf-8")
    print(f"{len(entries)} models, {size:,} bytes")


if __name__ == "__main__":
    main()
