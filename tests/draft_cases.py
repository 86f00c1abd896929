"""A study of a marked patient that was read, with a left adrenal gland outlined: what drafts are made of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import isocenter
from e2e.conftest import ct_image, marked
from isocenter.core.errors import NotFound
from isocenter.data.images import read_study
from isocenter.testing.dicom_phantom import write_ct_series
from isocenter.verbs.serving.drafts import ReadingPlace
from toy_plugin import install_toy

STUDY, CHEST = "a" * 16, "c" * 16
IMAGE = "b" * 16


def read_ct(folder: Path, patch: Callable[[str], None]) -> Path:
    """Read an oblique CT with the toy task, pointed at what is called a left adrenal gland; return the result."""
    patch(str(install_toy(folder / "toy", {"toy-point": "POINT"})))
    write_ct_series(folder / "study", ct_image(), change=marked)
    prompts = folder / "prompts.json"
    point = {"kind": "point", "coordinates": [[-20.0, 53.0, 120.0]]}
    target = {"label": "Left adrenal gland", "laterality": "left", "prompts": [point]}
    prompts.write_text(json.dumps({"prompts_version": "1.0", "targets": [target]}), "utf-8")
    isocenter.read(folder / "study", folder / "result", tasks=("toy-point",), prompts=prompts)
    return folder / "result"


def readings(
    result: Path, study: Path | None = None, chest: Path | None = None
) -> Callable[[str, str | None], ReadingPlace | None]:
    """Give readings as a server would: of a CT that came as DICOM, and of a chest radiograph that did not."""

    def found(name: str, reading: str | None = None) -> ReadingPlace | None:
        if reading is not None and reading not in ("d" * 16, "e" * 16):
            return None
        if name == STUDY:
            files = None if study is None else read_study(study)

            def headers(index: int) -> list:
                return [] if files is None or files.headers is None else files.headers.image(files.study.images[index])

            return ReadingPlace("d" * 16, result, {0: IMAGE}, headers)
        if name == CHEST and chest is not None:
            return ReadingPlace("e" * 16, chest, {0: "f" * 16})
        if name == "0" * 16:
            return None
        raise NotFound("there is no such study")

    return found
