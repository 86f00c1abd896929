"""Structured reports of other makers: values with units, segments, text; every one of them readable."""

from __future__ import annotations

import warnings

import pydicom
import pytest

from isocenter.data.images.sr import read_sr

pytestmark = pytest.mark.real


def read(shared_data, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom on these files' own faults
        return read_sr(shared_data / "dicom" / name)


def test_dcmqi_tumour_with_suv(shared_data):
    document = read(shared_data, "dcmqi/sr-example/sr.dcm")
    (group,) = document.groups
    assert document.template == "1500"
    assert (group.tracking_id, group.segment) == ("primary tumor", 1)
    assert (group.finding.value, group.site.value) == ("M-80003", "T-C5300")
    seg = pydicom.dcmread(shared_data / "dicom" / "dcmqi" / "sr-example" / "seg.dcm", stop_before_pixels=True)
    assert group.seg_uid == seg.SOPInstanceUID
    assert len(group.measurements) == 22
    first = group.measurements[0]
    assert (first.name.meaning, first.value, first.unit.value) == ("SUVbw", 6.01529, "{SUVbw}g/ml")
    assert (first.derivation.meaning, first.segment) == ("Mean", 1)
    assert document.loose == (), "rows and columns of the image library are not measurements"


def test_highdicom_groups(shared_data):
    one = read(shared_data, "highdicom/test_files/sr_document.dcm")
    assert [(m.value, m.unit.value) for m in one.measurements] == [(1.7, "cm2")]
    many = read(shared_data, "highdicom/test_files/sr_document_with_multiple_groups.dcm")
    assert len(many.groups) == 4
    assert many.measurements[0].value == -119.0738525390625
    assert many.groups[1].evaluations[0][1].meaning == "Not significant"


def test_dcmjs_long_and_short_axis(shared_data):
    document = read(shared_data, "dcmjs/test/sample-sr.dcm")
    assert [(m.name.meaning, m.value) for m in document.measurements] == [
        ("Long Axis", 64.4505437946691),
        ("Short Axis", 42.9670291964462),
    ]


def test_dwv_values_under_their_shapes(shared_data):
    document = read(shared_data, "dwv/annotation/dwv034/sr-ruler.dcm")
    assert [m.unit.value for m in document.measurements] == ["mm"] * 3
    assert document.measurements[0].value == 4.059347181008903
    shapes = [i for i in document.root.walk() if i.value_type == "SCOORD"]
    assert shapes[0].points == ((3.988130569458008, 6.053412437438965), (8.047477722167969, 6.053412437438965))


def test_a_basic_text_report_of_an_unknown_template(shared_data):
    document = read(shared_data, "pydicom_test_files/test_files/reportsi.dcm")
    assert (document.template, document.groups) == ("", ())
    assert document.report.sections == {"section heading": "Enter text"}


def test_every_report_of_the_collection_is_read_and_keeps_no_person(shared_data):
    count = 0
    for path in sorted((shared_data / "dicom").rglob("*.dcm")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                kind = str(pydicom.dcmread(path, stop_before_pixels=True).get("SOPClassUID"))
            except (pydicom.errors.InvalidDicomError, OSError, ValueError, NotImplementedError, EOFError):
                continue
            if not kind.startswith("1.2.840.10008.5.1.4.1.1.88."):
                continue
            document = read_sr(path)
        count += 1
        assert all(i.value is None for i in document.root.walk() if i.value_type == "PNAME")
    assert count >= 20
