"""Running a node, and looking after it: state, replay, recovery."""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from isocenter.clinic.children import StoreLock
from isocenter.clinic.dimse.holding import Recovered, recover
from isocenter.clinic.node import STATE_FILE, Node
from isocenter.clinic.observe import checks
from isocenter.clinic.observe import ready as all_well
from isocenter.clinic.observe.overview import CLOCK, TURNED_AWAY, events_of
from isocenter.clinic.workflow import Ledger, open_ledger
from isocenter.clinic.workflow.ledger import ARRIVING, COMPLETE, WORKING
from isocenter.clinic.worklist import Scheduled
from isocenter.core.errors import CapabilityError, ConfigError
from isocenter.verbs.clinic.config import ClinicConfig, load_clinic_config
from isocenter.verbs.clinic.observing import Rotation, logs_of, needs_of
from isocenter.verbs.clinic.wiring import destinations_of, parts_of, reception_of, reports_to, rules_of

__all__ = ["ClinicStatus", "clinic_recover", "clinic_replay", "clinic_run", "clinic_status", "clinic_worklist"]

_LOG = logging.getLogger(__name__)
_DAY_S: Final = 86400.0
_TURNED_AWAY: Final = 20


class ClinicStatus(BaseModel):
    """How a node is.

    Attributes:
        running: Whether a node works on the store.
        ports: Where it listens, by title.
        studies: How many are in each state.
        deliveries: How many are in each state.
        dead_letters: Deliveries that were given up: key, study, destination, reason, tries.
        failed: Studies that could not be answered: study, version, reason.
        conflicts: Instances that were refused because another of their UID is held.
        checks: As `/ready` has them: name, whether it is well, and in words.
        ready: Whether all of them are well.
        events: The latest, newest first.
        alerts: The latest about studies that are arriving or wait, newest first: study, detail.
        turned_away: The latest of who and what was turned away in a day, and of clocks that disagree, newest first.
    """

    model_config = ConfigDict(frozen=True)

    running: bool
    ports: dict[str, int]
    studies: dict[str, int]
    deliveries: dict[str, int]
    dead_letters: tuple[dict[str, Any], ...]
    failed: tuple[dict[str, Any], ...]
    conflicts: int
    checks: tuple[dict[str, Any], ...]
    ready: bool
    events: tuple[dict[str, Any], ...]
    alerts: tuple[dict[str, Any], ...] = ()
    turned_away: tuple[dict[str, Any], ...] = ()


def clinic_run(
    config: Path | str | ClinicConfig,
    *,
    ready: Callable[[Node], None] | None = None,
    stopped: Callable[[], bool] | None = None,
) -> None:
    """Run a node until SIGTERM or Ctrl-C.

    Args:
        config: `clinic.yaml`, or what it says.
        ready: Called once it receives.
        stopped: Tells when to stop; None: by signal.

    Raises:
        ConfigError: A setting is wrong, or another node works on the store.
        TransportError: A port can't be opened.
        OutputError: The store can't be written.
    """
    config = config if isinstance(config, ClinicConfig) else load_clinic_config(config)
    destinations_of(config)  # files and secrets that are missing are told before anything is received
    reports_to(config)
    rules_of(config)
    if config.web is not None:
        _require_web()
        from isocenter.verbs.clinic.web import check_web

        check_web(config)
    from isocenter.verbs.clinic.ordering import check_orders

    check_orders(config)
    if stopped is None:
        ended = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ended.set())
        stopped = ended.is_set
    with Node(reception_of(config), parts_of(config), config.acceptors) as node:
        _LOG.info("listening: %s; found at the start: %s", node.ports, node.recovered)
        if ready is not None:
            ready(node)
        node.serve(Rotation(logs_of(config), stopped))


def clinic_status(config: Path | str | ClinicConfig) -> ClinicStatus:
    """Tell how a node is; it need not run.

    Raises:
        ConfigError: A setting is wrong.
    """
    config = config if isinstance(config, ClinicConfig) else load_clinic_config(config)
    ledger = _ledger(config)
    try:
        found = checks(config.store, ledger, needs_of(config))
        counts = ledger.counts()
        events = ledger.events(limit=500)
        reasons = {e["study"]: e["detail"] for e in reversed(events) if e["kind"] == "failed"}
        return ClinicStatus(
            running=_runs(config.store),
            ports=_ports(config.store),
            studies={k: n for k, n in counts.items() if not k.startswith("delivery ")},
            deliveries={k.removeprefix("delivery "): n for k, n in counts.items() if k.startswith("delivery ")},
            dead_letters=tuple(
                {k: row[k] for k in ("delivery", "study", "destination", "error", "tries")}
                for row in ledger.dead_letters()
            ),
            failed=tuple(
                {"study": s.study, "version": s.version, "reason": reasons.get(s.study, "")}
                for s in ledger.in_state("failed")
            ),
            conflicts=len(ledger.conflicts()),
            checks=tuple(asdict(check) for check in found),
            ready=all_well(found),
            events=tuple(events[:20]),
            alerts=_alerts(ledger, events),
            turned_away=tuple(
                events_of(ledger, kinds=(*TURNED_AWAY, CLOCK), since=time.time() - _DAY_S, limit=_TURNED_AWAY)
            ),
        )
    finally:
        ledger.engine.dispose()


def clinic_replay(
    config: Path | str | ClinicConfig, *, deliveries: Sequence[str] | None = None, studies: Sequence[str] | None = None
) -> tuple[int, int]:
    """Send dead letters again, and have failed studies answered again as a new version; a running node takes it up.

    Args:
        config: `clinic.yaml`, or what it says.
        deliveries: Keys of dead letters; None for all, unless studies are named.
        studies: Study Instance UIDs; None for all that failed, unless deliveries are named.

    Returns:
        How many deliveries and studies.

    Raises:
        ConfigError: A setting is wrong.
    """
    config = config if isinstance(config, ClinicConfig) else load_clinic_config(config)
    ledger = _ledger(config)
    try:
        both = deliveries is None and studies is None
        sent = ledger.replay(deliveries) if both or deliveries is not None else 0
        asked = ledger.ask_again(studies) if both or studies is not None else 0
        return sent, asked
    finally:
        ledger.engine.dispose()


def clinic_worklist(config: Path | str | ClinicConfig, *, days: int | None = None) -> tuple[Scheduled, ...]:
    """Return what the modality worklist says is scheduled.

    Args:
        config: `clinic.yaml`, or what it says.
        days: How many days from today on; None for what the settings say.

    Raises:
        ConfigError: A setting is wrong, or there is no section `worklist`.
        TransportError: The worklist's server does not answer, or refuses us.
    """
    from isocenter.verbs.clinic.ordering import ask_for_worklist

    config = config if isinstance(config, ClinicConfig) else load_clinic_config(config)
    if config.worklist is None:
        raise ConfigError("clinic.yaml has no section worklist, which says whom to ask")
    return ask_for_worklist(config.worklist, days=days)


def clinic_recover(config: Path | str | ClinicConfig) -> Recovered:
    """Put the store in order, as each start does, and take what it holds into the ledger.

    Raises:
        ConfigError: A setting is wrong, or a node works on the store.
        OutputError: The store can't be written.
    """
    config = config if isinstance(config, ClinicConfig) else load_clinic_config(config)
    lock = StoreLock(config.store)
    try:
        lock.alone(patience_s=1.0)
        found = recover(config.store)
        ledger = _ledger(config)
        try:
            ledger.take_in(config.store / "journal")
            ledger.take_in_steps(config.store / "steps" / "steps.jsonl")
        finally:
            ledger.engine.dispose()
        return found
    finally:
        lock.release()


def _require_web() -> None:
    missing = [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]
    if missing:
        raise CapabilityError(f'the node\'s web server needs {", ".join(missing)}: pip install "isocenter[clinic]"')


def _alerts(ledger: Ledger, events: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Return what is wrong with studies that are not answered yet: it can still be mended."""
    open_ = {state.study for name in (ARRIVING, COMPLETE, WORKING) for state in ledger.in_state(name)}
    told = [e for e in events if e["kind"] in ("alert", "critical") and e["study"] in open_]
    return tuple({k: e[k] for k in ("kind", "study", "detail")} for e in told)


def _ledger(config: ClinicConfig) -> Ledger:
    config.store.mkdir(mode=0o700, parents=True, exist_ok=True)
    return open_ledger(config.database_url("ledger.db"))


def _runs(store: Path) -> bool:
    lock = StoreLock(store)
    try:
        return not lock.is_free()
    finally:
        lock.release()


def _ports(store: Path) -> dict[str, int]:
    try:
        found = json.loads((store / STATE_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return {**_web_port(store), **{str(k): int(v) for k, v in found["ports"].items()}}


def _web_port(store: Path) -> dict[str, int]:
    try:
        found = json.loads((store / "web.json").read_text("utf-8"))
        return {str(found["scheme"]): int(found["port"])}
    except (OSError, ValueError, KeyError):
        return {}
