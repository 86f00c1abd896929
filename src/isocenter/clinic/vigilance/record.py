"""The record of vigilance: written by the workflow, read by the panel and the commands; every write may come twice."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from sqlalchemy import Engine, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from isocenter.clinic.vigilance.tables import CHOICES, EPISODES, OBSERVATIONS, SAID, VIGILANCE
from isocenter.clinic.workflow.tables import make_tables
from isocenter.core.errors import DataError

__all__ = ["Choice", "Episode", "Observation", "Record", "Said", "share_of", "vigilance_key"]

_KEY_BYTES: Final = 32
Arm = Literal["live", "candidate"]


@dataclass(frozen=True)
class Observation:
    """What one task made of one image; no patient's value.

    Args:
        study: Study Instance UID.
        version: Of the study.
        rule: Under which it was answered.
        arm: "live", or "candidate" for the model of a canary.
        task: Name.
        image: Index in the study; -1 where the whole study failed.
        state: "answered", "abstained" or "failed".
        reason: Category of an abstention: "unlike", "misfit", "prompt", "missing", "other"; "" for an answer.
        gated: Whether a gate looked at the image.
        weights: sha256 of the weights; "" for none, or where the task abstained.
        model: Name and version.
        seconds: How long it took.
        numbers: By name.
        words: By name, of closed lists.
        at: Seconds of the epoch; 0 for now.
        number: In the order of the record; 0 before it is written.
    """

    study: str
    version: int
    rule: str
    arm: Arm
    task: str
    image: int
    state: Literal["answered", "abstained", "failed"]
    reason: str = ""
    gated: bool = False
    weights: str = ""
    model: str = ""
    seconds: float = 0.0
    numbers: Mapping[str, float] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    at: float = 0.0
    number: int = 0

    @property
    def key(self) -> str:
        """The same for the same answer, however often it is given."""
        return _hash(self.study, str(self.version), self.rule, self.arm, self.task, str(self.image))


@dataclass(frozen=True)
class Said:
    """What a reader said of an answer.

    Args:
        study: Study Instance UID.
        task: Whose answer.
        kind: "agree" or "override".
        about: What was overridden: "mask", "finding", "measurement" or "report".
        covered: Whether the set or interval that was promised held the truth; None where nobody said.
        source: Who says so, a system's name or a hash: one line for each source, the latest stands.
        at: Seconds of the epoch; 0 for now.
        number: In the order of the record.
    """

    study: str
    task: str
    kind: Literal["agree", "override"]
    about: Literal["mask", "finding", "measurement", "report"] = "report"
    covered: bool | None = None
    source: str = ""
    at: float = 0.0
    number: int = 0


@dataclass(frozen=True)
class Episode:
    """An alarm: from the observation at which it was told to the one at which all was as before."""

    rule: str
    arm: str
    task: str
    feature: str
    opened: int
    closed: int | None = None
    opened_at: float = 0.0
    closed_at: float | None = None
    detail: str = ""
    action: str = ""
    number: int = 0


@dataclass(frozen=True)
class Choice:
    """What was decided of a rule, why, by whom and when."""

    rule: str
    about: str
    state: str
    reason: str
    who: str
    at: float


class Record:
    """The record in the ledger's database.

    Args:
        engine: The database.
        clock: Returns the time, in seconds of the epoch.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        self.engine, self._clock = engine, clock
        self._insert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert
        make_tables(VIGILANCE, engine)

    def observe(self, rows: Iterable[Observation]) -> int:
        """Add observations; those that are there already stay as they are. Return how many were new."""
        new = 0
        with self.engine.begin() as connection:
            for row in rows:
                values = {
                    "observation": row.key, "study": row.study, "version": row.version, "rule": row.rule[:64],
                    "arm": row.arm, "task": row.task[:64], "image": row.image, "at": row.at or self._clock(),
                    "state": row.state, "reason": row.reason[:32], "gated": row.gated, "weights": row.weights[:64],
                    "model": row.model[:120], "seconds": row.seconds, "numbers": json.dumps(dict(row.numbers)),
                    "words": json.dumps(dict(row.words)),
                }  # fmt: skip
                put = self._insert(OBSERVATIONS).values(values).on_conflict_do_nothing(index_elements=["observation"])
                new += connection.execute(put.returning(OBSERVATIONS.c.number)).first() is not None
        return new

    def streams(self) -> list[tuple[str, str, str]]:
        """Return rule, arm and task of all that was observed."""
        columns = (OBSERVATIONS.c.rule, OBSERVATIONS.c.arm, OBSERVATIONS.c.task)
        with self.engine.connect() as connection:
            rows = connection.execute(select(*columns).distinct().order_by(*columns)).all()
        return [(row.rule, row.arm, row.task) for row in rows]

    def observations(
        self,
        rule: str | None = None,
        arm: str | None = None,
        task: str | None = None,
        *,
        study: str | None = None,
        after: int = 0,
    ) -> list[Observation]:
        """Return observations of later numbers in the order in which they came; None takes any."""
        query = select(OBSERVATIONS).where(OBSERVATIONS.c.number > after).order_by(OBSERVATIONS.c.number)
        for column, value in (
            (OBSERVATIONS.c.rule, rule), (OBSERVATIONS.c.arm, arm), (OBSERVATIONS.c.task, task),
            (OBSERVATIONS.c.study, study),
        ):  # fmt: skip
            query = query if value is None else query.where(column == value)
        with self.engine.connect() as connection:
            return [_observation(dict(row._mapping)) for row in connection.execute(query)]

    def latest(self) -> tuple[int, float]:
        """Return the number of the latest observation and when a reader last said something; 0 for none."""
        with self.engine.connect() as connection:
            number = connection.scalar(select(func.max(OBSERVATIONS.c.number)))
            at = connection.scalar(select(func.max(SAID.c.at)))
        return int(number or 0), float(at or 0.0)

    def say(self, said: Said) -> None:
        """Write down what a reader said; the same source again replaces what it said before.

        Raises:
            DataError: No answer of that task to that study is on record.
        """
        answered = {o.task for o in self.observations(study=said.study) if o.state == "answered"}
        if said.task not in answered:
            raise DataError("no answer of this task to this study is on record, so nobody can agree or override it")
        values = {
            "said": _hash(said.study, said.task, said.source), "study": said.study, "task": said.task[:64],
            "kind": said.kind, "about": said.about, "covered": said.covered, "source": said.source[:64],
            "at": said.at or self._clock(),
        }  # fmt: skip
        with self.engine.begin() as connection:
            rest = {k: v for k, v in values.items() if k != "said"}
            connection.execute(
                self._insert(SAID).values(values).on_conflict_do_update(index_elements=["said"], set_=rest)
            )

    def sayings(self) -> list[Said]:
        """Return what was said, in the order in which it came."""
        with self.engine.connect() as connection:
            rows = connection.execute(select(SAID).order_by(SAID.c.number)).all()
        return [Said(**{k: v for k, v in row._mapping.items() if k != "said"}) for row in rows]

    def episodes(self, *, open_only: bool = False) -> list[Episode]:
        """Return alarms, the oldest first."""
        query = select(EPISODES).order_by(EPISODES.c.number)
        query = query.where(EPISODES.c.closed.is_(None)) if open_only else query
        with self.engine.connect() as connection:
            return [Episode(**dict(row._mapping)) for row in connection.execute(query)]

    def open_episode(self, episode: Episode) -> bool:
        """Open an alarm, unless one of its feature is open; return whether it was opened."""
        mine = (
            (EPISODES.c.rule == episode.rule) & (EPISODES.c.arm == episode.arm) & (EPISODES.c.task == episode.task)
            & (EPISODES.c.feature == episode.feature) & EPISODES.c.closed.is_(None)
        )  # fmt: skip
        with self.engine.begin() as connection:
            if connection.execute(select(EPISODES.c.number).where(mine)).first() is not None:
                return False
            connection.execute(
                EPISODES.insert().values(
                    rule=episode.rule, arm=episode.arm, task=episode.task, feature=episode.feature[:120],
                    opened=episode.opened, opened_at=self._clock(), detail=episode.detail, action=episode.action,
                )
            )  # fmt: skip
        return True

    def close_episode(self, number: int, closed: int) -> None:
        """Close an alarm at an observation."""
        with self.engine.begin() as connection:
            connection.execute(
                update(EPISODES)
                .where(EPISODES.c.number == number, EPISODES.c.closed.is_(None))
                .values(closed=closed, closed_at=self._clock())
            )

    def choose(self, rule: str, about: str, state: str, reason: str, who: str) -> bool:
        """Write down a decision; return whether it changed anything."""
        before = self.choice(rule, about)
        if before is not None and before.state == state:
            return False
        values = {
            "rule": rule, "about": about, "state": state, "reason": reason, "who": who[:64], "at": self._clock(),
        }  # fmt: skip
        rest = {k: v for k, v in values.items() if k not in ("rule", "about")}
        with self.engine.begin() as connection:
            connection.execute(
                self._insert(CHOICES).values(values).on_conflict_do_update(index_elements=["rule", "about"], set_=rest)
            )
        return True

    def choice(self, rule: str, about: str) -> Choice | None:
        """Return the latest decision; None where there was none."""
        with self.engine.connect() as connection:
            row = connection.execute(select(CHOICES).where(CHOICES.c.rule == rule, CHOICES.c.about == about)).first()
        return None if row is None else Choice(**dict(row._mapping))

    def choices(self) -> list[Choice]:
        """Return all decisions, the latest first."""
        with self.engine.connect() as connection:
            rows = connection.execute(select(CHOICES).order_by(CHOICES.c.at.desc())).all()
        return [Choice(**dict(row._mapping)) for row in rows]


def share_of(key: bytes, *parts: str) -> float:
    """Return a number in [0, 1) that looks drawn at random, and is the same for the same parts under one key.

    Example:
        >>> share_of(b"key", "rule", "1.2.3") == share_of(b"key", "rule", "1.2.3") != share_of(b"key", "rule", "1.2.4")
        True
    """
    digest = hmac.new(key, "\0".join(parts).encode(), hashlib.sha256).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def vigilance_key(store: Path) -> bytes:
    """Return the key of a store's own, drawn once and readable by its owner alone.

    Raises:
        OSError: It can't be read or made.
    """
    file = store / "vigilance.key"
    if not file.is_file():
        store.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = store / f".{secrets.token_hex(4)}-vigilance.key"
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
                stream.write(secrets.token_bytes(_KEY_BYTES))
                stream.flush()
                os.fsync(stream.fileno())
            with suppress(FileExistsError):  # two processes at once: both take the one that came first
                file.hardlink_to(temporary)
        finally:
            temporary.unlink(missing_ok=True)
    return file.read_bytes()


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _observation(row: dict[str, Any]) -> Observation:
    key = row.pop("observation")
    found = Observation(**{**row, "numbers": json.loads(row["numbers"]), "words": json.loads(row["words"])})
    if found.key != key and len(found.task) < 64 and len(found.rule) < 64:
        raise DataError("a row of the node's observations was changed from outside")
    return found
