"""An exported OME-Zarr holds the shard's voxels, at their place, as the specification wants it."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from isocenter.core import Geometry, Image, Mask, Segment
from isocenter.core.errors import CapabilityError, ConfigError, DataError, GeometryError, OutputError, PixelError
from isocenter.testing import phantom_geometry

pytest.importorskip("blosc2", reason="Blosc2 is not installed: no shards")

from isocenter.data.shards import Shard, export_ome_zarr, write_shard

SHAPE = (12, 37, 50)
SEGMENTS = (Segment(1, "a", colour=(1, 2, 3)), Segment(300, "b"))


@pytest.fixture
def zarr():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield pytest.importorskip("zarr", minversion="3", reason="zarr 3 is not installed: no OME-Zarr")


def shard_of(folder: Path, geometry: Geometry, *, channels: int = 1, mask: bool = True, dtype: str = "int16") -> Shard:
    rng = np.random.default_rng(0)
    image = Image(rng.integers(-900, 900, (channels, *geometry.shape)).astype(dtype), geometry)
    labels = rng.choice(np.array([0, 1, 300], np.uint16), geometry.shape)
    return write_shard(image, folder / "case.b2nd", mask=Mask(labels, geometry, SEGMENTS) if mask else None)


def multiscale(zarr, folder: Path, version: str, inner: str = "") -> tuple[dict, dict]:
    attributes = dict(zarr.open_group(str(folder / inner), mode="r").attrs)
    return (attributes["ome"] if version == "0.5" else attributes)["multiscales"][0], attributes


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("orientation", [0, 13])
def test_voxels_and_places_are_the_shards(tmp_path: Path, zarr, version: str, orientation: int) -> None:
    geometry = phantom_geometry(orientation, degrees=(0.0, 0.0, 0.0), shape=SHAPE)
    shard = shard_of(tmp_path, geometry, channels=2)
    export_ome_zarr(shard, tmp_path / "case.ome.zarr", version=version, chunks=(5, 16, 16), levels=3)
    group = zarr.open_group(str(tmp_path / "case.ome.zarr"), mode="r")
    assert np.array_equal(group["0"][:], shard.read().array)
    assert shard.mask is not None
    assert np.array_equal(group["labels/segments/0"][:], shard.mask.read_mask().array)
    described, attributes = multiscale(zarr, tmp_path / "case.ome.zarr", version)
    assert [a["name"] for a in described["axes"]] == ["c", "z", "y", "x"]
    assert all(a["unit"] == "millimeter" for a in described["axes"][1:])
    for level, dataset in enumerate(described["datasets"]):
        steps = dataset["coordinateTransformations"]
        scale, translation = steps[0]["scale"][1:], steps[1]["translation"][1:]
        # The centre of the first voxel of a level is the mean of the centres of those that it holds.
        ratio = np.rint(np.array(scale) / np.array(shard.geometry.spacing_mm)).astype(int)
        held = np.argwhere(np.ones(ratio, np.bool_))
        centre = shard.geometry.to_world(held).mean(axis=0)
        assert np.allclose(translation, centre[::-1], atol=1e-6), "not oblique: z, y, x of LPS"
        space = tuple(n // r for n, r in zip(shard.geometry.shape, ratio, strict=True))
        assert group[dataset["path"]].shape[1:] == space
        assert (level == 0) == (ratio == 1).all()
    assert np.array_equal(attributes["isocenter"]["affine_zyx_to_lps_mm"], shard.geometry.require_affine())
    assert not attributes["isocenter"]["oblique"]


def test_coarser_levels_are_means_and_most_frequent_labels(tmp_path: Path, zarr) -> None:
    geometry = Geometry.axial(SHAPE, spacing_mm=(3.0, 1.0, 1.0))
    shard = shard_of(tmp_path, geometry)
    export_ome_zarr(shard, tmp_path / "o.zarr", chunks=(5, 16, 16), levels=3)
    group = zarr.open_group(str(tmp_path / "o.zarr"), mode="r")
    first, second, third = (group[str(n)][0] for n in range(3))
    assert second.shape == (12, 18, 25), "z is three times as coarse, so it is halved later"
    want = first[:, :36, :50].reshape(12, 18, 2, 25, 2).mean(axis=(2, 4))
    assert np.array_equal(second, np.rint(want))
    assert third.shape == (6, 9, 12)
    labels, coarse = (group[f"labels/segments/{n}"][:] for n in range(2))
    for z, y, x in np.random.default_rng(1).integers(0, (12, 18, 25), (50, 3)):
        block = labels[z, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
        assert (block == coarse[z, y, x]).sum() == np.unique(block, return_counts=True)[1].max()


def test_an_oblique_grid_says_so_and_keeps_its_affine(tmp_path: Path, zarr) -> None:
    shard = shard_of(tmp_path, phantom_geometry(13, shape=SHAPE), mask=False)
    export_ome_zarr(shard, tmp_path / "o.zarr")
    described, attributes = multiscale(zarr, tmp_path / "o.zarr", "0.5")
    assert attributes["isocenter"]["oblique"]
    assert np.array_equal(attributes["isocenter"]["affine_zyx_to_lps_mm"], shard.geometry.require_affine())
    place = described["datasets"][0]["coordinateTransformations"][1]["translation"][1:]
    assert np.allclose(np.asarray(shard.geometry.directions) @ place, shard.geometry.require_affine()[:3, 3])


def test_a_picture_without_a_place_has_no_unit(tmp_path: Path, zarr) -> None:
    shard = shard_of(tmp_path, Geometry((1, 90, 70)), channels=3, mask=False, dtype="uint8")
    export_ome_zarr(shard, tmp_path / "o.zarr")
    described, attributes = multiscale(zarr, tmp_path / "o.zarr", "0.5")
    assert all("unit" not in a for a in described["axes"])
    assert attributes["isocenter"]["affine_zyx_to_lps_mm"] is None
    assert len(described["datasets"]) == 2


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_published_models_of_the_specification_accept_it(tmp_path: Path, zarr, version: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        models = pytest.importorskip("ome_zarr_models", reason="ome-zarr-models is not installed: no independent check")
        shard = shard_of(tmp_path, phantom_geometry(13, shape=SHAPE))
        export_ome_zarr(shard, tmp_path / "o.zarr", version=version, levels=2)
        image = models.open_ome_zarr(str(tmp_path / "o.zarr"))
        assert type(image).__module__ == f"ome_zarr_models.v{version.replace('.', '')}.image"
        inner = models.open_ome_zarr(str(tmp_path / "o.zarr" / "labels" / "segments"))
        assert "Label" in type(inner).__name__


def test_what_cannot_be_exported_is_refused_and_nothing_is_left(tmp_path: Path, zarr, monkeypatch) -> None:
    shard = shard_of(tmp_path, phantom_geometry(13, shape=SHAPE))
    assert shard.mask is not None
    with pytest.raises(DataError, match="holds a mask"):
        export_ome_zarr(shard.mask, tmp_path / "o.zarr")
    with pytest.raises(ConfigError, match=r"0\.4 or 0\.5"):
        export_ome_zarr(shard, tmp_path / "o.zarr", chunks=(0, 1, 1))
    cine = write_shard(Image(np.zeros((1, 4, 5, 6), np.uint8), Geometry((4, 5, 6), stack="time")), tmp_path / "t.b2nd")
    with pytest.raises(GeometryError, match="frames in time"):
        export_ome_zarr(cine, tmp_path / "o.zarr")
    geometry = phantom_geometry(13, shape=SHAPE)
    planes = Mask(np.zeros((1, *SHAPE), np.bool_), geometry, (Segment(1, "a"),))
    stack = write_shard(shard.read(as_source=True), tmp_path / "s.b2nd", mask=planes)
    with pytest.raises(DataError, match="stack of planes"):
        export_ome_zarr(stack, tmp_path / "o.zarr")
    export_ome_zarr(stack, tmp_path / "stack.zarr", masks=False)
    with pytest.raises(OutputError, match="not empty"):
        export_ome_zarr(shard, tmp_path / "stack.zarr")
    monkeypatch.setattr("isocenter.data.shards.ome_zarr._described", lambda *_: {})
    real = Shard.patch
    monkeypatch.setattr(Shard, "patch", lambda self, *a, **k: real(self, *a, **k) + np.random.default_rng().integers(9))
    with pytest.raises(PixelError, match="differ"):
        export_ome_zarr(shard, tmp_path / "o.zarr", chunks=(1, 64, 64))
    assert not (tmp_path / "o.zarr").exists()
    assert not list(tmp_path.glob(".partial*"))


def test_without_zarr_the_missing_package_is_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "zarr", None)
    shard = shard_of(tmp_path, phantom_geometry(13, shape=SHAPE), mask=False)
    with pytest.raises(CapabilityError, match="pip install 'zarr"):
        export_ome_zarr(shard, tmp_path / "o.zarr")
