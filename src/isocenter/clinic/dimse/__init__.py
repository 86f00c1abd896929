"""The DIMSE node: associations accepted, instances held on the disk before they are answered."""

from __future__ import annotations

from isocenter.clinic.dimse.acceptor import Acceptors, Reception
from isocenter.clinic.dimse.entities import Allowed, LocalEntity, TlsFiles
from isocenter.clinic.dimse.holding import Limits, dataset_of, place_of
from isocenter.clinic.dimse.journal import read_lines

__all__ = [
    "Acceptors",
    "Allowed",
    "Limits",
    "LocalEntity",
    "Reception",
    "TlsFiles",
    "dataset_of",
    "place_of",
    "read_lines",
]
