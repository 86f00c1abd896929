"""Every file of the DICOM collection: read or refused, and why, and whether SimpleITK sees the same.

The result is the page docs/reference/dicom-support.md. Write it anew with ``python tests/real/test_dicom_support.py``.
"""

from __future__ import annotations

import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.uid import UID

from isocenter.core import Image, Quantity, Study
from isocenter.core.errors import DataError
from isocenter.data.images.dicom import read_dicom

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "dicom-support.md"

SERIES = (
    "dcmqi/segmentations/23x38x3/image",
    "dcmqi/segmentations/24x38x3/image",
    "dcmqi/segmentations/ct-3slice",
    "pydicom_test_files/test_files/dicomdirtests/77654033/CT2",
    "pydicom_test_files/test_files/dicomdirtests/98892001/CT5N",
    "pydicom_test_files/test_files/dicomdirtests/98892003/MR1",
    "pydicom_test_files/test_files/dicomdirtests/98892003/MR2",
    "pydicom_test_files/test_files/dicomdirtests/98892003/MR700",
    "rt_utils/mock_data",
    "rt_utils/oriented_data",
)
"""Folders that hold one series (or several) in several files."""

OTHERWISE = {
    "SC_rgb_rle_16bit": "differs: ours is 257 times the 8-bit file, as it must be; SimpleITK's is not",
    "SC_rgb_rle_32bit": "differs: ours is 16843009 times the 8-bit file, as it must be; SimpleITK's is not",
    "rtdose_expb.dcm": "differs: ours equals the little-endian file, as it must; SimpleITK's does not",
}
"""Files where the two differ and an independent reference says who is right (tests below)."""

HEAD = """# DICOM support, file by file

Made by `python tests/real/test_dicom_support.py` from every file of a collection of the test files of pydicom,
highdicom, dcmqi, rt-utils, dicompyler, dcmjs, pynetdicom, cornerstone3D and dwv; a test fails when this page and the
code disagree.

- **read**: the file, passed alone, became an image (size is channels x z x y x x), a mask or a report.
- **refused**: it should have held something readable and does not; the reason is what a user is told. Where a study has
  several series, the others are read.
- **ignored**: not something to read as an image, mask or report.
- **SimpleITK**: the same file in SimpleITK {sitk}. "equal" means that every voxel, the spacing, the directions and the
  position of the first voxel are the same (spacing and position to 0.000001 mm, directions to 0.00001; values to
  float32 where the header rescales by a fraction). "(voxels)" is said where there is no place to compare.

Known differences, by intention:

- MONOCHROME1 values are kept as stored; SimpleITK inverts them ("equal inverted").
- A dose is in Gy or its own unit; SimpleITK leaves out Dose Grid Scaling ("equal times dose grid scaling").
- A lone slice is as thick as its header's Slice Thickness, and without one it has no place in the patient; SimpleITK
  takes Spacing Between Slices, or 1 mm. Its z spacing is therefore not compared.
- Slices are stacked along row x column; SimpleITK keeps the frames of a multi-frame as stored ("equal reversed").
- Segmentations become masks and structured reports become reports; SimpleITK is not asked.
"""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    kind: str
    outcome: str
    detail: str
    peer: str

    def markdown(self) -> str:
        cells = (self.name, self.kind, self.outcome, self.detail, self.peer)
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def kind_of(path: Path) -> str:
    """SOP Class and transfer syntax in words, or what the file is instead."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path, force=True, specific_tags=["SOPClassUID"], stop_before_pixels=True)
    except (pydicom.errors.InvalidDicomError, EOFError, ValueError, TypeError, AttributeError, NotImplementedError):
        return path.suffix.lstrip(".")
    sop_class = UID(str(dataset.get("SOPClassUID", "") or ""))
    syntax = UID(str(getattr(dataset, "file_meta", {}).get("TransferSyntaxUID", "") or ""))
    if not sop_class and not syntax:
        return path.suffix.lstrip(".")
    name = (sop_class.name if sop_class else "no SOP Class").removesuffix(" Storage")
    return f"{name}, {syntax.name if syntax else 'no transfer syntax'}"


def describe(image: Image) -> str:
    size = "x".join(str(n) for n in image.array.shape)
    spacing = image.geometry.spacing_mm or image.geometry.pixel_spacing_mm
    place = "" if image.geometry.affine is not None else ", in time" if image.geometry.stack == "time" else ", no place"
    millimetres = " x ".join(f"{s:g}" for s in spacing) + " mm" if spacing else "spacing unknown"
    return f"{image.modality or 'no modality'} {size} {image.array.dtype}, {image.quantity}, {millimetres}{place}"


def row_of(name: str, files: list[Path], root: Path) -> Row:
    kind = kind_of(files[0])
    if len(files) > 1:
        kind = f"{len(files)} files: {kind}"
    try:
        study, _, refused = read_dicom(files, root=root)
    except DataError as error:
        reason = str(error).removeprefix(f"{error.source}: ") if error.source else str(error)
        return Row(name, kind, "refused", reason, "")
    left_out = "; ".join(f"{r.where}: {r.reason}" if len(files) > 1 else r.reason for r in refused)
    parts = [describe(image) for image in study.images]
    parts += [f"mask of {len(m.segments)} segments, {'x'.join(map(str, m.array.shape))}" for m in study.masks]
    parts += ["report"] * len(study.reports)
    if not parts:
        return Row(name, kind, "ignored", left_out, "")
    detail = "; ".join(parts) + (f" (left out: {left_out})" if left_out else "")
    return Row(name, kind, "read", detail, "; ".join(_peers(study, files)))


def _peers(study: Study, files: list[Path]) -> list[str]:
    out = []
    for image in study.images:
        chosen = [str(f) for n in image.source.files for f in files if f.name == Path(n).name]
        out.append(compare(image, chosen))
    return list(dict.fromkeys(out))


def compare(image: Image, files: list[str]) -> str:
    """Say whether SimpleITK reads the same voxels at the same place."""
    otherwise = next((said for stem, said in OTHERWISE.items() if Path(files[0]).name.startswith(stem)), None)
    if otherwise:
        return otherwise
    try:
        theirs = SimpleITK.ReadImage(files if len(files) > 1 else files[0])
    except RuntimeError:
        return "cannot read it"
    values = SimpleITK.GetArrayFromImage(theirs)
    ours = np.moveaxis(image.array, 0, -1) if image.quantity is Quantity.RGB else image.array[0]
    values = values if values.ndim == ours.ndim else values[None]
    if values.shape != ours.shape:
        return f"differs: size {'x'.join(map(str, values.shape))}"
    how = _equal_values(image, ours, values)
    if how is None:
        return "differs: voxels"
    return f"equal{how}{_place(image, theirs, reversed_z=how == ' reversed')}"


def _equal_values(image: Image, ours: np.ndarray, theirs: np.ndarray) -> str | None:
    """Return in which sense the voxels are equal, None if in none."""
    if _same(ours, theirs):
        return ""
    if len(ours) > 1 and _same(ours, theirs[::-1]):
        return " reversed"
    if image.meta.get("PhotometricInterpretation") == "MONOCHROME1":
        # Both are slope * stored + intercept; inverting the stored value makes their sum constant.
        total = ours.astype(np.float64) + theirs
        if np.ptp(total) < 1e-3:
            return " inverted"
    if image.modality == "RTDOSE":
        scale = ours.astype(np.float64).sum() / theirs.astype(np.float64).sum()
        if _same(ours, theirs * scale):
            return " times dose grid scaling"
    return None


def _same(ours: np.ndarray, theirs: np.ndarray) -> bool:
    if ours.dtype.kind == "f":
        return bool(np.allclose(ours, theirs, rtol=2e-7, atol=1e-6))
    return bool(np.array_equal(ours, theirs))


def _place(image: Image, theirs: SimpleITK.Image, *, reversed_z: bool) -> str:
    """Compare spacing and position; "" when equal, a remark when they can't be compared."""
    geometry = image.geometry
    if geometry.affine is None or geometry.spacing_mm is None:
        return " (voxels)"
    spacing = np.array(theirs.GetSpacing())[::-1]
    if np.abs(spacing[-2:] - geometry.spacing_mm[1:]).max() > 1e-6:
        return ", pixel spacing differs"
    depth = geometry.shape[0]
    corner = np.array(theirs.GetOrigin())
    first = geometry.to_world([[depth - 1 if reversed_z else 0, 0, 0]])[0]
    if np.abs(corner - first).max() > 1e-6:
        return f", position differs by {np.abs(corner - first).max():.6f} mm"
    direction = np.array(theirs.GetDirection()).reshape(3, 3)[:, ::-1]
    signs = np.array([-1 if reversed_z else 1, 1, 1])
    if np.abs(direction[:, 1:] - (geometry.directions * signs)[:, 1:]).max() > 1e-5:
        return ", direction differs"
    if depth > 1 and abs(spacing[0] - geometry.spacing_mm[0]) > 1e-6:
        return f", slice spacing differs by {abs(spacing[0] - geometry.spacing_mm[0]):.6f} mm"
    return ""


def rows(folder: Path) -> list[Row]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return [row_of(path.relative_to(folder).as_posix(), [path], path.parent) for path in files]


def series_rows(folder: Path) -> list[Row]:
    out = []
    for name in SERIES:
        files = sorted(p for p in (folder / name).iterdir() if p.is_file())
        out.append(row_of(f"{name}/", files, folder / name))
    return out


def page(folder: Path) -> str:
    files, series = rows(folder), series_rows(folder)
    count = {outcome: sum(r.outcome == outcome for r in files) for outcome in ("read", "refused", "ignored")}
    compared = [r.peer for r in (*files, *series) if r.peer and r.peer != "cannot read it"]
    equal = sum(p.startswith("equal") and "differs" not in p for p in compared)
    table = "| {} | kind | outcome | what, or why not | SimpleITK |\n| --- | --- | --- | --- | --- |\n"
    return "\n".join(
        [
            HEAD.format(sitk=SimpleITK.Version_VersionString()),
            f"{len(files)} files: {count['read']} read, {count['refused']} refused, {count['ignored']} ignored. Of "
            f"{len(compared)} comparisons with SimpleITK, {equal} are equal in one of the senses above.\n",
            "## Series of several files\n",
            table.format("folder") + "\n".join(r.markdown() for r in series) + "\n",
            "## Files, each alone\n",
            table.format("file") + "\n".join(r.markdown() for r in files) + "\n",
        ]
    )


@pytest.mark.real
def test_dicom_support_page_is_what_the_code_does(shared_data: Path) -> None:
    assert PAGE.read_text(encoding="utf-8") == page(shared_data / "dicom"), (
        f"{PAGE.name} is not what the code does now; if the change is meant, run python {Path(__file__).name}"
    )


@pytest.mark.real
@pytest.mark.parametrize(("bits", "factor"), [(16, 257), (32, 16843009)])
def test_dicom_deep_rle_colour_is_a_multiple_of_the_8_bit_file(shared_data: Path, bits: int, factor: int) -> None:
    folder = shared_data / "dicom" / "pydicom_test_files" / "test_files"
    deep = read_dicom([folder / f"SC_rgb_rle_{bits}bit.dcm"], root=folder)[0].images[0].array
    flat = read_dicom([folder / "SC_rgb_rle.dcm"], root=folder)[0].images[0].array
    np.testing.assert_array_equal(deep, flat.astype(np.uint64) * factor)


@pytest.mark.real
def test_dicom_big_endian_dose_is_the_little_endian_one(shared_data: Path) -> None:
    folder = shared_data / "dicom" / "pydicom_test_files" / "test_files"
    big, little = (read_dicom([folder / n], root=folder)[0].images[0] for n in ("rtdose_expb.dcm", "rtdose.dcm"))
    np.testing.assert_array_equal(big.array, little.array)
    assert big.geometry == little.geometry


def test_dicom_support_page_explains_every_difference() -> None:
    """Where the two differ, the page says why, and a test above proves it."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if re.search(r"\| (equal.*)?differs", line)]
    assert {Path(line.split(" | ")[0]).name.split(".")[0].removesuffix("_2frame") for line in lines} == {
        "SC_rgb_rle_16bit",
        "SC_rgb_rle_32bit",
        "rtdose_expb",
    }


if __name__ == "__main__":
    data = Path(os.environ.get("ISOCENTER_SHARED_DATA", ROOT.parent / "shared" / "data"))
    PAGE.write_text(page(data / "dicom"), encoding="utf-8")
