"""The work list on disk: SQLite below the work folder, so that a change is whole or not there, whoever else writes.

    work/worklist/list.sqlite     plan, items and turns
    work/worklist/key             what patients' names in exports are hashed with

Every change of an item raises its version and names the one it saw, inside one transaction: of two writers the second
is told. Two servers over one work folder may write at once.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from isocenter.core.errors import Conflict, DataError, NotFound, OutputError
from isocenter.viewer.work import WorkItem, WorkLabel, WorkPlan, WorkQuery, WorkTurn

__all__ = ["FINISHED", "NewItem", "WorkStore", "now"]

FINISHED = ("done", "skipped")
NewItem = tuple[str, str, str, str, str, int]
"""Id, study, image, label, patient, readers wanted."""

T = TypeVar("T")
_FORMAT = 1
_PATIENCE_SECONDS = 30.0
_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS items (
    id TEXT PRIMARY KEY, study TEXT NOT NULL, image TEXT NOT NULL, label TEXT NOT NULL, patient TEXT NOT NULL,
    wanted INTEGER NOT NULL, place INTEGER NOT NULL, version INTEGER NOT NULL DEFAULT 1
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS turns (
    item TEXT NOT NULL REFERENCES items(id), reader TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL,
    answer TEXT NOT NULL, updated TEXT NOT NULL, PRIMARY KEY (item, reader)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_study ON items(study);
CREATE INDEX IF NOT EXISTS by_place ON items(place);
CREATE INDEX IF NOT EXISTS by_reader ON turns(reader, state);
"""
_ITEM = "items.id, study, image, label, patient, wanted, place, version"


def now() -> str:
    """Return the time as it is written."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class WorkStore:
    """Plan, items and turns; called from several threads.

    Args:
        file: Of the database; made when it is first written to.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    @contextmanager
    def _open(self, *, write: bool) -> Iterator[sqlite3.Connection]:
        if write:
            try:
                self._file.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError("the work list's folder can't be made", source=self._file.parent.name) from error
        try:
            connection = sqlite3.connect(self._file, timeout=_PATIENCE_SECONDS, isolation_level=None)
            try:
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                if write:
                    self._prepare(connection)
                yield connection
                connection.execute("COMMIT")
            finally:
                connection.close()  # what was not committed is undone
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise OutputError(f"the work list can't be used now: {error}", source=self._file.name) from error
            raise DataError("is no work list, or is damaged; move it away", source=self._file.name) from error

    def _prepare(self, connection: sqlite3.Connection) -> None:
        for statement in _TABLES.split(";"):
            if statement.strip():
                connection.execute(statement)
        row = connection.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()
        if row is None:
            connection.execute("INSERT INTO meta VALUES ('format', ?)", (str(_FORMAT),))
        elif row[0] != str(_FORMAT):
            raise DataError(f"was written by another version (form {row[0]}, here {_FORMAT})", source=self._file.name)

    def read(self, ask: Callable[[sqlite3.Connection], T], empty: T) -> T:
        """Ask something; `empty` where there is no work list yet."""
        if not self._file.is_file():
            return empty
        with self._open(write=False) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'turns'").fetchone():
                return empty
            return ask(connection)

    def write(self, act: Callable[[sqlite3.Connection], T]) -> T:
        """Do something, whole or not at all."""
        with self._open(write=True) as connection:
            return act(connection)

    def plan(self) -> WorkPlan:
        """Return the plan."""
        return self.read(_plan, WorkPlan())

    def set_plan(self, plan: WorkPlan) -> WorkPlan:
        """Replace the plan.

        Raises:
            Conflict: `plan.version` is not the one that stands.
        """

        def act(connection: sqlite3.Connection) -> WorkPlan:
            _same(_plan(connection).version, plan.version, "the plan")
            new = replace(plan, version=plan.version + 1)
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('plan', ?)", (json.dumps(asdict(new)),))
            return new

        return self.write(act)

    def add(self, items: Sequence[NewItem], readers: Sequence[str]) -> int:
        """Add items that are not there yet, at the end, and give each to the readers with the fewest turns."""

        def act(connection: sqlite3.Connection) -> int:
            place = int(connection.execute("SELECT coalesce(max(place) + 1, 0) FROM items").fetchone()[0])
            held = dict.fromkeys(readers, 0)
            held |= dict(connection.execute("SELECT reader, count(*) FROM turns GROUP BY reader").fetchall())
            added = 0
            for item, study, image, label, patient, wanted in items:
                row = (item, study, image, label, patient, wanted, place + added)
                done = connection.execute(
                    "INSERT OR IGNORE INTO items (id, study, image, label, patient, wanted, place) "
                    "VALUES (?,?,?,?,?,?,?)",
                    row,
                )
                if not done.rowcount:
                    continue
                added += 1
                for reader in sorted(readers, key=lambda r: (held[r], readers.index(r)))[:wanted]:
                    held[reader] += 1
                    connection.execute("INSERT INTO turns VALUES (?,?,'open','','',?)", (item, reader, now()))
            return added

        return self.write(act)

    def item(self, item: str, plan: WorkPlan) -> WorkItem:
        """Return an item.

        Raises:
            NotFound: There is none.
        """

        def ask(connection: sqlite3.Connection) -> WorkItem | None:
            return _item(connection, item, plan)

        found: WorkItem | None = self.read(ask, None)
        if found is None:
            raise NotFound("there is no such item")
        return found

    def page(self, query: WorkQuery, plan: WorkPlan) -> tuple[int, tuple[WorkItem, ...]]:
        """Return how many items fit, and some of them by rank."""
        where, values = _where(query)

        def ask(connection: sqlite3.Connection) -> tuple[int, tuple[WorkItem, ...]]:
            total = int(connection.execute(f"SELECT count(*) FROM items WHERE {where}", values).fetchone()[0])  # noqa: S608
            rows = connection.execute(
                f"SELECT {_ITEM} FROM items WHERE {where} ORDER BY place, id LIMIT ? OFFSET ?",  # noqa: S608
                (*values, query.limit, query.offset),
            ).fetchall()
            return total, _items(connection, rows, plan)

        nothing: tuple[int, tuple[WorkItem, ...]] = (0, ())
        return self.read(ask, nothing)

    def all(self, plan: WorkPlan) -> tuple[WorkItem, ...]:
        """Return all items by rank."""
        return self.page(WorkQuery(limit=-1), plan)[1]

    def counts(self) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
        """Return turns by state, and the same of each reader."""

        def ask(connection: sqlite3.Connection) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
            every: dict[str, int] = {}
            of_reader: dict[str, dict[str, int]] = {}
            for reader, state, count in connection.execute(
                "SELECT reader, state, count(*) FROM turns GROUP BY reader, state ORDER BY reader, state"
            ):
                every[state] = every.get(state, 0) + count
                of_reader.setdefault(reader, {})[state] = count
            (free,) = connection.execute(
                "SELECT coalesce(sum(max(0, wanted - (SELECT count(*) FROM turns WHERE item = items.id))), 0) "
                "FROM items"
            ).fetchone()
            return {**every, "unassigned": int(free)}, of_reader

        nothing: tuple[dict[str, int], dict[str, dict[str, int]]] = ({}, {})
        return self.read(ask, nothing)

    def take(self, reader: str, label: str, plan: WorkPlan) -> WorkItem | None:
        """Return what a reader does next, and note that they are at it."""

        def act(connection: sqlite3.Connection) -> WorkItem | None:
            kind, values = ("AND label = ?", [label]) if label else ("", [])
            row = connection.execute(
                f"SELECT items.id, state FROM items JOIN turns ON turns.item = items.id WHERE reader = ? {kind} "  # noqa: S608
                "AND state IN ('doing', 'again', 'open') "
                "ORDER BY CASE state WHEN 'doing' THEN 0 WHEN 'again' THEN 1 ELSE 2 END, place, items.id LIMIT 1",
                (reader, *values),
            ).fetchone()
            if row is None:
                row = connection.execute(
                    f"SELECT id, '' FROM items WHERE (SELECT count(*) FROM turns WHERE item = id) < wanted {kind} "  # noqa: S608
                    "AND NOT EXISTS (SELECT 1 FROM turns WHERE item = id AND reader = ?) ORDER BY place, id LIMIT 1",
                    (*values, reader),
                ).fetchone()
            if row is None:
                return None
            item, state = row
            if state != "doing":
                connection.execute(
                    "INSERT INTO turns VALUES (?,?,'doing','','',?) "
                    "ON CONFLICT (item, reader) DO UPDATE SET state = 'doing', updated = excluded.updated",
                    (item, reader, now()),
                )
                connection.execute("UPDATE items SET version = version + 1 WHERE id = ?", (item,))
            return _item(connection, item, plan)

        return self.write(act)

    def change(
        self, item: str, version: int, turns: Callable[[WorkItem], Iterable[WorkTurn]], plan: WorkPlan
    ) -> WorkItem:
        """Replace the turns of an item.

        Args:
            item: Which.
            version: That was looked at.
            turns: From the item as it stands to its turns.
            plan: For its kind and classes.

        Raises:
            NotFound: There is none.
            Conflict: It was changed meanwhile.
        """

        def act(connection: sqlite3.Connection) -> WorkItem:
            found = _item(connection, item, plan)
            _same(found.version, version, "the item")
            new = tuple(turns(found))
            connection.execute("DELETE FROM turns WHERE item = ?", (item,))
            connection.executemany(
                "INSERT INTO turns VALUES (?,?,?,?,?,?)",
                [(item, t.reader, t.state, t.reason, t.answer, t.updated) for t in new],
            )
            connection.execute("UPDATE items SET version = version + 1 WHERE id = ?", (item,))
            return _item(connection, item, plan)

        return self.write(act)

    def put_in_order(self, ids: Sequence[str]) -> None:
        """Give items new places: those named first, in this order, the others behind in theirs."""

        def act(connection: sqlite3.Connection) -> None:
            before = [row[0] for row in connection.execute("SELECT id FROM items ORDER BY place, id")]
            there, named = set(before), set(ids)
            order = [i for i in ids if i in there] + [i for i in before if i not in named]
            connection.executemany("UPDATE items SET place = ? WHERE id = ?", list(enumerate(order)))

        self.write(act)


def _plan(connection: sqlite3.Connection) -> WorkPlan:
    row = connection.execute("SELECT value FROM meta WHERE name = 'plan'").fetchone()
    if row is None:
        return WorkPlan()
    try:
        held: dict[str, Any] = json.loads(row[0])
        labels = tuple(WorkLabel(**{**one, "classes": tuple(one["classes"])}) for one in held["labels"])
        return WorkPlan(**{**held, "labels": labels, "readers": tuple(held["readers"])})
    except (ValueError, TypeError, KeyError) as error:
        raise DataError("its plan can't be read; move the work list away", source="work list") from error


def _where(query: WorkQuery) -> tuple[str, list[str]]:
    parts, values = ["1"], []
    if query.label:
        parts.append("label = ?")
        values.append(query.label)
    if query.study:
        parts.append("study = ?")
        values.append(query.study)
    if query.state == "unassigned":
        parts.append("(SELECT count(*) FROM turns WHERE item = items.id) < wanted")
    if query.reader or (query.state and query.state != "unassigned"):
        inner = ["item = items.id"]
        if query.reader:
            inner.append("reader = ?")
            values.append(query.reader)
        if query.state and query.state != "unassigned":
            inner.append("state = ?")
            values.append(query.state)
        parts.append(f"EXISTS (SELECT 1 FROM turns WHERE {' AND '.join(inner)})")  # noqa: S608
    return " AND ".join(parts), values


def _item(connection: sqlite3.Connection, item: str, plan: WorkPlan) -> WorkItem:
    row = connection.execute(f"SELECT {_ITEM} FROM items WHERE id = ?", (item,)).fetchone()  # noqa: S608
    if row is None:
        raise NotFound("there is no such item")
    return _items(connection, [row], plan)[0]


def _items(connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]], plan: WorkPlan) -> tuple[WorkItem, ...]:
    labels = {label.name: label for label in plan.labels}
    found = []
    for item, study, image, label, patient, wanted, place, version in rows:
        turns = connection.execute(
            "SELECT reader, state, reason, answer, updated FROM turns WHERE item = ? ORDER BY reader", (item,)
        ).fetchall()
        what = labels.get(label, WorkLabel(label))
        held = tuple(WorkTurn(*turn) for turn in turns)
        found.append(
            WorkItem(item, study, image, label, what.kind, what.classes, patient, place, wanted, version, held)
        )
    return tuple(found)


def _same(there: int, seen: int, what: str) -> None:
    if there != seen:
        raise Conflict(
            f"{what} was changed meanwhile (version {there}, you saw {seen}); look at it again", code="stale"
        )
