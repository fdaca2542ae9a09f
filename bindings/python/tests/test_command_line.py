"""The module gives what the program gives, to the bit."""

import csv
import json
from pathlib import Path

import circuit_scaling as cs
import numpy as np
import pytest
from conftest import program, read_safetensors

PROMPTS = 60


@pytest.mark.parametrize(
    ("name", "task", "options"),
    [
        ("mini-gpt2-s", "ioi", {}),
        ("mini-gpt2-s", "anti-repeat", {"ablation": "mean", "seed": 3}),
        ("mini-pythia-s", "ioi", {"ablation": "resample", "reference": "same"}),
        ("mini-opt-s", "ioi", {"value_bias": "in-head", "protocol": "published"}),
        ("mini-gpt-neo-s", "ioi", {"heads": ["L1H2", "L0H3"], "hold_out": "templates"}),
    ],
)
def test_a_scan_is_the_programs(tmp_path: Path, name: str, task: str, options: dict) -> None:
    flags = [f"--{key.replace('_', '-')}={','.join(v) if key == 'heads' else v}" for key, v in options.items()]
    common = ["--prompts", PROMPTS, "--resamples", 300, "--memory", "64M"]
    done = program("scan", "--models", name, "--task", task, "--out", tmp_path, *common, *flags)
    assert done.returncode == 0, done.stderr

    scan = cs.load(name).scan(task, prompts=PROMPTS, resamples=300, **options)
    (path,) = (tmp_path / "results").glob("*_logitdiff_scan_*.json")
    assert scan.file == json.loads(path.read_text())
    (path,) = (tmp_path / "results" / "per_prompt").glob("*.safetensors")
    arrays = read_safetensors(path)
    assert np.array_equal(scan.base, arrays["base"]) and np.array_equal(scan.ablated, arrays["ablated"])
    assert np.array_equal(scan.base_correct, arrays["base_correct"] != 0)
    (path,) = (tmp_path / "results" / "prompts").glob("*_mini-*.jsonl")
    assert scan.prompts == [json.loads(line) for line in path.read_text().splitlines()]

    # Summary values agree with the values of the prompts.
    split = np.array([prompt["split"] == scan.file["split"] for prompt in scan.prompts])
    weight = np.array([prompt["weight"] for prompt in scan.prompts])[split]
    differences = scan.ablated[:, split].astype(float) - scan.base[split].astype(float)
    of_heads = [scan.delta[row["layer"], row["head"]] for row in scan.file["heads"]]
    assert np.allclose(np.average(differences, axis=1, weights=weight), of_heads, atol=1e-6)
    assert np.isfinite(scan.delta).sum() == len(scan.heads)


def test_tracing_is_the_programs(study: cs.Study) -> None:
    path = study.folder / "results" / "causal_tracing" / "hero_head_causal_results.json"
    traced = [head for head in json.loads(path.read_text()) if head["model"] == "mini-gpt2-s"]
    assert traced
    trace = cs.load("mini-gpt2-s").trace("ioi", split="held_out", prompts=80)
    for head in traced:
        layer, index = head["layer"], head["head"]
        assert trace.influence[layer, index] == head["mean_ioi_influence"]
        row = trace.influences[trace.heads.index(f"L{layer}H{index}")]
        assert row.astype(np.float32).tolist() == np.float32(head["ioi_influences"]).tolist()
    assert trace.normalised.shape == trace.influence.shape


def test_ablated_sets_are_the_programs(study: cs.Study) -> None:
    path = study.folder / "results" / "ablation" / "hero_vs_random_ablation.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["model"] == "mini-gpt2-s"]
    heroes = [row for row in rows if row["set_type"] == "hero"]
    assert heroes
    sets = [row["heads"].split() for row in heroes]
    for task, key in (("ioi", "ioi"), ("anti-repeat", "anti")):
        ablated = cs.load("mini-gpt2-s").ablate(sets, task, split="held_out", prompts=80)
        assert ablated.accuracy == [float(row[f"acc_{key}"]) for row in heroes]
        assert ablated.mean_diff == [float(row[f"mean_diff_{key}"]) for row in heroes]
        assert ablated.to_pandas()["accuracy"][0] == ablated.base["accuracy"]


def test_the_program_ends_as_the_binary_does() -> None:
    assert program("models").returncode == 0
    done = program("scan", "--models", "nobody", "--task", "ioi")
    assert done.returncode == 1 and done.stderr.startswith("circuit-scaling: ") and done.stderr.count("\n") == 1
    done = program("scan", "--nonsense")
    assert done.returncode == 2 and "Usage: circuit-scaling scan" in done.stderr
