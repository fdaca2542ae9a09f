"""Results and tables as data frames."""

import json
from pathlib import Path

import circuit_scaling as cs
import numpy as np
import pandas
import polars
import pytest
from conftest import program


def test_a_scan_as_a_frame(model: cs.Model) -> None:
    scan = model.scan("ioi", prompts=40, resamples=100)
    frame = scan.to_pandas()
    assert isinstance(frame, pandas.DataFrame) and len(frame) == model.n_layers * model.n_heads
    assert np.array_equal(frame["delta"].to_numpy().reshape(scan.delta.shape), scan.delta)
    assert frame.columns[:3].tolist() == ["layer", "head", "delta"]
    other = scan.to_polars()
    assert isinstance(other, polars.DataFrame) and other.columns == frame.columns.tolist()
    assert other["delta"].to_list() == frame["delta"].tolist()
    # Δ is the direct effect plus the compensation by later layers.
    assert np.allclose(scan.direct + scan.compensation, scan.delta) and (scan.compensation[-1] != scan.delta[-1]).all()
    # What was not measured is missing, not a number.
    few = model.scan("ioi", prompts=4, resamples=100, heads=["L0H1"])
    assert np.isnan(few.delta).sum() == few.delta.size - 1 and np.isnan(few.delta_low).all()
    assert few.to_polars()["delta_ci_low"].null_count() == 1


def test_sets_and_traces_as_frames(model: cs.Model) -> None:
    ablated = model.ablate([["L0H1"], ["L0H1", "L1H1"]], prompts=40)
    frame = ablated.to_pandas()
    assert frame["set"].tolist() == ["", "L0H1", "L0H1 L1H1"] and frame["n_heads"].tolist() == [0, 1, 2]
    assert ablated.correct.shape == ablated.logit_diffs.shape == (3, len(ablated.prompts))
    trace = model.trace("ioi", heads=["L1H0"], prompts=40).to_polars()
    assert trace.select("layer", "head").rows() == [(1, 0)]


def test_a_study_as_frames(study: cs.Study) -> None:
    assert "joint_ioi_anti_repeat_all" in study and len(study) > 10
    for name in study:
        frame, other = study[name], study.to_polars(name)
        assert isinstance(frame, pandas.DataFrame) and frame.columns.tolist() == other.columns, name
        assert len(frame) == other.height, name
    assert {scan["model_name"] for scan in study.scans} == {"mini-gpt2-s", "mini-gpt2-m"}
    figure = study.figures["phase_space_all_heads"]
    assert figure._repr_svg_().lstrip().startswith("<svg")
    assert "mini-gpt2-m" in study._repr_html_() and study.report.is_file() and study.notes
    with pytest.raises(cs.StudyError, match='no table "nothing": available are '):
        study["nothing"]


def test_a_closed_study(study: cs.Study) -> None:
    with cs.Study(study.folder) as again:
        assert len(again) == len(study)
    for use in (lambda: again["head_effects"], lambda: again.figures, lambda: len(again), lambda: again.folder):
        with pytest.raises(cs.StudyError, match="the study is closed"):
            use()
    assert "closed" in repr(again) and "closed" in again._repr_html_()


def test_a_library_that_is_not_there(model: cs.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = model.scan("ioi", prompts=4, resamples=100, heads=["L0H1"])
    monkeypatch.setitem(__import__("sys").modules, "polars", None)
    with pytest.raises(cs.CircuitScalingError, match=r"pip install circuit-scaling\[polars\]"):
        scan.to_polars()


NAMES = ["Mary", "John", "Tom", "Anna", "Paul", "Kate"]


def prompts() -> list[dict]:
    """Custom prompts, their corrupted versions, and one unused column."""
    rows = []
    for i, first in enumerate(NAMES):
        for second in NAMES[i + 1 :]:
            start = f"When {first} and {second} went to the store,"
            clean, corrupted = (f"{start} {name} gave a gift to" for name in (first, second))
            rows.append({"clean": clean, "corrupted": corrupted, "correct": second, "distractor": first, "n": i})
    return rows


@pytest.mark.filterwarnings("ignore:mine. unused columns")
def test_a_frame_is_a_task(tmp_path: Path) -> None:
    model = cs.load("mini-gpt2-m")
    frame = pandas.DataFrame(prompts())
    options = {"resamples": 100, "name": "mine"}
    scan = model.scan(frame, **options)
    assert scan.task == "mine" and np.isfinite(scan.delta).all()
    # As a file, and as a frame of polars, it is the same task.
    frame.to_csv(tmp_path / "mine.csv", index=False)
    done = program(
        "scan", "--models", model.name, "--task", tmp_path / "mine.csv", "--resamples", 100, "--out", tmp_path
    )
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "results").glob("mine_logitdiff_scan_*.json")
    assert json.loads(path.read_text())["heads"] == scan.file["heads"]
    for same in (polars.DataFrame(prompts()), prompts(), tmp_path / "mine.csv"):
        assert model.scan(same, **options).file == scan.file
    trace = model.trace(frame, name="mine")
    assert trace.influences.shape == (len(trace.heads), len(frame)) and trace.n_left_out == 0
    assert model.ablate([["L1H0"]], frame, name="mine").correct.shape == (2, len(frame))


def test_what_a_frame_holds_beside_is_said(model: cs.Model) -> None:
    rows = [*prompts(), {"clean": "Alice met", "correct": "Bartholomew", "distractor": "Wilhelmina"}]
    with pytest.warns(UserWarning) as said:
        scan = model.scan(pandas.DataFrame(rows), resamples=100)
    lines = [str(warning.message) for warning in said]
    assert any("1 row left out" in line for line in lines) and any("unused columns: n" in line for line in lines)
    assert len(scan.prompts) == len(rows) - 1 and all(warning.filename == __file__ for warning in said)
