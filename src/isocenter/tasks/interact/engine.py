"""From placed prompts to an outline: which model answers what, and what is kept between answers.

A picture, a cine frame and a stack of a few slices are answered plane by plane. A volume is answered as one: clicks and
strokes go to the network for volumes as they are; what says all of one slice (a lasso, a box without depth) is
outlined on that slice first, and the outlined slice is what the volume is told (docs/results/interactive-volumes.md
tells the experiment that chose this).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Real
from scipy import ndimage

from isocenter.core import Geometry
from isocenter.core.errors import ConfigError
from isocenter.models.interactive.build import build_plane_model, build_volume_model
from isocenter.models.interactive.confirmed import Confirmed, answer_from_cases
from isocenter.models.interactive.part import Box, Part, box_of, join_boxes
from isocenter.models.interactive.plane import Context, Mark, OpenPlane, PlaneAnswer, PlaneModel, fill_polygon
from isocenter.models.interactive.stack import Progress, Propagation, answer_stack, spread
from isocenter.models.interactive.volume import Cube, OpenVolume, VolumeMark, VolumeModel
from isocenter.models.weights import WeightsCard, load_weights
from isocenter.tasks.interact.placing import Placed, Pointed

__all__ = ["Engine", "Examples", "OpenImage", "Outline"]

LEAST_SLICES = 6
"""A volume with fewer planes along any axis is answered plane by plane."""
MOST_REPLAYED = 8
"""Prompts answered one after the other; of more, the first ones are taken together."""
MOST_PLANES = 48
"""Planes of which is kept what was seen; of more, those looked at longest ago are seen anew when they are asked."""

Volume = Float[np.ndarray, "z y x"]
Stored = Real[np.ndarray, "z y x"]
Plane = Float[np.ndarray, "h w"]


@dataclass(frozen=True, eq=False)
class Outline:
    """An answer on the voxels of the image.

    Args:
        part: Probability of belonging to the thing, where it is not 0.
        expected_iou: Overlap that the model expects of the outline at 0.5.
        alternatives: Other things that a first click may have meant, best first: probability and expected overlap.
        how: What was done, for the record of steps.
        cube: Where the network for volumes looked; None where planes were answered.
    """

    part: Part
    expected_iou: float
    alternatives: tuple[tuple[Part, float], ...]
    how: dict[str, object]
    cube: Cube | None = None

    @property
    def probability(self) -> Volume:
        """The probability of every voxel."""
        return self.part.whole()

    @property
    def expected_dice(self) -> float:
        """The same expectation as Dice."""
        return round(2 * self.expected_iou / (1 + self.expected_iou), 4)


class Engine:
    """Both models, loaded once.

    Args:
        plane: Weights of the network for planes: a built-in name, or a path.
        volume: The same for volumes; None to go from slice to slice instead.

    Raises:
        WeightsError: Weights are missing, altered or of another network.
    """

    def __init__(self, plane: str = "interactive-2d", volume: str | None = "interactive-3d") -> None:
        loaded = load_weights(plane)
        self.plane_card: WeightsCard = loaded.card
        self.planes: PlaneModel = build_plane_model(loaded)
        self.volumes: VolumeModel | None = None
        self.volume_card: WeightsCard | None = None
        if volume is not None:
            deep = load_weights(volume)
            self.volumes, self.volume_card = build_volume_model(deep), deep.card

    def open(self, volume: Stored, geometry: Geometry) -> OpenImage:
        """Begin work on an image."""
        return OpenImage(self, volume, geometry)


class Examples(Confirmed):
    """Confirmed cases that the next image is answered from; see `Confirmed`.

    Args:
        engine: The models.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.planes)


class OpenImage:
    """An image that is being worked on.

    Args:
        engine: The models.
        volume: Intensities (z, y, x), one channel.
        geometry: Its grid.
    """

    def __init__(self, engine: Engine, volume: Stored, geometry: Geometry) -> None:
        self._engine, self.volume, self.geometry = engine, volume, geometry
        self._planes: OrderedDict[tuple[int, int], OpenPlane] = OrderedDict()
        self._whole: OpenVolume | None = None
        self._examples: Examples | None = None

    @property
    def as_volume(self) -> bool:
        """Whether prompts are answered in the volume as one."""
        in_space = self.geometry.stack != "time" and min(self.volume.shape) >= LEAST_SLICES
        return self._engine.volumes is not None and in_space

    @property
    def bytes(self) -> int:
        """Memory of what was seen of it, without the image itself."""
        seen = sum(plane.bytes for plane in self._planes.values())
        return seen + (0 if self._whole is None else self._whole.bytes)

    @property
    def _as_stack(self) -> bool:
        """Whether marked planes are answered and the others reached from slice to slice."""
        return not self.as_volume and self.geometry.stack != "time" and len(self.volume) > 1

    @property
    def passport(self) -> WeightsCard:
        """Card of the weights that answer."""
        deep = self._engine.volume_card
        return deep if self.as_volume and deep is not None else self._engine.plane_card

    def plane(self, axis: int, index: int) -> OpenPlane:
        """Return one plane of the image, kept open."""
        key = (axis, index)
        if key not in self._planes:
            self._planes[key] = self._engine.planes.open(np.take(self.volume, index, axis=axis))
            if len(self._planes) > MOST_PLANES:
                self._planes.popitem(last=False)
        self._planes.move_to_end(key)
        return self._planes[key]

    def answer(self, placed: Placed) -> Outline:
        """Answer all prompts of one label from the beginning."""
        if self._as_stack:
            return self._in_stack(placed)
        first = max(1, len(placed.pointed) - MOST_REPLAYED + 1)
        outline: Outline | None = None
        for count in range(first, len(placed.pointed) + 1):
            if any(p.positive for p in placed.pointed[:count]):
                outline = self.step(placed, count, outline)
        return outline if outline is not None else self.step(placed, len(placed.pointed), None)

    def step(self, placed: Placed, count: int, before: Outline | None) -> Outline:
        """Answer the first `count` prompts, knowing the answer to those before."""
        if self.as_volume:
            return self._in_volume(placed, count, before)
        if self._as_stack and (before is None or "examples" not in before.how):
            return self._in_stack(placed)
        return self._in_planes(placed, count, before)

    def from_examples(self, examples: Examples, progress: Progress | None = None) -> Outline:
        """Answer without a prompt, plane by plane, each from the planes of the examples at the same height.

        Raises:
            Stopped: `progress` raised it.
        """
        self._examples, count = examples, len(self.volume)
        told = range(count) if progress is None else _told(count, progress)
        found = answer_from_cases((self.plane(0, index) for index in told), examples, count=count)
        return Outline(Part.of(found.probability), found.expected_iou, (), {"axis": "z", "examples": len(examples)})

    def remember(self, examples: Examples) -> None:
        """Let corrections look up examples, as after `from_examples`."""
        self._examples = examples

    def propagate(
        self, placed: Placed, before: Outline, first: int, last: int, progress: Progress | None = None
    ) -> Outline:
        """Outline planes anew from those that a person marked, slice to slice.

        Args:
            placed: The prompts, on the planes of the axis to go along.
            before: The outline as it stands. Marked planes stay as they are in it; without one in the range, its
                largest plane there is where to start.
            first: First plane to outline.
            last: Last plane to outline; planes outside stay as they are.
            progress: Told after each plane.

        Raises:
            Stopped: `progress` raised it.
            ConfigError: The range is not within the image, or nothing is outlined in it.
        """
        axis, model = placed.axis, self._engine.planes
        if not 0 <= first <= last < self.volume.shape[axis]:
            raise ConfigError(f"planes {first} to {last} along {'zyx'[axis]} are not within the image; choose others")
        planes = {index: _plane_of(before.part, axis, index) for index in range(first, last + 1)}
        areas = {index: int((plane >= 0.5).sum()) for index, plane in planes.items() if plane is not None}
        starts = [index for index in placed.marks if areas.get(index)]
        if not starts and any(areas.values()):
            starts = [max(areas, key=lambda index: areas[index])]
        if not starts:
            raise ConfigError("nothing is outlined on these planes yet; point at it on one of them first")
        stack = np.moveaxis(self.volume, axis, 0)
        whole = model.whole((stack.shape[1], stack.shape[2]))
        known = {index: plane for index in starts if (plane := planes[index]) is not None}
        answers = {index: PlaneAnswer(plane, before.expected_iou, whole) for index, plane in known.items()}
        found = spread(model, stack, answers, placed.marks, Propagation(first=first, last=last), progress)
        part = _with_planes(before.part, axis, {i: found.probability[i] for i in range(first, last + 1)})
        sizes = [float((found.probability[index] >= 0.5).sum()) for index in found.quality]
        expected = float(np.average(list(found.quality.values()), weights=sizes)) if any(sizes) else 0.0
        how: dict[str, object] = {**before.how, "propagated": ("zyx"[axis], first, last)}
        return Outline(part, expected, (), how)

    def _context(self, axis: int, index: int) -> Context | None:
        """Return the examples for a plane; they are kept by planes along the first axis."""
        if self._examples is None or axis != 0:
            return None
        return self._examples.at((index + 0.5) / len(self.volume))

    def _in_planes(self, placed: Placed, count: int, before: Outline | None) -> Outline:
        """Answer the planes that the latest prompt marked, with all marks on them; the others stay as they were."""
        part = Part.nothing(self._shape) if before is None else before.part
        marks = _by_plane(placed.pointed[:count])
        asked = marks if before is None else {plane for plane, _ in placed.pointed[count - 1].marks}
        expected = 0.0 if before is None else before.expected_iou
        others: tuple[tuple[Part, float], ...] = ()
        areas, qualities = [float((part.values >= 0.5).sum())], [expected]
        new: dict[int, Plane] = {}
        for index in sorted(asked):
            previous = _plane_of(part, placed.axis, index)
            if previous is None and not any(m.positive for m in marks[index]):
                continue
            context = self._context(placed.axis, index)
            answer = self.plane(placed.axis, index).answer(marks[index], previous=previous, context=context)
            areas[0] -= 0.0 if previous is None else float((previous >= 0.5).sum())
            new[index] = answer.probability
            areas.append(float((answer.probability >= 0.5).sum()))
            qualities.append(answer.quality)
            if len(marks) == 1:
                nothing = Part.nothing(self._shape)
                others = tuple((_with_planes(nothing, placed.axis, {index: p}), q) for p, q in answer.alternatives)
        expected = float(np.average(qualities, weights=areas)) if any(areas) else 0.0
        how: dict[str, object] = {"axis": "zyx"[placed.axis], "marked_planes": tuple(sorted(marks))}
        if before is not None and "examples" in before.how:
            how["examples"] = before.how["examples"]
        return Outline(_with_planes(part, placed.axis, new), expected, others, how)

    @property
    def _shape(self) -> tuple[int, int, int]:
        return (self.volume.shape[0], self.volume.shape[1], self.volume.shape[2])

    def _in_stack(self, placed: Placed) -> Outline:
        """Answer marked planes, then go from slice to slice."""
        marks = _by_plane(placed.pointed)
        settings = Propagation(first=placed.first, last=placed.last)
        answer = answer_stack(self._engine.planes, np.moveaxis(self.volume, placed.axis, 0), marks, settings)
        areas = [float((answer.probability[index] >= 0.5).sum()) for index in answer.quality]
        expected = float(np.average(list(answer.quality.values()), weights=areas)) if any(areas) else 0.0
        reached = (min(answer.quality), max(answer.quality)) if answer.quality else ()
        how: dict[str, object] = {
            "axis": "zyx"[placed.axis],
            "marked_planes": answer.marked,
            "reached_planes": reached,
        }
        return Outline(Part.of(np.moveaxis(answer.probability, 0, placed.axis)), expected, (), how)

    def _in_volume(self, placed: Placed, count: int, before: Outline | None) -> Outline:
        """Answer in the volume as one."""
        engine = self._engine
        if self._whole is None and engine.volumes is not None:
            self._whole = engine.volumes.open(self.volume, self.geometry.spacing_mm)
        marks: list[VolumeMark] = []
        latest = 1
        for number, pointed in enumerate(placed.pointed[:count]):
            new = self._volume_marks(placed, number, pointed)
            marks, latest = [*marks, *new], max(1, len(new))
        previous = None if before is None else before.part
        if previous is not None and not any(m.positive for m in marks):
            # Corrections of what the examples said: its core stands for the prompt that was never made.
            marks.insert(0, VolumeMark("point", _core(previous)))
        seen_in = None if before is None else before.cube
        answer = self._whole.answer(  # type: ignore[union-attr]
            marks, previous=previous, seen_in=seen_in, latest=latest
        )
        part = _between(answer.part, placed.axis, placed.first, placed.last)
        how: dict[str, object] = {"cube_side_voxels": round(answer.cube.side, 3), "prompts": count}
        return Outline(part, answer.quality, (), how, answer.cube)

    def _volume_marks(self, placed: Placed, number: int, pointed: Pointed) -> list[VolumeMark]:
        """Return what a prompt says to the network for volumes."""
        if pointed.kind == "point":
            return [VolumeMark("point", pointed.points, pointed.positive)]
        if pointed.kind == "scribble":
            return [VolumeMark("stroke", pointed.points, pointed.positive)]
        if not pointed.flat:
            return [VolumeMark("box", pointed.points, pointed.positive)]
        ((plane, _),) = pointed.marks
        own = [m for p in placed.pointed[: number + 1] for at, m in p.marks if at == plane]
        if not pointed.positive:
            inside = np.argwhere(self._filled(placed.axis, plane, pointed))[::7]
            points = np.insert(inside.astype(float), placed.axis, float(plane), axis=1)
            return [VolumeMark("point", p[None], positive=False) for p in points]
        mask = self.plane(placed.axis, plane).answer(own).probability >= 0.5
        at = np.zeros((1, 3))
        at[0, placed.axis] = plane
        return [VolumeMark("slice", at, mask=mask, axis=placed.axis)]

    def _filled(self, axis: int, plane: int, pointed: Pointed) -> Bool[np.ndarray, "h w"]:
        from_marks = [m for at, m in pointed.marks if at == plane]
        shape = np.take(self.volume, plane, axis=axis).shape
        return fill_polygon(from_marks[0].points, (shape[0], shape[1]))


def _core(part: Part) -> Float[np.ndarray, "1 3"]:
    """Return the voxel of what is inside that is farthest from its border; the middle of the grid where nothing is."""
    mask = part.values >= 0.5
    if not mask.any():
        return np.array([[(n - 1) / 2 for n in part.shape]])
    box = box_of(mask)
    depth = ndimage.distance_transform_edt(np.pad(mask[box], 1))[1:-1, 1:-1, 1:-1]
    found = np.unravel_index(int(depth.argmax()), depth.shape)
    return np.array([[float(w.start + s.start + i) for w, s, i in zip(part.box, box, found, strict=True)]])


def _told(count: int, progress: Progress) -> Iterator[int]:
    """Count up; before each number, say how many are done."""
    for index in range(count):
        progress(index, count)
        yield index


def _plane_box(shape: tuple[int, int, int], axis: int, index: int) -> Box:
    each = [slice(0, n) for n in shape]
    each[axis] = slice(index, index + 1)
    return each[0], each[1], each[2]


def _plane_of(part: Part, axis: int, index: int) -> Plane | None:
    """Return one plane of a field; None where it is 0."""
    if not part.box[axis].start <= index < part.box[axis].stop:
        return None
    plane = part.within(_plane_box(part.shape, axis, index)).squeeze(axis)
    return plane if plane.any() else None


def _with_planes(part: Part, axis: int, planes: Mapping[int, Plane]) -> Part:
    """Return a field in which planes are others."""
    holds = part.box
    for index, plane in planes.items():
        flat = list(box_of(np.expand_dims(plane > 0, axis)))
        if flat[axis].stop:
            flat[axis] = slice(index, index + 1)
            holds = join_boxes(holds, (flat[0], flat[1], flat[2]))
    changed = part.grown(holds)
    stacked = np.moveaxis(changed.values, axis, 0)
    across = tuple(s for a, s in enumerate(holds) if a != axis)
    for index, plane in planes.items():
        if holds[axis].start <= index < holds[axis].stop:
            stacked[index - holds[axis].start] = plane[across]
    return changed


def _between(part: Part, axis: int, first: int, last: int) -> Part:
    """Return a field that is 0 before the first and after the last plane."""
    each = list(part.box)
    each[axis] = slice(max(each[axis].start, first), min(each[axis].stop, last + 1))
    if each[axis].start >= each[axis].stop:
        return Part.nothing(part.shape)
    box = (each[0], each[1], each[2])
    return part if box == part.box else Part(part.shape, box, part.within(box))


def _by_plane(pointed: tuple[Pointed, ...]) -> dict[int, list[Mark]]:
    marks: dict[int, list[Mark]] = {}
    for one in pointed:
        for plane, mark in one.marks:
            marks.setdefault(plane, []).append(mark)
    return marks
