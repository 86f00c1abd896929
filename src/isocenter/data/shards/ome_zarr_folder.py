"""A folder of OME-Zarr images: each from what would be a shard, kept where it is there already."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from isocenter.core.errors import DataError, OutputError
from isocenter.data.images.atomic import explain_os_error
from isocenter.data.shards.folder import ToShard, Written
from isocenter.data.shards.ome_zarr import Version, export_ome_zarr, origin_of_ome_zarr
from isocenter.data.shards.write import write_shard

__all__ = ["OME_SUFFIX", "write_ome_zarrs"]

OME_SUFFIX = ".ome.zarr"
_CHUNKS = (64, 64, 64)


def write_ome_zarrs(
    items: Iterable[ToShard], folder: Path, *, version: Version = "0.5", chunks: tuple[int, int, int] | None = None
) -> Written:
    """Write images, and the masks beside them, as OME-Zarr folders; a run that was killed is gone on with.

    Each goes by way of a shard in a temporary folder beside it, and is read back and compared with that.

    Args:
        items: What to write; one whose origin is that of the folder that is there is kept.
        folder: Where to; made where there is none.
        version: Of the specification.
        chunks: Voxels (z, y, x) of a chunk; 64 each by default.

    Returns:
        Names that were written, kept and refused, with reasons.

    Raises:
        OutputError: The disk refused; what was written until then stays.
        CapabilityError: Blosc2 or zarr is not installed.
    """
    written: list[str] = []
    kept: list[str] = []
    refused: list[tuple[str, str]] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_os_error(error, folder, doing="write") from error
    for item in items:
        place = folder / f"{item.name}{OME_SUFFIX}"
        if item.origin and origin_of_ome_zarr(place) == item.origin:
            kept.append(item.name)
            continue
        try:
            image, mask = item.load()
            for left in folder.glob(f".partial-{item.name}-*"):  # by a run that was killed
                shutil.rmtree(left, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=f".partial-{item.name}-", dir=folder) as beside:
                shard = write_shard(image, Path(beside) / "image.b2nd", mask=mask, origin=item.origin)
                export_ome_zarr(shard, place, version=version, chunks=chunks or _CHUNKS, replace=place.exists())
        except OutputError:
            raise
        except DataError as error:
            refused.append((item.name, str(error)))
        else:
            written.append(item.name)
    return Written(tuple(written), tuple(kept), tuple(refused))
