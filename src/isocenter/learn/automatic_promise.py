"""Whether the network that ships keeps the promise of its folds, and by how much it must be widened where it does not.

The expected Dice was tied to agreement on the networks of the folds. The network that ships learnt longer and from
every case: it agrees with itself more, so its answers fall into other bins than theirs did. Held-out images of it do
not exist. What can be measured is how its answers to the images that it learnt from, and to changed copies of them,
lie in the intervals of the card; each end of the intervals is moved outwards until a share of (1 + level) / 2 of each
of the two lies on its inner side, as split conformal prediction would (`safety.quantiles`). An end is never moved
inwards.

    python -m isocenter.learn.automatic_promise configs/hippocampus-t1.yaml --data FOLDER --publish WEIGHTS
"""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float

from isocenter.evaluate.overlap import dice
from isocenter.learn.automatic import AutomaticConfig, load_cases, read_config
from isocenter.learn.automatic_data import Case
from isocenter.learn.automatic_evaluate import CHANGED_COPIES, HARSH, judge_changed, milder, segment_case
from isocenter.models.segmentation import build_unet, expected_dice, self_agreement
from isocenter.models.unet import UNet
from isocenter.models.weights import load_weights, publish_card
from isocenter.safety.quantiles import upper_quantile

__all__ = ["answers", "main", "widened"]

_SPLITS, _DECIMALS = 200, 3
_log = logging.getLogger(__name__)

Answers = tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]
"""Agreement and Dice, means of the structures."""


def answers(net: UNet, cases: Sequence[Case], config: AutomaticConfig) -> tuple[Answers, Answers]:
    """Return the network's answers to images and to one changed copy of each, from mild to severe in turn."""
    plain, changed = [], []
    for number, case in enumerate(cases):
        looked, labels = segment_case(net, case, config)
        overlap = np.mean([dice(case.label == n, labels == n) for n in range(1, config.network.classes)])
        plain.append((float(self_agreement(looked).mean()), float(overlap)))
        how = milder(HARSH[config.data], (number % CHANGED_COPIES + 1) / CHANGED_COPIES)
        copy = judge_changed(net, case, 0, config, how, np.random.default_rng((config.seed, 998, number)))
        changed.append((float(np.mean(copy.agreement)), float(np.mean(copy.metrics["Dice"]))))
        if number % 20 == 0:
            _log.info("%d of %d", number, len(cases))
    (a, b), (c, d) = (np.array(rows).T for rows in (plain, changed))
    return (a, b), (c, d)


def _gaps(table: Mapping[str, object], found: Answers) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return how far each Dice lies below the lower end and above the upper one; negative inside."""
    promised = [expected_dice(table, float(a)) for a in found[0]]
    low, high = np.array([p.low for p in promised]), np.array([p.high for p in promised])
    return low - found[1], found[1] - high


def widened(table: Mapping[str, object], found: Sequence[Answers]) -> tuple[float, float]:
    """Return by how much the lower and the upper end must move outwards, in Dice, rounded up.

    Args:
        table: A calibration, not widened.
        found: Answers of each kind; each kind must keep both ends.

    Raises:
        DataError: Too few answers for the level.
    """
    side = (1 + float(str(table["level"]))) / 2
    scale = 10**_DECIMALS
    both = [tuple(upper_quantile(gaps, side) for gaps in _gaps(table, one)) for one in found]
    below, above = (max(0.0, math.ceil(scale * max(v)) / scale) for v in zip(*both, strict=True))
    return below, above


def kept(table: Mapping[str, object], found: Answers) -> Bool[np.ndarray, " n"]:
    """Return for each answer whether its Dice lies in the interval."""
    below, above = _gaps(table, found)
    return (below <= 0) & (above <= 0)


def _on_other_halves(table: Mapping[str, object], found: Sequence[Answers], seed: int) -> float:
    """Widen by one half of the images, look at the other: the share that is kept, mean over random halves."""
    rng, shares, count = np.random.default_rng(seed), [], len(found[0][0])
    for _ in range(_SPLITS):
        order = rng.permutation(count)
        one, other = order[: count // 2], order[count // 2 :]
        below, above = widened(table, [(a[one], d[one]) for a, d in found])
        a, d = found[0]
        shares.append(kept({**table, "widened_below": below, "widened_above": above}, (a[other], d[other])).mean())
    return float(np.mean(shares))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the promise, and write what it must be widened by on the card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled set")
    parser.add_argument("--publish", type=Path, required=True, help="folder of the weights")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    config = read_config(given.config)
    weights = load_weights(given.publish / f"{config.name}.safetensors")
    card = weights.card
    found = answers(build_unet(weights), load_cases(config, given.data), config)
    calibration = dict(card.calibration)
    table = {k: v for k, v in dict(calibration["mean"]).items() if not k.startswith("widened")}  # type: ignore[call-overload]
    below, above = widened(table, found)
    wide = {**table, "widened_below": below, "widened_above": above}
    before, after = ([f"{kept(t, one).sum()} of {len(one[0])}" for one in found] for t in (table, wide))
    top = float(np.mean(found[0][0] > float(table["edges"][-1])))
    said = (
        f"The network that ships agrees with itself more than those of the folds did: {top:.0%} of its answers to the "
        f"images that it learnt from lie in the highest of {len(table['edges']) + 1} bins. Of those promises "
        f"{before[0]} were kept ({before[1]} of changed copies). So every interval is widened by {below:g} below and "
        f"{above:g} above, measured on these answers (split conformal for each end); then {after[0]} are kept "
        f"({after[1]}), and {_on_other_halves(table, found, config.seed):.1%} where one half of the images widens and "
        "the other is looked at. None of these images is new to the network: that the promise holds on new ones rests "
        "on the folds."
    )
    calibration["mean"] = {**wide, "widened_how": said}
    limits = tuple(line for line in card.limitations if "agrees with itself more than those of the folds" not in line)
    publish_card(given.publish, card.model_copy(update={"calibration": calibration, "limitations": (*limits, said)}))
    _log.info("%s: %s", config.name, said)


if __name__ == "__main__":
    main()
