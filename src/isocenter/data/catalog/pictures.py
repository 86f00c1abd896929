"""Small pictures of series: what duplicates are found by, and what pages show. Of the archive's own copies only.

Of a volume three planes through its middle are taken, of a DICOM series its middle slice, of anything else its one
image. What was made is kept in ARCHIVE/derived under the hash of the pixels: it may be removed at any time, and is no
part of the catalog or its hash.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Shaped, UInt8, UInt64

from isocenter.core.errors import DataError, PixelError
from isocenter.core.image import Image
from isocenter.data.archive.image_rows import read_plain
from isocenter.data.catalog.catalog import Catalog
from isocenter.data.images import read_study
from isocenter.data.images.atomic import atomic_path, explain_os_error

__all__ = ["SIDE", "Pictures", "Place", "dhash", "pictures_of", "places_of", "planes_of", "read_planes", "small"]

SIDE = 32
"""Of the small pictures that are compared."""
_FOLDER = "pictures-1"
_FEW_PLANES = 8
"""Images of fewer planes are no volume: their middle one is taken."""
_CHUNK = 2000
_SCHEMA = pa.schema(
    [("key", pa.string()), ("plane", pa.int8()), ("dhash", pa.uint64()), ("spread", pa.float32()),
     ("picture", pa.binary(SIDE * SIDE)), ("trouble", pa.string()),
     ("low", pa.float32()), ("middle", pa.float32()), ("high", pa.float32())]
)  # fmt: skip
_MIDDLE = """
SELECT series_uid, patient_key, coalesce(pixel_sha256, header_sha256) AS key, form, path, coalesce(member, '') AS member
FROM (SELECT *, row_number() OVER one AS place, count(*) OVER (PARTITION BY series_uid, patient_key) AS many
    FROM instances WHERE role = 'image' AND held IS NULL
        AND ($1 IS NULL OR series_uid IN (SELECT unnest($1::VARCHAR[])))
    WINDOW one AS (PARTITION BY series_uid, patient_key
        ORDER BY slice_position_mm, instance_number, sop_uid, path))
WHERE place = (many + 1) // 2 ORDER BY path, member, series_uid, patient_key
"""
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Place:
    """Where the pixels of a series stand.

    Args:
        series_uid: Of the series.
        patient_key: Whose it is.
        key: Hash of the pixels; equal pixels have one key.
        form: dicom, nifti, nrrd, picture or npz.
        path: In the archive.
        member: Array and number in a file of many, "" elsewhere.
    """

    series_uid: str
    patient_key: str
    key: str
    form: str
    path: str
    member: str


@dataclass(frozen=True, eq=False)
class Pictures:
    """Small pictures of series; a row each, in the order of `places_of`.

    Args:
        places: Of the series that could be read.
        hashes: Difference hashes; of one plane, or of three.
        small: The pictures, 0 to 255 over their own range.
        spread: Standard deviation of the picture over the range of its image; 0 of a flat one.
        levels: Of the pixels as stored in the archive: the 0.5th, 50th and 99.5th percentile of the first plane.
        unread: Series that could not be read, and why.
    """

    places: tuple[Place, ...]
    hashes: tuple[UInt64[np.ndarray, " planes"], ...]
    small: tuple[UInt8[np.ndarray, "planes pixels"], ...]
    spread: Float[np.ndarray, " n"]
    levels: Float[np.ndarray, "n 3"]
    unread: tuple[tuple[str, str], ...]


def places_of(catalog: Catalog, series: Sequence[str] | None = None) -> list[Place]:
    """Return where the image of each series stands: of several, the middle one.

    Args:
        catalog: The catalog.
        series: Series UIDs; all by default. What is held back, and what is no image, is left out.

    Raises:
        DataError: The archive holds no copies of images.
    """
    rows = catalog.sql(_MIDDLE, [None if series is None else list(series)]).to_pylist()
    if any(row["path"] is None for row in rows):
        raise DataError("this archive holds no copies of images; take them in with pixels", source=catalog.root)
    return [Place(**row) for row in rows]


def planes_of(image: Image) -> list[Float[np.ndarray, "y x"]]:
    """Return the planes of an image that stand for it, grey: one, or three of a volume (axial, coronal, sagittal)."""
    array = image.array
    if array.shape[0] == 3 and image.quantity.name == "RGB":
        grey = array.astype(np.float32).mean(axis=0)
    else:
        grey = array[array.shape[0] // 2]
    return _three(grey) if image.geometry.stack == "space" else _three(grey)[:1]


def _three(grey: Shaped[np.ndarray, "z y x"]) -> list[Float[np.ndarray, "y x"]]:
    z, y, x = grey.shape
    found = [grey[z // 2]]
    if z >= _FEW_PLANES:
        found += [grey[:, y // 2], grey[:, :, x // 2]]
    return [np.nan_to_num(np.asarray(plane, np.float32)) for plane in found]


def small(plane: Float[np.ndarray, "y x"], rows: int = SIDE, columns: int = SIDE) -> Float[np.ndarray, "r c"]:
    """Return a plane in another size; each pixel is the mean of what it covers."""
    picture = PIL.Image.fromarray(np.ascontiguousarray(plane, np.float32))
    return np.asarray(picture.resize((columns, rows), PIL.Image.Resampling.BILINEAR), dtype=np.float32)


def dhash(plane: Float[np.ndarray, "y x"]) -> int:
    """Return 64 bits: whether each of 8 x 8 cells is darker than its neighbour.

    Source:
        N. Krawetz, "Kind of like that", 2013 (difference hash).

    Example:
        >>> import numpy as np
        >>> dhash(np.arange(72.0).reshape(8, 9)) == 2**64 - 1
        True
    """
    cells = small(plane, 8, 9)
    bits = (cells[:, 1:] > cells[:, :-1]).ravel()
    return int(np.packbits(bits).view(">u8")[0])


def read_planes(root: Path, places: Sequence[Place]) -> Iterator[tuple[Place, list[Float[np.ndarray, "y x"]] | str]]:
    """Yield the planes of each series, or why it can't be read; files of many images are opened once.

    Args:
        root: Folder of the archive.
        places: In the order of `places_of`.
    """
    held: tuple[tuple[str, str], np.ndarray] | None = None
    for place in places:
        try:
            if place.form == "npz":
                name, _, number = place.member.partition("/")
                if held is None or held[0] != (place.path, name):
                    held = ((place.path, name), _array(root / place.path, name))
                yield place, _planes_of_array(held[1][int(number)] if number else held[1])
            else:
                yield place, planes_of(_image(root / place.path, place.form))
        except DataError as error:
            reason = str(error)
            source = getattr(error, "source", None)
            yield place, reason.removeprefix(f"{source}: ") if source is not None else reason


def _image(path: Path, form: str) -> Image:
    if form != "dicom":
        return read_plain(path, form, path.name)
    images = read_study(path).study.images
    if not images:
        raise PixelError("holds no image that can be read")
    return images[0]


def _array(path: Path, name: str) -> Shaped[np.ndarray, "..."]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found: np.ndarray = arrays[name]
            return found
    except OSError as error:
        raise explain_os_error(error, path, doing="read") from error
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise PixelError("the copy in the archive is damaged; take it in again", source=path) from error


def _planes_of_array(array: Shaped[np.ndarray, "..."]) -> list[Float[np.ndarray, "y x"]]:
    if array.ndim == 3 and array.shape[-1] == 3:
        array = array.astype(np.float32).mean(axis=-1)
    if array.ndim < 2:
        raise PixelError("is no image: it has fewer than two axes")
    return _three(array.reshape((-1, *array.shape[-2:])))


def pictures_of(catalog: Catalog, places: Sequence[Place], *, progress: Progress | None = None) -> Pictures:
    """Return small pictures of series; what was made before is taken from ARCHIVE/derived.

    Raises:
        OutputError: They can't be kept.
    """
    folder = catalog.root / "derived" / _FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_os_error(error, folder, doing="write") from error
    known = _known(folder)
    missing = [place for place in places if place.key not in known]
    once = list({place.key: place for place in missing}.values())
    for first in range(0, len(once), _CHUNK):
        rows = [row for place, planes in read_planes(catalog.root, once[first : first + _CHUNK])
                for row in _rows(place.key, planes)]  # fmt: skip
        table = pa.Table.from_pylist(rows, schema=_SCHEMA)
        with atomic_path(folder / f"{len(list(folder.glob('*.parquet'))):06d}.parquet") as temporary:
            pq.write_table(table, temporary, compression="zstd")
        if progress is not None:
            progress("looking at images", min(1.0, (first + _CHUNK) / len(once)))
    known = _known(folder) if once else known
    seen = [(place, known[place.key]) for place in places]
    good = [(place, rows) for place, rows in seen if not rows[0]["trouble"]]
    return Pictures(
        tuple(place for place, _ in good),
        tuple(np.array([r["dhash"] for r in rows], dtype=np.uint64) for _, rows in good),
        tuple(np.stack([np.frombuffer(r["picture"], np.uint8) for r in rows]) for _, rows in good),
        np.array([rows[0]["spread"] for _, rows in good], dtype=np.float32),
        np.array([[r[0]["low"], r[0]["middle"], r[0]["high"]] for _, r in good], dtype=np.float32).reshape(-1, 3),
        tuple((place.series_uid, rows[0]["trouble"]) for place, rows in seen if rows[0]["trouble"]),
    )


def _rows(key: str, planes: list[Float[np.ndarray, "y x"]] | str) -> list[dict[str, Any]]:
    empty = {
        "key": key,
        "plane": 0,
        "dhash": 0,
        "spread": 0.0,
        "picture": bytes(SIDE * SIDE),
        "trouble": "",
        "low": 0.0,
        "middle": 0.0,
        "high": 0.0,
    }
    if isinstance(planes, str):
        return [{**empty, "trouble": planes}]
    rows = []
    for number, plane in enumerate(planes):
        low, middle, high = (float(v) for v in np.percentile(plane, (0.5, 50, 99.5)))
        tiny = small(np.clip(plane, low, high))
        width = float(tiny.max() - tiny.min())
        spread = float(tiny.std() / (plane.max() - plane.min())) if width > 0 else 0.0
        scaled = np.zeros(tiny.shape) if width <= 0 else (tiny - tiny.min()) * (255 / width)
        told = {
            "plane": number,
            "dhash": dhash(np.clip(plane, low, high)),
            "spread": spread,
            "picture": np.round(scaled).astype(np.uint8).tobytes(),
            "low": low,
            "middle": middle,
            "high": high,
        }
        rows.append({**empty, **told})
    return rows


def _known(folder: Path) -> dict[str, list[dict[str, Any]]]:
    known: dict[str, dict[int, dict[str, Any]]] = {}
    for file in sorted(folder.glob("*.parquet")):
        for row in pq.read_table(file).to_pylist():
            known.setdefault(str(row["key"]), {})[row["plane"]] = row
    return {key: [rows[n] for n in sorted(rows)] for key, rows in known.items()}
