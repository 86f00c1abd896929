"""Codes of the field's vocabularies, quantities of images, and measurements that carry their UCUM unit.

A number without a unit does not leave this package: a `Measurement` has a coded name, a value and a UCUM unit, and
refuses a value that is not finite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from isocenter.core.errors import UnitsError

__all__ = ["Code", "Measurement", "Quantity"]


@dataclass(frozen=True)
class Code:
    """A coded concept.

    Args:
        value: Code value, e.g. "39607008".
        scheme: Coding scheme designator as DICOM PS3.16 writes it, e.g. "SCT", "DCM", "UCUM", "RADLEX".
        meaning: Human-readable meaning in English.

    Raises:
        UnitsError: A part is empty, or longer than a DICOM coded entry allows (value and scheme 16, meaning 64).

    Example:
        >>> str(Code("39607008", "SCT", "Lung"))
        'Lung (39607008, SCT)'
    """

    value: str
    scheme: str
    meaning: str

    def __post_init__(self) -> None:
        for name, text, limit in (
            ("value", self.value, 16),
            ("scheme", self.scheme, 16),
            ("meaning", self.meaning, 64),
        ):
            if not text or len(text) > limit:
                raise UnitsError(f"a code's {name} must have 1 to {limit} characters, got {len(text)}")

    def __str__(self) -> str:
        return f"{self.meaning} ({self.value}, {self.scheme})"


class Quantity(StrEnum):
    """What the numbers of an image mean."""

    HU = "HU"
    SUVBW = "SUVbw"
    BQML = "Bq/mL"
    GY = "Gy"
    PROBABILITY = "probability"
    RGB = "RGB"
    ARBITRARY = "arbitrary"


UCUM = {
    "mm": Code("mm", "UCUM", "millimeter"),
    "mm2": Code("mm2", "UCUM", "square millimeter"),
    "mm3": Code("mm3", "UCUM", "cubic millimeter"),
    "cm3": Code("cm3", "UCUM", "cubic centimeter"),
    "mL": Code("mL", "UCUM", "milliliter"),
    "HU": Code("[hnsf'U]", "UCUM", "Hounsfield unit"),
    "SUVbw": Code("{SUVbw}g/ml", "UCUM", "Standardized Uptake Value body weight"),
    "Bq/mL": Code("Bq/ml", "UCUM", "Becquerels/milliliter"),
    "Gy": Code("Gy", "UCUM", "Gray"),
    "1": Code("1", "UCUM", "no units"),
    "px": Code("{pixels}", "UCUM", "pixels"),
    "%": Code("%", "UCUM", "Percent"),
}
"""UCUM units that the package writes, by their short name."""


@dataclass(frozen=True)
class Measurement:
    """One measured value of one segment or of the whole image.

    Args:
        name: Coded name, e.g. Code("118565006", "SCT", "Volume").
        value: The value; finite.
        unit: UCUM unit.
        segment: Number of the segment it was measured in; None for the whole image.
        derivation: Coded derivation such as Code("373098007", "SCT", "Mean"), or None.

    Raises:
        UnitsError: The value is not finite, or the unit is not of UCUM.
    """

    name: Code
    value: float
    unit: Code
    segment: int | None = None
    derivation: Code | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise UnitsError(f"a measurement of {self.name.meaning!r} must be finite, got {self.value}")
        if self.unit.scheme != "UCUM":
            raise UnitsError(f"the unit of {self.name.meaning!r} must be of UCUM, got scheme {self.unit.scheme!r}")
