"""What `isocenter prognose` writes: the model with its figures, and the answers for people."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = [
    "BlockEntry",
    "CalibrationEntry",
    "ColumnEntry",
    "DriverEntry",
    "FigureEntry",
    "LearnerEntry",
    "MissingEntry",
    "ModalityEntry",
    "PersonEntry",
    "PrognosisDocument",
    "PrognosisModel",
    "TakenEntry",
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


class BlockEntry(_Entry):
    """A modality beside the table.

    Attributes:
        name: Its name.
        text: Whether it holds text, which is told as hashed words and pairs of words.
        columns: Its numbers; empty for text.
        units: Of the numbers, UCUM.
        people: Who have it.
        share: Of all.
        with_event: Of those with the event.
        without_event: Of those without.
        batches: People of each scanner, where it is harmonised.
        components: Principal components at most.
        dated: Whether it has dates, which were checked against the index time.
        sha256: Of its file; "" where it is a column of the table.
    """

    name: str
    text: bool
    columns: tuple[str, ...]
    units: tuple[str, ...]
    people: int
    share: float
    with_event: float
    without_event: float
    batches: dict[str, int] = {}
    components: int = 8
    dated: bool = False
    sha256: str = ""


class TakenEntry(_Entry):
    """What a modality is worth: held-out people told with it taken away, by the same models.

    Attributes:
        modality: Which; "table" is the clinical table.
        value: Concordance without it.
        low: Lower end of its 95 % interval over patients; None where it could not be told.
        high: Upper end.
        lost: Concordance that it adds: with it less without it.
        lost_low: Lower end of its interval.
        lost_high: Upper end.
    """

    modality: str
    value: float
    low: float | None = None
    high: float | None = None
    lost: float = 0.0
    lost_low: float | None = None
    lost_high: float | None = None


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
        taken: What each modality is worth, where there are blocks.
    """

    learner: str
    figures: tuple[FigureEntry, ...]
    calibration: tuple[CalibrationEntry, ...]
    settings: tuple[dict[str, float], ...]
    dropped: dict[str, float]
    taken: tuple[TakenEntry, ...] = ()


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
        patient_column: By which blocks are joined; None where each row is a patient.
        batch: Column of the scanner, where blocks are harmonised.
        blocks: Modalities beside the table.
        patterns: How many people have which modalities, the most frequent first.
        synthetic: Whether the people are invented.
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
    patient_column: str | None = None
    batch: str | None = None
    blocks: tuple[BlockEntry, ...] = ()
    patterns: dict[str, int] = {}
    synthetic: bool = False


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


class ModalityEntry(_Entry):
    """One modality of one person.

    Attributes:
        modality: Which; "table" is the clinical table.
        present: Whether the person has it.
        used: Whether it could be used.
        attention: Share of the network's attention, where there is any; it is no attribution.
        without: Risk by the horizon with it taken away; None where the person lacks it or has nothing else.
    """

    modality: str
    present: bool
    used: bool
    attention: float | None = None
    without: float | None = None


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
        modalities: What the person has, and what each of it changes.
        notes: What to know of this answer.
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
    modalities: tuple[ModalityEntry, ...] = ()
    notes: tuple[str, ...] = ()


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
        synthetic: Whether the people, asked about or learnt from, are invented.
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
    synthetic: bool = False
