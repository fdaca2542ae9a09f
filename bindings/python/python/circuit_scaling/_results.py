"""Results of scans, set ablation and tracing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _frames
from ._native import StudyError, head_map

if TYPE_CHECKING:
    import numpy as np
    import pandas
    import polars
    from numpy.typing import NDArray


class _Table:
    """A result in the form of a table."""

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        raise NotImplementedError

    def to_pandas(self) -> pandas.DataFrame:
        """The table as a pandas data frame; needs pandas."""
        return _frames.to_pandas(self._columns())

    def to_polars(self) -> polars.DataFrame:
        """The table as a polars data frame; needs polars."""
        return _frames.to_polars(self._columns())


class Picture:
    """A figure as SVG, displayed by notebooks."""

    def __init__(self, name: str, svg: str) -> None:
        self.name = name
        self.svg = svg

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"<Picture {self.name}: {len(self.svg)} bytes of SVG; .save(path) writes it>"

    def save(self, path: str | Path) -> Path:
        """Writes the figure to ``path`` and returns it."""
        path = Path(path)
        path.write_text(self.svg, encoding="utf-8")
        return path


def _grid(n_layers: int, n_heads: int, rows: Sequence[Mapping[str, Any]], key: str) -> NDArray[np.float64]:
    """One number per head, ``[n_layers, n_heads]``; NaN where missing."""
    import numpy as np

    grid = np.full((n_layers, n_heads), np.nan)
    for row in rows:
        value = row.get(key)
        if value is not None:
            grid[row["layer"], row["head"]] = value
    return grid


@dataclass(frozen=True)
class Scan(_Table):
    """The effect of ablating each head on a task. Results are those of ``circuit-scaling scan`` with the same options."""

    model: str
    """The model's name."""
    task: str
    """The task's name."""
    file: Mapping[str, Any] = field(repr=False)
    """The contents of the program's ``results/…_logitdiff_scan_<model>.json``."""
    prompts: Sequence[Mapping[str, Any]] = field(repr=False)
    """The distinct prompts as they were run: text, token ids, answers, weight, split, template."""
    base: NDArray[np.float32] = field(repr=False)
    """Logit difference of each prompt without ablation. ``[n_prompts]``"""
    ablated: NDArray[np.float32] = field(repr=False)
    """Logit difference of each prompt with each scanned head ablated, in the order of ``heads``. ``[n_scanned, n_prompts]``"""
    base_correct: NDArray[np.bool_] = field(repr=False)
    """Whether the correct answer has the highest logit of all candidates, without ablation. ``[n_prompts]``"""

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return self.file["n_layers"]

    @property
    def n_heads(self) -> int:
        """Query heads per block."""
        return self.file["n_heads"]

    @cached_property
    def heads(self) -> list[str]:
        """The scanned heads, in order of layer and head."""
        return [f"L{row['layer']}H{row['head']}" for row in self.file["heads"]]

    def _of(self, key: str) -> NDArray[np.float64]:
        return _grid(self.n_layers, self.n_heads, self.file["heads"], key)

    @cached_property
    def delta(self) -> NDArray[np.float64]:
        """Δ of every head on the discovery prompts, in logits; NaN where not scanned. ``[n_layers, n_heads]``"""
        return self._of("delta")

    @cached_property
    def delta_low(self) -> NDArray[np.float64]:
        """Lower bound of the 95% interval of ``delta`` over prompts; NaN if there are too few prompts. ``[n_layers, n_heads]``"""
        return self._of("delta_ci_low")

    @cached_property
    def delta_high(self) -> NDArray[np.float64]:
        """Upper bound of that interval. ``[n_layers, n_heads]``"""
        return self._of("delta_ci_high")

    @cached_property
    def p_value(self) -> NDArray[np.float64]:
        """Two-sided sign-flip p-value for Δ = 0. ``[n_layers, n_heads]``"""
        return self._of("p_value")

    @cached_property
    def q_value(self) -> NDArray[np.float64]:
        """Benjamini–Hochberg q-value over the scanned heads. ``[n_layers, n_heads]``"""
        return self._of("q_value")

    @cached_property
    def held_out_delta(self) -> NDArray[np.float64]:
        """Δ of every head on the held-out prompts, in logits; NaN where there are none. ``[n_layers, n_heads]``"""
        return self._of("held_out_delta")

    @cached_property
    def direct(self) -> NDArray[np.float64]:
        """Direct effect of every head, in logits: the change from removing its output if no later layer reacted; NaN for models
        with norms on the residual stream. ``[n_layers, n_heads]``"""
        return self._of("direct")

    @cached_property
    def compensation(self) -> NDArray[np.float64]:
        """Δ − direct effect, in logits: how later layers react to the ablation; NaN for ablations other than zero with folded
        value biases. ``[n_layers, n_heads]``"""
        return self._of("compensation")

    @property
    def base_logit_diff(self) -> float:
        """Mean logit difference without ablation, on the discovery prompts."""
        return self.file["base_logit_diff_mean"]

    @property
    def base_accuracy(self) -> float:
        """Share of those prompts whose correct answer has the highest logit of all candidates."""
        return self.file["base_accuracy"]

    def plot(self) -> Picture:
        """The program's figure of a scan: a map of Δ by layer and head."""
        return Picture(*head_map(json.dumps(self.file)))

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        rows = self.file["heads"]
        keys = [key for key, value in rows[0].items() if not isinstance(value, (list, dict))]
        return {key: [row.get(key) for row in rows] for key in keys}


@dataclass(frozen=True)
class Ablation(_Table):
    """The effect of ablating sets of heads on a task."""

    model: str
    """The model's name."""
    task: str
    """The task's name."""
    sets: Sequence[tuple[str, ...]]
    """The sets, as given."""
    prompts: Sequence[Mapping[str, Any]] = field(repr=False)
    """The distinct prompts as they were run."""
    base: Mapping[str, float]
    """``accuracy``, ``logit_diff`` and ``mean_diff`` without ablation."""
    accuracy: Sequence[float]
    """For each set, the share of prompts whose correct answer has the highest logit of all candidates. ``[n_sets]``"""
    logit_diff: Sequence[float]
    """For each set, the mean logit difference (correct − distractor). ``[n_sets]``"""
    mean_diff: Sequence[float]
    """For each set, the mean over prompts of the correct answer's logit minus the mean logit of the other candidates. ``[n_sets]``"""
    logit_diffs: NDArray[np.float32] = field(repr=False)
    """The logit difference of each prompt: without ablation, then with each set ablated. ``[1 + n_sets, n_prompts]``"""
    correct: NDArray[np.bool_] = field(repr=False)
    """Whether the correct answer has the highest logit, in the same order. ``[1 + n_sets, n_prompts]``"""

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        named = [" ".join(heads) for heads in self.sets]
        columns: dict[str, Sequence[Any]] = {"set": ["", *named], "n_heads": [0, *map(len, self.sets)]}
        for key in ("accuracy", "logit_diff", "mean_diff"):
            columns[key] = [self.base[key], *getattr(self, key)]
        return columns


@dataclass(frozen=True)
class Trace(_Table):
    """How much of the logit difference a head's clean stream restores in the corrupted run."""

    model: str
    """The model's name."""
    task: str
    """The task's name."""
    stream: str
    """The stream that was patched."""
    heads: Sequence[str]
    """The traced heads."""
    pairs: Sequence[Mapping[str, Any]] = field(repr=False)
    """The distinct pairs of clean and corrupted prompts."""
    influence: NDArray[np.float64] = field(repr=False)
    """Mean influence of each head: logit difference with its stream patched in, minus the corrupted run's; NaN where not traced.
    ``[n_layers, n_heads]``"""
    influences: NDArray[np.float64] = field(repr=False)
    """Influence of each of ``heads`` on each pair. ``[n_traced, n_pairs]``"""
    clean: NDArray[np.float64] = field(repr=False)
    """Logit difference of each clean run. ``[n_pairs]``"""
    corrupted: NDArray[np.float64] = field(repr=False)
    """Logit difference of each corrupted run, for the clean prompt's answers. ``[n_pairs]``"""
    clean_mean: float
    """Mean of ``clean``, weighted by how often each pair was drawn."""
    corrupted_mean: float
    """Mean of ``corrupted``, weighted by how often each pair was drawn."""
    n_left_out: int
    """Prompts without a corrupted version of equal length."""

    @property
    def normalised(self) -> NDArray[np.float64]:
        """Influence scaled so that 0 is the corrupted run and 1 the clean run. ``[n_layers, n_heads]``"""
        return self.influence / (self.clean_mean - self.corrupted_mean)

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        import numpy as np

        layers, heads = np.nonzero(~np.isnan(self.influence))
        return {
            "layer": layers.tolist(),
            "head": heads.tolist(),
            "influence": self.influence[layers, heads].tolist(),
            "normalised": self.normalised[layers, heads].tolist(),
        }


def not_a_study(path: Path) -> StudyError:
    return StudyError(f"{path} holds no study: give a folder written by `circuit-scaling run --out` or cs.run")
