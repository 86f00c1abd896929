"""The gravest thing a viewer can get wrong is the place: clicks, masks and letters of the page, proven in a browser.

Where a landmark lies is known in patient millimetres. Where it is seen is read from the drawn pixels, so that no
transform of the page is trusted: the click goes to what is seen, and must arrive as what is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from page_cases import (
    BAND_MM,
    GRIDS,
    LANDMARKS_GREY,
    LANDMARKS_LPS_MM,
    LEFT_HANDED,
    RADIUS_MM,
    TOKEN,
    Tab,
    browsing,
    in_browser,
    serving,
    wait_for_acts,
    write_left_handed,
    write_phantoms,
)

pytestmark = in_browser
PLANES = {"axial": 2, "coronal": 1, "sagittal": 0}
# Every landmark in the two planes in which it lies off the middle.
_PAIRS = [
    ("axial", "L"), ("coronal", "L"), ("axial", "A"), ("sagittal", "A"), ("coronal", "H"), ("sagittal", "H"),
]  # fmt: skip
_SIDES = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page") / "work"


@pytest.fixture(scope="module")
def tab(work: Path) -> Iterator[Tab]:
    folder = work.parent / "studies"
    write_phantoms(folder)
    write_left_handed(folder / "handed")
    with serving(folder, work) as address, browsing() as browser:
        yield browser(address, TOKEN)


def _slice_axis(name: str, plane: str) -> int:
    """The grid's axis that a plane is cut across, by our own reading of the geometry."""
    axes = GRIDS[name].closest_axes()
    assert axes is not None
    return [axis for axis, _ in axes].index(PLANES[plane])


def _go_to(tab: Tab, name: str, plane: str, landmark: str) -> None:
    index = GRIDS[name].to_index(np.array([LANDMARKS_LPS_MM[landmark]]))[0]
    tab.show_slice(plane, round(float(index[_slice_axis(name, plane)])))


def _seen(pixels: np.ndarray, landmark: str) -> np.ndarray:
    """Where a landmark is drawn, in a grey of its own: (row, column) of its middle."""
    found = np.argwhere((np.abs(pixels - LANDMARKS_GREY[landmark]) < 10).all(-1))
    assert len(found) > 20, "the landmark is not seen"
    return (found.min(0) + found.max(0)) / 2


def _body(pixels: np.ndarray) -> np.ndarray:
    return np.argwhere(pixels.min(-1) > 40).mean(0)


@pytest.fixture(scope="module", params=list(GRIDS))
def study(tab: Tab, request: pytest.FixtureRequest) -> str:
    tab.open_study(request.param)
    # Bone window, so that every landmark has its grey; no crosshair, which would be in the way of reading pixels.
    tab.page.select_option("select[aria-label=Window]", label="bone")
    tab.page.locator("[data-plane=axial]").focus()
    tab.page.keyboard.press("Shift+X")
    tab.page.keyboard.press("i")
    tab.begin()
    return str(request.param)


@pytest.mark.parametrize(("plane", "landmark"), _PAIRS)
def test_click_arrives_where_it_was_seen_and_the_mask_lies_on_it(
    tab: Tab, work: Path, study: str, plane: str, landmark: str
) -> None:
    geometry = GRIDS[study]
    _go_to(tab, study, plane, landmark)
    row, column = _seen(tab.pixels(plane), landmark)
    before = len(wait_for_acts(work, 0))
    tab.page.click("[data-command='tool.point']")
    tab.click(plane, column, row)
    act = wait_for_acts(work, before + 1)[-1]

    assert act["kind"] == "prompt" and act["prompt"] == "point" and act["frame"] == "lps_mm"
    sent, known = np.array(act["points"][0]), np.array(LANDMARKS_LPS_MM[landmark])
    # In the plane the middle of the drawn ball is good to a voxel; across it, to half the distance of two slices.
    off = np.abs((geometry.to_index(sent[None]) - geometry.to_index(known[None]))[0])
    assert (off <= 1.0).all(), f"sent {sent}, known {known}: off by {off} voxels"
    assert np.linalg.norm(sent - known) < 0.75 * max(geometry.spacing_mm)

    tab.until("document.querySelector('.answer').textContent.includes('drawn')")
    tab.until("!document.querySelector('.state').textContent.startsWith('Working')")
    tab.settle()
    pixels = tab.pixels(plane)
    green = np.argwhere((pixels[..., 1] - pixels[..., 0] > 40) & (pixels[..., 1] > 120))
    assert len(green) > 50, "the mask is not seen"
    middle = (green.min(0) + green.max(0)) / 2
    mm_per_pixel = _mm_per_pixel(tab, study, plane)
    assert np.linalg.norm(middle - (row, column)) * mm_per_pixel < 0.75 * max(geometry.spacing_mm)
    # The outline reaches as far as the ball and its band do, in millimetres of the screen: the aspect is right.
    reach = (green.max(0) - green.min(0)) / 2 * mm_per_pixel
    assert (np.abs(reach - (RADIUS_MM + BAND_MM)) < 1.1 * max(geometry.spacing_mm)).all(), reach
    tab.page.keyboard.press("u")
    wait_for_acts(work, before + 2)
    tab.until("document.querySelector('.answer').textContent === ''")


def _mm_per_pixel(tab: Tab, name: str, plane: str) -> float:
    """From the size of the drawn grid alone: the whole plane is fitted into the field."""
    axis = _slice_axis(name, plane)
    across = [k for k in range(3) if k != axis]
    axes = GRIDS[name].closest_axes()
    assert axes is not None
    sizes = {axes[k][0]: GRIDS[name].shape[k] * GRIDS[name].spacing_mm[k] for k in across}
    wide, high = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}[plane]
    box = tab.page.locator(f"[data-plane={plane}]").bounding_box()
    return float(max(sizes[wide] / box["width"], sizes[high] / box["height"]))


@pytest.mark.parametrize("plane", list(PLANES))
def test_letters_stand_where_the_patient_s_sides_are(tab: Tab, study: str, plane: str) -> None:
    letters = tab.letters(plane)
    opposite = {"L": "R", "A": "P", "H": "F", "R": "L", "P": "A", "F": "H"}
    seen = {"axial": "LA", "coronal": "LH", "sagittal": "AH"}[plane]
    for landmark in seen:
        _go_to(tab, study, plane, landmark)
        pixels = tab.pixels(plane)
        way = (_seen(pixels, landmark) - _body(pixels))[::-1]
        side = max(_SIDES, key=lambda name: float(np.dot(way, _SIDES[name])))
        other = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}[side]
        assert letters[side][0] == landmark, (landmark, side, letters)
        assert letters[other][0] == opposite[landmark]
    # As radiologists look: from the feet, from the front, from the left... the patient's right is on the left side.
    if plane == "sagittal":
        assert letters["left"][0] == "A" and letters["top"][0] == "H"
    else:
        assert letters["left"][0] == "R" and letters["right"][0] == "L"


@pytest.mark.parametrize("plane", list(PLANES))
def test_left_handed_grid(tab: Tab, work: Path, plane: str) -> None:
    if tab.page.locator(".where", has_text="handed").count() == 0:
        tab.open_study("handed")
        tab.page.locator("[data-plane=axial]").focus()
        tab.page.keyboard.press("Shift+X")
        for _ in range(20):
            tab.page.keyboard.press("Alt+ArrowUp")
        tab.begin()
    known = np.array(LANDMARKS_LPS_MM["L"])
    axes = LEFT_HANDED.closest_axes()
    assert axes is not None
    axis = [world for world, _ in axes].index(PLANES[plane])
    tab.show_slice(plane, round(float(LEFT_HANDED.to_index(known[None])[0][axis])))
    # The window of percentiles was moved up by two thirds of its width: the body is dark grey, the landmark light.
    light = np.argwhere(tab.pixels(plane).min(-1) > 180)
    assert 20 < len(light) < 2000
    row, column = (light.min(0) + light.max(0)) / 2
    before = len(wait_for_acts(work, 0))
    tab.page.click("[data-command='tool.point']")
    tab.click(plane, column, row)
    sent = np.array(wait_for_acts(work, before + 1)[-1]["points"][0])
    assert (np.abs((LEFT_HANDED.to_index(sent[None]) - LEFT_HANDED.to_index(known[None]))[0]) <= 1.0).all()
    tab.page.keyboard.press("u")
    wait_for_acts(work, before + 2)
    tab.until("document.querySelector('.answer').textContent === ''")
    tab.settle()


def test_no_complaint_of_the_browser(tab: Tab) -> None:
    assert tab.complaints == []
