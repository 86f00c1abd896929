"""Write what a task answered: NIfTI always, DICOM where the image came as DICOM; each file with its geometry proof."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from pydicom import Dataset

from isocenter.core import Mask, ModelRef
from isocenter.core.errors import ConfigError, DataError, OutputError, ProofError
from isocenter.data.images.marks import Marks
from isocenter.data.images.nifti import write_nifti
from isocenter.data.images.nrrd import write_metaimage, write_nrrd
from isocenter.data.images.proof import Proof
from isocenter.data.images.rtstruct import write_rtstruct
from isocenter.data.images.seg import SegOptions, write_seg
from isocenter.data.images.sr import SegReference, SrContent, write_sr
from isocenter.data.images.study_files import Headers
from isocenter.verbs.entries import file_entry
from isocenter.verbs.result import FileEntry, NotDone
from isocenter.verbs.running import Answer

__all__ = ["Marking", "Written", "check_suffix", "or_not_done", "write_image", "write_mask"]

_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha", ".dcm")


@dataclass
class Written:
    """What was written for one image, and what was not.

    Args:
        by_task: Files of each answer, by the task's name.
        shared: Files that hold all answers of the image (SR) or a look at it.
        not_done: What could not be written, and why.
    """

    by_task: dict[str, tuple[FileEntry, ...]] = field(default_factory=dict)
    shared: list[FileEntry] = field(default_factory=list)
    not_done: list[NotDone] = field(default_factory=list)


Marking = Callable[[ModelRef | None], tuple[Marks, datetime | None]]
"""Returns what an object says of the algorithm behind it, and when it was made."""


def write_image(
    answers: Sequence[Answer],
    folder: Path,
    headers: Headers | None,
    *,
    rtstruct: bool,
    mark: str = "",
    marking: Marking | None = None,
) -> Written:
    """Write the files of all answers for one image into the result's folder.

    A format that refuses (an image without a frame of reference has no SEG) is told in `not_done`, and the others are
    written all the same.

    Args:
        answers: Of one image, abstentions too (they stand in the SR).
        folder: The result's folder.
        headers: DICOM headers of the study, None where nothing was DICOM.
        rtstruct: Whether RT Structure Sets were asked for.
        mark: Stands in every DICOM object ("AI result, not for diagnosis"); "" for none.
        marking: What objects say of their making, where they belong to a result set, which then has its report written
            by `verbs.air`; None for objects and a report that stand alone.

    Raises:
        ProofError: A file was not read back as it was meant; nothing of the result is kept then.
        OutputError: The operating system refused to write.
    """
    written = Written()
    given = [a for a in answers if a.prediction.abstained is None]
    if not given:
        return written
    index, image = answers[0].index, answers[0].image
    dicom = headers is not None and bool(image.source.instance_uids)
    datasets = headers.image(image) if headers is not None and dicom else []
    segs: dict[str, SegReference] = {}
    for answer in given:
        name = answer.entry.card.name
        files = []
        mask = answer.prediction.value
        if isinstance(mask, Mask):
            path = folder / f"{answer.stem}.nii.gz"
            with or_not_done(written, f"NIfTI of {name}, image {index}"):
                files.append(file_entry(path, folder, "NIfTI", write_nifti(mask, path)))
            if dicom:
                path = folder / f"{answer.stem}.seg.dcm"
                with or_not_done(written, f"DICOM SEG of {name}, image {index}"):
                    title, options = answer.entry.card.title, _options(answer, mark, marking)
                    title = (f"{mark}: {title}" if mark else title)[:64]
                    proof = write_seg(mask, path, headers=datasets, series_description=title, options=options)
                    files.append(file_entry(path, folder, "DICOM SEG", proof))
                    segs[name] = SegReference.from_file(path)
            if rtstruct:
                with or_not_done(written, f"RTSTRUCT of {name}, image {index}"):
                    files.append(_write_rtstruct(answer, folder, datasets, mark, marking))
        written.by_task[name] = tuple(files)
    if not dicom:
        why = "the image did not come as DICOM, and patient and study would have to be invented"
        written.not_done.append(NotDone(what=f"DICOM SEG and SR of image {index}", why=why))
        return written
    if marking is not None:
        return written
    with or_not_done(written, f"DICOM SR of image {index}"):
        content = SrContent.from_predictions(
            [a.prediction for a in answers], [segs.get(a.entry.card.name) for a in answers], mark=mark
        )
        path = folder / f"image-{index}.sr.dcm"
        write_sr(content, path, headers=datasets)
        written.shared.append(file_entry(path, folder, "DICOM SR TID 1500", None))
    return written


def _options(answer: Answer, mark: str, marking: Marking | None) -> SegOptions:
    model = answer.prediction.model
    options = SegOptions(content_description=mark)
    if marking is None or model is None:
        return options
    marks, created = marking(model)
    return replace(options, created=created, algorithm_name=model.name, algorithm_version=model.version, marks=marks)


@contextmanager
def or_not_done(written: Written, what: str) -> Iterator[None]:
    """Turn a writer's refusal into a line of what was not done; a failed proof or a full disk still ends everything."""
    try:
        yield
    except (ProofError, OutputError):
        raise
    except DataError as error:
        written.not_done.append(NotDone(what=what, why=str(error).removeprefix(f"{error.source}: ")))


def _write_rtstruct(
    answer: Answer, folder: Path, datasets: Sequence[Dataset], mark: str, marking: Marking | None
) -> FileEntry:
    mask = answer.prediction.value
    if not datasets or not isinstance(mask, Mask):
        raise DataError("the image did not come as DICOM")
    if mask.geometry.affine is None or mask.geometry.stack != "space":
        raise DataError("contours need a place in patient millimetres, and the image has none")
    path = folder / f"{answer.stem}.rtstruct.dcm"
    marks, created = (None, None) if marking is None else marking(answer.prediction.model)
    proof = write_rtstruct(mask, path, headers=datasets, created=created, mark=mark, marks=marks)
    return file_entry(path, folder, "DICOM RTSTRUCT", proof)


def check_suffix(path: Path) -> None:
    """Refuse, before any work is done, a file name whose suffix says no format that a mask can be written in.

    Raises:
        ConfigError: The suffix is unknown.
    """
    if not path.name.lower().endswith(_SUFFIXES):
        raise ConfigError(f"{path}: unknown suffix; use .nii, .nii.gz, .nrrd, .mha, .dcm (SEG) or .rtstruct.dcm")


def write_mask(mask: Mask, path: Path, headers: Sequence[Dataset]) -> tuple[str, Proof]:
    """Write one mask in the format that its file name says.

    Returns:
        The format's name, and the geometry proof.

    Raises:
        ConfigError: The suffix is not one of ours.
        DataError: DICOM was asked for and the image is not DICOM, or the file can't be written.
        ProofError: The file was not read back as it was meant.
    """
    check_suffix(path)
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        return "NIfTI", write_nifti(mask, path)
    if name.endswith(".nrrd"):
        return "NRRD", write_nrrd(mask, path)
    if name.endswith(".mha"):
        return "MetaImage", write_metaimage(mask, path)
    if not headers:
        raise DataError(
            "the image did not come as DICOM, so no DICOM can be written; use .nii.gz or .nrrd", source=path
        )
    if name.endswith(".rtstruct.dcm"):
        return "DICOM RTSTRUCT", write_rtstruct(mask, path, headers=headers)
    return "DICOM SEG", write_seg(mask, path, headers=headers)
