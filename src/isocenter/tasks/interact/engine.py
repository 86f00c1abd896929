"""From placed prompts to an outline: which model answers what, and what is kept between answers.

A picture, a cine frame and a stack of a few slices are answered plane by plane. A volume is answered as one: clicks and
strokes go to the network for volumes as they are; what says all of one slice (a lasso, a box without depth) is
outlined on that slice first, and the outlined slice is what the volume is told (docs/results/interactive-volumes.md
tells the experiment that chose this).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from isocenter.core import Geometry
from isocenter.models.interactive.build import build_plane_model, build_volume_model
from isocenter.models.interactive.confirmed import Confirmed, answer_from_cases
from isocenter.models.interactive.plane import Context, Mark, OpenPlane, PlaneModel, fill_polygon
from isocenter.models.interactive.stack import Propagation, answer_stack
from isocenter.models.interactive.volume import Cube, OpenVolume, VolumeMark, VolumeModel
from isocenter.models.weights import WeightsCard, load_weights
from isocenter.tasks.interact.placing import Placed, Pointed

__all__ = ["Engine", "Examples", "OpenImage", "Outline"]

LEAST_SLICES = 6
"""A volume with fewer planes along any axis is answered plane by plane."""
MOST_REPLAYED = 8
"""Prompts answered one after the other; of more, the first ones are taken together."""

Volume = Float[np.ndarray, "z y x"]


@dataclass(frozen=True, eq=False)
class Outline:
    """An answer on the voxels of the image.

    Args:
        probability: Of belonging to the thing.
        expected_iou: Overlap that the model expects of the outline at 0.5.
        alternatives: Other things that a first click may have meant, best first: probability and expected overlap.
        how: What was done, for the record of steps.
        cube: Where the network for volumes looked; None where planes were answered.
    """

    probability: Volume
    expected_iou: float
    alternatives: tuple[tuple[Volume, float], ...]
    how: dict[str, object]
    cube: Cube | None = None

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

    def open(self, volume: Volume, geometry: Geometry) -> OpenImage:
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

    def __init__(self, engine: Engine, volume: Volume, geometry: Geometry) -> None:
        self._engine, self.volume, self.geometry = engine, volume, geometry
        self._planes: dict[tuple[int, int], OpenPlane] = {}
        self._whole: OpenVolume | None = None
        self._examples: Examples | None = None

    @property
    def as_volume(self) -> bool:
        """Whether prompts are answered in the volume as one."""
        in_space = self.geometry.stack != "time" and min(self.volume.shape) >= LEAST_SLICES
        return self._engine.volumes is not None and in_space

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

    def from_examples(self, examples: Examples) -> Outline:
        """Answer without a prompt, plane by plane, each from the planes of the examples at the same height."""
        self._examples = examples
        found = answer_from_cases([self.plane(0, index) for index in range(len(self.volume))], examples)
        return Outline(found.probability, found.expected_iou, (), {"axis": "z", "examples": len(examples)})

    def _context(self, axis: int, index: int) -> Context | None:
        """Return the examples for a plane; they are kept by planes along the first axis."""
        if self._examples is None or axis != 0:
            return None
        return self._examples.at((index + 0.5) / len(self.volume))

    def _in_planes(self, placed: Placed, count: int, before: Outline | None) -> Outline:
        """Answer the planes that the latest prompt marked, with all marks on them; the others stay as they were."""
        shape = self.volume.shape
        probability = np.zeros(shape, dtype=np.float32) if before is None else before.probability.copy()
        stacked = np.moveaxis(probability, placed.axis, 0)
        marks = _by_plane(placed.pointed[:count])
        asked = marks if before is None else {plane for plane, _ in placed.pointed[count - 1].marks}
        expected = 0.0 if before is None else before.expected_iou
        others: tuple[tuple[Volume, float], ...] = ()
        areas, qualities = [float((probability >= 0.5).sum())], [expected]
        for index in sorted(asked):
            previous = stacked[index].copy() if stacked[index].any() else None
            if previous is None and not any(m.positive for m in marks[index]):
                continue
            context = self._context(placed.axis, index)
            answer = self.plane(placed.axis, index).answer(marks[index], previous=previous, context=context)
            areas[0] -= 0.0 if previous is None else float((previous >= 0.5).sum())
            stacked[index] = answer.probability
            areas.append(float((answer.probability >= 0.5).sum()))
            qualities.append(answer.quality)
            if len(marks) == 1:
                others = tuple((self._lifted(p, placed.axis, index), q) for p, q in answer.alternatives)
        expected = float(np.average(qualities, weights=areas)) if any(areas) else 0.0
        how: dict[str, object] = {"axis": "zyx"[placed.axis], "marked_planes": tuple(sorted(marks))}
        if before is not None and "examples" in before.how:
            how["examples"] = before.how["examples"]
        return Outline(probability, expected, others, how)

    def _lifted(self, plane: Float[np.ndarray, "h w"], axis: int, index: int) -> Volume:
        whole = np.zeros(self.volume.shape, dtype=np.float32)
        np.moveaxis(whole, axis, 0)[index] = plane
        return whole

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
        return Outline(np.ascontiguousarray(np.moveaxis(answer.probability, 0, placed.axis)), expected, (), how)

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
        previous = None if before is None else before.probability
        if previous is not None and not any(m.positive for m in marks):
            # Corrections of what the examples said: its core stands for the prompt that was never made.
            marks.insert(0, VolumeMark("point", _core(previous >= 0.5)))
        seen_in = None if before is None else before.cube
        answer = self._whole.answer(  # type: ignore[union-attr]
            marks, previous=previous, seen_in=seen_in, latest=latest
        )
        probability = answer.probability
        stacked = np.moveaxis(probability, placed.axis, 0)
        stacked[: placed.first], stacked[placed.last + 1 :] = 0, 0
        how: dict[str, object] = {"cube_side_voxels": round(answer.cube.side, 3), "prompts": count}
        return Outline(probability, answer.quality, (), how, answer.cube)

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


def _core(mask: Bool[np.ndarray, "z y x"]) -> Float[np.ndarray, "1 3"]:
    """Return the voxel of a mask that is farthest from its border; the middle of the grid where there is none."""
    if not mask.any():
        return np.array([[(n - 1) / 2 for n in mask.shape]])
    box = ndimage.find_objects(mask.astype(np.int8))[0]
    depth = ndimage.distance_transform_edt(np.pad(mask[box], 1))[1:-1, 1:-1, 1:-1]
    found = np.unravel_index(int(depth.argmax()), depth.shape)
    return np.array([[float(s.start + i) for s, i in zip(box, found, strict=True)]])


def _by_plane(pointed: tuple[Pointed, ...]) -> dict[int, list[Mark]]:
    marks: dict[int, list[Mark]] = {}
    for one in pointed:
        for plane, mark in one.marks:
            marks.setdefault(plane, []).append(mark)
    return marks
