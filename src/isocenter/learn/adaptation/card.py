"""The cards of learnt networks, and the table of held-out cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from isocenter.data.labelled import Event, LabelledSet
from isocenter.learn.adaptation.promise import (
    joined,
    mask_figures,
    mask_promise,
    vector_figures,
    vector_promise,
)
from isocenter.learn.adaptation.rules import Wish
from isocenter.learn.adaptation.run import AdaptedSet, Member

__all__ = ["figures_of", "held_out_rows", "network_card", "promise_of", "way_of"]


def way_of(labelled: LabelledSet, found: AdaptedSet) -> str:
    """Return in words how cases were held out."""
    count = len(found.members)
    by = "by patient" if labelled.patients_known else "by case (patients are not known)"
    if any(case.split for case in labelled.cases):
        return f"the set's own test part, {count} networks together" if count > 1 else "the set's own test part"
    return f"{count}-fold cross-validation {by}"


def figures_of(labelled: LabelledSet, found: AdaptedSet, way: str) -> list[dict[str, object]]:
    """Return the held-out figures as fields of `CardMetric`."""
    if labelled.kind == "segment":
        return mask_figures(found.masks, labelled.classes, way)
    return vector_figures(labelled.kind, joined(found.vectors), labelled.classes, way)


def promise_of(labelled: LabelledSet, found: AdaptedSet, wish: Wish | None = None) -> dict[str, object]:
    """Return what held-out cases promise, in the form of a task's `Promise`.

    Args:
        labelled: The set.
        found: What was learnt.
        wish: What is asked of the promises; None leaves it to the number of cases.

    Raises:
        DataError: A set that was asked for can't be promised.
    """
    wish = replace(wish or Wish(), keys=dict(found.sources))
    if labelled.kind == "segment":
        return mask_promise(found.masks, found.spoilt, wish, gated=found.gate is not None)
    return vector_promise(labelled.kind, joined(found.vectors), wish, gated=found.gate is not None)


def held_out_rows(labelled: LabelledSet, found: AdaptedSet) -> Sequence[Mapping[str, object]]:
    """Return the table of held-out cases: the label, and what its network answered."""
    rows: list[Mapping[str, object]] = []
    for mask in found.masks:
        overlaps = {f"dice {name}": value for name, value in zip(labelled.classes, mask.dice, strict=True)}
        rows.append({"case": mask.name, "network": mask.network, **overlaps})
    for row in found.vectors:
        target = row.target
        names = labelled.classes if labelled.kind in ("classify", "multilabel") else ("answer",)
        said: dict[str, object] = {f"answer {n}": v for n, v in zip(names, row.answer, strict=True)}
        if isinstance(target, Event):
            label: dict[str, object] = {"days": target.days, "event": int(target.happened)}
        elif isinstance(target, tuple):
            label = {f"label {n}": v for n, v in zip(names, target, strict=True)}
        else:
            label = {"label": target}
        rows.append({"case": row.name, "network": row.network, **label, **said})
    return rows


def network_card(
    name: str,
    labelled: LabelledSet,
    found: AdaptedSet,
    member: Member,
    *,
    figures: Sequence[Mapping[str, object]],
    licence: str,
    command: str,
    source: str = "this installation",
) -> dict[str, object]:
    """Return the fields of a `WeightsCard` for one network.

    Args:
        name: Of the weights.
        labelled: The set.
        found: What was learnt.
        member: The network.
        figures: Held-out figures of all networks.
        licence: Of the weights.
        command: What made it.
        source: Where the set comes from.
    """
    part, plan = member.part, found.plan
    own_test = any(case.split for case in labelled.cases)
    limits = [
        "The figures are those of all networks, each on cases that it never saw; the task is their ensemble, which was "
        "not measured itself."
        if len(found.members) > 1 and not own_test
        else "The figures are of cases that it never saw; what answers promise was fitted on these same cases.",
        "Nothing is known of other devices, places or people than those of the set.",
    ]
    if not labelled.patients_known:
        limits.append(
            "The set does not say who is whose: each case counted as a patient. If not, figures are too good."
        )
    if found.failed:
        limits.append(f"{len(found.failed)} cases could not be read and were left out.")
    return {
        "name": name,
        "version": "1",
        "title": f"{labelled.name}, network {part.number + 1}",
        "licence": licence,
        "network": plan.network.as_card(),
        "preparation": plan.preparation.as_card(),
        "intended_use": f"{', '.join(labelled.classes[:8])} in images like those of {labelled.name}. Research.",
        "not_for": "Diagnosis on its own; images of another kind, device or population than those it learnt from.",
        "training_data": [
            {
                "name": labelled.name,
                "licence": labelled.licence or "not stated by the set",
                "source": source,
                "cases": len(part.learnt) + len(part.validation),
                "note": f"{len(part.validation)} of them chose the best step.",
            }
        ],
        "training": {
            "command": command,
            "settings": found.settings.model_dump(mode="json"),
            "steps": member.learnt.steps,
            "best_step": member.learnt.step,
            "validation": member.learnt.validation,
            "seconds": round(member.learnt.seconds, 1),
            "learnt_on": list(member.learnt.where),
        },
        "metrics": [dict(figure) for figure in figures],
        "limitations": limits,
    }
