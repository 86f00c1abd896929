"""Read the real images that come inside the dependencies, with prepared prompts, and show the page.

Nothing is downloaded: every image is a file of an installed package (`cases.json` says which, with its credit and
licence), and so anybody sees on their own machine what the reading of a study gives. A case whose package is not
installed is left out, and the page says so.
"""

from __future__ import annotations

import json
import os
import sys
import webbrowser
from collections.abc import Callable
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from isocenter.core.errors import CapabilityError, ConfigError
from isocenter.data.images.atomic import atomic_folder
from isocenter.verbs.prompts import Target
from isocenter.verbs.read import ReadConfig, run
from isocenter.verbs.report import IndexEntry, index_html
from isocenter.verbs.report.words import figure, unit
from isocenter.verbs.result import ResultDocument

__all__ = ["DemoCase", "DemoDocument", "DemoOutcome", "cases", "demo"]

_MARKER = "demo.json"


class DemoCase(BaseModel):
    """One prepared image.

    Attributes:
        name: Name of its folder in the result.
        title: What it is.
        package: Import name of the package that carries the image.
        file: Path inside the package.
        credit: Whose image it is, and under which licence.
        modality: Stated because the file says none; null where its header does.
        body_part: The same.
        targets: Prompts, as in a prompt file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    package: str
    file: str
    credit: str
    modality: str | None = None
    body_part: str | None = None
    targets: tuple[Target, ...] = ()

    def path(self) -> Path | None:
        """Return the image's path, None where the package is not installed or does not carry it."""
        spec = find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            return None
        # The package is found, not imported: some take seconds to import.
        path = Path(next(iter(spec.submodule_search_locations))) / self.file
        return path if path.is_file() else None


class DemoOutcome(BaseModel):
    """What came of one case; `result` is its folder, null when it was left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    outcome: str
    result: str | None


class DemoDocument(BaseModel):
    """What the demo did, and the page to open."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    page: str
    cases: tuple[DemoOutcome, ...]


def cases() -> tuple[DemoCase, ...]:
    """Return the prepared cases."""
    text = (files("isocenter.verbs.demo") / "cases.json").read_text("utf-8")
    return tuple(DemoCase.model_validate(case) for case in json.loads(text)["cases"])


def demo(
    out: Path | str = "isocenter-demo",
    *,
    open_page: bool = False,
    progress: Callable[[str, float], None] | None = None,
) -> DemoDocument:
    """Read the prepared images and write a page that links their reports.

    Args:
        out: Folder to write. An older demo there is replaced; anything else is not.
        open_page: Whether to open the page in a browser, where there is a screen.
        progress: Called with the stage and how much is done.

    Returns:
        What came of each case.

    Raises:
        CapabilityError: No package that carries an image is installed.
        ConfigError: Something that is not a demo stands under `out`.
        DataError: The result can't be written.
    """
    tell = progress or (lambda _stage, _done: None)
    final = Path(out).absolute()
    if final.is_dir() and any(final.iterdir()) and not (final / _MARKER).is_file():
        raise ConfigError(f"{out} is not empty and holds no demo; choose another folder with --out")
    ready = cases()
    if not any(case.path() for case in ready):
        raise CapabilityError("no package with demo images is installed: pip install 'isocenter[demo]'")
    outcomes, entries = [], []
    with atomic_folder(final, replace=True) as folder:
        for number, case in enumerate(ready):
            tell(case.title, number / len(ready))
            path = case.path()
            if path is None:
                missing = f"left out: the package {case.package} is not installed: pip install 'isocenter[demo]'"
                outcomes.append(DemoOutcome(name=case.name, title=case.title, outcome=missing, result=None))
                continue
            result = _read(case, path, folder)
            entries.append(_entry(case, result, folder))
            outcomes.append(DemoOutcome(name=case.name, title=case.title, outcome=_sentence(result), result=case.name))
        lead = (
            "Real images that come inside open-source packages, read on this machine with prepared prompts. "
            "For research; not a medical device."
        )
        (folder / "index.html").write_text(index_html(entries, lead=lead), "utf-8")
        document = DemoDocument(page=str(final / "index.html"), cases=tuple(outcomes))
        (folder / _MARKER).write_text(document.model_dump_json(indent=2) + "\n", "utf-8")
    tell("done", 1.0)
    if open_page and _has_screen():
        webbrowser.open((final / "index.html").as_uri())
    return document


def _has_screen() -> bool:
    """Tell whether a browser can be shown; without a screen `webbrowser` might start one in the terminal and wait."""
    return sys.platform in ("darwin", "win32") or any(os.environ.get(n) for n in ("DISPLAY", "WAYLAND_DISPLAY"))


def _read(case: DemoCase, path: Path, folder: Path) -> ResultDocument:
    prompts = folder / f"{case.name}.prompts.json"
    body: dict[str, Any] = {
        "prompts_version": "1.0",
        "targets": [t.model_dump(mode="json", exclude_none=True) for t in case.targets],
    }
    if case.targets:
        prompts.write_text(json.dumps(body, indent=2) + "\n", "utf-8")
    config = ReadConfig(
        path=path,
        out=folder / case.name,
        prompts=prompts if case.targets else None,
        modality=case.modality,
        body_part=case.body_part,
    )
    return run(config)


def _entry(case: DemoCase, result: ResultDocument, folder: Path) -> IndexEntry:
    preview = folder / case.name / "preview.png"
    return IndexEntry(
        title=case.title,
        href=f"{case.name}/report.html",
        summary=_sentence(result),
        thumbnail_png=preview.read_bytes() if preview.is_file() else b"",
        facts=tuple(_facts(result)),
        credit=case.credit,
    )


def _facts(result: ResultDocument) -> list[tuple[str, str]]:
    """Return the size of each segment: its first measurement."""
    facts = []
    for answer in result.answered:
        for segment in answer.segments:
            size = next((m for m in answer.measurements if m.segment == segment.number), None)
            if size is not None:
                facts.append((segment.label, f"{figure(size.value)} {unit(size.unit.value)}"))
    return facts


def _sentence(result: ResultDocument) -> str:
    labels = [s.label for answer in result.answered for s in answer.segments]
    abstained = sum(p.abstained is not None for p in result.predictions)
    outlined = f"Outlined: {', '.join(labels)}." if labels else "Nothing was outlined."
    return f"{outlined} {abstained} tasks abstained, with their reasons." if abstained else outlined
