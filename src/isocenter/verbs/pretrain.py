"""Pretrain a model from a configuration: checkpoints, curves, and at the end weights with their card.

What trains is a method, a plug-in (`learn.method.Method`) that the configuration names: ``method: interactive``. The
run's folder holds all that is needed to repeat it: `run.json` (the resolved configuration, seed, version of the code,
what was learnt from), the tables of every step and validation, the curves, the checkpoint, and the weights.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from isocenter.core.errors import CapabilityError, ConfigError
from isocenter.data.images.atomic import explain_os_error
from isocenter.plugins import find, load
from isocenter.verbs.provenance import machine
from isocenter.verbs.read import Progress
from isocenter.verbs.run_folder import begin_run
from isocenter.verbs.settings import configured

if TYPE_CHECKING:
    from isocenter.learn.method import Method, StepReport

__all__ = ["PretrainConfig", "PretrainResult", "missing_for_learning", "pretrain", "read_settings", "run"]

CHECKPOINT, CURVES = "checkpoint.pt", "curves.png"
_NEEDS = ("torch", "safetensors", "matplotlib")


class PretrainConfig(BaseModel):
    """Configuration of `isocenter pretrain`.

    Attributes:
        config: YAML file with every setting of the training; its key `method` names a plug-in of `isocenter.methods`.
        out: Folder of the run; must not exist or be empty unless `resume`.
        data: What is learnt from, for methods that learn from images: a folder, a list of paths (.txt) or an .npz. It
            goes before the setting `data` of the file.
        resume: Whether to go on from the run's checkpoint.
        until: Stop at this step; None for the end.
        checkpoint_minutes: Longest time between two checkpoints.
        parallel: How several processes hold the weights, "ddp" or "fsdp"; it goes before the setting of the file.
        ray: Train in this many processes of Ray Train, on the cluster that RAY_ADDRESS names, or on this machine.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: Path
    out: Path
    data: Path | None = None
    resume: bool = False
    until: int | None = Field(default=None, ge=1)
    checkpoint_minutes: float = Field(default=3.0, gt=0)
    parallel: Literal["auto", "ddp", "fsdp"] | None = None
    ray: int | None = Field(default=None, ge=1)


class PretrainResult(BaseModel):
    """What a training came to.

    Attributes:
        method: Name of the method.
        step: Steps done.
        steps: Steps of the whole training.
        finished: Whether it reached its end.
        validation: The last held-out figures.
        weights: File of the weights; their card lies beside it.
        curves: Picture of loss and validation.
        seconds: Of this call.
        notes: What could not be done as wished: images that can't be read, a package that is missing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    step: int
    steps: int
    finished: bool
    validation: dict[str, float]
    weights: Path
    curves: Path
    seconds: float
    notes: tuple[str, ...] = ()


def pretrain(
    config: Path | str, out: Path | str, *, progress: Progress | None = None, **settings: Any
) -> PretrainResult:
    """Train what a configuration says, into a folder.

    Args:
        config: YAML file, e.g. configs/interactive-2d.yaml.
        out: Folder of the run.
        progress: Called with how it goes and how much is done.
        **settings: Any further field of `PretrainConfig`.

    Returns:
        Where the weights are, and the last figures.

    Raises:
        ConfigError: A setting is wrong, the folder is taken, or its run is of another configuration.
        CapabilityError: A package that training needs, or Ray, is not installed.
        TrainingError: The training can't go on: a loss that is no number, a process of Ray that died.
        WeightsError: The checkpoint can't be read.
        OutputError: The disk is full, or the folder can't be written.
        PluginError: There is no such method.
    """
    checked = configured(PretrainConfig, config=Path(config), out=Path(out), **settings)
    return run(checked, progress)


def run(config: PretrainConfig, progress: Progress | None = None) -> PretrainResult:
    """Do what a `PretrainConfig` says; see `pretrain`."""
    tell = progress or (lambda _stage, _done: None)
    started = time.monotonic()
    settings = read_settings(config.config)
    if config.data is not None:
        settings["data"] = config.data
    if config.parallel is not None:
        settings["parallel"] = config.parallel
    missing = missing_for_learning()
    if missing:
        raise CapabilityError(f"training needs {', '.join(missing)}: pip install 'isocenter[learn]'")
    tell("starting", 0.0)
    method = _method(settings, config.config.name)
    try:
        training = method.configure(settings)
    except ConfigError as error:
        raise ConfigError(f"{config.config.name}: {error}") from error
    if config.ray is not None:
        from isocenter.verbs.pretrain_ray import train_under_ray

        tell(f"Ray Train, {config.ray} processes", 0.0)
        found = train_under_ray(config, parallel=bool(getattr(method, "parallel", False)))
        return found.model_copy(update={"seconds": round(time.monotonic() - started, 3)})
    watch = _Watch(tell, method, config.out)
    weights = _train(config, method, training, watch)
    card = json.loads(weights.with_suffix(".json").read_text("utf-8"))
    told = card["training"]
    step, steps = (int(told[key]) for key in ("steps", "steps_planned"))
    return PretrainResult(
        method=method.name,
        step=step,
        steps=steps,
        finished=step >= steps,
        validation=dict(watch.validation or told.get("held_out", told.get("held_out_synthesis", {}))),
        weights=weights,
        curves=config.out / CURVES,
        seconds=round(time.monotonic() - started, 3),
        notes=watch.notes,
    )


def _train(config: PretrainConfig, method: Method, training: BaseModel, watch: _Watch) -> Path:
    """Train in this process and in those that `torchrun` started beside it; return the weights' file."""
    from isocenter.learn.method import Stop
    from isocenter.learn.pretraining.parallel import joined
    from isocenter.learn.sharded_checkpoint import has_shards

    out = config.out
    there = (out / CHECKPOINT).is_file() or has_shards(out)
    stop = Stop(config.until, config.resume and there, config.checkpoint_minutes)
    with joined() as here:
        if here.size > 1 and not getattr(method, "parallel", False):
            raise ConfigError(f"the method {method.name!r} trains in one process; start it without torchrun or --ray")
        try:
            if here.first:
                resolved, data = training.model_dump(mode="json"), method.data_identity(training)
                begin_run(
                    config.out, "pretrain", {**resolved, "method": method.name}, data, resume=config.resume,
                    until=config.until,
                )  # fmt: skip
            here.wait()
            method.train(training, out, stop, watch.step if here.first else lambda _report: None)
            command = f"isocenter pretrain {config.config.name} --out RUN{' --data DATA' if config.data else ''}"
            if here.first:
                watch.say("weights and card", 1.0)
                weights = method.export(training, out, command=command, machine=machine())
                method.draw(out, out / CURVES)
            here.wait()
            if not here.first:
                weights = min((out / "weights").glob("*.safetensors"), key=lambda file: len(file.name))
        except OSError as error:
            raise explain_os_error(error, out, doing="write") from error
    return weights


class _Watch:
    """Puts what a step says into words: where it stands, how fast it is, how long it will take."""

    def __init__(self, tell: Progress, method: Method, out: Path) -> None:
        self._tell, self._method, self._out = tell, method, out
        self._recent: deque[tuple[float, int]] = deque([(time.monotonic(), 0)], maxlen=51)
        self._loss: float | None = None
        self.validation: Mapping[str, float] = {}
        self.notes: tuple[str, ...] = ()

    def say(self, what: str, done: float) -> None:
        self._tell(what, done)

    def step(self, report: StepReport) -> None:
        self._recent.append((time.monotonic(), report.samples))
        seconds = max(1e-6, self._recent[-1][0] - self._recent[0][0])
        count = len(self._recent) - 1
        rate = sum(samples for _, samples in list(self._recent)[1:]) / seconds
        left = (report.steps - report.step) * seconds / count
        self._loss = report.loss if self._loss is None else 0.95 * self._loss + 0.05 * report.loss
        self.notes = report.notes
        if report.validation != self.validation:
            self.validation = dict(report.validation)
            self._method.draw(self._out, self._out / CURVES)
        shown = report.shown or tuple(k for k in self.validation if k != "step")
        found = [(k.removeprefix("held_out_").replace("_", " "), self.validation.get(k)) for k in shown]
        known = [f"{name} {value:.3f}" for name, value in found if value is not None]
        held = f"\nheld-out: {', '.join(known)}" if known else ""
        noted = f" ({len(report.notes)} note{'s' if len(report.notes) > 1 else ''} at the end)" if report.notes else ""
        words = f"step {report.step} of {report.steps}, loss {self._loss:.3f}, {rate:.1f} samples/s"
        self._tell(f"{words}, {_duration(left)} left{noted}{held}", report.step / report.steps)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def missing_for_learning() -> tuple[str, ...]:
    """Return the packages that training needs and that are not installed (import names)."""
    from importlib.util import find_spec

    return tuple(name for name in _NEEDS if find_spec(name) is None)


def read_settings(path: Path) -> dict[str, Any]:
    """Read a configuration file.

    Raises:
        ConfigError: It can't be read, or names no method.
    """
    try:
        settings = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(str(explain_os_error(error, path, doing="read"))) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"{path.name}: not a YAML file that can be read{place}") from error
    if not isinstance(settings, dict) or not isinstance(settings.get("method"), str):
        known = ", ".join(find("isocenter.methods"))
        raise ConfigError(f"{path.name}: needs a key 'method' that names what trains (one of: {known})")
    return {str(key): value for key, value in settings.items()}


def _method(settings: Mapping[str, Any], where: str) -> Method:
    name = str(settings["method"])
    known = find("isocenter.methods")
    if name not in known:
        raise ConfigError(f"{where}: no method {name!r}; installed: {', '.join(known) or 'none'}")
    method = load("isocenter.methods", name)
    from isocenter.learn.method import Method

    if not isinstance(method, Method) or isinstance(method, type):
        raise ConfigError(f"{where}: the method {name!r} is not one of pretraining; it has a command of its own")
    return method
