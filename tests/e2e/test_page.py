"""The page in a browser: by keyboard alone from the list to a mask, and what it says where something can't be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from page_cases import (
    GRIDS,
    LANDMARKS_GREY,
    LANDMARKS_LPS_MM,
    PRIOR,
    TOKEN,
    Tab,
    browsing,
    in_browser,
    serving,
    wait_for_acts,
    write_phantoms,
    write_repeated,
)

pytestmark = in_browser
TABS = ("interact", "findings", "report", "ask", "outlook", "worklist")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page") / "studies"
    write_phantoms(folder, ("oblique",))
    write_repeated(folder)
    (folder / "photo").mkdir()
    Picture.fromarray((np.arange(64 * 48).reshape(48, 64) % 251).astype(np.uint8)).save(folder / "photo" / "photo.png")
    return folder


@pytest.fixture(scope="module")
def work(folder: Path) -> Path:
    return folder.parent / "work"


@pytest.fixture(scope="module")
def browser() -> Iterator[Callable[..., Tab]]:
    with browsing() as browser:
        yield browser


@pytest.fixture(scope="module")
def tab(folder: Path, work: Path, browser: Callable[..., Tab]) -> Iterator[Tab]:
    with serving(folder, work) as address:
        yield browser(address, TOKEN)


def _press(tab: Tab, *keys: str) -> None:
    for key in keys:
        tab.page.keyboard.press(key)


def test_by_keyboard_alone_from_the_list_to_a_confirmed_mask(tab: Tab, work: Path) -> None:
    tab.until("document.querySelectorAll('tr[data-study]').length >= 5")
    _press(tab, "/")
    tab.page.keyboard.type("oblique")
    tab.until("document.querySelectorAll('tr[data-study]').length === 1")
    _press(tab, "ArrowDown", "Enter")
    tab.until("document.querySelectorAll('.plane canvas').length === 3")
    tab.wait_for_planes()
    _press(tab, "r")
    tab.page.keyboard.type("ball")
    _press(tab, "Enter", "Escape")
    tab.until("document.querySelector('.state').textContent.startsWith('Marking')")

    start = tab.page.inner_text("[data-plane=axial] .corner.tr")
    _press(tab, "PageDown", "PageUp", "Shift+ArrowRight", "ArrowDown", "p", "Space")
    point = wait_for_acts(work, 1)[-1]
    assert (point["prompt"], point["positive"]) == ("point", True)
    tab.settle()  # what the corner says is drawn with its frame
    words = tab.page.inner_text("[data-plane=axial] .corner.tr")
    assert words != start
    # What the corner says is what was sent: "L12.3 P4.5 H6.7 mm".
    said = [float(word[1:]) * (1 if word[0] in "LPH" else -1) for word in words.split(" mm")[0].split()]
    assert np.allclose(said, point["points"][0], atol=0.06)
    tab.until("document.querySelector('.answer').textContent.includes('1 prompt')")

    _press(tab, "f", "b", "Space", "Shift+ArrowRight", "Shift+ArrowDown", "Space")
    box = wait_for_acts(work, 2)[-1]
    assert box["prompt"] == "box" and len(box["points"]) == 2
    corners = GRIDS["oblique"].to_index(np.array(box["points"]))
    # Points are sent to a thousandth of a millimetre.
    assert np.allclose(sorted(np.abs(corners[1] - corners[0]).tolist()), [0, 10, 10], atol=2e-3)
    _press(tab, "s", "Space", "ArrowRight", "ArrowRight", "ArrowRight", "Space")
    scribble = wait_for_acts(work, 3)[-1]
    assert scribble["prompt"] == "scribble" and len(scribble["points"]) == 4 and scribble["positive"]
    _press(tab, "e", "Space", "ArrowLeft", "ArrowLeft", "Space", "n", "Space")
    erased, background = wait_for_acts(work, 5)[-2:]
    assert (erased["prompt"], erased["positive"]) == ("scribble", False)
    assert (background["prompt"], background["positive"]) == ("point", False)
    _press(tab, "u", "Shift+U")
    assert [act["kind"] for act in wait_for_acts(work, 7)[-2:]] == ["undo", "redo"]

    tab.until("!document.querySelector('.state').textContent.startsWith('Working')")
    _press(tab, "g")
    tab.until("document.querySelector('.panel progress').offsetParent !== null")
    _press(tab, "Shift+G")
    tab.until("document.querySelector('.panel progress').offsetParent === null", 10)
    spread = wait_for_acts(work, 8)[-1]
    assert spread["kind"] == "propagate"

    _press(tab, "Control+Enter")
    tab.until("document.querySelector('figure.clicks .bar') !== null")
    assert "Confirmed" in tab.page.inner_text(".answer")
    tab.until("document.querySelectorAll('[data-mask]').length === 1")
    # The mask that the server keeps lies where it was confirmed.
    tab.settle()
    shown = tab.pixels("axial")
    _press(tab, "v")
    tab.settle()
    assert not np.array_equal(tab.pixels("axial"), shown)
    _press(tab, "v")
    layer = "[data-layer=interaction] input[type=checkbox]"
    assert tab.page.is_checked(layer)
    tab.page.focus(layer)
    _press(tab, "Space")
    # The row is not made anew: the next key is for it again.
    assert tab.page.evaluate("selector => document.activeElement === document.querySelector(selector)", layer)
    assert not tab.page.is_checked(layer)
    tab.page.check("[data-mask]")
    tab.until("document.querySelectorAll('[data-layer]').length === 2")
    green, orange = np.argwhere(shown[..., 1] - shown[..., 2] > 20), np.zeros((0, 2))
    for _ in range(100):  # the mask is fetched, and then drawn
        tab.settle()
        kept = tab.pixels("axial")
        orange = np.argwhere(kept[..., 0] - kept[..., 2] > 20)
        if len(orange) > 50 and np.abs(orange.mean(0) - green.mean(0)).max() < 2:
            break
        tab.page.wait_for_timeout(100)
    assert len(orange) > 50 and np.abs(orange.mean(0) - green.mean(0)).max() < 2
    assert tab.complaints == []


def test_help_lists_every_key_once_and_closes(tab: Tab, browser: Callable[..., Tab]) -> None:
    # A tab's keys are there from when it was first opened; what this server has not, it says on the console.
    tab = browser(tab.address, TOKEN)
    tab.open_study("photo")
    for number, name in enumerate(TABS, start=1):
        _press(tab, f"Alt+{number}")
        tab.until(f"document.querySelector('#panel-{name}').childElementCount > 0")
    _press(tab, "Alt+1", "?")
    keys = tab.page.locator("dialog.keys kbd").all_inner_texts()
    assert len(keys) > 60
    double = {key for key in keys if keys.count(key) > 1}
    # Next item and next sentence: each on its own tab alone (test_page_reports.py).
    assert double <= {",", "Alt+N"}, f"one key, two commands: {sorted(double)}"
    _press(tab, "Escape")
    tab.until("document.querySelector('dialog.keys') === null")


def test_without_webgl2_the_page_says_so(tab: Tab) -> None:
    _press(tab, "t")
    tab.until("document.querySelector('.fourth').textContent.includes('no WebGL2')")


def test_no_millimetres_where_no_spacing_is_known(tab: Tab) -> None:
    tab.open_study("photo")
    box = tab.page.locator(".plane canvas").first.bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    _press(tab, "d")
    tab.page.mouse.move(*middle)
    tab.page.mouse.down()
    tab.page.mouse.move(middle[0] + 60, middle[1] + 10, steps=3)
    tab.page.mouse.up()
    measures = tab.page.locator("[data-measures]")
    assert "px" in measures.inner_text() and "no spacing is known" in measures.inner_text()
    assert " mm" not in measures.inner_text().replace("no mm", "")


def test_distance_in_millimetres(tab: Tab) -> None:
    tab.open_study("oblique")
    _press(tab, "d", "Space", *["Shift+ArrowRight"] * 2, "Space")
    spacing = GRIDS["oblique"].spacing_mm
    assert spacing is not None
    assert f"{20 * spacing[2]:.1f} mm" in tab.page.inner_text("[data-measures]")
    # From another plane to its slice; drawn again, its button has the focus still.
    _press(tab, "f")
    tab.page.focus("[data-measures] button")
    _press(tab, "Enter")
    tab.until("document.querySelector('[data-plane=axial]').classList.contains('active')")
    assert tab.page.evaluate("document.activeElement === document.querySelector('[data-measures] button')")
    _press(tab, "Delete")
    assert tab.page.inner_text("[data-measures]") == ""


def test_prior_scrolls_along_by_patient_position_else_by_fraction_and_says_so(tab: Tab) -> None:
    tab.open_study("now")
    _press(tab, "c")
    tab.until("document.querySelectorAll('.prior .plane canvas').length === 1")
    tab.until("document.querySelector('.prior').dataset.link === 'position'")
    assert "patient position" in tab.page.inner_text("[data-test=link]")
    for _ in range(6):
        _press(tab, "PageDown")
    here = GRIDS["prone"].to_world(np.array([[float(_slice(tab, ".viewer:not(.prior)")), 40, 40]]))[0, 2]
    there = PRIOR.to_world(np.array([[float(_slice(tab, ".prior")), 30, 30]]))[0, 2]
    assert abs(here - there) <= PRIOR.spacing_mm[0] / 2 + 1e-6  # type: ignore[index]
    tab.page.select_option(".prior [aria-label='Prior study']", index=1)
    tab.until("document.querySelector('.prior').dataset.link === 'fraction'")
    assert "fraction" in tab.page.inner_text("[data-test=link]")
    # As far from the feet end as before: a share of the stack.
    share = _slice(tab, ".viewer:not(.prior)") / (GRIDS["prone"].shape[0] - 1)
    assert abs(_slice(tab, ".prior") - share * (PRIOR.shape[0] - 1)) <= 0.5 + 1e-6
    tab.page.locator(".viewer:not(.prior) .plane").focus()
    _press(tab, "c")
    tab.until("document.querySelector('.prior') === null")


def _slice(tab: Tab, viewer: str) -> int:
    tab.settle()
    return int(tab.until(f"document.querySelector('{viewer} .plane').dataset.slice"))


def test_fusion_lies_on_the_same_place_of_the_patient(tab: Tab) -> None:
    tab.open_study("now")
    tab.show_series("92 × 84 × 28")
    tab.page.select_option("select[aria-label=Window]", label="bone")
    tab.page.locator("[data-plane=axial]").focus()
    _press(tab, "Shift+X", "i")
    for plane, world in {"axial": 2, "coronal": 1, "sagittal": 0}.items():
        axes = GRIDS["prone"].closest_axes()
        assert axes is not None
        axis = [where for where, _ in axes].index(world)
        index = GRIDS["prone"].to_index(np.array([LANDMARKS_LPS_MM["L"]]))[0]
        tab.show_slice(plane, round(float(index[axis])))
    plain = {plane: tab.pixels(plane) for plane in ("axial", "coronal", "sagittal")}
    tab.page.locator("[data-plane=axial]").focus()
    _press(tab, "q")
    tab.until("document.querySelector('select[aria-label^=Image]').value !== ''")
    tab.page.select_option("[aria-label='Colours of the fusion']", "viridis")
    tab.until("document.querySelector('.toolbar [role=status]').textContent === ''")  # neither loading nor elsewhere
    tab.settle()
    for plane, before in plain.items():
        landmark = np.argwhere((np.abs(before - LANDMARKS_GREY["L"]) < 10).all(-1))
        after = tab.pixels(plane)
        hot = np.argwhere(after[..., 0] - after[..., 2] > 60)
        assert len(hot) > 20, plane
        off = (hot.min(0) + hot.max(0)) / 2 - (landmark.min(0) + landmark.max(0)) / 2
        assert np.abs(off).max() < 9, (plane, off)


def test_session_goes_on_in_the_next_study_and_after_loading_again(tab: Tab, work: Path) -> None:
    tab.open_study("oblique")
    tab.begin()
    tab.page.locator("[data-plane=axial]").focus()
    _press(tab, "p", "Space")
    tab.until("document.querySelector('.answer').textContent.includes('1 prompt')")
    _press(tab, "Control+Enter")
    tab.until("document.querySelectorAll('figure.clicks .bar').length === 1")
    tab.open_study("now")
    tab.until("document.querySelector('.state').textContent.startsWith('Marking')")
    tab.until("document.querySelectorAll('figure.clicks .bar').length === 1")
    before = len(wait_for_acts(work, 0))
    tab.page.locator("[data-plane=axial]").focus()
    _press(tab, "p", "Space", "ArrowRight", "Space")
    wait_for_acts(work, before + 2)
    tab.until("document.querySelector('.answer').textContent.includes('2 prompts')")
    # To another study and back: what was begun waits there.
    tab.open_study("oblique")
    tab.until("document.querySelector('.state').textContent.startsWith('Marking')")
    assert "prompt" not in tab.page.inner_text(".answer")
    tab.open_study("now")
    tab.until("document.querySelector('.answer').textContent.includes('2 prompts')")
    tab.page.reload()
    tab.until("document.querySelector('.answer')?.textContent.includes('2 prompts')")
    assert [act["acts"] for act in wait_for_acts(work, before + 4)[before:] if act["kind"] == "replay"] == [2, 2]
    tab.page.locator("[data-plane=axial]").focus()
    _press(tab, "Control+Enter")
    tab.until("document.querySelectorAll('figure.clicks .bar').length === 2")


def test_choosing_among_alternatives(tab: Tab, work: Path) -> None:
    tab.open_study("oblique")
    tab.until("document.querySelector('.state').textContent.startsWith('Marking')")
    before = len(wait_for_acts(work, 0))
    tab.page.locator("[data-plane=axial]").focus()
    _press(tab, "Shift+X", "p", "Space")
    wait_for_acts(work, before + 1)
    tab.until("document.querySelectorAll('.choices button').length === 2")
    tab.settle()
    large = _marked(tab)
    tab.page.hover(".choices button >> nth=1")
    tab.until("document.querySelector('.state').textContent.startsWith('Marking')")
    tab.settle()
    pink = tab.pixels("axial")
    pink = pink[..., 2] - pink[..., 1] > 20
    assert pink.any(), "an alternative is shown while it is pointed at"
    tab.page.mouse.move(683, 20)
    tab.page.locator("[data-plane=axial]").focus()
    for number in (0, 1):
        _press(tab, ".")
        _wait_until_chosen(tab, number)
    assert [act["kind"] for act in wait_for_acts(work, before + 3)[before + 1 :]] == ["choose", "choose"]
    tab.settle()
    small = _marked(tab)
    assert 0.3 < (small.sum() / large.sum()) ** 0.5 < 0.8
    # Inside the large one, apart from the dark edges of its lines.
    assert (small & ~large).sum() < 0.2 * small.sum()
    # Chosen by keyboard among the buttons, the focus is there again when they are.
    tab.page.focus(".choices button >> nth=0")
    _press(tab, "Enter")
    _wait_until_chosen(tab, 0)
    tab.until("document.activeElement === document.querySelector('.choices button')")
    _press(tab, "Shift+Delete")
    tab.until("document.querySelector('.choices').hidden && document.querySelector('.answer').textContent === ''")
    tab.settle()
    assert not _marked(tab).any()


def _wait_until_chosen(tab: Tab, number: int) -> None:
    """Pressed at once, chosen when the server has answered and its alternatives are here again."""
    tab.until("document.querySelector('.state').textContent.startsWith('Marking')")
    tab.until(f"document.querySelectorAll('.choices button')[{number}]?.getAttribute('aria-pressed') === 'true'")


def _marked(tab: Tab) -> np.ndarray:
    pixels = tab.pixels("axial")
    return np.asarray(pixels[..., 1] - pixels[..., 2] > 20)


def test_nothing_is_asked_of_another_host(tab: Tab) -> None:
    assert {host for host in tab.asked if host} == {tab.address.removeprefix("http://")}
    assert tab.complaints == []


def test_space_and_arrows_scroll_a_panel_that_is_read(tab: Tab) -> None:
    tab.open_study("oblique")
    before = tab.page.inner_text("[data-plane=axial] .corner.tr")
    tab.page.locator("#panel-interact").focus()
    _press(tab, "ArrowRight", "PageDown", "Space")
    tab.settle()
    assert tab.page.inner_text("[data-plane=axial] .corner.tr") == before


def test_server_comes_back_and_the_session_goes_on(folder: Path, work: Path, browser: Callable[..., Tab]) -> None:
    again = work.parent / "again"
    with serving(folder, again) as address:
        tab = browser(address, TOKEN)
        tab.open_study("oblique")
        tab.begin()
        tab.page.locator("[data-plane=axial]").focus()
        _press(tab, "p", "Space", "ArrowRight", "Space", "u", "ArrowDown", "Space")
        wait_for_acts(again, 4)
        # "Working" until the last of them is answered.
        tab.until("document.querySelector('.state').textContent.startsWith('Marking')")
        tab.until("document.querySelector('.answer').textContent.includes('2 prompts')")
        tab.settle()
        before = tab.pixels("axial")
    tab.until("document.querySelector('.state').textContent.includes('Trying again')")
    with serving(folder, again, int(address.rsplit(":", 1)[1])):
        tab.until("document.querySelector('.state').textContent.startsWith('Marking')", 30)
        tab.until("document.querySelector('.answer').textContent.includes('2 prompts')")
        tab.settle()
        assert wait_for_acts(again, 5)[-1] == {"kind": "replay", "acts": 4}
        assert np.array_equal(tab.pixels("axial"), before)
        sessions = (again / "sessions.jsonl").read_text().splitlines()
        assert len(sessions) == 2 and sessions[0] == sessions[1], "the same session, taken up again"
    assert not [text for text in tab.complaints if "ERR_CONNECTION" not in text]
