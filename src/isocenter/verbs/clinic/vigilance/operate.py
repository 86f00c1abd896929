"""What `isocenter clinic` does of vigilance: look, compare, decide, and take in what readers said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from isocenter.clinic.vigilance import Record, Said
from isocenter.clinic.workflow import Ledger, open_ledger
from isocenter.core.errors import ConfigError
from isocenter.data.images.atomic import atomic_path
from isocenter.verbs.clinic.config import ClinicConfig, load_clinic_config
from isocenter.verbs.clinic.vigilance.assess import Assessment
from isocenter.verbs.clinic.vigilance.canary import SHADOW, promote, roll_back, trial_state
from isocenter.verbs.clinic.vigilance.compare import Comparison, compare
from isocenter.verbs.clinic.vigilance.page import render_comparison, render_panel, trial_line
from isocenter.verbs.clinic.vigilance.reference import (
    read_reference,
    reference_of_archive,
    reference_of_record,
    write_reference,
)
from isocenter.verbs.clinic.vigilance.watch import assessments
from isocenter.verbs.clinic.vigilance.wire import on_trial, trial_of

__all__ = [
    "clinic_compare",
    "clinic_decide",
    "clinic_feedback",
    "clinic_reference",
    "clinic_resume",
    "clinic_vigilance",
    "panel_of",
    "state_of",
]

Config = Path | str | ClinicConfig


def state_of(config: ClinicConfig, record: Record) -> dict[str, Any]:
    """Return all that the panel shows, for machines.

    Args:
        config: Of the node.
        record: Of the node.
    """
    return {
        "streams": [_plain(a) for a in _assessed(config, record)],
        "alarms": [asdict(e) for e in record.episodes()],
        "decisions": [asdict(c) for c in record.choices()],
        "canaries": _trials(config, record),
    }


def panel_of(config: ClinicConfig, record: Record) -> str:
    """Return the panel as a page.

    Args:
        config: Of the node.
        record: Of the node.
    """
    return render_panel(
        config, _assessed(config, record), record.episodes(), record.choices(), _trials(config, record)
    )  # fmt: skip


def _assessed(config: ClinicConfig, record: Record) -> list[Assessment]:
    file = config.vigilance.reference
    return assessments(record, config.vigilance, read_reference(file) if file is not None else {})


def _trials(config: ClinicConfig, record: Record) -> list[dict[str, Any]]:
    found = []
    for trial in on_trial(config).values():
        choice = record.choice(trial.rule, trial.about)
        state = trial_state(record, trial)
        found.append(trial_line(trial, state, choice.reason if choice else "", record.observations(trial.rule)))
    return found


def _plain(found: Assessment) -> dict[str, Any]:
    """Return an assessment without what only plots need; NaN becomes null."""
    row = asdict(found)
    for part in (*row["features"], *row["rates"]):
        for name in ("trace", "points"):
            part.pop(name, None)
    return _without_nan(row)  # type: ignore[no-any-return]


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and value != value else value


@contextmanager
def _opened(config: Config) -> Iterator[tuple[ClinicConfig, Ledger, Record]]:
    config = config if isinstance(config, ClinicConfig) else load_clinic_config(config)
    config.store.mkdir(mode=0o700, parents=True, exist_ok=True)
    ledger = open_ledger(config.database_url("ledger.db"))
    try:
        yield config, ledger, Record(ledger.engine)
    finally:
        ledger.engine.dispose()


def clinic_vigilance(config: Config, *, html: Path | None = None) -> dict[str, Any]:
    """Tell how the node's answers do beside their reference; it need not run.

    Args:
        config: `clinic.yaml`, or what it says.
        html: Where to write the panel as a page; None for nowhere.

    Raises:
        ConfigError: A setting or the reference file is wrong.
        OutputError: The page can't be written.
    """
    with _opened(config) as (settings, _, record):
        if html is not None:
            with atomic_path(html) as temporary:
                temporary.write_text(panel_of(settings, record), "utf-8")
        return state_of(settings, record)


def clinic_compare(config: Config, live: str, candidate: str, out: Path | None = None) -> Comparison:
    """Compare a rule in shadow with the live one on the studies that both answered.

    Args:
        config: `clinic.yaml`, or what it says.
        live: Name of the live rule.
        candidate: Name of the rule in shadow.
        out: Folder for `comparison.json` and `comparison.html`; None writes nothing.

    Raises:
        ConfigError: There is no such rule.
        DataError: They share no study.
        OutputError: The report can't be written.
    """
    with _opened(config) as (settings, _, record):
        found = compare(settings, record, live, candidate)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in (
            ("comparison.json", found.model_dump_json(indent=2) + "\n"),
            ("comparison.html", render_comparison(found)),
        ):
            with atomic_path(out / name) as temporary:
                temporary.write_text(text, "utf-8")
    return found


def clinic_decide(
    config: Config, rule: str, what: Literal["rollback", "promote"], reason: str = "", who: str = "operator"
) -> bool:
    """Roll a rule's candidate back, or promote it; a running node takes it up with its next study.

    Args:
        config: `clinic.yaml`, or what it says.
        rule: Name of the rule.
        what: Which.
        reason: For the record; without a patient's value.
        who: Decides.

    Returns:
        Whether it was not so before.

    Raises:
        ConfigError: The rule has no canary.
    """
    with _opened(config) as (settings, ledger, record):
        trial = trial_of(settings, rule)
        decide = roll_back if what == "rollback" else promote
        return decide(record, ledger, trial, reason or "no reason was given", who)


def clinic_resume(config: Config, rule: str, reason: str = "", who: str = "operator") -> bool:
    """Send a rule's answers again that an alarm had put in shadow; return whether it was in shadow.

    Args:
        config: `clinic.yaml`, or what it says.
        rule: Name of the rule.
        reason: For the record.
        who: Decides.

    Raises:
        ConfigError: There is no such rule.
    """
    with _opened(config) as (settings, ledger, record):
        if rule not in {r.name for r in settings.rules}:
            raise ConfigError(f"no rule is named {rule!r}")
        kept_back = record.choice(rule, SHADOW)
        if kept_back is None or kept_back.state != "shadow":
            return False
        record.choose(rule, SHADOW, "live", reason or "no reason was given", who)
        ledger.tell("resumed", "", f"rule {rule}: its answers are sent again, by {who}")
        return True


def clinic_feedback(config: Config, said: Said) -> None:
    """Take in what a reader said of an answer.

    Args:
        config: `clinic.yaml`, or what it says.
        said: Study, task, agree or override.

    Raises:
        DataError: No answer of that task to that study is on record.
    """
    with _opened(config) as (_, _, record):
        record.say(said)


def clinic_reference(config: Config, out: Path, *, rule: str = "", studies: Path | None = None) -> int:
    """Write a reference file, of the node's first studies or of an archive; return how many rows it has.

    Args:
        config: `clinic.yaml`, or what it says.
        out: File to write.
        rule: By which rule an archive is answered.
        studies: Folder of the archive, one folder for each study; None takes the node's own record.

    Raises:
        ConfigError: An archive was given without a rule, or there is no such rule.
        DataError: Too few studies.
        OutputError: The file can't be written.
    """
    with _opened(config) as (settings, _, record):
        if studies is None:
            rows = reference_of_record(record, settings.vigilance.reference_studies)
        else:
            rows = reference_of_archive(settings, rule, studies)
    write_reference(rows, out)
    return len(rows)
