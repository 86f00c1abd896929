"""What a promptable segmenter reached after each act of pointing: Dice by click, effort, failures.

case,click,dice              a row for each case and click, counted from 1; also called prompt or interaction
case,patient,click,dice

Or two folders: of references, and of masks, with a folder for each click (1, 2, ... or click-1, click-2, ...).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from isocenter.core.errors import DataError
from isocenter.evaluate.clicks import SHOWN, clicks_to_dice, dice_area
from isocenter.evaluate.overlap import dice
from isocenter.verbs.entries import file_sha256
from isocenter.verbs.evaluation.document import CurveEntry
from isocenter.verbs.evaluation.masks import pairs_of_folders, read_pair
from isocenter.verbs.evaluation.scores import Cases
from isocenter.verbs.evaluation.system import System, mean_measure
from isocenter.verbs.evaluation.tables import Table, patients_for, several

__all__ = ["click_folders", "clicks_of_table", "interactive_folders", "interactive_system"]

GOALS = (0.8, 0.85, 0.9)
"""Dice to which clicks are counted."""
CLICK_COLUMNS = ("click", "prompt", "interaction")
_NUMBERED = re.compile(r"(?:.*\D)?0*([1-9]\d*)")


def clicks_of_table(table: Table, patients: Table | None) -> System:
    """Read a table of Dice by click and return the system.

    Raises:
        DataError: A column is missing, a click is no whole number from 1 on, stands twice or is lacking between two
            others, a Dice lies outside 0 to 1, or a case is of two patients.
    """
    column = next(c for c in CLICK_COLUMNS if c in table.columns)
    names = table.names("case")
    clicks = table.numbers(column, low=1, what="number of a click")
    values = table.numbers("dice", low=0, high=1, what="Dice")
    known: dict[str, dict[int, float]] = {}
    for row, (name, click, value) in enumerate(zip(names, clicks, values, strict=True)):
        if click != int(click):
            raise DataError(f"line {table.line(row)}: {column} must be a whole number", source=table.file)
        if int(click) in known.setdefault(name, {}):
            raise DataError(f"line {table.line(row)} tells a {column} of its case again", source=table.file)
        known[name][int(click)] = value
    cases = sorted(known)
    for number, name in enumerate(cases, start=1):
        lacking = sorted(set(range(1, max(known[name]) + 1)) - set(known[name]))
        if lacking:
            raise DataError(
                f"case {number} (in order of names) lacks {column} {lacking[0]}: every one up to its last is needed",
                source=table.file,
            )
    who, stated, notes = _patients(table, names, cases, patients)
    rows = [[known[name][k] for k in sorted(known[name])] for name in cases]
    return interactive_system(Cases(tuple(cases), tuple(who), stated, tuple(notes)), rows)


def _patients(
    table: Table, names: Sequence[str], cases: Sequence[str], patients: Table | None
) -> tuple[list[str], bool, tuple[str, ...]]:
    if "patient" not in table.columns or patients is not None:
        return patients_for(cases, patients)
    given: dict[str, str] = {}
    for row, (name, patient) in enumerate(zip(names, table.names("patient"), strict=True)):
        if given.setdefault(name, patient) != patient:
            raise DataError(f"line {table.line(row)} gives its case to another patient", source=table.file)
    who = [given[name] for name in cases]
    return who, True, several(who)


def click_folders(folder: Path) -> dict[int, Path] | None:
    """Return the folders of masks by click; None where the folder is none of such folders.

    Raises:
        DataError: Two are of one click, or one between two others is lacking.
    """
    inside = [p for p in sorted(folder.iterdir()) if not p.name.startswith(".")]
    matched = [_NUMBERED.fullmatch(p.name) for p in inside]
    if not inside or not all(p.is_dir() for p in inside) or not all(matched):
        return None
    found: dict[int, Path] = {}
    for path, match in zip(inside, matched, strict=True):
        click = int(match[1]) if match else 0
        if click in found:
            raise DataError(f"{path.name} and {found[click].name} are both of click {click}", source=folder)
        found[click] = path
    lacking = sorted(set(range(1, max(found) + 1)) - set(found))
    if lacking:
        raise DataError(f"has no folder of click {lacking[0]}; all from 1 on are needed", source=folder)
    return dict(sorted(found.items()))


def interactive_folders(
    clicks: Mapping[int, Path],
    references: Path,
    missing: Literal["fail", "count-as-zero"],
    patients: Table | None,
    tell: Callable[[str, float], None],
) -> System:
    """Measure a folder of masks for each click and return the system.

    Raises:
        DataError: A side lacks a case and that was not allowed, a reference is empty, or a file can't be read.
        GeometryError: Two masks lie on different grids.
    """
    table: dict[str, list[float]] = {}
    notes: dict[str, None] = {}
    digest = hashlib.sha256()
    for click, folder in clicks.items():
        tell(f"masks of click {click}", (click - 1) / len(clicks))
        pairs, more = pairs_of_folders(folder, references, None, missing)
        notes |= {f"click {click}: {note}": None for note in more}
        for pair in pairs:
            reference, found, _, _ = read_pair(pair)
            labels = [int(v) for v in np.unique(reference) if v]
            if not labels:
                raise DataError("is empty: there is nothing to point at; leave the case out", source=pair.reference)
            table.setdefault(pair.case, []).append(
                float(np.mean([dice(reference == label, found == label) for label in labels]))
            )
            for file in (pair.prediction, pair.reference):
                digest.update(b"" if file is None else file_sha256(file).encode())
    cases = sorted(table)
    who, stated, said = patients_for(cases, patients)
    made = interactive_system(
        Cases(tuple(cases), tuple(who), stated, (*said, *notes)), [table[name] for name in cases]
    )  # fmt: skip
    return System(**{**vars(made), "inputs": {"masks": digest.hexdigest()}})


def interactive_system(cases: Cases, values: Sequence[Sequence[float]]) -> System:
    """Return the system of a Dice after each click of each case.

    Args:
        cases: Which cases.
        values: Dice of each after its first, second, ... click; where they are fewer than those of others, the last
            one goes on, as where a user is content.
    """
    budget = max(len(row) for row in values)
    early = sum(len(row) < budget for row in values)
    each: Float[np.ndarray, "cases clicks"] = np.array(
        [[*row, *[row[-1]] * (budget - len(row))] for row in values], dtype=np.float64
    )
    after = [k for k in SHOWN if k <= budget]
    after += [] if budget in after else [budget]
    # The last is what is reached in the end, so groups and comparisons look at it first.
    measures = [mean_measure(f"Dice at {_clicks(k)}", "", each[:, k - 1]) for k in (after[-1], *after[:-1])]
    areas = [dice_area(tuple(row)) for row in each.tolist()]
    measures.append(mean_measure("AUC of Dice over clicks", "", areas))
    counts: dict[float, list[int | None]] = {g: [clicks_to_dice(tuple(r), g) for r in each.tolist()] for g in GOALS}
    measures += [
        mean_measure(f"NoC@{goal:g}", "", [float(n or budget) for n in found], higher_is_better=False)
        for goal, found in counts.items()
    ]
    measures += [
        mean_measure(f"failures at {goal:g}", "", [float(n is None) for n in found], higher_is_better=False)
        for goal, found in counts.items()
    ]
    rows = tuple(
        {"number": n, "case": case, "patient": patient}
        | {f"Dice at {_clicks(k)}": float(each[n - 1, k - 1]) for k in range(1, budget + 1)}
        | {"AUC": areas[n - 1]}
        | {f"NoC@{g:g}": found[n - 1] for g, found in counts.items()}
        for n, (case, patient) in enumerate(zip(cases.names, cases.patients, strict=True), start=1)
    )
    notes = [
        *cases.notes,
        f"NoC@q counts the clicks until the Dice first reached q; a case that never does within {_clicks(budget)} "
        f"counts as {budget}, and is a failure at q; the AUC is by trapezoids, divided by its span: 0 to 1",
        "figures are of the user who clicked, simulated or not: another rule or person gives others",
    ]
    if early:
        notes.append(
            f"{early} of {len(values)} cases end before click {budget}: their last Dice goes on, as where a user is "
            "content"
        )
    mean = each.mean(axis=0)
    return System(
        "interactive", cases.names, cases.patients, cases.known, tuple(measures), rows, 1 - each[:, -1],
        notes=tuple(notes),
        curves=(
            CurveEntry(
                title="Dice", name="mean of cases", x_label="clicks", y_label="Dice",
                x=tuple(float(k) for k in range(1, budget + 1)), y=tuple(round(float(v), 6) for v in mean), x_least=1.0,
            ),
        ) if budget > 1 else (),
    )  # fmt: skip


def _clicks(count: int) -> str:
    return "1 click" if count == 1 else f"{count} clicks"
