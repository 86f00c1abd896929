"""`check_task`: the licence to register a task.

One suite that any task runs, ours and everybody's: it gives the task invented images, in several orientations, and
images and prompts that it can't answer, and looks at what comes back. Whether the answer is *good* is not its business;
whether it can be trusted to lie where it says, to be the same tomorrow and to abstain when it should, is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from importlib import import_module
from typing import Literal

import numpy as np
from jaxtyping import Float, Shaped

from isocenter.core import (
    Explains,
    Geometry,
    Image,
    Mask,
    Prediction,
    Prompt,
    Quantity,
    Source,
    Study,
    Task,
    TaskCard,
    TaskEntry,
)
from isocenter.core.errors import PluginError
from isocenter.testing.evidence_contract import check_evidence
from isocenter.testing.phantom import all_orientations, rotation

__all__ = ["ContractReport", "check_task", "example_study"]

_TURNED = (8.0, -5.0, 11.0)
_ORIENTATIONS = ((5, (0.0, 0.0, 0.0)), (10, _TURNED), (38, _TURNED))
"""Of the 48, and degrees: straight, permuted, mirrored, oblique; enough to catch an axis that is taken for granted."""
_RADIUS = 0.18
"""Of the ellipsoid, as a share of each side; so small that its mirror image does not touch it."""


@dataclass(frozen=True)
class ContractReport:
    """What the check saw; it has raised if anything was wrong.

    Args:
        task: Name of the task.
        checks: What was checked, in words.
        answered: How many runs gave an answer.
        abstained: How many runs gave a reason for none.
    """

    task: str
    checks: tuple[str, ...]
    answered: int
    abstained: int


class _Watch:
    """Runs the task and holds it to what every run must keep."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.name = task.card.name
        self.answered = 0
        self.abstained = 0

    def run(self, study: Study, prompts: Sequence[Prompt], what: str) -> Prediction:
        before = [_fingerprint(image.array) for image in study.images]
        places = [p.coordinates.tobytes() for p in prompts]
        prediction = self.task.run(study, prompts)
        self.require(isinstance(prediction, Prediction), what, "run() must return a Prediction")
        self.require(
            before == [_fingerprint(image.array) for image in study.images]
            and places == [p.coordinates.tobytes() for p in prompts],
            what,
            "run() must not change its input",
        )
        self.require(prediction.task == self.name, what, f"the prediction says task {prediction.task!r}")
        if prediction.abstained is not None:
            self.abstained += 1
            self.require(len(prediction.abstained.strip()) >= 10, what, "a reason for abstaining must say something")
        else:
            self.answered += 1
            self._answer(prediction, study.images[0] if study.images else None, what)
        return prediction

    def require(self, holds: bool, what: str, reason: str) -> None:
        """Raise unless something holds."""
        if not holds:
            raise PluginError(f"task {self.name!r} breaks the contract with {what}: {reason}")

    def _answer(self, prediction: Prediction, image: Image | None, what: str) -> None:
        self.require(image is not None, what, "there is no image to answer about; abstain")
        mask = prediction.value
        sure = prediction.uncertainty
        numbers = [] if sure is None else [sure.low, sure.high, sure.level, *sure.per_segment.values()]
        self.require(all(n is None or np.isfinite(n) for n in numbers), what, "uncertainty must be finite")
        self.require(sure is not None and bool(sure.description), what, "uncertainty must say what it promises")
        self.require(
            prediction.model is not None and bool(prediction.model.licence), what, "the model must state its licence"
        )
        if not isinstance(mask, Mask) or image is None:
            return
        self.require(mask.geometry == image.geometry, what, "the mask must be on its image's own grid, bit for bit")
        self.require(bool(mask.segments), what, "a mask must name its segments")
        if sure is not None:
            known = {s.number for s in mask.segments}
            self.require(set(sure.per_segment) <= known, what, "uncertainty speaks of segments that are not there")
        self.require(
            mask.array.dtype.kind != "f" or bool(np.isfinite(mask.array).all()), what, "a mask must not hold NaN"
        )


def check_task(task: Task | TaskEntry, *, study: Study | None = None, prompts: Sequence[Prompt] = ()) -> ContractReport:
    """Hold a task to the contract of `core.Task`.

    Args:
        task: The task, or the entry that a plug-in registers.
        study: A study with one image that the task should answer; an invented one that fits its card by default.
        prompts: Prompts for that study; with the invented study they are invented too.

    Returns:
        What was checked. `answered` tells whether the task answered anything: a task may rightly abstain from
        invented images, and then give a `study` of your own.

    Raises:
        PluginError: The contract is broken; says where.
    """
    if isinstance(task, TaskEntry):
        task = _load(task)
    if not isinstance(task, Task):
        raise PluginError(f"{type(task).__name__} is not a core.Task: it needs a card and run(study, prompts)")
    watch = _Watch(task)
    _check_card(watch, task.card)
    if study is None:
        study = example_study(task.card)
        prompts = _example_prompts(task.card, study.images[0])
    _check_repeats(watch, study, prompts)
    _check_abstains(watch, study, prompts)
    _check_orientations(watch)
    checks = ["card", "repeatable", "input unchanged", "own grid", "finite", "abstains", "orientations"]
    if isinstance(task, Explains):
        check_evidence(task, study, prompts)
        checks.append("evidence")
    return ContractReport(task.card.name, tuple(checks), watch.answered, watch.abstained)


def example_study(
    card: TaskCard, *, orientation: int = 0, degrees: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> Study:
    """Return a study with one invented image that fits a card: a bright, noisy ellipsoid off the middle.

    Args:
        card: Says modality, body part, and whether a plane or a volume.
        orientation: 0 to 47, index into `all_orientations`; no effect on a plane without a place.
        degrees: Obliqueness about x, y and z.
    """
    shape = (1, 72, 80) if card.needs_volume is False else (20, 28, 24)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    inside = _ellipsoid(grid, shape)
    noise = np.random.default_rng(7).normal(0, 12, shape)
    array = np.round(100 + 180 * inside + noise).astype(np.int16)[None]
    if card.needs_volume is False:
        geometry = Geometry(shape, pixel_spacing_mm=(0.5, 0.5), patient_orientation=("L", "F"))
    else:
        directions = rotation(degrees=degrees) @ all_orientations()[orientation]
        geometry = Geometry.from_directions(
            shape, directions, spacing_mm=(2.0, 1.5, 1.25), origin_mm=(-12.5, 33.0, 71.25), frame_uid="1.2.3.4"
        )
    modality = card.modalities[0] if card.modalities else "CT"
    image = Image(
        array,
        geometry,
        quantity=Quantity.HU if modality == "CT" else Quantity.ARBITRARY,
        modality=modality,
        body_part=card.body_parts[0] if card.body_parts else "",
        source=Source(sha256=_fingerprint(array)),
    )
    return Study("contract", images=(image,))


def _ellipsoid(grid: Shaped[np.ndarray, "z y x 3"], shape: tuple[int, int, int]) -> Shaped[np.ndarray, "z y x"]:
    centre, radii = np.array(_centre(shape)), np.maximum(np.array(shape) * _RADIUS, 0.75)
    return np.asarray((((grid - centre) / radii) ** 2).sum(axis=-1) <= 1)


def _centre(shape: tuple[int, int, int]) -> tuple[float, float, float]:
    z, y, x = shape
    return (0.0 if z == 1 else 0.7 * z // 1, 0.3 * y // 1, 0.7 * x // 1)


def _example_prompts(card: TaskCard, image: Image) -> tuple[Prompt, ...]:
    if not card.prompts:
        return ()
    shape = image.geometry.shape
    index: Float[np.ndarray, "n 3"] = np.array([_centre(shape)])
    if "point" not in card.prompts and "box" not in card.prompts:
        raise PluginError(f"task {card.name!r}: check_task invents points and boxes only; give it a study and prompts")
    kind: Literal["point", "box"] = "point" if "point" in card.prompts else "box"
    if kind == "box":
        reach = np.array(shape) * _RADIUS
        index = np.array([index[0] - reach, index[0] + reach])
    if image.geometry.affine is None:
        return (Prompt(kind, index, frame="index_zyx"),)
    return (Prompt(kind, image.geometry.to_world(index)),)


def _load(entry: TaskEntry) -> Task:
    if entry.make is not None:
        return entry.make()
    module, _, attribute = entry.factory.partition(":")
    try:
        task = getattr(import_module(module), attribute)()
    except (ImportError, AttributeError) as error:
        raise PluginError(f"task {entry.card.name!r}: can't make it from {entry.factory}: {error}") from error
    if not isinstance(task, Task) or task.card != entry.card:
        raise PluginError(f"task {entry.card.name!r}: {entry.factory} does not make a task with the card it registered")
    return task


def _check_card(watch: _Watch, card: TaskCard) -> None:
    what = "its card"
    for name in ("name", "title", "intended_use", "not_for", "licence", "version"):
        watch.require(bool(str(getattr(card, name)).strip()), what, f"{name} is empty")
    plain = card.name.replace("-", "").replace("_", "")
    watch.require(
        plain.isascii() and plain.isalnum() and card.name == card.name.lower(), what, "name is not lower-case"
    )
    watch.require(not card.needs_prompt or bool(card.prompts), what, "it needs a prompt and takes none")
    known = {"point", "box", "scribble", "lasso", "text", "example"}
    watch.require(set(card.prompts) <= known, what, f"prompts must be of {sorted(known)}")
    watch.require(all(m == m.upper() for m in card.modalities), what, "modalities are DICOM's, in upper case")
    watch.require({f.name for f in fields(card)} >= {f.name for f in fields(TaskCard)}, what, "it is not a TaskCard")


def _check_repeats(watch: _Watch, study: Study, prompts: Sequence[Prompt]) -> None:
    first = watch.run(study, prompts, "a fitting study")
    second = watch.run(study, prompts, "the same study again")
    watch.require(first.abstained == second.abstained, "the same study again", "it answers once and abstains once")
    one, two = first.value, second.value
    if isinstance(one, Mask) and isinstance(two, Mask):
        same = np.array_equal(one.array, two.array) and one.segments == two.segments
        watch.require(same, "the same study again", "the two masks differ")
    watch.require(first.measurements == second.measurements, "the same study again", "the measurements differ")
    sure, again = first.uncertainty, second.uncertainty
    if sure is not None and again is not None:
        same = (sure.low, sure.high, dict(sure.per_segment)) == (again.low, again.high, dict(again.per_segment))
        watch.require(same, "the same study again", "the uncertainties differ")


def _check_abstains(watch: _Watch, study: Study, prompts: Sequence[Prompt]) -> None:
    card, image = watch.task.card, study.images[0]
    cases: list[tuple[str, Study, Sequence[Prompt]]] = [("a study without images", replace(study, images=()), prompts)]
    if card.needs_prompt:
        cases.append(("no prompt", study, ()))
    if card.modalities:
        other = next(m for m in ("PT", "CT", "US") if m not in card.modalities)
        cases.append((f"modality {other}", replace(study, images=(replace(image, modality=other),)), prompts))
    if card.body_parts:
        wrong = replace(study, images=(replace(image, body_part="GALLBLADDER"),))
        if "GALLBLADDER" not in card.body_parts:
            cases.append(("body part GALLBLADDER", wrong, prompts))
    if card.needs_spacing:
        flat = Geometry(image.geometry.shape)
        cases.append(("unknown spacing", replace(study, images=(replace(image, geometry=flat),)), ()))
    for what, wrong, given in cases:
        prediction = watch.run(wrong, given, what)
        watch.require(prediction.abstained is not None, what, "it must abstain, and it answered")
    # A flat image may be answered or not; it must not crash, and what comes must be sound.
    flat_image = replace(image, array=np.full_like(image.array, 100), source=Source())
    watch.run(replace(study, images=(flat_image,)), prompts, "a constant image")


def _check_orientations(watch: _Watch) -> None:
    card = watch.task.card
    if card.needs_volume is False:
        return
    for orientation, degrees in _ORIENTATIONS:
        study = example_study(card, orientation=orientation, degrees=degrees)
        what = f"orientation {orientation}, turned by {degrees}"
        prompts = _example_prompts(card, study.images[0])
        prediction = watch.run(study, prompts, what)
        if card.needs_prompt and isinstance(prediction.value, Mask):
            _check_place(watch, prediction.value, prompts, what)


def _check_place(watch: _Watch, mask: Mask, prompts: Sequence[Prompt], what: str) -> None:
    """Hold the outline to lie where the prompts point in the patient: on the right side, on the right slice."""
    inside = np.argwhere(np.any([mask.segment_array(s.number) for s in mask.segments], axis=0))
    watch.require(len(inside) > 0, what, "the mask is empty; abstain instead")
    pointed = np.concatenate([p.index_zyx(mask.geometry) for p in prompts]).mean(axis=0)
    away = float(np.abs(inside - pointed).max(axis=1).min())
    watch.require(away <= 1.5, what, f"the outline lies {away:.1f} voxels away from where the prompt points")


def _fingerprint(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
