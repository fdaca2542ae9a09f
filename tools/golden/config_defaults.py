"""Every setting of every family's default config, as this version of Transformers has it.

Usage: python config_defaults.py ../../crates/model/tests/golden
"""

import importlib
import json
import sys
from pathlib import Path

import transformers

CLASSES = {
    "gpt2": "GPT2Config",
    "gpt_neox": "GPTNeoXConfig",
    "opt": "OPTConfig",
    "gpt_neo": "GPTNeoConfig",
    "gptj": "GPTJConfig",
    "llama": "LlamaConfig",
    "mistral": "MistralConfig",
    "qwen2": "Qwen2Config",
    "qwen3": "Qwen3Config",
    "gemma2": "Gemma2Config",
    "gemma3": "Gemma3TextConfig",
    "olmo2": "Olmo2Config",
    "phi3": "Phi3Config",
    "stablelm": "StableLmConfig",
}


def main():
    defaults = {}
    for module, name in CLASSES.items():
        config = getattr(importlib.import_module(f"transformers.models.{module}"), name)()
        settings = json.loads(config.to_json_string(use_diff=False))
        # Switches of generation and training that are off.
        defaults[config.model_type] = {key: value for key, value in settings.items() if value not in (None, {}, [])}
    path = Path(sys.argv[1]) / f"config-defaults-{transformers.__version__}.json"
    path.write_text(json.dumps(defaults, indent=1, sort_keys=True) + "\n")


main()
