"""Measures the program and records the results in bench/results: python bench/run.py [NAME ...]

    python bench/run.py studies                                   # whole studies, and `plan`'s predictions for them; needs numpy, safetensors
    python bench/run.py memory --model FOLDER                     # peak memory of scans
    python bench/run.py transformerlens --model FOLDER            # needs torch and transformer_lens: tools/golden/requirements.txt
    python bench/run.py page                                      # when report.html of a large study paints; needs Chromium

Each measurement replaces those of the same machine in bench/results/NAME.json; `python bench/tables.py` makes the tables of docs/performance.md from these files. Run it on an otherwise idle machine: other load changes the timings.
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
    """The CPU, its vector instructions, and the number of usable cores."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name = re.search(r"model name\s*:\s*(.*)", text)
    flags = re.search(r"flags\s*:\s*(.*)", text)
    flags = flags.group(1).split() if flags else []
    vectors = next((shown for flag, shown in [("avx512f", "AVX-512"), ("avx2", "AVX2")] if flag in flags), platform.machine())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name.group(1).strip() if name else platform.processor()}, {vectors}, {cores} cores"


def keep(name, rows):
    """Replaces the rows of this machine (and of the same model, if rows have one)."""
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    here = machine()
    others = json.loads(path.read_text()) if path.exists() else []
    models = {row.get("model") for row in rows}
    others = [row for row in others if row["machine"] != here or row.get("model") not in models]
    path.write_text(json.dumps(others + [{"machine": here, **row} for row in rows], indent=1) + "\n")


def timed(command):
    """Wall time, CPU time and peak memory of a command, and its output."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2),
        "peak_bytes": 1024 * after.ru_maxrss,
    }, done.stdout


# The messages with which `run` reports each stage as done, up to the seconds.
STAGES = {
    "scan": r"^\S+\s+\S+\s+\d+ heads in",
    "attend": r"(?:heads read|roles of \d+ heads) in",
    "trace": r"heads traced in",
    "ablate": r"sets of heads.*, in",
}


def planned(text):
    """Seconds of each stage of all models together, and of all stages, as `plan` prints them."""
    unit = {"s": 1, "min": 60, "h": 3600}
    rows = re.findall(r"^(\S+)\s+(\w+)\s+.*\s([\d.]+) (s|min|h)$", text, re.M)
    last = rows[-1][0]  # the model itself if there is one, else `all`
    return {stage: float(n) * unit[u] for model, stage, n, u in rows if model == last}


def measured(text):
    """Seconds of each stage that runs models, summed over the models that `run` reports."""
    seconds = {stage: re.findall(words + r" ([\d.]+) s$", text, re.M) for stage, words in STAGES.items()}
    return {stage: round(sum(map(float, found)), 1) for stage, found in seconds.items()}


def studies(args):
    """Whole studies of the bundled models and of random GPT-2s, and `plan`'s predictions before and after their scans."""
    rows, stages = [], []
    with tempfile.TemporaryDirectory() as scratch:
        shapes = {"random GPT-2, 6 layers of 8 heads, 256 wide": (6, 8, 256)}
        if args.small:
            shapes["random GPT-2, 12 layers of 12 heads, 768 wide (GPT-2 small's)"] = (12, 12, 768)
        kinds = [("twelve miniatures", []), ("twelve miniatures, quick", ["--effort", "quick"])]
        for number, (what, shape) in enumerate(shapes.items()):
            folder = Path(scratch) / f"random-{number}"
            sizes = [word for pair in zip(("--layers", "--heads", "--width"), shape) for word in pair]
            make = [sys.executable, ROOT / "tools/random_gpt2/make.py", folder, *sizes]
            subprocess.run([str(word) for word in make], check=True, capture_output=True)
            kinds.append((what, ["--models", folder]))
        for what, options in kinds:
            out = Path(scratch) / "out"
            plan = [args.program, "-q", "plan", *options, "--out", out]
            before = planned(timed(plan)[1])
            found, said = timed([args.program, "run", *options, "--out", out])
            after = planned(timed(plan)[1])
            subprocess.run(["rm", "-rf", str(out)], check=True)
            rows.append({"what": what, "predicted": round(before["all"], 1), **found})
            for stage, seconds in measured(said).items():
                found = {"before": round(before[stage], 1), "after": round(after[stage], 1), "seconds": seconds}
                stages.append({"what": what, "stage": stage, **found})
            print(rows[-1], *stages[-len(STAGES) :], sep="\n", flush=True)
    keep("studies", rows)
    keep("stages", stages)


def memory(args):
    """Peak memory of scanning one head in the first, the middle and the last layer, where stacks are largest."""
    with tempfile.TemporaryDirectory() as out:
        _, said = timed([args.program, "inspect", args.model])
        layers = int(re.search(r"\((\d+) layers", said).group(1))
        parameters = int(re.search(r"parameters\s+(\d+)", said).group(1))
        heads = ",".join(f"L{layer}H0" for layer in sorted({0, layers // 2, layers - 1}))
        scan = [args.program, "-q", "scan", "--models", args.model, "--protocol", "published", "--task", "ioi", "--heads", heads]
        # ru_maxrss is the maximum over all children so far, so this runs in its own process.
        found, _ = timed([*scan, "--out", out])
    row = {"model": Path(args.model).name, "weight_bytes": 4 * parameters, "peak_bytes": found["peak_bytes"]}
    keep("memory", [row])


def transformerlens(args):
    """The program compared with TransformerLens."""
    command = [sys.executable, ROOT / "tools/bench/side_by_side.py", args.model, "--program", args.program, "--json"]
    _, said = timed([*command, "--heads", "2", "--runs", str(args.turns)])
    keep("transformerlens", json.loads(said.splitlines()[-1]))


def page(args):
    """When the pages of 17 models paint, of two tasks and of six, as `crates/report/tests/page.rs` makes them."""
    import page as browser

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        test = ["cargo", "test", "--release", "--workspace", "--test", "page", "--", "the_page_is_whole"]
        subprocess.run(test, cwd=ROOT, env={**os.environ, "PAGES_TO_LOOK_AT": folder}, check=True, stdout=subprocess.DEVNULL)
        for path in sorted(Path(folder).glob("*.html")):
            own = browser.times(path, max(args.turns, 5))
            rows.append({"page": path.stem, "bytes": path.stat().st_size, **{name + "_ms": ms for name, ms in own.items()}})
            print(rows[-1])
    keep("page", rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = {"studies": studies, "memory": memory, "transformerlens": transformerlens, "page": page}
    parser.add_argument("names", nargs="*", default=["studies"], help=", ".join(kinds))
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/circuit-scaling")
    parser.add_argument("--model", help="a folder with a checkpoint, for `memory` and `transformerlens`")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="also run `studies` of GPT-2 small's shape: ten minutes on two cores")
    args = parser.parse_args()
    for name in args.names:
        if name not in kinds:
            parser.error(f"unknown measurement {name}: choose from {', '.join(kinds)}")
        if name in ("memory", "transformerlens") and not args.model:
            parser.error(f"{name} needs --model FOLDER")
    for name in args.names:
        kinds[name](args)


if __name__ == "__main__":
    main()
