"""On real pictures: numbers that need no network tell chest X-rays from other kinds, and refuse few of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from isocenter.evaluate.ranking import auroc
from isocenter.models.learnt.preparation import resized
from isocenter.models.preparation import normalise
from isocenter.safety.descriptors import descriptors
from isocenter.safety.gate import Gate, fit_gate, fit_reference

pytestmark = pytest.mark.real


def numbers(array: np.ndarray) -> dict[str, np.ndarray]:
    return descriptors(resized(normalise(array.astype(np.float32)), (96, 96))[None])


def grey(file: Path) -> np.ndarray:
    with Picture.open(file) as picture:
        return np.asarray(picture.convert("L").resize((192, 192)))


@pytest.fixture(scope="module")
def chests(shared_data: Path) -> list[np.ndarray]:
    files = sorted((shared_data / "cxr_nih" / "images_256").glob("*.png"))
    order = np.random.default_rng(0).permutation(len(files))[:240]
    return [grey(files[i]) for i in order]


@pytest.fixture(scope="module")
def gate(chests: list[np.ndarray]) -> Gate:
    reference = fit_reference([numbers(a) for a in chests[:120]])
    return fit_gate([reference], [[reference.strangeness(numbers(a))] for a in chests[120:180]])


def refused(gate: Gate, arrays: list[np.ndarray]) -> float:
    return float(np.mean([gate.judge([numbers(a)]).reason is not None for a in arrays]))


def test_few_of_its_own_kind_are_refused(gate: Gate, chests: list[np.ndarray]) -> None:
    assert refused(gate, chests[180:]) <= 0.12, "5 %, and what chance adds with 60 calibration and 60 test pictures"


def test_other_kinds_are_refused(gate: Gate, chests: list[np.ndarray], shared_data: Path) -> None:
    ultrasound = sorted((shared_data / "us_breast_busi" / "images").glob("*.png"))[::25]
    fundus = sorted((shared_data / "fundus_chasedb1").glob("*.jpg"))[::2]
    assert refused(gate, [grey(f) for f in ultrasound]) >= 0.95
    few = chests[180:200]
    own, other = ([gate.judge([numbers(a)]).score for a in some] for some in (few, [grey(f) for f in fundus]))
    # Some chests of the set are odd themselves, so a few fundus photographs pass the limit; the score tells them.
    assert auroc(np.array([False] * len(own) + [True] * len(other)), np.array(own + other)) >= 0.95
    for change in (lambda a: 255 - a, np.rot90, lambda a: np.rot90(a, 2), np.flipud):
        assert refused(gate, [change(a) for a in few]) >= 0.95
