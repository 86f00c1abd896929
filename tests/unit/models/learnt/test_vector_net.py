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
    with pytest.raises(ConfigError, match="needs a backbone of maps"):
        build_learnt(LearntSettings(vit, 2, mask=False, pool="mean-max"))
