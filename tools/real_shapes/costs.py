"""The cost of a whole study of each of the 17 models, stage by stage, from `circuit-scaling plan`.

    python costs.py --program ../../target/release/circuit-scaling --tokenizers FOLDER --scratch DIR [--rate 225] [-- OPTIONS OF plan]

FOLDER/gpt2 and FOLDER/pythia hold the real tokenizers. Nothing is run and no weights are written: of each checkpoint there
is the header alone, before a hole of the right size. Times are operations divided by `--rate` GFLOP/s per core, as many cores as the
table says, all of them busy; measure a machine's own with `circuit-scaling plan`, which prints both operations and time.
"""

import argparse
import json
import shutil
import struct
import subprocess
from pathlib import Path

import models
import run

BYTES = {"F32": 4, "F16": 2, "BOOL": 1, "U8": 1}
STAGES = ["scan", "attend", "trace", "ablate"]
CORES = [2, 16, 64]


def write_header(folder, name):
    """A checkpoint folder without a tokenizer; its weights are a hole of the right size."""
    config, tensors, _, dtype, _, _ = models.describe(name)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    header, at = {}, 0
    for tensor, shape in tensors:
        size = BYTES[dtype]
        for n in shape:
            size *= n
        header[tensor] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + at)


def duration(seconds):
    for unit, of_unit in [("days", 86400), ("h", 3600), ("min", 60)]:
        if seconds >= 2 * of_unit:
            return f"{seconds / of_unit:.1f} {unit}"
    return f"{seconds:.0f} s"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, required=True)
    parser.add_argument("--tokenizers", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--models", default=",".join(models.NAMES))
    parser.add_argument("--rate", type=float, default=225, help="GFLOP/s that one core reaches in matrix products")
    parser.add_argument("options", nargs="*", help="further options of `plan`")
    args = parser.parse_args()

    print("| model | TFLOP: scans | attention | tracing | set ablation | " + " | ".join(f"{n} cores" for n in CORES) + " |")
    print("|---|" + "--:|" * (len(STAGES) + len(CORES)))
    for name in args.models.split(","):
        folder = args.scratch / name
        write_header(folder, name)
        run.write_tokenizer(folder, name, args.tokenizers)
        command = [args.program, "-q", "plan", "--models", folder, "--out", args.scratch / "study", *args.options]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        shutil.rmtree(folder)
        rows = [line.split() for line in said.splitlines()]
        tflop = {row[1]: float(row[3]) for row in rows if row[0] == name and row[1] in STAGES}
        total = sum(tflop.values())
        times = [duration(1000 * total / (args.rate * n)) for n in CORES]
        print(f"| {name} | " + " | ".join(f"{tflop[s]:,.1f}" for s in STAGES) + " | " + " | ".join(times) + " |", flush=True)


if __name__ == "__main__":
    main()
