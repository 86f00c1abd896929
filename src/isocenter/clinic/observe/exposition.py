"""The text that Prometheus reads (text format 0.0.4), written from families of samples."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final, Literal

from isocenter.core.errors import DataError

__all__ = ["CONTENT_TYPE", "Exposition"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class Exposition:
    """A text in the making.

    Example:
        >>> made = Exposition()
        >>> made.family("studies", "gauge", "Studies by state.")
        >>> made.sample({"state": "failed"}, 3)
        >>> print(made.text(), end="")
        # HELP studies Studies by state.
        # TYPE studies gauge
        studies{state="failed"} 3
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._names: set[str] = set()
        self._name = ""

    def family(self, name: str, kind: Literal["counter", "gauge", "histogram"], told: str) -> None:
        """Begin a family.

        Args:
            name: A counter's ends in _total.
            kind: What it is.
            told: What it says, on one line.

        Raises:
            DataError: The name is none, or was there before: its samples must stand together.
        """
        if not _NAME.fullmatch(name) or name in self._names:
            raise DataError(f"{name!r} is no name of a metric, or was there before")
        if kind == "counter" and not name.endswith("_total"):
            raise DataError(f"the counter {name!r} does not end in _total")
        self._names.add(name)
        self._name = name
        words = told.replace("\\", "\\\\").replace("\n", "\\n")
        self._lines += [f"# HELP {name} {words}", f"# TYPE {name} {kind}"]

    def sample(self, labels: Mapping[str, str], value: float, suffix: str = "") -> None:
        """Add a sample to the family that was begun last.

        Args:
            labels: By name; values are escaped.
            value: Of it.
            suffix: Of a histogram: "_bucket", "_sum" or "_count".

        Raises:
            DataError: A label's name is none.
        """
        for label in labels:
            if not _LABEL.fullmatch(label):
                raise DataError(f"{label!r} is no name of a label")
        inner = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        self._lines.append(f"{self._name}{suffix}{f'{{{inner}}}' if inner else ''} {_number(value)}")

    def text(self) -> str:
        """Return the text."""
        return "\n".join(self._lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(float(value))
