"""One patient or two: the rule, and that the reader and every writer go by it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from isocenter.core import Mask, Segment
from isocenter.core.errors import IdentityLeak
from isocenter.data.images.dicom import read_dicom
from isocenter.data.images.patient import Patient, doubtful, two_patients
from isocenter.data.images.rtstruct import write_rtstruct
from isocenter.data.images.seg import write_seg
from isocenter.testing import phantom
from isocenter.testing.dicom_phantom import write_ct_series

JOHN = Patient("0", "", "Doe^John", "19500101", "M")
CASES = [
    (JOHN, JOHN, False, False),
    (JOHN, Patient(), False, False),
    (JOHN, replace(JOHN, identifier="1"), True, True),
    (replace(JOHN, issuer="A"), replace(JOHN, issuer="B"), True, True),
    (JOHN, replace(JOHN, issuer="B"), False, False),
    (JOHN, replace(JOHN, name="DOE JOHN"), False, False),
    (JOHN, replace(JOHN, name="Doe^John=山田^太郎"), False, False),
    (replace(JOHN, name="Müller^J"), replace(JOHN, name="MÃ¼LLER^J"), False, False),
    (JOHN, Patient("0", "", "Roe^Jane", "", "F"), True, True),
    (JOHN, Patient("0", "", "Roe^John", "", ""), True, False),
    (JOHN, Patient("", "", "Roe^Jane", "", ""), True, True),
    (JOHN, replace(JOHN, sex="F"), True, False),
    (JOHN, replace(JOHN, sex="O"), False, False),
    (JOHN, replace(JOHN, birth_date="19600101"), True, False),
]


@pytest.mark.parametrize(("one", "other", "in_one_series", "in_two"), CASES)
def test_the_rule(one: Patient, other: Patient, in_one_series: bool, in_two: bool) -> None:
    for pair in ((one, other), (other, one)):
        for series, expected in ((("1.2", "1.2"), in_one_series), (("1.2", "1.3"), in_two), (("", ""), in_two)):
            found = two_patients(zip(series, pair, strict=True))
            assert (found is not None) == expected
    assert two_patients([("1", one), ("1", one), ("2", JOHN)]) is None


def test_a_doubt_is_told() -> None:
    assert doubtful([JOHN, replace(JOHN, name="Roe^John")])
    assert not doubtful([JOHN, Patient(), replace(JOHN, name="DOE^JOHN")])


def test_two_people_with_one_default_identifier_are_not_one_volume(tmp_path: Path) -> None:
    def change(index: int, dataset: Dataset) -> Dataset:
        dataset.PatientID = "0"
        dataset.PatientName, dataset.PatientSex = ("Zebra^John", "M") if index < 3 else ("Gnu^Jane", "F")
        return dataset

    paths = write_ct_series(tmp_path, phantom(shape=(6, 3, 5)), change=change)
    with pytest.raises(IdentityLeak, match="two patients") as caught:
        read_dicom(paths, root=tmp_path)
    assert "Zebra" not in str(caught.value) and "Gnu" not in str(caught.value)


def test_two_series_that_agree_in_the_identifier_alone_are_read_with_a_note(tmp_path: Path) -> None:
    paths = []
    for series, name in (("a", "Zebra^John"), ("b", "Gnu^John")):

        def change(_index: int, dataset: Dataset, name: str = name) -> Dataset:
            dataset.PatientName = name
            return dataset

        paths += write_ct_series(tmp_path / series, phantom(), name=series, change=change)
    study, _, _ = read_dicom(paths, root=tmp_path)
    assert len(study.images) == 2
    assert any("make sure that they are of one patient" in note for note in study.notes)
    assert "Zebra" not in repr(study.notes) and "Gnu" not in repr(study.notes)


def test_a_writer_accepts_what_the_reader_accepts_and_takes_the_fuller_header(tmp_path: Path) -> None:
    """Half of the files leave the identifier empty: one patient, and the written object names it."""

    def change(index: int, dataset: Dataset) -> Dataset:
        if index < 3:
            dataset.PatientID = ""
        return dataset

    paths = write_ct_series(tmp_path / "in", phantom(shape=(6, 3, 5)), change=change)
    study, headers, _ = read_dicom(paths, root=tmp_path)
    image = study.images[0]
    mask = Mask((image.array[0] > image.array.mean()).astype(np.uint16), image.geometry, (Segment(1, "one"),))
    write_seg(mask, tmp_path / "seg.dcm", headers=headers.image(image))
    write_rtstruct(mask, tmp_path / "rs.dcm", headers=headers.image(image))
    for name in ("seg.dcm", "rs.dcm"):
        assert dcmread(tmp_path / name).PatientID == "ISOCENTER-PHANTOM"
    found = headers.image(image)
    found[0].PatientName = "Gnu^Jane"
    for write in (write_seg, write_rtstruct):
        with pytest.raises(IdentityLeak, match="two patients"):
            write(mask, tmp_path / "no.dcm", headers=found)


def test_every_writer_copies_the_same_fields(tmp_path: Path) -> None:
    def change(_index: int, dataset: Dataset) -> Dataset:
        dataset.PatientBirthTime, dataset.PatientAge, dataset.EthnicGroup = "120000", "051Y", "X"
        dataset.ClinicalTrialSubjectID, dataset.PatientSpeciesDescription = "S1", "Human"
        dataset.OtherPatientIDsSequence = [Dataset()]
        dataset.OtherPatientIDsSequence[0].PatientID = "OTHER"
        dataset.OtherPatientIDsSequence[0].IssuerOfPatientID = "ISSUER"
        dataset.PatientIdentityRemoved, dataset.DeidentificationMethod = "YES", "by hand"
        return dataset

    image = phantom()
    headers = [dcmread(p, stop_before_pixels=True) for p in write_ct_series(tmp_path / "in", image, change=change)]
    mask = Mask(np.ones(image.geometry.shape, np.uint16), image.geometry, (Segment(1, "one"),))
    write_seg(mask, tmp_path / "seg.dcm", headers=headers)
    write_rtstruct(mask, tmp_path / "rs.dcm", headers=headers)
    seg, rtstruct = dcmread(tmp_path / "seg.dcm"), dcmread(tmp_path / "rs.dcm")
    for group in (0x0010, 0x0012):
        assert len(seg.group_dataset(group)) > 1
        assert seg.group_dataset(group).to_json_dict() == rtstruct.group_dataset(group).to_json_dict()
    assert seg.OtherPatientIDsSequence[0].PatientID == "OTHER"
