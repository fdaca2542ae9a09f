"""Edits of heads for ``Model.logits``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Stream = Literal["q", "k", "v", "z", "pattern"]
"""A head's activation by TransformerLens's name."""


@dataclass(frozen=True)
class Edit:
    """What takes the place of a stream of some heads, at every position. Made by ``zero``, ``patch``, ``mean``, ``resample``."""

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
    """Zero ablation of one head or several, such as ``"L9H6"``.

    ``value_bias="folded"`` (the default for ``z`` and ``v``) leaves the part that is the same whatever the input, as where
    ``hook_z`` is zeroed in a ``HookedTransformer``; ``"in-head"`` takes it away too, as a hook on a Hugging Face module does,
    and is all there is for other streams.
    """
    default = "folded" if stream in ("z", "v") else "in-head"
    return Edit(_heads(heads), stream, "zero", value_bias or default)


def patch(stream: Stream, heads: str | Sequence[str], *, source: Any) -> Edit:
    """Activation patching: a stream of one head or several as it is in the runs of ``source``.

    ``source`` is one prompt for each prompt of the call, with as many tokens, or one for all.
    """
    return Edit(_heads(heads), stream, "source", prompts=source)


def mean(heads: str | Sequence[str], *, reference: Any) -> Edit:
    """Mean ablation: ``z`` of one head or several by its mean over those of the ``reference`` prompts that have as many tokens
    as the prompt, position by position."""
    return Edit(_heads(heads), "z", "mean", prompts=reference)


def resample(heads: str | Sequence[str], *, source: Any) -> Edit:
    """Resample ablation: ``z`` of one head or several as it is in the runs of ``source`` (see ``patch``)."""
    return patch("z", heads, source=source)
