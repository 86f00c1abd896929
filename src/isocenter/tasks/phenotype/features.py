"""All radiomic features of all segments of a mask, as the Image Biomarker Standardisation Initiative defines them.

mask -> regions (cut, resegmented, discretised) -> shape and intensity one by one; texture of all regions at once. A
feature that can't be is None with its reason; none is NaN, and none is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from isocenter.core import Geometry, Image, Mask, Quantity
from isocenter.core.errors import GeometryError, PixelError
from isocenter.tasks.phenotype.cooccurrence import cooccurrence_features
from isocenter.tasks.phenotype.discretise import (
    Binned,
    Region,
    discretise,
    resegment,
    too_many,
    volume_discretisation,
)
from isocenter.tasks.phenotype.intensity import (
    PEAK_RADIUS_MM,
    histogram_features,
    intensity_statistics,
    intensity_volume_features,
    local_peaks,
)
from isocenter.tasks.phenotype.levels import Levels, LevelStack
from isocenter.tasks.phenotype.morphology import Shape, morphology_features
from isocenter.tasks.phenotype.names import FEATURES, feature_name
from isocenter.tasks.phenotype.neighbourhood import neighbourhood_features
from isocenter.tasks.phenotype.runs import run_features
from isocenter.tasks.phenotype.settings import FeatureSettings
from isocenter.tasks.phenotype.zones import zone_features

__all__ = ["RadiomicFeature", "RegionFeatures", "cut_out", "radiomic_features", "tags_of", "unit_of"]

Value = float | str
"""A number, or why there is none."""

_DIRECTIONAL = ("2D_avg", "2D_comb", "2_5D_avg", "2_5D_comb", "3D_avg", "3D_comb")
_PLAIN = ("2D", "2_5D", "3D")
_ENDS = {"cm": _DIRECTIONAL, "rlm": _DIRECTIONAL, "szm": _PLAIN, "dzm": _PLAIN, "ngt": _PLAIN, "ngl": _PLAIN}
_TEXTURE: tuple[tuple[frozenset[str], Callable[[LevelStack], dict[str, np.ndarray]]], ...] = (
    (frozenset({"cm"}), cooccurrence_features),
    (frozenset({"rlm"}), run_features),
    (frozenset({"szm", "dzm"}), zone_features),
    (frozenset({"ngt", "ngl"}), neighbourhood_features),
)
_STACK_VOXELS = 1 << 25
_LENGTHS = ("morph_com", "morph_diam", "morph_pca_maj_axis", "morph_pca_min_axis", "morph_pca_least_axis")
_RATIOS = ("stat_skew", "stat_kurt", "stat_cov", "stat_qcod")
_INTENSITY_UNITS = {
    Quantity.HU: "[hnsf'U]", Quantity.SUVBW: "{SUVbw}g/ml", Quantity.BQML: "Bq/ml", Quantity.GY: "Gy",
}  # fmt: skip


@dataclass(frozen=True)
class RadiomicFeature:
    """One feature of one region.

    Args:
        tag: As in the IBSI reference tables; see `feature_name`.
        value: The number, or None.
        reason: Why there is none; "" where there is one.
    """

    tag: str
    value: float | None
    reason: str = ""


@dataclass(frozen=True)
class RegionFeatures:
    """All features of one segment.

    Args:
        segment: Its number.
        voxels: How many it has.
        counted: How many of them count for intensity.
        touches_border: Whether it reaches the image's edge, so that its size may be cut off.
        features: Every feature that was asked for, in the order of `FEATURES`.
        steps: How voxels were chosen and discretised.
        notes: What the reader should know.
    """

    segment: int
    voxels: int
    counted: int
    touches_border: bool
    features: tuple[RadiomicFeature, ...]
    steps: dict[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def value(self, tag: str) -> float | None:
        """Return the value of a feature.

        Raises:
            KeyError: It was not asked for, or there is none of this tag.
        """
        return {f.tag: f.value for f in self.features}[tag]


def tags_of(settings: FeatureSettings) -> tuple[str, ...]:
    """Return the tags of all features that settings ask for.

    Example:
        >>> len(tags_of(FeatureSettings()))
        487
    """
    found = []
    for base in FEATURES:
        family = base.split("_", 1)[0]
        if family not in settings.families:
            continue
        ends = _ENDS.get(family)
        found += [base] if ends is None else [f"{base}_{end}" for end in ends if end in settings.aggregations]
    return tuple(found)


def radiomic_features(
    image: Image, mask: Mask, settings: FeatureSettings | None = None, *, response: Image | None = None
) -> tuple[RegionFeatures, ...]:
    """Compute the radiomic features of every segment of a mask.

    Args:
        image: The image, of one channel.
        mask: Its mask, on the same grid; probabilities count from 0.5.
        settings: What, and how; None for the defaults.
        response: A response map of the image: intensities are taken from it, once the image has decided which voxels
            count; None for the image itself.

    Returns:
        Segment by segment in the mask's order. "Slices" of 2D and 2.5D features lie across the first axis (z) of the
        array; distances of texture are in voxels, so that voxels should be alike in all directions for 3D features.

    Raises:
        GeometryError: Image and mask are on different grids, or the image is a cine.
        PixelError: The image has more than one channel.
        UnitsError: A fixed bin size for a quantity without a known lowest intensity, and no range was given.

    Source:
        IBSI reference manual, 2019 (https://arxiv.org/abs/1612.07003); Zwanenburg 2020.

    Example:
        >>> from isocenter.core import Segment
        >>> grid = Geometry.axial((4, 5, 6), spacing_mm=(2.0, 2.0, 2.0))
        >>> labels = np.zeros((4, 5, 6), np.uint16)
        >>> labels[1:3, 1:4, 2:6] = 1
        >>> values = np.arange(120.0).reshape(1, 4, 5, 6)
        >>> (found,) = radiomic_features(Image(values, grid), Mask(labels, grid, (Segment(1, "box"),)))
        >>> round(found.value("morph_vol_approx") or 0, 9), found.value("stat_mean")
        (192.0, 60.5)
    """
    settings = settings or FeatureSettings()
    if not image.geometry.same_grid(mask.geometry):
        raise GeometryError(
            f"the mask's grid {mask.geometry.shape} is not the image's {image.geometry.shape}; resample the mask first",
            source=image.source.series_uid,
        )
    if image.array.shape[0] != 1:
        raise PixelError(f"features need an image of one channel, this one has {image.array.shape[0]}")
    if image.geometry.stack != "space":
        raise GeometryError("the frames of a cine are no slices; features need an image in space")
    regions = [
        None if box is None else resegment(number, box, inside, image.array[0][box], settings)
        for number, box, inside in cut_out(mask)
    ]
    if response is not None:
        regions = [None if r is None else _responding(r, response) for r in regions]
        # What was out of range was so in the image's unit; the map has none.
        image, settings = response, replace(settings, intensity_range=(None, None), outlier_deviations=None)
    values: list[dict[str, Value]] = [{} for _ in regions]
    texture: list[tuple[int, Levels]] = []
    for index, region in enumerate(regions):
        if region is None:
            continue
        values[index], levels = _one(image, region, settings)
        if levels is not None:
            texture.append((index, levels))
    for index, found in _textures(texture, settings, image.geometry.shape[0] > 1):
        values[index] |= found
    tags = tags_of(settings)
    return tuple(
        _result(segment.number, region, found, tags, image.geometry)
        for segment, region, found in zip(mask.segments, regions, values, strict=True)
    )


def _responding(region: Region, response: Image) -> Region:
    values = response.array[0][region.box].astype(np.float64)
    finite = bool(np.isfinite(values[region.inside]).all())
    problem = region.problem or ("" if finite else "the response map holds values that are not finite numbers")
    return replace(region, values=np.where(np.isfinite(values), values, 0), problem=problem)


def cut_out(
    mask: Mask,
) -> Iterator[tuple[int, tuple[slice, slice, slice] | None, Bool[np.ndarray, "z y x"]]]:
    """Yield number, bounding box (None for an empty segment) and voxels in it of each segment."""
    boxes = ndimage.find_objects(mask.array) if mask.is_labelmap else []
    for segment in mask.segments:
        number = segment.number
        if mask.is_labelmap:
            box = boxes[number - 1] if number <= len(boxes) else None
            yield number, box, np.zeros((0, 0, 0), np.bool_) if box is None else mask.array[box] == number
            continue
        whole = mask.segment_array(number)
        found = ndimage.find_objects(whole.astype(np.uint8))
        box = found[0] if found else None
        yield number, box, np.zeros((0, 0, 0), np.bool_) if box is None else whole[box]


def _one(image: Image, region: Region, settings: FeatureSettings) -> tuple[dict[str, Value], Levels | None]:
    """Return shape and intensity of one region, and its levels for texture."""
    found: dict[str, Value] = {}
    wanted, geometry = settings.families, image.geometry
    affine = geometry.affine if geometry.shape[0] > 1 else None
    space = "a single plane has no volume" if geometry.shape[0] == 1 else "the spacing of the image is not known"
    if "morph" in wanted and affine is not None:
        steps = np.ascontiguousarray(affine[:3, :3])
        found |= morphology_features(
            Shape(region.inside, region.counted, region.values, steps, finite=not region.problem)
        )
    elif "morph" in wanted:
        found |= dict.fromkeys((t for t in FEATURES if t.startswith("morph_")), space)
    if region.problem:
        found |= {t: region.problem for t in tags_of(settings) if not t.startswith("morph_")}
        return found, None
    if "loc" in wanted:
        tags = ("loc_peak_loc", "loc_peak_glob")
        found |= dict.fromkeys(tags, space) if affine is None else _peaks(image, region, affine)
    if "stat" in wanted:
        found |= intensity_statistics(region.values[region.counted])
    if "ivh" in wanted:
        binned = volume_discretisation(region, settings, image.quantity, settings.discretisation)
        tags_ivh = (t for t in FEATURES if t.startswith("ivh_"))
        if isinstance(binned, str):
            found |= dict.fromkeys(tags_ivh, binned)
        else:
            region.steps["intensity-volume histogram"] = binned.record
            found |= intensity_volume_features(binned.levels, binned.intensities)
    levels, texture = _levels(image, region, settings)
    return found | texture, levels


def _levels(image: Image, region: Region, settings: FeatureSettings) -> tuple[Levels | None, dict[str, Value]]:
    ends = [t for t in tags_of(settings) if t.split("_", 1)[0] in (*_ENDS, "ih")]
    if not ends:
        return None, {}
    binned: Binned | str = discretise(region, settings.discretisation, settings, image.quantity)
    reason = binned if isinstance(binned, str) else too_many(binned)
    if isinstance(binned, str) or reason:
        return None, dict.fromkeys(ends, reason)
    region.steps["discretisation"] = binned.record
    found: dict[str, Value] = {}
    if "ih" in settings.families:
        found |= histogram_features(binned.levels, binned.count)
    array = np.zeros(region.inside.shape, np.uint16)
    array[region.counted] = binned.levels
    return Levels(array, region.inside, binned.count), found


def _peaks(image: Image, region: Region, affine: Float[np.ndarray, "4 4"]) -> dict[str, Value]:
    steps = affine[:3, :3]
    reach = np.ceil(PEAK_RADIUS_MM * np.linalg.norm(np.linalg.inv(steps), axis=1)).astype(int)
    around = tuple(
        slice(max(0, s.start - int(r)), min(n, s.stop + int(r)))
        for s, r, n in zip(region.box, reach, image.geometry.shape, strict=True)
    )
    values = image.array[0][around].astype(np.float64)
    counted = np.zeros(values.shape, np.bool_)
    counted[tuple(slice(b.start - a.start, b.stop - a.start) for a, b in zip(around, region.box, strict=True))] = (
        region.counted
    )
    return local_peaks(values, counted, steps)


def _textures(
    levels: Sequence[tuple[int, Levels]], settings: FeatureSettings, solid: bool
) -> Iterator[tuple[int, dict[str, Value]]]:
    """Yield the texture features of every region, a stack of like-sized regions at a time."""
    waiting = sorted(levels, key=lambda item: (item[1].array.shape[1] * item[1].array.shape[2], item[0]))
    while waiting:
        batch, size = [waiting.pop()], 0
        height, width = batch[0][1].array.shape[1:]
        size = batch[0][1].array.shape[0] * height * width
        while waiting:
            shape = waiting[-1][1].array.shape
            height = max(height, shape[1])
            size += shape[0] * height * width
            if size > _STACK_VOXELS:
                break
            batch.append(waiting.pop())
        stack = LevelStack([part for _, part in batch])
        found: dict[str, np.ndarray] = {}
        for families, compute in _TEXTURE:
            if families & set(settings.families):
                found |= compute(stack)
        for order, (index, _) in enumerate(batch):
            yield index, {tag: _texture_value(tag, float(v[order]), solid) for tag, v in found.items()}


def _texture_value(tag: str, value: float, solid: bool) -> Value:
    if not solid and feature_name(tag).aggregation.startswith("3D"):
        return "a single plane has no neighbours across slices"
    return value if math.isfinite(value) else "no two voxels of the region are neighbours"


def _result(
    number: int, region: Region | None, found: dict[str, Value], tags: tuple[str, ...], geometry: Geometry
) -> RegionFeatures:
    if region is None:
        empty = tuple(RadiomicFeature(tag, None, "the segment is empty") for tag in tags)
        return RegionFeatures(number, 0, 0, False, empty)
    features = []
    for tag in tags:
        value = found[tag]
        if isinstance(value, str):
            features.append(RadiomicFeature(tag, None, value))
        elif math.isfinite(value):
            features.append(RadiomicFeature(tag, float(value)))
        else:
            features.append(RadiomicFeature(tag, None, "not defined for these intensities"))
    border = any((s.start == 0 or s.stop == n) and n > 1 for s, n in zip(region.box, geometry.shape, strict=True))
    notes = ("the region touches the edge of the image: its size and shape may be cut off",) if border else ()
    return RegionFeatures(
        number,
        int(np.count_nonzero(region.inside)),
        int(np.count_nonzero(region.counted)),
        border,
        tuple(features),
        dict(region.steps),
        notes,
    )


def _plain(unit: str) -> str:
    """Return a unit that others can stand beside: DICOM's own sign of an uptake value is no unit in a product."""
    return unit.replace("{SUVbw}", "")


def unit_of(tag: str, quantity: Quantity) -> str:
    """Return the UCUM unit of a feature: "1" for shares, levels and texture.

    Args:
        tag: Of the feature.
        quantity: Of the image.

    Example:
        >>> [unit_of(t, Quantity.GY) for t in ("morph_volume", "stat_mean", "stat_var", "cm_contrast_3D_avg")]
        ['mm3', 'Gy', 'Gy2', '1']
    """
    unit = _INTENSITY_UNITS.get(quantity, "1")
    if tag in _LENGTHS:
        return "mm"
    known = {"morph_volume": "mm3", "morph_vol_approx": "mm3", "morph_area_mesh": "mm2", "morph_av": "/mm"}
    if tag == "morph_integ_int":
        return "mm3" if unit == "1" else f"mm3.{_plain(unit)}"
    if tag in ("stat_var", "stat_energy"):
        return "1" if unit == "1" else "/".join(f"{part}2" for part in _plain(unit).split("/"))
    if tag.startswith("loc_") or (tag.startswith("stat_") and tag not in _RATIOS):
        return unit
    return known.get(tag, "1")
