"""Files that are not DICOM: a canary in every place that can hold one is gone, and voxels and grid are the same."""

from __future__ import annotations

import bz2
import gzip
import io
import struct
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from isocenter.core.errors import PixelError
from isocenter.data.archive.image_rows import arrays_of, clean_arrays, read_plain
from isocenter.data.archive.plain_files import clean_file

CANARY = b"CANARY-Muster-4711"
VOXELS = np.arange(2 * 3 * 5, dtype=np.int16).reshape(2, 3, 5) - 7
NRRD = (
    "NRRD0004\n# CANARY-Muster-4711\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 5 3 2\n"
    "space directions: (0.7,0,0) (0,0.8,0) (0,0,2.5)\nkinds: domain domain domain\nendian: little\n"
    'labels: "CANARY-Muster-4711" "y" "z"\nspace origin: (10,20,-30.5)\ncontent: CANARY-Muster-4711\n'
    'space units: "mm" "mm" "mm"\nencoding: {how}\nPatient:=CANARY-Muster-4711\n'
    "Segment0_Owner:=CANARY-Muster-4711\nSegment0_Name:=Dr. Max CANARY-Muster-4711\nSegment0_LabelValue:=1\n"
    "Segment0_Extent:=CANARY-Muster-4711\n\n"
)
META = (
    "ObjectType = Image\nComment = CANARY-Muster-4711\nNDims = 3\nBinaryData = True\n"
    "BinaryDataByteOrderMSB = False\nCompressedData = {how}\nTransformMatrix = 1 0 0 0 1 0 0 0 1\n"
    "Offset = 10 20 -30.5\nCenterOfRotation = 0 0 0\nAnatomicalOrientation = RAI\nElementSpacing = 0.7 0.8 2.5\n"
    "DimSize = 5 3 2\nName = CANARY-Muster-4711\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
)


def gzip_with_name(data: bytes) -> bytes:
    out = io.BytesIO()
    with gzip.GzipFile(CANARY.decode(), "wb", fileobj=out, mtime=1) as stream:
        stream.write(data)
    return out.getvalue()


def nifti(version: int, behind: bytes = CANARY) -> bytes:
    image = (nibabel.Nifti1Image, nibabel.Nifti2Image)[version - 1](VOXELS.T, np.diag([0.7, 0.8, 2.5, 1.0]))
    image.header["descrip"] = CANARY
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", CANARY))
    return image.to_bytes() + behind


RAW = VOXELS.astype("<i2").tobytes()
FILES = {
    "nifti 1": ("nifti", nifti(1), ".nii"),
    "nifti 2": ("nifti", nifti(2), ".nii"),
    "nifti packed": ("nifti", gzip_with_name(nifti(1)), ".nii.gz"),
    "nrrd raw": ("nrrd", NRRD.format(how="raw").encode() + RAW + CANARY, ".nrrd"),
    "nrrd gzip": ("nrrd", NRRD.format(how="gzip").encode() + gzip_with_name(RAW + CANARY), ".nrrd"),
    "nrrd behind gzip": ("nrrd", NRRD.format(how="gzip").encode() + gzip_with_name(RAW) + CANARY, ".nrrd"),
    "nrrd two members": (
        "nrrd", NRRD.format(how="gz").encode() + gzip.compress(RAW[:9]) + gzip.compress(RAW[9:]), ".nrrd",
    ),
    "nrrd bzip2": ("nrrd", NRRD.format(how="bzip2").encode() + bz2.compress(RAW + CANARY) + CANARY, ".nrrd"),
    "metaimage": ("metaimage", META.format(how="False").encode() + RAW + CANARY, ".mha"),
    "metaimage packed": ("metaimage", META.format(how="True").encode() + zlib.compress(RAW) + CANARY, ".mha"),
}  # fmt: skip


_STARTS = (b"\x1f\x8b", b"BZ", b"\x78\x5e", b"\x78\x9c")


def everything(content: bytes) -> bytes:
    """A file and all that is packed in it, one after the other."""
    found = content
    for form in (gzip.decompress, bz2.decompress, zlib.decompress):
        for at in (0, *(m for m in range(len(content)) if content[m : m + 2] in _STARTS)):
            try:
                found += form(content[at:])
            except (OSError, EOFError, ValueError, zlib.error):
                continue
    return found


@pytest.mark.parametrize("name", FILES)
def test_no_canary_is_left_and_voxels_and_grid_are_the_same(name: str, tmp_path: Path) -> None:
    kind, content, ending = FILES[name]
    assert name == "nrrd two members" or CANARY in everything(content)
    clean, ending_now = clean_file(content, kind, "x")
    assert CANARY not in everything(clean) and b"Muster" not in everything(clean)
    (tmp_path / f"a{ending}").write_bytes(content)
    (tmp_path / f"b{ending_now}").write_bytes(clean)
    if ("packed" in name and kind == "metaimage") or name in ("nrrd bzip2", "nrrd gzip", "nrrd behind gzip"):
        before = None  # what stands behind the voxels, or how they are packed, is more than some readers take
    else:
        before = read_plain(tmp_path / f"a{ending}", kind, "a")
    after = read_plain(tmp_path / f"b{ending_now}", kind, "b")
    assert np.array_equal(np.sort(after.array.ravel()), np.sort(VOXELS.ravel()))
    assert after.geometry.spacing_mm is not None
    assert np.allclose(sorted(after.geometry.spacing_mm), [0.7, 0.8, 2.5])
    if before is not None:
        assert np.array_equal(before.array, after.array) and np.array_equal(
            before.geometry.affine, after.geometry.affine
        )
    if kind != "nifti":
        peer = SimpleITK.ReadImage(str(tmp_path / f"b{ending_now}"))
        assert np.array_equal(SimpleITK.GetArrayFromImage(peer), VOXELS)
        assert np.allclose(peer.GetOrigin(), (10, 20, -30.5))


def test_slicers_segments_keep_their_names(tmp_path: Path) -> None:
    content = NRRD.format(how="gzip").replace("Dr. Max CANARY-Muster-4711", "left kidney").encode() + gzip.compress(RAW)
    assert b"Segment0_Name:=left kidney" in clean_file(content, "nrrd", "x")[0]


@pytest.mark.parametrize("name", [n for n in FILES if "two" not in n])
def test_what_is_cut_off_is_refused(name: str) -> None:
    kind, content, _ = FILES[name]
    short = content[: -len(CANARY) - 20]
    with pytest.raises(PixelError):
        clean_file(short, kind, "x")


@pytest.mark.parametrize("line", ["byte skip: -1", "line skip: 2", "encoding: ascii", "type: block"])
def test_nrrd_in_a_form_that_is_not_written_anew_is_refused(line: str) -> None:
    field = line.partition(":")[0]
    lines = [row for row in NRRD.format(how="raw").splitlines() if not row.startswith(f"{field}:")]
    with pytest.raises(PixelError):
        clean_file("\n".join([*lines[:-1], line, "", ""]).encode() + RAW, "nrrd", "x")


def arrays(**more: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.savez(out, **more)
    return out.getvalue()


def test_arrays_hold_images_masks_and_labels_alone() -> None:
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    content = arrays(
        train_images=images, train_labels=np.array([[1], [0]]), patient_name=np.array(["CANARY-Muster-4711"] * 2),
        mrn=np.array([4711, 4712]),
    )  # fmt: skip
    clean = clean_arrays(content, "x.npz")
    assert clean == clean_arrays(content, "x.npz"), "the same arrays make the same file"
    with np.load(io.BytesIO(clean)) as found:
        assert sorted(found.files) == ["train_images", "train_labels"]
        assert np.array_equal(found["train_images"], images)
    told = [(m, s, r, t) for m, s, r, _, t in arrays_of(clean, "x")]
    assert told == [(m, s, r, t) for m, s, r, _, t in arrays_of(content, "x")]
    with pytest.raises(PixelError, match="holds words"):
        clean_arrays(arrays(image=images, labels=np.array(["Muster"])), "x.npz")


def test_a_nifti_header_that_says_impossible_sizes_is_refused() -> None:
    data = bytearray(nifti(1))
    struct.pack_into("<h", data, 40, 9)
    with pytest.raises(PixelError, match="number of voxels"):
        clean_file(bytes(data), "nifti", "x")
