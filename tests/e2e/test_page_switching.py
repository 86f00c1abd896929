"""What is begun on one image or study stays there: masks, measures and studies that come while another is in view."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest

from page_cases import GRIDS, HOT, TOKEN, Tab, browsing, in_browser, serving, write_phantoms, write_repeated

pytestmark = in_browser
PRESENT, ALONE = "92 × 84 × 28", "40 × 40 × 36"
"""The two series of the study "now", by their size."""
MEASURED = "document.querySelector('[data-measures]').innerText"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    folder = tmp_path_factory.mktemp("page") / "studies"
    write_phantoms(folder, ("oblique",))
    write_repeated(folder)
    with serving(folder, folder.parent / "work") as address, browsing() as browser:
        yield browser(address, TOKEN)


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
    tab.until("document.querySelectorAll('tr[data-study]').length === 4")
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
