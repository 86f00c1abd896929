"""A study goes in, a proven result comes out; twice the same, and without a patient's value in any text."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest

import isocenter
from e2e.conftest import MARKERS, Run, ct_image
from isocenter.core import Mask
from isocenter.core.errors import ConfigError
from isocenter.data.images import read_nifti_mask
from isocenter.data.images.rtstruct import read_rtstruct
from isocenter.data.images.seg import read_seg
from isocenter.data.images.sr import read_sr
from unit.data.images.test_discover import medium_of


def _result(folder: Path) -> Any:
    return json.loads((folder / "result.json").read_text("utf-8"))


def _bright() -> np.ndarray:
    values = ct_image().array[0]
    return values > values.mean()


def test_everything_is_written_and_lies_in_place(command: Run, study: Path, tmp_path: Path) -> None:
    out = tmp_path / "result"
    code, text, errors = command("read", study, "--out", out, "--task", "toy-bright", "--rtstruct")
    assert (code, errors) == (0, "")
    assert "toy-bright, image 0:" in text and "Volume" in text
    names = sorted(p.name for p in out.iterdir())
    assert names == [
        "config.json", "image-0.sr.dcm", "image-0_toy-bright.nii.gz", "image-0_toy-bright.rtstruct.dcm",
        "image-0_toy-bright.seg.dcm", "inputs.json", "preview.png", "report.html", "result.json",
    ]  # fmt: skip
    expected, grid = _bright(), ct_image().geometry
    for mask in (
        read_nifti_mask(out / "image-0_toy-bright.nii.gz"),
        read_rtstruct(out / "image-0_toy-bright.rtstruct.dcm", grid),
        read_seg(out / "image-0_toy-bright.seg.dcm"),
    ):
        assert isinstance(mask, Mask)
        assert _points(mask.segment_array(1), mask) == _points(expected, Mask(expected[None], grid, mask.segments[:1]))
    document = _result(out)
    answer = document["predictions"][0]
    volume = next(m for m in answer["measurements"] if m["name"]["meaning"] == "Volume")
    assert volume["value"] == pytest.approx(expected.sum() * 2.5 * 0.8 * 0.7 / 1000)
    assert volume["unit"]["value"] == "mL"
    for file in answer["files"]:
        assert file["proof"]["segments"][0]["voxels"] == expected.sum()
        assert file["proof"]["segments"][0]["centroid_error_mm"] <= 0.01
    for file in [*answer["files"], *document["files"]]:
        assert hashlib.sha256((out / file["path"]).read_bytes()).hexdigest() == file["sha256"]
    groups = read_sr(out / "image-0.sr.dcm").groups
    assert any(m.value == pytest.approx(volume["value"], rel=1e-5) for g in groups for m in g.measurements)


def _points(inside: np.ndarray, mask: Mask) -> set[tuple[float, float, float]]:
    """Return the centres of voxels in patient mm, to the hundredth."""
    return {tuple(p) for p in mask.geometry.to_world(np.argwhere(inside)).round(2).tolist()}  # type: ignore[misc]


def test_a_second_run_gives_the_same_bytes(command: Run, study: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert command("read", study, "--out", tmp_path / name, "--task", "toy-bright", "--rtstruct")[0] == 0
    for first in (tmp_path / "one").iterdir():
        if first.suffix != ".json" and first.name != "report.html":
            assert first.read_bytes() == (tmp_path / "two" / first.name).read_bytes(), first.name
    one, two = _result(tmp_path / "one"), _result(tmp_path / "two")
    for document in (one, two):
        document.pop("created")
        document["provenance"].pop("seconds")
        for entry in document["predictions"]:
            entry.pop("seconds")
    assert one == two


def test_no_value_of_the_patient_is_in_any_text(command: Run, study: Path, tmp_path: Path) -> None:
    code, text, errors = command("read", study, "--out", tmp_path / "r", "--task", "toy-bright", "--rtstruct")
    assert code == 0
    seen = (
        text
        + errors
        + "".join(
            p.read_text("utf-8", errors="ignore") for p in (tmp_path / "r").iterdir() if p.suffix in (".json", ".html")
        )
    )
    assert [m for m in MARKERS if m in seen] == []
    header = pydicom.dcmread(tmp_path / "r" / "image-0_toy-bright.seg.dcm", stop_before_pixels=True)
    assert str(header.PatientID) == MARKERS[1], "the DICOM files belong to the patient and say so"


def test_the_others_abstain_with_a_reason(command: Run, study: Path, tmp_path: Path) -> None:
    code, text, _ = command(
        "read", study, "--out", tmp_path / "r", "--json", "--task", "toy-bright", "--task", "toy-point"
    )
    assert code == 0
    document = json.loads(text)
    reasons = {p["task"]: p["abstained"] for p in document["predictions"]}
    assert reasons["toy-bright"] is None
    assert "needs a prompt (point)" in reasons["toy-point"]
    assert document == _result(tmp_path / "r")
    assert document["provenance"]["config"]["tasks"] == ["toy-bright", "toy-point"]


def test_every_installed_task_is_asked_by_default(
    command: Run, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    code, text, errors = command("read", study, "--out", tmp_path / "r", "--json")
    assert (code, errors) == (0, "a task that prints\n")
    reasons = {p["task"]: p["abstained"] for p in json.loads(text)["predictions"]}
    assert {"toy-bright", "toy-slow", "toy-broken", "toy-point", "interact", "lungs-cxr", "hippocampus-t1"} <= set(
        reasons
    )
    assert reasons["toy-bright"] is None
    assert reasons["lungs-cxr"] == "needs modality CR or DX or RG, this image is CT"
    assert reasons["toy-broken"] == "task 'toy-broken' failed with RuntimeError; this is a defect of the task"


def test_prompts_reach_their_task_with_their_codes(command: Run, study: Path, tmp_path: Path) -> None:
    kidney = {"value": "64033007", "scheme": "SCT", "meaning": "Kidney"}
    point = {"kind": "point", "coordinates": [[-20.0, 53.0, 120.0]]}
    target = {"label": "Left kidney", "type": kidney, "laterality": "left", "prompts": [point]}
    prompts = tmp_path / "p.json"
    prompts.write_text(json.dumps({"prompts_version": "1.0", "targets": [target]}), "utf-8")
    result = isocenter.read(study, tmp_path / "r", tasks=("toy-point",), prompts=prompts)
    answer = result.answered[0]
    assert answer.segments[0].type.meaning == "Kidney"
    assert answer.segments[0].laterality is not None and answer.segments[0].laterality.meaning == "Left"
    assert answer.prompts[0].coordinates == ((-20.0, 53.0, 120.0),)
    assert result.provenance.prompts_sha256 == hashlib.sha256(prompts.read_bytes()).hexdigest()
    segment = read_seg(tmp_path / "r" / "image-0_toy-point.seg.dcm").segments[0]
    assert (segment.label, segment.type.value) == ("Left kidney", "64033007")


def test_what_the_user_states_fills_gaps_only(command: Run, study: Path, tmp_path: Path) -> None:
    path = tmp_path / "plain.nii.gz"
    nibabel.save(nibabel.Nifti1Image(ct_image().array[0].T, np.diag([-0.7, -0.8, 2.5, 1.0])), path)
    code, _, errors = command("read", path, "--out", tmp_path / "a", "--task", "toy-bright")
    assert code == 4 and errors.count("\n") == 1 and "every task abstained" in errors
    assert _result(tmp_path / "a")["predictions"][0]["abstained"] == "needs modality CT, this image is unknown"
    code, _, _ = command(
        "read", path, "--out", tmp_path / "b", "--task", "toy-bright", "--modality", "CT", "--body-part", "CHEST"
    )
    assert code == 0
    document = _result(tmp_path / "b")
    assert document["images"][0]["modality"] == "CT"
    assert document["images"][0]["stated"] == ["modality", "body_part"]
    assert document["not_done"][0]["what"] == "DICOM SEG and SR of image 0"
    stated = isocenter.read(study, tmp_path / "c", tasks=("toy-bright",), modality="MR").images[0]
    assert (stated.modality, stated.stated) == ("CT", ())


def test_the_page_needs_nothing_else(command: Run, study: Path, tmp_path: Path) -> None:
    assert command("read", study, "--out", tmp_path / "r", "--task", "toy-bright")[0] == 0
    page = (tmp_path / "r" / "report.html").read_text("utf-8")
    assert "data:image/png;base64," in page
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page


def test_a_reader_is_a_plugin(command: Run, study: Path, tmp_path: Path) -> None:
    code, text, _ = command(
        "read", study, "--out", tmp_path / "r", "--reader", "toy-reader", "--task", "toy-bright", "--json"
    )
    assert code == 0
    assert json.loads(text)["images"][0]["geometry"]["shape_zyx"] == [2, 3, 5]
    code, _, errors = command("read", study, "--out", tmp_path / "s", "--reader", "none")
    assert code == 5 and "no plug-in 'none' in isocenter.readers; installed: images, toy-reader" in errors


def test_what_came_with_the_images_is_told(command: Run, study: Path, tmp_path: Path) -> None:
    both = tmp_path / "in"
    assert command("read", study, "--out", tmp_path / "a", "--task", "toy-bright", "--rtstruct")[0] == 0
    shutil.copytree(study, both)
    for file in (tmp_path / "a").glob("*.dcm"):
        shutil.copy(file, both)
    code, _, errors = command("read", both, "--out", tmp_path / "b", "--task", "toy-bright")
    assert (code, errors) == (0, "")
    told = "2 segmentations and 1 report came with the images; read, and not part of this result"
    assert told in json.loads((tmp_path / "b" / "result.json").read_text("utf-8"))["study"]["notes"]
    assert told in (tmp_path / "b" / "report.html").read_text("utf-8")


def test_overwrite_replaces_a_result_and_nothing_else(command: Run, study: Path, tmp_path: Path) -> None:
    out = tmp_path / "r"
    assert command("read", study, "--out", out, "--task", "toy-bright")[0] == 0
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    code, _, errors = command("read", study, "--out", out, "--task", "toy-bright")
    assert code == 6 and "not empty" in errors and "--overwrite" in errors
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    assert command("read", study, "--out", out, "--task", "toy-bright", "--overwrite")[0] == 0
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work", "utf-8")
    code, _, errors = command("read", study, "--out", precious, "--task", "toy-bright", "--overwrite")
    assert code == 2 and "does not hold an Isocenter result" in errors
    assert (precious / "thesis.txt").read_text("utf-8") == "years of work"


def test_the_result_never_lies_in_the_study(command: Run, study: Path) -> None:
    before = sorted(study.iterdir())
    code, _, errors = command("read", study, "--out", study / "result")
    assert code == 2 and "write the result outside the study's folder" in errors
    assert sorted(study.iterdir()) == before


def test_the_function_checks_its_settings(study: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="setting colour: Extra inputs are not permitted"):
        isocenter.read(study, tmp_path / "r", colour="red")
    with pytest.raises(ConfigError, match="setting on_irregular"):
        isocenter.read(study, tmp_path / "r", on_irregular="guess")
    with pytest.raises(ConfigError, match=r"no task 'nothing'; installed: adrenal-shape, .*, lungs-cxr"):
        isocenter.read(study, tmp_path / "r", tasks=("nothing",))
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    "name",
    ["mask.nii.gz", "mask.nrrd", "mask.mha", "mask.dcm", "mask.rtstruct.dcm", "M.NII.GZ", "M.NRRD", "M.MHA", "M.DCM"],
)
def test_segment_writes_the_format_that_the_name_says(command: Run, study: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    code, text, errors = command("segment", study, "--task", "toy-bright", "--out", out, "--json")
    assert (code, errors) == (0, "")
    answer = json.loads(text)
    assert answer["files"][0]["proof"]["segments"][0]["voxels"] == _bright().sum()
    assert sorted(p.name for p in tmp_path.iterdir()) == [name]
    code, _, errors = command("segment", study, "--task", "toy-bright", "--out", out)
    assert code == 2 and "exists; choose another name, or give --overwrite" in errors
    assert command("segment", study, "--task", "toy-bright", "--out", out, "--overwrite")[0] == 0


def test_segment_never_replaces_what_it_reads(command: Run, study: Path, tmp_path: Path) -> None:
    path, prompts = tmp_path / "in.nii.gz", tmp_path / "p.dcm"
    nibabel.save(nibabel.Nifti1Image(ct_image().array[0].T, np.diag([-0.7, -0.8, 2.5, 1.0])), path)
    (tmp_path / "link.nii.gz").symlink_to(path)
    (tmp_path / "hard.nii.gz").hardlink_to(path)
    prompts.write_text("{}", "utf-8")
    before = {p: p.read_bytes() for p in [*tmp_path.iterdir(), *study.iterdir()]}
    task = ("--task", "toy-bright", "--modality", "CT", "--overwrite")
    for name in ("in.nii.gz", "link.nii.gz", "hard.nii.gz"):
        code, _, errors = command("segment", path, "--out", tmp_path / name, *task)
        assert code == 2 and f"{name} is what is read; it is not overwritten" in errors
    code, _, errors = command("segment", path, "--out", prompts, *task, "--prompt", prompts)
    assert code == 2 and "p.dcm is what is read" in errors
    for name in (min(study.iterdir()).name, "new.dcm"):
        code, _, errors = command("segment", study, "--out", study / name, *task)
        assert code == 2 and "write the mask outside the study's folder" in errors
    assert {p: p.read_bytes() for p in [*tmp_path.iterdir(), *study.iterdir()]} == before


def test_segment_never_replaces_a_file_that_a_dicomdir_lists(command: Run, study: Path, tmp_path: Path) -> None:
    slices = sorted(study.iterdir())
    index = medium_of(tmp_path / "medium", *(["IMAGES", f"S{n}"] for n in range(len(slices))))
    for n, file in enumerate(slices):
        shutil.copy(file, index.parent / "IMAGES" / f"S{n}")
    listed = (index.parent / "IMAGES" / "S2").rename(index.parent / "IMAGES" / "S2.dcm")
    listed.with_suffix("").symlink_to(listed)
    code, _, errors = command("segment", index, "--out", listed, "--task", "toy-bright", "--overwrite")
    assert code == 2 and "S2.dcm is what is read" in errors
    assert listed.read_bytes() == slices[2].read_bytes()


def test_segment_says_why_it_can_not(command: Run, study: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.nii.gz"
    for arguments, code, words in (
        (("--task", "toy-point"), 4, "task 'toy-point' abstained: needs a prompt"),
        ((), 2, "give --task NAME, --prompt FILE, or both"),
        (("--task", "toy-bright", "--image", "3"), 2, "--image 3: the study has 1 images"),
        (("--task", "toy-broken"), 5, "failed with RuntimeError"),
    ):
        got, text, errors = command("segment", study, "--out", out, *arguments)
        assert (got, text) == (code, "")
        assert words in errors and errors.count("\n") == 1
    got, _, errors = command("segment", study, "--task", "toy-bright", "--out", tmp_path / "m.docx")
    assert got == 2 and "unknown suffix" in errors
    assert list(tmp_path.iterdir()) == []
