"""The modality worklist, as user: what is scheduled, by C-FIND.

Source:
    DICOM PS3.4, annex K (basic worklist management); table K.6-1 (keys).
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final

from pydicom import Dataset

from isocenter.clinic.retrieve.dimse import DimseNode, settle, was_rejected
from isocenter.clinic.retrieve.plan import is_uid
from isocenter.core.errors import CapabilityError, TransportError
from isocenter.data.images.quiet import quiet

__all__ = ["Scheduled", "ask_worklist"]

_FIND: Final = "1.2.840.10008.5.1.4.31"
_PENDING: Final = (0xFF00, 0xFF01)
_MOST: Final = 5000
_PRIORITY: Final = {"STAT": "stat", "HIGH": "asap", "ROUTINE": "routine", "MEDIUM": "routine", "LOW": "routine"}


@dataclass(frozen=True)
class Scheduled:
    """A scheduled procedure step. Its text shows no value of the patient.

    Args:
        step: Scheduled Procedure Step ID.
        study_uid: Study Instance UID.
        accession: Accession Number.
        procedure: Code, description and coding scheme of the requested procedure.
        modality: Of the step.
        station: Title of the station that it is scheduled for.
        start: YYYYMMDD and HHMMSS, "" where not said.
        priority: "stat", "asap", "routine" or "".
        description: Of the step.
        reason: Of the requested procedure.
        patient_id: Patient ID.
        issuer: Issuer of Patient ID.
        patient_name: Patient's Name.
    """

    step: str
    study_uid: str
    accession: str
    procedure: tuple[str, str, str]
    modality: str
    station: str
    start: str
    priority: str
    description: str
    reason: str = field(default="", repr=False)
    patient_id: str = field(default="", repr=False)
    issuer: str = field(default="", repr=False)
    patient_name: str = field(default="", repr=False)


def ask_worklist(
    node: DimseNode, *, dates: str = "", modality: str = "", station: str = "", timeout_s: float = 30.0
) -> tuple[Scheduled, ...]:
    """Return what is scheduled, in the order of time.

    Args:
        node: The worklist's server.
        dates: Day or range of days as DICOM matches them, "20260101-20260102"; "" for all.
        modality: Only of this modality; "" for all.
        station: Only of this scheduled station; "" for all.
        timeout_s: Of each step.

    Raises:
        CapabilityError: pynetdicom is not installed.
        TransportError: The server does not answer, refuses us, or has no worklist.
    """
    try:
        net: Any = import_module("pynetdicom")
    except ImportError as error:
        raise CapabilityError("the worklist needs pynetdicom: pip install 'isocenter[clinic]'") from error
    entity = net.AE(ae_title=node.own_title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = timeout_s
    entity.add_requested_context(_FIND)
    tls: dict[str, tuple[ssl.SSLContext, str]] = {} if node.tls is None else {"tls_args": (node.tls, node.host)}
    association = entity.associate(node.host, node.port, ae_title=node.ae_title, **tls)
    if not association.is_established:
        settle(association)
        if was_rejected(association):
            raise TransportError("the worklist's server refuses us (does it know our title?)")
        raise TransportError("the worklist's server does not answer, or has no worklist")
    found: list[Scheduled] = []
    try:
        with quiet():
            for status, item in association.send_c_find(_request(dates, modality, station), _FIND):
                code = status.get("Status")
                if code is None:
                    raise TransportError("the worklist's server went silent, or was cut off")
                if code in _PENDING and item is not None:
                    found += _scheduled(item)
                elif code != 0:
                    raise TransportError(f"the worklist's server answered with status 0x{code:04X}")
                if len(found) > _MOST:
                    raise TransportError(f"more than {_MOST} steps are scheduled; ask for fewer days or one modality")
    finally:
        if association.is_established:
            association.release()
        settle(association)
    return tuple(sorted(found, key=lambda one: (one.start, one.accession, one.step)))


def _request(dates: str, modality: str, station: str) -> Dataset:
    step = Dataset()
    step.Modality, step.ScheduledStationAETitle, step.ScheduledProcedureStepStartDate = modality, station, dates
    for word in ("ScheduledProcedureStepStartTime", "ScheduledProcedureStepDescription", "ScheduledProcedureStepID"):
        setattr(step, word, "")
    request = Dataset()
    request.ScheduledProcedureStepSequence = [step]
    code = Dataset()
    code.CodeValue = code.CodingSchemeDesignator = code.CodeMeaning = ""
    request.RequestedProcedureCodeSequence = [code]
    for word in ("PatientName", "PatientID", "IssuerOfPatientID", "AccessionNumber", "StudyInstanceUID",
                 "RequestedProcedureDescription", "RequestedProcedureID", "RequestedProcedurePriority",
                 "ReasonForTheRequestedProcedure"):  # fmt: skip
        setattr(request, word, "")
    return request


def _scheduled(item: Dataset) -> list[Scheduled]:
    def text(source: Dataset, keyword: str) -> str:
        return str(source.get(keyword) or "").strip()

    codes = item.get("RequestedProcedureCodeSequence") or [Dataset()]
    procedure = (
        text(codes[0], "CodeValue") or text(item, "RequestedProcedureID"),
        text(item, "RequestedProcedureDescription") or text(codes[0], "CodeMeaning"),
        text(codes[0], "CodingSchemeDesignator"),
    )
    study = text(item, "StudyInstanceUID")
    return [
        Scheduled(
            text(step, "ScheduledProcedureStepID"), study if is_uid(study) else "", text(item, "AccessionNumber"),
            procedure, text(step, "Modality"), text(step, "ScheduledStationAETitle"),
            text(step, "ScheduledProcedureStepStartDate") + text(step, "ScheduledProcedureStepStartTime").split(".")[0],
            _PRIORITY.get(text(item, "RequestedProcedurePriority").upper(), ""),
            text(step, "ScheduledProcedureStepDescription"), text(item, "ReasonForTheRequestedProcedure"),
            text(item, "PatientID"), text(item, "IssuerOfPatientID"), text(item, "PatientName"),
        )
        for step in item.get("ScheduledProcedureStepSequence") or ()
    ]  # fmt: skip
