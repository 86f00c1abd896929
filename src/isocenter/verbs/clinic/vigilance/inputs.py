"""What goes into a task, as a few numbers and words of each image: never a patient's value, never free text.

They stand in the result's folder (`observed.json`) before it gets its name, so that a node that was killed after an
answer still knows what the answer was of.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Shaped
from pydicom import Dataset
from scipy import ndimage

from isocenter.core import Image
from isocenter.core.errors import DataError
from isocenter.data.images.study_files import StudyFiles

__all__ = ["OBSERVED", "Seen", "look_at", "read_seen", "seen_of"]

OBSERVED: Final = "observed.json"
_MOST_VALUES = 200_000
_QUANTILES = (1, 5, 25, 50, 75, 95, 99)
_VENDORS: Final = {
    "agfa": "Agfa", "canon": "Canon", "carestream": "Carestream", "esaote": "Esaote", "fujifilm": "Fujifilm",
    "fuji": "Fujifilm", "ge ": "GE", "ge-": "GE", "gehealthcare": "GE", "hitachi": "Hitachi", "hologic": "Hologic",
    "konica": "Konica Minolta", "mindray": "Mindray", "neusoft": "Neusoft", "philips": "Philips", "samsung": "Samsung",
    "shimadzu": "Shimadzu", "siemens": "Siemens", "toshiba": "Canon", "united imaging": "United Imaging",
    "uih": "United Imaging",
}  # fmt: skip
_LAPLACE = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float64)


@dataclass(frozen=True)
class Seen:
    """An image as it went in.

    Args:
        image: Its index in the study.
        numbers: By name.
        words: By name.
    """

    image: int
    numbers: Mapping[str, float]
    words: Mapping[str, str]


def look_at(files: StudyFiles, folder: Path, tasks: Sequence[str]) -> None:
    """Write what went in into a result's folder.

    Args:
        files: The study.
        folder: Of the result.
        tasks: That are asked.
    """
    seen = []
    for index, image in enumerate(files.study.images):
        headers = files.headers.image(image) if files.headers is not None and image.source.instance_uids else []
        seen.append(vars(seen_of(index, image, headers[:1])))
    (folder / OBSERVED).write_text(json.dumps({"tasks": list(tasks), "images": seen}), "utf-8")


def read_seen(folder: Path) -> tuple[tuple[str, ...], dict[int, Seen]]:
    """Read what went in: the tasks that were asked, and each image by its index; nothing where it was not written.

    Raises:
        DataError: The file is not what we wrote.
    """
    file = folder / OBSERVED
    if not file.is_file():
        return (), {}
    try:
        content: dict[str, Any] = json.loads(file.read_text("utf-8"))
        return tuple(content["tasks"]), {one["image"]: Seen(**one) for one in content["images"]}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError("what was observed of the inputs can't be read", source=OBSERVED) from error


def seen_of(index: int, image: Image, headers: Sequence[Dataset]) -> Seen:
    """Describe an image.

    Args:
        index: In the study.
        image: The image.
        headers: One or none.
    """
    planes, rows, columns = image.geometry.shape
    numbers = {"slices": float(planes), "rows": float(rows), "columns": float(columns)}
    spacing = image.geometry.spacing_mm
    pixel = image.geometry.pixel_spacing_mm
    if spacing is not None:
        numbers |= {"spacing z": spacing[0], "spacing y": spacing[1], "spacing x": spacing[2]}
    elif pixel is not None:
        numbers |= {"spacing y": pixel[0], "spacing x": pixel[1]}
    values = image.array[0]
    step = max(1, math.ceil(values.size / _MOST_VALUES))
    sample = values.reshape(-1)[::step].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if len(sample):
        found = np.percentile(sample, _QUANTILES)
        numbers |= {f"intensity p{q}": float(v) for q, v in zip(_QUANTILES, found, strict=True)}
        noise = noise_of(values)
        numbers["noise"] = noise
        reach = float(found[5] - found[1])
        if reach > 0:
            numbers["noise share"] = noise / reach
    words = {
        "modality": image.modality or "unknown", "body part": image.body_part or "unknown",
        "quantity": str(image.quantity), **_scanner(headers[0] if headers else None),
    }  # fmt: skip
    return Seen(index, {k: v for k, v in numbers.items() if math.isfinite(v)}, words)


def noise_of(values: Shaped[np.ndarray, "z y x"]) -> float:
    """Return the noise of an image, in its own unit: the median over three planes.

    Args:
        values: Of one channel.

    Source:
        Immerkaer, Computer Vision and Image Understanding 1996.
    """
    count, rows, columns = values.shape
    if min(rows, columns) < 3:
        return 0.0
    found = []
    for at in sorted({count // 4, count // 2, (3 * count) // 4}):
        plane: Float[np.ndarray, "y x"] = np.nan_to_num(values[at].astype(np.float64))
        edges = ndimage.convolve(plane, _LAPLACE, mode="nearest")[1:-1, 1:-1]
        found.append(math.sqrt(math.pi / 2) / 6 * float(np.abs(edges).mean()))
    return float(np.median(found))


def _scanner(header: Dataset | None) -> dict[str, str]:
    """Name the maker where it is one of a list; of its model there is only a hash, the same for the same model."""
    if header is None:
        return {"manufacturer": "unknown", "scanner": "unknown"}
    maker = str(header.get("Manufacturer", "") or "").strip().lower()
    known = next(
        (name for word, name in _VENDORS.items() if f"{maker} ".startswith(word)), "other" if maker else "unknown"
    )
    told = [str(header.get(k, "") or "").strip().lower() for k in ("Manufacturer", "ManufacturerModelName")]
    model = re.sub(r"\s+", " ", "\0".join(told))
    scanner = hashlib.sha256(f"isocenter scanner\0{model}".encode()).hexdigest()[:8] if any(told) else "unknown"
    return {"manufacturer": known, "scanner": scanner}
