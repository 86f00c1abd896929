"""What `isocenter prognose` writes: the model with its figures, and the answers for people."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = [
    "CalibrationEntry",
    "ColumnEntry",
    "DriverEntry",
    "FigureEntry",
    "LearnerEntry",
    "MissingEntry",
    "PersonEntry",
    "PrognosisDocument",
    "PrognosisModel",
]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ColumnEntry(_Entry):
    """A covariate.

    Attributes:
        name: Of the column.
        unit: UCUM; "" for words.
        levels: Words; empty for numbers.
    """

    name: str
    unit: str
    levels: tuple[str, ...] = ()


class MissingEntry(_Entry):
    """How much of a column is missing.

    Attributes:
        column: Its name.
        share: Of all rows.
        with_event: Of those with the event.
        without_event: Of those without.
        by_group: By group, where one was named.
    """

    column: str
    share: float
    with_event: float
    without_event: float
    by_group: dict[str, float] = {}


class FigureEntry(_Entry):
    """A figure of held-out predictions.

    Attributes:
        name: For example "Harrell's C".
        of: Of what, for example "by day 365".
        value: The figure.
        low: Lower end of its 95 % interval over patients; None where it could not be told.
        high: Upper end.
    """

    name: str
    of: str
    value: float
    low: float | None = None
    high: float | None = None


class CalibrationEntry(_Entry):
    """People of like predicted risk: what was said, and what happened.

    Attributes:
        count: People.
        predicted: Mean predicted risk at the horizon.
        observed: Share with the event by the horizon, of those lost made up for.
        low: Lower end of its 95 % interval; None where competing events leave none.
        high: Upper end.
    """

    count: int
    predicted: float
    observed: float
    low: float | None = None
    high: float | None = None


class LearnerEntry(_Entry):
    """What one way of learning is worth, on patients that it never saw.

    Attributes:
        learner: Its name.
        figures: Of held-out predictions.
        calibration: At the horizon.
        settings: Chosen in each outer fold.
        dropped: By covariate, how much concordance is lost when it is dealt out anew.
    """

    learner: str
    figures: tuple[FigureEntry, ...]
    calibration: tuple[CalibrationEntry, ...]
    settings: tuple[dict[str, float], ...]
    dropped: dict[str, float]


class PrognosisModel(_Entry):
    """A prognosis model, its data and its figures: `model.json` of its folder.

    Attributes:
        isocenter: Version.
        created: When, UTC.
        learner: What the model that is kept was learnt by.
        event: Column and value of the event.
        competing: Values of competing events.
        horizon_days: Day that is asked about.
        at_days: Days of the curves.
        columns: Covariates.
        rows: People learnt from.
        patients: Patients.
        events: With the event.
        left_out: Columns and rows that were left out, and why.
        missing: By column.
        learners: What each way of learning is worth.
        notes: What a reader should know.
        data_sha256: Of the table.
        arrays_sha256: Of `model.npz`.
        code: Version of the code.
        seed: Of everything random.
    """

    isocenter: str
    created: str
    learner: str
    event: str
    competing: tuple[str, ...]
    horizon_days: float
    at_days: tuple[float, ...]
    columns: tuple[ColumnEntry, ...]
    rows: int
    patients: int
    events: int
    left_out: tuple[str, ...]
    missing: tuple[MissingEntry, ...]
    learners: tuple[LearnerEntry, ...]
    notes: tuple[str, ...]
    data_sha256: str
    arrays_sha256: str
    code: dict[str, str | bool | None]
    seed: int


class DriverEntry(_Entry):
    """What one covariate adds to a person's risk.

    Attributes:
        covariate: Its name.
        adds: To the logarithm of the hazard, against people like those learnt from; above 0 the event comes sooner.
        exact: Whether nothing was sampled.
    """

    covariate: str
    adds: float
    exact: bool


class PersonEntry(_Entry):
    """The answer for one person.

    Attributes:
        person: Number of the person in what was asked.
        abstained: Why there is no answer; None where there is one.
        risk: Chance of the event by the horizon.
        low: Lower end of its band.
        high: Upper end.
        survival: Chance of being without the event after each day of the model.
        survival_low: Lower end of the band.
        survival_high: Upper end.
        level: Coverage asked of the band.
        drivers: What drove it, the largest first.
        neighbours: How many of the nearest patients the picture is of.
        neighbours_days: Days of their Kaplan-Meier (or Aalen-Johansen) curve.
        neighbours_survival: Share without the event after these days.
        neighbours_low: Lower end of its 95 % interval; empty where competing events leave none.
        neighbours_high: Upper end.
        imputed: Covariates that were not known.
    """

    person: int
    abstained: str | None
    risk: float | None = None
    low: float | None = None
    high: float | None = None
    survival: tuple[float, ...] = ()
    survival_low: tuple[float, ...] = ()
    survival_high: tuple[float, ...] = ()
    level: float | None = None
    drivers: tuple[DriverEntry, ...] = ()
    neighbours: int = 0
    neighbours_days: tuple[float, ...] = ()
    neighbours_survival: tuple[float, ...] = ()
    neighbours_low: tuple[float, ...] = ()
    neighbours_high: tuple[float, ...] = ()
    imputed: tuple[str, ...] = ()


class PrognosisDocument(_Entry):
    """Answers for people: `prognosis.json`.

    Attributes:
        isocenter: Version.
        created: When, UTC.
        learner: Of the model.
        event: Column and value of the event.
        horizon_days: Day that is asked about.
        at_days: Days of the curves.
        model_sha256: Of the model's arrays.
        people: In the order asked.
        promise: What the band says, and what it doesn't.
        notes: What a reader should know.
    """

    isocenter: str
    created: str
    learner: str
    event: str
    horizon_days: float
    at_days: tuple[float, ...]
    model_sha256: str
    people: tuple[PersonEntry, ...]
    promise: str
    notes: tuple[str, ...]
