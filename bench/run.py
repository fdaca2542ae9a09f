"""Measures the program and keeps what it found in bench/results: python bench/run.py [NAME ...]

    python bench/run.py studies                                   # whole studies, and what `plan` said of them before
    python bench/run.py memory --model FOLDER                     # peak memory of scans
    python bench/run.py transformerlens --model FOLDER            # needs torch and transformer_lens: tools/golden/requirements.txt

Each measurement replaces those of the same machine in bench/results/NAME.json; `python bench/tables.py` makes the tables of
docs/performance.md of these files. Run it on a machine that does nothing else: other work changes times by the minute.
"""

import argparse
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench/results"


def machine():
    """The processor, its vector instructions, and the cores that may be used."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name = re.search(r"model name\s*:\s*(.*)", text)
    flags = re.search(r"flags\s*:\s*(.*)", text)
    flags = flags.group(1).split() if flags else []
    vectors = next((shown for flag, shown in [("avx512f", "AVX-512"), ("avx2", "AVX2")] if flag in flags), platform.machine())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name.group(1).strip() if name else platform.processor()}, {vectors}, {cores} cores"


def keep(name, rows):
    """Replaces the rows of this machine, and of the same model where rows have one."""
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    here = machine()
    others = json.loads(path.read_text()) if path.exists() else []
    models = {row.get("model") for row in rows}
    others = [row for row in others if row["machine"] != here or row.get("model") not in models]
    path.write_text(json.dumps(others + [{"machine": here, **row} for row in rows], indent=1) + "\n")


def timed(command):
    """Wall time, processor time and peak memory of a command, and what it printed."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2),
        "peak_bytes": 1024 * after.ru_maxrss,
    }, done.stdout


def studies(args):
    """Whole studies of the shipped models, and of a random GPT-2, beside what `plan` predicted."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        random = ["--models", Path(scratch) / "random"]
        make = [sys.executable, ROOT / "tools/random_gpt2/make.py", random[1], "--layers", "6", "--heads", "8", "--width", "256"]
        try:
            subprocess.run([str(word) for word in make], check=True, capture_output=True)
        except subprocess.CalledProcessError:
            print("no random GPT-2: tools/random_gpt2/make.py needs numpy, safetensors and tokenizers", file=sys.stderr)
            random = None
        for what, options in [
            ("twelve miniatures", []),
            ("twelve miniatures, quick", ["--effort", "quick"]),
            ("random GPT-2, 6 layers of 8 heads, 256 wide", random),
        ]:
            if options is None:
                continue
            out = Path(scratch) / "out"
            _, plan = timed([args.program, "-q", "plan", *options, "--out", out])
            predicted = [line.split()[-2:] for line in plan.splitlines() if re.match(r"\S+\s+all\s", line)][-1]
            found, _ = timed([args.program, "-q", "run", *options, "--out", out])
            subprocess.run(["rm", "-rf", str(out)], check=True)
            rows.append({"what": what, "predicted": " ".join(predicted), **found})
            print(rows[-1], flush=True)
    keep("studies", rows)


def memory(args):
    """Peak memory of scanning one head in the first, the middle and the last layer, where stacks are largest."""
    with tempfile.TemporaryDirectory() as out:
        _, said = timed([args.program, "inspect", args.model])
        layers = int(re.search(r"\((\d+) layers", said).group(1))
        parameters = int(re.search(r"parameters\s+(\d+)", said).group(1))
        heads = ",".join(f"L{layer}H0" for layer in sorted({0, layers // 2, layers - 1}))
        scan = [args.program, "-q", "scan", "--models", args.model, "--protocol", "published", "--task", "ioi", "--heads", heads]
        # The children's largest size so far counts, so a process of its own measures.
        found, _ = timed([*scan, "--out", out])
    row = {"model": Path(args.model).name, "weight_bytes": 4 * parameters, "peak_bytes": found["peak_bytes"]}
    keep("memory", [row])


def transformerlens(args):
    """The program beside TransformerLens."""
    command = [sys.executable, ROOT / "tools/bench/side_by_side.py", args.model, "--program", args.program, "--json"]
    _, said = timed([*command, "--heads", "2", "--runs", str(args.turns)])
    keep("transformerlens", json.loads(said.splitlines()[-1]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = {"studies": studies, "memory": memory, "transformerlens": transformerlens}
    parser.add_argument("names", nargs="*", default=["studies"], help=", ".join(kinds))
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/circuit-scaling")
    parser.add_argument("--model", help="a folder with a checkpoint, for `memory` and `transformerlens`")
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    for name in args.names:
        if name not in kinds:
            parser.error(f"nothing is called {name}: {', '.join(kinds)}")
        if name != "studies" and not args.model:
            parser.error(f"{name} needs --model FOLDER")
    for name in args.names:
        kinds[name](args)


if __name__ == "__main__":
    main()
