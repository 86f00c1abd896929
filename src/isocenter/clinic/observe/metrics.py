"""A node's metrics, from its ledger and the signs of its processes: they outlast every process, and never jump back.

Labels are titles and names from the node's settings, and words from our own code: never who called, a UID, or anything
of a patient.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from sqlalchemy import func, select

from isocenter.clinic.observe.checks import Check, Needs, disk_of, held_bytes
from isocenter.clinic.observe.exposition import Exposition
from isocenter.clinic.observe.processes import processes_of
from isocenter.clinic.workflow.ledger import ANSWERED, ARRIVING, COMPLETE, FAILED, WORKING, Ledger
from isocenter.clinic.workflow.tables import CONFLICTS, DELIVERIES, STUDIES
from isocenter.clinic.workflow.tally import SECONDS
from isocenter.version import __version__

__all__ = ["metrics_text"]

_STATES: Final = (ARRIVING, COMPLETE, WORKING, ANSWERED, FAILED)
Tally = Mapping[tuple[str, ...], float]


def metrics_text(store: Path, ledger: Ledger, needs: Needs, found: tuple[Check, ...]) -> str:
    """Return a node's metrics as Prometheus reads them.

    Args:
        store: Its folder.
        ledger: Its ledger.
        needs: Its limits.
        found: Checks, as they were a moment ago.
    """
    made, tally = Exposition(), ledger.tally()
    made.family("isocenter_build_info", "gauge", "Version of the node; always 1.")
    made.sample({"version": __version__, "python": platform.python_version()}, 1)
    made.family("isocenter_check", "gauge", "1 where a check of /ready is well, else 0.")
    for check in found:
        made.sample({"check": check.name}, check.ok)
    _reception(made, tally)
    _processes(made, tally, store)
    _studies(made, ledger)
    _answers(made, tally)
    _deliveries(made, ledger, tally)
    _room(made, ledger, store, needs)
    return made.text()


def _reception(made: Exposition, tally: Tally) -> None:
    made.family(
        "isocenter_instances_total", "counter",
        "Instances that came whole, by title called: received, duplicate (held before), conflict (another of its UID).",
    )  # fmt: skip
    for (called, outcome), value in _of(tally, "instances", 2):
        made.sample({"called": called, "outcome": outcome}, value)
    made.family("isocenter_instances_refused_total", "counter", "Instances refused, by title called and DICOM status.")
    for (called, status), value in _of(tally, "noted", 2, "instance refused"):
        made.sample({"called": called, "status": status}, value)
    made.family("isocenter_received_bytes_total", "counter", "Bytes of the data sets received, by title called.")
    for (called,), value in _of(tally, "received_bytes", 1):
        made.sample({"called": called}, value)
    made.family("isocenter_associations_total", "counter", "Associations accepted, by title called.")
    for (called,), value in _of(tally, "noted", 1, "association"):
        made.sample({"called": called}, value)
    for kind, name, told in (
        ("association refused", "isocenter_associations_refused_total", "Associations refused, by title and reason."),
        (
            "association broken",
            "isocenter_associations_broken_total",
            "Associations that ended badly, by title and how.",
        ),
    ):
        made.family(name, "counter", told)
        for (called, reason), value in _of(tally, "noted", 2, kind):
            made.sample({"called": called, "reason": reason}, value)
    made.family(
        "isocenter_noted_total", "counter",
        "Other happenings: half an instance, a syntax refused, a message not offered, a clock that is wrong.",
    )  # fmt: skip
    for (kind,), value in _of(tally, "noted", 1):
        made.sample({"kind": kind}, value)


def _processes(made: Exposition, tally: Tally, store: Path) -> None:
    processes = processes_of(store)
    made.family("isocenter_associations_open", "gauge", "Open associations, by title called.")
    for title, count in sorted((processes.associations or {}).items()):
        made.sample({"called": title}, count)
    made.family("isocenter_processes", "gauge", "Processes that live, by component.")
    for component in sorted({p.component for p in processes.processes}):
        made.sample({"component": component}, sum(p.alive for p in processes.of(component)))
    made.family("isocenter_process_restarts_total", "counter", "Processes that ended and were started again.")
    for (component,), value in _of(tally, "noted", 1, "process ended"):
        made.sample({"component": component}, value)


def _studies(made: Exposition, ledger: Ledger) -> None:
    now = time.time()
    with ledger.engine.connect() as connection:
        rows = connection.execute(
            select(STUDIES.c.state, func.count(), func.min(STUDIES.c.first_at)).group_by(STUDIES.c.state)
        ).all()
        conflicts = connection.scalar(select(func.count()).select_from(CONFLICTS)) or 0
    found = {str(state): (int(count), float(first)) for state, count, first in rows}
    made.family("isocenter_studies", "gauge", "Studies by state.")
    for state in _STATES:
        made.sample({"state": state}, found.get(state, (0, 0.0))[0])
    waiting = [found[state] for state in (COMPLETE, WORKING) if state in found]
    made.family("isocenter_queue_studies", "gauge", "Studies that are complete and not answered yet.")
    made.sample({}, sum(count for count, _ in waiting))
    made.family(
        "isocenter_queue_oldest_seconds", "gauge", "Since the first instance of the oldest of them; 0 for none."
    )
    made.sample({}, max((max(0.0, now - first) for _, first in waiting), default=0.0))
    made.family("isocenter_conflicts", "gauge", "Instances refused because another of their UID is held.")
    made.sample({}, conflicts)


def _answers(made: Exposition, tally: Tally) -> None:
    made.family("isocenter_answers_total", "counter", "Answers by task and state: answered, abstained, failed.")
    for (task, state), value in _of(tally, "answers", 2):
        made.sample({"task": task, "state": state}, value)
    made.family("isocenter_task_seconds", "histogram", "How long tasks took for a study.")
    counts = {labels[0]: value for labels, value in _of(tally, "task_seconds_count", 1)}
    sums = {labels[0]: value for labels, value in _of(tally, "task_seconds_sum", 1)}
    buckets = dict(_of(tally, "task_seconds_bucket", 2))
    for task, count in counts.items():
        for bound in SECONDS:
            made.sample({"task": task, "le": f"{bound:g}"}, buckets.get((task, f"{bound:g}"), 0.0), "_bucket")
        made.sample({"task": task, "le": "+Inf"}, count, "_bucket")
        made.sample({"task": task}, sums.get(task, 0.0), "_sum")
        made.sample({"task": task}, count, "_count")


def _deliveries(made: Exposition, ledger: Ledger, tally: Tally) -> None:
    now = time.time()
    with ledger.engine.connect() as connection:
        rows = connection.execute(
            select(DELIVERIES.c.destination, DELIVERIES.c.state, func.count()).group_by(
                DELIVERIES.c.destination, DELIVERIES.c.state
            )
        ).all()
        oldest = connection.execute(
            select(DELIVERIES.c.destination, func.min(DELIVERIES.c.at))
            .where(DELIVERIES.c.state == "waiting")
            .group_by(DELIVERIES.c.destination)
        ).all()
    made.family("isocenter_deliveries", "gauge", "Deliveries by destination and state; dead: a dead letter.")
    for destination, state, count in sorted((str(d), str(s), int(n)) for d, s, n in rows):
        made.sample({"destination": destination, "state": state}, count)
    made.family(
        "isocenter_deliveries_waiting_seconds", "gauge", "Since the oldest waiting delivery was queued or tried."
    )
    for destination, at in sorted((str(d), float(a)) for d, a in oldest):
        made.sample({"destination": destination}, max(0.0, now - at))
    made.family("isocenter_delivery_tries_total", "counter", "Tries by destination and what came of them.")
    for (destination, outcome), value in _of(tally, "deliveries", 2):
        made.sample({"destination": destination, "outcome": outcome}, value)


def _room(made: Exposition, ledger: Ledger, store: Path, needs: Needs) -> None:
    free, size = disk_of(store)
    for name, told, value in (
        ("isocenter_disk_free_bytes", "Room on the disk of the store.", free),
        ("isocenter_disk_size_bytes", "Size of the disk of the store.", size),
        ("isocenter_disk_reserve_bytes", "Room that receiving never takes.", needs.reserve_bytes),
        ("isocenter_held_bytes", "Bytes of the instances that are held.", held_bytes(ledger)),
    ):
        made.family(name, "gauge", told)
        made.sample({}, value)
    if needs.quota_bytes is not None:
        made.family("isocenter_quota_bytes", "gauge", "Most that is held.")
        made.sample({}, needs.quota_bytes)


def _of(tally: Tally, name: str, labels: int, *first: str) -> Iterator[tuple[tuple[str, ...], float]]:
    """Yield the counters of a name, and of first labels, that have so many labels more."""
    begin = (name, *first)
    for key, value in sorted(tally.items()):
        if key[: len(begin)] == begin and len(key) == len(begin) + labels:
            yield key[len(begin) :], value
