"""Images that are there twice: the same pixels, or nearly the same (resized, recompressed, brighter or darker).

Exact ones have equal hashes of their pixels. For near ones a difference hash of 64 bits finds candidates, and the
correlation of their small pictures, without what is coarse in them, decides: two chests are alike in the coarse. Flat
images match nothing. Mirrored, turned or strongly cropped copies are not found. docs/results/duplicates.md says how
many are, and how many of those found are none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int, UInt8, UInt64
from scipy.ndimage import uniform_filter

from isocenter.data.catalog.catalog import Catalog
from isocenter.data.catalog.joining import Joined
from isocenter.data.catalog.pictures import SIDE, Pictures, Place, Progress, pictures_of, places_of

__all__ = ["BITS", "FLAT", "LEAST", "Duplicates", "Group", "Pair", "find_duplicates", "near_pairs"]

BITS = 10
"""Bits of 64 in which the hashes of near duplicates may differ."""
LEAST = 0.9
"""Correlation of the fine parts of their small pictures, at least."""
FLAT = 0.01
"""Spread below which a picture is flat: it is like any other flat one."""
_WINDOW = 7
_BLOCK = 2048
_DENSE = 64
"""Where more than one pair in so many is a candidate, all are correlated at once: that is faster."""
_TOLD = "SELECT DISTINCT patient_key, cohort, split FROM splits WHERE from_source ORDER BY ALL"
Where = Literal["across splits", "across patients", "within a patient"]


@dataclass(frozen=True)
class Pair:
    """Two series that show the same.

    Args:
        first: Series UID.
        second: Series UID.
        patients: Whose they are.
        exact: Whether they hold an image of equal pixels.
        distance: Bits in which their hashes differ; 0 of exact ones.
        correlation: Of the fine parts of their small pictures; 1 of exact ones.
    """

    first: str
    second: str
    patients: tuple[str, str]
    exact: bool
    distance: int
    correlation: float


@dataclass(frozen=True)
class Group:
    """Series that show the same, directly or by others between them.

    Args:
        series: UIDs, sorted.
        patients: Whose they are, sorted.
        splits: Parts that makers of sets put these patients into, sorted.
        pairs: What joins them.
    """

    series: tuple[str, ...]
    patients: tuple[str, ...]
    splits: tuple[str, ...]
    pairs: tuple[Pair, ...]

    @property
    def where(self) -> Where:
        """Tell how grave it is: a leak between splits first."""
        if len(self.splits) > 1 and len(self.patients) > 1:
            return "across splits"
        return "across patients" if len(self.patients) > 1 else "within a patient"


@dataclass(frozen=True)
class Duplicates:
    """What is there twice.

    Args:
        groups: Across splits first, then across patients; large ones first.
        looked_at: Series that were compared.
        flat: Series whose picture is flat: only exact copies of them would be known, and those say nothing.
        unread: Series that could not be read, and why.
    """

    groups: tuple[Group, ...]
    looked_at: int
    flat: int
    unread: tuple[tuple[str, str], ...]

    def patients(self) -> Iterator[tuple[str, str]]:
        """Yield pairs of patients who must stand on one side of a split."""
        for group in self.groups:
            for other in group.patients[1:]:
                yield group.patients[0], other


def find_duplicates(
    catalog: Catalog, *, bits: int = BITS, least: float = LEAST, near: bool = True, progress: Progress | None = None
) -> Duplicates:
    """Find the images of an archive that are there twice.

    Args:
        catalog: The catalog.
        bits: Bits of 64 in which hashes may differ.
        least: Correlation, at least.
        near: Whether near duplicates are looked for, too.
        progress: Called with what is being done and the fraction done.

    Raises:
        DataError: The archive holds no copies of images.
    """
    pictures = pictures_of(catalog, places_of(catalog), progress=progress)
    pairs = list(_exact(catalog))
    if near:
        known = {(p.first, p.second) for p in pairs}
        pairs += [p for p in _near(pictures, bits, least) if (p.first, p.second) not in known]
    told: dict[str, set[str]] = {}
    for key, cohort, split in _rows(catalog, _TOLD):
        told.setdefault(key, set()).add(f"{cohort}: {split}")
    return Duplicates(
        tuple(_groups(pairs, told)),
        len(pictures.places),
        int((pictures.spread < FLAT).sum()),
        pictures.unread,
    )


def _rows(catalog: Catalog, query: str) -> list[tuple[str, ...]]:
    return [tuple(row.values()) for row in catalog.sql(query).to_pylist()]


def _groups(pairs: Sequence[Pair], told: dict[str, set[str]]) -> list[Group]:
    joined: Joined[str] = Joined((p.first, p.second) for p in pairs)
    members: dict[str, list[Pair]] = {}
    for pair in pairs:
        members.setdefault(joined.of(pair.first), []).append(pair)
    groups = []
    for some in members.values():
        patients = {key for pair in some for key in pair.patients}
        groups.append(
            Group(
                tuple(sorted({uid for pair in some for uid in (pair.first, pair.second)})),
                tuple(sorted(patients)),
                tuple(sorted({split for key in patients for split in told.get(key, ())})),
                tuple(sorted(some, key=lambda p: (p.distance, -p.correlation, p.first, p.second))),
            )
        )
    order = ("across splits", "across patients", "within a patient")
    return sorted(groups, key=lambda g: (order.index(g.where), -len(g.series), g.series))


def _exact(catalog: Catalog) -> Iterator[Pair]:
    """Yield series that share an image of equal pixels, unless that image is flat."""
    found = catalog.sql(
        """
        SELECT pixel_sha256 AS key, min(form) AS form, min(path) AS path, arg_min(coalesce(member, ''), path) AS member,
            list(DISTINCT {'s': series_uid, 'p': patient_key} ORDER BY {'s': series_uid, 'p': patient_key}) AS which
        FROM instances WHERE role = 'image' AND held IS NULL AND pixel_sha256 IS NOT NULL AND path IS NOT NULL
        GROUP BY pixel_sha256 HAVING count(DISTINCT (series_uid, patient_key)) > 1 ORDER BY path, member
        """
    ).to_pylist()
    places = [Place("", "", row["key"], row["form"], row["path"], row["member"]) for row in found]
    shown = pictures_of(catalog, places)
    flat = {place.key for place, spread in zip(shown.places, shown.spread, strict=True) if spread < FLAT}
    seen: set[tuple[str, str]] = set()
    for row in found:
        first = row["which"][0]
        for other in row["which"][1:]:
            pair = (first["s"], other["s"])
            if row["key"] not in flat and pair[0] != pair[1] and pair not in seen:
                seen.add(pair)
                yield Pair(*pair, (first["p"], other["p"]), True, 0, 1.0)


def _near(pictures: Pictures, bits: int, least: float) -> Iterator[Pair]:
    """Yield near duplicates among series of as many planes each."""
    for planes in sorted({len(h) for h in pictures.hashes}):
        rows = [n for n, h in enumerate(pictures.hashes) if len(h) == planes and pictures.spread[n] >= FLAT]
        if len(rows) < 2:
            continue
        hashes = np.array([pictures.hashes[n][0] for n in rows], dtype=np.uint64)
        small = np.stack([pictures.small[n] for n in rows])
        for i, j, distance, correlation in near_pairs(hashes, small, bits=bits, least=least):
            one, other = sorted((pictures.places[rows[i]], pictures.places[rows[j]]), key=lambda p: p.series_uid)
            yield Pair(
                one.series_uid, other.series_uid, (one.patient_key, other.patient_key), False, distance, correlation
            )


def near_pairs(
    hashes: UInt64[np.ndarray, " n"], small: UInt8[np.ndarray, "n planes pixels"], *, bits: int = BITS,
    least: float = LEAST,
) -> Iterator[tuple[int, int, int, float]]:  # fmt: skip
    """Yield pairs of pictures that are nearly the same: indices, bits that differ, correlation.

    All pairs are compared, in blocks: memory does not grow with their number (about 60 MB), time with its square.

    Args:
        hashes: Of the first plane of each.
        small: Small pictures of each plane.
        bits: That may differ.
        least: Mean correlation of the planes, at least.
    """
    count = len(hashes)
    for top in range(0, count, _BLOCK):
        rows = slice(top, top + _BLOCK)
        for left in range(top, count, _BLOCK):
            columns = slice(left, left + _BLOCK)
            differ = np.bitwise_count(hashes[rows, None] ^ hashes[None, columns])
            near = np.argwhere(differ <= bits)
            near = near[near[:, 0] + top < near[:, 1] + left]
            if not len(near):
                continue
            alike = _correlation(small[rows], small[columns], near)
            for n in np.flatnonzero(alike >= least):
                i, j = (int(k) for k in near[n])
                yield top + i, left + j, int(differ[i, j]), round(float(alike[n]), 4)


def _correlation(
    rows: UInt8[np.ndarray, "a planes pixels"],
    columns: UInt8[np.ndarray, "b planes pixels"],
    pairs: Int[np.ndarray, "m 2"],
) -> Float[np.ndarray, " m"]:
    """Return the mean correlation of the planes of pairs; all at once where they are many."""
    planes = rows.shape[1]
    if len(pairs) * _DENSE > len(rows) * len(columns):
        one, other = (_fine(side).reshape(len(side), -1) for side in (rows, columns))
        return np.asarray((one @ other.T)[pairs[:, 0], pairs[:, 1]] / planes, dtype=np.float64)
    found = []
    for start in range(0, len(pairs), _BLOCK):
        some = pairs[start : start + _BLOCK]
        product = _fine(rows[some[:, 0]]) * _fine(columns[some[:, 1]])
        found.append(product.sum(axis=(1, 2)) / planes)
    return np.concatenate(found).astype(np.float64)


def _fine(small: UInt8[np.ndarray, "n planes pixels"]) -> Float[np.ndarray, "n planes pixels"]:
    """Return pictures without what is coarse in them, of length 1; zeros where nothing is left."""
    square = small.reshape(*small.shape[:2], SIDE, SIDE).astype(np.float32)
    fine = (square - uniform_filter(square, (0, 0, _WINDOW, _WINDOW))).reshape(small.shape)
    fine -= fine.mean(axis=-1, keepdims=True)
    length = np.linalg.norm(fine, axis=-1, keepdims=True)
    return np.asarray(np.divide(fine, length, out=np.zeros_like(fine), where=length > 1e-3), dtype=np.float32)
