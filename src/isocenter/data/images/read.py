"""From a path to a study: find the files, hand each kind to its reader, join what comes back."""

from __future__ import annotations

import hashlib
import shutil
import weakref
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from isocenter.core import Image, Mask, Study
from isocenter.core.errors import ConfigError, DataError, IdentityLeak
from isocenter.data.images.dicom import DicomHeaders, read_dicom
from isocenter.data.images.discover import Sources, discover, sources_of
from isocenter.data.images.nifti import read_nifti, read_nifti_mask
from isocenter.data.images.nrrd import read_nrrd, read_nrrd_mask
from isocenter.data.images.picture import read_picture
from isocenter.data.images.study_files import Refusal, StudyFiles

__all__ = ["read_files", "read_study"]

Progress = Callable[[str, float], None]


def read_study(
    path: Path,
    *,
    on_irregular: Literal["raise", "resample"] = "raise",
    progress: Progress | None = None,
    modality: str = "",
    masks: Collection[str] = (),
) -> StudyFiles:
    """Read everything behind a path into one study.

    Args:
        path: A file, a folder, a zip archive or a DICOMDIR; DICOM, NIfTI, NRRD, MetaImage, PNG, JPEG, TIFF.
        on_irregular: What to do with irregular DICOM series: refuse, or resample onto a uniform grid.
        progress: Called with (what is being done, fraction done).
        modality: DICOM Modality of the files that don't say (all but DICOM), if the caller knows it.
        masks: Names, relative to the path, of NIfTI, NRRD and MetaImage files to read as masks. Nothing else is: a
            label image beside an image is not guessed at.

    Returns:
        The study with its images and masks, the DICOM headers that writers need, and what was left out and why. What
        an archive held stays unpacked in a temporary folder for as long as the headers are in use.

    Raises:
        DataError: The path doesn't exist, or nothing behind it can be read.
        IdentityLeak: The DICOM files are of two patients.
        GeometryError: The only DICOM series there is makes no regular grid.
        ConfigError: A file named in `masks` is not there.
    """
    sources = discover(Path(path))
    kept = False
    try:
        study, headers, refused = _read_sources(sources, on_irregular, progress, modality, frozenset(masks))
        if sources.temporary is not None and headers is not None:
            weakref.finalize(headers, shutil.rmtree, sources.temporary, ignore_errors=True)
            kept = True
        return StudyFiles(study, headers, refused)
    finally:
        if not kept:
            sources.close()


def read_files(files: Sequence[Path], *, root: Path) -> StudyFiles:
    """Read given files into one study, as `read_study` reads those of a folder; nothing else that lies there is read.

    Args:
        files: DICOM, NIfTI, NRRD, MetaImage, PNG, JPEG, TIFF.
        root: The folder that names are relative to.

    Raises:
        DataError: Nothing of it can be read.
        IdentityLeak: The DICOM files are of two patients.
        GeometryError: The only DICOM series there is makes no regular grid.
    """
    return StudyFiles(*_read_sources(sources_of(files, Path(root)), "raise", None, "", frozenset()))


def _read_sources(
    sources: Sources,
    on_irregular: Literal["raise", "resample"],
    progress: Progress | None,
    modality: str,
    mask_names: frozenset[str],
) -> tuple[Study, DicomHeaders | None, tuple[Refusal, ...]]:
    study: Study | None = None
    headers: DicomHeaders | None = None
    refused = list(sources.refused)
    if sources.dicom:
        try:
            study, headers, more = read_dicom(
                sources.dicom, root=sources.root, on_irregular=on_irregular, progress=progress
            )
        except DataError as error:
            raise _with_unopened(error, sources.refused) from error
        refused.extend(more)
    images, masks, errors = _read_plain(sources, modality, mask_names, progress)
    if study is None and not images and not masks and errors:
        raise (
            errors[0]
            if len(errors) == 1
            else DataError(f"none of {len(errors)} files could be read; the first: {errors[0]}")
        )
    refused.extend(Refusal(e.source, str(e).removeprefix(f"{e.source}: ")) for e in errors)
    refused.sort(key=lambda r: r.where)
    return _joined(study, images, masks), headers, tuple(refused)


def _with_unopened(error: DataError, refused: Sequence[Refusal]) -> DataError:
    """Add to an error which files could not be opened: a slice without permission is a missing slice to its series."""
    unopened = [r for r in refused if r.kind == "refused"]
    if not unopened or isinstance(error, IdentityLeak):
        return error
    what = "a file was" if len(unopened) == 1 else f"{len(unopened)} files were"
    message = str(error).removeprefix(f"{error.source}: ")
    first = f"{unopened[0].where}: {unopened[0].reason}"
    return type(error)(f"{message}. And {what} not opened: {first}", source=error.source)


def _read_plain(
    sources: Sources, modality: str, mask_names: frozenset[str], progress: Progress | None
) -> tuple[list[Image], list[Mask], list[DataError]]:
    """Read what is not DICOM, one file after another."""
    volumes = sorted((*sources.nifti, *sources.nrrd), key=sources.name)
    unknown = mask_names - {sources.name(f) for f in volumes}
    if unknown:
        raise ConfigError(f"to be read as a mask, but not a NIfTI, NRRD or MetaImage file here: {sorted(unknown)[0]}")
    images: list[Image] = []
    masks: list[Mask] = []
    errors: list[DataError] = []
    files = (*volumes, *sources.pictures)
    nifti = frozenset(sources.nifti)
    for number, file in enumerate(files):
        name = sources.name(file)
        if progress is not None:
            progress("reading files", number / len(files))
        try:
            if name in mask_names:
                masks.append((read_nifti_mask if file in nifti else read_nrrd_mask)(file, name=name))
            elif file in nifti:
                images.append(read_nifti(file, modality=modality, name=name))
            elif file in sources.pictures:
                images.append(read_picture(file, modality=modality, name=name))
            else:
                images.append(read_nrrd(file, modality=modality, name=name))
        except DataError as error:
            error.source = error.source or name
            errors.append(error)
    return images, masks, errors


def _joined(study: Study | None, images: list[Image], masks: list[Mask]) -> Study:
    """Join what came without an identity to the DICOM study, or make a study of it."""
    plain = len(images) + len(masks)
    note = "files that carry no patient identity (NIfTI, NRRD, pictures) were taken to be of one patient"
    if study is None:
        items: list[Image | Mask] = [*images, *masks]
        hashes = sorted(item.source.sha256 for item in items)
        key = hashlib.sha256("".join(hashes).encode()).hexdigest()[:32]
        return Study(key, images=tuple(images), masks=tuple(masks), notes=(note,) if plain > 1 else ())
    if not plain:
        return study
    return replace(study, images=(*study.images, *images), masks=(*study.masks, *masks), notes=(*study.notes, note))
