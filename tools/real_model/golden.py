"""Makes crates/engine/tests/golden/smollm2.json: the results of Hugging Face Transformers for the real model.

    python golden.py CHECKPOINT

CHECKPOINT is the folder that `make` makes, in bfloat16; it is run in float32. Heads are edited by hooks on the input of `o_proj`, where z is.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

OUT = Path(__file__).resolve().parents[2] / "crates" / "engine" / "tests" / "golden" / "smollm2.json"
NAMES = "John Mary Tom Alex Alice Bob Frank James David Anna Peter Paul Jack Sam Ben Jane".split()
# {A} and {B} are the two names; a partner, from which z is patched, has three different ones, with {C} for the last.
IOI = [
    "When {A} and {B} went to the store, {C} gave a gift to",
    "When {B} and {A} went to the park, {C} handed a book to",
    "Then, {A} and {B} had a long argument, and afterwards {C} said sorry to",
    "After {B} and {A} met at the station, {C} passed the ticket to",
]
ANTI_REPEAT = [
    "{A} met {B}. {C} talked to",
    "{A} called {B}. Later, {C} wrote a letter to",
    "{A} lives near {B}. Every day {C} says hello to",
    "Yesterday {A} saw {B} at work. {C} smiled at",
]
TOP_PROMPTS = [
    "The capital of France is",
    "Once upon a time, there was a little",
    "def fibonacci(n):\n    if n <= 1:\n        return",
    "2 + 2 =",
    "The quick brown fox jumps over the lazy",
    "Water boils at 100 degrees",
    "She opened the door and saw",
    "<|im_start|>user\nWhat is the largest planet?<|im_end|>\n<|im_start|>assistant\n",
    "Dear Sir or Madam,\n\nI am writing to",
    "日本の首都は",
]
N_PROMPTS = 24
N_STRONGEST, N_OTHERS = 8, 8


class Model:
    def __init__(self, folder: Path):
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        config = self.hf.config
        self.n_layers, self.n_heads, self.d_head = config.num_hidden_layers, config.num_attention_heads, config.head_dim

    def token(self, name: str) -> int:
        (id,) = self.tokenizer.encode(" " + name)
        return id

    @torch.no_grad()
    def last_logits(self, tokens: torch.Tensor, layer: int = 0, hook=None) -> torch.Tensor:
        """[n, len] -> [n, d_vocab], with a hook on z ([n, len, n_heads * d_head]) of one layer."""
        handle = hook and self.hf.model.layers[layer].self_attn.o_proj.register_forward_pre_hook(hook)
        logits = self.hf(tokens, use_cache=False, logits_to_keep=1).logits[:, -1]
        if handle:
            handle.remove()
        return logits

    @torch.no_grad()
    def all_z(self, tokens: torch.Tensor) -> list[torch.Tensor]:
        """z of every layer: [n, len, n_heads * d_head]."""
        z = []
        handles = [
            layer.self_attn.o_proj.register_forward_pre_hook(lambda _module, args: z.append(args[0].clone()))
            for layer in self.hf.model.layers
        ]
        self.hf(tokens, use_cache=False, logits_to_keep=1)
        for handle in handles:
            handle.remove()
        return z

    def columns(self, head: int) -> slice:
        return slice(head * self.d_head, (head + 1) * self.d_head)


def make_prompts(model: Model, templates: list[str], generator: torch.Generator) -> list[dict]:
    """Equally many prompts of both orders for every template; all prompts of a template have the same length."""
    prompts = []
    for index in range(N_PROMPTS):
        template = templates[index % len(templates)]
        a, b, c = (NAMES[i] for i in torch.randperm(len(NAMES), generator=generator)[:3].tolist())
        text, partner = (
            template.format(A=a, B=b, C=a),
            template.format(A=b, B=c, C=NAMES[(NAMES.index(c) + 1) % len(NAMES)]),
        )
        prompt = {
            "text": text,
            "token_ids": model.tokenizer.encode(text),
            "partner_token_ids": model.tokenizer.encode(partner),
            "correct": model.token(b),
            "distractor": model.token(a),
        }
        assert len(prompt["token_ids"]) == len(prompt["partner_token_ids"]), (text, partner)
        prompts.append(prompt)
    return prompts


class Batch:
    """The prompts of one length, with the activations of runs without edits for them and their partners."""

    def __init__(self, model: Model, prompts: list[dict], rows: list[int]):
        self.model, self.rows = model, rows
        self.tokens = torch.tensor([prompts[i]["token_ids"] for i in rows])
        self.correct = torch.tensor([prompts[i]["correct"] for i in rows])
        self.distractor = torch.tensor([prompts[i]["distractor"] for i in rows])
        self.partner_z = model.all_z(torch.tensor([prompts[i]["partner_token_ids"] for i in rows]))
        self.logits = model.last_logits(self.tokens)

    def differences(self, logits: torch.Tensor) -> torch.Tensor:
        row = torch.arange(len(self.rows))
        return logits[row, self.correct] - logits[row, self.distractor]

    def edited(self, layer: int, head: int, patched: bool) -> torch.Tensor:
        """Logit differences with z of one head zeroed, or taken from the partners."""
        columns = self.model.columns(head)

        def edit(_module, args):
            z = args[0].clone()
            z[..., columns] = self.partner_z[layer][..., columns] if patched else 0
            return (z,)

        return self.differences(self.model.last_logits(self.tokens, layer, edit))


def batches(model: Model, prompts: list[dict]) -> list[Batch]:
    by_length = defaultdict(list)
    for row, prompt in enumerate(prompts):
        by_length[len(prompt["token_ids"])].append(row)
    return [Batch(model, prompts, rows) for rows in by_length.values()]


def gathered(parts: list[tuple[Batch, torch.Tensor]]) -> torch.Tensor:
    """Values of all prompts in the prompts' order."""
    values = torch.empty(sum(len(batch.rows) for batch, _ in parts))
    for batch, part in parts:
        values[batch.rows] = part
    return values


def rounded(values: torch.Tensor) -> list[float]:
    return [round(value, 6) for value in values.double().tolist()]


def strongest(model: Model, groups: list[Batch]) -> list[tuple[int, int]]:
    """Heads by a first-order estimate of |delta| under zero ablation, |mean of z . d(logit difference)/dz|, strongest first."""
    sums = torch.zeros(model.n_layers, model.n_heads)
    for batch in groups:
        z = []

        def keep(_module, args):
            z.append(args[0])
            args[0].retain_grad()

        handles = [layer.self_attn.o_proj.register_forward_pre_hook(keep) for layer in model.hf.model.layers]
        logits = model.hf(batch.tokens, use_cache=False, logits_to_keep=1).logits[:, -1]
        batch.differences(logits).sum().backward()
        for handle in handles:
            handle.remove()
        for layer, of_layer in enumerate(z):
            parts = (of_layer * of_layer.grad).unflatten(-1, (model.n_heads, model.d_head))
            sums[layer] += parts.sum((0, 1, 3)).detach()
        model.hf.zero_grad()
    order = sums.abs().flatten().argsort(descending=True).tolist()
    return [divmod(index, model.n_heads) for index in order]


def task(model: Model, prompts: list[dict], groups: list[Batch], heads: list[tuple[int, int]]) -> dict:
    names = torch.tensor([model.token(name) for name in NAMES])
    base = gathered([(batch, batch.differences(batch.logits)) for batch in groups])
    best = gathered([(batch, (names[batch.logits[:, names].argmax(-1)] == batch.correct).float()) for batch in groups])

    def of_heads(patched: bool) -> list[list[float]]:
        return [
            rounded(gathered([(batch, batch.edited(layer, head, patched)) for batch in groups]))
            for layer, head in heads
        ]

    return {
        "prompts": prompts,
        "mean_logit_diff": round(base.double().mean().item(), 6),
        "n_right": int((base > 0).sum()),
        "n_best_of_names": int(best.sum()),
        "diff": rounded(base),
        "zero": of_heads(patched=False),
        "patch_z": of_heads(patched=True),
    }


def top_tokens(model: Model, text: str) -> dict:
    ids = model.tokenizer.encode(text)
    top = model.last_logits(torch.tensor([ids]))[0].topk(5)
    return {"text": text, "token_ids": ids, "top_ids": top.indices.tolist(), "top_logits": rounded(top.values)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = Model(args.checkpoint)

    generator = torch.Generator().manual_seed(15)
    prompts = {
        name: make_prompts(model, templates, generator)
        for name, templates in [("ioi", IOI), ("anti_repeat", ANTI_REPEAT)]
    }
    groups = {name: batches(model, of_task) for name, of_task in prompts.items()}
    # The strongest heads of each task, and some of the others.
    heads: list[tuple[int, int]] = []
    for of_task in groups.values():
        heads += [head for head in strongest(model, of_task) if head not in heads][:N_STRONGEST]
    every = [(layer, head) for layer in range(model.n_layers) for head in range(model.n_heads)]
    others = [every[i] for i in torch.randperm(len(every), generator=generator).tolist()]
    heads += [head for head in others if head not in heads][:N_OTHERS]
    heads.sort()

    golden = {
        "transformers": transformers.__version__,
        "names": {name: model.token(name) for name in NAMES},
        "heads": [list(head) for head in heads],
        "tasks": {name: task(model, prompts[name], groups[name], heads) for name in prompts},
        "top": [top_tokens(model, text) for text in TOP_PROMPTS],
    }
    args.out.write_text(
        json.dumps(golden, ensure_ascii=False, indent=None, separators=(",", ":"))
        .replace("},{", "},\n{")
        .replace("],[", "],\n[")
        + "\n"
    )
    for name, of_task in golden["tasks"].items():
        print(name, of_task["mean_logit_diff"], of_task["n_right"], of_task["n_best_of_names"], len(of_task["diff"]))


if __name__ == "__main__":
    main()
