"""The page in browsers of several readers: what is shown is what is held, and a mask is of who confirmed it."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isocenter.viewer.wire import decode_levels, unpack
from page_cases import (
    GRIDS,
    REPLAY_BYTES,
    TOKEN,
    Tab,
    acts,
    browsing,
    in_browser,
    serving,
    wait_for_acts,
    write_phantoms,
)

pytestmark = [in_browser, pytest.mark.enable_socket]  # the server's answers are asked for from here too

CONFIRM = "[data-command='interact.confirm']"
MARKING = "document.querySelector('.state')?.textContent.startsWith('Marking')"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people") / "studies"
    write_phantoms(folder, ("oblique", "coronal"))
    return folder


@pytest.fixture(scope="module")
def work(folder: Path) -> Path:
    return folder.parent / "work"


@pytest.fixture(scope="module")
def address(folder: Path, work: Path) -> Iterator[str]:
    with serving(folder, work) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Callable[..., Tab]]:
    with browsing() as browser:
        yield browser


@pytest.fixture
def reader(address: str, browser: Callable[..., Tab]) -> Iterator[Callable[..., Tab]]:
    """Open a window of a reader, who looks at a study and marks a structure; sessions are ended at the end."""
    tabs: list[Tab] = []

    def open_tab(name: str, label: str = "", study: str = "oblique") -> Tab:
        tab = browser(address, TOKEN, name)
        tabs.append(tab)
        tab.open_study(study)
        if label:
            tab.page.fill("#structure", label)
            tab.page.click("button[type=submit]")
            tab.until("document.querySelector('.state').textContent.startsWith('Marking')")
        return tab

    yield open_tab
    for tab in tabs:
        tab.page.context.close()
    for session in _asked(address, "sessions"):
        request = urllib.request.Request(_url(address, f"sessions/{session['id']}"), None, _HEADERS, method="DELETE")
        urllib.request.urlopen(request).close()


_HEADERS = {"Authorization": f"Bearer {TOKEN}"}


def _url(address: str, path: str) -> str:
    return f"{address}/api/v1/{path}"


def _asked(address: str, path: str) -> Any:
    with urllib.request.urlopen(urllib.request.Request(_url(address, path), None, _HEADERS)) as answer:
        return json.loads(answer.read())


def _masks(address: str, label: str, study: str = "oblique") -> list[dict[str, Any]]:
    """The masks of a structure that the server keeps."""
    (item,) = _asked(address, f"studies?q={study}")["items"]
    (image,) = _asked(address, f"studies/{item['id']}")["images"]
    return [mask for mask in _asked(address, f"images/{image['id']}/masks") if mask["label"] == label]


def _levels(address: str, mask: dict[str, Any]) -> np.ndarray:
    with urllib.request.urlopen(urllib.request.Request(_url(address, f"masks/{mask['id']}"), None, _HEADERS)) as answer:
        message = unpack(answer.read())
    z0, z1, y0, y1, x0, x1 = message.head["box_zyx"]  # type: ignore[misc,has-type]
    return decode_levels(message.payload, (z1 - z0, y1 - y0, x1 - x0))


def _press(tab: Tab, *keys: str) -> None:
    tab.page.locator("[data-plane=axial]").focus()
    for key in keys:
        tab.page.keyboard.press(key)


def _point(tab: Tab, prompts: int, *moves: str) -> None:
    """Point once more, and wait for the answer."""
    _press(tab, "p", *moves, "Space")
    _answered(tab, prompts)


def _answered(tab: Tab, prompts: int) -> None:
    words = f"{prompts} {'prompt' if prompts == 1 else 'prompts'}"
    tab.until(f"document.querySelector('.answer').textContent.includes('{words}')")
    tab.until("document.querySelector('.state').textContent.startsWith('Marking')")


def _marked(tab: Tab) -> int:
    tab.settle()
    pixels = tab.pixels("axial")
    return int((pixels[..., 1] - pixels[..., 2] > 20).sum())


def _confirm(tab: Tab) -> None:
    tab.until(f'!document.querySelector("{CONFIRM}").disabled')
    tab.page.click(CONFIRM)
    tab.until("document.querySelector('.answer').textContent.startsWith('Confirmed')")


@contextmanager
def _held(work: Path, kind: str) -> Iterator[None]:
    """While this lasts the server does not end with prompts, or with confirms."""
    hold = work / f"hold-{kind}"
    hold.touch()
    try:
        yield
    finally:
        hold.unlink()


def test_who_takes_an_image_back_confirms_what_is_shown(address: str, reader: Callable[..., Tab]) -> None:
    first = reader("AB", "taken")
    _point(first, 1)
    before = _marked(first)
    assert before > 50
    second = reader("CD", "taken")
    second.until("document.querySelector('.card.warn').textContent.includes('AB works on this image')")
    second.page.get_by_role("button", name="Take over").click()
    first.until("document.querySelector('.card.warn').textContent.includes('CD works on this image')")
    assert first.page.locator(CONFIRM).is_disabled()
    first.page.get_by_role("button", name="Take over").click()
    first.until("document.querySelector('.card.warn').hidden")
    # What is on the screen is what the server answered just now, and it is that which is confirmed.
    _answered(first, 1)
    assert _marked(first) == before
    _confirm(first)
    (mask,) = _masks(address, "taken")
    assert (mask["reader"], mask["clicks"]) == ("AB", 1)
    assert (_levels(address, mask) >= 2).any()
    assert first.complaints == second.complaints == []


def test_when_whoever_took_over_has_confirmed_and_left_the_other_may_confirm(
    address: str, reader: Callable[..., Tab]
) -> None:
    first = reader("AB", "left")
    _point(first, 1)
    second = reader("CD", "left")
    second.page.get_by_role("button", name="Take over").click()
    first.until("document.querySelector('.card.warn').textContent.includes('CD works on this image')")
    _point(second, 1, "Shift+ArrowRight")
    _confirm(second)
    second.page.get_by_role("button", name="End session").click()
    first.until("document.querySelector('.card.warn').hidden")
    first.page.get_by_text("Version 1 of this was confirmed meanwhile").wait_for()
    _confirm(first)
    assert [(mask["reader"], mask["version"]) for mask in _masks(address, "left")] == [("CD", 1), ("AB", 2)]


def test_a_correction_made_while_it_was_being_confirmed_is_not_confirmed(
    address: str, work: Path, reader: Callable[..., Tab]
) -> None:
    tab = reader("AB", "corrected")
    _point(tab, 1)
    with _held(work, "confirm"):
        _press(tab, "Control+Enter")
        tab.until("document.querySelector('.state').textContent.startsWith('Working')")
        _press(tab, "Shift+ArrowRight", "Space")
    _answered(tab, 2)
    assert "Confirmed" not in tab.page.inner_text(".answer")
    assert [mask["clicks"] for mask in _masks(address, "corrected")] == [1]
    # Nor is it thrown away where the image is left.
    tab.open_study("coronal")
    tab.until(MARKING)
    tab.open_study("oblique")
    _answered(tab, 2)
    _confirm(tab)
    assert [mask["clicks"] for mask in _masks(address, "corrected")] == [1, 2]


def test_nothing_is_confirmed_before_its_answer_was_seen(address: str, work: Path, reader: Callable[..., Tab]) -> None:
    tab = reader("AB", "unseen")
    _point(tab, 1)
    with _held(work, "prompt"):
        _press(tab, "Shift+ArrowRight", "Space")
        tab.until("document.querySelector('.state').textContent.startsWith('Working')")
        assert tab.page.locator(CONFIRM).is_disabled()
        _press(tab, "Control+Enter")
        tab.page.get_by_text("An answer is still on its way").wait_for()
    _answered(tab, 2)
    _press(tab, "u")
    _answered(tab, 1)  # what was sent before it would be done by now
    assert _masks(address, "unseen") == []


def test_another_reader_does_not_confirm_in_the_name_of_the_one_before(
    address: str, reader: Callable[..., Tab]
) -> None:
    tab = reader("AB", "named")
    _point(tab, 1)
    tab.page.get_by_role("button", name="Reader AB").click()
    tab.page.get_by_role("dialog").get_by_label("Initials").fill("CD")
    tab.page.keyboard.press("Enter")
    tab.page.get_by_role("button", name="Reader CD").wait_for()
    tab.until("document.querySelector('.state').textContent.startsWith('Name a structure')")
    assert _marked(tab) == 0
    tab.begin("named")
    _point(tab, 1)
    _confirm(tab)
    assert [mask["reader"] for mask in _masks(address, "named")] == ["CD"]
    # The same where the page is loaded again by somebody else.
    _point(tab, 2, "Shift+ArrowRight")
    tab.page.evaluate("localStorage.setItem('isocenter.reader', 'EF')")
    tab.page.reload()
    tab.page.get_by_text("The session of CD in this tab has ended").wait_for()
    tab.until("document.querySelector('.state').textContent.startsWith('Name a structure')")
    assert tab.page.evaluate("sessionStorage.getItem('isocenter.session')") is None


def test_what_is_not_confirmed_is_not_given_up_by_beginning_anew(reader: Callable[..., Tab]) -> None:
    tab = reader("AB", "first")
    _point(tab, 1)
    _confirm(tab)
    tab.begin("second")
    _point(tab, 1)
    for button in ("Begin anew", "End session"):
        tab.page.get_by_role("button", name=button).click()
        tab.page.get_by_role("dialog").get_by_role("button", name="Stay").click()
        assert _marked(tab) > 0
    # Taken back, nothing would be lost; versions of the one structure are not taken for those of the other.
    _press(tab, "u")
    tab.until("document.querySelector('.answer').textContent === ''")
    tab.begin("first")
    _point(tab, 1)
    assert tab.page.get_by_text("confirmed meanwhile").count() == 0


def _plan(tab: Tab, labels: str) -> None:
    tab.page.goto(f"{tab.address}/#/work")
    tab.until("document.querySelector('#work-labels') !== null")
    tab.page.get_by_text("Plan", exact=True).click()
    tab.page.fill("#work-labels", labels)
    tab.page.get_by_role("button", name="Keep plan").click()
    tab.until("document.querySelector('[role=status]').innerText.includes('4 without a reader')")


def test_the_next_item_is_marked_under_its_own_name(address: str, reader: Callable[..., Tab]) -> None:
    tab = reader("AB")
    _plan(tab, "left ball\nright ball")
    tab.page.get_by_role("button", name="Next left ball", exact=True).click()
    tab.until("document.querySelectorAll('.plane canvas').length > 0")
    assert tab.page.input_value("#structure") == "left ball"
    tab.page.click("button[type=submit]")
    tab.until(MARKING)
    _point(tab, 1)
    # Another structure: what is marked and not confirmed is asked about first.
    tab.page.get_by_role("tab", name="Work list").click()
    tab.page.get_by_role("button", name="Next right ball", exact=True).click()
    tab.page.get_by_role("dialog").get_by_role("button", name="Stay").click()
    tab.page.get_by_role("tab", name="Interact").click()
    _answered(tab, 1)
    assert "left ball" in tab.page.inner_text(".state")
    _confirm(tab)
    # Now its session ends, and the field on the tab that is there already says the item's name.
    tab.page.get_by_role("tab", name="Work list").click()
    tab.page.get_by_role("button", name="Show image").click()
    tab.page.get_by_text("Marking “left ball” has ended").wait_for()
    tab.page.get_by_role("tab", name="Interact").click()
    assert tab.page.input_value("#structure") == "right ball"
    assert tab.page.inner_text(".state").startswith("Name a structure")
    # Also where the page was loaded again on the way, and the session was only kept.
    tab.page.fill("#structure", "left ball")
    tab.page.click("button[type=submit]")
    tab.until(MARKING)
    tab.page.goto(f"{tab.address}/#/work")
    tab.page.reload()
    tab.page.get_by_role("button", name="Next right ball", exact=True).click()
    tab.page.get_by_text("Marking “left ball” has ended").wait_for()
    tab.until("document.querySelector('#structure')?.value === 'right ball'")
    tab.page.click("button[type=submit]")
    tab.until("document.querySelector('.state').textContent.includes('right ball')")
    labels: set[str] = set()
    for _ in range(100):  # the server is told of the end beside the beginning
        labels = {session["label"] for session in _asked(address, "sessions")}
        if labels == {"right ball"}:
            break
        tab.page.wait_for_timeout(100)
    assert labels == {"right ball"}
    assert tab.complaints == []


def _plant(tab: Tab, marks: list[dict[str, Any]]) -> None:
    """Load the page again, as if this had been done on the image before."""
    kept = json.loads(tab.page.evaluate("sessionStorage.getItem('isocenter.session')"))
    kept["seq"] += len(marks)
    kept["acts"] = [[kept["acts"][0][0], [{**mark, "seq": kept["seq"] + k} for k, mark in enumerate(marks)]]]
    tab.page.evaluate("text => sessionStorage.setItem('isocenter.session', text)", json.dumps(kept))
    tab.page.reload()


def _scribbles(count: int) -> list[dict[str, Any]]:
    line = GRIDS["oblique"].to_world(np.array([[15.0, 50.0, 40.0 + k / 2000] for k in range(2000)])).round(3).tolist()
    return [{"type": "prompt", "kind": "scribble", "positive": False, "points_lps_mm": line}] * count


def test_a_long_replay_is_taken_and_a_longer_one_is_not_tried_for_ever(
    address: str, work: Path, reader: Callable[..., Tab]
) -> None:
    tab = reader("AB", "long")
    _point(tab, 1)
    point = acts(work)[-1]["points"][0]
    assert point == [round(value, 3) for value in point], "to a thousandth of a millimetre"
    one = {"type": "prompt", "kind": "point", "positive": True, "points_lps_mm": [point]}
    before = len(acts(work))
    _plant(tab, [one, *_scribbles(24)])
    _answered(tab, 25)
    assert wait_for_acts(work, before + 1)[-1] == {"kind": "replay", "acts": 25}
    assert _marked(tab) > 50
    too_long = [one, *_scribbles(60)]
    length = len(json.dumps(too_long, separators=(",", ":")))
    assert length > REPLAY_BYTES
    _plant(tab, too_long)
    tab.page.get_by_text("too long to be told to the server again").wait_for()
    tab.until(MARKING)
    assert _marked(tab) == 0
    _point(tab, 1)
    assert [act["kind"] for act in acts(work)[before:]] == ["replay", "prompt"]
    _plant(tab, [{"type": "nonsense"}])
    tab.page.get_by_text("can't be done again").wait_for()
    tab.until(MARKING)
    _point(tab, 1)


def test_work_goes_on_where_the_connection_was_lost_before_the_answer(
    folder: Path, browser: Callable[..., Tab]
) -> None:
    work = folder.parent / "lost"
    with serving(folder, work) as address:
        tab = browser(address, TOKEN)
        tab.open_study("oblique")
        tab.begin("lost")
        _point(tab, 1)
        (work / "hold-prompt").touch()
        _press(tab, "Shift+ArrowRight", "Space")
        tab.until("document.querySelector('.state').textContent.startsWith('Working')")
        wait_for_acts(work, 2)
    tab.until("document.querySelector('.state').textContent.includes('Trying again')")
    (work / "hold-prompt").unlink()
    with serving(folder, work, int(address.rsplit(":", 1)[1])):
        tab.until(MARKING, 30)
        _answered(tab, 2)
        _confirm(tab)
        tab.page.context.close()
