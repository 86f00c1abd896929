"""What is taken out of data on its way in, and what may stay: the options of DICOM PS3.15 E.3 by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from isocenter.core.errors import ConfigError

__all__ = ["Dates", "Policy"]

Dates = Literal["shifted", "full", "none"]


@dataclass(frozen=True)
class Policy:
    """The Basic Application Level Confidentiality Profile, and the options taken with it.

    Args:
        retain_dates: "shifted" moves all dates of a patient by the same secret number of days and keeps times of the
            day; "full" keeps both (identifying!); "none" removes or replaces both.
        retain_device: Keep serial numbers, station names and other identity of the equipment.
        retain_institution: Keep names and addresses of institutions.
        retain_patient_characteristics: Keep sex, age (90 and above become 90), size and weight, which SUV needs.
        clean_descriptors: Clean free text (series description, protocol name, comments) and keep the rest of it;
            else it is removed.
        clean_structured_content: Clean the content of structured reports and keep it; else it is removed.
        clean_pixels: Find text burnt into the pixels and blank it (`deidentify.pixels`).
        clean_graphics: Clean the text of graphic annotations and keep them; else they are removed. Overlays are
            removed in any case.
        retain_safe_private: Keep the private elements that the standard lists as safe (SUV, diffusion).
        retain_uids: Keep all UIDs (identifying for whoever has the original archive).
        deface: Remove the face from head CT and MR (`deidentify.deface`).
        off: Change nothing. Whoever sets it takes over: the archive holds identified data, and says so.

    Raises:
        ConfigError: A word that `retain_dates` does not know.

    Example:
        >>> Policy().retain_dates, Policy.from_dict({"retain_device": True}).retain_device
        ('shifted', True)
    """

    retain_dates: Dates = "shifted"
    retain_device: bool = False
    retain_institution: bool = False
    retain_patient_characteristics: bool = True
    clean_descriptors: bool = True
    clean_structured_content: bool = True
    clean_pixels: bool = False
    clean_graphics: bool = False
    retain_safe_private: bool = False
    retain_uids: bool = False
    deface: bool = False
    off: bool = False

    def __post_init__(self) -> None:
        if self.retain_dates not in get_args(Dates):
            raise ConfigError(f"retain_dates is one of {', '.join(get_args(Dates))}")

    def to_dict(self) -> dict[str, str | bool]:
        """Return the options by name, for a file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Policy:
        """Read options by name; those that are not given have their default.

        Raises:
            ConfigError: A name that is none, or a value of the wrong kind.
        """
        known = {field.name for field in fields(cls)}
        for name, value in values.items():
            if name not in known:
                raise ConfigError(f"{name!r} is no option of de-identification; there are {', '.join(sorted(known))}")
            if name != "retain_dates" and not isinstance(value, bool):
                raise ConfigError(f"the option {name!r} of de-identification is true or false")
            if name == "retain_dates" and value not in get_args(Dates):
                raise ConfigError(f"retain_dates is one of {', '.join(get_args(Dates))}")
        return cls(**values)

    def codes(self) -> tuple[tuple[str, str], ...]:
        """Return code and meaning of what is done, for De-identification Method Code Sequence; none when off.

        Source:
            DICOM PS3.16 CID 7050 (scheme DCM).
        """
        if self.off:
            return ()
        stated = [
            (True, "113100", "Basic Application Confidentiality Profile"),
            (self.clean_pixels, "113101", "Clean Pixel Data Option"),
            (self.deface, "113102", "Clean Recognizable Visual Features Option"),
            (self.clean_graphics, "113103", "Clean Graphics Option"),
            (self.clean_structured_content, "113104", "Clean Structured Content Option"),
            (self.clean_descriptors, "113105", "Clean Descriptors Option"),
            (
                self.retain_dates == "full",
                "113106",
                "Retain Longitudinal Temporal Information Full Dates Option",
            ),
            (
                self.retain_dates == "shifted",
                "113107",
                "Retain Longitudinal Temporal Information Modified Dates Option",
            ),
            (self.retain_patient_characteristics, "113108", "Retain Patient Characteristics Option"),
            (self.retain_device, "113109", "Retain Device Identity Option"),
            (self.retain_uids, "113110", "Retain UIDs Option"),
            (self.retain_safe_private, "113111", "Retain Safe Private Option"),
            (self.retain_institution, "113112", "Retain Institution Identity Option"),
        ]
        return tuple((code, meaning) for taken, code, meaning in stated if taken)
