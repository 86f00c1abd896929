"""The tables of a catalog: what their columns are called, what they hold, and in which order rows stand.

Nothing in a catalog identifies a person: keys are keyed hashes, dates are shifted, text is cleaned. No row holds a
clock, a path outside of the archive, or an order of arrival, so equal sources give equal tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

__all__ = ["INSTANCE_COLUMNS", "LABEL_COLUMNS", "RECORD_COLUMNS", "REPORT_COLUMNS", "TABLES", "Table", "arrow_type"]

Type = Literal["text", "integer", "number", "date", "boolean"]


@dataclass(frozen=True)
class Table:
    """One table of the catalog.

    Args:
        columns: Types by name, in order.
        order: Columns that rows are sorted by; they tell rows apart.
        about: What a row is.
    """

    columns: Mapping[str, Type]
    order: tuple[str, ...]
    about: str


def _columns(text: str) -> Mapping[str, Type]:
    out: dict[str, Type] = {}
    names: dict[str, Type] = {"t": "text", "i": "integer", "n": "number", "d": "date", "b": "boolean"}
    for word in text.split():
        name, _, kind = word.partition(":")
        out[name] = names[kind or "t"]
    return MappingProxyType(out)


INSTANCE_COLUMNS = _columns(
    """
    sop_uid series_uid study_uid patient_key patient_from collection sex age_years:n form role modality modality_from
    sop_class image_type body_part laterality view study_date:d study_description series_description protocol
    manufacturer model field_strength_t:n kvp:n repetition_time_ms:n echo_time_ms:n contrast:b kernel rows:i
    columns:i frames:i samples:i bits_stored:i photometric transfer_syntax lossy:b
    pixel_spacing_y_mm:n pixel_spacing_x_mm:n slice_thickness_mm:n spacing_between_slices_mm:n slice_position_mm:n
    orientation frame_uid series_number:i
    instance_number:i accession_key burned_in path member bytes:i header_sha256 pixel_sha256
    """
)
"""One image, mask, report object or other object: a DICOM instance, or a file that is none."""

REPORT_COLUMNS = _columns(
    """
    report_key patient_key study_uid accession_key collection date:d language title status form text sha256
    """
)
RECORD_COLUMNS = _columns(
    """
    record_key patient_key study_uid accession_key collection kind system code display number:n unit text value_system
    value_code value_time time status form
    """
)
LABEL_COLUMNS = _columns(
    """
    patient_key study_uid series_uid sop_uid report_key name value number:n kind rater form path
    """
)

TABLES: Mapping[str, Table] = MappingProxyType(
    {
        "patients": Table(
            _columns("patient_key sex patient_from studies:i series:i instances:i reports:i records:i held"),
            ("patient_key",),
            "a person, or who stands for one where a set names none",
        ),
        "studies": Table(
            _columns(
                "study_uid patient_key study_date:d study_description accession_key modalities series:i instances:i "
                "reports:i age_years:n sex held"
            ),
            ("study_uid", "patient_key"),
            "a study: DICOM's, or all files of one case",
        ),
        "series": Table(
            _columns(
                "series_uid study_uid patient_key collection modality modality_from role form body_part laterality "
                "view series_description protocol manufacturer model field_strength_t:n kvp:n repetition_time_ms:n "
                "echo_time_ms:n contrast:b kernel rows:i columns:i instances:i frames:i pixel_spacing_y_mm:n "
                "pixel_spacing_x_mm:n slice_thickness_mm:n spacing_mm:n orientation frame_uid series_number:i bytes:i "
                "held"
            ),
            ("series_uid", "study_uid", "patient_key"),
            "a series: DICOM's, or one file that is none",
        ),
        "instances": Table(
            MappingProxyType({**INSTANCE_COLUMNS, "held": "text"}),
            ("sop_uid", "header_sha256", "pixel_sha256", "path", "member"),
            "an instance: DICOM's, or one image of a file that is none",
        ),
        "reports": Table(
            MappingProxyType({**REPORT_COLUMNS, "study_from": "text", "held": "text"}),
            ("report_key", "sha256"),
            "a report, as cleaned text",
        ),
        "records": Table(
            RECORD_COLUMNS,
            ("patient_key", "record_key", "kind", "system", "code", "time", "number", "text"),
            "a laboratory value, condition, procedure, medication, or cell of a clinical table",
        ),
        "labels": Table(
            LABEL_COLUMNS,
            ("patient_key", "series_uid", "sop_uid", "report_key", "name", "value", "kind", "rater", "path"),
            "what somebody said of an image or report: a class, finding, number, mask or box",
        ),
        "splits": Table(
            _columns("cohort patient_key split from_source:b"),
            ("cohort", "patient_key", "split"),
            "the part of a set that its makers, or a cohort, put a patient into",
        ),
    }
)


def arrow_type(kind: Type) -> str:
    """Return the name of the Arrow type of a column.

    Example:
        >>> arrow_type("number")
        'double'
    """
    return {"text": "string", "integer": "int64", "number": "double", "date": "date32[day]", "boolean": "bool"}[kind]
