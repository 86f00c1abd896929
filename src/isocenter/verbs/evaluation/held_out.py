"""The held-out cases in the folder of a learnt task, as a system: what its networks said of cases they never saw."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from isocenter.core.errors import DataError
from isocenter.safety.calibration import Temperature
from isocenter.verbs.entries import file_sha256
from isocenter.verbs.evaluation.scores import Cases, classes_system, findings_system, numbers_system
from isocenter.verbs.evaluation.survival import survival_system
from isocenter.verbs.evaluation.system import System, mean_measure
from isocenter.verbs.evaluation.tables import Table, read_table
from isocenter.verbs.learnt_folder import HELD_OUT, LearntFile

__all__ = ["held_out_system"]

_NOTE = (
    "figures are of held-out cases, each answered by networks that never saw its patient; the task answers with the "
    "mean of all networks, which was not measured itself; whose the cases are is not in the table: each counts as one"
)


def held_out_system(folder: Path, document: LearntFile) -> System:
    """Return the system of a learnt task's held-out cases.

    Args:
        folder: Of the task.
        document: What its task.json holds.

    Raises:
        DataError: There are none, the table is not what adapt writes, or one class alone was held out.
    """
    file = folder / HELD_OUT
    table = read_table(file)
    rows = _by_case(table)
    names = tuple(rows)
    cases = Cases(names, names, False, (_NOTE,))
    made = _system(cases, document, list(rows.values()), table)
    return System(**{**vars(made), "inputs": {"held-out.csv": file_sha256(file)}})


def _by_case(table: Table) -> dict[str, dict[str, float]]:
    """Return the mean of each case's rows: several networks may have answered one."""
    found: dict[str, list[dict[str, float]]] = {}
    for row in table.rows:
        values = {k: _number(v) for k, v in row.items() if k not in ("case", "network")}
        found.setdefault(row.get("case", ""), []).append(values)
    return {
        name: {key: float(np.mean([r[key] for r in some])) for key in some[0]} for name, some in found.items() if name
    }


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _system(cases: Cases, document: LearntFile, rows: Sequence[Mapping[str, float]], table: Table) -> System:
    def column(name: str) -> np.ndarray:
        if name not in rows[0]:
            raise DataError(f"has no column {name!r}; adapt again", source=table.file)
        return np.array([row[name] for row in rows])

    classes = document.classes
    if document.kind == "segment":
        each = [column(f"dice {name}") for name in classes]
        with_some = np.where(np.isnan(each), 0, each).sum(axis=0) / np.maximum((~np.isnan(each)).sum(axis=0), 1)
        mean = np.where(np.isnan(each).all(axis=0), np.nan, with_some)
        measures = [mean_measure("Dice", "mean of structures", mean)] if len(classes) > 1 else []
        measures += [mean_measure("Dice", name, values) for name, values in zip(classes, each, strict=True)]
        table_rows = [
            {"number": n, "case": case, **row}
            for n, (case, row) in enumerate(zip(cases.names, rows, strict=True), start=1)
        ]
        return System(
            "masks", cases.names, cases.patients, False, tuple(measures), tuple(table_rows), 1 - np.nan_to_num(mean),
            notes=cases.notes,
        )  # fmt: skip
    # The table holds what networks said; the task says it after the temperature that its promise keeps.
    temperature = Temperature(document.promise.temperature)
    if document.kind == "classify":
        p = np.clip(np.stack([column(f"answer {name}") for name in classes], axis=1), 1e-7, 1)
        return classes_system(cases, column("label").astype(np.int64), temperature.apply(np.log(p)), classes)
    if document.kind == "multilabel":
        truth = np.stack([column(f"label {name}") for name in classes], axis=1).astype(np.int64)
        p = np.clip(np.stack([column(f"answer {name}") for name in classes], axis=1), 1e-7, 1 - 1e-7)
        return findings_system(cases, truth, 1 / (1 + np.exp(-np.log(p / (1 - p)) / temperature.value)), classes)
    if document.kind == "regress":
        return numbers_system(cases, column("label"), column("answer answer"))
    return survival_system(cases, column("days"), column("event") > 0.5, column("answer answer"))
