"""A report that a person signed as DICOM SR: valid, verified by that person, and read back to the millimetre."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pydicom
import pytest

from dciodvfy import dciodvfy_errors
from isocenter.core.errors import DataError, ProofError
from isocenter.data.images import read_study
from isocenter.data.images.sr import Attestation, SignedPoint, SignedSentence, SrContent, SrReference, read_sr, write_sr
from isocenter.data.images.sr.attested import check_attested
from isocenter.testing import phantom
from isocenter.testing.dicom_phantom import write_ct_series

AT = datetime(2026, 3, 4, 23, 30, 5, tzinfo=timezone(timedelta(hours=-5)))
SENTENCES = (
    SignedSentence("indication", "Cough."),
    SignedSentence("findings", "Left lung: volume 2.0 mL.", (SignedPoint((-31.51234, 47.25, 1012.0), "1.2.3"),)),
    SignedSentence("impression", "Possible mass."),
    SignedSentence("limits", "No set is promised."),
)


@pytest.fixture
def headers(tmp_path: Path) -> list[pydicom.Dataset]:
    image = phantom()
    write_ct_series(tmp_path / "ct", replace(image, array=image.array.round().astype("int16")))
    files = read_study(tmp_path / "ct")
    assert files.headers is not None
    return files.headers.image(files.study.images[0])


def signed(**changes: object) -> Attestation:
    given = {"by": "A. Reader", "at": AT, "sentences": SENTENCES, "remark": "AI draft, signed by A. Reader."}
    return Attestation(**{**given, **changes})  # type: ignore[arg-type]


def test_it_is_verified_final_and_valid(headers: list[pydicom.Dataset], tmp_path: Path) -> None:
    first = write_sr(SrContent(signed=signed(organization="Clinic")), tmp_path / "a.dcm", headers=headers, created=AT)
    sr = pydicom.dcmread(tmp_path / "a.dcm")
    assert (sr.CompletionFlag, sr.VerificationFlag, sr.PreliminaryFlag) == ("COMPLETE", "VERIFIED", "FINAL")
    (observer,) = sr.VerifyingObserverSequence
    assert (str(observer.VerifyingObserverName), observer.VerifyingOrganization) == ("A. Reader", "Clinic")
    assert observer.VerificationDateTime == "20260305043005+0000", "in UTC, whatever zone it was signed in"
    texts = [(i.label, i.value) for i in first.root.walk() if i.value_type == "TEXT"]
    assert ("Indications for Procedure", "Cough.") in texts and ("Impression", "Possible mass.") in texts
    assert ("Findings", "Left lung: volume 2.0 mL.") in texts
    assert first.report.sections["findings"] == "Left lung: volume 2.0 mL."
    again = signed(by="B. Reader", amends=SrReference.of(sr), at=AT.astimezone(UTC))
    write_sr(SrContent(signed=again), tmp_path / "b.dcm", headers=headers, created=AT)
    before = pydicom.dcmread(tmp_path / "b.dcm").PredecessorDocumentsSequence[0]
    assert before.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == sr.SOPInstanceUID
    for name in ("a.dcm", "b.dcm"):
        assert dciodvfy_errors(tmp_path / name) == []


def test_what_was_changed_on_the_way_is_not_kept(headers: list[pydicom.Dataset], tmp_path: Path) -> None:
    write_sr(SrContent(signed=signed()), tmp_path / "a.dcm", headers=headers, created=AT)
    sr, document = pydicom.dcmread(tmp_path / "a.dcm"), read_sr(tmp_path / "a.dcm")
    check_attested(signed(), sr, document)
    moved = replace(SENTENCES[1], points=(SignedPoint((31.51234, 47.25, 1012.0), "1.2.3"),))
    for other in (
        signed(by="B. Reader"), signed(at=AT + timedelta(seconds=1)), signed(sentences=SENTENCES[:1]),
        signed(sentences=(SENTENCES[0], moved, *SENTENCES[2:])), signed(remark="Else."),
        signed(sentences=(*SENTENCES[:3], replace(SENTENCES[3], text="No set is promised!"))),
    ):  # fmt: skip
        with pytest.raises(ProofError, match="nothing was kept"):
            check_attested(other, sr, document)


def test_who_and_when_must_be_known() -> None:
    for wrong in ({"by": "x"}, {"by": "A^B"}, {"by": "A\\B"}, {"by": "x" * 65}, {"at": datetime(2026, 1, 1)}):
        with pytest.raises(DataError, match="sign"):
            signed(**wrong)
