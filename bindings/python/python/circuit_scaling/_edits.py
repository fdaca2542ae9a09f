"""Edits of heads for ``Model.logits``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Stream = Literal["q", "k", "v", "z", "pattern"]
"""The TransformerLens name of a head's activation."""


@dataclass(frozen=True)
class Edit:
    """A replacement for one stream of some heads, at every position. Created by ``zero``, ``patch``, ``mean`` or ``resample``."""

    heads: tuple[str, ...]
    stream: Stream
    kind: Literal["zero", "source", "mean"]
    value_bias: str = "folded"
    prompts: Any = ()


def _heads(heads: str | Sequence[str]) -> tuple[str, ...]:
    return (heads,) if isinstance(heads, str) else tuple(heads)


def zero(
    heads: str | Sequence[str],
    *,
    stream: Stream = "z",
    value_bias: Literal["folded", "in-head"] | None = None,
) -> Edit:
    """Zero ablation of one or more heads, such as ``"L9H6"``.

    ``value_bias="folded"`` (the default for ``z`` and ``v``) keeps the input-independent part, as when zeroing ``hook_z``
    in a ``HookedTransformer``; ``"in-head"`` removes it too, as a hook on a Hugging Face module does, and is the only choice
    for other streams.
    """
    default = "folded" if stream in ("z", "v") else "in-head"
    return Edit(_heads(heads), stream, "zero", value_bias or default)


def patch(stream: Stream, heads: str | Sequence[str], *, source: Any) -> Edit:
    """Activation patching: replaces a stream of one or more heads by its values in the runs of ``source``.

    ``source`` is one prompt for each prompt of the call, with the same number of tokens, or a single prompt for all.
    """
    return Edit(_heads(heads), stream, "source", prompts=source)


def mean(heads: str | Sequence[str], *, reference: Any) -> Edit:
    """Mean ablation: replaces ``z`` of one or more heads, position by position, by its mean over those ``reference`` prompts that
    have the same number of tokens as the prompt."""
    return Edit(_heads(heads), "z", "mean", prompts=reference)


def resample(heads: str | Sequence[str], *, source: Any) -> Edit:
    """Resample ablation: replaces ``z`` of one or more heads by its values in the runs of ``source`` (see ``patch``)."""
    return patch("z", heads, source=source)
