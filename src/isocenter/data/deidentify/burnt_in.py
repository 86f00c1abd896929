"""Text burnt into a picture: found by optical character recognition, by shape, and by where a kind of device writes it.

Recognition is Tesseract's (a program, optional). Without it, lines of glyphs are found by shape alone, and whoever
asked is told so.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import yaml
from jaxtyping import Shaped, UInt8
from PIL import Image as Picture

from isocenter.core.errors import CapabilityError, ConfigError
from isocenter.data.images.glyphs import text_lines

__all__ = ["NO_TESSERACT", "Box", "RegionRule", "has_tesseract", "read_rules", "region_boxes", "text_boxes"]

NO_TESSERACT = "Tesseract is not installed: burnt-in text was looked for by shape alone"
_LEAST_CONFIDENCE = 35.0
_DRAWN = (230, 160)
_BRIGHT_GROUND = 140.0
_SECONDS = 60
_ENOUGH_PIXELS = 1400


@dataclass(frozen=True)
class Box:
    """Part of a picture: rows [top, bottom) and columns [left, right).

    Args:
        top: First row.
        left: First column.
        bottom: After the last row.
        right: After the last column.
        found_by: "ocr", "shape" or the name of a rule.
    """

    top: int
    left: int
    bottom: int
    right: int
    found_by: str = ""

    def grown(self, rows: int, columns: int) -> Box:
        """Return the box with a margin, inside a picture of so many rows and columns."""
        margin = max(2, round(0.25 * (self.bottom - self.top)))
        return Box(
            max(0, self.top - margin),
            max(0, self.left - margin),
            min(rows, self.bottom + margin),
            min(columns, self.right + margin),
            self.found_by,
        )


@dataclass(frozen=True)
class RegionRule:
    """Where a kind of device writes text.

    Args:
        name: For the leak report.
        when: Header keyword -> regular expression, all of which must be found in it (a list is joined by
            backslashes).
        boxes: (top, left, bottom, right) as shares of the height and width, 0 to 1.
    """

    name: str
    when: tuple[tuple[str, str], ...]
    boxes: tuple[tuple[float, float, float, float], ...]

    def fits(self, header: Any) -> bool:
        """Tell whether a header is of this kind."""
        return all(re.search(wanted, _joined(header.get(keyword)), re.IGNORECASE) for keyword, wanted in self.when)


def _joined(value: object) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, str) or not isinstance(value, Sequence) else "\\".join(map(str, value))


def read_rules(text: str) -> tuple[RegionRule, ...]:
    """Read rules from YAML: a list of {name, when: {keyword: pattern}, boxes: [[top, left, bottom, right]]}.

    Raises:
        ConfigError: Not such a list, a pattern that is none, or a box that does not lie inside the picture.
    """
    try:
        entries = yaml.safe_load(text)
        rules = []
        for entry in entries:
            boxes = tuple(tuple(float(edge) for edge in box) for box in entry["boxes"])
            when = tuple((str(keyword), str(wanted)) for keyword, wanted in entry["when"].items())
            for top, left, bottom, right in boxes:
                if not (0 <= top < bottom <= 1 and 0 <= left < right <= 1):
                    raise ConfigError(
                        f"rule {entry['name']!r}: a box is (top, left, bottom, right) in shares from 0 to 1"
                    )
            for _, wanted in when:
                re.compile(wanted)
            rules.append(RegionRule(str(entry["name"]), when, tuple((b[0], b[1], b[2], b[3]) for b in boxes)))
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError, re.error) as error:
        raise ConfigError(f"rules for burnt-in text cannot be read ({type(error).__name__})") from error
    return tuple(rules)


@cache
def shipped_rules() -> tuple[RegionRule, ...]:
    """Return the rules that come with the package (`burnt_in.yaml`)."""
    return read_rules(files("isocenter.data.deidentify").joinpath("burnt_in.yaml").read_text("utf-8"))


def region_boxes(header: Any, rules: tuple[RegionRule, ...] | None = None) -> tuple[Box, ...]:
    """Return what the rules say of a header, and for ultrasound what lies above all its regions.

    Args:
        header: A pydicom data set.
        rules: None takes those of the package.

    Source:
        DICOM PS3.3 C.8.5.5 (US Region Calibration): what is outside of the regions is not of the patient's body.
    """
    rows, columns = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
    out = []
    for rule in shipped_rules() if rules is None else rules:
        if rule.fits(header):
            for top, left, bottom, right in rule.boxes:
                box = Box(int(top * rows), int(left * columns), round(bottom * rows), round(right * columns), rule.name)
                out.append(box)
    regions = header.get("SequenceOfUltrasoundRegions") or ()
    tops = [int(region.get("RegionLocationMinY0", 0)) for region in regions]
    if tops and 0 < min(tops) < rows:
        out.append(Box(0, 0, min(tops), columns, "above all ultrasound regions"))
    return tuple(out)


def has_tesseract() -> bool:
    """Tell whether the program is installed."""
    return shutil.which("tesseract") is not None


def text_boxes(picture: Shaped[np.ndarray, "y x"], *, ocr: bool | None = None) -> tuple[Box, ...]:
    """Find text.

    Args:
        picture: Grey values; text may be bright or dark.
        ocr: Recognise characters; None does where Tesseract is installed.

    Returns:
        Boxes with a margin; every line of text, whatever it says.

    Raises:
        CapabilityError: Recognition is asked for, and Tesseract is not installed.
    """
    rows, columns = picture.shape
    grey = _eight_bits(picture)
    lines = text_lines(grey.astype(np.float32))
    lines += text_lines(np.where(grey >= _DRAWN[0], 1, 0).astype(np.float32))
    found = [Box(line.top, line.left, line.bottom, line.right, "shape") for line in lines]
    if ocr or (ocr is None and has_tesseract()):
        # Text is usually drawn at the very end of the range: alone on white, it is read where speckle would hide it.
        bright = grey if grey.mean() < _BRIGHT_GROUND else 255 - grey
        found += _recognised(255 - bright)
        for least in _DRAWN:
            found += _recognised(np.where(bright >= least, 0, 255).astype(np.uint8))
    return tuple(dict.fromkeys(box.grown(rows, columns) for box in found))


def _eight_bits(picture: Shaped[np.ndarray, "y x"]) -> UInt8[np.ndarray, "y x"]:
    """Scale to 0 to 255; burnt-in text is at the end of the range, so nothing is cut off."""
    values = picture.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    return ((values - low) * (255.0 / max(high - low, 1e-6))).astype(np.uint8)


def _recognised(grey: UInt8[np.ndarray, "y x"]) -> list[Box]:
    program = shutil.which("tesseract")
    if program is None:
        raise CapabilityError("recognising text needs Tesseract (Debian: apt install tesseract-ocr)")
    scale = max(1, min(4, round(_ENOUGH_PIXELS / max(grey.shape))))
    image = Picture.fromarray(grey)
    if scale > 1:
        image = image.resize((image.width * scale, image.height * scale), Picture.Resampling.BICUBIC)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    command = [program, "stdin", "stdout", "--psm", "11", "--dpi", "150", "-c", "tessedit_do_invert=0", "tsv"]
    try:
        done = subprocess.run(  # noqa: S603
            command,
            input=stream.getvalue(),
            capture_output=True,
            check=True,
            timeout=_SECONDS,
            env={"OMP_THREAD_LIMIT": "1"},
        )
    except (subprocess.SubprocessError, OSError) as error:
        raise CapabilityError(f"Tesseract could not read a picture ({type(error).__name__})") from error
    boxes = []
    for line in done.stdout.decode("utf-8", "replace").splitlines()[1:]:
        cells = line.split("\t")
        if len(cells) < 12 or float(cells[10]) < _LEAST_CONFIDENCE:
            continue
        left, top, width, height = (int(cell) // scale for cell in cells[6:10])
        if sum(sign.isalnum() for sign in cells[11]) >= 2 and 4 <= height <= 0.2 * grey.shape[0] + 8:
            boxes.append(Box(top, left, top + height + 1, left + width + 1, "ocr"))
    return boxes
