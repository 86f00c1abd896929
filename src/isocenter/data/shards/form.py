"""What a shard says of itself: the JSON in its metadata, with the exact affine, checks and checksums.

Form 1. Floats are written so that they come back to the last bit. The JSON stands under "isocenter" among the
variable-length metadata of the Blosc2 file, and its SHA-256 under "isocenter-sha256".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from isocenter.core import Code, Geometry, Image, Mask, Quantity, Segment, Source
from isocenter.core.errors import DataError, IsocenterError
from isocenter.data.shards.frame import Chunks

__all__ = [
    "FORM",
    "Content",
    "Counts",
    "Statistics",
    "content_from_json",
    "content_to_json",
    "image_facts",
    "image_of",
    "mask_facts",
    "mask_of",
]

FORM = 1

Axes = tuple[int, int, int]
Flips = tuple[bool, bool, bool]


@dataclass(frozen=True)
class Statistics:
    """What patches are padded and scaled with, over all channels.

    Args:
        lowest: Smallest value that is a number; 0 where there is none.
        highest: Largest.
        mean: Mean of the values that are finite.
        deviation: Their standard deviation.
    """

    lowest: float
    highest: float
    mean: float
    deviation: float


@dataclass(frozen=True)
class Counts:
    """Where a segment lies: the chunks that hold any of it.

    Args:
        places: Their places among the chunks of one channel, in C order.
        voxels: How many of its voxels each holds (at or above 0.5 for probabilities).
    """

    places: tuple[int, ...]
    voxels: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Content:
    """Everything of a shard but its voxels.

    Args:
        kind: "image", "labelmap" or "stack" (planes of a mask).
        geometry: Of the stored array: its index axes run along LPS as closely as they can ("SPL").
        axes: For each stored axis, the axis of the source it came from.
        flips: For each stored axis, whether it was reversed after that.
        source_affine: The affine of the source, exactly; None where it had none.
        source_orientation: DICOM Patient Orientation of the source's grid, see `Geometry`.
        dtype: Of the values; they may be stored in a smaller type of integer that holds each of them.
        sha256: `core.fingerprint` of the source's array and geometry, of dtype `dtype`.
        cut: Voxels (channel, z, y, x) of a chunk, and of a block.
        header: CRC-32 of the frame's header, the length of the file left out.
        index: CRC-32 of the frame's index.
        chunks: Where chunks lie, and their checksums.
        facts: Of `image_facts` or `mask_facts`.
        statistics: Of an image's values; None for a mask.
        mask: (file name, sha256) of the mask beside an image, or None.
        counts: For a mask, where each segment lies.
        origin: What the writer was told of where it came from, e.g. the SHA-256 of a file; "" for nothing.
    """

    kind: str
    geometry: Geometry
    axes: Axes
    flips: Flips
    source_affine: np.ndarray | None
    source_orientation: tuple[str, str]
    dtype: str
    sha256: str
    cut: tuple[tuple[int, ...], tuple[int, ...]]
    header: int
    index: int
    chunks: Chunks
    facts: Mapping[str, Any]
    statistics: Statistics | None = None
    mask: tuple[str, str] | None = None
    counts: tuple[Counts, ...] = ()
    origin: str = ""

    @property
    def source_geometry(self) -> Geometry:
        """The grid of the source, bit for bit."""
        if self.source_affine is None:
            return self.geometry
        shape = [0, 0, 0]
        for new, old in enumerate(self.axes):
            shape[old] = self.geometry.shape[new]
        return Geometry(
            (shape[0], shape[1], shape[2]),
            self.source_affine,
            self.geometry.frame_uid,
            patient_orientation=self.source_orientation,
            stack=self.geometry.stack,
        )

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments of a mask; none for an image."""
        return tuple(_segment(s) for s in self.facts.get("segments", ()))


def image_facts(image: Image, *, source: object) -> dict[str, Any]:
    """Return what an image says beside voxels and place. File names are left out: they may hold a patient's name.

    Raises:
        DataError: A value of `meta` is no text, number, truth or list of these.
    """
    return {
        "quantity": image.quantity.value,
        "modality": image.modality,
        "source": _source_facts(image.source),
        "body_part": image.body_part,
        "description": image.description,
        "window": [list(pair) for pair in image.window],
        "meta": {str(k): _plain(v, str(k), source) for k, v in sorted(image.meta.items())},
        "notes": list(image.notes),
    }


def mask_facts(mask: Mask) -> dict[str, Any]:
    """Return what a mask says beside voxels and place."""
    return {"segments": [asdict(s) for s in mask.segments], "source": _source_facts(mask.source)}


def image_of(content: Content, array: np.ndarray, geometry: Geometry) -> Image:
    """Put an image together again."""
    f = content.facts
    return Image(
        array,
        geometry,
        Quantity(f["quantity"]),
        f["modality"],
        _source_of(f["source"]),
        f["body_part"],
        f["description"],
        tuple((float(a), float(b)) for a, b in f["window"]),
        MappingProxyType({k: _tuples(v) for k, v in f["meta"].items()}),
        tuple(f["notes"]),
    )


def mask_of(content: Content, array: np.ndarray, geometry: Geometry) -> Mask:
    """Put a mask together again."""
    values = array[0] if content.kind == "labelmap" else array
    return Mask(values, geometry, content.segments, _source_of(content.facts["source"]))


def content_to_json(content: Content) -> str:
    """Write it as JSON, always in the same order."""
    geometry = content.geometry
    text = {
        "form": FORM,
        "kind": content.kind,
        "geometry": {
            "shape_zyx": list(geometry.shape),
            "affine_zyx_to_lps_mm": None if geometry.affine is None else geometry.affine.tolist(),
            "frame_uid": geometry.frame_uid,
            "pixel_spacing_mm": None if geometry.affine is not None else geometry.pixel_spacing_mm,
            "patient_orientation": list(geometry.patient_orientation),
            "stack": geometry.stack,
        },
        "source_grid": {
            "axes": list(content.axes),
            "flips": list(content.flips),
            "affine_zyx_to_lps_mm": None if content.source_affine is None else content.source_affine.tolist(),
            "patient_orientation": list(content.source_orientation),
        },
        "dtype": content.dtype,
        "sha256": content.sha256,
        "cut": content.cut,
        "header": content.header,
        "index": content.index,
        "chunks": asdict(content.chunks),
        "facts": content.facts,
        "statistics": None if content.statistics is None else asdict(content.statistics),
        "mask": content.mask,
        "counts": [asdict(c) for c in content.counts],
        "origin": content.origin,
    }
    return json.dumps(text, sort_keys=True, separators=(",", ":"))


def content_from_json(text: str, *, source: object) -> Content:
    """Read it back.

    Raises:
        DataError: Another form, or something missing or impossible in it.
    """
    try:
        raw = json.loads(text)
        if raw["form"] != FORM:
            raise DataError(f"is a shard of form {raw['form']}; this version reads form {FORM}", source=source)
        where, grid = raw["geometry"], raw["source_grid"]
        affine = None if where["affine_zyx_to_lps_mm"] is None else np.array(where["affine_zyx_to_lps_mm"], np.float64)
        geometry = Geometry(
            tuple(where["shape_zyx"]),
            affine,
            where["frame_uid"],
            None if where["pixel_spacing_mm"] is None else tuple(where["pixel_spacing_mm"]),
            tuple(where["patient_orientation"]),
            where["stack"],
        )
        source_affine = None if grid["affine_zyx_to_lps_mm"] is None else np.array(grid["affine_zyx_to_lps_mm"])
        content = Content(
            raw["kind"],
            geometry,
            tuple(grid["axes"]),
            tuple(grid["flips"]),
            source_affine,
            tuple(grid["patient_orientation"]),
            raw["dtype"],
            raw["sha256"],
            (tuple(raw["cut"][0]), tuple(raw["cut"][1])),
            raw["header"],
            raw["index"],
            Chunks(*(tuple(raw["chunks"][k]) for k in ("offsets", "lengths", "checksums"))),
            raw["facts"],
            None if raw["statistics"] is None else Statistics(**raw["statistics"]),
            None if raw["mask"] is None else tuple(raw["mask"]),
            tuple(Counts(tuple(c["places"]), tuple(c["voxels"])) for c in raw["counts"]),
            raw["origin"],
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, IsocenterError):
            raise
        raise DataError(
            f"its metadata is not complete ({type(error).__name__}); write it again", source=source
        ) from error
    _check_grids(content, source)
    return content


def _check_grids(content: Content, source: object) -> None:
    """The stored grid is the source's, reordered, to the last bit."""
    if content.source_affine is None:
        same = content.geometry.affine is None
    else:
        same = content.source_geometry.reoriented(content.axes, content.flips) == content.geometry
    if not same:
        raise DataError("the place that it states for its grid contradicts its source's; write it again", source=source)


def _source_facts(source: Source) -> dict[str, Any]:
    facts = asdict(source)
    del facts["files"]
    return facts


def _source_of(facts: Mapping[str, Any]) -> Source:
    parts: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in facts.items()}
    return Source(**parts)


def _segment(facts: Mapping[str, Any]) -> Segment:
    codes = {k: None if facts[k] is None else Code(**facts[k]) for k in ("category", "type", "laterality")}
    return Segment(**{**facts, **codes, "colour": tuple(facts["colour"])})


def _plain(value: object, name: str, source: object) -> object:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value)
    if isinstance(value, list | tuple):
        return [_plain(v, name, source) for v in value]
    raise DataError(
        f"meta {name!r} holds a {type(value).__name__}; a shard keeps text, numbers and lists", source=source
    )


def _tuples(value: object) -> object:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
