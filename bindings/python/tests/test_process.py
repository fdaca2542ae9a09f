"""Ctrl-C, progress, and what an import costs."""

import os
import signal
import subprocess
import sys
import time

import pytest

import circuit_scaling as cs

LONG_SCAN = """
import os, signal, sys, threading, time
import circuit_scaling as cs
model = cs.load("mini-gpt2-l")
sent = []
def interrupt():
    time.sleep(1.0)
    sent.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    model.scan("ioi", prompts=100_000, progress=False)
except KeyboardInterrupt:
    print(time.monotonic() - sent[0])
# The model is as good as before.
print(model.scan("ioi", prompts=20, resamples=100, heads=["L0H0"]).delta[0, 0])
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of other processes")
def test_ctrl_c_stops_within_a_second() -> None:
    done = subprocess.run([sys.executable, "-c", LONG_SCAN], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    seconds, delta = map(float, done.stdout.split())
    assert seconds < 1.0
    again = cs.load("mini-gpt2-l").scan("ioi", prompts=20, resamples=100, heads=["L0H0"])
    assert delta == again.delta[0, 0]


@pytest.mark.skipif(os.name == "nt", reason="signals of other processes")
def test_ctrl_c_ends_the_program(tmp_path) -> None:
    command = [sys.executable, "-m", "circuit_scaling", "run", "--prompts", "2000", "--out", str(tmp_path / "study")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    assert process.wait(timeout=30) == -signal.SIGINT and time.monotonic() - start < 1.0


def test_an_exception_of_the_progress_stops_the_scan(model: cs.Model) -> None:
    def refuse(done: int, total: int) -> None:
        raise RuntimeError("enough")

    setup = {
        "task": "ioi",
        "prompts": 20000,
        "seed": 0,
        "protocol": "standard",
        "hold_out": "pairs",
        "ablation": "zero",
        "value_bias": "folded",
        "reference": "abc",
        "resamples": 100,
        "memory": "1G",
    }
    with pytest.raises(RuntimeError, match="enough"):
        model._native.scan(setup, None, refuse)


def test_progress_shows_a_bar(model: cs.Model, capsys: pytest.CaptureFixture[str]) -> None:
    model.scan("ioi", prompts=20, resamples=100, progress=True)
    assert "mini-gpt2-s · ioi: 100%" in capsys.readouterr().err
    model.scan("ioi", prompts=20, resamples=100, progress=False)
    assert not capsys.readouterr().err


def test_import_is_quick_and_loads_little() -> None:
    code = "import sys, time; t = time.perf_counter(); import circuit_scaling; print(time.perf_counter() - t); print(*sys.modules)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout for _ in range(5)]
    loaded = runs[0].split("\n", 1)[1].split()
    assert not {"numpy", "pandas", "polars", "tqdm", "torch"} & set(loaded)
    # The best of five: other programs run beside the tests.
    assert min(float(run.split()[0]) for run in runs) < 0.2
