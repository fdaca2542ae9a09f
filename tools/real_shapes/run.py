"""Writes each of the 17 models at its real shape with random weights, loads it, compares it with Transformers, and deletes it.

    python run.py --probe ../../target/release/examples/probe --program ../../target/release/circuit-scaling \\
        --tokenizers FOLDER --scratch DIR [--models gpt2,opt-125m] [--phases write,measure,compare,delete]

FOLDER/gpt2 and FOLDER/pythia hold the real tokenizers. OPT's vocabulary is that of GPT-2 with its ids moved by four:
the files' layout is the repository's, their order is not. Results are added to `results.json`, a model at a time;
`table.py` makes docs/compatibility.md of them. Versions: ../golden/requirements.txt.

`measure` is the phase whose times count: nothing else should run meanwhile. `compare` holds the weights twice, one after
the other, in the program and in Transformers.
"""

import argparse
import json
import os
import shutil
import struct
import subprocess
import time
from pathlib import Path

import numpy as np
import torch

import models

PROMPT = "When John and Mary went to the store, John gave a gift to"

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BOOL": torch.bool, "U8": torch.uint8}
# Of the largest logit (at least 1): the bound of the golden files.
TOLERANCE = 2e-5


def draw(name, shape, seed):
    """A parameter: matrices with GPT-2's initial scale, gains around one, biases that matter."""
    g = torch.Generator().manual_seed(seed)
    t = torch.empty(shape).normal_(0.0, 0.02 if len(shape) == 2 else 0.1, generator=g)
    return t + 1 if len(shape) == 1 and name.endswith(".weight") else t


def mask(shape, dtype):
    if len(shape) != 4:
        return torch.ones(shape, dtype=dtype)
    return torch.tril(torch.ones(shape[-2:])).view(shape).to(dtype)


def write_weights(folder, tensors, buffers, dtype, form):
    if form == "torch":
        state = {name: draw(name, shape, i).to(DTYPES[dtype]) for i, (name, shape) in enumerate(tensors)}
        state["lm_head.weight"] = state["model.decoder.embed_tokens.weight"]
        torch.save(state, folder / "pytorch_model.bin")
        return folder / "pytorch_model.bin"
    header, at, parts = {}, 0, []
    parts = [(n, s, dtype, i) for i, (n, s) in enumerate(tensors)] + [(n, s, d, None) for n, s, d in buffers]
    for name, shape, d, _ in parts:
        end = at + int(np.prod(shape, dtype=np.int64)) * DTYPES[d].itemsize
        header[name] = {"dtype": d, "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape, d, seed in parts:
            t = mask(shape, DTYPES[d]) if seed is None else draw(name, shape, seed).to(DTYPES[d])
            file.write(t.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return folder / "model.safetensors"


def write_tokenizer(folder, name, tokenizers):
    def dump(file, value):
        (folder / file).write_text(json.dumps(value))

    if name.startswith("pythia"):
        for file in (tokenizers / "pythia").iterdir():
            shutil.copy(file, folder)
        return
    for file in ["vocab.json", "merges.txt"]:
        shutil.copy(tokenizers / "gpt2" / file, folder)
    if not name.startswith("opt"):
        shutil.copy(tokenizers / "gpt2/tokenizer.json", folder)
        dump("tokenizer_config.json", {"model_max_length": 1024})
        return
    vocab = json.loads((tokenizers / "gpt2/vocab.json").read_text())
    vocab.pop("<|endoftext|>")
    dump("vocab.json", {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3} | {t: i + 4 for t, i in vocab.items()})
    token = {"content": "</s>", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    pad = token | {"content": "<pad>"}
    dump("special_tokens_map.json", {"bos_token": token, "eos_token": token, "pad_token": pad, "unk_token": token})
    typed = {"__type": "AddedToken"} | token
    dump("tokenizer_config.json", {
        "add_bos_token": True, "add_prefix_space": False, "bos_token": typed, "eos_token": typed, "errors": "replace",
        "pad_token": {"__type": "AddedToken"} | pad, "tokenizer_class": "GPT2Tokenizer", "unk_token": typed,
    })  # fmt: skip


def request(config):
    rng = np.random.default_rng(0)
    low, high = 5, 50000
    bos = config["bos_token_id"]
    # The third is longer than GPT-Neo's window.
    prompts = [[bos, *rng.integers(low, high, n).tolist()] for n in (9, 23, 280)]
    return {"prompts": prompts, "read": rng.integers(low, high, 64).tolist()}


def chosen_heads(layers, heads):
    """The first and the last head of the first, the middle and the last layer."""
    return [(layer, head) for layer in (0, layers // 2, layers - 1) for head in (0, heads - 1)]


def parts_of(model, family, layer):
    """`(module whose input is z, W_V [d_model, d_attn], b_V or 0, β or None)` of a layer."""
    if family == "gpt2":
        block = model.transformer.h[layer]
        d = block.attn.embed_dim
        w, b = block.attn.c_attn.weight[:, 2 * d :], block.attn.c_attn.bias[2 * d :]
        return block.attn.c_proj, w, b, block.ln_1.bias
    if family == "pythia":
        block = model.gpt_neox.layers[layer]
        d = block.attention.dense.in_features
        heads = model.config.num_attention_heads
        fused = block.attention.query_key_value
        w = fused.weight.view(heads, 3, d // heads, d)[:, 2].reshape(d, d).t()
        b = fused.bias.view(heads, 3, d // heads)[:, 2].reshape(d)
        return block.attention.dense, w, b, block.input_layernorm.bias
    if family == "opt":
        block = model.model.decoder.layers[layer]
        v = block.self_attn.v_proj
        beta = block.self_attn_layer_norm.bias if block.do_layer_norm_before else None
        return block.self_attn.out_proj, v.weight.t(), v.bias, beta
    block = model.transformer.h[layer]
    return block.attn.attention.out_proj, block.attn.attention.v_proj.weight.t(), 0.0, block.ln_1.bias


def effects(model, family, heads, asked, scanned):
    """`(logits, base, ablated)` by Transformers.

    `logits` are those of `asked`; `base` the logit differences of the scanned prompts, `ablated` those with each of
    the heads ablated, by value bias.
    """
    tokens = [torch.tensor(p["token_ids"]) for p in scanned["prompts"]]
    # Padding on the right changes nothing before it.
    batch = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True)
    rows, last = torch.arange(len(tokens)), torch.tensor([len(t) - 1 for t in tokens])
    correct, distractor = (torch.tensor([p[key] for p in scanned["prompts"]]) for key in ("correct_id", "distractor_id"))

    def differences():
        logits = model(batch).logits[rows, last].double()
        return (logits[rows, correct] - logits[rows, distractor]).numpy()

    plain = [model(torch.tensor([p]), logits_to_keep=1).logits[0, -1, asked["read"]].tolist() for p in asked["prompts"]]
    base, ablated = differences(), {"folded": [], "in-head": []}
    for layer, head in scanned["heads"]:
        module, w_v, b_v, beta = parts_of(model, family, layer)
        constant = b_v if beta is None else b_v + beta.double() @ w_v.double()
        d_head = w_v.shape[1] // heads
        columns = slice(head * d_head, (head + 1) * d_head)
        for kind, value in [("in-head", 0.0), ("folded", constant[columns])]:

            def replace(module, args, value=value):
                z = args[0].clone()
                z[..., columns] = value
                return (z,)

            hook = module.register_forward_pre_hook(replace)
            ablated[kind].append(differences())
            hook.remove()
    return np.array(plain), base, {kind: np.array(values) for kind, values in ablated.items()}


def attention_in_float64(self, query, key, value, attention_mask=None, head_mask=None):
    """GPT-Neo's attention without Transformers' casts to float32."""
    scores = query @ key.transpose(-1, -2)
    sees = self.bias[:, :, : query.size(-2), : key.size(-2)]
    pattern = torch.softmax(scores.masked_fill(~sees, -torch.inf), dim=-1)
    return pattern @ value, pattern


@torch.no_grad()
def transformers(folder, family, heads, asked, scanned):
    """The effects by Transformers in float32, and for GPT-Neo also in float64 (else `None`)."""
    from transformers import AutoModelForCausalLM
    from transformers.models.gpt_neo.modeling_gpt_neo import GPTNeoSelfAttention

    model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32, attn_implementation="eager")
    model.eval()
    single = effects(model, family, heads, asked, scanned)
    if family != "gpt-neo":
        return single, None
    # One block at a time: the whole model in float64 would not fit in memory.
    for part in [model.transformer.wte, model.transformer.wpe, model.transformer.ln_f, model.lm_head]:
        part.double()
    for block in model.transformer.h:
        block.register_forward_pre_hook(lambda block, args: block.double() and None)
        block.register_forward_hook(lambda block, args, output: block.float() and None)
    GPTNeoSelfAttention._attn = attention_in_float64
    return single, effects(model, family, heads, asked, scanned)


def read_scan(folder, name):
    """`(base, ablated)` of a scan's per-prompt file: logit differences per prompt, `[prompts]` and `[heads, prompts]`."""
    from safetensors.numpy import load_file

    tensors = load_file(folder / f"results/per_prompt/ioi_{name}.safetensors")
    return tensors["base"].astype(float), tensors["ablated"].astype(float)


def evict(path):
    """Takes a file out of the page cache, so that reading it means reading the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_seconds(path):
    evict(path)
    started = time.perf_counter()
    with open(path, "rb", buffering=0) as file:
        buffer = bytearray(8 << 20)
        while file.readinto(buffer):
            pass
    return time.perf_counter() - started


def run(*command):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout


def shape(name):
    config, *_ = models.describe(name)
    layers = config.get("n_layer") or config.get("num_layers") or config["num_hidden_layers"]
    heads = config.get("n_head") or config.get("num_heads") or config["num_attention_heads"]
    return config, layers, heads


def write(name, folder, result, options):
    config, layers, heads = shape(name)
    _, tensors, buffers, dtype, form, mb = models.describe(name)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    weights = write_weights(folder, tensors, buffers, dtype, form)
    write_tokenizer(folder, name, options.tokenizers)
    size = weights.stat().st_size
    assert abs(size / 1e6 - mb) < 1.5, f"{name}: {size} bytes, the Hub's file has {mb} MB"
    (folder / "request.json").write_text(json.dumps(request(config)))
    result.clear()
    result |= {"file": weights.name, "file_bytes": size, "layers": layers, "heads": heads}


def measure(name, folder, result, options):
    weights = folder / result["file"]
    result["read_seconds"] = read_seconds(weights)
    evict(weights)
    ours = json.loads(run(options.probe, folder, folder / "request.json"))
    (folder / "logits.json").write_text(json.dumps(ours.pop("plain")))
    result |= ours


def compare(name, folder, result, options):
    config, layers, heads = shape(name)
    family = "gpt-neo" if name.startswith("gpt-neo") else name.split("-")[0]
    # Do not record this machine's paths.
    result["inspect"] = [x for x in run(options.program, "inspect", folder).splitlines() if not x.startswith("source")]
    result["predict"] = run(options.program, "predict", folder, PROMPT).splitlines()[:3]
    chosen = chosen_heads(layers, heads)
    ours, scanned = {}, {"heads": chosen}
    for kind in ["folded", "in-head"]:
        out = folder / f"scan-{kind}"
        heads_option = ",".join(f"L{layer}H{head}" for layer, head in chosen)
        run(options.program, "scan", "-q", "--models", folder, "--task", "ioi", "--heads", heads_option,
            "--value-bias", kind, "--prompts", options.prompts, "--out", out)  # fmt: skip
        base, ours[kind] = read_scan(out, name)
        prompts = (out / f"results/prompts/ioi_{name}.jsonl").read_text()
        scanned["prompts"] = [json.loads(line) for line in prompts.splitlines()]
    asked = json.loads((folder / "request.json").read_text())
    plain = np.array(json.loads((folder / "logits.json").read_text()))
    mine = (plain, base, ours)
    single, double = transformers(folder, family, heads, asked, scanned)
    result["scanned"] = {"heads": heads_option, "prompts": len(scanned["prompts"])}
    result |= differences(mine, single)
    for kind, ablated in single[2].items():
        result[f"largest_delta_{kind}"] = np.abs(ablated - single[1]).max()
    worst = max(v for k, v in result.items() if k.startswith(("logit_d", "delta_d")))
    result["agree"] = bool(worst < TOLERANCE)
    if double is not None:
        result["from_float64"] = {"program": differences(mine, double), "transformers": differences(single, double)}


def differences(found, right):
    """Largest differences of two effects, relative to the largest logit (at least 1)."""
    (plain, base, ablated), (right_plain, right_base, right_ablated) = found, right
    scale = max(1.0, np.abs(right_plain).max())
    result = {"logit_difference": np.abs(plain - right_plain).max() / scale}
    for kind in ablated:
        change, right_change = ablated[kind] - base, right_ablated[kind] - right_base
        result[f"delta_difference_{kind}"] = np.abs(change - right_change).max() / scale
    return result


def delete(name, folder, result, options):
    shutil.rmtree(folder)


PHASES = {"write": write, "measure": measure, "compare": compare, "delete": delete}


def main():
    parser = argparse.ArgumentParser()
    for flag in ["--probe", "--program", "--tokenizers", "--scratch"]:
        parser.add_argument(flag, type=Path, required=True)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results.json")
    parser.add_argument("--models", default=",".join(models.NAMES))
    parser.add_argument("--phases", default=",".join(PHASES))
    parser.add_argument("--prompts", type=int, default=4, help="prompts to scan; at least 2")
    options = parser.parse_args()
    for name in options.models.split(","):
        for phase in options.phases.split(","):
            started = time.perf_counter()
            results = json.loads(options.results.read_text()) if options.results.exists() else {}
            result = results.setdefault(name, {})
            PHASES[phase](name, options.scratch / name, result, options)
            options.results.write_text(json.dumps(results, indent=1) + "\n")
            print(f"{name}: {phase} {time.perf_counter() - started:.1f} s", flush=True)
        brief = {k: v for k, v in result.items() if k not in ("inspect", "predict")}
        print(f"{name}: {brief}", flush=True)


if __name__ == "__main__":
    main()
