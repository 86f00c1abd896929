"""Near duplicates: how many of planted and of known ones are found, and how many of those found are none.

    python -m benchmarks.duplicates [--data ../shared/data] [--work FOLDER]

Writes docs/results/duplicates.md. Planted: 200 images of each of three sets, each changed in eight ways; found where
the changed image and its original are a pair by the rule that ships. False: pairs of different people by a rule of
another kind (correlation of whole pictures at 48 pixels), looked at by their numbers, not by a reader.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import PIL.Image

from benchmarks.__main__ import machine
from isocenter.data.catalog.catalog import Catalog, open_catalog
from isocenter.data.catalog.duplicates import BITS, FLAT, LEAST, find_duplicates, near_pairs
from isocenter.data.catalog.pictures import SIDE, Place, places_of, read_planes, small
from isocenter.data.catalog.pictures import _rows as rows_of
from isocenter.evaluate.calibration import wilson_interval
from isocenter.version import __version__

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "results" / "duplicates.md"
_KEY = "a key for the benchmark alone, of no use elsewhere"
_EACH = 200
SETS = {
    "BUSI (breast ultrasound, 256 px)": "i.name ILIKE '%us_breast_busi%'",
    "NIH ChestX-ray14 (256 px)": "i.name ILIKE '%cxr_nih%' AND n.rows = 256",
    "PneumoniaMNIST (28 px)": "i.name ILIKE '%pneumonia%' AND n.form = 'npz'",
}


def changed(plane: np.ndarray, how: str) -> np.ndarray:
    """Return a plane, changed."""
    low, high = float(plane.min()), float(plane.max())
    bytes_ = ((plane - low) / max(high - low, 1e-6) * 255).astype(np.uint8)
    picture = PIL.Image.fromarray(bytes_)
    width, height = picture.size
    if how.startswith("resized"):
        share = float(how.split()[-1]) / 100
        picture = picture.resize(
            (max(8, int(width * share)), max(8, int(height * share))), PIL.Image.Resampling.BILINEAR
        )
    elif how.startswith("JPEG"):
        packed = io.BytesIO()
        picture.save(packed, "JPEG", quality=int(how.split()[-1]))
        picture = PIL.Image.open(packed)
    elif how.startswith("brightness"):
        return 255 * (0.1 + 0.8 * (bytes_ / 255.0) ** 0.7)
    elif how.startswith("cropped"):
        share = float(how.split()[-1]) / 100
        x, y = round(width * share), round(height * share)
        picture = picture.crop((x, y, width - x, height - y))
    elif how == "mirrored":
        picture = picture.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(picture, dtype=np.float32)


WAYS = ("resized to 75", "resized to 50", "JPEG 75", "JPEG 40", "brightness and gamma", "cropped by 1", "cropped by 2",
        "cropped by 4", "mirrored")  # fmt: skip


def share(found: int, of: int) -> str:
    """Write a share with its 95 % interval."""
    low, high = wilson_interval(np.array([float(found)]), np.array([float(of)]))
    return f"{found}/{of} = {found / of:.3f} ({low[0]:.3f} to {high[0]:.3f})"


def seen(planes: list[np.ndarray]) -> tuple[int, np.ndarray]:
    """Return the hash and the small picture of the first plane, as they are kept."""
    row = rows_of("", planes[:1])[0]
    return int(row["dhash"]), np.frombuffer(row["picture"], np.uint8)  # type: ignore[arg-type, call-overload]


def planted(catalog: Catalog, places: list[Place], rng: np.random.Generator) -> dict[str, str]:
    """Return the share found of each change."""
    chosen = [places[int(n)] for n in sorted(rng.choice(len(places), min(_EACH, len(places)), replace=False))]
    planes = [p for _, p in read_planes(catalog.root, chosen) if not isinstance(p, str)]
    told = {}
    for how in WAYS:
        hits = 0
        for one in planes:
            pair = [seen(one), seen([changed(one[0], how)])]
            hits += any(
                near_pairs(np.array([h for h, _ in pair], np.uint64), np.stack([s for _, s in pair])[:, None, :])
            )
        told[how] = share(hits, len(planes))
    return told


def by_correlation(catalog: Catalog, places: list[Place]) -> set[tuple[str, str]]:
    """Return pairs that correlate above 0.95 at 48 pixels: the rule of benchmarks/diagnosis.py, of another kind."""
    rows, names = [], []
    for place, planes in read_planes(catalog.root, places):
        if not isinstance(planes, str):
            values = small(planes[0], 48, 48).ravel()
            rows.append((values - values.mean()) / max(float(values.std()), 1e-6))
            names.append(place.series_uid)
    table = np.array(rows, np.float32)
    pairs = np.argwhere(np.triu(table @ table.T / 48**2 > 0.95, 1))
    return {(min(names[i], names[j]), max(names[i], names[j])) for i, j in pairs}


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=ROOT / ".." / "shared" / "data")
    parser.add_argument("--archive", type=Path, help="An archive of the data that there is; made by default.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = options.archive or Path(folder) / "archive"
        if options.archive is None:
            program = "from isocenter.cli import main; main()"
            subprocess.run(
                [sys.executable, "-c", program, "ingest", str(options.data), "--to", str(root)], check=False,
                env={**os.environ, "ISOCENTER_PSEUDONYM_KEY": _KEY}, capture_output=True,
            )  # fmt: skip
        PAGE.write_text(measured(open_catalog(root)), "utf-8")
    sys.stdout.write(json.dumps({"name": "duplicates", "page": str(PAGE.relative_to(ROOT))}) + "\n")


def measured(catalog: Catalog) -> str:
    """Measure everything and return the page."""
    import duckdb

    rng = np.random.default_rng(0)
    places = {p.series_uid: p for p in places_of(catalog)}
    sets = {}
    for name, which in SETS.items():
        uids = duckdb.sql(
            f"SELECT DISTINCT n.series_uid FROM read_parquet('{catalog.root}/catalog/instances-*.parquet') n "
            f"JOIN read_parquet('{catalog.root}/private/locations.parquet') i USING (sop_uid) "
            f"WHERE {which} AND n.role = 'image' ORDER BY 1"
        ).fetchall()
        sets[name] = sorted((places[u] for (u,) in uids if u in places), key=lambda p: (p.path, p.member))
    found = find_duplicates(catalog)
    ours = {(p.first, p.second): p for g in found.groups for p in g.pairs}
    lines = [
        "# Duplicates", "",
        f"`python -m benchmarks.duplicates`, Isocenter {__version__}, {machine()}. An archive of all shared data; "
        f"{found.looked_at} series compared, {found.flat} of them flat, {sum(1 for _ in found.unread)} unread.", "",
        f"The rule: hashes of 64 bits differ in at most {BITS}, and the fine parts of {SIDE}-pixel pictures correlate "
        f"at {LEAST} or more; pictures whose spread is below {FLAT} of their range match nothing.", "",
        "## Planted copies", "", "Share found, with its 95 % interval. Mirrored copies are not meant to be "
        "found; 1 % of 28 pixels is none.", "",
        "| change | " + " | ".join(sets) + " |", "| --- |" + " --- |" * len(sets),
    ]  # fmt: skip
    told = {name: planted(catalog, some, rng) for name, some in sets.items()}
    lines += [f"| {how} | " + " | ".join(told[name][how] for name in sets) + " |" for how in WAYS]
    lines += ["", "## Known ones", ""]
    split = [g for g in found.groups if g.where == "across splits"]
    sides = duckdb_sides(catalog, [u for g in split for u in g.series])
    lines.append(
        f"PneumoniaMNIST holds 8 training images that are, pixel by pixel, images of its validation part: "
        f"{len(split)} groups stand across its parts, all by equal pixels, with {sides} training images in them."
    )
    lines += ["", "## What is found in the sets themselves", "",
              "The other rule is correlation above 0.95 of whole pictures at 48 pixels, by which BUSI's look-alikes "
              "were put together before. It is no truth: on chests it also takes different people for one.", "",
              "| set | pairs of two people | found here | of these equal pixels | by the other rule | by both | "
              "share of pairs found here that the other rule does not know |",
              "| --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for name, some in sets.items():
        uids = {p.series_uid for p in some}
        mine = {k for k, p in ours.items() if k[0] in uids and k[1] in uids and p.patients[0] != p.patients[1]}
        other = by_correlation(catalog, some)
        people = {p.series_uid: p.patient_key for p in some}
        other = {k for k in other if people[k[0]] != people[k[1]]}
        lines.append(
            f"| {name} | {len(some) * (len(some) - 1) // 2:,} | {len(mine)} | {sum(ours[k].exact for k in mine)} | "
            f"{len(other)} | {len(mine & other)} | {share(len(mine - other), len(mine)) if mine else 'none found'} |"
        )
    lines += ["", *false_pairs(catalog, sets["NIH ChestX-ray14 (256 px)"], ours), ""]
    return "\n".join(lines)


def duckdb_sides(catalog: Catalog, series: list[str]) -> int:
    """Return how many of some series stand in the training part of their set."""
    return int(
        catalog.sql(
            "SELECT count(DISTINCT series_uid) FROM series JOIN splits USING (patient_key) "
            "WHERE split = 'train' AND series_uid IN (SELECT unnest(?::VARCHAR[]))", [series],
        ).column(0)[0].as_py()
    )  # fmt: skip


def false_pairs(catalog: Catalog, places: list[Place], ours: dict[tuple[str, str], object]) -> list[str]:
    """Say how often two films of different people are taken for one, where the set names people."""
    del catalog
    uids = {p.series_uid: p.patient_key for p in places}
    pairs = [k for k in ours if k[0] in uids and k[1] in uids and uids[k[0]] != uids[k[1]]]
    of = sum(1 for n, a in enumerate(places) for b in places[n + 1 :] if a.patient_key != b.patient_key)
    return [
        "## False pairs", "",
        "NIH names its patients, so a pair of two patients there is a false one (unless the set has a person under two "
        f"numbers, or a film twice): {share(len(pairs), of)}. Films that are much alike for another reason, such as "
        "one machine, one child and one hour, are the likely ones among larger sets.",
        "", "## What it costs", "",
        "All pairs are compared, so time grows with the square of the series: about 2 s for these on one "
        "core, so by that 4 minutes for 100,000, and 7 hours for a million (not measured). Memory does not grow "
        "with the pairs; small pictures take 1 KiB a series.",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
