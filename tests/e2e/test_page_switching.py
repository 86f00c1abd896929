"""What is begun on one image or study stays there: masks, measures and studies that come while another is in view."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image as Picture

from page_cases import GRIDS, HOT, PRIOR, TOKEN, Tab, browsing, in_browser, serving, write_phantoms, write_repeated

pytestmark = in_browser
PRESENT, ALONE = "92 × 84 × 28", "40 × 40 × 36"
"""The two series of the study "now", by their size."""
MEASURED = "document.querySelector('[data-measures]').innerText"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    folder = tmp_path_factory.mktemp("page") / "studies"
    write_phantoms(folder, ("oblique",))
    write_repeated(folder)
    _write_two_echoes(folder)
    with serving(folder, folder.parent / "work") as address, browsing(webgl=True) as browser:
        yield browser(address, TOKEN)


def _write_two_echoes(folder: Path) -> None:
    """A file with two values a voxel: 100 and 300."""
    values = np.full((40, 40, 12, 2), 100, dtype=np.int16)
    values[..., 1] = 300
    values[0, 0, :, :] = 0
    file = nibabel.Nifti1Image(values, np.diag([-2.0, -2.0, 4.0, 1.0]))
    file.header.set_xyzt_units("mm")
    nibabel.save(file, folder / "echoes.nii.gz")


def _press(tab: Tab, *keys: str) -> None:
    for key in keys:
        tab.page.keyboard.press(key)


def _show(tab: Tab, series: str) -> None:
    tab.show_series(series)
    tab.page.locator("[data-plane=axial]").focus()


def test_a_mask_that_comes_late_lies_in_the_grid_it_was_asked_for(tab: Tab) -> None:
    tab.open_study("now")
    _show(tab, PRESENT)
    tab.begin()
    for count, key in ((1, "ArrowRight"), (2, "Shift+ArrowRight")):
        tab.page.locator("[data-plane=axial]").focus()
        _press(tab, key, "p", "Space")
        tab.until(f"document.querySelector('.answer').textContent.includes('{count} prompt')")
        _press(tab, "Control+Enter")
        tab.until(f"document.querySelectorAll('[data-mask]').length === {count}")
    tab.settle()
    pixels = tab.pixels("coronal")
    marked = np.argwhere((pixels[..., 1] - pixels[..., 0] > 90) & (pixels[..., 1] - pixels[..., 2] > 40))
    assert len(marked) > 50, "the mask is not seen"
    tab.page.get_by_role("button", name="End session").click()
    tab.until("document.querySelectorAll('[data-layer]').length === 0")
    with tab.held("**/api/v1/masks/*") as asked:
        tab.page.check("[data-mask] >> nth=0")
        tab.wait_for(lambda: len(asked) == 1)
        tab.page.check("[data-mask] >> nth=1")
        tab.show_series(ALONE)
        tab.let_go(asked[0])
        for route in asked[1:]:  # nothing more need be asked for while another image is in view
            tab.let_go(route)
    tab.show_series(PRESENT)
    tab.until("document.querySelectorAll('[data-layer]').length === 2")
    tab.settle()
    pixels = tab.pixels("coronal")
    kept = np.argwhere(pixels[..., 2] - pixels[..., 1] > 70)  # the second mask's outline, over the first
    assert len(kept) > 50, "the mask that was kept is not seen"
    assert np.abs(kept.min(0) - marked.min(0)).max() <= 3 and np.abs(kept.max(0) - marked.max(0)).max() <= 3


def test_progress_is_never_that_of_the_series_before(tab: Tab) -> None:
    tab.open_study("now")
    with tab.held("**/api/v1/images/*/pixels?*") as asked:
        tab.page.locator("[data-image][aria-current=false]").click()
        assert tab.page.evaluate("document.querySelector('progress.loading').value") == 0
        tab.wait_for(lambda: len(asked) == 1)
        asked[0].continue_()
    tab.wait_for_planes()


def test_a_measure_ends_with_its_image(tab: Tab) -> None:
    tab.open_study("now")
    _show(tab, PRESENT)
    _press(tab, "d", "Space", "ArrowRight")
    tab.until(f"{MEASURED} !== ''")
    tab.show_series(ALONE)
    assert tab.page.evaluate(MEASURED) == ""
    tab.page.locator("[data-plane=axial]").focus()
    _press(tab, "Space", "ArrowRight", "ArrowRight", "Space")
    assert HOT.spacing_mm is not None
    assert f"{2 * HOT.spacing_mm[2]:.1f} mm" in tab.page.evaluate(MEASURED)
    tab.show_series(PRESENT)
    assert tab.page.evaluate(MEASURED) == "", "what was begun there was left"
    tab.show_series(ALONE)
    assert f"{2 * HOT.spacing_mm[2]:.1f} mm" in tab.page.evaluate(MEASURED), "what was done here is kept"


def _drag(tab: Tab, *, notches: int = 0) -> None:
    """Draw a distance by the pointer, and turn the wheel on the way."""
    box = tab.page.locator("[data-plane=axial] canvas").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    tab.page.mouse.move(x, y)
    tab.page.mouse.down()
    tab.page.mouse.move(x + 50, y)
    for _ in range(notches):
        tab.page.mouse.wheel(0, 120)
    tab.page.mouse.move(x + 60, y)


def test_the_wheel_does_not_take_the_end_of_a_distance_to_another_slice(tab: Tab) -> None:
    tab.open_study("oblique")
    tab.page.locator("[data-plane=axial]").focus()
    _press(tab, "d")
    _drag(tab)
    tab.page.mouse.up()
    tab.until(f"{MEASURED}.includes(' mm')")
    flat = re.findall(r"[\d.]+ mm", tab.page.evaluate(MEASURED))
    _press(tab, "Delete")
    slice_ = tab.until("document.querySelector('[data-plane=axial]').dataset.slice")
    _drag(tab, notches=2)
    tab.until(f"document.querySelector('[data-plane=axial]').dataset.slice !== '{slice_}'")
    tab.page.mouse.up()
    tab.until(f"{MEASURED}.includes(' mm')")
    assert re.findall(r"[\d.]+ mm", tab.page.evaluate(MEASURED)) == flat
    assert GRIDS["oblique"].spacing_mm is not None and len(flat) == 1
    _press(tab, "Delete")
    _drag(tab)
    _press(tab, "Escape")
    tab.page.mouse.up()
    assert tab.page.evaluate(MEASURED) == "", "what is left is not kept"


def test_the_prior_study_that_is_named_is_the_one_that_is_seen(tab: Tab) -> None:
    tab.open_study("now")
    _press(tab, "c")
    tab.until("document.querySelector('.prior')?.dataset.link === 'position'")
    choice = ".prior [aria-label='Prior study']"
    elsewhere = tab.page.locator(f"{choice} option").nth(1).get_attribute("value")
    with tab.held(f"**/api/v1/studies/{elsewhere}") as asked:
        tab.page.select_option(choice, index=1)
        tab.wait_for(lambda: len(asked) == 1)
        assert tab.page.locator(".prior .plane").count() == 0, "nothing is seen under a name that is not its own"
        tab.page.select_option(choice, index=0)
        tab.until("document.querySelector('.prior').dataset.link === 'position'")
        tab.let_go(asked[0])
        assert tab.page.evaluate("document.querySelector('.prior').dataset.link") == "position"
        # Left before it came: it is not fetched any more.
        fetched: list[str] = []
        tab.page.on("request", lambda request: fetched.append(request.url))
        tab.page.select_option(choice, index=1)
        tab.wait_for(lambda: len(asked) == 2)
        _press(tab, "Escape", "c")
        tab.until("document.querySelector('.prior') === null")
        tab.let_go(asked[1])
    assert fetched and not [url for url in fetched if "/pixels" in url]


def test_a_prior_study_that_does_not_come_leaves_no_other_in_its_place(tab: Tab) -> None:
    tab.open_study("now")
    _press(tab, "c")
    tab.until("document.querySelector('.prior')?.dataset.link === 'position'")
    choice = ".prior [aria-label='Prior study']"
    elsewhere = tab.page.locator(f"{choice} option").nth(1).get_attribute("value")
    problem = {"title": "gone", "detail": "the study is gone", "status": 404}
    tab.page.route(f"**/api/v1/studies/{elsewhere}", lambda route: route.fulfill(status=404, json=problem))
    tab.page.select_option(choice, index=1)
    tab.until("document.querySelector('[data-test=link]').textContent === 'the study is gone'")
    assert tab.page.locator(".prior .plane").count() == 0
    tab.page.unroute(f"**/api/v1/studies/{elsewhere}")
    tab.complaints[:] = [text for text in tab.complaints if "404" not in text]


def test_a_search_that_is_left_says_nothing_and_the_order_s_button_keeps_the_focus(tab: Tab) -> None:
    tab.page.goto(f"{tab.address}/#/")
    tab.page.fill("#search", "")
    tab.until("document.querySelectorAll('tr[data-study]').length === 5")
    with tab.held("**/api/v1/studies?*") as asked:
        tab.page.fill("#search", "now")
        tab.wait_for(lambda: len(asked) == 1)
        tab.page.fill("#search", "before")
        tab.wait_for(lambda: len(asked) == 2)
        tab.settle()
        assert tab.page.inner_text("p.bad[role=alert]") == ""
        tab.let_go(asked[1])
    tab.until("document.querySelectorAll('tr[data-study]').length === 1")
    tab.page.focus("[data-column=description] button")
    _press(tab, "Enter")
    tab.until("document.querySelector('[data-column=description]').ariaSort === 'ascending'")
    _press(tab, "Enter")
    tab.until("document.querySelector('[data-column=description]').ariaSort === 'descending'")
    tab.page.locator("[data-column=study_date] button").click()
    assert tab.complaints == []


def test_a_mean_is_that_of_the_channel_in_view(tab: Tab) -> None:
    tab.open_study("echoes")
    tab.page.locator("[data-plane=axial]").focus()
    _press(tab, "o", "Space", "Shift+ArrowRight", "Shift+ArrowDown", "Space")
    tab.until(f"{MEASURED}.includes('100 ± 0')")
    _press(tab, ";")
    tab.until(f"{MEASURED}.includes('300 ± 0')")
    _press(tab, "Delete")


def _slice(tab: Tab, viewer: str) -> int:
    tab.settle()
    return int(tab.until(f"document.querySelector('{viewer} .plane').dataset.slice"))


def _over(tab: Tab, viewer: str) -> None:
    box = tab.page.locator(f"{viewer} .plane canvas").first.bounding_box()
    tab.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def test_a_pair_that_was_matched_by_hand_stays_a_pair_from_both_sides(tab: Tab) -> None:
    tab.open_study("now")
    _show(tab, PRESENT)
    _press(tab, "c")
    tab.until("document.querySelector('.prior')?.dataset.link === 'position'")
    present, prior = ".viewer:not(.prior)", ".prior"
    _press(tab, "Shift+C")
    _over(tab, prior)
    for _ in range(3):
        tab.page.mouse.wheel(0, 120)
        tab.settle()
    _press(tab, "Shift+C")
    assert GRIDS["prone"].spacing_mm is not None and PRIOR.spacing_mm is not None
    thick, thin = PRIOR.spacing_mm[0], GRIDS["prone"].spacing_mm[0]
    here, there = _slice(tab, present), _slice(tab, prior)
    for step in (1, 1, -1, -1, -1, 1):  # by the prior study's slices, which are thicker
        tab.page.mouse.wheel(0, 120 * step)
        tab.settle()
        moved = (_slice(tab, prior) - there) * thick
        assert moved != 0 or _slice(tab, present) == here
        assert abs((_slice(tab, present) - here) * thin - moved) <= thin, "the pair is not the same any more"
    assert (_slice(tab, present), _slice(tab, prior)) == (here, there)
    # A larger picture is no other slice.
    tab.page.locator(f"{present} .plane").focus()
    _press(tab, "End")  # beyond the end of the prior study
    here = _slice(tab, present)
    _over(tab, prior)
    tab.page.keyboard.down("Control")
    tab.page.mouse.wheel(0, -120)
    tab.page.keyboard.up("Control")
    assert _slice(tab, present) == here
    tab.page.locator(f"{present} .plane").focus()
    _press(tab, "c")
    tab.until("document.querySelector('.prior') === null")


def test_no_key_acts_on_what_lies_under_a_dialog(tab: Tab) -> None:
    tab.open_study("now")
    _show(tab, PRESENT)
    _press(tab, "?")
    tab.page.get_by_role("dialog").wait_for()
    here = tab.page.evaluate("location.hash")
    _press(tab, "]", "Control+Enter", "Alt+w")
    assert tab.page.locator("[data-image][aria-current=true]", has_text=PRESENT).count() == 1
    assert tab.page.evaluate("location.hash") == here
    _press(tab, "Escape")
    tab.page.get_by_role("dialog").wait_for(state="detached")
    _press(tab, "]")
    tab.until("document.querySelector('[data-image][aria-current=true]').innerText.includes('40 × 40')")


def _confirm_one(tab: Tab, label: str, *, hidden: bool = False) -> None:
    """Mark and confirm a ball in the image in view, and end the session."""
    tab.begin(label)
    tab.page.locator("[data-plane=axial]").focus()
    _press(tab, "p", "Space")
    tab.until("document.querySelector('.answer').textContent.includes('1 prompt')")
    count = tab.page.locator("[data-mask]").count()
    if hidden:  # what is not seen is shown, and not confirmed
        _press(tab, "v", "Control+Enter")
        tab.page.get_by_text("The outline was hidden").wait_for()
        assert tab.page.locator("[data-mask]").count() == count
    _press(tab, "Control+Enter")
    tab.until(f"document.querySelectorAll('[data-mask]').length === {count + 1}")
    tab.page.get_by_role("button", name="End session").click()
    tab.until("document.querySelectorAll('[data-layer]').length === 0")


def test_masks_of_one_series_are_not_listed_under_another_and_one_of_all_hidden_is_shown_again(tab: Tab) -> None:
    tab.open_study("now")
    _show(tab, PRESENT)
    _confirm_one(tab, "listed", hidden=True)
    with tab.held("**/api/v1/images/*/masks") as asked:
        tab.page.locator("[data-image]", has_text=ALONE).click()
        tab.wait_for(lambda: len(asked) == 1)
        assert tab.page.locator("[data-mask]").count() == 0
        tab.let_go(asked[0])
    tab.show_series(PRESENT)
    tab.page.check("[data-mask] >> nth=-1")
    layer = tab.page.locator("[data-layer] input[type=checkbox]").first
    tab.until("document.querySelector('[data-layer] input[type=checkbox]')?.checked")
    tab.page.locator("[data-plane=axial]").focus()
    _press(tab, "v")
    tab.until("document.querySelector('[data-layer] input[type=checkbox]')?.checked === false")
    tab.settle()
    without = tab.pixels("axial")
    layer.check()
    tab.wait_for(lambda: not np.array_equal(tab.pixels("axial"), without))
    assert layer.is_checked()


def _three(tab: Tab) -> np.ndarray:
    """What stands in the 3D view, once it stands still."""
    view = tab.page.locator(".fourth canvas")
    view.wait_for()
    tab.page.mouse.move(2, 2)
    shots: list[np.ndarray] = []

    def still() -> bool:
        shots.append(np.asarray(Picture.open(io.BytesIO(view.screenshot())).convert("RGB"), dtype=np.int16))
        tab.page.wait_for_timeout(200)  # longer than the view gathers changes
        return len(shots) > 1 and np.array_equal(shots[-1], shots[-2])

    tab.wait_for(still)
    return shots[-1]


def test_what_comes_late_of_another_image_is_not_drawn_in_3d(tab: Tab) -> None:
    tab.page.set_viewport_size({"width": 1000, "height": 500})  # drawn by the processor: the smaller the faster
    tab.open_study("now")
    _show(tab, PRESENT)
    _confirm_one(tab, "deep")
    with tab.held("**/api/v1/images/*/nifti") as volumes, tab.held("**/api/v1/masks/*") as masks:
        tab.page.locator("[data-plane=axial]").focus()
        _press(tab, "t")
        tab.wait_for(lambda: len(volumes) == 1)
        tab.page.check("[data-mask] >> nth=-1")
        tab.wait_for(lambda: len(masks) == 1)
        _show(tab, ALONE)
        _press(tab, "t")
        tab.wait_for(lambda: len(volumes) == 2)
        tab.let_go(volumes[1])
        alone = _three(tab)
        assert alone.std() > 5, "nothing is drawn"
        tab.let_go(volumes[0])
        tab.let_go(masks[0])
        assert tab.page.locator(".fourth canvas").count() == 1
        assert np.array_equal(_three(tab), alone), "something of the other image is drawn"
    tab.page.set_viewport_size({"width": 1366, "height": 768})
    assert [text for text in tab.complaints if not text.startswith("niivue-warn")] == []
