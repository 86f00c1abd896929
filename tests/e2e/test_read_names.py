"""Files and folders are named after patients: what is shared numbers them, and one local file says which is which."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from e2e.conftest import Run, ct_image, marked
from isocenter.core import Image, Mask, Source, Study
from isocenter.data.images.study_files import Refusal
from isocenter.testing import phantom
from isocenter.testing.dicom_phantom import write_ct_series
from isocenter.verbs.provenance import InputNames

PERSON = "DOE_JOHN_19500101"
SHARED = ("result.json", "report.html", "config.json")


def _shared(out: Path) -> str:
    return "".join((out / name).read_text("utf-8") for name in SHARED)


def test_a_folder_named_after_a_patient(command: Run, tmp_path: Path) -> None:
    folder = tmp_path / PERSON
    paths = write_ct_series(folder / PERSON / "IM", ct_image(), change=marked)
    shutil.copy(paths[0], folder / f"{PERSON} copy.dcm")
    (folder / f"{PERSON}.dcm").write_bytes(paths[1].read_bytes()[:-300])
    (folder / f"letter to {PERSON}.txt").write_text("Dear colleague", "utf-8")
    out = tmp_path / "out"
    code, text, errors = command("read", folder, "--out", out, "--task", "toy-bright", "--on-irregular", "resample")
    assert (code, errors) == (0, "")
    assert PERSON not in _shared(out)
    assert f"refused: {PERSON}.dcm: " in text, "who reads it here knows the names"
    document, local = (json.loads((out / name).read_text("utf-8")) for name in ("result.json", "inputs.json"))
    names = local["inputs"]
    used = {f["name"]: f["sha256"] for f in document["provenance"]["input_files"]}
    assert len(used) == len(paths) - 1  # the broken file took the place of its good copy
    for number, sha256 in used.items():
        assert hashlib.sha256((folder / names[number]).read_bytes()).hexdigest() == sha256
    wheres = [names[item["where"]] for item in document["left_out"]]
    assert wheres == [item["where"] for item in local["left_out"]]
    assert {f"{PERSON}.dcm", f"letter to {PERSON}.txt"} < set(wheres)
    copies = [item["reason"] for item in document["left_out"] if "copy of" in item["reason"]]
    numbers = [reason.removeprefix("is a copy of ").split(" (")[0] for reason in copies]
    assert {names[n] for n in numbers} == {f"{PERSON} copy.dcm", f"{PERSON}.dcm"}
    assert (local["path"], local["prompts"]) == (str(folder), None)
    assert "inputs.json" not in [f["path"] for f in document["files"]]


@pytest.mark.parametrize("as_json", [False, True])
def test_a_file_named_after_a_patient(command: Run, tmp_path: Path, as_json: bool) -> None:
    path = tmp_path / PERSON / f"{PERSON}.nii.gz"
    path.parent.mkdir()
    nibabel.save(nibabel.Nifti1Image(ct_image().array[0].T, np.diag([-0.7, -0.8, 2.5, 1.0])), path)
    out = tmp_path / "out"
    options = ("--task", "toy-bright", "--modality", "CT", *(["--json"] if as_json else []))
    code, text, _ = command("read", path, "--out", out, *options)
    assert code == 0
    assert PERSON not in _shared(out)
    if as_json:
        assert PERSON not in text
    assert json.loads((out / "inputs.json").read_text("utf-8"))["inputs"] == {"input 1": path.name}


def _names(*files: str, refused: tuple[str, ...] = (), path: Path = Path(__file__).parent) -> InputNames:
    image = phantom()
    image = Image(image.array, image.geometry, source=Source(files=files))
    return InputNames(path, Study("k", images=(image,)), [Refusal(where, "broken") for where in refused])


def test_only_whole_names_are_replaced() -> None:
    names = _names("a/IM1", "4711", "1", "DICOMDIR", "Doe John.dcm", refused=("series 1.2.3", "a/IM10"))
    assert names.number("a/IM1") == "input 5"
    for text, expected in (
        ("4711: is broken", "input 2: is broken"),
        ("1.2.4711.3 and 47110 and 4711.5 mm stay", "1.2.4711.3 and 47110 and 4711.5 mm stay"),
        ("is a copy of a/IM10. Remove it", "is a copy of input 6. Remove it"),
        ("files Doe John.dcm and a/IM1 differ", "files input 4 and input 5 differ"),
        ("1 channel, listed in the DICOMDIR", "1 channel, listed in the DICOMDIR"),
        ("series 1.2.3", "series 1.2.3"),
    ):
        assert names.number(text) == expected


def test_paths_and_masks_are_hidden_too(tmp_path: Path) -> None:
    image = phantom()
    mask = Mask(np.zeros(image.geometry.shape, np.uint16), image.geometry, (), Source(files=("doe-seg.nii",)))
    path = tmp_path / "doe"
    path.mkdir()
    names = InputNames(path, Study("k", masks=(mask,)))
    assert names.number(f"{path}: no room; see doe-seg.nii") == "the input: no room; see input 1"
