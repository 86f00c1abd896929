"""The work list in a browser: plan, next, mark and confirm, a class, skip with a reason, agreement, export."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from page_cases import TOKEN, Tab, browsing, built_page, in_browser, write_phantoms

pytest.importorskip("fastapi")
pytest.importorskip("torch")
pytestmark = in_browser


@contextmanager
def serving(folder: Path, work: Path) -> Iterator[str]:
    """The server itself, as a person starts it."""
    built_page()
    token = work.with_suffix(".token")
    token.write_text(TOKEN, "utf-8")
    command = [sys.executable, "-m", "isocenter.cli", "serve", str(folder), "--work", str(work), "--port", "0"]
    with work.with_suffix(".log").open("w") as log:
        server = subprocess.Popen([*command, "--token-file", str(token)], stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            assert address.startswith("http"), work.with_suffix(".log").read_text()
            yield address.split("/#")[0]
        finally:
            server.terminate()
            server.wait(30)
            server.stdout.close()


def _open_work(tab: Tab) -> None:
    tab.page.goto(f"{tab.address}/#/work")
    tab.until("document.querySelector('#work-labels') !== null")


def _counts(tab: Tab) -> str:
    return str(tab.page.locator("[role=status]").first.inner_text())


def _next(tab: Tab, label: str) -> None:
    _open_work(tab)
    tab.page.get_by_role("button", name=f"Next {label}", exact=True).click()
    tab.wait_for_planes(40)


def _confirm_a_ball(tab: Tab) -> None:
    tab.page.get_by_role("tab", name="Interact").click()
    assert tab.page.input_value("#structure") == "ball"  # the item names it
    tab.page.click("#panel-interact button[type=submit]")
    tab.until("document.querySelector('.state').textContent.startsWith('Marking')", 40)
    tab.page.click("[data-command='tool.point']")
    box = tab.page.locator("[data-plane=axial] canvas").first.bounding_box()
    tab.click("axial", box["width"] / 2, box["height"] / 2)
    confirm = tab.page.locator("[data-command='interact.confirm']")
    tab.until("!document.querySelector(\"[data-command='interact.confirm']\").disabled", 60)
    confirm.click()
    tab.until("document.querySelector('.answer').innerText.includes('Confirmed')", 40)


def _type_while_it_is_drawn_again(tab: Tab) -> None:
    """While items are still looked for the list is asked for again and again: what is typed stays, and the focus."""
    answers: list[int] = []

    def still_filling(route: Any) -> None:
        page = route.fetch().json()
        answers.append(len(answers))
        # Another total each time: the list is drawn again.
        route.fulfill(json={**page, "total": 1000 + len(answers), "filling": {**page["filling"], "what": "x"}})

    def drawn() -> int:
        found = re.search(r"of 1(\d{3})", tab.page.get_by_role("region", name="Items").inner_text())
        return int(found[1]) if found else 0

    reason = tab.page.get_by_label("Reason for skipping")
    tab.page.route("**/api/v1/work?*", still_filling)
    tab.page.select_option("[aria-label='Which items']", "all")
    tab.wait_for(lambda: drawn() > 0)
    again = tab.page.get_by_label("Why AB shall look again").first
    again.fill("too")
    count = len(answers)
    tab.wait_for(lambda: drawn() > count)
    tab.page.keyboard.type(" small")
    assert again.input_value() == "too small"
    reason.fill("mo")
    count = len(answers)
    tab.wait_for(lambda: drawn() > count)
    tab.page.unroute("**/api/v1/work?*")
    tab.until("!document.querySelector('[role=status]').innerText.includes('x: ')")
    tab.page.keyboard.type("tion")
    assert reason.input_value() == "motion"


def _answer_only_what_is_in_view(tab: Tab) -> None:
    """The item's image is in view; another study is opened by hand, and the item's again."""
    asked = tab.page.evaluate("location.hash").rpartition("/")[2]
    tab.page.goto(f"{tab.address}/#/")
    tab.until("document.querySelectorAll('tr[data-study]').length === 2")
    tab.page.locator(f"tr[data-study]:not([data-study='{asked}'])").click()
    tab.wait_for_planes(40)
    tab.page.get_by_role("tab", name="Work list").click()
    mild = tab.page.get_by_role("button", name="mild", exact=True)
    mild.wait_for()
    assert mild.is_disabled() and tab.page.get_by_text("Another image is in view").count() == 1
    tab.page.get_by_role("button", name="Show image").click()
    tab.until(f"location.hash.endsWith('{asked}')")
    tab.wait_for_planes(40)
    tab.until("!document.querySelector('#panel-worklist [role=group] button').disabled")


def test_labelling_a_set(tmp_path: Path) -> None:
    folder, work = tmp_path / "studies", tmp_path / "work"
    write_phantoms(folder, names=("oblique", "coronal"))
    with serving(folder, work) as address, browsing() as browser:
        tab = browser(address, TOKEN)
        _open_work(tab)
        tab.page.get_by_text("Plan", exact=True).click()
        tab.page.fill("#work-labels", "ball\ngrade: none < mild < severe")
        tab.page.fill("#work-shared", "100")
        tab.page.get_by_role("button", name="Keep plan").click()
        tab.until("document.querySelector('[role=status]').innerText.includes('8 without a reader')")

        _next(tab, "ball")
        _confirm_a_ball(tab)
        _next(tab, "ball")  # what was confirmed counts as done, wherever it was confirmed
        _open_work(tab)
        assert "1 done" in _counts(tab) and "1 begun" in _counts(tab)
        _type_while_it_is_drawn_again(tab)
        tab.page.get_by_role("button", name="Skip", exact=True).click()
        tab.until("document.querySelector('[role=status]').innerText.includes('1 skipped')")

        _next(tab, "grade")
        _answer_only_what_is_in_view(tab)
        _open_work(tab)
        tab.page.get_by_role("button", name="mild", exact=True).click()
        tab.until("document.querySelector('[role=status]').innerText.includes('2 done')")
        tab.page.get_by_text("AB: skipped (motion)").wait_for()

        tab.page.get_by_text("Agreement of readers").click()
        tab.page.get_by_role("button", name="Compare readers").click()
        tab.page.get_by_text("No image has been labelled by two readers yet.").wait_for()
        tab.page.get_by_role("heading", name="Agreement on “ball”").wait_for()
        tab.page.get_by_text("Export", exact=True).first.click()
        tab.page.get_by_role("button", name="Export").click()
        with tab.page.expect_download() as told:
            tab.page.get_by_role("button", name="Save file").click()
        told.value.save_as(tmp_path / "labels.zip")
        assert tab.complaints == []
    with zipfile.ZipFile(tmp_path / "labels.zip") as packed:
        assert sum("/labelsTr/" in name for name in packed.namelist()) == 1
