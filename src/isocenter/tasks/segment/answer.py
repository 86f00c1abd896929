"""What the automatic tasks share: which image, which input, and how sure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

from isocenter.core import Image, ModelRef, Study, Uncertainty
from isocenter.core.errors import WeightsError
from isocenter.models.segmentation import expected_dice
from isocenter.models.weights import WeightsCard

__all__ = ["doubtful", "expected_quality", "input_name", "model_ref", "only_image"]


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
        "the folds."
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


def _numbers(values: object) -> Float[np.ndarray, " n"]:
    return np.asarray(values if isinstance(values, list | tuple) else (), dtype=np.float64)


def _table(card: WeightsCard, key: str) -> Mapping[str, object]:
    table = card.calibration.get(key)
    if not isinstance(table, dict):
        raise WeightsError(f"{card.name}: the card has no calibration for {key!r}")
    return table
