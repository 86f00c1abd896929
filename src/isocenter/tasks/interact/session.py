"""One structure, image after image: point, correct, confirm, and the next image is answered from what was confirmed.

    session = Session(Engine())
    change = session.begin(image)              # after the first confirmed case, this already holds an outline
    change = session.prompt(Prompt(...))       # only the box that changed comes back
    change = session.undo()                    # free: earlier answers are kept
    mask = session.confirm()                   # becomes an example

An answer depends on nothing but the image, its prompts in their order and the confirmed cases in theirs.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from isocenter.core import Image, Mask, Prompt, Segment
from isocenter.core.errors import ConfigError, DataError
from isocenter.models.interactive.volume import Cube
from isocenter.tasks.interact.channel import one_channel
from isocenter.tasks.interact.engine import Engine, Examples, OpenImage, Outline
from isocenter.tasks.interact.placing import Placed, place

__all__ = ["Alternative", "Change", "ConfirmedCase", "Session"]


@dataclass(frozen=True, eq=False)
class Alternative:
    """Another thing that the first click may have meant.

    Args:
        mask: On the image's grid.
        expected_dice: Dice that the model expects of it.
    """

    mask: Bool[np.ndarray, "z y x"]
    expected_dice: float


@dataclass(frozen=True, eq=False)
class Change:
    """What an act changed.

    Args:
        box: Where the mask changed, as slices of the image's grid; all empty where nothing did.
        mask: The mask inside the box.
        expected_dice: Dice that the model expects of the whole outline; None without one.
        alternatives: What else may have been meant, best first; `Session.choose` takes one.
    """

    box: tuple[slice, slice, slice]
    mask: Bool[np.ndarray, "bz by bx"]
    expected_dice: float | None
    alternatives: tuple[Alternative, ...] = ()


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
    box: tuple[slice, slice, slice]
    data: bytes
    expected_iou: float
    how: dict[str, object]
    cube: Cube | None

    @classmethod
    def of(cls, outline: Outline) -> _Kept:
        values = np.rint(outline.probability * 255).astype(np.uint8)
        # What counts as inside stays inside: 0.5 lies between 127 and 128.
        values = np.where(outline.probability >= 0.5, np.maximum(values, 128), np.minimum(values, 127)).astype(np.uint8)
        box = _box(values > 0)
        shape = (values.shape[0], values.shape[1], values.shape[2])
        return cls(shape, box, zlib.compress(values[box].tobytes(), 1), outline.expected_iou, outline.how, outline.cube)

    def outline(self) -> Outline:
        values = np.zeros(self.shape, dtype=np.float32)
        inner = tuple(s.stop - s.start for s in self.box)
        values[self.box] = np.frombuffer(zlib.decompress(self.data), dtype=np.uint8).reshape(inner) / np.float32(255)
        return Outline(values, self.expected_iou, (), self.how, self.cube)


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
    """

    def __init__(self, engine: Engine, label: str = "object") -> None:
        self.engine, self.label = engine, label
        self.examples = Examples(engine)
        self._cases: list[ConfirmedCase] = []
        self._image: Image | None = None
        self._opened: OpenImage | None = None
        self._past: list[_State] = []
        self._future: list[_State] = []
        self._offered: tuple[Outline, ...] = ()
        self._first: _Kept | None = None

    @property
    def mask(self) -> Bool[np.ndarray, "z y x"]:
        """The mask as it stands.

        Raises:
            ConfigError: No image is open.
        """
        opened, state = self._at_work()
        if state.answer is None:
            return np.zeros(opened.volume.shape, dtype=bool)
        return np.asarray(state.answer.outline().probability >= 0.5)

    @property
    def cases(self) -> tuple[ConfirmedCase, ...]:
        """The confirmed cases, in the order they were confirmed; `verbs.session_folder` writes and reads them."""
        return tuple(self._cases)

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The prompts that the mask answers."""
        return self._at_work()[1].prompts

    def begin(self, image: Image) -> Change:
        """Open an image; with confirmed cases, answer it from them.

        Raises:
            DataError: The image is flat or has no finite value.
        """
        volume, _ = one_channel(image)
        finite = np.isfinite(volume)
        if not finite.any() or float(np.ptp(volume[finite])) == 0.0:
            raise DataError("the image is flat: there is nothing to outline; open another", source="image")
        self._image, self._opened = image, self.engine.open(volume, image.geometry)
        self._past, self._future, self._offered, self._first = [_State((), None)], [], (), None
        if not len(self.examples):
            return self._changed(np.zeros(volume.shape, dtype=bool))
        outline = self._opened.from_examples(self.examples)
        self._first = _Kept.of(outline)
        self._past = [_State((), self._first)]
        return self._changed(np.zeros(volume.shape, dtype=bool))

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
        before = None if state.answer is None else state.answer.outline()
        outline = opened.step(placed, len(prompts), before)
        mask = self.mask
        answer = _Kept.of(outline)
        self._first = self._first or answer
        self._past.append(_State(prompts, answer))
        self._future = []
        self._offered = tuple(Outline(p, q, (), outline.how) for p, q in outline.alternatives)
        return self._changed(mask)

    def choose(self, number: int) -> Change:
        """Take one of the alternatives that the last prompt offered, counted from 0.

        Raises:
            ConfigError: It was not offered.
        """
        _, state = self._at_work()
        if not 0 <= number < len(self._offered):
            raise ConfigError(f"alternative {number} was not offered; there are {len(self._offered)}")
        mask = self.mask
        self._past.append(_State(state.prompts, _Kept.of(self._offered[number])))
        self._future, self._offered = [], ()
        return self._changed(mask)

    def undo(self) -> Change:
        """Take the last act back; nothing happens where there is none."""
        self._at_work()
        mask = self.mask
        if len(self._past) > 1:
            self._future.append(self._past.pop())
            self._offered = ()
        return self._changed(mask)

    def redo(self) -> Change:
        """Do again what was taken back last; nothing happens where there is nothing."""
        self._at_work()
        mask = self.mask
        if self._future:
            self._past.append(self._future.pop())
        return self._changed(mask)

    def confirm(self) -> Mask:
        """Say that the mask is right: it becomes an example, and the image is closed.

        Raises:
            ConfigError: No image is open.
        """
        opened, state = self._at_work()
        mask = self.mask
        image = self._image
        if image is None:
            raise ConfigError("no image is open; begin one first")
        self.examples.add(opened.volume, mask)
        name, weights = opened.passport.name, opened.passport.sha256
        confirmed = self._confirmed(mask, image, name)
        first = np.zeros_like(mask) if self._first is None else np.asarray(self._first.outline().probability >= 0.5)
        offered = self._confirmed(first, image, name)
        self._cases.append(ConfirmedCase(image, confirmed, self.label, len(state.prompts), offered, weights))
        self._first = None
        self._image, self._opened, self._past, self._future, self._offered = None, None, [], [], ()
        return confirmed

    def take(self, case: ConfirmedCase) -> None:
        """Take a case that was confirmed in another session, as if it had been confirmed here.

        Raises:
            GeometryError: Its mask is on another grid than its image.
        """
        volume, _ = one_channel(case.image)
        self.examples.add(volume, case.mask.segment_array(case.mask.segments[0].number))
        self._cases.append(case)

    def _confirmed(self, mask: Bool[np.ndarray, "z y x"], image: Image, model: str) -> Mask:
        segment = Segment(
            1, self.label[:64] or "object", algorithm_type="SEMIAUTOMATIC", algorithm_name=f"Isocenter {model}"
        )
        return Mask(mask.astype(np.uint16), image.geometry, (segment,), image.source)

    def _at_work(self) -> tuple[OpenImage, _State]:
        if self._opened is None:
            raise ConfigError("no image is open; begin one first")
        return self._opened, self._past[-1]

    def _changed(self, before: Bool[np.ndarray, "z y x"]) -> Change:
        _, state = self._at_work()
        now = self.mask
        box = _box(now != before)
        expected = None if state.answer is None else state.answer.outline().expected_dice
        others = tuple(Alternative(np.asarray(o.probability >= 0.5), o.expected_dice) for o in self._offered)
        return Change(box, now[box].copy(), expected, others)


def _box(where: Bool[np.ndarray, "z y x"]) -> tuple[slice, slice, slice]:
    """Return the smallest box that holds all that is set; empty where nothing is."""
    if not where.any():
        return slice(0, 0), slice(0, 0), slice(0, 0)
    found = []
    for axis in range(3):
        line = np.flatnonzero(where.any(axis=tuple(a for a in range(3) if a != axis)))
        found.append(slice(int(line[0]), int(line[-1]) + 1))
    return found[0], found[1], found[2]
