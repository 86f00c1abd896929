"""What scanners say of their performed procedure steps: how many instances each series has, and how many are here.

An instance of one series never stands in for one of another: reports of dose, secondary captures and what another
machine sends of the same study are no slices.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, delete, func, select

from isocenter.clinic.workflow.tables import INSTANCES, STEP_SERIES, STEPS, storable

__all__ = ["Told", "note_step", "told_of"]

_COMPLETED: Final = "COMPLETED"
_LONGEST_UID: Final = 64


@dataclass(frozen=True)
class Told:
    """What the steps of a study say.

    Args:
        expected: How many instances, over all of their series.
        here: How many of these are here; of a series never more than it is said to have. None where it is not known of
            which series they are: an older version took the steps in.
        ended: Whether each step is completed.
        counted: Whether each step says of any instances; one that says of none may only not have counted.
    """

    expected: int
    here: int | None
    ended: bool
    counted: bool

    @property
    def whole(self) -> bool:
        """Whether all is here that was made."""
        return self.ended and self.counted and self.here is not None and self.here >= self.expected


def note_step(connection: Connection, insert: Any, line: Mapping[str, Any]) -> None:
    """Write down what a line of the journal of steps says; it replaces what was said of its step before.

    Args:
        connection: In a transaction.
        insert: The dialect's INSERT, which knows ON CONFLICT.
        line: From the journal.
    """
    step, at = storable(line["step"], _LONGEST_UID), datetime.fromisoformat(line["at"]).timestamp()
    series: Counter[str] = Counter()
    for uid, count in line["series"].items():
        series[storable(uid, _LONGEST_UID)] += count
    for study in line["studies"]:
        row = {"status": storable(line["status"], 16), "expected": series.total(), "at": at}
        put = insert(STEPS).values(study=storable(study, _LONGEST_UID), step=step, **row)
        connection.execute(put.on_conflict_do_update(index_elements=["study", "step"], set_=row))
    connection.execute(delete(STEP_SERIES).where(STEP_SERIES.c.step == step))
    if series:
        rows = [{"step": step, "series": uid, "expected": count} for uid, count in series.items()]
        connection.execute(STEP_SERIES.insert(), rows)


def told_of(connection: Connection, studies: Sequence[str]) -> dict[str, Told]:
    """Return what is said of studies; those of which nothing is are left out.

    A step that was done for several studies has its series in any of them.

    Args:
        connection: To the ledger.
        studies: Their UIDs.
    """
    rows = connection.execute(select(STEPS).where(STEPS.c.study.in_(studies))).all() if studies else ()
    if not rows:
        return {}
    steps = sorted({row.step for row in rows})
    made: dict[str, dict[str, int]] = defaultdict(dict)
    for step, series, expected in connection.execute(select(STEP_SERIES).where(STEP_SERIES.c.step.in_(steps))):
        made[step][series] = expected
    where: dict[str, set[str]] = defaultdict(set)
    for study, step in connection.execute(select(STEPS.c.study, STEPS.c.step).where(STEPS.c.step.in_(steps))):
        where[step].add(study)
    held = _held(connection, {study for some in where.values() for study in some})
    told = {}
    for study in {row.study for row in rows}:
        mine = [row for row in rows if row.study == study]
        wanted: Counter[str] = Counter()
        for row in mine:
            wanted.update(made[row.step])
        among = {other for row in mine for other in where[row.step]}
        here = sum(min(count, sum(held[other, uid] for other in among)) for uid, count in wanted.items())
        expected = sum(row.expected for row in mine)
        told[study] = Told(
            expected,
            here if wanted.total() == expected else None,
            all(row.status == _COMPLETED for row in mine),
            all(row.expected for row in mine),
        )
    return told


def _held(connection: Connection, studies: set[str]) -> Counter[tuple[str, str]]:
    """Return how many instances each series of studies has."""
    one = (INSTANCES.c.study, INSTANCES.c.series)
    query = select(*one, func.count()).where(INSTANCES.c.study.in_(sorted(studies))).group_by(*one)
    return Counter({(study, series): int(count) for study, series, count in connection.execute(query)})
