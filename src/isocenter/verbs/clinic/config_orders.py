"""`hl7:`, `fhir:` and `worklist:` of `clinic.yaml`: where orders come from."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from isocenter.verbs.clinic.config_base import Name, Port, Secret, Strict, Title, TlsConfig

__all__ = ["FhirConfig", "FhirRequests", "Hl7Config", "Hl7Listen", "WorklistConfig"]


class Hl7Listen(Strict):
    """Where HL7 messages are taken (MLLP): orders (ORM^O01, OMI^O23) and results (ORU^R01).

    Attributes:
        port: Where it listens.
        host: Address it listens on.
        hosts: Addresses or networks (CIDR) that may connect; nobody else is let in.
        tls: TLS; certificate and key are needed then. With authorities, callers need a certificate of theirs.
        processing: Processing ids (MSH-11) that are taken: P production, T training, D debugging.
        message_mb: Longest message.
    """

    port: Port = 2575
    host: str = "127.0.0.1"
    hosts: Annotated[tuple[str, ...], Field(min_length=1)] = ("127.0.0.1/32",)
    tls: TlsConfig | None = None
    processing: Annotated[tuple[Literal["P", "T", "D"], ...], Field(min_length=1)] = ("P",)
    message_mb: Annotated[int, Field(ge=1, le=64)] = 4

    @field_validator("hosts")
    @classmethod
    def _networks(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            ipaddress.ip_network(host, strict=False)
        return hosts

    @field_validator("tls")
    @classmethod
    def _whole(cls, tls: TlsConfig | None) -> TlsConfig | None:
        if tls is not None and (tls.certificate is None or tls.key is None):
            raise ValueError("a listener with TLS needs certificate and key")
        return tls


class Hl7Config(Strict):
    """HL7 in.

    Attributes:
        listen: Where messages are taken.
    """

    listen: Hl7Listen


class FhirRequests(Strict):
    """A FHIR server that is asked for orders (ServiceRequest).

    Attributes:
        url: Base of the server.
        token: Bearer token; over https alone, or to this machine.
        authorities: Who signs the server's certificate, where the system does not know them (PEM).
        patient_system: System of the patient identifiers that images carry, urn:oid:1.2.3 say.
        patient_issuer: Issuer of Patient ID that images of this system's patients carry: an order is not used for a
            study that names another. "" where all that is received is of one issuer.
        every_s: Between looks.
        days: How old orders may be that are asked for at the start.
        timeout_s: Of each step.
    """

    url: Annotated[str, Field(pattern=r"^https?://")]
    token: Secret | None = None
    authorities: Path | None = None
    patient_system: Annotated[str, Field(pattern=r"^(urn:|https?://)\S+$")]
    patient_issuer: str = ""
    every_s: Annotated[float, Field(ge=1)] = 60.0
    days: Annotated[int, Field(ge=0)] = 2
    timeout_s: Annotated[float, Field(gt=0)] = 30.0


class FhirConfig(Strict):
    """FHIR in.

    Attributes:
        requests: Servers that are asked for orders, by name.
    """

    requests: dict[Name, FhirRequests] = Field(min_length=1)


class WorklistConfig(Strict):
    """The modality worklist that is asked for what is scheduled.

    Attributes:
        title: Application entity title of the worklist's server.
        host: Its address.
        port: Its port.
        own_title: Title that it knows us by.
        tls: DICOM TLS.
        timeout_s: Of each step.
        station: Only steps of this scheduled station; "" for all.
        modality: Only steps of this modality; "" for all.
        days: How many days from today on.
        every_s: Between looks, where what is scheduled is used as orders; null: only `isocenter clinic worklist` asks.
    """

    title: Title
    host: str
    port: Annotated[int, Field(ge=1, le=65535)]
    own_title: Title = "ISOCENTER"
    tls: TlsConfig | None = None
    timeout_s: Annotated[float, Field(gt=0)] = 30.0
    station: Annotated[str, Field(max_length=16)] = ""
    modality: Annotated[str, Field(max_length=16)] = ""
    days: Annotated[int, Field(ge=1, le=366)] = 1
    every_s: Annotated[float, Field(ge=1)] | None = 60.0
