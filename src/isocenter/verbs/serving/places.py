"""Where in the pictures evidence can be seen: a point that lies in the outline, its bounds, the outline itself.

Everything is computed from what the reading wrote: the mask is read back from its file, held to the hash that the
result states, and the point that the planes jump to is a voxel of the segment, not a centroid that may lie beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from isocenter.core import Geometry, Mask
from isocenter.core.errors import DataError
from isocenter.data.images.nifti import read_nifti_mask
from isocenter.safety.claims import LedgerEvidence
from isocenter.verbs.asking.answers import picture_of
from isocenter.verbs.asking.study import Examined
from isocenter.verbs.entries import file_sha256
from isocenter.verbs.evidence import MAP_FORMAT
from isocenter.verbs.result import EvidenceEntry, FileEntry, GeometryEntry, PredictionEntry
from isocenter.viewer.report_models import Place, PlaceMap, PlaceMask

__all__ = ["Places", "geometry_of", "place_of_segment"]

_FAR = 0.51
"""Voxels that the file's grid may lie off the image's before a place in it is refused."""


def geometry_of(entry: GeometryEntry) -> Geometry:
    """Return the grid of an image of a result."""
    affine = entry.affine_zyx_to_lps_mm
    return Geometry(
        entry.shape_zyx,
        None if affine is None else np.array(affine, dtype=np.float64),
        pixel_spacing_mm=entry.pixel_spacing_mm if affine is None else None,
        stack="time" if entry.stack == "time" else "space",
    )


@dataclass
class Places:
    """Places of the evidence of one reading; each is computed once.

    Args:
        reading: Identifier of the reading.
        folder: Of its result.
        examined: The result with its ledgers.
        images: Identifiers of images by their number in the result.
    """

    reading: str
    folder: Path
    examined: Examined
    images: Mapping[int, str]
    _masks: dict[str, Mask] = field(default_factory=dict, init=False)
    _known: dict[str, tuple[Place, ...]] = field(default_factory=dict, init=False)

    def of(self, name: str) -> tuple[Place, ...]:
        """Return the places of evidence under its name in the whole result ("1.e3"); none for an unknown name.

        Raises:
            DataError: A mask of the result is gone, or is not the one that was written.
        """
        if name not in self._known:
            evidence = self.examined.evidence(name)
            self._known[name] = () if evidence is None else self._found(name, evidence)
        return self._known[name]

    def _found(self, name: str, evidence: LedgerEvidence) -> tuple[Place, ...]:
        made = self.examined.prediction(evidence)
        if made is None:
            return ()
        number = self.examined.result.predictions.index(made)
        image = self.images.get(made.image)
        if evidence.segment is not None:
            return self._segment(name, evidence, made, number)
        regions = [e for e in made.evidence if e.kind == "region" and _is_of(e, evidence)]
        point, index = _peak(regions[0]) if regions else (None, None)
        picture = picture_of(evidence) or None
        # The map itself is kept beside its picture.
        raw = None if picture is None else f"{Path(picture).stem}.nii.gz"
        kept = raw is not None and any(f.format == MAP_FORMAT and f.path == raw for f in made.files)
        return (
            Place(
                kind="map" if picture or regions else "probability", evidence=name, image=image,
                image_index=made.image, label=evidence.text, point_lps_mm=point, index_zyx=index, picture=picture,
                map=PlaceMap(reading=self.reading, file=raw) if raw is not None and kept else None,
            ),
        )  # fmt: skip

    def _segment(self, name: str, evidence: LedgerEvidence, made: PredictionEntry, number: int) -> tuple[Place, ...]:
        file = next((f for f in made.files if f.format == "NIfTI"), None)
        segment = evidence.segment
        if segment is None:
            return ()
        bare = Place(
            kind="segment", evidence=name, image=self.images.get(made.image), image_index=made.image,
            label=evidence.text,
        )  # fmt: skip
        if file is None:  # no file could be written of it, and the result says why
            return (bare,)
        mask = self._mask(file)
        image = geometry_of(self.examined.result.images[made.image].geometry)
        found = place_of_segment(mask, segment, image)
        if found is None:
            return (bare,)
        index, box, point = found
        held = PlaceMask(reading=self.reading, prediction=number, segment=segment, file=file.path)
        return (bare.model_copy(update={"index_zyx": index, "box_zyx": box, "point_lps_mm": point, "mask": held}),)

    def _mask(self, file: FileEntry) -> Mask:
        if file.path not in self._masks:
            path = (self.folder / file.path).resolve()
            if not path.is_relative_to(self.folder.resolve()) or not path.is_file():
                raise DataError("a mask of the reading is gone; read the study again", source=file.path)
            if file_sha256(path) != file.sha256:
                raise DataError("a mask is not the one that was written with the result", source=file.path)
            self._masks[file.path] = read_nifti_mask(path)
        return self._masks[file.path]


def place_of_segment(
    mask: Mask, segment: int, image: Geometry
) -> tuple[tuple[int, int, int], tuple[int, int, int, int, int, int], tuple[float, float, float] | None] | None:
    """Return a voxel of a segment near its centroid, its bounds and its place, on the image's grid.

    Args:
        mask: As read from its file, whose axes may be in another order than the image's.
        segment: Number of the segment.
        image: Grid of the image.

    Returns:
        Index (z, y, x), bounds (z0, z1, y0, y1, x0, x1; half open) and LPS mm (None where the image has no place); None
        where the segment is empty.

    Raises:
        DataError: The file lies elsewhere than the image.
    """
    inside: Bool[np.ndarray, "z y x"] = np.asarray(mask.segment_array(segment)).astype(bool)
    where = np.argwhere(inside)
    if not len(where):
        return None
    spacing = np.array(mask.geometry.spacing_mm or (1.0, 1.0, 1.0))
    far = (((where - where.mean(axis=0)) * spacing) ** 2).sum(axis=1)
    chosen = where[int(np.argmin(far))]
    if image.affine is None or mask.geometry.affine is None:
        if mask.geometry.shape != image.shape:
            raise DataError("a mask of the reading has another grid than its image")
        low, high, index, point = where.min(axis=0), where.max(axis=0), chosen, None
    else:
        corners = image.to_index(mask.geometry.to_world(where[[*_extremes(where)]].astype(float)))
        low, high = np.rint(corners.min(axis=0)), np.rint(corners.max(axis=0))
        exact = image.to_index(mask.geometry.to_world(chosen[None].astype(float)))[0]
        index = np.rint(exact)
        if np.abs(exact - index).max() > _FAR or (index < 0).any() or (index >= image.shape).any():
            raise DataError("a mask of the reading lies outside of its image")
        x, y, z = (round(float(v), 3) for v in image.to_world(index[None])[0])
        point = (x, y, z)
    z0, y0, x0 = (int(v) for v in low)
    z1, y1, x1 = (int(v) + 1 for v in high)
    iz, iy, ix = (int(v) for v in index)
    return (iz, iy, ix), (z0, z1, y0, y1, x0, x1), point


def _extremes(where: np.ndarray) -> list[int]:
    """Return rows that hold the least and the most of every axis."""
    return [int(f(where[:, axis])) for axis in range(3) for f in (np.argmin, np.argmax)]


def _is_of(entry: EvidenceEntry, evidence: LedgerEvidence) -> bool:
    return bool(entry.about) and evidence.text.startswith(f"probability of {entry.about} ")


def _peak(entry: EvidenceEntry) -> tuple[tuple[float, float, float] | None, tuple[int, int, int] | None]:
    numbers = entry.numbers
    try:
        z, y, x = (round(numbers[f"peak {axis}"]) for axis in "zyx")
    except KeyError:
        return None, None
    try:
        left, back, up = (numbers[f"peak {axis} mm"] for axis in "LPS")
    except KeyError:
        return None, (z, y, x)
    return (left, back, up), (z, y, x)
