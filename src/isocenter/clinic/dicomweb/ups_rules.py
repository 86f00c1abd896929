"""What a workitem must hold and how its state may change: Unified Procedure Steps, without a database.

Source:
    DICOM PS3.4, CC.1.1 (states), CC.2.5 and table CC.2.5-3 (attributes); PS3.18, 11.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from isocenter.clinic.dicomweb.index import tag_of
from isocenter.clinic.retrieve.plan import is_uid

__all__ = [
    "CANCELED",
    "COMPLETED",
    "FINAL",
    "IN_PROGRESS",
    "SCHEDULED",
    "UpsRefused",
    "changed",
    "check_final",
    "check_new",
    "check_update",
    "first",
]

SCHEDULED: Final = "SCHEDULED"
IN_PROGRESS: Final = "IN PROGRESS"
COMPLETED: Final = "COMPLETED"
CANCELED: Final = "CANCELED"
FINAL: Final = (COMPLETED, CANCELED)
STATES: Final = (SCHEDULED, IN_PROGRESS, COMPLETED, CANCELED)

_REQUIRED: Final = ("ScheduledProcedureStepPriority", "ProcedureStepLabel", "ScheduledProcedureStepStartDateTime",
                    "InputReadinessState")  # fmt: skip
_WORDS: Final = {
    "ScheduledProcedureStepPriority": ("HIGH", "MEDIUM", "LOW"),
    "InputReadinessState": ("READY", "UNAVAILABLE", "INCOMPLETE"),
}
_NOT_IN_UPDATE: Final = ("SOPClassUID", "SOPInstanceUID", "ProcedureStepState", "TransactionUID", "PatientName",
                         "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "AdmissionID",
                         "ReferencedRequestSequence")  # fmt: skip
_PERFORMED: Final = "UnifiedProcedureStepPerformedProcedureSequence"
_PERFORMED_REQUIRED: Final = ("PerformedStationNameCodeSequence", "PerformedProcedureStepStartDateTime",
                              "PerformedWorkitemCodeSequence", "PerformedProcedureStepEndDateTime")  # fmt: skip
_VR = re.compile(r"[A-Z]{2}")
_TAG = re.compile(r"[0-9A-F]{8}")
_DEEPEST, _MOST = 12, 5000


class UpsRefused(Exception):
    """A request that is not done.

    Args:
        code: HTTP status.
        warning: What the Warning header of the answer says.
        status: DIMSE status of the same refusal, for the log; 0 for none.
    """

    def __init__(self, code: int, warning: str, status: int = 0) -> None:
        super().__init__(warning)
        self.code, self.warning, self.status = code, warning, status


def first(body: Mapping[str, Any], keyword: str) -> Any:
    """Return the first value of an element, "" for none."""
    found = body.get(tag_of(keyword))
    values = found.get("Value") if isinstance(found, Mapping) else None
    return values[0] if isinstance(values, list) and values and values[0] is not None else ""


def _checked(body: object, depth: int = 0, count: list[int] | None = None) -> dict[str, Any]:
    """Refuse what is not a data set in the DICOM JSON model."""
    count = count if count is not None else [0]
    if not isinstance(body, dict) or depth > _DEEPEST:
        raise UpsRefused(400, "The body is not a data set in the DICOM JSON model.")
    for tag, found in body.items():
        count[0] += 1
        if count[0] > _MOST:
            raise UpsRefused(413, "The data set has too many elements.")
        if not _TAG.fullmatch(tag) or not isinstance(found, dict) or not _VR.fullmatch(str(found.get("vr", ""))):
            raise UpsRefused(400, "An element is not one of the DICOM JSON model.")
        values = found.get("Value", [])
        if not isinstance(values, list):
            raise UpsRefused(400, "An element has a Value that is no list.")
        if found["vr"] == "SQ":
            for item in values:
                _checked(item, depth + 1, count)
    return body


def check_new(body: object) -> dict[str, Any]:
    """Check a workitem that is to be created; return it.

    Raises:
        UpsRefused: It lacks what it must have, or says what it must not.
    """
    item = _checked(body)
    if first(item, "ProcedureStepState") != SCHEDULED:
        raise UpsRefused(400, "A workitem is created in the state SCHEDULED.", 0xC309)
    if first(item, "TransactionUID"):
        raise UpsRefused(400, "A workitem is created without a Transaction UID.")
    missing = [word for word in _REQUIRED if not first(item, word)]
    if missing:
        raise UpsRefused(400, f"The workitem lacks {', '.join(missing)}.", 0x0120)
    _check_words(item)
    if first(item, _PERFORMED):
        raise UpsRefused(400, "A workitem is created without what was performed.")
    return item


def check_update(body: object) -> dict[str, Any]:
    """Check the changes of a workitem; return them.

    Raises:
        UpsRefused: They touch what only other requests may.
    """
    item = _checked(body)
    touched = [word for word in _NOT_IN_UPDATE if tag_of(word) in item and word != "TransactionUID"]
    if touched:
        raise UpsRefused(400, f"An update may not hold {', '.join(touched)}.")
    _check_words(item)
    for word in _REQUIRED:
        if tag_of(word) in item and not first(item, word):
            raise UpsRefused(400, f"{word} may not be emptied.")
    return item


def _check_words(item: Mapping[str, Any]) -> None:
    for word, allowed in _WORDS.items():
        value = first(item, word)
        if value and value not in allowed:
            raise UpsRefused(400, f"{word} is one of {', '.join(allowed)}.", 0x0106)


def check_final(item: Mapping[str, Any], state: str) -> None:
    """Check that a workitem may be final.

    Raises:
        UpsRefused: It lacks what was performed (completed), or when it was discontinued (canceled).
    """
    if state == CANCELED:
        progress = first(item, "ProcedureStepProgressInformationSequence")
        if not (isinstance(progress, dict) and first(progress, "ProcedureStepCancellationDateTime")):
            raise UpsRefused(409, "The submitted request is inconsistent with the final state requirements.", 0xC304)
        return
    performed = first(item, _PERFORMED)
    if not isinstance(performed, dict) or any(not first(performed, word) for word in _PERFORMED_REQUIRED):
        raise UpsRefused(409, "The submitted request is inconsistent with the final state requirements.", 0xC304)
    if tag_of("OutputInformationSequence") not in performed:
        raise UpsRefused(409, "The workitem does not say what came of it (Output Information Sequence).", 0xC304)


def changed(now: str, wanted: str, *, lock: str, given: str) -> str:
    """Return what a change of state does (PS3.4 table CC.1.1-2).

    Args:
        now: State of the workitem.
        wanted: State that is asked for.
        lock: Transaction UID of the workitem; "" for none.
        given: Transaction UID of the request.

    Returns:
        "" where the change is made, or the warning of an answer that says that it was made before.

    Raises:
        UpsRefused: It may not be made.

    Example:
        >>> changed("SCHEDULED", "IN PROGRESS", lock="", given="1.2.3")
        ''
        >>> changed("COMPLETED", "COMPLETED", lock="1.2.3", given="1.2.3")
        'The UPS is already in the requested state of COMPLETED.'
    """
    if wanted not in STATES:
        raise UpsRefused(400, "The state is none of a workitem.", 0x0106)
    if not is_uid(given):
        raise UpsRefused(400, "The Transaction UID is missing.", 0xC301)
    if wanted == SCHEDULED:
        raise UpsRefused(400, "A workitem becomes SCHEDULED by being created.", 0xC303)
    if wanted == IN_PROGRESS:
        if now == IN_PROGRESS:
            raise UpsRefused(409, "The UPS is already IN PROGRESS.", 0xC302)
        if now in FINAL:
            raise UpsRefused(409, "The UPS may no longer be updated.", 0xC300)
        return ""
    if now == SCHEDULED:
        raise UpsRefused(409, "The UPS is not yet in the IN PROGRESS state.", 0xC310)
    if given != lock:
        raise UpsRefused(409, "The Transaction UID is incorrect.", 0xC301)
    if now == wanted:
        return f"The UPS is already in the requested state of {wanted}."
    if now in FINAL:
        raise UpsRefused(409, "The UPS may no longer be updated.", 0xC300)
    return ""
