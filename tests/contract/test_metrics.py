"""Every registered metric is on its reference page and the other way round, loads, and takes the reference first."""

from __future__ import annotations

import inspect
import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
METRICS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]["isocenter.metrics"]
ANSWERS = {
    "prediction",
    "scores",
    "probability",
    "said",
    "found",
    "answer",
    "answers",
    "similarity",
    "risk",
    "survival",
}


def test_the_page_holds_every_metric_once_and_no_other() -> None:
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text("utf-8")
    told = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert sorted(told) == sorted(METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_loads_says_what_it_does_and_takes_the_reference_first(name: str) -> None:
    module, attribute = METRICS[name].split(" ")[0].split(":")
    metric = getattr(import_module(module), attribute)
    assert attribute in import_module(module).__all__
    assert metric.__doc__
    assert "Raises:" in metric.__doc__ or name in ("rouge_l", "report_agreement")
    assert next(iter(inspect.signature(metric).parameters)) not in ANSWERS
