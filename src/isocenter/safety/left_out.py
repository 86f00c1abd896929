"""A gate that was fitted by leaving out: whole sources, so that another hospital's images do not count as strange.

`safety.gate.fit_gate` sets its limit on held-out images of the set that was learnt from; images of another hospital are
then refused, because some blocks of numbers (texture most of all) tell hospitals apart at least as well as they tell
kinds of images apart. Here each part of the images (a source, or a fold of patients) is left out in turn, and both what
is usual of each distance and the limit come from how strange the images of the left-out part are to the others. A
distance that is always large between sources gets a wide scale, and so a loose limit.

With k sources that is k observations of "a hospital that the gate never saw": the share of a further hospital's images
that is refused is not promised, only measured on those k.

Source:
    Wenger and Olden, Methods in Ecology and Evolution 2012 (cross-validation by block); Bates et al., Annals of
    Statistics 2023 (conformal p); Tobin et al., IROS 2017 (changed copies that stand for what was not seen).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

from isocenter.core.errors import ConfigError, DataError
from isocenter.safety.gate import REFUSED_SHARE, Block, Features, Gate, Reading, Reference
from isocenter.safety.quantiles import least_cases

__all__ = ["Known", "fit_gate_left_out", "readings_left_out"]

LEAST_OF_SOURCE = 20
"""Fewer judged images of a source say nothing of its tail; they are in the reference, and set no limit."""
_HIGH = 0.95
"""The quantile of the left-out distances that lies one deviation from their median."""
_SHUFFLE = 20


@dataclass(frozen=True, eq=False)
class Known:
    """An image that the gate may know.

    Args:
        features: Its blocks of numbers.
        part: What it is left out together with: its source, or its fold of patients.
        source: Where it comes from; the limit is that of the source whose left-out images look strangest.
        judged: Whether its strangeness, when it is left out, counts for the limit; changed copies may only be known.
    """

    features: Features
    part: str
    source: str
    judged: bool = True


def fit_gate_left_out(
    known: Sequence[Known], *, refused_share: float = REFUSED_SHARE, looser: Mapping[str, float] = MappingProxyType({})
) -> Gate:
    """Fit a gate on images of several parts, each judged by the gate of the other parts.

    Args:
        known: The images.
        refused_share: Largest share of the left-out images of any source that may be refused.
        looser: By block, how many times wider its scale is than the sources at hand say: few sources show too little
            of how far hospitals lie apart in what tells them apart.

    Returns:
        A gate of one reference that knows all images. Its `scores` are those of the left-out images of one source: the
        one with the highest limit.

    Raises:
        ConfigError: The share is not between 0 and 1, or a scale is made narrower, or is of no block.
        DataError: One part alone, too few judged images of every source, or blocks that differ.
    """
    if not 0 < refused_share < 1:
        raise ConfigError(f"a gate needs a share between 0 and 1, got {refused_share:g}")
    sources = _judged_sources(known, max(LEAST_OF_SOURCE, least_cases(1 - refused_share)))
    names = list(known[0].features)
    for name in names:
        if len({_values(one, name).shape for one in known}) > 1:
            raise DataError(f"not every image has the same numbers of {name!r}")
    apart = {name: _left_out_distances(known, name) for name in names}
    if min(looser.values(), default=1.0) < 1 or set(looser) - set(names):
        raise ConfigError(f"scales are made wider, 1 or more, of {', '.join(names)}; got {dict(looser)}")
    usual = {name: _usual([apart[name][rows] for rows in sources.values()], looser.get(name, 1.0)) for name in names}
    reference = Reference({name: replace(_block(known, range(len(known)), name), usual=usual[name]) for name in names})
    scores = {
        source: np.sort(np.max([_scaled(apart[name][rows], usual[name]) for name in names], axis=0))
        for source, rows in sources.items()
    }
    # In order of their limit: the value that a share of `refused_share` of a source's images exceed.
    widest = max(scores, key=lambda source: float(np.quantile(scores[source], 1 - refused_share)))
    return Gate((reference,), scores[widest], refused_share)


def readings_left_out(known: Sequence[Known], gate: Gate, part: str, features: Sequence[Features]) -> list[Reading]:
    """Return what a gate would say of images had it not known a part: its scale and limit, another reference.

    Args:
        known: What the gate was fitted on.
        gate: The gate.
        part: The part that is left out.
        features: The images.

    Raises:
        DataError: That part is all that is known.
    """
    rest = [i for i, one in enumerate(known) if one.part != part]
    if not rest:
        raise DataError(f"nothing is known but {part!r}")
    blocks = gate.references[0].blocks.items()
    reference = Reference({name: replace(_block(known, rest, name), usual=block.usual) for name, block in blocks})
    without = replace(gate, references=(reference,))
    return [without.judge([one]) for one in features]


def _judged_sources(known: Sequence[Known], least: int) -> dict[str, list[int]]:
    """Return the judged images of each source that has enough of them."""
    if len({one.part for one in known}) < 2:
        raise DataError("to leave a part out, images of at least two parts are needed")
    rows: dict[str, list[int]] = {}
    for number, one in enumerate(known):
        if one.judged:
            rows.setdefault(one.source, []).append(number)
    enough = {source: found for source, found in rows.items() if len(found) >= least}
    if not enough:
        raise DataError(f"no source has {least} judged images; that many are needed for a limit")
    return enough


def _left_out_distances(known: Sequence[Known], name: str) -> Float[np.ndarray, "n 2"]:
    """Return the logarithms of both distances of every judged image to the images of the other parts."""
    out = np.full((len(known), 2), np.nan)
    for part in dict.fromkeys(one.part for one in known):
        mine = [i for i, one in enumerate(known) if one.part == part and one.judged]
        if not mine:
            continue
        block = _block(known, [i for i, one in enumerate(known) if one.part != part], name)
        out[mine] = [np.log(np.array(block.distances(_values(known[i], name))) + 1e-9) for i in mine]
    return out


def _values(one: Known, name: str) -> Float[np.ndarray, " d"]:
    values = one.features.get(name)
    if values is None or not np.isfinite(values).all():
        raise DataError(f"an image has no finite numbers of {name!r}")
    return values.astype(np.float64)


def _block(known: Sequence[Known], rows: Sequence[int], name: str) -> Block:
    # Mixed, because the neighbours that a block keeps are taken at equal steps.
    mixed = np.random.default_rng(_SHUFFLE).permutation(np.asarray(rows))
    return Block.fitted(np.stack([_values(known[i], name) for i in mixed]), np.zeros(len(mixed), dtype=np.int64))


Usual = tuple[tuple[float, float], tuple[float, float]]


def _usual(each: Sequence[Float[np.ndarray, "n 2"]], wider: float) -> Usual:
    """Return for both distances the median over sources that count alike, and how far the worst source lies above."""
    middles = np.mean([np.median(one, axis=0) for one in each], axis=0)
    highs = np.max([np.quantile(one, _HIGH, axis=0) for one in each], axis=0)
    first, second = ((float(m), float(max(h - m, 1e-3)) * wider) for m, h in zip(middles, highs, strict=True))
    return first, second


def _scaled(apart: Float[np.ndarray, "n 2"], usual: Usual) -> Float[np.ndarray, " n"]:
    middle, deviation = np.array(usual).T
    return np.asarray(((apart - middle) / deviation).max(axis=1))
