"""What Metrics Reloaded says of the task and the data that were measured."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Literal

import numpy as np

from isocenter.evaluate.recommend import TaskData, recommend
from isocenter.verbs.evaluation.document import AdviceEntry
from isocenter.verbs.evaluation.system import System

__all__ = ["advise", "describe"]

_KINDS: dict[
    str,
    Literal[
        "segmentation", "classification", "findings", "survival", "report", "detection", "retrieval", "interactive"
    ],
] = {
    "masks": "segmentation",
    "classes": "classification",
    "findings": "findings",
    "survival": "survival",
    "reports": "report",
    "detections": "detection",
    "retrieval": "retrieval",
    "interactive": "interactive",
}
Advice = tuple[tuple[AdviceEntry, ...], tuple[AdviceEntry, ...]]


def advise(system: System, unanswered: int = 0) -> Advice:
    """Return the metrics that suit, and the pitfalls that these data run into.

    Args:
        system: What was measured.
        unanswered: Cases without an answer.
    """
    data = describe(system, unanswered)
    if data is None:
        return (), ()
    found = recommend(data)
    return (
        tuple(AdviceEntry(what=s.metric, why=s.why, source=s.source) for s in found.metrics),
        tuple(AdviceEntry(what=p.name, why=p.what, source=p.source) for p in found.pitfalls),
    )


def describe(system: System, unanswered: int = 0) -> TaskData | None:
    """Return what is known of the task and its data; None for numbers, of which nothing is recommended."""
    if system.kind not in _KINDS:
        return None
    cases, patients = len(system.cases) + unanswered, len(set(system.patients))
    unanswered += sum(bool(row.get("note")) for row in system.rows) if system.kind == "masks" else 0
    common = TaskData(_KINDS[system.kind], cases=cases, patients=patients, unanswered_cases=min(unanswered, cases))
    if system.kind == "masks":
        return _masks(system, common)
    if system.kind == "classes":
        truth = Counter(str(row["truth"]) for row in system.rows)
        rarest = min(truth.values()) / len(system.rows)
        return replace(common, classes=len(truth), prevalence=rarest, probabilities=bool(system.reliability))
    if system.kind == "findings":
        columns = [key for key in system.rows[0] if key.startswith("truth_")]
        shares = []
        for column in columns:
            known = [row[column] for row in system.rows if row[column] != ""]
            shares.append(sum(v == 1 for v in known) / max(len(known), 1))
        return replace(common, classes=len(columns), prevalence=min(shares), probabilities=True)
    if system.kind == "survival":
        happened = sum(row["event"] == 1 for row in system.rows) / len(system.rows)
        horizons = [float(key.removeprefix("risk_")) for key in system.rows[0] if key.startswith("risk_")]
        last = max(horizons) if horizons else None
        return replace(common, prevalence=happened, probabilities=bool(horizons), horizon_days=last)
    if system.kind == "detections":
        things = [int(str(row["things"])) for row in system.rows]
        filled = sum(count > 0 for count in things)
        return replace(
            common, classes=len(system.curves), prevalence=filled / len(things), several_per_image=max(things) > 1,
            empty_cases=filled < len(things),
        )  # fmt: skip
    return common


def _masks(system: System, common: TaskData) -> TaskData:
    structures = {measure.structure for measure in system.measures if measure.name == "Dice"} - {"mean of structures"}
    sizes = [int(str(row["reference voxels"])) for row in system.rows if "reference voxels" in row]
    there = [size for size in sizes if size]
    by_case: dict[str, int] = {}
    for row in system.rows:
        if "reference voxels" in row:
            name = str(row["case"])
            by_case[name] = by_case.get(name, 0) + int(str(row["reference voxels"]))
    filled = sum(size > 0 for size in by_case.values())
    return replace(
        common,
        classes=max(1, len(structures)),
        prevalence=filled / len(by_case) if by_case else None,
        structure_voxels=float(np.median(there)) if there else None,
        several_per_image=any(measure.name == "lesion F1" for measure in system.measures),
        empty_cases=filled < len(by_case),
        spacing_known=any(measure.name == "HD95" for measure in system.measures),
    )
