"""Quality checks on real images: burnt-in text in ultrasound, and a CT whose field of view is cropped."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from PIL import Image as Picture

from isocenter.core import Geometry, Image, Quantity
from isocenter.data.images.glyphs import text_lines
from isocenter.data.images.quality import inspect

pytestmark = pytest.mark.real

# Looked at one by one: each shows a side and quadrant in bright letters.
WITH_TEXT = (  # noqa: SIM905
    "benign_003 benign_004 benign_052 benign_060 benign_134 benign_138 benign_200 benign_207 benign_223 benign_229 "
    "benign_238 benign_241 benign_255 benign_279 benign_290 benign_293 malignant_012 malignant_110 malignant_207"
).split()


def grey(path):
    return np.asarray(Picture.open(path).convert("L")).astype(np.float32)


def test_letters_in_breast_ultrasound(shared_data):
    folder = shared_data / "us_breast_busi" / "images"
    missed = [name for name in WITH_TEXT if not text_lines(grey(folder / f"{name}.png"))]
    assert missed == []


def test_no_false_alarm_in_breast_ultrasound_without_letters(shared_data):
    normal = sorted((shared_data / "us_breast_busi" / "images").glob("normal_*.png"))
    assert len(normal) >= 80
    assert [p.name for p in normal if text_lines(grey(p))] == []


def test_a_ct_slice_cut_from_the_middle_of_a_body(shared_data):
    data = pydicom.dcmread(shared_data / "dicom" / "pydicom_test_files" / "test_files" / "CT_small.dcm")
    array = data.pixel_array * float(data.RescaleSlope) + float(data.RescaleIntercept)
    geometry = Geometry((1, *array.shape), pixel_spacing_mm=tuple(map(float, data.PixelSpacing)))
    image = Image(array[None, None], geometry, quantity=Quantity.HU, modality="CT", body_part="")
    quality = inspect(image)
    # CT_small is 128x128 cut from the middle of a body: the crop must show as truncation.
    assert quality["truncation"].status == "warning"
    assert quality["values"].status == "ok"
