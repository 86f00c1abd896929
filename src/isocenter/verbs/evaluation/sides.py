"""Left and right in a whole answer: the same patient stored otherwise, and the patient's mirror image.

A volume says where it lies, so the same patient stored along other axes must get the same answer in the patient. A
picture is held to its Patient Orientation (DICOM PS3.3 C.7.6.1.1.1): stored mirrored with the header saying so, the
answer must stay where it was in the patient; mirrored while the header says the same, it is another patient, the answer
must follow and left and right in its words must swap.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from isocenter.core import Code, Estimate, Image, Mask, Prediction, Risk, Scores, Study, TaskEntry
from isocenter.core.sides import names_a_side
from isocenter.evaluate.overlap import dice
from isocenter.verbs.evaluation.document import CheckEntry
from isocenter.verbs.running import run_task

__all__ = ["SAME", "alike", "answer_of", "arrays_of", "orientation_check"]

SAME = 0.95
"""Least Dice with itself of an answer to the same image stored otherwise."""
_FOLLOWS = 0.5
"""Least Dice of an answer to a mirrored picture with the mirrored answer. A network that learnt from anatomy as it is
may be less sure of its mirror image, but what lies on the wrong side overlaps by far less than half."""
_NAME = "orientation"
_UPRIGHT = ("L", "F")
"""How a picture is taken to lie whose header does not say: a frontal view, as radiographs are hung."""
_OPPOSITE = str.maketrans("LRAPHF", "RLPAFH")
_LEFT_CODE, _RIGHT_CODE = "7771000", "24028007"
"""SNOMED CT: Left, Right."""

Axes = tuple[int, int, int]
Flips = tuple[bool, bool, bool]
Arrays = dict[int, np.ndarray]


def answer_of(entry: TaskEntry, study: Study, seed: int) -> Prediction:
    """Return a task's answer to a study."""
    return run_task(entry, study, 0, (), named=True, seed=seed).prediction


def arrays_of(value: object) -> object:
    """Return the voxels of each segment of a mask; any other answer as it is."""
    return {s.number: value.segment_array(s.number) for s in value.segments} if isinstance(value, Mask) else value


def alike(first: Prediction, other: object) -> float:
    """Return how alike two answers are, 1 for the same: Dice of masks, 1 minus the largest difference of others."""
    value = first.value
    if isinstance(value, Mask) and isinstance(other, dict):
        return min(dice(value.segment_array(s.number), other.get(s.number, np.zeros_like(value.array, bool)))
                   for s in value.segments)  # fmt: skip
    if isinstance(value, Scores) and isinstance(other, Scores):
        return 1 - max(abs(a - b) for (_, a), (_, b) in zip(value.probabilities, other.probabilities, strict=True))
    one, two = (float(getattr(v, "value", getattr(v, "probability", np.nan))) for v in (value, other))
    return 1 - abs(one - two) / max(abs(one), abs(two), 1e-12)


def orientation_check(entry: TaskEntry, study: Study, seed: int) -> CheckEntry:
    """Look whether the answer to a case keeps to the patient's sides; a picture that names none and has no place can't.

    Args:
        entry: The task.
        study: Of a case that it answers.
        seed: Of everything random.
    """
    if study.images[0].is_volume:
        return _volume(entry, study, seed)
    first = answer_of(entry, study, seed)
    if first.abstained is not None:
        return _unmeasured(f"it abstained from the case: {first.abstained}")
    if isinstance(first.value, Scores):
        return _scores(entry, study, first, seed)
    if isinstance(first.value, Mask):
        return _picture(entry, study, first, seed)
    if isinstance(first.value, Estimate | Risk):
        code = first.value.name if isinstance(first.value, Estimate) else first.value.event
        if names_a_side(code.meaning):
            return _unmeasured(f"{code.meaning!r} names one side, and there is no answer of the other to compare with")
        return _not_applicable()
    return _unmeasured(f"there is no mirror check of answers of the kind {type(first.value).__name__}")


def _unmeasured(why: str) -> CheckEntry:
    return CheckEntry(name=_NAME, status="not measured", words=why)


def _failed(why: str, number: float | None = None) -> CheckEntry:
    return CheckEntry(name=_NAME, status="failed", words=why, number=number, unit="" if number is None else "1")


def _not_applicable() -> CheckEntry:
    words = "it answers about the whole picture, names no side and outlines nothing: left and right can't be exchanged"
    return CheckEntry(name=_NAME, status="not applicable", words=words)


def _volume(entry: TaskEntry, study: Study, seed: int) -> CheckEntry:
    """Store the same patient along other axes: the answer must lie at the same place in the patient."""
    image, first = study.images[0], answer_of(entry, study, seed)
    if first.abstained is not None:
        return _unmeasured(f"it abstained from the case: {first.abstained}")
    worst = 1.0
    for axes, flips in (((0, 1, 2), (False, False, True)), ((1, 2, 0), (True, False, False))):
        other = answer_of(entry, replace(study, images=(_stored(image, axes, flips),)), seed)
        if other.abstained is not None:
            return _failed(f"it abstained when the same patient was stored along other axes: {other.abstained}")
        worst = min(worst, alike(first, _unstored(other, axes, flips)))
    words = f"the same patient stored along other axes: answers agree by {worst:.3f} (1 is the same, {SAME} is asked)"
    return CheckEntry(
        name=_NAME, status="passed" if worst >= SAME else "failed", words=words, number=worst, unit="1"
    )  # fmt: skip


def _turned(array: np.ndarray, axes: Axes, flips: Flips) -> np.ndarray:
    moved = array.transpose(axes)
    return np.ascontiguousarray(np.flip(moved, tuple(i for i, flip in enumerate(flips) if flip)))


def _stored(image: Image, axes: Axes, flips: Flips) -> Image:
    array = np.stack([_turned(channel, axes, flips) for channel in image.array])
    return replace(image, array=array, geometry=image.geometry.reoriented(axes, flips))


def _unstored(prediction: Prediction, axes: Axes, flips: Flips) -> object:
    found = arrays_of(prediction.value)
    if not isinstance(found, dict):
        return found
    back, turned = np.argsort(axes), tuple(i for i, flip in enumerate(flips) if flip)
    return {number: np.flip(inside, turned).transpose(back) for number, inside in found.items()}


# Pictures


def _lying(image: Image) -> Image:
    """Return the picture with a stated Patient Orientation: its own, or that of a frontal view."""
    if image.geometry.affine is not None or all(image.geometry.patient_orientation):
        return image
    return replace(image, geometry=replace(image.geometry, patient_orientation=_UPRIGHT))


def _mirrored(image: Image, *, same_patient: bool) -> Image:
    """Return the picture with its columns in reverse: the same patient stored so, or the patient's mirror image."""
    array = np.ascontiguousarray(image.array[..., ::-1])
    geometry = image.geometry
    if same_patient and geometry.affine is not None:
        geometry = geometry.reoriented((0, 1, 2), (False, False, True))
    elif same_patient:
        row, column = geometry.patient_orientation
        geometry = replace(geometry, patient_orientation=(row.translate(_OPPOSITE), column))
    return replace(image, array=array, geometry=geometry)


def _asked(entry: TaskEntry, study: Study, image: Image, seed: int) -> Prediction:
    return answer_of(entry, replace(study, images=(image,)), seed)


def _places(prediction: Prediction) -> dict[str, np.ndarray]:
    """Return what was outlined by what it is called, its side in words; columns as in the picture."""
    value, found = prediction.value, dict[str, np.ndarray]()
    if not isinstance(value, Mask):
        return found
    for segment in value.segments:
        name, inside = _said(segment.label, segment.laterality), value.segment_array(segment.number)
        found[name] = inside | found[name] if name in found else inside
    return found


def _said(label: str, laterality: Code | None) -> str:
    side = {_LEFT_CODE: "Left", _RIGHT_CODE: "Right"}.get("" if laterality is None else laterality.value, "")
    return label if not side or names_a_side(label) else f"{side} {label}"


def _alone(names: Collection[str]) -> list[str]:
    """Return the names of a side whose other side has no name among them."""
    return [name for name in names if names_a_side(name) and (_swapped(name) == name or _swapped(name) not in names)]


def _swapped(words: str) -> str:
    """Return words with left and right exchanged, whole words and the short forms L and R.

    Example:
        >>> [_swapped(text) for text in ("Left lung", "kidney_right", "LKidney", "Lungs", "Lesion")]
        ['Right lung', 'kidney_left', 'RKidney', 'Lungs', 'Lesion']
    """
    if not names_a_side(words):
        return words
    pairs = {"left": "right", "right": "left", "l": "r", "r": "l"}

    def other(found: re.Match[str]) -> str:
        new = pairs[found[0].lower()]
        return new.upper() if found[0].isupper() else new.capitalize() if found[0][0].isupper() else new

    long = re.sub(r"left|right", other, words, flags=re.IGNORECASE)
    return long if long != words else re.sub(r"(?<![A-Za-z])[LlRr](?![a-z])", other, words)


def _picture(entry: TaskEntry, study: Study, plain: Prediction, seed: int) -> CheckEntry:
    """Mirror a picture: once with its header saying so, once as another patient."""
    own = study.images[0]
    lying = _lying(own)
    if lying is not own and any(names_a_side(name) for name in _places(plain)):
        return _failed("it names a side in a picture whose header does not say how it lies in the patient")
    first = plain if lying is own else _asked(entry, study, lying, seed)
    if first.abstained is not None:
        return _unmeasured(f"it abstained when the header said how the case lies: {first.abstained}")
    places, said = _places(first), []
    stored = _asked(entry, study, _mirrored(lying, same_patient=True), seed)
    if stored.abstained is None:
        there = {name: array[..., ::-1] for name, array in _places(stored).items()}
        same = _overlap(places, there)
        if same < SAME:
            return _failed(
                f"the same patient stored mirrored, with the header saying so: answers agree by {same:.3f}, and {SAME} "
                "is asked (places, and sides in words)",
                same,
            )
        said.append(f"stored mirrored, with the header saying so: answers agree by {same:.3f}")
    if alone := _alone(places):
        why = f"the mirror image was not asked for: {alone[0]!r} has no counterpart on the other side"
        return CheckEntry(name=_NAME, status="passed", words=f"{said[0]}; {why}") if said else _unmeasured(why)
    other = _asked(entry, study, _mirrored(lying, same_patient=False), seed)
    if other.abstained is not None:
        if not said:
            return _unmeasured(f"it abstained from both mirrored copies of the case: {other.abstained}")
        return CheckEntry(name=_NAME, status="passed", words=f"{said[0]}; it abstained from the mirror image")
    found = _places(other)
    there = {_swapped(name): array[..., ::-1] for name, array in found.items()}
    follows, stays = _overlap(places, there), _overlap(places, found)
    if follows < _FOLLOWS or follows < stays - (1 - SAME):
        return _failed(
            f"the patient's mirror image: the mirrored answer, left and right swapped, agrees by {follows:.3f} (at "
            f"least {_FOLLOWS} is asked), the answer as it was by {stays:.3f}: it does not follow the picture's sides",
            follows,
        )
    said.append(f"the mirror image: the answer follows, left and right in its words swapped, by {follows:.3f}")
    return CheckEntry(name=_NAME, status="passed", words="; ".join(said), number=follows, unit="1")


def _overlap(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """Return the least Dice of what bears the same name; 0 where a name stands on one side alone."""
    if set(one) != set(other):
        return 0.0
    return min((dice(one[name], other[name]) for name in one), default=1.0)


def _scores(entry: TaskEntry, study: Study, plain: Prediction, seed: int) -> CheckEntry:
    """Mirror a picture that is answered by classes: those that name a side must swap."""
    names = _probabilities(plain)
    if not any(names_a_side(name) for name in names):
        return _not_applicable()
    if alone := _alone(names):
        return _unmeasured(f"the class {alone[0]!r} names a side, and none names the other: they can't be compared")
    own = study.images[0]
    if _lying(own) is not own:
        return _failed("it names a side in a picture whose header does not say how it lies in the patient")
    other = _asked(entry, study, _mirrored(own, same_patient=False), seed)
    if other.abstained is not None:
        return _unmeasured(f"it abstained from the mirror image of the case: {other.abstained}")
    sided = [name for name in names if names_a_side(name)]
    found = _probabilities(other)
    follows = 1 - max(abs(names[name] - found[_swapped(name)]) for name in sided)
    stays = 1 - max(abs(names[name] - found[name]) for name in sided)
    apart = max(abs(names[name] - names[_swapped(name)]) for name in sided)
    if apart <= 1 - SAME:
        return _unmeasured("the case's probabilities of left and right are alike: a mirror image can't tell them apart")
    words = f"the mirror image: probabilities, left and right swapped, agree by {follows:.3f}, unswapped by {stays:.3f}"
    return CheckEntry(
        name=_NAME, status="passed" if follows > stays else "failed", words=words, number=follows, unit="1"
    )


def _probabilities(prediction: Prediction) -> dict[str, float]:
    value = prediction.value
    pairs: Sequence[tuple[object, float]] = value.probabilities if isinstance(value, Scores) else ()
    return {str(getattr(code, "meaning", code)): p for code, p in pairs}
