"""Where a node's orders come from: HL7 that others send, and FHIR servers and a worklist that are asked."""

from __future__ import annotations

import ipaddress
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy.exc import DBAPIError

from isocenter.clinic.dimse.entities import TlsFiles
from isocenter.clinic.dimse.notes import Note, Notes
from isocenter.clinic.fhir.client import FhirServer
from isocenter.clinic.fhir.polling import Requested, ask_for_orders
from isocenter.clinic.hl7 import Inbox, MllpLimits, MllpServer
from isocenter.clinic.retrieve import DimseNode
from isocenter.clinic.workflow import open_ledger
from isocenter.clinic.workflow.orders import Orders, Patient, Placed
from isocenter.clinic.worklist import Scheduled, ask_worklist
from isocenter.core.errors import ConfigError, IsocenterError
from isocenter.verbs.clinic.config import ClinicConfig
from isocenter.verbs.clinic.config_orders import FhirRequests, Hl7Listen, WorklistConfig
from isocenter.verbs.clinic.wiring import client_tls

__all__ = ["ask_for_worklist", "check_orders", "run_orders", "worklist_orders"]

_LOG = logging.getLogger(__name__)
_LOOK_S: Final = 0.25
_OVERLAP: Final = timedelta(minutes=5)
"""Clocks differ, and a server may show an order a little after it was made; the same order again changes nothing."""
_FHIR_PRIORITY: Final = {"stat": "stat", "asap": "asap", "urgent": "asap", "routine": "routine"}


def run_orders(config: ClinicConfig, stopped: Callable[[], bool]) -> None:
    """Take orders in until told to stop.

    Raises:
        ConfigError: A port is taken, a certificate or a secret is not there.
        OutputError: The inbox can't be written.
    """
    ledger = open_ledger(config.database_url("ledger.db"))
    orders = Orders(ledger, config.store)
    ended = threading.Event()
    inbox = server = None
    notes = Notes(config.store)
    if config.hl7 is not None:
        inbox = Inbox(config.store / "hl7", accepted=tuple(config.hl7.listen.processing))
        server = _listener(config.hl7.listen, inbox, notes)
        _LOG.info("HL7 is taken on port %d", server.start(config.hl7.listen.host, config.hl7.listen.port))
    threads = [threading.Thread(target=asked, args=(orders, ended), daemon=True) for asked in _asked(config)]
    for thread in threads:
        thread.start()
    try:
        while not stopped():
            if inbox is not None:
                try:
                    orders.take_in(inbox.file)
                except DBAPIError as error:
                    _LOG.warning("messages are taken in later: %s", type(error).__name__)  # they stand in the inbox
            notes.flush()
            time.sleep(_LOOK_S)
    finally:
        ended.set()
        if server is not None:
            server.stop()
        notes.close()
        if inbox is not None:
            inbox.close()


def check_orders(config: ClinicConfig) -> None:
    """Tell, before anything is received, that orders could not be: secrets, certificates, or the port.

    Raises:
        ConfigError: Something is not there, or the port is taken.
    """
    if config.hl7 is not None:
        listen = config.hl7.listen
        server = MllpServer(lambda _message, _data: None, tls=_tls(listen))
        server.start(listen.host, listen.port)
        server.stop()
    for one in () if config.fhir is None else config.fhir.requests.values():
        _fhir_server(one)
    if config.worklist is not None:
        _worklist_node(config.worklist)


def ask_for_worklist(config: WorklistConfig, *, days: int | None = None) -> tuple[Scheduled, ...]:
    """Return what a worklist says is scheduled from today on.

    Raises:
        ConfigError: A certificate can't be used.
        TransportError: The server does not answer, or refuses us.
    """
    today = datetime.now().astimezone().date()
    last = today + timedelta(days=(days or config.days) - 1)
    dates = f"{today:%Y%m%d}" if last == today else f"{today:%Y%m%d}-{last:%Y%m%d}"
    node = _worklist_node(config)
    return ask_worklist(node, dates=dates, modality=config.modality, station=config.station, timeout_s=config.timeout_s)


def worklist_orders(found: tuple[Scheduled, ...], title: str) -> list[Placed]:
    """Return what is scheduled as orders."""
    return [
        Placed(
            f"worklist:{title}", f"{one.accession or one.study_uid} {one.step}".strip(), one.accession[:64],
            one.study_uid, one.procedure, one.reason, one.modality[:16], one.priority, one.start[:32],
            (Patient(one.patient_id, (one.issuer,) if one.issuer else ()),) if one.patient_id else (),
        )
        for one in found
    ]  # fmt: skip


def _listener(listen: Hl7Listen, inbox: Inbox, notes: Notes) -> MllpServer:
    networks = [ipaddress.ip_network(host, strict=False) for host in listen.hosts]

    def allowed(host: str) -> bool:
        try:
            address: Any = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in networks)

    limits = MllpLimits(message_bytes=listen.message_mb << 20)

    def told(text: str) -> None:
        _LOG.warning("HL7: %s", text)
        notes.tell(Note("HL7 refused", detail=text))

    return MllpServer(inbox.take, limits=limits, tls=_tls(listen), told=told, allowed=allowed)


def _tls(listen: Hl7Listen) -> TlsFiles | None:
    tls = listen.tls
    if tls is None or tls.certificate is None or tls.key is None:
        return None
    files = TlsFiles(tls.certificate, tls.key, tls.authorities)
    files.context()
    return files


def _fhir_server(one: FhirRequests) -> FhirServer:
    if one.authorities is not None and not one.authorities.is_file():
        raise ConfigError(f"{one.authorities} of a FHIR server is not there")
    token = "" if one.token is None else one.token.read()
    return FhirServer(one.url, token, one.authorities or True, timeout_s=one.timeout_s)


def _worklist_node(config: WorklistConfig) -> DimseNode:
    return DimseNode(config.host, config.port, config.title, config.own_title, client_tls(config.tls))


Asked = Callable[[Orders, threading.Event], None]


def _asked(config: ClinicConfig) -> list[Asked]:
    found: list[Asked] = []
    for name, one in ({} if config.fhir is None else config.fhir.requests).items():
        found.append(_FhirLook(name, one))
    if config.worklist is not None and config.worklist.every_s is not None:
        found.append(_WorklistLook(config.worklist))
    return found


@dataclass(frozen=True)
class _FhirLook:
    """Asks a FHIR server now and then; what it says again changes nothing."""

    name: str
    config: FhirRequests

    def __call__(self, orders: Orders, ended: threading.Event) -> None:
        since = datetime.now(UTC) - timedelta(days=self.config.days)
        told = ""
        while True:
            began = datetime.now(UTC)
            try:
                found, refused = ask_for_orders(_fhir_server(self.config), self.config.patient_system, since)
                orders.keep(self._placed(one) for one in found)
                since, problem = began - _OVERLAP, refused[0] if refused else ""
            except (IsocenterError, DBAPIError) as error:
                problem = str(error) if isinstance(error, IsocenterError) else type(error).__name__
            if problem and problem != told:  # once, and not at every look
                _LOG.warning("orders of %s: %s", self.name, problem)
            told = problem
            if ended.wait(self.config.every_s):
                return

    def _placed(self, one: Requested) -> Placed:
        issuers = (self.config.patient_issuer,) if self.config.patient_issuer else ()
        return Placed(
            f"fhir:{self.name}", one.number[:200], one.accession[:64], "", one.procedure, one.reason, "",
            _FHIR_PRIORITY[one.priority], one.at[:32], tuple(Patient(number, issuers) for number in one.patients),
            one.canceled,
        )  # fmt: skip


@dataclass(frozen=True)
class _WorklistLook:
    """Asks the worklist now and then."""

    config: WorklistConfig

    def __call__(self, orders: Orders, ended: threading.Event) -> None:
        told = ""
        while True:
            problem = ""
            try:
                orders.keep(worklist_orders(ask_for_worklist(self.config), self.config.title))
            except (IsocenterError, DBAPIError) as error:
                problem = str(error) if isinstance(error, IsocenterError) else type(error).__name__
            if problem and problem != told:
                _LOG.warning("the worklist: %s", problem)
            told = problem
            if ended.wait(self.config.every_s):
                return
