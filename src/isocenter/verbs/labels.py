"""Labels: what people confirmed in the viewer, or any labelled set, in the form of a training; how far readers agree.

isocenter labels export ARCHIVE --form nnunet --to nnUNet_raw/Dataset101_Knee
isocenter labels convert SET --form coco --to OUT
isocenter labels agreement ARCHIVE --label knee --tolerance-mm 2
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from isocenter.core.errors import ConfigError, NotFound
from isocenter.data.labelled import LabelledSet, open_labelled
from isocenter.data.labelled.export import FORMS, Exported, ExportOptions, Form, write_labelled

if TYPE_CHECKING:
    from isocenter.verbs.serving.library import StudyLibrary

__all__ = [
    "LabelsConfig",
    "LabelsDocument",
    "convert_labels",
    "export_labels",
    "label_agreement",
    "run",
]

Tell = Callable[[str, float], None]
_LOOK_SECONDS = 600.0


class LabelsConfig(BaseModel):
    """Configuration of `isocenter labels export`.

    Attributes:
        path: Archive, or folder of studies, as it is served.
        to: Folder to write; must not exist or be empty unless `overwrite`.
        form: One of `FORMS`.
        work: Folder of what people made; None for where `isocenter serve` puts it.
        labels: Names of the masks; empty for all that were confirmed.
        choose: Which of several readers' masks: "latest", "majority" or "reader:NAME".
        parts: Shares of parts, by patient: "train=0.8,test=0.2"; "" for none.
        suffix: Of BIDS names.
        licence: Of the set.
        identified: Whether DICOM Segmentations of a plain folder, whose headers may name the patient, are wanted.
        overwrite: Whether an older export under `to` is replaced.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path
    to: Path
    form: str
    work: Path | None = None
    labels: tuple[str, ...] = ()
    choose: str = "latest"
    parts: str = ""
    suffix: str = ""
    licence: str = Field(default="", max_length=64)
    identified: bool = False
    overwrite: bool = False


class LabelsDocument(BaseModel):
    """What was written.

    Attributes:
        form: Of the folder.
        folder: Where.
        cases: Names of the cases.
        left_out: Names of others, and why.
        parts: Cases in each part; "" where there are none.
        notes: For whoever trains.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    form: str
    folder: Path
    cases: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]
    parts: dict[str, int]
    notes: tuple[str, ...]


def export_labels(
    path: Path | str, to: Path | str, *, form: str, progress: Tell | None = None, **settings: Any
) -> LabelsDocument:
    """Write the masks that people confirmed, with their images, in the form of a training.

    Args:
        path: Archive, or folder of studies, as it is served.
        to: Folder to write.
        form: folders, nnunet, decathlon, coco, bids, seg or shards.
        progress: Called with what is done and the share of it.
        **settings: Any further field of `LabelsConfig`.

    Raises:
        ConfigError: A setting is wrong.
        DataError: Nothing was confirmed, or no case could be written.
        IdentityLeak: Identities would go along, and nobody said that this is wanted.
        OutputError: The folder can't be written, or is taken.
    """
    try:
        config = LabelsConfig(path=Path(path), to=Path(to), form=form, **settings)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ConfigError(f"setting {'.'.join(str(p) for p in first['loc'])}: {first['msg']}") from error
    return run(config, progress)


def run(config: LabelsConfig, progress: Tell | None = None) -> LabelsDocument:
    """Do what a `LabelsConfig` says; see `export_labels`."""
    from isocenter.verbs.serving.masks import MaskFolder
    from isocenter.verbs.serving.work_export import check_order, confirmed_set, write_confirmed
    from isocenter.verbs.serving.worklist import FOLDER, LabelWork
    from isocenter.viewer.work import ExportOrder

    order = ExportOrder(
        config.form, config.labels, config.choose, config.parts, config.suffix, config.licence, config.identified
    )
    check_order(order)
    with _library(config.path, config.work) as (library, work):
        masks = MaskFolder(work / "masks", library)
        again = LabelWork(work, library, masks).wanted_again()
        found = confirmed_set(masks, library, work / FOLDER / "key", order, wanted_again=again)
        done = write_confirmed(found, library, config.to, order, replace_folder=config.overwrite, tell=progress)
    return _document(done)


def convert_labels(
    labelled: Path | str,
    to: Path | str,
    *,
    form: str,
    suffix: str = "",
    licence: str = "",
    overwrite: bool = False,
    progress: Tell | None = None,
) -> LabelsDocument:
    """Write a labelled set in another form; names of cases and patients stay.

    Args:
        labelled: nnU-Net raw, Decathlon, COCO, or images/ and labels/.
        to: Folder to write.
        form: As `export_labels`; "seg" needs DICOM and is not for this.
        suffix: Of BIDS names.
        licence: Of the set, where it does not state one.
        overwrite: Whether what stands under `to` is replaced.
        progress: Called with what is done and the share of it.

    Raises:
        ConfigError: The form is not known.
        DataError: The set can't be read, or its labels are no masks.
    """
    options = ExportOptions(suffix=suffix, replace=overwrite)
    found: LabelledSet = open_labelled(Path(labelled))
    found = replace(found, licence=found.licence or licence)
    return _document(write_labelled(found, Path(to), _form(form), options, tell=progress))


def label_agreement(
    path: Path | str, label: str, *, tolerance_mm: float = 2.0, work: Path | str | None = None
) -> dict[str, Any]:
    """Say how far readers agree on a label of the work list.

    Args:
        path: Archive, or folder of studies, as it is served.
        label: Name of the label.
        tolerance_mm: Of the normalised surface Dice.
        work: Folder of what people made; None for where `isocenter serve` puts it.

    Raises:
        ConfigError: The work list has no such label.
    """
    from isocenter.verbs.serving.masks import MaskFolder
    from isocenter.verbs.serving.worklist import LabelWork

    with _library(Path(path), None if work is None else Path(work)) as (library, folder):
        try:
            listed = LabelWork(folder, library, MaskFolder(folder / "masks", library))
            return listed.agreement(label=label, tolerance_mm=tolerance_mm)
        except NotFound as error:
            raise ConfigError(f"the work list in {folder} has no label {label!r}") from error


@contextmanager
def _library(path: Path, work: Path | None) -> Iterator[tuple[StudyLibrary, Path]]:
    """Open the studies that a work folder speaks of, and wait until all are found."""
    from isocenter.verbs.serve import ServeConfig
    from isocenter.verbs.serving.ports import open_library
    from isocenter.viewer.ports import StudyQuery
    from isocenter.viewer.settings import Limits

    config = ServeConfig(path=path, work=work)
    folder = config.work_folder
    if not folder.is_dir():
        raise ConfigError(f"there is no work folder {folder}; say with --work where people's work was written")
    library = open_library(config, folder, Limits())
    library.source.start()
    until = time.monotonic() + _LOOK_SECONDS
    try:
        while library.studies(StudyQuery(limit=1)).scanning and time.monotonic() < until:
            time.sleep(0.05)
        yield library, folder
    finally:
        library.close()


def _form(form: str) -> Form:
    found = next((one for one in FORMS if one == form), None)
    if found is None:
        raise ConfigError(f"no form is called {form!r}; there are {', '.join(FORMS)}")
    return found


def _document(done: Exported) -> LabelsDocument:
    return LabelsDocument(
        form=done.form,
        folder=done.folder,
        cases=done.cases,
        left_out=done.left_out,
        parts=dict(done.parts),
        notes=done.notes,
    )
