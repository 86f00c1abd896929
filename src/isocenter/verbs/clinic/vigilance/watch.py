"""One look after the other: assess every rule and task, tell of alarms once, act where that was asked, end them.

An alarm is an event of the ledger (kind "alarm") and an episode of the record. While the episode is open, nothing of
its feature is told again. It ends where the window is like the reference again, or the rate within its limit, and so
many studies came since that the window holds none from before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from isocenter.clinic.vigilance import Episode, Observation, Record, Said
from isocenter.clinic.workflow import Ledger
from isocenter.core.errors import IsocenterError
from isocenter.verbs.clinic.config_vigilance import VigilanceConfig
from isocenter.verbs.clinic.vigilance.assess import Assessment, FeatureState, RateState, Stream, assess
from isocenter.verbs.clinic.vigilance.canary import SHADOW, Trial, roll_back, trial_state

__all__ = ["Watch", "assessments"]

_LOG = logging.getLogger(__name__)
_OVERLAP: Final = 1000
"""PostgreSQL may show an observation after one of a later number: so many are read again."""
References = Mapping[tuple[str, str], Sequence[Observation]]


def assessments(record: Record, settings: VigilanceConfig, references: References) -> list[Assessment]:
    """Assess every rule and task on record.

    Args:
        record: Of the node.
        settings: Of the node.
        references: Rows of the reference file, by rule and task; empty where there is no file.
    """
    said: dict[str, list[Said]] = {}
    for one in record.sayings():
        said.setdefault(one.study, []).append(one)
    episodes = record.episodes()
    found = []
    for rule, arm, task in record.streams():
        mine = [e for e in episodes if (e.rule, e.arm, e.task) == (rule, arm, task)]
        stream = Stream(
            rule, arm, task, record.observations(rule, arm, task), said, references.get((rule, task)), mine
        )  # fmt: skip
        found.append(assess(stream, settings))
    return found


class _Memory:
    """What was read of the record so far.

    Args:
        record: Of the node.
    """

    def __init__(self, record: Record) -> None:
        self._record, self._last = record, 0
        self._rows: dict[tuple[str, str, str], dict[int, Observation]] = {}
        self._ordered: dict[tuple[str, str, str], list[Observation]] = {}
        self._found: dict[tuple[str, str, str], tuple[object, Assessment]] = {}

    def rows(self, stream: tuple[str, str, str]) -> list[Observation]:
        """Return the observations of a rule, arm and task, in order."""
        if stream not in self._ordered:
            known = self._rows.get(stream, {})
            self._ordered[stream] = [known[number] for number in sorted(known)]
        return self._ordered[stream]

    def assessments(self, settings: VigilanceConfig, references: References) -> list[Assessment]:
        """Return what `assessments` does."""
        self._read()
        said: dict[str, list[Said]] = {}
        for one in self._record.sayings():
            said.setdefault(one.study, []).append(one)
        episodes = self._record.episodes()
        found = []
        for key in sorted(self._rows):
            rows = self.rows(key)
            mine = [e for e in episodes if (e.rule, e.arm, e.task) == key]
            heard = {study: said[study] for study in {row.study for row in rows} & said.keys()}
            basis = (len(rows), mine, heard)
            before = self._found.get(key)
            if before is None or before[0] != basis:
                stream = Stream(*key, rows, heard, references.get((key[0], key[2])), mine)
                before = self._found[key] = (basis, assess(stream, settings))
            found.append(before[1])
        return found

    def _read(self) -> None:
        for row in self._record.observations(after=max(0, self._last - _OVERLAP)):
            key = (row.rule, row.arm, row.task)
            known = self._rows.setdefault(key, {})
            if row.number not in known:
                known[row.number] = row
                self._ordered.pop(key, None)
            self._last = max(self._last, row.number)


@dataclass
class Watch:
    """The watch of a node.

    Args:
        ledger: Where alarms are told.
        record: What was observed.
        settings: Of the node.
        trials: Canaries, by rule.
        references: Rows of the reference file, by rule and task.
    """

    ledger: Ledger
    record: Record
    settings: VigilanceConfig
    trials: Mapping[str, Trial]
    references: References
    _seen: tuple[int, float] = (-1, -1.0)

    def __post_init__(self) -> None:
        self._memory = _Memory(self.record)

    def turn(self) -> int:
        """Look once, where something came since the last look; return how many alarms were told."""
        latest = self.record.latest()
        if latest == self._seen:
            return 0
        told = 0
        for one in self._memory.assessments(self.settings, self.references):
            told += sum(self._judge(one, f.name, f, _words(f)) for f in one.features)
            told += sum(self._judge(one, f"rate {r.name}", r, _rate_words(r)) for r in one.rates if r.limit is not None)
        self._seen = latest
        return told

    def run(self, waited: Callable[[float], bool]) -> None:
        """Look again and again; a look that fails is logged, and the next one is made.

        Args:
            waited: Waits so many seconds; returns whether to stop.
        """
        while not waited(self.settings.look_s):
            try:
                self.turn()
            except (SQLAlchemyError, IsocenterError, OSError) as error:
                _LOG.warning("the node's vigilance could not look: %s", type(error).__name__)

    def _judge(self, one: Assessment, name: str, state: FeatureState | RateState, words: str) -> bool:
        """Open or end the episode of a feature; return whether an alarm was told."""
        mine = [
            e
            for e in self.record.episodes(open_only=True)
            if (e.rule, e.arm, e.task, e.feature) == (one.rule, one.arm, one.task, name[:120])
        ]
        if mine:
            rows = self._memory.rows((one.rule, one.arm, one.task))
            since = len({r.study for r in rows if r.number > mine[0].opened})
            if state.is_like_again and since >= self.settings.window:
                self.record.close_episode(mine[0].number, one.latest)
                self.ledger.tell("alarm over", "", f"rule {one.rule}, task {one.task}, {one.arm}: {name} is as before")
            return False
        if state.since is None:
            return False
        action = self._action(one)
        detail = f"rule {one.rule}, task {one.task}, {one.arm}: {name}: {words}"
        opened = Episode(one.rule, one.arm, one.task, name, one.latest, detail=detail, action=action)
        if not self.record.open_episode(opened):
            return False
        self.ledger.tell("alarm", "", f"{detail}; action: {action}")
        self._act(one, name, action)
        return True

    def _action(self, one: Assessment) -> str:
        trial = self.trials.get(one.rule)
        if one.arm == "candidate":
            return "rollback" if trial is not None and trial_state(self.record, trial) == "running" else "none"
        return self.settings.on_alarm

    def _act(self, one: Assessment, name: str, action: str) -> None:
        why = f"alarm of {name}, task {one.task}"
        if action == "shadow" and self.record.choose(one.rule, SHADOW, "shadow", why, "vigilance"):
            self.ledger.tell("shadow", "", f"rule {one.rule}: its answers are sent nowhere; {why}")
        if action == "rollback":
            roll_back(self.record, self.ledger, self.trials[one.rule], why, "vigilance")


def _words(f: FeatureState) -> str:
    return f"reference {f.before}, now {f.now}; evidence 10^{f.peak:.1f}, alarm at 10^{f.limit:.1f}"


def _rate_words(r: RateState) -> str:
    return (
        f"{r.happened} of {r.cases} lately, limit {r.limit or 0:.0%}; evidence 10^{r.peak:.1f}, "
        f"alarm at 10^{r.alarm_at:.1f}"
    )
