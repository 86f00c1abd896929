"""Everything that a training of a multimodal model depends on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from isocenter.core.errors import ConfigError
from isocenter.learn.jitter import Jitter
from isocenter.models.multimodal import Learning, ProjectorSettings

__all__ = [
    "DataSettings",
    "LanguageChoice",
    "LearningChoice",
    "MultimodalTraining",
    "ProjectorChoice",
    "QuestionData",
    "ReportData",
    "SyntheticQuestions",
    "VisionChoice",
    "check_config",
    "load_config",
]


_SMALL: dict[str, Any] = {
    "kind": "residual-unet", "dims": 2, "channels_in": 1, "widths": [16, 32, 64, 96], "blocks": [1, 1, 1, 1],
    "strides": [[2, 2], [2, 2], [2, 2], [1, 1]],
}  # fmt: skip
"""A tower that learns in minutes on one core; what is shown to it is halved before it is looked at closely."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SyntheticQuestions(_Strict):
    """Patients of `synth.questioned`.

    Attributes:
        kind: "synthetic".
        seed: Of the stream; all splits are different patients of it.
        patients: To train on.
        validation: To watch the training, and to fit what is promised.
        test: To measure at the end.
    """

    kind: Literal["synthetic"] = "synthetic"
    seed: int = Field(default=0, ge=0)
    patients: int = Field(default=4000, ge=2)
    validation: int = Field(default=300, ge=2)
    test: int = Field(default=400, ge=2)


class _FromTable(_Strict):
    """What both kinds of table share.

    Attributes:
        table: The CSV file, relative to the folder of the set.
        images: Folder of the images, relative to the same.
        image: Column of the image; several with "|" between them.
        patient: Column of the patient; None where every image is a patient of its own.
        split: Column of the split; None where it is drawn by patient.
        validation: Share of patients, where the split is drawn.
        test: Share of patients, where the split is drawn.
        licence: Licence of the set, for the card.
        source: Where the set comes from, for the card.
    """

    table: str = "pairs.csv"
    images: str = "."
    image: str = "image"
    patient: str | None = None
    split: str | None = None
    validation: float = Field(default=0.2, gt=0, lt=1)
    test: float = Field(default=0.2, gt=0, lt=1)
    licence: str = "not stated"
    source: str = "the user's own"


class QuestionData(_FromTable):
    """Images with questions and answers.

    Attributes:
        kind: "questions".
        question: Column of the question.
        answer: Column of the answer.
        question_kind: Column of the kind of question; None: every wording is a kind of its own.
    """

    kind: Literal["questions"] = "questions"
    question: str = "question"
    answer: str = "answer"
    question_kind: str | None = None


class ReportData(_FromTable):
    """Images with reports: one question is asked of all.

    Attributes:
        kind: "reports".
        report: Column of the report.
        asked: The question.
    """

    kind: Literal["reports"] = "reports"
    report: str = "report"
    asked: str = Field(default="Describe the image.", min_length=1)


DataSettings = Annotated[SyntheticQuestions | QuestionData | ReportData, Field(discriminator="kind")]


class VisionChoice(_Strict):
    """The vision tower.

    Attributes:
        backbone: A name ("vit-tiny/8", "residual-tiny"), or the settings of a backbone as its card writes them; by
            default a small one for planes.
        size: Pixels of the square that a plane is fitted into, or voxels (z, y, x) of a volume.
        start_from: Weights of a backbone to begin with, a built-in name or a path; None begins anew.
        folder: A Hugging Face folder on this machine (CLIP, SigLIP, DINOv2, ViT) instead.
    """

    backbone: str | dict[str, Any] = Field(default_factory=lambda: dict(_SMALL))
    size: int | tuple[int, int, int] = 64
    start_from: str | None = None
    folder: str | None = None

    @property
    def sides(self) -> tuple[int, ...]:
        """The size along every axis."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size


class ProjectorChoice(_Strict):
    """The projector; see `models.multimodal.ProjectorSettings`.

    Attributes:
        pool: Places along each axis that become one token; None for 2, or for 1 where queries look.
        queries: How many looks make the tokens instead; 0 for none.
        hidden: Width inside the perceptron, in widths of the language model.
    """

    pool: int | None = Field(default=None, ge=1)
    queries: int = Field(default=0, ge=0)
    hidden: float = Field(default=2.0, gt=0)

    @property
    def card(self) -> dict[str, object]:
        """The card of the projector."""
        pool = self.pool if self.pool is not None else 1 if self.queries else 2
        return ProjectorSettings(pool, self.queries, self.hidden).as_card()


class LanguageChoice(_Strict):
    """The language model.

    Attributes:
        folder: A Hugging Face folder on this machine (Llama, Mistral, Qwen, Gemma); None for the embedded one.
        vocabulary: Tokens that are learnt from the questions and answers, at most; with a folder, its own are taken.
        length: Tokens of a dialogue at most, those of images among them.
        width: Of the embedded one.
        depth: Of the embedded one.
        heads: Of the embedded one.
        groups: Heads of keys of the embedded one.
        hidden: Inside a block's perceptron of the embedded one.
    """

    folder: str | None = None
    vocabulary: int = Field(default=600, ge=259)
    length: int = Field(default=128, ge=8)
    width: int = Field(default=192, ge=8)
    depth: int = Field(default=4, ge=1)
    heads: int = Field(default=6, ge=1)
    groups: int = Field(default=3, ge=1)
    hidden: int = Field(default=512, ge=8)


class LearningChoice(_Strict):
    """What learns; see `models.multimodal.Learning`. Rank 0 lets the language model learn as a whole."""

    rank: int = Field(default=0, ge=0)
    scale: float = Field(default=2.0, gt=0)
    magnitude: bool = False
    tower: Literal["full", "lora", "locked"] = "full"

    def learning(self, seed: int) -> Learning:
        """Return what learns."""
        return Learning(self.rank, self.scale, self.magnitude, self.tower, seed)


class MultimodalTraining(_Strict):
    """Everything that a training depends on.

    Attributes:
        verb: "adapt".
        name: Of the weights and of the task.
        seed: Decides every weight, batch and alteration.
        data: What is learnt from.
        start_from: Multimodal weights of ours to begin with (file or folder); they bring tower, projector, language
            model and words, and the settings of these are not looked at. None begins anew.
        whole: A LLaVA or Gemma 3 folder on this machine to begin with, likewise.
        vision: The vision tower.
        projector: The projector.
        language: The language model.
        learns: What learns of them.
        save: "whole" writes weights that need nothing else; "adapter" writes what was learnt alone, for folders.
        jitter: How images are altered.
        steps: How many.
        batch: Questions of a step.
        learning_rate: Peak; up over `warmup_steps`, then down along a cosine to nothing.
        warmup_steps: How many.
        weight_decay: Of AdamW, on matrices.
        clip_norm: Longest gradient.
        average: Decay of the averaged weights, which are the ones that are written.
        level: Chance that sets of answers promise.
        device: "cpu" or "cuda".
        threads: Of torch.
        checkpoint_every: Steps.
        validate_every: Steps.
        watched: Questions of the validation split that are looked at during a training.
        licence: Licence of the weights, for their card.
    """

    verb: Literal["adapt"] = "adapt"
    name: str = Field(default="multimodal", pattern=r"^[a-z0-9][a-z0-9-]{0,48}$")
    seed: int = Field(default=0, ge=0)
    data: DataSettings = SyntheticQuestions()
    start_from: str | None = None
    whole: str | None = None
    vision: VisionChoice = VisionChoice()
    projector: ProjectorChoice = ProjectorChoice()
    language: LanguageChoice = LanguageChoice()
    learns: LearningChoice = LearningChoice()
    save: Literal["whole", "adapter"] = "whole"
    jitter: Jitter = Jitter()
    steps: int = Field(default=1000, ge=1)
    batch: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=0.001, gt=0)
    warmup_steps: int = Field(default=50, ge=0)
    weight_decay: float = Field(default=0.05, ge=0)
    clip_norm: float = Field(default=1.0, gt=0)
    average: float = Field(default=0.99, ge=0, lt=1)
    level: float = Field(default=0.9, gt=0, lt=1)
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = Field(default=1, ge=1)
    checkpoint_every: int = Field(default=100, ge=1)
    validate_every: int = Field(default=100, ge=1)
    watched: int = Field(default=256, ge=1)
    licence: str = Field(default="LicenseRef-as-the-pairs", min_length=1, max_length=64)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        up = min(1.0, (step + 1) / max(1, self.warmup_steps))
        gone = max(0, step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.learning_rate * up * (0.5 + 0.5 * math.cos(math.pi * gone))


def check_config(settings: Mapping[str, Any]) -> MultimodalTraining:
    """Check settings.

    Raises:
        ConfigError: One is unknown, missing or out of range, or two contradict each other.
    """
    try:
        checked = MultimodalTraining.model_validate(settings)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ConfigError(f"setting {'.'.join(str(p) for p in first['loc'])}: {first['msg']}") from error
    if checked.start_from is not None and checked.whole is not None:
        raise ConfigError("settings start_from and whole: begin with one of them")
    if checked.save == "adapter" and checked.whole is None and checked.language.folder is None:
        raise ConfigError("setting save: an adapter needs a folder that it changes (whole, or language.folder)")
    if checked.save == "adapter" and not checked.learns.rank:
        raise ConfigError("setting save: an adapter needs low-rank changes (learns.rank of 1 or more)")
    try:
        checked.learns.learning(checked.seed)
        _ = checked.projector.card
    except ConfigError as error:
        raise ConfigError(f"settings learns and projector: {error}") from error
    return checked


def load_config(path: Path) -> dict[str, Any]:
    """Read the settings of a configuration; they are checked by `check_config`, once what is said beside it is in.

    Raises:
        ConfigError: It can't be read, or holds no settings.
    """
    try:
        settings = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path.name}: can't be read; give a YAML file such as configs/multimodal-synthetic.yaml"
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"{path.name}: not a YAML file that can be read{place}") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"{path.name}: holds no settings; see configs/multimodal-synthetic.yaml")
    return {str(key): value for key, value in settings.items()}
