"""From a prepared image to class probabilities, and how much the network agrees with itself.

The network looks twice, the second time at the left-right mirror image; the mean of both answers is the result and
their disagreement is a sign of trouble. `self_agreement` puts the sign into one number per class, which the cross-
validation turns into an expected Dice (`calibrate`, `expected_dice`): a number with a measured promise, not a feeling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, UInt16

from isocenter.core.errors import ConfigError, WeightsError
from isocenter.models.preparation import Letterbox, keep_largest, normalise, pad_to_multiple
from isocenter.models.recall import look_once
from isocenter.models.unet import UNet, UNetSettings
from isocenter.models.weights import Weights

__all__ = [
    "ExpectedDice",
    "Probabilities",
    "build_unet",
    "calibrate",
    "expected_dice",
    "predict",
    "prepare_picture",
    "segment_picture",
    "segment_prepared",
    "self_agreement",
]

LEAST_PART_SHARE = 0.1
"""A second part of a picture's foreground stays only if it has this share of the first."""


@dataclass(frozen=True, eq=False)
class Probabilities:
    """What the network says about a prepared image.

    Args:
        mean: Probability of each class, background first; mean of the views.
        views: Probability of each class in each view.
    """

    mean: Float[np.ndarray, "classes *space"]
    views: tuple[Float[np.ndarray, "classes *space"], ...]


def build_unet(weights: Weights) -> UNet:
    """Build the network that a card describes and fill it.

    Raises:
        WeightsError: The card does not describe a UNet, or the arrays are of another network.
    """
    try:
        net = UNet(UNetSettings.from_card(weights.card.network))
        net.load_state_dict({key: torch.from_numpy(array) for key, array in weights.arrays.items()})
    except (ConfigError, RuntimeError) as error:
        raise WeightsError(f"{weights.card.name}: the weights are of another network than their card says") from error
    return net.eval()


def predict(net: UNet, prepared: Float[np.ndarray, "*space"]) -> Probabilities:
    """Run a network on a prepared image and on its left-right mirror image.

    Args:
        net: The network.
        prepared: Normalised intensities of any size; padded here to what the network needs.
    """
    padded, inner = pad_to_multiple(np.asarray(prepared, dtype=np.float32), net.settings.multiple)
    x = torch.from_numpy(padded)[None, None]
    with torch.inference_mode():
        straight = look_once(net, x, "softmax", lambda given: net(given).softmax(1)[0])
        mirrored = look_once(net, x, "mirrored softmax", lambda given: net(given.flip(-1)).softmax(1)[0].flip(-1))
    views = tuple(np.ascontiguousarray(view.numpy()[(slice(None), *inner)]) for view in (straight, mirrored))
    return Probabilities((views[0] + views[1]) / 2, views)


def prepare_picture(
    picture: Float[np.ndarray, "rows columns"], side: int
) -> tuple[Letterbox, Float[np.ndarray, "side side"]]:
    """Fit a picture of any size into the square that a network works on, with mean 0 and deviation 1.

    Args:
        picture: Intensities in any unit.
        side: Side of the square in pixels.

    Raises:
        PixelError: The picture is flat or not finite.
    """
    box = Letterbox(picture.shape[0], picture.shape[1], side)
    return box, box.forward(normalise(picture))


def segment_prepared(
    net: UNet, box: Letterbox, prepared: Float[np.ndarray, "side side"]
) -> tuple[Probabilities, UInt16[np.ndarray, "rows columns"]]:
    """Outline one structure of at most two parts (the lungs) in a prepared picture.

    Args:
        net: A 2D network with one foreground class.
        box: How the picture was fitted into the square.
        prepared: The square.

    Returns:
        What the network says on its square, and the outline (0 or 1) on the picture's own pixels.
    """
    looked = predict(net, prepared)
    labels = (box.backward(looked.mean[1]) >= 0.5).astype(np.uint16)
    return looked, keep_largest(labels, 2, least_share=LEAST_PART_SHARE)


def segment_picture(
    net: UNet, picture: Float[np.ndarray, "rows columns"], side: int
) -> tuple[Probabilities, UInt16[np.ndarray, "rows columns"]]:
    """Prepare a picture and outline it; see `prepare_picture` and `segment_prepared`."""
    return segment_prepared(net, *prepare_picture(picture, side))


def self_agreement(probabilities: Probabilities) -> Float[np.ndarray, "foreground"]:
    """How much the answer agrees with itself, per foreground class, from 0 to 1.

    The mean of two Dice values: of the mask with the probabilities that it was cut from (1 when all are 0 or 1), and
    of the masks of the two views. An empty mask agrees with nothing: 0.
    """
    chosen = probabilities.mean.argmax(0)
    first, second = (view.argmax(0) for view in probabilities.views)
    agreement = []
    for number in range(1, len(probabilities.mean)):
        mask, p = chosen == number, probabilities.mean[number].astype(np.float64)
        sharp = 2 * p[mask].sum() / max(p.sum() + mask.sum(), 1e-9)
        a, b = first == number, second == number
        same = 2 * (a & b).sum() / max(a.sum() + b.sum(), 1)
        agreement.append((sharp + same) / 2 if mask.any() else 0.0)
    return np.array(agreement)


@dataclass(frozen=True)
class ExpectedDice:
    """What a self-agreement is worth, learnt on held-out images.

    Args:
        median: Median Dice of held-out images that agreed with themselves as much.
        low: Lower end of the interval.
        high: Upper end.
        level: Share of held-out images inside the interval.
        count: Held-out images behind it.
    """

    median: float
    low: float
    high: float
    level: float
    count: int


def calibrate(
    agreement: Float[np.ndarray, "n"], dice: Float[np.ndarray, "n"], *, level: float = 0.9, bins: int = 8
) -> dict[str, object]:
    """Tie self-agreement to true Dice on held-out images.

    Images are put into equally full bins by agreement. Each bin gives the median Dice and an interval between order
    statistics, wide enough for a further image of that bin to fall inside with at least the asked chance (split
    conformal, within the bin).

    Args:
        agreement: Self-agreement of each held-out image.
        dice: Its true Dice.
        level: Chance asked of the interval.
        bins: How many bins.

    Raises:
        ConfigError: Too few images for the level.

    Source:
        Vovk, Gammerman, Shafer, Algorithmic Learning in a Random World (Mondrian conformal prediction).
    """
    order = np.argsort(agreement, kind="stable")
    parts = np.array_split(order, bins)
    least = int(np.ceil(round(2 / (1 - level), 9)))
    if min(len(part) for part in parts) < least:
        raise ConfigError(f"{len(agreement)} images are too few for {bins} bins at level {level}; {least} a bin needed")
    rows = []
    for part in parts:
        values = np.sort(dice[part])
        outside = int(np.floor((1 - level) / 2 * (len(values) + 1)))  # at least 1: see `least`
        low, high = float(values[outside - 1]), float(values[-outside])
        rows.append([round(v, 4) for v in (float(np.median(values)), low, high)])
    edges = [round(float((agreement[a[-1]] + agreement[b[0]]) / 2), 6) for a, b in pairwise(parts)]
    return {"level": level, "count": len(agreement), "edges": edges, "median_low_high": rows}


def expected_dice(calibration: Mapping[str, object], agreement: float) -> ExpectedDice:
    """Look up what a self-agreement is worth.

    Args:
        calibration: What `calibrate` returned, and perhaps how much the network that ships needs its intervals widened
            ("widened_below" and "widened_above", in Dice).
        agreement: Self-agreement of the image at hand.
    """
    edges, rows = calibration["edges"], calibration["median_low_high"]
    if not isinstance(edges, Sequence) or not isinstance(rows, Sequence) or len(rows) != len(edges) + 1:
        raise WeightsError("the card's calibration is damaged: it needs one row more than edges")
    number = int(np.searchsorted(np.asarray(edges, dtype=np.float64), agreement))
    median, low, high = (float(v) for v in rows[number])
    below, above = (float(str(calibration.get(key, 0.0))) for key in ("widened_below", "widened_above"))
    low, high = max(low - below, 0.0), min(high + above, 1.0)
    return ExpectedDice(median, low, high, float(str(calibration["level"])), int(str(calibration["count"])))
