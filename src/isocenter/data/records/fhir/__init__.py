"""FHIR R4 and R5 as JSON: Bundles, single resources, and one resource a line."""

from __future__ import annotations

from isocenter.data.records.fhir.read import read_fhir, stream_ndjson

__all__ = ["read_fhir", "stream_ndjson"]
