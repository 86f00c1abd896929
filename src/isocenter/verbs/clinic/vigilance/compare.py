"""A candidate in shadow beside the live rule, on the same studies: how far they agree, and whether margins are kept.

Both answered the same studies, so everything is paired. Agreement with the live model is no proof of being right: where
both differ, the studies are listed, to be looked at. A margin is kept where the whole 95 % interval keeps it; all must
be kept (no correction is needed then), and with fewer than 10 patients nothing is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from isocenter.clinic.vigilance import Record
from isocenter.clinic.workflow.engine import result_folder
from isocenter.core.errors import ConfigError, DataError
from isocenter.data.images.nifti import read_nifti_mask
from isocenter.evaluate.bootstrap import LEAST_PATIENTS, bootstrap_mean
from isocenter.evaluate.limits_of_agreement import LEAST_CASES, limits_of_agreement
from isocenter.evaluate.overlap import dice
from isocenter.evaluate.statistics import share_by_patient
from isocenter.verbs.clinic.config import ClinicConfig
from isocenter.verbs.clinic.config_vigilance import MarginsConfig
from isocenter.verbs.clinic.vigilance.rows import category, verdicts
from isocenter.verbs.result import PredictionEntry, ResultDocument, SegmentEntry, read_result

__all__ = ["Comparison", "Criterion", "Limits", "SegmentPair", "StudyPair", "compare", "compared"]

T = TypeVar("T")
Word = Literal["within the margins", "beyond the margins", "not shown", "too few studies"]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SegmentPair(_Entry):
    """One segment that both drew, or one of them: `dice` is null where their grids differ."""

    label: str
    dice: float | None
    live_ml: float | None
    candidate_ml: float | None


class StudyPair(_Entry):
    """One study that both were asked about.

    Attributes:
        study: Study Instance UID.
        patient: Pseudonym.
        live: "answered", "abstained" with the category of why, or "failed".
        candidate: The same.
        segments: That either drew.
        probabilities: Live and candidate, by name.
        findings: Sets that both promise, by name: the live one's, the candidate's.
        live_seconds: How long the live tasks took.
        candidate_seconds: How long the candidate's took.
        why: Why the study is discordant; empty where it is not.
    """

    study: str
    patient: str
    live: str
    candidate: str
    segments: tuple[SegmentPair, ...] = ()
    probabilities: dict[str, tuple[float, float]] = {}
    findings: dict[str, tuple[str, str]] = {}
    live_seconds: float = 0.0
    candidate_seconds: float = 0.0
    why: tuple[str, ...] = ()


class Limits(_Entry):
    """Bias and limits of agreement (Bland and Altman), candidate less live, each with its 95 % interval."""

    what: str
    unit: str
    bias: float
    bias_interval: tuple[float, float]
    lower: float
    lower_interval: tuple[float, float]
    upper: float
    upper_interval: tuple[float, float]
    patients: int


class Criterion(_Entry):
    """One margin: what was found, its interval, and whether the margin is kept."""

    what: str
    margin: float
    value: float | None
    low: float | None
    high: float | None
    patients: int
    verdict: Word
    text: str


class Comparison(_Entry):
    """The report.

    Attributes:
        live: Name of the live rule.
        candidate: Name of the candidate's.
        margins: As stated in clinic.yaml.
        studies: Asked of both.
        patients: Of these studies.
        only_live: Studies that only the live rule has.
        only_candidate: Studies that only the candidate's has.
        live_abstained: Studies.
        candidate_abstained: Studies.
        live_failed: Studies at which the live rule failed and the candidate's did not.
        candidate_failed: The other way round.
        both_failed: Studies at which both failed; they are not among `studies`.
        lost: Studies whose result is not there any more, and was no failure; they are not among `studies` either.
        live_seconds: Median.
        candidate_seconds: Median.
        criteria: One for each margin and thing measured.
        limits: Of volumes and probabilities, where 10 patients or more have them.
        pairs: Every study.
        verdict: In a word.
        text: In sentences.
    """

    live: str
    candidate: str
    margins: dict[str, float]
    studies: int
    patients: int
    only_live: int
    only_candidate: int
    live_abstained: int
    candidate_abstained: int
    live_failed: int
    candidate_failed: int
    both_failed: int
    lost: int
    live_seconds: float | None
    candidate_seconds: float | None
    criteria: tuple[Criterion, ...]
    limits: tuple[Limits, ...]
    pairs: tuple[StudyPair, ...]
    verdict: Word
    text: str

    @property
    def discordant(self) -> tuple[StudyPair, ...]:
        """The studies that they differ on."""
        return tuple(p for p in self.pairs if p.why)


def compare(config: ClinicConfig, record: Record, live: str, candidate: str) -> Comparison:
    """Compare what two rules answered about the same studies.

    Args:
        config: Of the node.
        record: Of the node.
        live: Name of the live rule.
        candidate: Name of the rule in shadow.

    Raises:
        ConfigError: There is no such rule, or both are one.
        DataError: They share no study.
    """
    known = [rule.name for rule in config.rules]
    for name in (live, candidate):
        if name not in known:
            raise ConfigError(f"no rule is named {name!r}; rules: {', '.join(known) or 'none'}")
    if live == candidate:
        raise ConfigError("a rule is compared with another; give --live and --candidate")
    versions = {name: _versions(record, name) for name in (live, candidate)}
    shared = [s for s in versions[live] if s in versions[candidate]]
    pairs, both_failed, lost = [], 0, 0
    for study in shared:
        common = set(versions[live][study]) & set(versions[candidate][study])
        version = max(common) if common else min(max(versions[live][study]), max(versions[candidate][study]))
        folders = [result_folder(config.store, study, version, name) for name in (live, candidate)]
        there = [(folder / "result.json").is_file() for folder in folders]
        failed = ["failed" in versions[name][study].get(version, ()) for name in (live, candidate)]
        if all(there):
            pairs.append(pair_of(study, folders[0], folders[1], config.vigilance.margins))
        elif not all(here or broken for here, broken in zip(there, failed, strict=True)):
            lost += 1
        elif not any(there):
            both_failed += 1
        else:
            pairs.append(_one_failed(study, folders[there.index(True)], live_failed=not there[0]))
    alone = (len(versions[live]) - len(shared), len(versions[candidate]) - len(shared))
    return compared((live, candidate), pairs, alone, config.vigilance.margins, (both_failed, lost))


def _versions(record: Record, rule: str) -> dict[str, dict[int, set[str]]]:
    """Return what was said of each study under a rule: the states of each of its versions."""
    found: dict[str, dict[int, set[str]]] = {}
    for row in record.observations(rule):
        found.setdefault(row.study, {}).setdefault(row.version, set()).add(row.state)
    return found


def _one_failed(study: str, there: Path, *, live_failed: bool) -> StudyPair:
    """Tell of a study at which one of both failed.

    Args:
        study: Study Instance UID.
        there: Folder of the other's result.
        live_failed: Which of them.
    """
    result = read_result(there)
    said = ("failed", _state(result)) if live_failed else (_state(result), "failed")
    seconds = sum(p.seconds for p in result.predictions)
    return StudyPair(
        study=study, patient=result.study.patient_key, live=said[0], candidate=said[1],
        live_seconds=0.0 if live_failed else seconds, candidate_seconds=seconds if live_failed else 0.0,
        why=(f"live {said[0]}, candidate {said[1]}",),
    )  # fmt: skip


def pair_of(study: str, live: Path, candidate: Path, margins: MarginsConfig) -> StudyPair:
    """Compare two results of one study.

    Args:
        study: Study Instance UID.
        live: Folder of the live result.
        candidate: Folder of the candidate's.
        margins: Beyond which the study is discordant.

    Raises:
        DataError: A result or mask can't be read.
    """
    results = read_result(live), read_result(candidate)
    folders = live, candidate
    said = [_state(result) for result in results]
    segments = _segments(results, folders)
    probabilities = _both(dict(_chances(results[0])), dict(_chances(results[1])))
    findings = _both(
        {n: v for p in results[0].answered for n, v in verdicts(p).items()},
        {n: v for p in results[1].answered for n, v in verdicts(p).items()},
    )
    why = [] if said[0] == said[1] else [f"live {said[0]}, candidate {said[1]}"]
    if said[0] == said[1] == "answered":
        why += [w for s in segments for w in _apart(s, margins)]
        why += [
            f"{name}: {a:.2f} and {b:.2f}" for name, (a, b) in probabilities.items() if abs(a - b) > margins.probability
        ]
        why += [f"{name}: {a}; {b}" for name, (a, b) in findings.items() if a != b]
    seconds = [sum(p.seconds for p in result.predictions) for result in results]
    return StudyPair(
        study=study, patient=results[0].study.patient_key, live=said[0], candidate=said[1], segments=tuple(segments),
        probabilities=probabilities, findings=findings, live_seconds=seconds[0], candidate_seconds=seconds[1],
        why=tuple(why),
    )  # fmt: skip


def _both(one: dict[str, T], other: dict[str, T]) -> dict[str, tuple[T, T]]:
    return {name: (one[name], other[name]) for name in one if name in other}


def _state(result: ResultDocument) -> str:
    if result.answered:
        return "answered"
    reasons = sorted({category(p) for p in result.predictions})
    return f"abstained ({', '.join(reasons)})"


def _chances(result: ResultDocument) -> list[tuple[str, float]]:
    return [
        (f"image {p.image}: {m.name.meaning.lower()}", m.value)
        for p in result.answered
        for m in p.measurements
        if m.name.meaning.startswith("Probability of ") and m.segment is None
    ]


def _apart(segment: SegmentPair, margins: MarginsConfig) -> list[str]:
    if segment.dice is not None and segment.dice < margins.dice:
        return [f"{segment.label}: Dice {segment.dice:.3f}"]
    share = _share(segment)
    if share is not None and abs(share) > margins.volume_share:
        return [f"{segment.label}: volume {share:+.0%}"]
    if (segment.live_ml is None) != (segment.candidate_ml is None):
        return [f"{segment.label}: only one of them outlines it"]
    return []


def _share(segment: SegmentPair) -> float | None:
    if segment.live_ml is None or segment.candidate_ml is None or segment.live_ml <= 0:
        return None
    return (segment.candidate_ml - segment.live_ml) / segment.live_ml


def _segments(results: tuple[ResultDocument, ResultDocument], folders: tuple[Path, Path]) -> list[SegmentPair]:
    """Compare what both outlined: by image and by what it is, whichever task drew it."""
    sides = [{(p.image, _name(s)): (p, s) for p in result.answered for s in p.segments} for result in results]
    found = []
    for key in {**sides[0], **sides[1]}:
        here = [side.get(key) for side in sides]
        label = f"image {key[0]}: {key[1]}"
        volumes = [None if one is None else _volume_ml(*one) for one in here]
        overlap = None
        if here[0] is not None and here[1] is not None:
            overlap = _overlap((here[0], here[1]), folders)
        found.append(SegmentPair(label=label, dice=overlap, live_ml=volumes[0], candidate_ml=volumes[1]))
    return found


def _name(segment: SegmentEntry) -> str:
    side = "" if segment.laterality is None else f" {segment.laterality.meaning.lower()}"
    return segment.label.lower() if not side or side.strip() in segment.label.lower() else segment.label.lower() + side


def _volume_ml(prediction: PredictionEntry, segment: SegmentEntry) -> float | None:
    for m in prediction.measurements:
        if m.segment == segment.number and m.name.meaning == "Volume" and m.unit.value in ("mL", "ml", "cm3"):
            return m.value
    return None


def _overlap(
    pair: tuple[tuple[PredictionEntry, SegmentEntry], tuple[PredictionEntry, SegmentEntry]], folders: tuple[Path, Path]
) -> float | None:
    masks = []
    for (prediction, _), folder in zip(pair, folders, strict=True):
        file = next((f.path for f in prediction.files if f.format == "NIfTI"), None)
        if file is None:
            return None
        masks.append(read_nifti_mask(folder / file))
    if not masks[0].geometry.same_grid(masks[1].geometry):
        return None
    drawn = [mask.segment_array(segment.number) for mask, (_, segment) in zip(masks, pair, strict=True)]
    return float(dice(drawn[0], drawn[1]))


def compared(
    names: tuple[str, str],
    pairs: Sequence[StudyPair],
    alone: tuple[int, int],
    margins: MarginsConfig,
    left_out: tuple[int, int] = (0, 0),
) -> Comparison:
    """Sum up pairs of results.

    Args:
        names: Of the live rule and the candidate's.
        pairs: One for each study.
        alone: Studies that only one of them has.
        margins: Stated before.
        left_out: Studies at which both failed, and studies whose results are gone.

    Raises:
        DataError: There is no pair.
    """
    if not pairs:
        told = f" (both failed at {left_out[0]}, results of {left_out[1]} are gone)" if any(left_out) else ""
        raise DataError(
            f"these rules answered no study together{told}: run the candidate in shadow beside the live rule"
        )
    criteria = [_abstentions(pairs, margins), *_dices(pairs, margins)]
    limits: list[Limits] = []
    for what, unit, values, margin in _differences(pairs, margins):
        criterion, found = _agreement(what, unit, values, margin)
        criteria.append(criterion)
        limits += [found] if found is not None else []
    verdict = _verdict(criteria)
    patients = len({p.patient for p in pairs})
    states = [(p.live.split()[0], p.candidate.split()[0]) for p in pairs]
    answered = [p for p in pairs if p.live == "answered" and p.candidate == "answered"]
    return Comparison(
        live=names[0], candidate=names[1], margins=margins.model_dump(), studies=len(pairs), patients=patients,
        only_live=alone[0], only_candidate=alone[1], live_abstained=sum(s[0] == "abstained" for s in states),
        candidate_abstained=sum(s[1] == "abstained" for s in states),
        live_failed=sum(s[0] == "failed" for s in states), candidate_failed=sum(s[1] == "failed" for s in states),
        both_failed=left_out[0], lost=left_out[1],
        live_seconds=_median([p.live_seconds for p in answered]),
        candidate_seconds=_median([p.candidate_seconds for p in answered]),
        criteria=tuple(criteria), limits=tuple(limits), pairs=tuple(pairs), verdict=verdict,
        text=_text(verdict, pairs, left_out),
    )  # fmt: skip


def _text(verdict: Word, pairs: Sequence[StudyPair], left_out: tuple[int, int]) -> str:
    patients, discordant = len({p.patient for p in pairs}), sum(bool(p.why) for p in pairs)
    failed = [
        sum(side == "failed" for side in sides) for sides in zip(*((p.live, p.candidate) for p in pairs), strict=True)
    ]
    failures = f" The candidate failed at {failed[1]} of them, the live rule at {failed[0]}." if any(failed) else ""
    failures += f" Both failed at {left_out[0]} more." if left_out[0] else ""
    failures += f" Results of {left_out[1]} more are gone." if left_out[1] else ""
    told: dict[str, str] = {
        "within the margins": "Every interval keeps its margin: the candidate is not inferior, as far as agreement "
        "with the live model shows.",
        "beyond the margins": "At least one interval lies beyond its margin as a whole: the candidate differs.",
        "not shown": "At least one interval reaches beyond its margin: neither is shown.",
        "too few studies": f"With fewer than {LEAST_PATIENTS} patients no interval is given, and nothing is concluded.",
    }
    return (
        f"{len(pairs)} studies of {patients} patients; {discordant} discordant.{failures} {told[verdict]} The live "
        "model is no reference standard: discordant studies are to be looked at by a reader."
    )


def _abstentions(pairs: Sequence[StudyPair], margins: MarginsConfig) -> Criterion:
    more = [p.candidate != "answered" and p.live == "answered" for p in pairs]
    patients = [p.patient for p in pairs]
    found = share_by_patient(more, patients)
    few = found.patients < LEAST_PATIENTS
    return Criterion(
        what="studies that only the candidate leaves unanswered", margin=margins.abstained, value=found.value,
        low=None if few else found.low, high=None if few else found.high, patients=found.patients,
        verdict="too few studies" if few else _word(found.low, found.high, -1.0, margins.abstained),
        text="share of studies that it abstains on or fails at, exact binomial interval by patient",
    )  # fmt: skip


def _dices(pairs: Sequence[StudyPair], margins: MarginsConfig) -> list[Criterion]:
    by_label: dict[str, list[tuple[float, str]]] = {}
    for pair in pairs:
        for s in pair.segments:
            if s.dice is not None:
                by_label.setdefault(_bare(s.label), []).append((s.dice, pair.patient))
    found = []
    for label, values in by_label.items():
        patients = len({p for _, p in values})
        mean = sum(v for v, _ in values) / len(values)
        low = high = None
        word: Word = "too few studies"
        if patients >= LEAST_PATIENTS:
            interval = bootstrap_mean([v for v, _ in values], [p for _, p in values], resamples=2000)
            low, high = interval.low, interval.high
            word = _word(low, high, margins.dice, 2.0)
        found.append(
            Criterion(
                what=f"Dice of {label}", margin=margins.dice, value=mean, low=low, high=high, patients=patients,
                verdict=word, text="mean overlap with the live model, interval by bootstrap over patients",
            )
        )  # fmt: skip
    return found


def _bare(label: str) -> str:
    return label.partition(": ")[2]


def _differences(
    pairs: Sequence[StudyPair], margins: MarginsConfig
) -> list[tuple[str, str, dict[str, list[float]], float]]:
    """Return differences by patient: of volumes as a share of the live one, of probabilities."""
    volumes: dict[str, dict[str, list[float]]] = {}
    chances: dict[str, dict[str, list[float]]] = {}
    for pair in pairs:
        for s in pair.segments:
            share = _share(s)
            if share is not None:
                volumes.setdefault(_bare(s.label), {}).setdefault(pair.patient, []).append(share)
        for name, (a, b) in pair.probabilities.items():
            chances.setdefault(_bare(name), {}).setdefault(pair.patient, []).append(b - a)
    return [
        *((f"volume of {label}", "share", values, margins.volume_share) for label, values in volumes.items()),
        *((name, "probability", values, margins.probability) for name, values in chances.items()),
    ]


def _agreement(what: str, unit: str, values: dict[str, list[float]], margin: float) -> tuple[Criterion, Limits | None]:
    each = [sum(v) / len(v) for v in values.values()]
    mean = sum(each) / len(each)
    text = "limits of agreement (Bland and Altman), one difference a patient; their outer 95 % ends"
    if len(each) < LEAST_CASES:
        return Criterion(
            what=what, margin=margin, value=mean, low=None, high=None, patients=len(each), verdict="too few studies",
            text=text,
        ), None  # fmt: skip
    found = limits_of_agreement(each)
    low, high = found.lower_interval[0], found.upper_interval[1]
    inner_beyond = found.lower_interval[1] < -margin or found.upper_interval[0] > margin
    word: Word = "within the margins" if -margin <= low and high <= margin else "not shown"
    word = "beyond the margins" if inner_beyond else word
    return Criterion(
        what=what, margin=margin, value=mean, low=low, high=high, patients=len(each), verdict=word, text=text
    ), Limits(
        what=what, unit=unit, bias=found.bias, bias_interval=found.bias_interval, lower=found.lower,
        lower_interval=found.lower_interval, upper=found.upper, upper_interval=found.upper_interval,
        patients=found.cases,
    )  # fmt: skip


def _word(low: float, high: float, least: float, most: float) -> Word:
    """Say whether an interval keeps a margin: lies between least and most."""
    if least <= low and high <= most:
        return "within the margins"
    return "beyond the margins" if high < least or low > most else "not shown"


def _verdict(criteria: Sequence[Criterion]) -> Word:
    words = [c.verdict for c in criteria]
    order: tuple[Word, ...] = ("beyond the margins", "too few studies", "not shown")
    for word in order:
        if word in words:
            return word
    # Nothing but abstentions was measured: no answer of both to compare.
    return "within the margins" if len(criteria) > 1 else "not shown"


def _median(values: Sequence[float]) -> float | None:
    ordered = sorted(values)
    if not ordered:
        return None
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
