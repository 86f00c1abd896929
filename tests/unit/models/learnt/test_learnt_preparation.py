"""Images brought to the network's grid and answers brought back: the same place in the patient, whatever the grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from isocenter.core import Geometry, Image, Quantity
from isocenter.core.errors import ConfigError, GeometryError, PixelError
from isocenter.models.learnt import Preparation, slide
from isocenter.models.learnt.preparation import resized


def test_resizing_keeps_edges_and_means():
    line = np.random.default_rng(0).normal(size=(12,)).astype(np.float32)
    half = resized(line, (6,))
    np.testing.assert_allclose(half, line.reshape(6, 2).mean(1), atol=1e-6)
    third = resized(line, (5,))
    assert third.mean() == pytest.approx(line.mean(), abs=1e-6), "what shrinks keeps its sum"
    np.testing.assert_allclose(resized(np.full((3, 4), 7, np.float32), (5, 9)), 7, atol=1e-6)
    ramp = resized(np.arange(4, dtype=np.float32), (8,))
    np.testing.assert_allclose(ramp[1:-1], np.arange(0.25, 3, 0.5)[: len(ramp) - 2], atol=1e-6)


@pytest.mark.parametrize("orientation", ["SPL", "IAR", "LPS"])
def test_a_ball_comes_back_to_its_place_in_the_patient(orientation):
    """Oblique and anisotropic, resampled to 1 mm and back: centroid within a fifth of a voxel."""
    turn = np.linalg.qr(np.array([[1, 0.1, 0.05], [-0.1, 1, 0.02], [0.03, -0.02, 1.0]]))[0]
    geometry = Geometry.from_directions(
        (14, 30, 26),
        (turn * np.sign(np.diag(turn)))[::-1].tolist(),
        spacing_mm=(2.5, 0.8, 0.7),
        origin_mm=(10, -20, 30),
    )
    index = np.indices((14, 30, 26)).reshape(3, -1).T.astype(float)
    centre = geometry.to_world(np.array([[7.0, 12.0, 17.0]]))[0]
    ball = (np.linalg.norm(geometry.to_world(index) - centre, axis=1) < 6).reshape(14, 30, 26)
    image = Image((100 * ball + np.random.default_rng(0).normal(0, 1, ball.shape))[None].astype(np.float32), geometry)
    preparation = Preparation(3, orientation=orientation, spacing_mm=(1.0, 1.0, 1.0))
    assert Preparation.from_card(preparation.as_card()) == preparation
    prepared = preparation.forward(image)
    label = prepared.label(ball.astype(np.uint16))
    assert label.shape == prepared.array.shape[1:]
    inside = prepared.array[0][label == 1].mean()
    assert inside > 2 * prepared.array[0].std(), "the label lies on the ball"
    back = prepared.back(np.stack([1.0 - label, label]).astype(np.float32)).argmax(0) == 1
    assert back.shape == ball.shape
    gap = np.argwhere(back).mean(0) - np.argwhere(ball).mean(0)
    assert np.abs(gap).max() < 0.2 and back.sum() == pytest.approx(ball.sum(), rel=0.1)


def test_intensities_of_the_set():
    image = Image(np.array([[[[-2000.0, 0.0], [50.0, 4000.0]]]]), Geometry((1, 2, 2)), Quantity.HU)
    prepared = Preparation(2, intensity="set", clip=(-100, 100), mean=10, deviation=20).forward(image)
    np.testing.assert_allclose(prepared.array[0], [[-5.5, -0.5], [2.0, 4.5]])
    other = Image(image.array + 1024, image.geometry)
    with pytest.raises(PixelError, match="Hounsfield units; the values of this one are arbitrary"):
        Preparation(2, intensity="set", clip=(-100, 100), mean=10, deviation=20).forward(other)


def test_what_does_not_fit_is_refused():
    plane, volume = Geometry((1, 4, 4)), Geometry((3, 4, 4))
    values = np.arange(16.0).reshape(1, 1, 4, 4)
    with pytest.raises(GeometryError, match="single planes"):
        Preparation(2).forward(Image(np.arange(48.0).reshape(1, 3, 4, 4), volume))
    with pytest.raises(GeometryError, match="spacing is known"):
        Preparation(2, spacing_mm=(1, 1, 1)).forward(Image(values, plane))
    with pytest.raises(PixelError, match="2 channels"):
        Preparation(2, channels=2).forward(Image(values, plane))
    with pytest.raises(PixelError, match="not finite"):
        Preparation(2).forward(Image(np.where(values == 3, np.nan, values), plane))
    with pytest.raises(PixelError, match="flat"):
        Preparation(2).forward(Image(np.ones((1, 1, 4, 4)), plane))
    with pytest.raises(ConfigError, match="range that they are clipped to"):
        Preparation(2, intensity="set")
    with pytest.raises(ConfigError, match="not how images are prepared"):
        Preparation.from_card({"dims": 2, "colour": 1})


@pytest.mark.parametrize("shape", [(5, 7), (16, 9), (20, 33)])
def test_sliding_answers_every_pixel_as_one_look_would(shape):
    """A network that looks at each pixel alone: windows, seams and padding leave no trace."""
    image = np.random.default_rng(1).normal(size=(1, *shape)).astype(np.float32)

    def look(x: torch.Tensor) -> torch.Tensor:
        p = torch.sigmoid(x)
        return torch.cat([1 - p, p], dim=1)

    found = slide(look, image, (8, 8), 2)
    np.testing.assert_allclose(found[1], 1 / (1 + np.exp(-image[0])), atol=1e-5)
