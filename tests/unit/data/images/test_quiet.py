"""No value of a header reaches a warning or a log of the program that calls us, whatever is wrong with the header."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from dciodvfy import dciodvfy_errors
from isocenter.core import Image, Mask, ModelRef, Prediction, Quantity, Segment, Uncertainty
from isocenter.core.units import UCUM, Code, Measurement
from isocenter.data.images.dicom import read_dicom
from isocenter.data.images.parametric_map import write_parametric_map
from isocenter.data.images.quiet import quiet
from isocenter.data.images.rtstruct import write_rtstruct
from isocenter.data.images.secondary_capture import write_secondary_capture
from isocenter.data.images.seg import write_seg
from isocenter.data.images.sr import SrContent, write_sr
from isocenter.testing import phantom
from isocenter.testing.dicom_phantom import write_ct_series

BAD = {
    "PatientName": "ZebraName Without Carets",
    "PatientBirthDate": "ZebraDate",
    "PatientAge": "ZebraAge",
    "PatientSex": "zebrasex",
    "StudyID": "ZebraStudyIdOfFarTooManyCharacters",
    "StudyDate": "ZebraDay",
    "StudyTime": "ZebraTime",
    "SeriesDate": "ZebraDay",
    "SeriesTime": "ZebraTime",
}
WRITERS: dict[str, Callable[[Path, Image, Mask, list[Dataset]], Any]] = {
    "seg": lambda path, _image, mask, headers: write_seg(mask, path, headers=headers),
    "rtstruct": lambda path, _image, mask, headers: write_rtstruct(mask, path, headers=headers),
    "sr": lambda path, _image, mask, headers: write_sr(_content(mask), path, headers=headers),
    "map": lambda path, image, _mask, headers: write_parametric_map(_floats(image), path, headers=headers),
    "picture": lambda path, _image, _mask, headers: write_secondary_capture(
        np.zeros((4, 6, 3), np.uint8), path, headers=headers
    ),
}


def _content(mask: Mask) -> SrContent:
    answer = Prediction(
        mask,
        "t",
        Uncertainty("none", "not stated"),
        model=ModelRef("m", "1", "ab" * 32, "MIT"),
        inputs=("cd" * 32,),
        measurements=(Measurement(Code("118565006", "SCT", "Volume"), 0.25, UCUM["mL"], 1),),
    )
    return SrContent.from_predictions([answer], [None])


def _floats(image: Image) -> Image:
    return Image(image.array.astype(np.float32), image.geometry, quantity=Quantity.HU)


@pytest.fixture
def heard() -> Any:
    """Everything that a careful program would hear: all warnings, and every log record that reaches the root."""
    said: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    root, ear = logging.getLogger(), Ear()
    level = root.level
    root.addHandler(ear)
    root.setLevel(0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield lambda: [*said, *(str(w.message) for w in caught)]
    root.removeHandler(ear)
    root.setLevel(level)


@pytest.mark.parametrize("name", WRITERS)
def test_a_writer_never_quotes_the_header(name: str, tmp_path: Path, heard: Callable[[], list[str]]) -> None:
    def change(_index: int, dataset: Dataset) -> Dataset:
        for keyword, value in BAD.items():
            setattr(dataset, keyword, value)
        return dataset

    with quiet():
        paths = write_ct_series(tmp_path / "in", phantom(), change=change)
    study, headers, _ = read_dicom(paths, root=tmp_path)
    image = study.images[0]
    mask = Mask((image.array[0] > image.array.mean()).astype(np.uint16), image.geometry, (Segment(1, "one"),))
    WRITERS[name](tmp_path / "out.dcm", image, mask, headers.image(image))
    assert [line for line in heard() if "zebra" in line.lower()] == []
    with quiet():
        written = dcmread(tmp_path / "out.dcm")
        assert str(written.PatientName) == BAD["PatientName"], "the patient's own values are copied as they are"
        assert written.get("ContentDate", "") in ("", "19000101")
        assert written.get("ContentTime", "") in ("", "000000")


@pytest.mark.parametrize("name", ["seg", "sr", "rtstruct", "map", "picture"])
def test_what_is_copied_from_a_full_header_is_valid(name: str, tmp_path: Path) -> None:
    def change(_index: int, dataset: Dataset) -> Dataset:
        dataset.PatientBirthTime, dataset.PatientAge, dataset.PatientSize = "120000", "051Y", "1.75"
        dataset.EthnicGroup, dataset.PatientSexNeutered = "X", ""
        dataset.ClinicalTrialSponsorName, dataset.ClinicalTrialProtocolID = "S", "P"
        dataset.ClinicalTrialSubjectID, dataset.ClinicalTrialSiteID = "S1", ""
        dataset.ClinicalTrialProtocolName = dataset.ClinicalTrialSiteName = ""
        dataset.LongitudinalTemporalInformationModified = "MODIFIED"
        dataset.PatientIdentityRemoved, dataset.DeidentificationMethod = "YES", "by hand"
        return dataset

    paths = write_ct_series(tmp_path / "in", phantom(), change=change)
    study, headers, _ = read_dicom(paths, root=tmp_path)
    image = study.images[0]
    mask = Mask((image.array[0] > image.array.mean()).astype(np.uint16), image.geometry, (Segment(1, "one"),))
    WRITERS[name](tmp_path / "out.dcm", image, mask, headers.image(image))
    assert dciodvfy_errors(tmp_path / "out.dcm") == []


def test_quiet_leaves_everything_as_it_was(heard: Callable[[], list[str]]) -> None:
    for _ in range(2):
        with quiet(), quiet():
            warnings.warn("Zebra", stacklevel=1)
            logging.getLogger("highdicom.base").warning("Zebra")
    assert heard() == []
    logging.getLogger("highdicom.base").warning("heard")
    assert heard() == ["heard"]
    assert logging.getLogger("pydicom").propagate
