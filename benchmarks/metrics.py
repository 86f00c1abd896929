"""How fast are HD95 and NSD of ten structures, and in how much memory, against MONAI and surface-distance?

Two label maps of 128 x 256 x 256 voxels of 2.5 x 0.8 x 0.8 mm with ten ellipsoids, the second moved and swollen a
little. Both definitions of a surface, each against the library that it is equal to: border voxels against MONAI,
surface elements against surface-distance. Each job runs in a process of its own, ours and the peers' in turn, so that
the peak of memory is that of the job alone (imports and input are taken off). Every value must agree to 1e-6.

    python -m benchmarks.metrics [--quick]
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from benchmarks.write_seg import peak_mib

SPACING_MM = (2.5, 0.8, 0.8)
TOLERANCE_MM = 2.0
LABELS = 10
PEERS = {"monai": ("MONAI", "monai"), "surface_distance": ("surface-distance", "surface-distance-based-measures")}
OURS = {"monai": "border", "surface_distance": "elements"}


def make_pair(shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Paint the reference and an answer that is near it: about a voxel off, 5 % too large or too small."""
    rng = np.random.default_rng(7)
    maps = (np.zeros(shape, dtype=np.uint8), np.zeros(shape, dtype=np.uint8))
    for number in range(1, LABELS + 1):
        centre, radius = rng.uniform(0.2, 0.8, 3) * shape, rng.uniform(0.08, 0.2, 3) * shape
        moved, swollen = centre + rng.normal(0, 1, 3) * (1, 2, 2), radius * (1 + 0.05 * rng.normal(0, 1, 3))
        for labels, c, r in zip(maps, (centre, moved), (radius, swollen), strict=True):
            low, high = np.maximum(0, c - r).astype(int), np.minimum(shape, c + r + 2).astype(int)
            box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
            grids = np.ogrid[box]
            labels[box][sum(((g - m) / s) ** 2 for g, m, s in zip(grids, c, r, strict=True)) <= 1] = number
    return maps


def ours(reference: np.ndarray, prediction: np.ndarray, surface: str) -> list[tuple[float, float]]:
    """Dice, IoU, HD, ASSD, MASD and volumes are in the time too: they come with it."""
    from isocenter.evaluate.segmentation import segmentation_scores

    rows = segmentation_scores(reference, prediction, spacing_mm=SPACING_MM, tolerance_mm=TOLERANCE_MM, surface=surface)
    return [(r.hd95_mm, r.nsd) for r in rows]


def monai(reference: np.ndarray, prediction: np.ndarray) -> list[tuple[float, float]]:
    import torch
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    one_hot = [torch.from_numpy(np.stack([m == n for n in range(LABELS + 1)])[None]) for m in (prediction, reference)]
    distance = compute_hausdorff_distance(*one_hot, percentile=95, spacing=SPACING_MM)
    dice = compute_surface_dice(*one_hot, class_thresholds=[TOLERANCE_MM] * LABELS, spacing=SPACING_MM)
    return list(zip(distance[0].tolist(), dice[0].tolist(), strict=True))


def surface_distance(reference: np.ndarray, prediction: np.ndarray) -> list[tuple[float, float]]:
    import surface_distance as theirs

    rows = []
    for label in range(1, LABELS + 1):
        found = theirs.compute_surface_distances(reference == label, prediction == label, SPACING_MM)
        rows.append(
            (
                float(theirs.compute_robust_hausdorff(found, 95)),
                float(theirs.compute_surface_dice_at_tolerance(found, TOLERANCE_MM)),
            )
        )
    return rows


def work(job: str, shape: tuple[int, int, int]) -> None:
    """Do one job in this process and print its values, seconds and the memory that it took on top of the input."""
    warnings.simplefilter("ignore")
    who, peer = job.split(":")
    run = {"monai": monai, "surface_distance": surface_distance}[peer]
    tiny = make_pair((12, 24, 24))
    pair = make_pair(shape)

    def once(maps: tuple[np.ndarray, np.ndarray]) -> list[tuple[float, float]]:
        return ours(*maps, OURS[peer]) if who == "ours" else run(*maps)

    once(tiny)  # imports, and ours makes its table
    before = peak_mib()
    start = time.perf_counter()
    values = once(pair)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak_mib": max(peak_mib() - before, 0.1), "values": values}))


def run(job: str, quick: bool) -> dict:
    command = [sys.executable, "-m", "benchmarks.metrics", "--job", job, *(["--quick"] if quick else [])]
    threads = {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **threads})
    return json.loads(done.stdout.strip().splitlines()[-1])


def row(peer: str, key: str, unit: str, results: dict[str, list[dict]], described: str) -> dict:
    mine, theirs = (statistics.median(r[key] for r in results[f"{who}:{peer}"]) for who in ("ours", "peer"))
    name, package = PEERS[peer]
    return {
        "name": f"metrics: HD95 and NSD, {OURS[peer]}" + (" voxels" if peer == "monai" else " of surface"),
        "ours": round(mine, 4),
        "peer": round(theirs, 4),
        "unit": unit,
        "ratio": round(theirs / mine, 2),
        "peer_name": name,
        "peer_version": importlib.metadata.version(package),
        "input": described,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--job")
    parser.add_argument("--page", action="store_true", help="Write docs/results/metrics-speed.md too.")
    args = parser.parse_args()
    shape, rounds = ((64, 128, 128), 1) if args.quick else ((128, 256, 256), 5)
    if args.job:
        work(args.job, shape)
        return
    there = [p for p, (_, package) in PEERS.items() if _installed(package)]
    if not there:
        raise SystemExit("neither MONAI (pip install monai) nor surface-distance-based-measures is installed")
    results: dict[str, list[dict]] = {}
    for _ in range(rounds):
        for peer in there:
            for who in ("ours", "peer"):
                results.setdefault(f"{who}:{peer}", []).append(run(f"{who}:{peer}", args.quick))
    described = f"{LABELS} labels, {'x'.join(map(str, shape))} at {'/'.join(map(str, SPACING_MM))} mm"
    rows, worst = [], {}
    for peer in there:
        values = [np.array(results[f"{who}:{peer}"][0]["values"]) for who in ("ours", "peer")]
        worst[peer] = float((np.abs(values[0] - values[1]) / np.maximum(1, values[1])).max())
        if not worst[peer] <= 1e-6:
            raise SystemExit(f"our values and those of {peer} differ by {worst[peer]:.3g}")
        rows += [row(peer, key, unit, results, described) for key, unit in (("seconds", "s"), ("peak_mib", "MiB peak"))]
    for line in rows:
        print(f"{line['name']:45} {line['ours']:10.3f} {line['peer']:10.3f} {line['unit']:10} x{line['ratio']:.2f}")
    agreed = ", ".join(f"{PEERS[p][0]} {worst[p]:.1e}" for p in there)
    note = (
        f"metrics: largest relative difference of a value: {agreed}. Memory is that on top of input and imports. Ours "
        "gives Dice, IoU, HD, ASSD, MASD and volumes in the same call."
    )
    if args.page:
        _write_page(rows, note, rounds)
    print(json.dumps({**rows[0], "cases": rows[1:], "note": note}))


def _write_page(rows: list[dict], note: str, rounds: int) -> None:
    """Write the page beside the other results."""
    day = datetime.datetime.now(tz=datetime.UTC).date()
    lines = [
        "# How fast masks are measured", "",
        f"`python -m benchmarks.metrics --page`, {day}, {platform.machine()}, {os.cpu_count()} cores, load at the end "
        f"{os.getloadavg()[0]:.1f}. Each call in a process of its own, ours and the peer's in turn, {rounds} rounds, "
        "median. Targets: HD95 and NSD 8 times as fast as MONAI, 2.5 times as fast as surface-distance.", "",
        "| what | ours | peer | unit | ratio (above 1: ours is better) |", "| - | - | - | - | - |",
        *(
            f"| {r['name']}, against {r['peer_name']} {r['peer_version']} | {r['ours']:.3f} | {r['peer']:.3f} | "
            f"{r['unit']} | {r['ratio']:.2f} |" for r in rows
        ), "", note, "",
    ]  # fmt: skip
    file = Path(__file__).resolve().parents[1] / "docs" / "results" / "metrics-speed.md"
    file.write_text("\n".join(lines), "utf-8")


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    main()
