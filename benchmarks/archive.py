"""All real data of the project in one archive: counted, taken in again, killed twenty times, by one and two processes.

    python -m benchmarks.archive [--data ../shared/data] [--kills 20]

Writes docs/results/archive.md. Expected counts are those of the SOURCES tables beside the data. Every run works on an
archive of its own, with one key for all; catalogs are compared by the hash of their content.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb

from benchmarks.__main__ import machine
from isocenter.version import __version__

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "results" / "archive.md"
_KEY = "a key for the benchmark alone, of no use elsewhere"

COUNTS = (
    # folder, what, expected, SQL over `seen` (instances with the name of their file), `told`, `recorded`, `texts`
    ("ct_mr_pet_sts", "patients", 12, "SELECT count(DISTINCT patient_key) FROM seen WHERE {f}"),
    *(
        (
            "ct_mr_pet_sts",
            f"{m} volumes (NIfTI) with a mask each",
            12,
            f"SELECT least(count(*) FILTER (role = 'image'), count(*) FILTER (role = 'mask')) FROM seen "
            f"WHERE {{f}} AND form = 'nifti' AND modality = '{m}'",
        )
        for m in ("CT", "MR", "PT")
    ),
    ("ct_mr_pet_sts", "patients in DICOM, who is one of these", 1,
     "SELECT count(DISTINCT patient_key) FROM seen WHERE {f} AND form = 'dicom' AND patient_key IN "
     "(SELECT patient_key FROM seen WHERE {f} AND form = 'nifti')"),
    ("ct_mr_pet_sts", "outcomes joined to a patient with images", 12,
     "SELECT count(*) FROM recorded WHERE {f} AND code = 'lung_metastasis' AND patient_key IN "
     "(SELECT patient_key FROM seen WHERE {f})"),
    ("mr_hippocampus_msd", "MR volumes", 195, "SELECT count(*) FROM seen WHERE {f} AND role = 'image' AND modality "
                                              "= 'MR'"),
    ("mr_hippocampus_msd", "masks", 195, "SELECT count(*) FROM seen WHERE {f} AND role = 'mask'"),
    ("mr_hippocampus_msd", "patients", 195, "SELECT count(DISTINCT patient_key) FROM seen WHERE {f}"),
    ("ct_mr_totalsegmentator", "CT", 2, "SELECT count(*) FROM seen WHERE {f} AND role = 'image' AND modality = 'CT'"),
    ("ct_mr_totalsegmentator", "MR", 1, "SELECT count(*) FROM seen WHERE {f} AND role = 'image' AND modality = 'MR'"),
    ("cxr_covid_lungmask", "X-rays", 101, "SELECT count(*) FROM seen WHERE {f} AND role = 'image' AND modality = 'DX'"),
    ("cxr_covid_lungmask", "patients", 54, "SELECT count(DISTINCT patient_key) FROM seen WHERE {f}"),
    ("cxr_covid_lungmask", "lung masks", 90, "SELECT count(*) FROM seen WHERE {f} AND role = 'mask'"),
    ("cxr_nih", "patients", 421, "SELECT count(DISTINCT patient_key) FROM seen WHERE {f}"),
    ("cxr_nih", "images of 256 pixels", 421, "SELECT count(*) FROM seen WHERE {f} AND rows = 256"),
    ("cxr_nih", "images with findings", 421, "SELECT count(DISTINCT sop_uid) FROM told WHERE {f} AND name LIKE "
                                             "'Finding%' "
     "AND sop_uid IN (SELECT sop_uid FROM seen WHERE rows = 256)"),
    *(
        (
            "medmnist",
            f"{d} {s}",
            n,
            "SELECT count(*) FROM seen JOIN splits USING (patient_key) WHERE {f} "
            f"AND name LIKE '%{d.lower()}%' AND split = '{s}'",
        )
        for d, counts in (("Pneumonia", (4708, 524, 624)), ("Adrenal", (1188, 98, 298)))
        for s, n in zip(("train", "validation", "test"), counts, strict=True)
    ),
    *(
        ("us_breast_busi", v, n, f"SELECT count(*) FROM told WHERE {{f}} AND name = 'label' AND value = '{v}'")
        for v, n in (("benign", 371), ("malignant", 165), ("normal", 87))
    ),
    ("fundus_chasedb1", "photographs", 28, "SELECT count(*) FROM seen WHERE {f} AND role = 'image' AND modality = "
                                           "'OP'"),
    ("fundus_chasedb1", "vessel maps", 56, "SELECT count(*) FROM seen WHERE {f} AND role = 'mask'"),
    ("fundus_chasedb1", "children", 14, "SELECT count(DISTINCT patient_key) FROM seen WHERE {f}"),
    ("interactive_medscribble", "slices", 8, "SELECT count(*) FROM seen WHERE {f} AND role = 'image'"),
    ("radiomics", "response maps", 30, "SELECT count(*) FROM seen WHERE {f} AND name LIKE '%response_map%'"),
    ("radiomics", "PyRadiomics' cases with label", 2, "SELECT count(*) FROM seen WHERE {f} AND form = 'nrrd' AND "
                                                      "role = 'mask'"),
    *(
        ("clinical", f"patients of {t}", n, f"SELECT count(DISTINCT patient_key) FROM recorded WHERE {{f}} AND "
                                            f"name LIKE '%{t}'")
        for t, n in (
            ("ACTG175.txt", 2139), ("ncctg_lung.csv", 228), ("GBSG2.arff", 686), ("veteran.arff", 137),
            ("whas500.arff", 500),
            ("flchain.arff", 7874), ("actg320.arff", 1151), ("tcga_lgg_clinical_INFO.csv", 188),
        )
    ),
    ("reports_iu_xray", "reports with a text, or named as without one", 1500,
     "SELECT (SELECT count(*) FROM texts WHERE {f}) + (SELECT count(*) FROM problems WHERE {f} AND reason LIKE 'a "
     "report without%')"),
)  # fmt: skip


def _environment() -> dict[str, str]:
    return {**os.environ, "ISOCENTER_PSEUDONYM_KEY": _KEY}


def _command(data: Path, archive: Path, workers: int, engine: str = "local") -> list[str]:
    program = "from isocenter.cli import main; main()"
    return [
        sys.executable, "-c", program, "ingest", str(data), "--to", str(archive), "--workers", str(workers), "--json",
        "--engine", engine,
    ]  # fmt: skip


def take_in(data: Path, archive: Path, workers: int, engine: str = "local") -> tuple[dict, float]:
    """Run an ingest to its end; return its document and the seconds."""
    start = time.perf_counter()
    done = subprocess.run(
        _command(data, archive, workers, engine), capture_output=True, text=True, env=_environment(), check=False
    )
    if done.returncode not in (0, 3):
        raise SystemExit(f"the ingest failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout), time.perf_counter() - start


def killed(data: Path, scratch: Path, kills: int, rng: random.Random, whole_s: float) -> tuple[list[dict], list[float]]:
    """Kill ingests at random moments, run each again until it ends, and begin another until there were enough kills.

    Returns:
        What the last run of each archive says, and after how many seconds each kill came.
    """
    moments: list[float] = []
    ends = []
    number = 0
    while len(moments) < kills:
        archive = scratch / f"killed{number}"
        number += 1
        while len(moments) < kills:
            wait = rng.uniform(0.5, max(3.0, whole_s / 3))
            process = subprocess.Popen(
                _command(data, archive, 2), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_environment(),
                start_new_session=True,
            )  # fmt: skip
            try:
                process.wait(timeout=wait)
                break
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                moments.append(wait)
        ends.append(take_in(data, archive, 2)[0])
    return ends, moments


def count(archive: Path) -> list[tuple[str, str, int, int]]:
    """Return folder, what, expected, found."""
    current = json.loads((archive / "catalog" / "current.json").read_text())["tables"]
    out = []
    with duckdb.connect() as database:
        for name, table in current.items():
            database.execute(f"CREATE VIEW {name} AS FROM read_parquet('{archive / 'catalog' / table['file']}')")
        private = archive / "private"
        database.execute(f"CREATE VIEW locations AS FROM read_parquet('{private / 'locations.parquet'}')")
        database.execute(f"CREATE VIEW problems AS FROM read_parquet('{private / 'problems.parquet'}')")
        database.execute("CREATE VIEW seen AS SELECT i.*, l.name FROM instances i JOIN locations l USING (sop_uid)")
        database.execute(
            "CREATE VIEW told AS SELECT t.* EXCLUDE (name), t.name, l.name AS file FROM labels t JOIN locations l "
            "USING (sop_uid)"
        )
        for view, table in (("recorded", "records"), ("texts", "reports")):
            database.execute(
                f"CREATE VIEW {view} AS SELECT r.*, i.name FROM read_parquet('{private}/journal/*/{table}.parquet') r "
                f"JOIN (SELECT DISTINCT item, name FROM read_parquet('{private}/journal/*/items.parquet')) i USING "
                f"(item)"
            )
        for folder, what, expected, query in COUNTS:
            column = "file" if "FROM told" in query else "name"
            found = database.execute(query.format(f=f"{column} LIKE '{folder}/%'")).fetchall()[0][0]
            out.append((folder, what, expected, int(found)))
    return out


def main() -> None:
    """Run all and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("ISOCENTER_SHARED_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=8)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="isocenter-archive-") as folder:
        scratch = Path(folder)
        first, seconds = take_in(arguments.data, scratch / "one", 1)
        counts = count(scratch / "one")
        again, again_s = take_in(arguments.data, scratch / "one", 1)
        two, two_s = take_in(arguments.data, scratch / "two", 2)
        ends, moments = killed(arguments.data, scratch, arguments.kills, random.Random(arguments.seed), two_s)
        rows = [
            ("one process", first["taken"], first["catalog_hash"], seconds),
            ("the same again", again["taken"], again["catalog_hash"], again_s),
            ("two processes", two["taken"], two["catalog_hash"], two_s),
            *(
                (f"killed again and again (kill -9), archive {n}", end["taken"], end["catalog_hash"], None)
                for n, end in enumerate(ends, start=1)
            ),
        ]
        if _ray():
            ray, ray_s = take_in(arguments.data, scratch / "ray", 2, "ray")
            rows.append(("Ray, two processors", ray["taken"], ray["catalog_hash"], ray_s))
    PAGE.write_text("\n".join(_page(first, counts, rows, moments)) + "\n", "utf-8")
    wrong = [c for c in counts if c[2] != c[3]]
    print(json.dumps({"counts": len(counts), "wrong": wrong, "hashes": len({r[2] for r in rows})}))


def _ray() -> bool:
    from importlib.util import find_spec

    return find_spec("ray") is not None


def _page(first: dict, counts: list, rows: list, moments: list[float]) -> list[str]:
    equal = sum(1 for c in counts if c[2] == c[3])
    one = len({r[2] for r in rows}) == 1
    lines = [
        "# One archive of all real data",
        "",
        f"`python -m benchmarks.archive`, Isocenter {__version__}, {datetime.datetime.now(datetime.UTC).date()}, "
        f"{machine()}.",
        "",
        f"**{equal} of {len(counts)} counts are those of the SOURCES tables. Catalogs of {len(rows)} runs: "
        f"{'one hash' if one else 'DIFFERENT hashes'}.**",
        "",
        "## The same archive, however it came about",
        "",
        "| run | files taken in last | hash of the catalog's content | seconds |",
        "| - | - | - | - |",
    ]
    lines += [f"| {n} | {t} | `{h[:16]}` | {'' if s is None else f'{s:.0f}'} |" for n, t, h, s in rows]
    lines += [
        "",
        f"Killed after {', '.join(f'{m:.1f}' for m in moments)} s (every process of the run at once). "
        '"Taken in last" is what the last run still had to do.',
        "",
        "## Counts",
        "",
        "| set | what | SOURCES | archive | |",
        "| - | - | - | - | - |",
    ]
    lines += [f"| {f} | {w} | {e} | {n} | {'equal' if e == n else '**differs**'} |" for f, w, e, n in counts]
    tables = ", ".join(f"{t['rows']} {n}" for n, t in first["tables"].items())
    lines += [
        "",
        f"{first['listed']} files; the catalog holds {tables}.",
        "",
        "## What could not be read, was left out or held back",
        "",
        "Test files that are broken on purpose, copies of one instance that differ, and people who share an "
        "identifier are in "
        "these sets. Nothing of it is lost: the archive's private list names each file.",
        "",
        "| kind | reason | files |",
        "| - | - | - |",
    ]
    return lines + [f"| {t['kind']} | {t['reason']} | {t['count']} |" for t in first["troubles"]]


if __name__ == "__main__":
    main()
