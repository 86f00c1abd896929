"""SEG files of other tools, and of ours in other tools' readers."""

from __future__ import annotations

import os
import shutil
import subprocess
import warnings

import numpy as np
import pytest
import SimpleITK
from pydicom import dcmread

import seg_cases as cases
from isocenter.core import Geometry
from isocenter.core.errors import GeometryError, PixelError
from isocenter.data.images.seg import read_seg, write_seg

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import highdicom as hd

real = pytest.mark.real

# File, kind, shape, spacing in mm, orientation, voxels per segment: as counted in the files' own pixel data.
FILES = [
    ("highdicom/test_files/seg_image_ct_binary.dcm", (3, 16, 16), (1.25, 0.488281, 0.488281), [638]),
    ("highdicom/test_files/seg_image_ct_binary_fractional.dcm", (1, 3, 16, 16), (1.25, 0.488281, 0.488281), [638]),
    ("highdicom/test_files/seg_image_ct_binary_overlap.dcm", (2, 165, 16, 16), (1.25, 0.488281, 0.488281), [64, 16]),
    ("highdicom/test_files/seg_image_ct_binary_single_frame.dcm", (1, 128, 128), (5.0, 0.661468, 0.661468), [1832]),
    ("highdicom/test_files/seg_image_ct_true_fractional.dcm", (1, 3, 16, 16), (1.25, 0.488281, 0.488281), [638]),
    ("highdicom/test_files/seg_image_cr_binary.dcm", (1, 16, 16), None, [151]),
    ("dcmqi/segmentations/liver.dcm", (3, 512, 512), (1.0, 0.810547, 0.810547), [107098]),
    (
        "dcmqi/segmentations/partial_overlaps.dcm",
        (5, 3, 512, 512),
        (1.0, 0.810547, 0.810547),
        [9602, 11888, 10743, 6693, 4713],
    ),
    ("dcmqi/segmentations/23x38x3/seg/label.seg", (3, 38, 23), (2.5, 0.7, 0.7), [322]),
    ("dcmqi/segmentations/24x38x3/seg/label.seg", (3, 38, 24), (2.5, 0.7, 0.7), [315]),
    ("dcmqi/segmentations/sparse-labelmap-ppv5.dcm", (3, 38, 24), (2.5, 0.7, 0.7), [630]),
    ("dcmqi/sr-example/seg.dcm", (13, 128, 128), (3.375, 3.537818, 3.537818), [795]),
    (
        "dcmjs/examples/data/QIICR_Test3/tumor_User1_Manual_Trial1.dcm",
        (9, 128, 128),
        (3.375, 3.537818, 3.537818),
        [54, 212],
    ),
]


@real
@pytest.mark.parametrize(("name", "shape", "spacing_mm", "voxels"), FILES, ids=[f[0].split("/")[-1] for f in FILES])
def test_files_of_other_tools(shared_data, name, shape, spacing_mm, voxels):
    mask = read_seg(shared_data / "dicom" / name)
    assert mask.array.shape == shape
    assert mask.geometry.spacing_mm == (None if spacing_mm is None else pytest.approx(spacing_mm, abs=1e-6))
    assert [int(mask.segment_array(s.number).sum()) for s in mask.segments] == voxels


@real
@pytest.mark.parametrize("name", [f[0] for f in FILES if f[2] is not None and "labelmap" not in f[0]])
def test_voxels_lie_where_highdicom_finds_them(shared_data, name):
    mask = read_seg(shared_data / "dicom" / name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        volume = hd.seg.segread(shared_data / "dicom" / name).get_volume()
    for channel, segment in enumerate(mask.segments):
        inside = np.argwhere(volume.array[..., channel] >= (0.5 if mask.array.dtype == np.float32 else 1))
        points = np.c_[inside, np.ones(len(inside))] @ volume.affine.T
        index = mask.geometry.to_index(points[:, :3])
        found = np.rint(index).astype(int)
        assert np.abs(index - found).max() < 1e-3
        ours = mask.segment_array(segment.number)
        assert ours[tuple(found.T)].all()
        assert len(found) == np.count_nonzero(ours)


@real
def test_the_liver_of_dcmqi_is_its_nrrd(shared_data):
    folder = shared_data / "dicom" / "dcmqi" / "segmentations"
    image = SimpleITK.ReadImage(str(folder / "liver_seg.nrrd"))
    z, y, x = (np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()).T[::-1]
    affine = np.eye(4)
    affine[:3] = np.stack([z, y, x, image.GetOrigin()], axis=1)
    array = SimpleITK.GetArrayFromImage(image)
    mask = read_seg(folder / "liver.dcm", geometry=Geometry(array.shape, affine))
    assert np.array_equal(mask.array > 0, array > 0)


@real
def test_tiles_of_a_slide_and_a_file_with_too_few_frames_are_refused(shared_data):
    for path in sorted((shared_data / "dicom/highdicom/test_files").glob("seg_image_sm_*.dcm")):
        with pytest.raises(GeometryError, match="slide"):
            read_seg(path)
    with pytest.raises(PixelError, match="announces 1 frames and describes 3"):
        read_seg(shared_data / "dicom/pydicom_test_files/test_files/liver_1frame.dcm")


@pytest.fixture
def written(tmp_path):
    headers, geometry = cases.ct_headers(tmp_path / "ct", shape=(4, 8, 6))
    paths = {}
    masks = {
        "BINARY": cases.labels(geometry),
        "LABELMAP": cases.labels(geometry),
        "FRACTIONAL": cases.probabilities(geometry),
        "OVERLAP": cases.overlapping(geometry),
    }
    for name, mask in masks.items():
        paths[name] = tmp_path / f"{name}.dcm"
        write_seg(mask, paths[name], headers=headers, kind="BINARY" if name == "OVERLAP" else name)
    return headers, masks, paths


@pytest.mark.parametrize("name", ["BINARY", "LABELMAP", "FRACTIONAL", "OVERLAP"])
def test_ours_in_highdicom(written, name):
    headers, masks, paths = written
    mask = masks[name]
    expected = [mask.array == n for n in (1, 2, 3)] if mask.is_labelmap else list(mask.array)
    segmentation = hd.seg.segread(paths[name])
    assert segmentation.segment_numbers == [1, 2, 3]
    assert segmentation.get_segment_description(1).tracking_id == "lung-1"
    uids = [h.SOPInstanceUID for h in headers]
    frames = segmentation.get_pixels_by_source_instance(uids, rescale_fractional=True)
    for channel in range(3):
        assert np.abs(frames[..., channel] - expected[channel].astype(np.float64)).max() <= 0.5 / 255 + 1e-6
    volume = segmentation.get_volume(rescale_fractional=True)
    corner = np.array([0, 0, 0, 1.0])
    own = mask.geometry.affine @ corner
    theirs = volume.affine[:3, :3] @ np.array(volume.array.shape[:3]) * 0 + volume.affine[:3, 3]
    last = mask.geometry.affine @ np.array([mask.geometry.shape[0] - 1, 0, 0, 1.0])
    # highdicom may run its first axis the other way; then its origin is our last plane.
    upright = np.abs(theirs - own[:3]).max() < 1e-4
    assert upright or np.abs(theirs - last[:3]).max() < 1e-4
    array = volume.array if upright else volume.array[::-1]
    for channel in range(3):
        assert np.abs(array[..., channel] - expected[channel].astype(np.float64)).max() <= 0.5 / 255 + 1e-6


def test_a_label_map_differs_from_what_old_dciodvfy_knows_in_nothing_else(written):
    dataset = dcmread(written[2]["LABELMAP"])
    assert dataset.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.7"
    assert [s.SegmentNumber for s in dataset.SegmentSequence] == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["BINARY", "LABELMAP", "FRACTIONAL", "OVERLAP"])
def test_dciodvfy_finds_no_error(written, name):
    tool = shutil.which("dciodvfy")
    if tool is None:
        reason = "dciodvfy is not installed (Debian package dicom3tools)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    done = subprocess.run([tool, str(written[2][name])], capture_output=True, text=True, check=False)
    errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
    if name == "LABELMAP" and "Error - Information Object Not found" in errors:
        # Versions before Supplement 243 (2024) don't know the storage class, and that segment 0 is the background.
        errors = [e for e in errors if "Information Object Not found" not in e and "SegmentNumber of 0" not in e]
    assert errors == []
