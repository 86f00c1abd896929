"""The document of `isocenter treat`: what was found, of whom nothing is said, and what was told of people."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = [
    "AmountEntry",
    "BalanceEntry",
    "BlockEntry",
    "CalibrationBlock",
    "GroupEntry",
    "MissingEntry",
    "OutcomeBlock",
    "OverlapBlock",
    "PersonEntry",
    "PolicyBlock",
    "RefutationEntry",
    "SupportBlock",
    "TreatDocument",
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AmountEntry(_Strict):
    """A number with its interval and the coverage asked of it."""

    value: float
    low: float
    high: float
    level: float


class OverlapBlock(_Strict):
    """Whether both options were given to people alike.

    Attributes:
        learner: How the propensity was told: "line", "forest", or "share" where a coin decided.
        quantiles: Propensity at 1, 5, 25, 50, 75, 95 and 99 % of the people that something is said of.
        discrimination: AUROC of telling the option from features, on held-out people; 0.5 in a fair trial.
        calibration_error: Expected calibration error of that.
        bins: Predicted share, observed share and people of each bin.
        effective_untreated: People of equal weight that those under the comparator are worth, weighted for balance.
        effective_treated: The same of the treatment.
    """

    learner: str
    quantiles: tuple[float, ...]
    discrimination: float
    calibration_error: float
    bins: tuple[tuple[float, float, int], ...]
    effective_untreated: float
    effective_treated: float


class BalanceEntry(_Strict):
    """Standardised difference of a feature between the options, before and after weighting."""

    feature: str
    before: float
    after: float


class MissingEntry(_Strict):
    """How much of a column is not known: of all, and with either option."""

    column: str
    share: float
    untreated: float
    treated: float


class BlockEntry(_Strict):
    """Features that come from elsewhere, joined by patient.

    Attributes:
        name: Of the block.
        people: Who has it, of those who got one of the two options.
        untreated: Of them with the comparator.
        treated: Of them with the treatment.
        columns: That it holds.
        features: That became features; of more than eight, components are learnt from inside every fold.
        synthetic: Whether it says that its patients are invented.
    """

    name: str
    people: int
    untreated: int
    treated: int
    columns: int
    features: int
    synthetic: bool


class SupportBlock(_Strict):
    """Of whom something is said.

    Attributes:
        people: In the table.
        supported: Of whom something is said.
        refused: How many not, by kind: group, propensity, unlike.
        rules: Groups of which nothing is said, in words.
        least_share: An option given to a smaller share of people alike is too rare.
        width_limit: An interval of a person's difference that is wider says too little.
    """

    people: int
    supported: int
    refused: dict[str, int]
    rules: tuple[str, ...]
    least_share: float
    width_limit: float


class RefutationEntry(_Strict):
    """An attempt to refute the average: what was done, what was found, whether it withstood."""

    name: str
    estimate: float
    low: float
    high: float
    passed: bool
    words: str


class GroupEntry(_Strict):
    """A fifth of the people by predicted difference: what was predicted, and what was found."""

    predicted: float
    found: AmountEntry


class CalibrationBlock(_Strict):
    """Whether predicted differences between people are true ones, on held-out people.

    Attributes:
        slope: 1 where they are, 0 where they say nothing.
        p_no_heterogeneity: One-sided p of a slope of 0 or less.
        groups: Fifths, least first.
        told: The same in words.
    """

    slope: AmountEntry | None
    p_no_heterogeneity: float | None
    groups: tuple[GroupEntry, ...]
    told: str


class PolicyBlock(_Strict):
    """Mean outcome of people that something is said of, under three rules, on held-out people.

    Attributes:
        value: If those are treated whose predicted difference is a benefit.
        treat_all: If all are.
        treat_none: If nobody is.
        over_all: First less second.
        over_none: First less third.
        share_treated: By the first rule.
    """

    value: AmountEntry
    treat_all: AmountEntry
    treat_none: AmountEntry
    over_all: AmountEntry
    over_none: AmountEntry
    share_treated: float


class OutcomeBlock(_Strict):
    """What was found of an outcome.

    Attributes:
        name: Of the column.
        words: What is told of an option.
        unit: UCUM.
        chance: Whether it is a chance.
        bad: Whether more of it is worse.
        average: Difference, treatment less comparator, over those that something is said of.
        untreated: Mean outcome if nobody got the treatment.
        treated: If all did.
        learner: Of the expected outcomes.
        refutations: Attempts to refute the average.
        e_value: How strongly, as a risk ratio, something unmeasured must go with treatment and outcome to explain the
            average away; and to move its interval to 0.
        robustness: Share of what is left of both that something unmeasured must explain to bring the average to 0.
        bound: The same in words.
        calibration: Of differences between people; None for harms.
        policy: None for harms.
    """

    name: str
    words: str
    unit: str
    chance: bool
    bad: bool
    average: AmountEntry
    untreated: AmountEntry
    treated: AmountEntry
    learner: str
    refutations: tuple[RefutationEntry, ...]
    e_value: float
    e_value_interval: float
    robustness: float
    bound: str
    calibration: CalibrationBlock | None
    policy: PolicyBlock | None


class PersonEntry(_Strict):
    """What is told of a person.

    Attributes:
        person: "person 3": third in the table of people; people.csv, which is not to be shared, holds the name.
        verdict: Which option is favoured, that neither surely is, or that there is no recommendation.
        refused: Kind of the refusal, or None.
        reason: Why nothing is said, or "".
        sentences: Of the outcome, then of each harm.
        effect: Difference, or None.
        untreated: Outcome under the comparator, or None.
        treated: Outcome under the treatment, or None.
        harms: Of each harm both options' chances; None each where nothing is said.
        imputed: What is not known of the person, and was taken as the middle of those learnt from.
    """

    person: str
    verdict: str
    refused: str | None
    reason: str
    sentences: tuple[str, ...]
    effect: AmountEntry | None
    untreated: AmountEntry | None
    treated: AmountEntry | None
    harms: tuple[tuple[AmountEntry, AmountEntry] | None, ...]
    imputed: tuple[str, ...] = ()


class TreatDocument(_Strict):
    """What `isocenter treat` found.

    Attributes:
        claim: "effect" of a randomised treatment; "association" of any other.
        design: randomised or observational.
        treatment: Name of the option.
        comparator: Name of the other.
        treated: People who got the treatment.
        method: Learner of differences between people.
        horizon_days: Up to which the outcome is meant; None where there are no times.
        synthetic: Whether the table, a block or the table of people says that its people are invented.
        features: Names.
        missing: How much is not known of each column that has gaps; of blocks see there.
        blocks: Features that come from elsewhere, and who has them.
        index_time: Column of the moment of the decision; None where the table has no dates.
        notes: What else to know.
        overlap: Whether both options were given to people alike.
        balance: By feature.
        support: Of whom something is said.
        outcome: The outcome that the treatment is for.
        harms: Others.
        people: What is told of people.
        isocenter: Version.
        commit: Of the code, or None.
        packages: Versions.
        seed: Of everything random.
        inputs: Hash of each table.
        config: As it was resolved, without names of files.
        created: When.
    """

    claim: str
    design: str
    treatment: str
    comparator: str
    treated: int
    method: str
    horizon_days: float | None
    synthetic: bool
    features: tuple[str, ...]
    missing: tuple[MissingEntry, ...]
    blocks: tuple[BlockEntry, ...]
    index_time: str | None
    notes: tuple[str, ...]
    overlap: OverlapBlock
    balance: tuple[BalanceEntry, ...]
    support: SupportBlock
    outcome: OutcomeBlock
    harms: tuple[OutcomeBlock, ...]
    people: tuple[PersonEntry, ...]
    isocenter: str
    commit: str | None
    packages: dict[str, str]
    seed: int
    inputs: dict[str, str]
    config: dict[str, object]
    created: str
