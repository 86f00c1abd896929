"""A learnt task: an ensemble that outlines, or says something of the whole image; it abstains from unlike images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from isocenter.core import (
    Code,
    Estimate,
    Image,
    Mask,
    Measurement,
    ModelRef,
    Prediction,
    Prompt,
    Risk,
    Scores,
    Segment,
    Step,
    Study,
    TaskCard,
    Uncertainty,
)
from isocenter.core.errors import ConfigError, DataError, WeightsError
from isocenter.core.units import UCUM
from isocenter.models.learnt import LearntSettings, Preparation, Prepared, build_learnt, slide
from isocenter.models.learnt.agreement import sharpness
from isocenter.models.orientation import Turned
from isocenter.models.segmentation import expected_dice
from isocenter.models.weights import Weights, WeightsCard
from isocenter.tasks.learnt.cards import Kind, Promise, class_codes
from isocenter.tasks.segment.adapted.cards import Fit
from isocenter.tasks.segment.adapted.channel import finite_channel
from isocenter.tasks.segment.answer import input_name, only_image

__all__ = ["Learnt", "LearntTask"]

_COLOURS = (
    (230, 120, 40), (60, 150, 220), (235, 200, 60), (150, 110, 220), (80, 190, 120), (220, 90, 140), (120, 200, 210),
    (180, 140, 90),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Learnt:
    """What makes one learnt task.

    Args:
        card: Its card.
        kind: Of its answers.
        classes: Their names.
        fit: What an image must be like.
        preparation: How images are prepared.
        network: What the networks are made of.
        window: What they look at.
        mirror: Axes (z, y, x) along which they also look at the mirror image.
        scales: Of each network, mean and deviation of numbers.
        shifts: Of each network, what is added to its outputs first; empty for nothing.
        promise: What held-out cases promise.
    """

    card: TaskCard
    kind: Kind
    classes: tuple[str, ...]
    fit: Fit
    preparation: Preparation
    network: LearntSettings
    window: tuple[int, ...]
    mirror: tuple[bool, ...]
    scales: tuple[tuple[float, float], ...]
    shifts: tuple[tuple[float, ...], ...]
    promise: Promise


class LearntTask:
    """The task.

    Args:
        members: Weights of its networks.
        settings: What makes it.

    Raises:
        WeightsError: Weights are of another network than the task says.
    """

    def __init__(self, members: Sequence[Weights], settings: Learnt) -> None:
        self._settings = settings
        self._cards: tuple[WeightsCard, ...] = tuple(m.card for m in members)
        self._nets: list[nn.Module] = []
        for member in members:
            try:
                net = build_learnt(settings.network)
                net.load_state_dict({k: torch.from_numpy(v) for k, v in member.arrays.items()}, strict=False)
                lost = set(dict(net.named_parameters())) - set(member.arrays)
            except (RuntimeError, ConfigError) as error:
                raise WeightsError(f"{member.card.name}: the weights are of another network than the task's") from error
            if lost:
                raise WeightsError(f"{member.card.name}: the weights lack {sorted(lost)[0]!r}")
            self._nets.append(net.eval())

    @property
    def card(self) -> TaskCard:
        """What the task is for."""
        return self._settings.card

    def run(self, study: Study, prompts: Sequence[Prompt] = ()) -> Prediction:
        """Answer for the study's one image, or abstain with a reason; takes no prompts."""
        name, settings = self.card.name, self._settings
        image = only_image(study)
        if isinstance(image, str):
            return Prediction.abstain(name, image)
        inputs = (input_name(image),)
        reason = self.card.misfit(image) or settings.fit.misfit(image)
        if reason is None and prompts:
            reason = "takes no prompts; use the interactive task for a structure that you point at"
        if reason is None:
            volume, _ = finite_channel(image, Turned.to(image.geometry, settings.fit.orientation))
            reason = settings.fit.unlike(volume) if np.ptp(volume) > 0 else "the image is flat: there is nothing in it"
        if reason is not None:
            return Prediction.abstain(name, reason, inputs=inputs)
        try:
            prepared = settings.preparation.forward(image)
        except DataError as error:
            return Prediction.abstain(name, str(error), inputs=inputs)
        if settings.kind == "segment":
            return self._outline(image, prepared, inputs)
        return self._say(prepared, inputs)

    def _views(self, dims: int) -> list[tuple[int, ...]]:
        return [(), *((axis - dims,) for axis in range(dims) if self._settings.mirror[axis - dims])]

    def _model(self) -> ModelRef:
        """Name the weights: of several networks, by the hash of their hashes (in the order of task.json, by lines)."""
        hashes = [card.sha256 for card in self._cards]
        together = hashlib.sha256("\n".join(hashes).encode()).hexdigest() if len(hashes) > 1 else hashes[0]
        return ModelRef(self.card.name, self.card.version, together, self.card.licence)

    def _steps(self, prepared: Prepared) -> tuple[Step, ...]:
        return (
            Step("turn", MappingProxyType({"axes": prepared.turn.order, "flips": prepared.turn.flips})),
            Step("resize", MappingProxyType({"from": prepared.shape, "to": prepared.array.shape[1:]})),
            Step("intensity", MappingProxyType({"by": self._settings.preparation.intensity})),
            Step("answer", MappingProxyType({"networks": len(self._nets), "mirrored": self._settings.mirror})),
        )

    def _outline(self, image: Image, prepared: Prepared, inputs: tuple[str, ...]) -> Prediction:
        settings = self._settings
        outputs, views = settings.network.outputs, self._views(len(settings.window))

        def look(x: torch.Tensor) -> torch.Tensor:
            total = torch.zeros(())
            for net in self._nets:
                for v in views:
                    answer = net(x.flip(v) if v else x).float().softmax(1)
                    total = total + (answer.flip(v) if v else answer)
            return total / (len(self._nets) * len(views))

        found = slide(look, prepared.array, settings.window, outputs)
        array = prepared.back(found).argmax(0).astype(np.uint16)
        if not array.any():
            names = ", ".join(settings.classes[:3])
            return Prediction.abstain(self.card.name, f"nothing of {names} was found in this image", inputs=inputs)
        segments = tuple(
            Segment(n, name[:64], algorithm_name=self.card.name[:64], colour=_COLOURS[(n - 1) % len(_COLOURS)])
            for n, name in enumerate(settings.classes, start=1)
        )
        return Prediction(
            Mask(array, image.geometry, segments, image.source),
            self.card.name,
            uncertainty=self._expected(sharpness(found)),
            model=self._model(),
            inputs=inputs,
            steps=self._steps(prepared),
        )

    def _expected(self, agreement: Float[np.ndarray, " foreground"]) -> Uncertainty:
        promise = self._settings.promise
        there = agreement[agreement > 0]
        if promise.expected_dice is None or not len(there):
            return Uncertainty(
                "quality",
                "The expected Dice is not known: too few cases were held out to tell it. Look at the outline.",
            )
        worth = expected_dice(promise.expected_dice, float(there.mean()))
        return Uncertainty(
            "quality",
            f"Dice expected against the set's own labels: median {worth.median:.2f}, {worth.level:.0%} interval, from "
            f"{worth.count} held-out cases, each answered by one network, where this answer is the mean of "
            f"{len(self._nets)}. It holds for images like those.",
            worth.low,
            worth.high,
            worth.level,
        )

    def _vector(self, prepared: Prepared) -> Float[np.ndarray, "networks outputs"]:
        """Return what each network says, mean of its views: logits at the classes' own frequency, numbers, risks."""
        x = torch.from_numpy(prepared.array)[None]
        views = self._views(x.ndim - 2)
        found = []
        with torch.inference_mode():
            settings = self._settings
            for net, (mean, deviation), shift in zip(self._nets, settings.scales, settings.shifts, strict=True):
                logits = torch.stack([net(x.flip(v) if v else x).float() for v in views]).mean(0)[0]
                if shift:
                    logits = logits + torch.tensor(shift)
                found.append((logits * deviation + mean).numpy().astype(np.float64))
        return np.stack(found)

    def _say(self, prepared: Prepared, inputs: tuple[str, ...]) -> Prediction:
        settings, each = self._settings, self._vector(prepared)
        codes, promise = class_codes(settings.classes), settings.promise
        value: Scores | Risk | Estimate
        measured: tuple[Measurement, ...]
        if settings.kind in ("classify", "multilabel"):
            p = _probabilities(each, settings.kind, promise.temperature)
            value = Scores(tuple(zip(codes, (float(v) for v in p), strict=True)))
            measured = tuple(
                Measurement(Code(c.value, c.scheme, f"Probability of {c.meaning}"[:64]), float(v), UCUM["1"])
                for c, v in zip(codes, p, strict=True)
            )
            unsure = _set(codes, p, promise) if settings.kind == "classify" else _no_set(promise)
        elif settings.kind == "regress":
            number = float(each.mean())
            value = Estimate(codes[0], number, UCUM["1"])
            measured = (Measurement(codes[0], number, UCUM["1"]),)
            unsure = _interval(number, promise)
        else:
            value, measured, unsure = _risk(each, codes[0], promise)
        return Prediction(
            value,
            self.card.name,
            uncertainty=unsure,
            model=self._model(),
            inputs=inputs,
            steps=self._steps(prepared),
            measurements=measured,
        )


def _probabilities(each: Float[np.ndarray, "n k"], kind: Kind, temperature: float) -> Float[np.ndarray, " k"]:
    """Return the networks' mean probabilities, made sharper or softer as held-out cases asked for.

    It is the very function that the promise was made for (`learn.adaptation.promise`).
    """
    if kind == "multilabel":
        mean = np.clip((1 / (1 + np.exp(-np.clip(each, -50, 50)))).mean(0), 1e-7, 1 - 1e-7)
        return np.asarray(1 / (1 + np.exp(-np.log(mean / (1 - mean)) / temperature)))
    raised = np.exp(each - each.max(axis=1, keepdims=True))
    mean = np.clip((raised / raised.sum(axis=1, keepdims=True)).mean(0), 1e-7, 1)
    scaled = np.log(mean) / temperature
    raised = np.exp(scaled - scaled.max())
    return np.asarray(np.clip(raised / raised.sum(), 0, 1))


def _set(codes: Sequence[Code], p: Float[np.ndarray, " k"], promise: Promise) -> Uncertainty:
    if promise.least_probability is None:
        return Uncertainty("set", "No set of classes is promised: too few cases were held out.")
    members = tuple(c for c, v in zip(codes, p, strict=True) if v >= promise.least_probability)
    return Uncertainty(
        "set",
        f"The true class is in this set with a chance of about {promise.chance}, from {promise.cases} held-out cases "
        "(split conformal on networks that never saw them; in a cross-validation one network answered each, where this "
        "answer is the mean of all, which tends to hold it more often). It holds for images like those. An empty set: "
        "no class is as likely as the true one mostly is.",
        level=promise.level,
        members=members,
    )


def _no_set(promise: Promise) -> Uncertainty:
    return Uncertainty(
        "set", f"Findings are not exclusive: no set is promised. {promise.cases} cases were held out for the figures."
    )


def _interval(number: float, promise: Promise) -> Uncertainty:
    if promise.error is None:
        return Uncertainty("interval", "No interval is promised: too few cases were held out.")
    return Uncertainty(
        "interval",
        f"The true number lies inside with a chance of about {promise.chance}, from {promise.cases} held-out cases "
        "(split conformal on networks that never saw them). It holds for images like those.",
        number - promise.error,
        number + promise.error,
        promise.level,
    )


def _risk(
    each: Float[np.ndarray, "n k"], code: Code, promise: Promise
) -> tuple[Risk, tuple[Measurement, ...], Uncertainty]:
    if promise.horizon_days is None or promise.baseline is None:
        raise ConfigError("the task does not say up to when a chance is meant; adapt again")
    chances = 1 - np.exp(-promise.baseline * np.exp(np.clip(each[:, 0], -20, 20)))
    chance = float(chances.mean())
    name = Code(code.value, code.scheme, f"Chance of {code.meaning} in {promise.horizon_days:g} days"[:64])
    unsure = Uncertainty(
        "interval",
        f"Least and largest chance among {len(each)} networks; what this covers was not established "
        f"({promise.cases} held-out cases).",
        float(chances.min()),
        float(chances.max()),
    )
    return Risk(code, chance, promise.horizon_days), (Measurement(name, chance, UCUM["1"]),), unsure
