"""Writes small `pytorch_model.bin` files with the real `torch.save`, one quirk each, from golden checkpoints.

    python make.py        # writes crates/engine/tests/torch/

Each folder holds the same weights as the golden checkpoint it is made from; the test compares the two. `hostile/` holds
pickles that would run something if Python opened them. Versions: ../golden/requirements.txt.
"""

import json
import os
import pickle
import shutil
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import load_file

TESTS = Path(__file__).resolve().parents[2] / "crates/engine/tests"
OUT = TESTS / "torch"


def tied(state):
    """The unembedding as a second name for the embedding's storage, as in OPT's files."""
    state["lm_head.weight"] = next(t for name, t in state.items() if name.endswith("embed_tokens.weight"))
    return state


def strided(state):
    """Matrices column by column, vectors with gaps between their elements."""

    def spread(t):
        if t.dim() == 2:
            return t.t().contiguous().t()
        wide = torch.zeros(2 * len(t) + 3, dtype=t.dtype)
        view = wide[3::2]
        view.copy_(t)
        return view

    return {name: spread(t) for name, t in state.items()}


def one_storage(state):
    """All tensors as views of one long storage."""
    flat = torch.cat([t.reshape(-1) for t in state.values()])
    out, at = {}, 0
    for name, t in state.items():
        out[name] = flat[at : at + t.numel()].view(t.shape)
        at += t.numel()
    return out


def parameters(state):
    """Parameters in an OrderedDict with metadata, as from `module.state_dict(keep_vars=True)`."""
    out = OrderedDict((name, torch.nn.Parameter(t)) for name, t in state.items())
    out._metadata = OrderedDict([("", {"version": 1})])
    return out


def doubles(state):
    return {name: t.double() for name, t in state.items()}


# folder: (golden checkpoint, change, options of torch.save)
FILES = {
    "opt-tied": ("opt-postnorm-no-bias", tied, {}),
    "gpt2-bf16-strided": ("gpt2-bf16", strided, {}),
    "gpt2-untied-one-storage": ("gpt2-untied", one_storage, {}),
    "neox-parameters": ("neox-full-rotary", parameters, {"pickle_protocol": 4}),
    "neo-legacy": ("neo-old-hub", dict, {"_use_new_zipfile_serialization": False}),
    "opt-f16-legacy-one-storage": ("opt-projected-f16", one_storage, {"_use_new_zipfile_serialization": False}),
}


class Run:
    """Calls `function(*arguments)` when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def hostile():
    folder = OUT / "hostile"
    folder.mkdir()
    attacks = {
        "os-system": Run(os.system, "touch owned"),
        "eval": Run(eval, "print('owned')"),
        "exec-in-dict": {"wte.weight": Run(exec, "print('owned')")},
        "getattr": Run(getattr, [], "append"),
        "import": Run(__import__, "subprocess"),
    }
    for name, attack in attacks.items():
        torch.save(attack, folder / f"{name}.bin")
    torch.save(attacks["os-system"], folder / "os-system-legacy.bin", _use_new_zipfile_serialization=False)
    torch.save({"model": {"wte.weight": torch.zeros(2)}}, folder / "nested.bin")
    torch.save([torch.zeros(2)], folder / "list.bin")
    torch.save({"step": 7}, folder / "number.bin")
    torch.save({"wte.weight": torch.zeros(1).expand(1 << 20, 1 << 20)}, folder / "expanded.bin")
    with zipfile.ZipFile(folder / "no-pickle.bin", "w") as z:
        z.writestr("archive/readme", "nothing")
    with zipfile.ZipFile(folder / "compressed.bin", "w", zipfile.ZIP_DEFLATED) as new:
        torch.save({"wte.weight": torch.zeros(99)}, folder / "plain.tmp")
        with zipfile.ZipFile(folder / "plain.tmp") as old:
            for entry in old.namelist():
                new.writestr(entry, old.read(entry))
    (folder / "plain.tmp").unlink()
    (folder / "bare.bin").write_bytes(pickle.dumps(attacks["os-system"], protocol=2))


def main():
    if OUT.exists():
        shutil.rmtree(OUT)
    OUT.mkdir()
    for folder, (golden, change, options) in FILES.items():
        state = change(load_file(TESTS / "golden" / golden / "model.safetensors"))
        (OUT / folder).mkdir()
        torch.save(state, OUT / folder / "pytorch_model.bin", **options)
    # Two shards and their index, as save_pretrained(safe_serialization=False) names them.
    folder = OUT / "gpt2-sharded"
    folder.mkdir()
    state = doubles(load_file(TESTS / "golden/gpt2-untied/model.safetensors"))
    names = list(state)
    weight_map = {}
    for i, part in enumerate([names[::2], names[1::2]], 1):
        shard = f"pytorch_model-0000{i}-of-00002.bin"
        torch.save({name: state[name] for name in part}, folder / shard)
        weight_map |= dict.fromkeys(part, shard)
    index = {"metadata": {"total_size": sum(t.nbytes for t in state.values())}, "weight_map": weight_map}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index, indent=2) + "\n")
    hostile()
    size = sum(p.stat().st_size for p in OUT.rglob("*") if p.is_file())
    print(f"{size} bytes in {OUT}", file=sys.stderr)


main()
