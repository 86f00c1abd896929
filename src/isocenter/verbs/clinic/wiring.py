"""The real ones behind the workflow's ports, and the processes of a node, made from its configuration."""

from __future__ import annotations

import logging
import shutil
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from isocenter.clinic.dimse import (
    N_ACTION,
    N_CREATE,
    N_SET,
    Allowed,
    Commitments,
    Limits,
    LocalEntity,
    PerformedSteps,
    Reception,
    TlsFiles,
)
from isocenter.clinic.dimse.association import Service
from isocenter.clinic.node import Part
from isocenter.clinic.observe import setup_logs
from isocenter.clinic.ports import Deliverer, Route, Verdict, Work
from isocenter.clinic.retrieve import DimseNode
from isocenter.clinic.workflow import Completeness, open_ledger
from isocenter.clinic.workflow.commitments import report_commitments
from isocenter.clinic.workflow.deliver import Insistence, StoreDestination, StowDestination
from isocenter.clinic.workflow.engine import Engine, EngineSettings, Ports
from isocenter.clinic.workflow.rules import Rule, Rules
from isocenter.core.errors import CapabilityError, ConfigError
from isocenter.data.deidentify import Policy, Pseudonyms, deidentify_bytes
from isocenter.data.images.atomic import explain_os_error
from isocenter.data.images.dicom.header import Wanted, scan
from isocenter.data.images.identity import derive_uid
from isocenter.data.images.pseudonym import pseudonym_key
from isocenter.verbs.clinic.config import ClinicConfig, DicomWebDestination, DimseDestination, TlsConfig
from isocenter.verbs.clinic.observing import logs_of, observed, traces_of
from isocenter.verbs.clinic.tasks import TaskRunner
from isocenter.version import __version__

__all__ = ["Deidentifier", "LogNotifier", "OnePatient", "destinations_of", "parts_of", "reception_of", "work_of"]

_LOG = logging.getLogger(__name__)
_COMMITMENT_S = 2.0
_TRACES_S = 5.0
_PATIENT: Wanted = {
    0x00080005: ("SpecificCharacterSet", "text"),
    0x00100020: ("PatientID", "text"),
    0x00100021: ("IssuerOfPatientID", "text"),
}


@dataclass(frozen=True)
class OnePatient:
    """A `Gate`: all instances of a study are of one patient; else nothing may be said of any.

    Whether an image is like those that a task learnt from is judged by the task's own gate, image by image.
    """

    def check(self, work: Work) -> Verdict:
        """Look at every header of a study."""
        patients = set()
        for file in sorted(work.folder.iterdir()):
            header = scan(file, "an instance", wanted=_PATIENT)
            patients.add((header.text("IssuerOfPatientID"), header.text("PatientID")))
        if len(patients) > 1:
            return Verdict(False, f"the study's instances name {len(patients)} patients; none of them is answered for")
        return Verdict(bool(patients), "" if patients else "the study has no instances")


@dataclass(frozen=True)
class Deidentifier:
    """A `Preparer` by the profile of DICOM PS3.15 annex E.

    Args:
        names: Pseudonyms under this installation's key.
        policy: What may stay.
    """

    names: Pseudonyms
    policy: Policy

    def prepare(self, folder: Path, out: Path) -> Path:
        """Write the study without identity."""
        try:
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir(mode=0o700, parents=True)
            for file in sorted(folder.iterdir()):
                clean = deidentify_bytes(file.read_bytes(), self.names, self.policy, source="an instance")
                (out / file.name).write_bytes(clean.data)
        except OSError as error:
            raise explain_os_error(error, out, doing="write") from error
        return out


@dataclass(frozen=True)
class LogNotifier:
    """A `Notifier` that writes to the log; the ledger has every event already."""

    def notify(self, kind: str, study: str, detail: str) -> None:
        """Tell what happened."""
        _LOG.info("%s: %s (%s)", study, kind, detail)


def reception_of(config: ClinicConfig) -> Reception:
    """Return what the acceptors of a node serve."""
    entities = tuple(
        LocalEntity(
            entity.title,
            entity.port,
            entity.host,
            allowed=tuple(Allowed(caller.title, caller.hosts) for caller in entity.callers),
            storage=entity.storage,
            tls=None if entity.tls is None else _server_tls(entity.tls),
        )
        for entity in config.entities
    )
    limits = Limits(
        None if config.limits.quota_gb is None else int(config.limits.quota_gb * 1e9),
        config.limits.reserve_mb << 20,
        config.limits.instance_mb << 20,
    )
    uid = derive_uid("implementation class", "clinic")
    return Reception(
        entities,
        config.store,
        (str(uid), f"ISOCENTER {__version__}"[:16]),
        limits,
        partial(services_of, config.store),
        partial(setup_logs, logs_of(config)),
    )


def services_of(store: Path) -> Mapping[int, Service]:
    """Return what handles other messages than C-STORE and C-ECHO."""
    commitments, steps = Commitments(store / "commitments"), PerformedSteps(store / "steps")
    return {N_ACTION: commitments, N_CREATE: steps, N_SET: steps}


def _server_tls(tls: TlsConfig) -> TlsFiles:
    if tls.certificate is None or tls.key is None:
        raise ConfigError("an entity with TLS needs certificate and key")
    return TlsFiles(tls.certificate, tls.key, tls.authorities)


def _client_tls(tls: TlsConfig | None) -> ssl.SSLContext | None:
    """Return the client's side of DICOM TLS.

    Raises:
        ConfigError: A file can't be used.
    """
    if tls is None:
        return None
    try:
        context = ssl.create_default_context(cafile=None if tls.authorities is None else str(tls.authorities))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if tls.certificate is not None:
            context.load_cert_chain(tls.certificate, tls.key)
    except OSError as error:  # an SSLError is one
        raise ConfigError("certificate, key or authorities can't be used: are they PEM, do they fit?") from error
    return context


def destinations_of(config: ClinicConfig) -> dict[str, Deliverer]:
    """Return where results go, by name."""
    made: dict[str, Deliverer] = {}
    for name, to in config.destinations.items():
        if isinstance(to, DimseDestination):
            node = DimseNode(to.host, to.port, to.title, to.own_title, _client_tls(to.tls))
            made[name] = StoreDestination(node, to.timeout_s)
        elif isinstance(to, DicomWebDestination):
            token = "" if to.token is None else to.token.read()
            made[name] = StowDestination(to.url, token, verify=to.authorities or True, timeout_s=to.timeout_s)
    return made


def rules_of(config: ClinicConfig) -> Rules:
    """Return the routes by rule."""
    return Rules(
        tuple(
            Rule(
                Route(rule.name, rule.tasks, rule.to, rule.identity, rule.shadow),
                rule.modalities,
                rule.body_parts,
                rule.description,
                rule.callers,
                rule.called,
            )
            for rule in config.rules
        )
    )


def runner_of(config: ClinicConfig) -> TaskRunner:
    """Return what runs the tasks."""
    audit = config.store / "audit" / "read.jsonl" if config.audit == "auto" else config.audit
    if audit is not None:
        audit.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fields = ("evidence", "rtstruct", "on_irregular", "modality", "body_part")
    settings = {
        rule.name: {**rule.model_dump(include=set(fields)), "audit": audit, "seed": config.tasks.seed}
        for rule in config.rules
    }
    prepare = partial(setup_logs, logs_of(config))
    return TaskRunner(settings, config.tasks.processes, config.tasks.minutes * 60, prepare)


def parts_of(config: ClinicConfig) -> tuple[Part, ...]:
    """Return what runs beside the acceptors."""
    parts = {"workflow": partial(work_of, config)}
    if config.web is not None:
        parts["web"] = partial(web_of, config)
    return tuple(Part(name, partial(observed, logs_of(config), run)) for name, run in parts.items())


def web_of(config: ClinicConfig, stopped: Callable[[], bool]) -> None:
    """Run the web server, in this process, until told to stop."""
    from isocenter.verbs.clinic.web import run_web  # FastAPI is not needed by a node without it

    run_web(config, stopped)


def work_of(config: ClinicConfig, stopped: Callable[[], bool]) -> None:
    """Run the workflow, in this process, until told to stop."""
    ledger = open_ledger(config.database_url("ledger.db"))
    told, insistence = config.completeness, config.insistence
    settings = EngineSettings(
        config.store,
        config.database_url("workflow.db"),
        Completeness(told.quiet_s, told.told_s, told.longest_s),
        Insistence(insistence.first_wait_s, insistence.longest_wait_s, insistence.tries),
        at_once=config.tasks.processes,
        reserve_bytes=config.limits.reserve_mb << 20,
        queue_studies=config.limits.queue_studies,
        events_s=None if config.observe.events_days is None else config.observe.events_days * 86400.0,
    )
    runner = runner_of(config)
    names = Pseudonyms(_lasting_key() if any(rule.identity == "remove" for rule in config.rules) else b"unused")
    ports = Ports(
        Deidentifier(names, Policy()), rules_of(config), OnePatient(), runner, LogNotifier(), destinations_of(config)
    )
    peers = {
        caller.title: (caller.title, caller.host or caller.hosts[0], caller.port)
        for entity in config.entities
        for caller in entity.callers
        if caller.port is not None and (caller.host or caller.hosts)
    }
    ended = threading.Event()

    def commit() -> None:
        while not ended.wait(_COMMITMENT_S):
            report_commitments(config.store / "commitments", ledger, peers)

    traces = traces_of(config, ledger)

    def trace() -> None:
        while traces is not None and not ended.wait(_TRACES_S):
            try:
                traces.pump()
            except SQLAlchemyError as error:  # the workflow itself tells of a database that is away
                _LOG.warning("traces wait: the database can't be used (%s)", type(error).__name__)

    threading.Thread(target=trace, name="traces", daemon=True).start()
    reports = threading.Thread(target=commit, name="commitments", daemon=True)
    engine = Engine(settings, ledger, ports)
    reports.start()
    try:
        engine.serve(stopped)
    finally:
        ended.set()
        engine.close()
        runner.close()


def _lasting_key() -> bytes:
    key, lasting = pseudonym_key()
    if not lasting:
        raise CapabilityError(
            "no key for pseudonyms can be kept here, and a rule removes identities; see ISOCENTER_PSEUDONYM_KEY"
        )
    return bytes(key)
