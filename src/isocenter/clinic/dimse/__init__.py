"""The DIMSE node: associations accepted, instances held on the disk before they are answered."""

from __future__ import annotations

from isocenter.clinic.dimse.acceptor import Acceptors, Reception
from isocenter.clinic.dimse.commitment import (
    Commitments,
    commitment_report,
    open_commitments,
    send_commitment_report,
)
from isocenter.clinic.dimse.entities import Allowed, LocalEntity, TlsFiles
from isocenter.clinic.dimse.holding import Limits, dataset_of, place_of
from isocenter.clinic.dimse.journal import read_lines
from isocenter.clinic.dimse.messages import N_ACTION, N_CREATE, N_SET
from isocenter.clinic.dimse.steps import PerformedSteps

__all__ = [
    "N_ACTION",
    "N_CREATE",
    "N_SET",
    "Acceptors",
    "Allowed",
    "Commitments",
    "Limits",
    "LocalEntity",
    "PerformedSteps",
    "Reception",
    "TlsFiles",
    "commitment_report",
    "dataset_of",
    "open_commitments",
    "place_of",
    "read_lines",
    "send_commitment_report",
]
