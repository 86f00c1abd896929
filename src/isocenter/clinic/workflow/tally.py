"""Counters that outlast every process: they stand in the ledger, and grow in the transaction that they count.

What was counted once is not counted again when a node that was killed takes up where it was, so metrics never jump.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlalchemy import Connection, select

from isocenter.clinic.workflow.tables import COUNTERS

__all__ = ["SECONDS", "add_counts", "answer_counts", "received_counts", "tally_of"]

SECONDS: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
"""Bounds of the histogram of tasks."""

Counts = Mapping[tuple[str, ...], float]


def add_counts(connection: Connection, insert: Any, counts: Counts) -> None:
    """Add to counters.

    Args:
        connection: In a transaction.
        insert: The dialect's INSERT, which knows ON CONFLICT.
        counts: By name and labels of a counter.
    """
    for (name, *labels), count in sorted(counts.items()):
        put = insert(COUNTERS).values(name=name, labels=json.dumps(labels), value=float(count))
        connection.execute(
            put.on_conflict_do_update(
                index_elements=["name", "labels"], set_={"value": COUNTERS.c.value + put.excluded.value}
            )
        )


def tally_of(connection: Connection) -> dict[tuple[str, ...], float]:
    """Return all counters, by name and labels."""
    return {
        (row.name, *map(str, json.loads(row.labels))): float(row.value) for row in connection.execute(select(COUNTERS))
    }


def received_counts(lines: Iterable[Mapping[str, Any]]) -> Counts:
    """Count lines of the journals of receiving: instances by title of ours and what they were, and bytes."""
    counts: Counter[tuple[str, ...]] = Counter()
    for line in lines:
        called = str(line.get("called", ""))[:16]
        outcome = "conflict" if line.get("conflict") else "duplicate" if line.get("again") else "received"
        counts["instances", called, outcome] += 1
        if outcome == "received":
            counts["received_bytes", called] += int(line.get("bytes", 0))
    return counts


def answer_counts(row: Mapping[str, Any]) -> Counts:
    """Count an answer: by task and state, and how long it took."""
    task, seconds = str(row["task"]), float(row["seconds"])
    counts: dict[tuple[str, ...], float] = {
        ("answers", task, str(row["state"])): 1,
        ("task_seconds_sum", task): seconds,
        ("task_seconds_count", task): 1,
    }
    return counts | {("task_seconds_bucket", task, f"{bound:g}"): 1 for bound in SECONDS if seconds <= bound}
