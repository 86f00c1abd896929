"""Answer prompts on one plane of any size: choose where to look, look, and look closer.

The network works on small squares. A window is laid on the plane round what was pointed at (the whole plane when that
is only a point), the answer tells how large the thing is, and a second, closer look draws its border at the resolution
that it deserves. Windows lie on a fixed grid, and what the image encoder said of each is kept: a further click on the
same thing costs the small part of the network only. Coordinates are fractional pixel indices (row, column) of the
plane; a whole number is a centre.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Real
from scipy import ndimage

from isocenter.core.errors import ConfigError
from isocenter.models.interactive.calibration import Calibration
from isocenter.models.interactive.inputs import Canvas, Picture, draw_ball, encode_prompts, normalise_window
from isocenter.models.interactive.network import Examples, Features, InteractiveNet

__all__ = ["Context", "Mark", "OpenPlane", "PlaneAnswer", "PlaneModel", "Window"]

Plane = Float[np.ndarray, "h w"]
Stored = Real[np.ndarray, "h w"]
_LEAST_SIDE = 24.0
_MOST_KEPT = 24  # windows whose features are kept
_NEAR_MARGIN = 1.8


@dataclass(frozen=True, eq=False)
class Mark:
    """One act of pointing on a plane.

    Args:
        kind: "point"; "stroke", a polyline; or "region", a closed polygon that holds the whole of the thing.
        points: (n, 2) rows and columns.
        positive: True for "this", False for "not this".

    Raises:
        ConfigError: No points, or a region of fewer than three.
    """

    kind: Literal["point", "stroke", "region"]
    points: Float[np.ndarray, "n 2"]
    positive: bool = True

    def __post_init__(self) -> None:
        least = 3 if self.kind == "region" else 1
        if self.points.ndim != 2 or len(self.points) < least:
            raise ConfigError(f"a {self.kind} on a plane needs {least} points or more (row, column)")


@dataclass(frozen=True)
class Window:
    """A square on a plane.

    Args:
        row: Row of its centre.
        column: Column of its centre.
        side: Its side in pixels of the plane.
        pixels: Its side in pixels of the network.
    """

    row: float
    column: float
    side: float
    pixels: int

    @property
    def step(self) -> float:
        """Pixels of the plane per pixel of the network."""
        return self.side / self.pixels

    @property
    def corner(self) -> tuple[float, float]:
        """Plane coordinates of the centre of the network's pixel (0, 0)."""
        half = (self.pixels - 1) / 2 * self.step
        return self.row - half, self.column - half

    def cut(self, plane: Plane, *, outside: float) -> Float[np.ndarray, "n n"]:
        """Sample a plane in the window, smoothed as much as it shrinks."""
        # Only the part that can matter is smoothed: the window and three deviations round it.
        room = 1.2 * self.step + 2
        start = [int(np.clip(np.floor(c - room), 0, n - 1)) for c, n in zip(self.corner, plane.shape, strict=True)]
        stop = [
            int(np.clip(np.ceil(c + self.side + room), 1, n)) for c, n in zip(self.corner, plane.shape, strict=True)
        ]
        part = plane[start[0] : max(stop[0], start[0] + 1), start[1] : max(stop[1], start[1] + 1)].astype(np.float32)
        if self.step > 1.2:
            part = ndimage.gaussian_filter(part, 0.4 * self.step, truncate=3.0)
        corner = [c - s for c, s in zip(self.corner, start, strict=True)]
        cut: Plane = ndimage.affine_transform(
            part, (self.step, self.step), corner, (self.pixels, self.pixels), order=1, mode="constant", cval=outside
        )
        return cut

    def paste(self, square: Float[np.ndarray, "n n"], shape: tuple[int, int]) -> Plane:
        """Bring values of the window back to the plane's own pixels, 0 outside the window."""
        corner = self.corner
        top, left = (max(0, int(np.floor(c - self.step))) for c in corner)
        bottom, right = (min(n, int(np.ceil(c + self.side + self.step))) for n, c in zip(shape, corner, strict=True))
        out = np.zeros(shape, dtype=np.float32)
        if top >= bottom or left >= right:
            return out
        padded = np.pad(square, 1, mode="edge")
        offset = ((top - corner[0]) / self.step + 1, (left - corner[1]) / self.step + 1)
        smooth = ndimage.gaussian_filter(padded, 0.3 / self.step) if self.step < 0.6 else padded
        out[top:bottom, left:right] = ndimage.affine_transform(
            smooth, (1 / self.step, 1 / self.step), offset, (bottom - top, right - left), order=1, mode="constant"
        )
        return np.clip(out, 0, 1)

    def to_window(self, points: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
        """Map plane coordinates to the window's."""
        return np.asarray((points - np.array(self.corner)) / self.step)

    def snapped(self, shape: tuple[int, int]) -> Window:
        """Return a window nearby on a fixed grid of places and sizes, so that the same one is looked at again.

        Args:
            shape: Of the plane; a window as large as the plane is its middle.
        """
        whole = float(max(shape))
        side = min(
            whole, _LEAST_SIDE * 2 ** (np.ceil(4 * np.log2(max(self.side, _LEAST_SIDE) / _LEAST_SIDE) - 1e-6) / 4)
        )
        centre = []
        for middle, size in zip((self.row, self.column), shape, strict=True):
            pitch = side / 8
            low, high = min(side / 2, size / 2) - 0.5, max(size - side / 2, size / 2) - 0.5
            centre.append(float(np.clip(round((middle + 0.5) / pitch) * pitch - 0.5, low, high)))
        return Window(centre[0], centre[1], float(side), self.pixels)

    def holds(self, points: Float[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
        """Tell which points lie in the window."""
        inside = self.to_window(points)
        return np.asarray(((inside >= -0.5) & (inside <= self.pixels - 0.5)).all(axis=1))


@dataclass(frozen=True, eq=False)
class PlaneAnswer:
    """What the model says about one plane.

    Args:
        probability: Of belonging to the thing, on the plane's own pixels.
        quality: Predicted IoU of the mask at 0.5.
        window: Where it looked last.
        alternatives: Other things that a first click may have meant, best first: probability and predicted IoU.
    """

    probability: Plane
    quality: float
    window: Window
    alternatives: tuple[tuple[Plane, float], ...] = ()


def fill_polygon(points: Float[np.ndarray, "n 2"], shape: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Return the pixels whose centre lies in a closed polygon (even-odd rule); those on its corners if there is none.

    Example:
        >>> fill_polygon(np.array([[0.5, 0.5], [0.5, 2.5], [2.5, 2.5], [2.5, 0.5]]), (4, 4)).sum()
        np.int64(4)
    """
    rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
    inside = np.zeros(shape, dtype=bool)
    for (r0, c0), (r1, c1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if r0 == r1:
            continue
        crosses = (np.minimum(r0, r1) <= rows) & (rows < np.maximum(r0, r1))
        inside ^= crosses & (columns < c0 + (rows - r0) / (r1 - r0) * (c1 - c0))
    if inside.any():
        return inside
    for row, column in points:
        if -0.5 <= row <= shape[0] - 0.5 and -0.5 <= column <= shape[1] - 0.5:
            inside[round(float(np.clip(row, 0, shape[0] - 1))), round(float(np.clip(column, 0, shape[1] - 1)))] = True
    return inside


def _along(points: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "m 2"]:
    """Return points a pixel apart along a polyline."""
    if len(points) == 1:
        return points
    pieces = []
    for start, end in pairwise(points):
        count = min(max(1, int(np.ceil(np.linalg.norm(end - start)))), 4096)
        pieces.append(start + (end - start) * np.arange(count)[:, None] / count)
    return np.concatenate([*pieces, points[-1:]])


def draw(marks: Sequence[Mark], window: Window) -> Canvas:
    """Draw marks in a window; what lies outside it is left out. Where both signs meet, the later one counts."""
    canvas = Canvas.empty(window.pixels, window.pixels)
    positive, negative, region = canvas.positive.copy(), canvas.negative.copy(), canvas.region.copy()
    for mark in marks:
        points = window.to_window(mark.points)
        if mark.kind == "region":
            filled = fill_polygon(points, region.shape)
            if mark.positive:
                region |= filled
            else:
                negative |= filled
                positive &= ~filled
            continue
        drawn = np.zeros_like(positive)
        points = _along(points)
        near = points[((points > -3) & (points < window.pixels + 2)).all(axis=1)]
        for row, column in near:
            draw_ball(drawn, (float(row), float(column)), None if mark.kind == "point" else 1.5)
        ours, theirs = (positive, negative) if mark.positive else (negative, positive)
        ours |= drawn
        theirs &= ~drawn
    return replace(canvas, positive=positive, negative=negative, region=region)


@dataclass(frozen=True, eq=False)
class _Looked:
    """A window that was looked at: its picture and what the encoder said."""

    picture: Picture
    channels: Float[np.ndarray, "2 n n"]
    features: Features


class Context:
    """Examples that the model may look up: planes with masks, encoded once, whole and near the mask.

    Args:
        model: Whose encoder.
        examples: Planes with boolean masks, each of its own size.
    """

    def __init__(self, model: PlaneModel, examples: Sequence[tuple[Stored, Bool[np.ndarray, "h w"]]]) -> None:
        self._model = model
        self._views: dict[str, list[tuple[Features, Float[np.ndarray, "n n"]]]] = {"whole": [], "near": []}
        for plane, mask in examples:
            self.add(plane, mask)

    def __len__(self) -> int:
        return len(self._views["whole"])

    def add(self, plane: Stored, mask: Bool[np.ndarray, "mask_h mask_w"]) -> None:
        """Take one more example.

        Raises:
            ConfigError: The mask is of another shape than the plane.
        """
        if plane.shape != mask.shape:
            raise ConfigError(f"an example's mask is {mask.shape} and its picture {plane.shape}; they must be one grid")
        opened = self._model.open(plane)
        for name, window in zip(("whole", "near"), self._model.views(mask), strict=True):
            square = window.cut(mask.astype(np.float32), outside=0.0)
            self._views[name].append((opened.looked(window).features, square))

    @property
    def bytes(self) -> int:
        """Memory of what was seen."""
        return sum(level.nbytes for views in self._views.values() for seen, _ in views for level in seen.levels)

    def extend(self, other: Context) -> None:
        """Take the examples of another context of the same model; nothing is encoded again."""
        for name, views in self._views.items():
            views.extend(other._views[name])

    def memory(self, window: Window, shape: tuple[int, int], samples: int) -> Examples | None:
        """Return the memory for looks through windows of this size; None without examples."""
        views = self._views["whole" if self._model.is_whole(window, shape) else "near"]
        if not views:
            return None
        levels = tuple(torch.cat(parts) for parts in zip(*(f.levels for f, _ in views), strict=True))
        masks = torch.from_numpy(np.stack([m for _, m in views]).astype(np.float32))
        with torch.inference_mode():
            one = self._model.net.remember(Features(levels), masks, torch.zeros(len(views), dtype=torch.long), 1)
        return Examples(*(part.expand(samples, *part.shape[1:]) for part in one))


class OpenPlane:
    """A plane that is being worked on; keeps what was seen of it.

    Args:
        model: The model.
        plane: Intensities in any unit; what is not finite counts as the median.
    """

    def __init__(self, model: PlaneModel, plane: Stored) -> None:
        self._model, self.plane = model, _finite(plane)
        self._outside = float(np.percentile(self.plane, 0.5))
        self._kept: OrderedDict[Window, _Looked] = OrderedDict()

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return (self.plane.shape[0], self.plane.shape[1])

    @property
    def bytes(self) -> int:
        """Memory of what was seen, and of the plane itself."""
        seen = sum(level.nbytes for known in self._kept.values() for level in known.features.levels)
        return seen + self.plane.nbytes

    def looked(self, window: Window) -> _Looked:
        """Return what is seen in a window, from memory if it was looked at before."""
        known = self._kept.get(window)
        if known is None:
            picture = Picture.of(normalise_window(window.cut(self.plane, outside=self._outside)))
            channels = picture.channels()
            with torch.inference_mode():
                features = self._model.net.encode(torch.from_numpy(channels[None]))
            known = _Looked(picture, channels, features)
            self._kept[window] = known
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(window)
        return known

    def look(
        self,
        marks: Sequence[Mark],
        windows: Sequence[Window],
        *,
        previous: Plane | None = None,
        hint: Plane | None = None,
        context: Context | None = None,
    ) -> list[tuple[Float[np.ndarray, "k n n"], Float[np.ndarray, " k"]]]:
        """Return, for each window, the probabilities in it and the predicted IoU: the answer, then alternatives."""
        seen, canvases = [self.looked(w) for w in windows], []
        for window in windows:
            canvas = draw(marks, window)
            if previous is not None:
                canvas = replace(canvas, previous=window.cut(previous, outside=0.0))
            if hint is not None:
                canvas = replace(canvas, hint=(window.cut(hint, outside=0.0) > 0.5).astype(np.float32))
            canvases.append(canvas)
        prompts = encode_prompts([s.picture for s in seen], canvases)
        inputs = torch.from_numpy(np.concatenate([np.stack([s.channels for s in seen]), prompts], axis=1))
        found = []
        with torch.inference_mode():
            for number, window in enumerate(windows):
                memory = None if context is None else context.memory(window, self.shape, 1)
                answer = self._model.net.answer(seen[number].features, inputs[number : number + 1], memory)
                trust = self._model.calibration
                found.append((trust.probability(answer.logits[0]).numpy(), trust.overlap(answer.quality[0]).numpy()))
        return found

    def answer(
        self,
        marks: Sequence[Mark],
        *,
        previous: Plane | None = None,
        hint: Plane | None = None,
        context: Context | None = None,
    ) -> PlaneAnswer:
        """Answer marks, or examples alone.

        Args:
            marks: What was pointed at; may be empty with a context.
            previous: The probability that was corrected by the last mark, None at the first.
            hint: Mask of the neighbouring slice.
            context: Examples of the thing in other pictures.
        """
        shape, model = self.shape, self._model
        windows = model.windows(shape, marks, previous, hint)
        looks = self.look(marks, windows, previous=previous, hint=hint, context=context)
        best = max(range(len(looks)), key=lambda i: float(looks[i][1][0]))
        window, (probability, quality) = windows[best], looks[best]
        closer = model.larger(shape, marks, window, probability[0])
        if closer is None and not marks and previous is None and (probability[0] > 0.5).any():
            closer = model.closer(shape, window, probability[0])
        if closer is not None and closer != window:
            before = window.paste(probability[0], shape) if not marks and previous is None else previous
            window = closer
            ((probability, quality),) = self.look(marks, [window], previous=before, hint=hint, context=context)
        others = []
        if previous is None and hint is None and context is None and len(marks) == 1 and marks[0].kind == "point":
            others = _distinct(windows, looks, window.paste(probability[0], shape), shape)
        return PlaneAnswer(window.paste(probability[0], shape), float(quality[0]), window, tuple(others))

    def follow(self, before: Bool[np.ndarray, "h w"]) -> PlaneAnswer:
        """Answer for the slice beside one whose mask is known: a hint, a point at its core, four points round it.

        Args:
            before: Mask of the slice beside it, not empty. The answer reaches no further than a narrow rim round it.
        """
        shape = self.shape
        corners = _corners(before)
        window = _round(shape, corners, _NEAR_MARGIN, self._model.pixels)
        depth = ndimage.distance_transform_edt(np.pad(before, 1))[1:-1, 1:-1]
        core = np.array(np.unravel_index(int(depth.argmax()), shape), dtype=np.float64)
        reach = (corners[1] - corners[0] + 1) / 2 + max(3.0, 0.12 * window.side)
        around = corners.mean(axis=0) + np.array([[-1, 0], [1, 0], [0, -1], [0, 1]]) * reach
        within = ((around >= 0) & (around <= np.array(shape) - 1)).all(axis=1)
        marks = [Mark("point", core[None]), *(Mark("point", p[None], positive=False) for p in around[within])]
        ((probability, quality),) = self.look(marks, [window], hint=before.astype(np.float32))
        rim = ndimage.binary_dilation(before, iterations=max(2, int(0.08 * np.sqrt(before.sum()))))
        drawn = np.where(rim, window.paste(probability[0], shape), np.float32(0))
        return PlaneAnswer(drawn, float(quality[0]), window)


class PlaneModel:
    """The network, and how to look with it.

    A single point does not say how large the thing is. The plane is then looked at whole and in smaller windows round
    the point, and the answer that the network trusts most is taken. Once there is an answer, the window follows it, and
    the whole plane stays a candidate as long as it is much larger.

    Args:
        net: For planes, in evaluation mode.
        pixels: Side of the network's picture.
        calibration: Corrections of what it says; none when left out.

    Raises:
        ConfigError: The network is for volumes.
    """

    first_shares = (1.0, 0.6, 0.36)
    """Sides of the first windows, as shares of the plane's longer side."""
    margins = (1.8, 3.0)
    """Sides of the later windows, as multiples of the extent of the answer and the marks."""
    whole_too = 1.4
    """The whole plane is a candidate where it is this many times larger than the window."""

    def __init__(self, net: InteractiveNet, *, pixels: int = 128, calibration: Calibration | None = None) -> None:
        if net.settings.dims != 2:
            raise ConfigError("a plane needs a network for planes; this one is for volumes")
        self.net, self.pixels = net, pixels
        self.calibration = calibration or Calibration()

    def open(self, plane: Stored) -> OpenPlane:
        """Begin work on a plane."""
        return OpenPlane(self, plane)

    def whole(self, shape: tuple[int, int]) -> Window:
        """Return the window that holds a whole plane."""
        return Window((shape[0] - 1) / 2, (shape[1] - 1) / 2, float(max(shape)), self.pixels)

    def views(self, mask: Bool[np.ndarray, "h w"]) -> tuple[Window, Window]:
        """Return through which windows an example is shown: its whole plane, and near its mask."""
        shape = (mask.shape[0], mask.shape[1])
        whole = self.whole(shape)
        return whole, whole if not mask.any() else self._near(shape, _corners(mask), _NEAR_MARGIN)

    @staticmethod
    def is_whole(window: Window, shape: tuple[int, int]) -> bool:
        """Tell whether a look through a window is compared with whole examples, not with those near the mask."""
        return window.side > 0.7 * max(shape)

    def answer(
        self, plane: Plane, marks: Sequence[Mark], *, previous: Plane | None = None, hint: Plane | None = None
    ) -> PlaneAnswer:
        """Answer marks on a plane that is seen only once; see `OpenPlane.answer`."""
        return self.open(plane).answer(marks, previous=previous, hint=hint)

    def windows(
        self, shape: tuple[int, int], marks: Sequence[Mark], previous: Plane | None, hint: Plane | None
    ) -> list[Window]:
        """Return where to look for an answer to marks."""
        whole = self.whole(shape)
        parts = [m.points for m in marks if m.kind == "region" and m.positive]
        certain = bool(parts) or hint is not None
        parts += [_corners(known > 0.5) for known in (previous, hint) if known is not None and (known > 0.5).any()]
        pointed = [m.points for m in marks if m.kind != "region" and (parts or m.positive)]
        everything = [*parts, *pointed]
        if not everything:
            return [whole]
        points = np.concatenate(everything)
        if parts:
            near = list(dict.fromkeys(self._near(shape, points, margin) for margin in self.margins))
            return near if certain or near[0].side * self.whole_too > whole.side else [*near, whole]
        extent = float((points.max(axis=0) - points.min(axis=0) + 1).max())
        sides = dict.fromkeys(max(share * whole.side, 1.5 * extent, _LEAST_SIDE) for share in self.first_shares)
        found = [whole if side >= whole.side else self._near(shape, points, side / extent) for side in sides]
        return list(dict.fromkeys(found))

    def _near(self, shape: tuple[int, int], points: Float[np.ndarray, "n 2"], margin: float) -> Window:
        return _round(shape, points, margin, self.pixels).snapped(shape)

    def larger(
        self, shape: tuple[int, int], marks: Sequence[Mark], window: Window, probability: Float[np.ndarray, "n n"]
    ) -> Window | None:
        """Return a larger window where the answer is cut off by this one, or None."""
        found = probability > 0.5
        if not (found[0].any() or found[-1].any() or found[:, 0].any() or found[:, -1].any()):
            return None
        corners = np.array(window.corner) + _corners(found) * window.step
        points = np.concatenate([corners, *(m.points for m in marks if m.kind != "region")])
        fitting = self._near(shape, points, _NEAR_MARGIN)
        return fitting if fitting.side > 1.25 * window.side else None

    def closer(self, shape: tuple[int, int], window: Window, probability: Float[np.ndarray, "n n"]) -> Window | None:
        """Return a smaller window round an answer, or None where it would not be much smaller."""
        corners = np.array(window.corner) + _corners(probability > 0.5) * window.step
        fitting = self._near(shape, corners, _NEAR_MARGIN)
        return fitting if fitting.side < 0.8 * window.side else None


def _round(shape: tuple[int, int], points: Float[np.ndarray, "n 2"], margin: float, pixels: int) -> Window:
    """Return a window round points, moved so that little of it lies outside the plane."""
    low, high = points.min(axis=0), points.max(axis=0)
    side = float(np.clip((high - low + 1).max() * margin, min(_LEAST_SIDE, max(shape)), max(shape)))
    middle = (low + high) / 2
    centre = []
    for axis in (0, 1):
        room = max(shape[axis] - side, 0.0) / 2
        half = (shape[axis] - 1) / 2
        centre.append(float(np.clip(middle[axis], half - room, half + room)))
    return Window(centre[0], centre[1], side, pixels)


def _distinct(
    windows: Sequence[Window],
    looks: Sequence[tuple[Float[np.ndarray, "k n n"], Float[np.ndarray, " k"]]],
    chosen: Plane,
    shape: tuple[int, int],
) -> list[tuple[Plane, float]]:
    """Return up to three answers that differ from the chosen one and from each other, the most trusted first."""
    ranked = sorted(
        ((float(q[k]), w, p[k]) for w, (p, q) in zip(windows, looks, strict=True) for k in range(len(q))),
        key=lambda one: -one[0],
    )
    kept: list[tuple[Plane, float]] = []
    masks = [chosen >= 0.5]
    for quality, window, square in ranked:
        if len(kept) == 3:
            break
        drawn = window.paste(square, shape)
        mask = drawn >= 0.5
        if not mask.any() or any(_iou(mask, other) > 0.8 for other in masks):
            continue
        masks.append(mask)
        kept.append((drawn, quality))
    return kept


def _iou(one: Bool[np.ndarray, "h w"], other: Bool[np.ndarray, "h w"]) -> float:
    either = int((one | other).sum())
    return int((one & other).sum()) / either if either else 1.0


def _corners(mask: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "2 2"]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([[rows[0], columns[0]], [rows[-1], columns[-1]]], dtype=np.float64)


def _finite(plane: Stored) -> Plane:
    plane = np.asarray(plane, dtype=np.float32)
    finite = np.isfinite(plane)
    if finite.all():
        return plane
    return np.where(finite, plane, np.float32(np.median(plane[finite]) if finite.any() else 0.0))
