"""Why a learnt task answered as it did: where its networks looked, which confirmed cases are near, what drove it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from torch import nn

from isocenter.core import Code, EvidenceMap, Explanation, Feature, Image, NoSuchEvidence
from isocenter.models.learnt import Prepared
from isocenter.models.learnt.evidence import DEFAULT, METHODS, Target, evidence_maps, hidden, peak_region
from isocenter.models.learnt.features import embeddings_of
from isocenter.models.learnt.neighbours import CaseIndex, opaque
from isocenter.models.learnt.network import VectorNet
from isocenter.safety.combination import Combination

__all__ = ["Known", "Looked", "combined_features", "explained"]

NEAREST = 5
MOST_MAPS = 4
"""Findings of an answer that get a map, most probable first."""
POSSIBLE = 0.1
"""Findings below this probability get no map, unless all are; where nothing is promised of them."""

Says = Callable[[Float[np.ndarray, "channel *space"]], Float[np.ndarray, "networks outputs"]]


@dataclass(frozen=True, eq=False)
class Known:
    """What a task knows of the cases that it learnt from.

    Args:
        index: The cases; None where none were kept.
        retrieval: What near ones are worth on held-out cases; None where that was not measured.
        combination: How an answer is joined with a clinical table; None where none was learnt with.
    """

    index: CaseIndex | None = None
    retrieval: Mapping[str, object] | None = None
    combination: Combination | None = None


@dataclass(frozen=True, eq=False)
class Looked:
    """An answer, as its task gave it.

    Args:
        nets: Its networks.
        image: The image.
        prepared: As the networks saw it.
        mirror: Axes along which they also looked at the mirror image.
        codes: Of findings or classes; one for a number or an event.
        exclusive: Whether they are classes of which one is true.
        chances: Whether the task gives probabilities; else a number.
        values: The answer: of each code its probability, or the number.
        members: Codes of the set that the task promises; of findings, those whose own set holds "Present"; None where
            nothing is promised.
        says: What each network says of a prepared image, in the unit of `values`.
    """

    nets: Sequence[nn.Module]
    image: Image
    prepared: Prepared
    mirror: Sequence[bool]
    codes: tuple[Code, ...]
    exclusive: bool
    chances: bool
    values: Float[np.ndarray, " outputs"]
    members: tuple[Code, ...] | None
    says: Says


def explained(looked: Looked, known: Known) -> Explanation:
    """Return the evidence of an answer; the same for the same image and weights, and never a part of the answer.

    Args:
        looked: The answer.
        known: What is known of the cases that the task learnt from.
    """
    maps: list[EvidenceMap] = []
    features: list[Feature] = []
    missing: list[NoSuchEvidence] = []
    each = looked.says(looked.prepared.array)
    outputs = _which(looked)
    targets = [Target(output, looked.exclusive) for output in outputs]
    every = evidence_maps(looked.nets, looked.prepared.array, targets, mirror=looked.mirror)
    for output, found in zip(outputs, every, strict=True):
        code = looked.codes[output]
        mean = found.mean(0)
        if not mean.any():
            missing.append(NoSuchEvidence(f"map of {code.meaning}", "no part of the image speaks for it by itself"))
            features += _networks(looked, code, each[:, output], found)
            continue
        maps.append(EvidenceMap(code, _on_voxels(looked.prepared, mean), looked.image.geometry, METHODS[DEFAULT]))
        features.append(_without(looked, output, float(each[:, output].mean()), peak_region(mean)))
        features += _networks(looked, code, each[:, output], found)
    left_out = [looked.codes[i].meaning for i in _possible(looked) if i not in outputs]
    if left_out:
        missing.append(NoSuchEvidence(f"map of {', '.join(left_out)}", f"maps are made of the {MOST_MAPS} likeliest"))
    if known.index is None:
        why = "this task keeps no index of cases (a folder from before there was one, or one made without)"
        return Explanation(tuple(maps), (), tuple(features), (*missing, NoSuchEvidence("nearest confirmed cases", why)))
    seen = [embeddings_of(n, [looked.prepared.array])[0] for n in looked.nets if isinstance(n, VectorNet)]
    own = opaque(looked.image.sha256)
    near = tuple(
        replace(n, label=f"{n.label}; this very image, which the task learnt from") if n.case == own else n
        for n in known.index.nearest(seen, NEAREST)
    )
    return Explanation(tuple(maps), near, tuple(features), tuple(missing), _worth(known))


def _which(looked: Looked) -> list[int]:
    """Return the outputs that get a map: the first of those that are possible."""
    return _possible(looked)[:MOST_MAPS]


def _possible(looked: Looked) -> list[int]:
    """Return the members of the set and the most probable, or possible findings, likeliest first."""
    if not looked.chances:
        return [0]
    order = [int(i) for i in np.argsort(-looked.values, kind="stable")]
    if looked.members is None and not looked.exclusive:
        return [i for n, i in enumerate(order) if n == 0 or looked.values[i] >= POSSIBLE]
    members = {code.value for code in looked.members or ()}
    return [i for n, i in enumerate(order) if n == 0 or looked.codes[i].value in members]


def _on_voxels(prepared: Prepared, values: Float[np.ndarray, "*space"]) -> Float[np.ndarray, "z y x"]:
    """Bring a map to the image's own voxels, the strongest 1."""
    back = np.clip(prepared.back(values[None].astype(np.float32))[0].astype(np.float64), 0, None)
    return np.asarray(back / back.max(), dtype=np.float32)


def _without(looked: Looked, output: int, each: float, region: Bool[np.ndarray, "*space"]) -> Feature:
    """Say what becomes of the networks' mean, `each`, when the region is replaced by a blurred copy."""
    code = looked.codes[output]
    other = float(looked.says(hidden(looked.prepared.array, region))[:, output].mean())
    what = (
        f"the networks' mean probability of {code.meaning}"
        if looked.chances
        else f"the networks' mean of {code.meaning}"
    )
    return Feature(
        code,
        f"With the strongest region blurred, {what} is {_figure(other)} instead of {_figure(each)}.",
        {"with": each, "without": other, "region share": float(region.mean())},
    )


def _networks(
    looked: Looked, code: Code, each: Float[np.ndarray, " networks"], maps: Float[np.ndarray, "networks *space"]
) -> list[Feature]:
    if len(each) < 2:
        return []
    numbers = {f"network {n + 1}": float(v) for n, v in enumerate(each)}
    text = f"{len(each)} networks say {_figure(float(each.min()))} to {_figure(float(each.max()))}"
    agreement = _correlation(maps)
    if agreement is not None:
        numbers["map correlation"] = agreement
        text += f"; their maps correlate by {agreement:.2f} on average"
    return [Feature(code, f"{text}.", numbers)]


def _correlation(maps: Float[np.ndarray, "networks *space"]) -> float | None:
    """Return the mean correlation of pairs of maps; None where some map is the same everywhere."""
    flat = maps.reshape(len(maps), -1)
    if np.any(np.ptp(flat, axis=1) <= 0):
        return None
    table = np.corrcoef(flat)
    return float(table[np.triu_indices(len(maps), 1)].mean())


def _figure(value: float) -> str:
    return f"{value:.3g}"


def _worth(known: Known) -> str:
    found = known.retrieval
    if found is None:
        return "What near cases are worth was not measured for this kind of label, or with too few cases."
    low, high = found.get("low"), found.get("high")
    interval = "" if low is None or high is None else f" ({float(str(low)):.2f} to {float(str(high)):.2f})"
    return (
        f"On {found['cases']} held-out cases, of the {found['nearest']} nearest: {found['measure']}: "
        f"{float(str(found['value'])):.2f}{interval}; of all cases, which is chance: {float(str(found['chance'])):.2f}."
    )


def combined_features(
    rule: Combination, codes: Sequence[Code], p: Float[np.ndarray, " outputs"], row: Mapping[str, str]
) -> tuple[Feature, ...]:
    """Return what an answer becomes with a row of a clinical table, and which part of it does how much.

    Args:
        rule: The combination.
        codes: Of findings or classes.
        p: Their probabilities, of the image alone.
        row: Cells by heading.

    Raises:
        DataError: A column is missing, or a cell is not what it holds.
    """
    x, absent = rule.encode(row)
    joined, parts = rule.apply(p, x), rule.parts(p, x)
    without = f" Not given, taken as the mean: {', '.join(absent)}." if absent else ""
    worth = (
        f"On {rule.cases} held-out cases, cross-validated: AUROC {rule.auroc_image:.2f} for the image alone, "
        f"{rule.auroc_both:.2f} with the table; log loss {rule.loss_image:.3f} and {rule.loss_both:.3f}."
    )
    found = []
    for code, alone, both, part in zip(codes, p, joined, parts, strict=True):
        told = ", ".join(f"{name} {value:+.2f}" for name, value in part.items())
        found.append(
            Feature(
                code,
                f"With the clinical table the probability of {code.meaning} is {_figure(float(both))} instead of "
                f"{_figure(float(alone))}. In log-odds: {told}.{without} {worth} The answer and what it promises are "
                "of the image alone.",
                {"image alone": float(alone), "with the table": float(both), **part},
            )
        )
    return tuple(found)
