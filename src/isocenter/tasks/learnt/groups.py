"""Groups that are known before the answer: what a table calls them, and what an image says of its own.

A column that is named as a fact of the header (`PatientSex`, `StationName`, `Manufacturer`; also `sex`, `station`,
`vendor` and so on) can be looked up in a further image. Any other column can't, and the promise over all groups holds.
"""

from __future__ import annotations

import math

from isocenter.core import Image

__all__ = ["canonical", "fact_of", "group_of"]

_FACTS = {
    "patientsex": "PatientSex", "sex": "PatientSex", "gender": "PatientSex",
    "stationname": "StationName", "station": "StationName",
    "manufacturer": "Manufacturer", "vendor": "Manufacturer",
    "manufacturermodelname": "ManufacturerModelName", "model": "ManufacturerModelName",
    "magneticfieldstrength": "MagneticFieldStrength", "fieldstrength": "MagneticFieldStrength",
    "viewposition": "ViewPosition", "view": "ViewPosition",
    "kvp": "KVP", "convolutionkernel": "ConvolutionKernel",
    "modality": "Modality", "bodypartexamined": "BodyPartExamined",
}  # fmt: skip
"""By the column's name in small letters without signs: the keyword of what a header says."""
_SEXES = {"MALE": "M", "MAN": "M", "FEMALE": "F", "WOMAN": "F", "OTHER": "O"}
_LONGEST = 64


def fact_of(column: str) -> str | None:
    """Return the keyword of the header that a column names, None where it names none.

    Example:
        >>> fact_of("patient_sex"), fact_of("StationName"), fact_of("site")
        ('PatientSex', 'StationName', None)
    """
    return _FACTS.get("".join(c for c in column.lower() if c.isalnum()))


def canonical(column: str, value: str) -> str:
    """Return the one spelling of a group's name: capitals, single spaces; DICOM's letter of a sex; numbers as such.

    Example:
        >>> canonical("sex", "female"), canonical("site", " north  wing"), canonical("FieldStrength", "1.50")
        ('F', 'NORTH WING', '1.5')
    """
    name = " ".join(value.split()).upper()[:_LONGEST]
    if fact_of(column) == "PatientSex":
        return _SEXES.get(name, name)
    try:
        number = float(name)
    except ValueError:
        return name
    return f"{number:g}" if math.isfinite(number) else name


def group_of(image: Image, column: str) -> str | None:
    """Return the group of an image by a column, None where its header does not say.

    Args:
        image: The image.
        column: Name of the column.
    """
    fact = fact_of(column)
    if fact is None:
        return None
    said: object = {"Modality": image.modality, "BodyPartExamined": image.body_part}.get(fact) or image.meta.get(fact)
    return canonical(column, str(said)) if said is not None and str(said).strip() else None
