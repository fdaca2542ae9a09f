"""The 17 models as in their Hub repositories: config, tensor names, dtype, file format, size of the weight file.

Sizes (`mb`, as the Hub shows them, in 10^6 bytes) check that masks and tied tensors are stored as they are there.
"""

GPT2 = {"gpt2": (768, 12, 12, 548), "gpt2-medium": (1024, 24, 16, 1520), "gpt2-large": (1280, 36, 20, 3247),
        "gpt2-xl": (1600, 48, 25, 6431)}  # fmt: skip
PYTHIA = {"pythia-70m": (512, 6, 8, 166), "pythia-160m": (768, 12, 12, 375), "pythia-410m": (1024, 24, 16, 911),
          "pythia-1b": (2048, 16, 8, 2091), "pythia-1.4b": (2048, 24, 16, 2930), "pythia-2.8b": (2560, 32, 32, 5684)}  # fmt: skip
OPT = {"opt-125m": (768, 12, 12, 251), "opt-350m": (1024, 24, 16, 663), "opt-1.3b": (2048, 24, 32, 2631),
       "opt-2.7b": (2560, 32, 32, 5303)}  # fmt: skip
NEO = {"gpt-neo-125m": (768, 12, 12, 526), "gpt-neo-1.3b": (2048, 24, 16, 5312), "gpt-neo-2.7b": (2560, 32, 20, 10672)}

# Smallest first, so that the first results come soon.
NAMES = sorted([*GPT2, *PYTHIA, *OPT, *NEO], key=lambda n: {**GPT2, **PYTHIA, **OPT, **NEO}[n][3])


def describe(name):
    """`(config, tensors, buffers, dtype, format, megabytes)`; tensors and buffers are lists of `(name, shape)`."""
    for table, family in [(GPT2, gpt2), (PYTHIA, pythia), (OPT, opt), (NEO, neo)]:
        if name in table:
            d, layers, heads, mb = table[name]
            return *family(name, d, layers, heads), mb
    raise KeyError(name)


def norm(name, d):
    return [(f"{name}.weight", [d]), (f"{name}.bias", [d])]


def linear(name, d_in, d_out, bias=True):
    return [(f"{name}.weight", [d_out, d_in])] + ([(f"{name}.bias", [d_out])] if bias else [])


def conv1d(name, d_in, d_out):
    return [(f"{name}.weight", [d_in, d_out]), (f"{name}.bias", [d_out])]


def gpt2(name, d, layers, heads):
    config = {
        "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1, "bos_token_id": 50256,
        "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05,
        "model_type": "gpt2", "n_ctx": 1024, "n_embd": d, "n_head": heads, "n_layer": layers, "n_positions": 1024,
        "resid_pdrop": 0.1, "summary_activation": None, "summary_first_dropout": 0.1, "summary_proj_to_labels": True,
        "summary_type": "cls_index", "summary_use_proj": True,
        "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}}, "vocab_size": 50257,
    }  # fmt: skip
    tensors = [("wte.weight", [50257, d]), ("wpe.weight", [1024, d])] + norm("ln_f", d)
    buffers = []
    for i in range(layers):
        h = f"h.{i}"
        tensors += norm(f"{h}.ln_1", d) + norm(f"{h}.ln_2", d)
        tensors += conv1d(f"{h}.attn.c_attn", d, 3 * d) + conv1d(f"{h}.attn.c_proj", d, d)
        tensors += conv1d(f"{h}.mlp.c_fc", d, 4 * d) + conv1d(f"{h}.mlp.c_proj", 4 * d, d)
        buffers.append((f"{h}.attn.bias", [1, 1, 1024, 1024], "F32"))
    return config, tensors, buffers, "F32", "safetensors"


def pythia(name, d, layers, heads):
    config = {
        "architectures": ["GPTNeoXForCausalLM"], "bos_token_id": 0, "eos_token_id": 0, "hidden_act": "gelu",
        "hidden_size": d, "initializer_range": 0.02, "intermediate_size": 4 * d, "layer_norm_eps": 1e-05,
        "max_position_embeddings": 2048, "model_type": "gpt_neox", "num_attention_heads": heads,
        "num_hidden_layers": layers, "rotary_emb_base": 10000, "rotary_pct": 0.25, "tie_word_embeddings": False,
        "torch_dtype": "float16", "transformers_version": "4.24.0", "use_cache": True, "use_parallel_residual": True,
        "vocab_size": 50304,
    }  # fmt: skip
    tensors = [("gpt_neox.embed_in.weight", [50304, d]), ("embed_out.weight", [50304, d])]
    tensors += norm("gpt_neox.final_layer_norm", d)
    buffers = []
    for i in range(layers):
        h = f"gpt_neox.layers.{i}"
        tensors += norm(f"{h}.input_layernorm", d) + norm(f"{h}.post_attention_layernorm", d)
        tensors += linear(f"{h}.attention.query_key_value", d, 3 * d) + linear(f"{h}.attention.dense", d, d)
        tensors += linear(f"{h}.mlp.dense_h_to_4h", d, 4 * d) + linear(f"{h}.mlp.dense_4h_to_h", 4 * d, d)
        buffers.append((f"{h}.attention.bias", [1, 1, 2048, 2048], "BOOL"))
        buffers.append((f"{h}.attention.masked_bias", [], "F16"))
        buffers.append((f"{h}.attention.rotary_emb.inv_freq", [d // heads // 8], "F16"))
    return config, tensors, buffers, "F16", "safetensors"


def opt(name, d, layers, heads):
    small = name == "opt-350m"
    d_embed = 512 if small else d
    config = {
        "_name_or_path": f"facebook/{name}", "_remove_final_layer_norm": False, "activation_dropout": 0.0,
        "activation_function": "relu", "architectures": ["OPTForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 2,
        "do_layer_norm_before": not small, "dropout": 0.1, "eos_token_id": 2, "ffn_dim": 4 * d, "hidden_size": d,
        "init_std": 0.02, "layerdrop": 0.0, "max_position_embeddings": 2048, "model_type": "opt",
        "num_attention_heads": heads, "num_hidden_layers": layers, "pad_token_id": 1, "prefix": "</s>",
        "torch_dtype": "float16", "transformers_version": "4.21.0.dev0", "use_cache": True, "vocab_size": 50272,
        "word_embed_proj_dim": d_embed,
    }  # fmt: skip
    p = "model.decoder"
    tensors = [(f"{p}.embed_tokens.weight", [50272, d_embed]), (f"{p}.embed_positions.weight", [2050, d])]
    if small:
        tensors += linear(f"{p}.project_out", d, d_embed, bias=False) + linear(f"{p}.project_in", d_embed, d, bias=False)
    else:
        tensors += norm(f"{p}.final_layer_norm", d)
    for i in range(layers):
        h = f"{p}.layers.{i}"
        for part in ["k", "v", "q", "out"]:
            tensors += linear(f"{h}.self_attn.{part}_proj", d, d)
        tensors += norm(f"{h}.self_attn_layer_norm", d) + norm(f"{h}.final_layer_norm", d)
        tensors += linear(f"{h}.fc1", d, 4 * d) + linear(f"{h}.fc2", 4 * d, d)
    return config, tensors, [], "F16", "torch"


def neo(name, d, layers, heads):
    config = {
        "activation_function": "gelu_new", "architectures": ["GPTNeoForCausalLM"], "attention_dropout": 0,
        "attention_layers": ["global", "local"] * (layers // 2), "attention_types": [[["global", "local"], layers // 2]],
        "bos_token_id": 50256, "embed_dropout": 0, "eos_token_id": 50256, "gradient_checkpointing": False,
        "hidden_size": d, "initializer_range": 0.02, "intermediate_size": None, "layer_norm_epsilon": 1e-05,
        "max_position_embeddings": 2048, "model_type": "gpt_neo", "num_heads": heads, "num_layers": layers,
        "resid_dropout": 0, "summary_activation": None, "summary_first_dropout": 0.1, "summary_proj_to_labels": True,
        "summary_type": "cls_index", "summary_use_proj": True, "transformers_version": "4.9.0.dev0", "use_cache": True,
        "vocab_size": 50257, "window_size": 256,
    }  # fmt: skip
    tensors = [("transformer.wte.weight", [50257, d]), ("transformer.wpe.weight", [2048, d])]
    tensors += norm("transformer.ln_f", d)
    buffers = []
    for i in range(layers):
        h = f"transformer.h.{i}"
        tensors += norm(f"{h}.ln_1", d) + norm(f"{h}.ln_2", d)
        for part in ["k", "v", "q"]:
            tensors += linear(f"{h}.attn.attention.{part}_proj", d, d, bias=False)
        tensors += linear(f"{h}.attn.attention.out_proj", d, d)
        tensors += linear(f"{h}.mlp.c_fc", d, 4 * d) + linear(f"{h}.mlp.c_proj", 4 * d, d)
        if i % 2 == 0:  # only global layers stored a mask
            buffers.append((f"{h}.attn.attention.bias", [1, 1, 2048, 2048], "U8"))
            buffers.append((f"{h}.attn.attention.masked_bias", [], "F32"))
    return config, tensors, buffers, "F32", "safetensors"
