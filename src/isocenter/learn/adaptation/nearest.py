"""The index of confirmed cases that a task keeps, and what its nearest cases are worth on held-out ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from isocenter.core.errors import DataError
from isocenter.data.labelled import Event, Target
from isocenter.data.labelled.cases import Kind
from isocenter.evaluate.bootstrap import bootstrap_mean
from isocenter.models.learnt.neighbours import MOST_CASES, CaseIndex, distances, opaque

__all__ = ["NEAREST", "RetrievalRow", "gallery_of", "index_of", "label_in_words", "retrieval_of", "retrieve_held_out"]

NEAREST = 5
"""Cases that are looked at."""
_MOST_QUERIES = 400
_MEASURES: Mapping[str, str] = {
    "classify": "share of the nearest cases that are of the same class",
    "multilabel": "findings that a case and a near one share, of those that either has (1 where neither has any)",
    "regress": "difference of the numbers of a case and a near one; lower is better",
}


@dataclass(frozen=True)
class RetrievalRow:
    """What the nearest cases of a held-out one are worth.

    Args:
        patient: Whose it is.
        near: Agreement with its nearest cases, mean.
        chance: With all cases that the network learnt from, mean.
    """

    patient: str
    near: float
    chance: float


def gallery_of(learnt: Sequence[int]) -> tuple[int, ...]:
    """Return the cases of an index: all that some network learnt from, or many spread over them."""
    every = sorted(set(learnt))
    if len(every) <= MOST_CASES:
        return tuple(every)
    return tuple(every[i] for i in np.linspace(0, len(every) - 1, MOST_CASES).round().astype(int))


def label_in_words(kind: Kind, classes: Sequence[str], target: Target) -> str:
    """Return what was confirmed of a case.

    Example:
        >>> label_in_words("multilabel", ("mass", "effusion", "edema"), (1, 0, -1))
        'mass; edema not known'
    """
    if isinstance(target, Event):
        return f"event after {target.days:g} days" if target.happened else f"no event within {target.days:g} days"
    if isinstance(target, tuple):
        there = [n for n, v in zip(classes, target, strict=True) if v == 1]
        unknown = [n for n, v in zip(classes, target, strict=True) if v < 0]
        known = [n for n, v in zip(classes, target, strict=True) if v >= 0]
        said = ", ".join(there) or (f"no {known[0]}" if len(known) == 1 else f"none of {len(known)} findings")
        return said + (f"; {', '.join(unknown)} not known" if unknown else "")
    if kind == "classify" and isinstance(target, int):
        return classes[target]
    return f"{target:g}" if isinstance(target, int | float) else ""


def _agreement(kind: Kind, one: Target, other: Target) -> float:
    if kind == "multilabel" and isinstance(one, tuple) and isinstance(other, tuple):
        pairs = [(a, b) for a, b in zip(one, other, strict=True) if a >= 0 and b >= 0]
        either = sum(a == 1 or b == 1 for a, b in pairs)
        return sum(a == b == 1 for a, b in pairs) / either if either else 1.0
    if kind == "regress" and isinstance(one, int | float) and isinstance(other, int | float):
        return abs(float(one) - float(other))
    return float(one == other)


def index_of(
    kind: Kind,
    classes: Sequence[str],
    cases: Sequence[tuple[str, Target]],
    embeddings: Sequence[Float[np.ndarray, "n width"]],
) -> CaseIndex:
    """Return an index.

    Args:
        kind: Of the labels.
        classes: Their names.
        cases: sha256 of the image, and label, of each.
        embeddings: By each network, of the same cases.
    """
    labels = tuple(label_in_words(kind, classes, target) for _, target in cases)
    return CaseIndex(tuple(opaque(sha) for sha, _ in cases), labels, tuple(embeddings))


def retrieve_held_out(
    kind: Kind,
    gallery: Sequence[Target],
    seen: Float[np.ndarray, "n width"],
    queries: Sequence[tuple[str, Target]],
    asked: Float[np.ndarray, "m width"],
) -> list[RetrievalRow]:
    """Return what the nearest of the cases that a network learnt from are worth for cases that it never saw.

    Args:
        kind: Of the labels.
        gallery: Labels of the cases that it learnt from.
        seen: Their embeddings.
        queries: Patient and label of held-out cases; of many, some spread over all are asked.
        asked: Their embeddings.
    """
    if kind not in _MEASURES or len(gallery) <= NEAREST:
        return []
    rows = []
    for place in np.linspace(0, len(queries) - 1, min(len(queries), _MOST_QUERIES)).round().astype(int):
        patient, target = queries[place]
        same = np.array([_agreement(kind, target, other) for other in gallery])
        near = np.argsort(distances(seen, asked[place]), kind="stable")[:NEAREST]
        rows.append(RetrievalRow(patient, float(same[near].mean()), float(same.mean())))
    return rows


def retrieval_of(kind: Kind, rows: Sequence[RetrievalRow]) -> dict[str, object] | None:
    """Return what near cases are worth, JSON-ready: beside chance, with an interval over patients; None for no rows."""
    if not rows:
        return None
    near, chance = [row.near for row in rows], [row.chance for row in rows]
    found: dict[str, object] = {
        "measure": _MEASURES[kind], "nearest": NEAREST, "value": float(np.mean(near)),
        "chance": float(np.mean(chance)), "cases": len(rows), "low": None, "high": None,
    }  # fmt: skip
    try:
        interval = bootstrap_mean(near, [row.patient for row in rows])
    except DataError:
        return found
    return {**found, "low": interval.low, "high": interval.high}
