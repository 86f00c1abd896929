"""A network that looks at one organ: cut to its box, and answers brought back to the same place of the picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from isocenter.core import Geometry, Image, Quantity
from isocenter.core.errors import ConfigError, PixelError, WeightsError
from isocenter.models.learnt import Preparation, region
from isocenter.models.learnt.region import Region
from isocenter.models.weights import read_card


@pytest.fixture
def bright(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for the outline of the lungs: what is brighter than half of the brightest."""
    monkeypatch.setattr(region, "_outliner", lambda _weights: (None, 0, "ab" * 32))
    monkeypatch.setattr(
        region, "segment_picture", lambda _net, picture, _side: (None, (picture > picture.max() / 2).astype(np.uint16))
    )


def picture(**more: object) -> Image:
    """An organ of 20 by 30 pixels with a spot in it, in a picture of 60 by 80."""
    array = np.random.default_rng(0).normal(10, 2, (60, 80))
    array[12:32, 40:70] += 100
    array[15:19, 44:48] += 80
    return Image(array[None, None].astype(np.float32), Geometry((1, 60, 80)), modality="DX", **more)


HOW = Preparation(2, size=(40, 40), region="lungs", region_sha256="ab" * 32)


@pytest.mark.usefixtures("bright")
def test_it_is_cut_to_the_organ_and_answers_come_back() -> None:
    image = picture()
    prepared = HOW.forward(image)
    assert (prepared.corner, prepared.shape, prepared.whole) == ((10, 38), (1, 24, 34), (1, 60, 80))
    assert prepared.array.shape == (1, 40, 40)
    spot = np.zeros((1, 60, 80), np.uint16)
    spot[0, 15:19, 44:48] = 1
    label = prepared.label(spot)
    assert label.shape == (40, 40) and label[: 40 // 2, : 40 // 2].sum() == label.sum() > 0
    back = prepared.back(label[None].astype(np.float32))[0]
    assert back.shape == (1, 60, 80)
    rows, columns = np.indices((60, 80))
    for axis, wanted in ((rows, 16.5), (columns, 45.5)):
        assert (back[0] * axis).sum() / back.sum() == pytest.approx(wanted, abs=0.3)
    outside = np.ones((60, 80), bool)
    outside[10:34, 38:72] = False
    assert not back[0][outside].any(), "nothing is said of what it did not look at"


@pytest.mark.usefixtures("bright")
def test_what_lies_round_the_organ_changes_nothing() -> None:
    image, other = picture(), picture()
    array = other.array.copy()
    array[..., 40:, :] = 0
    np.testing.assert_array_equal(
        HOW.forward(image).array, HOW.forward(replace(other, array=array)).array
    )  # fmt: skip


@pytest.mark.usefixtures("bright")
def test_what_is_refused() -> None:
    flat = replace(picture(), array=np.zeros((1, 1, 60, 80), np.float32))
    with pytest.raises(PixelError, match="lungs that it looks at were not found"):
        HOW.forward(flat)
    with pytest.raises(WeightsError, match="not those that it learnt with"):
        replace(HOW, region_sha256="cd" * 32).forward(picture())
    for wrong in ({"size": None}, {"dims": 3, "size": (4, 4, 4)}):
        with pytest.raises(ConfigError, match="a region is of pictures"):
            replace(HOW, **wrong)
    with pytest.raises(ConfigError, match="no region 'liver'"):
        Region.of("liver")
    assert Preparation.from_card(HOW.as_card()) == HOW
    old = {k: v for k, v in HOW.as_card().items() if not k.startswith("region")}
    assert Preparation.from_card(old).region is None


@pytest.mark.usefixtures("bright")
@pytest.mark.parametrize("lies", [("R", "F"), ("L", "H"), ("A", "F"), ("L", "")])
def test_a_picture_that_is_not_upright_is_refused(lies: tuple[str, str]) -> None:
    image = picture()
    upright = replace(image, geometry=Geometry((1, 60, 80), patient_orientation=("L", "F")))
    np.testing.assert_array_equal(HOW.forward(upright).array, HOW.forward(image).array)
    with pytest.raises(PixelError, match="turn it first"):
        HOW.forward(replace(image, geometry=Geometry((1, 60, 80), patient_orientation=lies)))
    with pytest.raises(PixelError, match="the view is LL"):
        HOW.forward(picture(meta={"ViewPosition": "LL"}))
    assert HOW.forward(picture(meta={"ViewPosition": "PA"})).whole is not None


def test_the_weights_are_those_of_this_installation() -> None:
    assert Region.of("lungs") == Region("lungs", read_card("lungs-cxr").sha256)


def test_a_negative_is_seen_as_its_positive() -> None:
    meta = {"PhotometricInterpretation": "MONOCHROME1"}
    how = Preparation(2, size=(30, 40))
    image = picture()
    negative = replace(image, array=200 - image.array, meta=meta)
    np.testing.assert_allclose(how.forward(negative).array, how.forward(image).array, atol=1e-5)
    assert how.forward(negative).negated and not how.forward(image).negated
    shape = Preparation(2, intensity="shape", mean=0.5, deviation=0.5)
    drawn = replace(image, array=(image.array > 60).astype(np.uint8))
    turned = replace(drawn, array=(1 - drawn.array).astype(np.uint8), meta=meta)
    np.testing.assert_array_equal(shape.forward(turned).array, shape.forward(drawn).array)
    units = Preparation(2, intensity="set", clip=(-100, 100))
    dose = replace(image, quantity=Quantity.HU)
    np.testing.assert_array_equal(units.forward(replace(dose, meta=meta)).array, units.forward(dose).array)
