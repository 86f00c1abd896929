"""Answers ahead: provisional, marked, superseded; and the final answer is the batch answer, bit for bit."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks._streaming_task import write_unskilled
from pydicom import dcmread

from arrival_cases import body, files_of
from isocenter.clinic.arrival import FolderMemo
from isocenter.clinic.ports import Route, Work
from isocenter.core.ucum import convert_units
from isocenter.verbs.clinic.ahead import Memos, answer_ahead, answer_warm, marked_provisional
from isocenter.verbs.clinic.critical import CriticalRule, critical_findings
from isocenter.verbs.clinic.tasks import answer
from isocenter.verbs.result import read_result

STUDY = "1.2.3"
SMALL = (14, 32, 32)
SETTINGS: dict[str, object] = {"seed": 0}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("task") / "unskilled"
    return write_unskilled(folder, body(SMALL), widths=(2, 4), window=(4, 32, 32))


@pytest.fixture(autouse=True)
def _no_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "nice", lambda _by: 0)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts what was remembered and what was not."""
    counted: Counter[str] = Counter()
    plain = FolderMemo.get

    def get(self: FolderMemo, key: str) -> np.ndarray | None:
        found = plain(self, key)
        counted["missed" if found is None else "found"] += 1
        return found

    monkeypatch.setattr(FolderMemo, "get", get)
    return counted


def work_of(folder: Path, task: Path | str, files: list[Path], out: str) -> Work:
    landed = folder / f"landed-{out}"
    shutil.rmtree(landed, ignore_errors=True)
    landed.mkdir(parents=True)
    (folder / "out").mkdir(exist_ok=True)
    for file in files:
        os.link(file, landed / file.name)
    route = Route("r", (str(task),), ("pacs",))
    return Work(STUDY, 1, route, landed, "hash", folder / "out" / out)


def contents(work: Work) -> dict[str, object]:
    """Return all of a result that does not say when it was made, or how long it took."""
    found: dict[str, object] = {
        f.name: f.read_bytes() for f in work.out.iterdir() if f.name.endswith((".dcm", ".nii.gz", ".png"))
    }
    predictions = [p.model_copy(update={"seconds": 0.0}) for p in read_result(work.out).predictions]
    return {**found, "predictions": [p.model_dump_json() for p in predictions]}


@pytest.mark.parametrize("back", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["forth", "back"])
def test_the_final_answer_is_the_batch_answer_and_looks_at_less(
    tmp_path: Path, task: Path, looks: Counter[str], back: bool
) -> None:
    files = files_of(tmp_path / "in", body(SMALL), transfer_syntax_uid="1.2.840.10008.1.2.4.90")
    files = files[::-1] if back else files
    batch = work_of(tmp_path, task, files, "batch")
    answer(batch, SETTINGS)
    memos = Memos(tmp_path / "store", 1 << 30, 0)
    for count in (8, 12):
        ahead = work_of(tmp_path, task, files[:count], f"ahead-{count}")
        answer_ahead(memos, ahead, SETTINGS)
    looks.clear()
    final = work_of(tmp_path, task, files, "final")
    answer_warm(memos, final, SETTINGS)
    assert contents(final) == contents(batch)
    assert len(contents(final)) >= 4
    assert looks["found"] > looks["missed"] > 0, looks
    # Of 14 slices, windows of 4 at every second: all but the last two were there; two views of each of four places.
    assert looks["missed"] <= 2 + 2 * 2 * 4


@pytest.mark.slow
def test_a_memo_that_is_torn_or_altered_changes_nothing(tmp_path: Path, task: Path) -> None:
    files = files_of(tmp_path / "in", body(SMALL))
    batch = work_of(tmp_path, task, files, "batch")
    answer(batch, SETTINGS)
    memos = Memos(tmp_path / "store", 1 << 30, 0)
    answer_ahead(memos, work_of(tmp_path, task, files, "ahead"), SETTINGS)
    kept = sorted(memos.of(STUDY).folder.iterdir())
    for number, file in enumerate(kept):
        content = bytearray(file.read_bytes())
        content[-1 - number % 40] ^= 255
        file.write_bytes(content[: len(content) - number % 3])
    final = work_of(tmp_path, task, files, "final")
    answer_warm(memos, final, SETTINGS)
    assert contents(final) == contents(batch)
    assert len(list(memos.of(STUDY).folder.iterdir())) < len(kept), "what was not sound is gone"


def test_what_is_provisional_can_be_taken_for_nothing_else(tmp_path: Path, task: Path) -> None:
    files = files_of(tmp_path / "in", body(SMALL))
    work = work_of(tmp_path, task, files, "whole")
    found = answer(work, SETTINGS)
    originals = [dcmread(f.path) for f in found.files]
    marked = [dcmread(path) for path, _ in marked_provisional([f.path for f in found.files], tmp_path / "marked")]
    assert len(marked) == len(originals) == 2
    uids = {str(d.SOPInstanceUID) for d in originals}
    series = {str(d.SeriesInstanceUID) for d in originals}
    for dataset in marked:
        assert str(dataset.SOPInstanceUID) not in uids
        assert str(dataset.SeriesInstanceUID) not in series
        assert str(dataset.file_meta.MediaStorageSOPInstanceUID) == str(dataset.SOPInstanceUID)
        assert str(dataset.SeriesDescription).startswith("PROVISIONAL: ")
        assert not any(uid in str(dataset) for uid in uids | series), "they refer to each other, not to final ones"
        assert str(dataset.StudyInstanceUID) == str(originals[0].StudyInstanceUID)
    report = next(d for d in marked if d.Modality == "SR")
    assert (report.CompletionFlag, report.PreliminaryFlag) == ("PARTIAL", "PRELIMINARY")
    segmentation = next(d for d in marked if d.Modality == "SEG")
    assert str(segmentation.SOPInstanceUID) in str(report)


def test_what_is_critical_is_told_without_its_numbers(tmp_path: Path, task: Path) -> None:
    work = work_of(tmp_path, task, files_of(tmp_path / "in", body(SMALL)), "whole")
    answer(work, SETTINGS)
    result = read_result(work.out)
    (prediction,) = result.predictions
    measured = next(m for m in prediction.measurements if m.segment == 1 and m.derivation is None)
    exact = CriticalRule("unskilled", measured.name.value, at_least=measured.value, at_most=measured.value,
                         unit=measured.unit.value)  # fmt: skip
    assert critical_findings(result, [exact]) == (f"unskilled: {measured.name.meaning}",)
    assert critical_findings(result, [replace(exact, segment=prediction.segments[0].label)])
    litres = float(convert_units(np.array([measured.value]), measured.unit.value, "L")[0])
    assert critical_findings(result, [replace(exact, unit="L", at_least=0.99 * litres, at_most=1.01 * litres)])
    assert critical_findings(result, [replace(exact, unit="L", at_least=1.01 * litres, at_most=None)]) == ()
    assert critical_findings(result, [replace(exact, unit="mm", at_least=0.0, at_most=None)]) == ()
    for other in (
        replace(exact, task="another"), replace(exact, finding="1"), replace(exact, segment="another"),
        replace(exact, at_least=measured.value + 1e-9, at_most=None),
        replace(exact, at_most=measured.value - 1e-9, at_least=None),
    ):  # fmt: skip
        assert critical_findings(result, [other]) == ()
    assert json.dumps(critical_findings(result, [exact])).count(str(measured.value)) == 0
