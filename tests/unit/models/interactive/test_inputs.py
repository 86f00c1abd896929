"""What the interactive network sees, in planes and in volumes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from isocenter.models.interactive.inputs import (
    PROMPT_CHANNELS,
    Canvas,
    Picture,
    draw_ball,
    encode_prompts,
    normalise_window,
)

POSITIVE, NEGATIVE, ALIKE, UNLIKE, NEAR, FAR = 1, 2, 6, 7, 8, 9


def two_discs(side=32):
    y, x = np.mgrid[0:side, 0:side]
    image = np.full((side, side), 0.2, dtype=np.float32)
    left, right = np.hypot(y - 16, x - 8) < 6, np.hypot(y - 16, x - 24) < 6
    image[left], image[right] = 0.8, 0.5
    return image, left, right


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 8)])
@pytest.mark.parametrize("value", [0.0, -7.5, 1e12, np.nan, np.inf])
def test_constant_or_broken_pictures_become_grey(value, shape):
    assert (normalise_window(np.full(shape, value, dtype=np.float32)) == 0.5).all()


def test_broken_voxels_do_not_spread():
    image = np.linspace(0, 1, 64, dtype=np.float32).reshape(4, 4, 4)
    image[0, 0, 0], image[3, 3, 3] = np.nan, np.inf
    normal = normalise_window(image)
    assert np.isfinite(normal).all() and normal.min() >= -0.3 and normal.max() <= 1.3


def test_normalisation_ignores_gain_and_offset():
    image = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
    np.testing.assert_allclose(normalise_window(image * 300 - 1000), normalise_window(image), atol=1e-4)


def test_ball_literal_and_cut_at_the_border():
    plane = np.zeros((5, 5), dtype=bool)
    draw_ball(plane, (2, 2), 1.0)
    assert plane.astype(int).tolist() == [
        [0, 0, 0, 0, 0], [0, 0, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]
    ]  # fmt: skip
    space = np.zeros((3, 3, 3), dtype=bool)
    draw_ball(space, (-0.4, -0.4, -0.4), 1.0)
    assert space[0, 0, 0] and space.sum() <= 4
    draw_ball(space, (1, 1, 1), 1.0)
    assert space[1, 1, 1] and space[0, 1, 1] and space[1, 1, 2]


def test_cues_of_a_click():
    image, left, right = two_discs()
    canvas = Canvas.empty(32, 32).with_ball((16, 8), positive=True).with_ball((16, 24), positive=False)
    planes = encode_prompts([Picture.of(normalise_window(image))], [canvas])[0]
    assert planes.shape == (PROMPT_CHANNELS, 32, 32)
    inner = np.hypot(*(np.mgrid[0:32, 0:32] - np.array([16, 8])[:, None, None])) < 4
    assert planes[ALIKE][inner].min() > 0.8 > 0.3 > planes[ALIKE][right].mean()
    assert planes[NEAR][inner].min() > planes[NEAR][right].max()
    assert planes[UNLIKE][right].mean() > planes[UNLIKE][left].mean()
    assert planes[FAR][16, 24] == pytest.approx(1.0)
    assert planes[POSITIVE].sum() == planes[NEGATIVE].sum() > 0


def test_a_plane_and_a_volume_are_treated_alike():
    """A volume that is the same in every layer, pointed at through all layers, has the plane's nearness inside."""
    image, left, right = two_discs()
    plane = encode_prompts([Picture.of(image)], [Canvas.empty(32, 32).with_ball((16, 8), positive=True)])[0]
    canvas = Canvas.empty(32, 32, 32)
    canvas = replace(canvas, positive=np.broadcast_to(np.hypot(*(np.mgrid[0:32, 0:32] - np.array([16, 8])[:, None, None])) <= 2.5, (32, 32, 32)))  # fmt: skip  # noqa: E501
    deep = encode_prompts([Picture.of(np.broadcast_to(image, (32, 32, 32)).copy())], [canvas])[0]
    assert deep.shape == (PROMPT_CHANNELS, 32, 32, 32)
    assert np.corrcoef(deep[NEAR][16].ravel(), plane[NEAR].ravel())[0, 1] > 0.97
    assert deep[NEAR][:, left].min() > deep[NEAR][:, right].max()


def test_no_prompt_no_cue():
    for shape in ((16, 16), (8, 8, 8)):
        planes = encode_prompts([Picture.of(np.full(shape, 0.5, np.float32))], [Canvas.empty(*shape)])[0]
        assert not planes[POSITIVE:].any()
        assert np.isfinite(planes).all()


def test_cues_turn_with_the_picture():
    y, x = np.mgrid[0:24, 0:24].astype(np.float32)
    image = np.sin(x / 5) * np.cos(y / 7) / 2 + 0.5
    straight = encode_prompts([Picture.of(image)], [Canvas.empty(24, 24).with_ball((5, 9), positive=True)])[0]
    other = Picture.of(image[:, ::-1].copy())
    flipped = encode_prompts([other], [Canvas.empty(24, 24).with_ball((5, 14), positive=True)])[0]
    assert np.abs(flipped[:, :, ::-1] - straight).mean() < 0.02


def test_batch_equals_one_by_one():
    rng = np.random.default_rng(2)
    pictures = [Picture.of(rng.random((16, 16)).astype(np.float32)) for _ in range(3)]
    canvases = [Canvas.empty(16, 16).with_ball((3 + i, 8), positive=i != 1) for i in range(3)]
    canvases[2] = replace(canvases[2], hint=np.pad(np.ones((6, 6), np.float32), 5))
    whole = encode_prompts(pictures, canvases)
    for i in range(3):
        np.testing.assert_array_equal(whole[i], encode_prompts(pictures[i : i + 1], canvases[i : i + 1])[0])
