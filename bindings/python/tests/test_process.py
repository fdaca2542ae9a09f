"""Ctrl-C, progress, and what an import costs."""

import os
import signal
import subprocess
import sys

import circuit_scaling as cs
import pytest

SETUP = {
    "task": "ioi",
    "rows": None,
    "prompts": 2000,
    "seed": 0,
    "protocol": "standard",
    "hold_out": "pairs",
    "ablation": "zero",
    "value_bias": "folded",
    "reference": "abc",
    "resamples": 100,
    "memory": "1G",
}

LONG_SCAN = f"""
import os, signal, threading, time
import circuit_scaling as cs
model = cs.load("mini-gpt2-l")
started, sent = threading.Event(), []
def interrupt():
    started.wait()
    sent.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    model._native.scan({SETUP}, None, lambda done, total: started.set())
except KeyboardInterrupt:
    print(time.monotonic() - sent[0])
# What was computed has stopped too, and the model is as good as before.
time.sleep(0.5)
before = time.process_time()
time.sleep(0.5)
print(time.process_time() - before)
print(model.scan("ioi", prompts=20, resamples=100, heads=["L0H0"]).delta[0, 0])
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of other processes")
def test_ctrl_c_stops_within_a_second() -> None:
    done = subprocess.run([sys.executable, "-c", LONG_SCAN], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    seconds, busy, delta = map(float, done.stdout.split())
    assert seconds < 1.0 and busy < 0.1
    again = cs.load("mini-gpt2-l").scan("ioi", prompts=20, resamples=100, heads=["L0H0"])
    assert delta == again.delta[0, 0]


@pytest.mark.skipif(os.name == "nt", reason="signals of other processes")
def test_ctrl_c_ends_the_program(tmp_path) -> None:
    command = [sys.executable, "-m", "circuit_scaling", "run", "--prompts", "2000", "--out", str(tmp_path / "study")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    # Its first messages are shown while it is still working.
    assert process.stderr is not None and process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert said.splitlines()[-1].startswith("circuit-scaling: ")


def test_an_exception_of_the_progress_stops_the_scan() -> None:
    def refuse(done: int, total: int) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        cs.load("mini-gpt2-l")._native.scan(SETUP, None, refuse)


def test_progress_shows_a_bar(model: cs.Model, capsys: pytest.CaptureFixture[str]) -> None:
    model.scan("ioi", prompts=20, resamples=100, progress=True)
    assert "mini-gpt2-s · ioi: 100%" in capsys.readouterr().err
    model.scan("ioi", prompts=20, resamples=100, progress=False)
    assert not capsys.readouterr().err


def test_import_is_quick_and_loads_little() -> None:
    code = "import sys, time; t = time.process_time(); import circuit_scaling; print(time.process_time() - t, *sys.modules)"
    seconds, *loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split()
    assert not {"numpy", "pandas", "polars", "tqdm", "torch"} & set(loaded)
    # CPU time, since other programs run at the same time.
    assert float(seconds) < 0.2
