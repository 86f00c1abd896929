"""The interactive network's training behind the face that `isocenter pretrain` knows (`learn.method.Method`)."""

from __future__ import annotations

import csv
import hashlib
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ValidationError

from isocenter import synth
from isocenter.core.errors import ConfigError
from isocenter.learn import interactive_samples, interactive_user
from isocenter.learn.interactive import InteractiveTraining, Trainer
from isocenter.learn.interactive_card import export, plot_curve
from isocenter.learn.method import StepReport, Stop, Tell
from isocenter.models.interactive import inputs
from isocenter.models.weights import load_weights

__all__ = ["METHOD", "InteractiveMethod"]

_SHOWN = ("dice_1", "dice_3", "examples_4")


class InteractiveMethod:
    """Learn to answer prompts from synthesis alone: the interactive network for planes, or for volumes."""

    name = "interactive"

    def configure(self, settings: Mapping[str, Any]) -> InteractiveTraining:
        """Check settings.

        Raises:
            ConfigError: A setting is unknown, missing or out of range, or images were given.
        """
        if settings.get("data") is not None:
            raise ConfigError("the method 'interactive' learns from synthesis alone; leave --data out")
        try:
            return InteractiveTraining.model_validate(settings)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise ConfigError(f"setting {'.'.join(str(p) for p in first['loc'])}: {first['msg']}") from error

    def data_identity(self, config: BaseModel) -> dict[str, Any]:
        """Say what is learnt from: no file, but the data engine's code, its settings and the seed."""
        training = _own(config)
        began_from = None if training.start_from is None else load_weights(training.start_from).card.sha256
        return {
            "kind": "synthesis",
            "began_from_sha256": began_from,
            "seed": training.seed,
            "samples": training.samples.model_dump(mode="json"),
            "stages": [stage.model_dump(mode="json") for stage in training.stages],
            "engine_sha256": _engine_sha256(),
        }

    def train(self, config: BaseModel, out: Path, stop: Stop, tell: Tell) -> None:
        """Train into a folder; see `Trainer`. The number of torch's threads is the configuration's meanwhile.

        Raises:
            WeightsError: The checkpoint can't be read.
        """
        training = _own(config)
        trainer = Trainer(training, out)
        threads = torch.get_num_threads()
        try:
            trainer.run(
                until=stop.until,
                resume=stop.resume and (out / "checkpoint.pt").is_file(),
                tell=_Watch(trainer, stop, tell).step,
            )
        finally:
            torch.set_num_threads(threads)

    def export(self, config: BaseModel, out: Path, *, command: str, machine: str) -> Path:
        """Write the averaged weights with their card.

        Raises:
            WeightsError: There is no checkpoint.
        """
        del config
        card = export(out, out / "weights", machine=machine, command=command)
        return out / "weights" / f"{card.name}.safetensors"

    def draw(self, out: Path, picture: Path) -> None:
        """Draw loss and held-out Dice over steps."""
        plot_curve(out, picture)


class _Watch:
    """Turns the trainer's rows into reports, and saves a checkpoint when the last one is some minutes old."""

    def __init__(self, trainer: Trainer, stop: Stop, tell: Tell) -> None:
        self._trainer, self._tell = trainer, tell
        self._every_seconds = stop.checkpoint_minutes * 60
        self._saved = time.monotonic()
        self._validation = _last_row(trainer.out / "validation.csv") if stop.resume else {}

    def step(self, row: Mapping[str, object]) -> None:
        """Take the row of a step."""
        config, step = self._trainer.config, int(str(row["step"]))
        if (step - 1) % config.validate_every == 0 or not self._validation:
            self._validation = _last_row(self._trainer.out / "validation.csv")
        if step % config.checkpoint_every == 0:
            self._saved = time.monotonic()
        # A step that is validated is saved after its validation, by the trainer or a step later: a checkpoint before
        # it would make a resumed training skip that row.
        elif step % config.validate_every != 0 and time.monotonic() - self._saved > self._every_seconds:
            self._trainer.save()
            self._saved = time.monotonic()
        loss, samples = float(str(row["loss"])), config.stage(step - 1).batch
        self._tell(StepReport(step, config.steps, loss, samples, self._validation, shown=_SHOWN))


def _last_row(path: Path) -> dict[str, float]:
    """Return the numbers of a table's last row, its step too; nothing where there is none."""
    if not path.is_file():
        return {}
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    found = {k: float(v) for k, v in rows[-1].items()} if rows else {}
    return {k: v for k, v in found.items() if not math.isnan(v)}


def _engine_sha256() -> str:
    """Return the hash of the code that makes samples and prompts: with the settings and the seed, it is the data."""
    digest = hashlib.sha256()
    prompts = [Path(str(module.__file__)) for module in (interactive_samples, interactive_user, inputs)]
    for file in [*sorted(Path(synth.__file__).parent.glob("*.py")), *prompts]:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _own(config: BaseModel) -> InteractiveTraining:
    if not isinstance(config, InteractiveTraining):
        raise ConfigError(f"the method 'interactive' takes its own configuration, not {type(config).__name__}")
    return config


METHOD = InteractiveMethod()
