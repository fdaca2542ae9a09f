"""Writes small model folders as found in the wild, with one quirk each, and what Hugging Face Transformers reads from them.

    python make.py                # with Transformers 5.24.0: folders, and transformers-5.24.0.json
    python make.py --read-only    # with Transformers 4.57.6: transformers-4.57.6.json for the same folders

Everything goes to crates/engine/tests/files. `folders/plain` is a whole model; the other folders hold only what is
theirs, to be laid over it. Versions: requirements-4.txt and requirements-5.txt.
"""

import argparse
import itertools
import json
import shutil
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

OUT = Path(__file__).resolve().parents[2] / "crates/engine/tests/files"
FOLDERS = OUT / "folders"
EOS = "<|endoftext|>"
PROMPT = "Mary met Bob. Mary"
MERGES = ["M a", "r y", "Ma ry", "Ġ Mary", "Ġ B"]


def alphabet():
    """GPT-2's printable characters for all bytes, in its order."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [b for b in range(256) if b not in shown]
    return [chr(b) for b in shown] + [chr(256 + i) for i in range(len(hidden))]


def vocabulary():
    tokens = alphabet() + [merge.replace(" ", "") for merge in MERGES] + [EOS]
    return {token: i for i, token in enumerate(tokens)}


def tokenizer_json(add_prefix_space=False):
    byte_level = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
    if add_prefix_space is not None:
        byte_level["add_prefix_space"] = add_prefix_space
    vocab = vocabulary()
    eos = {"id": vocab[EOS], "content": EOS, "special": True, "normalized": False}
    eos |= {"single_word": False, "lstrip": False, "rstrip": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [eos],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level | {"add_prefix_space": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "vocab": vocab,
            "merges": MERGES,
        },
    }


def config(**more):
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "n_layer": 1,
        "n_head": 2,
        "n_embd": 8,
        "n_positions": 32,
        "vocab_size": len(vocabulary()),
        "bos_token_id": vocabulary()[EOS],
        "eos_token_id": vocabulary()[EOS],
    } | more


def weights():
    generator = torch.Generator().manual_seed(1)
    d, d_vocab = 8, len(vocabulary())
    shapes = {
        "transformer.wte.weight": (d_vocab, d),
        "transformer.wpe.weight": (32, d),
        "transformer.h.0.ln_1.weight": (d,),
        "transformer.h.0.ln_1.bias": (d,),
        "transformer.h.0.attn.c_attn.weight": (d, 3 * d),
        "transformer.h.0.attn.c_attn.bias": (3 * d,),
        "transformer.h.0.attn.c_proj.weight": (d, d),
        "transformer.h.0.attn.c_proj.bias": (d,),
        "transformer.h.0.ln_2.weight": (d,),
        "transformer.h.0.ln_2.bias": (d,),
        "transformer.h.0.mlp.c_fc.weight": (d, 4 * d),
        "transformer.h.0.mlp.c_fc.bias": (4 * d,),
        "transformer.h.0.mlp.c_proj.weight": (4 * d, d),
        "transformer.h.0.mlp.c_proj.bias": (d,),
        "transformer.ln_f.weight": (d,),
        "transformer.ln_f.bias": (d,),
    }
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def write_folder(name, config=None, tensors=None, **files):
    folder = FOLDERS / name
    folder.mkdir(parents=True)
    if config:
        files["config"] = config
    for file, content in files.items():
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n"
        (folder / f"{file}.json").write_text(text, encoding="utf-8")
    if tensors:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


# Left by training frameworks, converters and newer libraries; none affects a forward pass.
BOOKKEEPING = {
    "_num_labels": 5,
    "_attn_implementation_internal": "sdpa",
    "_some_library_s_own": {"a": 1},
    "auto_map": {"AutoModel": "org/repo--modeling.Model"},
    "custom_pipelines": {"text-generation": {"impl": "pipeline.P"}},
    "unsloth_version": "2026.1",
    "unsloth_fixed": True,
    "transformers.js_config": {"dtype": "q8"},
    "model_max_length": 1024,
    "trust_remote_code": True,
    "loss_type": "ForCausalLM",
}


def write_folders():
    shutil.rmtree(FOLDERS, ignore_errors=True)
    plain = weights()
    write_folder("plain", config(), plain, tokenizer=tokenizer_json())
    write_folder("bookkeeping-keys", config(**BOOKKEEPING))
    pad = {"[PAD]": len(vocabulary())}
    write_folder("token-without-row", added_tokens=pad, tokenizer_config={"pad_token": "[PAD]"})
    write_folder("wrapped-by-compile", tensors={f"_orig_mod.{name}": t for name, t in plain.items()})
    write_folder("wrapped-twice", tensors={f"module._orig_mod.{name}": t for name, t in plain.items()})
    beside = {
        "score.weight": torch.ones(2, 8),
        "v_head.summary.weight": torch.ones(1, 8),
        "v_head.summary.bias": torch.ones(1),
        "decoder.version": torch.tensor([3.0]),
        "transformer.h.0.attn.rotary_emb.cos_cached": torch.ones(4, 4),
        "transformer.h.0.attn.rotary_emb.sin_cached": torch.ones(4, 4),
    }
    write_folder("parts-beside", tensors=plain | beside)
    of_config, of_map = {"bos_token": EOS}, {"bos_token": "!"}
    listed = {"added_tokens_decoder": {str(vocabulary()[EOS]): {"content": EOS, "special": True}}}
    # Without `bos_token_id`, so that the tokenizer's files decide.
    bare = config()
    del bare["bos_token_id"]
    write_folder("map-beside-list", bare, tokenizer_config=of_config | listed, special_tokens_map=of_map)
    write_folder("map-beside-config", bare, tokenizer_config=of_config, special_tokens_map=of_map)


def laid_over_plain(name, into):
    for folder in ["plain", name]:
        shutil.copytree(FOLDERS / folder, into, dirs_exist_ok=True)


def read_folder(name):
    """BOS, tokens and logits at the last token, or the reason why the library does not load the weights."""
    with tempfile.TemporaryDirectory() as folder:
        laid_over_plain(name, folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
    bos = tokenizer.convert_tokens_to_ids(tokenizer.bos_token)
    ids = tokenizer(PROMPT, add_special_tokens=False)["input_ids"]
    out = {"bos_id": bos, "ids": ids, "pad_ids": tokenizer("Mary[PAD]", add_special_tokens=False)["input_ids"]}
    missing = sorted(key for key in info["missing_keys"] if key != "lm_head.weight")
    if missing:
        return out | {"logits": None, "missing": len(missing)}
    with torch.no_grad():
        logits = model(torch.tensor([[vocabulary()[EOS], *ids]])).logits[0, -1]
    return out | {"logits": logits.tolist()}


CLASSES = [
    "GPT2Tokenizer",
    "GPT2TokenizerFast",
    "GPTNeoXTokenizer",
    "GPTNeoXTokenizerFast",
    "PreTrainedTokenizerFast",
    "TokenizersBackend",
    None,
]
MODEL_TYPES = ["gpt2", "gpt_neox", "opt", "gpt_neo"]
SAYS = [True, False, None]


def read_prefix_space(model_type, class_name, in_config, in_json):
    """Whether "Mary" is read as " Mary"; `None` if the files are rejected. `in_json` is "vocab" for the two old files."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
        settings = {"bos_token": EOS, "eos_token": EOS, "unk_token": EOS}
        settings |= {} if class_name is None else {"tokenizer_class": class_name}
        settings |= {} if in_config is None else {"add_prefix_space": in_config}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        if in_json == "vocab":
            (folder / "vocab.json").write_text(json.dumps(vocabulary()))
            (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(MERGES) + "\n")
        else:
            (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json(in_json)))
        try:
            ids = AutoTokenizer.from_pretrained(folder)("Mary", add_special_tokens=False)["input_ids"]
        except Exception as error:
            print(f"{model_type} {class_name} {in_config} {in_json}: {type(error).__name__}: {str(error)[:90]}")
            return None
    assert ids in ([vocabulary()["ĠMary"]], [vocabulary()["Mary"]]), ids
    return ids == [vocabulary()["ĠMary"]]


def prefix_spaces():
    cases = itertools.product(MODEL_TYPES, CLASSES, SAYS, [*SAYS, "vocab"])
    return [[*case, read_prefix_space(*case)] for case in cases]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--read-only", action="store_true")
    if not parser.parse_args().read_only:
        write_folders()
    found = {
        "prompt": PROMPT,
        "folders": {folder.name: read_folder(folder.name) for folder in sorted(FOLDERS.iterdir())},
        "prefix_space": prefix_spaces(),
    }
    path = OUT / f"transformers-{transformers.__version__}.json"
    lines = ",\n".join(json.dumps(case) for case in found.pop("prefix_space"))
    body = json.dumps(found, separators=(",", ":"))[:-1] + ',"prefix_space":[\n' + lines + "\n]}\n"
    path.write_text(body, encoding="utf-8")


main()
