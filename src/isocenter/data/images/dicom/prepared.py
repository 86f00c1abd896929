"""An image of a DICOM series whose headers were read and whose pixels were not: some planes of it, or all.

`read_dicom` reads the whole of each; a viewer shows the middle plane before the rest is there. Both take this one way,
so what a person sees is what a task is given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from jaxtyping import Shaped
from pydicom import Dataset

from isocenter.core import Geometry, Image, Source
from isocenter.core.errors import ConfigError, GeometryError
from isocenter.data.images.dicom.facts import Facts, facts_of, flat_spacing
from isocenter.data.images.dicom.header import read_dataset, whole_header
from isocenter.data.images.dicom.pixels import decode
from isocenter.data.images.dicom.plane import Plane
from isocenter.data.images.dicom.resample import straighten
from isocenter.data.images.dicom.stack import Layout, Stack, lay_out
from isocenter.data.images.fingerprint import fingerprint

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image, ready to be decoded.

    Args:
        stack: Its planes, in order, channel after channel.
        layout: Where they lie.
        facts: What the header says of it as a whole.
        geometry: Its grid, once decoded; of an irregular series that will be resampled, the grid before that.
        notes: What was noticed.
    """

    stack: Stack
    layout: Layout
    facts: Facts
    geometry: Geometry
    notes: tuple[str, ...]

    @property
    def modality(self) -> str:
        """DICOM Modality."""
        return self.stack.planes[0].header.text("Modality")

    @property
    def is_regular(self) -> bool:
        """Whether planes may be decoded one by one; an irregular series is resampled as a whole."""
        return not self.layout.problem

    @property
    def source(self) -> Source:
        """UIDs and files, without the hash of pixels that were not read."""
        return _source(self.stack, "")

    @property
    def channel_planes(self) -> tuple[tuple[Plane, ...], ...]:
        """The planes by channel, with the mapping to real-world values that replaces the rescale, if there is one."""
        mapping = self.facts.mapping
        if mapping is None:
            return self.stack.channels
        return tuple(
            tuple(replace(p, slope=mapping[0], intercept=mapping[1]) for p in channel)
            for channel in self.stack.channels
        )

    def planes(self, first: int, count: int) -> Shaped[np.ndarray, "c z y x"]:
        """Decode some planes.

        Returns:
            The values that `image` has there; its dtype may be a narrower one, as it depends on the values decoded.

        Raises:
            ConfigError: They lie outside the image.
            GeometryError: The series is irregular: its planes are not those of its image.
            PixelError: They can't be decoded.
        """
        if not self.is_regular:
            raise GeometryError(self.layout.problem, source=self.stack.planes[0].header.name)
        if first < 0 or count < 1 or first + count > self.geometry.shape[0]:
            raise ConfigError(f"planes {first} to {first + count - 1} lie outside the image's {self.geometry.shape[0]}")
        channels = self.channel_planes
        wanted = [plane for channel in channels for plane in channel[first : first + count]]
        return decode(wanted, channels=len(channels), factor=self.facts.factor).array

    def image(self, progress: Callable[[int], None] | None = None) -> Image:
        """Decode all of it.

        Args:
            progress: Called with the number of planes done.

        Raises:
            PixelError: It can't be decoded.
        """
        stack, facts = self.stack, self.facts
        geometry, notes = self.geometry, self.notes
        planes = [plane for channel in self.channel_planes for plane in channel]
        decoded = decode(planes, channels=len(stack.channels), factor=facts.factor, progress=progress)
        array, digest = decoded.array, decoded.sha256
        if self.layout.problem:
            array, geometry, note = straighten(array, self.layout)
            notes, sha256 = (*notes, note), fingerprint(array, geometry)
        else:
            if geometry.affine is not None:
                digest.update(np.ascontiguousarray(geometry.affine + 0.0).data)  # as `fingerprint` does
            sha256 = digest.hexdigest()
        return Image(
            array,
            geometry,
            quantity=facts.quantity,
            modality=self.modality,
            source=_source(stack, sha256),
            body_part=facts.body_part,
            description=facts.description,
            window=facts.window,
            meta=_meta(stack, facts),
            notes=(*facts.notes, *notes),
        )


def prepare(stack: Stack, *, on_irregular: str = "raise") -> Prepared:
    """Read what the headers of a stack say.

    Args:
        stack: Planes of one image.
        on_irregular: "raise", or "resample".

    Raises:
        GeometryError: The series is irregular, and is not to be resampled.
        PixelError: A header is broken.
    """
    layout = lay_out(stack)
    if layout.problem and on_irregular == "raise":
        raise GeometryError(layout.problem, source=stack.planes[0].header.name)
    header = stack.planes[0].header
    dataset = read_dataset(header.path, name=header.name)
    with whole_header(header.name):
        facts = facts_of(dataset, stack.planes, transfer_syntax_uid=header.transfer_syntax_uid)
        geometry, notes = _geometry(dataset, stack, layout)
    return Prepared(stack, layout, facts, geometry, notes)


def _geometry(dataset: Dataset, stack: Stack, layout: Layout) -> tuple[Geometry, tuple[str, ...]]:
    geometry, notes = layout.geometry, layout.notes
    if geometry.affine is None:
        spacing, more = flat_spacing(dataset, geometry.pixel_spacing_mm)
        geometry, notes = replace(geometry, pixel_spacing_mm=spacing), (*notes, *more)
    studies = len({p.header.text("StudyInstanceUID") for p in stack.planes})
    if studies > 1:
        notes = (*notes, f"the files of this one series name {studies} different studies")
    if stack.told_apart_by:
        notes = (*notes, f"{len(stack.channels)} channels, told apart by {stack.told_apart_by}")
    return geometry, notes


def _source(stack: Stack, sha256: str) -> Source:
    planes = stack.planes
    return Source(
        study_uid=planes[0].header.text("StudyInstanceUID"),
        series_uid=planes[0].header.text("SeriesInstanceUID"),
        instance_uids=tuple(p.header.text("SOPInstanceUID") for p in planes),
        sop_class_uids=tuple(p.header.text("SOPClassUID") for p in planes),
        sha256=sha256,
        files=tuple(dict.fromkeys(p.header.name for p in planes)),
    )


def _meta(stack: Stack, facts: Facts) -> MappingProxyType[str, object]:
    """Add what tells the channels apart to the header's facts."""
    if not stack.told_apart_by:
        return facts.meta
    names = stack.told_apart_by.split(" and ")
    values = tuple(tuple(channel[0].keys.get(n) for n in names) for channel in stack.channels)
    return MappingProxyType({**facts.meta, "ChannelKeys": tuple(names), "ChannelValues": values})
