"""What the tests share: a small model, the program of the same wheel, and a small study."""

import json
import os
import subprocess
import sys
from pathlib import Path

import circuit_scaling as cs
import numpy as np
import pytest

REPOSITORY = Path(os.environ.get("CIRCUIT_SCALING_REPOSITORY", Path(__file__).parents[3]))
GOLDEN = REPOSITORY / "crates" / "engine" / "tests" / "golden"
IOI = "When John and Mary went to the store, John gave a gift to"


def program(*args: str | os.PathLike[str]) -> subprocess.CompletedProcess[str]:
    """Runs the program."""
    command = [sys.executable, "-m", "circuit_scaling", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8")


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file; its format is a length, a header as JSON, and bytes."""
    kinds = {"F32": "<f4", "I32": "<i4", "U32": "<u4", "U8": "u1", "F16": "<f2", "F64": "<f8"}
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    arrays = {}
    for name, entry in json.loads(data[8:start]).items():
        if name != "__metadata__":
            begin, end = (start + at for at in entry["data_offsets"])
            arrays[name] = np.frombuffer(data[begin:end], kinds[entry["dtype"]]).reshape(entry["shape"])
    return arrays


@pytest.fixture(scope="session")
def model() -> cs.Model:
    return cs.load("mini-gpt2-s")


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> cs.Study:
    """A whole study of one small model."""
    out = tmp_path_factory.mktemp("study") / "out"
    return cs.run(["mini-gpt2-s", "mini-gpt2-m"], out=out, prompts=80, random_sets=10, resamples=200)
