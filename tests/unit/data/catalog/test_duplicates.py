"""Images that are there twice: equal ones, nearly equal ones, and flat ones that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isocenter.core.errors import DataError
from isocenter.data.catalog.catalog import open_catalog
from isocenter.data.catalog.duplicates import find_duplicates, near_pairs
from isocenter.verbs.duplicates import duplicates
from isocenter.verbs.ingest import ingest

from .conftest import build_pictures, person


def _people(archive: Path, *stems: str) -> tuple[str, ...]:
    return tuple(sorted(person(archive, stem) for stem in stems))


def test_equal_and_near_ones_are_found_and_nothing_else(archive: Path) -> None:
    found = find_duplicates(open_catalog(archive))
    assert {g.patients: (g.where, g.pairs[0].exact) for g in found.groups} == {
        _people(archive, "a7", "same"): ("across splits", True),
        _people(archive, "a8", "smaller"): ("across splits", False),
        _people(archive, "a0", "packed"): ("across patients", False),
    }
    assert (found.looked_at, found.flat, found.unread) == (15, 2, ())


def test_what_was_seen_is_kept_beside_the_catalog_and_may_be_removed(archive: Path) -> None:
    catalog = open_catalog(archive)
    before = find_duplicates(catalog)
    kept = sorted((archive / "derived").rglob("*.parquet"))
    assert kept
    for file in kept:
        file.unlink()
    assert find_duplicates(catalog) == before
    assert open_catalog(archive).hash == catalog.hash


def test_equal_ones_alone(archive: Path) -> None:
    found = duplicates(archive, near=False)
    assert [g.pairs[0].exact for g in found.groups] == [True]


def test_an_archive_without_copies_says_so(tmp_path: Path) -> None:
    ingest([str(build_pictures(tmp_path / "us_set"))], tmp_path / "archive", workers=1, pixels=False)
    with pytest.raises(DataError, match="no copies"):
        find_duplicates(open_catalog(tmp_path / "archive"))


@pytest.mark.parametrize("count", [3, 70])
def test_few_and_many_candidates_are_correlated_alike(count: int) -> None:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (count, 2, 1024)).astype(np.uint8)
    small[1] = small[0] // 2 + 20
    hashes = np.zeros(count, dtype=np.uint64)
    hashes[2:] = np.uint64(2**64 - 1) if count == 3 else 0
    found = list(near_pairs(hashes, small))
    assert [(i, j) for i, j, _, _ in found] == [(0, 1)]
    assert found[0][3] > 0.99
