"""How fast is a large segmentation written and read, and in how much memory, against highdicom?

One hundred ellipsoids on 300 slices of 512x512, BINARY and LABELMAP. Each job runs in a process of its own, ours and
highdicom's in turn, so that the peak of memory is that of the job (input mask and imports included). Ours reads its
file back and proves the geometry within the time shown; highdicom does not. Afterwards both read both files,
and all four results must be the input mask.

    python -m benchmarks.write_seg [--quick]
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SPACING_MM = (1.5, 0.7, 0.8)
ORIGIN_MM = (-180.25, -170.5, -220.0)


def make_mask(slices: int, size: int, segments: int) -> np.ndarray:
    """Paint ellipsoids of differing size; later ones cover earlier ones."""
    rng = np.random.default_rng(7)
    labels = np.zeros((slices, size, size), dtype=np.uint16)
    for number in range(1, segments + 1):
        centre = rng.uniform(0.1, 0.9, 3) * labels.shape
        radius = rng.uniform(0.06, 0.18, 3) * labels.shape
        low = np.maximum(0, centre - radius).astype(int)
        high = np.minimum(labels.shape, centre + radius + 1).astype(int)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        grids = np.ogrid[box]
        inside = sum(((g - c) / r) ** 2 for g, c, r in zip(grids, centre, radius, strict=True)) <= 1
        labels[box][inside] = number
    return labels


def make_headers(slices: int, size: int) -> list:
    """CT headers of an invented patient, without pixels."""
    from pydicom import dcmread

    from isocenter.core import Geometry, Image
    from isocenter.testing.dicom_phantom import write_ct_series

    grid = Geometry.axial((1, size, size), spacing_mm=SPACING_MM, origin_mm=ORIGIN_MM)
    with tempfile.TemporaryDirectory() as folder:
        image = Image(np.zeros((1, 1, size, size), dtype=np.int16), grid)
        first = dcmread(write_ct_series(Path(folder), image)[0], stop_before_pixels=True)
    headers = []
    for z in range(slices):
        header = copy.deepcopy(first)
        header.SOPInstanceUID = f"{first.SOPInstanceUID[:50]}.{z + 1}"
        header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
        header.ImagePositionPatient = [ORIGIN_MM[0], ORIGIN_MM[1], ORIGIN_MM[2] + z * SPACING_MM[0]]
        header.SpacingBetweenSlices = SPACING_MM[0]
        header.InstanceNumber = z + 1
        headers.append(header)
    return headers


def ours_write(labels: np.ndarray, headers: list, kind: str, path: Path) -> float:
    from isocenter.core import Geometry, Mask, Segment
    from isocenter.data.images.seg import write_seg

    frame_uid = str(headers[0].FrameOfReferenceUID)
    grid = Geometry.axial(labels.shape, spacing_mm=SPACING_MM, origin_mm=ORIGIN_MM, frame_uid=frame_uid)
    segments = tuple(Segment(n, f"Segment {n}") for n in range(1, int(labels.max()) + 1))
    mask = Mask(labels, grid, segments)
    start = time.perf_counter()
    write_seg(mask, path, headers=headers, kind=kind)
    return time.perf_counter() - start


def ours_read(path: Path) -> tuple[float, np.ndarray]:
    from isocenter.data.images.seg import read_seg

    start = time.perf_counter()
    labels = read_seg(path).array
    return time.perf_counter() - start, labels


def peer_write(labels: np.ndarray, headers: list, kind: str, path: Path) -> float:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    algorithm = hd.AlgorithmIdentificationSequence("benchmark", codes.DCM.ArtificialIntelligence, "1")
    descriptions = [
        hd.seg.SegmentDescription(
            n,
            f"Segment {n}",
            codes.SCT.Tissue,
            codes.SCT.Tissue,
            hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm,
        )
        for n in range(1, int(labels.max()) + 1)
    ]
    start = time.perf_counter()
    segmentation = hd.seg.Segmentation(
        headers,
        labels,
        kind,
        descriptions,
        hd.UID(),
        100,
        hd.UID(),
        1,
        "Benchmark",
        "Benchmark",
        "1",
        "1",
    )
    segmentation.save_as(path)
    return time.perf_counter() - start


def peer_read(path: Path) -> tuple[float, np.ndarray]:
    import highdicom as hd

    start = time.perf_counter()
    volume = hd.seg.segread(path).get_volume(combine_segments=True)
    seconds = time.perf_counter() - start
    # highdicom runs its first axis from head to feet here: bring it to ours by its own affine.
    labels = volume.array[::-1] if volume.direction[2, 0] < 0 else volume.array
    return seconds, labels


def work(job: str, kind: str, folder: Path) -> None:
    """Do one job in this process and print its seconds and peak memory."""
    who, what = job.split("_")
    labels = np.load(folder / "mask.npy")
    if what == "write":
        headers = make_headers(labels.shape[0], labels.shape[1])
        path = folder / f"{who}-{kind}.dcm"
        path.unlink(missing_ok=True)
        seconds = (ours_write if who == "ours" else peer_write)(labels, headers, kind, path)
    else:
        shape, planes = labels.shape, np.flatnonzero(labels.any(axis=(1, 2)))
        del labels
        seconds, found = (ours_read if who == "ours" else peer_read)(folder / f"{who}-{kind}.dcm")
        if not len(planes) or found.shape[1:] != shape[1:]:
            raise SystemExit(f"{job} {kind}: shape {found.shape}")
    print(json.dumps({"seconds": seconds, "peak_mib": peak_mib()}))


def peak_mib() -> float:
    """Peak resident memory of this process alone (ru_maxrss would start at that of the parent)."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def check(kind: str, folder: Path) -> None:
    """Both libraries must find the input mask in both files."""
    labels = np.load(folder / "mask.npy")
    filled = np.flatnonzero(labels.any(axis=(1, 2)))
    labels = labels[filled[0] : filled[-1] + 1]
    for writer in ("ours", "peer"):
        for read in (ours_read, peer_read):
            found = read(folder / f"{writer}-{kind}.dcm")[1]
            hit = np.flatnonzero(found.any(axis=(1, 2)))
            if not np.array_equal(found[hit[0] : hit[-1] + 1], labels):
                raise SystemExit(f"{read.__name__} of the {kind} file of {writer} is not the input mask")


def run(job: str, kind: str, folder: Path) -> dict:
    command = [sys.executable, "-m", "benchmarks.write_seg", "--job", job, "--kind", kind, "--folder", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def row(name: str, ours: float, peer: float, unit: str, described: str) -> dict:
    return {
        "name": name,
        "ours": round(ours, 3),
        "peer": round(peer, 3),
        "unit": unit,
        "ratio": round(peer / ours, 2),
        "peer_name": "highdicom",
        "peer_version": importlib.metadata.version("highdicom"),
        "input": described,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--job")
    parser.add_argument("--kind", choices=("BINARY", "LABELMAP"))
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    if args.job:
        work(args.job, args.kind, args.folder)
        return
    slices, size, segments, rounds = (60, 256, 30, 1) if args.quick else (300, 512, 100, 3)
    described = f"{segments} segments, {slices}x{size}x{size}"
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "mask.npy", make_mask(slices, size, segments))
        for kind in ("BINARY", "LABELMAP"):
            results: dict[str, list[dict]] = {}
            for _ in range(rounds):
                for job in ("ours_write", "peer_write", "ours_read", "peer_read"):
                    results.setdefault(job, []).append(run(job, kind, folder))
            check(kind, folder)
            files = {who: (folder / f"{who}-{kind}.dcm").stat().st_size / 1e6 for who in ("ours", "peer")}
            for what in ("write", "read"):
                for key, unit in (("seconds", "s"), ("peak_mib", "MiB peak")):
                    ours, peer = (
                        statistics.median(r[key] for r in results[f"{who}_{what}"]) for who in ("ours", "peer")
                    )
                    label = f"write_seg: {kind} {what}" + (
                        ", proof included" if what == "write" and unit == "s" else ""
                    )
                    rows.append(row(label, ours, peer, unit, described))
            rows.append(row(f"write_seg: {kind} file", files["ours"], files["peer"], "MB", described))
    for line in rows:
        print(f"{line['name']:45} {line['ours']:10.3f} {line['peer']:10.3f} {line['unit']:10} x{line['ratio']:.2f}")
    print(json.dumps({**rows[0], "cases": rows[1:]}))


if __name__ == "__main__":
    main()
