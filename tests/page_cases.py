"""What the tests of the page share: phantoms whose places are known, a server in a process of its own, a browser."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nibabel
import numpy as np
import pytest
from PIL import Image as Picture
from pydicom import Dataset
from pydicom.uid import generate_uid

from isocenter.core import Geometry, Image, Quantity
from isocenter.testing.dicom_phantom import write_ct_series

in_browser = pytest.mark.long("make browser")
SERVER = Path(__file__).with_name("page_server.py")
TOKEN = "page-tests-page-tests-page-tests"
REPLAY_BYTES = 2 << 20
"""The longest replay that `page_server` takes."""
RADIUS_MM, SMALL_MM, BAND_MM = 9.0, 5.0, 2.0
"""Of the balls that `page_server` answers with, of their alternative, and of the doubt at their edge."""
LANDMARKS_LPS_MM = {"L": (38.0, 3.0, -4.0), "A": (5.0, -31.0, 6.0), "H": (-6.0, 4.0, 42.0)}
"""Bright balls to the left, in front and towards the head: no two sides of the phantom are alike."""
LANDMARKS_HU = {"L": 500.0, "A": 900.0, "H": 2000.0}
LANDMARKS_GREY = {"L": 142, "A": 198, "H": 255}
"""As they are drawn in a window from -500 to 1300 HU: each is told by its own grey."""


def turned(x: float, y: float, z: float) -> np.ndarray:
    """A rotation about the axes x, y and z (radians)."""
    (cx, sx), (cy, sy), (cz, sz) = ((np.cos(a), np.sin(a)) for a in (x, y, z))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_x @ about_y @ about_z


def grid(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], ways: np.ndarray) -> Geometry:
    """A grid around a point near the middle of the phantom; rows of `ways` are where z, y and x point to."""
    affine = np.eye(4)
    affine[:3, :3] = ways.T * np.asarray(spacing_mm)
    affine[:3, 3] = np.array([2.0, -3.0, 4.0]) - affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    return Geometry(shape, affine)


_TURN = turned(0.22, -0.16, 0.3)
GRIDS = {
    "oblique": grid((30, 100, 90), (5.0, 1.3, 1.5), np.stack([_TURN[:, 2], _TURN[:, 1], _TURN[:, 0]])),
    "sagittal": grid((32, 96, 88), (4.0, 1.4, 1.25), np.array([[-1.0, 0, 0], [0, 0, -1], [0, 1, 0]])),
    "prone": grid((28, 84, 92), (5.5, 1.5, 1.4), np.array([[0, 0, 1.0], [0, -1, 0], [-1, 0, 0]])),
    "coronal": grid((26, 90, 86), (5.0, 1.4, 1.5), np.array([[0, 1.0, 0], [0, 0, -1], [1, 0, 0]])),
}


LEFT_HANDED = grid((28, 84, 92), (5.5, 1.5, 1.4), np.array([[0, 0, -1.0], [0, 1, 0], [1, 0, 0]]))
"""A grid that no DICOM series has, and NIfTI files do: its three ways make a left hand."""


def phantom(geometry: Geometry, landmarks: str = "LAH") -> Image:
    """A body of water with bright balls at `LANDMARKS_LPS_MM`."""
    points = geometry.to_world(np.indices(geometry.shape).reshape(3, -1).T).reshape(*geometry.shape, 3)
    values = np.full(geometry.shape, -1000.0)
    values[((points / (60, 48, 62)) ** 2).sum(-1) < 1] = 0
    for name in landmarks:
        values[np.linalg.norm(points - np.asarray(LANDMARKS_LPS_MM[name]), axis=-1) < 7] = LANDMARKS_HU[name]
    return Image(values[None].astype(np.float32), geometry, Quantity.HU, "CT")


def write_phantoms(folder: Path, names: tuple[str, ...] = tuple(GRIDS)) -> None:
    """Write phantoms as studies of one invented patient each, the description of each being its name."""
    for name in names:

        def describe(_index: int, dataset: Dataset, name: str = name) -> Dataset:
            dataset.StudyDescription = name
            dataset.PatientID = f"PHANTOM-{name}"
            return dataset

        write_ct_series(folder / name.replace(" ", "-"), phantom(GRIDS[name]), name=name, change=describe)


NOW, BEFORE, ELSEWHERE = (generate_uid(entropy_srcs=[name]) for name in ("now", "before", "elsewhere"))
"""Studies of one patient: the present one, one in the same place, and one 90 cm away."""
_AXIAL = np.array([[0, 0, 1.0], [0, 1, 0], [1, 0, 0]])
PRIOR = grid((20, 60, 60), (8.0, 2.4, 2.4), _AXIAL)
HOT = grid((36, 40, 40), (4.0, 4.0, 4.0), _AXIAL)


def write_repeated(folder: Path) -> None:
    """Write one patient's studies: two series now (one with a landmark alone), and two earlier studies."""
    _write_series(folder, "present", "LAH", study=NOW, date="20240501", where="now")
    _write_series(folder, "hot", "L", study=NOW, date="20240501", where="now")
    _write_series(folder, "prior", "LAH", study=BEFORE, date="20230501", where="before")
    _write_series(folder, "prior", "LAH", study=ELSEWHERE, date="20220501", where="elsewhere", shift_mm=900.0)


def _write_series(
    folder: Path, name: str, landmarks: str, *, study: str, date: str, where: str, shift_mm: float = 0.0
) -> None:
    """A series of one patient, in a study of its own or beside another."""
    geometry = {"hot": HOT, "prior": PRIOR}.get(name, GRIDS["prone"])

    def change(_index: int, dataset: Dataset) -> Dataset:
        dataset.PatientID, dataset.StudyDate, dataset.StudyInstanceUID = "PHANTOM-REPEATED", date, study
        dataset.StudyDescription, dataset.SeriesDescription = where, name
        dataset.FrameOfReferenceUID = study
        x, y, z = (float(v) for v in dataset.ImagePositionPatient)
        dataset.ImagePositionPatient = [x, y, z + shift_mm]
        return dataset

    image = phantom(geometry, landmarks)
    if name == "hot":
        image.array[image.array == 0] = -1000
    write_ct_series(folder / where / name, image, name=f"{where} {name}", change=change)


def write_left_handed(folder: Path) -> None:
    """Write a NIfTI file with one landmark; by nibabel, whose world is RAS and whose first index is x."""
    image = phantom(LEFT_HANDED, "L")
    affine = LEFT_HANDED.require_affine("write_left_handed")
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine[:, [2, 1, 0, 3]]
    file = nibabel.Nifti1Image(image.array[0].transpose(2, 1, 0).astype(np.int16), ras)
    file.header.set_xyzt_units("mm")
    folder.mkdir(parents=True, exist_ok=True)
    nibabel.save(file, folder / "handed.nii.gz")


@contextmanager
def serving(folder: Path, work: Path, port: int = 0) -> Iterator[str]:
    """A server of tests over a folder; its address. A port is named where a server comes back under its old one."""
    work.mkdir(parents=True, exist_ok=True)
    page = built_page()
    with (work / "server.log").open("w") as log:
        arguments = [sys.executable, str(SERVER), str(folder), str(work), str(page), str(port)]
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            assert address.startswith("http"), (work / "server.log").read_text()
            yield address
        finally:
            process.terminate()
            process.wait(20)
            assert process.stdout is not None
            process.stdout.close()


def built_page() -> Path:
    """The built page; skipped where it is not built (a failure under CI=true)."""
    folder = Path(__file__).resolve().parents[1] / "src" / "isocenter" / "viewer" / "page"
    if not (folder / "index.html").is_file():
        _missing("the page is not built: make viewer")
    return folder


def _missing(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(reason + " (under CI=true it must be there)")
    pytest.skip(reason)


@dataclass
class Tab:
    """A page in a browser, and what it complained of."""

    page: Any
    address: str
    complaints: list[str]
    asked: set[str]
    """Hosts that anything was asked of."""

    def until(self, expression: str, seconds: float = 20.0) -> Any:
        """Wait until JavaScript is true; polled from here, as the page's policy forbids evaluating text in it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            value = self.page.evaluate(expression)
            if value:
                return value
            self.page.wait_for_timeout(25)
        raise AssertionError(f"never true: {expression}")

    def wait_for(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        """Wait until something is true here; what the page does goes on meanwhile."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "never came true"
            self.page.wait_for_timeout(25)

    @contextmanager
    def held(self, pattern: str) -> Iterator[list[Any]]:
        """Hold what is asked of the server; each request waits in the list for its `continue_()`."""
        routes: list[Any] = []
        self.page.route(pattern, lambda route: routes.append(route))
        try:
            yield routes
        finally:
            self.page.unroute(pattern)

    def let_go(self, route: Any) -> None:
        """Let a held request through, and wait until the page has taken its answer."""
        with self.page.expect_event("requestfinished", lambda request: request.url == route.request.url):
            route.continue_()
        self.settle()

    def open_study(self, description: str) -> None:
        """Open a study from the list and wait for all of its planes."""
        self.page.goto(f"{self.address}/#/")
        self.page.fill("#search", description)
        rows = "[...document.querySelectorAll('tr[data-study]')]"
        word = rf"\b{description}\b"  # a row of the search before may say "unknown"
        self.until(f"{rows}.length && {rows}.every(row => /{word}/.test(row.innerText))")
        self.page.locator("tr[data-study]").first.click()
        self.wait_for_planes()

    def wait_for_planes(self, seconds: float = 20.0) -> None:
        """Wait until every plane of the image in view is here and drawn."""
        self.until("document.querySelectorAll('.plane canvas').length > 0", seconds)
        self.until("document.querySelector('progress.loading').value === 1", seconds)
        self.settle()

    def show_series(self, name: str) -> None:
        """Show one series of the study, by its size or description in the list."""
        self.page.locator("[data-image]", has_text=name).first.click()
        self.wait_for_planes()

    def begin(self, label: str = "ball") -> None:
        """Begin a session."""
        self.page.fill("#structure", label)
        self.page.click("#panel-interact button[type=submit]")
        self.until("document.querySelector('.state').textContent.startsWith('Marking')")

    def show_slice(self, plane: str, index: int) -> None:
        """Go to a slice of a plane by its slider, as a person may."""
        slider = self.page.locator(f"[data-plane={plane}] input.slices")
        slider.evaluate("(e, k) => { e.value = k; e.dispatchEvent(new Event('input', {bubbles: true})); }", index)
        self.settle()

    def settle(self) -> None:
        """Let two frames pass."""
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def pixels(self, plane: str) -> np.ndarray:
        """What stands on the canvas of a plane, (rows, columns, RGB), in CSS pixels."""
        canvas = self.page.locator(f"[data-plane={plane}] canvas").first
        text = canvas.evaluate("e => e.toDataURL('image/png')")
        picture = Picture.open(io.BytesIO(base64.b64decode(text.split(",")[1]))).convert("RGB")
        return np.asarray(picture, dtype=np.int16)

    def letters(self, plane: str) -> dict[str, str]:
        """The letters at the sides of a plane."""
        sides = self.page.locator(f"[data-plane={plane}] [data-side]")
        return {side.get_attribute("data-side"): side.inner_text() for side in sides.all()}

    def click(self, plane: str, x: float, y: float, **options: Any) -> None:
        """Click on a plane, in CSS pixels of its canvas."""
        box = self.page.locator(f"[data-plane={plane}] canvas").first.bounding_box()
        self.page.mouse.click(box["x"] + x, box["y"] + y, **options)


def acts(work: Path) -> list[dict[str, Any]]:
    """What came over the socket."""
    log = work / "acts.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def wait_for_acts(work: Path, count: int, seconds: float = 20.0) -> list[dict[str, Any]]:
    """Wait until so many acts have come."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if len(found := acts(work)) >= count:
            return found
        time.sleep(0.03)
    raise AssertionError(f"{len(acts(work))} of {count} acts came")


@contextmanager
def browsing(*, webgl: bool = False) -> Iterator[Callable[..., Tab]]:
    """A browser; call it with an address and context options for a new tab."""
    driver = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        _missing("Chromium is not installed (Debian: apt-get install chromium)")
    graphics = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    arguments = ["--no-sandbox", *(graphics if webgl else ["--disable-gpu", "--disable-3d-apis"])]
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)

        def open_tab(address: str, token: str, reader: str = "AB", **options: Any) -> Tab:
            context = browser.new_context(**{"viewport": {"width": 1366, "height": 768}, **options})
            page = context.new_page()
            tab = Tab(page, address, [], set())
            page.on("console", lambda message: _note(tab, message.type, message.text))
            page.on("request", lambda request: tab.asked.add(urlsplit(request.url).netloc))
            page.on("pageerror", lambda error: tab.complaints.append(str(error)))
            page.add_init_script(f"localStorage['isocenter.reader'] ??= '{reader}'")
            page.goto(f"{address}/#token={token}")
            page.wait_for_selector("tr[data-study]")
            return tab

        try:
            yield open_tab
        finally:
            browser.close()


def _note(tab: Tab, kind: str, text: str) -> None:
    if kind in ("error", "warning"):
        tab.complaints.append(text)
