"""Backbones: grids with unequal axes, positions, cards, and recomputed activations."""

from __future__ import annotations

import pytest
import torch

from isocenter.core.errors import ConfigError
from isocenter.models.backbones import (
    Backbone,
    ResidualEncoder,
    ResidualSettings,
    ResidualUNet,
    ViT,
    ViTSettings,
    build_backbone,
    named_backbone,
)
from isocenter.models.backbones.residual_unet import strides_for
from isocenter.models.backbones.vit import grid_places

DEEP = ViTSettings(dims=3, channels_in=2, patch=(2, 4, 8), grid=(3, 2, 2), width=24, depth=2, heads=2, registers=1)
RESIDUAL = ResidualSettings(
    dims=3, channels_in=2, widths=(4, 6, 8), blocks=(1, 2, 1), strides=((1, 1, 1), (1, 2, 2), (2, 2, 2))
)


@pytest.fixture
def volume():
    return torch.randn(2, 2, 6, 8, 16, generator=torch.Generator().manual_seed(0))


def test_patches_and_back_on_unequal_axes(volume):
    vit = ViT(DEEP)
    patches = vit.patches(volume)
    assert patches.shape == (2, 12, 2 * 2 * 4 * 8)
    torch.testing.assert_close(vit.image(patches, (3, 2, 2)), volume)
    # The token at grid place (2, 0, 1) holds exactly its own voxels.
    token = (grid_places((3, 2, 2)) == torch.tensor([2.0, 0, 1])).all(1).nonzero()[0, 0]
    torch.testing.assert_close(patches[:, token], volume[:, :, 4:6, 0:4, 8:16].flatten(1))


@pytest.mark.parametrize("positions", ["rotary", "decomposed"])
def test_tokens_know_their_place(volume, positions):
    torch.manual_seed(1)
    vit = ViT(ViTSettings(**{**vars(DEEP), "positions": positions})).eval()
    patches, grid = vit.patches(volume), (3, 2, 2)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2)).expand(2, -1)
    whole = vit.encode(patches, grid)
    shuffled = vit.encode(torch.gather(patches, 1, order[..., None].expand_as(patches)), grid, order)
    torch.testing.assert_close(shuffled[:, 1:], whole[:, 1:][:, order[0]], atol=1e-5, rtol=1e-4)
    moved = vit.encode(patches, grid, order)
    assert (moved - whole).abs().max() > 1e-3, "the same patches elsewhere are another picture"


def test_another_grid_than_learnt(volume):
    for positions in ("rotary", "decomposed"):
        vit = ViT(ViTSettings(**{**vars(DEEP), "positions": positions}))
        assert vit.maps(torch.zeros(1, 2, 10, 4, 24))[0].shape == (1, 24, 5, 1, 3)
    with pytest.raises(ConfigError, match=r"not made of patches of \(2, 4, 8\)"):
        vit.maps(torch.zeros(1, 2, 10, 4, 20))


@pytest.mark.parametrize("settings", [DEEP, RESIDUAL], ids=lambda s: s.kind)
def test_the_face_the_card_and_recomputing(volume, settings):
    torch.manual_seed(3)
    net = build_backbone(settings)
    again = build_backbone(settings.as_card(), recompute=True)
    again.load_state_dict(net.state_dict())
    assert isinstance(net, Backbone) and again.settings == settings
    assert net.embed(volume).shape == (2, net.width)
    for one in (net, again):
        one.embed(volume).square().sum().backward()
    for ours, theirs in zip(net.parameters(), again.parameters(), strict=True):
        if ours.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad)
    with pytest.raises(ConfigError, match="unknown"):
        type(settings).from_card({**settings.as_card(), "depht": 3})
    with pytest.raises(ConfigError, match="no backbone of kind 'swin'"):
        build_backbone({"kind": "swin"})


def test_unet_answers_on_every_level(volume):
    net = ResidualUNet(ResidualEncoder(RESIDUAL), classes=3)
    assert [m.shape for m in net.encoder.maps(volume)] == [(2, 4, 6, 8, 16), (2, 6, 6, 4, 8), (2, 8, 3, 2, 4)]
    assert net(volume).shape == (2, 3, 6, 8, 16)
    assert [m.shape[2:] for m in net.levels(volume, 2)] == [(6, 8, 16), (6, 4, 8)]


@pytest.mark.parametrize("name", ["vit-tiny", "vit-small/8", "residual-tiny"])
@pytest.mark.parametrize("size", [(32, 48), (16, 32, 48)])
def test_named(name, size):
    settings = named_backbone(name, size, channels_in=1)
    assert settings.dims == len(size)
    assert all(n % m == 0 for n, m in zip(size, settings.multiple, strict=True))


@pytest.mark.parametrize("name", ["vit-giant", "vit-tiny/x", "residual-tiny/2", "swin", "vit-tiny/7"])
def test_unknown_names(name):
    with pytest.raises(ConfigError, match=r"no backbone|not made of patches"):
        named_backbone(name, (32, 48))


@pytest.mark.parametrize(
    "wrong",
    [{"dims": 4}, {"patch": (2, 2)}, {"heads": 5}, {"positions": "sine"}, {"depth": 0}, {"channels_in": 0}],
)
def test_bad_vit_settings(wrong):
    with pytest.raises(ConfigError):
        ViTSettings(**{**vars(DEEP), **wrong})


def test_bad_residual_settings():
    with pytest.raises(ConfigError, match="equally many"):
        ResidualSettings(widths=(4, 8), blocks=(1,), strides=((1, 1), (2, 2)))
    with pytest.raises(ConfigError, match="every stride"):
        ResidualSettings(dims=3, widths=(4, 8), blocks=(1, 1), strides=((1, 1), (2, 2)))


def test_strides_leave_four_places():
    assert strides_for((1.0, 1.0, 1.0), (40, 56, 40), 6) == ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    assert strides_for((1.0, 1.0), (5, 5), 3) == ((1, 1),)
