"""FHIR R4: results out as a transaction, orders and studies in."""

from __future__ import annotations

from isocenter.clinic.fhir.client import FhirRefused, FhirServer, Sent, send_bundle
from isocenter.clinic.fhir.requests import FhirStudy, ServiceOrder, read_imaging_study, read_service_request
from isocenter.clinic.fhir.results import Systems, result_bundle

__all__ = [
    "FhirRefused",
    "FhirServer",
    "FhirStudy",
    "Sent",
    "ServiceOrder",
    "Systems",
    "read_imaging_study",
    "read_service_request",
    "result_bundle",
    "send_bundle",
]
