"""Studies of an archive through the API: the catalog's rows, the copies' voxels, and a catalog that has grown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from isocenter.verbs.ingest import ingest
from serving_cases import API, NAME, opened, ramp, served, studies, voxels, write_folder, write_study

pytest.importorskip("duckdb")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("archived")
    source = write_folder(root / "in")
    arrays = {"train_images": np.arange(3 * 8 * 9, dtype=np.uint8).reshape(3, 8, 9), "train_labels": np.eye(3)[:, :1]}
    np.savez(source / "arrays.npz", **arrays)
    ingest([str(source)], root / "archive", workers=1)
    return root / "archive"


@pytest.fixture(scope="module")
def client(archive: Path) -> Iterator[TestClient]:
    with served(archive, archive / "work") as found:
        yield found


def series(client: TestClient) -> list[dict[str, Any]]:
    return [s for s in studies(client, modality="CT") if s["description"] or s["series"]]


def test_what_it_is(client: TestClient) -> None:
    about = client.get(f"{API}/info").json()
    assert (about["source_kind"], about["identified"]) == ("archive", False)


def test_the_list(client: TestClient) -> None:
    found = studies(client, modality="CT")
    assert len(found) == 3 and all(s["study_date"] for s in found)
    assert [s["study_date"] for s in found] == sorted((s["study_date"] for s in found), reverse=True)
    per_patient: dict[str, list[dict[str, Any]]] = {}
    for item in found:
        per_patient.setdefault(item["patient_key"], []).append(item)
    pair = next(p for p in per_patient.values() if len(p) == 2)
    assert [s["prior"] for s in pair] == [1, 0]  # newest first
    assert [p["id"] for p in opened(client, pair[0]["id"])["priors"]] == [pair[1]["id"]]
    assert opened(client, pair[1]["id"])["priors"] == []
    assert len(studies(client)) == client.get(f"{API}/studies").json()["total"] == 8
    ids = [s["id"] for s in studies(client, patient=pair[0]["patient_key"], order="-date")]
    assert ids == [s["id"] for s in pair[::-1]]
    assert NAME not in str(found) and "P1" not in str(found)


@pytest.mark.parametrize("order", ["date", "-date", "patient", "-patient", "description", "-description", "status"])
def test_pages_join_up(client: TestClient, order: str) -> None:
    whole = studies(client, order=order)
    assert [*studies(client, order=order, limit=3), *studies(client, order=order, offset=3)] == whole


def test_filters(client: TestClient) -> None:
    newest = studies(client, modality="CT")[0]
    assert newest in studies(client, **{"from": newest["study_date"], "to": newest["study_date"]})
    assert studies(client, q=f"ct {newest['patient_key'][:8]}")[0]["id"] == newest["id"]
    assert studies(client, q="'; DROP TABLE served; --") == []
    assert studies(client, status="signed") == []


def test_the_voxels_are_the_sources(client: TestClient) -> None:
    found = {
        tuple(i["shape_zyx"]): i for s in studies(client, modality="CT") for i in opened(client, s["id"])["images"]
    }
    np.testing.assert_array_equal(voxels(client, found[3, 4, 5]), ramp((3, 4, 5)).array)
    both = [opened(client, s["id"])["images"][0] for s in studies(client, modality="CT")]
    lows = sorted(int(voxels(client, i).min()) for i in both if i["shape_zyx"] == [6, 5, 7])
    assert lows == [-1000, -993]


def test_images_of_a_file_of_many(client: TestClient) -> None:
    images = [i for s in studies(client) for i in opened(client, s["id"])["images"] if i["shape_zyx"] == [1, 8, 9]]
    assert sorted(int(voxels(client, i).ravel()[0]) for i in images) == [0, 72, 144]
    item = next(s for s in studies(client) if opened(client, s["id"])["images"][0]["id"] == images[0]["id"])
    answer = client.post(f"{API}/studies/{item['id']}/readings", json={})
    assert answer.status_code == 202  # and its job will say that it can't be done


def test_names_that_there_are_not(client: TestClient) -> None:
    assert client.get(f"{API}/studies/0123456789abcdef").status_code == 404


def test_a_catalog_that_has_grown_is_taken_up(tmp_path: Path) -> None:
    write_study(tmp_path / "one", ramp(), study="1.2.9.1")
    write_study(tmp_path / "two", ramp(shift=3), study="1.2.9.2", patient="P9")
    ingest([str(tmp_path / "one")], tmp_path / "archive", workers=1)
    with served(tmp_path / "archive", tmp_path / "work") as client:
        (before,) = studies(client)
        ingest([str(tmp_path / "two")], tmp_path / "archive", workers=1)
        after = studies(client)
        assert len(after) == 2 and before["id"] in [s["id"] for s in after]


def test_an_archive_without_copies_says_so(tmp_path: Path) -> None:
    write_study(tmp_path / "one", ramp(), study="1.2.9.1")
    ingest([str(tmp_path / "one")], tmp_path / "archive", workers=1, pixels=False)
    with served(tmp_path / "archive", tmp_path / "work") as client:
        (item,) = studies(client)
        answer = client.get(f"{API}/studies/{item['id']}")
        assert (answer.status_code, answer.json()["code"]) == (422, "data")
        assert "holds no copies" in answer.json()["detail"]
