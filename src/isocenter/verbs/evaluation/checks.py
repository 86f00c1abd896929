"""The checks of `isocenter check`: each says passed, failed, not measured or not applicable, with what was found.

What is not known is "not measured", and never a pass; "measured" is a number that nothing was asked of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from math import ceil, log
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from isocenter.core import Study, TaskCard, TaskEntry
from isocenter.core.errors import IsocenterError, PluginError
from isocenter.core.units import Quantity
from isocenter.evaluate.statistics import share_by_patient
from isocenter.models.weights import WeightsCard
from isocenter.plugins import missing_packages
from isocenter.testing import check_task
from isocenter.verbs.evaluation.document import CheckEntry, EvaluationDocument, SubgroupEntry
from isocenter.verbs.evaluation.runs import Kept, Outcome
from isocenter.verbs.evaluation.sides import SAME, alike, answer_of, arrays_of, orientation_check
from isocenter.verbs.learnt_folder import LearntFile

__all__ = [
    "Weights",
    "abstention_check",
    "calibration_check",
    "coverage_checks",
    "gate_check",
    "latency_check",
    "preflight_checks",
    "statement_checks",
    "subgroup_check",
    "task_checks",
    "verdict",
]

_UNKNOWN = ("", "unknown", "not stated")
_SIGNIFICANT = 0.05
_DOUBT = 0.99
_ESSENTIAL = ("licence", "intended use", "contract", "repeatable", "weights", "calibration")
_PROMISED = {
    "segment": "quality", "classify": "sets", "multilabel": "temperature", "regress": "interval", "survive": "risk",
}  # fmt: skip
"""Of a learnt task's promises (`tasks.learnt.cards.Promise`) the one that an answer of its kind can't do without."""
_SIDES = ("laterality", "orientation")
_LEAST_PATIENTS = 20
"""With fewer patients a promise of 90 % that is kept in two of three would still pass."""
_SHOWN = 3
_MOST_ANSWERS = 0.95
_SPEED = "latency"
_LESS_IS_BETTER = ("memory", "output", _SPEED)


@dataclass(frozen=True, eq=False)
class Weights:
    """One file of weights behind a task: a built-in name or a path, and its card."""

    place: str | Path
    card: WeightsCard


def statement_checks(entry: TaskEntry, weights: Sequence[Weights]) -> list[CheckEntry]:
    """Check what the card and the weights say of themselves, and what is installed."""
    card = entry.card
    lacking = missing_packages(card)
    licences = sorted({card.licence, *(w.card.licence for w in weights)})
    unknown = [name for name in licences if name.strip().lower() in _UNKNOWN]
    found = [
        CheckEntry(
            name="packages",
            status="failed" if lacking else "passed",
            words=f"not installed: {', '.join(lacking)}" if lacking else "all that it needs is installed",
        ),
        CheckEntry(
            name="licence",
            status="failed" if unknown else "passed",
            words="not stated; find out, and put it on the card" if unknown else ", ".join(licences),
        ),
    ]
    for name, said in (("intended use", card.intended_use), ("not for", card.not_for)):
        stated = said.strip().lower() not in _UNKNOWN
        found.append(
            CheckEntry(name=name, status="passed" if stated else "failed", words=said if stated else "not stated")
        )
    return found


def preflight_checks(weights: Sequence[Weights], tell: Callable[[str, float], None]) -> list[CheckEntry]:
    """Run the pre-flight of each network; of several the worst is told. An adapter is checked with the task alone."""
    weights = [one for one in weights if "base" not in one.card.network]
    names = ("files", "weights", "memory", "output", _SPEED, "intensity", "laterality")
    if not weights:
        words = "the weights of this task are not known to Isocenter"
        return [CheckEntry(name=name, status="not measured", words=words) for name in names]
    door, preflight = (import_module(f"isocenter.models.passport.{name}") for name in ("door", "preflight"))
    seen: dict[str, list[tuple[str, Any]]] = {}
    for number, one in enumerate(weights):
        tell(f"pre-flight of {one.card.name}", number / len(weights))
        try:
            report = preflight.check_weights(door.locate(one.place))
        except IsocenterError as error:
            for name in names:
                seen.setdefault(name, []).append(
                    (one.card.name, CheckEntry(name=name, status="not measured", words=str(error)))
                )
            continue
        for check in report.checks:
            if check.name in names:
                seen.setdefault(check.name, []).append((one.card.name, check))
    return [_worst(name, seen[name]) for name in names if name in seen]


def _worst(name: str, found: Sequence[tuple[str, Any]]) -> CheckEntry:
    rank = {"failed": 0, "not measured": 1, "not applicable": 2, "measured": 3, "passed": 4}
    said = [(who, check, _status(check)) for who, check in found]
    more = -1.0 if name in _LESS_IS_BETTER else 1.0
    who, check, status = min(said, key=lambda item: (rank[item[2]], more * (item[1].number or 0.0)))
    words = check.words if len(found) == 1 else f"{who}: {check.words} (the worst of {len(found)} networks)"
    return CheckEntry(name=name, status=status, words=words, number=check.number, unit=check.unit)


def _status(check: Any) -> Any:
    """Return a status; what the source does not say, or was not run, was not measured, and time has no limit."""
    if check.name == _SPEED and check.status == "passed":
        return "measured"
    unsaid = check.status == "not applicable" and ("states neither" in check.words or check.words.startswith("not run"))
    return "not measured" if unsaid else check.status


def task_checks(entry: TaskEntry, case: Study | None, seed: int) -> list[CheckEntry]:
    """Hold the task to its contract, and look whether it answers the same when asked again or told otherwise.

    Args:
        entry: The task.
        case: A study of a real case; None where no set was given, and an invented one is used.
        seed: Of everything random.
    """
    usable = case is not None and entry.card.misfit(case.images[0]) is None and not entry.card.needs_prompt
    study = case if usable else None
    try:
        report = check_task(entry, study=study)
    except PluginError as error:
        contract = CheckEntry(name="contract", status="failed", words=str(error))
        rest = "not run: the contract is broken"
        return [contract, *(CheckEntry(name=n, status="not measured", words=rest) for n in ("repeatable", *_ASKED))]
    words = f"{', '.join(report.checks)}; {report.answered} answers, {report.abstained} abstentions"
    found = [CheckEntry(name="contract", status="passed", words=words)]
    if report.answered:
        found.append(CheckEntry(name="repeatable", status="passed", words="the same study twice: the same answer"))
    else:
        why = "it abstained from every image it was shown; give --data SET with an image that it answers"
        found.append(CheckEntry(name="repeatable", status="not measured", words=why))
    if study is None:
        why = "needs a case that the task answers: give --data SET"
        if entry.card.needs_prompt and report.answered:
            same = "the outline lies where the prompt points, in straight, permuted, mirrored and oblique grids"
            return [
                *found,
                CheckEntry(name="orientation", status="passed", words=same),
                _unmeasured("intensity scale", why),
            ]
        return [*found, *(_unmeasured(name, why) for name in _ASKED)]
    return [*found, orientation_check(entry, study, seed), _scale(entry, study, seed)]


_ASKED = ("orientation", "intensity scale")


def _unmeasured(name: str, why: str) -> CheckEntry:
    return CheckEntry(name=name, status="not measured", words=why)


def _scale(entry: TaskEntry, study: Study, seed: int) -> CheckEntry:
    """Multiply intensities that have no unit: the answer must stay."""
    name, image = "intensity scale", study.images[0]
    if image.quantity != Quantity.ARBITRARY:
        return CheckEntry(name=name, status="not applicable", words=f"intensities have a unit ({image.quantity.name})")
    first = answer_of(entry, study, seed)
    if first.abstained is not None:
        return _unmeasured(name, f"it abstained from the case: {first.abstained}")
    louder = replace(image, array=image.array.astype(np.float32) * 0.5)
    other = answer_of(entry, replace(study, images=(louder,)), seed)
    if other.abstained is not None:
        words = f"it abstained when the intensities, which have no unit, were halved: {other.abstained}"
        return CheckEntry(name=name, status="failed", words=words)
    same = alike(first, arrays_of(other.value))
    words = f"intensities halved (they have no unit): answers agree by {same:.3f} ({SAME} is asked)"
    return CheckEntry(
        name=name, status="passed" if same >= SAME else "failed", words=words, number=same, unit="1"
    )  # fmt: skip


def calibration_check(weights: Sequence[Weights], learnt: LearntFile | None) -> CheckEntry:
    """Check that the card says what an answer's own certainty is worth.

    Args:
        weights: Behind the task.
        learnt: What the folder of a learnt task says; None for others.
    """
    name = "calibration"
    if learnt is not None:
        promise, wanted = learnt.promise, _PROMISED[learnt.kind]
        if not promise.model_dump()[wanted] or (wanted == "temperature" and promise.temperature == 1.0):
            words = f"no {wanted} is promised: its {promise.cases} held-out cases were too few"
            return CheckEntry(name=name, status="failed", words=words)
        words = f"{wanted}, from {promise.cases} held-out cases"
        return CheckEntry(name=name, status="passed", words=words, number=promise.cases, unit="1")
    if not weights:
        return _unmeasured(name, "the weights of this task are not known to Isocenter")
    lacking = [w.card.name for w in weights if not w.card.calibration]
    if lacking:
        return CheckEntry(name=name, status="failed", words=f"no calibration on the card of {', '.join(lacking)}")
    return CheckEntry(name=name, status="passed", words=f"on the card of {', '.join(w.card.name for w in weights)}")


def coverage_checks(outcome: Outcome | None, seen: str = "") -> list[CheckEntry]:
    """Check that promises of each kind were kept as often as they say, on the cases of the set.

    Args:
        outcome: What the task answered; None where no set was given.
        seen: Why promises kept there say little, where the task learnt from cases of the set; "" where it did not.
    """
    name = "coverage"
    if outcome is None:
        return [_unmeasured(name, "needs cases with labels: give --data SET")]
    if not outcome.kept:
        return [_unmeasured(name, "no answer made a promise with a level")]
    found = []
    for what in dict.fromkeys(one.what for one in outcome.kept):
        some = [one for one in outcome.kept if one.what == what]
        found.append(_coverage(f"{name} of {what}", some, seen))
    return found


def _coverage(name: str, kept: Sequence[Kept], seen: str) -> CheckEntry:
    level, count, total = kept[0].level, sum(one.kept for one in kept), len(kept)
    share = share_by_patient([one.kept for one in kept], [one.patient for one in kept], level=_DOUBT)
    words = f"{count} of {total} promises of {level:.0%} were kept, in answers about {share.patients} patients"
    # With fewer than the second number not one kept promise would be beyond chance; 20 is asked at least.
    least = max(_LEAST_PATIENTS, ceil(log((1 - _DOUBT) / 2) / log(1 - level)))
    if share.patients < least:
        return _unmeasured(name, f"{words}; at least {least} patients are needed to tell")
    words += f" ({share.low:.0%} to {share.high:.0%}, {_DOUBT:.0%}, {share.method})"
    if share.high < level:
        words += ": fewer than promised; calibrate again on cases like these"
        return CheckEntry(name=name, status="failed", words=words, number=share.value, unit="1")
    if seen:
        return _unmeasured(name, f"{seen}; {words}")
    return CheckEntry(name=name, status="passed", words=words, number=share.value, unit="1")


def gate_check(card: TaskCard, weights: Sequence[Weights], learnt: LearntFile | None) -> CheckEntry:
    """Check that a task has a gate against images unlike those that it learnt from; without one it may not serve.

    Args:
        card: Of the task.
        weights: Behind it.
        learnt: What the folder of a learnt task says; None for others.
    """
    name, none = "gate", "no gate: images of another kind are not refused"
    if learnt is not None:
        if learnt.gate is not None:
            words = "images unlike those that it learnt from are refused (gate.npz)"
            return CheckEntry(name=name, status="passed", words=words)
        why = learnt.ungated or "its folder holds no gate; adapt again"
        return CheckEntry(name=name, status="failed", words=f"{none}; {why}")
    if card.needs_prompt:
        words = "none, and none is needed: it answers only where somebody looks at the image and points"
        return CheckEntry(name=name, status="not applicable", words=words)
    if not weights:
        return _unmeasured(name, "whether it has a gate is not known to Isocenter; show it images of other kinds")
    gates = [w.card.gate for w in weights if w.card.gate is not None]
    if not gates:
        return CheckEntry(name=name, status="failed", words=none)
    own = max(gate.own_refused for gate in gates)
    shares = [f"{share:.0%} of {source}" for gate in gates for source, share in gate.sources_refused.items()]
    words = f"images unlike those that it learnt from are refused; of its own kind {own:.1%}"
    words += f", of a source that it does not know {', '.join(shares)}" if shares else ""
    return CheckEntry(name=name, status="passed", words=words, number=own, unit="1")


def subgroup_check(document: EvaluationDocument | None, largest: float, seen: str = "") -> CheckEntry:
    """Check that no group is worse than the rest by more than is tolerated and more than chance.

    Args:
        document: What was measured; None for nothing.
        largest: Gap that is tolerated, in the unit of the figure.
        seen: Why gaps there say little, where the task learnt from cases of the set; "" where it did not.
    """
    name = "subgroups"
    block = None if document is None else document.subgroups
    if block is None or not {c for row in block.rows for c in row.columns} - {"size in voxels"}:
        return _unmeasured(name, "needs cases with labels and groups: give --data SET and --groups TABLE")
    if not block.tested:
        return _unmeasured(name, "no group had enough patients to be tested")
    sign = 1 if block.higher_is_better else -1
    tested = [row for row in block.rows if row.gap is not None and row.p_corrected is not None]
    worse = sorted((row for row in tested if sign * (row.gap or 0.0) < 0), key=lambda row: sign * (row.gap or 0.0))
    bad = [row for row in worse if abs(row.gap or 0.0) > largest and (row.p_corrected or 0.0) <= _SIGNIFICANT]
    tolerated = f"a gap of {largest:g} that is more than chance is not tolerated"
    if bad:
        said = "; ".join(_gap(row, block.name) for row in bad[:_SHOWN])
        more = f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        words = f"{len(bad)} of {block.tested} tested groups are worse than the rest: {said}{more}; {tolerated}"
        return CheckEntry(name=name, status="failed", words=words, number=bad[0].gap, unit="1")
    blind = [row for row in tested if (row.p_least or 0.0) > _SIGNIFICANT]
    if blind:
        words = (
            f"in {len(blind)} of {block.tested} tested groups no gap could have been told from chance: "
            f"{_gap(blind[0], block.name)}; give more patients, or fewer columns"
        )
        return _unmeasured(name, words)
    if seen:
        return _unmeasured(name, f"{seen}; {block.tested} groups were tested")
    if not worse:
        words = f"{block.tested} groups tested, none on the worse side of the rest"
        return CheckEntry(name=name, status="passed", words=words)
    words = f"{block.tested} groups tested; worst: {_gap(worse[0], block.name)}; {tolerated}"
    return CheckEntry(name=name, status="passed", words=words, number=worse[0].gap, unit="1")


def _gap(row: SubgroupEntry, figure: str) -> str:
    return f"{row.name}, {figure} {row.gap:+.3f} against the rest, corrected p {row.p_corrected:.3f}"


def abstention_check(outcome: Outcome | None, most: float) -> CheckEntry:
    """Check that the task answers enough of the cases that it is meant for.

    Args:
        outcome: What it answered; None where no set was given.
        most: Share of the cases that it may abstain from.
    """
    name = "abstentions"
    if outcome is None:
        return _unmeasured(name, "needs cases with labels: give --data SET")
    count, total = sum(outcome.reasons.values()), len(outcome.cases)
    words = f"it abstained from {count} of {total} cases; at most {most:.0%} is tolerated"
    if outcome.reasons:
        often = max(outcome.reasons, key=lambda reason: outcome.reasons[reason])
        words += f"; most often: {often}"
    return CheckEntry(
        name=name, status="passed" if count <= most * total else "failed", words=words, number=count / total, unit="1"
    )  # fmt: skip


def latency_check(outcome: Outcome | None, most_seconds: float | None = None) -> list[CheckEntry]:
    """Tell how long whole answers took, where a set was answered, and hold them to a limit where there is one.

    Args:
        outcome: What the task answered; None where no set was given.
        most_seconds: That 19 of 20 answers may take; None for no limit.
    """
    name = "latency of answers"
    if outcome is None or not outcome.seconds:
        return [] if most_seconds is None else [_unmeasured(name, "needs cases: give --data SET")]
    middle, longest = 1000 * median(outcome.seconds), 1000 * max(outcome.seconds)
    words = f"{middle:.0f} ms for a whole answer (median of {len(outcome.seconds)}), longest {longest:.0f} ms"
    if most_seconds is None:
        words += "; no limit was given (--most-seconds)"
        return [CheckEntry(name=name, status="measured", words=words, number=middle, unit="ms")]
    slow = float(np.quantile(outcome.seconds, _MOST_ANSWERS, method="inverted_cdf"))
    words += f"; {_MOST_ANSWERS:.0%} took {1000 * slow:.0f} ms or less, and {1000 * most_seconds:.0f} ms is asked"
    within = slow <= most_seconds
    return [
        CheckEntry(name=name, status="passed" if within else "failed", words=words, number=1000 * slow, unit="ms")
    ]  # fmt: skip


def verdict(checks: Sequence[CheckEntry]) -> tuple[bool, list[CheckEntry]]:
    """Return whether a task may serve, and what stands against it.

    It may where no check failed, what is essential was measured, and left and right were found right: by laterality or
    orientation, one of which must have passed. Only of answers that have neither side nor place, as the orientation
    check found, that is not asked.
    """
    against = [c for c in checks if c.status == "failed"]
    against += [c for c in checks if c.name in _ESSENTIAL and c.status == "not measured"]
    sides = [c for c in checks if c.name in _SIDES]
    sideless = any(c.name == "orientation" and c.status == "not applicable" for c in sides)
    if not sideless and not any(c.status == "passed" for c in sides):
        missing = [c for c in sides if c.status not in ("passed", "failed")]
        against += missing or ([] if sides else [_unmeasured("orientation", "it was not looked at")])
    return not against, against
