"""Anterior and posterior hippocampus: from any grid to the network's grid, and back to the voxels that came in.

The network sees a 1 mm grid along the patient's own axes, whatever the orientation, obliqueness and spacing of the
input: so the 48 orientations of one image give one answer in the patient. Which hippocampus it is, left or right,
can't be told from a crop, and is not said. Each label of the prompts is looked for on its own, and its parts bear it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from types import MappingProxyType

import numpy as np
from jaxtyping import Float, UInt16
from scipy import ndimage

from isocenter.core import (
    Code,
    Geometry,
    Image,
    Likeness,
    Mask,
    Measurement,
    Prediction,
    Prompt,
    Segment,
    Step,
    Study,
    TaskCard,
    Uncertainty,
)
from isocenter.core.errors import GeometryError, PixelError
from isocenter.core.mask import ANATOMICAL_STRUCTURE
from isocenter.core.units import UCUM
from isocenter.models.preparation import keep_largest, normalise
from isocenter.models.segmentation import Probabilities, build_unet, predict, self_agreement
from isocenter.models.weights import load_weights
from isocenter.tasks.segment.answer import (
    alike_prepared,
    doubtful,
    expected_quality,
    gate_beside,
    input_name,
    model_ref,
    only_image,
)
from isocenter.tasks.segment.hippocampus_t1.cards import CARD

__all__ = ["HippocampusT1"]

HIPPOCAMPUS = Code("5366008", "SCT", "Hippocampus")
VOLUME = Code("118565006", "SCT", "Volume")

WINDOW_MM = (36, 50, 36)
"""Sides (z, y, x) of the crop around a prompt: the median crop that the network learnt on."""

LARGEST_CROP_MM = 64.0
"""A side longer than this is more than a crop around a hippocampus: a prompt must say where to look."""

SMALLEST_CROP_MM = 20.0
PLAUSIBLE_ML = (0.5, 8.0)
"""Volume of one adult hippocampus with generous margins; outside it, the outline is not offered."""

LONGEST_ECHO_MS = 30.0
LONGEST_GRADIENT_ECHO_MS = 15.0
LONGEST_REPETITION_MS = 2000.0
"""Above these an MR image is not T1-weighted: the echo of any sequence, the echo of a gradient echo, and the repetition
of a spin echo without inversion. (Westbrook, MRI in Practice: T1 weighting has short echo and short repetition times.)
"""

PARTS = ("anterior part", "posterior part")
LONGEST_LABEL = 64 - len(", ") - max(map(len, PARTS))
"""Characters of a target's label that leave room for the name of a part in a segment's 64."""

_COLOURS = ((230, 120, 40), (60, 150, 220), (235, 200, 60), (150, 110, 220))
_UNNAMED = next(str(f.default) for f in fields(Prompt) if f.name == "label")

_MARGIN = 8
"""Voxels kept around what is sampled: more than the smoothing of a 0.3 mm grid reaches."""


@dataclass(frozen=True, eq=False)
class _Crop:
    """A 1 mm grid along the patient's axes, and the image's voxels on it."""

    start_lps_mm: Float[np.ndarray, "3"]
    prepared: Float[np.ndarray, "z y x"]

    @property
    def geometry(self) -> Geometry:
        x, y, z = self.start_lps_mm.tolist()
        shape = self.prepared.shape
        return Geometry.axial((shape[0], shape[1], shape[2]), spacing_mm=(1.0, 1.0, 1.0), origin_mm=(x, y, z))


@dataclass(frozen=True, eq=False)
class _Found:
    """One hippocampus: the label it was asked under ("" for none), its parts 1 and 2, and how sure."""

    label: str
    crop: _Crop
    array: UInt16[np.ndarray, "z y x"]
    volume_ml: tuple[float, float]
    quality: Uncertainty
    likeness: Likeness | None


@dataclass(frozen=True)
class _Refused:
    """Why one hippocampus is not outlined, and how like the known crops the place is, where that was looked at."""

    reason: str
    likeness: Likeness | None = None


class HippocampusT1:
    """The task `hippocampus-t1`; loads its weights when made.

    Args:
        weights: Built-in name, or path of a ``.safetensors`` file with its card.

    Raises:
        WeightsError: The weights or their gate are missing, altered or of another network.
    """

    def __init__(self, weights: str = CARD.weights) -> None:
        loaded = load_weights(weights)
        self._passport = loaded.card
        self._net = build_unet(loaded)
        self._gate = gate_beside(weights)

    @property
    def card(self) -> TaskCard:
        """What the task is for."""
        return CARD

    def run(self, study: Study, prompts: Sequence[Prompt] = ()) -> Prediction:
        """Outline the hippocampus in a crop, or one for each label of the prompts in a volume; or abstain."""
        image = only_image(study)
        if isinstance(image, str):
            return Prediction.abstain(CARD.name, image)
        inputs = (input_name(image),)
        reason = _unfit(image, prompts)
        if reason is not None:
            return Prediction.abstain(CARD.name, reason, inputs=inputs)
        found: list[_Found] = []
        for label in dict.fromkeys(p.label for p in prompts) or ("",):
            one = self._find(image, label, [p for p in prompts if p.label == label], first=2 * len(found) + 1)
            if isinstance(one, _Refused):
                where = f"{label[:LONGEST_LABEL]!r}: " if len({p.label for p in prompts}) > 1 else ""
                return Prediction.abstain(CARD.name, where + one.reason, inputs=inputs, likeness=one.likeness)
            found.append(one)
        array = _together(found)
        if isinstance(array, str):
            return Prediction.abstain(CARD.name, array, inputs=inputs)
        volumes = enumerate((ml for one in found for ml in one.volume_ml), start=1)
        return Prediction(
            Mask(array, image.geometry, _segments([one.label for one in found]), image.source),
            CARD.name,
            uncertainty=_least_sure(found),
            model=model_ref(self._passport),
            inputs=inputs,
            steps=_steps(image, [one.crop for one in found]),
            measurements=tuple(Measurement(VOLUME, ml, UCUM["mL"], segment=number) for number, ml in volumes),
            notes=(
                "Left and right were not told apart: they can't be from the region that the network sees. A side that "
                "is stated was stated by whoever pointed.",
            ),
            likeness=_least_alike(found),
        )

    def _find(self, image: Image, label: str, prompts: Sequence[Prompt], *, first: int) -> _Found | _Refused:
        """Outline one hippocampus, whose parts will be the segments `first` and `first` + 1; or say why not."""
        try:
            crop, looked = self._look(image, prompts)
        except PixelError as error:
            return _Refused(str(error))
        likeness, reason = alike_prepared(self._gate, crop.prepared)
        if reason is not None:
            return _Refused(reason, likeness)
        agreement = self_agreement(looked)
        array = _back(looked, crop, image.geometry)
        quality = expected_quality(self._passport, agreement, {first: 1, first + 1: 2})
        volume_ml = (_volume_ml(array == 1, image.geometry), _volume_ml(array == 2, image.geometry))
        reason = _implausible(volume_ml) or doubtful(self._passport, agreement)
        if reason is not None:
            return _Refused(reason, likeness)
        return _Found("" if label == _UNNAMED else label, crop, array, volume_ml, quality, likeness)

    def _look(self, image: Image, prompts: Sequence[Prompt]) -> tuple[_Crop, Probabilities]:
        if not prompts:
            crop = _crop_of(image, None)
            return crop, predict(self._net, crop.prepared)
        points = np.concatenate([_as_lps(prompt, image.geometry) for prompt in prompts])
        crop = _crop_of(image, (points.min(0) + points.max(0)) / 2)
        first = predict(self._net, crop.prepared)
        found = np.argwhere(keep_largest(first.mean.argmax(0), 1) > 0)
        if not len(found):
            return crop, first
        # A click is rarely at the centre: look again, centred on what was found.
        middle = crop.geometry.to_world(((found.min(0) + found.max(0)) / 2)[None])[0]
        crop = _crop_of(image, middle)
        return crop, predict(self._net, crop.prepared)


def _unfit(image: Image, prompts: Sequence[Prompt]) -> str | None:
    misfit = CARD.misfit(image)
    if misfit is not None:
        return misfit
    if image.array.shape[0] != 1:
        return f"needs one channel, this image has {image.array.shape[0]} (echoes or time points); choose one"
    unknown = sorted({prompt.kind for prompt in prompts} - set(CARD.prompts))
    if unknown or any(not prompt.positive for prompt in prompts):
        return f"takes positive prompts of kind {' or '.join(CARD.prompts)} only"
    contrast = _not_t1(image)
    if contrast is not None:
        return contrast
    longest = max((len(prompt.label) for prompt in prompts), default=0)
    if longest > LONGEST_LABEL:
        return f"a label has {longest} characters; the names of the parts leave room for {LONGEST_LABEL}: shorten it"
    extent = _extent_mm(image.geometry)
    if min(extent) < SMALLEST_CROP_MM:
        return (
            f"the image is {min(extent):.0f} mm thin; a hippocampus needs at least {SMALLEST_CROP_MM:.0f} mm each way"
        )
    if prompts:
        points = np.concatenate([_as_lps(prompt, image.geometry) for prompt in prompts])
        if not image.geometry.contains_index(image.geometry.to_index(points)).all():
            return "a prompt lies outside the image; give it in patient millimetres (LPS) inside the image"
    elif max(extent) > LARGEST_CROP_MM:
        return (
            f"the image covers {max(extent):.0f} mm, more than a crop around a hippocampus ({LARGEST_CROP_MM:.0f} mm); "
            "give a point or box prompt in patient millimetres (LPS) at the hippocampus"
        )
    return None


def _not_t1(image: Image) -> str | None:
    """Return why the header's times are not those of T1 weighting, or None; a header without times says nothing."""
    echo, repetition = _number(image.meta.get("EchoTime")), _number(image.meta.get("RepetitionTime"))
    sequence = set(re.split(r"[^A-Z]+", str(image.meta.get("ScanningSequence", "")).upper()))
    inverted = "IR" in sequence or (_number(image.meta.get("InversionTime")) or 0) > 0
    least = LONGEST_GRADIENT_ECHO_MS if "GR" in sequence and "SE" not in sequence else LONGEST_ECHO_MS
    if echo is not None and echo > least:
        return f"needs a T1-weighted image; the header's echo time of {echo:g} ms is longer than T1 weighting has"
    if repetition is not None and repetition > LONGEST_REPETITION_MS and "SE" in sequence and not inverted:
        return (
            f"needs a T1-weighted image; the header's repetition time of {repetition:g} ms, in a spin echo without "
            "inversion, is longer than T1 weighting has"
        )
    return None


def _number(value: object) -> float | None:
    """Return the first finite number of a header value, or None."""
    first = value[0] if isinstance(value, list | tuple) and value else value
    try:
        number = float(str(first))
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _implausible(volume_ml: Sequence[float]) -> str | None:
    total = sum(volume_ml)
    if not PLAUSIBLE_ML[0] <= total <= PLAUSIBLE_ML[1] or min(volume_ml) <= 0:
        return (
            f"what was found measures {total:.2f} mL, implausible for a hippocampus ({PLAUSIBLE_ML[0]} to "
            f"{PLAUSIBLE_ML[1]} mL, both parts present); check that this is a T1 image and that the region is right"
        )
    return None


def _as_lps(prompt: Prompt, geometry: Geometry) -> Float[np.ndarray, "n 3"]:
    if prompt.frame == "lps_mm":
        return np.asarray(prompt.coordinates, dtype=np.float64)
    return geometry.to_world(prompt.coordinates)


def _extent_mm(geometry: Geometry) -> tuple[float, ...]:
    spacing = geometry.spacing_mm
    if spacing is None:
        raise GeometryError("the image has no place in the patient")
    return tuple(n * s for n, s in zip(geometry.shape, spacing, strict=True))


def _volume_ml(mask: np.ndarray, geometry: Geometry) -> float:
    return float(mask.sum()) * float(geometry.voxel_volume_mm3 or 0.0) / 1000


def _corners_lps_mm(geometry: Geometry) -> Float[np.ndarray, "8 3"]:
    """Centres of the corner voxels, rounded to a nanometre: the 48 orientations differ by rounding noise alone."""
    corners = np.array(list(product(*[(0, n - 1) for n in geometry.shape])), dtype=np.float64)
    return geometry.to_world(corners).round(6)


def _crop_of(image: Image, middle_lps_mm: Float[np.ndarray, "3"] | None) -> _Crop:
    """Sample the image on a 1 mm grid along the patient's axes: all of it, or a window around a place."""
    corners = _corners_lps_mm(image.geometry)
    if middle_lps_mm is None:
        start = corners.min(0)
        shape_xyz = np.floor(corners.max(0) - start + 1e-6).astype(int) + 1
    else:
        shape_xyz = np.array(WINDOW_MM[::-1])
        start = (middle_lps_mm - (shape_xyz - 1) / 2).round(6)
    shape = (int(shape_xyz[2]), int(shape_xyz[1]), int(shape_xyz[0]))
    axes, flips = image.geometry.canonical_steps()
    voxels = np.flip(image.array[0].transpose(axes), tuple(i for i, flip in enumerate(flips) if flip))
    source = image.geometry.reoriented(axes, flips)
    target = Geometry.axial(
        shape, spacing_mm=(1.0, 1.0, 1.0), origin_mm=(float(start[0]), float(start[1]), float(start[2]))
    )
    matrix, offset = _index_map(target, source)
    near = _touched(source, target)
    smooth = _smooth(voxels[near].astype(np.float64), source)
    start_index = np.array([part.start for part in near], dtype=np.float64)
    sampled = ndimage.affine_transform(smooth, matrix, offset - start_index, shape, order=1, mode="nearest")
    index = np.indices(shape).reshape(3, -1).T @ matrix.T + offset
    inside = source.contains_index(index).reshape(shape)
    prepared = np.zeros(shape, dtype=np.float32)
    if inside.sum() < 2:
        raise PixelError("the prompt points at the edge of the image, with too little of it around")
    prepared[inside] = normalise(sampled[inside])
    return _Crop(start, prepared)


def _smooth(voxels: Float[np.ndarray, "z y x"], geometry: Geometry) -> Float[np.ndarray, "z y x"]:
    """Blur axes finer than 1 mm, so that sampling at 1 mm does not alias."""
    sigma = [0.5 * max(0.0, 1 / s - 1) if s < 0.999 else 0.0 for s in _spacing(geometry)]
    blurred: Float[np.ndarray, "z y x"] = ndimage.gaussian_filter(voxels, sigma) if max(sigma) else voxels
    return blurred


def _spacing(geometry: Geometry) -> tuple[float, float, float]:
    if geometry.spacing_mm is None:
        raise GeometryError("the image has no place in the patient")
    return geometry.spacing_mm


def _index_map(target: Geometry, source: Geometry) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
    """Return (matrix, offset) from target index to source index, free of the last bits of noise."""
    to_source = np.linalg.inv(source.require_affine()) @ target.require_affine()
    return to_source[:3, :3].round(9), to_source[:3, 3].round(6)


def _back(looked: Probabilities, crop: _Crop, geometry: Geometry) -> UInt16[np.ndarray, "z y x"]:
    """Carry probabilities to the voxels that came in, choose the likeliest class, keep the largest part."""
    axes, flips = geometry.canonical_steps()
    target = geometry.reoriented(axes, flips)
    matrix, offset = _index_map(target, crop.geometry)
    canonical = np.zeros(target.shape, dtype=np.uint16)
    box = _touched(target, crop.geometry)
    shape = tuple(part.stop - part.start for part in box)
    start = np.array([part.start for part in box], dtype=np.float64)
    values = [
        ndimage.affine_transform(
            p.astype(np.float64), matrix, offset + matrix @ start, shape, order=1, mode="constant",
            cval=1.0 if number == 0 else 0.0,
        )
        for number, p in enumerate(looked.mean)
    ]  # fmt: skip
    canonical[box] = keep_largest(np.stack(values).argmax(0).astype(np.uint16), 1)
    flipped = np.flip(canonical, tuple(i for i, flip in enumerate(flips) if flip))
    return np.ascontiguousarray(flipped.transpose(np.argsort(axes)))


def _touched(grid: Geometry, other: Geometry) -> tuple[slice, slice, slice]:
    """The box of a grid's voxels that another grid can reach, with a margin for smoothing."""
    index = grid.to_index(_corners_lps_mm(other)).round(6)
    low = np.clip(np.floor(index.min(0)).astype(int) - _MARGIN, 0, np.array(grid.shape) - 1)
    high = np.clip(np.ceil(index.max(0)).astype(int) + _MARGIN + 1, low + 1, grid.shape)
    return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])


def _together(found: Sequence[_Found]) -> UInt16[np.ndarray, "z y x"] | str:
    """Number the parts of all hippocampi through, or say which two are one."""
    array = found[0].array.copy()
    for number, one in enumerate(found[1:], start=1):
        inside = one.array > 0
        if (array[inside] > 0).any():
            met = found[(int(array[inside].max()) - 1) // 2]
            return f"{met.label!r} and {one.label!r} lead to the same hippocampus; point at the middle of each"
        array[inside] = one.array[inside] + np.uint16(2 * number)
    return array


def _least_sure(found: Sequence[_Found]) -> Uncertainty:
    """Return the uncertainty of the hippocampus that is least sure, with the expected Dice of every part."""
    least = min(found, key=lambda one: one.quality.low or 0.0)
    if len(found) == 1:
        return least.quality
    return replace(
        least.quality,
        description=f"Of the least sure of {len(found)}, {least.label!r}: {least.quality.description}",
        per_segment=MappingProxyType({n: value for one in found for n, value in one.quality.per_segment.items()}),
    )


def _least_alike(found: Sequence[_Found]) -> Likeness | None:
    """Return the likeness of the place that is strangest; None without a gate."""
    known = [one.likeness for one in found if one.likeness is not None]
    return max(known, key=lambda one: one.score, default=None)


def _segments(labels: Sequence[str]) -> tuple[Segment, ...]:
    names = [f"{label or 'Hippocampus'}, {part}" for label in labels for part in PARTS]
    return tuple(
        Segment(
            number,
            name,
            ANATOMICAL_STRUCTURE,
            HIPPOCAMPUS,
            algorithm_name=CARD.name,
            colour=_COLOURS[(number - 1) % len(_COLOURS)],
        )
        for number, name in enumerate(names, start=1)
    )


def _steps(image: Image, crops: Sequence[_Crop]) -> tuple[Step, ...]:
    axes, flips = image.geometry.canonical_steps()
    places = tuple(
        Step(
            "resample linearly to 1 mm along the patient's axes",
            MappingProxyType(
                {
                    "segments": (2 * number + 1, 2 * number + 2),
                    "start_lps_mm": tuple(crop.start_lps_mm.tolist()),
                    "shape": crop.prepared.shape,
                }
            ),
        )
        for number, crop in enumerate(crops)
    )
    return (
        Step("reorient to axial SPL", MappingProxyType({"axes": axes, "flips": flips})),
        *places,
        Step("clip to percentiles, mean 0, deviation 1", MappingProxyType({"percentiles": (0.5, 99.5)})),
        Step("mean of the image and its left-right mirror image"),
    )
