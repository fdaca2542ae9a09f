"""Tables as data frames of pandas and polars, neither of which is needed to use the module."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._native import CircuitScalingError

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
    # All rows decide a column's type: a column may be empty for thousands of them.
    return library("polars").read_csv(path, infer_schema_length=None)
