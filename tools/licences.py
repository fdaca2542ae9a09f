"""docs/licences.md: the licence of every dependency, as its own manifest states it. `python tools/licences.py`

`cargo deny check licenses bans sources` (see deny.toml) is what allows them; this list is for people.
"""

import json
import subprocess
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAD = """# Licences of the dependencies

Made by `python tools/licences.py` from the manifests of all crates in `Cargo.lock`, those for other systems, for tests and
for benches included. `deny.toml` says which licences are allowed; where a crate offers a choice, one of them is enough.
`cargo deny check licenses bans sources` found nothing wrong (cargo-deny 0.20.2, 24 November 2026). `cargo deny check advisories`
and `cargo audit` need the advisory database at github.com/RustSec/advisory-db, which cannot be reached where this was run: known
vulnerabilities have not been checked; run either before a release.
Beside them: Liberation Sans (SIL Open Font License 1.1, `crates/report/fonts`) and plotly.js (MIT, `crates/report/assets`).

| licence | crates |
|---|---|
"""


def main():
    run = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--locked"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    by_licence = defaultdict(set)
    for package in json.loads(run.stdout)["packages"]:
        if package["source"] is not None:
            licence = package["license"] or "none stated"
            by_licence[" ".join(licence.replace("/", " OR ").split())].add(f"{package['name']} {package['version']}")
    rows = sorted(by_licence.items(), key=lambda item: (-len(item[1]), item[0]))
    text = HEAD + "".join(f"| {licence} | {', '.join(sorted(crates))} |\n" for licence, crates in rows)
    (ROOT / "docs/licences.md").write_text(text)


main()
