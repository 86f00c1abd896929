"""A whole set of results as IHE's AI Results profile describes it: one report as root, and all that it refers to.

For every image: what was found drawn over it (presentation state), the images that it is on (key object selection),
where the networks looked (parametric maps), and the report (TID 1500) that names them all, the segmentations too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from pydicom import Dataset

from isocenter.core import Code, EvidenceMap, Finding, Image, Mask, ModelRef, Prediction, Quantity, Report, Scores
from isocenter.core.errors import GeometryError
from isocenter.core.knowledge import PRESENCE_CODES
from isocenter.core.task import is_for_others
from isocenter.data.images.identity import derive_uid
from isocenter.data.images.instance import open_instance
from isocenter.data.images.key_objects import CRITICAL, KeyObjects, write_key_objects
from isocenter.data.images.marks import Marks, Qualification
from isocenter.data.images.parametric_map import write_parametric_map
from isocenter.data.images.presentation import Drawing, Spot, write_presentation_state
from isocenter.data.images.presentation.drawing import planes_of
from isocenter.data.images.references import ObjectReference
from isocenter.data.images.seg.sources import SourcePlane
from isocenter.data.images.sr import Abstention, Critical, ResultSet, SegReference, SrContent, write_sr
from isocenter.data.images.study_files import Headers
from isocenter.tasks.learnt.cards import class_codes
from isocenter.verbs.entries import file_entry
from isocenter.verbs.result import FileEntry
from isocenter.verbs.running import Answer
from isocenter.verbs.shipped import task_folder
from isocenter.verbs.writing import Written, or_not_done

__all__ = ["AirRun", "AirSettings", "CriticalFinding", "findings_of", "marks_of", "tracked", "unexamined", "write_air"]

Short = Annotated[str, Field(min_length=1, max_length=16)]


class CriticalFinding(BaseModel):
    """A finding that somebody must hear of.

    Attributes:
        value: Code value.
        scheme: Coding scheme, e.g. SCT.
        meaning: Needed where the scheme is 99ISOCENTER, whose codes are numbers of classes that each task has anew.
        category: 1: within minutes; 2: within hours; 3: within days (DICOM CID 7035).
        uncertain: Whether it is flagged too where it is only possible.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: Short
    scheme: Short
    meaning: str = ""
    category: Literal[1, 2, 3] = 1
    uncertain: bool = False

    def is_about(self, code: Code) -> bool:
        """Tell whether a code is this finding."""
        same = (code.value, code.scheme) == (self.value, self.scheme)
        return same and (not self.meaning or code.meaning.casefold() == self.meaning.casefold())


class AirSettings(BaseModel):
    """What a result set holds.

    Attributes:
        qualification: Content Qualification of every object: "RESEARCH" unless you may say "PRODUCT".
        presentation: Whether what was found is drawn over the images (presentation states).
        key_images: Whether the images that it is on are selected (key object selections).
        parametric_maps: Whether maps of evidence are written as DICOM; only where tasks are asked why.
        inference_time: Whether objects say when the algorithms ran. Without it the same input gives the same bytes on
            any day; with it they differ with the time, and so do their UIDs.
        device: Name of this installation, that its Device UID is made of.
        critical: Findings that somebody must hear of.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    qualification: Qualification = "RESEARCH"
    presentation: bool = True
    key_images: bool = True
    parametric_maps: bool = True
    inference_time: bool = True
    device: Annotated[str, Field(min_length=1, max_length=64)] = "isocenter"
    critical: tuple[CriticalFinding, ...] = ()


@dataclass(frozen=True)
class AirRun:
    """A run that writes a result set.

    Args:
        settings: What it holds.
        inferred: When the tasks were asked; None where objects are not to say.
        folder: Of the result.
        headers: DICOM headers of the study.
        language: BCP 47 tag of the report.
        mark: Stands in every report ("AI result, not for diagnosis"); "" for none.
    """

    settings: AirSettings
    inferred: datetime | None
    folder: Path
    headers: Headers | None
    language: str = "en"
    mark: str = ""

    @classmethod
    def begin(cls, settings: AirSettings, folder: Path, headers: Headers | None, *, mark: str = "") -> AirRun:
        """Begin a run now."""
        now = datetime.now().astimezone().replace(microsecond=0) if settings.inference_time else None
        return cls(settings, now, folder, headers, mark=mark)


@dataclass
class _Shown:
    """What was written of one answer."""

    state: ObjectReference | None = None
    maps: list[ObjectReference] = field(default_factory=list)
    on: list[ObjectReference] = field(default_factory=list)
    files: list[FileEntry] = field(default_factory=list)


def marks_of(run: AirRun, models: Sequence[ModelRef | None]) -> Marks:
    """Return what objects say of the algorithms behind them."""
    known = tuple(dict.fromkeys(m for m in models if m is not None))
    return Marks(known, run.settings.qualification, run.settings.device, run.inferred)


def tracked(answers: Sequence[Answer]) -> list[Answer]:
    """Give every segment that has none a tracking text and UID, so that all objects name it alike, and no two do.

    Args:
        answers: Of one study: the same task may have answered several images of one series.
    """
    images: dict[str, set[int]] = {}
    for answer in answers:
        images.setdefault(answer.image.source.series_uid, set()).add(answer.index)
    return [_tracked(answer, alone=len(images[answer.image.source.series_uid]) == 1) for answer in answers]


def _tracked(answer: Answer, *, alone: bool) -> Answer:
    mask, source = answer.prediction.value, answer.image.source
    if not isinstance(mask, Mask) or not source.series_uid:
        return answer
    # A series that holds one image may grow: its first instance is no name for what is in it.
    where = (source.series_uid,) if alone else (source.series_uid, *source.instance_uids[:1], str(answer.index))
    segments = []
    for segment in mask.segments:
        own = f"{answer.entry.card.name} segment {segment.number}"
        name = segment.tracking_id or own
        parts = (name,) if name == own else (name, own)  # a task may call two things alike
        uid = segment.tracking_uid or str(derive_uid("tracking", *parts, *where))
        segments.append(replace(segment, tracking_id=name, tracking_uid=uid))
    value = replace(mask, segments=tuple(segments))
    return replace(answer, prediction=replace(answer.prediction, value=value))


def findings_of(prediction: Prediction) -> tuple[Finding, ...]:
    """Return what an answer says in words of each finding: present, absent, or uncertain.

    Only what a promised set decides becomes a word; a probability alone does not, and stays a measured value.
    """
    value = prediction.value
    if isinstance(value, Report):
        return value.findings
    if not isinstance(value, Scores):
        return ()
    word: Literal["present", "absent", "uncertain"]
    there, not_there = PRESENCE_CODES["present"], PRESENCE_CODES["absent"]
    found = []
    for one in prediction.further:
        if one.about is not None and one.level is not None:
            sure = set(one.members)
            word = "present" if sure == {there} else "absent" if sure == {not_there} else "uncertain"
            found.append(Finding(one.about, word))
    sets = prediction.uncertainty
    if found or sets is None or sets.level is None or sets.kind != "set":
        return tuple(found)
    for code, _ in value.probabilities:
        inside = code in sets.members
        word = "absent" if not inside else "present" if len(sets.members) == 1 else "uncertain"
        # An empty set says that the image is like none of the classes, which is no statement about any of them.
        found.append(Finding(code, word if sets.members else "uncertain"))
    return tuple(found)


def unexamined(task: str, reason: str) -> tuple[Code, ...]:
    """Return the findings that a task which abstained would have spoken of; none where the image was not for it."""
    folder = task_folder(task)
    if folder is None or is_for_others(reason):
        return ()
    try:
        told = json.loads((folder / "task.json").read_text("utf-8"))
    except (OSError, ValueError):
        return ()
    if told.get("kind") not in ("classify", "multilabel"):
        return ()
    return class_codes([str(name) for name in told.get("classes", ())])


def write_air(
    run: AirRun, answers: Sequence[Answer], maps: Sequence[Sequence[EvidenceMap]], written: Written
) -> dict[int, tuple[FileEntry, ...]]:
    """Write presentation states, maps, key object selections and the reports that are their roots.

    Args:
        run: What to write, and where.
        answers: Of all images; their segmentations stand already.
        maps: Maps of evidence of each answer.
        written: What was written; the reports and selections are added, and what could not be written.

    Returns:
        Files of answers, by their place.

    Raises:
        ProofError: A file was not read back as it was meant; nothing of the result is kept then.
        OutputError: The operating system refused to write.
    """
    files: dict[int, tuple[FileEntry, ...]] = {}
    for index in sorted({a.index for a in answers}):
        here = [(place, a) for place, a in enumerate(answers) if a.index == index]
        image = here[0][1].image
        if run.headers is None or not image.source.instance_uids:
            continue
        if all(a.prediction.abstained is not None for _, a in here):
            continue
        datasets = run.headers.image(image)
        shown = {place: _show(run, answer, maps[place], datasets, written) for place, answer in here}
        files |= {place: tuple(one.files) for place, one in shown.items() if one.files}
        with or_not_done(written, f"DICOM result set of image {index}"):
            _write_root(run, [(a, shown[place]) for place, a in here], datasets, written)
    return files


def _show(
    run: AirRun, answer: Answer, maps: Sequence[EvidenceMap], datasets: Sequence[Dataset], written: Written
) -> _Shown:
    """Write what shows one answer."""
    found = _Shown()
    if answer.prediction.abstained is not None:
        return found
    marks = marks_of(run, [answer.prediction.model])
    name = f"{answer.entry.card.name}, image {answer.index}"
    if run.settings.parametric_maps:
        for number, one in enumerate(maps, start=1):
            path = run.folder / f"{answer.stem}.evidence-{number}.map.dcm"
            with or_not_done(written, f"DICOM parametric map {number} of {name}"):
                found.files.append(_write_map(path, run, one, datasets, marks))
                found.maps.append(_reference(path))
    mask = answer.prediction.value if isinstance(answer.prediction.value, Mask) else None
    mask = mask if mask is not None and mask.array.any() else None
    spots = tuple(_spot(answer, number, one) for number, one in enumerate(maps, start=1))
    with or_not_done(written, f"key images of {name}"):
        found.on = _key_images(answer, mask, spots, datasets)
    if run.settings.presentation and (mask is not None or spots):
        path = run.folder / f"{answer.stem}.pr.dcm"
        with or_not_done(written, f"DICOM presentation state of {name}"):
            proof = write_presentation_state(
                Drawing(answer.image.geometry, mask, spots),
                path,
                headers=datasets,
                description=_said(run, answer.entry.card.title),
                created=run.inferred,
                marks=marks,
            )
            found.files.append(file_entry(path, run.folder, "DICOM PR", proof.outlines))
            found.state = _reference(path)
    return found


def _said(run: AirRun, what: str) -> str:
    """Return a description, behind the mark that stands in every object."""
    return (f"{run.mark}: {what}" if run.mark else what)[:64]


def _reference(path: Path) -> ObjectReference:
    return ObjectReference.of(open_instance(path, pixels=False))


def _write_map(path: Path, run: AirRun, one: EvidenceMap, datasets: Sequence[Dataset], marks: Marks) -> FileEntry:
    image = Image(np.asarray(one.array, dtype=np.float32)[None], one.geometry, quantity=Quantity.ARBITRARY)
    proof = write_parametric_map(
        image,
        path,
        headers=datasets,
        label="EVIDENCE",
        description=_said(run, f"Evidence for {one.about.meaning}"),
        created=run.inferred,
        marks=marks,
    )
    return file_entry(path, run.folder, "DICOM PM", proof)


def _spot(answer: Answer, number: int, one: EvidenceMap) -> Spot:
    name = f"{answer.entry.card.name} evidence {number}"
    uid = str(derive_uid("tracking", name, answer.image.source.series_uid))
    z, y, x = one.peak
    return Spot((float(z), float(y), float(x)), f"strongest evidence: {one.about.meaning}"[:200], name, uid)


def _key_images(
    answer: Answer, mask: Mask | None, spots: Sequence[Spot], datasets: Sequence[Dataset]
) -> list[ObjectReference]:
    """Return where an answer can be seen: the largest section of each segment, and each place that is pointed at."""
    wanted = [round(spot.index_zyx[0]) for spot in spots]
    if mask is not None:
        areas = [mask.segment_array(s.number).sum(axis=(1, 2)) for s in mask.segments]
        wanted += [int(area.argmax()) for area in areas if area.any()]
    notable = any(f.presence != "absent" for f in findings_of(answer.prediction))
    if not wanted and notable and answer.image.geometry.shape[0] == 1:
        wanted = [0]
    planes = planes_of(answer.image.geometry, datasets)
    found = [planes[z] for z in sorted(set(wanted))]
    if any(plane is None for plane in found):
        raise GeometryError("the answer lies on planes that are none of the source's (a resampled image)")
    by_uid = {str(h.SOPInstanceUID): h for h in datasets}
    return [_plane_reference(plane, by_uid[plane.sop_instance_uid]) for plane in found if plane is not None]


def _plane_reference(plane: SourcePlane, header: Dataset) -> ObjectReference:
    return ObjectReference.of(header, plane.frame_number)


def _write_root(
    run: AirRun, shown: Sequence[tuple[Answer, _Shown]], datasets: Sequence[Dataset], written: Written
) -> None:
    """Write the key object selections and the report of one image."""
    given = [(a, s) for a, s in shown if a.prediction.abstained is None]
    index, marks = given[0][0].index, marks_of(run, [a.prediction.model for a, _ in given])
    urgent = [(a, s, list(_critical(run.settings, a.prediction))) for a, s in given]
    objects: list[ObjectReference] = []
    if run.settings.key_images:
        for name, selection in _selections(given, urgent):
            path = run.folder / f"image-{index}.{name}.dcm"
            said = f"{run.mark}: {selection.description}" if run.mark else selection.description
            selection = replace(selection, description=said)
            objects.append(write_key_objects(selection, path, headers=datasets, created=run.inferred, marks=marks))
            written.shared.append(file_entry(path, run.folder, "DICOM KOS", None))
    images = tuple((on, s.state) for _, s in given for on in s.on)
    objects += [one for _, s in given for one in (*s.maps, *([s.state] if s.state is not None else []))]
    results = ResultSet(images, tuple(objects), tuple(c for _, _, found in urgent for c in found))
    segs = [_seg(run, a) for a, _ in shown]
    content = SrContent.from_predictions([a.prediction for a, _ in shown], segs, language=run.language, mark=run.mark)
    by_task = {a.entry.card.name: (a, s) for a, s in given}
    content = replace(
        content,
        answers=tuple(
            replace(
                one,
                report=replace(one.report, findings=findings_of(by_task[one.task][0].prediction)),
                shown_on=tuple(by_task[one.task][1].on),
            )
            for one in content.answers
        ),
        abstentions=tuple(Abstention(a.task, a.reason, unexamined(a.task, a.reason)) for a in content.abstentions),
        results=results,
    )
    path = run.folder / f"image-{index}.sr.dcm"
    write_sr(content, path, headers=datasets, created=run.inferred, marks=marks)
    written.shared.append(file_entry(path, run.folder, "DICOM SR TID 1500", None))


def _seg(run: AirRun, answer: Answer) -> SegReference | None:
    path = run.folder / f"{answer.stem}.seg.dcm"
    return SegReference.from_file(path) if path.is_file() else None


def _selections(
    given: Sequence[tuple[Answer, _Shown]], urgent: Sequence[tuple[Answer, _Shown, list[Critical]]]
) -> Iterator[tuple[str, KeyObjects]]:
    """Yield what is selected, by the name of its file: everything notable, and what can't wait."""
    images = tuple(dict.fromkeys((on, s.state) for _, s in given for on in s.on))
    if images:
        tasks = ", ".join(dict.fromkeys(a.entry.card.name for a, s in given if s.on))
        yield "ko", KeyObjects(images, description=f"Images on which an algorithm found something: {tasks}")
    critical = tuple(dict.fromkeys((on, s.state) for _, s, found in urgent if found for on in s.on))
    if critical:
        what = "; ".join(dict.fromkeys(c.finding.meaning for _, _, found in urgent for c in found))
        yield "critical.ko", KeyObjects(critical, CRITICAL, f"Found by an algorithm, to be looked at at once: {what}")


def _critical(settings: AirSettings, prediction: Prediction) -> Iterator[Critical]:
    """Yield what can't wait: findings that are present, and segments that hold something."""
    said = [(f.code, f.presence) for f in findings_of(prediction)]
    if isinstance(prediction.value, Mask):
        mask = prediction.value
        said += [(s.type, "present") for s in mask.segments if mask.segment_array(s.number).any()]
    for code, presence in said:
        for rule in settings.critical:
            if rule.is_about(code) and (presence == "present" or (rule.uncertain and presence == "uncertain")):
                yield Critical(code, rule.category)
                break
