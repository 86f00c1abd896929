"""Reports and clinical records from every form that hospitals send: HL7 v2, FHIR, DICOM SR, tables, text.

`read_records` tells the form by content and gives `Found`: patients, reports, records, labels, and what was refused and
why. `stream_records` gives the same in parts, for files that do not fit into memory. Rows are identified, as the source
has them.
"""

from __future__ import annotations

from isocenter.data.records.options import ReadOptions
from isocenter.data.records.read import Form, read_records, stream_records, tell_form
from isocenter.data.records.rows import (
    Found,
    Manifest,
    ManifestRow,
    RawLabel,
    RawPatient,
    RawRecord,
    RawReport,
    RawStudy,
    Refusal,
    merge,
)
from isocenter.data.records.tables.roles import ROLES

__all__ = [
    "ROLES",
    "Form",
    "Found",
    "Manifest",
    "ManifestRow",
    "RawLabel",
    "RawPatient",
    "RawRecord",
    "RawReport",
    "RawStudy",
    "ReadOptions",
    "Refusal",
    "merge",
    "read_records",
    "stream_records",
    "tell_form",
]
