"""Maps of where networks looked: on a planted spot, in every way round, and against captum where it is installed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from isocenter.core import Geometry, Image
from isocenter.core.errors import ConfigError
from isocenter.models.backbones import ResidualEncoder, ViT
from isocenter.models.backbones.residual_unet import ResidualSettings
from isocenter.models.backbones.vit import ViTSettings
from isocenter.models.learnt import Preparation
from isocenter.models.learnt.descriptor import DescriptorEncoder, DescriptorSettings
from isocenter.models.learnt.evidence import METHODS, Target, evidence_maps, hidden, peak_region
from isocenter.models.learnt.network import VectorNet

CAMS = ("layer-cam", "hires-cam", "grad-cam++")


class Bright(ResidualEncoder):
    """A backbone of one map: how bright the image is at each place of a grid half as fine."""

    width = 2

    def __init__(self, dims: int) -> None:
        nn.Module.__init__(self)
        self.gain = nn.Parameter(torch.tensor(1.0))
        self.pool = nn.AvgPool2d(2) if dims == 2 else nn.AvgPool3d(2)

    def maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        seen = (self.pool(x[:, :1]) * self.gain - 1.5).clamp(min=0)
        return [torch.cat([seen, seen * 0 + 1], 1)]

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        return self.maps(x)[-1].flatten(2).mean(2)


def bright_net(dims: int) -> VectorNet:
    """A network that finds what is bright: its first output is there for it, its second against it."""
    net = VectorNet(Bright(dims), 2, 0.0)
    net.head = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        net.head.weight.copy_(torch.tensor([[40.0, 0.0], [-40.0, 0.0]]))
    return net.eval()


def spot(shape: tuple[int, int, int], at: tuple[int, int, int]) -> np.ndarray:
    gap = sum(((i - c) / (1 if n > 1 else 1e9)) ** 2 for i, c, n in zip(np.indices(shape), at, shape, strict=True))
    return (np.random.default_rng(0).normal(100, 3, shape) + 200 * (gap < 9)).astype(np.float32)


def looked(image: Image, preparation: Preparation, method: str, mirror=()) -> np.ndarray:
    prepared = preparation.forward(image)
    found = evidence_maps([bright_net(preparation.dims)], prepared.array, [Target(0)], method=method, mirror=mirror)
    return prepared.back(found[0, 0][None].astype(np.float32))[0]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mirror", [(), (False, False, True)])
def test_a_planted_spot_is_found_in_a_plane(method: str, mirror) -> None:
    at = (0, 9, 23)
    image = Image(spot((1, 40, 32), at)[None], Geometry((1, 40, 32)))
    found = looked(image, Preparation(2, size=(48, 48)), method, mirror)
    assert found.shape == (1, 40, 32) and np.isfinite(found).all() and found.min() >= 0
    peak = np.array(np.unravel_index(found.argmax(), found.shape))
    assert np.abs(peak - at).max() <= 3, (method, peak)


@pytest.mark.parametrize("method", METHODS)
def test_a_mirrored_picture_gives_the_mirrored_map(method: str) -> None:
    """Symmetric windows and networks: mirrored to within rounding; but SmoothGrad, whose noise is not mirrored."""
    array = spot((1, 32, 32), (0, 9, 23))
    way = Preparation(2, size=(32, 32))
    straight = looked(Image(array[None], Geometry((1, 32, 32))), way, method)
    mirrored = looked(Image(array[None, :, :, ::-1].copy(), Geometry((1, 32, 32))), way, method)
    gap = np.abs(straight - mirrored[:, :, ::-1]).max() / straight.max()
    assert gap < (0.2 if method == "smooth" else 1e-4)


ORDERS = list(itertools.permutations(range(3)))
FLIPS = list(itertools.product((False, True), repeat=3))


@pytest.mark.parametrize("method", ["occlusion", "layer-cam", "gradient"])
@pytest.mark.parametrize("number", range(0, 48, 7))
def test_a_turned_volume_gives_the_turned_map(method: str, number: int) -> None:
    """The same patient stored along other axes has the same map at the same place, in patient mm."""
    order, flips = ORDERS[number % 6], FLIPS[number // 6]
    shape, at = (10, 24, 20), (6, 7, 13)
    geometry = Geometry.axial(shape, spacing_mm=(2.5, 0.8, 0.7), origin_mm=(10, -20, 30))
    array = spot(shape, at)
    way = Preparation(3, orientation="SPL", size=(12, 24, 24))
    straight = looked(Image(array[None], geometry), way, method)
    turned = np.transpose(array, order)[tuple(slice(None, None, -1 if f else 1) for f in flips)]
    other = geometry.reoriented(order, flips)
    found = looked(Image(np.ascontiguousarray(turned)[None], other), way, method)
    back = np.transpose(straight, order)[tuple(slice(None, None, -1 if f else 1) for f in flips)]
    assert found.shape == other.shape and np.allclose(found, back, atol=1e-5 * straight.max())
    peak = other.to_world(np.argwhere(found == found.max())[:1].astype(float))[0]
    assert np.abs(peak - geometry.to_world([at])[0]).max() < 4, "mm in the patient"


@pytest.mark.parametrize("method", METHODS)
def test_what_speaks_against_is_not_shown(method: str) -> None:
    way = Preparation(2, size=(32, 32))
    prepared = way.forward(Image(spot((1, 32, 32), (0, 9, 23))[None], Geometry((1, 32, 32))))
    for_it, against = evidence_maps([bright_net(2)], prepared.array, [Target(0), Target(1)], method=method)[:, 0]
    assert for_it.max() > 0
    if method in ("gradient", "hires-cam", "occlusion"):  # the sign of these says for or against
        assert against[9, 23] == 0


@pytest.mark.parametrize("method", METHODS)
def test_the_same_twice_and_the_network_is_as_it_was(method: str) -> None:
    net = bright_net(2)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    image = np.random.default_rng(1).normal(size=(1, 24, 24)).astype(np.float32)
    torch.manual_seed(1)
    one = evidence_maps([net, net], image, [Target(0, exclusive=True)], method=method)
    torch.manual_seed(2)
    two = evidence_maps([net, net], image, [Target(0, exclusive=True)], method=method)
    assert np.array_equal(one, two) and one.shape == (1, 2, 24, 24) and np.array_equal(one[0, 0], one[0, 1])
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters()) and not net.training


@pytest.mark.parametrize("method", METHODS)
def test_a_flat_image_gives_a_finite_map(method: str) -> None:
    found = evidence_maps([bright_net(2)], np.zeros((1, 24, 24), np.float32), [Target(0)], method=method)
    assert np.isfinite(found).all() and found.min() >= 0


@pytest.mark.parametrize("backbone", ["residual", "vit", "batch", "grid", "descriptor"])
@pytest.mark.parametrize("method", METHODS)
def test_every_backbone_has_maps(backbone: str, method: str) -> None:
    torch.manual_seed(0)
    if backbone == "vit":
        encoder = ViT(ViTSettings(dims=2, patch=(8, 8), grid=(4, 4), width=16, depth=2, heads=2))
        net = VectorNet(encoder, 3, 0.0)
    elif backbone == "descriptor":
        net = VectorNet(DescriptorEncoder(DescriptorSettings(cells=4)), 3, 0.0, "grid")
    else:
        norm = "instance" if backbone == "residual" else "batch"
        shape = ResidualSettings(widths=(4, 8), blocks=(1, 1), strides=((1, 1), (2, 2)), norm=norm)
        net = VectorNet(ResidualEncoder(shape), 3, 0.0, {"batch": "mean-max", "grid": "grid"}.get(backbone, "mean"))
    image = np.random.default_rng(1).normal(size=(1, 32, 32)).astype(np.float32)
    found = evidence_maps([net.eval()], image, [Target(1, exclusive=True)], method=method)
    assert found.shape == (1, 1, 32, 32) and np.isfinite(found).all() and found.max() > 0


def test_the_log_odds_of_a_class_is_its_own() -> None:
    logits = torch.tensor([[1.0, 2.0, -1.0]])
    p = logits.softmax(1)[0, 1]
    assert Target(1, exclusive=True).of(logits)[0] == pytest.approx(float(torch.log(p / (1 - p))), abs=1e-5)
    assert Target(1).of(logits)[0] == 2.0


def test_no_such_method() -> None:
    with pytest.raises(ConfigError, match="no method 'magic'"):
        evidence_maps([bright_net(2)], np.zeros((1, 8, 8), np.float32), [Target(0)], method="magic")
    with pytest.raises(ConfigError, match="outline"):
        evidence_maps([nn.Conv2d(1, 2, 3)], np.zeros((1, 8, 8), np.float32), [Target(0)])


def test_the_peak_region_is_one_part_and_hiding_it_hides_it_alone() -> None:
    values = np.zeros((12, 12))
    values[2:4, 2:5], values[8, 8] = 0.8, 0.9
    values[3, 3] = 1.0
    region = peak_region(values)
    assert region.sum() == 6 and region[3, 3] and not region[8, 8]
    assert not peak_region(np.zeros((3, 3))).any()
    image = np.random.default_rng(0).normal(size=(2, 12, 12)).astype(np.float32)
    other = hidden(image, region)
    assert np.array_equal(other[:, ~region], image[:, ~region]) and not np.array_equal(other, image)


def test_captum_says_the_same() -> None:
    attribution = pytest.importorskip("captum.attr", reason="captum is compared with where it is installed")
    torch.manual_seed(0)
    shape = ResidualSettings(widths=(4, 8), blocks=(1, 1), strides=((1, 1), (2, 2)), norm="batch")
    net = VectorNet(ResidualEncoder(shape), 3, 0.0, "mean-max").eval()
    image = np.random.default_rng(1).normal(size=(1, 32, 32)).astype(np.float32)
    x = torch.from_numpy(image)[None]
    ours = {
        m: evidence_maps([net], image, [Target(1)], method=m)[0, 0] for m in ("hires-cam", "grad-cam++", "occlusion")
    }
    layer = attribution.LayerGradientXActivation(net, net.encoder.levels[-1])
    coarse = layer.attribute(x, target=1).sum(1, keepdim=True).clamp(min=0)
    theirs = nn.functional.interpolate(coarse, (32, 32), mode="bilinear", align_corners=False)[0, 0]
    np.testing.assert_allclose(ours["hires-cam"], theirs.detach().numpy(), atol=1e-6)
    from isocenter.models.learnt.evidence import _blurred

    theirs = attribution.Occlusion(net).attribute(
        x,
        sliding_window_shapes=(1, 4, 4),
        strides=(1, 2, 2),
        target=1,
        baselines=torch.from_numpy(_blurred(image))[None],
    )
    np.testing.assert_allclose(ours["occlusion"], theirs.clamp(min=0)[0, 0].detach().numpy(), atol=1e-5)
