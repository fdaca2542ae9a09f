"""Whatever is wrong with a call is one exception with one clear line."""

from pathlib import Path

import circuit_scaling as cs
import numpy as np
import pandas
import polars
import pytest
from conftest import IOI

WRONG_CALLS = {
    "unknown model": (lambda m: cs.load("nobody"), cs.ModelError, "no model or folder `nobody`"),
    "a file": (lambda m: cs.load(__file__), cs.ModelError, "is a file"),
    "unknown device": (lambda m: cs.load("mini-gpt2-s", device="tpu"), cs.InputError, "unknown device `tpu`"),
    "unknown precision": (lambda m: cs.load("mini-gpt2-s", precision="f16"), cs.InputError, "unknown precision `f16`"),
    "precision of the processor": (
        lambda m: cs.load("mini-gpt2-s", device="cpu", precision="half"),
        cs.InputError,
        "computes in float32",
    ),
    "unknown task": (lambda m: m.scan("nothing"), cs.TaskError, "nothing"),
    "no task": (lambda m: m.scan(3), cs.InputError, "a task is .* not `int`"),
    "unknown head": (lambda m: m.scan("ioi", heads=["L99H0"]), cs.InputError, "no head L99H0"),
    "no head": (lambda m: m.scan("ioi", heads=["nine"]), cs.InputError, "`nine` is not a head"),
    "no heads": (lambda m: m.scan("ioi", heads=[]), cs.InputError, "heads is empty"),
    "unknown ablation": (lambda m: m.scan("ioi", ablation="none"), cs.InputError, "unknown ablation `none`"),
    "unknown protocol": (lambda m: m.scan("ioi", protocol="mine"), cs.InputError, "unknown protocol"),
    "few prompts": (lambda m: m.scan("ioi", prompts=0), cs.TaskError, "0"),
    "negative prompts": (lambda m: m.scan("ioi", prompts=-3), cs.InputError, "below 0"),
    "few resamples": (lambda m: m.scan("ioi", resamples=1, prompts=4), cs.CircuitScalingError, "1 is not between"),
    "no memory": (lambda m: m.logits(IOI, memory="lots"), cs.InputError, "`lots` is not an amount"),
    "little memory": (lambda m: m.logits(IOI, memory=1), cs.InputError, "memory"),
    "floats": (lambda m: m.logits(np.ones((2, 3))), cs.InputError, "prompts are a text, or a list"),
    "flat": (lambda m: m.logits([1, 2, 3]), cs.InputError, "prompts are a text, or a list"),
    "three dimensions": (lambda m: m.logits(np.ones((2, 3, 4), int)), cs.InputError, "prompts are a text"),
    "a number": (lambda m: m.logits(7), cs.InputError, "not `int`"),
    "no prompts": (lambda m: m.logits([]), cs.InputError, "no prompts"),
    "empty prompt": (lambda m: m.logits([[]]), cs.InputError, "no tokens"),
    "negative id": (lambda m: m.logits([[-1]]), cs.InputError, "-1 is not a token id"),
    "unknown id": (lambda m: m.logits([[10**6]]), cs.InputError, "token id 1000000"),
    "unknown read": (lambda m: m.logits(IOI, read=[10**6]), cs.InputError, "token id 1000000"),
    "long prompt": (lambda m: m.logits([[1] * 10_000]), cs.InputError, "10000 tokens"),
    "edit of no head": (lambda m: m.logits(IOI, edits=[cs.zero("L0H99")]), cs.InputError, "no head L0H99"),
    "edit of nothing": (lambda m: m.logits(IOI, edits=[cs.zero([])]), cs.InputError, "heads is empty"),
    "unknown stream": (lambda m: m.logits(IOI, edits=[cs.patch("x", "L0H0", source=IOI)]), cs.InputError, "`x`"),
    "folded q": (
        lambda m: m.logits(IOI, edits=[cs.zero("L0H0", stream="q", value_bias="folded")]),
        cs.InputError,
        "value bias",
    ),
    "source of another length": (
        lambda m: m.logits(IOI, edits=[cs.patch("v", "L0H0", source="short")]),
        cs.InputError,
        "equal lengths",
    ),
    "too many sources": (
        lambda m: m.logits(IOI, edits=[cs.patch("v", "L0H0", source=[IOI, IOI])]),
        cs.InputError,
        "edit of L0H0: it has 2 source prompts for 1",
    ),
    "two sources": (
        lambda m: m.logits(
            IOI, edits=[cs.patch("v", "L0H0", source=IOI), cs.patch("v", "L0H1", source=IOI.replace("John", "Mary"))]
        ),
        cs.InputError,
        "edit of L0H1: its source prompts differ",
    ),
    "no reference": (
        lambda m: m.logits(IOI, edits=[cs.mean("L0H0", reference=["short"])]),
        cs.InputError,
        "none of its 1 reference prompts",
    ),
    "one head twice": (
        lambda m: m.logits(IOI, edits=[cs.zero("L0H0"), cs.resample("L0H0", source=IOI)]),
        cs.InputError,
        "already replaces",
    ),
    "unknown activation": (lambda m: m.cache(IOI, ["mlp"]), cs.InputError, "unknown activation `mlp`"),
    "sets of one": (lambda m: m.ablate(["L0H0"]), cs.InputError, "sets are lists of heads"),
    "no sets": (lambda m: m.ablate([]), cs.InputError, "sets is empty"),
    "set of no head": (lambda m: m.ablate([["L9H9"]], prompts=4), cs.InputError, "no head L9H9"),
    "empty frame": (lambda m: m.scan(pandas.DataFrame({"clean": []})), cs.InputError, "the frame has no rows"),
    "empty list": (lambda m: m.scan([]), cs.InputError, "the frame has no rows"),
    "no frame": (lambda m: m.scan([1, 2]), cs.InputError, "`list` is not a frame of prompts"),
    "numbers for text": (
        lambda m: m.scan(pandas.DataFrame({"clean": [1, 2], "correct": ["a", "b"], "distractor": ["b", "a"]})),
        cs.InputError,
        "row 0, column 'clean': 1 is not text but of type int",
    ),
    "columns without names": (
        lambda m: m.scan(pandas.DataFrame([["a"]])),
        cs.InputError,
        "name",
    ),
    "other columns": (lambda m: m.scan(polars.DataFrame({"a": ["b"]})), cs.TaskError, "clean"),
    "dates": (
        lambda m: m.scan([{"clean": "a", "correct": Path("b"), "distractor": "c"}]),
        cs.InputError,
        "row 0, column 'correct'",
    ),
    "unknown split": (lambda m: m.trace("ioi", split="half"), cs.InputError, "unknown split `half`"),
    "no study": (lambda m: cs.Study("/nowhere"), cs.StudyError, "holds no study"),
    "no model to run": (lambda m: cs.run("nobody"), cs.CircuitScalingError, "no model or folder `nobody`"),
    "no such option": (lambda m: cs.run(nonsense=3), cs.CircuitScalingError, "--nonsense"),
    "no model of Transformers": (lambda m: cs.from_transformers(3, 4), cs.InputError, "`int` is not a Transformers model"),
}


@pytest.mark.parametrize("call", WRONG_CALLS)
def test_a_wrong_call(model: cs.Model, call: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    act, kind, words = WRONG_CALLS[call]
    with pytest.raises(kind, match=words) as caught:
        act(model)
    assert isinstance(caught.value, cs.CircuitScalingError) and "\n" not in str(caught.value).strip()
    assert not list(tmp_path.rglob("*.json"))


def test_exceptions_are_of_one_kind() -> None:
    kinds = (cs.ModelError, cs.TaskError, cs.InputError, cs.StudyError)
    assert all(issubclass(kind, cs.CircuitScalingError) for kind in kinds)
    assert issubclass(cs.CircuitScalingError, Exception) and cs.CircuitScalingError.__module__ == "circuit_scaling"
