"""What a network sees that answers for a whole image."""

from __future__ import annotations

import pytest
import torch

from isocenter.core.errors import ConfigError
from isocenter.models.backbones import ResidualSettings, ViTSettings
from isocenter.models.learnt import LearntSettings, build_learnt

BACKBONE = ResidualSettings(
    dims=2, channels_in=1, widths=(4, 8), blocks=(1, 1), strides=((1, 1), (2, 2)), norm="batch"
).as_card()


def test_mean_and_maximum_are_both_seen() -> None:
    torch.manual_seed(0)
    net = build_learnt(LearntSettings(BACKBONE, 3, mask=False, pool="mean-max")).eval()
    x = torch.randn(2, 1, 16, 16)
    maps = net.encoder.maps(x)[-1]
    found = net.embed(x)
    torch.testing.assert_close(found[:, :8], maps.mean((2, 3)))
    torch.testing.assert_close(found[:, 8:], maps.amax((2, 3)))
    assert net(x).shape == (2, 3)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_grid_sees_where_something_is(dims: int) -> None:
    torch.manual_seed(0)
    settings = ResidualSettings(
        dims=dims, channels_in=1, widths=(4, 8), blocks=(1, 1), strides=((1,) * dims, (2,) * dims), norm="batch"
    ).as_card()
    first, second = torch.zeros(1, 1, *(16,) * dims), torch.zeros(1, 1, *(16,) * dims)
    first[..., 4:7, 5:8], second[..., 4:7, 9:12] = 1, 1  # whole strides apart: the same maps, moved
    far = {}
    for pool in ("mean", "grid"):
        net = build_learnt(LearntSettings(settings, 2, mask=False, pool=pool)).eval()
        with torch.inference_mode():
            one, other, maps = net.embed(first), net.embed(second), net.encoder.maps(first)[-1]
            assert net(first).shape == (1, 2)
        far[pool] = float((one - other).abs().max() / one.abs().max())
    assert far["mean"] < 0.02 < 0.1 < far["grid"]
    corner = maps[0, :, *(slice(0, 2),) * dims].flatten(1).mean(1)
    torch.testing.assert_close(one.reshape(8, -1)[:, 0], corner)


def test_a_common_scale_keeps_how_much_there_is() -> None:
    """With the embedding on each image's own scale, twice the numbers say the same; on the set's, they don't."""
    for pool, same in (("mean", True), ("mean-max", False)):
        net = build_learnt(LearntSettings(BACKBONE, 2, mask=False, pool=pool)).eval()
        x = torch.rand(1, net.head[-1].in_features)
        assert torch.allclose(net.head(x), net.head(2 * x), atol=1e-3) == same


def test_cards_from_before_still_say_mean_and_others_are_refused() -> None:
    old = {"backbone": BACKBONE, "outputs": 2, "mask": False, "dropout": 0.2}
    assert LearntSettings.from_card(old).pool == "mean"
    with pytest.raises(ConfigError, match="pool"):
        LearntSettings.from_card({**old, "pool": "max"})
    vit = ViTSettings(dims=2, channels_in=1, patch=(4, 4), grid=(4, 4), width=16, depth=1, heads=2).as_card()
    for pool in ("mean-max", "grid"):
        with pytest.raises(ConfigError, match="needs a backbone of maps"):
            build_learnt(LearntSettings(vit, 2, mask=False, pool=pool))
