"""Sides, aspect, outlines and choice of planes: looked at in the drawn pixels, not in the code's own words."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image as Picture

from isocenter.core import Geometry, Image, Mask, Quantity, Segment
from isocenter.core.errors import ConfigError, GeometryError
from isocenter.testing import phantom, phantom_geometry
from isocenter.verbs.report import PALETTE, overlay_png, pictures
from isocenter.verbs.report.display import choose_window, to_grey
from isocenter.verbs.report.planes import Oriented

SHAPE = (18, 22, 26)
# (LPS axis, sign): which half of the patient is bright. Plane: the half of the picture where it must appear.
LEFT, POSTERIOR, SUPERIOR = 0, 1, 2


def bright_towards(geometry, axis):
    """A body of 60 whose part towards +axis of LPS is 255, decided in patient millimetres alone."""
    index = np.indices(geometry.shape).reshape(3, -1).T
    world = geometry.to_world(index)
    centre = world.mean(axis=0)
    array = np.where(world[:, axis] > centre[axis] + 1.0, 255, 60).reshape(geometry.shape)
    return Image(array.astype(np.uint8)[None], geometry, modality="MR")


def drawn(image, mask=None, **how):
    return np.asarray(Picture.open(io.BytesIO(overlay_png(image, mask, **how)))).astype(int)


def halves(picture):
    # A little off the edges, where letters are written; a little off the middle, where the border may be oblique.
    h, w = picture.shape[:2]
    grey = picture.mean(axis=2)
    return {
        "left": np.median(grey[h // 4 : -h // 4, w // 8 : w // 3]),
        "right": np.median(grey[h // 4 : -h // 4, -w // 3 : -w // 8]),
        "top": np.median(grey[h // 8 : h // 3, w // 4 : -w // 4]),
        "bottom": np.median(grey[-h // 3 : -h // 8, w // 4 : -w // 4]),
    }


@pytest.mark.parametrize("degrees", [(0.0, 0.0, 0.0), (8.0, -5.0, 11.0)])
@pytest.mark.parametrize("orientation", range(48))
def test_radiological_convention_from_every_orientation(orientation, degrees):
    geometry = phantom_geometry(orientation, degrees=degrees, shape=SHAPE)
    for axis, plane, bright, dark in [
        (LEFT, "axial", "right", "left"),
        (LEFT, "coronal", "right", "left"),
        (POSTERIOR, "axial", "bottom", "top"),
        (POSTERIOR, "sagittal", "right", "left"),
        (SUPERIOR, "coronal", "top", "bottom"),
        (SUPERIOR, "sagittal", "top", "bottom"),
    ]:
        found = halves(drawn(bright_towards(geometry, axis), plane=plane, size=96))
        assert found[bright] > 200, (plane, axis)
        assert found[dark] < 100, (plane, axis)


@pytest.mark.parametrize("orientation", range(48))
def test_a_voxel_on_the_left_of_the_patient_is_outlined_on_the_right_of_the_axial_picture(orientation):
    geometry = phantom_geometry(orientation, shape=SHAPE)
    index = np.indices(geometry.shape).reshape(3, -1).T
    target = geometry.to_world((np.array([SHAPE]) - 1) / 2)[0] + (4.0, -3.0, 0.0)  # 4 mm left, 3 mm anterior
    near = np.linalg.norm(geometry.to_world(index) - target, axis=1) < 2.0
    mask = Mask(near.reshape(SHAPE).astype(np.uint16), geometry, (Segment(1, "marker"),))
    image = Image(np.zeros((1, *SHAPE), np.uint8), geometry)
    picture = drawn(image, mask, plane="axial", size=240)
    rows, columns = np.nonzero(np.abs(picture - PALETTE[0]).sum(axis=2) < 12)
    assert len(rows) > 4
    assert columns.mean() > picture.shape[1] / 2 + 4
    assert rows.mean() < picture.shape[0] / 2 - 2


@pytest.mark.parametrize("orientation", range(0, 48, 5))
def test_letters_agree_with_the_direction_in_patient_space(orientation):
    image = phantom(orientation, shape=(4, 5, 6))
    view = Oriented(image, None)
    for plane, expected in [("axial", "RLAP"), ("coronal", "RLSI"), ("sagittal", "APSI")]:
        letters = view.cut(plane, 1).letters
        assert "".join(s[0] for s in (letters.left, letters.right, letters.top, letters.bottom)) == expected


def test_an_oblique_direction_has_two_letters():
    image = phantom(0, degrees=(0.0, 0.0, 30.0), shape=(4, 5, 6))
    letters = Oriented(image, None).cut("axial", 0).letters
    assert {len(letters.left), len(letters.right), len(letters.top), len(letters.bottom)} == {2}
    straight = Oriented(phantom(0, degrees=(0.0, 0.0, 10.0), shape=(4, 5, 6)), None).cut("axial", 0).letters
    assert (straight.left, straight.right, straight.top, straight.bottom) == ("R", "L", "A", "P")


def test_letters_of_a_radiograph_come_from_its_header_or_there_are_none():
    array = np.arange(30, dtype=np.uint8).reshape(1, 1, 5, 6)
    told = Oriented(Image(array, Geometry((1, 5, 6), patient_orientation=("L", "F"))), None).cut("native", 0).letters
    assert (told.left, told.right, told.top, told.bottom) == ("R", "L", "S", "I")
    mirrored = Oriented(Image(array, Geometry((1, 5, 6), patient_orientation=("R", "F"))), None).cut("native", 0)
    assert mirrored.letters.right == "R"
    oblique = Oriented(Image(array, Geometry((1, 5, 6), patient_orientation=("LA", "FP"))), None).cut("native", 0)
    assert (oblique.letters.left, oblique.letters.top) == ("RP", "SA")
    assert not Oriented(Image(array, Geometry((1, 5, 6))), None).cut("native", 0).letters.known


def test_no_anatomical_plane_where_the_place_is_not_known():
    image = Image(np.zeros((1, 3, 8, 8), np.uint8), Geometry((3, 8, 8)))
    with pytest.raises(GeometryError, match="ask for 'native'"):
        overlay_png(image, None, plane="axial")
    with pytest.raises(ConfigError, match="outside"):
        overlay_png(image, None, index=3)
    with pytest.raises(ConfigError, match="plane must be"):
        Oriented(phantom(), None).axis("diagonal")


def test_a_mask_of_another_grid_is_not_drawn():
    image, other = phantom(shape=(4, 5, 6)), phantom_geometry(9, shape=(4, 5, 6))
    with pytest.raises(GeometryError, match="another grid"):
        pictures(image, Mask(np.zeros((4, 5, 6), np.uint16), other, (Segment(1, "a"),)))


def test_aspect_is_that_of_the_patient():
    geometry = Geometry.axial((20, 30, 40), spacing_mm=(2.5, 0.8, 0.7))  # 50 x 24 x 28 mm
    image = Image(np.zeros((1, 20, 30, 40), np.uint8), geometry)
    for plane, (height_mm, width_mm) in {"axial": (24, 28), "coronal": (50, 28), "sagittal": (50, 24)}.items():
        height, width = drawn(image, plane=plane, size=400).shape[:2]
        assert max(height, width) == 400
        assert height / width == pytest.approx(height_mm / width_mm, rel=0.01)


def test_the_index_is_that_of_the_images_own_axis():
    for orientation in (0, 13, 29, 40):
        geometry = phantom_geometry(orientation, degrees=(0.0, 0.0, 0.0), shape=(8, 9, 10))
        own = next(i for i, (axis, _) in enumerate(geometry.closest_axes()) if axis == 2)
        array = np.zeros((1, 8, 9, 10), np.uint8)
        np.moveaxis(array[0], own, 0)[2] = 200
        picture = drawn(Image(array, geometry), plane="axial", index=2, size=64)
        assert np.median(picture) == 200
        assert np.median(drawn(Image(array, geometry), plane="axial", index=3, size=64)) == 0


def test_without_a_mask_nothing_is_coloured():
    picture = drawn(phantom(shape=(4, 20, 20)), plane="axial", size=64)
    assert (picture[..., 0] == picture[..., 1]).all()
    assert (picture[..., 1] == picture[..., 2]).all()


def two_segments(shape=(20, 60, 60)):
    geometry = Geometry.axial(shape, spacing_mm=(3.0, 1.0, 1.0), origin_mm=(-30.0, -30.0, 0.0))
    labels = np.zeros(shape, np.uint16)
    labels[4:9, 20:40, 20:40] = 1
    labels[16, 50:53, 5:8] = 7
    return Image(np.zeros((1, *shape), np.int16), geometry, quantity=Quantity.HU, modality="CT"), Mask(
        labels, geometry, (Segment(1, "organ"), Segment(7, "node"))
    )


def test_three_planes_through_the_segments_and_one_for_a_segment_that_they_miss():
    image, mask = two_segments()
    found = pictures(image, mask)
    assert [p.title for p in found] == ["Axial", "Coronal", "Sagittal", "Axial through node"]
    assert found[0].frames[found[0].key].place == "slice 7 of 20, S 18.0 mm"  # the middle of the equals 4..8
    assert found[3].frames[0].place.startswith("slice 17 of 20")
    assert all(p.frames[p.key].layer for p in found)
    assert all(p.frames[p.key].base_type == "image/png" for p in found)
    assert dict(found[0].legend) == {"organ": PALETTE[0], "node": PALETTE[1]}
    assert len(found[0].frames) <= 15


def test_a_small_thing_gets_a_closer_look():
    geometry = Geometry.axial((10, 100, 100), spacing_mm=(2.0, 1.0, 1.0))
    labels = np.zeros(geometry.shape, np.uint16)
    labels[5, 40:50, 60:70] = 1
    image = Image(np.zeros((1, *geometry.shape), np.uint8), geometry)
    found = pictures(image, Mask(labels, geometry, (Segment(1, "node"),)))
    assert [p.title for p in found] == ["Axial", "Coronal", "Sagittal", "Axial, closer"]
    layers = [np.asarray(Picture.open(io.BytesIO(found[i].frames[found[i].key].layer)))[..., 3] > 0 for i in (0, 3)]
    assert layers[1].mean() > 5 * layers[0].mean()


def test_probabilities_and_overlapping_segments_are_drawn():
    image, mask = two_segments()
    stack = np.stack([mask.array == 1, mask.array > 0])
    for array in (stack, stack.astype(np.float32) * 0.6):
        found = pictures(image, Mask(array, image.geometry, mask.segments))
        assert [label for label, _ in found[0].legend] == ["organ", "node"]


def test_the_scale_bar_is_as_long_as_it_says():
    image, mask = two_segments()
    axial = pictures(image, mask)[0]
    assert axial.bar_share * 60.0 == pytest.approx(axial.bar_mm)
    flat = Image(np.zeros((1, 1, 20, 20), np.uint8), Geometry((1, 20, 20)))
    assert pictures(flat, None)[0].bar_mm is None


def test_a_cine_and_a_colour_picture():
    cine = Image(np.zeros((1, 4, 10, 10), np.uint8), Geometry((4, 10, 10), stack="time"), modality="US")
    (found,) = pictures(cine, None)
    assert [f.place for f in found.frames] == [f"frame {n} of 4" for n in range(1, 5)]
    colour = np.zeros((3, 1, 10, 10), np.uint8)
    colour[0] = 200
    picture = drawn(Image(colour, Geometry((1, 10, 10)), quantity=Quantity.RGB), size=64)
    assert picture[40, 40].tolist() == [200, 0, 0]


def test_three_echoes_are_not_a_colour_picture():
    channels = np.random.default_rng(0).random((3, 2, 32, 32)).astype(np.float32)
    image = Image(channels, phantom_geometry(shape=(2, 32, 32)), modality="MR")
    seen = drawn(image, plane="native", index=0, size=64).astype(int)[8:56, 8:56]
    assert np.ptp(seen, axis=2).max() == 0
    (frame, *_) = pictures(image, None, size=64)[0].frames
    assert Picture.open(io.BytesIO(frame.base)).mode == "L"


def test_windows_say_where_they_come_from():
    ct = Image(np.full((1, 2, 4, 4), -850, np.int16), phantom_geometry(shape=(2, 4, 4)), quantity=Quantity.HU)
    assert (choose_window(ct).low, choose_window(ct).high) == (-160, 240)
    assert "default" in choose_window(ct).words
    everywhere = Mask(np.ones((2, 4, 4), np.uint16), ct.geometry, (Segment(1, "lung"),))
    assert choose_window(ct, everywhere).words.startswith("lung window")
    head = Image(ct.array, ct.geometry, quantity=Quantity.HU, body_part="HEAD")
    assert (choose_window(head).low, choose_window(head).high) == (0, 80)
    told = Image(ct.array, ct.geometry, quantity=Quantity.HU, window=((50.0, 350.0), (0.0, 1.0)))
    assert (choose_window(told).low, choose_window(told).high) == (-125, 225)
    assert "from the header" in choose_window(told).words
    suv = Image(np.full((1, 2, 4, 4), 2.0), ct.geometry, quantity=Quantity.SUVBW)
    assert choose_window(suv).inverted
    assert to_grey(np.array([[[0.0, 9.0, np.nan]]]), choose_window(suv), colour=False)[0, :, 0].tolist() == [
        255,
        0,
        255,
    ]
