"""What the viewer is told of studies and images, and the Protocol that tells it; see `isocenter.viewer.ports`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped

from isocenter.core import Image

__all__ = [
    "ImageItem",
    "Json",
    "LeftOut",
    "Library",
    "Picture",
    "PixelForm",
    "Planes",
    "ReportItem",
    "Status",
    "StudyDetail",
    "StudyItem",
    "StudyPage",
    "StudyQuery",
    "Tell",
    "Window",
]

Tell = Callable[[str, float], None]
"""Called with what is being done and how much of it, 0 to 1. It raises `Stopped` where somebody stopped the work."""

Status = Literal["new", "open", "read", "signed"]
Json = Mapping[str, Any]


@dataclass(frozen=True)
class StudyQuery:
    """Which studies are listed; "" or None for any.

    Args:
        q: Words that the description, modalities or pseudonym must hold.
        modality: DICOM modality that a series has.
        patient: Pseudonym of the patient.
        date_from: First study date, YYYY-MM-DD.
        date_to: Last study date.
        status: Of the work on it.
        offset: How many are passed over.
        limit: At most so many.
        order: "date" (newest first), "patient", "description" or "status"; with "-" before it, reversed.
    """

    q: str = ""
    modality: str = ""
    patient: str = ""
    date_from: str = ""
    date_to: str = ""
    status: str = ""
    offset: int = 0
    limit: int = 50
    order: str = "date"


@dataclass(frozen=True)
class StudyItem:
    """A study in the list.

    Args:
        id: Of the study.
        patient_key: Pseudonym.
        study_date: YYYY-MM-DD, None where not known.
        description: Of the study, "" where there is none.
        modalities: Of its series, sorted.
        series: Number of series.
        instances: Number of files or DICOM instances.
        accession: Accession number or its pseudonym, None where there is none.
        status: Of the work on it.
        assigned_to: Reader that it is assigned to, None for nobody.
        prior: Number of earlier studies of this patient.
    """

    id: str
    patient_key: str
    study_date: str | None
    description: str
    modalities: tuple[str, ...]
    series: int
    instances: int
    accession: str | None = None
    status: Status = "new"
    assigned_to: str | None = None
    prior: int = 0


@dataclass(frozen=True)
class StudyPage:
    """A part of the list.

    Args:
        total: How many there are in all.
        items: The part that was asked for.
        scanning: Whether a folder is still being looked through, so that more may come.
    """

    total: int
    items: tuple[StudyItem, ...]
    scanning: bool = False


@dataclass(frozen=True)
class Window:
    """A grey window: name for people, centre and width in the image's quantity."""

    name: str
    centre: float
    width: float


@dataclass(frozen=True)
class PixelForm:
    """How voxels are sent: value = slope * stored + intercept; little-endian."""

    dtype: Literal["int16", "uint8", "uint16", "float32"]
    slope: float = 1.0
    intercept: float = 0.0


@dataclass(frozen=True)
class ImageItem:
    """An image of a study.

    Args:
        id: Of the image.
        index: Zero-based number in the study, as results name it.
        modality: DICOM modality, "" where not known.
        description: Kind of series in words.
        quantity: What the numbers mean ("HU", "SUVbw", "arbitrary", ...).
        unit: UCUM unit of the numbers, "" where they have none.
        shape_zyx: Voxels along z, y, x.
        channels: Values at a voxel (3 for colour; time points; echoes).
        spacing_mm: Along z, y, x; None where not known.
        pixel_spacing_mm: Along y, x, also where the place in the patient is not known; None where not known.
        affine_zyx_to_lps_mm: 4 rows of 4; None where the place is not known.
        orientation: Three letters: towards what the index grows along z, y, x; None where not known.
        patient_orientation: Where rows and columns point to where there is no affine (a radiograph); ("", "") unknown.
        frame: Short name of the frame of reference: images of one frame lie in one space; "" where there is none.
        stack: Whether z is space or time.
        dark_is_high: Whether larger values are drawn darker.
        windows: Presets, the first of which is drawn first.
        low: Lowest value that is worth showing.
        high: Highest value that is worth showing.
        pixel: How voxels are sent.
        bytes: Of all voxels as they are sent.
        notes: What the reader noticed or did.
        too_large: Whether it is too large for what needs the whole of it (outlining, readings, NIfTI); its planes can
            be looked at.
    """

    id: str
    index: int
    modality: str
    description: str
    quantity: str
    unit: str
    shape_zyx: tuple[int, int, int]
    channels: int
    spacing_mm: tuple[float, float, float] | None
    pixel_spacing_mm: tuple[float, float] | None
    affine_zyx_to_lps_mm: tuple[tuple[float, ...], ...] | None
    orientation: str | None
    patient_orientation: tuple[str, str]
    frame: str
    stack: Literal["space", "time"]
    dark_is_high: bool
    windows: tuple[Window, ...]
    low: float
    high: float
    pixel: PixelForm
    bytes: int
    notes: tuple[str, ...] = ()
    too_large: bool = False


@dataclass(frozen=True)
class ReportItem:
    """A report that came with the study."""

    date: str | None
    title: str
    text: str


@dataclass(frozen=True)
class LeftOut:
    """A series or file that can't be shown, and why."""

    where: str
    reason: str


@dataclass(frozen=True)
class StudyDetail:
    """A study that was opened; `priors` are this patient's earlier studies, newest first."""

    study: StudyItem
    images: tuple[ImageItem, ...]
    priors: tuple[StudyItem, ...] = ()
    reports: tuple[ReportItem, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Planes:
    """Planes of an image as they are sent: of its `PixelForm`, little-endian, C order.

    Args:
        parts: One after another, each (z, y, x, channel); several people's answers share them.
        tag: Hash of what is sent, for caches.
    """

    parts: tuple[Shaped[np.ndarray, "..."], ...]
    tag: str

    @property
    def array(self) -> Shaped[np.ndarray, "z y x c"]:
        """All planes as one array (z, y, x, channel)."""
        return self.parts[0] if len(self.parts) == 1 else np.concatenate(self.parts)


@dataclass(frozen=True)
class Picture:
    """What is drawn as a PNG: a plane across an axis of the grid; None for the middle, and for the first window."""

    plane: Literal["z", "y", "x"] = "z"
    index: int | None = None
    centre: float | None = None
    width: float | None = None
    width_px: int = 512


@runtime_checkable
class Library(Protocol):
    """Studies and their images."""

    identified: bool
    """Whether the source may hold identities (a plain folder), or was de-identified (an archive)."""
    kind: Literal["folder", "archive"]

    def studies(self, query: StudyQuery) -> StudyPage:
        """List studies."""
        ...

    def study(self, study: str) -> StudyDetail:
        """Open a study: headers are read, pixels are not (but for a few planes); what can't be shown is left out.

        Raises:
            NotFound: There is none.
        """
        ...

    def study_of(self, image: str) -> str:
        """Return the study that an image is of.

        Raises:
            NotFound: There is none.
        """
        ...

    def image_item(self, image: str) -> ImageItem:
        """Describe an image.

        Raises:
            NotFound: There is none.
        """
        ...

    def planes(self, image: str, first: int, count: int) -> Planes:
        """Read some planes; the whole image is not read for it where its form allows.

        Raises:
            NotFound: There is no such image.
            ConfigError: The planes lie outside it.
            TooLarge: More is asked for at once than one answer may hold.
        """
        ...

    def image(self, image: str) -> Image:
        """Read a whole image; it is kept for a while, and two people asking at once share one read.

        Raises:
            NotFound: There is none.
            TooLarge: It is larger than images may be here.
        """
        ...

    def picture(self, image: str, picture: Picture) -> bytes:
        """Draw a plane as a PNG, in its physical aspect and with the letters of its sides.

        Raises:
            NotFound: There is no such image.
            ConfigError: The plane lies outside it.
            TooLarge: It needs the whole of an image that is too large.
        """
        ...

    def nifti(self, image: str) -> Path:
        """Return a NIfTI file of an image, made (with its geometry proof) when first asked for.

        Raises:
            NotFound: There is no such image.
            GeometryError: Its place in the patient is not known.
            TooLarge: It is too large.
        """
        ...
