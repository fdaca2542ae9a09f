"""Makes the tables of docs/performance.md from bench/results: python bench/tables.py [--check]

Each table is between `<!-- bench/results/NAME.json -->` and `<!-- end -->`. `--check` writes nothing, and fails if a table does not match the results.
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/performance.md"


def or_dash(cell):
    """A cell, or a dash if the row lacks a value."""

    def shown(row):
        try:
            return cell(row)
        except KeyError:
            return "–"

    return shown


def gib(n):
    return f"{n / 2**30:.2f} GiB"


def seconds(x):
    return f"{x:,.1f} s" if x < 1000 else f"{x:,.0f} s"


# The columns of each table: title, and the function that formats a row's cell.
TABLES = {
    "transformerlens": [
        ("machine", lambda r: r["machine"]),
        ("program", lambda r: seconds(r["program_seconds"])),
        ("TransformerLens", lambda r: f"{seconds(r['transformerlens_seconds'])} ({r['head_seconds']:.2f} s per head)"),
        ("ratio", lambda r: f"{r['transformerlens_seconds'] / r['program_seconds']:.1f}"),
        ("largest difference of Δ, logits", lambda r: f"{r['largest_difference']:.1e}"),
    ],
    "studies": [
        ("machine", lambda r: r["machine"]),
        ("study", lambda r: r["what"]),
        ("model runs, predicted by `plan`", lambda r: seconds(r["predicted"])),
        ("measured", lambda r: seconds(r["seconds"])),
        ("CPU time", lambda r: seconds(r["cpu_seconds"])),
        ("peak memory", lambda r: gib(r["peak_bytes"])),
    ],
    "stages": [
        ("machine", lambda r: r["machine"]),
        ("study", lambda r: r["what"]),
        ("stage", lambda r: r["stage"]),
        ("predicted", lambda r: seconds(r["before"])),
        ("predicted, given the scans", lambda r: seconds(r["after"])),
        ("measured", lambda r: seconds(r["seconds"])),
    ],
    "page": [
        ("machine", lambda r: r["machine"]),
        ("page of 17 models", lambda r: r["page"].replace("-", " ")),
        ("size", lambda r: f"{r['bytes'] / 1e6:.1f} MB"),
        ("first paint", lambda r: f"{r['first_paint_ms']} ms"),
        ("opening drawn", lambda r: f"{r['opening_drawn_ms']} ms"),
        ("whole page drawn", lambda r: f"{r['whole_page_ms']} ms"),
    ],
    "memory": [
        ("machine", lambda r: r["machine"]),
        ("model", lambda r: r["model"]),
        ("float32 weights", lambda r: gib(r["weight_bytes"])),
        ("peak resident", lambda r: gib(r["peak_bytes"])),
        ("beyond the weights", lambda r: gib(r["peak_bytes"] - r["weight_bytes"])),
    ],
}


def table(name):
    rows = json.loads((ROOT / f"bench/results/{name}.json").read_text())
    columns = TABLES[name]
    lines = [[title for title, _ in columns], ["---"] * len(columns), *([or_dash(cell)(row) for _, cell in columns] for row in rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def main():
    page = PAGE.read_text()
    mark = re.compile(r"(<!-- bench/results/(\w+)\.json -->\n).*?(<!-- end -->)", re.S)
    made = mark.sub(lambda m: m.group(1) + table(m.group(2)) + m.group(3), page)
    if "--check" in sys.argv:
        sys.exit(made != page and "docs/performance.md does not match bench/results; run: python bench/tables.py")
    PAGE.write_text(made)


if __name__ == "__main__":
    main()
