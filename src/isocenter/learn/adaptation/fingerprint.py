"""What a labelled set is like: everything that a plan is drawn from, and nothing else.

Source:
    Isensee et al., Nature Methods 2021 (data-set fingerprint).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from isocenter.core import Image, Mask, Quantity
from isocenter.core.errors import DataError, IsocenterError
from isocenter.data.labelled import LabelledCase, LabelledSet
from isocenter.learn.adaptation.shelf import Shelf
from isocenter.models.orientation import Turned

__all__ = ["Fingerprint", "Read", "fingerprint", "read_cases"]

_SAMPLES = 20_000
Tell = Callable[[str, float], None]


@dataclass(frozen=True, eq=False)
class Read:
    """A case whose image and label were read.

    Args:
        case: The case.
        image: Its image.
        mask: Its label, where it is a mask.
    """

    case: LabelledCase
    image: Image
    mask: Mask | None


@dataclass(frozen=True)
class Fingerprint:
    """What a set is like; JSON-ready with `as_card`.

    Args:
        dims: 2 where every image is a single plane, 3 where every image is a volume.
        channels: Of every image; of grey and coloured pictures together, those of most. Colour that holds grey alone is
            one channel.
        modalities: That the images say; "" among them where one does not.
        orientation: The most frequent order and direction of axes; None where a place in the patient is not known.
        spacing_mm: Median along the turned axes; None where one image does not know it.
        size: Median shape, along the turned axes.
        smallest: Least shape.
        unit: "hounsfield" where all values are in HU, "arbitrary" else.
        foreground: Percentiles 0.5 and 99.5, mean and deviation of values inside masks (of all values without masks).
        balance: For masks, the share of all voxels of each class; else the number of cases of each class.
        cases: How many.
        patients: How many.
        shape_share: Share of voxels of the higher value, where no image holds another value than the same two: shapes,
            not pictures; None where they are pictures.
    """

    dims: int
    channels: int
    modalities: tuple[str, ...]
    orientation: str | None
    spacing_mm: tuple[float, float, float] | None
    size: tuple[int, int, int]
    smallest: tuple[int, int, int]
    unit: str
    foreground: tuple[float, float, float, float]
    balance: tuple[float, ...]
    cases: int
    patients: int
    shape_share: float | None = None

    def as_card(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def read_cases(
    labelled: LabelledSet, *, most_unreadable: float, tell: Tell, shelf: Shelf
) -> tuple[list[Read], dict[str, str]]:
    """Read every case; those that can't be read are named with the reason.

    Args:
        labelled: The set.
        most_unreadable: Largest share that may be left out.
        tell: Called with what is done, and how much of it.
        shelf: Where the voxels are kept.

    Returns:
        What was read, and why the others were not, by name.

    Raises:
        DataError: More than the share can't be read.
    """
    found: list[Read] = []
    failed: dict[str, str] = {}
    for number, case in enumerate(labelled.cases):
        try:
            image = case.image()
            mask = None if case.mask is None else case.mask(image.geometry)
            if not np.isfinite(image.array).all():
                raise DataError("holds values that are not finite")
        except (IsocenterError, OSError) as error:
            failed[case.name] = str(error)
        else:
            image = replace(image, array=shelf.keep(image.array), source=replace(image.source, sha256=image.sha256))
            mask = None if mask is None else replace(mask, array=shelf.keep(mask.array))
            found.append(Read(case, image, mask))
        if number % 20 == 19:
            tell("reading", (number + 1) / len(labelled.cases))
    if len(failed) > most_unreadable * len(labelled.cases):
        name, reason = next(iter(failed.items()))
        raise DataError(
            f"{len(failed)} of {len(labelled.cases)} cases can't be learnt from, more than {most_unreadable:.0%}; the "
            f"first, {name!r}: {reason}",
            source=labelled.name,
        )
    return found, failed


def fingerprint(labelled: LabelledSet, read: Sequence[Read]) -> Fingerprint:
    """Return what a set is like.

    Raises:
        DataError: Planes and volumes, or numbers of channels, are mixed.
    """
    images = [one.image for one in read]
    flat = [image.geometry.shape[0] == 1 for image in images]
    if any(flat) and not all(flat):
        raise DataError(
            f"{sum(flat)} images are single planes and {len(flat) - sum(flat)} are volumes; adapt to one kind",
            source=labelled.name,
        )
    counts = Counter(_channels(image) for image in images)
    channels = set(counts)
    pictures = all(i.quantity is Quantity.RGB for i in images if len(i.array) == 3) and all(flat)
    if channels == {1, 3} and pictures:  # grey beside coloured: what most are, as a mark in colour says nothing
        channels = {3 if counts[3] > counts[1] else 1}
    if len(channels) > 1:
        raise DataError(f"images have {sorted(channels)} channels; adapt to one kind", source=labelled.name)
    ways = Counter(image.geometry.orientation for image in images)
    orientation = None if None in ways else ways.most_common(1)[0][0]
    turns = [Turned.to(image.geometry, orientation) for image in images]
    spacings = [image.geometry.spacing_mm for image in images]
    shapes = np.array([[i.geometry.shape[a] for a in turn.order] for i, turn in zip(images, turns, strict=True)])
    known = [turn.of(s) for s, turn in zip(spacings, turns, strict=True) if s is not None]
    median = None
    if len(known) == len(images) and (orientation is not None or set(ways) == {None}):
        z, y, x = np.median(np.array(known), axis=0).tolist()
        median = (z, y, x)
    whole = np.median(shapes, axis=0).round().astype(int).tolist()
    least = shapes.min(axis=0).tolist()
    return Fingerprint(
        dims=2 if flat[0] else 3,
        channels=channels.pop(),
        modalities=tuple(sorted({image.modality for image in images})),
        orientation=orientation,
        spacing_mm=median,
        size=(whole[0], whole[1], whole[2]),
        smallest=(least[0], least[1], least[2]),
        unit="hounsfield" if all(i.quantity is Quantity.HU for i in images) else "arbitrary",
        foreground=_values(read),
        balance=_balance(labelled, read),
        cases=len(read),
        patients=len({one.case.patient for one in read}),
        shape_share=_shape_share(images),
    )


def _shape_share(images: Sequence[Image]) -> float | None:
    low, high = (float(f(images[0].array)) for f in (np.min, np.max))
    if low == high or not all(bool(np.all((i.array == low) | (i.array == high))) for i in images):
        return None
    return float(np.mean([(i.array == high).mean() for i in images]))


def _channels(image: Image) -> int:
    """Return the channels of an image: one for colour that holds grey alone."""
    if image.quantity is Quantity.RGB and len(image.array) == 3:
        red, green, blue = image.array
        return 1 if np.array_equal(red, green) and np.array_equal(green, blue) else 3
    return len(image.array)


def _values(read: Sequence[Read]) -> tuple[float, float, float, float]:
    rng = np.random.default_rng(0)
    each = max(50, _SAMPLES // len(read))
    taken = []
    for one in read:
        values = one.image.array[0]
        inside = values[one.mask.array > 0] if one.mask is not None else values.ravel()
        if len(inside):
            taken.append(inside[rng.integers(0, len(inside), each)].astype(np.float64))
    every = np.concatenate(taken) if taken else np.zeros(1)
    low, high = np.percentile(every, (0.5, 99.5))
    clipped = np.clip(every, low, high)
    return float(low), float(high), float(clipped.mean()), float(clipped.std())


def _balance(labelled: LabelledSet, read: Sequence[Read]) -> tuple[float, ...]:
    count = len(labelled.classes)
    if labelled.kind == "segment":
        voxels = np.zeros(count + 1)
        for one in read:
            if one.mask is not None:
                voxels += np.bincount(one.mask.array.ravel(), minlength=count + 1)[: count + 1]
        return tuple((voxels[1:] / max(1.0, voxels.sum())).tolist())
    if labelled.kind == "classify":
        return tuple(float(sum(one.case.target == number for one in read)) for number in range(count))
    if labelled.kind == "multilabel":
        return tuple(
            float(sum(isinstance(one.case.target, tuple) and one.case.target[n] == 1 for one in read))
            for n in range(count)
        )
    return (float(len(read)),)
