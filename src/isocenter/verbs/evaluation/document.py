"""What an evaluation says, as a document: `evaluation.json`, strict, versioned, without the name of a case.

Cases are numbered as the rows of `cases.csv` beside it, which holds their names and stays where it is.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "FORMAT",
    "AdviceEntry",
    "CheckEntry",
    "ComparisonEntry",
    "CurveEntry",
    "DropEntry",
    "EvaluationDocument",
    "FigureEntry",
    "Kind",
    "PointEntry",
    "ReliabilityEntry",
    "RocEntry",
    "ScorecardDocument",
    "ShiftEntry",
    "SubgroupBlock",
    "SubgroupEntry",
    "WorstEntry",
    "evaluation_schema",
    "scorecard_schema",
]

FORMAT: Final = "isocenter-evaluation/1"
Kind = Literal[
    "masks", "classes", "findings", "reports", "survival", "numbers", "detections", "retrieval", "interactive"
]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FigureEntry(_Entry):
    """One figure.

    Attributes:
        name: The field's own name: "Dice", "HD95", "AUROC".
        structure: What it is of: a structure, a class, a finding; "" for all.
        unit: UCUM unit; "1" for a ratio.
        value: The figure; null where it is not defined.
        low: Lower end of its interval; null where there is none.
        high: Upper end.
        level: Coverage of the interval.
        method: "bca" or "percentile"; "" without an interval.
        patients: Behind it.
        cases: Behind it; null where only the patients were counted.
        left_out: Cases whose value is not finite, and which the figure is therefore not of.
        higher_is_better: Which way is good; null for neither (a signed error).
        reason: Why the value or the interval is missing; "" where neither is.
    """

    name: str
    structure: str
    unit: str
    value: float | None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    method: str = ""
    patients: int
    cases: int | None
    left_out: int = 0
    higher_is_better: bool | None = True
    reason: str = ""


class ComparisonEntry(_Entry):
    """The second system minus the first, on the same cases.

    Attributes:
        name: Of the figure.
        structure: What it is of.
        first: Figure of the first system.
        second: Figure of the second.
        difference: Second minus first.
        low: Lower end of the difference's interval.
        high: Upper end.
        p: Chance of a difference at least as large where both are alike.
        p_corrected: The same, corrected for all that were tested (Holm).
        test: How p was found.
        further_patients: That would show the difference with the power of 80 %; null where that is not known.
        reason: Why there is no test; "" where there is one.
    """

    name: str
    structure: str
    first: float | None
    second: float | None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_corrected: float | None = None
    test: str = ""
    further_patients: int | None = None
    reason: str = ""


class SubgroupEntry(_Entry):
    """One group; see `evaluate.subgroups.Subgroup`."""

    name: str
    columns: tuple[str, ...]
    levels: tuple[str, ...]
    patients: int
    cases: int
    value: float | None = None
    low: float | None = None
    high: float | None = None
    gap: float | None = None
    gap_low: float | None = None
    gap_high: float | None = None
    p: float | None = None
    p_corrected: float | None = None
    p_least: float | None = None
    reason: str = ""


class SubgroupBlock(_Entry):
    """One figure group by group.

    Attributes:
        name: Of the figure.
        structure: What it is of.
        overall: Of all cases.
        rows: Every group.
        worst: Name of the tested group with the worst gap; "" for none.
        tested: Groups that were tested; p values are corrected within those of one column, and of two columns at once.
        notes: On columns that made no groups.
        higher_is_better: Which way a gap is bad.
    """

    name: str
    structure: str
    overall: float
    rows: tuple[SubgroupEntry, ...]
    worst: str = ""
    tested: int = 0
    notes: tuple[str, ...] = ()
    higher_is_better: bool = True


class PointEntry(_Entry):
    """A figure at one grade; see `evaluate.robustness.CurvePoint`."""

    grade: int
    answered: int
    cases: int
    value: float | None = None
    low: float | None = None
    high: float | None = None
    drop: float | None = None
    drop_low: float | None = None
    drop_high: float | None = None
    reason: str = ""


class DropEntry(_Entry):
    """A figure against how severely images were changed."""

    kind: str
    title: str
    name: str
    structure: str
    points: tuple[PointEntry, ...]


class ShiftEntry(_Entry):
    """A figure at two sites: the second minus the first."""

    column: str
    name: str
    structure: str
    first_site: str
    second_site: str
    first: float | None = None
    second: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    reason: str = ""


class RocEntry(_Entry):
    """A ROC curve, at most 200 points of it."""

    structure: str
    false_positive_rate: tuple[float, ...]
    sensitivity: tuple[float, ...]


class CurveEntry(_Entry):
    """Another curve, at most 200 points of it; curves of one title are drawn together.

    Attributes:
        title: What is drawn: "FROC", "Recall", "Dice".
        name: Of the line.
        x_label: What goes across.
        y_label: What goes up, from 0 to 1.
        x: Of each point, growing.
        y: Of each point.
        x_least: Where the drawing begins.
        x_most: Where it ends; null for the last point.
    """

    title: str
    name: str
    x_label: str
    y_label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    x_least: float = 0.0
    x_most: float | None = None


class ReliabilityEntry(_Entry):
    """Predicted against observed frequency, in bins.

    Attributes:
        structure: What the probabilities are of.
        counts: Events in each bin.
        predicted: Mean probability; null where the bin is empty.
        observed: Share that happened; null where the bin is empty.
        expected_calibration_error: Mean gap, weighted by events.
    """

    structure: str
    counts: tuple[int, ...]
    predicted: tuple[float | None, ...]
    observed: tuple[float | None, ...]
    expected_calibration_error: float


class WorstEntry(_Entry):
    """One of the cases that went worst.

    Attributes:
        case: Number of its row in cases.csv, from 1.
        value: Of what they are ordered by (`worst_by`); null where the case has none.
        note: What else is known of it.
    """

    case: int
    value: float | None
    note: str = ""


class AdviceEntry(_Entry):
    """A metric that suits this task, or a pitfall of one.

    Attributes:
        what: The metric, or the pitfall.
        why: In one sentence.
        source: Where that is written.
    """

    what: str
    why: str
    source: str = ""


class ProvenanceEntry(_Entry):
    """What is needed to repeat it; `changed` says whether the code differed from the commit, null where not known."""

    isocenter: str
    commit: str | None
    changed: bool | None = None
    python: str
    packages: dict[str, str]
    machine: str
    seed: int
    config: dict[str, Any]
    inputs: dict[str, str]


class EvaluationDocument(_Entry):
    """All that was measured.

    Attributes:
        format: Version of this form.
        created: When, UTC.
        kind: What was compared.
        title: One line.
        cases: That were measured.
        patients: They are of.
        patients_known: Whether the input says which cases are of one patient.
        primary: Name and structure of the figure that groups, curves and worst cases are told by.
        notes: What was noticed, and decided.
        figures: Of the system.
        against: Figures of the second system; empty without one.
        comparisons: Second minus first.
        subgroups: Groups; null where no table of them was given.
        drops: Curves over corruptions.
        shift: Between two sites; null where none was asked for.
        roc: ROC curves.
        reliability: Reliability diagrams.
        curves: Other curves, of the kind: FROC, recall, Dice over clicks.
        worst: Cases that went worst, the worst first.
        worst_by: What they are ordered by, and `value` of each is; "how far off" is a number that grows with the error.
        recommended: Metrics that suit this task.
        warnings: Pitfalls that this set or these metrics run into.
        further_patients_half_interval: Patients it would take beyond these to halve the intervals.
        provenance: How to repeat it.
    """

    format: Literal["isocenter-evaluation/1"] = FORMAT
    created: str
    kind: Kind
    title: str
    cases: int = Field(ge=1)
    patients: int = Field(ge=1)
    patients_known: bool
    primary: tuple[str, str]
    notes: tuple[str, ...] = ()
    figures: tuple[FigureEntry, ...]
    against: tuple[FigureEntry, ...] = ()
    comparisons: tuple[ComparisonEntry, ...] = ()
    subgroups: SubgroupBlock | None = None
    drops: tuple[DropEntry, ...] = ()
    shift: ShiftEntry | None = None
    roc: tuple[RocEntry, ...] = ()
    reliability: tuple[ReliabilityEntry, ...] = ()
    curves: tuple[CurveEntry, ...] = ()
    worst: tuple[WorstEntry, ...] = ()
    worst_by: str = ""
    recommended: tuple[AdviceEntry, ...] = ()
    warnings: tuple[AdviceEntry, ...] = ()
    further_patients_half_interval: int | None = None
    provenance: ProvenanceEntry


class CheckEntry(_Entry):
    """One check of a task before it may serve.

    Attributes:
        name: What was checked.
        status: How it went; "not measured" is never a pass, "measured" a number without a limit.
        words: What was found, and what to do where it failed.
        number: What was measured; null where there is no number.
        unit: UCUM unit of the number.
    """

    name: str
    status: Literal["passed", "failed", "not measured", "not applicable", "measured"]
    words: str
    number: float | None = None
    unit: str = ""


class CardEntry(_Entry):
    """What a task and its weights say of themselves."""

    name: str
    title: str
    version: str
    licence: str
    intended_use: str
    not_for: str
    modalities: tuple[str, ...]
    body_parts: tuple[str, ...]
    prompts: tuple[str, ...]
    weights_sha256: tuple[str, ...]
    training_data: tuple[str, ...]
    limitations: tuple[str, ...]
    figures: tuple[FigureEntry, ...]
    how: tuple[str, ...]


class ScorecardDocument(_Entry):
    """The scorecard of a task.

    Attributes:
        format: Version of this form.
        created: When, UTC.
        task: Its name.
        passed: Whether it may serve: no check failed, what is essential was measured, and both sides were looked at.
        against: Names of the checks that stand against it.
        checks: In the order in which they were made.
        card: What it says of itself.
        evaluation: What was measured on a labelled set; null where none was given.
        notes: What a reader must know of the figures.
        provenance: How to repeat it.
    """

    format: Literal["isocenter-scorecard/1"] = "isocenter-scorecard/1"
    created: str
    task: str
    passed: bool
    against: tuple[str, ...] = ()
    checks: tuple[CheckEntry, ...]
    card: CardEntry
    evaluation: EvaluationDocument | None = None
    notes: tuple[str, ...] = ()
    provenance: ProvenanceEntry


def evaluation_schema() -> dict[str, Any]:
    """Return the JSON schema of `evaluation.json`."""
    return EvaluationDocument.model_json_schema()


def scorecard_schema() -> dict[str, Any]:
    """Return the JSON schema of `scorecard.json`."""
    return ScorecardDocument.model_json_schema()
