from __future__ import annotations

import numpy as np
import pytest
import torch

from isocenter.core.errors import ConfigError
from isocenter.models.segmentation import predict
from isocenter.models.unet import UNet, UNetSettings


def _net(rank: int) -> UNet:
    torch.manual_seed(3)
    return UNet(UNetSettings(rank=rank, channels_in=1, classes=3, widths=(4, 6, 8))).eval()


@pytest.mark.parametrize(("rank", "shape"), [(2, (12, 20)), (3, (8, 12, 4))])
def test_logits_lie_on_the_grid_of_the_input(rank, shape):
    with torch.no_grad():
        out = _net(rank)(torch.randn(2, 1, *shape, generator=torch.Generator().manual_seed(0)))
    assert out.shape == (2, 3, *shape)
    assert float(out.std()) > 0


def test_gain_and_offset_of_the_input_do_not_matter():
    # Instance normalisation after the first convolution: away from the border the offset cancels, the gain everywhere.
    net, x = _net(2), torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(net(x), net(7 * x), atol=1e-3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rank": 4, "channels_in": 1, "classes": 2, "widths": (4, 8)},
        {"rank": 2, "channels_in": 1, "classes": 1, "widths": (4, 8)},
        {"rank": 2, "channels_in": 0, "classes": 2, "widths": (4, 8)},
        {"rank": 2, "channels_in": 1, "classes": 2, "widths": (4,)},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError):
        UNetSettings(**wrong)


def test_settings_survive_the_card():
    settings = UNetSettings(rank=3, channels_in=1, classes=3, widths=(4, 6, 8))
    assert UNetSettings.from_card(settings.as_card()) == settings
    assert settings.multiple == 4


@pytest.mark.parametrize("card", [{}, {"rank": 2}, {"rank": "x", "channels_in": 1, "classes": 2, "widths": [4, 8]}])
def test_a_card_of_something_else_is_refused(card):
    with pytest.raises(ConfigError):
        UNetSettings.from_card(card)


def test_predict_takes_any_size_and_is_mirror_symmetric():
    net = _net(3)
    image = np.random.default_rng(5).standard_normal((5, 7, 6)).astype(np.float32)
    looked = predict(net, image)
    assert looked.mean.shape == (3, 5, 7, 6)
    assert np.allclose(looked.mean.sum(0), 1, atol=1e-5)
    mirrored = predict(net, np.ascontiguousarray(image[..., ::-1]))
    assert np.allclose(mirrored.mean[..., ::-1], looked.mean, atol=1e-5)
    assert np.array_equal(predict(net, image).mean, looked.mean)
