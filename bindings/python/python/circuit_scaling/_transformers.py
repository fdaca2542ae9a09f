"""Hugging Face Transformers models in memory, as the native half needs them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._native import InputError, ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LARGEST_FILE = 256 << 20


def parts(
    model: Any, tokenizer: Any
) -> tuple[str, dict[str, bytes], list[tuple[str, str, list[int], NDArray[np.uint8]]]]:
    """Name, small files and parameters of a model."""
    config = getattr(model, "config", None)
    if config is None or not hasattr(model, "state_dict"):
        raise InputError(f"`{type(model).__name__}` is not a Transformers model: give one from AutoModelForCausalLM")
    files = {"config.json": config.to_json_string(use_diff=True).encode()}
    files |= _tokenizer_files(tokenizer)
    name = Path(str(getattr(config, "_name_or_path", "") or config.model_type)).name
    return name, files, _tensors(model)


def _tokenizer_files(tokenizer: Any) -> dict[str, bytes]:
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise InputError(f"`{type(tokenizer).__name__}` is not a fast tokenizer: give one from AutoTokenizer")
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.stat().st_size < _LARGEST_FILE}


def _tensors(model: Any) -> list[tuple[str, str, list[int], NDArray[np.uint8]]]:
    """Every parameter: name, type, shape and bytes. Tied parameters share their bytes."""
    import torch

    tied = {name for names in [getattr(model, "_tied_weights_keys", None) or []] for name in names}
    lent: dict[tuple[int, tuple[int, ...], torch.dtype], NDArray[np.uint8]] = {}
    tensors = []
    for name, tensor in model.state_dict().items():
        if tensor.is_meta:
            raise ModelError(f"parameter {name!r} is on the device 'meta', without values: load the whole model")
        key = (tensor.data_ptr(), tuple(tensor.shape), tensor.dtype)
        if key in lent and name in tied:
            continue
        if key not in lent:
            flat = tensor.detach().to("cpu").contiguous().reshape(-1)
            lent[key] = flat.view(torch.uint8).numpy()
        dtype = str(tensor.dtype).removeprefix("torch.")
        tensors.append((name, dtype, list(tensor.shape), lent[key]))
    return tensors
