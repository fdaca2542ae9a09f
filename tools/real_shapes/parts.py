"""A study of the 17 models at their real shapes, divided into parts by `circuit-scaling parts --dry-run`.

    python parts.py --program ../../target/release/circuit-scaling --tokenizer FOLDER --scratch DIR --parts 64 [-- OPTIONS OF parts]

FOLDER holds the tokenizer.json that all models are given here: what parts cost depends on it through the prompts' lengths alone,
and SmolLM2's (../real_model) can be had anywhere. Nothing is run and no weights are written: of each checkpoint there is the header
alone, before a hole of the right size.
"""

import argparse
import json
import shutil
import subprocess
from pathlib import Path

import costs
import models


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--models", default=",".join(models.NAMES))
    parser.add_argument("--parts", required=True, help="numbers of parts, separated by commas")
    parser.add_argument("options", nargs="*", help="further options of `parts`")
    args = parser.parse_args()

    folders = [args.scratch / name for name in args.models.split(",")]
    for folder in folders:
        costs.write_header(folder, folder.name)
        for file in ["tokenizer.json", "tokenizer_config.json"]:
            shutil.copy(args.tokenizer / file, folder)
        # Every prompt starts with one BOS token, as in the study.
        config = json.loads((folder / "config.json").read_text())
        tokenizer = json.loads((folder / "tokenizer.json").read_text())
        named = json.loads((folder / "tokenizer_config.json").read_text())["bos_token"]
        config["bos_token_id"] = next(t["id"] for t in tokenizer["added_tokens"] if t["content"] == named)
        (folder / "config.json").write_text(json.dumps(config))
    for n_parts in args.parts.split(","):
        command = [args.program, "-q", "parts", "--dry-run", "--parts", n_parts, "--models", ",".join(map(str, folders))]
        print(subprocess.run([*command, *args.options], check=True, capture_output=True, text=True).stdout, flush=True)
    for folder in folders:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
