"""Sides, shapes and refusals of the lungs task, without real images."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from isocenter.core import Geometry, Image, Prompt, Study
from isocenter.core.errors import PixelError
from isocenter.tasks.segment.lungs_cxr import task as module
from isocenter.tasks.segment.lungs_cxr.task import LungsCxr, implausible_shape, lung_shape


def _two_lungs(rows=120, columns=160) -> np.ndarray:
    y, x = np.mgrid[:rows, :columns]
    left = ((y - 60) / 40) ** 2 + ((x - 45) / 22) ** 2 < 1
    right = ((y - 60) / 36) ** 2 + ((x - 115) / 20) ** 2 < 1
    return left | right


def _picture(array: np.ndarray, orientation=("L", "F"), **facts) -> Image:
    geometry = Geometry((1, *array.shape), patient_orientation=orientation)
    return Image(array[None, None], geometry, **{"modality": "DX", "body_part": "CHEST", **facts})


def test_the_side_is_the_patients_not_the_pictures():
    sides = module._split_sides(_two_lungs().astype(np.uint16))
    assert sides[60, 45] == 1  # towards the left of the picture lies the patient's right
    assert sides[60, 115] == 2
    assert sides[60, 80] == 0


def test_joined_or_stacked_parts_get_no_side():
    joined = _two_lungs()
    joined[55:60, 40:120] = True
    assert module._split_sides(joined.astype(np.uint16)) is None
    stacked = np.zeros((60, 60), np.uint16)
    stacked[5:20, 10:50] = stacked[35:50, 10:50] = 1
    assert module._split_sides(stacked) is None


ORIENTATIONS = [("L", "F"), ("R", "F"), ("L", "H"), ("R", "H"), ("F", "L"), ("F", "R"), ("H", "L"), ("H", "R")]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_turning_upright_and_back_is_the_identity(orientation):
    array = np.arange(15).reshape(3, 5)
    turn = module._Upright.of(Geometry((1, 3, 5), patient_orientation=orientation))
    assert turn.known
    assert np.array_equal(turn.backward(turn.forward(array)), array)


def test_upright_literals():
    array = np.array([[1, 2, 3], [4, 5, 6]])
    cases = {
        ("R", "F"): [[3, 2, 1], [6, 5, 4]],
        ("L", "H"): [[4, 5, 6], [1, 2, 3]],
        ("F", "L"): [[1, 4], [2, 5], [3, 6]],
    }
    for orientation, upright in cases.items():
        turn = module._Upright.of(Geometry((1, 2, 3), patient_orientation=orientation))
        assert turn.forward(array).tolist() == upright


@pytest.mark.parametrize("orientation", [("", ""), ("A", "F"), ("L", "R"), ("L", "")])
def test_an_orientation_that_does_not_say_left_and_feet_is_unknown(orientation):
    assert not module._Upright.of(Geometry((1, 3, 5), patient_orientation=orientation)).known


def test_two_lungs_are_plausible_and_other_shapes_are_not():
    mask = _two_lungs()
    assert implausible_shape(lung_shape(mask)) is None
    one_side = mask.copy()
    one_side[:, 80:] = False
    lying = np.zeros((200, 60), dtype=bool)
    lying[:, 10:20] = lying[:, 40:50] = True
    for wrong in (one_side, np.ones_like(mask), np.zeros_like(mask), lying):
        assert implausible_shape(lung_shape(wrong)) is not None


def test_shape_literals():
    shape = lung_shape(_two_lungs())
    assert shape.area == pytest.approx(np.pi * (40 * 22 + 36 * 20) / (120 * 160), rel=0.01)
    assert shape.gap == 1.0
    assert 0.75 < shape.balance < 0.9


@pytest.fixture(scope="module")
def task() -> LungsCxr:
    return LungsCxr()


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (_picture(np.eye(80, dtype=np.float32), modality="US"), "needs modality"),
        (_picture(np.eye(80, dtype=np.float32), body_part="HAND"), "needs body part"),
        (_picture(np.eye(40, dtype=np.float32)), "64 pixels"),
        (_picture(np.ones((80, 80), np.float32)), "flat"),
        (_picture(np.eye(80, dtype=np.float32), meta={"ViewPosition": "LL"}), "frontal view"),
        (_picture(np.eye(80, dtype=np.float32), ("A", "F")), "needs a frontal view (PA or AP): the header's Patient"),
        (_picture(np.eye(80, dtype=np.float32), ("P", "F")), "needs a frontal view"),
        (_picture(np.eye(80, dtype=np.float32), ("L", "P")), "needs a frontal view"),
        (_picture(np.eye(80, dtype=np.float32), ("L", "")), "needs a frontal view"),
        (_picture(np.random.default_rng(0).random((90, 80)).astype(np.float32)), ""),
    ],
)
def test_what_is_no_frontal_chest_is_abstained_from(task, image, words):
    prediction = task.run(Study("key", images=(image,)))
    assert prediction.value is None
    assert words in prediction.abstained


def test_a_picture_whose_dark_is_high_reaches_the_network_negated(task, monkeypatch):
    seen = []

    def look(picture, side):
        seen.append(picture)
        raise PixelError("seen enough")

    monkeypatch.setattr(module, "prepare_picture", look)
    array = np.random.default_rng(0).random((80, 80)).astype(np.float32)
    for meta in ({}, {"PhotometricInterpretation": "MONOCHROME2"}, {"PhotometricInterpretation": "MONOCHROME1"}):
        assert task.run(Study("key", images=(_picture(array, meta=meta),))).abstained == "seen enough"
    assert np.array_equal(seen[0], array) and np.array_equal(seen[1], array)
    assert np.array_equal(seen[2], -array)
    assert [s.name[:6] for s in module._steps(module._Upright.of(_picture(array).geometry), 192, negated=True)] == [
        "turn u", "negate", "clip t", "letter", "mean o"
    ]  # fmt: skip


def test_noise_is_refused_by_the_gate_before_the_network(task, monkeypatch):
    monkeypatch.setattr(module, "segment_prepared", lambda *_: pytest.fail("the network was asked"))
    array = np.random.default_rng(0).random((90, 80)).astype(np.float32)
    prediction = task.run(Study("key", images=(_picture(array),)))
    assert "unlike those it learnt from" in prediction.abstained and "texture" in prediction.abstained
    assert prediction.likeness.p_value <= prediction.likeness.refused_share == 0.08


def test_prompts_are_not_taken(task):
    prompt = Prompt("point", np.array([[0.0, 3, 3]]), frame="index_zyx")
    image = _picture(np.eye(80, dtype=np.float32))
    assert "takes no prompts" in task.run(Study("key", images=(image,)), [prompt]).abstained


def test_cards_are_read_without_torch():
    code = (
        "import sys, isocenter.tasks.segment.lungs_cxr.cards as a, isocenter.tasks.segment.hippocampus_t1.cards as b; "
        "print(a.ENTRY.factory, b.ENTRY.factory); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for factory in done.stdout.split():
        module_name, _, name = factory.partition(":")
        assert hasattr(__import__(module_name, fromlist=[name]), name)
