"""Findings that can't wait: which of a result's measurements are beyond what the site calls critical."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from isocenter.verbs.result import MeasurementEntry, PredictionEntry, ResultDocument

__all__ = ["CriticalRule", "critical_findings"]


@dataclass(frozen=True)
class CriticalRule:
    """What is critical; see `CriticalConfig`."""

    task: str
    finding: str
    at_least: float | None = None
    at_most: float | None = None
    segment: str = ""

    def applies(self, prediction: PredictionEntry, measured: MeasurementEntry) -> bool:
        """Tell whether a measurement is critical; a derived one (a mean, say) counts as what it is derived from."""
        if prediction.abstained is not None or prediction.task != self.task or measured.name.value != self.finding:
            return False
        labels = {s.label for s in prediction.segments if s.number == measured.segment}
        if self.segment and self.segment not in labels:
            return False
        above = self.at_least is None or measured.value >= self.at_least
        return above and (self.at_most is None or measured.value <= self.at_most)


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
