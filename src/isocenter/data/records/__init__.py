"""Reports and clinical records from every form that hospitals send: HL7 v2, FHIR, DICOM SR, tables, text.

`read_records` tells the form by content and gives `Found`: patients, reports, records, labels, and what was refused and
why. Rows are identified, as the source has them.
"""

from __future__ import annotations

from isocenter.data.records.rows import (
    Found,
    Manifest,
    ManifestRow,
    RawLabel,
    RawPatient,
    RawRecord,
    RawReport,
    Refusal,
    merge,
)

__all__ = [
    "Found",
    "Manifest",
    "ManifestRow",
    "RawLabel",
    "RawPatient",
    "RawRecord",
    "RawReport",
    "Refusal",
    "merge",
]
