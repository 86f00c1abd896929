"""What a reader of reports and records can't tell by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from isocenter.core.errors import ConfigError

__all__ = ["ReadOptions"]


@dataclass(frozen=True)
class ReadOptions:
    """What a reader can't tell by itself.

    Args:
        roles: Role of a table's columns by heading, over what their names and cells tell; "" for none. A heading that
            a table does not have is an error.
        day_first: Of dates like 1/2/2024, whether the day stands first; None lets a column's other dates decide, and
            refuses where they do not.
        issuer: Who gave the patients' identifiers, where the source does not say it.
        text_name: What the name of a text file is: the report's own name, the accession number, or the patient.

    Raises:
        ConfigError: `text_name` is none of the three.
    """

    roles: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    day_first: bool | None = None
    issuer: str = ""
    text_name: Literal["report", "accession", "patient"] = "report"

    def __post_init__(self) -> None:
        if self.text_name not in ("report", "accession", "patient"):
            raise ConfigError(f"text_name must be report, accession or patient, got {self.text_name!r}")
