"""Images with questions and answers: a folder with images and a table (CSV), one row for each question.

A row names one image or several, a question and its answer (or a report, which answers one question for all), and,
where it can, the patient and the kind of question. Whatever is split is split by patient.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from isocenter.core.errors import DataError, IdentityLeak
from isocenter.core.wording import plain_question
from isocenter.data.images.atomic import explain_os_error
from isocenter.data.labelled.files import ENDINGS
from isocenter.data.pairs import SPLITS

__all__ = ["QuestionColumns", "QuestionRow", "read_question_table"]

_MOST_LETTERS = 20_000


@dataclass(frozen=True)
class QuestionColumns:
    """Names of a table's columns.

    Args:
        image: The image's file, relative to the folder of images; several with "|" between them.
        question: The question; None where `always` is asked of every image.
        answer: The answer, or the report.
        patient: Who it is of; None where every image (or group of images) is a patient of its own.
        split: "train", "validation" or "test"; None where the split is drawn.
        kind: What kind of question it is: those of a kind have one set of answers. None: every wording is a kind.
        always: What is asked where no column says it.
    """

    image: str = "image"
    question: str | None = "question"
    answer: str = "answer"
    patient: str | None = None
    split: str | None = None
    kind: str | None = None
    always: str = "Describe the image."


@dataclass(frozen=True)
class QuestionRow:
    """One row of a table.

    Args:
        number: Line of the table, the first after the heading being 1.
        images: The images; they exist.
        question: Not empty.
        answer: Not empty.
        patient: Who it is of.
        split: One of `SPLITS`, or "" where the table says none.
        kind: What kind of question it is.
    """

    number: int
    images: tuple[Path, ...]
    question: str
    answer: str
    patient: str
    split: str
    kind: str


def read_question_table(table: Path, images: Path, columns: QuestionColumns) -> tuple[QuestionRow, ...]:
    """Read a table of images, questions and answers.

    Args:
        table: A CSV file, UTF-8, with a heading.
        images: Folder of the images.
        columns: Which columns are read.

    Returns:
        At least one row, in the order of the table.

    Raises:
        DataError: The table can't be read or has no rows; a column is missing; a row has no image, question, answer or
            patient, or a text of more than 20,000 letters; an image is not there or lies outside the folder; a split
            is none of `SPLITS`; a question is asked twice of one image.
        IdentityLeak: The table puts a patient or an image into two splits.
    """
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            _check_columns(table, reader.fieldnames or (), columns)
            rows = [_row(number, row, images, columns, table) for number, row in enumerate(reader, start=1)]
    except OSError as error:
        raise explain_os_error(error, table, doing="read") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError("not a CSV file in UTF-8; save it as one", source=table.name) from error
    if not rows:
        raise DataError("holds a heading and no row", source=table.name)
    _check_rows(table, rows)
    return tuple(rows)


def _check_columns(table: Path, found: Sequence[str], columns: QuestionColumns) -> None:
    wanted = (columns.image, columns.question, columns.answer, columns.patient, columns.split, columns.kind)
    missing = [name for name in wanted if name is not None and name not in found]
    if missing:
        raise DataError(
            f"has no column {missing[0]!r}; it has {', '.join(map(repr, found)) or 'none'}: rename one, or name it in "
            "the configuration",
            source=table.name,
        )


def _row(number: int, row: dict[str, str | None], images: Path, columns: QuestionColumns, table: Path) -> QuestionRow:
    def value(name: str | None) -> str:
        return (row.get(name) or "").strip() if name is not None else ""

    def wrong(what: str) -> DataError:
        return DataError(f"row {number} {what}", source=table.name)

    names = [name.strip() for name in value(columns.image).split("|") if name.strip()]
    question = value(columns.question) if columns.question is not None else columns.always
    answer = value(columns.answer)
    if not names:
        raise wrong("names no image; give it one, or remove the row")
    for what, text in (("question", question), ("answer", answer)):
        if not text:
            raise wrong(f"has an empty {what}; give it one, or remove the row")
        if len(text) > _MOST_LETTERS:
            raise wrong(f"has a {what} of {len(text)} letters; more than {_MOST_LETTERS} are no {what}")
    paths, place = tuple(images / name for name in names), images.resolve()
    for name, path in zip(names, paths, strict=True):
        if Path(name).is_absolute() or not path.resolve().is_relative_to(place):
            raise wrong("names an image outside the folder; give its path relative to it")
        if not path.name.lower().endswith(ENDINGS):
            raise wrong(f"names a file that is no image ({', '.join(ENDINGS)}); convert it first")
        if not path.is_file():
            raise wrong("names an image that is not in the folder; copy it there, or remove the row")
    # Where patients are not known the file is the patient, however the table writes its path.
    files = "|".join(path.resolve().relative_to(place).as_posix() for path in paths)
    patient = value(columns.patient) if columns.patient is not None else f"image {files}"
    if not patient:
        raise wrong("names no patient; without, it can't be kept out of the other splits")
    split = value(columns.split).lower()
    if columns.split is not None and split not in SPLITS:
        raise wrong(f"is in none of the splits {', '.join(SPLITS)}")
    kind = value(columns.kind) if columns.kind is not None else plain_question(question)
    if not kind:
        raise wrong("says no kind of question; give it one, or leave the column out of the configuration")
    return QuestionRow(number, paths, question, answer, patient, split, kind)


def _check_rows(table: Path, rows: Sequence[QuestionRow]) -> None:
    patients: dict[str, QuestionRow] = {}
    images: dict[Path, QuestionRow] = {}
    asked: dict[tuple[tuple[Path, ...], str], int] = {}
    for row in rows:
        first = patients.setdefault(row.patient, row)
        if first.split != row.split:
            raise IdentityLeak(
                f"rows {first.number} and {row.number} are of one patient and in two splits ({first.split}, "
                f"{row.split}); put all images of a patient into one",
                source=table.name,
            )
        files = tuple(image.resolve() for image in row.images)  # "a/../x.png" and a link to it are "x.png" too
        for file in files:
            other = images.setdefault(file, row)
            if other.patient != row.patient:
                raise IdentityLeak(
                    f"rows {other.number} and {row.number} name one image and two patients; mend the table",
                    source=table.name,
                )
        before = asked.setdefault((files, plain_question(row.question)), row.number)
        if before != row.number:
            raise DataError(
                f"rows {before} and {row.number} ask one question twice of the same image(s); keep one",
                source=table.name,
            )
