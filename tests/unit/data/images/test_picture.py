"""Pictures: every pixel as it is in the file, no millimetres from a printer's resolution."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import PIL.Image
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile

from isocenter.core import Quantity
from isocenter.core.errors import DataError, PixelError
from isocenter.data.images import picture
from isocenter.data.images.picture import read_picture

GREY = np.arange(15, dtype=np.uint8).reshape(3, 5) * 17
RGB = np.arange(45, dtype=np.uint8).reshape(3, 5, 3) * 5


def test_grey_png(tmp_path):
    PIL.Image.fromarray(GREY).save(tmp_path / "a.png")
    image = read_picture(tmp_path / "a.png", modality="CR")
    assert image.array.shape == (1, 1, 3, 5)
    np.testing.assert_array_equal(image.array[0, 0], GREY)
    assert image.quantity is Quantity.ARBITRARY
    assert image.modality == "CR"
    assert image.geometry.affine is None
    assert image.geometry.pixel_spacing_mm is None
    assert image.geometry.stack == "space"
    assert image.notes == ()


def test_colour(tmp_path):
    PIL.Image.fromarray(RGB).save(tmp_path / "a.png")
    image = read_picture(tmp_path / "a.png")
    assert image.quantity is Quantity.RGB
    assert image.array[:, 0, 2, 4].tolist() == RGB[2, 4].tolist()


def test_grey_stored_as_colour_becomes_one_channel(tmp_path):
    PIL.Image.fromarray(np.stack([GREY] * 3, axis=-1)).save(tmp_path / "a.png")
    image = read_picture(tmp_path / "a.png")
    assert image.array.shape == (1, 1, 3, 5)
    assert "equal everywhere" in image.notes[0]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_resolution_is_not_taken_for_millimetres(suffix, tmp_path):
    PIL.Image.fromarray(GREY).save(tmp_path / f"a.{suffix}", dpi=(254, 254))
    image = read_picture(tmp_path / f"a.{suffix}")
    assert image.geometry.pixel_spacing_mm is None
    assert "speaks of print" in image.notes[0]


def test_sixteen_bits(tmp_path):
    deep = GREY.astype(np.uint16) * 257
    PIL.Image.fromarray(deep).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", deep)
    tifffile.imwrite(tmp_path / "big.tif", deep, byteorder=">", bigtiff=True)
    for name in ("a.png", "a.tif", "big.tif"):
        image = read_picture(tmp_path / name)
        assert image.array.dtype == np.uint16
        assert image.array.dtype.isnative
        np.testing.assert_array_equal(image.array[0, 0], deep)


def test_sixteen_bit_colour_keeps_its_low_byte(tmp_path):
    deep = RGB.astype(np.uint16) * 256 + 7
    sitk.WriteImage(sitk.GetImageFromArray(deep, isVector=True), str(tmp_path / "a.png"))
    tifffile.imwrite(tmp_path / "a.tif", deep, photometric="rgb")
    for name in ("a.png", "a.tif"):
        image = read_picture(tmp_path / name)
        assert image.array.dtype == np.uint16
        np.testing.assert_array_equal(np.moveaxis(image.array[:, 0], 0, -1), deep)


@pytest.mark.parametrize("dtype", ["int16", "int32", "float32", "float64", "uint32"])
def test_tiff_types(dtype, tmp_path):
    values = GREY.astype(dtype) - (5 if dtype[0] != "u" else 0)
    tifffile.imwrite(tmp_path / "a.tif", values)
    image = read_picture(tmp_path / "a.tif")
    assert image.array.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(image.array[0, 0], values)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "group4"])
def test_compressed_tiff(compression, tmp_path):
    values = GREY if compression != "group4" else GREY > 100
    PIL.Image.fromarray(values).save(tmp_path / "a.tif", compression=compression)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.tif").array[0, 0], values)


def test_pages_are_frames_not_slices(tmp_path):
    pages = np.arange(60, dtype=np.uint8).reshape(4, 3, 5)
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack")
    image = read_picture(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.array[0], pages)
    assert image.geometry.stack == "time"
    assert not image.is_volume
    assert "4 pages were read as frames" in image.notes[-1]


def test_pages_of_different_size_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(GREY)
        writer.write(GREY[:2, :2])
    with pytest.raises(PixelError, match="different sizes"):
        read_picture(tmp_path / "a.tif")


def test_inverted_tiff(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY, photometric="miniswhite")
    image = read_picture(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.array[0, 0], 255 - GREY)
    assert "inverted" in image.notes[0]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_exif_orientation(orientation, suffix, tmp_path):
    upright = RGB
    # what a camera stores so that the viewer's turn makes it upright
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(upright, -1),
    }[orientation]
    exif = PIL.Image.Exif()
    exif[274] = orientation
    picture_ = PIL.Image.fromarray(np.ascontiguousarray(stored))
    picture_.save(tmp_path / f"a.{suffix}", exif=exif)
    image = read_picture(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(np.moveaxis(image.array[:, 0], 0, -1), upright)
    assert any("turned upright" in n for n in image.notes) == (orientation > 1)


def test_alpha_palette_and_cmyk(tmp_path):
    alpha = np.dstack([RGB, GREY])
    PIL.Image.fromarray(alpha).save(tmp_path / "alpha.png")
    image = read_picture(tmp_path / "alpha.png")
    np.testing.assert_array_equal(np.moveaxis(image.array[:, 0], 0, -1), RGB)
    assert image.notes == ("the alpha channel was left out",)
    tifffile.imwrite(tmp_path / "alpha.tif", alpha, photometric="rgb", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(read_picture(tmp_path / "alpha.tif").array, image.array)

    PIL.Image.fromarray(np.dstack([GREY, GREY])).save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "la.png").array[0, 0], GREY)

    palette = PIL.Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), mode="P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    palette.save(tmp_path / "palette.png")
    image = read_picture(tmp_path / "palette.png")
    assert image.array[:, 0, 1, 0].tolist() == [70, 80, 90]
    assert "palette" in image.notes[0]

    PIL.Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    image = read_picture(tmp_path / "a.jpg")
    assert image.quantity is Quantity.RGB
    assert "converted from CMYK" in " ".join(image.notes)


def test_one_bit(tmp_path):
    PIL.Image.fromarray(GREY > 100).save(tmp_path / "a.png")
    image = read_picture(tmp_path / "a.png")
    assert image.array.dtype == np.uint8
    np.testing.assert_array_equal(image.array[0, 0], GREY > 100)


def png_of_size(width: int, height: int) -> bytes:
    """A valid PNG header with almost nothing behind it: what a decompression bomb looks like at first."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 999)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(60000, 60000), (20000, 16000)])
def test_bombs_are_refused_before_decoding(size, tmp_path):
    (tmp_path / "a.png").write_bytes(png_of_size(*size))
    with pytest.raises(PixelError, match="decompression bomb"):
        read_picture(tmp_path / "a.png")


def test_too_many_pages_are_refused(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 30, 50), np.uint8), photometric="minisblack")
    monkeypatch.setattr(picture, "_MAX_BYTES", 10000)
    with pytest.raises(PixelError, match="x 4 pages is more than is read"):
        read_picture(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_truncated_pictures_are_refused(suffix, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    path = tmp_path / f"a.{suffix}"
    PIL.Image.fromarray(noise).save(path)
    content = path.read_bytes()
    for keep in (0.1, 0.5, 0.9):
        path.write_bytes(content[: int(len(content) * keep)])
        with pytest.raises(PixelError, match=rf"a\.{suffix}: .*(truncated|damaged)"):
            read_picture(path)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"none\.png: cannot read"):
        read_picture(tmp_path / "none.png")
