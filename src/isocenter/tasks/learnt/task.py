"""A learnt task: an ensemble that outlines, or says something of the whole image; it abstains from unlike images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from isocenter.core import (
    Code,
    Estimate,
    Explanation,
    Feature,
    Image,
    Mask,
    Measurement,
    ModelRef,
    NoSuchEvidence,
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
from isocenter.core.knowledge import PRESENCE_CODES
from isocenter.core.units import UCUM
from isocenter.models.learnt import LearntSettings, Preparation, Prepared, build_learnt, network_features, views_of
from isocenter.models.learnt.agreement import answer_numbers, estimate_numbers
from isocenter.models.learnt.sliding import look_ahead
from isocenter.models.orientation import Turned
from isocenter.models.recall import look_once
from isocenter.models.weights import Weights, WeightsCard
from isocenter.safety.acquisition import Acquisition
from isocenter.safety.calibration import Temperature
from isocenter.safety.descriptors import descriptors
from isocenter.safety.gate import Gate
from isocenter.tasks.learnt.cards import Kind, Promise, class_codes
from isocenter.tasks.learnt.explain import Known, Looked, combined_features, explained
from isocenter.tasks.learnt.groups import group_of
from isocenter.tasks.learnt.promised import (
    class_set,
    event_risk,
    expected_quality,
    finding_sets,
    no_set,
    number_interval,
    volume_promises,
)
from isocenter.tasks.segment.adapted.cards import Fit
from isocenter.tasks.segment.adapted.channel import finite_channel
from isocenter.tasks.segment.answer import alike, input_name, only_image

__all__ = ["Learnt", "LearntTask"]

_SEEN = (
    "The task learnt from this very image: its answer says nothing of how well it does on others, and what it promises "
    "does not hold here."
)
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
        gate: Which images are like those that it learnt from; None where too few were held out to tell.
        acquisition: How those were made; None where that was not kept.
        learnt_from: sha256 of the images that it learnt from, as far as they are known.
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
    gate: Gate | None = None
    acquisition: Acquisition | None = None
    learnt_from: frozenset[str] = frozenset()


class LearntTask:
    """The task.

    Args:
        members: Weights of its networks.
        settings: What makes it.
        known: What it knows of the cases that it learnt from.

    Raises:
        WeightsError: Weights are of another network than the task says.
    """

    def __init__(self, members: Sequence[Weights], settings: Learnt, known: Known | None = None) -> None:
        self._settings, self._known = settings, known or Known()
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
        if settings.gate is not None and len(settings.gate.references) != len(self._nets):
            raise WeightsError(f"{settings.card.name}: the gate is of another task's networks; adapt again")

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
        if reason is None and settings.acquisition is not None:
            strange = settings.acquisition.strange(image)
            reason = None if strange is None else f"the image was made unlike those it learnt from: {strange}"
        if reason is not None:
            return Prediction.abstain(name, reason, inputs=inputs)
        try:
            prepared = settings.preparation.forward(image)
        except DataError as error:
            return Prediction.abstain(name, str(error), inputs=inputs)
        features = self._features(prepared)
        likeness, reason = alike(settings.gate, features)
        if reason is not None:
            return Prediction.abstain(name, reason, inputs=inputs, likeness=likeness)
        if settings.kind == "segment":
            found = self._outline(image, prepared, features, inputs)
        else:
            found = self._say(image, prepared, features, inputs)
        if image.sha256 in settings.learnt_from:
            found = replace(found, notes=(*found.notes, _SEEN))
        return replace(found, likeness=likeness)

    def look_ahead(self, study: Study) -> None:
        """Look at those windows of an image that is still arriving that the whole image will have too.

        Nothing is to be gained where an image is prepared by numbers of all of it, or resized along its planes' axis.
        """
        settings, image = self._settings, only_image(study)
        local = settings.preparation.intensity == "set" and settings.preparation.dims == 3
        if isinstance(image, str) or settings.kind != "segment" or not local or self.card.misfit(image) is not None:
            return
        try:
            prepared = settings.preparation.forward(image)
        except DataError:
            return
        along = prepared.turn.order.index(0)
        if prepared.array.shape[1:][along] != prepared.shape[along]:
            return
        for net in self._nets:
            look_ahead(net, prepared.array, settings.window, settings.mirror, prepared.first, along)

    def explain(self, study: Study, prediction: Prediction) -> Explanation:
        """Return why it answered so: maps, nearest confirmed cases, what drove it; nothing for an abstention."""
        image = only_image(study)
        if prediction.abstained is not None or isinstance(image, str):
            return Explanation()
        if prediction.inputs != (input_name(image),) or prediction.model != self._model():
            raise DataError("this answer is of another image, or of another task")
        if self._settings.kind == "segment":
            return Explanation(missing=(NoSuchEvidence("map", "the outline itself shows where"),))
        settings, value = self._settings, prediction.value
        chances = isinstance(value, Scores)
        if isinstance(value, Scores):
            values = np.array([p for _, p in value.probabilities])
        else:
            values = np.array([value.value if isinstance(value, Estimate) else 0.0])
        looked = Looked(
            self._nets, image, settings.preparation.forward(image), settings.mirror, class_codes(settings.classes),
            settings.kind == "classify", chances, values, _possible(prediction), self._each,
        )  # fmt: skip
        return explained(looked, self._known)

    def combine(self, prediction: Prediction, row: Mapping[str, str]) -> tuple[Feature, ...]:
        """Return what an answer becomes with a row of a clinical table; nothing where none was learnt with.

        Raises:
            DataError: A column that it learnt with is missing, or a cell is not what it holds.
        """
        rule, value = self._known.combination, prediction.value
        if rule is None or not isinstance(value, Scores):
            return ()
        p = np.array([chance for _, chance in value.probabilities])
        return combined_features(rule, class_codes(self._settings.classes), p, row)

    def _each(self, array: Float[np.ndarray, "channel *space"]) -> Float[np.ndarray, "networks outputs"]:
        """Return what each network alone would say of a prepared image: probabilities, numbers, or scores of risk."""
        each, kind = self._vector(array)[0], self._settings.kind
        if kind in ("classify", "multilabel"):
            return np.stack([_probabilities(one[None], kind, self._settings.promise.temperature) for one in each])
        return each

    def _features(self, prepared: Prepared) -> list[dict[str, np.ndarray]]:
        """Return the numbers of an image that the gate looks at, as each network gives them; nothing without a gate."""
        if self._settings.gate is None:
            return []
        plain = descriptors(prepared.array)
        return [{**network_features(net, prepared.array, self._settings.window), **plain} for net in self._nets]

    def _model(self) -> ModelRef:
        """Name the weights: of several networks, by the hash of their hashes (in the order of task.json, by lines)."""
        hashes = [card.sha256 for card in self._cards]
        together = hashlib.sha256("\n".join(hashes).encode()).hexdigest() if len(hashes) > 1 else hashes[0]
        return ModelRef(self.card.name, self.card.version, together, self.card.licence)

    def _steps(self, prepared: Prepared) -> tuple[Step, ...]:
        how = self._settings.preparation
        looked: tuple[Step, ...] = ()
        if how.region is not None:
            where = {"organ": how.region, "sha256": how.region_sha256, "corner": prepared.corner}
            looked = (Step("region", MappingProxyType(where)),)
        return (
            Step("turn", MappingProxyType({"axes": prepared.turn.order, "flips": prepared.turn.flips})),
            *looked,
            Step("resize", MappingProxyType({"from": prepared.shape, "to": prepared.array.shape[1:]})),
            Step("intensity", MappingProxyType({"by": how.intensity, "negated": prepared.negated})),
            Step("answer", MappingProxyType({"networks": len(self._nets), "mirrored": self._settings.mirror})),
        )

    def _outline(
        self,
        image: Image,
        prepared: Prepared,
        features: Sequence[Mapping[str, np.ndarray]],
        inputs: tuple[str, ...],
    ) -> Prediction:
        settings, each = self._settings, []
        strange = [{}] * len(self._nets) if settings.gate is None else settings.gate.strange_numbers(features)
        total = np.zeros((settings.network.outputs, *prepared.array.shape[1:]), dtype=np.float32)
        for number, net in enumerate(self._nets):
            views = views_of(
                net, prepared.array, settings.window, settings.network.outputs, settings.mirror, prepared.first
            )
            each.append({**answer_numbers(views), **strange[number]})
            total += np.mean(views, axis=0) / len(self._nets)
        probabilities = np.clip(prepared.back(total), 0, 1)
        array = probabilities.argmax(0).astype(np.uint16)
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
            uncertainty=expected_quality(settings.promise, each),
            model=self._model(),
            inputs=inputs,
            steps=self._steps(prepared),
            further=volume_promises(
                settings.promise,
                settings.classes,
                probabilities,
                image.geometry,
                each=each,
                group=group_of(image, settings.promise.by),
            ),
        )

    def _vector(
        self, array: Float[np.ndarray, "channel *space"]
    ) -> tuple[Float[np.ndarray, "networks outputs"], Float[np.ndarray, "networks views outputs"]]:
        """Return what each network says, mean of its views, and what each view says: logits, numbers, risks.

        The mean's logits are at the classes' own frequency.
        """
        x = torch.from_numpy(array)[None]
        dims = x.ndim - 2
        mirror = self._settings.mirror
        views: list[tuple[int, ...]] = [(), *((axis - dims,) for axis in range(dims) if mirror[axis - dims])]
        found, every = [], []
        with torch.inference_mode():
            settings = self._settings
            for net, (mean, deviation), shift in zip(self._nets, settings.scales, settings.shifts, strict=True):
                several = torch.stack([look_once(net, x, f"answer to {v}", _asked(net, v)) for v in views])[:, 0]
                logits = several.mean(0)
                if shift:
                    logits = logits + torch.tensor(shift)
                found.append((logits * deviation + mean).numpy().astype(np.float64))
                every.append((several * deviation + mean).numpy().astype(np.float64))
        return np.stack(found), np.stack(every)

    def _say(
        self,
        image: Image,
        prepared: Prepared,
        features: Sequence[Mapping[str, np.ndarray]],
        inputs: tuple[str, ...],
    ) -> Prediction:
        settings, (each, views) = self._settings, self._vector(prepared.array)
        group = group_of(image, settings.promise.by)
        codes, promise = class_codes(settings.classes), settings.promise
        value: Scores | Risk | Estimate
        measured: tuple[Measurement, ...]
        further: tuple[Uncertainty, ...] = ()
        if settings.kind in ("classify", "multilabel"):
            p = _probabilities(each, settings.kind, promise.temperature)
            value = Scores(tuple(zip(codes, (float(v) for v in p), strict=True)))
            measured = tuple(
                Measurement(Code(c.value, c.scheme, f"Probability of {c.meaning}"[:64]), float(v), UCUM["1"])
                for c, v in zip(codes, p, strict=True)
            )
            unsure, further = no_set(promise), finding_sets(codes, p, promise)
            if settings.kind == "classify":
                unsure = class_set(codes, p, promise, group=group, key=image.sha256)
        elif settings.kind == "regress":
            number = float(each.mean())
            value = Estimate(codes[0], number, UCUM["1"])
            measured = (Measurement(codes[0], number, UCUM["1"]),)
            numbers = estimate_numbers(views[..., 0])
            if settings.gate is not None:
                strange = settings.gate.strange_numbers(features)
                numbers["strange"] = float(np.mean([one["strange"] for one in strange]))
            unsure = number_interval(number, promise, numbers=numbers, group=group)
        else:
            value, measured, unsure = event_risk(each, codes[0], promise)
        return Prediction(
            value,
            self.card.name,
            uncertainty=unsure,
            model=self._model(),
            inputs=inputs,
            steps=self._steps(prepared),
            measurements=measured,
            further=further,
        )


def _asked(net: nn.Module, flip: tuple[int, ...]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what a network says of an input, or of its mirror image."""
    return lambda x: net(x.flip(flip) if flip else x).float()


def _possible(prediction: Prediction) -> tuple[Code, ...] | None:
    """Return what the promised sets leave possible: members of the set of classes, or findings that may be present."""
    sure, own = prediction.uncertainty, [one for one in prediction.further if one.about is not None]
    if own:
        there = PRESENCE_CODES["present"]
        return tuple(one.about for one in own if one.about is not None and there in one.members)
    return None if sure is None or sure.level is None else sure.members


def _probabilities(each: Float[np.ndarray, "n k"], kind: Kind, temperature: float) -> Float[np.ndarray, " k"]:
    """Return the networks' mean probabilities, made sharper or softer as held-out cases asked for.

    It is the very function that the promise was made for (`learn.adaptation.promise`).
    """
    if kind == "multilabel":
        mean = np.clip((1 / (1 + np.exp(-np.clip(each, -50, 50)))).mean(0), 1e-7, 1 - 1e-7)
        return np.asarray(1 / (1 + np.exp(-np.log(mean / (1 - mean)) / temperature)))
    raised = np.exp(each - each.max(axis=1, keepdims=True))
    mean = np.clip((raised / raised.sum(axis=1, keepdims=True)).mean(0), 1e-7, 1)
    return np.asarray(np.clip(Temperature(temperature).apply(np.log(mean)[None])[0], 0, 1))
