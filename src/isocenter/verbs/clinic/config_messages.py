"""Destinations of `clinic.yaml` that are no archive: a FHIR server, and a system that takes HL7 messages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from isocenter.verbs.clinic.config_base import Secret, Strict, TlsConfig

__all__ = ["FhirDestination", "Hl7Destination"]


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class FhirDestination(Strict):
    """Results as one FHIR R4 transaction: DiagnosticReport, Observation, ImagingStudy, Device, Provenance.

    Attributes:
        kind: "fhir".
        url: Base of the server.
        token: Bearer token; over https alone, or to this machine.
        authorities: Who signs the server's certificate, where the system does not know them (PEM).
        patient_system: System of patient identifiers, urn:oid:1.2.3 say: the same number means another patient in
            another hospital.
        patient_issuer: Issuers of Patient ID that images of this system's patients carry, one or a list; "" is images
            that name none. A study that names another is not sent there, for its number may be another patient's. By
            default a study that names any is not. "*" takes every study: where all that is received is of one issuer.
        accession_system: System of accession numbers; "" leaves them out.
        timeout_s: Of each step.
    """

    kind: Literal["fhir"]
    url: Annotated[str, Field(pattern=r"^https?://")]
    token: Secret | None = None
    authorities: Path | None = None
    patient_system: Annotated[str, Field(pattern=r"^(urn:|https?://)\S+$")]
    patient_issuer: Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)] = ("",)
    accession_system: Annotated[str, Field(pattern=r"^((urn:|https?://)\S+)?$")] = ""
    timeout_s: Annotated[float, Field(gt=0)] = 30.0

    def files_for(self, issuer: str) -> bool:
        """Tell whether numbers of patients by an issuer ("" for none that is named) are of this system's patients."""
        return "*" in self.patient_issuer or issuer in self.patient_issuer


class Hl7Destination(Strict):
    """Results as ORU^R01 by MLLP.

    Attributes:
        kind: "hl7".
        host: Its address.
        port: Its port.
        application: Receiving application (MSH-5).
        facility: Receiving facility (MSH-6).
        charset: As MSH-18 names it: "UNICODE UTF-8", "8859/1" or "ASCII"; what it can't hold is sent as "?".
        tls: TLS; certificate and key are ours, where it asks for them.
        timeout_s: Without an answer for so long is none.
    """

    kind: Literal["hl7"]
    host: str
    port: Annotated[int, Field(ge=1, le=65535)]
    application: str = ""
    facility: str = ""
    charset: Literal["UNICODE UTF-8", "8859/1", "ASCII"] = "UNICODE UTF-8"
    tls: TlsConfig | None = None
    timeout_s: Annotated[float, Field(gt=0)] = 30.0
