"""Makes crates/model/tests/golden/tokenizers.json: known ids of known strings, without special tokens.

    python make_tokenizers.py FOLDER

FOLDER holds the real tokenizers, one folder each: `gpt2` and `pythia`. Ids come from `AutoTokenizer` where the folder says
which class it is, else from `PreTrainedTokenizerFast`; GPT-2's are checked against the slow tokenizer, an independent
implementation that reads vocab.json and merges.txt.
"""

import argparse
import json
from pathlib import Path

from tokenizers import Tokenizer
from transformers import AutoTokenizer, GPT2Tokenizer, PreTrainedTokenizerFast

from make_golden import GOLDEN

TEXTS = [
    "When John and Mary went to the store, John gave a gift to",
    "When Mia and Omar went to the store, Mia gave a gift to",
    " Alice met Bob.  Alice talked to",  # the published anti-repeat prompt: two spaces after the full stop
    " Alice met Bob. Alice talked to",
    "Alice met Bob. Alice talked to",
    " Mary",
    "Mary",
    "  Mary",
    " Mallory met Heidi.  Mallory talked to",
    " Zoë, Søren and José",
    "don't we'll I'm they've you'd it's she're",
    "DON'T 'S 's ''s",
    "one  two   three    four",  # runs of spaces: Pythia has tokens for them
    "def f(x):\n        return x\n",
    "\n\n\n",
    " \n  \n\ttab\t\t tabs",
    "trailing spaces   ",
    "                        x",  # 24 spaces
    " " * 30,
    "12345 3.14159 1,000,000 007",
    "日本語のテキスト and Привет, мир",
    "🙂👩‍👩‍👧 emoji",
    "e\u0301 combining, \u00e9 composed",  # Pythia's tokenizer normalises to NFC, GPT-2's does not
    "non\u00a0breaking\u2003space\u200bzero",
    "<|endoftext|>",
    "before<|endoftext|>after",
    "<|padding|>",
    "!?...;:--(\"quoted\")[]{}#@$%^&*~`|\\/",
    "supercalifragilisticexpialidocious",
    "",
]  # fmt: skip


def load(folder: Path):
    if (folder / "tokenizer_config.json").exists():
        return AutoTokenizer.from_pretrained(folder)
    return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=GOLDEN.parents[2] / "model/tests/golden/tokenizers.json")
    args = parser.parse_args()

    known = {}
    for name in ("gpt2", "pythia"):
        folder = args.folder / name
        tokenizer = load(folder)
        plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
        slow = None
        if name == "gpt2":
            slow = GPT2Tokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
        known[name] = []
        for text in TEXTS:
            ids = tokenizer.encode(text, add_special_tokens=False)
            assert ids == plain.encode(text, add_special_tokens=False).ids, text
            if slow:
                assert ids == slow.encode(text, add_special_tokens=False), (text, ids, slow.encode(text))
            known[name].append({"text": text, "ids": ids})
    lines = (
        f' "{name}": [\n' + ",\n".join("  " + json.dumps(entry) for entry in entries) + "\n ]"
        for name, entries in known.items()
    )
    args.out.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(", ".join(f"{name}: {len(entries)} strings" for name, entries in known.items()))


if __name__ == "__main__":
    main()
