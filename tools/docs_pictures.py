"""Makes the pictures of docs/walkthrough.md and docs/smollm2.md: python tools/docs_pictures.py PROGRAM [--smollm2 STUDY] [--six-tasks STUDY]

PROGRAM is the built circuit-scaling. The walkthrough's study takes seconds and is run anew, by the command that the page names. The two
studies of SmolLM2 take minutes to an hour: they are made as docs/smollm2.md says, and named here.
"""

import argparse
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
WALKTHROUGH = ["phase_space_all_heads", "heatmap_mini-gpt2-m", "causal_ioi", "hero_vs_random_ablation_mini-gpt2-l"]
SMOLLM2 = ["heatmap_smollm2", "scatter_smollm2", "hero_vs_random_ablation_smollm2"]
SIX_TASKS = ["direct_vs_total_smollm2", "task_overlap_smollm2"]


def copy(program, study, names, folder):
    """Draws figures of a study as it is now, and copies them into a folder of the docs."""
    with tempfile.TemporaryDirectory() as scratch:
        # A copy: the study may be somebody's only one.
        own = shutil.copytree(study, Path(scratch) / "study")
        subprocess.run([program, "plot", "--quiet", "--only", ",".join(names), "--out", own], check=True, stdout=subprocess.DEVNULL)
        for name in names:
            to = DOCS / folder / f"{name}.svg"
            shutil.copy(own / "paper/figs" / f"{name}.svg", to)
            print(to.relative_to(DOCS.parent))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("--smollm2", type=Path, help="the study of IOI and anti-repeat")
    parser.add_argument("--six-tasks", type=Path, help="the study of six tasks")
    own = parser.parse_args()
    program = own.program.resolve()
    command = re.search(r"^circuit-scaling (run .*)$", (DOCS / "walkthrough.md").read_text(), re.MULTILINE).group(1)
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run([program, *command.split(), "--quiet"], cwd=scratch, check=True, stdout=subprocess.DEVNULL)
        copy(program, Path(scratch) / command.split()[-1], WALKTHROUGH, "walkthrough")
    for study, names in [(own.smollm2, SMOLLM2), (own.six_tasks, SIX_TASKS)]:
        if study:
            copy(program, study, names, "smollm2")


if __name__ == "__main__":
    main()
