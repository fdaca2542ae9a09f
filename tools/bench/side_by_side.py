"""Compares the exact scan with TransformerLens 2.18: the same checkpoint, prompts, ablation and cores, alternating.

    python side_by_side.py CHECKPOINT --program ../../target/release/circuit-scaling [--heads 3] [--runs 3] [--threads 2]

CHECKPOINT is a folder with a GPT-2, Pythia, OPT or GPT-Neo model. Each run first times the program on every head and both
tasks of the published protocol, as a whole process (start, loading, statistics and writing included), then TransformerLens
on a few heads: one forward pass over all drawn prompts per head, with hook_z of the head set to zero under the default
weight processing, prompts of one length in one batch, so without padding. Its time for all heads is the mean time of a head
times their number, loading excluded. Prints the ratio of each run, its spread, and the largest difference between the two
programs' Δ. Versions: ../golden/requirements.txt.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import torch
from transformer_lens import HookedTransformer
from transformers import AutoModelForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "golden"))
from lens import CONVERT, lens_config, with_all_biases

SCANS = {"ioi": "copy_suppression", "anti_repeat": "anti_repeat"}


def load(folder):
    """The checkpoint in TransformerLens: float32, with the default weight processing."""
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    cfg = lens_config(hf.config)
    cfg.dtype = torch.float32
    model = HookedTransformer(cfg)
    state = CONVERT[hf.config.model_type](with_all_biases(hf), cfg)
    model.load_and_process_state_dict({k: v.detach().clone() for k, v in state.items()}, fold_ln=True,
                                      center_writing_weights=True, center_unembed=True, fold_value_biases=True)  # fmt: skip
    return model.eval()


def read_batches(path):
    """Prompts by length: `(tokens [n, length], correct [n], distractor [n])`, each repeated as often as it was drawn."""
    by_length = defaultdict(list)
    for line in path.read_text(encoding="utf-8").splitlines():
        prompt = json.loads(line)
        row = (prompt["token_ids"], prompt["correct_id"], prompt["distractor_id"])
        by_length[len(prompt["token_ids"])] += [row] * prompt["weight"]
    return [tuple(torch.tensor(column) for column in zip(*rows)) for rows in by_length.values()]


@torch.no_grad()
def mean_difference(model, batches, head=None):
    """Mean logit difference, with one head's z set to zero."""

    def zero(z, hook):  # z: [batch, position, head, d_head]
        z[:, :, head[1]] = 0.0
        return z

    hooks = [] if head is None else [(f"blocks.{head[0]}.attn.hook_z", zero)]
    total, n = 0.0, 0
    for tokens, correct, distractor in batches:
        last = model.run_with_hooks(tokens, fwd_hooks=hooks, prepend_bos=False)[:, -1]
        rows = torch.arange(len(tokens))
        total += (last[rows, correct] - last[rows, distractor]).double().sum().item()
        n += len(tokens)
    return total / n


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--program", type=Path, required=True)
    parser.add_argument("--heads", type=int, default=3, help="heads that TransformerLens ablates in each run")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true", help="print all runs as JSON in the last line, for bench/run.py")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = load(args.checkpoint)
    n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
    total = n_layers * n_heads
    ratios, largest, rows = [], 0.0, []
    for run in range(args.runs):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            subprocess.run([args.program, "run", "--stages", "scan", "--protocol", "published", "--quiet", "--threads",
                            str(args.threads), "--models", args.checkpoint, "--out", folder], check=True)  # fmt: skip
            ours = time.perf_counter() - start
            results = Path(folder, "results")
            scans = {t: json.loads(next(results.glob(f"{p}_logitdiff_scan_*.json")).read_text()) for t, p in SCANS.items()}
            batches = {t: read_batches(next(results.glob(f"prompts/{t}_{args.checkpoint.name}.jsonl"))) for t in SCANS}
        if run == 0:
            base = {task: mean_difference(model, batches[task]) for task in SCANS}  # also warms up
        seconds = 0.0
        for i in range(args.heads):
            index = (run * args.heads + i) * total // (args.runs * args.heads)
            for task in SCANS:
                start = time.perf_counter()
                ablated = mean_difference(model, batches[task], divmod(index, n_heads))
                seconds += time.perf_counter() - start
                difference = abs(ablated - base[task] - scans[task]["heads"][index]["delta"])
                largest = max(largest, difference)
        theirs = seconds / args.heads * total
        ratios.append(theirs / ours)
        rows.append({"program_seconds": round(ours, 2), "transformerlens_seconds": round(theirs, 1),
                     "head_seconds": round(seconds / args.heads, 3), "largest_difference": largest})  # fmt: skip
        print(f"run {run + 1}: program {ours:.1f} s, TransformerLens {theirs:.0f} s ({seconds / args.heads:.2f} s per head), "
              f"ratio {ratios[-1]:.1f}", flush=True)  # fmt: skip
    ratios.sort()
    print(f"ratio over {args.runs} runs: median {ratios[len(ratios) // 2]:.1f}, {ratios[0]:.1f} to {ratios[-1]:.1f}; "
          f"largest difference of Δ {largest:.2e}")  # fmt: skip
    if args.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
