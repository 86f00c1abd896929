"""Which images to label next: from what they look like and how unsure the model is of each, as arrays.

    order = choose(Pool(embeddings, uncertainty, labelled=(4, 17)), 8)

Nothing here knows a model or a file: a verb makes the arrays. The same arrays give the same order, ties go to the lower
index, and only `random` draws by chance (from its seed). Without uncertainties (nothing is labelled yet, so no model
can be unsure) every method that uses them goes by the embeddings alone.

| method | next is | source |
| - | - | - |
| random | drawn evenly | |
| uncertain | the most uncertain | Lewis and Gale, SIGIR 1994 |
| core-set | the farthest from all that are labelled | Sener and Savarese, ICLR 2018 (k-centre greedy) |
| doubtful-core-set | the farthest, distance multiplied by uncertainty | after Ash et al., ICLR 2020 (BADGE) |
| typical | the most typical of the largest cluster without a label | Hacohen et al., ICML 2022 (TypiClust) |
| representative | what best stands for all that is not yet stood for | Wei et al., ICML 2015 (facility location) |
| doubtful-representative | the same, every image counted by its uncertainty | after Wei et al., ICML 2015 |

BADGE scales embeddings by the gradient that an uncertain answer would make and draws from them by k-means++; here the
scale is the uncertainty, and the farthest is taken where k-means++ draws, so that the order does not depend on chance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int64

from isocenter.core.errors import ConfigError, DataError

__all__ = ["METHODS", "SHIPPED", "Method", "Pool", "choose"]

Method = Literal[
    "random", "uncertain", "core-set", "doubtful-core-set", "typical", "representative", "doubtful-representative"
]

METHODS: tuple[Method, ...] = get_args(Method)

SHIPPED: Method = "doubtful-representative"
"""What the work list calls its active order. The one order that was tested on held-out patients did not beat chance,
and began badly; this one begins with representative images. docs/results/active-learning.md has the figures."""

_MOST_STOOD_FOR = 2000
"""Images that count as to be stood for; of a larger pool every n-th, so that time and memory grow with it linearly."""
_NEIGHBOURS = 10
_ROUNDS = 30

Vectors = Float[np.ndarray, "n d"]
Values = Float[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Pool:
    """Images to choose from.

    Args:
        embeddings: One row an image; columns are brought to one scale, so any unit does, and a column of noise counts
            as much as any other.
        uncertainty: How unsure the model is of each, 0 or more; None where no model has answered.
        labelled: Indices of images that have labels; they are stood for, and never chosen.
        strata: Whose image it is (any number, the same for images of one patient); None where each is of another. Of a
            patient who has a label, or was chosen, a further image is taken only when no other patient is left.

    Raises:
        DataError: Arrays of other lengths, or what is not finite.
    """

    embeddings: Vectors
    uncertainty: Float[np.ndarray, " of_each"] | None = None
    labelled: tuple[int, ...] = ()
    strata: Int64[np.ndarray, " whose"] | None = None

    def __post_init__(self) -> None:
        count = len(self.embeddings)
        for name, values in (("uncertainties", self.uncertainty), ("strata", self.strata)):
            if values is not None and len(values) != count:
                raise DataError(f"{len(values)} {name} for {count} embeddings")
        if not np.isfinite(self.embeddings).all():
            raise DataError("an embedding holds NaN or infinity: leave that image out")
        doubt = np.zeros(1) if self.uncertainty is None else self.uncertainty
        if not np.isfinite(doubt).all() or float(doubt.min(initial=0.0)) < 0:
            raise DataError("uncertainties must be finite and 0 or more")
        if any(not 0 <= i < count for i in self.labelled):
            raise DataError(f"a labelled image has an index outside 0 to {count - 1}")

    def __len__(self) -> int:
        return len(self.embeddings)


def choose(pool: Pool, count: int, *, method: Method = SHIPPED, seed: int = 0) -> tuple[int, ...]:
    """Return which images to label next, in order.

    Args:
        pool: Images, and which of them have labels.
        count: How many; fewer come back where fewer are left.
        method: See the module.
        seed: Of "random"; the others don't draw.

    Raises:
        ConfigError: No such method, or a negative number.

    Example:
        >>> pool = Pool(np.array([[0.0], [0.1], [0.2], [5.0], [5.1]]), labelled=(1,))
        >>> choose(pool, 2, method="core-set"), choose(pool, 1, method="representative")
        ((4, 0), (3,))
    """
    if method not in METHODS:
        raise ConfigError(f"no order is called {method!r}; there are {', '.join(METHODS)}")
    if count < 0:
        raise ConfigError(f"how many to choose must be 0 or more, got {count}")
    if not len(pool):
        return ()
    return _STARTS[method](pool, seed).take(count)


class _Chooser:
    """Takes the best one after the other; a method says what the score of each is, and what a choice changes."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.free = np.ones(len(pool), dtype=bool)
        self.free[list(pool.labelled)] = False
        self._fresh = np.ones(len(pool), dtype=bool)
        for index in pool.labelled:
            self._seen(index)

    def score(self) -> Values:
        raise NotImplementedError

    def chosen(self, index: int) -> None:
        """Take note of a choice."""

    def take(self, count: int) -> tuple[int, ...]:
        found: list[int] = []
        while len(found) < count and self.free.any():
            among = self.free & self._fresh if (self.free & self._fresh).any() else self.free
            index = int(np.where(among, self.score(), -np.inf).argmax())
            found.append(index)
            self.free[index] = False
            self._seen(index)
            self.chosen(index)
        return tuple(found)

    def _seen(self, index: int) -> None:
        if self.pool.strata is not None:
            self._fresh &= self.pool.strata != self.pool.strata[index]


class _Fixed(_Chooser):
    """Scores that no choice changes."""

    def __init__(self, pool: Pool, scores: Values) -> None:
        super().__init__(pool)
        self._scores = scores

    def score(self) -> Values:
        return self._scores


class _CoreSet(_Chooser):
    """The farthest from what is labelled; the first one, with nothing labelled, is the most central."""

    def __init__(self, pool: Pool, weight: Values) -> None:
        super().__init__(pool)
        self._points, self._weight = _scaled(pool.embeddings), weight
        self._far = np.full(len(pool), np.inf)
        for index in pool.labelled:
            self.chosen(index)

    def score(self) -> Values:
        if not np.isfinite(self._far).all():
            return -_distances(self._points, self._points.mean(axis=0))
        return np.asarray(self._far * self._weight)

    def chosen(self, index: int) -> None:
        self._far = np.minimum(self._far, _distances(self._points, self._points[index]))


class _FacilityLocation(_Chooser):
    """What raises most how like its nearest labelled image each image is, each counted by a weight."""

    def __init__(self, pool: Pool, weight: Values) -> None:
        super().__init__(pool)
        points = _scaled(pool.embeddings)
        stood = np.arange(0, len(pool), -(-len(pool) // _MOST_STOOD_FOR))
        squares = _squares(points, points[stood])
        width = float(np.median(squares)) or 1.0
        self._alike = np.exp(-squares / width).astype(np.float32)
        self._weight = weight[stood].astype(np.float32)
        self._best = np.zeros(len(stood), dtype=np.float32)
        for index in pool.labelled:
            self.chosen(index)

    def score(self) -> Values:
        gains = np.maximum(self._alike - self._best, 0) @ self._weight
        return np.asarray(gains, dtype=np.float64)

    def chosen(self, index: int) -> None:
        self._best = np.maximum(self._best, self._alike[index])


class _Typical(_Chooser):
    """The most typical image of the largest cluster that holds no label; clusters are made anew for every choice."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self._points = _scaled(pool.embeddings)
        self._known = list(pool.labelled)

    def score(self) -> Values:
        owner = _clusters(self._points, min(len(self._known) + 1, len(self._points)))
        sizes = np.bincount(owner)
        covered = np.zeros(len(sizes), dtype=bool)
        covered[owner[self._known]] = True
        order = sorted(range(len(sizes)), key=lambda c: (bool(covered[c]), -int(sizes[c]), c))
        cluster = next(c for c in order if self.free[owner == c].any())
        members = np.flatnonzero(owner == cluster)
        found = np.full(len(self._points), -np.inf)
        squares = np.sort(_squares(self._points[members], self._points[members]), axis=1)
        near = np.sqrt(squares[:, 1 : _NEIGHBOURS + 1])
        found[members] = -near.mean(axis=1) if near.shape[1] else 0.0
        # Images of other clusters stay in reach, for a patient's sake, behind all of these.
        least = float(found[members].min()) - 1
        found[owner != cluster] = least - _distances(self._points, self._points[members].mean(axis=0))[owner != cluster]
        return found

    def chosen(self, index: int) -> None:
        self._known.append(index)


def _uniform(pool: Pool) -> Values:
    return np.ones(len(pool))


def _doubt(pool: Pool) -> Values:
    """Return uncertainties; evenly 1 where there are none, or where nothing is uncertain at all."""
    if pool.uncertainty is None or not float(pool.uncertainty.max(initial=0.0)) > 0:
        return _uniform(pool)
    return np.asarray(pool.uncertainty, dtype=np.float64)


def _random(pool: Pool, seed: int) -> _Chooser:
    return _Fixed(pool, np.random.default_rng(seed).random(len(pool)))


def _uncertain(pool: Pool, _seed: int) -> _Chooser:
    return _CoreSet(pool, _uniform(pool)) if pool.uncertainty is None else _Fixed(pool, _doubt(pool))


_STARTS: Mapping[str, Callable[[Pool, int], _Chooser]] = MappingProxyType(
    {
        "random": _random,
        "uncertain": _uncertain,
        "core-set": lambda pool, _seed: _CoreSet(pool, _uniform(pool)),
        "doubtful-core-set": lambda pool, _seed: _CoreSet(pool, _doubt(pool)),
        "typical": lambda pool, _seed: _Typical(pool),
        "representative": lambda pool, _seed: _FacilityLocation(pool, _uniform(pool)),
        "doubtful-representative": lambda pool, _seed: _FacilityLocation(pool, _doubt(pool)),
    }
)


def _scaled(embeddings: Vectors) -> Vectors:
    """Return columns with mean 0 and deviation 1; one that is the same for all says nothing and becomes 0."""
    values = np.asarray(embeddings, dtype=np.float64)
    spread = values.std(axis=0)
    said = spread > 1e-12 * np.maximum(1.0, np.abs(values).max(axis=0, initial=0.0))
    return np.asarray(np.where(said, (values - values.mean(axis=0)) / np.where(said, spread, 1.0), 0.0))


def _distances(points: Vectors, to: Float[np.ndarray, " d"]) -> Values:
    return np.asarray(np.sqrt(((points - to) ** 2).sum(axis=1)))


def _squares(points: Vectors, to: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "n m"]:
    found = (points**2).sum(axis=1)[:, None] + (to**2).sum(axis=1)[None] - 2 * points @ to.T
    return np.asarray(np.maximum(found, 0.0))


def _clusters(points: Vectors, count: int) -> Int64[np.ndarray, " n"]:
    """Return the cluster of each point: k-means, begun from the farthest points one after the other."""
    first = int(_distances(points, points.mean(axis=0)).argmin())
    seeds, far = [first], _distances(points, points[first])
    while len(seeds) < count:
        seeds.append(int(far.argmax()))
        far = np.minimum(far, _distances(points, points[seeds[-1]]))
    centres = points[seeds]
    owner = np.zeros(len(points), dtype=np.int64)
    for _ in range(_ROUNDS):
        now = _squares(points, centres).argmin(axis=1)
        if np.array_equal(now, owner) and _:
            break
        owner = now
        centres = np.stack(
            [points[owner == c].mean(axis=0) if (owner == c).any() else centres[c] for c in range(count)]
        )
    return owner.astype(np.int64)
