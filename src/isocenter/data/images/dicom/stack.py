"""From planes to grids: which planes make one image, in which order, and where the grid lies.

Planes are grouped by what cannot be one grid (size, orientation, spacing, kind of object), then ordered by their
position along the normal. Nothing is ordered by file name or Instance Number. Where positions repeat, the header must
say what tells the repeats apart (time, echo, b-value, reconstruction); if it does not, there is no right answer and the
series is refused. A grid is uniform or it is refused: a plane may be off the uniform grid by rounding only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float

from isocenter.core import Geometry
from isocenter.core.errors import GeometryError
from isocenter.data.images.dicom.plane import CHANNEL_KEYS, IMAGE_KEYS, Plane

__all__ = ["Layout", "Stack", "lay_out", "split_planes"]

_ANGLE_TOLERANCE = 1e-3
"""Largest difference of a direction cosine within one orientation; headers round to 6 or fewer decimals."""

_MIXED_TOLERANCE = 2e-2
"""Orientations closer than this (about one degree) but not equal are one mixed series, not two."""

_ROUNDING_MM = 0.06
"""Positions are often written with one decimal of a millimetre."""

_MAX_ORIENTATIONS = 9
"""A three-plane localiser has three; more than this is a rotated (radial) acquisition."""

_RESAMPLE = "--on-irregular resample (in Python: on_irregular='resample')"


@dataclass(frozen=True, eq=False)
class Stack:
    """Planes of one image, ordered.

    Args:
        channels: One list of planes per channel, each in z order, all on the same grid.
        told_apart_by: Header fact that makes the channels, "" for one channel.
    """

    channels: tuple[tuple[Plane, ...], ...]
    told_apart_by: str = ""

    @property
    def planes(self) -> tuple[Plane, ...]:
        """The planes of all channels, channel after channel."""
        return tuple(p for channel in self.channels for p in channel)


@dataclass(frozen=True, eq=False)
class Layout:
    """Where a stack lies.

    Args:
        geometry: The grid.
        distances_mm: Distance of each plane along the normal from the first; () where the grid has no place.
        shifts_mm: (z, 2) in-plane offset (along y, along x) of each plane from the normal through the first plane.
        problem: Why the planes are not on this grid, as a message, or "" when they are.
        notes: What was noticed.
    """

    geometry: Geometry
    distances_mm: tuple[float, ...] = ()
    shifts_mm: Float[np.ndarray, "z 2"] | None = None
    problem: str = ""
    notes: tuple[str, ...] = ()


def split_planes(planes: Sequence[Plane]) -> list[Stack | GeometryError]:
    """Split the planes of one series into images.

    Returns:
        Stacks in a fixed order, and in the place of each one that has no right answer its error.
    """
    out: list[Stack | GeometryError] = []
    for kind in _grouped(planes, _kind):
        placed = [p for p in kind if p.is_placed]
        loose = [p for p in kind if not p.is_placed]
        out.extend(_split_loose(loose))
        if not placed:
            continue
        orientations = _clustered(placed, _orientation_gap, _ANGLE_TOLERANCE)
        mixed = _mixed(orientations)
        if mixed:
            out.append(mixed)
            continue
        for orientation in orientations:
            for group in _clustered(orientation, _spacing_gap, 1e-3):
                out.extend(_split_repeats(group))
    return out


def _kind(plane: Plane) -> Hashable:
    header = plane.header
    image_type = header.texts("ImageType")
    return (
        header.text("Modality"),
        header.text("SOPClassUID"),
        header.text("FrameOfReferenceUID"),
        header.short("Rows"),
        header.short("Columns"),
        header.short("SamplesPerPixel", 1),
        header.text("PhotometricInterpretation"),
        len(image_type) > 2 and image_type[2] == "LOCALIZER",
    )


def _grouped(planes: Sequence[Plane], key: Callable[[Plane], Hashable]) -> list[list[Plane]]:
    groups: dict[Hashable, list[Plane]] = defaultdict(list)
    for plane in planes:
        groups[key(plane)].append(plane)
    return list(groups.values())


def _clustered(planes: Sequence[Plane], gap: Callable[[Plane, Plane], float], tolerance: float) -> list[list[Plane]]:
    """Group planes whose gap to the first of a group is within a tolerance."""
    groups: list[list[Plane]] = []
    for plane in planes:
        home = next((g for g in groups if gap(g[0], plane) <= tolerance), None)
        if home is None:
            groups.append([plane])
        else:
            home.append(plane)
    return groups


def _orientation_gap(one: Plane, other: Plane) -> float:
    if one.row is other.row:
        return 0.0
    return float(
        max(np.abs(_vec(one.row) - _vec(other.row)).max(), np.abs(_vec(one.column) - _vec(other.column)).max())
    )


def _spacing_gap(one: Plane, other: Plane) -> float:
    a, b = one.spacing or (1.0, 1.0), other.spacing or (1.0, 1.0)
    return max(abs(a[0] - b[0]) / a[0], abs(a[1] - b[1]) / a[1])


def _mixed(orientations: Sequence[Sequence[Plane]]) -> GeometryError | None:
    for one, other in combinations(orientations, 2):
        if _orientation_gap(one[0], other[0]) <= _MIXED_TOLERANCE:
            return GeometryError(
                f"mixed orientation: {other[0].where} is turned by less than two degrees against {one[0].where}; the "
                "slices are not parallel and make no volume. Remove the odd slices, or read them one by one",
                source=one[0].header.name,
            )
    if len(orientations) > _MAX_ORIENTATIONS:
        return GeometryError(
            f"mixed orientation: the series has {len(orientations)} different orientations (a rotated acquisition), "
            "which make no volume. Read its files one by one",
            source=orientations[0][0].header.name,
        )
    return None


def _split_loose(planes: Sequence[Plane]) -> list[Stack | GeometryError]:
    """Planes without a place: each file is an image of its own, its frames a stack in time."""
    files = _grouped(planes, lambda p: str(p.header.path))
    return [Stack((tuple(sorted(file, key=lambda p: p.frame)),)) for file in files]


def _split_repeats(planes: Sequence[Plane]) -> list[Stack | GeometryError]:
    """Order planes of one orientation by position, and tell repeats apart."""
    distances = _distances(planes)
    order = np.argsort(distances, kind="stable").tolist()
    planes = [planes[i] for i in order]
    slots = _slots(distances[order], planes)
    repeats = int(np.bincount(slots).max())
    if repeats == 1:
        return [Stack((tuple(planes),))]
    names = [n for n in (*CHANNEL_KEYS, *IMAGE_KEYS) if any(n in p.keys for p in planes)]
    names += sorted({n for p in planes for n in p.keys} - {*CHANNEL_KEYS, *IMAGE_KEYS})
    varying = [n for n in names if len({p.keys.get(n) for p in planes}) > 1]
    for size in (1, 2, 3):
        for chosen in combinations(varying, size):
            stacks = _try_keys(planes, slots, chosen, repeats)
            if stacks:
                return list(stacks)
    where = next(i for i, slot in enumerate(slots) if slot == slots[i + 1])
    return [
        GeometryError(
            f"{repeats} slices lie at one position ({planes[where].where} and {planes[where + 1].where}, "
            f"{distances[order][where]:.2f} mm along the normal) and no header element (time, echo, b-value, image "
            "type, acquisition) tells them apart; remove the duplicates, or read the parts one by one",
            source=planes[where].header.name,
        )
    ]


def _try_keys(planes: Sequence[Plane], slots: np.ndarray, names: tuple[str, ...], repeats: int) -> list[Stack] | None:
    groups: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for index, plane in enumerate(planes):
        groups[tuple(plane.keys.get(n) for n in names)].append(index)
    if any(len(set(slots[g].tolist())) < len(g) for g in groups.values()):
        return None
    same = len({tuple(slots[g].tolist()) for g in groups.values()}) == 1
    if not same and len(groups) > 2 * repeats:
        return None
    values = sorted(groups, key=lambda value: tuple(_sortable(v) for v in value))
    parts = [tuple(planes[i] for i in groups[value]) for value in values]
    if same and all(n in CHANNEL_KEYS or n.startswith("DimensionIndex") for n in names) and _same_places(parts):
        return [Stack(tuple(parts), " and ".join(names))]
    return [Stack((part,)) for part in parts]


def _sortable(value: object) -> tuple[int, float, str]:
    if isinstance(value, tuple) and len(value) == 1:
        value = value[0]
    if isinstance(value, int | float):
        return (0, float(value), "")
    return (1, 0.0, str(value))


def _same_places(parts: Sequence[Sequence[Plane]]) -> bool:
    first = np.array([p.position for p in parts[0]])
    return all(np.abs(np.array([p.position for p in part]) - first).max() <= 1e-3 for part in parts[1:])


def _distances(planes: Sequence[Plane]) -> Float[np.ndarray, "n"]:
    normal = np.cross(_vec(planes[0].row), _vec(planes[0].column))
    distances: Float[np.ndarray, "n"] = np.array([_vec(p.position) for p in planes]) @ normal
    return distances


def _slots(distances: Float[np.ndarray, "n"], planes: Sequence[Plane]) -> np.ndarray:
    """Number the distinct positions of sorted planes; planes within a twentieth of a slice are at one position."""
    thickness = planes[0].thickness or planes[0].between or 1.0
    tolerance = min(1e-2, abs(thickness) / 20)
    return np.concatenate([[0], np.cumsum(np.diff(distances) > tolerance)])


def _vec(value: Float[np.ndarray, "3"] | None) -> Float[np.ndarray, "3"]:
    if value is None:
        raise GeometryError("a plane without a place was to be ordered by it")
    return value


def lay_out(stack: Stack) -> Layout:
    """Find the grid of a stack.

    Raises:
        GeometryError: Never for an irregular stack: that is said in `Layout.problem`, so that the caller may resample.

    Source:
        DICOM PS3.3 C.7.6.2.1.1.
    """
    planes = stack.channels[0]
    first = planes[0]
    header = first.header
    shape = (len(planes), header.short("Rows"), header.short("Columns"))
    orientation = header.texts("PatientOrientation")
    letters = (orientation[0], orientation[1]) if len(orientation) == 2 else ("", "")
    if not first.is_placed:
        time = "time" if len(planes) > 1 else "space"
        return Layout(Geometry(shape, None, "", first.spacing, letters, stack=time))
    frame_uid = header.text("FrameOfReferenceUID")
    if len(planes) == 1:
        return _single_plane(first, shape, frame_uid, letters)
    return _several_planes(planes, shape, frame_uid)


def _single_plane(plane: Plane, shape: tuple[int, int, int], frame_uid: str, letters: tuple[str, str]) -> Layout:
    if plane.thickness is not None:
        step, note = plane.thickness, "a single slice: its extent along z is the header's slice thickness"
    elif plane.between:
        step, note = abs(plane.between), "a single slice: its extent along z is the header's spacing between slices"
    else:
        note = "a single slice without slice thickness: its place along z is known but not its extent, so it has none"
        return Layout(Geometry(shape, None, "", plane.spacing, letters), notes=(note,))
    return Layout(_grid(plane, shape, step, frame_uid), notes=(note,))


def _grid(plane: Plane, shape: tuple[int, int, int], step: float, frame_uid: str) -> Geometry:
    row, column = _vec(plane.row), _vec(plane.column)
    spacing = plane.spacing or (1.0, 1.0)
    directions = np.column_stack([np.cross(row, column), column, row])
    return Geometry.from_directions(
        shape, directions, spacing_mm=(step, *spacing), origin_mm=_vec(plane.position), frame_uid=frame_uid
    )


def _several_planes(planes: Sequence[Plane], shape: tuple[int, int, int], frame_uid: str) -> Layout:
    row, column = _vec(planes[0].row), _vec(planes[0].column)
    positions = np.array([_vec(p.position) for p in planes])
    offsets = positions - positions[0]
    distances = offsets @ np.cross(row, column)
    shifts = np.column_stack([offsets @ column, offsets @ row])
    count = len(planes) - 1
    step = float(distances[-1] / count)
    gaps = np.diff(distances)
    problem = ""
    tolerance = min(max(_ROUNDING_MM, 0.02 * step), 0.25 * float(np.median(gaps)))
    off = np.abs(distances - np.arange(count + 1) * step)
    lateral = np.linalg.norm(shifts, axis=1)
    if off.max() > tolerance:
        problem = _spacing_problem(planes, gaps)
        step = float(np.median(gaps))
    elif lateral.max() > max(_ROUNDING_MM, 0.02 * step):
        problem = _shift_problem(planes, distances, shifts)
    geometry = _grid(planes[0], shape, step, frame_uid)
    notes: tuple[str, ...] = ()
    thickness = planes[0].thickness
    if thickness is not None and not problem and abs(thickness - step) > max(_ROUNDING_MM, 0.02 * step):
        how = "overlap" if thickness > step else "have gaps"
        notes = (f"slices {how}: {thickness:g} mm thick at {step:g} mm spacing",)
    return Layout(geometry, tuple(distances.tolist()), shifts, problem, notes)


def _spacing_problem(planes: Sequence[Plane], gaps: Float[np.ndarray, "n"]) -> str:
    usual = float(np.median(gaps))
    ratios = gaps / usual
    whole = np.abs(ratios - np.round(ratios)) * usual <= max(_ROUNDING_MM, 0.02 * usual)
    worst = int(np.argmax(np.abs(gaps - usual)))
    between = f"between {planes[worst].where} and {planes[worst + 1].where}"
    if whole.all() and (np.round(ratios) >= 1).all():
        missing = int(np.round(ratios).sum()) - len(gaps)
        return (
            f"{missing} missing slice{'s' if missing > 1 else ''}: {gaps[worst]:.2f} mm {between} where the spacing is "
            f"{usual:.2f} mm. Find the missing files, or read with {_RESAMPLE} to interpolate across"
        )
    return (
        f"irregular spacing: {gaps.min():.2f} to {gaps.max():.2f} mm, the largest deviation {between} "
        f"({gaps[worst]:.2f} mm where {usual:.2f} mm is usual). Read with {_RESAMPLE} to interpolate "
        "onto a uniform grid"
    )


def _shift_problem(planes: Sequence[Plane], distances: Float[np.ndarray, "z"], shifts: Float[np.ndarray, "z 2"]) -> str:
    per_mm = shifts[-1] / distances[-1]
    residual = np.linalg.norm(shifts - distances[:, None] * per_mm, axis=1)
    if residual.max() <= max(_ROUNDING_MM, 0.02 * float(distances[1])):
        degrees = float(np.rad2deg(np.arctan(np.linalg.norm(per_mm))))
        return (
            f"gantry tilt: the slices of {planes[0].where} to {planes[-1].where} are sheared by {degrees:.2f} degrees "
            f"against their normal. Read with {_RESAMPLE} to interpolate onto a straight grid"
        )
    worst = int(np.argmax(residual))
    return (
        f"slices are shifted in their plane: {planes[worst].where} lies {residual[worst]:.2f} mm off the line of the "
        f"others. Read with {_RESAMPLE} to interpolate onto a straight grid"
    )
