"""Every corruption: worse with each grade, the same with each seed, honest about masks, types and places."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from isocenter.core import Geometry, Image, Quantity
from isocenter.core.errors import ConfigError, GeometryError, PixelError
from isocenter.evaluate.corruption import CORRUPTIONS, GRADES, corrupt, corruptions_for

ANY = "XX"


def body(seed: int, modality: str, *, volume: bool = True, dtype: str = "int16") -> tuple[Image, np.ndarray]:
    """A body with organs and texture, oblique where it is a volume; its mask is one organ."""
    rng = np.random.default_rng(seed)
    shape = (12, 44, 40) if volume else (1, 72, 64)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape), indexing="ij")
    inside = (y / 0.85) ** 2 + (x / 0.75) ** 2 + (z / 1.2) ** 2 < 1
    organ = ((y + 0.2) / 0.3) ** 2 + ((x - 0.25) / 0.22) ** 2 + (z / 0.8) ** 2 < 1
    texture = ndimage.gaussian_filter(rng.normal(0, 1, shape), (1 if volume else 0, 1.5, 1.5)) * 60
    values = np.where(inside, 60 + texture + 25 * np.sin(9 * x) + 140 * organ, 0)
    values = np.where(inside, values, -1000) if modality == "CT" else np.clip(values + 20, 0, 255)
    geometry = (
        Geometry.axial(shape, spacing_mm=(3.0, 0.9, 0.8), origin_mm=(5, -7, 11))
        if volume
        else Geometry(shape, pixel_spacing_mm=(0.4, 0.5))
    )
    quantity = Quantity.HU if modality == "CT" else Quantity.ARBITRARY
    array = (values if dtype.startswith("float") else np.rint(values)).astype(dtype)[None]
    return Image(array, geometry, quantity=quantity, modality=modality), organ.astype(np.uint8)


def case_of(name: str, seed: int) -> tuple[Image, np.ndarray]:
    kind = CORRUPTIONS[name]
    modality = kind.modalities[0] if kind.modalities else "MR"
    return body(seed, modality, volume=modality in ("CT", "MR", "PT"))


@pytest.mark.parametrize("name", [n for n, k in CORRUPTIONS.items() if len(k.grades) > 1 and k.cut is None])
@given(seed=st.integers(0, 10_000))
@settings(max_examples=5, deadline=None)
def test_the_change_grows_with_the_grade(name: str, seed: int) -> None:
    image, _ = case_of(name, seed)
    before = image.array.astype(float)
    changes = [
        float(np.abs(corrupt(image, name, grade, seed=seed).image.array - before).mean()) for grade in GRADES
    ]  # fmt: skip
    assert changes[0] > 0
    assert all(b > a for a, b in pairwise(changes)), changes


@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_a_crop_leaves_less_with_each_grade_and_the_patient_where_they_are(seed: int) -> None:
    image, organ = body(seed, "CT")
    sizes = []
    for grade in GRADES:
        cut = corrupt(image, "crop", grade, seed=seed, mask=organ)
        assert cut.mask is not None and cut.mask.shape == cut.image.geometry.shape == cut.image.array.shape[1:]
        sizes.append(cut.image.array.size)
        index = np.array([[0, 0, 0], [1, 2, 3], np.array(cut.mask.shape) - 1])
        places = cut.image.geometry.to_world(index)
        old = np.rint(image.geometry.to_index(places)).astype(int)
        assert np.array_equal(image.array[0][tuple(old.T)], cut.image.array[0][tuple(index.T)])
        assert np.array_equal(organ[tuple(old.T)], cut.mask[tuple(index.T)])
    assert all(b < a for a, b in pairwise(sizes))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_seed_decides_and_nothing_else(name: str) -> None:
    image, organ = case_of(name, 3)
    kept = image.array.copy()
    one, again, other = (corrupt(image, name, 5, seed=s, mask=organ) for s in (1, 1, 2))
    assert np.array_equal(one.image.array, again.image.array)
    assert np.array_equal(image.array, kept), "the image that came in is not touched"
    random = name not in (
        "blur",
        "jpeg",
        "inversion",
        "thick-slices",
        "contrast-phase",
        "gamma",
        "rotation",
        "ghosting",
    )
    if random:
        assert one.image.array.shape != other.image.array.shape or (one.image.array != other.image.array).any()
    assert one.image.array.dtype == image.array.dtype
    assert one.image.source.sha256 == "" and one.image.sha256 != image.sha256
    assert f"{name}, grade 5" in one.image.notes[-1]
    if not CORRUPTIONS[name].moves:
        assert one.mask is organ and one.image.geometry == image.geometry


@pytest.mark.parametrize("degrees_grade", GRADES)
def test_a_rotation_takes_the_mask_along(degrees_grade: int) -> None:
    image, organ = body(5, "MR")
    array = np.where(organ > 0, 200, 0).astype(np.int16)[None]
    turned = corrupt(Image(array, image.geometry, modality="MR"), "rotation", degrees_grade, seed=4, mask=organ)
    assert turned.mask is not None and turned.mask.dtype == organ.dtype
    seen = turned.image.array[0] > 100
    assert (seen & (turned.mask > 0)).sum() * 2 / (seen.sum() + turned.mask.sum()) > 0.97
    assert int(turned.mask.sum()) == pytest.approx(int(organ.sum()), rel=0.05), (
        "in millimetres, so nothing is stretched"
    )


def test_rician_noise_has_the_mean_of_its_law() -> None:
    """With no signal the magnitude is Rayleigh: mean sigma * sqrt(pi / 2)."""
    array = np.zeros((1, 40, 40, 40), np.float32)
    array[..., :2] = 1000.0
    image = Image(array, Geometry.axial((40, 40, 40), spacing_mm=(1, 1, 1)), modality="MR")
    noisy = corrupt(image, "rician-noise", 3).image.array[..., 2:]
    assert float(noisy.mean()) == pytest.approx(0.09 * 1000 * np.sqrt(np.pi / 2), rel=0.02)


def test_low_dose_has_the_deviation_it_says() -> None:
    image, _ = body(1, "CT", dtype="float32")
    change = corrupt(image, "low-dose", 4).image.array - image.array
    assert float(change.std()) == pytest.approx(75, rel=0.02)


@pytest.mark.parametrize("grade", GRADES)
def test_thick_slices_move_nothing(grade: int) -> None:
    """A ramp along the axis is its own mean: thick slices leave it where it is, but for the ends."""
    ramp = np.broadcast_to(10.0 * np.arange(40)[:, None, None], (40, 6, 5)).copy()[None]
    image = Image(ramp, Geometry.axial((40, 6, 5), spacing_mm=(3, 1, 1)), modality="MR")
    made = corrupt(image, "thick-slices", grade).image.array
    assert np.allclose(made[0, 7:-7], ramp[0, 7:-7])


@pytest.mark.parametrize("grade", GRADES)
@pytest.mark.parametrize("name", ["motion", "ghosting", "blur", "rician-noise", "bias-field", "low-dose", "speckle"])
def test_what_does_not_move_the_mask_does_not_move_the_picture(name: str, grade: int) -> None:
    """The middle of a bright ball stays within a fifth of a voxel, and under motion within its own reach."""
    kind = CORRUPTIONS[name]
    modality = kind.modalities[0] if kind.modalities else "MR"
    z, y, x = np.indices((12, 60, 64))
    inside = (y - 28.0) ** 2 + (x - 30.0) ** 2 + (4 * (z - 5.5)) ** 2 < 300
    image = Image((1000.0 * inside)[None], Geometry.axial((12, 60, 64), spacing_mm=(3, 1, 1)), modality=modality)
    made = corrupt(image, name, grade, seed=2).image.array[0]
    sigma = 1.5 if name in ("rician-noise", "low-dose", "speckle") else 0.0  # single noisy voxels are no ball
    smooth = (ndimage.gaussian_filter(v, (0, sigma, sigma)) for v in (1000.0 * inside, made))
    before, after = (np.array(ndimage.center_of_mass(v > 500)) for v in smooth)
    assert np.abs(after - before).max() < (0.2 if name != "motion" else 0.2 + 0.05 * 60 * 0.3)


def test_jpeg_is_that_of_pillow() -> None:
    """Quality 16 against libjpeg at the same quality: the same blocks up to its rounding."""
    import io

    from PIL import Image as Picture

    rng = np.random.default_rng(0)
    grey = np.clip(ndimage.gaussian_filter(rng.normal(0, 1, (64, 96)), 2) * 300 + 128, 0, 255).astype(np.uint8)
    grey[0, :2] = 0, 255
    array = grey.astype(np.float64)[None, None]
    low, high = np.percentile(array, (0.5, 99.5))
    ours = corrupt(Image(array, Geometry((1, 64, 96)), modality="US"), "jpeg", 3).image.array[0, 0]
    window = np.rint(np.clip((array[0, 0] - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    out = io.BytesIO()
    Picture.fromarray(window).save(out, format="JPEG", quality=16)
    theirs = np.asarray(Picture.open(out)).astype(float) / 255 * (high - low) + low
    assert np.abs(ours - theirs).mean() < 0.6


def test_inversion_twice_is_nothing() -> None:
    image, _ = body(2, "MR", dtype="float64")
    once = corrupt(image, "inversion", 5).image
    assert np.allclose(once.array + image.array, (once.array + image.array)[0, 0, 0, 0])


def test_colours_are_changed_alike() -> None:
    grey, _ = body(0, "US", volume=False, dtype="uint8")
    colour = Image(np.repeat(grey.array, 3, axis=0), grey.geometry, Quantity.RGB, modality="US")
    made = corrupt(colour, "speckle", 3).image.array
    assert np.array_equal(made[0], made[1]) and np.array_equal(made[0], made[2])


def test_values_that_are_not_finite_stay_where_they_are() -> None:
    image, _ = body(0, "MR", dtype="float32")
    image.array[0, 3, 4, 5] = np.nan
    for kind in ("motion", "ghosting", "blur", "rician-noise"):
        made = corrupt(image, kind, 2).image.array
        assert np.isnan(made[0, 3, 4, 5]) and np.isfinite(made).sum() == made.size - 1


def test_each_kind_says_what_it_is_meant_for() -> None:
    image, _ = body(0, "US", volume=False, dtype="uint8")
    assert {k.name for k in corruptions_for(image)} == {
        "speckle", "gamma", "blur", "jpeg", "marker-text", "inversion", "rotation", "crop",
    }  # fmt: skip
    unknown = Image(image.array, image.geometry)
    assert {k.name for k in corruptions_for(unknown)} == {"gamma", "blur", "inversion", "rotation", "crop"}
    assert all(k.title and k.name == n for n, k in CORRUPTIONS.items())


@pytest.mark.parametrize(
    ("kind", "grade", "words"),
    [("fog", 1, "no corruption"), ("blur", 0, "grades"), ("inversion", 2, "grades 5"), ("low-dose", 1, "meant for CT")],
)
def test_what_is_not_there_is_refused(kind: str, grade: int, words: str) -> None:
    image, _ = body(0, "MR")
    with pytest.raises(ConfigError, match=words):
        corrupt(image, kind, grade)


def test_bad_images_and_masks_are_refused() -> None:
    image, _ = body(0, "MR")
    with pytest.raises(GeometryError, match="grid"):
        corrupt(image, "blur", 1, mask=np.zeros((1, 2, 3), bool))
    flat = Image(np.zeros((1, 1, 9, 9), np.uint8), Geometry((1, 9, 9)))
    with pytest.raises(PixelError, match="flat"):
        corrupt(flat, "blur", 1)


def test_it_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import isocenter.evaluate.corruption"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
