"""Clinical tables: of a labelled set, a row for each case or patient; of a study, the one row that is its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from isocenter.core import Study
from isocenter.core.errors import DataError
from isocenter.verbs.evaluation.tables import group_columns, read_table

__all__ = ["clinical_columns", "clinical_row"]

_KEYS = ("study", "image")


def clinical_columns(
    file: Path, cases: Sequence[str], patients: Sequence[str]
) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """Return the columns of a clinical table for each case, "" where it has none, and notes.

    Args:
        file: CSV with a column `case` or `patient`, and columns named with their unit ("age [a]") or of words.
        cases: Names.
        patients: Of each.

    Raises:
        DataError: It can't be read, lacks a key or a column, or names a key twice.
    """
    columns, notes = group_columns(cases, patients, read_table(file))
    return columns, tuple(note.replace("table of groups", "clinical table") for note in notes)


def clinical_row(file: Path, study: Study, path: Path) -> Mapping[str, str]:
    """Return the row of a study.

    Args:
        file: CSV with a column `study` (Study Instance UID, or the pseudonym of the patient as results show it) or
            `image` (name of the file or folder that is read), and the columns that the task learnt with.
        study: The study.
        path: What was read.

    Raises:
        DataError: It can't be read, has no such column, no row of this study, or several.
    """
    table = read_table(file)
    key = next((name for name in _KEYS if name in table.columns), None)
    if key is None:
        raise DataError("a clinical table of a study needs a column 'study' or 'image'", source=file)
    own = {study.study_uid, study.patient_key} - {""} if key == "study" else {path.name, path.stem}
    found = [row for row in table.rows if row[key] in own]
    if len(found) != 1:
        count = "no row" if not found else f"{len(found)} rows"
        raise DataError(f"{count} of this study in the column {key!r}; one is needed", source=file)
    return {name: cell for name, cell in found[0].items() if name not in _KEYS}
