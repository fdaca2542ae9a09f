"""Makes crates/model/tests/golden/tokenizers.json: expected ids of fixed strings, without special tokens.

    python make_tokenizers.py FOLDER ...

Each FOLDER holds one tokenizer and gives its name to its ids; those of other names stay. `gpt2` and `pythia` are the real ones, `../tokenizers/make` and
`../real_model/make` make others, `make_synthetic_tokenizers.py` makes small ones. Ids come from `AutoTokenizer` where the folder says which class it is, else
from `PreTrainedTokenizerFast`, and must be what the `tokenizers` library reads from tokenizer.json; GPT-2's are checked against the slow tokenizer, an independent
implementation that reads vocab.json and merges.txt. Run it with Transformers 4: some classes of version 5 do not read all of tokenizer.json.
"""

import argparse
import json
from pathlib import Path

import transformers
from tokenizers import Tokenizer
from transformers import AutoTokenizer, GPT2Tokenizer, PreTrainedTokenizerFast

GOLDEN = Path(__file__).resolve().parents[2] / "crates" / "model" / "tests" / "golden" / "tokenizers.json"

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
    # Names after every kind of mark.
    "Mary\nMary\n Mary\tMary",
    "\"Mary\" 'Mary' (Mary) -Mary /Mary",
    "Mary, Mary. Mary! Mary? Mary's MARY mary",
    "and Mary and  Mary and   Mary",
    "\u201cMary\u201d said \u2018John\u2019\u2014to Mary\u2026",
    # Digits, alone and in runs of every length.
    "1 12 123 1234 12345 123456 1234567",
    "a1b22c333 x=10 v2.0 ٣٤٥ ½ ² Ⅷ 一二三",
    # Spaces, new lines and controls at every place.
    " ",
    "  ",
    "\n",
    " \n",
    "\n ",
    "\r\nline\r\nline\r",
    "a \nb  \n c\n\n\nd",
    "tab\tseparated\t\tvalues\t",
    "end ",
    "\u3000ideographic\u3000space",
    "\u2028line\u2029paragraph\u0085next\u000bvertical\u000cform",
    "null\u0000bell\u0007escape\u001b[0m delete\u007f",
    "soft\u00adhyphen joiner\u200dand\u200cnon bom\ufeff rtl\u202etxet",
    # Scripts, marks and characters of one to four bytes.
    "中文，没有空格。韓國語 한국어 แบบไทย हिन्दी עִבְרִית العَرَبِيَّة",
    "Z\u0361a\u0335l\u0336g\u0337o\u0338 n\u0303 A\u030a \u212b \ufb01 ﬁn Å",
    "\u1112\u1161\u11ab 한 \u0958 \u0915\u093c",  # canonical equivalents that NFC makes one
    "𝔐𝔞𝔯𝔶 𐍈 🏳️‍🌈 👍🏽 🇩🇪 \U000e0041 \U0010ffff \ue000",
    "▁Mary ▁ ▁▁Mary ĠMary Ċ <0x41> <0x0A>",  # what vocabularies write for spaces and bytes
    # Words that are special to some tokenizer, and near misses.
    "<s>",
    "</s>",
    "<s>Mary</s> Mary",
    "a <s> b</s>c",
    "<unk> <pad> <mask> [CLS] [SEP]",
    "<bos>Mary<eos> <start_of_turn>user",
    "<|begin_of_text|>Mary<|eot_id|>",
    "<|im_start|>user\nMary<|im_end|>\n",
    "<|im_start|> <|im_end|> <|im_start",
    "<|endoftext|><|endoftext|> <|endoftext|> x",
    "<|user|> Mary <|end|> \n x",
    # Case, contractions and punctuation that split patterns treat apart.
    "I'LL We'Re y'all 'twas rock'n'roll 'S's''",
    "camelCase snake_case kebab-case SCREAMING path/to/file.txt user@host https://x.y/z?q=1&r=2#s",
    "!!! ... ,,, --- === *** ??!! :-) \\n",
    "x" * 70,
    "ab" * 40,
    "the the the the  the\nthe",
]  # fmt: skip


def load(folder: Path):
    if (folder / "tokenizer_config.json").exists():
        return AutoTokenizer.from_pretrained(folder)
    return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))


def known_ids(folder: Path) -> list[dict]:
    """The ids of every text, in which the library and its parts must agree."""
    tokenizer = load(folder)
    plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
    slow = None
    if folder.name == "gpt2":
        slow = GPT2Tokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    entries = []
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert ids == plain.encode(text, add_special_tokens=False).ids, (folder.name, text)
        if slow:
            assert ids == slow.encode(text, add_special_tokens=False), (text, ids, slow.encode(text))
        entries.append({"text": text, "ids": ids})
    return entries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=GOLDEN)
    args = parser.parse_args()

    known = json.loads(args.out.read_text()) if args.out.exists() else {}
    for folder in args.folders:
        known[folder.name] = known_ids(folder)
        print(f"{folder.name}: {len(known[folder.name])} strings, transformers {transformers.__version__}")
    lines = (
        f' "{name}": [\n' + ",\n".join("  " + json.dumps(entry) for entry in entries) + "\n ]"
        for name, entries in sorted(known.items())
    )
    args.out.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
