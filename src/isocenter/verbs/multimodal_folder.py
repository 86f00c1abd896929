"""The folder of a task that answers questions: `isocenter adapt --pairs` writes it, `--task FOLDER` takes it.

task.json                           card, questions that were learnt, what is promised, which images are like those
NAME.safetensors .json .md          the weights with their card
NAME.vocabulary.json                the words
held-out.csv                        what each test question was answered
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from isocenter.core import Task, TaskCard, TaskEntry
from isocenter.core.errors import ConfigError, WeightsError
from isocenter.data.images.atomic import atomic_path
from isocenter.tasks.answer.cards import Asked
from isocenter.verbs.adapted_folder import TASK_FILE, card_fields, card_of
from isocenter.verbs.session_folder import WeightsEntry

__all__ = ["FORMAT", "AnswerFile", "answer_entry", "is_answer_folder", "write_answer_task"]

FORMAT: Final = "isocenter-answer-task/1"


class AnswerFile(BaseModel):
    """What `task.json` holds.

    Attributes:
        format: Version of this form.
        card: Fields of `core.TaskCard`.
        asked: The kinds of question that it learnt, and what is promised of each.
        layouts: Light and dark of images that it learnt from.
        least_likeness: How like one of them a further image must be.
        weights: The weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["isocenter-answer-task/1"] = FORMAT
    card: dict[str, Any]
    asked: tuple[Asked, ...] = Field(min_length=1)
    layouts: tuple[tuple[float, ...], ...] = ()
    least_likeness: float = -1.0
    weights: WeightsEntry


def is_answer_folder(path: Path) -> bool:
    """Tell whether a path is the folder of a task that answers questions."""
    try:
        return bool(json.loads((path / TASK_FILE).read_text("utf-8")).get("format") == FORMAT)
    except (OSError, ValueError, AttributeError):
        return False


def write_answer_task(
    folder: Path,
    card: TaskCard,
    asked: list[dict[str, object]],
    likeness: tuple[list[list[float]], float],
    weights: WeightsEntry,
) -> AnswerFile:
    """Write `task.json` beside the weights.

    Args:
        folder: Where the weights lie.
        card: The task's.
        asked: What is promised of each kind of question.
        likeness: Layouts of images, and the least likeness.
        weights: Name and hash.
    """
    document = AnswerFile.model_validate(
        {
            "card": card_fields(card),
            "asked": asked,
            "layouts": likeness[0],
            "least_likeness": likeness[1],
            "weights": weights,
        }
    )
    with atomic_path(folder / TASK_FILE) as temporary:
        temporary.write_text(document.model_dump_json(indent=1) + "\n", "utf-8")
    return document


def answer_entry(folder: Path) -> TaskEntry:
    """Return the entry of a task that answers questions: its card at once, the network when it runs, and then kept.

    Raises:
        ConfigError: What the folder says of its task breaks the form.
    """
    file = folder / TASK_FILE
    try:
        document = AnswerFile.model_validate_json(file.read_bytes())
        card = card_of(document.card)
    except (ValidationError, TypeError, OSError) as error:
        raise ConfigError(f"{file}: not the description of a task that answers questions; adapt again") from error

    @cache
    def load() -> Task:
        return _load(folder, document, card)

    return TaskEntry(card, "isocenter.tasks.answer.task:AnswerTask", load)


def _load(folder: Path, document: AnswerFile, card: TaskCard) -> Task:
    from isocenter.models.multimodal import load_multimodal
    from isocenter.tasks.answer.task import Answering, AnswerTask

    model = load_multimodal(folder / f"{document.weights.name}.safetensors")
    if model.card is None or model.card.sha256 != document.weights.sha256:
        raise WeightsError(f"{folder}: the weights are not those that its {TASK_FILE} names; adapt again")
    return AnswerTask(model, Answering(card, document.asked, document.layouts, document.least_likeness))
