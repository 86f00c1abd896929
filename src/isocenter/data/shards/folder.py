"""A folder of shards: made in one call that may be killed and run again, with an index of what is in it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isocenter.core import Image, Mask
from isocenter.core.errors import ConfigError, DataError, OutputError
from isocenter.core.fingerprint import fingerprint
from isocenter.data.images.atomic import atomic_path, explain_os_error
from isocenter.data.shards.backing import Staging, is_remote, local_path
from isocenter.data.shards.form import image_facts, mask_facts
from isocenter.data.shards.frame import blosc
from isocenter.data.shards.shard import Shard, open_shard
from isocenter.data.shards.write import SUFFIX, mask_path, write_shard

__all__ = ["INDEX", "Entry", "ToShard", "Written", "read_index", "write_shards"]

INDEX = "shards.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")


@dataclass(frozen=True)
class ToShard:
    """What shall become a shard.

    Args:
        name: File name without a suffix: letters, digits, dots, dashes and underscores.
        load: Reads the image, and its mask or None; called only where the shard is not there yet.
        origin: What names the content of the source, e.g. the SHA-256 of its file. Where it is given, and a shard of
            that name states the same, the source is not read again.
    """

    name: str
    load: Callable[[], tuple[Image, Mask | None]]
    origin: str = ""


@dataclass(frozen=True)
class Written:
    """What a call of `write_shards` did.

    Args:
        written: Names that were written.
        kept: Names that were there already, with the same content.
        refused: (name, reason) of what could not be read or written.
    """

    written: tuple[str, ...]
    kept: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Entry:
    """One shard of an index.

    Args:
        file: Its file name.
        shape: (channel, z, y, x).
        dtype: Of its values.
        sha256: Of its source's voxels and place.
        voxels: For each segment of its mask, (number, voxels).
        has_mask: Whether a mask lies beside it.
    """

    file: str
    shape: tuple[int, int, int, int]
    dtype: str
    sha256: str
    voxels: tuple[tuple[int, int], ...]
    has_mask: bool


def write_shards(items: Iterable[ToShard], folder: Path, *, patch: tuple[int, int, int] | None = None) -> Written:
    """Write many shards and an index of the folder; what is there already with the same content stays as it is.

    Killed anywhere and called again, the folder's shards and index are the same as from one call. An image that can't
    be read or kept is listed with its reason, and the others are written.

    Args:
        items: What to write, in any order; read one at a time.
        folder: Made if needed.
        patch: As for `write_shard`. A shard that is kept keeps the layout that it has.

    Returns:
        What was done.

    Raises:
        ConfigError: A name that is no plain file name, or that comes twice.
        OutputError: The disk refused; what was written until then stays.
        CapabilityError: Blosc2 is not installed.
    """
    blosc()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_os_error(error, folder, doing="write") from error
    written: list[str] = []
    kept: list[str] = []
    refused: list[tuple[str, str]] = []
    seen: set[str] = set()
    for item in items:
        if not _NAME.fullmatch(item.name) or item.name.endswith((SUFFIX, ".mask")) or item.name in seen:
            raise ConfigError(f"{item.name!r} is no plain name of a shard, ends in a suffix, or comes twice")
        seen.add(item.name)
        path = folder / f"{item.name}{SUFFIX}"
        try:
            (kept if _keep_or_write(item, path, patch) else written).append(item.name)
        except OutputError:
            raise
        except DataError as error:
            refused.append((item.name, str(error)))
    _write_index(folder)
    return Written(tuple(written), tuple(kept), tuple(refused))


def read_index(folder: Path | str, *, staging: Staging | None = None) -> list[Entry]:
    """Read the index of a folder of shards.

    Args:
        folder: A local folder, or a URL that fsspec understands.
        staging: Whose options open a URL.

    Raises:
        DataError: There is none, or it is damaged.
        CapabilityError: fsspec is not installed, for a URL.
    """
    where = f"{str(folder).rstrip('/')}/{INDEX}"
    try:
        if is_remote(folder):
            text = (staging if staging is not None else Staging()).open_url(where).decode("utf-8")
        else:
            text = local_path(where).read_text("utf-8")
    except OSError as error:
        raise explain_os_error(error, Path(where), doing="read") from error
    try:
        rows = json.loads(text)["shards"]
        return [
            Entry(r["file"], tuple(r["shape"]), r["dtype"], r["sha256"], tuple(map(tuple, r["voxels"])), r["has_mask"])
            for r in rows
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            "is no index of shards, or is damaged; write it again with write_shards", source=where
        ) from error


def _keep_or_write(item: ToShard, path: Path, patch: tuple[int, int, int] | None) -> bool:
    """Return True where the shard that is there was kept."""
    there = _there(path)
    if there is not None and item.origin and there.content.origin == item.origin:
        return True
    image, mask = item.load()
    if there is not None and _same(there, image, mask, item):
        return True
    write_shard(image, path, mask=mask, patch=patch, origin=item.origin)
    if mask is None:
        mask_path(path).unlink(missing_ok=True)
    for name in (path.name, mask_path(path).name):
        _remove_partial(path.with_name(name))
    return False


def _remove_partial(path: Path) -> None:
    """Remove what a run has left that was killed while it wrote this very file."""
    for partial in path.parent.glob(f".partial-*-{path.name}"):
        partial.unlink(missing_ok=True)


def _there(path: Path) -> Shard | None:
    """Return the shard that is there, with its mask, or None where there is none or it is damaged."""
    if path.is_file():
        with suppress(DataError):
            shard = open_shard(path)
            _ = shard.mask
            return shard
    return None


def _same(there: Shard, image: Image, mask: Mask | None, item: ToShard) -> bool:
    """Tell whether a shard already holds these voxels, places and facts."""
    content = there.content
    if content.origin != item.origin or content.sha256 != fingerprint(image.array, image.geometry):
        return False
    if content.facts != json.loads(json.dumps(image_facts(image, source=there.name))):
        return False
    if mask is None or there.mask is None:
        return mask is None and there.mask is None
    beside = there.mask.content
    facts = json.loads(json.dumps(mask_facts(mask)))
    return beside.sha256 == fingerprint(mask.array, mask.geometry) and beside.facts == facts


def _write_index(folder: Path) -> None:
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        if path.name.endswith(mask_path(Path(SUFFIX)).name):
            continue
        shard = _there(path)
        if shard is None:
            continue
        voxels: list[tuple[int, int]] = []
        if shard.mask is not None:
            segments, counts = shard.mask.segments, shard.mask.content.counts
            voxels = [(s.number, sum(c.voxels)) for s, c in zip(segments, counts, strict=True)]
        rows.append(
            {
                "file": path.name,
                "shape": shard.shape,
                "dtype": shard.dtype.name,
                "sha256": shard.content.sha256,
                "voxels": voxels,
                "has_mask": shard.mask is not None,
            }
        )
    _remove_partial(folder / INDEX)
    with atomic_path(folder / INDEX) as temporary:
        temporary.write_text(json.dumps({"form": 1, "shards": rows}, indent=1, sort_keys=True) + "\n", "utf-8")
