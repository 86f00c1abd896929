"""Each defect is put into a phantom and found, and not found where it is not."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont
from pydicom import Dataset

from isocenter.core import Geometry, Image, Quantity, Source
from isocenter.data.images.dicom.facts import body_part
from isocenter.data.images.glyphs import text_lines
from isocenter.data.images.quality import inspect
from isocenter.testing import phantom

SHAPE = (6, 96, 96)


def grid(shape=SHAPE, spacing=(3.0, 1.5, 1.5)):
    return Geometry.axial(shape, spacing_mm=spacing, origin_mm=(-20.0, 5.0, 40.0))


def disc(radius, centre=(48, 48), shape=SHAPE):
    _, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    return np.broadcast_to((y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2, shape)


def ct(radius=30, *, noise=10.0, centre=(48, 48)):
    rng = np.random.default_rng(1)
    array = np.where(disc(radius, centre), 40.0, -1000.0) + rng.normal(0, noise, SHAPE)
    return Image(array.astype(np.int16)[None], grid(), quantity=Quantity.HU, modality="CT", body_part="CHEST")


def mr(*, ghost=0.0, axis=1, noise=4.0, meta=None):
    rng = np.random.default_rng(2)
    body = disc(22) * 200.0
    signal = body + ghost * np.roll(body, 48, axis=axis)
    array = np.hypot(signal + rng.normal(0, noise, SHAPE), rng.normal(0, noise, SHAPE))
    return Image(array.astype(np.float32)[None], grid(), modality="MR", meta=meta or {})


def position(z, *, normal=(1, 0, 0, 0, 1, 0)):
    header = Dataset()
    header.ImagePositionPatient, header.ImageOrientationPatient = [0.0, 0.0, float(z)], list(normal)
    return header


def test_a_good_ct_raises_no_warning():
    quality = inspect(ct())
    assert {c.name for c in quality.checks if c.status in ("warning", "fail")} == set()
    assert quality["geometry"].status == quality["spacing"].status == quality["truncation"].status == "ok"
    assert quality["motion"].status == "unknown"  # no honest test for CT
    assert quality.worst == "unknown"
    with pytest.raises(KeyError):
        quality["astrology"]


def test_the_checks_come_in_one_order_for_every_image():
    names = [c.name for c in inspect(ct()).checks]
    assert names == [c.name for c in inspect(phantom()).checks]
    assert names[:4] == ["geometry", "spacing", "slices", "values"]


def test_unknown_place_and_spacing_are_said_and_not_guessed():
    quality = inspect(Image(np.arange(64.0).reshape(1, 1, 8, 8), Geometry((1, 8, 8))))
    assert (quality["geometry"].status, quality["spacing"].status) == ("unknown", "unknown")
    assert "left and right are not known" in quality["geometry"].detail
    told = Geometry((1, 8, 8), pixel_spacing_mm=(0.2, 0.1), patient_orientation=("L", "F"))
    quality = inspect(Image(np.arange(64.0).reshape(1, 1, 8, 8), told))
    assert (quality["geometry"].status, quality["spacing"].status) == ("ok", "ok")


def test_thick_slices_and_gaps_between_them():
    array = ct().array
    thick = Image(array, grid(spacing=(6.0, 1.5, 1.5)), quantity=Quantity.HU, modality="CT")
    assert inspect(thick)["spacing"].status == "warning"
    gapped = Image(array, grid(), quantity=Quantity.HU, modality="CT", meta={"SliceThickness": 2.0})
    assert "1 mm between slices were not imaged" in inspect(gapped)["spacing"].detail


def test_missing_and_doubled_slices_by_position():
    image = ct()
    even = [position(3 * k) for k in range(6)]
    assert inspect(image, even)["slices"].status == "ok"
    missing = inspect(image, [position(z) for z in (0, 3, 6, 15, 18, 21)])["slices"]
    assert missing.status == "warning"
    assert "2 missing by position" in missing.detail
    doubled = inspect(image, [position(z) for z in (0, 3, 6, 6, 9, 12)])["slices"]
    assert "1 at a position already taken" in doubled.detail
    tilted = [position(z, normal=(0, 1, 0, 0, 0, 1)) for z in range(6)]  # sagittal: all of these are one place
    assert "5 at a position already taken" in inspect(image, tilted)["slices"].detail


def test_repeated_content_and_reader_notes():
    array = ct().array.copy()
    array[0, 3] = array[0, 2]
    found = inspect(Image(array, grid(), quantity=Quantity.HU, modality="CT"))["slices"]
    assert found.status == "warning"
    assert "1 equal to the slice before" in found.detail
    noted = Image(ct().array, grid(), modality="CT", quantity=Quantity.HU, notes=("2 duplicate slices left out",))
    assert "2 duplicate slices" in inspect(noted)["slices"].detail
    assert inspect(ct())["slices"].status == "unknown"  # no header, no positions
    even = Image(ct().array, grid(), modality="CT", source=Source(instance_uids=tuple(f"1.2.{k}" for k in range(6))))
    assert inspect(even)["slices"].status == "ok"


def test_constant_and_not_finite_values():
    flat = Image(np.full((1, *SHAPE), 7, np.int16), grid(), modality="CT", quantity=Quantity.HU)
    assert inspect(flat)["values"].status == "fail"
    assert inspect(flat).worst == "fail"
    array = mr().array.copy()
    array[0, 0, :2, 0] = (np.nan, np.inf)
    found = inspect(Image(array, grid(), modality="MR"))["values"]
    assert found.status == "warning"
    assert found.detail.startswith("2 of 55296 voxels")
    assert inspect(Image(np.full_like(array, np.nan), grid(), modality="MR"))["values"].status == "fail"


def test_saturation_counts_the_top_of_the_scale():
    array = mr().array
    assert inspect(mr())["saturation"].status == "ok"
    clipped = Image(np.minimum(array, 200), grid(), modality="MR")
    found = inspect(clipped)["saturation"]
    assert found.status == "warning"
    share = np.mean(array >= 200)
    assert found.detail.startswith(f"{share:.2%} of voxels hold the highest value, 200")


def test_ghosts_of_the_body_in_the_air_of_mr():
    assert inspect(mr())["motion"].status == "ok"
    assert inspect(mr(ghost=0.15))["motion"].status == "warning"
    assert inspect(mr(ghost=0.15, axis=2))["motion"].status == "warning"
    # Rows run along x, so a phase axis of ROW puts ghosts left and right; the same ghosts along readout are not motion.
    row, column = {"InPlanePhaseEncodingDirection": "ROW"}, {"InPlanePhaseEncodingDirection": "COL"}
    assert inspect(mr(ghost=0.15, axis=2, meta=row))["motion"].status == "warning"
    assert inspect(mr(ghost=0.15, axis=1, meta=column))["motion"].status == "warning"
    assert inspect(mr(ghost=0.15, axis=2, meta=column))["motion"].status == "ok"


def test_motion_is_unknown_without_air():
    stripped = Image((disc(22) * 200.0).astype(np.float32)[None], grid(), modality="MR")
    assert inspect(stripped)["motion"].status == "unknown"
    filled = Image(mr().array[..., 30:66, 30:66], grid((6, 36, 36)), modality="MR")
    assert inspect(filled)["motion"].status == "unknown"


def test_a_body_that_leaves_the_field_of_view():
    assert inspect(ct(30))["truncation"].status == "ok"
    found = inspect(ct(40, centre=(48, 20)))["truncation"]
    assert found.status == "warning"
    # A padded reconstruction circle: the same body touches the circle, or does not.
    for radius, status in ((30, "ok"), (60, "warning")):
        array = ct(radius).array.copy()
        array[0][~disc(48)] = -2000
        circle = Image(array, grid(), quantity=Quantity.HU, modality="CT")
        assert inspect(circle)["truncation"].status == status


@pytest.mark.parametrize("sigma", [5.0, 20.0, 80.0])
def test_noise_is_estimated_in_hu(sigma):
    found = inspect(ct(44, noise=sigma))["noise"]
    measured = float(found.detail.split("about ")[1].split(" HU")[0])
    if sigma < 50:  # beyond it, the window of soft tissue cuts the tails
        assert measured == pytest.approx(sigma, rel=0.15)
    assert found.status == ("warning" if sigma > 50 else "ok")


def test_low_signal_to_noise():
    assert inspect(mr(noise=2.0))["noise"].status == "ok"
    assert inspect(mr(noise=60.0))["noise"].status == "warning"


def speckle(text="", *, size=14, at=(20, 200)):
    rng = np.random.default_rng(5)
    picture = Picture.fromarray(np.clip(rng.gamma(2.0, 22.0, (256, 256)), 0, 220).astype(np.uint8))
    if text:
        ImageDraw.Draw(picture).text(at, text, fill=255, font=ImageFont.load_default(size))
    return np.asarray(picture)


def us(array, **meta):
    return Image(array[None, None], Geometry((1, *array.shape)), modality="US", meta=meta)


@pytest.mark.parametrize("size", [12, 16, 24])
def test_burnt_in_text_is_found_as_lines_of_glyphs(size):
    assert inspect(us(speckle("PATIENT 1234", size=size)))["text"].status == "warning"
    line = text_lines(speckle("PATIENT 1234", size=size).astype(np.float32))[0]
    assert abs(line.left - 20) <= 4
    assert line.glyphs >= 4


def test_no_text_no_line():
    assert text_lines(speckle().astype(np.float32)) == ()
    assert inspect(us(speckle()))["text"].status == "unknown"
    ruler = np.zeros((256, 256), np.float32)
    ruler[100:112, 20:200:6] = 255  # tick marks are not text
    assert text_lines(ruler) == ()


def test_the_header_on_burnt_in_annotation():
    assert inspect(us(speckle(), BurnedInAnnotation="YES"))["text"].status == "warning"
    assert inspect(us(speckle(), BurnedInAnnotation="NO"))["text"].status == "ok"
    # The header is not believed against the pixels.
    assert inspect(us(speckle("PATIENT 1234"), BurnedInAnnotation="NO"))["text"].status == "warning"
    header = Dataset()
    header.BurnedInAnnotation = "YES"
    assert inspect(us(speckle()), [header])["text"].status == "warning"


def test_body_part_comes_from_the_header_alone():
    assert inspect(ct())["body-part"].status == "ok"
    assert inspect(mr())["body-part"].status == "unknown"
    for part in ("HIPPOCAMPUS", "BACK", "BUTTOCK", "TIBIA", "SINUS"):  # what the reader knows, the check knows
        header = Dataset()
        header.BodyPartExamined = part
        assert body_part(header) == (part, ())
        image = Image(ct().array, grid(), modality="CT", body_part=part)
        assert inspect(image)["body-part"].status == "ok"
    odd = Image(ct().array, grid(), modality="CT", body_part="DOE JANE")
    assert inspect(odd)["body-part"].status == "unknown"
    assert "JANE" not in inspect(odd)["body-part"].detail
    huge = Image(ct().array, grid(spacing=(200.0, 1.5, 1.5)), modality="CT", body_part="HEAD")
    assert inspect(huge)["body-part"].status == "warning"
