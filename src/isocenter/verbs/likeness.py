"""What is like a series, a file or a text: the spaces that ship, and a search in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from isocenter.core.errors import CapabilityError, ConfigError, DataError

if TYPE_CHECKING:
    import pyarrow as pa

    from isocenter.data.catalog.catalog import Catalog

__all__ = ["find_like", "image_encoder", "text_encoder"]

Progress = Callable[[str, float], None]
IMAGES, TEXTS = "descriptor-8", "words-1024"
_SIDE = 64
_CELLS = 8
_DEFAULT = 20


def image_encoder() -> Callable[[Sequence[object]], np.ndarray]:
    """Return what makes a vector of the planes of an image: brightness, roughness and asymmetry of 8 x 8 cells.

    Raises:
        CapabilityError: torch is missing.
    """
    if find_spec("torch") is None:
        raise CapabilityError('likeness of images needs torch: pip install "isocenter[torch]"')
    import torch

    from isocenter.data.catalog.pictures import small
    from isocenter.models.learnt.descriptor import DescriptorEncoder, DescriptorSettings

    net = DescriptorEncoder(DescriptorSettings(cells=_CELLS)).eval()

    def encode(images: Sequence[Any]) -> np.ndarray:
        rows = []
        for planes in images:
            plane = small(planes[0], _SIDE, _SIDE)
            low, high = np.percentile(plane, (0.5, 99.5))
            rows.append(np.clip((plane - low) / ((high - low) or 1.0), 0, 1))
        with torch.inference_mode():
            return np.asarray(net.embed(torch.from_numpy(np.stack(rows).astype(np.float32))[:, None]).numpy())

    return encode


def text_encoder() -> Callable[[Sequence[object]], np.ndarray]:
    """Return what makes a vector of a text: its words and pairs of words, counted in hashed places."""
    from isocenter.models.hashed_text import hashed_text

    return lambda texts: hashed_text([str(text) for text in texts])


def find_like(
    catalog: Catalog, like: str, expression: str = "", *, limit: int | None = None, cohort: pa.Table | None = None,
    progress: Progress | None = None,
) -> pa.Table:  # fmt: skip
    """Find what is like something, most first, with a column `likeness` (cosine, 1 for the same).

    Args:
        catalog: The catalog.
        like: A Series Instance UID of the archive, a file with an image, or a text. Series are returned for the first
            two, reports for a text.
        expression: What must be true of them, over series or over reports.
        limit: At most so many; 20 by default.
        cohort: Beyond it nothing is looked for.
        progress: Called with what is being done and the fraction done.

    Raises:
        ConfigError: The expression is none, or the text is empty.
        DataError: The series or file can't be read.
        CapabilityError: torch is missing.
    """
    many = limit or _DEFAULT
    if not like.strip():
        raise ConfigError("what shall it be like? Give a series UID, a file, or a text")
    if _is_uid(like) or _is_file(like):
        return _images_like(catalog, like, expression, many, cohort, progress)
    from isocenter.data.catalog.similar import Space, nearest, text_vectors, weighted

    rows = catalog.find(expression, level="reports", cohort=cohort)
    texts = [text or "" for text in rows.column("text").to_pylist()]
    if not texts:
        return _with_likeness(rows, [], [])
    encode = text_encoder()
    vectors = text_vectors(catalog, rows.column("sha256").to_pylist(), texts, Space(TEXTS, encode), progress=progress)
    query = np.asarray(encode([like])[0], np.float32)
    if not np.isfinite(query).all():
        raise ConfigError("the text has no words")
    found, alike = nearest(*weighted(vectors, query), many)
    return _with_likeness(rows, found.tolist(), alike.tolist())


def _images_like(
    catalog: Catalog, like: str, expression: str, many: int, cohort: pa.Table | None, progress: Progress | None
) -> pa.Table:
    from isocenter.data.catalog.pictures import places_of, planes_of, read_planes
    from isocenter.data.catalog.similar import Space, image_vectors, nearest, standardised
    from isocenter.data.images import read_study

    encode = image_encoder()
    if _is_uid(like):
        own = places_of(catalog, [like])
        if not own:
            raise DataError("the archive holds no image of this series that is not held back", source=like)
        planes = next(planes for _, planes in read_planes(catalog.root, own[:1]))
        if isinstance(planes, str):
            raise DataError(f"the series can't be read: {planes}", source=like)
    else:
        images = read_study(Path(like)).study.images
        if not images:
            raise DataError("holds no image", source=like)
        planes = planes_of(images[0])
    rows = catalog.find(f"({expression or 'true'}) AND role = 'image'", cohort=cohort)
    wanted = {(u, p): n for n, (u, p) in enumerate(
        zip(rows.column("series_uid").to_pylist(), rows.column("patient_key").to_pylist(), strict=True)
    )}  # fmt: skip
    # Numbers are standardised over the whole archive, so that likeness does not depend on what else is asked.
    places = places_of(catalog)
    vectors = image_vectors(catalog, places, Space(IMAGES, encode), progress=progress)
    vectors, query = standardised(vectors, np.asarray(encode([planes])[0], np.float32))
    kept = [n for n, p in enumerate(places) if (p.series_uid, p.patient_key) in wanted and p.series_uid != like]
    found, alike = nearest(vectors[kept], query, many)
    order = [wanted[places[kept[n]].series_uid, places[kept[n]].patient_key] for n in found]
    return _with_likeness(rows, order, alike.tolist())


def _with_likeness(rows: pa.Table, order: list[int], alike: list[float]) -> pa.Table:
    import pyarrow as pa

    taken = rows.take(pa.array(order, pa.int64()))
    return taken.add_column(0, "likeness", pa.array([round(a, 4) for a in alike], pa.float64()))


def _is_uid(text: str) -> bool:
    return len(text) <= 64 and text.count(".") >= 2 and text.replace(".", "").isdigit()


def _is_file(text: str) -> bool:
    return len(text) < 4096 and "\n" not in text and Path(text).exists()
