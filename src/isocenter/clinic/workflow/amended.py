"""Deliveries that a later version amends: they are not sent, so that the last that comes is the last that was said."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath

from sqlalchemy import ColumnElement, Connection, select, update

from isocenter.clinic.workflow.tables import DELIVERIES

__all__ = ["withdraw_amended"]


def withdraw_amended(connection: Connection, wanted: ColumnElement[bool], at: float) -> Counter[str]:
    """Give up deliveries that wait, or were given up, where a later version of the same goes to the same place.

    Args:
        connection: To the ledger, in a transaction.
        wanted: Which deliveries are looked at.
        at: The time.

    Returns:
        How many of each study.
    """
    later = DELIVERIES.alias()
    same = (later.c.study == DELIVERIES.c.study) & (later.c.destination == DELIVERIES.c.destination)
    pairs = connection.execute(
        select(
            DELIVERIES.c.delivery, DELIVERIES.c.study, DELIVERIES.c.version, DELIVERIES.c.file,
            later.c.version.label("newer"), later.c.file.label("newer_file"),
        )
        .join(later, same & (later.c.version > DELIVERIES.c.version))
        .where(DELIVERIES.c.state.in_(("waiting", "dead")), wanted)
    ).all()  # fmt: skip
    found = {row.delivery: row.study for row in pairs if _of(row.file, row.version) == _of(row.newer_file, row.newer)}
    for delivery in found:
        done = update(DELIVERIES).where(DELIVERIES.c.delivery == delivery, DELIVERIES.c.state.in_(("waiting", "dead")))
        connection.execute(done.values(state="withdrawn", at=at))
    return Counter(found.values())


def _of(file: str, version: int) -> tuple[str, ...]:
    """Return the folder of a result, its version left out: the same for the same rule's results of each version.

    The rule's own name comes behind the version, and may be a "v2" of its own.

    Example:
        >>> _of("results/s/v1/rule/a.dcm", 1) == _of("results/s/v2/rule/b.dcm", 2) == ("results", "s", "", "rule")
        True
        >>> _of("results/s/v1/v2/a.dcm", 1) == _of("results/s/v2/v2/b.dcm", 2) == ("results", "s", "", "v2")
        True
    """
    parts = list(PurePosixPath(file).parent.parts)
    if f"v{version}" in parts:
        parts[parts.index(f"v{version}")] = ""
    return tuple(parts)
