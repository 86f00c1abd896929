"""Is this image like those that were learnt from? One score, the chance of one as strange, and the reason in words.

An image is described by blocks of numbers: the network's features, its energy, and numbers that need no network
(`safety.descriptors`). For each block, two distances to the images that were learnt from are taken, of Mahalanobis (to
the nearest class, with a shrunken covariance) and to the k-th nearest neighbour; each is put on one scale, by how far
images of the set lie from each other; the largest of all is the score. So one block that is strange is enough, and is
the reason that is told.

The limit is set on held-out images of the set: a further image of the same kind is refused with a chance of at most the
share that was asked (split conformal). How many images of another kind are refused is not promised by anybody; it is
measured (docs/results/gate-kinds.md).

Source:
    Lee et al., NeurIPS 2018 (Mahalanobis); Sun et al., ICML 2022 (neighbours); Liu et al., NeurIPS 2020 (energy);
    Ledoit and Wolf, J. Multivariate Analysis 2004 (shrinkage); Bates et al., Annals of Statistics 2023 (conformal p).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from isocenter.core.errors import ConfigError, DataError
from isocenter.safety.quantiles import least_cases

__all__ = ["Block", "Gate", "Reading", "Reference", "combined", "fit_gate", "fit_reference", "in_words"]

Features = Mapping[str, np.ndarray]
"""Blocks of numbers of one image, by name."""

REFUSED_SHARE = 0.05
LEAST_REFERENCE = 8
"""Fewer images than this say nothing of how far images of a set lie from each other (a convention of ours)."""
_MOST_AXES, _MOST_BANK, _NEIGHBOUR = 48, 256, 3
_WORDS = {
    "embedding": "what the network sees in it",
    "energy": "how sure the network is of it",
    "layout": "its layout of light and dark",
    "values": "the distribution of its values",
    "texture": "its texture and directions of edges",
}


def _ledoit_wolf(centred: Float[np.ndarray, "n d"]) -> float:
    """Return how far the covariance is shrunk towards a multiple of the identity, 0 to 1."""
    n, d = centred.shape
    square = centred**2
    trace = float(square.sum()) / n
    mean = trace / d
    gram = centred @ centred.T / n if n < d else centred.T @ centred / n
    norm = float((gram**2).sum())
    spread = max(norm / d - mean**2, 1e-300)
    noise = (float((square.sum(axis=1) ** 2).sum()) / n - norm) / n / d
    return float(np.clip(noise / spread, 0.0, 1.0))


@dataclass(frozen=True, eq=False)
class Block:
    """What one block of numbers is like in the images that were learnt from.

    Args:
        centre: Of each number.
        scale: Of each number.
        means: Of each class (one row where there are none), in standard numbers.
        axes: Directions that vary most, in standard numbers.
        variances: Along them.
        rest: Along every other direction.
        bank: Some images, in standard numbers.
        usual: For each distance, the median and deviation of its logarithm between images of the set.
    """

    centre: Float[np.ndarray, " d"]
    scale: Float[np.ndarray, " d"]
    means: Float[np.ndarray, "classes d"]
    axes: Float[np.ndarray, "r d"]
    variances: Float[np.ndarray, " r"]
    rest: float
    bank: Float[np.ndarray, "m d"]
    usual: tuple[tuple[float, float], tuple[float, float]]

    @classmethod
    def of(cls, values: Float[np.ndarray, "n d"], classes: Int[np.ndarray, " n"]) -> Block:
        """Describe a block; every second image says how far the others lie from images that they don't know."""
        half = np.arange(len(values)) % 2 == 0
        found = []
        for known in (half, ~half):
            part = cls.fitted(values[known], classes[known])
            found.append(np.log(np.array([part.distances(v) for v in values[~known]]) + 1e-9))
        far = np.concatenate(found)
        usual = [(float(np.median(c)), 1.4826 * float(np.median(np.abs(c - np.median(c)))) + 1e-3) for c in far.T]
        whole = cls.fitted(values, classes)
        return cls(**{**vars(whole), "usual": (usual[0], usual[1])})

    @classmethod
    def fitted(cls, values: Float[np.ndarray, "n d"], classes: Int[np.ndarray, " n"]) -> Block:
        """Describe a block, but not how far images usually lie: `usual` is still to be set."""
        centre, scale = values.mean(axis=0), values.std(axis=0)
        scale = np.where(scale > 1e-6 * (np.abs(centre) + 1e-6), scale, 1.0)
        x = (values - centre) / scale
        names = np.unique(classes)
        means = np.stack([x[classes == name].mean(axis=0) for name in names])
        apart = x - means[np.searchsorted(names, classes)]
        n, d = apart.shape
        shrink = _ledoit_wolf(apart)
        _, singular, rows = np.linalg.svd(apart, full_matrices=False)
        variances = singular**2 / n
        mean = max(float(variances.sum()) / d, 1e-9)
        variances = (1 - shrink) * variances + shrink * mean
        kept = min(_MOST_AXES, len(variances))
        # What is left of the trace, spread over the directions that are left.
        left = d - kept
        rest = max((d * mean - float(variances[:kept].sum())) / left, 1e-3 * mean) if left else mean
        bank = x[np.linspace(0, n - 1, min(n, _MOST_BANK)).round().astype(int)]
        usual = ((0.0, 1.0), (0.0, 1.0))
        return cls(centre, scale, means, rows[:kept], np.maximum(variances[:kept], 1e-3 * mean), rest, bank, usual)

    def distances(self, values: Float[np.ndarray, " d"]) -> tuple[float, float]:
        """Return both distances of an image, of Mahalanobis and to a near neighbour."""
        x = (values - self.centre) / self.scale
        gaps = x[None] - self.means
        along = gaps @ self.axes.T
        square = (along**2 / self.variances).sum(axis=1)
        square = square + np.maximum((gaps**2).sum(axis=1) - (along**2).sum(axis=1), 0) / self.rest
        near = np.sqrt(((self.bank - x[None]) ** 2).sum(axis=1))
        rank = min(_NEIGHBOUR, len(near)) - 1
        return float(np.sqrt(square.min() / len(x))), float(np.partition(near, rank)[rank])

    def strangeness(self, values: Float[np.ndarray, " d"]) -> Float[np.ndarray, "2"]:
        """Return both distances in deviations of their logarithm."""
        return np.array(
            [(math.log(v + 1e-9) - m) / s for v, (m, s) in zip(self.distances(values), self.usual, strict=True)]
        )


@dataclass(frozen=True, eq=False)
class Reference:
    """What the images are like that one network learnt from: every block of numbers."""

    blocks: Mapping[str, Block]

    def strangeness(self, features: Features) -> dict[str, float]:
        """Return how strange each block of an image is: the larger of its two distances.

        Raises:
            DataError: A block is missing, has another length, or holds a number that is not finite.
        """
        found = {}
        for name, block in self.blocks.items():
            values = features.get(name)
            if values is None or values.shape != block.centre.shape:
                raise DataError(f"the gate needs {len(block.centre)} numbers of {name!r} of an image")
            if not np.isfinite(values).all():
                raise DataError(f"a number of {name!r} of the image is not finite")
            found[name] = float(block.strangeness(values.astype(np.float64)).max())
        return found


def fit_reference(features: Sequence[Features], classes: Sequence[int] = ()) -> Reference:
    """Describe the images that a network learnt from.

    Args:
        features: Of each image, the same blocks.
        classes: The class of each image, where there are classes; then the nearest class counts.

    Raises:
        DataError: Too few images, blocks that differ, or a number that is not finite.
    """
    if len(features) < LEAST_REFERENCE:
        raise DataError(f"{len(features)} images are too few to know others by; at least {LEAST_REFERENCE} are needed")
    if len(classes) not in (0, len(features)):
        raise DataError(f"{len(classes)} classes for {len(features)} images")
    labels = np.asarray(classes if len(classes) else [0] * len(features), dtype=np.int64)
    if min(np.unique(labels, return_counts=True)[1]) < 4:  # a class of few has no mean to speak of
        labels = np.zeros_like(labels)
    blocks = {}
    for name in features[0]:
        if any(name not in f or f[name].shape != features[0][name].shape for f in features):
            raise DataError(f"not every image has the same numbers of {name!r}")
        values = np.stack([f[name] for f in features]).astype(np.float64)
        if not np.isfinite(values).all():
            raise DataError(f"a number of {name!r} is not finite in some image")
        conditional = labels if name == "embedding" else np.zeros_like(labels)
        # Images are dealt by their place within a class, so that both halves hold every class.
        order = np.argsort(conditional, kind="stable")
        blocks[name] = Block.of(values[order], conditional[order])
    return Reference(blocks)


@dataclass(frozen=True)
class Reading:
    """What a gate says of an image.

    Args:
        score: How strange it is: deviations of the block that is strangest.
        p_value: Chance that an image of the set is as strange; small is strange.
        refused_share: At this p-value or below it is refused.
        block: Which block is strangest.
        reason: Why it is refused, in words; None where it is not.
    """

    score: float
    p_value: float
    refused_share: float
    block: str
    reason: str | None


@dataclass(frozen=True, eq=False)
class Gate:
    """A fitted gate.

    Args:
        references: Of each network.
        scores: Of held-out images of the set, rising.
        refused_share: Largest share of further images of the set that are refused.
        copies: Changed copies of each held-out image that count as of its kind: the score of an image is then that of
            the strangest of it and its copies.
    """

    references: tuple[Reference, ...]
    scores: Float[np.ndarray, " n"]
    refused_share: float = REFUSED_SHARE
    copies: int = 0

    @property
    def held_out(self) -> str:
        """What the limit was set on, in words."""
        plain = f"{len(self.scores)} held-out images"
        return f"{plain}, each by the strangest of it and {self.copies} changed copies" if self.copies else plain

    def judge(self, features: Sequence[Features]) -> Reading:
        """Say whether an image is like those that were learnt from.

        Args:
            features: Of the image, as each network gives them.

        Raises:
            DataError: Another number of networks, or blocks that don't fit.
        """
        if len(features) != len(self.references):
            raise DataError(f"features of {len(features)} networks for a gate of {len(self.references)}")
        score, block = combined([r.strangeness(f) for r, f in zip(self.references, features, strict=True)])
        count = len(self.scores)
        above = count - int(np.searchsorted(self.scores, score, side="left"))
        p = (1 + above) / (count + 1)
        reason = None
        if p <= self.refused_share:
            what = in_words(block)
            reason = (
                f"the image is unlike those it learnt from: {what} lies {score:.1f} deviations from what is usual "
                f"there, further than {1 - p:.1%} of {self.held_out} (p = {p:.3g}, limit "
                f"{self.refused_share:g}); check modality, view, region, orientation and inversion"
            )
        return Reading(score, p, self.refused_share, block, reason)

    def strange_numbers(self, features: Sequence[Features]) -> list[dict[str, float]]:
        """Return how strange an image is to each network, as the number that `safety.quality` rules take."""
        return [{"strange": combined([r.strangeness(f)])[0]} for r, f in zip(self.references, features, strict=True)]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the gate as arrays that `numpy.savez` takes; `Gate.from_arrays` reads them without pickle."""
        out: dict[str, np.ndarray] = {"scores": self.scores.astype(np.float64)}
        card = {"format": _FORMAT, "refused_share": self.refused_share, "copies": self.copies, "networks": []}
        for number, reference in enumerate(self.references):
            usual = {}
            for name, block in reference.blocks.items():
                for part in _PARTS:
                    out[f"{number}/{name}/{part}"] = getattr(block, part).astype(np.float32)
                usual[name] = {"rest": block.rest, "usual": block.usual}
            card["networks"].append(usual)  # type: ignore[attr-defined]
        out["card"] = np.frombuffer(json.dumps(card).encode(), dtype=np.uint8).copy()
        return out

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Gate:
        """Return what `arrays` wrote.

        Raises:
            ConfigError: The arrays are not of a gate.
        """
        try:
            card = json.loads(arrays["card"].astype(np.uint8).tobytes())
            if card["format"] != _FORMAT:
                raise ConfigError(f"this gate has another form than {_FORMAT}; adapt again")
            references = []
            for number, blocks in enumerate(card["networks"]):
                made = {}
                for name, told in blocks.items():
                    parts = {p: arrays[f"{number}/{name}/{p}"].astype(np.float64) for p in _PARTS}
                    (a, b), (c, d) = told["usual"]
                    made[name] = Block(**parts, rest=float(told["rest"]), usual=((a, b), (c, d)))
                references.append(Reference(made))
            return cls(
                tuple(references),
                np.sort(arrays["scores"].astype(np.float64)),
                float(card["refused_share"]),
                int(card.get("copies", 0)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError("this is not a gate; adapt again") from error


_FORMAT = "isocenter-gate/1"
_PARTS = ("centre", "scale", "means", "axes", "variances", "bank")


def in_words(block: str) -> str:
    """Return what a block of numbers is, as people say it.

    Example:
        >>> in_words("layout")
        'its layout of light and dark'
    """
    return _WORDS.get(block, f"its {block}")


def combined(each: Sequence[Mapping[str, float]]) -> tuple[float, str]:
    """Return the score and the strangest block: the largest of the blocks' means over networks.

    Example:
        >>> combined([{"layout": 1.0, "values": 3.0}, {"layout": 2.0, "values": 1.0}])
        (2.0, 'values')
    """
    means = {name: float(np.mean([one[name] for one in each])) for name in each[0]}
    block = max(means, key=means.__getitem__)
    return means[block], block


def fit_gate(
    references: Sequence[Reference],
    held_out: Sequence[Sequence[Mapping[str, float]]],
    *,
    refused_share: float = REFUSED_SHARE,
) -> Gate:
    """Set the limit on held-out images.

    Args:
        references: Of each network.
        held_out: For each held-out image, how strange its blocks are (`Reference.strangeness`) to each network that
            never saw it: one in a cross-validation, all where a set has its own test part.
        refused_share: Largest share of further images of the set that may be refused.

    Raises:
        ConfigError: The share is not between 0 and 1, or there is no network.
        DataError: Too few held-out images for the share.
    """
    if not 0 < refused_share < 1 or not references:
        raise ConfigError(f"a gate needs a network, and a share between 0 and 1, got {refused_share:g}")
    least = least_cases(1 - refused_share)
    if len(held_out) < least:
        raise DataError(
            f"{len(held_out)} held-out images are too few to refuse at most {refused_share:.0%} of further ones; at "
            f"least {least} are needed"
        )
    scores = np.sort(np.array([combined(one)[0] for one in held_out]))
    return Gate(tuple(references), scores, refused_share)
