"""Tables as pandas or polars data frames; the module needs neither."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._native import CircuitScalingError, InputError

if TYPE_CHECKING:
    import pandas
    import polars


def library(name: str) -> Any:
    """pandas or polars."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        message = f"{name} is not installed: pip install circuit-scaling[{name}]"
        raise CircuitScalingError(message) from None


def to_pandas(columns: Mapping[str, Sequence[Any]]) -> pandas.DataFrame:
    return library("pandas").DataFrame(dict(columns))


def to_polars(columns: Mapping[str, Sequence[Any]]) -> polars.DataFrame:
    return library("polars").DataFrame(dict(columns))


def read_pandas(path: Path) -> pandas.DataFrame:
    return library("pandas").read_csv(path)


def read_polars(path: Path) -> polars.DataFrame:
    # Infer types from all rows: a column may start with thousands of empty cells.
    return library("polars").read_csv(path, infer_schema_length=None)


TEXTS = ("clean", "corrupted")
"""Columns of a frame of prompts that must be text."""


def is_frame(task: Any) -> bool:
    """Whether this may be a frame of prompts: a pandas or polars data frame, or a list of dicts."""
    return hasattr(task, "columns") or (isinstance(task, Sequence) and not isinstance(task, (str, bytes)))


def json_lines(frame: Any) -> bytes:
    """A frame of prompts as JSON Lines, one row per line, without missing values."""
    rows = _rows(frame)
    if not rows:
        raise InputError("the frame has no rows: give one per prompt, with clean, correct and distractor")
    for column in rows[0]:
        if not isinstance(column, str):
            raise InputError(f"column {column!r} is not named by a string: columns are clean, corrupted, correct, distractor, …")
    lines = [json.dumps({key: _cell(at, key, value) for key, value in row.items()}) for at, row in enumerate(rows)]
    return "\n".join(lines).encode()


def _rows(frame: Any) -> Sequence[Mapping[Any, Any]]:
    if hasattr(frame, "to_dicts"):
        return frame.to_dicts()
    if hasattr(frame, "columns") and hasattr(frame, "to_dict"):
        return frame.to_dict(orient="records")
    if isinstance(frame, Sequence) and all(isinstance(row, Mapping) for row in frame):
        return frame
    raise InputError(
        f"`{type(frame).__name__}` is not a frame of prompts: give a pandas or polars data frame, or a list of dicts"
    )


def _cell(row: int, column: str, value: Any) -> Any:
    """A value for JSON; missing values become null."""
    value = value.item() if hasattr(value, "item") else value
    if value is None or value != value:
        return None
    if not isinstance(value, str) and (column in TEXTS or not isinstance(value, (bool, int, float))):
        kind = type(value).__name__
        raise InputError(f"row {row}, column {column!r}: {value!r} is not text but of type {kind}: give str")
    return value
