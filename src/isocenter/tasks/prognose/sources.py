"""What each modality is to a person's risk: whether it is there, attended to, and what the risk would be without it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from isocenter.models.covariates import Covariates
from isocenter.tasks.prognose.learners import SourceCurves, Trained
from isocenter.tasks.prognose.preparing import TABLE

__all__ = ["ATTENTION_CAVEAT", "Modality", "modalities"]

ATTENTION_CAVEAT = (
    "Attention says where the network looked, not what moved the risk: a modality can be looked at and change nothing, "
    "and the network also has a path past its attention. What the risk would be without a modality is computed."
)


@dataclass(frozen=True)
class Modality:
    """One modality of one person.

    Args:
        name: Which; the clinical table is one.
        present: Whether the person has it.
        used: Whether it could be used: from a scanner that was learnt from, where scanners count.
        attention: Share of the network's attention; None of models that have none.
        without: The risk by the horizon with it taken away; None where the person lacks it or has nothing else.
    """

    name: str
    present: bool
    used: bool
    attention: float | None
    without: float | None


def modalities(trained: Trained, person: Covariates, at_days: Float[np.ndarray, " q"]) -> tuple[Modality, ...]:
    """Return the modalities of one person.

    Args:
        trained: The model.
        person: One row.
        at_days: The day at which the risk is told, alone.
    """
    if not trained.preparation.blocks:
        return ()
    looked: dict[str, float] = {}
    if isinstance(trained.model, SourceCurves):
        weights = trained.model.attention(trained.matrix(person))[0]
        looked = {name: float(w) for (name, _), w in zip(trained.preparation.layout, weights, strict=True)}
    columns = () if trained.preparation.table is None else tuple(c.name for c in trained.preparation.table.codings)
    present = {} if not columns else {
        TABLE: any(not np.isnan(c.values[0]) for c in person.columns if c.name in columns)
    }  # fmt: skip
    blocks = {b.name: b for b in person.blocks}
    present |= {b.name: bool(blocks[b.name].present[0]) for b in trained.preparation.blocks}
    used = dict(present)
    used |= {b.name: bool(b.usable(blocks[b.name])[0]) for b in trained.preparation.blocks}
    found = []
    for name, there in present.items():
        without = None
        if used[name] and sum(used.values()) > 1:
            left = person.without(*(columns if name == TABLE else (name,)))
            without = float(1 - trained.survival(left, at_days)[0, 0])
        found.append(Modality(name, there, used[name], looked.get(name), without))
    return tuple(found)
