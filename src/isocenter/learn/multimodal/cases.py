"""What a multimodal model learns from: questions with their images and answers, by patient."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from isocenter import synth
from isocenter.core.errors import ConfigError, DataError, PixelError
from isocenter.data.labelled.files import read_one
from isocenter.data.pairs import SPLITS, split_by_patient
from isocenter.data.questions import QuestionColumns, QuestionRow, read_question_table
from isocenter.learn.multimodal.config import DataSettings, QuestionData, ReportData, SyntheticQuestions
from isocenter.models.multimodal import ImageInput
from isocenter.models.multimodal.inputs import array_of
from isocenter.models.text import normalise_text
from isocenter.synth.questioned import QUESTION_KINDS, synthesise_questioned

__all__ = ["MOST_ANSWERS", "Case", "Cases", "open_cases"]

MOST_ANSWERS = 24
"""A kind of question with more answers than this in training has no closed set: its answers are free text."""
_KEEP_BYTES = 2**30
_MEAN_OF = 512


@dataclass(frozen=True)
class Case:
    """One question.

    Args:
        images: Names of its images among those of the set.
        question: As it is asked.
        answer: What is true.
        kind: Of question.
        patient: Who it is of.
        split: One of `data.pairs.SPLITS`.
        number: Row of its table, or index of the synthetic patient.
    """

    images: tuple[str, ...]
    question: str
    answer: str
    kind: str
    patient: str
    split: str
    number: int


class Cases:
    """All questions of a set, with their images when asked for.

    Args:
        cases: The questions.
        read: Reads an image by its name: a plane (rows, columns) or a volume (z, y, x).
        image_input: How images go into the network.
        identity: What the set is, JSON-ready.
        source: Name of the set, for messages.
        known_patients: Whether the set says who is who.
        free: Whether all answers are free text (reports), however few there are.

    Raises:
        DataError: A kind of question has one answer in training, or a closed kind another one outside of it.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        read: Callable[[str], Float[np.ndarray, "*space"]],
        image_input: ImageInput,
        identity: Mapping[str, Any],
        *,
        source: str,
        known_patients: bool = True,
        free: bool = False,
    ) -> None:
        self._free = free
        self.cases, self.image_input = tuple(cases), image_input
        self.identity, self.source, self.known_patients = dict(identity), source, known_patients
        self._read = read
        self._kept: dict[str, np.ndarray] = {}
        self._most_kept = _KEEP_BYTES // (4 * image_input.channels * int(np.prod(image_input.size)))
        self.closed = self._closed()

    def _closed(self) -> dict[str, tuple[str, ...]]:
        """Return the answers of each kind that has a closed set, in the order of the alphabet."""
        found: dict[str, tuple[str, ...]] = {}
        for kind in sorted({case.kind for case in self.cases}):
            counts = Counter(c.answer for c in self.cases if c.kind == kind and c.split == "train")
            if len(counts) == 1:
                raise DataError(
                    f"all questions of the kind {kind!r} have one answer in training: there is nothing to learn, and a "
                    "model without eyes would always be right; give cases with another answer, or leave the kind out",
                    source=self.source,
                )
            if not self._free and 1 < len(counts) <= MOST_ANSWERS and sum(counts.values()) > len(counts):
                found[kind] = tuple(sorted(counts))
                alike = Counter(normalise_text(answer) for answer in counts)
                if max(alike.values()) > 1:
                    raise DataError(
                        f"two answers of the kind {kind!r} differ in case or blanks alone: write them alike",
                        source=self.source,
                    )
        for case in self.cases:
            if case.kind in found and case.answer not in found[case.kind]:
                raise DataError(
                    f"row {case.number} ({case.split}) has an answer that none of its kind has in training; it could "
                    "never be right: mend its spelling, or put such a case into training",
                    source=self.source,
                )
        return found

    def of(self, split: str, most: int | None = None) -> list[int]:
        """Return the places of a split's questions, at most so many, dealt over the whole split."""
        places = [i for i, case in enumerate(self.cases) if case.split == split]
        if most is None or len(places) <= most:
            return places
        return [places[int(i)] for i in np.linspace(0, len(places) - 1, most)]

    def prepared(self, name: str) -> Float[np.ndarray, "channel *space"]:
        """Return the network's input for an image.

        Raises:
            PixelError: It is flat, not finite, or of another number of axes; the message says which.
        """
        found = self._kept.get(name)
        if found is None:
            try:
                found = self.image_input.prepare(self._read(name))
            except PixelError as error:
                raise PixelError(f"image {Path(name).name}: {error}", source=self.source) from error
            if len(self._kept) < self._most_kept:
                self._kept[name] = found
        return found

    def check_images(self, tell: Callable[[float], None]) -> None:
        """Read every image once, so that a bad one is refused before anything is learnt.

        Args:
            tell: Called with how much is done.

        Raises:
            DataError: An image can't be read.
            PixelError: It is flat, not finite, or of another number of axes.
        """
        names = list(dict.fromkeys(name for case in self.cases for name in case.images))
        for number, name in enumerate(names):
            self.prepared(name)
            tell((number + 1) / len(names))

    def mean_image(self) -> Float[np.ndarray, "channel *space"]:
        """Return the mean of training images: what a blind model sees in place of each."""
        names = list(dict.fromkeys(name for i in self.of("train") for name in self.cases[i].images))
        total = np.zeros((self.image_input.channels, *self.image_input.size), dtype=np.float64)
        some = names[:_MEAN_OF]
        for name in some:
            total += self.prepared(name)
        mean: Float[np.ndarray, "channel *space"] = (total / len(some)).astype(np.float32)
        return mean


def open_cases(settings: DataSettings, image_input: ImageInput, folder: Path | None, seed: int) -> Cases:
    """Open a set.

    Args:
        settings: Which.
        image_input: How images go in.
        folder: Where the files lie; None for synthesis.
        seed: Decides a split that is drawn.

    Raises:
        ConfigError: A folder is missing, or was given where none is read; a split would be empty.
        DataError: See `data.questions.read_question_table`; a kind of question has one answer; or held out it is asked
            of one patient only.
    """
    if isinstance(settings, SyntheticQuestions):
        if folder is not None:
            raise ConfigError("a table was given, and the configuration learns from synthesis; leave one of them out")
        found = _synthetic(settings, image_input)
        _check_held_out(found)
        return found
    if folder is None:
        raise ConfigError(f"the configuration reads {settings.table}; say with --pairs where it lies")
    question = settings.question if isinstance(settings, QuestionData) else None
    columns = QuestionColumns(
        image=settings.image,
        question=question,
        answer=settings.report if isinstance(settings, ReportData) else settings.answer,
        patient=settings.patient,
        split=settings.split,
        kind=settings.question_kind if isinstance(settings, QuestionData) else None,
        always=settings.asked if isinstance(settings, ReportData) else "",
    )
    place = folder / settings.images
    rows = read_question_table(folder / settings.table, place, columns)
    splits = _splits(rows, settings, seed)
    cases = [
        Case(
            tuple(str(path.relative_to(place)) for path in row.images), row.question, row.answer, row.kind,
            row.patient, split, row.number,
        )
        for row, split in zip(rows, splits, strict=True)
    ]  # fmt: skip
    found = Cases(
        cases,
        lambda name: array_of(read_one(place / name), image_input.dims),
        image_input,
        _identity(settings, folder, rows, splits),
        source=settings.table,
        known_patients=settings.patient is not None,
        free=isinstance(settings, ReportData),
    )
    _check_held_out(found)
    return found


def _check_held_out(cases: Cases) -> None:
    """Refuse, before anything is learnt, what could not be measured after: each question needs another's image."""
    patients: dict[tuple[str, str, int], set[str]] = {}
    for case in cases.cases:
        patients.setdefault((case.split, case.kind, len(case.images)), set()).add(case.patient)
    for (split, kind, count), some in sorted(patients.items()):
        if split != "train" and len(some) == 1:
            of = "" if count == 1 else f" with {count} images"
            raise DataError(
                f"the kind {kind!r}{of} is asked of one patient only in {split}: no other patient's image can be shown "
                f"in place of theirs; put another patient with it into {split}, or leave its questions out",
                source=cases.source,
            )


def _splits(rows: Sequence[QuestionRow], settings: QuestionData | ReportData, seed: int) -> tuple[str, ...]:
    if settings.split is None:
        shares = {"validation": settings.validation, "test": settings.test}
        return split_by_patient([row.patient for row in rows], shares, seed)
    found = tuple(row.split for row in rows)
    empty = [split for split in SPLITS if split not in found]
    if empty:
        raise DataError(f"no row is in the split {empty[0]!r}", source=settings.table)
    return found


def _synthetic(settings: SyntheticQuestions, image_input: ImageInput) -> Cases:
    if image_input.dims != 2:
        raise ConfigError("synthetic patients are pictures: give vision.size as one number")
    counts = (settings.patients, settings.validation, settings.test)
    names = [split for split, count in zip(SPLITS, counts, strict=True) for _ in range(count)]
    # The picture is small here: only its questions are kept.
    cases = [
        Case((str(index),), asked.text, asked.answer, asked.kind, str(index), split, index)
        for index, split in enumerate(names)
        for asked in synthesise_questioned(settings.seed, index, pixels=32).questions
    ]
    digest = hashlib.sha256()
    for file in sorted(Path(synth.__file__).parent.glob("*.py")):
        if file.name.startswith(("paired", "questioned")):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    identity = {
        "kind": "synthesis", **settings.model_dump(mode="json"), "engine_sha256": digest.hexdigest(),
        "questions": len(cases), "kinds": sorted(QUESTION_KINDS),
    }  # fmt: skip
    side = image_input.size[0]
    return Cases(
        cases,
        lambda name: synthesise_questioned(settings.seed, int(name), pixels=side).image[0],
        image_input,
        identity,
        source="synthetic patients",
    )


def _identity(
    settings: QuestionData | ReportData, folder: Path, rows: Sequence[QuestionRow], splits: Sequence[str]
) -> dict[str, Any]:
    """Say what a set is without a name in it: hash of the table, and of names and contents of the images."""
    files = hashlib.sha256()
    for path in sorted({path.resolve() for row in rows for path in row.images}):
        with path.open("rb") as stream:
            files.update(f"{path.name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    counts = {split: len({r.patient for r, s in zip(rows, splits, strict=True) if s == split}) for split in SPLITS}
    return {
        "kind": settings.kind,
        "table_sha256": hashlib.sha256((folder / settings.table).read_bytes()).hexdigest(),
        "images_sha256": files.hexdigest(),
        "questions": len(rows),
        "patients_by_split": counts,
        "patients_known": settings.patient is not None,
    }
