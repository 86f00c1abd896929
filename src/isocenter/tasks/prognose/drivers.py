"""What moves a person's risk: exact for Cox, Shapley values by sampling for every other model.

Both say how the model comes from people like those that it learnt from to this person; neither says that changing a
covariate would change what happens.

Source:
    Štrumbelj and Kononenko, Knowledge and Information Systems 2014 (Shapley values by sampling of orders).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from isocenter.models.covariates import Block, Covariate, Covariates
from isocenter.tasks.prognose.competing import CauseSpecific
from isocenter.tasks.prognose.cox import CoxModel
from isocenter.tasks.prognose.fine_gray import FineGray
from isocenter.tasks.prognose.learners import Trained

__all__ = ["Driver", "drivers"]

_EDGE = 1e-6


@dataclass(frozen=True)
class Driver:
    """What one covariate adds.

    Args:
        covariate: Its name.
        adds: To the logarithm of the hazard ratio (of Cox), or to log(-log) of the survival at the horizon: above 0 the
            event comes sooner.
        exact: Whether nothing was sampled.
    """

    covariate: str
    adds: float
    exact: bool


def drivers(
    trained: Trained, person: Covariates, others: Covariates, *, horizon_days: float, orders: int = 64, seed: int = 0
) -> tuple[Driver, ...]:
    """Return what each covariate adds to a person's risk, the largest first.

    Args:
        trained: The model.
        person: One row.
        others: People that the model learnt from: what a covariate is when it is not known.
        horizon_days: Day at which networks and forests are asked.
        orders: Orders that are sampled; covariates come in one after another.
        seed: Decides them.
    """
    if isinstance(trained.model, CoxModel | CauseSpecific | FineGray):
        x = trained.preparation.matrix(person)
        parts = trained.model.contributions(x)[0]
        sums: dict[str, float] = {}
        for (name, _), value in zip(trained.preparation.features, parts, strict=True):
            sums[name] = sums.get(name, 0.0) + float(value)
        found = [Driver(name, value, True) for name, value in sums.items()]
    else:
        found = _sampled(trained, person, others, horizon_days, (orders, seed))
    return tuple(sorted(found, key=lambda d: -abs(d.adds)))


def _sampled(
    trained: Trained, person: Covariates, others: Covariates, horizon_days: float, drawn: tuple[int, int]
) -> list[Driver]:
    orders, seed = drawn
    rng = np.random.default_rng(seed)
    names = list(trained.preparation.names)
    count = len(names)
    base = np.repeat(rng.integers(0, len(others), orders), count + 1)
    place = np.stack([rng.permutation(count) for _ in range(orders)])  # of each covariate in each order
    step = np.tile(np.arange(count + 1), orders)
    columns, blocks = [], []
    own, rest = ({c.name: c for c in people.columns} for people in (person, others))
    own_blocks, rest_blocks = ({b.name: b for b in people.blocks} for people in (person, others))
    for number, name in enumerate(names):
        known = step > np.repeat(place[:, number], count + 1)
        if name in rest_blocks:
            blocks.append(_mixed(own_blocks[name], rest_blocks[name].rows(base), known))
            continue
        values = _as_levels(own[name], rest[name].levels)
        columns.append(
            Covariate(name, np.where(known, values[0], rest[name].values[base]), rest[name].unit, rest[name].levels)
        )
    survival = trained.survival(Covariates(tuple(columns), tuple(blocks)), np.array([horizon_days]))[:, 0]
    score = np.log(-np.log(np.clip(survival, _EDGE, 1 - _EDGE))).reshape(orders, count + 1)
    gains = np.diff(score, axis=1)
    return [
        Driver(name, float(np.take_along_axis(gains, place[:, [number]], axis=1).mean()), False)
        for number, name in enumerate(names)
    ]


def _mixed(own: Block, rest: Block, known: Bool[np.ndarray, " n"]) -> Block:
    """Return a block that is a person's own where it is known, and another's elsewhere."""
    batches: tuple[str, ...] = ()
    if rest.batches:
        batches = tuple(own.batches[0] if k else b for k, b in zip(known, rest.batches, strict=True))
    return replace(rest, values=np.where(known[:, None], own.values[0], rest.values), batches=batches)


def _as_levels(column: Covariate, levels: tuple[str, ...]) -> Float[np.ndarray, " n"]:
    """Return the places of words among other levels; NaN for words that are not among them."""
    if not levels:
        return column.values
    place = {level: float(n) for n, level in enumerate(levels)}
    return np.array([np.nan if np.isnan(v) else place.get(column.levels[int(v)], np.nan) for v in column.values])
