"""Objects that came with the images: segmentations, structure sets and structured reports, put beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from isocenter.core import Geometry, Image, Mask, Report
from isocenter.core.errors import GeometryError
from isocenter.data.images.dicom.header import Header
from isocenter.data.images.rtstruct import StructureSet, open_rtstruct, rasterise
from isocenter.data.images.seg import read_seg
from isocenter.data.images.sr import read_sr

__all__ = ["DERIVED", "Derived", "read_derived"]

_SEG = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
_RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
_SR = tuple(f"1.2.840.10008.5.1.4.1.1.88.{n}" for n in (11, 22, 33, 34, 35))

DERIVED = frozenset((*_SEG, _RTSTRUCT, *_SR))
"""SOP Classes of segmentations, structure sets and structured reports (Basic Text to Extensible)."""


@dataclass
class Derived:
    """What was read of them.

    Args:
        masks: SEG on its own grid or its image's; RTSTRUCT on its image's grid.
        reports: Text and language of structured reports.
        notes: What was noticed.
    """

    masks: list[Mask] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_derived(header: Header, images: Sequence[Image], out: Derived) -> None:
    """Read one derived object and add it to what was read.

    Args:
        header: Its scanned header; the SOP Class is one of `DERIVED`.
        images: The images of the study.
        out: Where to add it.

    Raises:
        GeometryError: A structure set whose image is not in the study.
        DataError: The object cannot be read.
    """
    kind = header.text("SOPClassUID")
    if kind in _SEG:
        out.masks.append(_seg(header, images))
    elif kind == _RTSTRUCT:
        _rtstruct(header, images, out)
    else:
        document = read_sr(header.path)
        out.reports.append(document.report)
        out.notes.extend(f"{header.name}: {note}" for note in document.notes)


def _seg(header: Header, images: Sequence[Image]) -> Mask:
    """Read a SEG, on the grid of the image it was drawn on where its planes lie there."""
    mask = read_seg(header.path)
    source = replace(mask.source, files=(header.name,))
    for image in images:
        drawn_on = image.source.series_uid and image.source.series_uid == mask.source.series_uid
        if drawn_on and image.geometry.affine is not None:
            try:
                on_image = read_seg(header.path, geometry=image.geometry)
            except GeometryError:
                continue
            return replace(on_image, source=source)
    return replace(mask, source=source)


def _rtstruct(header: Header, images: Sequence[Image], out: Derived) -> None:
    structures = open_rtstruct(header.path)
    geometry = _grid_of(structures, images)
    if geometry is None:
        raise GeometryError(
            "the images that this structure set was drawn on are not in the study; pass them together",
            source=header.name,
        )
    mask, notes = rasterise(structures, geometry)
    out.masks.append(replace(mask, source=replace(mask.source, files=(header.name,))))
    out.notes.extend(f"{header.name}: {note}" for note in (*structures.notes, *notes))


def _grid_of(structures: StructureSet, images: Sequence[Image]) -> Geometry | None:
    """The grid of the referenced series; failing that, of an image in the same frame of reference."""
    placed = [i for i in images if i.geometry.affine is not None]
    for uid in (structures.source.series_uid, *structures.series_uids):
        for image in placed:
            if uid and image.source.series_uid == uid:
                return image.geometry
    frames = {region.frame_uid for region in structures.regions} - {""}
    volumes = sorted((i for i in placed if i.geometry.frame_uid in frames), key=lambda i: -i.array[0].size)
    return volumes[0].geometry if volumes else None
