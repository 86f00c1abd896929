"""A version of a draft, signed by a person: DICOM SR, FHIR and PDF, each read back, with their hashes.

The report says what its sentences say, and measurements that those sentences tell: what a person took out of the text
is in none of the files. Every file says that it began as a draft of an algorithm, and who signed it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydicom import Dataset

from isocenter.core import Code, Measurement, ModelRef, Segment
from isocenter.core.errors import DataError, OutputError, ProofError
from isocenter.data.images.instance import open_instance
from isocenter.data.images.sr import (
    Answer,
    Attestation,
    SegReference,
    SignedPoint,
    SignedSentence,
    SrContent,
    SrReference,
    write_sr,
)
from isocenter.data.records.fhir.write import FhirObservation, FhirReport, write_fhir_report
from isocenter.safety.claims import LedgerClaim
from isocenter.verbs.asking.study import Examined, Told
from isocenter.verbs.drafting.ledger import finding_of
from isocenter.verbs.entries import file_sha256
from isocenter.verbs.result import CodeEntry, MeasurementEntry, PredictionEntry, ResultDocument, SegmentEntry
from isocenter.verbs.serving.draft_store import SIGNATURE
from isocenter.verbs.serving.pdf_report import PdfReport, write_pdf_report
from isocenter.viewer.report_models import Draft, DraftSentence, NotWritten, Place, Signed, SignedFile

__all__ = ["Signing", "sign_report", "signed_mark"]

SR, FHIR, PDF = "report.sr.dcm", "report.fhir.json", "report.pdf"
_PROBABILITY = "Probability of "
_WORDS = {
    "en": ("Radiology report", "Signed by", "Signed at", "Examination", "Amends the report signed by"),
    "es": ("Informe radiológico", "Firmado por", "Firmado el", "Exploración", "Enmienda el informe firmado por"),
    "zh": ("放射学报告", "签署者", "签署时间", "检查", "修订以下签署者的报告"),
}
_NOT_DICOM = "the study did not come as DICOM, and patient and study would have to be invented"


def signed_mark(by: str) -> str:
    """Return what stands on every page and in every file of a signed report.

    Example:
        >>> signed_mark("A. Reader")
        'AI draft, signed by A. Reader. Research software, not a medical device.'
    """
    return f"AI draft, signed by {by}. Research software, not a medical device."


@dataclass(frozen=True, eq=False)
class Signing:
    """What is signed, by whom, of what.

    Args:
        draft: The version.
        by: Name of who signs.
        at: When, UTC.
        result: Of which it is a draft.
        folder: Of the reading.
        headers: Gives the DICOM headers of an image by its number.
        before: The signature that this one amends, or None.
        before_folder: Where its files are.
    """

    draft: Draft
    by: str
    at: datetime
    result: ResultDocument
    folder: Path
    headers: Callable[[int], Sequence[Dataset]]
    before: Signed | None = None
    before_folder: Path | None = None

    @property
    def remark(self) -> str:
        """What it is, and what it amends."""
        if self.before is None:
            return signed_mark(self.by)
        return f"Amended report, in place of the one signed at {self.before.at}. {signed_mark(self.by)}"

    @property
    def sentences(self) -> Iterator[tuple[str, str, DraftSentence]]:
        """Section, its title and each sentence, in order of the report."""
        for part in self.draft.parts:
            for section in part.sections:
                for one in section.sentences:
                    yield section.name, section.title, one


@dataclass
class _Signatures:
    files: list[SignedFile] = field(default_factory=list)
    not_written: list[NotWritten] = field(default_factory=list)


def sign_report(signing: Signing, folder: Path, url: Callable[[str], str]) -> Signed:
    """Write the files of a signed report, each read back and compared.

    Args:
        signing: What is signed.
        folder: To write into.
        url: Gives the address of a file by its name.

    Raises:
        ProofError: A file was not read back as it was meant.
        DataError: The report says nothing, or a sign can't be written.
        CapabilityError: What writes a PDF is not installed.
        OutputError: The operating system refused.
    """
    made = _Signatures()

    def wrote(form: Literal["sr", "fhir", "pdf"], name: str) -> None:
        path = folder / name
        made.files.append(
            SignedFile(form=form, name=name, url=url(name), sha256=file_sha256(path), size_bytes=path.stat().st_size)
        )

    told = _told(signing)
    pdf = write_pdf_report(_pdf(signing), folder / PDF)
    try:
        if _write_sr(signing, told, folder / SR):
            wrote("sr", SR)
        else:
            made.not_written.append(NotWritten(form="sr", why=_NOT_DICOM))
    except (ProofError, OutputError):
        raise
    except DataError as error:
        why = str(error).removeprefix(f"{error.source}: ")
        made.not_written.append(NotWritten(form="sr", why=why))
    write_fhir_report(_fhir(signing, told, pdf), folder / FHIR)
    wrote("fhir", FHIR)
    wrote("pdf", PDF)
    at = signing.at.astimezone(UTC).isoformat(timespec="seconds")
    signed = Signed(
        by=signing.by, at=at, version=signing.draft.version, files=tuple(made.files),
        not_written=tuple(made.not_written),
    )  # fmt: skip
    (folder / SIGNATURE).write_text(signed.model_dump_json(indent=1) + "\n", "utf-8")
    return signed


@dataclass(frozen=True, eq=False)
class _Evident:
    """A measurement that a signed sentence tells: of which answer, of which segment."""

    number: int
    made: PredictionEntry
    segment: SegmentEntry | None
    entry: MeasurementEntry


def _told(signing: Signing) -> list[_Evident]:
    """Return the measurements that signed sentences tell, in the order of the result."""
    examined = Examined(signing.result)
    claims = {t.id: t for t in examined.claims}
    found: dict[tuple[int, int], _Evident] = {}
    for _, _, sentence in signing.sentences:
        for name in sentence.claims:
            for one in _of_claim(claims[name], examined) if name in claims else ():
                found[one.number, one.made.measurements.index(one.entry)] = one
    return [found[key] for key in sorted(found)]


def _of_claim(told: Told, examined: Examined) -> Iterator[_Evident]:
    for rests in told.evidence:
        evidence = examined.evidence(rests)
        made = None if evidence is None else examined.prediction(evidence)
        if evidence is None or made is None:
            continue
        number = examined.result.predictions.index(made)
        segment = next((s for s in made.segments if s.number == evidence.segment), None)
        exam = examined.ledgers[told.ledger - 1].exam
        for entry in made.measurements:
            if segment is not None and entry.segment == segment.number and _is_quantity(entry, told.claim):
                yield _Evident(number, made, segment, entry)
            name = entry.name.meaning.removeprefix(_PROBABILITY)
            whole = segment is None and entry.segment is None and name != entry.name.meaning
            if whole and finding_of(name, exam) == told.claim.about:
                yield _Evident(number, made, None, entry)


def _is_quantity(entry: MeasurementEntry, claim: LedgerClaim) -> bool:
    """Tell whether a measurement is one of a claim's numbers, in its unit or as cm² for mm²."""
    values = {round(q.value * (100.0 if q.unit == "cm2" else 1.0), 6) for q in claim.quantities}
    return entry.derivation is None and (round(entry.value, 6) in values or round(entry.value, 6) in {
        round(q.value, 6) for q in claim.quantities
    })  # fmt: skip


def _code(entry: CodeEntry) -> Code:
    return Code(entry.value, entry.scheme, entry.meaning)


def _measurement(one: _Evident) -> Measurement:
    entry = one.entry
    return Measurement(
        _code(entry.name), entry.value, _code(entry.unit), entry.segment,
        None if entry.derivation is None else _code(entry.derivation),
    )  # fmt: skip


def _segment(entry: SegmentEntry) -> Segment:
    return Segment(
        entry.number, entry.label, _code(entry.category), _code(entry.type),
        None if entry.laterality is None else _code(entry.laterality),
        algorithm_type=entry.algorithm_type, algorithm_name=entry.algorithm_name, colour=entry.colour,
    )  # fmt: skip


def _model(made: PredictionEntry) -> ModelRef:
    model = made.model
    if model is None:
        raise DataError(f"answer of {made.task} names no model")
    return ModelRef(model.name, model.version, model.weights_sha256, model.licence)


def _write_sr(signing: Signing, told: Sequence[_Evident], path: Path) -> bool:
    """Write the SR; tell whether there was DICOM to write one for."""
    by_image = {image.index: list(signing.headers(image.index)) for image in signing.result.images}
    headers = [h for some in by_image.values() for h in some]
    if not headers:
        return False
    answers = []
    for number in sorted({one.number for one in told}):
        some = [one for one in told if one.number == number]
        made = some[0].made
        if not by_image.get(made.image):
            continue
        seg = next((signing.folder / f.path for f in made.files if f.format == "DICOM SEG"), None)
        answers.append(
            Answer(
                made.task, _model(made), tuple(_measurement(one) for one in some),
                tuple(_segment(s) for s in dict.fromkeys(one.segment for one in some) if s is not None),
                None if seg is None or not seg.is_file() else SegReference.from_file(seg),
                series_uid=str(by_image[made.image][0].get("SeriesInstanceUID", "")),
            )
        )  # fmt: skip
    frames = {index: str(some[0].get("FrameOfReferenceUID", "")) for index, some in by_image.items() if some}
    sentences = tuple(
        SignedSentence(section, one.text, tuple(_points(one.evidence, frames))) for section, _, one in signing.sentences
    )
    amends = None
    if signing.before_folder is not None and (signing.before_folder / SR).is_file():
        amends = SrReference.of(open_instance(signing.before_folder / SR, pixels=False))
    institution = next((str(h.get("InstitutionName", "")) for h in headers if h.get("InstitutionName")), "")
    content = SrContent(
        tuple(answers),
        language=signing.draft.language,
        signed=Attestation(signing.by, signing.at, sentences, signing.remark, institution[:64], amends),
    )
    write_sr(content, path, headers=headers, created=signing.at)
    return True


def _points(places: Sequence[Place], frames: dict[int, str]) -> Iterator[SignedPoint]:
    for place in places:
        frame = frames.get(place.image_index, "")
        if place.point_lps_mm is not None and frame:
            yield SignedPoint(place.point_lps_mm, frame)


def _sections(signing: Signing) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """Return sections with their sentences; of several examinations each names which."""
    several = len(signing.draft.parts) > 1
    found: dict[str, tuple[str, list[str]]] = {}
    for part in signing.draft.parts:
        named = part.of or part.exam
        for section in part.sections:
            _, said = found.setdefault(section.name, (section.title, []))
            said += [f"{named}: {s.text}" if several else s.text for s in section.sentences]
    return tuple((name, title, tuple(dict.fromkeys(said))) for name, (title, said) in found.items())


def _fhir(signing: Signing, told: Sequence[_Evident], pdf: bytes) -> FhirReport:
    observations = []
    for one in told:
        model = _model(one.made)
        weights = f", weights sha256 {model.weights_sha256}" if model.weights_sha256 else ""
        segment = one.segment
        side = None if segment is None or segment.laterality is None else _code(segment.laterality)
        observations.append(
            FhirObservation(
                _measurement(one), None if segment is None else _code(segment.type), side,
                "" if segment is None else segment.label, f"{one.made.task}: {model.name} {model.version}{weights}",
            )
        )  # fmt: skip
    return FhirReport(
        signing.draft.id, signing.draft.version, signing.before is not None, signing.result.study.patient_key,
        signing.result.study.study_uid, signing.draft.language, _sections(signing), tuple(observations), signing.by,
        signing.at, signing.remark, pdf,
    )  # fmt: skip


def _pdf(signing: Signing) -> PdfReport:
    title, by, at, exam, amends = _WORDS[signing.draft.language]
    facts = [
        (by, signing.by),
        (at, signing.at.astimezone(UTC).isoformat(timespec="seconds")),
        (exam, ", ".join(dict.fromkeys(part.exam for part in signing.draft.parts))),
        ("Study", signing.result.study.study_uid or "-"),
        ("Patient", signing.result.study.patient_key or "-"),
    ]
    if signing.before is not None:
        facts.append((amends, f"{signing.before.by}, {signing.before.at}"))
    preview = signing.folder / "preview.png"
    hashes = {f.path: f.sha256 for f in signing.result.files}
    # The picture shows all outlines of an answer: where the text leaves one out, it would say more than is signed.
    told = not any(part.untold for part in signing.draft.parts)
    whole = told and preview.is_file() and file_sha256(preview) == hashes.get(preview.name)
    return PdfReport(
        title, tuple(facts), tuple((name, said) for _, name, said in _sections(signing)), signed_mark(signing.by),
        preview.read_bytes() if whole else b"", "What was outlined, by the algorithm." if whole else "",
    )  # fmt: skip
