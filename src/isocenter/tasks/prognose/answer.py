"""The answer for one person: a risk by the horizon with its band, what drove it, and the nearest patients; or none."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from isocenter.core import Code, ModelRef, Prediction, Risk, Uncertainty
from isocenter.models.covariates import Covariates
from isocenter.tasks.prognose.bands import Band, band_around
from isocenter.tasks.prognose.drivers import Driver, drivers
from isocenter.tasks.prognose.learners import Times, Trained
from isocenter.tasks.prognose.people import Support
from isocenter.tasks.prognose.sources import Modality, modalities

__all__ = ["PROMISE", "Answer", "Prognosis", "answer"]

PROMISE = (
    "The band tells how far the curve would move if other patients of the same kind had been learnt from (bootstrap "
    "over patients, settings kept). It does not tell when this person's event comes, nor what a model of another form "
    "says."
)
_NEAREST, _LEAST_NEAREST = 50, 10


@dataclass(frozen=True, eq=False)
class Prognosis:
    """A model ready to answer.

    Args:
        trained: The model.
        again: Models of resampled patients.
        support: Who is near enough.
        people: That were learnt from.
        times: Of them.
        horizon_days: Day that is asked about.
        at_days: Days of the curves; the horizon is one of them.
        event: Coded.
        model: Which.
    """

    trained: Trained
    again: Sequence[Trained]
    support: Support
    people: Covariates
    times: Times
    horizon_days: float
    at_days: Float[np.ndarray, " q"]
    event: Code
    model: ModelRef


@dataclass(frozen=True, eq=False)
class Answer:
    """An answer for one person.

    Args:
        prediction: The risk by the horizon and its band, or why there is none.
        survival: Chance of being without the event after each day; None without an answer.
        band: Of the survival.
        drivers: What drove it, the largest first.
        nearest: Rows of the nearest patients learnt from.
        imputed: Covariates that were not known.
        modalities: What the person has, where there are blocks.
        notes: What to know of this answer.
    """

    prediction: Prediction
    survival: Float[np.ndarray, " q"] | None = None
    band: Band | None = None
    drivers: tuple[Driver, ...] = ()
    nearest: Int64[np.ndarray, " k"] | None = None
    imputed: tuple[str, ...] = ()
    modalities: tuple[Modality, ...] = ()
    notes: tuple[str, ...] = ()


def answer(prognosis: Prognosis, person: Covariates, *, level: float = 0.9, seed: int = 0) -> Answer:
    """Answer for one person, or say why not.

    Args:
        prognosis: The model.
        person: One row, in the units that were learnt with.
        level: Coverage asked of the band.
        seed: Of sampled orders.

    Raises:
        DataError: A covariate is not there or of another unit.
    """
    parts = person.parts
    rows = b"".join(np.asarray(c.values, dtype=np.float64).tobytes() for c in parts)
    inputs = (hashlib.sha256(rows).hexdigest(),)
    reason = prognosis.support.refuses(person)
    if reason is None and all(bool(np.isnan(c.values[0]).all()) for c in parts):
        reason = "insufficient support: nothing is known of this person"
    at = prognosis.at_days
    sources = modalities(prognosis.trained, person, np.array([prognosis.horizon_days]))
    said = _notes(prognosis.people, sources)
    if reason is not None:
        return Answer(Prediction.abstain("prognose", reason, inputs=inputs), modalities=sources, notes=said)
    survival = prognosis.trained.survival(person, at)
    band = band_around(survival, [one.survival(person, at) for one in prognosis.again], level=level)
    place = int(np.searchsorted(at, prognosis.horizon_days))
    risk = Risk(prognosis.event, float(1 - survival[0, place]), prognosis.horizon_days)
    sure = Uncertainty(
        "interval", PROMISE, low=float(1 - band.high[0, place]), high=float(1 - band.low[0, place]), level=level
    )
    missing = tuple(c.name for c in person.columns if np.isnan(c.values[0]))
    notes = (*((f"not known, and imputed: {', '.join(missing)}",) if missing else ()), *said)
    prediction = Prediction(
        value=risk, task="prognose", uncertainty=sure, model=prognosis.model, inputs=inputs, notes=notes
    )
    count = min(_NEAREST, max(_LEAST_NEAREST, len(prognosis.people) // 5), len(prognosis.people))
    return Answer(
        prediction, survival[0], band,
        drivers(prognosis.trained, person, prognosis.people, horizon_days=prognosis.horizon_days, seed=seed),
        prognosis.support.nearest(person, count), missing, sources, said,
    )  # fmt: skip


def _notes(people: Covariates, parts: Sequence[Modality]) -> tuple[str, ...]:
    """Return what to know of the modalities that a person lacks or that could not be used."""
    found = []
    present = {b.name: bool(b.present.all()) for b in people.blocks}
    for part in parts:
        if part.present and not part.used:
            found.append(
                f"{part.name} is of a scanner that was not learnt from, or that nobody named: what it adds is not "
                "known, and the modality was not used"
            )
        elif not part.present and present.get(part.name):
            found.append(
                f"{part.name} was never missing among those learnt from, and is missing here: what that means could "
                "not be learnt"
            )
    return tuple(found)
