"""The real ones behind the workflow's ports, and the processes of a node, made from its configuration."""

from __future__ import annotations

import logging
import shutil
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from isocenter.clinic.dimse import (
    Allowed,
    Limits,
    LocalEntity,
    Reception,
    TlsFiles,
)
from isocenter.clinic.dimse.services import services_of
from isocenter.clinic.fhir.client import FhirServer, trust
from isocenter.clinic.hl7.mllp import MllpPeer
from isocenter.clinic.node import Part
from isocenter.clinic.observe import setup_logs
from isocenter.clinic.ports import Deliverer, Route, Verdict, Work
from isocenter.clinic.retrieve import DimseNode
from isocenter.clinic.subject import patients_of
from isocenter.clinic.workflow import Completeness, Ledger, open_ledger
from isocenter.clinic.workflow.commitments import CommitmentReports
from isocenter.clinic.workflow.deliver import Insistence, StoreDestination, StowDestination
from isocenter.clinic.workflow.engine import Engine, EngineSettings, Ports
from isocenter.clinic.workflow.messages import BundleDestination, MllpDestination
from isocenter.clinic.workflow.orders import Orders
from isocenter.clinic.workflow.rules import Rule, Rules
from isocenter.core.errors import CapabilityError, ConfigError, IsocenterError
from isocenter.data.deidentify import Policy, Pseudonyms, deidentify_bytes
from isocenter.data.images.atomic import explain_os_error
from isocenter.data.images.identity import derive_uid
from isocenter.data.images.pseudonym import pseudonym_key
from isocenter.verbs.clinic.ahead import answer_warm
from isocenter.verbs.clinic.arrival import memos_of, run_arrival
from isocenter.verbs.clinic.config import ClinicConfig, DicomWebDestination, DimseDestination, TlsConfig
from isocenter.verbs.clinic.config_messages import FhirDestination, Hl7Destination
from isocenter.verbs.clinic.messages import MessagingRunner
from isocenter.verbs.clinic.observing import logs_of, observed, traces_of
from isocenter.verbs.clinic.tasks import TaskRunner
from isocenter.verbs.clinic.vigilance.wire import trial_settings, vigilance_of
from isocenter.version import __version__

__all__ = [
    "Deidentifier",
    "LogNotifier",
    "OnePatient",
    "client_tls",
    "destinations_of",
    "parts_of",
    "reception_of",
    "reports_to",
    "work_of",
]

_LOG = logging.getLogger(__name__)
_COMMITMENT_S = 2.0
_LOOK_S = 0.5
_TRACES_S = 5.0


@dataclass(frozen=True)
class OnePatient:
    """A `Gate`: all instances of a study are of one patient; else nothing may be said of any.

    Whether an image is like those that a task learnt from is judged by the task's own gate, image by image.
    """

    def check(self, work: Work) -> Verdict:
        """Look at every header of a study."""
        patients = patients_of(sorted(work.folder.iterdir()))
        if len(patients) > 1:
            told = f"the study's instances name {len(patients)} patients; none of them is answered for"
            return Verdict(False, f"{told}, and nothing is sent. Set it right at the source, and send it again")
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


def _server_tls(tls: TlsConfig) -> TlsFiles:
    if tls.certificate is None or tls.key is None:
        raise ConfigError("an entity with TLS needs certificate and key")
    return TlsFiles(tls.certificate, tls.key, tls.authorities)


def client_tls(tls: TlsConfig | None) -> ssl.SSLContext | None:
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
            node = DimseNode(to.host, to.port, to.title, to.own_title, client_tls(to.tls))
            made[name] = StoreDestination(node, to.timeout_s)
        elif isinstance(to, DicomWebDestination):
            token = "" if to.token is None else to.token.read()
            client_tls(TlsConfig(authorities=to.authorities))  # a file that can't be used is told now
            made[name] = StowDestination(to.url, token, verify=to.authorities or True, timeout_s=to.timeout_s)
        elif isinstance(to, FhirDestination):
            token = "" if to.token is None else to.token.read()
            server = FhirServer(to.url, token, to.authorities or True, timeout_s=to.timeout_s, retries=0)
            trust(server)
            made[name] = BundleDestination(server)
        else:
            made[name] = MllpDestination(_mllp(to))
    return made


def reports_to(config: ClinicConfig) -> dict[tuple[str, str], DimseNode]:
    """Return where reports of storage commitment go, by the title that is called and the one that calls.

    Raises:
        ConfigError: A file of TLS can't be used.
    """
    made: dict[tuple[str, str], DimseNode] = {}
    for entity in config.entities:
        for caller in entity.callers:
            host = caller.reports_to()
            if caller.port is not None and host:
                node = DimseNode(host, caller.port, caller.title, entity.title, client_tls(caller.tls))
                made[entity.title, caller.title] = node
            elif caller.port is not None:
                _LOG.warning("no storage commitment is reported to %s: state its host", caller.title)
    return made


def _mllp(to: Hl7Destination) -> MllpPeer:
    tls = to.tls
    if tls is None:
        return MllpPeer(to.host, to.port, timeout_s=to.timeout_s)
    client_tls(tls)  # files that can't be used are told now, not at the first message
    pair = None if tls.certificate is None or tls.key is None else (tls.certificate, tls.key)
    return MllpPeer(to.host, to.port, True, tls.authorities, pair, to.timeout_s)


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


def task_settings(config: ClinicConfig) -> dict[str, dict[str, Any]]:
    """Return fields of `ReadConfig` by the name of the route."""
    audit = config.store / "audit" / "read.jsonl" if config.audit == "auto" else config.audit
    if audit is not None:
        audit.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fields = ("evidence", "rtstruct", "on_irregular", "modality", "body_part")
    watched = {"mark": config.vigilance.mark, "gate": config.vigilance.gate}
    air = config.results
    settings = {
        rule.name: {
            **rule.model_dump(include=set(fields)),
            "audit": audit,
            "seed": config.tasks.seed,
            "air": None if air is None else air.of_rule(rule.name),
            **watched,
        }
        for rule in config.rules
    }
    return settings | trial_settings(config, settings)


def runner_of(config: ClinicConfig) -> TaskRunner:
    """Return what runs the tasks."""
    memos = memos_of(config)
    answering = None if memos is None else partial(answer_warm, memos)
    prepare = partial(setup_logs, logs_of(config))
    return TaskRunner(task_settings(config), config.tasks.processes, config.tasks.minutes * 60, prepare, answering)


def patience_of(config: ClinicConfig) -> float:
    """Return for how long a complete study may be overtaken by more urgent ones."""
    return Completeness.patience_s if config.arrival is None else config.arrival.patience_s


def parts_of(config: ClinicConfig) -> tuple[Part, ...]:
    """Return what runs beside the acceptors."""
    parts = {"workflow": partial(work_of, config)}
    if config.web is not None:
        parts["web"] = partial(web_of, config)
    if config.arrival is not None:
        parts["arrival"] = partial(arrival_of, config)
    if config.access is not None and config.access.syslog is not None:
        parts["access-export"] = partial(export_access, config)
    if _has_orders(config):
        parts["orders"] = partial(orders_of, config)
    return tuple(Part(name, partial(observed, logs_of(config), run)) for name, run in parts.items())


def arrival_of(config: ClinicConfig, stopped: Callable[[], bool]) -> None:
    """Look at studies that are arriving, in this process, until told to stop."""
    run_arrival(config, rules_of(config), task_settings(config), stopped)


def export_access(config: ClinicConfig, stopped: Callable[[], bool]) -> None:
    """Send the record of access on to an audit repository, in this process, until told to stop."""
    from isocenter.verbs.clinic.access_export import export_of  # argon2 is not needed by a node without accounts

    export_of(config, stopped)


def web_of(config: ClinicConfig, stopped: Callable[[], bool]) -> None:
    """Run the web server, in this process, until told to stop."""
    from isocenter.verbs.clinic.web import run_web  # FastAPI is not needed by a node without it

    run_web(config, stopped)


def orders_of(config: ClinicConfig, stopped: Callable[[], bool]) -> None:
    """Take orders in, in this process, until told to stop."""
    from isocenter.verbs.clinic.ordering import run_orders

    run_orders(config, stopped)


def _has_orders(config: ClinicConfig) -> bool:
    asked = config.worklist is not None and config.worklist.every_s is not None
    return config.hl7 is not None or config.fhir is not None or asked


def work_of(config: ClinicConfig, stopped: Callable[[], bool]) -> None:
    """Run the workflow, in this process, until told to stop."""
    ledger = open_ledger(config.database_url("ledger.db"))
    told, insistence = config.completeness, config.insistence
    settings = EngineSettings(
        config.store,
        config.database_url("workflow.db"),
        Completeness(told.quiet_s, told.told_s, told.longest_s, patience_of(config)),
        Insistence(insistence.first_wait_s, insistence.longest_wait_s, insistence.tries),
        at_once=config.tasks.processes,
        reserve_bytes=config.limits.reserve_mb << 20,
        queue_studies=config.limits.queue_studies,
        events_s=None if config.observe.events_days is None else config.observe.events_days * 86400.0,
    )
    runner = runner_of(config)
    names = Pseudonyms(_lasting_key() if any(rule.identity == "remove" for rule in config.rules) else b"unused")
    vigilance = vigilance_of(config, ledger)
    ports = Ports(
        Deidentifier(names, Policy()), vigilance.router(rules_of(config)), OnePatient(), vigilance.runner(runner),
        LogNotifier(), destinations_of(config),
    )  # fmt: skip
    messages = {
        name: to for name, to in config.destinations.items() if isinstance(to, FhirDestination | Hl7Destination)
    }
    ports = replace(ports, runner=MessagingRunner(ports.runner, messages))
    ports, looks = _shown(config, ledger, ports)
    ended = threading.Event()
    engine = Engine(settings, ledger, ports)
    _beside(config, ledger, ended, looks, partial(vigilance.watch.run, ended.wait))
    try:
        engine.serve(stopped)
    finally:
        ended.set()
        engine.close()
        runner.close()


def _beside(
    config: ClinicConfig,
    ledger: Ledger,
    ended: threading.Event,
    looks: tuple[Callable[[], object], ...],
    watch: Callable[[], object],
) -> None:
    """Begin what goes on beside the workflow in its process, until it ended: each in a thread."""
    reports = CommitmentReports(config.store / "commitments", ledger, reports_to(config))

    def commit() -> None:
        while not ended.wait(_COMMITMENT_S):
            _tried(reports.send)

    def look() -> None:
        while not ended.wait(_LOOK_S):
            for one in looks:
                _tried(one)

    traces = traces_of(config, ledger)

    def trace() -> None:
        while traces is not None and not ended.wait(_TRACES_S):
            try:
                traces.pump()
            except SQLAlchemyError as error:  # the workflow itself tells of a database that is away
                _LOG.warning("traces wait: the database can't be used (%s)", type(error).__name__)

    for name, work in (("commitments", commit), ("looks", look), ("vigilance", watch), ("traces", trace)):
        threading.Thread(target=work, name=name, daemon=True).start()


def _tried(what: Callable[[], object]) -> None:
    """Do what is done again soon: a thread that ended would be noticed by nobody."""
    try:
        what()
    except (DBAPIError, OSError, IsocenterError) as error:
        _LOG.warning("tried again: %s", type(error).__name__)  # busy, full, or away
    except Exception:  # noqa: BLE001  # the boundary of a thread: orders, workitems and reports of commitment go on
        _LOG.exception("a defect of Isocenter, please report it; it is tried again")


def _shown(config: ClinicConfig, ledger: Ledger, ports: Ports) -> tuple[Ports, tuple[Callable[[], object], ...]]:
    """Return ports whose work the web server shows, and what is to be called now and then."""
    looks: tuple[Callable[[], object], ...] = ()
    orders = None
    if _has_orders(config):
        orders = Orders(ledger, config.store)
        looks = (orders.follow,)
    if config.web is None:
        return ports, looks
    from isocenter.clinic.dicomweb import Catalog, Worklist
    from isocenter.clinic.workflow.worksteps import Worksteps
    from isocenter.verbs.clinic.shown import ClaimingRouter, ShowingRunner

    url = f"{config.web.public_url.rstrip('/')}/dicomweb" if config.web.public_url else ""
    catalog = Catalog(ledger.engine, config.store)
    steps = Worksteps(ledger, Worklist(ledger.engine), config.store, catalog, url, orders)
    runner = ShowingRunner(ports.runner, catalog)
    return replace(ports, router=ClaimingRouter(ports.router, steps), runner=runner), (*looks, steps.follow)


def _lasting_key() -> bytes:
    key, lasting = pseudonym_key()
    if not lasting:
        raise CapabilityError(
            "no key for pseudonyms can be kept here, and a rule removes identities; see ISOCENTER_PSEUDONYM_KEY"
        )
    return bytes(key)
