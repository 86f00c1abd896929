"""The node's vigilance, made from its configuration: around the router and the runner, and beside the workflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from isocenter.clinic.ports import Route, Router, Runner
from isocenter.clinic.vigilance import Record, vigilance_key
from isocenter.clinic.workflow import Ledger
from isocenter.core.errors import ConfigError
from isocenter.data.images.atomic import explain_os_error
from isocenter.verbs.clinic.config import ClinicConfig
from isocenter.verbs.clinic.config_vigilance import ON_TRIAL
from isocenter.verbs.clinic.tasks import trial_name
from isocenter.verbs.clinic.vigilance.canary import ObservingRunner, Trial, TrialRouter, trials_of
from isocenter.verbs.clinic.vigilance.reference import read_reference
from isocenter.verbs.clinic.vigilance.watch import Watch

__all__ = ["Vigilance", "on_trial", "trial_of", "trial_settings", "vigilance_of"]


@dataclass(frozen=True)
class Vigilance:
    """What watches over a node.

    Args:
        record: What was observed and decided.
        ledger: Where events are told.
        trials: Canaries, by rule.
        key: Of the store.
        watch: Looks for alarms.
    """

    record: Record
    ledger: Ledger
    trials: Mapping[str, Trial]
    key: bytes
    watch: Watch

    def router(self, rules: Router) -> Router:
        """Return a router that knows of canaries and of what is kept back."""
        return TrialRouter(rules, self.trials, self.record, self.key)

    def runner(self, inner: Runner) -> Runner:
        """Return a runner that records what it sees."""
        return ObservingRunner(inner, self.record, self.ledger, self.trials)


def on_trial(config: ClinicConfig) -> dict[str, Trial]:
    """Return the canaries of a node, by rule."""
    return trials_of([(rule.name, rule.tasks, rule.canary) for rule in config.rules])


def trial_of(config: ClinicConfig, rule: str) -> Trial:
    """Return the canary of a rule.

    Raises:
        ConfigError: There is no such rule, or it has none.
    """
    found = on_trial(config)
    if rule not in found:
        known = ", ".join(sorted(found)) or "none"
        raise ConfigError(f"no rule {rule!r} has a canary; rules with one: {known}")
    return found[rule]


def vigilance_of(config: ClinicConfig, ledger: Ledger) -> Vigilance:
    """Return what watches over a node.

    Raises:
        ConfigError: The reference file can't be read.
        OutputError: The store's key can't be made.
    """
    record, trials = Record(ledger.engine), on_trial(config)
    try:
        key = vigilance_key(config.store)
    except OSError as error:
        raise explain_os_error(error, config.store, doing="write") from error
    references = read_reference(config.vigilance.reference) if config.vigilance.reference is not None else {}
    return Vigilance(record, ledger, trials, key, Watch(ledger, record, config.vigilance, trials, references))


def trial_settings(config: ClinicConfig, settings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the settings of candidates: those of their rule, and results say that the model is on trial.

    Args:
        config: Of the node.
        settings: Of its rules, by name.
    """
    found = {}
    for rule in config.rules:
        if rule.canary is not None:
            mark = f"{config.vigilance.mark}{ON_TRIAL}"
            found[trial_name(Route(rule.name, rule.canary.tasks))] = {**settings[rule.name], "mark": mark}
    return found
