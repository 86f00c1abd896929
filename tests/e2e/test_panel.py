"""The panel in a browser: light and dark, by keyboard, fresh by itself, and what a button asks for is done."""

from __future__ import annotations

import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from isocenter.clinic.workflow import Ledger
from isocenter.verbs.clinic import load_clinic_config
from observed_store import STUDY, busy_store

driver = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
fastapi = pytest.importorskip("fastapi")
uvicorn = pytest.importorskip("uvicorn")
from isocenter.verbs.clinic.panel import router  # noqa: E402
from isocenter.verbs.clinic.web import NodeWeb  # noqa: E402

pytestmark = pytest.mark.enable_socket
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def panel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Ledger]]:
    """A panel over a busy store; an app of its own, without the guard, which asks browsers for a session."""
    folder = tmp_path_factory.mktemp("panel")
    content = {
        "store": "store", "acceptors": 1, "limits": {"quota_gb": 200},
        "entities": [{"title": "ISOCENTER", "port": 0, "callers": [{"title": "SCANNER"}]}],
        "destinations": {
            name: {"kind": "dimse", "title": "P", "host": "127.0.0.1", "port": 104}
            for name in ("pacs", "research", "far")
        },
    }  # fmt: skip
    (folder / "clinic.yaml").write_text(yaml.safe_dump(content))
    config = load_clinic_config(folder / "clinic.yaml")
    ledger = busy_store(config.store)
    app = fastapi.FastAPI()
    app.include_router(router(NodeWeb(config, ledger, config.store)))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        until = time.monotonic() + 20
        while not server.started and time.monotonic() < until:
            time.sleep(0.02)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", ledger
        server.should_exit = True
        thread.join(10)
    ledger.engine.dispose()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    with driver.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield made
        made.close()


def opened(browser: Any, address: str, scheme: str, complaints: list[str], **more: Any) -> Any:
    page = browser.new_context(viewport={"width": 1366, "height": 768}, color_scheme=scheme, **more).new_page()
    page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: complaints.append(str(e)))
    page.goto(f"{address}/panel")
    return page


CONTRAST = """() => {
  const linear = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = (text) => {
    const [r, g, b, a] = text.match(/[\\d.]+/g).map(Number);
    return { l: 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b), a: a ?? 1 };
  };
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const found = light(getComputedStyle(e).backgroundColor);
      if (found.a > 0) return found.l;
    }
    return 1;
  };
  const bad = [];
  for (const e of document.querySelectorAll("body *")) {
    const told = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!told || !e.getClientRects().length || e.closest("script, style, noscript")) continue;
    const [a, b] = [light(getComputedStyle(e).color).l, ground(e)].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) bad.push(`${e.tagName} ${e.textContent.trim().slice(0, 30)}`);
  }
  return bad;
}"""
TOLD = (
    "Ready", "refused with status C000", "PRINTER9 called ISOCENTER from 10.1.7.30", "another title was called",
    "a series is incomplete: 3 gaps", "is being answered", "coverage of lungs-cxr fell", "not tried yet",
    "120 minutes after now", "the server can't be reached", "A700; no room", "started again",
)  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read(panel: tuple[str, Ledger], browser: Any, scheme: str) -> None:
    complaints: list[str] = []
    page = opened(browser, panel[0], scheme, complaints)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1366
    assert page.evaluate(CONTRAST) == [], "WCAG 2 AA: 4.5 to 1"
    text = page.inner_text("body")
    for told in TOLD:
        assert told in text, told
    assert page.locator("h1").count() == 1
    for wrong in ("section:not([aria-labelledby])", "img, [style], [onclick]", "th:not([scope])"):
        assert page.locator(wrong).count() == 0
    policy = page.request.get(f"{panel[0]}/panel").headers["content-security-policy"]
    assert "script-src 'self'" in policy and "unsafe" not in policy
    assert not complaints


def test_a_dead_letter_is_sent_again_by_keyboard(panel: tuple[str, Ledger], browser: Any) -> None:
    address, ledger = panel
    complaints: list[str] = []
    page = opened(browser, address, "light", complaints)
    seen = []
    page.on("request", lambda r: seen.append(r.headers.get("x-csrf-token")) if r.method == "POST" else None)
    page.evaluate("document.querySelector('meta[name=csrf-token]').content = 'of the session'")
    for _ in range(6):
        page.keyboard.press("Tab")
        if (page.evaluate("document.activeElement.dataset.replay") or "").startswith('{"deliveries"'):
            break
    page.keyboard.press("Enter")
    page.locator("#said", has_text="Taken up again: 1").wait_for()
    assert seen == ["of the session"]
    assert ledger.counts().get("delivery dead") is None
    page.locator("main", has_text="None: every result was taken").wait_for()
    page.get_by_role("button", name=re.compile(f"Answer again, study {re.escape(STUDY.format(1))}")).click()
    page.locator("#said", has_text="1 studies").wait_for()
    assert ledger.counts().get("failed") is None
    told = next(event["detail"] for event in ledger.events(limit=5) if event["kind"] == "replay")
    assert told.startswith("0 deliveries, 1 studies")
    page.get_by_role("button", name="Pause refreshing").press("Enter")
    assert page.get_attribute("#pause", "aria-pressed") == "true"
    assert not complaints


def test_it_is_whole_without_script(panel: tuple[str, Ledger], browser: Any) -> None:
    page = opened(browser, panel[0], "light", [], java_script_enabled=False)
    assert "isocenter clinic replay" in page.inner_text("body") and page.locator("table").count() > 5


def test_what_comes_from_outside_is_text(panel: tuple[str, Ledger], browser: Any) -> None:
    address, ledger = panel
    ledger.tell("conflict", "1.2'><script>alert(1)</script>", "<img src=x onerror=alert(2)>")
    complaints: list[str] = []
    page = opened(browser, address, "light", complaints)
    assert page.locator("img").count() == 0 and page.locator("script").count() == 1
    assert "<img src=x" in page.inner_text("#away + table, section[aria-labelledby=away]")
    assert not complaints
