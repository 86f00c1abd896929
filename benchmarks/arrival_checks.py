"""What the checks of arriving series find, and what they cry wolf over: moved patients, lost slices, any order.

    python -m benchmarks.arrival_checks --data ../shared/data [--page docs/results/arrival-checks.md]

Motion: in each volume, all slices from one on are shifted in their plane, by a known way in a random direction; found
is a jump at that very pair. False are jumps elsewhere, and any in the volume as it is. Volumes: CT and T1 MR of STS_002
(CC BY 3.0), and anatomy of our own data engine (`isocenter.synth`), which is no patient's.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import random
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
from pydicom import Dataset
from scipy import ndimage

from benchmarks.__main__ import machine
from isocenter.clinic.arrival import Patience, Series
from isocenter.core import Geometry, Image, Quantity
from isocenter.data.images import read_study
from isocenter.data.images.dicom.header import scan
from isocenter.data.images.dicom.plane import planes_of
from isocenter.data.images.motion import between, jumps, thumbnail
from isocenter.synth import synthesise_volume
from isocenter.testing.dicom_phantom import write_ct_series

Planes = tuple[np.ndarray, tuple[float, float], tuple[float, float] | None]
WAYS_MM = (0.0, 2.0, 3.0, 4.0, 6.0, 10.0)
ORDERS: dict[str, Callable[[list[Path]], list[Path]]] = {
    "in order": lambda files: files,
    "from the other end": lambda files: files[::-1],
    "odd, then even": lambda files: files[::2] + files[1::2],
    "random": lambda files: random.Random(7).sample(files, len(files)),
}


def volumes(
    data: Path, count: int
) -> dict[str, list[tuple[np.ndarray, tuple[float, float], tuple[float, float] | None]]]:
    """Return planes, their spacing and the range of their values, by where they come from."""
    found: dict[str, list[Planes]] = {}
    for name, ends in (("CT", (-200.0, 300.0)), ("MR_T1", None)):
        image = read_study(data / f"ct_mr_pet_sts/dicom/STS_002/{name}/image").study.images[0]
        spacing = image.geometry.spacing_mm or (1.0, 1.0, 1.0)
        found[f"STS_002, {name.replace('_', ' ')}"] = [(image.array[0].astype(np.float32), spacing[1:], ends)]
    made = []
    for index in range(count):
        sample = synthesise_volume(20261127, index)
        made.append((ndimage.zoom(sample.image, (0.5, 1, 1), order=1).astype(np.float32), (1.5, 1.5), None))
    found[f"{count} synthetic volumes"] = made
    return found


def moved(planes: np.ndarray, spacing: tuple[float, float], ends: tuple[float, float] | None) -> dict[float, list[int]]:
    """Return how often a jump was found, how often there was one, and how many were found elsewhere, by its length."""
    still = [thumbnail(plane, spacing, ends) for plane in planes]
    pairs = [between(a, b) for a, b in pairwise(still)]
    rng = np.random.default_rng(1)
    found: dict[float, list[int]] = {}
    for way in WAYS_MM:
        hits = trials = false = 0
        for at in range(3, len(planes) - 3, 2):
            angle = rng.uniform(0, 2 * np.pi)
            shift = (way * np.sin(angle) / spacing[0], way * np.cos(angle) / spacing[1])
            other = (
                thumbnail(ndimage.shift(planes[at], shift, order=1, mode="nearest"), spacing, ends)
                if way
                else still[at]
            )
            changed = [*pairs]
            changed[at - 1] = between(still[at - 1], other)
            at_pair = jumps(changed)
            hits += at - 1 in at_pair
            false += sum(pair != at - 1 for pair in at_pair)
            trials += 1
        found[way] = [hits, trials, false]
    return found


def alerts(files: list[Path], *, every_s: float = 0.3) -> tuple[int, int]:
    """Let files arrive; return alerts of missing slices, and alerts that came before the last slice."""
    series, now, told, early = Series("1", Patience(5.0), pixels=False), 0.0, 0, 0
    for number, file in enumerate(files):
        now += every_s
        series.add(planes_of(scan(file, "an image"), None), now)
        new = len(series.look(now))
        told, early = told + new, early + (new if number < len(files) - 1 else 0)
    while now < every_s * len(files) + 6:
        now += 0.5
        told += len(series.look(now))
    return told + len(series.look(now, ended=True)), early


def lost(trials: int, slices: int) -> dict[str, list[int]]:
    """Return what is told of whole series and of those that lost one slice, by the order in which they arrive."""
    rng, found = random.Random(3), {name: [0, 0, 0] for name in ORDERS}
    geometry = Geometry.axial((slices, 4, 4), spacing_mm=(2.5, 0.8, 0.7), origin_mm=(0.0, 0.0, 0.0))
    image = Image(np.zeros((1, slices, 4, 4), np.int16), geometry, Quantity.HU, "CT")
    for trial in range(trials):
        gone = rng.randrange(2, slices - 2)

        def without(index: int, one: Dataset, gone: int = gone) -> Dataset | None:
            return None if index == gone else one

        with tempfile.TemporaryDirectory() as folder:
            whole = write_ct_series(Path(folder) / "whole", image, name=str(trial))
            short = write_ct_series(Path(folder) / "short", image, name=str(trial), change=without)
            for name, order in ORDERS.items():
                told, early = alerts(order(short))
                found[name][0] += told > 0
                found[name][1] += early > 0
                found[name][2] += alerts(order(whole))[0]
    return found


def main() -> None:
    """Measure and print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ISOCENTER_SHARED_DATA", "../shared/data")))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--page", type=Path)
    args = parser.parse_args()
    rows, whole = [], {}
    for name, several in volumes(args.data, 4 if args.quick else 24).items():
        total = {way: [0, 0, 0] for way in WAYS_MM}
        for planes, spacing, ends in several:
            for way, numbers in moved(planes, spacing, ends).items():
                total[way] = [a + b for a, b in zip(total[way], numbers, strict=True)]
        whole[name] = total
        cells = [f"{hits} of {trials}" for hits, trials, _ in list(total.values())[1:]]
        wrong = sum(false for _, _, false in total.values()) + total[0.0][0]
        rows.append(f"| {name} | {' | '.join(cells)} | {wrong} in {sum(t for _, t, _ in total.values())} |")
        print(rows[-1], flush=True)
    trials, slices = (5, 24) if args.quick else (40, 40)
    series = lost(trials, slices)
    told = [f"| {n} | {a} of {trials} | {b} of {trials} | {c} in {trials} |" for n, (a, b, c) in series.items()]
    print("\n".join(told))
    if args.page is not None:
        args.page.write_text(page(rows, told, slices, " --quick" if args.quick else ""), "utf-8")
    print(json.dumps({"name": "arrival_checks", "motion": whole, "lost": series}))


def page(rows: list[str], told: list[str], slices: int, options: str) -> str:
    """Return docs/results/arrival-checks.md."""
    ways = " | ".join(f"{way:g} mm" for way in WAYS_MM[1:])
    how = """
    All slices from one on are shifted in their plane, by a known way in a random direction, at every second slice of
    each volume in turn; found is a jump at that very pair of slices. False: jumps told of at other pairs, or with no
    motion at all.
    """
    limits = """
    What this does not show: motion within a slice, along the normal, or by a bend; the sign says nothing of these. The
    shifts are simulated; real motion of known extent was not at hand. Synthetic anatomy changes from slice to slice as
    no patient's does, and there the sign cries wolf, and misses most: where it does so at a site, `ignore: [motion]`.
    """
    late = """
    A slice lost within the last seconds of a series is told of after its end, and slices that come in no order are
    judged in silence. The first and the last slice of a series can't be missed: nothing lies beyond them; for that
    there is the number of images that the scanner said it made.
    """
    lines = [
        "# Checks of series that are arriving",
        "",
        f"`python -m benchmarks.arrival_checks{options} --data DATA`, {datetime.date.today().isoformat()},",
        f"{machine()}.",
        "",
        "## A patient who moves between two slices",
        "",
        " ".join(how.split()),
        "",
        f"| volumes | {ways} | false |",
        f"| --- |{' --- |' * len(WAYS_MM)}",
        *rows,
        "",
        " ".join(limits.split()),
        "",
        "## A slice that is lost",
        "",
        f"Series of {slices} slices without one of them, and the same series whole, at three slices a second.",
        "",
        "| arrival | lost slice told of | of these, before the last slice came | alerts about the whole series |",
        "| --- | --- | --- | --- |",
        *told,
        "",
        " ".join(late.split()),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
