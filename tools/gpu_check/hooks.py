#!/usr/bin/env python3
"""How long the same scans take with hooks on Hugging Face Transformers on the same card, in float32: one padded forward pass a head.

    python hooks.py gpt2|gpt2-xl|pythia-2.8b SECONDS-OF-CIRCUIT-SCALING

Real shapes, random weights, prompts of the published form. A few heads are timed, and their median taken for all. Ends with 77 where
torch does not see a card or transformers is missing.
"""
import random
import statistics
import sys
import time

try:
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, GPT2Config, GPTNeoXConfig
except ImportError as error:
    print(f"not run: {error}")
    sys.exit(77)
if not torch.cuda.is_available():
    print("not run: torch sees no card")
    sys.exit(77)

TASKS = {"ioi": (200, [1, 1, 15, 1, 15, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1]), "anti-repeat": (400, [1, 12, 1, 12, 1, 1, 0, 1, 1])}
CONFIGS = {
    "gpt2": lambda: GPT2Config(),
    "gpt2-xl": lambda: GPT2Config(n_embd=1600, n_layer=48, n_head=25),
    "pythia-2.8b": lambda: GPTNeoXConfig(hidden_size=2560, num_hidden_layers=32, num_attention_heads=32, intermediate_size=10240,
                                         vocab_size=50304),
}


def outputs(model):
    """The modules that read all heads' outputs side by side, layer by layer."""
    if model.config.model_type == "gpt2":
        return [block.attn.c_proj for block in model.transformer.h]
    return [layer.attention.dense for layer in model.gpt_neox.layers]


@torch.no_grad()
def main(name, ours):
    torch.backends.cuda.matmul.allow_tf32 = False
    config = CONFIGS[name]()
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, torch_dtype=torch.float32).eval()
    modules, n_heads = outputs(model), config.num_attention_heads
    d_head = config.hidden_size // n_heads
    draw, whole = random.Random(7), 0.0
    for n, form in TASKS.values():
        prompts = []
        for _ in range(n):
            names = [100 + draw.randrange(choices) for choices in form if choices > 1]
            rest = iter(names)
            prompts.append([names[0] if c == 0 else 7 + i if c == 1 else next(rest) for i, c in enumerate(form)])
        ids = torch.tensor(prompts, device="cuda")
        seconds = []
        for layer, head in [(0, 0), (0, 0), (len(modules) // 2, 1), (len(modules) - 1, n_heads - 1)]:
            def ablate(_, args, head=head):
                z = args[0].clone()
                z[..., head * d_head:(head + 1) * d_head] = 0
                return (z, *args[1:])
            hook = modules[layer].register_forward_pre_hook(ablate)
            torch.cuda.synchronize()
            start = time.perf_counter()
            model(ids).logits[:, -1, [50, 60]].double().cpu()
            seconds.append(time.perf_counter() - start)
            hook.remove()
        # The first pass chooses its algorithms.
        whole += statistics.median(seconds[1:]) * len(modules) * n_heads
    print(f"{name}: hooks on transformers {transformers.__version__} in float32 {whole:.1f} s for {len(modules) * n_heads} heads: "
          f"{whole / ours:.0f} times {ours:.2f} s")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
