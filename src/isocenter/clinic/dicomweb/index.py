"""What the node can show by DICOMweb: an index of the instances that it holds and makes.

Any object with these methods will do; `Catalog` is ours, a table beside the ledger.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol, runtime_checkable

from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.tag import BaseTag
from sqlalchemy import Column, Engine, MetaData, String, Table, Text, bindparam, func, inspect, select, text, update
from sqlalchemy import Index as TableIndex
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from isocenter.clinic.dimse.holding import place_of
from isocenter.clinic.retrieve.plan import is_uid
from isocenter.clinic.workflow.tables import INSTANCES, make_tables
from isocenter.core.errors import DataError
from isocenter.data.images.dicom.header import whole_header
from isocenter.data.images.instance import open_instance
from isocenter.data.images.quiet import quiet

__all__ = ["INSTANCE_WORDS", "SERIES_WORDS", "STUDY_WORDS", "Catalog", "Entry", "Index", "Level", "element",
           "element_in_json", "readable", "tag_of"]  # fmt: skip

Level = Literal["studies", "series", "instances"]
STUDY_WORDS: Final = (
    "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "PatientName", "PatientID",
    "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID", "StudyDescription",
    "TimezoneOffsetFromUTC",
)  # fmt: skip
SERIES_WORDS: Final = (
    "Modality", "SeriesDescription", "SeriesInstanceUID", "SeriesNumber", "BodyPartExamined", "Laterality",
    "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime", "RequestAttributesSequence",
)  # fmt: skip
INSTANCE_WORDS: Final = (
    "SOPClassUID", "SOPInstanceUID", "InstanceNumber", "Rows", "Columns", "BitsAllocated", "NumberOfFrames",
)  # fmt: skip
"""Attributes that are kept and matched: those that PS3.18 tables 10.6.3-3 to 10.6.3-5 require, and a few."""

_META: Final = MetaData()
_UID = String(64)
_TABLE = Table(
    "web_instances",
    _META,
    Column("sop", _UID, primary_key=True),
    Column("study", _UID, nullable=False),
    Column("series", _UID, nullable=False),
    Column("sop_class", _UID, nullable=False),
    Column("syntax", _UID, nullable=False),
    Column("modality", String(16), nullable=False),
    Column("file", Text, nullable=False),
    Column("attributes", Text, nullable=False),
    Column("patient", String(32), nullable=False, server_default=""),
    TableIndex("web_instances_by_study", "study", "series"),
)
_BATCH = 500


@dataclass(frozen=True)
class Entry:
    """An instance that can be shown.

    Args:
        study: Study Instance UID.
        series: Series Instance UID.
        sop: SOP Instance UID.
        sop_class: SOP Class UID.
        syntax: Transfer syntax of the file.
        file: Where it is.
    """

    study: str
    series: str
    sop: str
    sop_class: str
    syntax: str
    file: Path


@runtime_checkable
class Index(Protocol):
    """What the server asks."""

    def find(self, level: Level, study: str = "", series: str = "") -> Iterator[tuple[Mapping[str, Any], Entry]]:
        """Yield studies, series or instances, always in the same order, each once for each patient that it names.

        A study belongs to one patient (PS3.3 A.1.2), and still there are studies that hold instances of two: whichever
        were told of such a one, it would be the wrong one for the other's.

        Args:
            level: Which of them.
            study: Only of this study; "" for all.
            series: Only of this series; "" for all.

        Yields:
            Attributes as in the DICOM JSON model, and one instance of it.
        """
        ...

    def instances(self, study: str, series: str = "", sop: str = "") -> Sequence[Entry]:
        """Return the instances of a study, series, or one."""
        ...

    def mixed(self, studies: Collection[str]) -> set[str]:
        """Return which of some studies name several patients."""
        ...


def tag_of(keyword: str) -> str:
    """Return the tag of a keyword as DICOM JSON writes it.

    Example:
        >>> tag_of("StudyInstanceUID")
        '0020000D'
    """
    number = tag_for_keyword(keyword)
    if number is None:
        raise KeyError(keyword)
    return f"{number:08X}"


def element(keyword: str, *values: Any) -> dict[str, Any]:
    """Return an element in the DICOM JSON model; no value for an empty one."""
    number = tag_for_keyword(keyword)
    if number is None:
        raise KeyError(keyword)
    made: dict[str, Any] = {"vr": dictionary_VR(number)}
    if values:
        made["Value"] = list(values)
    return made


class Catalog:
    """The index in a database.

    Args:
        engine: The ledger's.
        root: Folder of the node; files are kept as paths below it, so that it can be moved.
    """

    def __init__(self, engine: Engine, root: Path) -> None:
        self._engine, self._root = engine, root
        self._insert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert
        make_tables(_META, engine)
        _tell_patients_apart(engine)

    def take_in(self, *, limit: int = 2000) -> int:
        """Index what the ledger knows to be held and the index does not yet; return how many.

        Instances that can't be read are indexed by what the ledger says of them, so that they are not tried for ever.
        """
        columns = (INSTANCES.c.study, INSTANCES.c.series, INSTANCES.c.sop, INSTANCES.c.sop_class, INSTANCES.c.syntax)
        with self._engine.connect() as connection:
            missing = connection.execute(
                select(*columns, INSTANCES.c.modality)
                .outerjoin(_TABLE, _TABLE.c.sop == INSTANCES.c.sop)
                .where(_TABLE.c.sop.is_(None))
                .order_by(INSTANCES.c.at, INSTANCES.c.sop)
                .limit(limit)
            ).all()
        rows = []
        for study, series, sop, sop_class, syntax, modality in missing:
            file = place_of(self._root, study, sop)
            try:
                attributes = _attributes(open_instance(file, pixels=False))
            except DataError:
                attributes = {}
            given = {"StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": sop}
            attributes |= {tag_of(word): element(word, uid) for word, uid in given.items()}
            rows.append(
                {
                    "sop": sop, "study": study, "series": series, "sop_class": sop_class, "syntax": syntax,
                    "modality": modality, "file": str(file.relative_to(self._root)),
                    "attributes": json.dumps(attributes), "patient": _patient(attributes),
                }
            )  # fmt: skip
        self._put(rows)
        return len(rows)

    def add(self, file: Path) -> None:
        """Index an instance that the node made, or replace it.

        Args:
            file: Below the root.

        Raises:
            DataError: Not DICOM, without its UIDs, or not below the root.
        """
        if not file.resolve().is_relative_to(self._root.resolve()):
            raise DataError("only what is below the node's folder can be indexed", source=file.name)
        header = open_instance(file, pixels=False)
        uids = [str(header.get(word) or "") for word in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")]
        if not all(is_uid(uid) for uid in uids):
            raise DataError("an instance without the UIDs of study, series and instance", source=file.name)
        attributes = _attributes(header)
        row = {
            "study": uids[0], "series": uids[1], "sop": uids[2], "sop_class": str(header.get("SOPClassUID") or ""),
            "syntax": str(header.file_meta.get("TransferSyntaxUID") or ""),
            "modality": str(header.get("Modality") or "")[:16],
            "file": str(file.resolve().relative_to(self._root.resolve())),
            "attributes": json.dumps(attributes), "patient": _patient(attributes),
        }  # fmt: skip
        self._put([row])

    def _put(self, rows: Sequence[dict[str, str]]) -> None:
        with self._engine.begin() as connection:
            for row in rows:
                rest = {name: value for name, value in row.items() if name != "sop"}
                connection.execute(
                    self._insert(_TABLE).values(row).on_conflict_do_update(index_elements=["sop"], set_=rest)
                )

    def find(self, level: Level, study: str = "", series: str = "") -> Iterator[tuple[Mapping[str, Any], Entry]]:
        """Yield studies, series or instances; see `Index`."""
        table = _TABLE.c
        keys = {
            "studies": (table.study, table.patient),
            "series": (table.study, table.series, table.patient),
            "instances": (table.sop,),
        }[level]
        counts = select(
            *keys, func.min(table.sop).label("first"), func.count().label("instances"),
            func.count(table.series.distinct()).label("series_count"),
        ).group_by(*keys)  # fmt: skip
        if study:
            counts = counts.where(table.study == study)
        if series:
            counts = counts.where(table.series == series)
        groups = counts.subquery()
        query = (
            select(_TABLE, groups.c.instances, groups.c.series_count)
            .join(groups, groups.c.first == table.sop)
            .order_by(table.study, table.series, table.sop)
            .execution_options(yield_per=_BATCH)
        )
        with self._engine.connect() as connection:
            modalities = self._modalities(connection, study) if level == "studies" else {}
            with connection.execute(query) as rows:  # a cursor of the server's, where a search ends early
                for row in rows:
                    yield self._told(level, row, modalities), self._entry(row)

    def instances(self, study: str, series: str = "", sop: str = "") -> Sequence[Entry]:
        """Return the instances of a study, series, or one."""
        query = select(_TABLE).where(_TABLE.c.study == study).order_by(_TABLE.c.series, _TABLE.c.sop)
        if series:
            query = query.where(_TABLE.c.series == series)
        if sop:
            query = query.where(_TABLE.c.sop == sop)
        with self._engine.connect() as connection:
            return [self._entry(row) for row in connection.execute(query)]

    def mixed(self, studies: Collection[str]) -> set[str]:
        """Return which of some studies name several patients."""
        named, found = sorted(studies), set[str]()
        query = select(_TABLE.c.study).group_by(_TABLE.c.study).having(func.count(_TABLE.c.patient.distinct()) > 1)
        with self._engine.connect() as connection:
            for begin in range(0, len(named), _BATCH):
                found |= set(connection.scalars(query.where(_TABLE.c.study.in_(named[begin : begin + _BATCH]))))
        return found

    @staticmethod
    def _modalities(connection: Any, study: str) -> dict[tuple[str, str], list[str]]:
        columns = (_TABLE.c.study, _TABLE.c.patient, _TABLE.c.modality)
        query = select(*columns).distinct().order_by(*columns)
        found: dict[tuple[str, str], list[str]] = {}
        for uid, patient, modality in connection.execute(query.where(_TABLE.c.study == study) if study else query):
            if modality:
                found.setdefault((uid, patient), []).append(modality)
        return found

    def _entry(self, row: Any) -> Entry:
        return Entry(row.study, row.series, row.sop, row.sop_class, row.syntax, self._root / row.file)

    @staticmethod
    def _told(level: Level, row: Any, modalities: Mapping[tuple[str, str], Sequence[str]]) -> dict[str, Any]:
        kept: dict[str, Any] = json.loads(row.attributes)
        words = {
            "studies": STUDY_WORDS,
            "series": (*STUDY_WORDS, *SERIES_WORDS),
            "instances": (*STUDY_WORDS, *SERIES_WORDS, *INSTANCE_WORDS),
        }[level]
        told = {tag: kept[tag] for tag in map(tag_of, words) if tag in kept}
        told[tag_of("InstanceAvailability")] = element("InstanceAvailability", "ONLINE")
        if level == "studies":
            told |= {
                tag_of("ModalitiesInStudy"): element(
                    "ModalitiesInStudy", *modalities.get((row.study, row.patient), ())
                ),
                tag_of("NumberOfStudyRelatedSeries"): element("NumberOfStudyRelatedSeries", row.series_count),
                tag_of("NumberOfStudyRelatedInstances"): element("NumberOfStudyRelatedInstances", row.instances),
            }
        if level == "series":
            word = "NumberOfSeriesRelatedInstances"
            told[tag_of(word)] = element(word, row.instances)
        if level == "instances":
            told[tag_of("AvailableTransferSyntaxUID")] = element("AvailableTransferSyntaxUID", row.syntax)
        return told


def _tell_patients_apart(engine: Engine) -> None:
    """Say whose each instance is in an index that was made before it did. Killed in between, the next start goes on."""

    def known() -> bool:
        return any(column["name"] == "patient" for column in inspect(engine).get_columns(_TABLE.name))

    if not known():
        try:
            with engine.begin() as connection:
                connection.execute(
                    text(f"ALTER TABLE {_TABLE.name} ADD COLUMN patient VARCHAR(32) DEFAULT '' NOT NULL")
                )
        except DBAPIError:  # another process of the node was quicker
            if not known():
                raise
    left = select(_TABLE.c.sop, _TABLE.c.attributes).where(_TABLE.c.patient == "").limit(_BATCH)
    put = update(_TABLE).where(_TABLE.c.sop == bindparam("one")).values(patient=bindparam("whose"))
    while True:
        with engine.begin() as connection:
            rows = connection.execute(left).all()
            if not rows:
                return
            found = [{"one": row.sop, "whose": _patient(json.loads(row.attributes))} for row in rows]
            connection.execute(put, found)


def _patient(attributes: Mapping[str, Any]) -> str:
    """Return what tells a patient from others: the same for the same Patient ID of the same issuer, never ""."""
    values = [attributes.get(tag_of(word), {}).get("Value") or () for word in ("IssuerOfPatientID", "PatientID")]
    named = "\0".join("\\".join(str(one or "").strip() for one in value) for value in values)
    return hashlib.blake2b(named.encode(), digest_size=16).hexdigest()


@quiet()
def _attributes(header: Dataset) -> dict[str, Any]:
    """Return what is kept of a header, in the DICOM JSON model; what can't be told in it is left out."""
    made: dict[str, Any] = {}
    for word in (*STUDY_WORDS, *SERIES_WORDS, *INSTANCE_WORDS):
        if word in header:
            made |= element_in_json(header, word)
    return made


def readable(header: Dataset, tag: str | BaseTag) -> DataElement | None:
    """Return an element of a header; None where it is no value of its VR, as senders write them."""
    try:
        with whole_header("an instance"), quiet():
            return header[tag]
    except DataError:
        return None


def element_in_json(header: Dataset, tag: str | BaseTag) -> dict[str, Any]:
    """Return an element of a header in the DICOM JSON model, by tag.

    Nothing where it can't be told in it: no value of its VR, a number that JSON does not know (NaN), half a character.
    """
    found = readable(header, tag)
    if found is None:
        return {}
    try:
        with whole_header("an instance"), quiet():
            made: dict[str, Any] = Dataset({found.tag: found}).to_json_dict(suppress_invalid_tags=True)
            json.dumps(made, allow_nan=False, ensure_ascii=False).encode()
    except DataError:
        return {}
    return made
