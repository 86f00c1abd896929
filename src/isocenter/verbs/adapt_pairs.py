"""Adapt to pairs of images and words: a multimodal model, its blind twin, the gap between them, a task that answers.

The folder of the run is the folder of the task: `run.json` (configuration, seed, code, what was learnt from),
`sighted/` and `blind/` (checkpoints and curves), and, once both are finished, weights, words, card, `task.json`,
`held-out.csv` and `blind_gap.json`.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from isocenter.core.errors import CapabilityError, ConfigError
from isocenter.data.images.atomic import atomic_path, explain_os_error
from isocenter.plugins import task_entries
from isocenter.tasks.answer.cards import Asked
from isocenter.verbs.multimodal_folder import write_answer_task
from isocenter.verbs.pretrain import missing_for_learning
from isocenter.verbs.provenance import machine
from isocenter.verbs.read import Progress
from isocenter.verbs.run_folder import begin_run
from isocenter.verbs.session_folder import WeightsEntry
from isocenter.verbs.settings import configured

if TYPE_CHECKING:
    from isocenter.learn.multimodal.config import MultimodalTraining
    from isocenter.learn.multimodal.export import Outcome
    from isocenter.learn.multimodal.trainer import Trainer

__all__ = ["BLIND_GAP", "HELD_OUT", "AdaptPairsConfig", "AdaptPairsResult", "GapRow", "adapt_pairs", "run"]

BLIND_GAP, HELD_OUT = "blind_gap.json", "held-out.csv"


class AdaptPairsConfig(BaseModel):
    """Configuration of `isocenter adapt --pairs`.

    Attributes:
        out: Folder of the run and of the task; must not exist or be empty unless `resume`.
        pairs: CSV table with the columns image, question and answer, or image and report; images lie relative to it.
            None where the configuration learns from synthesis.
        config: YAML file with every setting of the training; see configs/multimodal-synthetic.yaml. None for defaults.
        blind: Whether the blind twin is trained too: without it nothing is known of how much comes from looking.
        resume: Whether to go on from the checkpoints of the run.
        until: Stop at this step; None for the end.
        checkpoint_minutes: Longest time between two checkpoints.
        name: Of the weights and the task; None as the configuration says.
        steps: Of each training; None as the configuration says.
        seed: None as the configuration says.
        licence: Of the weights; None as the configuration says.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    out: Path
    pairs: Path | None = None
    config: Path | None = None
    blind: bool = True
    resume: bool = False
    until: int | None = Field(default=None, ge=1)
    checkpoint_minutes: float = Field(default=3.0, gt=0)
    name: str | None = None
    steps: int | None = Field(default=None, ge=1)
    seed: int | None = Field(default=None, ge=0)
    licence: str | None = None


class GapRow(BaseModel):
    """How often a kind of question is answered rightly; see `learn.multimodal.measure.GapFigure`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    answers: int
    questions: int
    patients: int
    prior: float
    sighted: float
    low: float | None
    high: float | None
    blind: float | None
    shuffled: float
    gap: float | None
    gap_low: float | None
    gap_high: float | None
    p: float | None

    def line(self) -> str:
        """Return the figure as a line for people."""
        sure = "" if self.low is None else f" ({self.low:.3f} to {self.high:.3f})"
        line = f"{self.kind}: {self.sighted:.3f}{sure} right; another image {self.shuffled:.3f}"
        if self.gap is None:
            return f"{line}; most frequent answer {self.prior:.3f}"
        sure = "" if self.gap_low is None else f" ({self.gap_low:+.3f} to {self.gap_high:+.3f})"
        return f"{line}; blind {self.blind:.3f}; gap {self.gap:+.3f}{sure}"


class AdaptPairsResult(BaseModel):
    """What a training came to.

    Attributes:
        step: Steps of the sighted training.
        steps: Of the whole training.
        finished: Whether it and its blind twin reached their end; only then there is a task.
        figures: On test patients, by kind of question.
        free_loss: Of free answers in nats a token: sighted, blind, shuffled; empty without any.
        task: Folder of the task; None where it was not finished, has no closed questions or was saved as an adapter.
        weights: File of the weights; None where it was not finished.
        seconds: Of this call.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    step: int
    steps: int
    finished: bool
    figures: tuple[GapRow, ...] = ()
    free_loss: dict[str, float] = Field(default_factory=dict)
    task: Path | None = None
    weights: Path | None = None
    seconds: float

    def lines(self) -> list[str]:
        """Return the result as lines for people."""
        if not self.finished:
            return [f"step {self.step} of {self.steps}; go on with --resume"]
        lines = [f"{self.steps} steps; test patients:", *(f"  {row.line()}" for row in self.figures)]
        if self.free_loss:
            said = ", ".join(f"{name} {value:.3f}" for name, value in self.free_loss.items())
            lines.append(f"  free answers, loss in nats a token: {said}")
        lines.append(f"weights: {self.weights}")
        if self.task is not None:
            lines.append(f"ask it: isocenter read STUDY --out RESULT --task {self.task} --prompt QUESTION.json")
        return lines


def adapt_pairs(
    out: Path | str, pairs: Path | str | None = None, *, progress: Progress | None = None, **settings: Any
) -> AdaptPairsResult:
    """Learn to answer questions about images, or to write their reports, from pairs; with a blind twin.

    Args:
        out: Folder of the run and of the task.
        pairs: CSV table; None where the configuration learns from synthesis.
        progress: Called with how it goes and how much is done.
        **settings: Any further field of `AdaptPairsConfig`.

    Returns:
        Held-out figures, and where weights and task are.

    Raises:
        ConfigError: A setting is wrong, the folder is taken, or its run is of another configuration or of other data.
        DataError: The table or an image is not what it must be, or there is nothing to learn.
        IdentityLeak: The table puts a patient into two splits.
        CapabilityError: A package that training needs is not installed.
        WeightsError: A checkpoint, weights to begin with or a folder can't be read.
        TrainingError: The loss is no number.
        OutputError: The disk is full, or the folder can't be written.
    """
    given = None if pairs is None else Path(pairs)
    config = configured(AdaptPairsConfig, out=Path(out), pairs=given, **settings)
    return run(config, progress)


def run(config: AdaptPairsConfig, progress: Progress | None = None) -> AdaptPairsResult:
    """Do what an `AdaptPairsConfig` says; see `adapt_pairs`."""
    tell, started = progress or (lambda _stage, _done: None), time.monotonic()
    missing = [name for name in missing_for_learning() if name != "matplotlib"]
    if missing:
        raise CapabilityError(f"adapting needs {', '.join(missing)}: pip install 'isocenter[torch]'")
    from isocenter.learn.multimodal.begin import image_input_of
    from isocenter.learn.multimodal.cases import open_cases
    from isocenter.learn.multimodal.trainer import Trainer

    training = _training(config)
    tell("reading pairs", 0.0)
    folder = None if config.pairs is None else config.pairs.parent
    cases = open_cases(training.data, image_input_of(training), folder, training.seed)
    if config.pairs is not None:
        cases.check_images(lambda done: tell("reading images", 0.02 * done))
    sighted = Trainer(training, cases, config.out / "sighted")
    twins = [(sighted, "sighted")]
    if config.blind:
        twins.append((Trainer(training, cases, config.out / "blind", blind=True), "blind"))
    data = {
        **cases.identity, "vocabulary_sha256": sighted.vocabulary_sha256, "began_from": sighted.beginning.began_from,
        "blind_twin": config.blind,
    }  # fmt: skip
    try:
        resolved = training.model_dump(mode="json")
        begin_run(config.out, "adapt", resolved, data, resume=config.resume, until=config.until)
        for number, (trainer, what) in enumerate(twins):
            watch = _watch(tell, training.steps, what, number / len(twins), 0.95 / len(twins))
            trainer.run(
                until=config.until,
                resume=config.resume,
                checkpoint_minutes=config.checkpoint_minutes,
                tell_step=watch,
            )
        finished = all(trainer.step >= training.steps for trainer, _ in twins)
        if not finished:
            return AdaptPairsResult(
                step=sighted.step, steps=training.steps, finished=False, seconds=round(time.monotonic() - started, 1)
            )
        tell("answering test questions, weights and card", 0.96)
        blind = twins[1][0] if config.blind else None
        return _finish(config, (sighted, blind), started)
    except OSError as error:
        raise explain_os_error(error, config.out, doing="write") from error


def _training(config: AdaptPairsConfig) -> MultimodalTraining:
    """Return the training's configuration: the file's, with what the call says on top."""
    from isocenter.learn.multimodal.config import check_config, load_config

    if config.pairs is None and config.config is None:
        raise ConfigError("give --pairs TABLE, or --config with a configuration that learns from synthesis")
    settings = {} if config.config is None else load_config(config.config)
    for name in ("name", "steps", "seed", "licence"):
        value = getattr(config, name)
        if value is not None:
            settings[name] = value
    if config.pairs is not None:
        settings["data"] = {**_columns(config.pairs, settings.get("data")), "table": config.pairs.name}
    checked = check_config(settings)
    entries, _ = task_entries()
    if checked.name in entries:
        raise ConfigError(f"an installed task is named {checked.name!r}; choose another --name")
    return checked


def _columns(pairs: Path, given: object) -> Mapping[str, Any]:
    """Return the settings of a table: the configuration's, or what its heading says."""
    if isinstance(given, dict) and given.get("kind") in ("questions", "reports"):
        return given
    if given is not None:
        raise ConfigError("--pairs was given, and the configuration learns from synthesis; leave one of them out")
    try:
        with pairs.open(encoding="utf-8-sig", newline="") as stream:
            heading = next(csv.reader(stream), [])
    except OSError as error:
        raise explain_os_error(error, pairs, doing="read") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{pairs.name}: not a CSV file in UTF-8; save it as one") from error
    known: dict[str, Any] = {name: name for name in ("patient", "split") if name in heading}
    if "question" in heading:
        return {"kind": "questions", **known, **({"question_kind": "kind"} if "kind" in heading else {})}
    if "report" in heading:
        return {"kind": "reports", **known}
    raise ConfigError(
        f"{pairs.name}: has neither a column 'question' (with 'answer') nor 'report'; name its columns in a --config"
    )


def _watch(tell: Progress, steps: int, what: str, begun: float, share: float) -> Any:
    """Return what puts a step into words: where it stands, and how long it will take."""
    state = {"loss": float("nan"), "since": time.monotonic(), "first": -1.0}

    def step(row: Mapping[str, float], validation: Mapping[str, float]) -> None:
        at = row["step"]
        if state["first"] < 0:
            state["first"], state["since"], state["loss"] = at, time.monotonic(), row["loss"]
        state["loss"] = 0.95 * state["loss"] + 0.05 * row["loss"]
        each = (time.monotonic() - state["since"]) / max(1.0, at - state["first"])
        held = f", validation accuracy {validation['accuracy']:.2f}" if validation else ""
        left = f"{each * (steps - at) / 60:.0f} min left"
        words = f"{what}: step {int(at)} of {steps}, loss {state['loss']:.3f}{held}, {left}"
        tell(words, begun + share * at / steps)

    return step


def _finish(config: AdaptPairsConfig, twins: tuple[Trainer, Trainer | None], started: float) -> AdaptPairsResult:
    """Measure, fit what is promised, and write weights, card, table and task."""
    from isocenter.learn.multimodal.export import (
        export,
        held_out_rows,
        known_layouts,
        outcome,
        unlike_share,
        write_rows,
    )
    from isocenter.tasks.answer.cards import answer_card

    sighted, blind = twins
    training = sighted.config
    found = outcome(sighted, blind)
    given = "" if config.pairs is None else " --pairs TABLE"
    used = "" if config.config is None else f" --config {config.config.name}"
    weights = export(
        sighted,
        found,
        config.out,
        command=f"isocenter adapt{given}{used} --out RUN",
        machine=machine(),
        blind_seconds=None if blind is None else blind.seconds,
    )
    write_rows(config.out / HELD_OUT, held_out_rows(sighted.cases, found))
    likeness = known_layouts(sighted.cases)
    document = {**_document(found, sighted, blind), "unlike_share": unlike_share(sighted.cases, likeness)}
    with atomic_path(config.out / BLIND_GAP) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    task = None
    if found.promises and training.save == "whole":
        card = answer_card(
            training.name, [str(p["kind"]) for p in found.promises], dims=sighted.cases.image_input.dims,
            licence=training.licence,
        )  # fmt: skip
        entry = WeightsEntry(name=training.name, sha256=_sha256(weights))
        write_answer_task(config.out, card, list(found.promises), likeness, entry)
        task = config.out
    return AdaptPairsResult(
        step=sighted.step,
        steps=training.steps,
        finished=True,
        figures=tuple(GapRow(**f.as_row()) for f in found.test.figures),  # type: ignore[arg-type]
        free_loss=document["free_loss"],
        task=task,
        weights=weights,
        seconds=round(time.monotonic() - started, 1),
    )


def _sha256(weights: Path) -> str:
    from isocenter.models.weights import read_card

    return read_card(weights).sha256


def _document(found: Outcome, sighted: Trainer, blind: Trainer | None) -> dict[str, Any]:
    names = ("sighted", "blind", "shuffled")
    free = {
        name: float(one.values.mean())
        for name, one in zip(names, found.test.free, strict=True)
        if one is not None and len(one.values)
    }
    held = {str(p["kind"]): h.as_row() for p, h in zip(found.promises, found.held_to, strict=True)}
    return {
        "step": sighted.step,
        "figures": [f.as_row() for f in found.test.figures],
        "validation_figures": [f.as_row() for f in found.validation.figures],
        "held_to": held,
        "looking": {str(p["kind"]): p["looking"] for p in found.promises},
        "keeps_its_level": {str(p["kind"]): Asked.model_validate(p).keeps_its_level for p in found.promises},
        "free_loss": free,
        "cpu_minutes": round(sighted.seconds / 60, 2),
        "cpu_minutes_blind": None if blind is None else round(blind.seconds / 60, 2),
    }
