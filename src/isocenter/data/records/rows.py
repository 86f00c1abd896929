"""The rows that every reader of reports and records gives: identified, as the source has them.

Nothing here is a pseudonym yet: who turns rows into an archive does that, by the roles of the fields. A person is named
by two texts, `issuer` and `identifier`: the number alone is not unique between two hospitals.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from isocenter.data.images.study_files import Refusal

__all__ = [
    "Found",
    "Kind",
    "Manifest",
    "ManifestRow",
    "RawLabel",
    "RawPatient",
    "RawRecord",
    "RawReport",
    "RawStudy",
    "Refusal",
    "Sex",
    "Status",
    "merge",
]

Sex = Literal["", "F", "M", "O"]
"""As DICOM has it; "" where it is not known."""
Status = Literal["", "registered", "preliminary", "final", "amended", "corrected", "appended", "cancelled", "withdrawn"]
"""Of a report or record: "" where the source says nothing. "withdrawn" was entered in error and is no statement."""
Kind = Literal["observation", "condition", "procedure", "medication", "table"]


@dataclass(frozen=True)
class RawPatient:
    """A person, as one source knows them.

    Args:
        issuer: Who gave the identifier (assigning authority, system URI, Issuer of Patient ID); "" where not said.
        identifier: The first identifier, never empty.
        other_identifiers: (issuer, identifier) of the others that the source gives for the same person.
        name: As DICOM writes it, whatever the source: "Family^Given^Middle^Prefix^Suffix".
        birth_date: "2024-01-31", "2024-01", "2024" or "".
        sex: F, M, O or "".
        deceased: Whether the person is known to have died; None where nothing is said.
        death_time: ISO 8601 of the precision known, or "".
        words: What else would name the person in free text: other names, address, telephone, relatives.
        form: "hl7", "fhir", "sr", "csv", ...
    """

    issuer: str
    identifier: str
    other_identifiers: tuple[tuple[str, str], ...] = ()
    name: str = ""
    birth_date: str = ""
    sex: Sex = ""
    deceased: bool | None = None
    death_time: str = ""
    words: tuple[str, ...] = ()
    form: str = ""


@dataclass(frozen=True)
class RawReport:
    """A report, as one source has it.

    Args:
        issuer: Of the patient's identifier.
        patient: The patient's identifier; "" where the source names none.
        sections: Name and text of each section, in order; "" as a name where the text is whole.
        accession: Accession number, "" where not said.
        accession_issuer: Who gave it.
        study_uid: Study Instance UID, "" where not said.
        time: When it was made or became valid: ISO 8601 of the precision known, or "".
        study_time: When the images that it speaks of were made, where the source says that; the same form.
        language: BCP 47 tag, "" where the source does not say.
        title: What it is called ("CT chest", "Radiology report").
        status: How far it is.
        form: "hl7", "fhir", "sr", "openi", "text", "csv", "parquet".
        identifier: By which the source knows the report (filler number, resource id, SOP Instance UID, row's id, name
            of the file).
        order: Number of the order (placer).
        amends: Identifier of the report that this one replaces or completes, "" for none.
        people: Names of persons in the source beside the patient (who read, who ordered): to be cleaned from text.
        images: Names or SOP Instance UIDs of images that it speaks of.
        inside: None where the source itself gave the identifier. Where it only tells a place (a line, a row, the name
            of the file), the file that it counts in, if that stands inside of an archive; "" for the file itself.
    """

    issuer: str
    patient: str
    sections: tuple[tuple[str, str], ...]
    accession: str = ""
    accession_issuer: str = ""
    study_uid: str = ""
    time: str = ""
    study_time: str = ""
    language: str = ""
    title: str = ""
    status: Status = ""
    form: str = ""
    identifier: str = ""
    order: str = ""
    amends: str = ""
    people: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    inside: str | None = None

    @property
    def text(self) -> str:
        r"""The whole text, each named section under its heading.

        Example:
            >>> RawReport("", "p", (("findings", "Clear."), ("impression", "Normal."))).text
            'findings: Clear.\n\nimpression: Normal.'
        """
        return "\n\n".join(f"{name}: {text}" if name else text for name, text in self.sections)


@dataclass(frozen=True)
class RawRecord:
    """One entry of a clinical record, as one source has it.

    Args:
        issuer: Of the patient's identifier.
        patient: The patient's identifier; "" where the source names none.
        kind: Observation, condition, procedure, medication, or a column of a table.
        code: Code of what is stated; a column's name in a table.
        system: Of the code: a URI (FHIR), a coding scheme (HL7 table 0396, DICOM designator), or "".
        display: The code in words.
        number: A number, None where the value is none. A value with a comparator ("<5") is text, not a number.
        unit: UCUM unit of the number; as the source has it where it is no UCUM; "" for none.
        text: The value in words where it is no number; the same code in words where it is coded.
        value_code: (system, code) of a coded value, None for others.
        value_time: The value where it is a date or a moment, ISO 8601; of a condition, when it ended.
        time: When it held or became known: ISO 8601 of the precision known, or "".
        status: How far it is.
        form: "hl7", "fhir", "sr", "csv", "parquet", "arff".
        identifier: By which the source knows it; several values of one entry share it.
        accession: Of the imaging study that it belongs to, "" where not said.
        study_uid: Of the same.
    """

    issuer: str
    patient: str
    kind: Kind
    code: str
    system: str = ""
    display: str = ""
    number: float | None = None
    unit: str = ""
    text: str = ""
    value_code: tuple[str, str] | None = None
    value_time: str = ""
    time: str = ""
    status: Status = ""
    form: str = ""
    identifier: str = ""
    accession: str = ""
    study_uid: str = ""


@dataclass(frozen=True)
class RawStudy:
    """What a source says of an imaging study that it does not hold: by this an accession number finds its images.

    Args:
        issuer: Of the patient's identifier.
        patient: The patient's identifier; "" where the source names none.
        study_uid: Study Instance UID, "" where not said.
        accession: Accession number, "" where not said.
        accession_issuer: Who gave it.
        time: When it began: ISO 8601 of the precision known, or "".
        description: In words.
        form: "fhir", ...
    """

    issuer: str
    patient: str
    study_uid: str = ""
    accession: str = ""
    accession_issuer: str = ""
    time: str = ""
    description: str = ""
    form: str = ""


@dataclass(frozen=True)
class RawLabel:
    """What somebody said of an image, a report or a study.

    Args:
        name: Of the label ("Cardiomegaly", "label", "MeSH").
        value: As the source has it ("1", "benign").
        issuer: Of the patient's identifier.
        patient: The patient's identifier, "" where not said.
        file: Image or report that it is of, as the source names it; "" for none.
        accession: Accession number, "" where not said.
        study_uid: Study Instance UID, "" where not said.
        rater: Who said it, "" where not said.
        kind: class, finding, number, mask or box.
        form: "csv", "openi", ...
        inside: Of the identifier of its report, as the report has it.
    """

    name: str
    value: str
    issuer: str = ""
    patient: str = ""
    file: str = ""
    accession: str = ""
    study_uid: str = ""
    rater: str = ""
    kind: Literal["class", "finding", "number", "mask", "box"] = "class"
    form: str = ""
    inside: str | None = None


@dataclass(frozen=True)
class ManifestRow:
    """One row of a table that names files.

    Args:
        file: As the table has it, "/" between folders; relative to the table.
        values: Of the other columns, by heading; empty cells are left out.
        patient: The patient's identifier, "" where no column says it.
        split: "train", "validation", "test" or what the table says; "" where it says nothing.
        mask: File of a mask, "" for none.
        line: In the table.
        words: What names the person in the row's other columns: to be cleaned from values.
    """

    file: str
    values: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    patient: str = ""
    split: str = ""
    mask: str = ""
    line: int = 0
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """A table whose rows are files: images, or reports by name.

    Args:
        source: The table, as it was given.
        file_column: Heading of the column of files.
        rows: In the order of the table.
        patient_column: Heading of the patients' column, "" for none.
        split_column: Heading of the split's column, "" for none.
        units: UCUM unit of columns that state one, by heading.
        roles: What each recognised column is, by heading ("age", "sex", "date", "text", ...); "moment" for another
            column of dates.
    """

    source: str
    file_column: str
    rows: tuple[ManifestRow, ...]
    patient_column: str = ""
    split_column: str = ""
    units: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    roles: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Found:
    """What a reader found: rows, and whatever it did not understand.

    Args:
        patients: Persons; the same person may stand several times, as often as the source says something of them.
        reports: Reports.
        records: Entries of clinical records.
        labels: Labels.
        manifests: Tables of files.
        refused: What is in none of the others, with place and reason; never a patient's value. "ignored" is what is of
            no use here (a resource of another kind), "refused" is what should have been readable.
        notes: What was decided on the way ("read as Windows-1252, a guess"), in words.
        studies: Imaging studies that are spoken of.
        suspicious: What is among the others and may say who somebody is, so that a person should look at it.
    """

    patients: tuple[RawPatient, ...] = ()
    reports: tuple[RawReport, ...] = ()
    records: tuple[RawRecord, ...] = ()
    labels: tuple[RawLabel, ...] = ()
    manifests: tuple[Manifest, ...] = ()
    refused: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()
    studies: tuple[RawStudy, ...] = ()
    suspicious: tuple[Refusal, ...] = ()

    def __bool__(self) -> bool:
        return any((self.patients, self.reports, self.records, self.labels, self.manifests, self.refused, self.studies))


def merge(parts: Iterable[Found]) -> Found:
    """Draw what was found in parts together, in order.

    Example:
        >>> merge([Found(notes=("a",)), Found(notes=("a", "b"))]).notes
        ('a', 'b')
    """
    kept = tuple(parts)
    return Found(
        tuple(row for part in kept for row in part.patients),
        tuple(row for part in kept for row in part.reports),
        tuple(row for part in kept for row in part.records),
        tuple(row for part in kept for row in part.labels),
        _joined(table for part in kept for table in part.manifests),
        tuple(row for part in kept for row in part.refused),
        tuple(dict.fromkeys(note for part in kept for note in part.notes)),
        tuple(row for part in kept for row in part.studies),
        tuple(row for part in kept for row in part.suspicious),
    )


def _joined(parts: Iterable[Manifest]) -> tuple[Manifest, ...]:
    """Draw the parts of one table together."""
    tables: dict[tuple[str, str], list[Manifest]] = {}
    for part in parts:
        tables.setdefault((part.source, part.file_column), []).append(part)
    return tuple(
        replace(same[0], rows=tuple(row for part in same for row in part.rows)) if len(same) > 1 else same[0]
        for same in tables.values()
    )
