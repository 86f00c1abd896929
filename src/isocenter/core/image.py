"""An image: numbers, their place in the patient, what they mean, and where they came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from isocenter.core.errors import GeometryError, PixelError
from isocenter.core.fingerprint import fingerprint
from isocenter.core.geometry import Geometry
from isocenter.core.units import Quantity

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Image", "Source"]


@dataclass(frozen=True)
class Source:
    """Where an image or mask came from.

    Args:
        study_uid: Study Instance UID; "" where there is none (a NIfTI, a picture).
        series_uid: Series Instance UID; "" where there is none.
        instance_uids: SOP Instance UIDs in the order of the z axis; one that repeats for all frames of a multi-frame.
        sop_class_uids: SOP Class UIDs, in the same order as `instance_uids`.
        sha256: Hash of the decoded array's bytes and affine, or of the file: names the input in a `Prediction`.
        files: File names in the order of the z axis, relative to what the user passed.
    """

    study_uid: str = ""
    series_uid: str = ""
    instance_uids: tuple[str, ...] = ()
    sop_class_uids: tuple[str, ...] = ()
    sha256: str = ""
    files: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Image:
    """Voxels with their place and meaning.

    Args:
        array: (C, Z, Y, X), any integer or float dtype. C is 1, or 3 for RGB, or the number of time points or echoes.
            A radiograph has Z=1.
        geometry: The grid; its shape equals (Z, Y, X).
        quantity: What the numbers mean. ARBITRARY where a header gives no unit.
        modality: DICOM Modality, e.g. "CT"; "" where unknown (a NIfTI without a side file).
        source: UIDs, hash and files.
        body_part: DICOM Body Part Examined or coded anatomic region in upper case, "" where unknown.
        description: What kind of series it is in the header's own controlled words (image type, sequence); never free
            text, because free text may hold a patient's value.
        window: (centre, width) pairs of the VOI, as in DICOM PS3.3 C.11.2; empty where there is none.
        meta: Further header facts by DICOM keyword (e.g. "SliceThickness", "KVP", "PhotometricInterpretation") that
            are not identities.
        notes: What the reader noticed or did ("resampled from gantry tilt 12.0 degrees"), for the reader of the result.

    Raises:
        PixelError: The array is not 4-dimensional or not numeric.
        GeometryError: Array and geometry disagree.
    """

    array: Shaped[np.ndarray, "..."]
    geometry: Geometry
    quantity: Quantity = Quantity.ARBITRARY
    modality: str = ""
    source: Source = field(default_factory=Source)
    body_part: str = ""
    description: str = ""
    window: tuple[tuple[float, float], ...] = ()
    meta: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.array.ndim != 4:
            raise PixelError(f"an image array must have axes (channel, z, y, x), got shape {self.array.shape}")
        if self.array.dtype.kind not in "iuf":
            raise PixelError(f"an image array must be integer or float, got {self.array.dtype}")
        if self.array.shape[1:] != self.geometry.shape:
            raise GeometryError(f"array (z, y, x) {self.array.shape[1:]} and geometry {self.geometry.shape} disagree")

    @property
    def sha256(self) -> str:
        """The hash that names the image as an input: its reader's, or the `fingerprint` of its voxels and place."""
        return self.source.sha256 or fingerprint(self.array, self.geometry)

    @property
    def is_volume(self) -> bool:
        """True for a stack of slices in space, False for a single plane or a cine."""
        return self.geometry.shape[0] > 1 and self.geometry.stack == "space" and self.geometry.affine is not None

    @property
    def dark_is_high(self) -> bool:
        """True where larger values are darker, the negative of what networks learn (MONOCHROME1, PS3.3 C.7.6.3.1.2)."""
        return str(self.meta.get("PhotometricInterpretation", "")).strip().upper() == "MONOCHROME1"
