"""The whole story in one browser, by keyboard alone, on the real server and the real networks.

Open a study, point, see a mask, correct, confirm; read, draft, turn a side and see it refused, sign; find the SR. On
the way every screen is looked at by axe-core, and nothing may be said on the console.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
import pytest

from gland_plugin import install_gland
from isocenter.core import Geometry, Image, Quantity
from isocenter.testing.dicom_phantom import write_ct_series
from page_cases import Tab, browsing, built_page, in_browser

pytestmark = [in_browser, pytest.mark.enable_socket]
TOKEN = "a-token-of-the-whole-story"
AXE = Path(__file__).resolve().parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
CENTRE_LPS_MM = (22.0, -14.0, -58.0)


def abdomen() -> Image:
    """A body of water with a gland of 24 mm in its left half, which is easy to see."""
    geometry = Geometry.axial((24, 96, 112), spacing_mm=(4.0, 1.6, 1.6), origin_mm=(-88.0, -76.0, -110.0))
    points = geometry.to_world(np.indices(geometry.shape).reshape(3, -1).T).reshape(*geometry.shape, 3)
    values = np.full(geometry.shape, -1000.0)
    values[(((points - (0, 0, -64)) / (82, 66, 70)) ** 2).sum(-1) < 1] = 0
    values[np.linalg.norm(points - np.asarray(CENTRE_LPS_MM), axis=-1) < 12] = 400
    values += np.random.default_rng(7).normal(0, 8, values.shape)
    return Image(values[None].astype(np.int16), geometry, Quantity.HU, "CT")


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, Path]]:
    """`isocenter serve` over one CT; its address and its work folder."""
    built_page()
    plug = install_gland(folder / "plug")
    write_ct_series(folder / "in" / "ct", abdomen())
    path = os.pathsep.join([str(plug), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "ISOCENTER_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "isocenter.cli", "serve", str(folder / "in"), "--work", str(folder / "work")]
    with subprocess.Popen(
        [*command, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip().partition("/#")[0], folder / "work"
        finally:
            process.terminate()


def axe(tab: Tab, where: str) -> None:
    """Let axe-core look at the page as it stands: no finding that is serious or worse."""
    if not AXE.is_file():
        reason = "axe-core is not installed: npm ci in web/"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    tab.page.evaluate(AXE.read_text("utf-8"))
    found = tab.page.evaluate(
        "rules => axe.run(document, {runOnly: {type: 'tag', values: rules}}).then(r => "
        "r.violations.map(v => ({id: v.id, impact: v.impact, nodes: v.nodes.map(n => n.target.join(' '))})))",
        RULES,
    )
    worst = [one for one in found if one["impact"] in ("serious", "critical")]
    assert worst == [], (where, worst)


def shot(tab: Tab, name: str) -> None:
    """Keep a picture where the environment asks for them."""
    if folder := os.environ.get("ISOCENTER_SCREENSHOTS"):
        tab.page.screenshot(path=Path(folder) / f"{name}.png")


def press(tab: Tab, *keys: str) -> None:
    for key in keys:
        tab.page.keyboard.press(key)


def go_to(tab: Tab, point_lps_mm: tuple[float, float, float]) -> None:
    """Bring the keyboard's cursor to a point of the axial plane, one voxel a key."""
    tab.page.locator("[data-plane=axial]").focus()
    tab.settle()
    for _ in range(200):
        words = tab.page.inner_text("[data-plane=axial] .corner.tr").split(" mm")[0].split()
        at = [float(word[1:]) * (1 if word[0] in "LPH" else -1) for word in words]
        off = np.asarray(point_lps_mm) - at
        if abs(off[2]) > 2.1:
            press(tab, "PageUp" if off[2] > 0 else "PageDown")
            tab.settle()
            again = tab.page.inner_text("[data-plane=axial] .corner.tr").split(" mm")[0].split()[-1]
            if abs(point_lps_mm[2] - float(again[1:]) * (1 if again[0] == "H" else -1)) > abs(off[2]):
                press(tab, *(["PageDown"] * 2 if off[2] > 0 else ["PageUp"] * 2))
        elif abs(off[0]) > 0.9:
            press(tab, "ArrowRight" if off[0] > 0 else "ArrowLeft")  # the patient's left is on the right
        elif abs(off[1]) > 0.9:
            press(tab, "ArrowDown" if off[1] > 0 else "ArrowUp")
        else:
            return
        tab.settle()
    raise AssertionError(f"the cursor never came to {point_lps_mm}")


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_from_the_list_to_the_sr_by_keyboard_alone(tmp_path: Path, scheme: str) -> None:
    with served(tmp_path) as (address, work), browsing(webgl=True) as browser:
        tab = browser(address, TOKEN, color_scheme=scheme)
        page = tab.page
        page.set_default_timeout(120_000)
        axe(tab, "list")
        shot(tab, f"story-{scheme}-1-list")
        press(tab, "ArrowDown", "Enter")
        tab.until("document.querySelectorAll('.plane canvas').length === 3")
        tab.wait_for_planes()
        # Point: the gland is outlined by the network, and lies where it is.
        press(tab, "r")
        page.keyboard.type("left adrenal gland")
        press(tab, "Enter", "Escape")
        tab.until("document.querySelector('.state').textContent.startsWith('Marking')")
        go_to(tab, CENTRE_LPS_MM)
        press(tab, "p", "Space")
        tab.until("document.querySelector('.answer').textContent.includes('1 prompt')", 60)
        axe(tab, "interact")
        shot(tab, f"story-{scheme}-2-mask")
        # Correct: what lies 30 mm away does not belong to it. Confirm.
        go_to(tab, (CENTRE_LPS_MM[0], CENTRE_LPS_MM[1] + 30.0, CENTRE_LPS_MM[2]))
        press(tab, "n", "Space")
        tab.until("document.querySelector('.answer').textContent.includes('2 prompts')", 60)
        press(tab, "Control+Enter")
        tab.until("document.querySelector('figure.clicks .bar') !== null", 60)
        # Findings.
        press(tab, "Alt+2")
        page.locator("#panel-findings select[name=tasks]").select_option("toy-gland")
        press(tab, "Alt+r")
        page.locator("#panel-findings").get_by_role("heading", name="Not examined").wait_for(timeout=120_000)
        axe(tab, "findings")
        shot(tab, f"story-{scheme}-3-findings")
        # Report: a sentence leads to its place; a turned side is refused; signed.
        press(tab, "Alt+3")
        page.get_by_role("button", name="Make a draft").press("Enter")
        report = page.locator("#panel-report")
        said = report.locator(".sentence .text", has_text="Left adrenal gland: volume")
        said.wait_for()
        press(tab, "Alt+n", "Alt+n")  # past the technique
        tab.until("document.activeElement.textContent.startsWith('Left adrenal gland: volume')")
        press(tab, "Alt+Enter")
        editor = report.get_by_role("textbox", name=re.compile("^Edit: "))
        editor.wait_for()
        editor.fill(editor.input_value().replace("Left", "Right"))
        press(tab, "Enter")
        report.locator(".sentence.withheld", has_text="Withheld:").wait_for()
        assert report.get_by_role("button", name="Sign…").is_disabled()
        axe(tab, "report")
        shot(tab, f"story-{scheme}-4-refused")
        press(tab, "Alt+Enter")
        editor.wait_for()
        editor.fill(editor.input_value().replace("Right", "Left"))
        press(tab, "Enter")
        tab.until("!document.querySelector('#panel-report .sentence.withheld')")
        press(tab, "Alt+s")
        page.get_by_role("dialog").get_by_label("Your name").fill("A. Reader")
        axe(tab, "signing")
        press(tab, "Enter")
        report.get_by_text("AI draft, signed by A. Reader.").first.wait_for()
        shot(tab, f"story-{scheme}-5-signed")
        assert tab.complaints == []
        _check_files(work)


def _check_files(work: Path) -> None:
    """The SR is in the folder, and what was confirmed lies on the gland."""
    (sr,) = work.glob("drafts/*/signed/*/report.sr.dcm")
    report = pydicom.dcmread(sr)
    assert report.VerificationFlag == "VERIFIED"
    assert str(report.VerifyingObserverSequence[0].VerifyingObserverName) == "A. Reader"
    texts = [str(element.value) for element in report.iterall() if element.keyword == "TextValue"]
    assert any("Left adrenal gland" in text for text in texts) and not any("Right adrenal" in text for text in texts)
    (mask,) = (file for file in work.rglob("*.nii.gz") if "masks" in file.parts)
    import nibabel

    image = nibabel.load(mask)
    inside = np.argwhere(np.asarray(image.dataobj) > 0)
    ras = (image.affine @ np.c_[inside, np.ones(len(inside))].T).T[:, :3].mean(0)
    assert np.linalg.norm(ras * (-1, -1, 1) - CENTRE_LPS_MM) < 6, ras
