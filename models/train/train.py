"""Trains the miniature models.

    python models/train/train.py --all                 the whole ladder, two at a time
    python models/train/train.py mini-gpt2-s           one or more by name

A run writes `models/<name>/` (float16 safetensors, config, tokenizer), `models/train/logs/<name>.csv` (the loss curve)
and its entry in `models/cards.json`. Everything is seeded; on one thread the same machine gives the same weights.
"""

from __future__ import annotations

import argparse
import csv
import fcntl
import json
import math
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

import corpus
import tokenizer as tok
from architectures import LADDER, N_POSITIONS, build
from evaluate import load, score_tasks

HERE = Path(__file__).resolve().parent
MODELS = HERE.parent
CACHE = HERE / "cache"
N_VALIDATION = 1_000
CORPUS_SEED = 0  # what is written
SEED = 2024  # initial weights and the order of documents
WARM_UP = 100
WEIGHT_DECAY = 0.02
IGNORED = -100  # padding, in rows and in labels
BOS_MARK = -1  # a row's BOS, before a family gives it an id


@dataclass(frozen=True)
class Section:
    """A part of the corpus: documents of one length, cut to rows of one width."""

    n_documents: int
    words_per_document: int
    row_length: int
    batch_size: int
    share: float  # of the training steps


# Mostly short documents, about as long as the test prompts: with few tokens, attention finds the names early in training.
SECTIONS = {
    "short": Section(200_000, 32, 40, 72, 0.85),
    "long": Section(30_000, 60, N_POSITIONS, 45, 0.15),
}


def prepare() -> None:
    """Generates, checks and tokenizes the corpus once; later runs find it in the cache."""
    if (CACHE / "done").exists():
        return
    CACHE.mkdir(exist_ok=True)
    tasks = corpus.load_tasks()
    documents = {
        key: corpus.generate(part.n_documents, CORPUS_SEED + i, part.words_per_document)
        for i, (key, part) in enumerate(SECTIONS.items())
    }
    record = corpus.check_held_out([d for section in documents.values() for d in section], tasks)
    names = sorted({name for task in tasks for name in task.names} | set(corpus.OTHER_NAMES))
    texts = {key: ["".join(items) for items in section] for key, section in documents.items()}
    base = tok.train_base(texts["long"][:20_000], names, corpus.prompt_words(tasks))
    record["tokens"] = 0
    for key, part in SECTIONS.items():
        rows = np.full((part.n_documents, part.row_length), IGNORED, dtype=np.int16)
        rows[:, 0] = BOS_MARK
        for row, encoding in zip(rows, base.encode_batch(texts[key])):
            ids = encoding.ids[: part.row_length - 1]
            row[1 : 1 + len(ids)] = ids
        np.save(CACHE / f"{key}.npy", rows)
        record["tokens"] += int((rows != IGNORED).sum())
    base.save(str(CACHE / "base.json"))
    (CACHE / "corpus.json").write_text(json.dumps(record) + "\n", encoding="utf-8")
    (CACHE / "done").touch()
    print(json.dumps(record), flush=True)


def family_rows(rows: np.ndarray, specials: tok.Specials, n_base: int) -> torch.Tensor:
    """Cached rows in a family's own numbering, `[n_rows, row_length]`, padding left as `IGNORED`."""
    out = torch.from_numpy(rows.astype(np.int64))
    out[out >= 0] += specials.offset
    out[out == BOS_MARK] = specials.bos_id(n_base)
    return out


def schedule(steps: int) -> list[tuple[str, torch.Tensor]]:
    """Section and rows of every step: the same for all models, as in the Pythia suite. The first rows are for validation."""
    generator = torch.Generator().manual_seed(SEED)
    shares = torch.tensor([part.share for part in SECTIONS.values()])
    chosen = torch.multinomial(shares, steps, replacement=True, generator=generator).tolist()
    order = {k: N_VALIDATION + torch.randperm(p.n_documents - N_VALIDATION, generator=generator) for k, p in SECTIONS.items()}
    taken = dict.fromkeys(SECTIONS, 0)
    batches = []
    for index in chosen:
        key = list(SECTIONS)[index]
        at = torch.arange(taken[key], taken[key] + SECTIONS[key].batch_size) % len(order[key])
        taken[key] += SECTIONS[key].batch_size
        batches.append((key, order[key][at]))
    return batches


def batch_loss(model, labels: torch.Tensor, bos_id: int) -> torch.Tensor:
    """Mean next-token loss of a batch. Padding is only at the end, where causal attention ignores it."""
    inputs = torch.where(labels == IGNORED, bos_id, labels)
    logits = model(inputs, attention_mask=torch.ones_like(inputs), use_cache=False).logits[:, :-1]
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up, then a cosine down to a twentieth of the peak."""
    if step < WARM_UP:
        return peak * (step + 1) / WARM_UP
    progress = (step - WARM_UP) / max(1, steps - WARM_UP)
    return peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress)))


def train(name: str, steps: int | None = None) -> None:
    """Trains one model and writes its folder, log and card entry."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    size = LADDER[name]
    steps = steps or size.steps
    specials = tok.SPECIALS[size.family]
    base = Tokenizer.from_file(str(CACHE / "base.json"))
    n_base = base.get_vocab_size()
    bos_id = specials.bos_id(n_base)
    rows = {key: family_rows(np.load(CACHE / f"{key}.npy"), specials, n_base) for key in SECTIONS}
    batches = schedule(steps)
    model = build(size, n_base + len(specials.before) + len(specials.after), bos_id)
    model.train()
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    plain = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": plain, "weight_decay": 0.0}],
        lr=size.learning_rate, betas=(0.9, 0.98),
    )
    curve: list[dict[str, float]] = []
    running: list[float] = []
    log_every = max(20, steps // 60)
    start = time.monotonic()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, size.learning_rate)
        key, at = batches[step]
        loss = batch_loss(model, rows[key][at], bos_id)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        running.append(loss.item())
        if step == 0 or (step + 1) % log_every == 0 or step + 1 == steps:
            curve.append({"step": step + 1, "train_loss": round(sum(running) / len(running), 4)})
            running.clear()
            print(name, curve[-1], f"{time.monotonic() - start:.0f}s", flush=True)
    seconds = time.monotonic() - start

    folder = MODELS / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    model.half().save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    tok.save_family(base, size.family, N_POSITIONS, folder)
    with open(HERE / "logs" / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["step", "train_loss"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(curve)

    model, tokenizer = load(folder)  # as a user gets it: float16 weights, float32 arithmetic
    with torch.no_grad():
        losses = [batch_loss(model, part[:N_VALIDATION], bos_id).item() for part in rows.values()]
    card = {
        "family": size.family, "params": sum(p.numel() for p in model.parameters()),
        "n_layers": size.n_layers, "n_heads": size.n_heads, "d_model": size.d_model,
        "steps": steps, "learning_rate": size.learning_rate,
        "train_seconds": round(seconds), "final_loss": round(losses[0], 4), "final_loss_long": round(losses[1], 4),
        "tasks": score_tasks(model, tokenizer),
    }
    write_card(name, card)
    print(name, json.dumps(card), flush=True)


def write_card(name: str, card: dict) -> None:
    """Puts a model's entry into `cards.json`; a lock keeps two trainings from writing at once."""
    path = MODELS / "cards.json"
    with open(CACHE / "cards.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        cards = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        cards[name] = card
        ordered = {key: cards[key] for key in LADDER if key in cards}
        path.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*LADDER, []], help="models to train")
    parser.add_argument("--all", action="store_true", help="train the whole ladder")
    parser.add_argument("--jobs", type=int, default=2, help="models trained at once, one thread each")
    parser.add_argument("--steps", type=int, help="train for this many steps instead")
    args = parser.parse_args()
    names = list(LADDER) if args.all else args.names
    prepare()
    if len(names) == 1:
        train(names[0], args.steps)
        return
    extra = ["--steps", str(args.steps)] if args.steps else []
    with ThreadPoolExecutor(args.jobs) as pool:
        runs = pool.map(lambda name: subprocess.run([sys.executable, __file__, name, *extra]).returncode, names)
        if any(list(runs)):
            sys.exit("a training run failed; see its message above")


if __name__ == "__main__":
    main()
