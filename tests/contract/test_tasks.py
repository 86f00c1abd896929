"""Every installed task keeps the contract, and a task that breaks it is caught."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from isocenter.core import Mask, ModelRef, Prediction, Prompt, Segment, Study, TaskCard, Uncertainty
from isocenter.core.errors import PluginError
from isocenter.plugins import missing_packages, task_entries
from isocenter.testing import check_task, example_study

CARD = TaskCard(
    "toy", "Toy", ("CT",), (), True, False, ("point",), True, "Tests of the contract.", "Patients.", "MIT"
)  # fmt: skip


class Toy:
    """Outlines what is bright; `spoil` turns its answer into a breach."""

    def __init__(
        self,
        card: TaskCard = CARD,
        spoil: Callable[[Prediction, Study], Any] = lambda p, _: p,
        eager: bool = False,
    ) -> None:
        self.card = card
        self.spoil = spoil
        self.eager = eager

    def run(self, study: Study, prompts: Sequence[Prompt] = ()) -> Prediction:
        reason = None if study.images else "there is no image to look at"
        if reason is None and not self.eager:
            reason = self.card.misfit(study.images[0]) or (None if prompts else "needs a point to look at")
        if reason is not None:
            return Prediction.abstain(self.card.name, reason)
        image = study.images[0]
        labels = (image.array[0] > 190).astype(np.uint16)
        if not labels.any():
            return Prediction.abstain(self.card.name, "nothing there is bright")
        answer = Prediction(
            Mask(labels, image.geometry, (Segment(1, "Bright"),)),
            self.card.name,
            Uncertainty("quality", "nothing is promised", per_segment={1: 0.5}),
            model=ModelRef("toy", "1", "", "MIT"),
            inputs=("x",),
        )
        return self.spoil(answer, study)


@pytest.mark.parametrize("name", sorted(task_entries()[0]))
def test_every_installed_task_keeps_the_contract(name: str) -> None:
    entry = task_entries()[0][name]
    missing = missing_packages(entry.card)
    if missing:
        pytest.skip(f"{name} needs {', '.join(missing)}, which are not installed")
    report = check_task(entry)
    assert report.task == name
    assert report.answered + report.abstained >= 4
    if entry.card.needs_prompt:
        assert report.answered >= 4, (
            "a task that is told where to look has no reason to abstain from a bright ellipsoid"
        )


def test_no_installed_task_is_broken() -> None:
    assert task_entries()[1] == ()


def test_a_sound_task_passes() -> None:
    report = check_task(Toy())
    assert report.answered == 5
    assert report.abstained == 4
    assert check_task(Toy(), study=example_study(CARD), prompts=(Prompt("point", np.zeros((1, 3))),)).answered == 5


def _mutate(prediction: Prediction, study: Study) -> Prediction:
    study.images[0].array[0, 0, 0, 0] += 1
    return prediction


def _mirror(prediction: Prediction, _: Study) -> Prediction:
    mask = prediction.value
    assert isinstance(mask, Mask)
    return replace(prediction, value=replace(mask, array=np.ascontiguousarray(mask.array[:, :, ::-1])))


def _forgetful(turns: list[int]) -> Callable[[Prediction, Study], Prediction]:
    def spoil(prediction: Prediction, _: Study) -> Prediction:
        turns.append(1)
        mask = prediction.value
        assert isinstance(mask, Mask)
        return replace(prediction, value=replace(mask, array=np.roll(mask.array, len(turns), axis=0)))

    return spoil


def _moved(prediction: Prediction, _: Study) -> Prediction:
    mask = prediction.value
    assert isinstance(mask, Mask)
    affine = mask.geometry.require_affine().copy()
    affine[0, 3] += 0.5
    return replace(prediction, value=replace(mask, geometry=replace(mask.geometry, affine=affine)))


def _unsure(prediction: Prediction, _: Study) -> Prediction:
    return replace(prediction, uncertainty=Uncertainty("quality", "-", per_segment={1: float("nan")}))


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (Toy(spoil=_mutate), "must not change its input"),
        (Toy(spoil=_mirror), "voxels away from where the prompt points"),
        (Toy(spoil=_forgetful([])), "the two masks differ"),
        (Toy(spoil=_moved), "on its image's own grid"),
        (Toy(spoil=_unsure), "uncertainty must be finite"),
        (Toy(spoil=lambda p, _: replace(p, task="other")), "the prediction says task 'other'"),
        (Toy(spoil=lambda p, _: replace(p, model=ModelRef("toy", "1"))), "the model must state its licence"),
        (Toy(spoil=lambda _, __: None), "must return a Prediction"),
        (Toy(eager=True), "with no prompt: it must abstain, and it answered"),
        (Toy(spoil=lambda _, __: Prediction.abstain("toy", "no")), "a reason for abstaining must say something"),
        (Toy(replace(CARD, licence=" ")), "licence is empty"),
        (Toy(replace(CARD, name="Toy Task")), "name is not lower-case"),
        (Toy(replace(CARD, prompts=())), "it needs a prompt and takes none"),
        (Toy(replace(CARD, modalities=("ct",))), "in upper case"),
    ],
)
def test_a_breach_is_caught(task: Any, reason: str) -> None:
    with pytest.raises(PluginError, match=reason):
        check_task(task)
