"""Models: loading them, running them, and measuring tasks on them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from . import _frames, _native, _progress
from ._native import InputError
from ._results import Ablation, Scan, Trace

if TYPE_CHECKING:
    import os

    import numpy as np
    from numpy.typing import NDArray

    from ._edits import Edit, Stream

Split = Literal["discovery", "held_out", "all"]
AblationKind = Literal["zero", "mean", "resample"]

ACTIVATIONS = ("resid_pre", "resid_mid", "resid_post", "q", "k", "v", "z", "pattern")


def load(name: str | os.PathLike[str], *, device: str = "auto", precision: str | None = None) -> Model:
    """Loads a model: a bundled miniature (``"mini-gpt2-l"``), a checkpoint folder, a published model's short name
    (``"gpt2"``, ``"pythia-70m@step1000"``) or a Hugging Face id, downloaded if necessary.

    ``device`` is ``"auto"`` (a usable GPU, otherwise the CPU), ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"cuda:0,cuda:1"``;
    ``precision`` is ``"f32"``, ``"split"`` or ``"half"``, by default the device's own.
    """
    return Model(_native.Model.load(str(name), device, precision))


def from_transformers(
    model: Any,
    tokenizer: Any,
    *,
    name: str | None = None,
    device: str = "auto",
    precision: str | None = None,
) -> Model:
    """Wraps a Hugging Face Transformers model in memory, trained or not, with its (fast) tokenizer.

    Parameters are read in place, and nothing is written to disk. The model may be trained further or deleted afterwards, but no
    other thread may change it during the call. ``name`` is the name in tables, by default the last part of the model's own
    name; ``device`` and ``precision`` are as in ``load`` and do not depend on the device that the model is on now.
    """
    from ._transformers import parts

    own_name, files, tensors = parts(model, tokenizer)
    return Model(_native.Model.from_memory(name or own_name, files, tensors, device, precision))


class Model:
    """A model in memory, ready to run. Created by ``load`` and ``from_transformers``.

    Prompts are a text, or a list whose items are texts or lists of token ids. A text gets one BOS in front if the model has one;
    token ids are used unchanged. Nothing is padded: prompts may differ in length.
    """

    name: str
    """Name in tables and files."""
    hf_name: str
    """Hugging Face id, folder, or ``built-in/`` or ``in-memory/`` followed by the name."""
    family: str
    """Model family, as in tables."""
    n_layers: int
    """Number of blocks."""
    n_heads: int
    """Query heads per block."""
    n_kv_heads: int
    """Key/value heads per block; fewer than ``n_heads`` under grouped-query attention."""
    d_model: int
    """Width of the residual stream."""
    d_head: int
    """Width of a head."""
    d_vocab: int
    """Rows of the unembedding."""
    n_ctx: int
    """Maximum number of tokens in a prompt."""
    n_params: int
    """Number of parameters; a tied unembedding counts once."""
    device: str
    """The device it runs on: the kind of CPU, or the GPU."""
    precision: str
    """How products are computed on it: ``f32``, ``split`` or ``half``."""
    bos_id: int | None
    """The token put before every prompt, if any."""
    notes: list[str]
    """Remarks about its files, one line each."""
    device_notes: list[str]
    """Remarks about where it runs, one line each: why a GPU is not used, or that the model does not fit on it as a whole. Each is also given as a
    warning when the model is loaded."""

    def __init__(self, native: _native.Model) -> None:
        self._native = native
        for key, value in native.describe().items():
            setattr(self, key, value)
        for note in self.device_notes:
            warnings.warn(note, stacklevel=3)

    def __repr__(self) -> str:
        return f"<Model {self.name}: {self.family}, {self.n_layers} layers of {self.n_heads} heads, {self.n_params:,} parameters>"

    @property
    def weight_hash(self) -> str:
        """SHA-256 of the parameters, in hexadecimal."""
        return self._native.weight_hash()

    def tokens(self, text: str) -> list[int]:
        """Token ids of a text, starting with one BOS if the model has one."""
        return self._native.tokens(text)

    def text(self, tokens: Sequence[int]) -> str:
        """The text of token ids."""
        return self._native.text(tokens)

    def logits(
        self,
        prompts: Any,
        *,
        edits: Sequence[Edit] = (),
        read: Sequence[int] | None = None,
        memory: str | int = "1G",
    ) -> NDArray[np.float64]:
        """Logits at each prompt's last token, with all ``edits`` applied. ``[n_prompts, n_read]``

        ``read`` selects tokens by id; by default the whole vocabulary, ``[n_prompts, d_vocab]``. ``memory`` limits the size of the
        activations and never changes a bit of the result.
        """
        return self._native.logits(prompts, list(edits), read, memory)

    def cache(self, prompts: Any, names: Sequence[str] = ACTIVATIONS) -> Cache:
        """Activations of each prompt's run without edits: those in ``names``, by default all that the model has."""
        names = [names] if isinstance(names, str) else list(names)
        return Cache([PromptCache(tokens, arrays) for tokens, arrays in self._native.cache(prompts, names)])

    def scan(
        self,
        task: Any,
        *,
        ablation: AblationKind = "zero",
        heads: str | Sequence[str] | None = None,
        prompts: int | None = None,
        seed: int = 0,
        protocol: Literal["standard", "published"] = "standard",
        hold_out: Literal["pairs", "templates"] = "pairs",
        value_bias: Literal["folded", "in-head"] = "folded",
        reference: Literal["abc", "same"] = "abc",
        resamples: int = 10_000,
        memory: str | int = "1G",
        name: str = "prompts",
        progress: bool | None = None,
    ) -> Scan:
        """Ablates every head, or each of ``heads``, individually on a task's prompts.

        ``task`` is a built-in task (``"ioi"``, ``"anti-repeat"``, …), a file of templates (TOML) or of prompts (CSV, JSONL), or a
        table of prompts: a pandas or polars data frame or a list of dicts, with columns ``clean``, ``correct`` and
        ``distractor``, and optionally ``corrupted``, ``group`` (which replaces the template), ``split`` and ``weight``. The task
        of a data frame is called ``name``. A warning lists what is left out, such as rows whose answers are several tokens.

        Options and defaults are those of ``circuit-scaling scan``; ``prompts`` is the number drawn over both splits (480 by
        default, or all of a smaller frame). ``progress`` shows a bar; by default in a terminal or a notebook.
        """
        setup = _setup(
            task,
            name=name,
            prompts=prompts,
            seed=seed,
            protocol=protocol,
            hold_out=hold_out,
            memory=memory,
            ablation=ablation,
            value_bias=value_bias,
            reference=reference,
            resamples=resamples,
        )
        with _progress.bar(f"{self.name} · {setup['task']}", progress) as report:
            found = self._native.scan(setup, _names(heads), report)
        _say(found["notes"])
        file = json.loads(found["file"])
        arrays = {key: found[key] for key in ("base", "ablated", "base_correct")}
        return Scan(self.name, file["task"], file, json.loads(found["prompts"]), **arrays)

    def ablate(
        self,
        sets: Sequence[Sequence[str]],
        task: Any = "ioi",
        *,
        split: Split = "all",
        ablation: AblationKind = "zero",
        prompts: int | None = None,
        seed: int = 0,
        protocol: Literal["standard", "published"] = "standard",
        hold_out: Literal["pairs", "templates"] = "pairs",
        value_bias: Literal["folded", "in-head"] = "folded",
        reference: Literal["abc", "same"] = "abc",
        memory: str | int = "1G",
        name: str = "prompts",
        progress: bool | None = None,
    ) -> Ablation:
        """Ablates the heads of each of ``sets`` together, on the prompts of one split. Options are those of ``scan``."""
        setup = _setup(
            task,
            name=name,
            prompts=prompts,
            seed=seed,
            protocol=protocol,
            hold_out=hold_out,
            memory=memory,
            ablation=ablation,
            value_bias=value_bias,
            reference=reference,
        )
        if isinstance(sets, str) or any(isinstance(heads, str) for heads in sets):
            raise InputError('sets are lists of heads: give [["L9H6", "L9H9"], ["L10H0"]]')
        named = [tuple(heads) for heads in sets]
        if not named:
            raise InputError('sets is empty: give one or more lists of heads, such as [["L9H6", "L9H9"]]')
        with _progress.bar(f"{self.name} · {setup['task']} · sets", progress) as report:
            found = self._native.ablate(setup, [list(heads) for heads in named], split, report)
        _say(found["notes"])
        means = {key: found[key] for key in ("accuracy", "logit_diff", "mean_diff")}
        return Ablation(
            model=self.name,
            task=found["task"],
            sets=named,
            prompts=json.loads(found["prompts"]),
            base={key: values[0] for key, values in means.items()},
            logit_diffs=found["logit_diffs"],
            correct=found["correct"],
            **{key: values[1:] for key, values in means.items()},
        )

    def trace(
        self,
        task: Any = "ioi",
        *,
        heads: str | Sequence[str] | None = None,
        stream: Stream = "v",
        split: Split = "all",
        prompts: int | None = None,
        seed: int = 0,
        protocol: Literal["standard", "published"] = "standard",
        hold_out: Literal["pairs", "templates"] = "pairs",
        memory: str | int = "1G",
        name: str = "prompts",
        progress: bool | None = None,
    ) -> Trace:
        """Patches ``stream`` of every head, or of each of ``heads``, individually from the clean into the corrupted run, on one split.

        Options are those of ``scan``.
        """
        setup = _setup(
            task,
            name=name,
            prompts=prompts,
            seed=seed,
            protocol=protocol,
            hold_out=hold_out,
            memory=memory,
        )
        with _progress.bar(f"{self.name} · {setup['task']} · {stream}", progress) as report:
            found = self._native.trace(setup, _names(heads), (stream, split), report)
        _say(found["notes"])
        import numpy as np

        influence = np.full((self.n_layers, self.n_heads), np.nan)
        for (layer, head), value in zip(found["heads"], found["influence"], strict=True):
            influence[layer, head] = value
        same = ("clean", "corrupted", "clean_mean", "corrupted_mean", "influences", "n_left_out")
        return Trace(
            model=self.name,
            task=found["task"],
            stream=stream,
            heads=[f"L{layer}H{head}" for layer, head in found["heads"]],
            pairs=json.loads(found["pairs"]),
            influence=influence,
            **{key: found[key] for key in same},
        )


def _setup(
    task: Any,
    *,
    name: str,
    prompts: int | None,
    seed: int,
    protocol: str,
    hold_out: str,
    memory: str | int,
    ablation: str = "zero",
    value_bias: str = "folded",
    reference: str = "abc",
    resamples: int = 10_000,
) -> dict[str, Any]:
    """The arguments of a call about a task, in the form of the native half."""
    rows = _frames.json_lines(task) if _frames.is_frame(task) else None
    return {
        "task": _task(task) if rows is None else name,
        "rows": rows,
        "prompts": prompts,
        "seed": seed,
        "protocol": protocol,
        "hold_out": hold_out,
        "memory": memory,
        "ablation": ablation,
        "value_bias": value_bias,
        "reference": reference,
        "resamples": resamples,
    }


def _task(task: Any) -> str:
    import os

    if isinstance(task, (str, os.PathLike)):
        return str(task)
    raise InputError(f"a task is a name, a file or a data frame of prompts, not `{type(task).__name__}`")


def _say(notes: Sequence[str]) -> None:
    """Warns about what was left out of the task: nothing is skipped silently."""
    for note in notes:
        warnings.warn(note, stacklevel=3)


def _names(heads: str | Sequence[str] | None) -> list[str] | None:
    if heads is None:
        return None
    return [heads] if isinstance(heads, str) else list(heads)


@dataclass(frozen=True)
class PromptCache:
    """One prompt's activations under TransformerLens names, as attributes or with ``cache["z"]``."""

    tokens: list[int]
    """Its token ids."""
    arrays: Mapping[str, NDArray[np.float32]] = field(repr=False)
    """All arrays by name."""

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        if name not in self.arrays:
            known = ", ".join(self.arrays) or "nothing"
            why = " (blocks that run attention and MLP in parallel have no resid_mid)" if name == "resid_mid" else ""
            raise InputError(f'"{name}" was not kept{why}: available are {known}')
        return self.arrays[name]

    @property
    def resid_pre(self) -> NDArray[np.float32]:
        """Each block's input. ``[n_layers, n_positions, d_model]``"""
        return self["resid_pre"]

    @property
    def resid_mid(self) -> NDArray[np.float32]:
        """The residual stream between attention and MLP; parallel blocks have none. ``[n_layers, n_positions, d_model]``"""
        return self["resid_mid"]

    @property
    def resid_post(self) -> NDArray[np.float32]:
        """Each block's output. ``[n_layers, n_positions, d_model]``"""
        return self["resid_post"]

    @property
    def q(self) -> NDArray[np.float32]:
        """Queries, after rotary embedding if the model has it. ``[n_layers, n_positions, n_heads, d_head]``"""
        return self["q"]

    @property
    def k(self) -> NDArray[np.float32]:
        """Keys, after rotary embedding if the model has it. ``[n_layers, n_positions, n_kv_heads, d_head]``"""
        return self["k"]

    @property
    def v(self) -> NDArray[np.float32]:
        """Values. ``[n_layers, n_positions, n_kv_heads, d_head]``"""
        return self["v"]

    @property
    def z(self) -> NDArray[np.float32]:
        """Attention-weighted values, before ``W_O``. ``[n_layers, n_positions, n_heads, d_head]``"""
        return self["z"]

    @property
    def pattern(self) -> NDArray[np.float32]:
        """Attention probabilities. ``[n_layers, n_heads, n_positions (query), n_positions (key)]``"""
        return self["pattern"]


class Cache(Sequence[PromptCache]):
    """Activations of several prompts: ``cache[0].z``, or ``cache.stack("z")`` for prompts of equal length."""

    def __init__(self, prompts: list[PromptCache]) -> None:
        self._prompts = prompts

    def __len__(self) -> int:
        return len(self._prompts)

    def __getitem__(self, index: Any) -> Any:
        return self._prompts[index]

    def __iter__(self) -> Iterator[PromptCache]:
        return iter(self._prompts)

    def __repr__(self) -> str:
        return f"<Cache of {len(self)} prompts: {', '.join(self._prompts[0].arrays)}>"

    def stack(self, name: str) -> NDArray[np.float32]:
        """One activation of all prompts, which must have the same number of tokens. ``[n_prompts, …]``"""
        import numpy as np

        lengths = {len(prompt.tokens) for prompt in self}
        if len(lengths) > 1:
            raise InputError(
                f"prompts of {min(lengths)} to {max(lengths)} tokens cannot be stacked: use cache[i][{name!r}]"
            )
        return np.stack([prompt[name] for prompt in self])
