"""Phenotype: numbers with units, measured in the segments of a mask."""

from __future__ import annotations

from isocenter.tasks.phenotype.features import RadiomicFeature, RegionFeatures, radiomic_features
from isocenter.tasks.phenotype.measure import measure
from isocenter.tasks.phenotype.settings import Discretisation, FeatureSettings

__all__ = ["Discretisation", "FeatureSettings", "RadiomicFeature", "RegionFeatures", "measure", "radiomic_features"]
