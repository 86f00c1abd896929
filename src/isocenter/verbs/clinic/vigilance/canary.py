"""A new model on trial: which studies it answers, what happens when it fails, when it is rolled back or promoted.

The choice is made where a study's routes are, in a step that is checkpointed: a study that is under way keeps it. It
rests on a keyed hash of the study's UID, so a study that comes again comes to the same model. Decisions stand in the
database, and a running node takes them up with its next study.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from isocenter.clinic.ports import Facts, Route, Router, Runner, Work, Worked
from isocenter.clinic.vigilance import Observation, Record, share_of
from isocenter.clinic.workflow import Ledger
from isocenter.core.errors import DataError, IsocenterError, ModelError, OutputError, PluginError
from isocenter.evaluate.sequential import rate_beyond
from isocenter.verbs.clinic.config_vigilance import CanaryConfig
from isocenter.verbs.clinic.vigilance.inputs import read_seen
from isocenter.verbs.clinic.vigilance.rows import failed_rows, rows_of

__all__ = [
    "SHADOW",
    "ObservingRunner",
    "Trial",
    "TrialRouter",
    "beyond",
    "promote",
    "roll_back",
    "trial_state",
    "trials_of",
]

SHADOW: Final = "shadow"
State = Literal["running", "rolled back", "promoted"]


@dataclass(frozen=True)
class Trial:
    """A rule's canary.

    Args:
        rule: Name of the rule.
        live: Its tasks.
        canary: The model on trial.
    """

    rule: str
    live: tuple[str, ...]
    canary: CanaryConfig

    @property
    def about(self) -> str:
        """What decisions on it stand under: another candidate begins anew."""
        return hashlib.sha256("\0".join(self.canary.tasks).encode()).hexdigest()

    def chooses(self, study: str, key: bytes) -> bool:
        """Tell whether a study is in the candidate's share."""
        return share_of(key, self.rule, self.about, study) < self.canary.share


def trial_state(record: Record, trial: Trial) -> State:
    """Return whether a candidate is on trial, was rolled back, or was promoted."""
    choice = record.choice(trial.rule, trial.about)
    if choice is None or choice.state not in ("rolled back", "promoted"):
        return "running"
    return "rolled back" if choice.state == "rolled back" else "promoted"


def roll_back(record: Record, ledger: Ledger, trial: Trial, reason: str, who: str) -> bool:
    """Give all further studies to the live model; return whether that is new."""
    return _decide(record, ledger, trial, ("rolled back", "rollback"), reason, who)


def promote(record: Record, ledger: Ledger, trial: Trial, reason: str, who: str) -> bool:
    """Give all further studies to the candidate; return whether that is new."""
    return _decide(record, ledger, trial, ("promoted", "promoted"), reason, who)


def _decide(
    record: Record, ledger: Ledger, trial: Trial, state: tuple[State, str], reason: str, who: str
) -> bool:  # fmt: skip
    if not record.choose(trial.rule, trial.about, state[0], reason, who):
        return False
    ledger.tell(state[1], "", f"rule {trial.rule}: the candidate is {state[0]} by {who}; {reason}")
    return True


@dataclass(frozen=True)
class TrialRouter:
    """A `Router` around another: it gives a share of studies to candidates, and keeps back what is to be sent nowhere.

    Args:
        rules: Chooses the routes.
        trials: By rule.
        record: Of decisions.
        key: Of the store.
    """

    rules: Router
    trials: Mapping[str, Trial]
    record: Record
    key: bytes

    def routes(self, facts: Facts) -> Sequence[Route]:
        """Return the routes of a study."""
        return [self._route(route, facts.study) for route in self.rules.routes(facts)]

    def _route(self, route: Route, study: str) -> Route:
        trial = self.trials.get(route.name)
        if trial is not None:
            state = trial_state(self.record, trial)
            if state == "promoted" or (state == "running" and trial.chooses(study, self.key)):
                route = replace(route, tasks=trial.canary.tasks, on_trial=state == "running")
        kept_back = self.record.choice(route.name, SHADOW)
        if kept_back is not None and kept_back.state == "shadow":
            route = replace(route, shadow=True)
        return route


class ObservingRunner:
    """A `Runner` around another: it records what went in and came out; where a candidate can't, the live model answers.

    Args:
        inner: Asks the tasks.
        record: Where it is written down.
        ledger: Where events are told.
        trials: By rule.
    """

    def __init__(self, inner: Runner, record: Record, ledger: Ledger, trials: Mapping[str, Trial]) -> None:
        self._inner, self._record, self._ledger, self._trials = inner, record, ledger, trials

    def run(self, work: Work) -> Worked:
        """Answer a study; see `Runner`.

        Raises:
            DataError: The study can't be answered.
            ModelError: A task can't run.
            OutputError: The result can't be written.
        """
        trial = self._trials.get(work.route.name)
        candidate = trial is not None and work.route.tasks == trial.canary.tasks
        on_trial = trial if candidate and trial is not None and trial_state(self._record, trial) != "promoted" else None
        try:
            worked = self._inner.run(work)
        except OutputError:
            raise
        except (DataError, ModelError, PluginError):
            if on_trial is None:
                self._record.observe(failed_rows(work, "live", self._names(work, "live"), "model"))
                raise
            worked = self._instead(work, on_trial)
        try:
            self._observed(work, on_trial)
        except DataError as error:  # it is answered, whatever can be told of it
            return replace(worked, told=(*worked.told, f"not on the record of vigilance: {error}"))
        return worked

    def _observed(self, work: Work, on_trial: Trial | None) -> None:
        """Write down what was answered, and judge a candidate by it."""
        asked, _ = read_seen(work.out)
        arm: Literal["live", "candidate"] = "live"
        if on_trial is not None and asked == on_trial.canary.tasks:
            arm = "candidate"
        if (work.out / "result.json").is_file():
            self._record.observe(rows_of(work, arm))
        if on_trial is not None:
            self._judge(on_trial)

    def _names(self, work: Work, arm: Literal["live", "candidate"]) -> tuple[str, ...]:
        """Return the names of the tasks that were asked: as on record, for a folder's task may have another name."""
        known = [t for rule, of, t in self._record.streams() if (rule, of) == (work.route.name, arm)]
        return tuple(known) if len(known) == len(work.route.tasks) else work.route.tasks

    def _instead(self, work: Work, trial: Trial) -> Worked:
        """Have the live model answer a study at which the candidate failed."""
        live = replace(work, route=replace(work.route, tasks=trial.live, on_trial=False))
        try:
            worked = self._inner.run(live)
        except OutputError:
            raise
        except IsocenterError:
            # Neither could: it is the study, and no word against the candidate.
            self._record.observe(failed_rows(work, "candidate", self._names(work, "candidate"), "study"))
            self._record.observe(failed_rows(live, "live", self._names(live, "live"), "model"))
            raise
        self._record.observe(failed_rows(work, "candidate", self._names(work, "candidate"), "model"))
        self._ledger.tell("canary", work.study, f"rule {trial.rule}: the candidate failed; the live model answered")
        return worked

    def _judge(self, trial: Trial) -> None:
        """Roll a candidate back whose failures or abstentions are beyond their limits."""
        if trial_state(self._record, trial) != "running":
            return
        why = beyond(self._record.observations(trial.rule, "candidate"), trial.canary)
        if why:
            roll_back(self._record, self._ledger, trial, why, "vigilance")


def beyond(rows: Sequence[Observation], canary: CanaryConfig) -> str:
    """Return in words which rate of a candidate is beyond its limit; "" where none is, or it can't be told yet.

    Args:
        rows: Of the candidate, in order.
        canary: With its limits.

    Example:
        >>> row = lambda n, state: Observation(f"1.{n}", 1, "r", "candidate", "t", 0, state)
        >>> beyond([row(n, "failed") for n in range(3)], CanaryConfig(tasks=("t",)))
        '3 of 3 studies failed, limit 5%'
        >>> beyond([row(n, "answered") for n in range(3)], CanaryConfig(tasks=("t",)))
        ''
    """
    by_study: dict[str, list[Observation]] = {}
    for row in rows:
        if row.reason not in ("study", "misfit"):
            by_study.setdefault(row.study, []).append(row)
    failed = [any(r.state == "failed" for r in mine) for mine in by_study.values()]
    abstained = [
        all(r.state == "abstained" for r in mine)
        for mine in by_study.values()
        if not any(r.state == "failed" for r in mine)
    ]
    for name, happened, limit in (("failed", failed, canary.failed), ("abstained", abstained, canary.abstained)):
        path = rate_beyond(happened, limit, patience=1.0)
        if len(path) and path.max() >= np.log(2 / canary.alpha):
            return f"{sum(happened)} of {len(happened)} studies {name}, limit {limit:.0%}"
    return ""


def trials_of(rules: Sequence[tuple[str, tuple[str, ...], CanaryConfig | None]]) -> dict[str, Trial]:
    """Return the canaries of rules, by the rule's name.

    Args:
        rules: Name, tasks and canary of each.
    """
    return {name: Trial(name, tasks, canary) for name, tasks, canary in rules if canary is not None}
