"""The byte-level BPE tokenizer of the miniature models: one vocabulary, numbered as each family numbers its own.

GPT-2 and GPT-Neo put `<|endoftext|>` after the last merge, Pythia puts it at 0, and OPT begins with `<s> <pad> </s> <unk>`
and uses `</s>` as BOS. So the same token has different ids in different families, as with the real models.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

N_BASE_TOKENS = 1000


@dataclass(frozen=True)
class Specials:
    """Where a family keeps its special tokens."""

    before: tuple[str, ...]
    after: tuple[str, ...]
    bos: str
    tokenizer_class: str
    extra: dict[str, str]

    @property
    def offset(self) -> int:
        """What is added to a base id."""
        return len(self.before)

    def bos_id(self, n_base: int) -> int:
        """The BOS token's id in this family."""
        return self.before.index(self.bos) if self.bos in self.before else self.offset + n_base + self.after.index(self.bos)


END = "<|endoftext|>"
_PLAIN = {"bos_token": END, "eos_token": END, "unk_token": END}
SPECIALS = {
    "gpt2": Specials((), (END,), END, "GPT2Tokenizer", _PLAIN),
    "gpt-neo": Specials((), (END,), END, "GPT2Tokenizer", _PLAIN),
    "pythia": Specials((END,), (), END, "GPTNeoXTokenizer", _PLAIN),
    "opt": Specials(
        ("<s>", "<pad>", "</s>", "<unk>"), (), "</s>", "GPT2Tokenizer",
        {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"},
    ),
}


def train_base(documents: list[str], names: list[str], words: list[str], n_tokens: int = N_BASE_TOKENS) -> Tokenizer:
    """Trains the shared vocabulary, and sees to it that every name and every other word in `words` is one token.

    They are fed in once more, often enough that their merges come before those of rarer words. `names` follow a space; `words` include their space, or have none if they start a prompt.
    """
    whole = [f" {name}" for name in names] + words
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=n_tokens, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    tokenizer.train_from_iterator([*documents, *("\n".join([word] * 3000) for word in whole)], trainer)
    for word in whole:
        if len(tokenizer.encode(word).ids) != 1:
            raise ValueError(f"{word!r} is not one token; raise N_BASE_TOKENS")
    return tokenizer


def save_family(base: Tokenizer, family: str, n_positions: int, folder: Path) -> None:
    """Writes `tokenizer.json`, `tokenizer_config.json` and `special_tokens_map.json` of one model."""
    specials = SPECIALS[family]
    state = json.loads(base.to_str())
    vocab = {token: i + specials.offset for token, i in base.get_vocab().items()}
    added = {token: i for i, token in enumerate(specials.before)}
    added |= {token: specials.offset + len(vocab) + i for i, token in enumerate(specials.after)}
    state["model"]["vocab"] = dict(sorted({**vocab, **added}.items(), key=lambda item: item[1]))
    # "a b" rather than ["a", "b"]: the form the published files have.
    state["model"]["merges"] = [m if isinstance(m, str) else " ".join(m) for m in state["model"]["merges"]]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    state["added_tokens"] = [{"id": i, "content": token, **flags} for token, i in sorted(added.items(), key=lambda x: x[1])]
    if family == "opt":  # as the real one does: the tokenizer itself puts BOS first
        state["post_processor"] = json.loads(_bos_first(base, specials, len(vocab)))
    config = {
        "tokenizer_class": specials.tokenizer_class,
        "add_prefix_space": False,
        "add_bos_token": family == "opt",
        "clean_up_tokenization_spaces": False,
        "model_max_length": n_positions,
        **specials.extra,
    }
    _write(folder / "tokenizer.json", state)
    _write(folder / "tokenizer_config.json", config)
    _write(folder / "special_tokens_map.json", specials.extra)


def _bos_first(base: Tokenizer, specials: Specials, n_base: int) -> str:
    carrier = Tokenizer.from_str(base.to_str())
    carrier.post_processor = processors.TemplateProcessing(
        single=f"{specials.bos} $A", pair=f"{specials.bos} $A {specials.bos} $B",
        special_tokens=[(specials.bos, specials.bos_id(n_base))],
    )
    return json.dumps(json.loads(carrier.to_str())["post_processor"])


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
