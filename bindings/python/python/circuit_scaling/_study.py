"""Studies: the program's ``run`` and the folder that it writes."""

from __future__ import annotations

import html
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _frames, _progress
from ._native import CircuitScalingError, StudyError
from ._results import Picture, not_a_study

if TYPE_CHECKING:
    import os

    import pandas
    import polars


class Study(Mapping[str, "pandas.DataFrame"]):
    """A study's folder: ``study["head_effects"]`` is that table as a pandas data frame, ``study.figures`` its figures."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder: Path | None = Path(folder)
        if not (self.folder / "results").is_dir() and not self._tables().is_dir():
            raise not_a_study(self.folder)

    @property
    def folder(self) -> Path:
        """Its path."""
        if self._folder is None:
            raise StudyError("the study is closed: open it again with cs.Study(folder)")
        return self._folder

    def close(self) -> None:
        """Closes the study; a ``with`` block does so at its end."""
        self._folder = None

    def __enter__(self) -> Study:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tables(self) -> Path:
        return self.folder / "paper" / "tables"

    def _names(self) -> list[str]:
        return sorted(path.stem for path in self._tables().glob("*.csv"))

    def _path(self, name: str) -> Path:
        path = self._tables() / f"{name}.csv"
        if name not in self._names():
            known = ", ".join(self._names()) or "none yet"
            raise StudyError(f'{self.folder} has no table "{name}": available are {known}')
        return path

    def __getitem__(self, name: str) -> pandas.DataFrame:
        return self.to_pandas(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def __contains__(self, name: object) -> bool:
        return name in self._names()

    def to_pandas(self, name: str) -> pandas.DataFrame:
        """A table as a pandas data frame; needs pandas."""
        return _frames.read_pandas(self._path(name))

    def to_polars(self, name: str) -> polars.DataFrame:
        """A table as a polars data frame; needs polars."""
        return _frames.read_polars(self._path(name))

    @property
    def scans(self) -> list[dict[str, Any]]:
        """Contents of every scan file."""
        paths = sorted((self.folder / "results").glob("*_logitdiff_scan_*.json"))
        return [json.loads(path.read_text(encoding="utf-8")) for path in paths]

    @property
    def figures(self) -> dict[str, Picture]:
        """Every figure by name."""
        paths = sorted((self.folder / "paper" / "figs").glob("*.svg"))
        return {path.stem: Picture(path.stem, path.read_text(encoding="utf-8")) for path in paths}

    @property
    def notes(self) -> dict[str, str]:
        """The program's notes on the results, as Markdown, by name."""
        paths = sorted((self.folder / "paper" / "notes").glob("*.md"))
        return {path.stem: path.read_text(encoding="utf-8") for path in paths}

    @property
    def report(self) -> Path:
        """The page that shows everything."""
        return self.folder / "report.html"

    def __repr__(self) -> str:
        if self._folder is None:
            return "<Study, closed>"
        return f"<Study {self.folder}: {len(self)} tables, {len(self.figures)} figures>"

    def _repr_html_(self) -> str:
        if self._folder is None:
            return "<p>a closed study</p>"
        rows = [
            (s["model_name"], s["task"], f"{s['base_logit_diff_mean']:.3f}", f"{s['base_accuracy']:.1%}")
            for s in self.scans
        ]
        head = "".join(f"<th>{h}</th>" for h in ("model", "task", "logit difference", "accuracy"))
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        lists = [("tables", self._names()), ("figures", list(self.figures))]
        details = "".join(
            f"<details><summary>{len(names)} {what}</summary>{html.escape(', '.join(names))}</details>"
            for what, names in lists
        )
        title = html.escape(str(self.folder))
        return f"<p><b>{title}</b></p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{details}"


def run(
    models: str | Sequence[str] = (),
    *,
    out: str | os.PathLike[str] = "circuit-scaling-study",
    progress: bool | None = None,
    **options: Any,
) -> Study:
    """Runs a whole study, as ``circuit-scaling run`` does, and returns it.

    ``options`` are those of the command line with ``_`` for ``-``: ``tasks=["ioi", "anti-repeat"]``, ``prompts=80``,
    ``effort="quick"``, ``study="study.toml"``. Calling it again after an interruption resumes the run.
    """
    given: dict[str, Any] = {"models": models, "out": out, **options}
    command = [sys.executable, "-m", "circuit_scaling", "--json-progress", "run", *_arguments(given)]
    with _progress.bar("circuit-scaling run", progress) as report:
        code, lines = _follow(command, report)
    if code != 0:
        raise CircuitScalingError(_what_went_wrong(lines, code))
    return Study(out)


def _arguments(options: Mapping[str, Any]) -> list[str]:
    """Keyword arguments as command-line arguments."""
    arguments = []
    for key, value in options.items():
        flag = "--" + key.replace("_", "-")
        if value is None or value is False or value == () or value == []:
            continue
        if value is True:
            arguments.append(flag)
        elif isinstance(value, (list, tuple)):
            arguments.append(f"{flag}={','.join(map(str, value))}")
        else:
            arguments.append(f"{flag}={value}")
    return arguments


def _follow(command: list[str], report: _progress.Report | None) -> tuple[int, list[str]]:
    """Runs the program, reports its progress, and returns its exit code and its other lines of output."""
    lines, start = [], time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, encoding="utf-8")
    try:
        for line in process.stderr or ():
            event = _event(line)
            if event is None:
                lines.append(line.rstrip("\n"))
            elif report and event.get("whole_seconds_left") is not None:
                gone, left = time.monotonic() - start, event["whole_seconds_left"]
                report(round(1000 * gone), round(1000 * (gone + left)) or 1)
        return process.wait(), lines
    finally:
        # Whatever ended the loop (usually Ctrl-C) stops the program too; the next run resumes where it was.
        process.kill()
        process.wait()


def _event(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


def _what_went_wrong(lines: list[str], code: int) -> str:
    said = [line for line in lines if line.strip()]
    own = [line.removeprefix("circuit-scaling: ") for line in said if line.startswith("circuit-scaling: ")]
    if own:
        return own[-1]
    return " ".join(said) or f"the program ended with code {code}"
