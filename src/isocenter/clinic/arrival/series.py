"""One series while it arrives: what can be said already, and nothing that only the rest of it could say.

A series that is not whole looks like one with gaps, so a gap is told only when it will not close by itself: the slices
come in order and went on beyond it for a while, or nothing came for a while, or the study is complete. What no further
slice can mend (two orientations, a tilted gantry, two images at one place) is told at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np

from isocenter.core.errors import DataError, GeometryError
from isocenter.data.images.dicom.pixels import decode
from isocenter.data.images.dicom.plane import Plane
from isocenter.data.images.dicom.stack import Stack, lay_out, split_planes
from isocenter.data.images.motion import Jump, Thumbnail, between, jumps, thumbnail
from isocenter.data.images.quality import GHOST_LIMIT, TRUNCATION_LIMIT, edge_share, ghost_sign

__all__ = ["Alert", "Patience", "Series"]

_LEAST_PLANES: Final = 4
_CT_ENDS: Final = (-200.0, 300.0)
_CERTAIN: Final = ("tilt", "shifted-slices", "mixed-orientation", "size-changes")
_ONCE: Final = (*_CERTAIN, "duplicate-slice", "irregular-slices", "field-of-view")
_MOST_OF_A_KIND: Final = 3
_AT_THE_END: Final = ("repeated-positions",)
_LEAST_CUT: Final = 12
_CUT_SHARE: Final = 0.25


@dataclass(frozen=True)
class Alert:
    """Something about a series that somebody should look at before the patient leaves.

    Args:
        code: Which check found it.
        series: Series Instance UID, "" for the study.
        detail: What was found; without a patient's value.
    """

    code: str
    series: str
    detail: str

    @property
    def line(self) -> str:
        """The alert as one line: its code, where, and what."""
        where = f"series {self.series}: " if self.series else ""
        return f"{self.code}: {where}{self.detail}"


@dataclass(frozen=True)
class Patience:
    """How long a gap may stand before it is one.

    Args:
        grace_s: Since it was seen, where slices come in order; since the last slice came, where they do not.
    """

    grace_s: float = 5.0


@dataclass(eq=False)
class _Looks:
    """What the pixels of one plane say."""

    thumbnail: Thumbnail | None = None
    cut_share: float | None = None
    ghost: float | None = None


@dataclass(eq=False)
class Series:
    """A series of a study that is arriving.

    Args:
        uid: Series Instance UID.
        patience: How long a gap may stand.
        pixels: Whether pixels are looked at.
    """

    uid: str
    patience: Patience = field(default_factory=Patience)
    pixels: bool = True
    planes: list[Plane] = field(default_factory=list)
    last_at: float = 0.0
    _grew: bool = False
    _inward: deque[bool] = field(default_factory=lambda: deque(maxlen=16))
    _ends: list[float] = field(default_factory=list)
    _places: dict[tuple[object, ...], Plane] = field(default_factory=dict)
    _doubled: bool = False
    _since: dict[str, float] = field(default_factory=dict)
    _looks: dict[int, _Looks] = field(default_factory=dict)
    _pairs: dict[tuple[int, int], Jump | None] = field(default_factory=dict)
    _told: dict[str, set[str]] = field(default_factory=dict)

    @property
    def modality(self) -> str:
        """DICOM Modality, "" before the first slice."""
        return self.planes[0].header.text("Modality") if self.planes else ""

    @property
    def is_localizer(self) -> bool:
        """Whether it is a localizer: a few slices to plan others by, of which little is expected."""
        kinds = [plane.header.texts("ImageType") for plane in self.planes[:1]]
        return any(len(kind) > 2 and kind[2] == "LOCALIZER" for kind in kinds)

    def add(self, planes: Iterable[Plane], at: float) -> list[Alert]:
        """Take the planes of an instance that has landed; return what they say at once."""
        found, planes = [], list(planes)
        for plane in planes:
            found += self._placed(plane)
            self.planes.append(plane)
        if self.pixels:
            self._looks |= {id(plane): look for plane, look in zip(planes, _seen(planes), strict=True)}
        self.last_at, self._grew = max(self.last_at, at), True
        return self._new(found)

    def _placed(self, plane: Plane) -> list[Alert]:
        """Note where a plane lies, and whether another lies there already."""
        if plane.position is None or plane.row is None or plane.column is None:
            return []
        header = plane.header
        place = (
            *np.round([*plane.position, *plane.row, *plane.column], 2).tolist(), header.text("FrameOfReferenceUID"),
            header.short("Rows"), header.short("Columns"), header.text("SOPClassUID"),
            repr(sorted(plane.keys.items())), header.frames > 1 and plane.frame,
        )  # fmt: skip
        other = self._places.setdefault(place, plane)
        first = self.planes[0] if self.planes else plane
        if first.row is not None and first.column is not None:
            along = float(plane.position @ np.cross(first.row, first.column))
            ends = self._ends or [along, along]
            if len(self.planes) > 1:
                self._inward.append(ends[0] + 1e-3 < along < ends[1] - 1e-3)
            self._ends = [min(ends[0], along), max(ends[1], along)]
        if other is plane:
            return []
        self._doubled = True
        what = f"{plane.where} lies where {other.where} lies, and nothing in their headers tells them apart"
        return [Alert("duplicate-slice", self.uid, what)]

    @property
    def in_order(self) -> bool:
        """Whether slices come from one end to the other, so that a gap stays one."""
        return len(self.planes) >= _LEAST_PLANES and not any(self._inward)

    def look(self, now: float, *, ended: bool = False) -> list[Alert]:
        """Return what is to be told now and was not told before.

        Args:
            now: Time, in seconds of the epoch.
            ended: Whether the study is complete: what is missing now will not come.
        """
        if not self._grew and not self._since and not ended:
            return []
        found: list[Alert] = []
        waiting: dict[str, float] = {}
        parts = self._parts()
        for code, detail in self._geometry(parts):
            since = waiting[detail] = self._since.get(detail, now)
            stands = now - since >= self.patience.grace_s and self.in_order
            stands |= now - self.last_at >= self.patience.grace_s
            if code in _CERTAIN or ended or (stands and code not in _AT_THE_END):
                found.append(Alert(code, self.uid, detail))
                del waiting[detail]
        self._since = waiting
        if self._grew and self.pixels:
            found += self._by_pixels(parts)
        self._grew = False
        return self._new(found)

    def _parts(self) -> list[Stack | GeometryError]:
        """Return the images that the placed planes make so far; none while they are few."""
        planes = [plane for plane in self.planes if plane.is_placed]
        return [] if len(planes) < _LEAST_PLANES or self.is_localizer else split_planes(planes)

    def _geometry(self, parts: Sequence[Stack | GeometryError]) -> list[tuple[str, str]]:
        """Return what is wrong with the geometry as far as it has come; a gap may still close."""
        if not parts:
            return []
        sizes = {(p.header.short("Rows"), p.header.short("Columns")) for p in self.planes if p.is_placed}
        found = []
        if len(sizes) > 1:
            told = " and ".join(f"{rows} x {columns}" for rows, columns in sorted(sizes)[:2])
            found.append(("size-changes", f"images of {told} pixels in one series"))
        for part in parts:
            if isinstance(part, GeometryError):
                text = _short(part)
                if text.startswith("mixed orientation"):
                    found.append(("mixed-orientation", text))
                elif not self._doubled:
                    found.append(("repeated-positions", text))
                continue
            found += [one for channel in part.channels if (one := _layout(channel)) is not None]
        return found

    def _by_pixels(self, parts: Sequence[Stack | GeometryError]) -> list[Alert]:
        found = []
        looks = [self._looks[id(plane)] for plane in self.planes]
        cut = [one.cut_share for one in looks if one.cut_share is not None]
        touched = sum(share > TRUNCATION_LIMIT for share in cut)
        if len(cut) >= _LEAST_CUT and touched >= _CUT_SHARE * len(cut):
            what = "the body reaches the edge of the field of view: it is cut off in several slices"
            found.append(Alert("field-of-view", self.uid, what))
        ghosts = [abs(one.ghost) for one in looks if one.ghost is not None]
        if len(ghosts) >= _LEAST_PLANES and float(np.median(ghosts)) > GHOST_LIMIT:
            what = "ghosts of the body in the air beside it, as motion or flow leave them"
            found.append(Alert("motion", self.uid, what))
        return found + self._jumps(parts)

    def _jumps(self, parts: Sequence[Stack | GeometryError]) -> list[Alert]:
        found = []
        for part in parts:
            if isinstance(part, GeometryError) or len(part.channels) > 1:
                continue
            planes = part.channels[0]
            pairs = [self._pair(one, other) for one, other in pairwise(planes)]
            for number in jumps(pairs):
                where = f"{planes[number].where} and {planes[number + 1].where}"
                found.append(Alert("motion", self.uid, f"the body jumps between {where}, as if the patient had moved"))
        return found

    def _pair(self, one: Plane, other: Plane) -> Jump | None:
        key = (id(one), id(other))
        if key not in self._pairs:
            a, b = self._looks[key[0]].thumbnail, self._looks[key[1]].thumbnail
            near = _gap(one, other) <= 1.6 * self._usual_gap()
            self._pairs[key] = between(a, b) if a is not None and b is not None and near else None
        return self._pairs[key]

    def _usual_gap(self) -> float:
        """Return the distance that neighbours have by the header: farther apart, they need not resemble each other."""
        first = self.planes[0]
        return max(first.between or 0.0, first.thickness or 0.0) or float("inf")

    def _new(self, alerts: Sequence[Alert]) -> list[Alert]:
        """Return what was not told; of what many slices say alike, no more than the first few."""
        new = []
        for alert in alerts:
            told = self._told.setdefault(alert.code, set())
            if alert.detail not in told and len(told) < (1 if alert.code in _ONCE else _MOST_OF_A_KIND):
                told.add(alert.detail)
                new.append(alert)
        return new


def _seen(planes: Sequence[Plane]) -> list[_Looks]:
    """Look at the pixels of an instance's planes; what can't be decoded says nothing here (reading the study will)."""
    if not planes or planes[0].header.short("SamplesPerPixel", 1) != 1 or planes[0].spacing is None:
        return [_Looks() for _ in planes]
    try:
        values = decode(planes).array[0]
    except DataError:
        return [_Looks() for _ in planes]
    return [_look_at(plane, one.astype(np.float32)) for plane, one in zip(planes, values, strict=True)]


def _look_at(plane: Plane, values: np.ndarray) -> _Looks:
    modality, is_hu = plane.header.text("Modality"), plane.slope is not None
    if modality not in ("CT", "MR") or min(values.shape) < 32 or plane.spacing is None:
        return _Looks()
    small = thumbnail(values, plane.spacing, _CT_ENDS if modality == "CT" and is_hu else None)
    if modality == "CT":
        return _Looks(small, edge_share(values) if is_hu else None)
    low, high = np.percentile(values, (2, 98))
    return _Looks(small, None, ghost_sign(values, values > low + 0.15 * (high - low)) if high > low else None)


def _layout(channel: Sequence[Plane]) -> tuple[str, str] | None:
    """Return what is wrong with where the slices of one stack lie."""
    if len(channel) < _LEAST_PLANES:
        return None
    problem = lay_out(Stack((tuple(channel),))).problem
    if not problem:
        return None
    # Advice for whoever reads files stands behind the first sentence; here the scan can still be mended.
    text = problem.split(". Find", 1)[0].split(". Read", 1)[0]
    if "missing slice" in text:
        return "missing-slices", text
    codes = {"gantry tilt": "tilt", "slices are shifted": "shifted-slices"}
    return next((code for begin, code in codes.items() if text.startswith(begin)), "irregular-slices"), text


def _short(error: GeometryError) -> str:
    text = str(error).removeprefix(f"{error.source}: ") if error.source else str(error)
    return text.split("; ", 1)[0].split(" and no header element", 1)[0]


def _gap(one: Plane, other: Plane) -> float:
    if one.position is None or other.position is None:
        return float("inf")
    return float(np.linalg.norm(other.position - one.position))
