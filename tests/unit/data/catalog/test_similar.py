"""Likeness: exact search, vectors that are made once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from isocenter.core.errors import ConfigError, DataError
from isocenter.data.catalog import similar
from isocenter.data.catalog.catalog import open_catalog
from isocenter.data.catalog.pictures import places_of
from isocenter.data.catalog.similar import Space, image_vectors, nearest, standardised, weighted
from isocenter.verbs.find import find

from .conftest import person, texture


@pytest.mark.parametrize("block", [7, 64, 1000])
def test_search_is_that_of_all_in_order(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similar, "_BLOCK", block)
    rng = np.random.default_rng(0)
    vectors = rng.integers(-2, 3, (200, 4)).astype(np.float32)
    vectors[10] = np.nan
    query = np.array([1.0, 2.0, 0.0, -1.0])
    with np.errstate(invalid="ignore"):
        alike = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    alike = np.where(np.isfinite(alike), alike.round(5), -2)
    rows, found = nearest(vectors, query, 9)
    assert found == pytest.approx(np.sort(alike)[::-1][:9], abs=1e-4)
    assert (np.diff(found) <= 0).all() and len(set(rows.tolist())) == 9


def test_what_has_no_direction() -> None:
    with pytest.raises(DataError, match="no vector"):
        nearest(np.eye(3), np.zeros(3), 1)
    with pytest.raises(DataError, match="can't be compared"):
        nearest(np.eye(3), np.ones(2), 1)


def test_what_all_share_tells_nothing() -> None:
    vectors = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    assert weighted(vectors, np.array([1.0, 1.0, 0.0]))[1][0] == 0
    assert standardised(vectors, np.array([1.0, 1.0, 0.0]))[0][:, 0].tolist() == [0, 0, 0]


def test_vectors_are_made_once_of_each_image(archive: Path) -> None:
    catalog, asked = open_catalog(archive), []

    def encode(images: Sequence[object]) -> np.ndarray:
        asked.append(len(images))
        return np.array([[float(np.mean(planes[0])), 1.0] for planes in images])  # type: ignore[index]

    places = places_of(catalog)
    first = image_vectors(catalog, places, Space("mean", encode))
    again = image_vectors(catalog, places, Space("mean", encode))
    # Fifteen series, of which two hold the same pixels, and two more are the same black.
    assert asked == [13] and np.array_equal(first, again) and first.shape == (15, 2)
    with pytest.raises(ConfigError, match="named"):
        image_vectors(catalog, places, Space("../x", encode))


def test_find_what_is_like_a_file_or_a_series(archive: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    texture(8).save(tmp_path / "asked.png")
    found = find("", archive, like=str(tmp_path / "asked.png"), limit=3)
    assert found.column_names[0] == "likeness" and found.num_rows == 3
    assert {found.column("patient_key")[n].as_py() for n in (0, 1)} == {
        person(archive, "a8"),
        person(archive, "smaller"),
    }
    series = found.column("series_uid")[0].as_py()
    again = find("", archive, like=series, limit=1)
    assert again.column("patient_key")[0].as_py() in (person(archive, "a8"), person(archive, "smaller"))
    assert again.column("series_uid")[0].as_py() != series
    with pytest.raises(DataError, match="no image"):
        find("", archive, like="2.25.123")
    with pytest.raises(ConfigError, match="leave out"):
        find("select 1", archive, level="studies", like="a nodule")
