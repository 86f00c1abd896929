"""DICOMweb: what the node holds and makes, and its worklist, by HTTP (QIDO-RS, WADO-RS, STOW-RS, UPS-RS)."""

from __future__ import annotations

from isocenter.clinic.dicomweb.index import Catalog, Entry, Index
from isocenter.clinic.dicomweb.server import Access, DicomWeb, router
from isocenter.clinic.dicomweb.ups import Event, Worklist
from isocenter.clinic.dicomweb.ups_routes import worklist_router
from isocenter.clinic.dicomweb.ups_rules import UpsRefused

__all__ = [
    "Access",
    "Catalog",
    "DicomWeb",
    "Entry",
    "Event",
    "Index",
    "UpsRefused",
    "Worklist",
    "router",
    "worklist_router",
]
