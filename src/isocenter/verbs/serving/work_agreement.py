"""How far readers agree on the items that several of them have done, as a document."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from isocenter.core.errors import DataError, NotFound
from isocenter.evaluate.agreement import (
    ClassAgreement,
    ComparedCase,
    agree_on_classes,
    agree_on_masks,
    compare_masks,
)
from isocenter.evaluate.bootstrap import LEAST_PATIENTS, Interval
from isocenter.verbs.serving.confirmed_masks import ConfirmedMasks
from isocenter.viewer.ports import ImageItem, Library
from isocenter.viewer.work import WorkItem, WorkLabel

__all__ = ["agreement_of"]

_PRESENCE = ("nothing drawn", "something drawn")


def agreement_of(
    label: WorkLabel, items: Sequence[WorkItem], masks: ConfirmedMasks, library: Library, *, tolerance_mm: float
) -> dict[str, Any]:
    """Compare every two readers on every item that both have done.

    Args:
        label: What was labelled.
        items: Of this label.
        masks: That people confirmed.
        library: Of the images.
        tolerance_mm: Of the NSD.

    Returns:
        `pairs` of readers with their figures, and `disagreements`: items, the one with the least agreement first.
    """
    notes = [f"an interval needs {LEAST_PATIENTS} patients or more; without it, only the mean is given"]
    if label.kind == "class":
        return {**_classes(label, items), "label": label.name, "kind": label.kind, "notes": notes}
    lost: list[str] = []
    compared = _compared(label, items, masks, library, tolerance_mm, lost)
    pairs, disagreements = [], []
    for readers, found in sorted(compared.items()):
        cases = [case for case, _ in found]
        agreed = agree_on_masks(cases, tolerance_mm=tolerance_mm)
        presence = agree_on_classes(
            [c.name for c in cases], [c.patient for c in cases],
            ([_PRESENCE[s[0]] for _, s in found], [_PRESENCE[s[1]] for _, s in found]), _PRESENCE,
        )  # fmt: skip
        pairs.append(
            {
                "readers": list(readers),
                "images": len(cases),
                "patients": len({c.patient for c in cases}),
                "dice": _figure(agreed.mean_dice, agreed.dice),
                "nsd": None if agreed.mean_nsd is None else _figure(agreed.mean_nsd, agreed.nsd),
                "presence": _kappa(presence),
            }
        )
        disagreements += [_row(case, readers) for case in agreed.cases]
    disagreements.sort(key=lambda row: (row["dice"], row["item"], row["readers"]))
    if lost:
        notes.append(f"{len(lost)} masks could not be read, or lie on different grids, and are left out")
    return {
        "label": label.name,
        "kind": label.kind,
        "tolerance_mm": tolerance_mm,
        "pairs": pairs,
        "disagreements": disagreements,
        "notes": notes,
    }


def _compared(
    label: WorkLabel,
    items: Sequence[WorkItem],
    masks: ConfirmedMasks,
    library: Library,
    tolerance_mm: float,
    lost: list[str],
) -> dict[tuple[str, str], list[tuple[ComparedCase, tuple[int, int]]]]:
    """Return, of each pair of readers, their cases, and whether each drew something."""
    latest: dict[str, dict[str, str]] = {}
    for known in masks.items():  # oldest first: the latest of a reader stays
        if known.label == label.name:
            latest.setdefault(known.image, {})[known.reader] = known.id
    found: dict[tuple[str, str], list[tuple[ComparedCase, tuple[int, int]]]] = {}
    for item in items:
        of_reader = latest.get(item.image, {})
        if len(of_reader) < 2:
            continue
        arrays: dict[str, np.ndarray] = {}
        try:
            spacing = _spacing(library.image_item(item.image))
            for reader, mask_id in of_reader.items():
                mask = masks.mask(mask_id)
                arrays[reader] = mask.segment_array(mask.segments[0].number)
        except (DataError, NotFound):
            lost.append(item.id)
            continue
        for pair in combinations(sorted(arrays), 2):
            two = (arrays[pair[0]], arrays[pair[1]])
            try:
                case = compare_masks(item.id, item.patient_key, two, spacing_mm=spacing, tolerance_mm=tolerance_mm)
            except DataError:
                lost.append(item.id)
                continue
            found.setdefault(pair, []).append((case, (int(two[0].any()), int(two[1].any()))))
    return found


def _classes(label: WorkLabel, items: Sequence[WorkItem]) -> dict[str, Any]:
    said: dict[tuple[str, str], list[tuple[WorkItem, str, str]]] = {}
    for item in items:
        answers = {t.reader: t.answer for t in item.turns if t.state == "done" and t.answer in label.classes}
        for one, other in combinations(sorted(answers), 2):
            said.setdefault((one, other), []).append((item, answers[one], answers[other]))
    pairs, disagreements = [], []
    for readers, rows in sorted(said.items()):
        found = agree_on_classes(
            [i.id for i, _, _ in rows], [i.patient_key for i, _, _ in rows],
            ([a for _, a, _ in rows], [b for _, _, b in rows]), label.classes,
            weights="linear" if label.graded else "none",
        )  # fmt: skip
        table = {"classes": list(found.classes), "table": [list(row) for row in found.table]}
        patients = len({i.patient_key for i, _, _ in rows})
        pairs.append({"readers": list(readers), "images": len(rows), "patients": patients, **_kappa(found), **table})
        told = {i.id: (a, b) for i, a, b in rows}
        disagreements += [{"item": n, "readers": list(readers), "answers": list(told[n])} for n in found.differing]
    return {"pairs": pairs, "disagreements": disagreements}


def _row(case: ComparedCase, readers: tuple[str, str]) -> dict[str, Any]:
    return {
        "item": case.name,
        "readers": list(readers),
        "dice": round(case.dice, 4),
        "nsd": None if case.nsd is None else round(case.nsd, 4),
        "volumes_ml": None if case.volumes_ml is None else [round(v, 4) for v in case.volumes_ml],
    }


def _kappa(found: ClassAgreement) -> dict[str, Any]:
    kappa = None if found.kappa is None else _figure(found.kappa, found.interval)
    return {"kappa": kappa, "agreed": round(found.agreed, 4)}


def _figure(mean: float, interval: Interval | None) -> dict[str, Any]:
    if interval is None:
        return {"value": round(mean, 4), "low": None, "high": None}
    return {"value": round(interval.value, 4), "low": round(interval.low, 4), "high": round(interval.high, 4)}


def _spacing(image: ImageItem) -> tuple[float, ...] | None:
    """Return distances along (z, y, x), along (y, x) for a plane without depth, None where they are not known."""
    if image.spacing_mm is not None:
        return image.spacing_mm
    return image.pixel_spacing_mm if image.shape_zyx[0] == 1 else None
