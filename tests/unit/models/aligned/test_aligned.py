"""The network: sides survive pooling, cards bring it back, planes and volumes, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from isocenter.core.errors import ConfigError, PixelError
from isocenter.models.aligned import Aligned, AlignedNet, AlignedSettings, ImageInput
from isocenter.models.aligned.network import places_of
from isocenter.models.backbones import ResidualSettings, ViTSettings
from isocenter.models.text import TextSettings, train_byte_pairs

TEXT = TextSettings(vocabulary=300, length=8, width=16, depth=1, heads=2).as_card()
PLANE = ResidualSettings(widths=(4, 8), blocks=(1, 1), strides=((2, 2), (2, 2))).as_card()
VOLUME = ViTSettings(dims=3, patch=(2, 4, 4), grid=(2, 3, 4), width=24, depth=1, heads=2).as_card()


def make(image=PLANE, **changes):
    torch.manual_seed(0)
    return AlignedNet(AlignedSettings(**{"image": image, "text": TEXT, "width": 6, **changes})).eval()


def test_places_have_codes_of_their_own():
    codes = places_of((3, 4))
    assert len({tuple(row.tolist()) for row in codes.round(decimals=4)}) == 12
    assert places_of((2, 3, 4)).shape == (24, 24)


def test_the_pooling_tells_a_mirrored_image_apart_and_the_mean_cannot():
    """Features whose values are the same at other places: only whoever knows the places sees that they moved."""
    net = make()
    features = torch.randn(1, 8, 4, 6)
    a, b = net.pooling(features), net.pooling(features.flip(-1))
    assert (a - b).abs().max() > 1e-3
    torch.testing.assert_close(features.flatten(2).mean(2), features.flip(-1).flatten(2).mean(2))


@pytest.mark.parametrize(
    ("image", "shape"), [(PLANE, (2, 1, 16, 24)), (VOLUME, (2, 1, 4, 12, 16))], ids=["plane", "volume"]
)
@pytest.mark.parametrize("pooling", ["attention", "mean"])
def test_vectors_have_length_one(image, shape, pooling):
    net = make(image, pooling=pooling)
    vectors = net.embed_images(torch.randn(shape))
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))
    again = AlignedNet(AlignedSettings.from_card(net.settings.as_card()))
    again.load_state_dict(net.state_dict())


@pytest.mark.parametrize("wrong", [{"width": 1}, {"pooling": "max"}, {"loss": "triplet"}])
def test_bad_settings(wrong):
    with pytest.raises(ConfigError):
        make(**wrong)


def test_cards_of_another_network():
    card = make().settings.as_card()
    for wrong in ({**card, "kind": "unet"}, {**card, "depth": 3}, {"kind": "aligned"}):
        with pytest.raises(ConfigError, match="not the settings of an aligned network"):
            AlignedSettings.from_card(wrong)


def test_temperature_is_bounded_and_sigmoid_has_a_bias():
    net = make(loss="softmax")
    with torch.no_grad():
        net.log_scale.fill_(50.0)
    assert float(net.scaled(torch.tensor([1.0])).detach()) == pytest.approx(100.0) and not net.bias.requires_grad
    assert float(make().scaled(torch.tensor([0.0])).detach()) == pytest.approx(-10.0)


def test_images_are_fitted_not_mirrored():
    plane = np.zeros((30, 20), np.float32)
    plane[:, 14:] = 1  # bright at the right edge
    fitted = ImageInput(16).prepare(plane)[0]
    assert fitted.shape == (16, 16) and fitted[:, 10:12].mean() > fitted[:, 3:6].mean() + 0.5
    square = np.random.default_rng(0).random((16, 16)).astype(np.float32)
    assert np.corrcoef(ImageInput(16).prepare(square).ravel(), square.ravel())[0, 1] > 0.99


def test_bad_planes_are_refused():
    aligned = Aligned(make(), train_byte_pairs(["no effusion"], size=262), ImageInput(16))
    with pytest.raises(PixelError, match="flat"):
        aligned.embed_images([np.ones((16, 16), np.float32)])
    with pytest.raises(PixelError, match=r"takes \(rows, columns\)"):
        aligned.embed_images([np.zeros((1, 16, 16), np.float32)])
    with pytest.raises(PixelError, match="not finite"):
        aligned.embed_images([np.full((16, 16), np.nan, np.float32)])
    assert aligned.embed_images([]).shape == (0, 6)
    vectors = aligned.embed_images([np.random.default_rng(0).random((9, 12))])
    there, absent = aligned.embed_texts(["effusion", "no effusion"])
    weighed = aligned.weigh(vectors, there, absent)
    assert 0 < weighed[0] < 1 and weighed[0] + aligned.weigh(vectors, absent, there)[0] == pytest.approx(1)
    assert aligned.weigh(vectors, there, there)[0] == 0.5
