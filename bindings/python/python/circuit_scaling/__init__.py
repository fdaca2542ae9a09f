"""Measures what every attention head of a transformer does for a task, exactly and fast.

    import circuit_scaling as cs

    model = cs.load("gpt2")
    scan = model.scan("ioi")
    scan.delta          # [n_layers, n_heads], in logits
    scan.plot()

A head's Δ is the mean logit difference (correct − distractor, at each prompt's last token) with the head ablated, minus
the mean without ablation; a head with a negative Δ helps the task. Heads are named ``"L9H6"``: layer and query head, both from 0.
"""

from ._edits import Edit, mean, patch, resample, zero
from ._model import Cache, Model, PromptCache, from_transformers, load
from ._native import CircuitScalingError, InputError, ModelError, StudyError, TaskError
from ._native import version as _version
from ._results import Ablation, Picture, Scan, Trace
from ._study import Study, run

__version__ = _version()

__all__ = [
    "Ablation",
    "Cache",
    "CircuitScalingError",
    "Edit",
    "InputError",
    "Model",
    "ModelError",
    "Picture",
    "PromptCache",
    "Scan",
    "Study",
    "StudyError",
    "TaskError",
    "Trace",
    "from_transformers",
    "load",
    "mean",
    "patch",
    "resample",
    "run",
    "zero",
]
