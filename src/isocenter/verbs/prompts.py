"""The prompt file: what a person points at, in which image, and what it is called.

JSON, documented in ``docs/reference/prompts.md``. One entry of `targets` is one structure in one image; its prompts
are in patient millimetres, so that they survive every resampling, or in voxel indices where an image has no place in
the patient. A mistake in the file is told with its line (broken JSON) or its field (a wrong value).
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from isocenter.core import Code, Image, Prediction, Prompt, Segment, Study, TaskCard, TaskEntry
from isocenter.core.errors import ConfigError, UnitsError
from isocenter.core.mask import ANATOMICAL_STRUCTURE, Mask

__all__ = [
    "CodeText",
    "ImageChoice",
    "PromptFile",
    "PromptText",
    "Target",
    "check_places",
    "load_prompts",
    "name_segments",
    "prompts_schema",
    "targets_for",
]

LATERALITY = {
    "right": Code("24028007", "SCT", "Right"),
    "left": Code("7771000", "SCT", "Left"),
    "both": Code("51440002", "SCT", "Right and left"),
}
"""DICOM PS3.16 CID 244."""

PART = ", "
"""Between a target's label and the name of a part of it, in the label of a segment."""

Number = Annotated[float, Field(allow_inf_nan=False)]
Point = tuple[Number, Number, Number]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CodeText(_Strict):
    """A coded concept: value, scheme (e.g. "SCT"), meaning."""

    value: str = Field(min_length=1, max_length=16)
    scheme: str = Field(min_length=1, max_length=16)
    meaning: str = Field(min_length=1, max_length=64)

    def code(self) -> Code:
        """Return it as a `core.Code`."""
        return Code(self.value, self.scheme, self.meaning)


class ImageChoice(_Strict):
    """Which image: by Series Instance UID, by zero-based number in the result, or by file name. Exactly one."""

    series_uid: str | None = None
    index: int | None = Field(default=None, ge=0)
    file: str | None = None

    @model_validator(mode="after")
    def _one(self) -> ImageChoice:
        if sum(v is not None for v in (self.series_uid, self.index, self.file)) != 1:
            raise ValueError("give exactly one of series_uid, index and file")
        return self

    def matches(self, index: int, image: Image) -> bool:
        """Tell whether this is the image with that number."""
        if self.index is not None:
            return self.index == index
        if self.series_uid is not None:
            return self.series_uid == image.source.series_uid
        return any(name == self.file or Path(name).name == self.file for name in image.source.files)


class PromptText(_Strict):
    """One prompt: its kind, its points, and whether they lie in the structure (`positive`) or outside it."""

    kind: Literal["point", "box", "scribble", "lasso", "text"]
    coordinates: tuple[Point, ...] = ()
    frame: Literal["lps_mm", "index_zyx"] = "lps_mm"
    positive: bool = True
    text: str = ""


class Target(_Strict):
    """One structure in one image.

    Attributes:
        label: Its name, for people; unique within an image and task. Becomes the label of its segment, or the start
            of the labels of its parts ("Left hippocampus, anterior part").
        image: Which image; may be left out when the study has one.
        task: Which task shall answer; by default every task that takes these prompts and needs some.
        type: Code of what it is (DICOM segmented property type).
        category: Code of its kind; anatomical structure by default when `type` is given.
        laterality: "right", "left" or "both".
        colour: sRGB 0 to 255, to show it in.
        prompts: At least one.
    """

    label: str = Field(min_length=1, max_length=64)
    image: ImageChoice | None = None
    task: str | None = None
    type: CodeText | None = None
    category: CodeText | None = None
    laterality: Literal["right", "left", "both"] | None = None
    colour: tuple[int, int, int] | None = None
    prompts: tuple[PromptText, ...] = Field(min_length=1)

    @field_validator("label")
    @classmethod
    def _label_fits_a_header(cls, label: str) -> str:
        # A DICOM long string (LO, PS3.5 6.2) holds neither; a segment's label is written as one.
        if "\\" in label or any(unicodedata.category(c) == "Cc" for c in label):
            raise ValueError("a label must not hold a backslash or a control character")
        return label

    @model_validator(mode="after")
    def _colour_is_8_bit(self) -> Target:
        if self.colour is not None and not all(0 <= c <= 255 for c in self.colour):
            raise ValueError("colour must be three numbers from 0 to 255")
        return self

    def core_prompts(self) -> tuple[Prompt, ...]:
        """Return the prompts as core types, all with this target's label."""
        return tuple(
            Prompt(
                kind=p.kind,
                coordinates=np.array(p.coordinates, dtype=np.float64).reshape(-1, 3),
                positive=p.positive,
                frame=p.frame,
                label=self.label,
                text=p.text,
            )
            for p in self.prompts
        )


class PromptFile(_Strict):
    """The whole file."""

    prompts_version: Literal["1.0"]
    targets: tuple[Target, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _labels_are_unique(self) -> PromptFile:
        seen: dict[tuple[str, ImageChoice | None, str | None], int] = {}
        for number, target in enumerate(self.targets):
            first = seen.setdefault((target.label, target.image, target.task), number)
            if first != number:
                raise ValueError(_repeated(first, number, target.label))
        return self


@dataclass(frozen=True)
class Prompts:
    """A prompt file as loaded, and the sha256 of its bytes."""

    targets: tuple[Target, ...]
    sha256: str


def load_prompts(path: Path) -> Prompts:
    """Read and check a prompt file.

    Raises:
        ConfigError: It can't be read, is not JSON (with line and column), or a field is wrong (with its place).
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"prompt file {path}: can't be read: {error.strerror}; correct the path") from error
    try:
        parsed = PromptFile.model_validate(json.loads(raw.decode("utf-8")), strict=False)
    except UnicodeDecodeError as error:
        raise ConfigError(f"prompt file {path}: not UTF-8 text; save it as UTF-8") from error
    except json.JSONDecodeError as error:
        raise ConfigError(f"prompt file {path}: line {error.lineno}, column {error.colno}: {error.msg}") from error
    except ValidationError as error:
        raise ConfigError(f"prompt file {path}: {_first(error)}") from error
    for number, target in enumerate(parsed.targets):
        try:
            target.core_prompts()
        except ConfigError as error:
            raise ConfigError(f"prompt file {path}: targets[{number}] ({target.label!r}): {error}") from error
    return Prompts(parsed.targets, hashlib.sha256(raw).hexdigest())


def targets_for(
    targets: Iterable[Target], study: Study, index: int, card: TaskCard, *, named: bool
) -> tuple[Target, ...]:
    """Return the targets that a task shall answer in one image.

    Args:
        targets: All targets.
        study: The study.
        index: Number of the image.
        card: The task's card.
        named: Whether the user named this task with ``--task``; only then does a task that works without prompts
            get targets that name no task.
    """
    return tuple(target for target in targets if _receives(card, target, study, index, named=named))


def check_places(
    targets: Sequence[Target],
    study: Study,
    entries: Mapping[str, TaskEntry],
    *,
    named: bool = True,
    image: int | None = None,
) -> None:
    """Refuse targets that would silently be left aside or run together.

    Args:
        targets: All targets, in the order of the file.
        study: The study.
        entries: The tasks that are going to run, by name.
        named: Whether the user named them, as in `targets_for`.
        image: The one image that is going to be looked at; None for all.

    Raises:
        ConfigError: A target names an image or a task that is not there, or no image where the study has several; no
            task receives it; or a task would receive two targets of one label in one image.
    """
    indices = range(len(study.images)) if image is None else (image,)
    cards = [entry.card for entry in entries.values()]
    for number, target in enumerate(targets):
        place = f"prompt file: targets[{number}] ({target.label!r})"
        _check_image(place, target, study)
        if target.task is not None and target.task not in entries:
            raise ConfigError(f"{place}: task {target.task!r} is not among {', '.join(sorted(entries)) or 'none'}")
        if image is not None and not _is_in(target, study, image):
            raise ConfigError(f"{place}: is in another image than the one asked for ({image}); remove it from the file")
        if not any(_receives(card, target, study, i, named=named) for card in cards for i in indices):
            raise ConfigError(f"{place}: {_no_taker(target, cards)}")
    for card in cards:
        for index in indices:
            seen: dict[str, int] = {}
            for number, target in enumerate(targets):
                if not _receives(card, target, study, index, named=named):
                    continue
                first = seen.setdefault(target.label, number)
                if first != number:
                    raise ConfigError(
                        f"prompt file: {_repeated(first, number, target.label)} (image {index}, task {card.name})"
                    )


def name_segments(prediction: Prediction, targets: Iterable[Target]) -> Prediction:
    """Give the segments that answer a target its codes, laterality and colour; nothing else changes.

    A segment answers a target when it has its label. A task that answers one target with several segments calls them
    "<label>, <part>"; each part gets the target's laterality and a shade of its colour, and keeps the type and category
    that the task gave it.

    Raises:
        ConfigError: A target states what no segment of the answer takes, or another type than the task's own.
    """
    mask = prediction.value
    chosen = tuple(targets)
    if not isinstance(mask, Mask) or not chosen:
        return prediction
    segments = list(mask.segments)
    owners = [_owner(segment.label, chosen) for segment in segments]
    for target in chosen:
        mine = [i for i, owner in enumerate(owners) if owner is target]
        if not mine and (target.type or target.category or target.laterality):
            raise ConfigError(
                f"prompt file: target {target.label!r}: task {prediction.task!r} does not answer target by target, so "
                "type, category and laterality can't be carried into its answer; leave them out"
            )
        for place, i in enumerate(mine):
            if segments[i].label == target.label:
                segments[i] = _named(segments[i], target)
            else:
                segments[i] = _named_part(segments[i], target, place / len(mine), prediction.task)
    return replace(prediction, value=replace(mask, segments=tuple(segments)))


def prompts_schema() -> dict[str, object]:
    """Return the JSON schema of the prompt file."""
    return PromptFile.model_json_schema()


def _is_in(target: Target, study: Study, index: int) -> bool:
    if target.image is None:
        return len(study.images) == 1
    return target.image.matches(index, study.images[index])


def _receives(card: TaskCard, target: Target, study: Study, index: int, *, named: bool) -> bool:
    if not _is_in(target, study, index):
        return False
    if target.task is not None:
        return target.task == card.name
    return (card.needs_prompt or named) and {p.kind for p in target.prompts} <= set(card.prompts)


def _check_image(place: str, target: Target, study: Study) -> None:
    if target.image is None:
        if len(study.images) > 1:
            raise ConfigError(
                f"{place}: the study has {len(study.images)} images; say which with "
                '"image": {"series_uid": ...}, {"index": ...} or {"file": ...}'
            )
    elif sum(target.image.matches(i, image) for i, image in enumerate(study.images)) != 1:
        choice = target.image.model_dump(exclude_none=True)
        raise ConfigError(
            f"{place}: image {choice} is not exactly one of the study's {len(study.images)} images; "
            "list them with: isocenter read PATH --out DIR"
        )


def _no_taker(target: Target, cards: Sequence[TaskCard]) -> str:
    kinds = " and ".join(dict.fromkeys(p.kind for p in target.prompts))
    takers = [f"{card.name} ({', '.join(card.prompts)})" for card in cards if card.prompts]
    return (
        f"no task would answer it: none takes {kinds} without being named; tasks that take prompts: "
        f'{"; ".join(takers) or "none"}. Give it only kinds that one of them takes, or name a task ("task" or --task)'
    )


def _repeated(first: int, number: int, label: str) -> str:
    return (
        f"targets[{first}] and targets[{number}] are both called {label!r} in one image and task, and would become one "
        "segment; give each its own label, or put all prompts of one structure into one target"
    )


def _owner(label: str, targets: Sequence[Target]) -> Target | None:
    """Return the target that a segment's label names: the whole label, or the longest that it starts with."""
    named = [t for t in targets if label == t.label or label.startswith(t.label + PART)]
    return max(named, key=lambda t: len(t.label), default=None)


def _named(segment: Segment, target: Target) -> Segment:
    try:
        return replace(
            segment,
            type=target.type.code() if target.type else segment.type,
            category=(
                target.category.code() if target.category else ANATOMICAL_STRUCTURE if target.type else segment.category
            ),
            laterality=LATERALITY[target.laterality] if target.laterality else segment.laterality,
            colour=target.colour or segment.colour,
        )
    except UnitsError as error:
        raise ConfigError(f"prompt file: target {target.label!r}: {error}") from error


def _named_part(segment: Segment, target: Target, place: float, task: str) -> Segment:
    """Name one of several segments that answer a target; `place` from 0 to 1 lightens its colour."""
    for stated, own in ((target.type, segment.type), (target.category, segment.category)):
        if stated is not None and (stated.value, stated.scheme) != (own.value, own.scheme):
            raise ConfigError(
                f"prompt file: target {target.label!r}: {stated.meaning!r} is stated, and task {task!r} outlines "
                f"{own.meaning!r} ({own.value}, {own.scheme}); state that, or nothing"
            )
    colour = segment.colour
    if target.colour is not None:
        red, green, blue = (round(c + (255 - c) * 0.7 * place) for c in target.colour)
        colour = (red, green, blue)
    laterality = LATERALITY[target.laterality] if target.laterality else segment.laterality
    return replace(segment, laterality=laterality, colour=colour)


def _first(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_input=False)
    first = problems[0]
    where = ""
    for part in first["loc"]:
        where += f"[{part}]" if isinstance(part, int) else f".{part}" if where else str(part)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{where or 'file'}: {first['msg'].removeprefix('Value error, ')}{more}"
