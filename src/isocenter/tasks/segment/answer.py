"""What the automatic tasks share: which image, which input, and how sure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

from isocenter.core import Image, Likeness, ModelRef, Study, Uncertainty
from isocenter.core.errors import ConfigError, WeightsError
from isocenter.models.segmentation import expected_dice
from isocenter.models.weights import WeightsCard, load_gate_arrays
from isocenter.safety.descriptors import descriptors
from isocenter.safety.gate import Gate, in_words

__all__ = [
    "alike",
    "alike_prepared",
    "doubtful",
    "expected_quality",
    "gate_beside",
    "input_name",
    "model_ref",
    "only_image",
]


def only_image(study: Study) -> Image | str:
    """Return the study's one image, or why there is not exactly one."""
    if len(study.images) != 1:
        return f"needs a study with exactly one image, this one has {len(study.images)}; choose one"
    return study.images[0]


def input_name(image: Image) -> str:
    """Return the sha256 that names an image: the reader's, or that of its voxels and place."""
    if image.source.sha256:
        return image.source.sha256
    digest = hashlib.sha256(np.ascontiguousarray(image.array).tobytes())
    digest.update(repr((image.array.dtype.str, image.array.shape)).encode())
    if image.geometry.affine is not None:
        digest.update(image.geometry.affine.tobytes())
    return digest.hexdigest()


def model_ref(card: WeightsCard) -> ModelRef:
    """Return what a prediction says about its weights."""
    return ModelRef(card.name, card.version, card.sha256, card.licence)


def gate_beside(weights: str | Path) -> Gate | None:
    """Return the gate beside weights; None where their card speaks of none.

    Raises:
        WeightsError: The gate is missing, altered, or no gate.
    """
    arrays = load_gate_arrays(weights)
    if arrays is None:
        return None
    try:
        return Gate.from_arrays(arrays)
    except ConfigError as error:
        raise WeightsError(f"{Path(weights).name}: what the card calls its gate is not one") from error


def alike(gate: Gate | None, features: Sequence[Mapping[str, np.ndarray]]) -> tuple[Likeness | None, str | None]:
    """Return how like the images that a task learnt from an image is, and why it is refused, if it is.

    Args:
        gate: The gate; None where there is none, and nothing is said.
        features: Of the image, as each network gives them.
    """
    if gate is None:
        return None, None
    reading = gate.judge(features)
    said = (
        f"Strangest of the image, against those that the task learnt from: {in_words(reading.block)}; the limit "
        f"was set on {gate.held_out}."
    )
    return Likeness(reading.score, reading.p_value, reading.refused_share, said), reading.reason


def alike_prepared(gate: Gate | None, prepared: Float[np.ndarray, "*space"]) -> tuple[Likeness | None, str | None]:
    """Return the same of a prepared image, for a gate that needs no network."""
    return (None, None) if gate is None else alike(gate, [descriptors(prepared[None])])


def expected_quality(
    card: WeightsCard, agreement: Float[np.ndarray, "foreground"], segments: Mapping[int, int]
) -> Uncertainty:
    """Turn the network's agreement with itself into an expected Dice with its interval.

    Args:
        card: The weights' card with its calibration.
        agreement: Self-agreement per class.
        segments: For each segment number of the answer, its class (1 is the first foreground class).
    """
    whole = expected_dice(_table(card, "mean"), float(agreement.mean()))
    per_segment = {
        number: expected_dice(_table(card, str(group)), float(agreement[group - 1])).median
        for number, group in segments.items()
    }
    promise = (
        f"Dice expected against an expert's outline: median {whole.median:.2f}, {whole.level:.0%} interval. "
        f"{_evidence(card, float(agreement.mean()))} It holds for images like those, and the networks were those of "
        f"the folds.{_widened(card)}"
    )
    return Uncertainty(
        "quality", promise, whole.low, whole.high, whole.level, per_segment=MappingProxyType(per_segment)
    )


def doubtful(card: WeightsCard, agreement: Float[np.ndarray, "foreground"]) -> str | None:
    """Return why the answer is not offered, or None: the network agrees with itself too little.

    The limit is on the card: the share of good held-out images that it would turn away is stated there.
    """
    least, share = (float(str(card.calibration[key])) for key in ("least_agreement", "refused_share"))
    value = float(agreement.mean())
    if value >= least:
        return None
    return (
        f"the network agrees with itself less ({value:.2f}) than on {1 - share:.0%} of the held-out images that it was "
        f"measured on ({least:.2f}); check contrast, view and region, or outline by hand"
    )


def _evidence(card: WeightsCard, agreement: float) -> str:
    """Say how many held-out pictures stand behind the interval for an agreement, and how many are altered copies."""
    table = _table(card, "mean")
    counts, changed = (_numbers(table.get(key)) for key in ("bin_counts", "bin_changed"))
    number = int(np.searchsorted(_numbers(table.get("edges")), agreement))
    if number >= len(counts) or (len(changed) and len(changed) != len(counts)):
        raise WeightsError(f"{card.name}: the card's calibration does not count the pictures of each bin")
    images, copies = (int(str(card.calibration.get(key, 0))) for key in ("images", "changed_copies"))
    known = f"{changed[number]:.0f}" if len(changed) else "an unrecorded number"
    return (
        f"From the {counts[number]:.0f} held-out pictures of the cross-validation that agreed with themselves as much "
        f"as this one, {known} of them altered copies. They are one of {len(counts)} equal bins of "
        f"{images + copies} pictures: {images} images, and {copies} copies of these altered mildly to severely."
    )


def _widened(card: WeightsCard) -> str:
    """Say by how much the interval was widened because the network that ships is not one of the folds'."""
    below, above = (float(str(_table(card, "mean").get(f"widened_{end}", 0.0))) for end in ("below", "above"))
    if not max(below, above) > 0:
        return ""
    return (
        f" The interval is widened by {below:g} below and {above:g} above, as the answers of the network that ships "
        "needed it on the images that it learnt from."
    )


def _numbers(values: object) -> Float[np.ndarray, " n"]:
    return np.asarray(values if isinstance(values, list | tuple) else (), dtype=np.float64)


def _table(card: WeightsCard, key: str) -> Mapping[str, object]:
    table = card.calibration.get(key)
    if not isinstance(table, dict):
        raise WeightsError(f"{card.name}: the card has no calibration for {key!r}")
    return table
