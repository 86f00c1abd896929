"""Size and intensity of each segment, with coded names and UCUM units.

Lengths and volumes are taken in patient millimetres through the affine, so oblique, anisotropic and mirrored grids
need no special case. Where the spacing is not known, voxels are counted and no millimetre is invented. Where it is
known only at the detector of a projection (a radiograph), the name of the measurement says so, because the size in the
patient is smaller by an unknown magnification.

The outline of a segment is the set of points midway between a voxel inside and its neighbour outside, along the three
index axes. These are the vertices that marching cubes gives a binary mask at level 0.5, so the maximum 3D diameter is
that of IBSI's mesh (L0JK), found without building the mesh: only points that end a line of voxels can be on its hull.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist, squareform

from isocenter.core import Code, Geometry, Image, Mask, Measurement, Quantity
from isocenter.core.errors import GeometryError
from isocenter.core.units import UCUM
from isocenter.tasks.phenotype.mesh import line_ends
from isocenter.tasks.phenotype.morphology import longest_distance

__all__ = ["measure", "widest_axes"]

VOLUME = Code("118565006", "SCT", "Volume")
AREA = Code("42798000", "SCT", "Area")
MAXIMUM_3D_DIAMETER = Code("L0JK", "IBSI", "Maximum 3D Diameter of a Mesh")
LONG_AXIS = Code("103339001", "SCT", "Long axis")
SHORT_AXIS = Code("103340004", "SCT", "Short axis")
DETECTOR_AREA = Code("AREA-DETECTOR", "99ISOCENTER", "Area at the detector plane")
DETECTOR_LONG_AXIS = Code("LONG-DETECTOR", "99ISOCENTER", "Long axis at the detector plane")
DETECTOR_SHORT_AXIS = Code("SHORT-DETECTOR", "99ISOCENTER", "Short axis at the detector plane")
VOXEL_COUNT = Code("VOXEL-COUNT", "99ISOCENTER", "Number of voxels")

MEAN = Code("373098007", "SCT", "Mean")
STANDARD_DEVIATION = Code("386136009", "SCT", "Standard Deviation")
MINIMUM = Code("255605001", "SCT", "Minimum")
TENTH_PERCENTILE = Code("371890005", "SCT", "Tenth percentile")
MEDIAN = Code("373099004", "SCT", "Median")
NINETIETH_PERCENTILE = Code("371887004", "SCT", "Ninetieth percentile")
MAXIMUM = Code("56851009", "SCT", "Maximum")

_INTENSITY = {
    Quantity.HU: (Code("112031", "DCM", "Attenuation Coefficient"), "HU"),
    Quantity.SUVBW: (Code("126401", "DCM", "SUVbw"), "SUVbw"),
    Quantity.BQML: (Code("ACTIVITY-CONC", "99ISOCENTER", "Activity concentration"), "Bq/mL"),
    Quantity.GY: (Code("128513", "DCM", "Absorbed Dose"), "Gy"),
    Quantity.PROBABILITY: (Code("122157", "DCM", "Probability"), "1"),
}
_MR_INTENSITY = Code("110852", "DCM", "MR signal intensity")
_OTHER_INTENSITY = Code("INTENSITY", "99ISOCENTER", "Image intensity")

_PROJECTIONS = frozenset({"CR", "DX", "RG", "XA", "RF", "MG", "IO", "PX"})
_MM_PER_ML = 1000.0
# Two chords whose lengths differ by less than this are one length; far below any voxel, above rounding.
_TIE_MM = 1e-9

_Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class _Part:
    """One segment cut out of the mask: its voxels in a tight box, and where the box starts."""

    number: int
    inside: Bool[np.ndarray, "z y x"]
    box: _Box

    @property
    def start(self) -> tuple[int, int, int]:
        return self.box[0].start, self.box[1].start, self.box[2].start


def measure(image: Image, mask: Mask) -> tuple[Measurement, ...]:
    """Measure every segment of a mask on the image that it lies on.

    Volumes (a stack of slices with a place in the patient) get: volume by voxel counting in mL (IBSI YEKZ); maximum 3D
    diameter in mm; long and short axis in mm in the slice nearest to axial where the segment's area is largest. Single
    planes and cines get area in mm2 and the two axes in the plane (of a cine: in the frame of largest area), or the
    area in pixels where the spacing is not known. A stack of slices without spacing gets its number of voxels.

    The long axis is the longest distance between two points of the outline of the largest connected part in that
    slice; the short axis is the longest chord of that part's convex hull at a right angle to the long axis. An empty
    segment has volume or area 0 and nothing else.

    Intensities are mean, standard deviation (of the population), minimum, 10th percentile, median, 90th percentile
    and maximum over the segment's finite voxels in the image's own quantity; percentiles interpolate linearly. An image
    of several channels (colour, time points) has none.

    Args:
        image: The image.
        mask: Its mask, on the same grid; probabilities count from 0.5.

    Returns:
        Measurements, segment by segment in the mask's order.

    Raises:
        GeometryError: Image and mask are on different grids.

    Source:
        IBSI reference manual 2019 (YEKZ, L0JK); RECIST 1.1 (Eisenhauer 2009) for the two axes.

    Example:
        >>> from isocenter.core import Segment
        >>> grid = Geometry.axial((4, 5, 6), spacing_mm=(5.0, 2.0, 1.0))
        >>> labels = np.zeros((4, 5, 6), np.uint16)
        >>> labels[1:3, 1:4, 2:6] = 1
        >>> found = measure(Image(np.ones((1, 4, 5, 6)), grid), Mask(labels, grid, (Segment(1, "box"),)))
        >>> [(m.name.meaning, round(m.value, 9), m.unit.value) for m in found][0]
        ('Volume', 0.24, 'mL')
    """
    if not image.geometry.same_grid(mask.geometry):
        raise GeometryError(
            f"the mask's grid {mask.geometry.shape} is not the image's {image.geometry.shape}; resample the mask first",
            source=image.source.series_uid,
        )
    found: list[Measurement] = []
    for number, part in _parts(mask):
        found += _size(image, number, part)
        if part is not None and image.array.shape[0] == 1:
            found += _intensity(image, part)
    return tuple(found)


def _parts(mask: Mask) -> Iterator[tuple[int, _Part | None]]:
    boxes = ndimage.find_objects(mask.array) if mask.is_labelmap else []
    for segment in mask.segments:
        number = segment.number
        if mask.is_labelmap:
            box = boxes[number - 1] if number <= len(boxes) else None
            inside = None if box is None else mask.array[box] == number
        else:
            whole = mask.segment_array(number)
            box = _bounds(whole)
            inside = None if box is None else whole[box]
        yield number, None if box is None or inside is None else _Part(number, inside, box)


def _bounds(inside: Bool[np.ndarray, "z y x"]) -> _Box | None:
    spans = []
    for axes in ((1, 2), (0, 2), (0, 1)):
        where = np.flatnonzero(np.any(inside, axis=axes))
        if not len(where):
            return None
        spans.append(slice(int(where[0]), int(where[-1]) + 1))
    return spans[0], spans[1], spans[2]


def _size(image: Image, number: int, part: _Part | None) -> list[Measurement]:
    geometry = image.geometry
    if image.is_volume:
        return _volume_size(geometry, number, part)
    if geometry.stack == "space" and geometry.shape[0] > 1:
        return [Measurement(VOXEL_COUNT, float(0 if part is None else part.inside.sum()), UCUM["1"], number)]
    return _plane_size(image, number, part)


def _volume_size(geometry: Geometry, number: int, part: _Part | None) -> list[Measurement]:
    if part is None:
        return [Measurement(VOLUME, 0.0, UCUM["mL"], number)]
    count = int(np.count_nonzero(part.inside))
    volume_ml = count * (geometry.voxel_volume_mm3 or 0.0) / _MM_PER_ML
    axial = next(i for i, (axis, _) in enumerate(geometry.closest_axes() or ()) if axis == 2)
    long_mm, short_mm = _axes_mm(geometry.require_affine("measure"), part, axial)
    return [
        Measurement(VOLUME, volume_ml, UCUM["mL"], number),
        Measurement(MAXIMUM_3D_DIAMETER, _diameter_mm(geometry, part), UCUM["mm"], number),
        Measurement(LONG_AXIS, long_mm, UCUM["mm"], number),
        Measurement(SHORT_AXIS, short_mm, UCUM["mm"], number),
    ]


def _plane_size(image: Image, number: int, part: _Part | None) -> list[Measurement]:
    spacing = image.geometry.pixel_spacing_mm
    pixels = 0 if part is None else int(part.inside.sum(axis=(1, 2)).max())
    if spacing is None:
        return [Measurement(AREA, float(pixels), UCUM["px"], number)]
    detector = _at_detector(image)
    area, long, short = (
        (DETECTOR_AREA, DETECTOR_LONG_AXIS, DETECTOR_SHORT_AXIS) if detector else (AREA, LONG_AXIS, SHORT_AXIS)
    )
    affine = image.geometry.affine
    if affine is None:
        affine = np.diag([1.0, *spacing, 1.0])
        pixel_mm2 = spacing[0] * spacing[1]
    else:
        pixel_mm2 = float(np.linalg.norm(np.cross(affine[:3, 1], affine[:3, 2])))
    found = [Measurement(area, pixels * pixel_mm2, UCUM["mm2"], number)]
    if part is not None:
        long_mm, short_mm = _axes_mm(affine, part, 0)
        found += [Measurement(long, long_mm, UCUM["mm"], number), Measurement(short, short_mm, UCUM["mm"], number)]
    return found


def _at_detector(image: Image) -> bool:
    """Whether the pixel spacing is that of a projection's detector (PS3.3 10.7.1.3: not calibrated to the patient)."""
    calibrated = str(image.meta.get("PixelSpacingCalibrationType", "")).upper() in ("GEOMETRY", "FIDUCIAL")
    return image.modality in _PROJECTIONS and image.geometry.affine is None and not calibrated


def _diameter_mm(geometry: Geometry, part: _Part) -> float:
    points = np.concatenate([line_ends(part.inside, axis) for axis in range(3)]) + part.start
    world = geometry.to_world(points)
    hull = world[ConvexHull(world).vertices]
    return longest_distance(hull)


def _axes_mm(affine: Float[np.ndarray, "4 4"], part: _Part, axis: int) -> tuple[float, float]:
    """Return (long, short) axis in the plane across an index axis where the segment's area is largest."""
    in_plane = [a for a in range(3) if a != axis]
    counts = part.inside.sum(axis=tuple(in_plane))
    steps = affine[:3, in_plane]  # world mm of one step along each in-plane axis
    best = (0.0, 0.0)
    for index in np.flatnonzero(counts == counts.max()):
        plane = np.take(part.inside, int(index), axis=axis)
        labels, _ = ndimage.label(plane, structure=np.ones((3, 3)))
        sizes = np.bincount(labels.ravel())[1:]
        for label in np.flatnonzero(sizes == sizes.max()) + 1:
            best = max(best, widest_axes(labels == label, steps))
    return best


def widest_axes(plane: Bool[np.ndarray, "a b"], steps: Float[np.ndarray, "3 2"]) -> tuple[float, float]:
    """Return the longest distance in mm between two points of an outline, and the longest chord at a right angle.

    Args:
        plane: Voxels of one part of a segment in a plane; not empty.
        steps: Millimetres in the patient of one step along each axis of the plane, as columns.
    """
    ends = np.concatenate([line_ends(plane, axis) for axis in range(2)])
    basis, _ = np.linalg.qr(steps)
    flat = ends @ (basis.T @ steps).T  # in-plane millimetres in an orthonormal frame
    hull = flat[ConvexHull(flat).vertices]
    distances = squareform(pdist(hull))
    long_mm = float(distances.max())
    pairs = np.argwhere(np.triu(distances >= long_mm - _TIE_MM, 1))
    return long_mm, max(_widest_chord(hull, hull[b] - hull[a]) for a, b in pairs)


def _widest_chord(hull: Float[np.ndarray, "n 2"], along: Float[np.ndarray, "2"]) -> float:
    """Return the longest chord of a convex polygon at a right angle to a direction.

    Chord length is concave and piecewise linear along the direction, with its kinks at vertices: these suffice.
    """
    unit = along / np.linalg.norm(along)
    across = np.array([-unit[1], unit[0]])
    u, v = hull @ unit, hull @ across
    low, high = int(u.argmin()), int(u.argmax())
    turned = [(low + i) % len(hull) for i in range(len(hull) + 1)]  # counter-clockwise from the lowest, and round again
    cut = (high - low) % len(hull)
    lower, upper = turned[: cut + 1], turned[cut:][::-1]
    chords = np.interp(u, u[upper], v[upper]) - np.interp(u, u[lower], v[lower])
    return float(chords.max())


def _intensity(image: Image, part: _Part) -> list[Measurement]:
    values: Shaped[np.ndarray, "n"] = image.array[0][part.box][part.inside]
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    if image.quantity is Quantity.RGB or not len(values):
        return []
    name, unit = _INTENSITY.get(image.quantity, (_OTHER_INTENSITY, "1"))
    if image.quantity is Quantity.ARBITRARY and image.modality == "MR":
        name = _MR_INTENSITY
    tenth, median, ninetieth = np.percentile(values, (10, 50, 90)).tolist()
    statistics: Sequence[tuple[Code, float]] = (
        (MEAN, float(values.mean(dtype=np.float64))),
        (STANDARD_DEVIATION, float(values.std(dtype=np.float64))),
        (MINIMUM, float(values.min())),
        (TENTH_PERCENTILE, tenth),
        (MEDIAN, median),
        (NINETIETH_PERCENTILE, ninetieth),
        (MAXIMUM, float(values.max())),
    )
    return [Measurement(name, value, UCUM[unit], part.number, derivation) for derivation, value in statistics]
