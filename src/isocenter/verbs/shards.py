"""Shards: images of an archive, found by an expression, as files for reading random patches, or as OME-Zarr."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from isocenter.core import Image, Mask
from isocenter.core.errors import ConfigError, DataError
from isocenter.data.images import read_files, read_nifti, read_nifti_mask, read_nrrd, read_nrrd_mask, read_picture
from isocenter.data.labelled.files import read_label, same_grid
from isocenter.verbs.archive_folder import require_packages
from isocenter.verbs.leaks import require_safe
from isocenter.verbs.settings import configured

if TYPE_CHECKING:
    from isocenter.data.catalog.catalog import Catalog

__all__ = ["ShardsConfig", "ShardsDocument", "make_shards", "run"]

Progress = Callable[[str, float], None]
_QUERY = """
SELECT series_uid, study_uid, patient_key, list(path ORDER BY path) AS paths, min(form) AS form,
    min(header_sha256) || coalesce(min(pixel_sha256), '') AS origin,
    count(*) OVER (PARTITION BY series_uid) > 1 AS several
FROM instances WHERE held IS NULL AND role = 'image' AND form <> 'npz' AND path IS NOT NULL
GROUP BY series_uid, study_uid, patient_key ORDER BY series_uid, study_uid, patient_key
"""
_KEYS = ["series_uid", "study_uid", "patient_key"]
"""A UID alone may be of two patients."""
_MASKS = "SELECT name, path FROM labels WHERE kind = 'mask' AND study_uid = ? AND patient_key = ? AND path IS NOT NULL"


class ShardsConfig(BaseModel):
    """Configuration of `isocenter shards`.

    Attributes:
        archive: Its folder.
        to: Folder of the shards.
        expression: As for `isocenter find`; "" for all images.
        mask: Name of the masks that go beside the images, where a case has several.
        patch: Size of patches that will mostly be read (z, y, x); of chunks, for OME-Zarr.
        form: shards, or ome-zarr (0.5, on Zarr 3), or ome-zarr-0.4 (on Zarr 2).
        identified: Whether shards are made of an archive in which nothing was de-identified.
        despite_leaks: Whether shards are made of an archive whose leak report names what is suspicious and still there.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    archive: Path
    to: Path
    expression: str = ""
    mask: str = ""
    patch: tuple[int, int, int] | None = None
    form: Literal["shards", "ome-zarr", "ome-zarr-0.4"] = "shards"
    identified: bool = False
    despite_leaks: bool = False


class ShardsDocument(BaseModel):
    """What was written.

    Attributes:
        written: Names of shards that are new.
        kept: That were there already.
        refused: Name and reason.
        shards: Name of each shard, with series, study and patient as the catalog has them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    written: tuple[str, ...]
    kept: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]
    shards: dict[str, dict[str, str]]


def make_shards(
    archive: Path | str, to: Path | str, *, progress: Progress | None = None, **options: Any
) -> ShardsDocument:
    """Write shards of images of an archive.

    Args:
        archive: Its folder.
        to: Folder of the shards; a run that was killed is gone on with.
        progress: Called with what is being done and the fraction done.
        **options: Other fields of `ShardsConfig`.

    Raises:
        ConfigError: An option or the expression is wrong, or nothing is found.
        DataError: There is no archive.
        IdentityLeak: Nothing was de-identified in it, or its leak report is not safe, and the caller did not say that
            this is wanted.
        OutputError: A shard can't be written.
        CapabilityError: A package is missing.
    """
    config = configured(ShardsConfig, archive=Path(archive), to=Path(to), **options)
    return run(config, progress=progress)


def run(config: ShardsConfig, *, progress: Progress | None = None) -> ShardsDocument:
    """Write shards, as configured."""
    require_packages()
    from isocenter.data.catalog.catalog import open_catalog
    from isocenter.data.shards import ToShard, write_ome_zarrs, write_shards

    require_safe(config.archive, identified=config.identified, despite_leaks=config.despite_leaks)
    catalog = open_catalog(config.archive)
    wanted = {tuple(row.values()) for row in catalog.find(config.expression).select(_KEYS).to_pylist()}
    rows = [row for row in catalog.sql(_QUERY).to_pylist() if tuple(row[key] for key in _KEYS) in wanted]
    if not rows:
        raise ConfigError("no image of this archive fits; isocenter find shows what there is")
    tell = progress or (lambda _stage, _done: None)
    names = {_name(row): row for row in rows}

    def items() -> Any:
        for number, (name, row) in enumerate(names.items()):
            tell(f"{number} of {len(names)} images", number / len(names))
            masks = _masks(catalog, row, config.mask)
            origin = f"{row['origin']} {' '.join(str(m) for m in masks)}"
            yield ToShard(name, partial(_load, config.archive, row, masks), origin)

    if config.form == "shards":
        done = write_shards(items(), config.to, patch=config.patch)
    else:
        version: Literal["0.4", "0.5"] = "0.4" if config.form.endswith("0.4") else "0.5"
        done = write_ome_zarrs(items(), config.to, version=version, chunks=config.patch)
    told = {n: {k: str(r[k]) for k in _KEYS} for n, r in names.items()}
    return ShardsDocument(written=done.written, kept=done.kept, refused=done.refused, shards=told)


def _name(row: dict[str, Any]) -> str:
    """Return the name of a shard: the series' UID, and whose it is where several studies or patients have that UID."""
    name = re.sub(r"[^A-Za-z0-9.]", "-", row["series_uid"])
    if not row["several"]:
        return name
    return f"{name}-{sha256('|'.join(row[key] for key in _KEYS).encode()).hexdigest()[:16]}"


def _masks(catalog: Catalog, row: dict[str, Any], name: str) -> list[Path]:
    with closing(catalog.connect()) as database:
        found = database.execute(_MASKS, [row["study_uid"], row["patient_key"]]).fetchall()
    return sorted({catalog.root / path for told, path in found if not name or told == name})


def _load(root: Path, row: dict[str, Any], masks: list[Path]) -> tuple[Image, Mask | None]:
    image = _image([root / p for p in row["paths"]], row["form"])
    fitting = [m for path in masks if path.suffix != ".dcm" for m in [_mask(path, image)] if m is not None]
    if len(fitting) > 1:
        raise DataError(f"{len(fitting)} masks fit this image; say by name which one goes beside it")
    return image, fitting[0] if fitting else None


def _image(paths: list[Path], form: str) -> Image:
    first = paths[0]
    if form == "dicom":
        # The folder may hold more: what is held back, and what no row speaks of.
        found = read_files(paths, root=first.parent).study.images
        if len(found) != 1:
            raise DataError(f"the series holds {len(found)} images; a shard is one")
        return found[0]
    return {"nifti": read_nifti, "picture": read_picture}.get(form, read_nrrd)(first)


def _mask(path: Path, image: Image) -> Mask | None:
    """Return a mask that lies on the image's grid; None where it lies on another."""
    lower = path.name.lower()
    if lower.endswith((".png", ".jpg", ".tif")):
        picture = read_picture(path)
        if picture.array.shape[1:] != image.array.shape[1:]:
            return None
        return read_label(path, ("mask",), (int(picture.array.max()) or 1,), image.geometry)
    mask = read_nifti_mask(path) if lower.endswith(".nii.gz") else read_nrrd_mask(path)
    return mask if same_grid(mask.geometry, image.geometry) else None
