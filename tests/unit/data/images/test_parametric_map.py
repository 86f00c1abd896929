"""Parametric maps: float values come back bit for bit, in place, and validators accept the file."""

from __future__ import annotations

import highdicom as hd
import numpy as np
import pydicom
import pytest

from dciodvfy import dciodvfy_errors
from isocenter.core import Code, Geometry, Image, Quantity
from isocenter.core.errors import ConfigError, DataError, GeometryError, PixelError
from isocenter.data.images import parametric_map
from isocenter.data.images.parametric_map import read_parametric_map, write_parametric_map
from isocenter.testing import phantom, phantom_geometry
from isocenter.testing.dicom_phantom import write_ct_series

SHAPE = (3, 4, 5)


@pytest.fixture(scope="module")
def headers(tmp_path_factory):
    files = write_ct_series(tmp_path_factory.mktemp("ct"), phantom(0, shape=SHAPE))
    return [pydicom.dcmread(f, stop_before_pixels=True) for f in files]


def probabilities(orientation: int = 0, shape: tuple[int, int, int] = SHAPE) -> Image:
    array = np.linspace(0, 1, int(np.prod(shape)), dtype=np.float32).reshape(1, *shape)
    return Image(array, phantom_geometry(orientation, shape=shape), quantity=Quantity.PROBABILITY)


@pytest.mark.parametrize("orientation", range(0, 48, 5))
def test_every_bit_comes_back_in_its_place(orientation, headers, tmp_path):
    image = probabilities(orientation)
    proof = write_parametric_map(image, tmp_path / "pm.dcm", headers=headers)
    assert proof.exact
    assert proof.grid_error_mm < 1e-6
    back = read_parametric_map(tmp_path / "pm.dcm")
    # Slices of a left-handed grid come back in the other order, each in its place.
    assert _first_by_place(back) == _first_by_place(image)
    assert np.array_equal(back.array, image.array if proof.grid == "identical" else image.array[:, ::-1])
    assert back.quantity is Quantity.PROBABILITY


def test_a_lone_plane_keeps_its_thickness(headers, tmp_path):
    image = probabilities(1, (1, 4, 5))
    write_parametric_map(image, tmp_path / "pm.dcm", headers=headers)
    assert read_parametric_map(tmp_path / "pm.dcm").geometry.spacing_mm == pytest.approx((2.5, 0.8, 0.7))


def test_dciodvfy_finds_no_error_and_highdicom_reads_the_values(headers, tmp_path):
    definition = Code("C25447", "NCIt", "Characteristic")
    write_parametric_map(probabilities(), tmp_path / "pm.dcm", headers=headers, definition=definition)
    assert dciodvfy_errors(tmp_path / "pm.dcm") == []
    theirs = hd.imread(tmp_path / "pm.dcm").get_frames()
    assert np.array_equal(theirs.astype(np.float32), probabilities().array[0])


def test_the_same_input_gives_the_same_bytes(headers, tmp_path):
    for name in ("a", "b"):
        write_parametric_map(probabilities(), tmp_path / name, headers=headers)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_shuffled_frames_are_put_in_order(headers, tmp_path):
    image = probabilities()
    write_parametric_map(image, tmp_path / "pm.dcm", headers=headers)
    dataset = pydicom.dcmread(tmp_path / "pm.dcm")
    order = [1, 2, 0]
    frames = dataset.PerFrameFunctionalGroupsSequence
    dataset.PerFrameFunctionalGroupsSequence = [frames[k] for k in order]
    dataset.FloatPixelData = image.array[0][order].tobytes()
    back = read_parametric_map(dataset)
    assert _first_by_place(back) == _first_by_place(image)


def _first_by_place(image: Image) -> dict[tuple[float, ...], float]:
    places = image.geometry.to_world([[k, 0, 0] for k in range(len(image.array[0]))]).round(4).tolist()
    return {tuple(place): float(image.array[0, k, 0, 0]) for k, place in enumerate(places)}


def test_a_mirrored_writer_is_caught_and_leaves_nothing(headers, tmp_path, monkeypatch):
    honest = parametric_map._map

    def mirrored(image, *rest):
        return honest(Image(image.array[..., ::-1].copy(), image.geometry, quantity=image.quantity), *rest)

    monkeypatch.setattr(parametric_map, "_map", mirrored)
    with pytest.raises(GeometryError, match="mirrored"):
        write_parametric_map(probabilities(), tmp_path / "pm.dcm", headers=headers)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_or_read_is_refused(headers, tmp_path):
    path = tmp_path / "pm.dcm"
    image = probabilities()
    with pytest.raises(PixelError, match="float32"):
        write_parametric_map(phantom(shape=SHAPE), path, headers=headers)
    with pytest.raises(GeometryError, match="patient"):
        write_parametric_map(Image(image.array, Geometry(SHAPE)), path, headers=headers)
    with pytest.raises(ConfigError, match="content label"):
        write_parametric_map(image, path, headers=headers, label="lower")
    elsewhere = Image(image.array, Geometry(SHAPE, image.geometry.affine, "9.9"))
    with pytest.raises(GeometryError, match="frame of reference"):
        write_parametric_map(elsewhere, path, headers=headers)
    with pytest.raises(DataError, match="not a DICOM Parametric Map"):
        read_parametric_map(headers[0])
    assert list(tmp_path.iterdir()) == []


def test_the_caller_keeps_its_headers(headers, tmp_path):
    before = [header.to_json() for header in headers]
    write_parametric_map(probabilities(), tmp_path / "map.dcm", headers=headers)
    assert [header.to_json() for header in headers] == before, "a patient's name must not be emptied on the way"
    assert headers[0].PatientID and headers[0].StudyDate
