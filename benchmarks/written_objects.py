"""Round trips of every mask format over 48 orientations, what dciodvfy says, and real contours against real masks.

    python -m benchmarks.written_objects

Writes docs/results/written-objects.md. A phantom is 9x17x23 voxels of 2.5/0.8/0.7 mm, off-centre origin, with three
segments without any symmetry; each of the 48 orientations of the axes is turned by nothing, a little and a lot. The
distance and the volume are measured here from what the public readers return, not taken from the writers' own proof.
"""

from __future__ import annotations

import datetime
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom

from benchmarks.__main__ import ROOT, machine
from isocenter.core import Image, Mask, Quantity, Segment
from isocenter.data.images.nifti import read_nifti_mask, write_nifti
from isocenter.data.images.nrrd import read_nrrd_mask, write_nrrd
from isocenter.data.images.rtstruct import read_rtstruct, write_rtstruct
from isocenter.data.images.seg import read_seg, write_seg
from isocenter.testing import phantom_geometry
from isocenter.testing.dicom_phantom import write_ct_series

SHAPE = (9, 17, 23)
TURNS = ((0.0, 0.0, 0.0), (8.0, -5.0, 11.0), (31.0, 22.0, -40.0))


def phantom_mask(orientation: int, degrees: tuple[float, float, float]) -> Mask:
    """Three segments without symmetry: a block with a corner missing, a hook, one voxel."""
    geometry = phantom_geometry(orientation, degrees=degrees, shape=SHAPE)
    array = np.zeros(SHAPE, np.uint16)
    array[1:6, 2:10, 3:9] = 1
    array[1:3, 2:5, 3:6] = 0
    array[2:8, 12:15, 14:20] = 2
    array[2:4, 5:15, 18:20] = 2
    array[7, 1, 20] = 3
    return Mask(array, geometry, tuple(Segment(n, f"segment {n}") for n in (1, 2, 3)))


def centroid_and_volume(mask: Mask, number: int) -> tuple[np.ndarray, float, float]:
    """Centroid in LPS mm, volume in mm3, and the signed distance of the centroid from the segments' common centre."""
    inside = mask.segment_array(number)
    points = mask.geometry.to_world(np.argwhere(inside).astype(float))
    return (
        points.mean(axis=0),
        inside.sum() * float(mask.geometry.voxel_volume_mm3 or np.nan),
        float(points[:, 0].mean()),
    )


def errors(original: Mask, back: Mask) -> tuple[float, float, bool]:
    """Largest centroid error in mm, largest relative volume error, whether any side was swapped."""
    distance, volume, swapped = 0.0, 0.0, False
    centres = [np.array([centroid_and_volume(m, n)[0] for n in (1, 2, 3)]) for m in (original, back)]
    for i, number in enumerate((1, 2, 3)):
        before, after = centroid_and_volume(original, number), centroid_and_volume(back, number)
        distance = max(distance, float(np.linalg.norm(before[0] - after[0])))
        volume = max(volume, abs(after[1] / before[1] - 1))
        sides = [c[i, 0] - c[:, 0].mean() for c in centres]
        swapped |= bool(sides[0] * sides[1] < 0)
    return distance, volume, swapped


def mirrored_is_caught(write: Callable[[Mask, Path], object], mask: Mask, path: Path) -> bool:
    """Swap the reader's answer for its mirror image and see whether the writer's proof refuses."""
    from unittest import mock

    from isocenter.core.errors import GeometryError
    from isocenter.data.images import nifti, nrrd, rtstruct, seg

    modules = {"nii": nifti, "nrrd": nrrd, "seg": seg.write, "rtstruct": rtstruct.write}
    module = modules[path.stem.split("-")[0]]
    name = next(n for n in dir(module) if n == "prove")
    honest = getattr(module, name)

    def mirror(original: Mask, read_back: Mask, **kwargs: object) -> object:
        flipped = replace(read_back, array=np.ascontiguousarray(np.flip(read_back.array, axis=-1)))
        return honest(original, flipped, **kwargs)

    with mock.patch.object(module, name, mirror):
        try:
            write(mask, path)
        except GeometryError:
            return not path.exists()
    return False


def round_trips(folder: Path) -> list[str]:
    """Rows of the table: one per format."""
    results: dict[str, list[tuple[float, float, bool]]] = {}
    caught: dict[str, int] = {}
    for orientation in range(48):
        for turn, degrees in enumerate(TURNS):
            mask = phantom_mask(orientation, degrees)
            here = folder / f"{orientation}-{turn}"
            array = (np.arange(np.prod(SHAPE)).reshape((1, *SHAPE)) % 2000 - 1000).astype(np.int16)
            image = Image(array, mask.geometry, quantity=Quantity.HU, modality="CT")
            headers = [pydicom.dcmread(f, stop_before_pixels=True) for f in write_ct_series(here, image)]
            # The phantom's own frame of reference, so that mask and series lie in one.
            mask = replace(mask, geometry=replace(mask.geometry, frame_uid=str(headers[0].FrameOfReferenceUID)))
            formats: dict[str, tuple[str, Callable[[Mask, Path], object], Callable[[Path], Mask]]] = {
                "NIfTI": ("nii-a.nii.gz", write_nifti, read_nifti_mask),
                "NRRD": ("nrrd-a.nrrd", write_nrrd, read_nrrd_mask),
                "DICOM SEG, binary": ("seg-b.dcm", lambda m, p, h=headers: write_seg(m, p, headers=h), read_seg),
                "DICOM SEG, labelmap": (
                    "seg-l.dcm",
                    lambda m, p, h=headers: write_seg(m, p, headers=h, kind="LABELMAP"),
                    read_seg,
                ),
                "DICOM SEG, fractional": (
                    "seg-f.dcm",
                    lambda m, p, h=headers: write_seg(m, p, headers=h, kind="FRACTIONAL"),
                    read_seg,
                ),
                "RTSTRUCT": (
                    "rtstruct-a.dcm",
                    lambda m, p, h=headers: write_rtstruct(m, p, headers=h),
                    lambda p, g=mask.geometry: read_rtstruct(p, g),
                ),
            }
            for name, (file, write, read) in formats.items():
                write(mask, here / file)
                results.setdefault(name, []).append(errors(mask, read(here / file)))
                (here / file).unlink()
                caught[name] = caught.get(name, 0) + mirrored_is_caught(write, mask, here / file)
            shutil.rmtree(here)
    return [
        f"| {name} | {len(rows)} | {max(r[0] for r in rows):.2g} | {100 * max(r[1] for r in rows):.2g} "
        f"| {sum(r[2] for r in rows)} | {caught[name]} of {len(rows)} |"
        for name, rows in results.items()
    ]


def dciodvfy_errors(path: Path) -> list[str]:
    """Error lines of dciodvfy for one file."""
    if shutil.which("dciodvfy") is None:
        raise SystemExit("dciodvfy is not installed (Debian: apt-get install dicom3tools)")
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    return [line.removeprefix("Error - ") for line in (done.stdout + done.stderr).splitlines() if line[:5] == "Error"]


def validated(folder: Path, source: Path) -> list[str]:
    """Rows: each kind of object, and the errors that dciodvfy finds in it and does not find in its source."""
    inherited = set(dciodvfy_errors(source))
    rows = []
    for path in sorted(folder.glob("*.dcm")):
        found = dciodvfy_errors(path)
        own = [line for line in found if line not in inherited]
        rows.append(f"| {path.stem} | {len(found) - len(own)} | {len(own)} | {'; '.join(own)} |")
    return rows


def main() -> None:
    """Measure and write the page."""
    from benchmarks.written_samples import DATA, contour_rows, write_samples

    with tempfile.TemporaryDirectory() as temp:
        trips = round_trips(Path(temp))
        samples = Path(temp) / "samples"
        samples.mkdir()
        write_samples(samples)
        checked = validated(samples, DATA / "dicom" / "STS_002" / "CT" / "image" / "000000.dcm")
    lines = [
        "# Written objects",
        "",
        f"`python -m benchmarks.written_objects`, {datetime.date.today().isoformat()}, {machine()}.",
        "",
        "## Round trips",
        "",
        "48 orientations of the axes, each turned by nothing, a little (8, -5, 11 degrees) and a lot (31, 22, -40),",
        "voxels of 2.5/0.8/0.7 mm, three segments without symmetry. Worst case over all:",
        "",
        "| format | round trips | centroid error, mm | volume error, % | sides swapped | mirrored writer caught |",
        "| --- | --- | --- | --- | --- | --- |",
        *trips,
        "",
        "## dciodvfy",
        "",
        "Errors that `dciodvfy` finds in one object of each kind, written from the CT of STS_002. That source",
        "breaks the standard itself (a Study ID of 17 characters); a study's identity is carried over as it is, so its",
        "errors are counted apart. A result set is what a node sends with `results:`. Debian's `dciodvfy` (2022) does",
        "not know Label Map Segmentation Storage (2024).",
        "",
        "| object | errors of the source, carried over | errors of its own | which |",
        "| --- | --- | --- | --- |",
        *checked,
        "",
        "## Real contours",
        "",
        *contour_rows(),
    ]
    (ROOT / "docs" / "results" / "written-objects.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
