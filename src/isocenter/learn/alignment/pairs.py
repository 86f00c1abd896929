"""Where pairs of image and words come from: synthetic patients, a table of reports, or a table of labels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field

from isocenter import synth
from isocenter.core.errors import ConfigError, DataError
from isocenter.data.pairs import SPLITS, PairColumns, PairRow, read_pair_table, read_plane, split_by_patient
from isocenter.learn.alignment.texts import (
    ABSENT,
    PRESENT,
    label_sentences,
    metadata_sentences,
    split_sentences,
)
from isocenter.models.aligned import ImageInput
from isocenter.models.text import normalise_text
from isocenter.synth.paired import synthesise_pair

__all__ = [
    "DataSettings",
    "LabelData",
    "Pair",
    "Pairs",
    "SyntheticData",
    "TableData",
    "open_pairs",
    "phrases_of",
    "reported_pairs",
]

_KEEP_BYTES = 2**30
"""Prepared images are kept in memory up to this size; the rest is made again when needed."""


_SYNTHETIC = {
    "pleural effusion": ("effusion", ""),
    "left pleural effusion": ("effusion", "left"),
    "right pleural effusion": ("effusion", "right"),
    "consolidation": ("consolidation", ""),
    "cardiomegaly": ("cardiomegaly", ""),
    "pacemaker": ("device", ""),
}
"""Words for findings of synthetic patients, and which findings they mean."""


class SyntheticData(BaseModel):
    """Patients of `synth.paired`.

    Attributes:
        kind: "synthetic".
        seed: Of the stream; all splits are different patients of it.
        patients: To train on.
        validation: To watch the training.
        test: To measure at the end.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["synthetic"] = "synthetic"
    seed: int = Field(default=0, ge=0)
    patients: int = Field(default=4000, ge=2)
    validation: int = Field(default=128, ge=2)
    test: int = Field(default=400, ge=2)


class _FromTable(BaseModel):
    """What both kinds of table share.

    Attributes:
        table: The CSV file, relative to the folder given as --data.
        pictures: Folder of the pictures, relative to the same.
        image: Column of the picture.
        patient: Column of the patient; None where every row is a patient of its own.
        split: Column of the split; None where it is drawn by patient.
        metadata: Columns that become sentences ("View position: PA.").
        validation: Share of patients, where the split is drawn.
        test: Share of patients, where the split is drawn.
        licence: Licence of the set, for the card.
        source: Where the set comes from, for the card.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: str = "pairs.csv"
    pictures: str = "."
    image: str = "image"
    patient: str | None = None
    split: str | None = None
    metadata: tuple[str, ...] = ()
    validation: float = Field(default=0.15, gt=0, lt=1)
    test: float = Field(default=0.2, gt=0, lt=1)
    licence: str = "not stated"
    source: str = "the user's own"


class TableData(_FromTable):
    """Pictures with reports.

    Attributes:
        kind: "table".
        report: Column of the report.
    """

    kind: Literal["table"] = "table"
    report: str = "report"


class LabelData(_FromTable):
    """Pictures with labels, which become sentences.

    Attributes:
        kind: "labels".
        labels: Column of the labels that are there.
        separator: What stands between them.
        findings: The words for each label; labels that are not named here are not spoken of.
        denied: Chance that a finding that is not there is spoken of.
    """

    kind: Literal["labels"] = "labels"
    labels: str = "labels"
    separator: str = "|"
    findings: dict[str, str] = Field(min_length=1)
    denied: float = Field(default=0.3, ge=0, le=1)


DataSettings = Annotated[SyntheticData | TableData | LabelData, Field(discriminator="kind")]


@dataclass(frozen=True, eq=False)
class Pair:
    """One image and its words.

    Args:
        patient: Who it is of.
        split: One of `data.pairs.SPLITS`.
        sentences: Its report.
        true: Normalised sentences that are known to be true of it; those of its report, at least.
        metadata: Sentences of what is known beside the report.
        findings: By label, whether it is there; empty where nobody says.
        number: Row of its table, or index of the synthetic patient.
    """

    patient: str
    split: str
    sentences: tuple[str, ...]
    true: frozenset[str]
    metadata: tuple[str, ...] = ()
    findings: Mapping[str, bool] = field(default_factory=dict)
    number: int = 0


class Pairs:
    """All pairs of a set, with their images when asked for.

    Args:
        pairs: The pairs.
        plane: Makes the plane of a pair, (rows, columns) as it is hung.
        image_input: How planes go into the network.
        identity: What the set is, JSON-ready.
        known_patients: Whether the set says who is who.
    """

    def __init__(
        self,
        pairs: tuple[Pair, ...],
        plane: Callable[[Pair], Float[np.ndarray, "rows columns"]],
        image_input: ImageInput,
        identity: Mapping[str, Any],
        *,
        known_patients: bool = True,
    ) -> None:
        self.pairs, self.image_input = pairs, image_input
        self.identity, self.known_patients = dict(identity), known_patients
        self._plane = plane
        self._kept: dict[int, np.ndarray] = {}
        self._most_kept = _KEEP_BYTES // (4 * image_input.side**2)
        of: dict[str, str] = {}
        for pair in pairs:
            if of.setdefault(pair.patient, pair.split) != pair.split:
                raise DataError("a patient is in two splits; this is a defect of whoever made the set")

    def of(self, split: str, most: int | None = None) -> list[int]:
        """Return the places of a split's pairs, at most so many."""
        return [i for i, pair in enumerate(self.pairs) if pair.split == split][:most]

    def plane(self, at: int) -> Float[np.ndarray, "rows columns"]:
        """Return the plane of a pair."""
        return self._plane(self.pairs[at])

    def prepared(self, at: int) -> Float[np.ndarray, "1 side side"]:
        """Return the network's input for a pair."""
        found = self._kept.get(at)
        if found is None:
            found = self.image_input.prepare(self.plane(at))
            if len(self._kept) < self._most_kept:
                self._kept[at] = found
        return found


def phrases_of(settings: DataSettings) -> Mapping[str, str]:
    """Return the words for each finding that a set knows of; empty where it knows reports alone."""
    if isinstance(settings, SyntheticData):
        return {label: label for label in _SYNTHETIC}
    return settings.findings if isinstance(settings, LabelData) else {}


def open_pairs(settings: DataSettings, side: int, folder: Path | None, seed: int) -> Pairs:
    """Open a set.

    Args:
        settings: Which.
        side: Pixels of the network's input.
        folder: Where the files lie; None for synthesis.
        seed: Decides a split that is drawn, and the words for labels.

    Raises:
        ConfigError: A folder is missing, or was given where none is read; a split would be empty.
        DataError: See `data.pairs.read_pair_table`.
    """
    image_input = ImageInput(side)
    if isinstance(settings, SyntheticData):
        if folder is not None:
            raise ConfigError("--data was given, and the configuration learns from synthesis; leave one of them out")
        return _synthetic(settings, image_input)
    if folder is None:
        raise ConfigError(f"the configuration reads {settings.table}; say with --data in which folder it lies")
    text = settings.report if isinstance(settings, TableData) else settings.labels
    columns = PairColumns(settings.image, text, settings.patient, settings.split, settings.metadata)
    rows = read_pair_table(folder / settings.table, folder / settings.pictures, columns)
    splits = _splits(rows, settings, seed)
    make = _labelled(settings, seed) if isinstance(settings, LabelData) else _reported(settings.table)
    pairs = tuple(make(row, split) for row, split in zip(rows, splits, strict=True))
    files = {row.number: row.image for row in rows}
    return Pairs(
        pairs,
        lambda pair: read_plane(files[pair.number], f"{settings.table}, row {pair.number}"),
        image_input,
        _identity(settings, folder, rows, splits),
        known_patients=settings.patient is not None,
    )


def reported_pairs(rows: tuple[PairRow, ...], table: str, image_input: ImageInput) -> Pairs:
    """Return the rows of a table of reports as pairs of one split, "test".

    Raises:
        DataError: A report has no sentence.
    """
    make, files = _reported(table), {row.number: row.image for row in rows}
    pairs = tuple(make(row, "test") for row in rows)
    return Pairs(pairs, lambda pair: read_plane(files[pair.number], f"{table}, row {pair.number}"), image_input, {})


def _splits(rows: tuple[PairRow, ...], settings: _FromTable, seed: int) -> tuple[str, ...]:
    if settings.split is None:
        shares = {"validation": settings.validation, "test": settings.test}
        return split_by_patient([row.patient for row in rows], shares, seed)
    found = tuple(row.split for row in rows)
    empty = [split for split in SPLITS if split not in found]
    if empty:
        raise DataError(f"no row is in the split {empty[0]!r}", source=settings.table)
    return found


def _reported(table: str) -> Callable[[PairRow, str], Pair]:
    def make(row: PairRow, split: str) -> Pair:
        sentences = split_sentences(row.text)
        if not sentences:
            raise DataError(f"row {row.number} has a report without a sentence; remove the row", source=table)
        true = frozenset(map(normalise_text, sentences))
        return Pair(row.patient, split, sentences, true, metadata_sentences(row.extra), number=row.number)

    return make


def _labelled(settings: LabelData, seed: int) -> Callable[[PairRow, str], Pair]:
    def make(row: PairRow, split: str) -> Pair:
        there = {label.strip() for label in row.text.split(settings.separator)}
        findings = {label: label in there for label in settings.findings}
        rng = np.random.default_rng([seed, 29, row.number])
        sentences = label_sentences(rng, findings, settings.findings, denied=settings.denied)
        true = frozenset(
            normalise_text(template.format(settings.findings[label]))
            for label, is_there in findings.items()
            for template in (PRESENT if is_there else ABSENT)
        )
        extra = metadata_sentences(row.extra)
        return Pair(row.patient, split, sentences, true, extra, findings, row.number)

    return make


def _synthetic(settings: SyntheticData, image_input: ImageInput) -> Pairs:
    counts = (settings.patients, settings.validation, settings.test)
    names = [split for split, count in zip(SPLITS, counts, strict=True) for _ in range(count)]
    pairs = []
    for index, split in enumerate(names):
        # The film is small here: only its words and findings are kept.
        sample = synthesise_pair(settings.seed, index, pixels=32)
        sentences = tuple(s.text for s in sample.sentences)
        true = frozenset(map(normalise_text, sentences))
        there = {
            label: any(f.kind == kind and side in ("", f.side) for f in sample.findings)
            for label, (kind, side) in _SYNTHETIC.items()
        }
        pairs.append(Pair(str(index), split, sentences, true, findings=there, number=index))
    digest = hashlib.sha256()
    for file in sorted(Path(synth.__file__).parent.glob("paired*.py")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    identity = {"kind": "synthesis", **settings.model_dump(mode="json"), "engine_sha256": digest.hexdigest()}
    return Pairs(
        tuple(pairs),
        lambda pair: synthesise_pair(settings.seed, pair.number, pixels=image_input.side).image[0],
        image_input,
        identity,
    )


def _identity(settings: _FromTable, folder: Path, rows: tuple[PairRow, ...], splits: tuple[str, ...]) -> dict[str, Any]:
    """Say what a set is without a name in it: hash of the table, and of names and sizes of the pictures."""
    files = hashlib.sha256()
    for row in rows:
        files.update(f"{row.image.name}\0{row.image.stat().st_size}\n".encode())
    counts = {split: len({r.patient for r, s in zip(rows, splits, strict=True) if s == split}) for split in SPLITS}
    return {
        "kind": settings.__class__.__name__.removesuffix("Data").lower(),
        "table_sha256": hashlib.sha256((folder / settings.table).read_bytes()).hexdigest(),
        "pictures_sha256": files.hexdigest(),
        "pairs": len(rows),
        "patients_by_split": counts,
        "patients_known": settings.patient is not None,
    }
