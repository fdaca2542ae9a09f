"""direct.json: each head's direct contribution to a logit difference, at the last token of each golden prompt.

    python direct.py        # with Transformers 4 (requirements.txt), then with Transformers 5 (requirements5.txt)

Each version fills in the checkpoints that it measured. A head's output is read by running the output projection on its z alone;
norms on the way keep the scale that they have in the plain run, and give no bias; a cap of logits counts with its slope.
Everything is in float64, but for what the library itself takes in float32.
"""

import json
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file

import hooks
import intercept
from checkpoints import load_checkpoint
from hooks import hooks as hook_handles

GOLDEN = Path(__file__).resolve().parents[2] / "crates/engine/tests/golden"
FILE = GOLDEN / "direct.json"
LIBRARY = int(transformers.__version__.split(".")[0])
LIST, Model = ("index.json", hooks.Model) if LIBRARY == 4 else ("decoders.json", intercept.Model)


def final_norm(hf):
    """The norm before the unembedding, if the model has one."""
    match hf.config.model_type:
        case "gpt2" | "gpt_neo" | "gptj":
            return hf.transformer.ln_f
        case "gpt_neox":
            return hf.gpt_neox.final_layer_norm
        case "opt":
            return hf.model.decoder.final_layer_norm
        case _:
            return hf.model.norm


def output_projection(model, layer):
    if LIBRARY == 4:
        return model.layers[layer].out
    attention = model.attentions[layer]
    return attention.out_proj if model.family == "gptj" else attention.o_proj


def branch_norm(model, layer):
    """The norm on attention's output before it is added."""
    has_one = model.family in ("olmo2", "gemma2", "gemma3_text")
    return model.blocks[layer].post_attention_layernorm if has_one else None


def frozen(norm, whole, part):
    """`part` of `whole` through a norm whose scale is that of `whole`; [d] each. The norm's own gain is read off by running it."""
    if norm is None:
        return part
    centres = "RMS" not in type(norm).__name__
    # A row that is its own norm, but for the gain: half +1 and half -1 has mean 0 and size 1.
    signs = torch.ones_like(whole)
    signs[1::2] = -1
    if len(signs) % 2:
        signs[-1] = 0
    eps = getattr(norm, "eps", None) or getattr(norm, "variance_epsilon", None)
    size = lambda x: ((x - x.mean() if centres else x).pow(2).mean() + eps).sqrt()
    bias = norm(torch.zeros_like(whole)[None])[0]
    gain = torch.where(signs != 0, (norm(signs[None])[0] - bias) * size(signs) / torch.where(signs != 0, signs, 1), 0)
    if len(signs) % 2:  # the last entry from a row that starts with 0
        turned = signs.roll(1)
        gain[-1] = (norm(turned[None])[0] - bias)[-1] * size(turned) / turned[-1]
    return (part - part.mean() if centres else part) / size(whole) * gain


@torch.no_grad()
def direct(model, tokens, correct, distractor):
    """[n_layers · n_heads]: minus the direct contribution of each head to logit(correct) - logit(distractor)."""
    seen = {}
    hf = model.hf
    norm, head = final_norm(hf), hf.get_output_embeddings()
    with hook_handles() as hook:
        if norm is not None:
            hook(norm.register_forward_pre_hook(lambda _, args: seen.update(final=args[0][0, -1])))
        hook(head.register_forward_hook(lambda _, __, output: seen.update(logits=output[0, -1])))
        for layer in range(model.n_layers):
            out = output_projection(model, layer)
            hook(out.register_forward_hook(lambda _, __, output, layer=layer: seen.update({layer: output.reshape(-1, output.shape[-1])[-1]})))
        run = model.run(tokens)

    cap = getattr(hf.config, "final_logit_softcapping", None)
    slope = torch.ones_like(seen["logits"]) if cap is None else 1 - torch.tanh(seen["logits"] / cap) ** 2
    project = getattr(getattr(hf.model, "decoder", None), "project_out", None) if model.family == "opt" else None

    values = []
    for layer in range(model.n_layers):
        out, constant = output_projection(model, layer), model.constant_v(layer)
        nothing = out(torch.zeros(1, model.n_heads * model.d_head, dtype=torch.float64))[0]
        for index in range(model.n_heads):
            z = torch.zeros(model.n_heads, model.d_head, dtype=torch.float64)
            z[index] = run.heads["z"][layer, -1, index] - constant[index]
            part = out(z.reshape(1, -1))[0] - nothing
            if LIBRARY == 5:
                part = frozen(branch_norm(model, layer), seen[layer], part)
            if norm is not None:
                part = frozen(norm, seen["final"], part)
            if project is not None:
                part = project(part)
            added = slope * (part @ head.weight.T)
            values.append(-(added[correct] - added[distractor]).item())
    return values


def measure(name):
    """[n_layers · n_heads][n_prompts], or None for models with norms on the residual stream."""
    model = Model(load_checkpoint(GOLDEN / name).double())
    if model.family == "opt" and not model.hf.config.do_layer_norm_before:
        return None
    expected = load_file(GOLDEN / name / "expected.safetensors")
    prompts = torch.split(expected["prompt_tokens"], expected["prompt_lengths"].tolist())
    answers = zip(expected["correct_ids"].tolist(), expected["distractor_ids"].tolist())
    of_prompts = [direct(model, tokens.tolist(), *pair) for tokens, pair in zip(prompts, answers)]
    return [list(row) for row in zip(*of_prompts)]


def main():
    tables = json.loads(FILE.read_text()) if FILE.exists() else {}
    for entry in json.loads((GOLDEN / LIST).read_text()):
        if "saved_by" not in entry or LIBRARY == 5:
            tables[entry["name"]] = measure(entry["name"])
            table = tables[entry["name"]]
            print(entry["name"], "post-norm" if table is None else f"largest {max(abs(x) for row in table for x in row):.3f}")
    tables = json.loads(json.dumps(dict(sorted(tables.items()))), parse_float=lambda x: float(f"{float(x):.8g}"))
    FILE.write_text(json.dumps(tables, separators=(",", ":")).replace('],"', '],\n"') + "\n")


main()
