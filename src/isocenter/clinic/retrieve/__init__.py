"""Studies fetched from an archive into a folder: DICOMweb (QIDO, WADO), C-GET, C-MOVE.

All three give the same `Retrieved`, put the same files into the same places, do not fetch again what is there, and list
what they could not get.
"""

from __future__ import annotations

from isocenter.clinic.retrieve.address import (
    CREDENTIALS_VARIABLE,
    TOKEN_VARIABLE,
    Access,
    ServerAddress,
    access_to,
    fetch,
    is_server_address,
    read_address,
)
from isocenter.clinic.retrieve.dimse import DimseNode, retrieve_get, retrieve_move
from isocenter.clinic.retrieve.plan import Failure, Patience, Query, Retrieved
from isocenter.clinic.retrieve.staging import drop_taken, forget_taken
from isocenter.clinic.retrieve.web import DicomWebServer, retrieve_dicomweb

__all__ = [
    "CREDENTIALS_VARIABLE",
    "TOKEN_VARIABLE",
    "Access",
    "DicomWebServer",
    "DimseNode",
    "Failure",
    "Patience",
    "Query",
    "Retrieved",
    "ServerAddress",
    "access_to",
    "drop_taken",
    "fetch",
    "forget_taken",
    "is_server_address",
    "read_address",
    "retrieve_dicomweb",
    "retrieve_get",
    "retrieve_move",
]
