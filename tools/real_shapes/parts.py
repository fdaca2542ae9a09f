"""A study of the 17 models at their real shapes, cut into parts by `circuit-scaling parts --dry-run`.

    python parts.py --program ../../target/release/circuit-scaling --tokenizers FOLDER --scratch DIR --parts 64 [-- OPTIONS OF parts]

FOLDER/gpt2 and FOLDER/pythia hold the real tokenizers. Nothing is run and no weights are written: of each checkpoint there
is the header alone, before a hole of the right size.
"""

import argparse
import shutil
import subprocess
from pathlib import Path

import costs
import models


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, required=True)
    parser.add_argument("--tokenizers", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--models", default=",".join(models.NAMES))
    parser.add_argument("--parts", required=True, help="numbers of parts, separated by commas")
    parser.add_argument("options", nargs="*", help="further options of `parts`")
    args = parser.parse_args()

    folders = [args.scratch / name for name in args.models.split(",")]
    for folder in folders:
        costs.write_header(folder, folder.name, args.tokenizers)
    for n_parts in args.parts.split(","):
        command = [args.program, "-q", "parts", "--dry-run", "--parts", n_parts, "--models", ",".join(map(str, folders))]
        print(subprocess.run([*command, *args.options], check=True, capture_output=True, text=True).stdout, flush=True)
    for folder in folders:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
