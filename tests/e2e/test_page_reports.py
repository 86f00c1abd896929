"""Findings, report, questions and outlook in a real browser on a real server: read, click, turn a side, sign, amend."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest
from pydicom import Dataset

from e2e.conftest import MARKERS, ct_image, marked
from gland_plugin import install_gland
from isocenter.testing.dicom_phantom import write_ct_series
from isocenter.viewer.page import built_page
from isocenter.viewer.settings import Settings
from page_cases import in_browser

pytestmark = [in_browser, pytest.mark.enable_socket]
sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
TOKEN = "a-token-of-the-browser-tests"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def abdomen(index: int, dataset: Dataset) -> Dataset:
    dataset = marked(index, dataset)
    dataset.BodyPartExamined = "ABDOMEN"
    return dataset


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server over one CT, with a task of the tests; its address and work folder."""
    if not (built_page(Settings(token=TOKEN)) / "index.html").is_file():
        pytest.skip("the page is not built: make viewer")
    folder = tmp_path_factory.mktemp("page")
    plug = install_gland(folder / "plug")
    write_ct_series(folder / "in" / "ct", ct_image(), change=abdomen)
    path = os.pathsep.join([str(plug), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "ISOCENTER_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "isocenter.cli", "serve", str(folder / "in"), "--work", str(folder / "work")]
    with subprocess.Popen(
        [*command, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), folder / "work"
        finally:
            process.terminate()


@pytest.fixture
def page(served: tuple[str, Path]) -> Iterator[Any]:
    """The page on the study, with whatever it said on its console."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--use-gl=angle", "--use-angle=swiftshader", "--no-sandbox"]
        )
        made = browser.new_page(viewport={"width": 1366, "height": 768}, accept_downloads=True)
        made.said, made.refused = [], []
        made.on("response", lambda r: made.refused.append(r.url) if r.status >= 400 else None)
        made.on("console", lambda m: made.said.append(m.text) if m.type in ("error", "warning") else None)
        made.on("pageerror", lambda e: made.said.append(str(e)))
        made.add_init_script("localStorage.setItem('isocenter.reader', 'ab')")
        made.set_default_timeout(20_000)
        made.goto(served[0])
        made.get_by_role("table").or_(made.get_by_role("grid")).first.wait_for()
        api = f"await fetch('/api/v1/studies', {{headers: {{Authorization: 'Bearer {TOKEN}'}}}})"
        study = made.evaluate(f"async () => (await ({api}).json()).items[0].id")
        made.goto(f"{served[0].partition('#')[0]}#/study/{study}")
        made.locator(".plane canvas").first.wait_for()
        yield made
        browser.close()


def test_from_a_reading_to_a_signed_report(page: Any, served: tuple[str, Path], tmp_path: Path) -> None:
    expect = sync.expect
    # Findings: a reading that is stopped, one that goes through.
    page.keyboard.press("Alt+2")
    expect(page.get_by_text("This study has not been read yet.")).to_be_visible()
    page.keyboard.press("Alt+r")
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.get_by_text("The reading was stopped; nothing was kept.").first).to_be_visible(timeout=60_000)
    page.locator("#panel-findings select[name=tasks]").select_option("toy-gland")
    page.get_by_role("button", name="Read this study").click()
    expect(page.locator("#panel-findings progress")).to_be_visible()
    findings = page.locator("#panel-findings")
    expect(findings.get_by_role("heading", name="Not examined")).to_be_visible(timeout=90_000)
    expect(findings.get_by_role("article", name="Left adrenal gland")).to_contain_text("Volume")
    findings.get_by_role("checkbox", name="Show Left adrenal gland on the image").check()
    findings.get_by_role("checkbox", name="Show Map of Adrenal gland on the image").check()
    expect(page.locator(".layers .layer")).to_have_count(2)
    findings.get_by_role("button", name="To its peak").click()
    # Report: by the keyboard alone from here to the signature.
    page.keyboard.press("Alt+3")
    page.get_by_role("button", name="Make a draft").press("Enter")
    report = page.locator("#panel-report")
    said = report.locator(".sentence .text", has_text="Left adrenal gland: volume")
    expect(said).to_be_visible()
    before = page.locator(".plane .corner.tr").first.inner_text()
    page.keyboard.press("Alt+n")  # the technique
    page.keyboard.press("Alt+n")
    expect(said).to_be_focused()
    expect(page.locator(".layers .layer")).to_have_count(3)
    draft = json.loads(next((served[1] / "drafts").glob("*/versions/0001.json")).read_text())
    point = next(
        s["evidence"][0]["point_lps_mm"] for x in draft["parts"][0]["sections"] for s in x["sentences"] if s["evidence"]
    )
    shown = page.locator(".plane .corner.tr").first
    expect(shown).not_to_have_text(before)
    left = f"{'L' if point[0] > 0 else 'R'}{abs(point[0]):.1f}"
    assert left in shown.inner_text(), (left, shown.inner_text())
    page.keyboard.press("Alt+Enter")
    editor = report.get_by_role("textbox", name=re.compile("^Edit: Left adrenal"))
    expect(editor).to_be_focused()
    editor.fill(editor.input_value().replace("Left", "Right"))
    page.keyboard.press("Enter")
    refused = report.locator(".sentence.withheld")
    expect(refused.locator("del")).to_contain_text("Right adrenal gland")
    expect(refused).to_contain_text("Withheld:")
    expect(report.get_by_role("status")).to_contain_text("Sentence withheld")
    expect(report.get_by_role("button", name="Sign…")).to_be_disabled()
    shot(page, "report-withheld")
    page.keyboard.press("Alt+Enter")
    editor = report.get_by_role("textbox", name=re.compile("^Edit: Right adrenal"))
    editor.fill(editor.input_value().replace("Right", "Left"))
    page.keyboard.press("Enter")
    expect(report.locator(".sentence.withheld")).to_have_count(0)
    page.keyboard.press("Alt+s")
    page.get_by_role("dialog").get_by_label("Your name").fill("A. Reader")
    page.keyboard.press("Enter")
    expect(
        report.get_by_text("AI draft, signed by A. Reader. Research software, not a medical device.")
    ).to_be_visible()
    shot(page, "report-signed")
    with page.expect_download() as taken:
        report.get_by_role("button", name="DICOM SR").click()
    taken.value.save_as(tmp_path / "sr.dcm")
    sr = pydicom.dcmread(tmp_path / "sr.dcm")
    assert (
        sr.VerificationFlag == "VERIFIED" and str(sr.VerifyingObserverSequence[0].VerifyingObserverName) == "A. Reader"
    )
    (kept,) = (served[1] / "drafts").glob("*/signed/*/report.sr.dcm")
    assert kept.read_bytes() == (tmp_path / "sr.dcm").read_bytes()
    # Questions: an answer that leads to its place, a refusal that is seen.
    page.keyboard.press("Alt+4")
    expect(page.get_by_role("textbox", name="Question about this study, in English")).to_be_visible()
    page.keyboard.press("Alt+q")
    page.keyboard.type("How large is the left adrenal gland?")
    page.keyboard.press("Enter")
    ask = page.locator("#panel-ask")
    expect(ask.get_by_role("button", name=re.compile("Show where"))).to_be_visible()
    expect(ask.get_by_role("button", name=re.compile("^1.e1 outline.*: show it"))).to_be_enabled()
    page.keyboard.type("Should it be removed?")
    page.keyboard.press("Enter")
    expect(ask.locator("[data-outcome=refused]")).to_contain_text("Refused")
    # Outlook: nothing is configured, and it says so.
    page.keyboard.press("Escape")
    page.keyboard.press("Alt+5")
    expect(page.locator("#panel-outlook")).to_contain_text("--prognosis")
    # A server without outlining has no confirmed masks to list; nothing else may be refused, and nothing else be said.
    assert all(url.endswith("/masks") for url in page.refused), page.refused
    assert len(page.said) == len(page.refused), page.said
    shown_here = page.locator("aside").inner_html()
    assert not any(marker in shown_here for marker in MARKERS), "the panels name no patient"


@pytest.fixture
def api(served: tuple[str, Path]) -> Iterator[httpx.Client]:
    """The server's routes, by a client that has its token."""
    base = f"{served[0].partition('/#')[0]}/api/v1"
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Isocenter-Reader": "ab"}
    with httpx.Client(base_url=base, headers=headers, timeout=60) as client:
        yield client


def study_of(api: httpx.Client) -> str:
    return str(api.get("/studies").json()["items"][0]["id"])


def read_again(api: httpx.Client) -> str:
    """Read the study; the identifier of the reading."""
    wanted = {"tasks": ["toy-gland"], "evidence": False}
    job = api.post(f"/studies/{study_of(api)}/readings", json=wanted).json()["job"]
    end = time.monotonic() + 90
    while (now := api.get(f"/jobs/{job}").json())["state"] in ("queued", "running"):
        assert time.monotonic() < end, now
        time.sleep(0.1)
    assert now["state"] == "done", now
    return str(now["result"]["reading"])


@pytest.fixture
def draft(api: httpx.Client) -> dict[str, Any]:
    """A new draft of the latest reading; a study that was not read is read. Named before `page`, which opens it."""
    study = study_of(api)
    if api.get(f"/studies/{study}/readings/latest").status_code == 404:
        read_again(api)
    # Drafts are told apart by the second that they were made in.
    last = max((one["created"] for one in api.get(f"/studies/{study}/drafts").json()), default="")
    while datetime.now(UTC).replace(microsecond=0).isoformat() <= last:
        time.sleep(0.05)
    answer = api.post(f"/studies/{study}/draft", json={"indication": "Left flank pain.", "fresh": True})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def test_a_draft_of_an_older_reading_says_so_and_is_not_signed(
    draft: dict[str, Any], page: Any, api: httpx.Client
) -> None:
    expect = sync.expect
    page.keyboard.press("Alt+3")
    report = page.locator("#panel-report")
    expect(report.get_by_role("button", name="Sign…")).to_be_enabled()
    page.keyboard.press("Alt+2")
    findings = page.locator("#panel-findings")
    findings.get_by_role("checkbox", name="Show Left adrenal gland on the image").check()
    expect(page.locator(".layers .layer")).to_have_count(1)
    findings.locator("select[name=tasks]").select_option("toy-gland")
    findings.locator("input[name=evidence]").uncheck()
    findings.get_by_role("button", name="Read this study").click()
    expect(page.locator(".layers .layer")).to_have_count(0, timeout=90_000)  # it was the older reading's
    expect(findings.get_by_role("checkbox", name="Show Left adrenal gland on the image")).not_to_be_checked()
    page.keyboard.press("Alt+3")
    expect(report.get_by_role("region", name="Older reading")).to_contain_text("It can't be signed.")
    expect(report.get_by_role("button", name="Sign…")).to_be_disabled()
    page.keyboard.press("Alt+s")
    expect(page.get_by_text("This draft is of an older reading").first).to_be_visible()
    assert page.get_by_role("dialog").count() == 0
    # Whoever opens the study later is told as well.
    page.reload()
    page.locator(".plane canvas").first.wait_for()
    page.keyboard.press("Alt+3")
    expect(report.get_by_role("region", name="Older reading")).to_be_visible()
    expect(report.get_by_role("button", name="Sign…")).to_be_disabled()
    indication = report.get_by_label("Indication, as the clinician gave it")
    expect(indication).to_have_value("Left flank pain.")
    indication.fill("Right flank pain.")
    # Drawn again, the form keeps what was typed.
    report.get_by_role("button", name=re.compile("^Edit: Left adrenal")).first.click()
    page.keyboard.press("Escape")
    expect(indication).to_have_value("Right flank pain.")
    report.get_by_role("button", name="Make a draft of the latest reading").click()
    expect(report.get_by_role("region", name="Older reading")).to_have_count(0)
    expect(report.get_by_role("button", name="Sign…")).to_be_enabled()
    expect(report).to_contain_text("Right flank pain.")
    newest, before = api.get(f"/studies/{study_of(api)}/drafts").json()[:2]
    latest = api.get(f"/studies/{study_of(api)}/readings/latest").json()["reading"]
    assert (newest["reading"], before["id"]) == (latest, draft["id"]) and latest != draft["reading"]


def test_an_open_edit_is_neither_signed_over_nor_dropped(draft: dict[str, Any], page: Any, api: httpx.Client) -> None:
    expect = sync.expect
    # Two sentences of a person's, and one of the machine's that may be put back.
    sentences = [
        {"id": one["id"], "text": one["text"], "section": section["name"]}
        for section in draft["parts"][0]["sections"]
        for one in section["sentences"]
        if section["name"] not in ("findings", "impression")
    ]
    sentences.append({"id": None, "text": "Fever.", "section": "indication"})
    edited = api.put(f"/drafts/{draft['id']}", json={"version": 1, "sentences": sentences})
    assert edited.status_code == 200, edited.text
    report = page.locator("#panel-report")
    page.keyboard.press("Alt+3")
    put_back = report.get_by_role("button", name=re.compile("^Put back:")).first
    edits = report.get_by_role("button", name=re.compile("^Edit: "))
    edits.first.click()
    editor = report.get_by_role("textbox", name=re.compile("^Edit: "))
    editor.fill("Right, typed for long.")
    for other in (
        report.get_by_role("button", name="Sign…"),
        edits.first,
        report.get_by_role("button", name=re.compile("^Remove: ")).first,
        put_back,
        report.get_by_role("button", name=re.compile("^Add a sentence to")).first,
    ):
        other.click()
        expect(page.get_by_text("Keep or cancel your edit first.").last).to_be_visible()
        expect(editor).to_have_value("Right, typed for long.")
        expect(editor).to_be_focused()
        assert page.get_by_role("dialog").count() == 0
    assert api.get(f"/drafts/{draft['id']}").json()["version"] == 2
    page.keyboard.press("Escape")
    # An editor in which nothing was typed is in nobody's way, and does not stay open in the signed report.
    edits.first.click()
    expect(editor).to_be_focused()
    report.get_by_role("button", name="Sign…").click()
    page.get_by_role("dialog").get_by_label("Your name").fill("A. Reader")
    page.keyboard.press("Enter")
    expect(report.get_by_role("button", name="Amend")).to_be_visible()
    expect(report.get_by_role("textbox")).to_have_count(0)


def test_the_next_sentence_s_key_is_not_the_work_list_s(draft: dict[str, Any], page: Any) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.keyboard.press("Alt+6")
    page.locator("#panel-worklist #work-next").wait_for()
    page.keyboard.press("Alt+3")
    report = page.locator("#panel-report")
    report.locator(".sentence .text").first.wait_for()
    page.keyboard.press("Alt+n")
    sync.expect(report.locator(".sentence .text").first).to_be_focused()
    page.keyboard.press("Alt+6")
    with page.expect_response("**/work/next"):
        page.keyboard.press("Alt+n")
    assert len([url for url in asked if url.endswith("/work/next")]) == 1


def test_two_people_at_one_draft_are_told(draft: dict[str, Any], page: Any, api: httpx.Client) -> None:
    """A signed report is amended by one person while another edits it."""
    expect = sync.expect
    assert api.post(f"/drafts/{draft['id']}/sign", json={"version": 1, "by": "A. Reader"}).status_code == 200
    page.keyboard.press("Alt+3")
    report = page.locator("#panel-report")
    report.get_by_role("button", name="Amend").click()
    expect(report).to_contain_text("amends version")
    other = """async ([token]) => {
      const headers = {
        Authorization: `Bearer ${token}`, "Content-Type": "application/json", "X-Isocenter-Reader": "cd",
      };
      const study = location.hash.split("/").pop();
      const [draft] = await (await fetch(`/api/v1/studies/${study}/drafts`, {headers})).json();
      const sentences = draft.parts.flatMap((p) => p.sections).flatMap(
        (s) => s.sentences.map(({id, text}) => ({id, text, section: s.name})));
      const body = JSON.stringify({version: draft.version, sentences});
      return (await fetch(`/api/v1/drafts/${draft.id}`, {method: "PUT", headers, body})).status;
    }"""
    assert page.evaluate(other, [TOKEN]) == 200
    said = report.locator(".sentence .text", has_text="Left adrenal gland: volume")
    said.click()
    page.keyboard.press("Alt+Enter")
    editor = report.get_by_role("textbox", name=re.compile("^Edit: "))
    editor.fill("Mine, typed for long.")
    page.keyboard.press("Enter")
    expect(page.get_by_text(re.compile("made meanwhile by cd")).first).to_be_visible()
    expect(report.get_by_role("textbox", name=re.compile("^Edit: "))).to_have_value("Mine, typed for long.")
    expect(report).to_contain_text("by cd")


def _put(api: httpx.Client, draft: dict[str, Any], change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    """Make a new version as somebody else; `change` gives a sentence as it shall stand, None for one less."""
    now = api.get(f"/drafts/{draft['id']}").json()
    given = [
        {"id": one["id"], "text": one["text"], "section": section["name"]}
        for section in now["parts"][0]["sections"]
        for one in section["sentences"]
    ]
    left = [one for one in map(change, given) if one is not None]
    answer = api.put(
        f"/drafts/{draft['id']}",
        json={"version": now["version"], "sentences": left},
        headers={"X-Isocenter-Reader": "cd"},
    )
    assert answer.status_code == 200, answer.text


def test_what_another_changed_or_removed_is_seen_before_it_is_written_over(
    draft: dict[str, Any], page: Any, api: httpx.Client
) -> None:
    expect = sync.expect
    page.keyboard.press("Alt+3")
    report = page.locator("#panel-report")
    editor = report.get_by_role("textbox", name=re.compile("^Edit: Left flank"))
    report.get_by_role("button", name="Edit: Left flank pain.").click()
    editor.fill("Mine, typed for long.")
    # An input method's Enter chooses a word: nothing is kept yet.
    editor.evaluate(
        "e => e.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, bubbles: true}))"
    )
    assert api.get(f"/drafts/{draft['id']}").json()["version"] == 1
    _put(api, draft, lambda one: {**one, "text": "Theirs."} if one["text"] == "Left flank pain." else one)
    editor.press("Enter")
    mine = report.get_by_role("textbox", name="Edit: Theirs.")
    expect(mine).to_have_value("Mine, typed for long.")
    expect(report.get_by_text("It was changed meanwhile, and stands now: “Theirs.”")).to_be_visible()
    _put(api, draft, lambda one: None if one["text"] == "Theirs." else one)
    mine.press("Enter")
    expect(page.get_by_text("Typed, and not kept: “Mine, typed for long.”").first).to_be_visible()
    expect(report.get_by_role("textbox")).to_have_count(0)
    # Nothing waits to be kept that nobody sees. Signed is what is on the screen; what came since is shown first.
    _put(api, draft, lambda one: one)
    report.get_by_role("button", name="Sign…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Your name").fill("A. Reader")
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("alert")).to_contain_text("made meanwhile by cd")
    page.keyboard.press("Escape")
    expect(report).to_contain_text("Version 4 by cd")
    report.get_by_role("button", name="Sign…").click()
    dialog.get_by_label("Your name").fill("A. Reader")
    page.keyboard.press("Enter")
    expect(report.get_by_role("button", name="Amend")).to_be_visible()


def test_nothing_of_a_study_that_was_left_is_signed_or_lost_without_a_word(
    draft: dict[str, Any], page: Any, api: httpx.Client
) -> None:
    expect = sync.expect
    here = page.evaluate("location.hash")
    page.keyboard.press("Alt+3")
    report = page.locator("#panel-report")
    report.get_by_role("button", name="Sign…").click()
    page.get_by_role("dialog").get_by_label("Your name").fill("A. Reader")
    page.evaluate("location.hash = '#/'")  # as the browser's Back does
    page.locator("tr[data-study]").first.wait_for()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("Enter")
    assert api.get(f"/drafts/{draft['id']}").json()["signed"] is None
    # What is there is not said before it is known.
    held: list[Any] = []
    page.route("**/drafts", lambda route: held.append(route))
    page.evaluate(f"location.hash = '{here}'")
    page.locator(".plane canvas").first.wait_for()
    while not held:
        page.wait_for_timeout(25)
    expect(report.get_by_text("…", exact=True)).to_be_visible()
    held[0].fulfill(status=500, json={"title": "no", "detail": "the disk is away"})
    report.get_by_role("button", name="Ask again").wait_for()
    expect(page.get_by_text("the disk is away").first).to_be_visible()
    page.unroute("**/drafts")
    report.get_by_role("button", name="Ask again").click()
    report.get_by_role("button", name="Edit: Left flank pain.").click()
    report.get_by_role("textbox", name=re.compile("^Edit: ")).fill("Typed for long.")
    page.on("dialog", lambda dialog: dialog.dismiss())
    with page.expect_event("dialog") as asked:
        page.evaluate("setTimeout(() => location.reload())")
    assert asked.value.type == "beforeunload"
    page.evaluate("location.hash = '#/'")
    expect(page.get_by_text("Typed there, and not kept: “Typed for long.”")).to_be_visible()


def test_the_key_reads_what_the_form_says(draft: dict[str, Any], page: Any) -> None:
    page.keyboard.press("Alt+2")
    findings = page.locator("#panel-findings")
    findings.locator("select[name=tasks]").select_option("toy-gland")
    findings.locator("input[name=evidence]").uncheck()
    page.route("**/readings", lambda route: route.fulfill(status=503, json={"title": "no", "detail": "not now"}))
    findings.get_by_role("heading", name="Found").click()
    with page.expect_request("**/readings") as asked:
        page.keyboard.press("Alt+r")
    assert asked.value.post_data_json == {"tasks": ["toy-gland"], "evidence": False, "prior": None}
    page.get_by_text("not now").first.wait_for()


def test_a_conversation_that_was_left_does_not_go_on(draft: dict[str, Any], page: Any) -> None:
    page.keyboard.press("Alt+4")
    ask = page.locator("#panel-ask")
    held: list[Any] = []
    page.route("**/ask", lambda route: held.append(route))

    def answer(text: str) -> None:
        said = {"text": text, "kind": "note", "evidence": []}
        told: dict[str, Any] = {
            "outcome": "answered",
            "refused": None,
            "calls": [],
            "by": "x",
            "remarks": [],
            "withheld": 0,
        }
        held[-1].fulfill(json={**told, "conversation": "old", "answer": [said]})

    def wait(count: int) -> None:
        while len(held) < count:
            page.wait_for_timeout(25)

    question = ask.get_by_role("textbox")
    question.fill("What was found?")
    question.press("Enter")
    wait(1)
    ask.get_by_role("button", name="Begin anew").click()
    question.fill("And now")
    page.locator("[data-plane=axial]").focus()
    answer("An old answer.")
    sync.expect(ask.get_by_role("button", name="Ask", exact=True)).to_be_enabled()
    assert ask.get_by_text("An old answer.").count() == 0
    assert question.input_value() == "And now" and page.evaluate("document.activeElement.dataset.plane") == "axial"
    question.press("Enter")
    wait(2)
    assert held[1].request.post_data_json == {"question": "And now", "conversation": None}
    answer("A new answer.")
    ask.get_by_text("A new answer.").wait_for()


def shot(page: Any, name: str) -> None:
    """Keep a picture where the environment asks for them."""
    folder = os.environ.get("ISOCENTER_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png")
