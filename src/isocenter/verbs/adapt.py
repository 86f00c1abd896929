"""Adapt the embedded model to one structure: a session's confirmed cases in, an automatic task with its card out."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from isocenter.core.errors import CapabilityError, DataError, WeightsError
from isocenter.core.sides import names_a_side
from isocenter.data.images.atomic import atomic_folder, make_parent
from isocenter.verbs.adapted_folder import card_fields, check_out, write_adapted
from isocenter.verbs.provenance import code_version, created_now, machine, package_versions, python_version
from isocenter.verbs.read import Progress
from isocenter.verbs.session_folder import SessionManifest, read_cases, read_manifest
from isocenter.verbs.settings import configured

if TYPE_CHECKING:
    from isocenter.learn.from_session import Adapted
    from isocenter.models.weights import Weights
    from isocenter.tasks.interact.session import ConfirmedCase
    from isocenter.tasks.segment.adapted.cards import Fit

__all__ = ["AdaptConfig", "AdaptResult", "adapt", "run"]

_NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"


class AdaptConfig(BaseModel):
    """Configuration of `isocenter adapt`.

    Attributes:
        from_session: Folder that a session was saved into.
        out: Folder of the task; must not exist or be empty unless `overwrite`.
        name: Name of the task; by default the structure's with "-adapted".
        minutes: What all of it may take, cross-validation too.
        steps: Lessons of each network; by default as many as fit into the minutes here.
        rank: Of LoRA.
        flip: Whether half of the lessons are mirrored left to right; "auto": unless the structure's name says a side.
        workers: Networks that learn at the same time, each on one thread.
        plane_weights: Weights of the interactive network for planes: a built-in name, or a path.
        accept_other_weights: Whether a session that was made with other weights is adapted all the same.
        licence: Licence of the adapter, for its card.
        overwrite: Whether an older adapted task under `out` is replaced.
        seed: Seed of everything random.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    from_session: Path
    out: Path
    name: str | None = Field(default=None, pattern=_NAME)
    minutes: float = Field(default=5.0, gt=0)
    steps: int | None = Field(default=None, ge=1)
    rank: int = Field(default=8, ge=1)
    flip: Literal["auto", "on", "off"] = "auto"
    workers: int = Field(default=2, ge=1)
    plane_weights: str = "interactive-2d"
    accept_other_weights: bool = False
    licence: str = Field(default="LicenseRef-as-the-confirmed-images", min_length=1, max_length=64)
    overwrite: bool = False
    seed: int = Field(default=0, ge=0)


class AdaptResult(BaseModel):
    """What was learnt, and what it is worth.

    Attributes:
        task: Name of the task.
        folder: Its folder; give it to `--task`.
        label: Name of the structure.
        cases: Confirmed cases.
        dice: Mean held-out Dice, cross-validated by case.
        low: Lower end of its interval.
        high: Upper end.
        level: Coverage of the interval.
        dice_before: The same without adaptation, from the examples alone.
        lessons: Lessons that were best; 0 where adaptation did not help.
        seconds: All of it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    folder: Path
    label: str
    cases: int
    dice: float
    low: float
    high: float
    level: float
    dice_before: float
    lessons: int
    seconds: float


def adapt(
    from_session: Path | str, out: Path | str, *, progress: Progress | None = None, **settings: Any
) -> AdaptResult:
    """Turn the confirmed cases of a session into an automatic task.

    Args:
        from_session: Folder that a session was saved into.
        out: Folder of the task.
        progress: Called with what is done and how much of the whole.
        **settings: Any further field of `AdaptConfig`.

    Returns:
        The task's name, and its cross-validated Dice.

    Raises:
        ConfigError: A setting is wrong, or the folder is taken.
        DataError: The session can't be read, or is too small or too mixed to learn from.
        WeightsError: The session was made with other weights, and that was not accepted.
        CapabilityError: A package that learning needs is not installed.
    """
    config = configured(AdaptConfig, from_session=Path(from_session), out=Path(out), **settings)
    return run(config, progress)


def run(config: AdaptConfig, progress: Progress | None = None) -> AdaptResult:
    """Do what an `AdaptConfig` says; see `adapt`."""
    tell = progress or (lambda _stage, _done: None)
    started = time.monotonic()
    check_out(config.out, config.from_session, overwrite=config.overwrite)
    manifest = read_manifest(config.from_session)
    label = _check_cases(manifest, config.from_session)
    base = _base(config, manifest)
    tell("reading the session", 0.0)
    cases = read_cases(config.from_session, manifest.cases)
    from isocenter.learn.from_session import AdaptSettings, adapt_from_cases
    from isocenter.tasks.segment.adapted.cards import Fit

    fit = Fit.of([case.image for case in cases], label)
    flip = config.flip == "on" or (config.flip == "auto" and not names_a_side(label) and _mirrored_by_rows(fit))
    settings = AdaptSettings(
        seed=config.seed,
        minutes=config.minutes,
        steps=config.steps,
        rank=config.rank,
        flip=flip,
        workers=config.workers,
    )
    learnt = _learn_cases(cases, fit)
    found = adapt_from_cases(base, learnt, settings, lambda what, done: tell(what, 0.02 + 0.95 * done))
    tell("writing the task", 0.98)
    return _write(config, manifest, cases, base, (found, fit, label), started)


def _check_cases(manifest: SessionManifest, folder: Path) -> str:
    """Return the one label of the cases, or refuse what can't be learnt from; masks are looked at later."""
    cases = manifest.cases
    if len(cases) < 2:
        raise DataError(f"{len(cases)} confirmed case(s); at least 2 are needed, 4 or more are better", source=folder)
    labels = sorted({case.label for case in cases})
    if len(labels) > 1:
        raise DataError(
            f"the cases are of {len(labels)} structures ({', '.join(map(repr, labels[:3]))}); adapt to one at a time",
            source=folder,
        )
    if len({case.grid.shape_zyx[0] == 1 for case in cases}) > 1:
        raise DataError(
            "some cases are single planes and some have several; adapt to one kind at a time", source=folder
        )
    return labels[0]


def _base(config: AdaptConfig, manifest: SessionManifest) -> Weights:
    from importlib.util import find_spec

    missing = [name for name in ("torch", "safetensors") if find_spec(name) is None]
    if missing:
        raise CapabilityError(f"adapting needs {', '.join(missing)}: pip install 'isocenter[torch]'")
    from isocenter.models.weights import load_weights

    base = load_weights(config.plane_weights)
    if base.card.sha256 != manifest.plane.sha256 and not config.accept_other_weights:
        raise WeightsError(
            f"the session was made with other weights ({manifest.plane.name}, sha256 {manifest.plane.sha256[:12]}...) "
            f"than these ({base.card.name}, {base.card.sha256[:12]}...); its masks can still be learnt from: give "
            "--accept-other-weights"
        )
    return base


def _mirrored_by_rows(fit: Fit) -> bool:
    """Tell whether reversing the columns exchanges left and right, or might: not in a sagittal slice."""
    return fit.orientation is None or fit.orientation[2] in "LR"


def _learn_cases(cases: Sequence[ConfirmedCase], fit: Fit) -> list[Any]:
    from isocenter.learn.from_session_lessons import LearnCase
    from isocenter.models.orientation import Turned
    from isocenter.tasks.segment.adapted.channel import finite_channel

    learnt = []
    for case in cases:
        turn = Turned.to(case.image.geometry, fit.orientation)
        learnt.append(LearnCase(finite_channel(case.image, turn)[0], turn.forward(case.mask.segment_array(1))))
    return learnt


def _write(
    config: AdaptConfig,
    manifest: SessionManifest,
    cases: Sequence[ConfirmedCase],
    base: Weights,
    learnt: tuple[Adapted, Fit, str],
    started: float,
) -> AdaptResult:
    from isocenter.learn.from_session import shown_cases
    from isocenter.learn.from_session_card import LEVEL, adapter_card, held_out, interval_of_mean
    from isocenter.models.interactive.adapted import count_parts
    from isocenter.tasks.segment.adapted.cards import adapted_card

    found, fit, label = learnt
    name = config.name or _task_name(label)
    prepared = _learn_cases(cases, fit)
    present = [case for case, one in zip(cases, prepared, strict=True) if one.mask.any()]
    kept = [present[i] for i in shown_cases(len(present))]
    card = adapted_card(name, label, [case.image for case in cases], licence=config.licence)
    fields = adapter_card(name, label, found, licence=config.licence, command="isocenter adapt --from-session SESSION")
    resolved = {
        **config.model_dump(mode="json", exclude={"from_session", "out", "plane_weights"}),
        "name": name,
        "steps": found.settings.steps,
        "flip": "on" if found.settings.flip else "off",
    }
    made = {
        "verb": "adapt",
        "config": resolved,
        "seed": config.seed,
        "data": {"kind": "session", "cases": [{"sha256": c.sha256, "prompts": c.prompts} for c in manifest.cases]},
        "session_weights": manifest.plane.model_dump(),
        "base_weights": {"name": base.card.name, "sha256": base.card.sha256},
        "at": created_now(),
        **code_version(),
        "python": python_version(),
        "packages": package_versions(),
        "machine": machine(),
    }
    document = {
        "card": card_fields(card),
        "label": label,
        "fit": fit,
        "rank": config.rank,
        "scale": found.settings.scale,
        "parts": max(1, *(count_parts(case.mask) for case in prepared)),
    }
    make_parent(config.out)
    with atomic_folder(config.out, replace=config.overwrite) as place:
        write_adapted(place, document, base=base, adapter=(found.arrays, fields), cases=kept, config=made)
    values = held_out(found.dice)
    low, high, _ = interval_of_mean(values)
    return AdaptResult(
        task=name,
        folder=config.out,
        label=label,
        cases=len(cases),
        dice=float(np.mean(values)),
        low=low,
        high=high,
        level=LEVEL,
        dice_before=float(np.mean(held_out(found.dice_before))),
        lessons=found.step,
        seconds=round(time.monotonic() - started, 1),
    )


def _task_name(label: str) -> str:
    plain = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")[:48].strip("-")
    return f"{plain or 'structure'}-adapted"
