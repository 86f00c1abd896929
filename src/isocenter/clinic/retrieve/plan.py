"""What is asked of another system, how patiently, and what came of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from pydicom.datadict import tag_for_keyword

from isocenter.core.errors import ConfigError

__all__ = ["GONE", "Failure", "Patience", "Query", "Retrieved", "is_uid"]

GONE = "not asked for: the other system had stopped answering; run again"
_UID = re.compile(r"[0-9][0-9.]{0,63}")


def is_uid(text: str) -> bool:
    """Tell whether a text is a UID, and so also a harmless name of a file.

    Example:
        >>> is_uid("1.2.840.1"), is_uid("../x"), is_uid("")
        (True, False, False)
    """
    return _UID.fullmatch(text) is not None


@dataclass(frozen=True)
class Query:
    """Which studies.

    Args:
        filters: Values by DICOM keyword, as matching at study level has them: "PatientID", "AccessionNumber",
            "StudyDate" ("20240101-20240131"), "ModalitiesInStudy", "StudyInstanceUID", ...
        everything: Whether an empty query is meant: all that the other system has.

    Raises:
        ConfigError: No filter without `everything`, or a keyword that DICOM does not have.
    """

    filters: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    everything: bool = False

    def __post_init__(self) -> None:
        if not any(self.filters.values()) and not self.everything:
            raise ConfigError("a query without a filter asks for the whole archive; give a filter, or everything=True")
        for keyword in self.filters:
            if tag_for_keyword(keyword) is None:
                raise ConfigError(f"{keyword!r} is no keyword of DICOM; write for example StudyDate or PatientID")


@dataclass(frozen=True)
class Patience:
    """How often and how long to try, and where to stop.

    Args:
        retries: Further tries of a request that failed for a reason that passes (no answer, busy, cut off).
        backoff_s: Wait before the first of them; doubled for each.
        timeout_s: Without a byte for so long is no answer.
        max_studies: Studies taken; more are a failure that is listed. None for no limit.
        max_bytes: Bytes fetched by one call, likewise.
        give_up: Requests in a row without any answer, all tries made, after which the other system counts as gone: what
            is left is listed and not asked for.

    Raises:
        ConfigError: A number is negative, or the timeout or `give_up` zero.
    """

    retries: int = 4
    backoff_s: float = 1.0
    timeout_s: float = 60.0
    max_studies: int | None = None
    max_bytes: int | None = None
    give_up: int = 3

    def __post_init__(self) -> None:
        if self.retries < 0 or self.backoff_s < 0 or self.timeout_s <= 0 or self.give_up < 1:
            raise ConfigError("retries and backoff_s must not be negative, timeout_s and give_up must be above 0")


@dataclass(frozen=True)
class Failure:
    """What was not fetched, and why.

    Args:
        study_uid: The study, "" where none of them could be listed.
        sop_uid: The instance, "" for the whole study.
        reason: In one line; never a patient's value.
    """

    study_uid: str
    sop_uid: str
    reason: str


@dataclass(frozen=True)
class Retrieved:
    """What came of it.

    Args:
        studies: Study Instance UIDs that answered the query, in the order of the answer.
        fetched: Instances written by this call.
        present: Instances that were there from before.
        bytes: Written by this call.
        failures: What is missing.
    """

    studies: tuple[str, ...] = ()
    fetched: int = 0
    present: int = 0
    bytes: int = 0
    failures: tuple[Failure, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return not self.failures
