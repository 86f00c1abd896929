"""Literal voxels of the files inside pydicom: one constant per file and transfer syntax.

The numbers were taken when this reader, pydicom's decoders and SimpleITK gave the same ones. The probes are
(channel values) at the middle, the first, the last and one odd voxel of the middle plane.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydicom.data import get_testdata_file

from isocenter.core import Image, Quantity
from isocenter.core.errors import DataError, PixelError
from isocenter.data.images.dicom import read_dicom
from isocenter.data.images.dicom.pixels import _Source

FILES = Path(get_testdata_file("CT_small.dcm")).parent


@dataclass(frozen=True)
class Golden:
    """What a file must read as."""

    file: str
    quantity: Quantity
    shape: tuple[int, ...]
    dtype: str
    probes: tuple[list[int], list[int], list[int], list[int]]
    total: int | None
    spacing_mm: tuple[float, ...] | None
    origin_mm: tuple[float, float, float] | None = None


HU, ANY, RGB = Quantity.HU, Quantity.ARBITRARY, Quantity.RGB
MR = ((1, 1, 64, 64), "int16", ([182], [905], [862], [348]), 2125338, (0.8, 0.3125, 0.3125))
MR_ORIGIN = (-83.9063, -91.2, 6.6406)

EXPL_CT_16 = Golden(
    "CT_small.dcm", HU, (1, 1, 128, 128), "int16", ([904], [-849], [-115], [-804]), -1950906,
    (5.0, 0.661468, 0.661468), (-158.1358, -179.0358, -75.7),
)  # fmt: skip
J2KI_CT_14 = Golden(
    "693_J2KI.dcm", HU, (1, 1, 512, 512), "int16", ([32], [-3040], [-3040], [-971]), -270617240,
    (5.0, 0.478516, 0.478516), (-122.5, -112.4, 47.0),
)  # fmt: skip
J2K_CT_13_WRONG_SIGN = Golden(
    "J2K_pixelrep_mismatch.dcm", HU, (1, 1, 512, 512), "int16", ([27], [-2000], [-2000], [-996]), -172605258,
    (5.0, 0.431, 0.431), (-110.2153, -98.1898, 72.1446),
)  # fmt: skip
EXPL_MR_16 = Golden("MR_small.dcm", ANY, *MR, MR_ORIGIN)
IMPL_MR_16 = Golden("MR_small_implicit.dcm", ANY, *MR, MR_ORIGIN)
EXPB_MR_16 = Golden("MR_small_bigendian.dcm", ANY, *MR, MR_ORIGIN)
RLE_MR_16 = Golden("MR_small_RLE.dcm", ANY, *MR, MR_ORIGIN)
J2K_MR_16 = Golden("MR_small_jp2klossless.dcm", ANY, *MR, MR_ORIGIN)
JLS_MR_16 = Golden("MR_small_jpeg_ls_lossless.dcm", ANY, *MR, MR_ORIGIN)
EXPL_MR_12 = Golden(
    "examples_overlay.dcm", ANY, (1, 1, 300, 484), "int16", ([136], [0], [6], [181]), 27833052,
    (4.0, 0.723140496, 0.723140496), (-159.8257, -175.322, 28.4262),
)  # fmt: skip
J2K_NM_16 = Golden("JPEG2000.dcm", ANY, (1, 1, 1024, 256), "int16", ([7], [0], [0], [34]), 3527976, (2.26, 2.26))
JPEG_NM_12 = Golden("JPGExtended.dcm", ANY, (1, 1, 1024, 256), "int16", ([14], [1], [1], [33]), 3767007, (2.26, 2.26))
JLSN_SC_16 = Golden(
    "JPEGLSNearLossless_16.dcm", ANY, (1, 1, 50, 10), "uint16", ([255], [65535], [0], [16385]), 6007250, None
)
DEFL_OT_8 = Golden("image_dfl.dcm", ANY, (1, 1, 512, 512), "uint8", ([65], [213], [188], [248]), 33322688, None)
JPGS_RGB_8 = Golden(
    "SC_rgb_jpeg_gdcm.dcm", RGB, (3, 1, 100, 100), "uint8",
    ([128, 128, 255], [255, 0, 0], [255, 255, 255], [0, 255, 0]), 3831000, (1.0, 1.0),
)  # fmt: skip
EXPL_PALETTE_8 = Golden(
    "examples_palette.dcm", RGB, (3, 1, 350, 800), "uint8", ([1, 1, 1], [37, 62, 94], [0, 0, 0], [1, 1, 1]), 17214150,
    None,
)  # fmt: skip
JPEG_YBR_422_30_FRAMES = Golden(
    "examples_ybr_color.dcm", RGB, (3, 30, 240, 320), "uint8", ([1, 1, 1], [3, 0, 5], [1, 1, 0], [0, 0, 0]), None,
    (0.5104970559477806, 0.5104970559477806),
)  # fmt: skip
J2K_YBR_RCT = Golden(
    "examples_jpeg2k.dcm", RGB, (3, 1, 480, 640), "uint8", ([12, 12, 12], [0, 0, 0], [0, 0, 0], [51, 51, 51]), 31821736,
    None,
)  # fmt: skip
EXPL_YBR_422 = Golden(
    "SC_ybr_full_422_uncompressed.dcm", RGB, (3, 1, 100, 100), "uint8",
    ([125, 130, 255], [254, 0, 0], [255, 255, 255], [0, 255, 5]), 3832000, (1.0, 1.0),
)  # fmt: skip
EXPB_RGB_8 = Golden(
    "ExplVR_BigEnd.dcm", RGB, (3, 1, 60, 80), "uint8", ([255, 255, 0], [171, 171, 171], [255, 232, 0], [255, 255, 0]),
    2470716, None,
)  # fmt: skip

GOLDEN = [value for value in list(globals().values()) if isinstance(value, Golden)]


def read(name: str) -> Image:
    study, _, refused = read_dicom([FILES / name], root=FILES)
    assert refused == ()
    (image,) = study.images
    return image


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda g: g.file)
def test_literal_voxels(golden: Golden) -> None:
    image = read(golden.file)
    array = image.array
    assert array.shape == golden.shape
    assert array.dtype == golden.dtype
    assert image.quantity is golden.quantity
    z, y, x = (n // 2 for n in array.shape[1:])
    probes = (array[:, z, y, x], array[:, 0, 0, 0], array[:, -1, -1, -1], array[:, z, y // 2, x // 3])
    assert tuple(p.tolist() for p in probes) == golden.probes
    if golden.total is not None:
        assert int(array.astype(np.int64).sum()) == golden.total
    geometry = image.geometry
    assert (geometry.spacing_mm or geometry.pixel_spacing_mm) == golden.spacing_mm
    if golden.origin_mm is None:
        assert geometry.affine is None
    else:
        np.testing.assert_allclose(geometry.affine[:3, 3], golden.origin_mm, atol=5e-5)


def test_all_six_syntaxes_of_one_slice_are_one_image() -> None:
    images = [read(g.file) for g in GOLDEN if g.file.startswith("MR_small")]
    assert len(images) == 6
    assert len({image.source.sha256 for image in images}) == 1


def test_dose_is_scaled() -> None:
    image = read("rtdose.dcm")
    np.testing.assert_allclose(image.array[0, 7, 5, 5], 0.975, rtol=1e-6)
    np.testing.assert_allclose(image.array[0, 0, 0, 0], 1.249, rtol=1e-6)
    assert image.quantity is Quantity.ARBITRARY, "this dose is RELATIVE, not in Gy"


@pytest.mark.parametrize("golden", [J2K_CT_13_WRONG_SIGN, J2K_NM_16, JLS_MR_16, JLSN_SC_16], ids=lambda g: g.file)
def test_without_imagecodecs_pydicom_gives_the_same(golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    with_codecs = read(golden.file)
    plain = _Source.__init__

    def without(self: _Source) -> None:
        plain(self)
        self._codecs = None

    monkeypatch.setattr(_Source, "__init__", without)
    np.testing.assert_array_equal(read(golden.file).array, with_codecs.array)


@pytest.mark.parametrize(
    ("file", "error", "reason"),
    [
        ("MR_truncated.dcm", PixelError, "ends after 8130 of 8192 bytes"),
        ("badVR.dcm", PixelError, "Number of Frames is not a number"),
        ("JPEG2000-embedded-sequence-delimiter.dcm", PixelError, "cannot be decoded"),
        ("meta_missing_tsyntax.dcm", PixelError, "no Rows or Columns"),
        ("rtplan.dump", PixelError, "is not a DICOM file"),
        ("zipMR.gz", PixelError, "is not a DICOM file"),
        ("UN_sequence.dcm", PixelError, "says neither what it is nor has pixels"),
        ("liver_1frame.dcm", DataError, "announces 1 frames and describes 3"),
    ],
)
def test_broken_files_are_refused_with_a_reason(file: str, error: type[DataError], reason: str) -> None:
    with pytest.raises(error, match=reason):
        read_dicom([FILES / file], root=FILES)


@pytest.mark.parametrize("file", ["rtplan.dcm", "waveform_ecg.dcm", "dicomdirtests/DICOMDIR"])
def test_other_objects_are_ignored_with_a_reason(file: str) -> None:
    study, _, refused = read_dicom([FILES / file], root=FILES)
    assert study.images == ()
    assert [r.kind for r in refused] == ["ignored"]
