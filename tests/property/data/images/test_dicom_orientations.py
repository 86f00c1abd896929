"""A phantom written as shuffled DICOM slices reads back as itself, in all 48 orientations, straight and oblique."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocenter.core import Image
from isocenter.data.images.dicom import read_dicom
from isocenter.data.images.fingerprint import fingerprint
from isocenter.testing import phantom
from isocenter.testing.dicom_phantom import write_ct_series

OBLIQUE = (8.0, -5.0, 11.0)


def read_one(folder: Path) -> Image:
    study, _, refused = read_dicom(sorted(folder.iterdir()), root=folder)
    assert refused == ()
    (image,) = study.images
    return image


def assert_same_in_the_patient(read: Image, written: Image) -> None:
    """Every voxel of one is at the same millimetre of the other with the same value; z may run the other way."""
    indices = np.argwhere(np.ones(written.geometry.shape, bool))
    back = read.geometry.to_index(written.geometry.to_world(indices))
    np.testing.assert_allclose(back, np.round(back), atol=1e-5)
    z, y, x = np.round(back).astype(int).T
    np.testing.assert_array_equal(read.array[0, z, y, x], written.array[0].ravel())


@pytest.mark.parametrize("degrees", [(0.0, 0.0, 0.0), OBLIQUE], ids=["straight", "oblique"])
@pytest.mark.parametrize("orientation", range(48))
def test_reads_back_in_every_orientation(tmp_path: Path, orientation: int, degrees: tuple[float, float, float]) -> None:
    written = phantom(orientation, degrees=degrees, shape=(4, 3, 5))
    write_ct_series(tmp_path, written, seed=orientation)
    read = read_one(tmp_path)
    assert read.geometry.shape == (4, 3, 5)
    np.testing.assert_allclose(read.geometry.spacing_mm, (2.5, 0.8, 0.7), atol=1e-6)
    assert read.geometry.frame_uid == "1.2.3.4"
    assert_same_in_the_patient(read, written)
    assert np.linalg.det(read.geometry.affine[:3, :3][:, ::-1]) > 0, "slices are stacked along row x column"
    assert read.source.sha256 == fingerprint(read.array, read.geometry)


@settings(max_examples=15, deadline=None)
@given(
    orientation=st.integers(0, 47),
    degrees=st.tuples(*[st.floats(-40, 40, width=32)] * 3),
    shape=st.tuples(st.integers(2, 6), st.integers(1, 6), st.integers(1, 6)),
    seed=st.integers(0, 1000),
)
def test_reads_back_at_any_angle(tmp_path_factory: pytest.TempPathFactory, orientation, degrees, shape, seed) -> None:
    folder = tmp_path_factory.mktemp("any")
    written = phantom(orientation, degrees=degrees, shape=shape)
    write_ct_series(folder, written, seed=seed)
    assert_same_in_the_patient(read_one(folder), written)


@settings(max_examples=10, deadline=None)
@given(first=st.permutations(range(6)), seed=st.integers(0, 50))
def test_order_of_files_does_not_matter(tmp_path_factory: pytest.TempPathFactory, first, seed) -> None:
    folder = tmp_path_factory.mktemp("order")
    paths = write_ct_series(folder, phantom(3, shape=(6, 2, 3)), seed=seed)
    one, _, _ = read_dicom(paths, root=folder)
    other, _, _ = read_dicom([paths[i] for i in first], root=folder)
    assert one.images[0].source.sha256 == other.images[0].source.sha256
    assert one.images[0].source.instance_uids == other.images[0].source.instance_uids


@pytest.mark.parametrize(
    "syntax",
    [
        "1.2.840.10008.1.2",
        "1.2.840.10008.1.2.1",
        "1.2.840.10008.1.2.1.99",
        "1.2.840.10008.1.2.5",
        "1.2.840.10008.1.2.4.80",
        "1.2.840.10008.1.2.4.90",
    ],
)
def test_every_lossless_syntax_gives_the_same_image(tmp_path: Path, syntax: str) -> None:
    written = phantom(11, shape=(3, 40, 36))
    write_ct_series(tmp_path / "native", written)
    write_ct_series(tmp_path / "other", written, transfer_syntax_uid=syntax)
    native, other = read_one(tmp_path / "native"), read_one(tmp_path / "other")
    np.testing.assert_array_equal(native.array, other.array)
    assert native.source.sha256 == other.source.sha256
    assert other.meta["TransferSyntaxUID"] == syntax
