"""The part of a node that looks at studies while they arrive: checks, alerts, answers ahead, and cleaning up."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from isocenter.clinic.arrival import Expectation, Expected, Patience, Watch, WatchSettings, tidy
from isocenter.clinic.arrival.notify import WebHook
from isocenter.clinic.ports import Router
from isocenter.clinic.vigilance import Record, vigilance_key
from isocenter.clinic.workflow import Ledger, open_ledger
from isocenter.clinic.workflow.engine import result_folder
from isocenter.clinic.workflow.ledger import ANSWERED, ARRIVING, COMPLETE, FAILED, WORKING, StudyState
from isocenter.core.errors import CapabilityError, ConfigError, DataError
from isocenter.data.images.atomic import explain_os_error
from isocenter.verbs.clinic.ahead import FILE, Ahead, AheadSettings, Memos, ahead_runner, supersede
from isocenter.verbs.clinic.config import ClinicConfig
from isocenter.verbs.clinic.config_arrival import ArrivalConfig
from isocenter.verbs.clinic.critical import CriticalRule, critical_findings
from isocenter.verbs.clinic.vigilance.canary import SHADOW, TrialRouter
from isocenter.verbs.clinic.vigilance.wire import on_trial
from isocenter.verbs.result import read_result

__all__ = ["Arrivals", "memos_of", "run_arrival"]

_LOG = logging.getLogger(__name__)
_LOOK_S = 0.25
_TIDY_S = 5.0
_LOOK_BACK_S = 86400.0


def memos_of(config: ClinicConfig) -> Memos | None:
    """Return where memos of arriving studies are; None for a node that keeps none."""
    if config.arrival is None or not config.arrival.cache_mb:
        return None
    # Twice what receiving leaves free: a memo must never be why an instance is refused.
    return Memos(config.store, config.arrival.cache_mb << 20, 2 * config.limits.reserve_mb << 20)


def run_arrival(
    config: ClinicConfig, router: Router, settings: Mapping[str, Mapping[str, Any]], stopped: Callable[[], bool]
) -> None:
    """Look at studies that are arriving until told to stop.

    Args:
        config: Of the node.
        router: Which tasks are asked.
        settings: Of the tasks, by the name of the route.
        stopped: Tells when to stop.
    """
    if config.arrival is None:
        raise ConfigError("this node has no settings of arrival")
    ledger = open_ledger(config.database_url("ledger.db"))
    arrivals = Arrivals(config, config.arrival, ledger, router, settings)
    try:
        while not stopped():
            if not arrivals.turn():
                time.sleep(_LOOK_S)
    finally:
        arrivals.close()
        ledger.engine.dispose()


def _key(store: Path) -> bytes:
    try:
        return vigilance_key(store)
    except OSError as error:
        raise explain_os_error(error, store, doing="write") from error


class Arrivals:
    """All that is done with studies that are arriving.

    Args:
        config: Of the node.
        arrival: Its section.
        ledger: Of the node.
        router: Which tasks are asked.
        settings: Of the tasks, by the name of the route.
    """

    def __init__(
        self,
        config: ClinicConfig,
        arrival: ArrivalConfig,
        ledger: Ledger,
        router: Router,
        settings: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self._store, self._ledger, self._limit = config.store, ledger, arrival.cache_mb << 20
        self._rules = {rule.name: rule.shadow for rule in config.rules}
        self._record = Record(ledger.engine)
        self._critical = tuple(CriticalRule(**one.model_dump()) for one in arrival.critical)
        self._hook = None if arrival.notify is None else _hook(arrival)
        memos = memos_of(config) or Memos(config.store, 0, 0)
        self.watch = Watch(
            WatchSettings(
                config.store,
                Patience(arrival.grace_s),
                Expected(tuple(Expectation(**one.model_dump()) for one in arrival.expect)),
                arrival.pixels,
                arrival.ignore,
                memos.limit_bytes,
                memos.reserve_bytes,
            ),
            ledger,
            self._posted,
        )
        self._ignored = arrival.ignore
        self._ahead: Ahead | None = None
        if arrival.provisional and config.rules:
            runner = ahead_runner(memos, settings, config.tasks.minutes * 60)
            ahead = AheadSettings(
                config.store, arrival.every_s, arrival.lull_s, arrival.grace_s, arrival.deliver_provisional,
                self._critical, config.records,
            )  # fmt: skip
            # A rule that an alarm put in shadow sends nothing provisional either, and a canary answers its share.
            chosen = TrialRouter(router, on_trial(config), self._record, _key(config.store))
            self._ahead = Ahead(ahead, ledger, chosen, runner, self._told)
        self._open = _left_open(config.store)
        if self._critical:  # what was answered while nobody looked at arrivals may be critical too; it is told once
            since = time.time() - _LOOK_BACK_S
            self._open |= {s.study for s in ledger.in_state(ANSWERED) if s.last_at >= since}
        self._tidied = 0.0
        self.watch.take_up()

    def turn(self) -> bool:
        """Look once at everything; return whether there is more to do at once."""
        more = self.watch.turn()
        self._open |= set(self.watch.studies)
        if self._ahead is not None:
            self._ahead.turn(self.watch.studies, time.time())
        for study in sorted(self._open - set(self.watch.studies)):
            if self._ahead is None or not self._ahead.is_at(study):
                self._close_study(study)
        if time.monotonic() - self._tidied > _TIDY_S:
            self._tidied = time.monotonic()
            alive = [s.study for state in (ARRIVING, COMPLETE, WORKING) for s in self._ledger.in_state(state)]
            tidy(self._store, alive, self._limit)
        return more

    def close(self) -> None:
        """End what is under way."""
        if self._ahead is not None:
            self._ahead.close()
        if self._hook is not None:
            self._hook.close()

    def _close_study(self, study: str) -> None:
        """Let the final answer, or that there may be none, supersede what was provisional."""
        state = self._ledger.study(study)
        if state is not None and state.state != ANSWERED and not self._refused(state):
            return  # one that failed may be answered yet, when somebody has it answered again
        self._open.discard(study)
        if state is None:
            return
        supersede(self._store, self._ledger, study, state.version)
        if self._critical and state.state == ANSWERED:  # what may not be answered takes nothing critical back
            self._confirm(study, state.version)

    def _refused(self, state: StudyState) -> bool:
        """Tell whether a study failed as it may not be answered: its patient is not sure, or it would have holes."""
        if state.state != FAILED:
            return False
        said = {a["state"] for a in self._ledger.answers(state.study) if a["version"] == state.version}
        return said == {"abstained"} or bool(self._ledger.displaced(state.study))

    def _confirm(self, study: str, version: int) -> None:
        """Say of a final answer whether it is critical, and whether what was provisionally critical still is."""
        found: list[str] = []
        for name, shadow in self._rules.items():
            folder = result_folder(self._store, study, version, name)
            kept_back = self._record.choice(name, SHADOW)
            shadow = shadow or (kept_back is not None and kept_back.state == "shadow")
            try:
                silent = shadow or not (folder / "result.json").is_file()
                result = None if silent else read_result(folder)
            except DataError:
                continue
            found += critical_findings(result, self._critical) if result is not None else ()
        if found:
            if self._ledger.mark_critical(study, "; ".join(dict.fromkeys(found))[:500]):
                self._posted("critical", study, "; ".join(dict.fromkeys(found))[:500])
        elif self._ledger.mark_uncritical(study, "the final answer does not confirm it"):
            self._posted("not critical", study, "the final answer does not confirm it")

    def _told(self, kind: str, study: str, detail: str) -> None:
        """Take what answering ahead tells: the ledger has what is critical already."""
        ignored = kind == "alert" and detail.partition(":")[0] in self._ignored
        if kind == "critical" or (not ignored and self._ledger.tell_once(kind, study, detail)):
            self._posted(kind, study, detail)

    def _posted(self, kind: str, study: str, detail: str) -> None:
        _LOG.warning("%s: %s (%s)", study, kind, detail)
        if self._hook is not None and kind != "provisional":
            self._hook(kind, study, detail)


def _hook(arrival: ArrivalConfig) -> WebHook:
    if arrival.notify is None:
        raise CapabilityError("nobody is to be notified")
    token = "" if arrival.notify.token is None else arrival.notify.token.read()
    return WebHook(arrival.notify.url, token, arrival.notify.timeout_s)


def _left_open(store: Path) -> set[str]:
    """Return the studies whose provisional answers were not superseded when the node last ended."""
    found = set()
    for file in (store / "provisional").glob(f"*/*/{FILE}"):
        try:
            content = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError):
            continue
        if not content.get("superseded") and isinstance(content.get("study"), str):
            found.add(content["study"])
    return found
