"""One structure, image after image: point, correct, confirm, and the next image is answered from what was confirmed.

    session = Session(Engine())
    change = session.begin(image)              # after the first confirmed case, this already holds an outline
    change = session.prompt(Prompt(...))       # only the box that changed comes back
    change = session.undo()                    # free: earlier answers are kept
    mask = session.confirm()                   # becomes an example

An answer depends on nothing but the image, the acts on it in their order and the confirmed cases in theirs: `replay`
brings back what a lost connection took.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np
from imagecodecs import lz4_decode, lz4_encode
from jaxtyping import Bool, UInt8

from isocenter.core import Image, Mask, Prompt, Segment
from isocenter.core.errors import ConfigError, DataError, Stopped
from isocenter.models.interactive.part import Box, Part, box_of, box_sides, join_boxes, within
from isocenter.models.interactive.stack import Progress
from isocenter.models.interactive.volume import Cube
from isocenter.tasks.interact.channel import stored_channel
from isocenter.tasks.interact.engine import Engine, Examples, OpenImage, Outline
from isocenter.tasks.interact.placing import Placed, place

__all__ = ["Act", "Alternative", "Change", "ConfirmedCase", "Session"]

Levels = UInt8[np.ndarray, "bz by bx"]
_INSIDE = 128
"""Of probabilities in 255 parts: where the mask begins, and level 2; `_QUARTERS` sees to it that this is 0.5."""


@dataclass(frozen=True, eq=False)
class Act:
    """One act on an open image, for `Session.replay`.

    Args:
        kind: Which method of the session.
        prompt: Of "prompt".
        number: Of "choose".
        axis: Of "propagate".
        first: Of "propagate".
        last: Of "propagate".
    """

    kind: Literal["prompt", "choose", "undo", "redo", "clear", "propagate"]
    prompt: Prompt | None = None
    number: int = 0
    axis: int = 0
    first: int = 0
    last: int = 0


@dataclass(frozen=True, eq=False)
class Alternative:
    """Another thing that the first click may have meant.

    Args:
        shape: Of the image's grid.
        box: Where it is.
        levels: In the box, as of `Change`.
        expected_dice: Dice that the model expects of it.
    """

    shape: tuple[int, int, int]
    box: Box
    levels: Levels
    expected_dice: float

    @property
    def mask(self) -> Bool[np.ndarray, "z y x"]:
        """Its mask on the image's grid."""
        mask = np.zeros(self.shape, dtype=bool)
        mask[self.box] = self.levels >= 2
        return mask


@dataclass(frozen=True, eq=False)
class Change:
    """What an act changed.

    Args:
        box: Where levels changed, as slices of the image's grid; all empty where nothing did.
        levels: In the box: 0 out (probability below 0.25), 1 maybe (below 0.5), 2 probably (below 0.75), 3 in.
        expected_dice: Dice that the model expects of the whole outline; None without one.
        alternatives: What else may have been meant, best first; `Session.choose` takes one.
    """

    box: Box
    levels: Levels
    expected_dice: float | None
    alternatives: tuple[Alternative, ...] = ()

    @property
    def mask(self) -> Bool[np.ndarray, "bz by bx"]:
        """The mask inside the box: levels 2 and 3."""
        return np.asarray(self.levels >= 2)


@dataclass(frozen=True, eq=False)
class ConfirmedCase:
    """A case whose mask a person confirmed.

    Args:
        image: The image.
        mask: Its mask, one segment; may be empty (the structure is not there).
        label: Name of the structure.
        prompts: How many prompts it took.
        offered: The first outline that the person was shown of it, empty where there was none; None where the case was
            confirmed in another session. What differs from `mask` is what the person changed.
        weights: sha256 of the weights that answered; "" where that is not known.
    """

    image: Image
    mask: Mask
    label: str
    prompts: int
    offered: Mask | None = None
    weights: str = ""


@dataclass(frozen=True, eq=False)
class _Kept:
    """An outline, stored small: probabilities to 1/255 in the box where they are not 0, compressed."""

    shape: tuple[int, int, int]
    box: Box
    data: bytes
    expected_iou: float
    how: dict[str, object]
    cube: Cube | None

    @classmethod
    def of(cls, outline: Outline) -> _Kept:
        part = outline.part
        values = _in_255(part)
        inner = box_of(values > 0)
        start = [s.start for s in part.box]
        box = tuple(slice(o + s.start, o + s.stop) for o, s in zip(start, inner, strict=True))
        data = bytes(lz4_encode(values[inner].tobytes()))
        return cls(part.shape, (box[0], box[1], box[2]), data, outline.expected_iou, outline.how, outline.cube)

    @property
    def values(self) -> Levels:
        """Probabilities in 255 parts, in the box."""
        sides = box_sides(self.box)
        return np.frombuffer(lz4_decode(self.data, out=math.prod(sides)), dtype=np.uint8).reshape(sides)

    @property
    def expected_dice(self) -> float:
        return self.outline_of(Part.nothing(self.shape)).expected_dice

    def outline_of(self, part: Part) -> Outline:
        return Outline(part, self.expected_iou, (), self.how, self.cube)

    def outline(self, values: Levels) -> Outline:
        return self.outline_of(Part(self.shape, self.box, values / np.float32(255)))

    def mask(self) -> Bool[np.ndarray, "z y x"]:
        whole = np.zeros(self.shape, dtype=bool)
        whole[self.box] = self.values >= _INSIDE
        return whole


@dataclass(frozen=True, eq=False)
class _State:
    """Prompts so far and the answer to them; None before there is one."""

    prompts: tuple[Prompt, ...]
    answer: _Kept | None


class Session:
    """Work on one structure; see the module.

    Args:
        engine: The models.
        label: Name of the structure.
        keep: How many confirmed cases answer the next image and are held in memory, the latest; None for all.
    """

    def __init__(self, engine: Engine, label: str = "object", *, keep: int | None = None) -> None:
        self.engine, self.label, self.keep = engine, label, keep
        self.examples = Examples(engine)
        self._cases: list[ConfirmedCase] = []
        self._image: Image | None = None
        self._opened: OpenImage | None = None
        self._past: list[_State] = []
        self._future: list[_State] = []
        self._offered: tuple[Outline, ...] = ()
        self._first: _Kept | None = None
        self._unpacked: list[tuple[_Kept, Levels]] = []

    @property
    def mask(self) -> Bool[np.ndarray, "z y x"]:
        """The mask as it stands.

        Raises:
            ConfigError: No image is open.
        """
        opened, state = self._at_work()
        return np.zeros(opened.volume.shape, dtype=bool) if state.answer is None else state.answer.mask()

    @property
    def cases(self) -> tuple[ConfirmedCase, ...]:
        """The confirmed cases that are kept, in order; `verbs.session_folder` writes and reads them."""
        return tuple(self._cases)

    @property
    def image(self) -> Image | None:
        """The image that is open."""
        return self._image

    @property
    def bytes(self) -> int:
        """Memory that `rest` would free, roughly: what was seen of the image and of the cases."""
        return self.examples.bytes + (0 if self._opened is None else self._opened.bytes)

    @property
    def can_undo(self) -> bool:
        """Whether there is an act to take back."""
        return len(self._past) > 1

    @property
    def can_redo(self) -> bool:
        """Whether there is an act to do again."""
        return bool(self._future)

    @property
    def whole(self) -> Change:
        """All that is outlined now, as what changed since the image showed nothing."""
        return self._changed(None)

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The prompts that the mask answers."""
        return self._at_work()[1].prompts

    def begin(self, image: Image, *, propose: bool = True, progress: Progress | None = None) -> Change:
        """Open an image; with confirmed cases, answer it from them.

        Args:
            image: To outline the structure in.
            propose: Whether to answer from confirmed cases.
            progress: Told after each plane; where it raises `Stopped`, the image is open without an answer.

        Raises:
            DataError: The image is flat or has no finite value.
        """
        volume = stored_channel(image)
        if _is_flat(volume):
            raise DataError("the image is flat: there is nothing to outline; open another", source="image")
        self._image, self._opened = image, self.engine.open(volume, image.geometry)
        self._past, self._future, self._offered, self._first = [_State((), None)], [], (), None
        if propose and len(self.examples):
            with suppress(Stopped):
                self._first = _Kept.of(self._opened.from_examples(self.examples, progress))
                self._past = [_State((), self._first)]
        return self._changed(None)

    def close(self) -> None:
        """Close the open image; what was outlined and not confirmed is gone."""
        self._image, self._opened, self._past, self._future, self._offered = None, None, [], [], ()
        self._first, self._unpacked = None, []

    def rest(self) -> None:
        """Let go of the open image and of what was seen of it; what was outlined stays, and `wake` goes on."""
        self._image, self._opened, self._unpacked = None, None, []
        self.examples.forget_seen()

    def wake(self, image: Image) -> None:
        """Go on with the image that was open when the session went to rest.

        Raises:
            ConfigError: No image was open.
        """
        if not self._past:
            raise ConfigError("no image was open; begin one")
        self._image, self._opened = image, self.engine.open(stored_channel(image), image.geometry)
        if self._past[0].answer is not None:
            self._opened.remember(self.examples)

    def act(self, act: Act, progress: Progress | None = None) -> Change:
        """Do one act; see the methods."""
        if act.kind == "prompt":
            if act.prompt is None:
                raise ConfigError("an act of pointing needs its prompt")
            return self.prompt(act.prompt)
        if act.kind == "choose":
            return self.choose(act.number)
        if act.kind == "propagate":
            return self.propagate(act.axis, act.first, act.last, progress)
        return {"undo": self.undo, "redo": self.redo, "clear": self.clear}[act.kind]()

    def replay(
        self, image: Image, acts: Sequence[Act], *, propose: bool = True, progress: Progress | None = None
    ) -> Change:
        """Open an image and do acts on it, as they were done before.

        Returns:
            What differs from an image that was just opened.
        """
        self.begin(image, propose=propose, progress=progress)
        for act in acts:
            self.act(act, progress)
        return self._changed(None)

    def prompt(self, prompt: Prompt) -> Change:
        """Point at something.

        Raises:
            ConfigError: No image is open, or the prompt can't be followed; the session stays as it was.
        """
        opened, state = self._at_work()
        prompts = (*state.prompts, prompt)
        placed = place(prompts, opened.geometry, begun=state.answer is not None)
        if not isinstance(placed, Placed):
            raise ConfigError(placed)
        before = None if state.answer is None else state.answer.outline(self._values(state.answer))
        outline = opened.step(placed, len(prompts), before)
        answer = _Kept.of(outline)
        self._first = self._first or answer
        self._did(_State(prompts, answer))
        self._offered = tuple(Outline(p, q, (), outline.how) for p, q in outline.alternatives)
        return self._changed(state)

    def propagate(self, axis: int, first: int, last: int, progress: Progress | None = None) -> Change:
        """Outline planes anew from those that were marked, slice to slice.

        Args:
            axis: The array axis (0 z, 1 y, 2 x) to go along.
            first: First plane to outline.
            last: Last plane to outline.
            progress: Told after each plane.

        Raises:
            Stopped: `progress` raised it; the session stays as it was.
            ConfigError: No image is open, nothing is outlined there, or a prompt lies across these planes.
        """
        opened, state = self._at_work()
        if state.answer is None:
            raise ConfigError("nothing is outlined yet; point at it first")
        if axis not in (0, 1, 2):
            raise ConfigError(f"an axis is 0 (z), 1 (y) or 2 (x), not {axis}")
        placed = place(state.prompts, opened.geometry, begun=True, axis=axis)
        if not isinstance(placed, Placed):
            raise ConfigError(placed)
        before = state.answer.outline(self._values(state.answer))
        outline = opened.propagate(placed, before, first, last, progress)
        self._did(_State(state.prompts, _Kept.of(outline)))
        return self._changed(state)

    def choose(self, number: int) -> Change:
        """Take one of the alternatives that the last prompt offered, counted from 0.

        Raises:
            ConfigError: It was not offered.
        """
        _, state = self._at_work()
        if not 0 <= number < len(self._offered):
            raise ConfigError(f"alternative {number} was not offered; there are {len(self._offered)}")
        self._did(_State(state.prompts, _Kept.of(self._offered[number])))
        return self._changed(state)

    def undo(self) -> Change:
        """Take the last act back; nothing happens where there is none."""
        _, state = self._at_work()
        if len(self._past) > 1:
            self._future.append(self._past.pop())
            self._offered = ()
        return self._changed(state)

    def redo(self) -> Change:
        """Do again what was taken back last; nothing happens where there is nothing."""
        _, state = self._at_work()
        if self._future:
            self._past.append(self._future.pop())
        return self._changed(state)

    def clear(self) -> Change:
        """Begin the image anew, as it was opened; an act like others, which can be taken back."""
        _, state = self._at_work()
        if len(self._past) > 1:
            self._did(self._past[0])
        return self._changed(state)

    def case(self) -> ConfirmedCase:
        """Return the open image as the case that `confirm` would make of it.

        Raises:
            ConfigError: No image is open.
        """
        opened, state = self._at_work()
        mask = self.mask
        image = self._image
        if image is None:
            raise ConfigError("no image is open; begin one first")
        name, weights = opened.passport.name, opened.passport.sha256
        confirmed = self._confirmed(mask, image, name)
        first = np.zeros_like(mask) if self._first is None else self._first.mask()
        offered = self._confirmed(first, image, name)
        return ConfirmedCase(image, confirmed, self.label, len(state.prompts), offered, weights)

    def confirm(self) -> Mask:
        """Say that the mask is right: it becomes an example, and the image is closed.

        Raises:
            ConfigError: No image is open.
        """
        case = self.case()
        self.take(case)
        self.close()
        return case.mask

    def take(self, case: ConfirmedCase) -> None:
        """Take a case that was confirmed in another session, as if it had been confirmed here.

        Raises:
            GeometryError: Its mask is on another grid than its image.
        """
        volume = stored_channel(case.image)
        self.examples.add(volume, case.mask.segment_array(case.mask.segments[0].number))
        self._cases.append(case)
        self._keep_latest()

    def _keep_latest(self) -> None:
        if self.keep is not None:
            self.examples.keep_latest(self.keep)
            self._cases = self._cases[-self.keep :] if self.keep else []

    def _confirmed(self, mask: Bool[np.ndarray, "z y x"], image: Image, model: str) -> Mask:
        segment = Segment(
            1, self.label[:64] or "object", algorithm_type="SEMIAUTOMATIC", algorithm_name=f"Isocenter {model}"
        )
        return Mask(mask.astype(np.uint16), image.geometry, (segment,), image.source)

    def _at_work(self) -> tuple[OpenImage, _State]:
        if self._opened is None:
            raise ConfigError("no image is open; begin one first")
        return self._opened, self._past[-1]

    def _values(self, kept: _Kept) -> Levels:
        """Return an outline's values; those of the last two that were asked for are at hand."""
        found = next((values for one, values in self._unpacked if one is kept), None)
        if found is None:
            found = kept.values
            self._unpacked = [*self._unpacked[-1:], (kept, found)]
        return found

    def _did(self, state: _State) -> None:
        self._past.append(state)
        self._future, self._offered = [], ()

    def _changed(self, before: _State | None) -> Change:
        """Return what differs from a state; None is an image with nothing outlined."""
        opened, state = self._at_work()
        shape = opened.volume.shape
        nothing = _Kept.of(Outline(Part.nothing((shape[0], shape[1], shape[2])), 0.0, (), {}))
        old, new = (before.answer if before else None) or nothing, state.answer or nothing
        both = join_boxes(old.box, new.box)
        was, now = (_levels(within(self._values(kept), kept.box, both)) for kept in (old, new))
        inner = box_of(was != now)
        box = tuple(slice(b.start + s.start, b.start + s.stop) for b, s in zip(both, inner, strict=True))
        if not all(box_sides(inner)):
            box = inner
        expected = None if state.answer is None else state.answer.expected_dice
        return Change((box[0], box[1], box[2]), now[inner].copy(), expected, tuple(map(_alternative, self._offered)))


def _alternative(outline: Outline) -> Alternative:
    part = outline.part
    return Alternative(part.shape, part.box, _levels(_in_255(part)), outline.expected_dice)


def _in_255(part: Part) -> Levels:
    """Return probabilities in 255 parts; what is at or above the beginning of a level stays so, what is below too."""
    values = np.empty(part.values.shape, dtype=np.uint8)
    for plane, found in zip(values, part.values, strict=True):  # one after the other: they stay in the cache
        np.take(_QUARTERS, (found * np.float32(255) * np.float32(4)).astype(np.uint16), out=plane)
    return values


def _quarters() -> UInt8[np.ndarray, " quarters"]:
    """Return 255 parts by whole quarters of a part: rounded, yet on the side of 0.25, 0.5 and 0.75 they came from.

    These three are 255, 510 and 765 quarters, and a product with 255 is rounded onto no other side of them.
    """
    quarters = np.arange(4 * 255 + 1)
    rounded = (quarters + 2) // 4
    level = (quarters >= 255).astype(np.int64) + (quarters >= 510) + (quarters >= 765)
    return np.asarray(np.clip(rounded, 64 * level, 64 * level + 63), dtype=np.uint8)


_QUARTERS = _quarters()


def _levels(values: Levels) -> Levels:
    """Return levels 0 to 3 of probabilities in 255 parts."""
    return np.asarray(values >> np.uint8(6))


def _is_flat(volume: np.ndarray) -> bool:
    """Tell whether a volume shows nothing: one value everywhere, or none that is finite."""
    if volume.dtype.kind in "iu":
        return bool(volume.min() == volume.max())
    finite = np.isfinite(volume)
    return not finite.any() or float(np.ptp(volume[finite])) == 0.0
