"""Findings that can't wait: which of a result's measurements are beyond what the site calls critical."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from isocenter.core.errors import UnitsError
from isocenter.core.ucum import convert_units
from isocenter.verbs.result import MeasurementEntry, PredictionEntry, ResultDocument

__all__ = ["CriticalRule", "critical_findings"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class CriticalRule:
    """What is critical; see `CriticalConfig`."""

    task: str
    finding: str
    at_least: float | None = None
    at_most: float | None = None
    segment: str = ""
    unit: str = "1"

    def applies(self, prediction: PredictionEntry, measured: MeasurementEntry) -> bool:
        """Tell whether a measurement is critical; a derived one (a mean, say) counts as what it is derived from.

        A value in a unit that does not convert to the rule's is not compared, and the log says so.
        """
        if prediction.abstained is not None or prediction.task != self.task or measured.name.value != self.finding:
            return False
        labels = {s.label for s in prediction.segments if s.number == measured.segment}
        if self.segment and self.segment not in labels:
            return False
        try:
            value = float(convert_units(np.array([measured.value]), measured.unit.value, self.unit)[0])
        except UnitsError:
            _LOG.warning("critical: %s of %s is measured in %s, and its limit is in %s; it is not compared",
                         self.finding, self.task, measured.unit.value, self.unit)  # fmt: skip
            return False
        above = self.at_least is None or value >= self.at_least
        return above and (self.at_most is None or value <= self.at_most)


def critical_findings(result: ResultDocument, rules: Iterable[CriticalRule]) -> tuple[str, ...]:
    """Return what is critical in a result, in words without its numbers, each once.

    Args:
        result: The result.
        rules: What is critical.
    """
    rules = tuple(rules)
    found = [
        f"{prediction.task}: {measured.name.meaning}"
        for prediction in result.predictions
        for measured in prediction.measurements
        if any(rule.applies(prediction, measured) for rule in rules)
    ]
    return tuple(dict.fromkeys(found))
