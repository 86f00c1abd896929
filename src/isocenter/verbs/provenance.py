"""What is needed to repeat a result: versions, hashes of what went in, and the one clock that is asked.

People name files and folders after patients. What is shared (`result.json`, `report.html`, `config.json`) therefore
numbers the inputs, and one file beside it, `inputs.json`, says which number is which name: it stays where it is.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from isocenter.core import Study
from isocenter.data.images.study_files import Refusal
from isocenter.verbs.entries import file_sha256
from isocenter.verbs.result import InputFile, LeftOut, ResultDocument
from isocenter.version import __version__

__all__ = [
    "LOCAL_FILE",
    "InputNames",
    "code_version",
    "created_now",
    "input_files",
    "left_out_here",
    "machine",
    "package_versions",
    "python_version",
]

LOCAL_FILE = "inputs.json"
"""Name of the file in the result's folder that holds names and paths; not to be shared."""

_PACKAGES = ("numpy", "scipy", "pydicom", "highdicom", "nibabel", "SimpleITK", "python-gdcm", "torch")
"""Those that touch pixels or geometry."""
_FREE_TEXT = frozenset({"abstained", "detail", "notes", "reason", "what", "where", "why"})
_SHORTEST_NAME = 3
"""A name of one or two characters names nobody, and would be found in every sentence."""


def created_now() -> str:
    """Return the time, UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).replace(microsecond=0).isoformat()


def python_version() -> str:
    """Return the implementation and version of Python."""
    return f"{platform.python_implementation()} {platform.python_version()}"


def package_versions(names: Sequence[str] | None = None) -> dict[str, str]:
    """Return the versions of packages; one that is not installed is left out.

    Args:
        names: Which; None for those that touch pixels or geometry.
    """
    found = {}
    for name in _PACKAGES if names is None else names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """Describe the machine in one line, without naming it."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    return f"{model}, {os.cpu_count()} cores, {platform.system()}"


def code_version() -> dict[str, Any]:
    """Return the version of this package and, where it runs from a git checkout of its own, the commit.

    `changed` says whether a file of the package differs from the commit; both are None elsewhere.
    """
    found: dict[str, Any] = {"isocenter": __version__, "commit": None, "changed": None}
    folder, git = Path(__file__).resolve().parents[1], shutil.which("git")
    if git is None or _git(git, folder, "ls-files", "--error-unmatch", "version.py") is None:
        return found
    commit, changes = _git(git, folder, "rev-parse", "HEAD"), _git(git, folder, "status", "--porcelain", "--", ".")
    return {**found, "commit": commit, "changed": None if changes is None else bool(changes)}


def _git(git: str, folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603  # fixed arguments, nothing of the user's
            [git, "-C", str(folder), *arguments], capture_output=True, text=True, check=False, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


class InputNames:
    """Numbers that stand for the names of input files.

    Args:
        path: What was read.
        study: What came of it.
        refused: What was left out of it.
    """

    def __init__(self, path: Path, study: Study, refused: Sequence[Refusal] = ()) -> None:
        names = {name for image in study.images for name in image.source.files}
        names |= {name for mask in study.masks for name in mask.source.files}
        names |= {r.where for r in refused if not r.where.startswith("series ")}
        if not path.is_dir():
            names.add(path.name)
        self._numbers = {name: f"input {n}" for n, name in enumerate(sorted(names), start=1)}
        hidden = {n: number for n, number in self._numbers.items() if len(n) >= _SHORTEST_NAME and n != "DICOMDIR"}
        hidden |= {str(p): "the input" for p in (path, path.absolute(), path.resolve()) if len(p.parts) > 1}
        self._hidden = sorted(hidden.items(), key=lambda item: (-len(item[0]), item[0]))
        self._without = lru_cache(maxsize=1024)(self._replaced)

    def number(self, name: str) -> str:
        """Return what stands for the name of a file; anything else without the names that it holds."""
        return self._numbers.get(name) or self._without(name)

    def hide(self, document: ResultDocument) -> ResultDocument:
        """Return the document with numbers for names wherever it holds free text; nothing else changes."""
        return ResultDocument.model_validate(self._hide(document.model_dump(), free=False))

    def local(self, **paths: Path | None) -> dict[str, Any]:
        """Return what the local file holds: the paths, and the name behind every number."""
        return {
            "keep": "Names of files and folders, which may name the patient. Do not share this file with the result.",
            **{what: None if place is None else str(place.absolute()) for what, place in paths.items()},
            "inputs": {number: name for name, number in self._numbers.items()},
        }

    def _hide(self, value: Any, *, free: bool) -> Any:
        if isinstance(value, dict):
            return {k: self._hide(v, free=k in _FREE_TEXT) for k, v in value.items()}
        if isinstance(value, tuple | list):
            return tuple(self._hide(v, free=free) for v in value)
        return self.number(value) if free and isinstance(value, str) else value

    def _replaced(self, text: str) -> str:
        for name, number in self._hidden:
            if name in text:
                # A whole name: not a part of a longer word, number, UID or path.
                text = re.sub(rf"(?<![\w/.-]){re.escape(name)}(?![\w/-]|\.\w)", number, text)
        return text


def input_files(path: Path, study: Study, names: InputNames) -> tuple[InputFile, ...]:
    """Return the hashes of the files that went in: the path itself if it is a file, else those behind the images."""
    if path.is_file():
        return (InputFile(name=names.number(path.name), sha256=file_sha256(path)),)
    found = sorted({name for image in study.images for name in image.source.files})
    return tuple(InputFile(name=names.number(n), sha256=file_sha256(path / n)) for n in found if (path / n).is_file())


def left_out_here(folder: Path) -> tuple[LeftOut, ...]:
    """Return what was left out, with the names that the user knows, from a result's local file."""
    local = json.loads((folder / LOCAL_FILE).read_text("utf-8"))
    return tuple(LeftOut(**item) for item in local["left_out"])
