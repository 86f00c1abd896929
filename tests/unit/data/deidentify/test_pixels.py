"""Burnt-in text is found and blanked; the rest of the picture stays."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from deidentify_cases import plain_ct, read, written
from isocenter.core.errors import CapabilityError, ConfigError
from isocenter.data.deidentify import Policy, Pseudonyms, deidentify_bytes
from isocenter.data.deidentify.burnt_in import read_rules, region_boxes, text_boxes
from isocenter.data.deidentify.dicom.pixels import blank_text, worth_looking

NAMES = Pseudonyms(b"a key for tests")


@pytest.fixture
def tesseract():
    if shutil.which("tesseract") is None:
        pytest.skip("tesseract is not installed")


def _picture(words: list[tuple[int, int, str]], *, size: int = 16, shape=(240, 320)) -> np.ndarray:
    """Return soft anatomy with bright text on it."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    ground = 90 * np.exp(-(((y - 130) / 60.0) ** 2 + ((x - 160) / 80.0) ** 2))
    image = Image.fromarray(ground.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for left, top, word in words:
        draw.text((left, top), word, fill=255, font=ImageFont.load_default(size))
    return np.array(image)


WORDS = [(8, 6, "ZEBROWSKI QUILLON"), (200, 6, "13.08.1947"), (8, 214, "MRN 7731904")]


def _ultrasound(pixels: np.ndarray):
    ds = plain_ct()
    ds.Modality = "US"
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.6.1"
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    if pixels.ndim == 3:
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.BurnedInAnnotation = "YES"
    ds.PixelData = pixels.tobytes()
    return ds


def _share_left(before: np.ndarray, after: np.ndarray) -> float:
    """Return how much of the bright text is still bright."""
    text = before > 200
    return float((after[text] > 100).mean())


@pytest.mark.parametrize("ocr", [True, False])
def test_text_is_found(ocr, request):
    if ocr:
        request.getfixturevalue("tesseract")
    picture = _picture(WORDS)
    clean = picture.copy()
    for box in text_boxes(picture, ocr=ocr):
        clean[box.top : box.bottom, box.left : box.right] = 0
    assert _share_left(picture, clean) < 0.02
    assert np.array_equal(clean[60:200], picture[60:200])


def test_anatomy_alone_stays(tesseract):
    assert text_boxes(_picture([])) == ()


@pytest.mark.parametrize(
    "syntax", [None, RLELossless, JPEG2000Lossless, JPEGLSLossless], ids=lambda s: getattr(s, "name", "native")
)
def test_a_file_is_blanked_and_says_so(syntax, tesseract):
    before = _picture(WORDS)
    ds = read(written(_ultrasound(before)))
    if syntax is not None:
        ds.compress(syntax, generate_instance_uid=False)
    done = deidentify_bytes(written(ds, ds.file_meta.TransferSyntaxUID), NAMES, Policy(clean_pixels=True))
    after = read(done.data)
    assert _share_left(before, after.pixel_array) < 0.02
    assert np.array_equal(after.pixel_array[60:200], before[60:200])
    assert after.BurnedInAnnotation == "NO"
    assert after.ImageType[0] == "DERIVED"
    assert done.pixel_boxes
    assert "113101" in [item.CodeValue for item in after.DeidentificationMethodCodeSequence]
    assert after.file_meta.TransferSyntaxUID == ds.file_meta.TransferSyntaxUID
    assert after.SOPInstanceUID == NAMES.uid("1.9.77.1.1")


def test_colour(tesseract):
    before = np.repeat(_picture(WORDS)[..., None], 3, axis=2)
    before[..., 2] //= 2
    after = read(blank_text(written(_ultrasound(before))).data).pixel_array
    assert _share_left(before[..., 0], after[..., 0]) < 0.02
    assert np.array_equal(after[60:200], before[60:200])


def test_slices_are_not_looked_at_and_rules_are():
    ct = plain_ct()
    assert not worth_looking(ct)
    assert blank_text(written(ct)).data == written(ct)
    ct.ImageType = ["DERIVED", "SECONDARY", "SCREEN SAVE"]
    ct.Rows, ct.Columns = 100, 200
    (box,) = region_boxes(ct)
    assert (box.top, box.left, box.bottom, box.right) == (0, 0, 25, 200)


def test_rules_that_are_none():
    for text in ("- name: a", "- {name: a, when: {Modality: '('}, boxes: [[0, 0, 1, 1]]}", "nothing", ": :"):
        with pytest.raises(ConfigError):
            read_rules(text)
    with pytest.raises(ConfigError, match="shares"):
        read_rules("- {name: a, when: {Modality: US}, boxes: [[0, 0, 2, 1]]}")


def test_recognition_that_is_not_there(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(CapabilityError, match="tesseract-ocr"):
        text_boxes(_picture(WORDS), ocr=True)
    done = deidentify_bytes(written(_ultrasound(_picture(WORDS))), NAMES, Policy(clean_pixels=True))
    assert any("shape alone" in s.reason for s in done.suspicious)


def test_text_that_is_said_and_not_found(tesseract):
    done = deidentify_bytes(written(_ultrasound(_picture([]) // 2 + 1)), NAMES, Policy(clean_pixels=True))
    assert read(done.data).BurnedInAnnotation in ("YES", "NO")
