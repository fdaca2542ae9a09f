"""The native half of circuit_scaling: the engine behind numpy arrays."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._edits import Edit

class CircuitScalingError(Exception):
    """Base class of all errors; the message is one line that says what to do."""

class ModelError(CircuitScalingError):
    """A model that does not exist, cannot be fetched or cannot be loaded."""

class TaskError(CircuitScalingError):
    """A task that does not exist or does not fit the model."""

class InputError(CircuitScalingError):
    """Prompts, heads, edits or options that do not fit the model or each other."""

class StudyError(CircuitScalingError):
    """A study that does not exist or is closed."""

_Report = Callable[[int, int], None] | None

class Model:
    @staticmethod
    def load(name: str, device: str, precision: str | None) -> Model: ...
    @staticmethod
    def from_memory(
        name: str,
        files: Mapping[str, bytes],
        tensors: Sequence[tuple[str, str, Sequence[int], NDArray[np.uint8]]],
        device: str,
        precision: str | None,
    ) -> Model: ...
    def describe(self) -> dict[str, Any]: ...
    def weight_hash(self) -> str: ...
    def tokens(self, text: str) -> list[int]: ...
    def text(self, tokens: Sequence[int]) -> str: ...
    def logits(
        self, prompts: Any, edits: Sequence[Edit], read: Sequence[int] | None, memory: str | int
    ) -> NDArray[np.float64]: ...
    def cache(self, prompts: Any, names: Sequence[str]) -> list[tuple[list[int], dict[str, NDArray[np.float32]]]]: ...
    def scan(self, setup: Mapping[str, Any], heads: Sequence[str] | None, progress: _Report) -> dict[str, Any]: ...
    def ablate(
        self, setup: Mapping[str, Any], sets: Sequence[Sequence[str]], split: str, progress: _Report
    ) -> dict[str, Any]: ...
    def trace(
        self,
        setup: Mapping[str, Any],
        heads: Sequence[str] | None,
        what: tuple[str, str],
        progress: _Report,
    ) -> dict[str, Any]: ...

def head_map(file: str) -> tuple[str, str]: ...
def run_program(args: Sequence[str]) -> int: ...
def version() -> str: ...
