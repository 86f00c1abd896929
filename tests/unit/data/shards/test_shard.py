"""A shard gives back what was written, patch by patch, and refuses to give anything else."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from isocenter.core import Geometry, Image, Mask, Quantity, Segment, Source
from isocenter.core.errors import CapabilityError, ConfigError, DataError, GeometryError, OutputError, PixelError
from isocenter.testing import phantom, phantom_geometry

pytest.importorskip("blosc2", reason="Blosc2 is not installed: no shards")

from isocenter.data.shards import Shard, narrowest, open_shard, random_voxel, write_shard
from isocenter.data.shards.frame import parse_frame

SHAPE = (20, 31, 42)


def noise(
    shape: tuple[int, int, int] = SHAPE, *, orientation: int = 13, channels: int = 1, dtype: str = "int16"
) -> Image:
    rng = np.random.default_rng(5)
    array = rng.integers(-9, 900, (channels, *shape)).astype(dtype)
    return Image(array, phantom_geometry(orientation, shape=shape), Quantity.HU, "CT")


def labelled(geometry: Geometry) -> Mask:
    array = np.zeros(geometry.shape, np.uint16)
    array[2:5, 3:9, 30:40] = 3
    array[19, 30, 41] = 700
    return Mask(array, geometry, (Segment(3, "box"), Segment(700, "corner"), Segment(9, "nothing")))


def test_everything_that_an_image_says_comes_back(tmp_path: Path) -> None:
    image = replace(
        noise(),
        source=Source("1.2.3", "1.2.4", ("1.2.5",), ("1.2.840.10008.5.1.4.1.1.2",), "ab" * 32, ("Doe^Jane.dcm",)),
        body_part="CHEST",
        description="AXIAL",
        window=((40.0, 400.0), (-600.0, 1500.0)),
        meta=MappingProxyType({"KVP": 120.5, "ImageType": ("ORIGINAL", "PRIMARY"), "Rows": 31, "Flag": True}),
        notes=("resampled",),
    )
    write_shard(image, tmp_path / "case.b2nd")
    shard = open_shard(tmp_path / "case.b2nd")
    back = shard.read(as_source=True)
    assert np.array_equal(back.array, image.array)
    assert back.array.dtype == image.array.dtype
    assert back.geometry == image.geometry
    assert back.source == replace(image.source, files=())
    assert b"Doe" not in (tmp_path / "case.b2nd").read_bytes()
    for name in ("quantity", "modality", "body_part", "description", "window", "notes"):
        assert getattr(back, name) == getattr(image, name)
    assert dict(back.meta) == dict(image.meta)


def test_stored_axes_run_to_head_back_and_left(tmp_path: Path) -> None:
    shard = write_shard(phantom(13), tmp_path / "case.b2nd")
    assert shard.geometry.orientation == "SPL"
    assert sorted(shard.geometry.shape) == sorted(phantom(13).geometry.shape)
    assert shard.read().geometry == shard.geometry


@pytest.mark.parametrize(
    "dtype",
    ["bool", "uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64"],
)
def test_every_type_comes_back_to_the_last_bit(tmp_path: Path, dtype: str) -> None:
    rng = np.random.default_rng(1)
    if dtype == "bool":
        geometry = phantom_geometry(3, shape=SHAPE)
        mask = Mask(rng.random((2, *SHAPE)) > 0.5, geometry, (Segment(1, "a"), Segment(2, "b")))
        shard = write_shard(noise(orientation=3), tmp_path / "case.b2nd", mask=mask)
        back = shard.read_mask(as_source=True).array
        assert back.dtype == np.bool_ and np.array_equal(back, mask.array)
        return
    if dtype.startswith("float"):
        array = rng.normal(0, 100, (2, *SHAPE)).astype(dtype)
        array[0, 0, 0, :3] = [np.nan, np.inf, -0.0]
    else:
        info = np.iinfo(dtype)
        array = rng.integers(info.min, info.max, (2, *SHAPE), dtype=dtype, endpoint=True)
    image = Image(array, phantom_geometry(7, shape=SHAPE))
    back = write_shard(image, tmp_path / "case.b2nd").read(as_source=True).array
    assert back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()


def test_whole_numbers_are_stored_small_and_come_back_as_they_were(tmp_path: Path) -> None:
    image = noise(dtype="float32")
    shard = write_shard(image, tmp_path / "case.b2nd")
    assert (shard.stored_dtype, shard.dtype) == (np.int16, np.float32)
    assert shard.read(as_source=True).array.tobytes() == image.array.tobytes()
    assert shard.patch((0, 0, 0), (3, 3, 3)).dtype == np.float32
    assert shard.patch((0, 0, 0), (3, 3, 3), stored=True).dtype == np.int16


def test_a_zero_with_a_sign_is_not_lost() -> None:
    assert narrowest(np.array([0.0, 5.0])) == np.uint8
    assert narrowest(np.array([-0.0, 5.0])) == np.float64
    assert narrowest(np.array([np.nan, 5.0])) == np.float64
    assert narrowest(np.array([2.0**40])) == np.float64
    assert narrowest(np.array([-5, 100_000], np.int64)) == np.int32


def test_big_endian_values_are_kept(tmp_path: Path) -> None:
    image = Image(noise().array.astype(">i2"), phantom_geometry(13, shape=SHAPE))
    assert np.array_equal(write_shard(image, tmp_path / "case.b2nd").read(as_source=True).array, image.array)


def test_a_type_without_a_place_in_the_form_is_refused(tmp_path: Path) -> None:
    image = Image(noise().array.astype(np.longdouble), phantom_geometry(13, shape=SHAPE))
    with pytest.raises(PixelError, match=r"float128|longdouble"):
        write_shard(image, tmp_path / "case.b2nd")


def test_a_patch_is_what_numpy_would_cut_with_padding_at_borders(tmp_path: Path) -> None:
    shard = write_shard(noise(channels=2), tmp_path / "case.b2nd", patch=(8, 8, 8))
    whole = shard.read().array
    lowest = whole.min()
    rng = np.random.default_rng(0)
    wide = np.pad(whole, ((0, 0), *[(60, 60)] * 3), constant_values=lowest)
    for _ in range(60):
        size = rng.integers(1, 50, 3)
        start = rng.integers(-59, np.array(shard.geometry.shape) + 9)
        want = wide[(slice(None), *(slice(s + 60, s + 60 + n) for s, n in zip(start, size, strict=True)))]
        got = shard.patch(start.tolist(), size.tolist())
        assert np.array_equal(got[tuple(slice(0, n) for n in want.shape)], want)
        assert got.shape == (2, *size)


def test_padding_is_the_lowest_value_or_what_is_asked_for(tmp_path: Path) -> None:
    image = noise()
    shard = write_shard(image, tmp_path / "case.b2nd", mask=labelled(image.geometry))
    assert (shard.patch((-5, -5, -5), (2, 2, 2)) == image.array.min()).all()
    assert (shard.patch((900, 0, 0), (2, 2, 2), pad=7) == 7).all()
    assert shard.mask is not None
    assert (shard.mask.patch((-5, -5, -5), (2, 2, 2)) == 0).all()
    with pytest.raises(ConfigError, match="cannot hold the padding"):
        shard.patch((-5, 0, 0), (2, 2, 2), pad=0.5)
    with pytest.raises(ConfigError, match="cannot hold the padding"):
        shard.patch((-5, 0, 0), (2, 2, 2), pad=float("nan"))


def test_a_patch_of_nothing_is_refused(tmp_path: Path) -> None:
    shard = write_shard(noise(), tmp_path / "case.b2nd")
    with pytest.raises(ConfigError, match="three numbers"):
        shard.patch((0, 0, 0), (0, 4, 4))


def test_a_mask_lies_beside_its_image_on_the_same_grid(tmp_path: Path) -> None:
    image = noise()
    mask = labelled(image.geometry)
    shard = write_shard(image, tmp_path / "case.b2nd", mask=mask)
    assert shard.mask is not None
    assert shard.mask.geometry == shard.geometry
    assert shard.mask.segments == mask.segments
    back = open_shard(tmp_path / "case.b2nd").read_mask(as_source=True)
    assert np.array_equal(back.array, mask.array)
    assert (back.geometry, back.array.dtype) == (mask.geometry, np.uint16)
    with pytest.raises(DataError, match="holds a mask"):
        shard.mask.read()


def test_a_mask_on_another_grid_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GeometryError, match="resample"):
        write_shard(noise(), tmp_path / "case.b2nd", mask=labelled(phantom_geometry(14, shape=SHAPE)))
    assert not list(tmp_path.iterdir())


def test_a_mask_that_is_gone_or_another_one_is_refused(tmp_path: Path) -> None:
    image = noise()
    write_shard(image, tmp_path / "case.b2nd", mask=labelled(image.geometry))
    other = Mask(np.zeros(SHAPE, np.uint16), image.geometry, (Segment(3, "box"),))
    write_shard(image, tmp_path / "other.b2nd", mask=other)
    (tmp_path / "other.mask.b2nd").replace(tmp_path / "case.mask.b2nd")
    with pytest.raises(DataError, match="not the mask that was written"):
        open_shard(tmp_path / "case.b2nd").read_mask()
    (tmp_path / "case.mask.b2nd").unlink()
    with pytest.raises(DataError, match="does not exist"):
        open_shard(tmp_path / "case.b2nd").read_mask()


def test_probabilities_and_overlapping_planes_come_back(tmp_path: Path) -> None:
    image = noise()
    planes = np.random.default_rng(2).random((2, *SHAPE)).astype(np.float32)
    mask = Mask(planes, image.geometry, (Segment(4, "a"), Segment(2, "b")))
    shard = write_shard(image, tmp_path / "case.b2nd", mask=mask)
    assert np.array_equal(shard.read_mask(as_source=True).array, planes)
    assert shard.mask is not None
    z, y, x = random_voxel(shard.mask, 2, np.random.default_rng(0))
    assert shard.mask.read_mask().array[1, z, y, x] >= 0.5


def test_voxels_of_a_segment_are_drawn_alike(tmp_path: Path) -> None:
    image = noise()
    mask = labelled(image.geometry)
    shard = write_shard(image, tmp_path / "case.b2nd", mask=mask, patch=(4, 4, 4))
    assert shard.mask is not None
    assert len(shard.mask.content.counts[0].places) > 3
    labels = shard.read_mask().array
    rng = np.random.default_rng(0)
    drawn = [random_voxel(shard.mask, 3, rng) for _ in range(3000)]
    assert all(labels[v] == 3 for v in drawn)
    # 180 voxels, each drawn about 17 times: chi-square of a fair draw has mean 179 and deviation 19.
    times = np.unique(np.array(drawn), axis=0, return_counts=True)[1]
    expected = 3000 / np.count_nonzero(labels == 3)
    chi = ((times - expected) ** 2 / expected).sum() + (180 - len(times)) * expected
    assert 179 - 5 * 19 < chi < 179 + 5 * 19
    assert labels[random_voxel(shard.mask, 700, rng)] == 700
    with pytest.raises(PixelError, match="no voxel of segment 9"):
        random_voxel(shard.mask, 9, rng)


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    image = noise()
    for name in ("a", "b"):
        write_shard(image, tmp_path / name / "case.b2nd", mask=labelled(image.geometry))
    for name in ("case.b2nd", "case.mask.b2nd"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize(
    "geometry",
    [Geometry((1, 9, 11)), Geometry((1, 9, 11), pixel_spacing_mm=(0.2, 0.3)), Geometry((4, 9, 11), stack="time")],
)
def test_pictures_without_a_place_and_cines_stay_as_they_are(tmp_path: Path, geometry: Geometry) -> None:
    array = np.random.default_rng(0).integers(0, 255, (3, *geometry.shape)).astype(np.uint8)
    shard = write_shard(Image(array, geometry, Quantity.RGB, "XC"), tmp_path / "case.b2nd")
    assert shard.geometry == geometry
    assert np.array_equal(shard.read().array, array)
    assert np.array_equal(shard.patch((0, 2, 3), (1, 4, 4))[:, 0], array[:, 0, 2:6, 3:7])


def test_frames_in_time_are_not_turned(tmp_path: Path) -> None:
    geometry = replace(phantom_geometry(13, shape=(4, 5, 6)), stack="time", pixel_spacing_mm=None)
    array = np.arange(120, dtype=np.int16).reshape(1, 4, 5, 6)
    shard = write_shard(Image(array, geometry), tmp_path / "case.b2nd")
    assert np.array_equal(shard.read().array, array)
    assert shard.geometry == geometry


def test_statistics_are_numpys(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(3, 2, (1, *SHAPE)).astype(np.float32)
    array[0, 0, 0, 0] = np.nan
    s = write_shard(Image(array, phantom_geometry(1, shape=SHAPE)), tmp_path / "case.b2nd").statistics
    assert s is not None
    assert s.mean == pytest.approx(np.nanmean(array.astype(np.float64)), rel=1e-9)
    assert s.deviation == pytest.approx(np.nanstd(array.astype(np.float64)), rel=1e-9)
    assert (s.lowest, s.highest) == (np.nanmin(array), np.nanmax(array))


def test_blosc2_alone_reads_a_shard(tmp_path: Path) -> None:
    import blosc2

    shard = write_shard(noise(), tmp_path / "case.b2nd")
    assert np.array_equal(blosc2.open(str(tmp_path / "case.b2nd"), mode="r")[...], shard.read().array)


def test_a_shard_travels_to_another_process_by_its_name(tmp_path: Path) -> None:
    shard = write_shard(noise(), tmp_path / "case.b2nd")
    again: Shard = pickle.loads(pickle.dumps(shard))
    assert np.array_equal(again.read().array, shard.read().array)


def test_a_closed_shard_opens_again_unless_it_was_replaced(tmp_path: Path) -> None:
    image = noise()
    shard = write_shard(image, tmp_path / "case.b2nd", mask=labelled(image.geometry))
    before = shard.patch((1, 2, 3), (4, 5, 6))
    shard.close()
    assert np.array_equal(shard.patch((1, 2, 3), (4, 5, 6)), before)
    assert shard.mask is not None
    shard.close()
    write_shard(Image(image.array[:, ::-1].copy(), image.geometry), tmp_path / "case.b2nd")
    with pytest.raises(DataError, match="replaced"):
        shard.patch((1, 2, 3), (4, 5, 6))


def test_no_altered_byte_changes_what_is_read(tmp_path: Path) -> None:
    """Each byte of header, index and metadata, and many of the chunks: refused, or without any effect."""
    array = np.random.default_rng(0).integers(0, 9, (1, 9, 14, 17)).astype(np.int16)
    shard = write_shard(Image(array, phantom_geometry(13, shape=(9, 14, 17))), tmp_path / "case.b2nd", patch=(4, 4, 4))
    whole, raw = shard.read(), (tmp_path / "case.b2nd").read_bytes()
    frame = parse_frame(raw, source="")
    places = [*range(frame.header), *range(frame.header, frame.tail, 29), *range(frame.tail, frame.total, 3)]
    refused = 0
    for place in places:
        bad = bytearray(raw)
        bad[place] ^= 0x41
        (tmp_path / "bad.b2nd").write_bytes(bad)
        try:
            back = open_shard(tmp_path / "bad.b2nd").read()
        except DataError:
            refused += 1
            continue
        assert np.array_equal(back.array, whole.array)
        assert back.geometry == whole.geometry
        assert place < frame.header or place >= frame.tail
    assert refused > 0.8 * len(places)


def test_a_cut_shard_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    write_shard(noise(), tmp_path / "case.b2nd")
    raw = (tmp_path / "case.b2nd").read_bytes()
    for length in [0, 1, 20, 46, 47, 200, len(raw) // 2, len(raw) - 1]:
        (tmp_path / "cut.b2nd").write_bytes(raw[:length])
        with pytest.raises(DataError, match=r"cut|no Blosc2 frame"):
            open_shard(tmp_path / "cut.b2nd")


def test_only_the_part_that_is_altered_is_refused(tmp_path: Path) -> None:
    shard = write_shard(noise((64, 64, 64), orientation=0), tmp_path / "case.b2nd", patch=(8, 8, 8))
    raw = bytearray((tmp_path / "case.b2nd").read_bytes())
    raw[parse_frame(bytes(raw), source="").tail - 5] ^= 1
    (tmp_path / "case.b2nd").write_bytes(raw)
    bad = open_shard(tmp_path / "case.b2nd")
    assert np.array_equal(bad.patch((0, 0, 0), (8, 8, 8)), shard.patch((0, 0, 0), (8, 8, 8)))
    with pytest.raises(PixelError, match="checksum"):
        bad.patch((56, 56, 56), (8, 8, 8))
    with pytest.raises(PixelError, match="checksum"):
        bad.patch((56, 56, 56), (8, 8, 8))


def test_another_blosc2_file_is_no_shard(tmp_path: Path) -> None:
    import blosc2

    blosc2.asarray(np.zeros((4, 4)), urlpath=str(tmp_path / "plain.b2nd"))
    with pytest.raises(DataError, match="no shard"):
        open_shard(tmp_path / "plain.b2nd")
    (tmp_path / "text.b2nd").write_text("hello" * 100)
    with pytest.raises(DataError, match="no Blosc2 frame"):
        open_shard(tmp_path / "text.b2nd")
    with pytest.raises(DataError, match="does not exist"):
        open_shard(tmp_path / "none.b2nd")


def test_names_that_would_be_taken_for_a_mask_are_refused(tmp_path: Path) -> None:
    for name in ("case.nii", "case.mask.b2nd", ".b2nd"):
        with pytest.raises(ConfigError, match="name ends in"):
            write_shard(noise(), tmp_path / name)


def test_meta_that_is_no_plain_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'Thing' holds a object"):
        write_shard(replace(noise(), meta={"Thing": object()}), tmp_path / "case.b2nd")


def test_what_a_refusing_disk_leaves_is_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = write_shard(noise(), tmp_path / "case.b2nd").read().array
    real = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        real(self, data[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="disk is full"):
        write_shard(noise(orientation=4), tmp_path / "case.b2nd")
    assert [p.name for p in tmp_path.iterdir()] == ["case.b2nd"]
    assert np.array_equal(open_shard(tmp_path / "case.b2nd").read().array, before)


def test_without_blosc2_the_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "blosc2", None)
    with pytest.raises(CapabilityError, match=r"isocenter\[archive\]"):
        write_shard(noise(), tmp_path / "case.b2nd")


def test_the_room_imports_without_any_optional_package() -> None:
    missing = ("torch", "blosc2", "fsspec", "zarr", "duckdb", "pyarrow")
    code = f"import sys; sys.modules.update(dict.fromkeys({missing})); import isocenter.data.shards"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_patch_reads_only_the_chunks_that_it_overlaps(tmp_path: Path) -> None:
    shard = write_shard(noise((64, 64, 64), orientation=0), tmp_path / "case.b2nd", patch=(8, 8, 8))
    asked: list[tuple[int, int]] = []
    shard.backing.need = lambda ranges: asked.extend(ranges)  # type: ignore[method-assign]
    shard.patch((3, 3, 3), (8, 8, 8))
    one = sum(b - a for a, b in asked)
    assert 0 < one < (tmp_path / "case.b2nd").stat().st_size / 8
    shard.patch((3, 3, 3), (8, 8, 8))
    assert sum(b - a for a, b in asked) == one
