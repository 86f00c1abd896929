"""Images with their words: a folder with pictures and a table (CSV), one row for each picture.

The table names picture and report (or labels) and, where it can, the patient. Whatever is split is split by patient.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from isocenter.core.errors import ConfigError, DataError, IdentityLeak, PixelError
from isocenter.data.images.atomic import explain_os_error
from isocenter.data.images.picture import read_picture

__all__ = ["SPLITS", "PairColumns", "PairRow", "read_pair_table", "read_plane", "split_by_patient"]

SPLITS = ("train", "validation", "test")
"""The parts of a set."""

_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")


@dataclass(frozen=True)
class PairColumns:
    """Names of a table's columns.

    Args:
        image: The picture's file, relative to the folder of pictures.
        text: The report, or the labels.
        patient: Who it is of; None where every row is a patient of its own.
        split: "train", "validation" or "test"; None where the split is drawn.
        extra: Further columns that are read.
    """

    image: str = "image"
    text: str = "report"
    patient: str | None = None
    split: str | None = None
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class PairRow:
    """One row of a table.

    Args:
        number: Line of the table, the first after the heading being 1.
        image: The picture; it exists.
        text: The report or the labels; not empty.
        patient: Who it is of.
        split: One of `SPLITS`, or "" where the table says none.
        extra: Values of further columns by name.
    """

    number: int
    image: Path
    text: str
    patient: str
    split: str
    extra: Mapping[str, str]


def read_pair_table(table: Path, pictures: Path, columns: PairColumns) -> tuple[PairRow, ...]:
    """Read a table of pictures and their words.

    Args:
        table: A CSV file, UTF-8, with a heading.
        pictures: Folder of the pictures.
        columns: Which columns are read.

    Returns:
        At least one row, in the order of the table.

    Raises:
        DataError: The table can't be read or has no rows; a column is missing; a row has no picture, no patient or no
            words; a picture is not there, lies outside the folder, or is named twice; a split is none of `SPLITS`.
        IdentityLeak: The table puts a patient into two splits.
    """
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            _check_columns(table, reader.fieldnames or (), columns)
            rows = [_row(number, row, pictures, columns, table) for number, row in enumerate(reader, start=1)]
    except OSError as error:
        raise explain_os_error(error, table, doing="read") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError("not a CSV file in UTF-8; save it as one", source=table.name) from error
    if not rows:
        raise DataError("holds a heading and no row", source=table.name)
    seen: dict[Path, int] = {}
    for row in rows:
        first = seen.setdefault(row.image, row.number)
        if first != row.number:
            raise DataError(f"rows {first} and {row.number} name the same picture; keep one", source=table.name)
    _check_splits(table, rows)
    return tuple(rows)


def _check_columns(table: Path, found: Sequence[str], columns: PairColumns) -> None:
    wanted = [columns.image, columns.text, columns.patient, columns.split, *columns.extra]
    missing = [name for name in wanted if name is not None and name not in found]
    if missing:
        raise DataError(
            f"has no column {missing[0]!r}; it has {', '.join(map(repr, found)) or 'none'}: rename one, or name it in "
            "the configuration",
            source=table.name,
        )


def _row(number: int, row: Mapping[str, str | None], pictures: Path, columns: PairColumns, table: Path) -> PairRow:
    def value(name: str | None) -> str:
        return (row.get(name) or "").strip() if name is not None else ""

    def wrong(what: str) -> DataError:
        return DataError(f"row {number} {what}", source=table.name)

    name, text = value(columns.image), value(columns.text)
    if not name:
        raise wrong("names no picture; give it one, or remove the row")
    if not text:
        raise wrong("has an empty report; give it one, or remove the row")
    image = pictures / name
    if Path(name).is_absolute() or not image.resolve().is_relative_to(pictures.resolve()):
        raise wrong("names a picture outside the folder; give its path relative to it")
    if image.suffix.lower() not in _PICTURES:
        raise wrong(f"names a file that is no picture ({', '.join(_PICTURES)}); convert it first")
    if not image.is_file():
        raise wrong("names a picture that is not in the folder; copy it there, or remove the row")
    patient = value(columns.patient) if columns.patient is not None else f"row {number}"
    if not patient:
        raise wrong("names no patient; without, it can't be kept out of the other splits")
    split = value(columns.split).lower()
    if columns.split is not None and split not in SPLITS:
        raise wrong(f"is in none of the splits {', '.join(SPLITS)}")
    return PairRow(number, image, text, patient, split, {c: value(c) for c in columns.extra})


def _check_splits(table: Path, rows: Sequence[PairRow]) -> None:
    where: dict[str, PairRow] = {}
    for row in rows:
        first = where.setdefault(row.patient, row)
        if first.split != row.split:
            raise IdentityLeak(
                f"rows {first.number} and {row.number} are of one patient and in two splits ({first.split}, "
                f"{row.split}); put all images of a patient into one",
                source=table.name,
            )


def split_by_patient(patients: Sequence[str], shares: Mapping[str, float], seed: int) -> tuple[str, ...]:
    """Deal patients into splits, every patient with all images into one.

    Args:
        patients: The patient of each image.
        shares: Share of the patients in "validation" and "test"; the rest trains.
        seed: Decides who goes where.

    Returns:
        The split of each image.

    Raises:
        ConfigError: The shares leave no patient to train on, or a split without one.

    Example:
        >>> found = split_by_patient(list("aabbccddee"), {"validation": 0.2, "test": 0.2}, seed=1)
        >>> [found.count(split) for split in SPLITS], found[0] == found[1]
        ([6, 2, 2], True)
    """
    names = sorted(set(patients))
    order = [names[i] for i in np.random.default_rng([seed, 23]).permutation(len(names))]
    counts = {split: max(1, round(shares[split] * len(names))) for split in SPLITS[1:]}
    if sum(counts.values()) >= len(names):
        raise ConfigError(
            f"{len(names)} patients can't be split into training, validation ({counts['validation']}) and test "
            f"({counts['test']}); give more, or smaller shares"
        )
    of: dict[str, str] = {}
    for at, name in enumerate(order):
        of[name] = (
            "test" if at < counts["test"] else "validation" if at < sum(counts.values()) else "train"
        )  # fmt: skip
    return tuple(of[patient] for patient in patients)


def read_plane(path: Path, name: str = "") -> Float[np.ndarray, "rows columns"]:
    """Read a picture as one grey plane, as it is hung: the patient's left at the right edge.

    A picture does not say how it lies; one that was saved mirrored is taken as it is.

    Args:
        path: PNG, JPEG or TIFF, of one plane.
        name: Name for messages; the file's own by default.

    Raises:
        PixelError: It can't be decoded, or holds several planes.
        DataError: It can't be opened.
    """
    array = read_picture(path, name=name).array
    if array.shape[1] != 1:
        raise PixelError(f"holds {array.shape[1]} planes; give one", source=name or path.name)
    plane: Float[np.ndarray, "rows columns"] = array[:, 0].astype(np.float32).mean(axis=0)
    return plane
