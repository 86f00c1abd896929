"""TID 1500 written: what it says, that validators and highdicom accept it, that it is the same each time."""

from __future__ import annotations

import copy
from datetime import datetime

import highdicom as hd
import pydicom
import pytest
from pydicom import Dataset

from dciodvfy import dciodvfy_errors
from isocenter.core import Code, Evidence, Finding, Measurement, ModelRef, Prediction, Report, Scores, Segment
from isocenter.core.errors import ConfigError, DataError
from isocenter.core.prediction import Uncertainty
from isocenter.core.units import UCUM
from isocenter.data.images.sr import Abstention, Answer, SegReference, SrContent, read_sr, write_sr
from isocenter.testing import phantom
from isocenter.testing.dicom_phantom import write_ct_series

VOLUME = Code("118565006", "SCT", "Volume")
MEAN = Code("373098007", "SCT", "Mean")
ATTENUATION = Code("112031", "DCM", "Attenuation Coefficient")
LUNG = Code("39607008", "SCT", "Lung")
RIGHT = Code("24028007", "SCT", "Right")
EFFUSION = Code("60046008", "SCT", "Pleural effusion")
SHA = "0123456789abcdef" * 4
MODEL = ModelRef("lungs-unet", "1.2", SHA, "Apache-2.0")
REASON = "needs modality MR, this image is CT"


@pytest.fixture(scope="module")
def headers(tmp_path_factory):
    files = write_ct_series(tmp_path_factory.mktemp("ct"), phantom(5, shape=(3, 6, 7)))
    return [pydicom.dcmread(f, stop_before_pixels=True) for f in files]


def content(headers) -> SrContent:
    seg = SegReference("1.2.840.10008.5.1.4.1.1.66.4", "1.2.3.4.5", "1.2.3.4", str(headers[0].StudyInstanceUID))
    answer = Answer(
        "lungs-cxr",
        MODEL,
        (
            Measurement(VOLUME, 1234.5678, UCUM["mL"], 2),
            Measurement(ATTENUATION, -812.25, UCUM["HU"], 2, MEAN),
            Measurement(VOLUME, 0.1 + 0.2, UCUM["mL"]),
        ),
        (Segment(2, "Lung right", type=LUNG, laterality=RIGHT, tracking_id="lung R", tracking_uid="1.2.3.9"),),
        seg,
        Report({"Impression": "Nothing seen."}, findings=(Finding(EFFUSION, "absent", (Evidence(segment=2),)),)),
        ("expected Dice 0.94",),
    )
    return SrContent((answer,), (Abstention("hippocampus-t1", REASON),))


def test_measurements_segments_and_reasons_come_back(headers, tmp_path):
    document = write_sr(content(headers), tmp_path / "sr.dcm", headers=headers)
    assert (document.template, document.report.language) == ("1500", "en")
    segment, image = document.groups
    assert (segment.seg_uid, segment.segment, segment.tracking_id) == ("1.2.3.4.5", 2, "lung R")
    assert (segment.finding, segment.laterality) == (LUNG, RIGHT)
    assert [(m.name, m.value, m.unit, m.segment, m.derivation) for m in segment.measurements] == [
        (VOLUME, 1234.5678, UCUM["mL"], 2, None),
        (ATTENUATION, -812.25, UCUM["HU"], 2, MEAN),
    ]
    assert segment.evaluations == ((EFFUSION, Code("2667000", "SCT", "Absent")),)
    assert image.measurements[0].value == pytest.approx(0.3, rel=1e-12)
    assert document.report.sections["impression"] == "Nothing seen."
    comments = document.report.sections["comment"]
    assert f"weights sha256 {SHA}" in comments
    assert f"Task hippocampus-t1 abstained: {REASON}" in comments
    outcomes = [i.value.meaning for i in document.root.walk() if i.is_named("111065")]
    assert outcomes == ["Succeeded", "Not Attempted"]


def test_evidence_lists_every_source_image_and_the_seg(headers, tmp_path):
    write_sr(content(headers), tmp_path / "sr.dcm", headers=headers)
    evidence = hd.sr.srread(tmp_path / "sr.dcm").get_evidence()
    assert {str(e[2]) for e in evidence} == {*(str(h.SOPInstanceUID) for h in headers), "1.2.3.4.5"}


def test_dciodvfy_finds_no_error_and_highdicom_reads_the_groups(headers, tmp_path):
    write_sr(content(headers), tmp_path / "sr.dcm", headers=headers)
    assert dciodvfy_errors(tmp_path / "sr.dcm") == []
    report = hd.sr.srread(tmp_path / "sr.dcm").content
    (group,) = report.get_volumetric_roi_measurement_groups()
    assert [(m.name.meaning, m.value, m.unit.value) for m in group.get_measurements()] == [
        ("Volume", 1234.5678, "mL"),
        ("Attenuation Coefficient", -812.25, "[hnsf'U]"),
    ]
    assert group.referenced_segment.referenced_segment_numbers == [2]


def test_a_single_plane_refers_to_the_very_image(headers, tmp_path):
    one = headers[:1]
    write_sr(content(one), tmp_path / "sr.dcm", headers=one)
    assert dciodvfy_errors(tmp_path / "sr.dcm") == []
    group = read_sr(tmp_path / "sr.dcm").groups[0]
    assert (group.seg_uid, group.segment) == ("1.2.3.4.5", 2)
    assert group.image_uids == (str(one[0].SOPInstanceUID),)


def test_only_abstentions_is_a_report_too(headers, tmp_path):
    document = write_sr(SrContent((), (Abstention("x", REASON),)), tmp_path / "sr.dcm", headers=headers)
    assert document.measurements == ()
    assert dciodvfy_errors(tmp_path / "sr.dcm") == []
    assert hd.sr.srread(tmp_path / "sr.dcm").content is not None


def test_the_same_input_gives_the_same_bytes(headers, tmp_path):
    for name in ("a", "b"):
        write_sr(content(headers), tmp_path / name, headers=headers)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    written = pydicom.dcmread(tmp_path / "a")
    assert (written.ContentDate, written.PatientID) == ("20260101", headers[0].PatientID)
    write_sr(content(headers), tmp_path / "c", headers=headers, created=datetime(2026, 5, 6))
    assert pydicom.dcmread(tmp_path / "c").ContentDate == "20260506"


def test_a_source_without_dates_still_makes_a_valid_report(headers, tmp_path):
    bare = [copy.deepcopy(h) for h in headers]
    for header in bare:
        for keyword in ("StudyDate", "StudyTime", "PatientBirthDate", "AccessionNumber", "Manufacturer"):
            delattr(header, keyword)
    write_sr(content(bare), tmp_path / "sr.dcm", headers=bare)
    assert pydicom.dcmread(tmp_path / "sr.dcm").ContentDate == "19000101"
    assert dciodvfy_errors(tmp_path / "sr.dcm") == []


def test_predictions_are_sorted_into_answers_and_abstentions():
    good = Prediction(
        Scores(((EFFUSION, 0.2),)),
        "lungs-cxr",
        Uncertainty("quality", "expected Dice 0.94"),
        model=MODEL,
        inputs=("x",),
        measurements=(Measurement(VOLUME, 1, UCUM["mL"]),),
    )
    sorted_ = SrContent.from_predictions([good, Prediction.abstain("hippocampus-t1", REASON)])
    assert sorted_.abstentions == (Abstention("hippocampus-t1", REASON),)
    assert sorted_.answers[0].notes == ("expected Dice 0.94",)
    with pytest.raises(DataError, match="1 SEG references for 2"):
        SrContent.from_predictions([good, good], [None])


def test_what_cannot_be_written_is_refused_and_leaves_nothing(headers, tmp_path):
    path = tmp_path / "sr.dcm"
    with pytest.raises(DataError, match="answer or an abstention"):
        write_sr(SrContent(), path, headers=headers)
    with pytest.raises(DataError, match=r"segments \[7\]"):
        write_sr(SrContent((Answer("t", MODEL, (Measurement(VOLUME, 1, UCUM["mL"], 7),)),)), path, headers=headers)
    with pytest.raises(ConfigError, match="language"):
        write_sr(SrContent((), (Abstention("t", "r"),), language="?"), path, headers=headers)
    with pytest.raises(DataError, match="needs the headers"):
        write_sr(SrContent((), (Abstention("t", "r"),)), path, headers=[])
    nameless = Dataset()
    nameless.update({e.tag: e for e in headers[0] if e.keyword != "SOPClassUID"})
    with pytest.raises(DataError, match="no SOPClassUID, so that nothing can refer to it"):
        write_sr(SrContent((), (Abstention("t", "r"),)), path, headers=[nameless])
    assert list(tmp_path.iterdir()) == []


def test_a_seg_reference_refuses_other_files(headers):
    with pytest.raises(DataError, match="not a DICOM Segmentation"):
        SegReference.from_file(headers[0])
