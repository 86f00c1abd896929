"""Results as messages to systems that are no archive: FHIR bundles and HL7 ORU^R01, beside the DICOM results.

Whose a result is, is taken from the headers that were received, and from nowhere else: not from an order, not from a
setting. Where these headers don't agree about it, no message is written, and the ledger is told.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from isocenter.clinic.fhir.results import Systems, result_bundle
from isocenter.clinic.hl7.results import oru_r01
from isocenter.clinic.ports import ResultFile, Runner, Work, Worked
from isocenter.clinic.subject import Subject
from isocenter.core.errors import DataError, OutputError
from isocenter.core.mask import Segment
from isocenter.core.prediction import ModelRef
from isocenter.core.units import Code, Measurement
from isocenter.data.images.atomic import atomic_path
from isocenter.data.images.dicom.header import Wanted, scan
from isocenter.data.images.instance import open_instance
from isocenter.data.images.quiet import quiet
from isocenter.data.images.sr import Abstention, Answer, SrContent
from isocenter.verbs.clinic.config_messages import FhirDestination, Hl7Destination
from isocenter.verbs.result import CodeEntry, PredictionEntry, ResultDocument, UncertaintyEntry, read_result

__all__ = ["MARK", "MessagingRunner", "content_of", "subject_of"]

MARK: Final = "AI result, preliminary, not for diagnosis; it needs review by a qualified person."
_WHOSE: Final[Wanted] = {
    0x00080005: ("SpecificCharacterSet", "text"),
    0x00080050: ("AccessionNumber", "text"),
    0x00100010: ("PatientName", "text"),
    0x00100020: ("PatientID", "text"),
    0x00100021: ("IssuerOfPatientID", "text"),
    0x00100030: ("PatientBirthDate", "text"),
    0x00100040: ("PatientSex", "text"),
    0x0020000D: ("StudyInstanceUID", "text"),
}
_IDENTITY: Final = ("PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID")


@dataclass(frozen=True)
class MessagingRunner:
    """A `Runner` whose results are written as messages too, for the destinations that take those.

    Args:
        runner: Who answers.
        messages: Settings of these destinations, by name.
    """

    runner: Runner
    messages: Mapping[str, FhirDestination | Hl7Destination]

    def run(self, work: Work) -> Worked:
        """Answer a study; see `Runner`."""
        worked = self.runner.run(work)
        wanted = [name for name in work.route.destinations if name in self.messages]
        if not wanted:
            return worked
        archives = tuple(name for name in work.route.destinations if name not in self.messages)
        files = [replace(file, to=archives) for file in worked.files if file.form == "dicom"]
        told = list(worked.told)
        if work.route.identity != "keep":
            raise DataError("results without identity can't be filed in a hospital's record; nothing was written")
        try:
            subject, notes = subject_of(work.folder)
            result = read_result(work.out)
            content, at = content_of(result, notes), datetime.fromisoformat(result.created)
            mark = _mark(result, work.version)
            for name in wanted:
                to = self.messages[name]
                if isinstance(to, FhirDestination) and not to.files_for(subject.issuer):
                    whose = "is of an issuer that" if subject.issuer else "names no issuer, which"
                    told.append(f"no message was written for {name}: the patient's identifier {whose} is not among its "
                                "patient_issuer; there the same number may be another patient's")  # fmt: skip
                    continue
                files.append(self._written(work, name, (content, subject, at, mark)))
        except OutputError:
            raise
        except DataError as error:
            told.append(f"no message was written: {error}")
            files = [file for file in files if file.form == "dicom"]
        return replace(worked, files=tuple(files), told=tuple(told))

    def _written(self, work: Work, name: str, said: tuple[SrContent, Subject, datetime, str]) -> ResultFile:
        to, (content, subject, at, mark) = self.messages[name], said
        if isinstance(to, FhirDestination):
            systems = Systems(to.patient_system, to.accession_system)
            bundle = result_bundle(content, subject, systems, at=at, mark=mark, objects=_objects(work.out))
            data = json.dumps(bundle, indent=1, ensure_ascii=False).encode()
            file = ResultFile(work.out / f"message-{name}.fhir.json", "fhir", (name,))
        else:
            receiver = (to.application, to.facility)
            data = oru_r01(content, subject, at=at, charset=to.charset, receiver=receiver, mark=mark)
            file = ResultFile(work.out / f"message-{name}.hl7", "hl7", (name,))
        with atomic_path(file.path) as temporary:
            temporary.write_bytes(data)
        return file


def _mark(result: ResultDocument, version: int) -> str:
    """Return what every reader must know: the mark that the node was told, as in its DICOM objects, and what we add."""
    told = str(result.provenance.config.get("mark", "")).rstrip(". ")
    again = f" Version {version} of this result: it replaces the earlier ones." if version > 1 else ""
    return f"{MARK}{f' {told}.' if told else ''}{again}"


def subject_of(folder: Path) -> tuple[Subject, tuple[str, ...]]:
    """Return whose a study is, by the headers of all its instances, and what a reader should know of that.

    Args:
        folder: The study as received.

    Raises:
        DataError: The headers don't agree about it.
    """
    files = sorted(folder.iterdir())
    if not files:
        raise DataError("the study has no instances")
    headers = [scan(file, "an instance", wanted=_WHOSE) for file in files]
    for word in _IDENTITY:
        if len({header.text(word).strip() for header in headers}) > 1:
            raise DataError(f"the study's instances don't agree in {word}; whose it is, is not sure")
    if len({_plain(header.text("PatientName")) for header in headers}) > 1:
        raise DataError("the study's instances don't agree in PatientName; whose it is, is not sure")
    with quiet():
        subject = Subject.of(open_instance(files[0], pixels=False))
    numbers = {header.text("AccessionNumber").strip() for header in headers}
    if len(numbers) > 1:
        note = f"The study's instances name {len(numbers)} accession numbers; none of them is given here."
        return replace(subject, accession="", placer="", filler=""), (note,)
    return subject, ()


def _plain(name: str) -> str:
    """Return a name as names are compared: its case and how many empty components follow say nothing."""
    return name.split("=")[0].strip().rstrip("^ ").casefold()


def content_of(result: ResultDocument, notes: Sequence[str] = ()) -> SrContent:
    """Return what a result says, as reports are made of it."""
    series = {image.index: image.series_uid for image in result.images}
    several = len(series) > 1
    answers, abstentions = [], []
    for one in result.predictions:
        place = f" (series {series[one.image]})" if several and series[one.image] else ""
        if one.abstained is not None:
            abstentions.append(Abstention(one.task, f"{one.abstained}{place}"))
        else:
            answers.append(_answer(one, series[one.image], (*notes, *((f"Read{place}.",) if place else ()))))
    broken = [n for n in result.not_done if n.what.startswith("task ")]
    abstentions += [Abstention(n.what.removeprefix("task "), n.why) for n in broken]
    return SrContent(tuple(answers), tuple(abstentions))


def _answer(one: PredictionEntry, series: str, notes: Sequence[str]) -> Answer:
    if one.model is None:
        raise DataError(f"the answer of task {one.task} does not say which model gave it")
    promised = [*((one.uncertainty,) if one.uncertainty else ()), *one.further]
    like = () if one.likeness is None else (one.likeness.description,)
    return Answer(
        one.task,
        ModelRef(one.model.name, one.model.version, one.model.weights_sha256, one.model.licence),
        tuple(
            Measurement(
                _code(m.name), m.value, _code(m.unit), m.segment, None if m.derivation is None else _code(m.derivation)
            )
            for m in one.measurements
        ),
        tuple(
            Segment(
                s.number, s.label, _code(s.category), _code(s.type),
                None if s.laterality is None else _code(s.laterality), algorithm_type=s.algorithm_type,
                algorithm_name=s.algorithm_name, colour=s.colour,
            )
            for s in one.segments
        ),
        notes=(*notes, *(_promise(u) for u in promised), *like, *one.notes),
        series_uid=series,
    )  # fmt: skip


def _promise(found: UncertaintyEntry) -> str:
    ends = [f"{end:.4g}" for end in (found.low, found.high) if end is not None and math.isfinite(end)]
    unit = "" if found.unit is None or found.unit.value == "1" else f" {found.unit.value}"
    said = [found.description, *((f"{found.kind.capitalize()}: {' to '.join(ends)}{unit}.",) if ends else ())]
    if found.members:
        about = "" if found.about is None else f" of {found.about.meaning}"
        said.append(f"Set{about}: {', '.join(code.meaning for code in found.members)}.")
    if found.level is not None:
        said.append(f"Level: {found.level:g}.")
    return " ".join(said)


def _code(code: CodeEntry) -> Code:
    return Code(code.value, code.scheme, code.meaning)


def _objects(out: Path) -> list[tuple[str, str, str, str]]:
    found = []
    for file in sorted(out.glob("*.dcm")):
        header: Any = open_instance(file, pixels=False)
        uids = (str(header.SOPClassUID), str(header.SOPInstanceUID), str(header.SeriesInstanceUID))
        found.append((*uids, str(header.Modality)))
    return found
