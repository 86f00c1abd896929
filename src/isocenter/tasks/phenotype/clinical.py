"""Measurements that people use: diameters of RECIST and WHO, SUV and total lesion glycolysis, diffusion.

Shape and place come from the mask; nothing is measured in a quantity that the image does not have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from isocenter.core import Code, Geometry, Image, Mask, Measurement, Quantity
from isocenter.core.errors import GeometryError, UnitsError
from isocenter.core.units import UCUM
from isocenter.tasks.phenotype.features import cut_out
from isocenter.tasks.phenotype.intensity import PEAK_RADIUS_MM, peak_map
from isocenter.tasks.phenotype.measure import widest_axes

__all__ = ["AxialDiameters", "axial_diameters", "clinical_measurements", "diffusion_statistics", "uptake"]

Box = tuple[slice, slice, slice]

LONGEST = Code("RECIST-LONGEST", "99ISOCENTER", "Longest diameter in an axial plane (RECIST 1.1)")
SHORT = Code("RECIST-SHORT", "99ISOCENTER", "Short axis at a right angle in that plane (RECIST 1.1)")
PRODUCT = Code("WHO-PRODUCT", "99ISOCENTER", "Product of perpendicular diameters (WHO)")
SUV = Code("126401", "DCM", "SUVbw")
PEAK = Code("126031", "DCM", "Peak Value Within ROI")
GLYCOLYSIS = Code("126033", "DCM", "Total Lesion Glycolysis")
DIFFUSION = Code("113041", "DCM", "Apparent Diffusion Coefficient")
MEAN = Code("373098007", "SCT", "Mean")
MAXIMUM = Code("56851009", "SCT", "Maximum")
MINIMUM = Code("255605001", "SCT", "Minimum")
MEDIAN = Code("373099004", "SCT", "Median")
TENTH = Code("371890005", "SCT", "Tenth percentile")
NINETIETH = Code("371887004", "SCT", "Ninetieth percentile")
DEVIATION = Code("386136009", "SCT", "Standard Deviation")
GRAM = Code("g", "UCUM", "gram")
SQUARE_MICROMETRES = Code("um2/s", "UCUM", "square micrometer per second")

_TO_UM2 = {"um2/s": 1.0, "10-6.mm2/s": 1.0, "mm2/s": 1e6, "10-3.mm2/s": 1e3}
_TISSUE_UM2 = (20.0, 6000.0)
_MOST_TILT_DEGREES = 30.0


@dataclass(frozen=True)
class AxialDiameters:
    """Diameters of a segment in axial planes.

    Args:
        longest_mm: Longest distance between two points of the outline of one connected part in one plane.
        short_mm: Longest chord at a right angle to it, in the same plane and part.
        plane: Index of that plane along the axis across it.
        product_mm2: Largest product of the two diameters of any plane and part.
    """

    longest_mm: float
    short_mm: float
    plane: int
    product_mm2: float


def axial_diameters(
    geometry: Geometry, inside: Bool[np.ndarray, "z y x"], start: tuple[int, int, int] = (0, 0, 0)
) -> AxialDiameters:
    """Measure a segment in the planes of its image that are nearest to axial.

    Args:
        geometry: Of the image.
        inside: The segment, or a box of it; not empty.
        start: Where the box begins.

    Raises:
        GeometryError: The place is not known, or no planes of the image are within 30 degrees of axial.

    Source:
        RECIST 1.1 (Eisenhauer 2009), measurability; WHO (Miller 1981).

    Example:
        >>> grid = Geometry.axial((3, 9, 9), spacing_mm=(5.0, 1.0, 1.0))
        >>> box = np.zeros((3, 9, 9), bool)
        >>> box[1, 2:5, 1:7] = True
        >>> round(axial_diameters(grid, box).longest_mm, 3)
        6.325
    """
    affine = geometry.require_affine("a diameter in an axial plane")
    axis = next(i for i, (world, _) in enumerate(geometry.closest_axes() or ()) if world == 2)
    in_plane = [a for a in range(3) if a != axis]
    normal = np.cross(affine[:3, in_plane[0]], affine[:3, in_plane[1]])
    tilt = np.degrees(np.arccos(min(1.0, abs(float(normal[2])) / float(np.linalg.norm(normal)))))
    if tilt > _MOST_TILT_DEGREES:
        raise GeometryError(
            f"no planes of this image are axial (the nearest are tilted by {tilt:.0f} degrees); resample it to axial "
            "planes for RECIST and WHO diameters"
        )
    steps = affine[:3, in_plane]
    planes = np.moveaxis(inside, axis, 0)
    best, product = (0.0, 0.0, 0), 0.0
    reach = _reaches(planes, steps)
    # Planes in the order of the longest diameter that their box allows: most need not be measured.
    for index in np.argsort(-reach, kind="stable"):
        if reach[index] <= best[0] and reach[index] ** 2 <= product:
            break
        labels, count = ndimage.label(planes[index], structure=np.ones((3, 3)))
        for box, number in zip(ndimage.find_objects(labels), range(1, count + 1), strict=True):
            long_mm, short_mm = widest_axes(labels[box] == number, steps)
            best = max(best, (long_mm, short_mm, int(index) + start[axis]), key=lambda b: (b[0], -b[2]))
            product = max(product, long_mm * short_mm)
    return AxialDiameters(*best, product)


def _reaches(planes: Bool[np.ndarray, "p a b"], steps: Float[np.ndarray, "3 2"]) -> Float[np.ndarray, "p"]:
    """Return an upper bound of the longest distance in each plane; 0 for an empty one."""
    sides = []
    for axis in (1, 2):
        used: np.ndarray = np.any(planes, axis=3 - axis)
        first, last = used.argmax(axis=1), used.shape[1] - used[:, ::-1].argmax(axis=1)
        sides.append(np.where(used.any(axis=1), last - first, 0) * np.linalg.norm(steps[:, axis - 1]))
    return np.asarray(sides[0] + sides[1])


def uptake(image: Image, inside: Bool[np.ndarray, "z y x"], box: Box, number: int) -> tuple[Measurement, ...]:
    """Measure SUVmax, SUVmean, SUVpeak and total lesion glycolysis of a segment.

    SUVpeak is the largest mean of a sphere of 1 cm3 whose centre is a voxel of the segment. Total lesion glycolysis is
    SUVmean times the volume, in grams of tissue of 1 g/mL.

    Args:
        image: A PET image in SUV of body weight.
        inside: The segment in its bounding box; not empty.
        box: The bounding box.
        number: The segment's number.

    Raises:
        UnitsError: The image is not in SUV of body weight, or its values there are not finite.
        GeometryError: The place is not known.

    Source:
        IBSI manual (global intensity peak, 0F91); Wahl 2009 (PERCIST); Larson 1999.
    """
    if image.quantity is not Quantity.SUVBW:
        raise UnitsError(
            f"SUV is measured in an image of SUVbw, this one holds {image.quantity.value}; a PET header without "
            "weight, dose or times gives no SUV"
        )
    affine = image.geometry.require_affine("a sphere of 1 cm3")
    values = image.array[0][box][inside].astype(np.float64)
    if not np.isfinite(values).all():
        raise UnitsError("the segment holds SUV that are not finite numbers")
    reach = np.ceil(PEAK_RADIUS_MM * np.linalg.norm(np.linalg.inv(affine[:3, :3]), axis=1)).astype(int)
    around = tuple(slice(max(0, s.start - int(r)), s.stop + int(r)) for s, r in zip(box, reach, strict=True))
    peaks = peak_map(image.array[0][around].astype(np.float64), affine[:3, :3])
    own = tuple(slice(b.start - a.start, b.stop - a.start) for a, b in zip(around, box, strict=True))
    volume_ml = len(values) * (image.geometry.voxel_volume_mm3 or 0.0) / 1000
    mean = float(values.mean())
    suv = UCUM["SUVbw"]
    return (
        Measurement(SUV, float(values.max()), suv, number, MAXIMUM),
        Measurement(SUV, mean, suv, number, MEAN),
        Measurement(SUV, float(peaks[own][inside].max()), suv, number, PEAK),
        Measurement(GLYCOLYSIS, mean * volume_ml, GRAM, number),
    )


def diffusion_statistics(
    values: Float[np.ndarray, "n"], unit: str, number: int | None = None
) -> tuple[Measurement, ...]:
    """Return statistics of the apparent diffusion coefficient of a segment, in um2/s (10-6 mm2/s).

    Args:
        values: Of its voxels; at least one.
        unit: UCUM unit that they are in: "um2/s", "10-6.mm2/s", "10-3.mm2/s" or "mm2/s".
        number: The segment's number.

    Raises:
        UnitsError: The unit is not one of these, values are not finite, or their median is none of tissue or fluid in
            this unit (20 to 6,000 um2/s), so that the unit must be wrong.

    Example:
        >>> [round(m.value) for m in diffusion_statistics(np.array([0.0009, 0.0011]), "mm2/s")][:2]
        [1000, 100]
    """
    if unit not in _TO_UM2:
        raise UnitsError(f"diffusion is in {', '.join(_TO_UM2)}, not in {unit!r}")
    converted = np.asarray(values, dtype=np.float64) * _TO_UM2[unit]
    if not np.isfinite(converted).all():
        raise UnitsError("the segment holds diffusion coefficients that are not finite numbers")
    tenth, median, ninetieth = np.percentile(converted, (10, 50, 90)).tolist()
    if not _TISSUE_UM2[0] <= median <= _TISSUE_UM2[1]:
        raise UnitsError(
            f"in {unit} the median of the segment would be none of tissue or fluid ({_TISSUE_UM2[0]:g} to "
            f"{_TISSUE_UM2[1]:g} um2/s): the image is in another unit, or no map of diffusion"
        )
    numbers = (
        (MEAN, converted.mean()), (DEVIATION, converted.std()), (MINIMUM, converted.min()), (TENTH, tenth),
        (MEDIAN, median), (NINETIETH, ninetieth), (MAXIMUM, converted.max()),
    )  # fmt: skip
    return tuple(Measurement(DIFFUSION, float(v), SQUARE_MICROMETRES, number, d) for d, v in numbers)


def clinical_measurements(
    image: Image, mask: Mask, *, diffusion_unit: str | None = None
) -> tuple[tuple[Measurement, ...], tuple[str, ...]]:
    """Measure every segment in the ways that fit its image.

    Args:
        image: The image.
        mask: Its mask, on the same grid.
        diffusion_unit: Unit of a map of diffusion; None for an image that is none.

    Returns:
        Measurements, segment by segment; and what was not measured, and why.

    Raises:
        UnitsError: As `diffusion_statistics`; or a unit of diffusion is given for an image that can't be a map of it.
    """
    found: list[Measurement] = []
    missing: list[str] = []
    if diffusion_unit is not None and (image.quantity is not Quantity.ARBITRARY or image.modality not in ("MR", "")):
        raise UnitsError(
            f"diffusion is measured in a map of MR; this image holds {image.quantity.value}"
            f"{f' of {image.modality}' if image.modality else ''}: leave the unit of diffusion out"
        )
    for number, box, inside in cut_out(mask):
        if box is None:
            missing.append(f"segment {number}: it is empty")
            continue
        if image.is_volume:
            try:
                size = axial_diameters(image.geometry, inside, (box[0].start, box[1].start, box[2].start))
            except GeometryError as error:
                missing.append(f"segment {number}: {error}")
            else:
                found += [
                    Measurement(LONGEST, size.longest_mm, UCUM["mm"], number),
                    Measurement(SHORT, size.short_mm, UCUM["mm"], number),
                    Measurement(PRODUCT, size.product_mm2, UCUM["mm2"], number),
                ]
        if image.quantity is Quantity.SUVBW and image.is_volume and image.modality in ("PT", ""):
            try:
                found += uptake(image, inside, box, number)
            except UnitsError as error:
                missing.append(f"segment {number}: {error}")
        if diffusion_unit is not None:
            found += diffusion_statistics(image.array[0][box][inside].astype(np.float64), diffusion_unit, number)
    if image.quantity is Quantity.SUVBW and image.modality not in ("PT", ""):
        missing.append(f"SUV and glycolysis: the image is {image.modality}, not PT")
    if image.modality == "PT" and image.quantity is not Quantity.SUVBW:
        missing.append(f"SUV and glycolysis: the image holds {image.quantity.value}, not SUVbw")
    return tuple(found), tuple(missing)
