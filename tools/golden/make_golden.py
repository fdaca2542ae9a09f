"""Generates the golden files of crates/engine/tests/golden: tiny random checkpoints and their expected results.

    python make_golden.py [--out FOLDER] [--check] [NAME ...]

Run it with Transformers 4, then with Transformers 5, then with `--check` and Transformers 4: each version writes and measures its share
of the checkpoints (`saved_by` and `measured_by` in the lists), and version 4 checks what version 5 measured.

Values come from Hugging Face Transformers in float32 with `attn_implementation="eager"`: its default implementation
silently ignores `scale_attn_weights` and `scale_attn_by_inverse_layer_idx`. They are checked against a float64 run
of the same model, and against TransformerLens with default weight processing wherever it can represent the model.
"""

import argparse
import json
import logging
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here needs the network

import torch
import transformers
from safetensors.torch import load_file, save_file

import hooks
import intercept
from checkpoints import load_checkpoint, seed_of, write_checkpoint
from configs import CONFIGS, Golden
from decoder_configs import DECODERS
from measure import HeadSets, measure, measure_with_lens
from prompts import Prompts, draw_head_sets, draw_prompts

LIBRARY = int(transformers.__version__.split(".")[0])
if LIBRARY == 4:  # the version that TransformerLens 2 runs with
    from lens import Lens, can_represent

GOLDEN = Path(__file__).resolve().parents[2] / "crates" / "engine" / "tests" / "golden"
MAX_BYTES = 4_900_000
# Largest difference that rounding may cause, relative to max(1, the table's largest size).
MAX_NOISE = 1e-5


def disagreement(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest difference, relative to max(1, the largest size)."""
    return ((a.double() - b.double()).abs().max() / b.double().abs().max().clamp(min=1)).item()


def worst(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> tuple[float, str]:
    """The largest difference over all common tables, and where it is."""
    return max((disagreement(a[name], b[name]), name) for name in a.keys() & b.keys())


def prompt_tensors(prompts: Prompts, sets: HeadSets) -> dict[str, torch.Tensor]:
    """Ragged lists as flat int32 tensors."""

    def ints(values) -> torch.Tensor:
        return torch.tensor(list(values), dtype=torch.int32)

    offsets = [0]
    for heads in sets:
        offsets.append(offsets[-1] + len(heads))
    return {
        "prompt_tokens": ints(token for prompt in prompts.tokens for token in prompt),
        "partner_tokens": ints(token for prompt in prompts.partners for token in prompt),
        "prompt_lengths": ints(len(prompt) for prompt in prompts.tokens),
        "correct_ids": ints(prompts.correct),
        "distractor_ids": ints(prompts.distractor),
        "set_layer": ints(layer for heads in sets for layer, _ in heads),
        "set_head": ints(head for heads in sets for _, head in heads),
        "set_offsets": ints(offsets),
    }


def measure_golden(golden: Golden, folder: Path) -> dict:
    """Writes expected.safetensors next to a checkpoint and returns its entry of index.json."""
    Model = hooks.Model if golden.measured_by == 4 else intercept.Model
    model = Model(load_checkpoint(folder))
    prompts = draw_prompts(golden.config.vocab_size - golden.n_padding_ids, seed_of(golden.name, "prompts"))
    sets = draw_head_sets(model.n_layers, model.n_heads, seed_of(golden.name, "sets"))
    expected = measure(model, prompts, sets)
    entry = {
        "name": golden.name,
        "family": golden.family,
        "quirks": golden.quirks,
        "has_transformer_lens": golden.measured_by == 4 and can_represent(model.hf.config),
    }
    if golden.measured_by == 5:
        entry |= {"saved_by": golden.saved_by, "rotary_depends_on_length": golden.rotary_depends_on_length}

    tables = dict(expected)
    if entry["has_transformer_lens"]:
        from_lens = measure_with_lens(model, Lens(model.hf), prompts, sets)
        expected["tl_zero_folded"] = from_lens["zero_folded"]
        tables["centred_logits"] = expected["logits"] - expected["logits"].mean(-1, keepdim=True)
        entry["transformer_lens_disagreement"], table = worst(tables, from_lens)
        assert entry["transformer_lens_disagreement"] < MAX_NOISE, f"{golden.name}: TransformerLens differs in {table}"

    precise = Model(load_checkpoint(folder).double())
    entry["noise"], noisiest = worst(tables, measure(precise, prompts, sets))
    assert entry["noise"] < MAX_NOISE, f"{golden.name}: float32 and float64 differ in {noisiest}"

    floats = {name: tensor.float().contiguous() for name, tensor in expected.items()}
    save_file(floats | prompt_tensors(prompts, sets), folder / "expected.safetensors")
    report(golden.name, entry, expected, noisiest)
    return entry


def check_golden(golden: Golden, folder: Path) -> None:
    """A version of the library that did not measure the checkpoint must compute the same logits from its folder."""
    if LIBRARY == golden.measured_by:
        return
    # Version 4 silently ignores what version 5 calls `rope_parameters`.
    config = golden.config if LIBRARY < golden.saved_by else None
    model = load_checkpoint(folder, config)
    expected = load_file(folder / "expected.safetensors")
    logits = []
    for tokens in expected["prompt_tokens"].split(expected["prompt_lengths"].tolist()):
        with torch.no_grad():
            logits.append(model(tokens[None].long(), use_cache=False).logits[0])
        if golden.rotary_depends_on_length:  # the library remembers the lengths it has seen
            model = load_checkpoint(folder, config)
    found = disagreement(torch.cat(logits), expected["logits"])
    print(f"{golden.name:28} logits differ by {found:.1e} from Transformers {golden.measured_by}", flush=True)
    assert found < MAX_NOISE, golden.name


def report(name: str, entry: dict, expected: dict[str, torch.Tensor], noisiest: str) -> None:
    deltas = (expected["zero_folded"] - expected["base_diff"]).abs()
    lens = entry.get("transformer_lens_disagreement")
    print(
        f"{name:28} noise {entry['noise']:.1e} ({noisiest}), TransformerLens "
        f"{'cannot represent it' if lens is None else f'{lens:.1e}'}, "
        f"largest logit {expected['logits'].abs().max():.1f}, median |delta of a head| {deltas.median():.2f}, "
        f"smallest head's largest |delta| {deltas.amax(-1).min():.2f}, mean largest attention weight {expected['pattern'].amax(-1).mean():.2f}",
        flush=True,
    )


def update(index_file: Path, goldens: list[Golden], chosen: list[Golden]) -> None:
    """Writes the chosen checkpoints that this version of the library is responsible for, and their list."""
    entries = {entry["name"]: entry for entry in json.loads(index_file.read_text())} if index_file.exists() else {}
    for golden in chosen:
        folder = index_file.parent / golden.name
        if LIBRARY == golden.saved_by:
            write_checkpoint(golden, folder)
        if LIBRARY == golden.measured_by:
            entries[golden.name] = measure_golden(golden, folder)
    index = [entries[golden.name] for golden in goldens if golden.name in entries]
    index_file.write_text(json.dumps(index, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="checkpoints to make (default: all)")
    parser.add_argument("--out", type=Path, default=GOLDEN)
    parser.add_argument(
        "--check", action="store_true", help="compare logits of the checkpoints that the other version measured"
    )
    args = parser.parse_args()
    known = {golden.name for golden in CONFIGS + DECODERS}
    if unknown := set(args.names) - known:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")

    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    for index_name, goldens in [("index.json", CONFIGS), ("decoders.json", DECODERS)]:
        chosen = [golden for golden in goldens if not args.names or golden.name in args.names]
        if args.check:
            for golden in chosen:
                check_golden(golden, args.out / golden.name)
        else:
            update(args.out / index_name, goldens, chosen)

    n_bytes = sum(file.stat().st_size for file in args.out.rglob("*") if file.is_file())
    print(f"{n_bytes / 1e6:.2f} MB in total")
    assert n_bytes < MAX_BYTES, f"golden files must stay under {MAX_BYTES / 1e6} MB"


if __name__ == "__main__":
    main()
