"""Left and right in answers about pictures: tasks that keep to Patient Orientation pass, each kind of wrong fails."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from isocenter.core import (
    Code,
    Estimate,
    Geometry,
    Image,
    Mask,
    ModelRef,
    Prediction,
    Scores,
    Segment,
    Study,
    TaskEntry,
    Uncertainty,
)
from isocenter.core.units import UCUM
from isocenter.tasks.segment.lungs_cxr.cards import CARD
from isocenter.verbs.evaluation.checks import verdict
from isocenter.verbs.evaluation.document import CheckEntry
from isocenter.verbs.evaluation.sides import orientation_check

MODEL = {
    "model": ModelRef("toy", "1", "", "MIT"),
    "inputs": ("x",),
    "uncertainty": Uncertainty("quality", "Promises nothing."),
}
ESSENTIAL = ("licence", "intended use", "contract", "repeatable", "weights", "calibration")


def picture(lies: tuple[str, str] = ("L", "F")) -> Study:
    """Two bright fields of different height, not in the middle; the patient's right is the picture's left."""
    array = np.zeros((1, 1, 40, 60), np.float32)
    array[..., 8:30, 6:20], array[..., 12:36, 30:50] = 200, 180
    return Study("p", images=(Image(array, Geometry((1, 40, 60), patient_orientation=lies)),))


class Sided:
    """Outlines two bright fields and says which is on the patient's left; can be wrong in several ways."""

    def __init__(self, how: str = "") -> None:
        self.how = how
        self.card = replace(
            CARD, name="toy", modalities=(), body_parts=(), needs_volume=None, weights="", requires=(), licence="MIT"
        )

    def run(self, study: Study, prompts=()) -> Prediction:
        image = study.images[0]
        row = image.geometry.patient_orientation[0]
        if self.how == "refuses" and row == "R":
            return Prediction.abstain("toy", "this picture lies R/F")
        found = (image.array[0] > 100).astype(np.uint16)
        if self.how == "half":
            found[..., 30:] = 0
        if self.how in ("plain", "half") or (not row and self.how != "guesses"):
            return Prediction(Mask(found, image.geometry, (Segment(1, "Fields"),)), "toy", **MODEL)
        # Columns grow towards the patient's left where rows point there.
        left_is_high = row != "R" or self.how == "deaf"
        middle = 25 if image.array[0, 0, 10, 7] > 0 else 35
        low, high = (1, 2) if left_is_high else (2, 1)
        found[..., :middle] *= low
        found[..., middle:] *= high
        if self.how == "by anatomy" and image.array[0, 0, 10, 7] == 0:
            found = np.where(found == 0, 0, 3 - found).astype(np.uint16)
        names = (Segment(1, "Right field"), Segment(2, "Left field"))
        return Prediction(Mask(found, image.geometry, names), "toy", **MODEL)


def entry(toy: object) -> TaskEntry:
    return TaskEntry(toy.card, "", lambda: toy)


@pytest.mark.parametrize("lies", [("L", "F"), ("R", "F"), ("", "")])
@pytest.mark.parametrize("how", ["", "plain"])
def test_a_task_that_keeps_to_the_header_passes(how: str, lies: tuple[str, str]) -> None:
    found = orientation_check(entry(Sided(how)), picture(lies), 0)
    assert (found.status, found.number) == ("passed", 1.0), found.words
    assert "answers agree by 1.000" in found.words and "follows" in found.words


def test_a_task_that_refuses_pictures_that_lie_otherwise_is_held_to_the_mirror_image() -> None:
    found = orientation_check(entry(Sided("refuses")), picture(), 0)
    assert found.status == "passed" and "stored mirrored" not in found.words and "follows" in found.words


@pytest.mark.parametrize(
    ("how", "lies", "why"),
    [
        ("deaf", ("L", "F"), "stored mirrored, with the header saying so: answers agree by 0.000"),
        ("by anatomy", ("L", "F"), ""),
        ("half", ("L", "F"), "stored mirrored"),
        ("guesses", ("", ""), "names a side in a picture whose header does not say"),
    ],
)
def test_each_kind_of_wrong_side_fails(how: str, lies: tuple[str, str], why: str) -> None:
    found = orientation_check(entry(Sided(how)), picture(lies), 0)
    assert found.status == "failed" and why in found.words, found.words
    allowed, against = verdict([passed(name) for name in ESSENTIAL] + [found])
    assert not allowed and [c.name for c in against] == ["orientation"]


class Answers:
    """Answers about a whole picture."""

    def __init__(self, names: tuple[str, ...], how: str = "") -> None:
        self.names, self.how, self.card = names, how, Sided().card

    def run(self, study: Study, prompts=()) -> Prediction:
        array = study.images[0].array
        if not self.names:
            return Prediction(Estimate(Code("age", "99X", "age"), 50.0, UCUM["1"]), "toy", **MODEL)
        share = float(array[..., 30:].sum() / array.sum())
        p = 0.7 if self.how == "fixed" else share
        said = zip(self.names, (p, 1 - p), strict=True)
        return Prediction(Scores(tuple((Code(n, "99X", n), v) for n, v in said)), "toy", **MODEL)


def test_answers_about_the_whole_picture() -> None:
    for names in ((), ("normal", "pneumonia")):
        found = orientation_check(entry(Answers(names)), picture(), 0)
        assert found.status == "not applicable" and "names no side" in found.words
    sided = ("left effusion", "right effusion")
    right = orientation_check(entry(Answers(sided)), picture(), 0)
    assert right.status == "passed" and right.number == pytest.approx(1.0)
    assert orientation_check(entry(Answers(sided, "fixed")), picture(), 0).status == "failed"
    assert orientation_check(entry(Answers(sided)), picture(("", "")), 0).status == "failed"
    alone = orientation_check(entry(Answers(("left effusion", "normal"))), picture(), 0)
    assert alone.status == "not measured" and "none names the other" in alone.words


def passed(name: str) -> CheckEntry:
    return CheckEntry(name=name, status="passed", words="x")


@pytest.mark.parametrize(
    ("laterality", "orientation", "allowed"),
    [
        ("passed", "not measured", True),
        ("not measured", "passed", True),
        ("not measured", "not applicable", True),
        ("not measured", "not measured", False),
        ("not applicable", "not measured", False),
        ("failed", "passed", False),
        ("passed", "failed", False),
    ],
)
def test_one_of_both_must_have_passed(laterality: str, orientation: str, allowed: bool) -> None:
    """Orientation is "not applicable" to answers without side and place alone; of laterality it proves nothing."""
    sides = [
        CheckEntry(name=name, status=status, words="x")
        for name, status in (("laterality", laterality), ("orientation", orientation))
    ]
    assert verdict([passed(name) for name in ESSENTIAL] + sides)[0] is allowed
    assert not verdict([passed(name) for name in ESSENTIAL])[0], "neither was looked at"
