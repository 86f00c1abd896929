"""What one format refuses is told, and everything else is written; what is proven wrong leaves nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread

from e2e.conftest import Run, ct_image, marked
from isocenter.core.errors import OutputError, ProofError
from isocenter.testing.dicom_phantom import write_ct_series
from isocenter.verbs import writing


def _no_frame_of_reference(index: int, dataset: Dataset) -> Dataset:
    del dataset.FrameOfReferenceUID
    return marked(index, dataset)


def _two_studies(index: int, dataset: Dataset) -> Dataset:
    if index >= 3:
        dataset.StudyInstanceUID = "1.2.3.4"
    return marked(index, dataset)


def _half_without_identifier(index: int, dataset: Dataset) -> Dataset:
    dataset = marked(index, dataset)
    if index < 3:
        dataset.PatientID = ""
    return dataset


def _read(command: Run, change: Callable[[int, Dataset], Dataset], folder: Path) -> tuple[Any, list[str]]:
    write_ct_series(folder / "in", ct_image(), change=change)
    code, _, errors = command("read", folder / "in", "--out", folder / "out", "--task", "toy-bright", "--rtstruct")
    assert (code, errors) == (0, "")
    return json.loads((folder / "out" / "result.json").read_text("utf-8")), [p.name for p in (folder / "out").iterdir()]


def test_without_a_frame_of_reference_there_is_no_seg_and_everything_else(command: Run, tmp_path: Path) -> None:
    document, names = _read(command, _no_frame_of_reference, tmp_path)
    (item,) = document["not_done"]
    assert item["what"] == "DICOM SEG of toy-bright, image 0" and "names a frame of reference" in item["why"]
    assert [f["format"] for f in document["predictions"][0]["files"]] == ["NIfTI", "DICOM RTSTRUCT"]
    assert "image-0.sr.dcm" in names and not [n for n in names if n.startswith(".partial")]


def test_two_studies_in_one_series_have_no_dicom_and_still_an_answer(command: Run, tmp_path: Path) -> None:
    document, names = _read(command, _two_studies, tmp_path)
    assert [n["what"].split(" of")[0] for n in document["not_done"]] == ["DICOM SEG", "RTSTRUCT", "DICOM SR"]
    assert all("of two studies" in n["why"] for n in document["not_done"])
    assert [f["format"] for f in document["predictions"][0]["files"]] == ["NIfTI"]
    assert not [n for n in names if n.endswith(".dcm")]


def test_an_identifier_that_half_of_the_files_leave_out_is_no_second_patient(command: Run, tmp_path: Path) -> None:
    document, names = _read(command, _half_without_identifier, tmp_path)
    assert document["not_done"] == []
    written = [n for n in names if n.endswith(".dcm")]
    assert len(written) == 3
    assert {dcmread(tmp_path / "out" / n, stop_before_pixels=True).PatientID for n in written} == {"ZEBRA-ID-7"}


@pytest.mark.parametrize(("error", "code"), [(ProofError, 3), (OutputError, 6)])
def test_a_failed_proof_or_a_full_disk_leaves_nothing(
    command: Run, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception], code: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error("mirrored, or full")

    monkeypatch.setattr(writing, "write_seg", fail)
    got, _, errors = command("read", study, "--out", tmp_path / "out", "--task", "toy-bright")
    assert got == code and "mirrored, or full" in errors
    assert list(tmp_path.iterdir()) == []
