"""Tokens, logits with edits, and activations."""

import gc
import threading
import time

import circuit_scaling as cs
import numpy as np
import pytest
from conftest import IOI


def test_tokens_have_one_bos(model: cs.Model) -> None:
    tokens = model.tokens(IOI)
    assert tokens[0] == model.bos_id and tokens.count(model.bos_id) == 1
    assert model.text(tokens[1:]) == IOI


def test_logits_read_what_is_asked(model: cs.Model) -> None:
    alone, longer = model.tokens(IOI), model.tokens("Alice met Bob. Alice talked to")
    whole = model.logits([alone, longer])
    assert whole.shape == (2, model.d_vocab) and whole.dtype == np.float64
    # Other prompts, of other lengths, do not change a bit of a prompt's results, nor does the form of the prompt.
    assert np.array_equal(model.logits(IOI)[0], whole[0])
    assert np.array_equal(model.logits([np.array(alone)])[0], whole[0])
    some = model.logits([alone, longer], read=[5, 2, 5])
    assert np.array_equal(some, whole[:, [5, 2, 5]])
    assert np.array_equal(model.logits([alone, longer], memory="4M"), whole)


def test_edits(model: cs.Model) -> None:
    corrupted = IOI.replace("John gave", "Mary gave")
    plain = model.logits(IOI)
    every = [f"L{layer}H{head}" for layer in range(model.n_layers) for head in range(model.n_heads)]
    # All streams of the last layers from another run are that run's output.
    assert not np.array_equal(model.logits(IOI, edits=[cs.zero("L0H1")]), plain)
    source = model.tokens(IOI)
    for stream in ("q", "k", "v", "z", "pattern"):
        unchanged = model.logits(IOI, edits=[cs.patch(stream, every, source=[source])])
        assert np.allclose(unchanged, plain, atol=1e-4), stream
    # A mean over one prompt is its value.
    resampled = model.logits(IOI, edits=[cs.resample("L1H1", source=corrupted)])
    averaged = model.logits(IOI, edits=[cs.mean("L1H1", reference=[corrupted, "a prompt of another length"])])
    assert np.allclose(resampled, averaged, atol=1e-5) and not np.array_equal(resampled, plain)
    together = model.logits(IOI, edits=[cs.zero(["L0H1", "L1H1"])])
    assert np.array_equal(together, model.logits(IOI, edits=[cs.zero("L1H1"), cs.zero("L0H1")]))


def test_an_edit_is_the_scans(model: cs.Model) -> None:
    scan = model.scan("ioi", prompts=40, resamples=100, heads="L1H2")
    prompts = [prompt["token_ids"] for prompt in scan.prompts]
    edited = model.logits(prompts, edits=[cs.zero("L1H2")])
    ids = [(prompt["correct_id"], prompt["distractor_id"]) for prompt in scan.prompts]
    differences = [row[correct] - row[distractor] for row, (correct, distractor) in zip(edited, ids, strict=True)]
    assert np.array_equal(np.float32(differences), scan.ablated[0])


def test_cache(model: cs.Model) -> None:
    cache = model.cache([IOI, "Alice met Bob."])
    assert len(cache) == 2
    first = cache[0]
    n, layers, heads = len(first.tokens), model.n_layers, model.n_heads
    assert first.resid_pre.shape == first.resid_mid.shape == first.resid_post.shape == (layers, n, model.d_model)
    assert first.q.shape == first.z.shape == (layers, n, heads, model.d_head)
    assert first.k.shape == first.v.shape == (layers, n, model.n_kv_heads, model.d_head)
    assert first.pattern.shape == (layers, heads, n, n)
    assert np.array_equal(first.resid_pre[1:], first.resid_post[:-1])
    assert np.allclose(first.pattern.sum(-1), 1, atol=1e-5) and not np.triu(first.pattern, 1).any()
    # z is the pattern's mean of values.
    v = np.repeat(first.v, heads // model.n_kv_heads, axis=2)
    assert np.allclose(np.einsum("lhqk,lkhd->lqhd", first.pattern, v), first.z, atol=1e-5)
    assert model.cache([IOI, IOI], "z").stack("z").shape == (2, layers, n, heads, model.d_head)
    with pytest.raises(cs.InputError, match=r"\"q\" was not kept: available are z"):
        _ = model.cache(IOI, ["z"])[0].q
    with pytest.raises(cs.InputError, match="cannot be stacked"):
        cache.stack("z")


def test_parallel_blocks_have_no_resid_mid() -> None:
    with pytest.raises(cs.InputError, match="in parallel"):
        _ = cs.load("mini-pythia-s").cache(IOI)[0].resid_mid


def test_computing_leaves_python_free(model: cs.Model) -> None:
    big = cs.load("mini-gpt2-l")
    ticks = 0
    done = threading.Event()

    def scan() -> None:
        big.scan("ioi", prompts=200, resamples=5000, progress=False)
        done.set()

    thread = threading.Thread(target=scan)
    thread.start()
    start = time.monotonic()
    while not done.is_set():
        time.sleep(0.005)
        ticks += 1
    # Twenty per second are enough; if the lock were held, there would be none.
    assert ticks > 20 * (time.monotonic() - start)
    thread.join()


def test_calls_leak_nothing(model: cs.Model) -> None:
    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    def calls(n: int) -> None:
        for _ in range(n):
            model.logits(IOI, edits=[cs.zero("L1H1")])
            model.cache(IOI, ["z", "pattern"])
        gc.collect()

    calls(200)
    before = resident()
    calls(1000)
    # An array of 4 KB a call would be 4 MB.
    assert resident() - before < 2 << 20
