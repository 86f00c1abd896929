"""What is like something: series by the vectors of their images, reports by the vectors of their words.

Vectors come from whoever asks (this room knows no model) as a function; they are kept in ARCHIVE/derived under the
name of their space and the hash of what they are of, and may be removed. Search is exact: every vector is compared,
in blocks. docs/results/similarity.md says why, and what it costs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from isocenter.core.errors import ConfigError, DataError
from isocenter.data.catalog.catalog import Catalog
from isocenter.data.catalog.pictures import Place, Progress, read_planes
from isocenter.data.images.atomic import atomic_path, explain_os_error

__all__ = ["Encode", "Space", "image_vectors", "nearest", "standardised", "text_vectors", "weighted"]

_BLOCK = 65_536
_CHUNK = 512
_SPACE = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
Encode = Callable[[Sequence[object]], np.ndarray]
"""From planes of images, or from texts, to a row each; a row of NaN where there is none."""


@dataclass(frozen=True, eq=False)
class Space:
    """A way to make vectors.

    Args:
        name: Of lower-case letters, digits, - and .; another way needs another name.
        encode: Makes them, of some at a time.
    """

    name: str
    encode: Encode


def nearest(
    vectors: Float[np.ndarray, "n k"], query: Float[np.ndarray, " width"], count: int
) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """Return the rows that are most like a query, most first, and their cosine; exact, in blocks.

    Args:
        vectors: Any numbers; a row of zeros or NaN is like nothing.
        query: Of the same length.
        count: At most so many; equally near ones in the order of rows.

    Raises:
        DataError: The lengths differ, or the query is no direction.

    Example:
        >>> import numpy as np
        >>> nearest(np.eye(3), np.array([0.1, 1.0, 0.0]), 2)[0].tolist()
        [1, 0]
    """
    if vectors.shape[1] != len(query):
        raise DataError(f"vectors of {vectors.shape[1]} numbers can't be compared with one of {len(query)}")
    length = float(np.linalg.norm(query))
    if not np.isfinite(length) or length == 0:
        raise DataError("what is asked for has no vector: an empty text, or a flat image")
    direction = (query / length).astype(vectors.dtype)
    best_rows, best = np.zeros(0, dtype=np.int64), np.zeros(0)
    for start in range(0, len(vectors), _BLOCK):
        part = vectors[start : start + _BLOCK]
        sizes = np.sqrt(np.einsum("ij,ij->i", part, part))
        with np.errstate(divide="ignore", invalid="ignore"):
            alike = (part @ direction) / sizes
        alike = np.where(np.isfinite(alike), alike, -np.inf).astype(np.float64)
        rows = np.arange(start, start + len(part))
        best_rows, best = np.concatenate([best_rows, rows]), np.concatenate([best, alike])
        order = np.lexsort((best_rows, -best))[:count] if len(best) <= 4 * count else _top(best, best_rows, count)
        best_rows, best = best_rows[order], best[order]
    real = np.isfinite(best)
    return best_rows[real], best[real]


def _top(alike: Float[np.ndarray, " n"], rows: Int[np.ndarray, " n"], count: int) -> Int[np.ndarray, " m"]:
    """Return where the greatest are, in order; of equal ones at the border the first rows."""
    border = -np.partition(-alike, count - 1)[count - 1]
    some = np.flatnonzero(alike >= border)
    return np.asarray(some[np.lexsort((rows[some], -alike[some]))][:count])


def standardised(
    vectors: Float[np.ndarray, "n k"], query: Float[np.ndarray, " k"]
) -> tuple[Float[np.ndarray, "n k"], Float[np.ndarray, " k"]]:
    """Bring every number to mean 0 and deviation 1 over the vectors, for images: what all share tells nothing."""
    mean, spread = np.nanmean(vectors, axis=0), np.nanstd(vectors, axis=0)
    spread = np.where(spread > 1e-9, spread, 1.0)
    return (vectors - mean) / spread, (query - mean) / spread


def weighted(
    vectors: Float[np.ndarray, "n k"], query: Float[np.ndarray, " k"]
) -> tuple[Float[np.ndarray, "n k"], Float[np.ndarray, " k"]]:
    """Give numbers that are 0 in most vectors more weight, for counted words: what all say tells nothing.

    Source:
        K. Sparck Jones, Journal of Documentation 1972 (inverse document frequency).
    """
    used = np.nansum(np.abs(vectors) > 0, axis=0)
    weight = np.log((1 + len(vectors)) / (1 + used))
    return vectors * weight, query * weight


def image_vectors(
    catalog: Catalog, places: Sequence[Place], space: Space, *, progress: Progress | None = None
) -> Float[np.ndarray, "n k"]:
    """Return a vector for each series, of the planes that stand for it; NaN where it can't be read.

    Raises:
        OutputError: They can't be kept.
    """
    items = {place.key: place for place in places}

    def encode(keys: Sequence[str]) -> np.ndarray:
        read = [planes for _, planes in read_planes(catalog.root, [items[key] for key in keys])]
        good = [n for n, planes in enumerate(read) if not isinstance(planes, str)]
        found = space.encode([read[n] for n in good]) if good else np.zeros((0, 1))
        out = np.full((len(keys), found.shape[1]), np.nan, dtype=np.float32)
        out[good] = found
        return out

    return _kept(catalog, space.name, [place.key for place in places], encode, progress)


def text_vectors(
    catalog: Catalog, keys: Sequence[str], texts: Sequence[str], space: Space, *, progress: Progress | None = None
) -> Float[np.ndarray, "n k"]:
    """Return a vector for each text.

    Raises:
        OutputError: They can't be kept.
    """
    by_key = dict(zip(keys, texts, strict=True))
    return _kept(
        catalog,
        space.name,
        keys,
        lambda some: np.asarray(space.encode([by_key[k] for k in some]), np.float32),
        progress,
    )


def _kept(
    catalog: Catalog, space: str, keys: Sequence[str], encode: Callable[[Sequence[str]], np.ndarray],
    progress: Progress | None,
) -> Float[np.ndarray, "n k"]:  # fmt: skip
    if not _SPACE.fullmatch(space):
        raise ConfigError(f"a space of vectors is named by lower-case letters, digits, - and ., not {space!r}")
    folder = catalog.root / "derived" / f"vectors-{space}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_os_error(error, folder, doing="write") from error
    known = _read(folder)
    new = [key for key in dict.fromkeys(keys) if key not in known]
    for first in range(0, len(new), _CHUNK):
        some = new[first : first + _CHUNK]
        made = encode(some)
        values = pa.FixedSizeListArray.from_arrays(pa.array(made.astype(np.float32).ravel()), made.shape[1])
        with atomic_path(folder / f"{len(list(folder.glob('*.parquet'))):06d}.parquet") as temporary:
            pq.write_table(pa.table({"key": pa.array(some), "vector": values}), temporary, compression="zstd")
        known |= dict(zip(some, made, strict=True))
        if progress is not None:
            progress("making vectors", min(1.0, (first + _CHUNK) / len(new)))
    width = max((len(known[key]) for key in keys), default=1)
    out = np.full((len(keys), width), np.nan, dtype=np.float32)
    for row, key in enumerate(keys):
        if len(known[key]) == width:
            out[row] = known[key]
    return out


def _read(folder: Path) -> dict[str, np.ndarray]:
    known: dict[str, np.ndarray] = {}
    for file in sorted(folder.glob("*.parquet")):
        table = pq.read_table(file)
        vectors = table.column("vector").combine_chunks()
        rows = np.asarray(vectors.flatten()).reshape(len(vectors), -1)
        known |= dict(zip(table.column("key").to_pylist(), rows, strict=True))
    return known
