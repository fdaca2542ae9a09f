"""Makes crates/model/tests/golden/tokenizers/: a small tokenizer of every kind that the families ship.

python make_synthetic_tokenizers.py
python make_tokenizers.py ../../crates/model/tests/golden/tokenizers/*/
"""

import json
import sys
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tokenizers"))

from make_tokenizers import GOLDEN, TEXTS
from unpack import QWEN2_PATTERN, bos_first, bpe, byte_alphabet, special_token, tokenizer_json

OUT = GOLDEN.parent / "tokenizers"
LLAMA3_PATTERN = QWEN2_PATTERN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
N_MERGES = 160
NAMES = "John Mary Tom Kate Raj Liam Mia Omar Alice Bob Carol Dave Erin Frank Grace Heidi Judy Oscar".split()
CORPUS = [f"When {a} and {b} went to the store, {a} gave a gift to {b}." for a in NAMES for b in NAMES]
CORPUS += [f" {a} met {b}.  {a} talked to {b}\n" for a in NAMES for b in NAMES] + TEXTS

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def split(pattern: str) -> dict:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def sequence(*pre_tokenizers_: dict) -> dict:
    return {"type": "Sequence", "pretokenizers": list(pre_tokenizers_)}


def added(id: int, content: str, **settings) -> dict:
    return special_token(id, content) | settings


def trained_merges(pre_tokenizer, alphabet: list[str]) -> list[tuple[str, str]]:
    """Merges learned from the corpus."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    size = len(alphabet) + N_MERGES
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, limit_alphabet=len(alphabet), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [tuple(pair) for pair in merges]


def vocabulary(first: list[str], merges: list[tuple[str, str]]) -> dict[str, int]:
    tokens = dict.fromkeys(first)
    tokens.update(dict.fromkeys(left + right for left, right in merges))
    return {token: id for id, token in enumerate(tokens)}


def byte_level(
    name: str,
    normalizer,
    *before: dict,
    special: list[dict] = (),
    bos: str | None = None,
    last: dict = BYTE_LEVEL,
    **settings,
) -> None:
    """A tokenizer over ByteLevel's alphabet, with `before` splitting the text first; special tokens come after its vocabulary."""
    alphabet = list(byte_alphabet().values())
    merges = trained_merges(pre_tokenizers.ByteLevel(add_prefix_space=False), alphabet)
    vocab = vocabulary(alphabet, merges)
    if settings.get("ignore_merges"):  # a whole word that its merges do not reach
        vocab["ĠMallory"] = len(vocab)
    tokens = [token | {"id": len(vocab) + i} for i, token in enumerate(special)]
    ids = {token["content"]: token["id"] for token in tokens}
    pre_tokenizer = sequence(*before, last) if before else last
    processor = bos_first(bos, ids[bos]) if bos else None
    tokenizer = tokenizer_json(bpe(vocab, merges, **settings), tokens, normalizer, pre_tokenizer, processor, BYTE_LEVEL)
    # Transformers 4 goes by this key of tokenizer_config.json, not by tokenizer.json.
    write(name, tokenizer, bos, add_prefix_space=last["add_prefix_space"])


def byte_fallback(
    name: str,
    normalizer,
    pre_tokenizer,
    special: list[dict],
    added_after: list[dict] = (),
    bos: str | None = None,
    words_apart=True,
) -> None:
    """A tokenizer that marks spaces with ▁ and writes what it does not know as bytes; special tokens come before its vocabulary."""
    letters = sorted(
        {letter for text in CORPUS[: -len(TEXTS)] for letter in text.replace(" ", "▁") if letter != "\n"}
        | set("é日本語▁")
    )
    learner = pre_tokenizers.Metaspace(prepend_scheme="first", split=words_apart)
    merges = trained_merges(learner, letters)
    tokens = [token | {"id": i} for i, token in enumerate(special)]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    vocab = vocabulary([token["content"] for token in tokens] + bytes_ + letters, merges)
    tokens += [token | {"id": len(vocab) + i} for i, token in enumerate(added_after)]
    model = bpe(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    processor = bos_first(bos, vocab[bos]) if bos else None
    decoder = {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
        ],
    }
    write(name, tokenizer_json(model, tokens, normalizer, pre_tokenizer, processor, decoder), bos)


def write(name: str, tokenizer: dict, bos: str | None, **settings) -> None:
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "bos_token": bos,
        "clean_up_tokenization_spaces": False,
        "tokenizer_class": "PreTrainedTokenizerFast",
    } | settings
    (folder / "tokenizer.json").write_text(
        json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8"
    )
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")


def main() -> None:
    unknown_bos_eos = [added(0, "<unk>"), added(1, "<s>"), added(2, "</s>")]
    prepend = {"type": "Prepend", "prepend": "▁"}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}

    def metaspace(prepend_scheme: str, split: bool) -> dict:
        return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": prepend_scheme, "split": split}

    # Llama 2, TinyLlama, Mistral 7B: the normalizer marks spaces.
    byte_fallback(
        "llama-2",
        {"type": "Sequence", "normalizers": [prepend, replace]},
        None,
        unknown_bos_eos,
        bos="<s>",
        words_apart=False,
    )
    # The same models written by newer converters: the pre-tokenizer marks spaces.
    byte_fallback("metaspace-first", None, metaspace("first", False), unknown_bos_eos, bos="<s>", words_apart=False)
    byte_fallback("metaspace-always", None, metaspace("always", True), unknown_bos_eos, bos="<s>")
    byte_fallback("metaspace-never", None, metaspace("never", True), unknown_bos_eos)
    # Phi 3: Llama 2's with tokens that take the space after them.
    phi_3 = [added(0, token, rstrip=True) for token in ("<|user|>", "<|end|>")] + [added(0, "<|endoftext|>")]
    byte_fallback(
        "phi-3", {"type": "Sequence", "normalizers": [prepend, replace]}, None,
        [added(0, "<unk>"), added(1, "<s>"), added(2, "</s>", rstrip=True, normalized=False, special=False)], phi_3, bos="<s>", words_apart=False,
    )  # fmt: skip
    # Gemma: spaces are marked, without one before the text, and split after each mark; runs of newlines are separate tokens.
    runs = [added(0, "\n" * n, special=False) for n in range(2, 5)]
    gemma = [added(0, "<pad>"), added(0, "<eos>"), added(0, "<bos>"), added(0, "<unk>"), added(0, "<start_of_turn>")]
    after_spaces = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    byte_fallback("gemma", replace, after_spaces, gemma, runs, bos="<bos>", words_apart=False)

    # Llama 3: split by a pattern, whole words before merges.
    byte_level(
        "llama-3-kind",
        None,
        split(LLAMA3_PATTERN),
        special=[added(0, "<|begin_of_text|>"), added(0, "<|eot_id|>")],
        bos="<|begin_of_text|>",
        ignore_merges=True,
    )
    # Qwen: NFC, and no BOS.
    byte_level(
        "qwen-kind",
        {"type": "NFC"},
        split(QWEN2_PATTERN),
        special=[added(0, "<|endoftext|>"), added(0, "<|im_start|>"), added(0, "<|im_end|>")],
    )
    # SmolLM2: digits one by one before GPT-2's own pattern.
    digits = {"type": "Digits", "individual_digits": True}
    byte_level(
        "digits",
        None,
        digits,
        special=[added(0, "<|endoftext|>"), added(0, "<|im_start|>")],
        last=BYTE_LEVEL | {"use_regex": True},
    )
    # DeepSeek: several patterns, one after the other.
    cjk, words = (
        r"[一-龥぀-ゟ゠-ヿ]+",
        r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    )
    byte_level(
        "three-patterns",
        {"type": "Sequence", "normalizers": []},
        split(r"\p{N}{1,3}"),
        split(cjk),
        split(words),
        special=[added(0, "<|endoftext|>")],
    )
    # GPT-2's pattern, a space put before the text, and added tokens of every manner.
    manners = [
        added(0, "<|im_start|>", lstrip=True),
        added(0, "<|im_end|>", rstrip=True),
        added(0, "<|endoftext|>", lstrip=True, rstrip=True),
        added(0, "store", single_word=True, special=False, normalized=True),
        added(0, "Mary", special=False, normalized=True),
        added(0, "\u00c5", special=False, normalized=True),
    ]
    byte_level(
        "added-tokens",
        {"type": "NFC"},
        special=manners,
        last=BYTE_LEVEL | {"use_regex": True, "add_prefix_space": True},
    )


if __name__ == "__main__":
    main()
