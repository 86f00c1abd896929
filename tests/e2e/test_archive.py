"""From sources to an answer on the command line: ingest, find, plan; exit codes and what they print."""

from __future__ import annotations

import json
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from isocenter.cli import app
from isocenter.core import Geometry, Image
from isocenter.testing.dicom_phantom import write_ct_series


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ISOCENTER_PSEUDONYM_KEY", "a key for tests alone")
    geometry = Geometry.axial((3, 4, 5), spacing_mm=(2.5, 0.8, 0.7), origin_mm=(10.0, 20.0, 30.0))
    write_ct_series(tmp_path / "s" / "ct", Image(np.arange(60, dtype=np.int16).reshape(1, 3, 4, 5), geometry))
    return tmp_path / "s"


def run(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    return done.exit_code, done.stdout, done.stderr


def test_ingest_and_find(source: Path, tmp_path: Path) -> None:
    code, text, _ = run("ingest", source, "--to", tmp_path / "a", "--workers", 1)
    assert code == 0
    assert "3 files, 0 known before, 3 taken in" in text
    code, text, _ = run("ingest", source, "--to", tmp_path / "a", "--workers", 1, "--json")
    assert code == 0
    assert json.loads(text)["known"] == 3
    code, text, _ = run("find", "modality = 'CT' and spacing_mm = 2.5", "--archive", tmp_path / "a")
    assert code == 0
    assert len(text.splitlines()) == 2
    assert "PHANTOM" not in text
    code, text, _ = run("find", "", "--archive", tmp_path / "a", "--level", "instances", "--count")
    assert (code, text.strip()) == (0, "3")
    code, text, _ = run("find", "rows > 1000", "--archive", tmp_path / "a", "--count")
    assert (code, text.strip()) == (4, "0")
    code, _, _ = run("find", "", "--archive", tmp_path / "a", "--out", tmp_path / "rows.csv")
    assert code == 0
    assert "modality" in (tmp_path / "rows.csv").read_text().splitlines()[0]


def test_shards_of_an_archive(source: Path, tmp_path: Path) -> None:
    from isocenter.data.images import read_study
    from isocenter.data.shards import open_shard

    run("ingest", source, "--to", tmp_path / "a", "--workers", 1)
    code, text, _ = run("shards", "modality = 'CT'", "--archive", tmp_path / "a", "--to", tmp_path / "s", "--json")
    assert code == 0
    (name,) = json.loads(text)["written"]
    original = read_study(source).study.images[0]
    shard = open_shard(tmp_path / "s" / f"{name}.b2nd")
    again = shard.read(as_source=True)
    assert np.array_equal(again.array, original.array)
    assert np.array_equal(again.geometry.affine, original.geometry.affine)
    code, text, _ = run("shards", "--archive", tmp_path / "a", "--to", tmp_path / "s")
    assert (code, text.split(":")[0]) == (0, "0 shards written, 1 were there, 0 refused")


@pytest.mark.parametrize("form", ["ome-zarr", "ome-zarr-0.4"])
def test_ome_zarr_of_an_archive(source: Path, tmp_path: Path, form: str) -> None:
    from isocenter.data.images import read_study

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zarr = pytest.importorskip("zarr", minversion="3", reason="zarr 3 is not installed: no OME-Zarr")
    run("ingest", source, "--to", tmp_path / "a", "--workers", 1)
    arguments = ("shards", "--archive", tmp_path / "a", "--to", tmp_path / "z", "--form", form)
    code, text, _ = run(*arguments, "--json")
    assert code == 0
    (name,) = json.loads(text)["written"]
    original = read_study(source).study.images[0]
    group = zarr.open_group(str(tmp_path / "z" / f"{name}.ome.zarr"), mode="r")
    affine = np.array(group.attrs["isocenter"]["affine_zyx_to_lps_mm"])
    assert np.array_equal(group["0"][:], original.array)
    assert np.array_equal(affine, original.geometry.affine)
    assert sorted(p.name for p in (tmp_path / "z").iterdir()) == [f"{name}.ome.zarr"]
    code, text, _ = run(*arguments)
    assert (code, text.split(":")[0]) == (0, "0 images written, 1 were there, 0 refused")


@pytest.mark.parametrize(
    "expression",
    [
        "1=1) OR (1=1",
        "1=1) -- (",
        "true /* ) OR (",
        "1=1; DROP TABLE series",
        "series_uid IN (SELECT content FROM read_text('/etc/hostname'))",
        "no_such_column = 1",
        "modality = 'CT",
        "true) UNION SELECT * FROM (SELECT 1",
    ],
)
def test_an_expression_that_is_none_is_refused(source: Path, tmp_path: Path, expression: str) -> None:
    run("ingest", source, "--to", tmp_path / "a", "--workers", 1)
    from isocenter.core.errors import ConfigError
    from isocenter.verbs.find import find

    with pytest.raises(ConfigError):
        find(expression, tmp_path / "a")


@pytest.mark.parametrize(
    "query",
    [
        "COPY series TO 'stolen.csv'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "ATTACH 'x.db'",
        "SELECT 1; SELECT 2",
        "INSTALL httpfs",
        "SET enable_external_access = true",
    ],
)
def test_sql_reads_the_archive_and_nothing_else(source: Path, tmp_path: Path, query: str) -> None:
    from isocenter.core.errors import ConfigError
    from isocenter.verbs.find import ask_sql

    run("ingest", source, "--to", tmp_path / "a", "--workers", 1)
    with pytest.raises(ConfigError):
        ask_sql(query, tmp_path / "a")


def test_what_could_not_be_read_gives_exit_code_3(source: Path, tmp_path: Path) -> None:
    (source / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\2\0\0\0UL\4\0")
    code, text, _ = run("ingest", source, "--to", tmp_path / "a", "--workers", 1)
    assert code == 3
    assert "refused: 1 x" in text
    code, _, _ = run("ingest", source, "--to", tmp_path / "a", "--workers", 1)
    assert code == 3, "a second run must not hide it"


def test_a_plan_of_a_million_studies() -> None:
    code, text, _ = run("plan", "--studies", "1e6", "--workers", 64, "--json")
    assert code == 0
    plan = json.loads(text)
    assert plan["instances"] == 3e8
    assert plan["hours"] == pytest.approx(plan["core_hours"] / 64 + plan["catalog_hours"])
    assert plan["rates"]["machine"]


def test_addresses_are_read_through_fsspec(source: Path, tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for path in source.rglob("*.dcm"):
        memory.pipe(f"/bucket/study/{path.name}", path.read_bytes())
    local = run("ingest", source, "--to", tmp_path / "a", "--workers", 1, "--json")
    remote = run("ingest", "memory://bucket/study", "--to", tmp_path / "b", "--workers", 1, "--json")
    assert local[0] == remote[0] == 0
    assert json.loads(local[1])["catalog_hash"] == json.loads(remote[1])["catalog_hash"]


@pytest.mark.skipif(
    find_spec("ray") is None, reason="Ray is not installed: pip install 'isocenter[ray]'; make scale runs this"
)
def test_ray_gives_the_same_archive(source: Path, tmp_path: Path) -> None:
    local = run("ingest", source, "--to", tmp_path / "a", "--workers", 1, "--json")
    with_ray = run("ingest", source, "--to", tmp_path / "b", "--workers", 2, "--engine", "ray", "--json")
    assert json.loads(local[1])["catalog_hash"] == json.loads(with_ray[1])["catalog_hash"]
