"""Pixels to learn from: read, prepared once, kept while there is memory; what can't be read is named and counted."""

from __future__ import annotations

import threading
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Shaped
from scipy import ndimage

from isocenter.core import Image, Quantity
from isocenter.core.errors import DataError, PixelError
from isocenter.data.images.dicom import read_dicom
from isocenter.data.images.nifti import read_nifti
from isocenter.data.images.nrrd import read_nrrd
from isocenter.data.images.picture import read_picture
from isocenter.learn.pretraining.args import PretrainingArgs
from isocenter.learn.pretraining.crops import generator
from isocenter.learn.pretraining.files import Entry, Index
from isocenter.models.preparation import normalise

__all__ = ["Images", "Prepared", "prepare"]

_ISOTROPIC = 1.5
"""Largest ratio of spacings at which planes across all axes look alike."""
_ORDER = 11
_FIRST_NAMED = 3
_TRIES = 10

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image ready to be shown.

    Args:
        array: Intensities of mean 0 and standard deviation 1, (channel, z, y, x), kept in 16 bits.
        axes: Axes that planes may be cut across: all three of an isotropic volume, else the first.
    """

    array: Float[np.ndarray, "channel z y x"]
    axes: tuple[int, ...]


class Images:
    """The images of an index.

    Args:
        index: Which there are.
        args: How they are prepared.
    """

    def __init__(self, index: Index, args: PretrainingArgs) -> None:
        self.index, self._args = index, args
        self.learnt, self.held = index.split(args.images.held_out)
        self.unreadable: dict[str, str] = {}
        self._most = args.images.cache_mb * 2**20
        self._kept: OrderedDict[object, tuple[int, object]] = OrderedDict()
        self._bytes = 0
        self._orders: dict[int, list[int]] = {}
        self._lock = threading.Lock()

    def draw(self, number: int, rng: np.random.Generator, *, held: bool = False) -> Float[np.ndarray, "channel *space"]:
        """Return an image, or a plane of one, as the configuration has two or three axes.

        Args:
            number: Of the sample, counted from the start of the run; each image comes once an epoch.
            rng: Chooses among what an entry holds, and another entry where one can't be read.
            held: Whether it comes from those held out.

        Raises:
            DataError: More images can't be read than the configuration allows.
        """
        pool = self.held if held else self.learnt
        epoch, place = divmod(number, len(pool))
        entry = pool[place] if held else pool[self._order(epoch)[place]]
        for _ in range(_TRIES * len(pool)):
            try:
                prepared = self._prepared(entry)
            except DataError as error:
                self._refuse(entry, error)
                entry = pool[int(rng.integers(len(pool)))]
                continue
            return self._shown(prepared[int(rng.integers(len(prepared)))], rng)
        raise self._too_many()

    def _order(self, epoch: int) -> list[int]:
        with self._lock:
            if epoch not in self._orders:
                self._orders = {k: v for k, v in self._orders.items() if k == epoch - 1}
                self._orders[epoch] = generator(self._args.seed, _ORDER, epoch).permutation(len(self.learnt)).tolist()
            return self._orders[epoch]

    def _shown(self, image: Prepared, rng: np.random.Generator) -> Float[np.ndarray, "channel *space"]:
        if len(self._args.pixels) == 3:
            return image.array
        axis = image.axes[int(rng.integers(len(image.axes)))]
        # A plane beside the body is flat: another is tried, a few times.
        for _ in range(4):
            plane = np.take(image.array, int(rng.integers(image.array.shape[1 + axis])), axis=1 + axis)
            if float(plane.max()) > float(plane.min()):
                break
        shown: Float[np.ndarray, "channel *space"] = plane
        return shown

    def _refuse(self, entry: Entry, error: DataError) -> None:
        name = entry.name + (f" {entry.array}[{entry.row}]" if entry.kind == "npz" else "")
        with self._lock:
            reason = str(error).removeprefix(f"{error.source}: ")
            self.unreadable.setdefault(name, reason)
            too_many = len(self.unreadable) > self._args.images.most_unreadable * len(self.index.entries)
        if too_many:
            raise self._too_many()

    def _too_many(self) -> DataError:
        bad, total, most = len(self.unreadable), len(self.index.entries), self._args.images.most_unreadable
        first = "; ".join(f"{name}: {reason}" for name, reason in list(self.unreadable.items())[:_FIRST_NAMED])
        more = f" (and {bad - _FIRST_NAMED} more)" if bad > _FIRST_NAMED else ""
        return DataError(
            f"{bad} of {total} images can't be learnt from; `images.most_unreadable` allows a share of {most:g}: "
            f"{first}{more}. Repair them, or leave them out (`images.leave_out`)",
            source=self.index.name,
        )

    def refused(self) -> dict[str, str]:
        """Return what could not be learnt from so far, and why, by name."""
        with self._lock:
            return dict(self.unreadable)

    def _prepared(self, entry: Entry) -> list[Prepared]:
        def make() -> tuple[int, list[Prepared]]:
            found = [prepare(image, self._args) for image in self._read(entry)]
            if not found:
                raise PixelError("there is no image in it; leave it out", source=entry.name)
            return sum(p.array.nbytes for p in found), found

        return self._cached(entry, make)

    def _cached(self, key: object, make: Callable[[], tuple[int, T]]) -> T:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][1]  # type: ignore[return-value]
        size, value = make()
        with self._lock:
            if key not in self._kept and size <= self._most:
                self._kept[key] = (size, value)
                self._bytes += size
                while self._bytes > self._most:
                    self._bytes -= self._kept.popitem(last=False)[1][0]
        return value

    def _read(self, entry: Entry) -> Sequence[Image | Shaped[np.ndarray, "channel z y x"]]:
        file, name = entry.files[0], entry.name
        if entry.kind == "npz":
            return [_row(self._cached((file, entry.array), lambda: _array(file, entry))[entry.row])]
        if entry.kind == "dicom":
            return read_dicom(entry.files, root=file.parent)[0].images
        readers: Mapping[str, Callable[..., Image]] = {
            "nifti": read_nifti,
            "nrrd": read_nrrd,
            "picture": read_picture,
        }
        return [readers[entry.kind](file, name=name)]


def prepare(image: Image | Shaped[np.ndarray, "channel z y x"], args: PretrainingArgs) -> Prepared:
    """Bring an image to the channels, spacing and intensities that networks learn from.

    Args:
        image: As read; an array where nothing but its numbers is known.
        args: What is wanted.

    Raises:
        DataError: It is flat, holds values that are not finite, or is a plane where volumes are learnt from.
    """
    array = image.array if isinstance(image, Image) else image
    spacing = image.geometry.spacing_mm if isinstance(image, Image) else None
    in_space = isinstance(image, Image) and image.geometry.stack == "space" and array.shape[1] > 1
    colour = image.quantity is Quantity.RGB if isinstance(image, Image) else array.shape[0] == 3
    if len(args.pixels) == 3 and (array.shape[1] == 1 or (isinstance(image, Image) and not in_space)):
        raise PixelError("a plane or a cine, and volumes are learnt from (`pixels` has three sides); leave it out")
    if array.shape[0] > 1 and not (colour and args.channels == 3):
        # Time points and echoes show the same place: the first of them. Of colour the mean.
        array = array.mean(0, keepdims=True, dtype=np.float32) if colour else array[:1]
    scaled = normalise(
        array.astype(np.float32), low_percent=args.images.low_percent, high_percent=args.images.high_percent
    )
    if args.images.spacing_mm is not None and spacing is not None:
        scaled = _respaced(scaled, spacing, args.images.spacing_mm)
    if scaled.shape[0] < args.channels:
        scaled = np.repeat(scaled, args.channels, axis=0)
    isotropic = in_space and spacing is not None and max(spacing) <= _ISOTROPIC * min(spacing)
    return Prepared(scaled.astype(np.float16), (0, 1, 2) if isotropic else (0,))


def _respaced(
    array: Float[np.ndarray, "channel z y x"], spacing: Sequence[float], wanted: float
) -> Float[np.ndarray, "channel z2 y2 x2"]:
    factors = [1.0 if n == 1 else s / wanted for n, s in zip(array.shape[1:], spacing, strict=True)]
    blur = [0.0, *(max(0.0, 0.5 * (1 / f - 1)) for f in factors)]
    smooth = ndimage.gaussian_filter(array, blur) if max(blur) > 0 else array
    respaced: Float[np.ndarray, "channel z2 y2 x2"] = ndimage.zoom(
        smooth, (1.0, *factors), order=1, mode="nearest", grid_mode=True
    )
    return respaced


def _array(file: Path, entry: Entry) -> tuple[int, Shaped[np.ndarray, "..."]]:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            array = arrays[entry.array]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise PixelError("the .npz is damaged; fetch it again", source=entry.name) from error
    return array.nbytes, array


def _row(row: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "channel z y x"]:
    """Return a row of an array of images: (y, x), (y, x, 3), (z, y, x) or (z, y, x, 3)."""
    row = np.moveaxis(row, -1, 0) if row.shape[-1] == 3 and row.ndim > 2 else row[None]
    if row.ndim == 3:
        row = row[:, None]
    if row.ndim != 4:
        raise PixelError(f"an array of {row.ndim - 1} axes and no image; leave it out")
    return row
