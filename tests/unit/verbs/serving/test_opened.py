"""How voxels are sent: the smallest form that gives every value back, and windows that show something."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from isocenter.core import Geometry, Image, Quantity
from isocenter.data.images.dicom import open_dicom
from isocenter.testing.dicom_phantom import write_ct_series
from isocenter.verbs.serving.opened import OpenedImage, opened_prepared, opened_whole, sent
from isocenter.verbs.serving.windows import windows_of
from isocenter.viewer.ports import PixelForm


def values_of(stored: np.ndarray, form: PixelForm) -> np.ndarray:
    return np.moveaxis(stored * form.slope + form.intercept, -1, 0)


def series(folder: Path, **changes: object) -> OpenedImage:
    z, y, x = np.indices((4, 5, 7))
    image = Image((100 * z + 10 * y + x).astype(np.int16)[None], Geometry.axial((4, 5, 7), spacing_mm=(2, 1, 0.5)))

    def change(_: int, dataset: Dataset) -> Dataset:
        for name, value in changes.items():
            setattr(dataset, name, value)
        return dataset

    files = write_ct_series(folder, image, change=change)
    (prepared,) = open_dicom(files, root=folder).images
    return opened_prepared("study", 0, prepared, most_bytes=1 << 30)


@pytest.mark.parametrize(
    ("changes", "form"),
    [
        # The phantom's stored values are signed 16 bits with an intercept of -1024: -33792 is possible, and no int16.
        ({}, PixelForm("int16", 1.0, -1024.0)),
        ({"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0}, PixelForm("int16")),
        ({"PixelRepresentation": 0, "RescaleIntercept": "0"}, PixelForm("uint16")),
        ({"PixelRepresentation": 0, "RescaleIntercept": "-1024"}, PixelForm("uint16", 1.0, -1024.0)),
        ({"RescaleIntercept": "0"}, PixelForm("int16")),
        ({"RescaleSlope": "0.5"}, PixelForm("float32")),
        ({"RescaleIntercept": "0.5"}, PixelForm("float32")),
    ],
)
def test_the_form_of_a_series(tmp_path: Path, changes: dict[str, object], form: PixelForm) -> None:
    opened = series(tmp_path, **changes)
    assert opened.item.pixel == form and opened.planes is not None
    truth = opened.read().array
    for first, count in ((0, 4), (1, 2), (3, 1)):
        stored = sent(opened.planes(first, count), form)
        assert stored.dtype == np.dtype(form.dtype).newbyteorder("<") and stored.flags.c_contiguous
        np.testing.assert_array_equal(values_of(stored, form), truth[:, first : first + count])
    assert opened.item.bytes == 4 * 5 * 7 * np.dtype(form.dtype).itemsize
    assert opened.item.low <= opened.item.high and opened.memory_bytes == opened.item.bytes


DTYPES = ("int16", "uint16", "uint8", "int32", "float32", "float64")


@given(
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 99),
    scale=st.sampled_from([1.0, 100.0, 30_000.0, 60_000.0, 0.37]),
    channels=st.sampled_from([1, 3]),
)
def test_every_value_of_a_whole_image_comes_back(dtype: str, seed: int, scale: float, channels: int) -> None:
    values = np.random.default_rng(seed).uniform(-scale, scale, (channels, 2, 3, 4))
    if np.dtype(dtype).kind in "iu":
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    image = Image(values.astype(dtype), Geometry((2, 3, 4)))
    item = opened_whole("study", 0, "0" * 16, image, lambda: image, most_bytes=1 << 30).item
    back = values_of(sent(image.array, item.pixel), item.pixel)
    # float64 goes as float32; integers below 2 ** 24 and all of the rest come back as they are.
    np.testing.assert_array_equal(back, image.array.astype(np.float32) if dtype == "float64" else image.array)
    assert item.channels == channels and item.spacing_mm is None


def test_whole_numbers_that_a_file_holds_as_floats_are_sent_in_half_the_bytes() -> None:
    image = Image(np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4) - 9, Geometry((2, 3, 4)))
    assert opened_whole("s", 0, "i", image, lambda: image, most_bytes=1).item.pixel == PixelForm("int16")
    odd = Image(np.where(image.array == 14, np.nan, image.array), image.geometry)
    item = opened_whole("s", 0, "i", odd, lambda: odd, most_bytes=1).item
    assert item.pixel == PixelForm("float32") and item.too_large
    assert (item.low, item.high) == (-9.0, 13.0)  # what is not finite is no value to be shown


def some(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


@pytest.mark.parametrize(
    ("kind", "first"),
    [
        ({"quantity": Quantity.HU, "body_part": "ABDOMEN"}, ("soft tissue", 40, 400)),
        ({"quantity": Quantity.HU, "body_part": "Brain"}, ("brain", 40, 80)),
        ({"quantity": Quantity.HU, "body_part": "LUNG", "header": [(1, 2)]}, ("lung", -600, 1500)),
        ({"quantity": Quantity.ARBITRARY, "modality": "CT", "body_part": ""}, ("soft tissue", 40, 400)),
        ({"quantity": Quantity.ARBITRARY, "modality": "MR", "body_part": "", "header": [(30, 60)]}, ("header", 30, 60)),
        ({"quantity": Quantity.ARBITRARY, "modality": "MR", "body_part": "", "header": [(30, 0)]}, ("values", 0, 2000)),
        ({"quantity": Quantity.SUVBW, "body_part": ""}, ("SUV 0-5", 2.5, 5)),
        ({"quantity": Quantity.RGB, "body_part": "", "eight_bits": True}, ("as stored", 127.5, 255)),
    ],
)
def test_windows(kind: dict[str, object], first: tuple[str, float, float]) -> None:
    found = windows_of(some(-1000, 0, 1000), **({"header": (), "eight_bits": False} | kind))  # type: ignore[arg-type]
    assert (found[0].name, found[0].centre) == first[:2] and found[0].width == pytest.approx(first[2], rel=0.02)
    assert all(window.width > 0 for window in found) and len({w.name for w in found}) == len(found)
    if "header" in kind and kind["header"] != [(30, 0)]:
        assert any(window.name == "header" for window in found)


def test_a_flat_image_has_a_window() -> None:
    for values in (some(), some(7, 7, 7)):
        (found,) = windows_of(values, quantity=Quantity.ARBITRARY, body_part="", header=(), eight_bits=False)
        assert found.width > 0
