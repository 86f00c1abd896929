"""Phenotype: numbers with units, measured in the segments of a mask."""

from __future__ import annotations

from isocenter.tasks.phenotype.measure import measure

__all__ = ["measure"]
