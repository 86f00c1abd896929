"""How long do questions to a catalog of ten million instances take?

The three example questions of docs/how-to/archive.md, through `Catalog.find` and `Catalog.sql`, each on a catalog that
was just opened (its files are in the page cache, as after a first question). The peer: the same tables in pandas, in
memory, where most such tables live; loading them is told beside, not counted. Both must give the same rows.
The catalog is generated: 10 million instances, 100,000 series, 50,000 studies with a report each, 20,000 patients.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pandas as pd

from benchmarks.__main__ import machine
from isocenter.data.catalog.catalog import Catalog, open_catalog
from isocenter.data.catalog.schema import TABLES

_PAGE = Path(__file__).resolve().parents[1] / "docs" / "results" / "queries.md"
_SQL = {"text": "VARCHAR", "integer": "BIGINT", "number": "DOUBLE", "date": "DATE", "boolean": "BOOLEAN"}
_GIVEN = {
    "patients": "printf('p%031d', i) AS patient_key, CASE WHEN i % 2 = 0 THEN 'F' ELSE 'M' END AS sex, 'header' AS "
                "patient_from",
    "studies": "printf('2.25.3%012d', i) AS study_uid, printf('p%031d', i % {patients}) AS patient_key, "
    "DATE '2010-01-01' + (i * 7919 % 4000)::INTEGER AS study_date, 20 + i % 70 AS age_years, "
    "CASE WHEN i % 3 = 0 THEN 'MR' ELSE 'CT' END AS modalities",
    "series": "printf('2.25.2%012d', i) AS series_uid, printf('2.25.3%012d', i % {studies}) AS study_uid, "
    "printf('p%031d', i % {studies} % {patients}) AS patient_key, CASE WHEN i % {studies} % 3 = 0 THEN 'MR' ELSE "
    "'CT' END AS modality, "
    "'image' AS role, 'dicom' AS form, (i * 31 % 10) * 0.625 + 0.5 AS slice_thickness_mm, 512 AS rows, 512 AS columns, "
    "'Maker ' || i % 5 AS manufacturer, 100 AS instances, 100 + (i % 4) * 20 AS kvp",
    "instances": "printf('2.25.1%012d', i) AS sop_uid, printf('2.25.2%012d', i // 100) AS series_uid, "
    "printf('2.25.3%012d', i // 100 % {studies}) AS study_uid, printf('p%031d', i // 100 % {studies} % {patients}) "
    "AS patient_key, "
    "CASE WHEN i // 100 % {studies} % 3 = 0 THEN 'MR' ELSE 'CT' END AS modality, 'image' AS role, 'dicom' AS form, "
    "'Maker ' || i // 100 % 5 AS manufacturer, 512 AS rows, 512 AS columns, i % 100 AS instance_number, "
    "(i % 100) * 1.25 AS slice_position_mm, 524288 AS bytes, md5(i::VARCHAR) AS header_sha256",
    "reports": "printf('r%031d', i) AS report_key, printf('2.25.3%012d', i) AS study_uid, printf('p%031d', i % "
               "{patients}) AS patient_key, "
    "'final' AS status, 'en' AS language, 'Findings: ' || repeat('The heart is of normal size. ', 12) || "
    "CASE WHEN i % 40 = 0 THEN 'There is a nodule of ' || i % 20 || ' mm.' ELSE 'No focal lesion.' END AS text",
    "records": "printf('r%031d', i) AS record_key",
    "labels": "printf('2.25.2%012d', i) AS series_uid, printf('p%031d', i % {studies} % {patients}) AS "
              "patient_key, 'quality' AS name, "
    "CASE WHEN i % 9 = 0 THEN 'poor' ELSE 'good' END AS value, 'class' AS kind",
    "splits": "'all' AS cohort, printf('p%031d', i) AS patient_key, 'train' AS split, true AS from_source",
}  # fmt: skip
CT_NODULE = "modality = 'CT' and slice_thickness_mm <= 3 and report ilike '%nodule%'"
PER_MAKER = "SELECT modality, manufacturer, count(*) AS n, sum(bytes) AS bytes FROM instances GROUP BY ALL ORDER BY ALL"
BOTH = (
    "SELECT patient_key, count(*) AS studies FROM studies WHERE age_years >= 60 GROUP BY patient_key "
    "HAVING count(DISTINCT modalities) = 2 ORDER BY patient_key"
)


def generate(root: Path, instances: int) -> None:
    """Write a catalog of that many instances."""
    counts = {
        "instances": instances, "series": instances // 100, "studies": instances // 200, "reports": instances // 200,
        "labels": instances // 100, "patients": instances // 500, "splits": instances // 500, "records": 0,
    }  # fmt: skip
    (root / "catalog").mkdir(parents=True)
    with duckdb.connect(config={"memory_limit": "4GB", "threads": 2}) as database:
        database.execute("SET enable_progress_bar = false")
        for name, table in TABLES.items():
            given = _GIVEN[name].format(**counts)
            plain = ", ".join(f'g."{c}"::{_SQL[t]} AS "{c}"' for c, t in table.columns.items())
            database.execute(f"CREATE OR REPLACE TEMP VIEW given AS SELECT {given} FROM range({counts[name]}) t(i)")
            known = {row[0] for row in database.execute("DESCRIBE given").fetchall()}
            plain = ", ".join(
                f'{"g." + chr(34) + c + chr(34) if c in known else "NULL"}::{_SQL[t]} AS "{c}"'
                for c, t in table.columns.items()
            )
            order = ", ".join(f'"{c}"' for c in table.order if c in known)
            database.execute(
                f"COPY (SELECT {plain} FROM given g ORDER BY {order}) TO '{root / 'catalog' / name}.parquet' "
                "(FORMAT parquet, COMPRESSION zstd)"
            )
    tables = {name: {"file": f"{name}.parquet", "rows": counts[name], "hash": ""} for name in TABLES}
    (root / "catalog" / "current.json").write_text(json.dumps({"hash": "generated", "tables": tables}))


def _peer(root: Path) -> tuple[dict[str, Callable[[], list[tuple]]], float]:
    start = time.perf_counter()
    read = lambda n, c: pd.read_parquet(root / "catalog" / f"{n}.parquet", columns=c)  # noqa: E731
    series = read("series", ["series_uid", "study_uid", "modality", "slice_thickness_mm"])
    reports = read("reports", ["study_uid", "text"])
    instances = read("instances", ["modality", "manufacturer", "bytes"])
    studies = read("studies", ["patient_key", "age_years", "modalities"])
    loaded = time.perf_counter() - start

    def ct() -> list[tuple]:
        wide = series.merge(reports, on="study_uid")
        hit = wide[
            (wide.modality == "CT") & (wide.slice_thickness_mm <= 3) & wide.text.str.contains("nodule", case=False)
        ]
        return sorted((u,) for u in hit.series_uid)

    def makers() -> list[tuple]:
        found = instances.groupby(["modality", "manufacturer"]).bytes.agg(["count", "sum"]).reset_index()
        return sorted(map(tuple, found.to_numpy().tolist()))

    def both() -> list[tuple]:
        old = studies[studies.age_years >= 60].groupby("patient_key").modalities.agg(["size", "nunique"])
        return sorted((k, int(n)) for k, n in old[old["nunique"] == 2]["size"].items())

    return {"ct": ct, "makers": makers, "both": both}, loaded


def _ours(catalog: Catalog) -> dict[str, Callable[[], list[tuple]]]:
    rows = lambda t: sorted(tuple(r.values()) for r in t.to_pylist())  # noqa: E731
    return {
        "ct": lambda: rows(catalog.find(CT_NODULE).select(["series_uid"])),
        "makers": lambda: rows(catalog.sql(PER_MAKER)),
        "both": lambda: rows(catalog.sql(BOTH)),
    }


def write_page(seconds: dict[str, dict[str, list[float]]], loaded: float, count: int, repeats: int) -> None:
    """Write docs/results/queries.md."""
    told = {"ct": "thin CT with a nodule in its report", "makers": "instances and bytes by modality and maker",
            "both": "patients of 60 and more with studies of both modalities"}  # fmt: skip
    lines = [
        f"# Questions to {count:,} instances",
        "",
        f"`python -m benchmarks.queries`, {datetime.date.today().isoformat()}, {machine()};",
        f"DuckDB {duckdb.__version__}, pandas {pd.__version__}. Generated: {count:,} instances,",
        f"{count // 100:,} series, {count // 200:,} studies with a report each. Seconds of {repeats} runs, median",
        f"(least to most), on files in the page cache; pandas has its columns in memory, loaded in {loaded:.1f} s, not",
        "counted. Both give the same rows.",
        "",
        "| question | ours, s | pandas, s |",
        "| --- | --- | --- |",
    ]
    for name, by in seconds.items():
        cells = [f"{statistics.median(v):.2f} ({min(v):.2f} to {max(v):.2f})" for v in (by["ours"], by["peer"])]
        lines.append(f"| {told[name]} | {' | '.join(cells)} |")
    lines += ["", "Asked for: each under one second."]
    _PAGE.write_text("\n".join(lines) + "\n", "utf-8")


def main() -> None:
    """Run and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    count, repeats = (500_000, 3) if arguments.quick else (10_000_000, 5)
    with tempfile.TemporaryDirectory(prefix="isocenter-queries-") as folder:
        root = Path(folder)
        generate(root, count)
        peer, loaded = _peer(root)
        ours = _ours(open_catalog(root))
        seconds: dict[str, dict[str, list[float]]] = {n: {"ours": [], "peer": []} for n in ours}
        for _ in range(repeats):
            for name in ours:
                for who, ask in (("ours", ours[name]), ("peer", peer[name])):
                    start = time.perf_counter()
                    answer = ask()
                    seconds[name][who].append(time.perf_counter() - start)
                    if who == "ours":
                        kept = answer
                    elif answer != kept:
                        raise SystemExit(f"{name}: the answers differ ({len(kept)} rows against {len(answer)})")
    medians = {n: {w: statistics.median(v) for w, v in s.items()} for n, s in seconds.items()}
    for name, told in medians.items():
        print(f"{name}: {told['ours']:.2f} s, pandas {told['peer']:.2f} s")
    print(f"pandas loads its columns in {loaded:.1f} s, which is not counted")
    if not arguments.quick:
        write_page(seconds, loaded, count, repeats)
    slowest = max(told["ours"] for told in medians.values())
    worst = max(told["peer"] for told in medians.values())
    result = {
        "name": "queries", "ours": round(slowest, 3), "peer": round(worst, 3), "unit": "s, the slowest of three "
                                                                                       "questions",
        "ratio": round(worst / slowest, 3), "peer_name": "pandas in memory", "peer_version": pd.__version__,
        "input": f"{count} generated instances", "seconds": {n: round(t["ours"], 3) for n, t in medians.items()},
    }  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main()
