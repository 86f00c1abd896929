"""Nested cross-validation by patient: what a way of learning is worth, with every choice made inside.

Each patient is held out once; the settings are chosen on inner folds of the others, and so are imputation and scaling.
So no figure of the outer folds has seen what it is measured on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int64

from isocenter.core.errors import DataError
from isocenter.models.covariates import Covariates
from isocenter.tasks.prognose.learners import Choice, Learner, Score, Setting, Times, learn
from isocenter.tasks.prognose.preparing import TABLE

__all__ = ["HeldOut", "nested", "patient_folds"]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What was said of people by models that never saw their patient.

    Args:
        learner: Name.
        risk: Of each person, on the scale of the fold's own model.
        survival: Of each person after each day asked for.
        folds: In which fold each was held out.
        settings: Chosen, of each fold.
        dropped: By covariate, how much concordance is lost when it is dealt out anew, mean over folds.
        taken: Risk of each person with one modality taken away, by modality; empty where there are no blocks.
    """

    learner: str
    risk: Float[np.ndarray, " n"]
    survival: Float[np.ndarray, "n q"]
    folds: Int64[np.ndarray, " n"]
    settings: tuple[Setting, ...]
    dropped: dict[str, float]
    taken: dict[str, Float[np.ndarray, " n"]] = field(default_factory=dict)


def patient_folds(
    patients: Sequence[str], happened: Bool[np.ndarray, " n"], folds: int, *, seed: int = 0
) -> Int64[np.ndarray, " n"]:
    """Return the fold of each row: patients whole, those with the event spread evenly.

    Args:
        patients: Of each row.
        happened: Whether each row had the event.
        folds: How many.
        seed: Decides who goes where.

    Raises:
        DataError: Fewer than two folds, or patients with the event than folds.

    Example:
        >>> folds = patient_folds(["a", "a", "b", "c"], np.array([True, False, True, False]), 2)
        >>> bool(folds[0] == folds[1] != folds[2])
        True
    """
    names, index = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    had = np.zeros(len(names), dtype=bool)
    np.logical_or.at(had, index, happened)
    if folds < 2 or had.sum() < folds:
        raise DataError(
            f"{int(had.sum())} patients with the event can't be spread over {folds} folds (two folds at least, and one "
            "such patient in each): ask for fewer folds, or gather more patients"
        )
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(names))
    order = order[np.argsort(~had[order], kind="stable")]
    fold = np.empty(len(names), dtype=np.int64)
    fold[order] = np.arange(len(names)) % folds
    return fold[index]


def nested(
    learner: Learner,
    people: Covariates,
    times: Times,
    *,
    patients: Sequence[str],
    folds: Int64[np.ndarray, " n"],
    at_days: Float[np.ndarray, " q"],
    choice: tuple[int, Score, int],
    progress: Callable[[float], None] | None = None,
) -> HeldOut:
    """Hold out each fold once.

    Args:
        learner: What learns.
        people: What is known of them.
        times: Their times.
        patients: Of each row: they are not torn apart inside either.
        folds: The outer fold of each row.
        at_days: Days on which curves are kept.
        choice: Inner folds, score and seed.
        progress: Told the share that is done.

    Raises:
        DataError: Too few events for these folds.
    """
    inner, score, seed = choice
    risk, survival = np.full(len(folds), np.nan), np.full((len(folds), len(at_days)), np.nan)
    settings: list[Setting] = []
    lost: dict[str, list[float]] = {name: [] for name in people.names}
    sources: dict[str, tuple[str, ...]] = {b.name: (b.name,) for b in people.blocks}
    if people.blocks and people.columns:
        sources[TABLE] = tuple(c.name for c in people.columns)
    taken = {name: np.full(len(folds), np.nan) for name in sources}
    names = np.asarray(patients, dtype=str)
    rng = np.random.default_rng(seed)
    numbers = np.unique(folds)
    for done, number in enumerate(numbers):
        out = folds == number
        inside = patient_folds(names[~out].tolist(), times.happened[~out], inner, seed=seed)
        trained = learn(learner, people.rows(~out), times.rows(~out), Choice(inside, score, seed))
        held_out, ours = people.rows(out), times.rows(out)
        risk[out], survival[out] = trained.risk(held_out), trained.survival(held_out, at_days)
        settings.append(trained.setting)
        whole = score(ours.days, ours.happened, risk[out])
        for name in people.names:
            dealt = trained.risk(held_out.shuffled(name, rng.permutation(len(held_out))))
            lost[name].append(whole - score(ours.days, ours.happened, dealt))
        for source, columns in sources.items():
            taken[source][out] = trained.risk(held_out.without(*columns))
        if progress is not None:
            progress((done + 1) / len(numbers))
    # A fold without a pair in known order has no concordance to lose.
    dropped = {name: float(np.nanmean(values)) for name, values in lost.items() if np.isfinite(values).any()}
    return HeldOut(learner.name, risk, survival, folds, tuple(settings), dropped, taken)
