"""A CSV table: a column `image`, and what is to be learnt in the others.

image,patient,label              one class a case
image,patient,effusion,nodule    several findings: 1 present, 0 absent, empty not known
image,patient,value              a number
image,patient,days,event         time to an event (event 1), or last seen without it (event 0)
"""

from __future__ import annotations

import csv
import math
from functools import partial
from pathlib import Path

from isocenter.core.errors import DataError
from isocenter.data.labelled.cases import Event, Kind, LabelledCase, LabelledSet, Split, Target, unique
from isocenter.data.labelled.files import read_image, stem

__all__ = ["open_table"]

_OURS = ("image", "patient", "split")
_SPLITS: dict[str, Split] = {"": "", "train": "train", "val": "validation", "validation": "validation", "test": "test"}


def open_table(file: Path) -> LabelledSet:
    """Open a table of labelled images; paths are relative to it.

    Raises:
        DataError: A column is missing or unknown in kind, an image is not there, or a value is not what its column
            holds.
    """
    with file.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    if not rows or "image" not in rows[0]:
        raise DataError("needs a column 'image' and a row", source=file)
    columns = [c for c in rows[0] if c is not None and c not in _OURS]
    kind, classes = _kind(columns, rows, file)
    names = unique([stem(Path(row["image"] or "")) for row in rows])
    cases = []
    seen: dict[Path, int] = {}
    for number, (row, name) in enumerate(zip(rows, names, strict=True), start=2):
        path = file.parent / (row["image"] or "").strip()
        if not (row["image"] or "").strip() or not path.exists():
            raise DataError(f"line {number} names an image that is not there", source=file)
        first = seen.setdefault(path.resolve(), number)
        if first != number:
            raise DataError(f"line {number} names the image of line {first} again", source=file)
        split = (row.get("split") or "").strip().lower()
        if split not in _SPLITS:
            raise DataError(f"line {number}: the split must be train, validation or test, got {split!r}", source=file)
        target = _target(kind, columns, classes, row, number, file)
        patient = (row.get("patient") or "").strip()
        if "patient" in row and not patient:
            raise DataError(f"line {number} has no patient", source=file)
        cases.append(
            LabelledCase(name, patient or name, partial(read_image, (path,)), target=target, split=_SPLITS[split])
        )
    return LabelledSet(file.parent.name, kind, classes, tuple(cases), patients_known="patient" in rows[0])


def _kind(columns: list[str], rows: list[dict[str, str]], file: Path) -> tuple[Kind, tuple[str, ...]]:
    if columns == ["label"]:
        classes = {(row["label"] or "").strip() for row in rows}
        if "" in classes:
            raise DataError("a row has no label", source=file)
        return "classify", tuple(sorted(classes))
    if columns == ["value"]:
        return "regress", ("value",)
    if sorted(columns) == ["days", "event"]:
        return "survive", ("event",)
    if (
        "label" not in columns
        and columns
        and all((row[c] or "").strip() in ("", "0", "1") for c in columns for row in rows)
    ):
        return "multilabel", tuple(columns)
    raise DataError(
        "needs a column 'label', or 'value', or 'days' and 'event', or columns of findings that hold 0, 1 or nothing; "
        f"it has {', '.join(columns) or 'none'}",
        source=file,
    )


def _target(
    kind: Kind, columns: list[str], classes: tuple[str, ...], row: dict[str, str], number: int, file: Path
) -> Target:
    if kind == "classify":
        return classes.index((row["label"] or "").strip())
    if kind == "multilabel":
        return tuple(int(row[c]) if (row[c] or "").strip() else -1 for c in columns)
    try:
        if kind == "regress":
            value = float(row["value"] or "nan")
            if not math.isfinite(value):
                raise ValueError
            return value
        event = (row["event"] or "").strip()
        if event not in ("0", "1"):
            raise ValueError
        return Event(float(row["days"] or "nan"), event == "1")
    except DataError as error:
        raise DataError(f"line {number}: {error}", source=file) from error
    except ValueError as error:
        raise DataError(f"line {number} holds what is not a number (event: 0 or 1)", source=file) from error
