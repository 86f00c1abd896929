"""Convolutional filters of images as IBSI-2 defines them: response maps that features are computed on."""

from __future__ import annotations

from isocenter.tasks.phenotype.filters.apply import Filter, response_map

__all__ = ["Filter", "response_map"]
