"""Synthetic patients with questions whose answers come from the causal seed: which side, how many, how large.

A patient is seen by one of three modalities: a chest film of `synth.paired`, an ultrasound picture of a breast, or an
axial slice of a brain; the last two with one to three lesions. Facts are drawn first, the picture is painted from
them, and the answers are written from them, never from the picture. Answers of a kind are about equally frequent, so
that a model without eyes can do little better than guess.

**Sides.** Of a chest film the patient's, who faces the reader: the patient's left is at the right edge. Of the other
pictures the half of the image, as it is seen.

Everything here is invented and crude; it teaches and tests whether words are bound to what is seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from isocenter.core.errors import ConfigError
from isocenter.synth.paired import synthesise_pair
from isocenter.synth.paired_text import SIDES, PairedFinding

__all__ = ["MODALITIES", "QUESTION_KINDS", "Lesion", "QuestionedSample", "VisualQuestion", "synthesise_questioned"]

MODALITIES = ("radiograph", "ultrasound", "magnetic resonance")
"""What a patient may be seen by."""

QUESTION_KINDS = MappingProxyType(
    {
        "modality": MODALITIES,
        "present": ("yes", "no"),
        "side": SIDES,
        "count": ("one", "two", "three"),
        "size": ("small", "large"),
        "which": SIDES,
    }
)
"""Kinds of question, and the answers of each."""

_DOMAIN = 2_236_067  # keeps this stream apart from the others with the same seed and index
_FACTS, _LOOKS, _WORDS = range(3)
_RADIUS = MappingProxyType({"small": (0.09, 0.12), "large": (0.2, 0.25)})
"""Of a lesion, in halves of the picture."""
_ASKED = MappingProxyType(
    {
        "modality": ("What kind of image is this?", "Which modality is this?"),
        "present": ("Is there {thing}?", "Does the image show {thing}?"),
        "side": ("On which side is the {thing}?", "Is the {thing} on the left or on the right?"),
        "count": ("How many lesions are there?", "Count the lesions."),
        "size": ("Is the lesion small or large?", "How large is the lesion?"),
        "which": ("On which side is the larger lesion?", "Which lesion is larger, the left or the right?"),
    }
)

Plane = Float[np.ndarray, "h w"]


@dataclass(frozen=True)
class VisualQuestion:
    """One question and what is true.

    Args:
        kind: One of `QUESTION_KINDS`.
        text: The question.
        answer: One of the kind's answers.
    """

    kind: str
    text: str
    answer: str


@dataclass(frozen=True)
class Lesion:
    """One lesion.

    Args:
        side: Half of the image: "left" or "right".
        size: "small" or "large".
        middle: Column and row, in halves of the picture from its middle.
        radius: In the same unit.
    """

    side: str
    size: str
    middle: tuple[float, float]
    radius: float


@dataclass(frozen=True, eq=False)
class QuestionedSample:
    """One synthetic patient.

    Args:
        image: The picture (channel, row, column), 0 black to 1 white.
        modality: One of `MODALITIES`.
        findings: What a chest film shows; empty for the others.
        lesions: What the others show.
        questions: All that can be asked of this picture.
    """

    image: Float[np.ndarray, "1 h w"]
    modality: str
    findings: tuple[PairedFinding, ...]
    lesions: tuple[Lesion, ...]
    questions: tuple[VisualQuestion, ...]


def _rng(seed: int, index: int, *key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index, _DOMAIN, *key])))


def _either(rng: np.random.Generator, names: Sequence[str]) -> str:
    return names[int(rng.integers(len(names)))]


def _draw_findings(rng: np.random.Generator) -> tuple[PairedFinding, ...]:
    """Draw an effusion and a pacemaker, each with an even chance, each at one side."""
    found = []
    if rng.random() < 0.5:
        found.append(PairedFinding("effusion", _either(rng, SIDES), size=_either(rng, ("small", "large"))))
    if rng.random() < 0.5:
        found.append(PairedFinding("device", _either(rng, SIDES)))
    return tuple(found)


def _draw_lesions(rng: np.random.Generator) -> tuple[Lesion, ...]:
    """Draw one to three lesions that lie apart; of two, one is small and one large, at either side."""
    count = int(rng.integers(1, 4))
    sizes = list(rng.permutation(["small", "large"])) if count == 2 else [_either(rng, ("small", "large"))]
    sides = list(rng.permutation(list(SIDES))) if count == 2 else [_either(rng, SIDES)]
    if count == 3:
        sizes = ["small", "small", _either(rng, ("small", "large"))]
        sides = [*SIDES, _either(rng, SIDES)]
    found: list[Lesion] = []
    for size, side in zip(sizes, sides, strict=True):
        radius = float(rng.uniform(*_RADIUS[str(size)]))
        for _ in range(200):
            sign = -1.0 if side == "left" else 1.0
            middle = (sign * float(rng.uniform(0.2, 0.5)), float(rng.uniform(-0.4, 0.45)))
            apart = [np.hypot(*np.subtract(middle, o.middle)) - radius - o.radius for o in found]
            if not apart or min(apart) > 0.12:
                break
        else:
            return _draw_lesions(rng)  # no room was left: lesions that touch could not be counted
        found.append(Lesion(str(side), str(size), middle, radius))
    return tuple(found)


def _grid(pixels: int) -> tuple[Plane, Plane]:
    at = ((np.arange(pixels) + 0.5) / pixels * 2 - 1).astype(np.float32)
    v, u = np.meshgrid(at, at, indexing="ij")
    return u, v


def _soft(distance: Plane, width: float) -> Plane:
    return np.asarray(0.5 - 0.5 * np.tanh(distance / np.float32(width)), dtype=np.float32)


def _lesion_distance(rng: np.random.Generator, u: Plane, v: Plane, lesion: Lesion) -> Plane:
    """Return the distance to a lesion's wavy border, negative inside."""
    angle = np.arctan2(v - lesion.middle[1], u - lesion.middle[0])
    wave = 1 + rng.uniform(0, 0.1) * np.sin(int(rng.integers(2, 6)) * angle + rng.uniform(0, 2 * np.pi))
    reach = np.hypot((u - lesion.middle[0]) * rng.uniform(0.88, 1.0), v - lesion.middle[1])
    return np.asarray(reach - lesion.radius * wave, dtype=np.float32)


def _clouds(rng: np.random.Generator, pixels: int, cells: int) -> Plane:
    """Return smooth noise, 0 to 1."""
    coarse = rng.uniform(0, 1, (cells, cells))
    return np.asarray(ndimage.zoom(coarse, pixels / cells, order=1)[:pixels, :pixels], dtype=np.float32)


def _ultrasound(rng: np.random.Generator, pixels: int, lesions: Sequence[Lesion]) -> Plane:
    """Skin, layers and speckle; lesions are dark, and it is brighter behind them."""
    u, v = _grid(pixels)
    tissue = 0.35 + 0.25 * _clouds(rng, pixels, 8)
    depth = v + 0.06 * np.sin(rng.uniform(2, 4) * u + rng.uniform(0, 6))
    tissue = tissue + 0.3 * _soft((depth + 0.86).astype(np.float32), 0.03)
    tissue = tissue + 0.12 * np.cos(depth * rng.uniform(7, 12))
    for lesion in lesions:
        distance = _lesion_distance(rng, u, v, lesion)
        behind = (v > lesion.middle[1] + lesion.radius) * _soft((np.abs(u - lesion.middle[0]) - lesion.radius), 0.05)
        tissue = tissue * (1 - 0.85 * _soft(distance, 0.025)) + 0.1 * behind
    speckle = ndimage.gaussian_filter(rng.rayleigh(0.8, (pixels, pixels)), (0.5, 0.9))
    return np.asarray(tissue * speckle * np.exp(-rng.uniform(0, 0.3) * (v + 1)), dtype=np.float32)


def _brain(rng: np.random.Generator, pixels: int, lesions: Sequence[Lesion]) -> Plane:
    """Skull, cortex and ventricles, dark outside; lesions are bright."""
    u, v = _grid(pixels)
    wide, tall = rng.uniform(0.78, 0.85), rng.uniform(0.85, 0.93)
    reach = np.hypot(u / wide, v / tall).astype(np.float32)
    inside = _soft((reach - 1).astype(np.float32), 0.03)
    slice_ = 0.38 * inside + 0.15 * inside * _clouds(rng, pixels, 12)
    slice_ = slice_ + 0.4 * np.exp(-(((reach - 1.04) / 0.04) ** 2))
    for sign in (-1, 1):
        ventricle = np.hypot((u - sign * 0.09) / 0.06, (v + 0.03) / rng.uniform(0.2, 0.3)).astype(np.float32)
        slice_ = slice_ * (1 - 0.75 * _soft((ventricle - 1).astype(np.float32), 0.15))
    for lesion in lesions:
        slice_ = slice_ + 0.45 * _soft(_lesion_distance(rng, u, v, lesion), 0.025)
    slice_ = ndimage.gaussian_filter(slice_, rng.uniform(0.002, 0.006) * pixels)
    noise = rng.uniform(0.01, 0.04)
    real, imaginary = rng.normal(0, noise, slice_.shape), rng.normal(0, noise, slice_.shape)
    return np.asarray(np.hypot(slice_ + real, imaginary), dtype=np.float32)


def _questions(
    rng: np.random.Generator, modality: str, findings: Sequence[PairedFinding], lesions: Sequence[Lesion]
) -> tuple[VisualQuestion, ...]:
    """Return all that can be asked, each in one of its phrasings."""
    asked: list[tuple[str, str, str]] = [("modality", "", modality)]
    if modality == MODALITIES[0]:
        for thing, kind in (("a pleural effusion", "effusion"), ("a pacemaker", "device")):
            side = next((f.side for f in findings if f.kind == kind), "")
            asked.append(("present", thing, "yes" if side else "no"))
            asked += [("side", thing.removeprefix("a "), side)] if side else []
    else:
        asked.append(("count", "", QUESTION_KINDS["count"][len(lesions) - 1]))
        if len(lesions) == 1:
            asked += [("side", "lesion", lesions[0].side), ("size", "", lesions[0].size)]
        if len(lesions) == 2:
            asked.append(("which", "", next(one.side for one in lesions if one.size == "large")))
    return tuple(VisualQuestion(k, _either(rng, _ASKED[k]).format(thing=thing), said) for k, thing, said in asked)


def synthesise_questioned(seed: int, index: int, *, pixels: int = 64) -> QuestionedSample:
    """Make one patient: picture, questions, answers.

    Args:
        seed: Of the whole stream.
        index: Which patient of the stream.
        pixels: Side of the picture, at least 32.

    Raises:
        ConfigError: The picture would be too small, or seed or index is negative.

    Example:
        >>> one, same = synthesise_questioned(1, 3), synthesise_questioned(1, 3)
        >>> one.image.tobytes() == same.image.tobytes(), one.questions == same.questions
        (True, True)
        >>> [(q.kind, q.answer) for q in one.questions]
        [('modality', 'ultrasound'), ('count', 'three')]
    """
    if pixels < 32 or min(seed, index) < 0:
        raise ConfigError(f"a picture needs 32 pixels and seed, index of 0 or more; got {pixels}, {seed}, {index}")
    facts = _rng(seed, index, _FACTS)
    modality = _either(facts, MODALITIES)
    findings: tuple[PairedFinding, ...] = ()
    lesions: tuple[Lesion, ...] = ()
    if modality == MODALITIES[0]:
        findings = _draw_findings(facts)
        image = synthesise_pair(seed, index, pixels=pixels, findings=findings).image
    else:
        lesions = _draw_lesions(facts)
        paint = _ultrasound if modality == MODALITIES[1] else _brain
        image = np.clip(paint(_rng(seed, index, _LOOKS), pixels, lesions), 0, 1.5)[None] / np.float32(1.5)
    questions = _questions(_rng(seed, index, _WORDS), modality, findings, lesions)
    return QuestionedSample(image, modality, findings, lesions, questions)
