"""A session's confirmed cases in a folder, and back: pixels, place and masks, without any identity.

    session.json     label, weights, versions; of each case its place, what the numbers mean, prompts, sha256
    case-001.npz     image (c, z, y, x) and mask (z, y, x)

Of an image nothing is kept but its numbers, its grid, modality, body part and quantity: no UIDs, no names of files, no
header facts. Pixels may still show a person (a face in a head scan, burned-in letters): the folder is patient data. The
npz form also keeps pictures that have no place in the patient. Every case is read back and compared before the folder
gets its name.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from isocenter.core import Geometry, Image, Mask, Quantity, Segment, Source
from isocenter.core.errors import ConfigError, DataError, IsocenterError, WeightsError
from isocenter.data.images.atomic import atomic_folder, atomic_path, explain_os_error
from isocenter.data.images.proof import prove, prove_image
from isocenter.models.weights import WeightsCard
from isocenter.safety.audit import AuditedAnswer
from isocenter.verbs.audit import audited, record_change, record_run
from isocenter.verbs.entries import file_sha256
from isocenter.verbs.provenance import package_versions
from isocenter.version import __version__

if TYPE_CHECKING:
    from isocenter.tasks.interact.engine import Engine
    from isocenter.tasks.interact.session import ConfirmedCase, Session

__all__ = [
    "MANIFEST",
    "CaseEntry",
    "SessionManifest",
    "WeightsEntry",
    "append_case",
    "load_session",
    "read_cases",
    "read_manifest",
    "save_session",
    "write_cases",
]

MANIFEST = "session.json"
_LARGE = 32 << 20
"""Bytes of a case above which it is packed lightly."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WeightsEntry(_Strict):
    """Which weights answered in the session."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class GridEntry(_Strict):
    """The grid of an image; see `Geometry`."""

    shape_zyx: tuple[int, int, int]
    affine: tuple[tuple[float, float, float, float], ...] | None
    pixel_spacing_mm: tuple[float, float] | None
    patient_orientation: tuple[str, str]
    stack: Literal["space", "time"]

    @classmethod
    def of(cls, geometry: Geometry) -> GridEntry:
        """Return the entry of a grid; its frame of reference, an identifier, is left out."""
        affine = geometry.affine
        return cls(
            shape_zyx=geometry.shape,
            affine=None if affine is None else tuple(tuple(row) for row in affine.tolist()),
            pixel_spacing_mm=None if affine is not None else geometry.pixel_spacing_mm,
            patient_orientation=geometry.patient_orientation,
            stack="time" if geometry.stack == "time" else "space",
        )

    def geometry(self) -> Geometry:
        """Return the grid."""
        return Geometry(
            self.shape_zyx,
            None if self.affine is None else np.array(self.affine, dtype=np.float64),
            pixel_spacing_mm=self.pixel_spacing_mm,
            patient_orientation=self.patient_orientation,
            stack=self.stack,
        )


class CaseEntry(_Strict):
    """One confirmed case.

    Attributes:
        file: Its npz file.
        sha256: Hash of that file.
        label: Name of the structure.
        prompts: How many prompts it took.
        modality: DICOM modality, "" where unknown.
        body_part: DICOM body part, "" where unknown.
        quantity: What the numbers mean.
        grid: Its grid.
    """

    file: str = Field(pattern=r"^case-\d{3,6}\.npz$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    label: str = Field(min_length=1, max_length=64)
    prompts: int = Field(ge=0)
    modality: str = Field(max_length=16)
    body_part: str = Field(max_length=64)
    quantity: Quantity
    grid: GridEntry


class SessionManifest(_Strict):
    """What `session.json` holds.

    Attributes:
        format: Version of this form.
        label: Name of the structure as the session ended.
        plane: Weights for planes.
        volume: Weights for volumes; None where there were none.
        isocenter: Version of this package.
        packages: Versions of the packages that touch pixels.
        cases: In the order they were confirmed.
    """

    format: Literal["isocenter-session/1"] = "isocenter-session/1"
    label: str
    plane: WeightsEntry
    volume: WeightsEntry | None
    isocenter: str
    packages: dict[str, str]
    cases: tuple[CaseEntry, ...]


def save_session(
    session: Session, folder: Path | str, *, overwrite: bool = False, audit: Path | None = None
) -> SessionManifest:
    """Write a session's confirmed cases into a folder.

    Args:
        session: With at least one confirmed case. An image that is open is not written.
        folder: Must not exist or be empty, unless `overwrite` and it holds a session.
        overwrite: Whether a session that stands there is replaced.
        audit: Record that gets a line for each case that was confirmed in this session, with what the person changed of
            the first outline offered, and one for the whole; without it the environment's ISOCENTER_AUDIT names one, or
            none is.

    Raises:
        ConfigError: Nothing was confirmed yet, or the folder is taken.
        ProofError: A case was not read back as it was; nothing is left behind.
        OutputError: The disk is full, or the folder can't be written.
    """
    with audited(audit, "save-session") as place:
        return _save(session, Path(folder), overwrite=overwrite, audit=place)


def _save(session: Session, folder: Path, *, overwrite: bool, audit: Path | None) -> SessionManifest:
    if not session.cases:
        raise ConfigError("nothing was confirmed in this session yet; there is nothing to save")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not overwrite:
            raise ConfigError(f"{folder} is not empty; choose another folder, or overwrite the session in it")
        if not (folder / MANIFEST).is_file():
            raise ConfigError(f"{folder} does not hold a session; it is not overwritten. Choose another")
    with atomic_folder(folder, replace=overwrite) as place:
        manifest = _manifest(session, write_cases(session.cases, place))
        (place / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", "utf-8")
        _record(audit, session.cases, manifest, file_sha256(place / MANIFEST))
    return manifest


def append_case(session: Session, case: ConfirmedCase, folder: Path, *, audit: Path | None = None) -> SessionManifest:
    """Add a case to a session's folder, which is made where there is none; what stands in it is not written again.

    The manifest is replaced in one step after the case was written and proven: whoever reads the folder, at any time,
    finds the session before or after.

    Args:
        session: Whose label and weights the manifest names.
        case: The case.
        folder: Of this session.
        audit: As of `save_session`.

    Raises:
        ProofError: The case was not read back as it was; the folder stays as it was.
        OutputError: The disk is full, or the folder can't be written.
        DataError: The folder holds something else.
    """
    with audited(audit, "save-session") as place:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explain_os_error(error, folder, doing="write") from error
        there = read_manifest(folder).cases if (folder / MANIFEST).is_file() else ()
        entry = _write_case(case, folder / f"case-{len(there) + 1:03d}.npz")
        manifest = _manifest(session, (*there, entry))
        text = manifest.model_dump_json(indent=1) + "\n"
        with atomic_path(folder / MANIFEST) as temporary:
            temporary.write_text(text, "utf-8")
            sha256 = file_sha256(temporary)
            _record(place, (case,), manifest.model_copy(update={"cases": (entry,)}), sha256)
    return manifest


def _manifest(session: Session, cases: tuple[CaseEntry, ...]) -> SessionManifest:
    deep = session.engine.volume_card
    return SessionManifest(
        label=session.label[:64] or "object",
        plane=_weights(session.engine.plane_card),
        volume=None if deep is None else _weights(deep),
        isocenter=__version__,
        packages=package_versions(),
        cases=cases,
    )


def _record(audit: Path | None, cases: Sequence[ConfirmedCase], manifest: SessionManifest, sha256: str) -> None:
    """Write what the person made of each case, and the whole, before the folder gets its name."""
    answers = [
        AuditedAnswer("interact", case.image.sha256, "answered", case.weights, (entry.sha256,))
        for case, entry in zip(cases, manifest.cases, strict=True)
    ]
    for case, answer in zip(cases, answers, strict=True):
        if case.offered is not None:
            record_change(audit, "interact", answer, case.offered, case.mask)
    record_run(audit, "save-session", answers, outputs=[sha256])


def load_session(engine: Engine, folder: Path | str, *, accept_other_weights: bool = False) -> Session:
    """Take up a session where it was saved: its cases answer the next image.

    Args:
        engine: The models.
        folder: Written by `save_session`.
        accept_other_weights: Whether a session that other weights answered in is taken up all the same; masks stay as
            they were confirmed.

    Raises:
        DataError: The folder holds no session, or a file of it was altered.
        WeightsError: The session was made with other weights.
    """
    from isocenter.tasks.interact.session import Session

    folder = Path(folder)
    manifest = read_manifest(folder)
    if manifest.plane.sha256 != engine.plane_card.sha256 and not accept_other_weights:
        raise WeightsError(
            f"the session was made with other weights ({manifest.plane.name} {manifest.plane.sha256[:12]}..., here "
            f"{engine.plane_card.name} {engine.plane_card.sha256[:12]}...); accept them to go on"
        )
    mine = None if engine.volume_card is None else engine.volume_card.sha256
    if (None if manifest.volume is None else manifest.volume.sha256) != mine and not accept_other_weights:
        raise WeightsError("the session was made with other weights for volumes; accept them to go on")
    session = Session(engine, manifest.label)
    for case in read_cases(folder, manifest.cases):
        session.take(case)
    return session


def read_manifest(folder: Path) -> SessionManifest:
    """Read what a session's folder says of itself.

    Raises:
        DataError: There is none, or it breaks its form.
    """
    file = folder / MANIFEST
    if not file.is_file():
        raise DataError(f"holds no {MANIFEST}; give a folder that a session was saved into", source=folder)
    try:
        return SessionManifest.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise DataError(f"{'.'.join(map(str, first['loc'])) or MANIFEST}: {first['msg']}", source=file) from error
    except OSError as error:
        raise explain_os_error(error, file, doing="read") from error


def write_cases(cases: Sequence[ConfirmedCase], folder: Path) -> tuple[CaseEntry, ...]:
    """Write cases into a folder, each proven by reading it back.

    Raises:
        ProofError: A case was not read back as it was.
    """
    return tuple(_write_case(case, folder / f"case-{number:03d}.npz") for number, case in enumerate(cases, start=1))


def _write_case(case: ConfirmedCase, file: Path) -> CaseEntry:
    inside = case.mask.segment_array(case.mask.segments[0].number)
    with atomic_path(file) as temporary:
        _pack({"image": case.image.array, "mask": inside}, temporary)
        entry = CaseEntry(
            file=file.name,
            sha256=file_sha256(temporary),
            label=case.label[:64] or "object",
            prompts=case.prompts,
            modality=case.image.modality[:16],
            body_part=case.image.body_part[:64],
            quantity=case.image.quantity,
            grid=GridEntry.of(case.image.geometry),
        )
        back = _read_case(temporary, entry)
        prove_image(_without_identity(case.image), back.image)
        prove(Mask(inside.astype(np.uint16), _without_identity(case.image).geometry, back.mask.segments), back.mask)
    return entry


def _pack(arrays: dict[str, np.ndarray], file: Path) -> None:
    """Write an npz; large arrays are packed lightly, because somebody waits."""
    light = sum(array.nbytes for array in arrays.values()) > _LARGE
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1 if light else 6) as packed:
        for name, array in arrays.items():
            with packed.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)


def read_cases(folder: Path, entries: Sequence[CaseEntry]) -> tuple[ConfirmedCase, ...]:
    """Read cases.

    Raises:
        DataError: A file is missing, altered, or holds something else.
    """
    return tuple(_read_case(folder / entry.file, entry) for entry in entries)


def _read_case(file: Path, entry: CaseEntry) -> ConfirmedCase:
    from isocenter.tasks.interact.session import ConfirmedCase

    if not file.is_file():
        raise DataError("the file of this case is missing", source=file)
    packed = file.read_bytes()
    if hashlib.sha256(packed).hexdigest() != entry.sha256:
        raise DataError("is not the file that was saved (its sha256 differs); save the session again", source=file)
    try:
        with np.load(io.BytesIO(packed), allow_pickle=False) as data:
            array, inside = data["image"], data["mask"]
        geometry = entry.grid.geometry()
        segment = Segment(1, entry.label, algorithm_type="SEMIAUTOMATIC", algorithm_name="Isocenter interactive")
        mask = Mask(inside.astype(bool).astype(np.uint16), geometry, (segment,))
        image = Image(array, geometry, entry.quantity, entry.modality, Source(sha256=entry.sha256), entry.body_part)
    except (KeyError, ValueError, OSError, zipfile.BadZipFile, zlib.error, IsocenterError) as error:
        raise DataError("does not hold an image and its mask on the grid that is said", source=file) from error
    return ConfirmedCase(image, mask, entry.label, entry.prompts)


def _without_identity(image: Image) -> Image:
    geometry = GridEntry.of(image.geometry).geometry()
    return Image(image.array, geometry, image.quantity, image.modality, body_part=image.body_part)


def _weights(card: WeightsCard) -> WeightsEntry:
    return WeightsEntry(name=card.name, sha256=card.sha256)
