"""Which way of searching vectors: numpy, DuckDB's array functions, LanceDB; and what the shipped vectors find.

    python -m benchmarks.similarity --archive ARCHIVE [--lance PYTHON] [--most 1000000]

Writes docs/results/similarity.md. All three search exactly; answers are compared. LanceDB is no dependency: it is
measured by the Python of an environment that has it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from benchmarks.__main__ import machine
from isocenter.data.catalog.catalog import Catalog, open_catalog
from isocenter.data.catalog.pictures import places_of
from isocenter.data.catalog.similar import Space, image_vectors, nearest, standardised, text_vectors, weighted
from isocenter.verbs.likeness import IMAGES, TEXTS, image_encoder, text_encoder
from isocenter.version import __version__

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "results" / "similarity.md"
_WIDTH, _TOP, _QUERIES = 256, 10, 7
_LANCE = """
import json, sys, time, numpy as np, pyarrow as pa, lancedb
folder, count = sys.argv[1], int(sys.argv[2])
vectors = np.load(folder + "/vectors.npy", mmap_mode="r")[:count]; queries = np.load(folder + "/queries.npy")
start = time.perf_counter()
database = lancedb.connect(folder + "/lance")
step = 100000
table = None
for first in range(0, count, step):
    part = np.ascontiguousarray(vectors[first:first + step])
    rows = pa.table({"n": pa.array(np.arange(first, first + len(part))),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), part.shape[1])})
    if table is None:
        table = database.create_table("v%d" % count, rows, mode="overwrite")
    else:
        table.add(rows)
made = time.perf_counter() - start
took, found = [], []
for query in queries:
    start = time.perf_counter()
    got = table.search(query).distance_type("cosine").limit(10).to_arrow()
    took.append(time.perf_counter() - start)
    found.append(got.column("n").to_pylist())
print(json.dumps({"made": made, "took": took, "found": found, "version": lancedb.__version__}))
"""


def by_numpy(folder: Path, count: int) -> tuple[float, list[float], list[list[int]]]:
    """Search by what ships."""
    start = time.perf_counter()
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")[:count]
    made = time.perf_counter() - start
    took, found = [], []
    for query in np.load(folder / "queries.npy"):
        start = time.perf_counter()
        rows, _ = nearest(vectors, query, _TOP)
        took.append(time.perf_counter() - start)
        found.append(rows.tolist())
    return made, took, found


def by_duckdb(folder: Path, count: int) -> tuple[float, list[float], list[list[int]]]:
    """Search by array_cosine_similarity in a table in memory."""
    start = time.perf_counter()
    database = duckdb.connect(config={"memory_limit": "4GB"})
    database.execute(f"CREATE TABLE v (n BIGINT, vector FLOAT[{_WIDTH}])")
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")[:count]
    for first in range(0, count, 100_000):
        part = np.ascontiguousarray(vectors[first : first + 100_000])
        rows = pa.table(
            {
                "n": pa.array(np.arange(first, first + len(part))),
                "vector": pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), _WIDTH),
            }
        )
        database.register("rows", rows)
        database.execute("INSERT INTO v SELECT * FROM rows")
        database.unregister("rows")
    made = time.perf_counter() - start
    took, found = [], []
    for query in np.load(folder / "queries.npy"):
        start = time.perf_counter()
        rows = database.execute(
            f"SELECT n FROM v ORDER BY array_cosine_similarity(vector, ?::FLOAT[{_WIDTH}]) DESC, n LIMIT {_TOP}",
            [query.tolist()],
        ).fetchall()
        took.append(time.perf_counter() - start)
        found.append([n for (n,) in rows])
    return made, took, found


def speeds(folder: Path, counts: list[int], lance: Path | None) -> list[str]:
    """Measure and return rows of a table."""
    rng = np.random.default_rng(0)
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, (max(counts), _WIDTH))
    for first in range(0, max(counts), 100_000):
        part = vectors[first : first + 100_000]
        part[:] = rng.standard_normal(part.shape, dtype=np.float32)
    vectors.flush()
    np.save(folder / "queries.npy", rng.standard_normal((_QUERIES, _WIDTH), dtype=np.float32))
    lines = []
    for count in counts:
        ours = by_numpy(folder, count)
        duck = by_duckdb(folder, count)
        cells = [("numpy (ships)", ours), ("DuckDB array_cosine_similarity", duck)]
        if lance is not None:
            done = subprocess.run(
                [str(lance), "-c", _LANCE, str(folder), str(count)], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise SystemExit(done.stderr[-2000:])
            told = json.loads(done.stdout.strip().splitlines()[-1])
            cells.append((f"LanceDB {told['version']}, no index", (told["made"], told["took"], told["found"])))
        for name, (made, took, found) in cells:
            same = sum(set(a) == set(b) for a, b in zip(found, ours[2], strict=True))
            lines.append(
                f"| {count:,} | {name} | {1000 * statistics.median(took):.1f} | {1000 * took[0]:.1f} | {made:.2f} | "
                f"{same}/{_QUERIES} |"
            )
    return lines


def agreement(
    vectors: np.ndarray, labels: list[frozenset[str]], people: list[str], prepare: object, few: int = 400
) -> tuple[float, float]:
    """Return how many of the five nearest of another patient share a label, and how many of any do."""
    rng = np.random.default_rng(0)
    prepared = prepare(vectors, vectors[0])[0]  # type: ignore[operator]
    hits, chance = [], []
    for n in rng.choice(len(labels), min(few, len(labels)), replace=False):
        rows, _ = nearest(prepared, prepared[n], 40)
        others = [r for r in rows if people[r] != people[n]][:5]
        hits += [bool(labels[n] & labels[r]) for r in others]
        chance += [bool(labels[n] & labels[r]) for r in rng.choice(len(labels), 20) if people[r] != people[n]]
    return float(np.mean(hits)), float(np.mean(chance))


def found_by_them(catalog: Catalog) -> list[str]:
    """Return what the shipped vectors find on real sets."""
    lines = []
    places = places_of(catalog)
    vectors = image_vectors(catalog, places, Space(IMAGES, image_encoder()))
    for name, where, label in (
        ("BUSI: benign, malignant, normal", "modality = 'US' AND series.form = 'picture'", "name = 'label'"),
        ("PneumoniaMNIST: pneumonia or not", "series.form = 'npz' AND rows = 28", "name = 'label'"),
    ):
        told = catalog.sql(
            f"SELECT series_uid, list(DISTINCT l.value) AS v FROM series JOIN labels l USING (series_uid) "
            f"WHERE {where} AND l.{label} GROUP BY 1"
        ).to_pylist()
        labels = {row["series_uid"]: frozenset(row["v"]) for row in told}
        some = [n for n, p in enumerate(places) if p.series_uid in labels and np.isfinite(vectors[n]).all()]
        hit, chance = agreement(
            vectors[some], [labels[places[n].series_uid] for n in some], [places[n].patient_key for n in some],
            standardised,
        )  # fmt: skip
        lines.append(f"| {name} | images | {len(some):,} | {hit:.3f} | {chance:.3f} |")
    rows = catalog.sql(
        "SELECT r.report_key, r.sha256, any_value(r.text) AS text, any_value(r.patient_key) AS patient_key, "
        "list(DISTINCT l.value) AS v FROM reports r JOIN labels l USING (report_key) WHERE l.name = 'MeSH' "
        "AND l.value <> 'normal' GROUP BY ALL ORDER BY ALL"
    ).to_pylist()
    keys, texts = [r["sha256"] for r in rows], [r["text"] or "" for r in rows]
    found = text_vectors(catalog, keys, texts, Space(TEXTS, text_encoder()))
    labels = [frozenset(v.split("/")[0] for v in r["v"]) for r in rows]
    for how, prepare in (("as counted", lambda v, q: (v, q)), ("weighted by rarity (ships)", weighted)):
        hit, chance = agreement(found, labels, [r["patient_key"] for r in rows], prepare)
        lines.append(
            f"| IU X-ray: reports share a MeSH heading, {how} | texts | {len(rows):,} | {hit:.3f} | {chance:.3f} |"
        )
    return lines


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--archive", type=Path, required=True)
    parser.add_argument("--lance", type=Path)
    parser.add_argument("--most", type=int, default=1_000_000)
    options = parser.parse_args()
    counts = [n for n in (10_000, 100_000, 1_000_000) if n <= options.most]
    with tempfile.TemporaryDirectory() as folder:
        table = speeds(Path(folder), counts, options.lance)
    lines = [
        "# Similarity search", "",
        f"`python -m benchmarks.similarity`, Isocenter {__version__}, {machine()}; DuckDB {duckdb.__version__}, numpy "
        f"{np.__version__}, pyarrow {pa.__version__}.", "", "## Speed", "",
        f"Random vectors of {_WIDTH} numbers; the {_TOP} nearest by cosine; median of {_QUERIES} queries, and the "
        "first one. All search exactly; the last column says in how many queries the answer is numpy's. Other work ran "
        "on the machine. Making: to map the file, to fill a table in memory, to write a table to the disk.", "",
        "| vectors | way | ms a query | ms the first | s to make | same answer |", "| --- " * 6 + "|",
        *table, "",
        "DuckDB's index for vectors (VSS) is an extension that is fetched when it is first used, and there may be no "
        "network where an archive lies; LanceDB's indices are approximate. numpy ships: it needs no further package "
        "and is exact. Its search reads all vectors, 1 GB of a million.", "",
        "## What the shipped vectors find", "",
        "Of the five nearest of another patient, the share that has the same label; by chance, of any other patient. "
        "Images: brightness, roughness and asymmetry of 8 x 8 cells, nothing learnt. Texts: hashed words.", "",
        "| set | of | rows | nearest five | by chance |", "| --- | --- | --- | --- | --- |",
        *found_by_them(open_catalog(options.archive)), "",
        "Likeness is of looks and of words. It is no diagnosis, and what is found first may differ in what matters. "
        "BUSI names no patients, so its near duplicates are among the nearest.", "",
    ]  # fmt: skip
    PAGE.write_text("\n".join(lines), "utf-8")
    sys.stdout.write(json.dumps({"name": "similarity", "page": str(PAGE.relative_to(ROOT))}) + "\n")


if __name__ == "__main__":
    main()
