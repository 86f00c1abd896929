"""How fast the viewer is, in a real browser: click to drawn mask, study to first picture, page weight, eight at once.

    python -m benchmarks.viewer_latency [--clicks 20]

Writes docs/results/viewer.md. Chromium is driven by Playwright and draws 3D by SwiftShader. The pictures come inside
the dependencies (a retina of scikit-image, the MNI152 template of nilearn); the CT of 300 slices is made.
"""

from __future__ import annotations

import argparse
import datetime
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import nilearn.datasets
import numpy as np
import skimage
from PIL import Image as Picture
from playwright.sync_api import Page, sync_playwright

from benchmarks.__main__ import machine
from isocenter.client import Client
from isocenter.core import Geometry, Image, Quantity
from isocenter.core.errors import IsocenterError
from isocenter.testing.dicom_phantom import write_ct_series

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "results" / "viewer.md"
TOKEN = "a-token-of-the-benchmark"
_DRAWN = """(number) => {
  const entry = performance.getEntriesByName("isocenter.click-to-drawn")[number];
  return {ms: entry.duration, server: entry.detail?.total ?? NaN};
}"""
_FIRST_PICTURE = """async (study) => {
  const begin = performance.now();
  document.querySelector(`tr[data-study='${study}']`).click();
  for (;;) {
    await new Promise(requestAnimationFrame);
    if (performance.now() - begin > 60000) return -1;
    const canvas = document.querySelector("[data-plane=axial] canvas, [data-plane=stored] canvas");
    if (!canvas || !canvas.width) continue;
    const [w, h] = [canvas.width, canvas.height];
    const {data} = canvas.getContext("2d").getImageData(w / 4, h / 4, w / 2, h / 2);
    for (let i = 0; i < data.length; i += 64) if (data[i] > 40) return performance.now() - begin;
  }
}"""


def write_studies(folder: Path) -> None:
    """Write the three studies."""
    picture = Picture.open(Path(skimage.__file__).parent / "data" / "retina.jpg").convert("L").resize((512, 512))
    (folder / "retina").mkdir(parents=True)
    picture.save(folder / "retina" / "retina.png")
    brain = next((Path(nilearn.datasets.__file__).parent / "data").glob("mni_icbm152_t1*.nii.gz"))
    (folder / "brain").mkdir()
    shutil.copy(brain, folder / "brain" / "brain.nii.gz")
    shape = (300, 512, 512)
    rng = np.random.default_rng(20261127)
    z, y, x = np.ogrid[:300, :512, :512]
    values = np.full(shape, -1000, dtype=np.int16)
    values[:, (((y - 256) / 190) ** 2 + ((x - 256) / 230) ** 2 < 1)[0]] = 40
    for side in (150, 362):
        values[((y - 240) / 90) ** 2 + ((x - side) / 60) ** 2 + ((z - 150) / 120) ** 2 < 1] = -850
    values[((y - 250) / 14) ** 2 + ((x - 362) / 14) ** 2 + ((z - 150) / 9) ** 2 < 1] = 60
    values += rng.integers(-25, 25, shape, dtype=np.int16)
    geometry = Geometry.axial(shape, spacing_mm=(1.25, 0.7, 0.7), origin_mm=(-179.0, -179.0, -187.0))
    write_ct_series(folder / "ct", Image(values[None], geometry, Quantity.HU, "CT"))


@contextmanager
def serving(folder: Path, work: Path) -> Iterator[str]:
    """A server of its own; its address."""
    limits = ["--port", "0", "--sessions", "12"]
    command = [sys.executable, "-m", "isocenter.cli", "serve", str(folder), "--work", str(work), *limits]
    token = work.parent / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    with subprocess.Popen(
        [*command, "--token-file", str(token)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            if process.stdout is None:
                raise RuntimeError("no standard output")
            yield process.stdout.readline().strip().partition("/#")[0]
        finally:
            process.terminate()


def until(page: Page, expression: str, seconds: float = 120.0) -> None:
    """Wait until JavaScript is true; the page's policy forbids evaluating text in it."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        if time.monotonic() > end:
            raise TimeoutError(expression)
        page.wait_for_timeout(20)


def clicks(page: Page, count: int, rng: np.random.Generator) -> list[dict[str, float]]:
    """Click at random places of the middle of a plane, each in a fresh outline; what the page measured of each."""
    box = page.locator("[data-plane=axial] canvas, [data-plane=stored] canvas").first.bounding_box()
    if box is None:
        raise LookupError("no plane")
    found = []
    for number in range(count):
        x, y = rng.uniform(0.35, 0.65, 2)
        page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
        until(page, f"performance.getEntriesByName('isocenter.click-to-drawn').length > {2 * number}")
        found.append(page.evaluate(_DRAWN, 2 * number))
        page.keyboard.press("u")
        until(page, f"performance.getEntriesByName('isocenter.click-to-drawn').length > {2 * number + 1}")
    return found


def together(address: str, word: tuple[int, int, int], sessions: int, count: int, pause_s: float = 2.0) -> list[float]:
    """Click in several sessions at once, each with a pause after an answer; milliseconds of each."""
    took: list[float] = []
    failed: list[BaseException] = []

    def work(number: int) -> None:
        rng = np.random.default_rng(number)
        with Client(f"{address}/#token={TOKEN}", reader=f"R{number}") as client:
            images = [i for s in client.studies().items for i in client.study(s.id).images if i.shape_zyx == word]
            with client.session(f"thing {number}") as session:
                session.open(images[0])
                for _ in range(count):
                    at = tuple((rng.uniform(0.35, 0.65, 3) * (np.asarray(images[0].shape_zyx) - 1)).tolist())
                    began = time.perf_counter()
                    session.point(at, frame="index_zyx")
                    took.append(1000 * (time.perf_counter() - began))
                    session.clear()
                    time.sleep(pause_s * rng.uniform(0.5, 1.5))

    def guarded(number: int) -> None:
        try:
            work(number)
        except (IsocenterError, LookupError) as error:  # a thread's failure must not pass for speed
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(n,)) for n in range(sessions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return took


def weight(page: Page) -> int:
    """Bytes that were fetched of the page itself, as sent."""
    return int(page.evaluate(
        "performance.getEntriesByType('resource').concat(performance.getEntriesByType('navigation'))"
        ".filter(e => !e.name.includes('/api/')).reduce((sum, e) => sum + e.encodedBodySize, 0)"
    ))  # fmt: skip


def quantiles(values: Sequence[float]) -> str:
    """p50 / p95, in whole milliseconds."""
    return f"{np.median(values):.0f} / {np.quantile(values, 0.95):.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--clicks", type=int, default=20)
    count = parser.parse_args().clicks
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    shapes: dict[str, tuple[int, int, int] | None] = {
        "picture, 512 x 512": (1, 512, 512),
        "brain, 197 x 233 x 189": None,
        "CT, 300 x 512 x 512": (300, 512, 512),
    }
    rows: list[str] = []
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        folder = Path(temporary)
        write_studies(folder / "in")
        graphics = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        browser = playwright.chromium.launch(executable_path=chromium, args=graphics)
        opened: dict[str, list[float]] = {}
        for attempt in range(3):
            with serving(folder / "in", folder / f"cold{attempt}") as address:
                page = browser.new_page(viewport={"width": 1366, "height": 768})
                page.add_init_script("localStorage.setItem('isocenter.reader', 'AB')")
                for name in shapes:
                    row = study_row(page, address, name)
                    took = page.evaluate(_FIRST_PICTURE, row)
                    if took < 0:
                        raise TimeoutError(f"{name}: no picture within a minute")
                    opened.setdefault(name, []).append(took)
                    print(name, "opened", opened[name][-1], flush=True)
                light = weight(page)
                page.close()
        with serving(folder / "in", folder / "work") as address:
            for name in shapes:
                page = browser.new_page(viewport={"width": 1366, "height": 768})
                page.add_init_script("localStorage.setItem('isocenter.reader', 'AB')")
                found = click_in(page, address, name, count)
                page.close()
                ms, server = [c["ms"] for c in found], [c["server"] for c in found]
                shape = shapes[name] or brain_shape(address)
                print(name, quantiles(ms), quantiles(server), [round(m) for m in ms], flush=True)
                one = together(address, shape, 1, count)
                few = max(2, count // 4)
                eight, hasty = together(address, shape, 8, few), together(address, shape, 8, few, 0.5)
                ratios = [np.quantile(many, 0.95) / np.quantile(one, 0.95) for many in (eight, hasty)]
                cold = np.median(opened[name])
                cells = (f"{cold:.0f}", *map(quantiles, (ms, server, one, eight, hasty)), *(f"{r:.1f}" for r in ratios))
                rows.append(f"| {name} | {' | '.join(cells)} |")
                print(rows[-1], flush=True)
        version = browser.version
        browser.close()
    heavy = sum(f.stat().st_size for f in (ROOT / "src/isocenter/viewer/page/assets").glob("niivue-*.js"))
    PAGE.write_text("\n".join([*head(count, version), *rows, "", *foot(light, heavy)]) + "\n", "utf-8")


def study_row(page: Page, address: str, name: str) -> str:
    """Open the list; return which of the studies it is."""
    page.goto(f"{address}/#token={TOKEN}")
    page.wait_for_selector("tr[data-study]")
    until(page, "document.querySelectorAll('tr[data-study]').length >= 3")
    with Client(f"{address}/#token={TOKEN}", reader="AB") as client:
        for study in client.studies().items:
            depth = client.study(study.id).images[0].shape_zyx[0]
            if depth == {"p": 1, "C": 300}.get(name[0], depth) and (name[0] != "b" or depth not in (1, 300)):
                page.wait_for_selector(f"tr[data-study='{study.id}']")
                return str(study.id)
    raise LookupError(name)


def brain_shape(address: str) -> tuple[int, int, int]:
    """Return the shape of the template."""
    with Client(f"{address}/#token={TOKEN}", reader="AB") as client:
        shapes = [i.shape_zyx for s in client.studies().items for i in client.study(s.id).images]
    return next(s for s in shapes if s[0] not in (1, 300))


def click_in(page: Page, address: str, name: str, count: int) -> list[dict[str, float]]:
    """Open a study and click in it."""
    page.evaluate(_FIRST_PICTURE, study_row(page, address, name))
    until(page, "document.querySelector('progress.loading').value === 1")
    page.keyboard.press("r")
    page.keyboard.type("thing")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    until(page, "document.querySelector('.state').textContent.startsWith('Marking')")
    page.keyboard.press("p")
    return clicks(page, count, np.random.default_rng(20261127))


def head(count: int, version: str) -> list[str]:
    """What stands above the table."""
    return [
        "# The viewer in a browser",
        "",
        f"`python -m benchmarks.viewer_latency`, {datetime.date.today().isoformat()}, {machine()};",
        f"Chromium {version} on the same two cores as the server, 1366 x 768, 3D drawn by SwiftShader.",
        "",
        "Opened: from the click in the list of a server that was just started to the first picture on the screen",
        f"(median of 3). Click: from the click to the drawn mask, {count} first clicks at random places of the middle,",
        "each taken back; p50 / p95. Server: of that, what the server took. One and eight: the same by the client, by",
        "one person or eight at once, each with a pause of 1 to 3 s between an answer and the next click, as people",
        "have; in haste, a quarter to three quarters of a second. All in milliseconds; ratios of p95.",
        "",
        "| image | opened | click to drawn | server | one session | eight at once | in haste | ratio | in haste |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip


def foot(light: int, heavy: int) -> list[str]:
    """What stands below the table."""
    return [
        f"Page weight: {light / 1000:.0f} kB for the list and a study with its panels; the 3D view brings",
        f"{heavy / 1000:.0f} kB more when it is first asked for. Nothing comes from elsewhere.",
        "",
        "For scale, measured elsewhere on two cores: a UNet of ScribblePrompt's size takes 188 ms for 128 x 128 in",
        "torch, 114 ms in OpenVINO; SAM ViT-B 8.8 s to encode an image and 69 ms a click.",
    ]


if __name__ == "__main__":
    main()
