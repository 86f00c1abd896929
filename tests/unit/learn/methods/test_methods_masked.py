"""Masked autoencoding: the loss by hand, what is hidden stays hidden, and it learns; transformers and convolutions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from isocenter.core.errors import WeightsError
from isocenter.learn.method import Stop
from isocenter.learn.methods.masked import METHOD, RECIPE
from isocenter.learn.methods.masked.decoder import sines
from isocenter.learn.methods.masked.loss import masked_loss, normalised
from isocenter.learn.methods.masked.model import MaskedConvolutions, MaskedTransformer
from isocenter.learn.methods.masked.sparse import sparse_maps, visible_map
from isocenter.learn.methods.masked.transform import patches_of, pick, views
from isocenter.learn.pretraining.card import restore
from isocenter.learn.pretraining.crops import generator
from isocenter.learn.pretraining.trainer import begun
from isocenter.models.backbones import ResidualEncoder, ResidualSettings, ViT, ViTSettings
from isocenter.models.weights import load_weights
from method_cases import linear_probe, trained
from pretraining_cases import METHODS, RESIDUAL, settings_of, toy


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy(tmp_path_factory.mktemp("images") / "toy", 48)


def learner_and_views(name: str, **changes: object) -> tuple[MaskedTransformer | MaskedConvolutions, dict]:
    args = METHOD.configure(settings_of(name, **changes))
    learner = begun(RECIPE, args)
    rng = np.random.default_rng(0)
    samples = [
        views(args, rng.normal(size=(args.channels, *(n + 8 for n in args.pixels))), generator(k)) for k in range(3)
    ]
    return learner, {k: torch.stack([s[k] for s in samples]) for k in samples[0]}


def test_the_loss_by_hand() -> None:
    """A patch of 1, 3: mean 2, variance 2 (unbiased), so -0.70711 and 0.70711."""
    hidden = torch.tensor([[[1.0, 3.0]]])
    unit = 1 / math.sqrt(2 + 1e-6)
    assert torch.allclose(normalised(hidden), torch.tensor([[[-unit, unit]]]))
    wanted = ((0.5 + unit) ** 2 + (1.0 - unit) ** 2) / 2
    assert float(masked_loss(torch.tensor([[[0.5, 1.0]]]), hidden)) == pytest.approx(wanted)
    assert bool(normalised(torch.full((1, 1, 4), 7.0)).eq(0).all()), "a flat patch has nothing to fill in"


@pytest.mark.parametrize("name", ["masked", "masked-full", "masked-sparse"])
def test_only_hidden_patches_count_and_nothing_of_them_is_seen(name: str) -> None:
    """Change a hidden patch: the target changes, what is filled in does not. A visible one: the other way round."""
    learner, batch = learner_and_views(name)
    patch, args = learner.args.patch, learner.args
    predicted, hidden = learner.predict(batch)
    assert learner(batch)[0].item() == pytest.approx(masked_loss(predicted, hidden).item(), rel=1e-6)
    assert predicted.shape == hidden.shape == (3, args.predicted, math.prod(patch))
    grid = args.grid

    def changed(token: int) -> dict[str, torch.Tensor]:
        row, column = divmod(token, grid[1])
        image = batch["image"].clone()
        place = (0, slice(None), *(slice(k * p, (k + 1) * p) for k, p in zip((row, column), patch, strict=True)))
        image[place] += torch.linspace(-3, 5, math.prod(patch)).reshape(1, *patch)
        return {**batch, "image": image}

    again, target = learner.predict(changed(int(batch["missing"][0, 0])))
    assert again.equal(predicted), "something of a hidden patch leaked"
    assert not target[0, 0].equal(hidden[0, 0]) and target[0, 1:].equal(hidden[0, 1:])
    again, target = learner.predict(changed(int(batch["kept"][0, 0])))
    assert target.equal(hidden) and not again[0].equal(predicted[0])
    assert torch.allclose(again[1:], predicted[1:], atol=1e-6), "images don't see each other"


def test_kept_and_missing_make_the_whole() -> None:
    args = METHOD.configure(settings_of("masked", ratio=0.6))
    found = views(args, np.zeros((1, 40, 40), np.float32), generator(1))
    assert (args.kept, args.predicted) == (26, 38)
    assert sorted([*found["kept"].tolist(), *found["missing"].tolist()]) == list(range(64))
    assert found["kept"].tolist() == sorted(found["kept"].tolist())
    part = METHOD.configure(settings_of("masked", decoder={"predict": 0.5, "width": 16, "heads": 2}))
    assert (part.kept, part.predicted) == (16, 24)


def test_patches_are_those_of_the_transformer() -> None:
    for dims, patch in ((2, (4, 6)), (3, (2, 3, 4))):
        vit = ViT(ViTSettings(dims=dims, channels_in=3, patch=patch, grid=(2,) * dims, width=24, depth=1, heads=2))
        x = torch.randn(2, 3, *(2 * p for p in patch))
        rows = patches_of(x, patch)
        assert rows.equal(vit.patches(x)) and vit.image(rows, (2,) * dims).equal(x)
    assert pick(torch.arange(6.0).reshape(1, 3, 2), torch.tensor([[2, 0]])).tolist() == [[[4, 5], [0, 1]]]


def test_places_differ_and_are_finite() -> None:
    places = sines((3, 4, 5), 20)
    assert tuple(places.shape) == (60, 20) and len({tuple(row) for row in places.tolist()}) == 60
    assert places[0].tolist() == [0.0] * 9 + [1.0] * 9 + [0.0] * 2, "channels that are left over are 0"


@pytest.mark.parametrize("dims", [2, 3])
def test_convolutions_see_nothing_hidden_at_any_level(dims: int) -> None:
    strides = ((1,) * dims, (2,) * dims, (1, *(2,) * (dims - 1)))
    torch.manual_seed(0)
    net = ResidualEncoder(ResidualSettings(dims=dims, widths=(4, 6, 8), blocks=(1, 2, 1), strides=strides))
    grid, block = (2, 3, 2)[:dims], (4, 8, 8)[:dims]
    space = tuple(g * b for g, b in zip(grid, block, strict=True))
    kept = torch.tensor([[0, 3], [1, 2]])
    visible = visible_map(kept, grid)
    assert visible.flatten(1).nonzero().tolist() == [[0, 0], [0, 3], [1, 1], [1, 2]]
    x = torch.randn(2, 1, *space)
    mask = visible
    for axis, b in enumerate(block, 2):
        mask = mask.repeat_interleave(b, dim=axis)
    maps = sparse_maps(net, x, visible)
    noisy = sparse_maps(net, torch.where(mask > 0, x, torch.randn_like(x) * 100), visible)
    assert all(a.equal(b) for a, b in zip(maps, noisy, strict=True))
    for found, plain in zip(maps, net.maps(x), strict=True):
        assert found.shape == plain.shape
        coarse = torch.nn.functional.interpolate(visible, found.shape[2:], mode="nearest")
        assert bool((found * (1 - coarse)).eq(0).all()), "hidden places fill up"
        assert (found * coarse).abs().sum().item() > 0


def test_convolutions_that_see_all_are_the_encoder() -> None:
    torch.manual_seed(0)
    net = ResidualEncoder(ResidualSettings(widths=(4, 8), blocks=(1, 2), strides=((1, 1), (2, 2))))
    x = torch.randn(2, 1, 16, 16)
    everything = torch.ones(2, 1, 2, 2)
    for a, b in zip(sparse_maps(net, x, everything), net.maps(x), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_a_decoder_that_is_full_has_the_weights_of_one_with_whole_blocks() -> None:
    """The last block computes hidden patches alone; it costs less and has as many weights."""
    learner, _ = learner_and_views("masked-full")
    block, reader = learner.decoder.blocks[0], learner.decoder.readers[0]
    assert sum(p.numel() for p in block.parameters()) == sum(p.numel() for p in reader.parameters())


@pytest.mark.parametrize(
    "name",
    [
        "masked",
        pytest.param("masked-full", marks=pytest.mark.slow),
        pytest.param("masked-sparse", marks=pytest.mark.slow),
    ],
)
def test_it_learns(name: str, images: Path, tmp_path: Path) -> None:
    steps, checks, _ = trained(name, images, tmp_path, steps=60, validate_every=20)
    assert np.mean([r["loss"] for r in steps[-5:]]) < 0.95 * np.mean([r["loss"] for r in steps[:5]])
    assert checks[-1]["held_out_loss"] < 0.95 * checks[0]["held_out_loss"]


def test_what_it_learnt_tells_kinds_apart(images: Path, tmp_path: Path) -> None:
    """Kinds of pictures that no label ever named, from its embeddings by a linear probe."""
    _, _, (before, after) = trained("masked", images, tmp_path, steps=60)
    assert linear_probe(after, images) >= linear_probe(before, images) + 0.1


def test_volumes(tmp_path: Path) -> None:
    """Anisotropic, through the whole method."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "set.npz", train_images=rng.integers(0, 255, (6, 12, 20, 24), dtype=np.uint8))
    vit = {"kind": "vit", "dims": 3, "patch": [2, 8, 8], "grid": [4, 2, 2], "width": 24, "depth": 1, "heads": 2}
    res = RESIDUAL | {"dims": 3, "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]]}
    for kind, changes in (("vit", {"backbone": vit}), ("conv", {"backbone": res, "block": [4, 8, 8]})):
        settings = settings_of(
            "masked", data=str(tmp_path / "set.npz"), pixels=[8, 16, 16], crop={}, steps=2, batch=2, **changes
        )
        METHOD.train(METHOD.configure(settings), tmp_path / kind, Stop(), lambda _r: None)
        assert len((tmp_path / kind / "steps.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize("name", ["masked", "masked-sparse"])
def test_the_whole_ships_too_and_fills_in_again(name: str, images: Path, tmp_path: Path) -> None:
    config = METHOD.configure(settings_of(name, data=str(images), steps=3, name="mine"))
    METHOD.train(config, tmp_path, Stop(), lambda _r: None)
    path = METHOD.export(config, tmp_path, command="c", machine="m")
    assert path.name == "mine.safetensors"
    learner = restore(RECIPE, load_weights(path.with_name("mine-whole.safetensors")))
    _, batch = learner_and_views(name)
    with torch.no_grad():
        assert math.isfinite(float(learner(batch)[0]))
    encoder = load_weights(path).arrays
    assert all(np.array_equal(v.numpy(), encoder[k]) for k, v in learner.backbone.state_dict().items())
    with pytest.raises(WeightsError, match="not the whole of a masked training"):
        restore(RECIPE, load_weights(path))
    assert METHODS["masked"] is METHOD
