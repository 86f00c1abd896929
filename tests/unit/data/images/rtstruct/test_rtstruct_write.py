"""Written structure sets: what they say, that validators accept them, and that they are the same each time."""

from __future__ import annotations

import copy
from datetime import datetime

import numpy as np
import pydicom
import pytest

from dciodvfy import dciodvfy_errors
from isocenter.core import Code, Geometry, Mask, Segment
from isocenter.core.errors import ConfigError, DataError, GeometryError, IdentityLeak
from isocenter.data.images.rtstruct import read_rtstruct, write_rtstruct
from isocenter.testing import phantom
from isocenter.testing.dicom_phantom import write_ct_series

SHAPE = (3, 6, 7)


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    image = phantom(5, shape=SHAPE)
    files = write_ct_series(tmp_path_factory.mktemp("ct"), image)
    return image.geometry, [pydicom.dcmread(f, stop_before_pixels=True) for f in files]


def ring(geometry: Geometry, **changes) -> Mask:
    labels = np.zeros(SHAPE, np.uint16)
    labels[1, 1:5, 1:6] = 3
    labels[1, 2:4, 2:5] = 0
    right = Code("24028007", "SCT", "Right")
    lung = Code("39607008", "SCT", "Lung")
    values = {"number": 3, "label": "Lung right", "type": lung, "laterality": right, "colour": (1, 2, 3)} | changes
    return Mask(labels, geometry, (Segment(**values), Segment(9, "empty")))


def test_it_names_patient_frame_images_and_codes(series, tmp_path):
    geometry, headers = series
    proof = write_rtstruct(ring(geometry), tmp_path / "rs.dcm", headers=headers, created=datetime(2026, 1, 2, 3, 4, 5))
    written = pydicom.dcmread(tmp_path / "rs.dcm")
    assert written.Modality == "RTSTRUCT"
    assert (written.PatientID, written.StudyInstanceUID) == (headers[0].PatientID, headers[0].StudyInstanceUID)
    assert written.SeriesInstanceUID != headers[0].SeriesInstanceUID
    assert written.StructureSetDate == "20260102"
    frame = written.ReferencedFrameOfReferenceSequence[0]
    assert frame.FrameOfReferenceUID == geometry.frame_uid
    series_item = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert [i.ReferencedSOPInstanceUID for i in series_item.ContourImageSequence] == [h.SOPInstanceUID for h in headers]
    contours = written.ROIContourSequence[0].ContourSequence
    assert len(contours) == 1, "a ring is one contour with a keyhole"
    assert contours[0].ContourImageSequence[0].ReferencedSOPInstanceUID == headers[1].SOPInstanceUID
    assert contours[0].NumberOfContourPoints * 3 == len(contours[0].ContourData)
    assert "ContourSequence" not in written.ROIContourSequence[1]
    assert [p.voxels for p in proof.segments] == [14, 0]
    back = read_rtstruct(tmp_path / "rs.dcm", geometry).segments[0]
    assert (back.type.value, back.laterality.value, back.colour) == ("39607008", "24028007", (1, 2, 3))
    assert back.algorithm_type == "AUTOMATIC"


def test_dciodvfy_finds_no_error(series, tmp_path):
    geometry, headers = series
    write_rtstruct(ring(geometry), tmp_path / "rs.dcm", headers=headers)
    assert dciodvfy_errors(tmp_path / "rs.dcm") == []


def test_exclusive_or_writes_the_hole_as_its_own_contour(series, tmp_path):
    geometry, headers = series
    write_rtstruct(ring(geometry), tmp_path / "rs.dcm", headers=headers, holes="xor")
    contours = pydicom.dcmread(tmp_path / "rs.dcm").ROIContourSequence[0].ContourSequence
    assert [c.ContourGeometricType for c in contours] == ["CLOSEDPLANAR_XOR"] * 2


def test_the_same_input_gives_the_same_bytes_and_another_mask_another_uid(series, tmp_path):
    geometry, headers = series
    for name in ("a", "b"):
        write_rtstruct(ring(geometry), tmp_path / name, headers=headers)
    write_rtstruct(ring(geometry, label="Other"), tmp_path / "c", headers=headers)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    a, c = (pydicom.dcmread(tmp_path / n) for n in "ac")
    assert a.SOPInstanceUID != c.SOPInstanceUID


def test_probabilities_are_contoured_at_one_half(series, tmp_path):
    geometry, headers = series
    array = np.zeros((1, *SHAPE), np.float32)
    array[0, 2, 3, 2:5] = (0.49, 0.5, 0.9)
    write_rtstruct(Mask(array, geometry, (Segment(1, "p"),)), tmp_path / "rs.dcm", headers=headers)
    assert np.argwhere(read_rtstruct(tmp_path / "rs.dcm", geometry).array[0]).tolist() == [[2, 3, 3], [2, 3, 4]]


def test_what_cannot_be_written_is_refused_and_leaves_nothing(series, tmp_path):
    geometry, headers = series
    path = tmp_path / "rs.dcm"
    plain = Mask(np.zeros(SHAPE, np.uint16), Geometry(SHAPE), ())
    with pytest.raises(GeometryError, match="place in patient"):
        write_rtstruct(plain, path, headers=headers)
    elsewhere = Geometry(SHAPE, geometry.affine, "9.9.9")
    with pytest.raises(GeometryError, match="frame of reference"):
        write_rtstruct(ring(elsewhere), path, headers=headers)
    with pytest.raises(DataError, match="needs the headers"):
        write_rtstruct(ring(geometry), path, headers=[])
    with pytest.raises(DataError, match="label of segment 3"):
        write_rtstruct(ring(geometry, label="a\\b"), path, headers=headers)
    with pytest.raises(ConfigError, match="structure set label"):
        write_rtstruct(ring(geometry), path, headers=headers, label="x" * 17)
    other = copy.deepcopy(headers[0])
    other.PatientID = "SOMEBODY-ELSE"
    with pytest.raises(IdentityLeak) as leak:
        write_rtstruct(ring(geometry), path, headers=[*headers, other])
    assert "SOMEBODY" not in str(leak.value)
    with pytest.raises(DataError, match="folder does not exist"):
        write_rtstruct(ring(geometry), tmp_path / "no" / "rs.dcm", headers=headers)
    assert list(tmp_path.iterdir()) == []
