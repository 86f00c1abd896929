"""What is sent carries its mark and its abstentions, and where a gate is required, no answer that it did not pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from dciodvfy import dciodvfy_errors
from isocenter.clinic.ports import Route, Work, Worked
from isocenter.core.prediction import Likeness
from isocenter.data.images.sr import read_sr
from isocenter.testing import phantom
from isocenter.testing.dicom_phantom import write_ct_series
from isocenter.verbs import read as reading
from isocenter.verbs.clinic.tasks import answer
from isocenter.verbs.clinic.vigilance.inputs import noise_of, read_seen
from isocenter.verbs.clinic.vigilance.rows import rows_of
from isocenter.verbs.result import read_result
from toy_plugin import install_toy

MARK = "AI result, not for diagnosis"
TOYS = {"toy-bright": "BRIGHT", "toy-point": "POINT"}


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_toy(tmp_path_factory.mktemp("toys"), TOYS)


@pytest.fixture
def study(tmp_path: Path, toys: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(toys))
    folder = tmp_path / "study"
    write_ct_series(folder, phantom(3, shape=(4, 8, 9)))
    return folder


def ask(study: Path, *tasks: str, **settings: object) -> tuple[Work, Worked]:
    out = study.parent / f"out-{len(list(study.parent.iterdir()))}"
    work = Work("1.2", 1, Route("r", tasks), study, "0", out)
    return work, answer(work, {"mark": MARK, **settings})


@contextmanager
def gated(monkeypatch: pytest.MonkeyPatch, likeness: Likeness | None) -> Iterator[None]:
    """Have every answer carry what a gate said."""
    asked = reading.run_task

    def run(*args: object, **more: object):
        found = asked(*args, **more)
        if found.prediction.abstained is not None:
            return found
        return replace(found, prediction=replace(found.prediction, likeness=likeness))

    with monkeypatch.context() as patch:
        patch.setattr(reading, "run_task", run)
        yield


def test_every_object_carries_the_mark_and_validates(study: Path) -> None:
    before = set(dciodvfy_errors(next(study.rglob("*.dcm"))))
    _, worked = ask(study, "toy-bright", "toy-point", rtstruct=True)
    found = {}
    for file in worked.files:
        dataset = pydicom.dcmread(file.path)
        found[dataset.Modality] = dataset
        assert dataset.SeriesDescription.startswith(MARK) and len(dataset.SeriesDescription) <= 64
        assert set(dciodvfy_errors(file.path)) <= before
    assert set(found) == {"SEG", "SR", "RTSTRUCT"}
    assert found["SEG"].ContentDescription == MARK and found["RTSTRUCT"].StructureSetDescription == MARK
    texts = read_sr(next(f.path for f in worked.files if f.path.name.endswith(".sr.dcm"))).texts
    assert texts.index(MARK) < min(n for n, t in enumerate(texts) if t.startswith("Task "))
    assert any(t.startswith("Task toy-point abstained: needs a prompt") for t in texts), "one answered, one did not"
    assert {s.task: s.state for s in worked.said} == {"toy-bright": "answered", "toy-point": "abstained"}


def test_where_all_abstain_a_report_says_so_with_the_mark(study: Path) -> None:
    _, worked = ask(study, "toy-point")
    (file,) = worked.files
    texts = read_sr(file.path).texts
    assert MARK in texts and any("abstained: needs a prompt" in t for t in texts)
    assert not set(dciodvfy_errors(file.path)) - set(dciodvfy_errors(next(study.rglob("*.dcm"))))


def test_an_image_that_nothing_answered_is_told_beside_one_that_was(study: Path) -> None:
    flat = phantom(5, shape=(1, 8, 9))
    write_ct_series(study / "other", flat, change=_other_series)
    for file in (study / "other").iterdir():
        file.rename(study / f"other-{file.name}")
    (study / "other").rmdir()
    work, worked = ask(study, "toy-bright")
    assert len(read_result(work.out).images) == 2
    assert [s.state for s in worked.said] == ["answered"]
    names = sorted(f.path.name for f in worked.files)
    assert names == ["image-0.sr.dcm", "image-0_toy-bright.seg.dcm", "image-1.sr.dcm", "image-1_toy-bright.seg.dcm"]


def _other_series(index: int, dataset):
    dataset.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.77"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.3680043.8.498.77.{index}"
    return dataset


@pytest.mark.parametrize(
    ("likeness", "gate", "passes"),
    [
        (None, "own", True),
        (None, "required", False),
        (Likeness(0.1, 0.6, 0.05, "alike"), "required", True),
        (Likeness(9.0, 0.01, 0.05, "strange"), "required", False),
        (Likeness(9.0, 0.01, 0.05, "strange"), "own", False),
    ],
)
def test_no_answer_passes_a_gate_that_did_not_let_it(
    study: Path, monkeypatch: pytest.MonkeyPatch, likeness: Likeness | None, gate: str, passes: bool
) -> None:
    with gated(monkeypatch, likeness):
        work, worked = ask(study, "toy-bright", gate=gate)
    assert [s.state for s in worked.said] == ["answered" if passes else "abstained"]
    kept = {pydicom.dcmread(f.path, stop_before_pixels=True).Modality for f in worked.files}
    assert kept == ({"SEG", "SR"} if passes else {"SR"})
    if not passes:
        assert any("withheld" in t for t in read_sr(worked.files[0].path).texts)
    (row,) = rows_of(work, "live")
    assert row.state == ("answered" if passes else "abstained")
    assert row.gated is (likeness is not None)
    assert row.reason == ("" if passes else "unlike" if likeness else "other")


def test_what_is_observed_is_numbers_and_words_of_closed_lists(study: Path) -> None:
    work, _ = ask(study, "toy-bright", "toy-point")
    asked, seen = read_seen(work.out)
    assert asked == ("toy-bright", "toy-point") and set(seen) == {0}
    header = pydicom.dcmread(next(study.rglob("*.dcm")))
    text = (work.out / "observed.json").read_text()
    for keyword in ("PatientID", "PatientName", "StudyDescription", "SeriesDescription", "Manufacturer"):
        value = str(header.get(keyword, ""))
        assert len(value) < 3 or value not in text, keyword
    numbers = seen[0].numbers
    assert (numbers["slices"], numbers["rows"], numbers["columns"]) == (4, 8, 9)
    assert numbers["spacing z"] == pytest.approx(2.5, abs=0.01)
    assert numbers["intensity p5"] <= numbers["intensity p50"] <= numbers["intensity p95"]
    assert np.isfinite(list(numbers.values())).all() and numbers["noise"] >= 0
    bright, point = rows_of(work, "live")
    assert (bright.state, bright.weights, bright.model, bright.gated) == ("answered", "", "toy 1", False)
    assert bright.numbers["volume of bright"] > 0 and bright.words["modality"] == "CT"
    assert (point.state, point.reason) == ("abstained", "prompt")
    assert bright.key == rows_of(work, "live")[0].key != rows_of(work, "candidate")[0].key


def test_noise_is_measured_in_the_image_s_own_unit() -> None:
    rng = np.random.default_rng(0)
    ramp = np.broadcast_to(np.arange(200.0), (5, 200, 200))
    assert noise_of(ramp + rng.normal(0, 12, ramp.shape)) == pytest.approx(12, rel=0.05)
    assert noise_of(ramp) == pytest.approx(0, abs=0.1)
    assert noise_of(np.zeros((1, 2, 9))) == 0.0
