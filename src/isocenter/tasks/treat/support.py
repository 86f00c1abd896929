"""Of whom something can be said: people like whom both options were given, and who are like those learnt from.

Three tests, none of which looks at an outcome. Groups in which one option was hardly ever given are looked for: beyond
a limit of one feature (from 20 people on), and by a tree that joins limits of several (from 40 on). A propensity near 0
or 1 says the same of a single person. And a person far from all who got an option is like none of those learnt from.

Source:
    Crump et al., Biometrika 2009 (propensity limits); Oberst et al., AISTATS 2020 (rules for overlap); Stuart et al.,
    JRSS A 2011 (likeness to a trial's people).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from isocenter.core.errors import ConfigError
from isocenter.tasks.treat.cases import Cases, subset
from isocenter.tasks.treat.nuisance import Nuisance, propensity_learner
from isocenter.tasks.treat.packages import needed
from isocenter.tasks.treat.reduce import Reduction

__all__ = ["Refusal", "Support", "fit_support"]

_NEIGHBOURS = 10
_FARTHEST = 0.995
_LEAST_BEYOND, _LEAST_IN_LEAF = 20, 40
_BY_CHANCE = 1e-3
_Z = 1.645


@dataclass(frozen=True)
class Refusal:
    """Why nothing is said of a person.

    Args:
        kind: "group", "propensity", "unlike" or "interval".
        reason: In words.
    """

    kind: str
    reason: str


@dataclass(frozen=True)
class _Rule:
    """A group in which an option was hardly ever given: limits on features, and what was counted."""

    words: str
    people: int
    given: int
    option: str

    @property
    def told(self) -> str:
        return f"of {self.people} people with {self.words}, {self.given or 'none'} got {self.option}"


@dataclass(frozen=True)
class _Beyond:
    """A limit of one feature beyond which nobody got an option."""

    column: int
    above: bool
    limit: float
    rule: _Rule

    def holds(self, features: Float[np.ndarray, "n p"]) -> Bool[np.ndarray, " n"]:
        values = features[:, self.column]
        return np.asarray(values > self.limit if self.above else values <= self.limit)


class Support:
    """Who is like those learnt from, under both options.

    Args:
        least_share: An option given to a smaller share of people like the person is too rare.
        randomised: Whether a coin decided: groups and propensities then say nothing.
    """

    def __init__(self, least_share: float, randomised: bool) -> None:
        self.least_share, self.randomised = least_share, randomised
        self._propensity: Any = None
        self._tree: Any = None
        self._rules: dict[int, _Rule] = {}
        self._beyond: list[_Beyond] = []
        self._trees: list[Any] = []
        self._limits: list[float] = []
        self._reduction = Reduction((), ())

    @property
    def rules(self) -> tuple[str, ...]:
        """Groups of which nothing is said, in words."""
        return tuple(rule.told for rule in (*(b.rule for b in self._beyond), *self._rules.values()))

    def learn(self, cases: Cases, nuisance: Nuisance, units: _Units, seed: int) -> None:
        """Learn from people; see `fit_support`."""
        cases, self._reduction = cases.reduced()
        if not self.randomised:
            name = "line" if nuisance.propensity_learner == "share" else nuisance.propensity_learner
            self._propensity = propensity_learner(name, seed).fit(cases.features, cases.treated)
            self._learn_limits(cases, units)
            inside = np.zeros(len(cases.treated), dtype=bool)
            for beyond in self._beyond:
                inside |= beyond.holds(cases.features)
            self._learn_groups(cases, units, seed, ~inside)
        neighbours = needed("sklearn.neighbors")
        for group in (~cases.treated, cases.treated):
            near = min(_NEIGHBOURS, int(group.sum()) - 1)
            tree = neighbours.NearestNeighbors(n_neighbors=near).fit(cases.features[group])
            # Each stands among those it is compared with: without itself.
            own, _ = tree.kneighbors()
            self._trees.append(tree)
            self._limits.append(float(np.quantile(own.mean(axis=1), _FARTHEST)))

    def _learn_limits(self, cases: Cases, units: _Units) -> None:
        """Find limits beyond which nobody got an option, where so many together would hardly be chance."""
        share, searched = float(cases.treated.mean()), 4 * cases.features.shape[1]
        for option, who, other in (
            (units.treatment, cases.treated, 1 - share), (units.comparator, ~cases.treated, share)
        ):  # fmt: skip
            for column, values in enumerate(cases.features.T):
                for above in (True, False):
                    last = values[who].max() if above else values[who].min()
                    beyond = values > last if above else values < last
                    people = int(beyond.sum())
                    if people < _LEAST_BEYOND or other**people * searched > _BY_CHANCE:
                        continue
                    next_one = values[beyond].min() if above else values[beyond].max()
                    limit = float((last + next_one) / 2)
                    words = units.limit(column, not above, limit)
                    self._beyond.append(_Beyond(column, above, limit, _Rule(words, people, 0, option)))

    def _learn_groups(self, cases: Cases, units: _Units, seed: int, among: Bool[np.ndarray, " n"]) -> None:
        """Find leaves of a tree in which an option was hardly ever given, among those not yet refused."""
        cases, units = subset(cases, among), units.some(among)
        if cases.treated.all() or not cases.treated.any():
            return
        least = max(_LEAST_IN_LEAF, len(cases.treated) // 50)
        tree = needed("sklearn.tree").DecisionTreeClassifier(
            max_leaf_nodes=12, min_samples_leaf=least, criterion="entropy", random_state=seed
        ).fit(cases.features, cases.treated)  # fmt: skip
        leaves = tree.apply(cases.features)
        for leaf in np.unique(leaves):
            inside = leaves == leaf
            people, given = int(inside.sum()), int(cases.treated[inside].sum())
            for option, count in ((units.treatment, given), (units.comparator, people - given)):
                # Where nobody at all got an option nothing can be compared, whatever the chance may have been.
                if count == 0 or _upper(count, people) < self.least_share:
                    self._rules[int(leaf)] = _Rule(_path(tree, int(leaf), units), people, count, option)
        self._tree = tree

    def refusals(
        self, features: Float[np.ndarray, "n p"], propensity: Float[np.ndarray, " n"] | None = None
    ) -> list[Refusal | None]:
        """Say of each person why nothing can be said, or None.

        Args:
            features: Prepared.
            propensity: Of each, where cross-fitted ones are at hand; None asks the model.
        """
        features = self._reduction(features)
        if propensity is None:
            propensity = self._chance(features)
        found: list[Refusal | None] = [None] * len(features)
        leaves = None if self._tree is None else self._tree.apply(features)
        beyond = [b.holds(features) for b in self._beyond]
        far = np.stack(
            [
                tree.kneighbors(features)[0].mean(axis=1) > limit
                for tree, limit in zip(self._trees, self._limits, strict=True)
            ]
        )
        for row in range(len(features)):
            rule = next((b.rule for b, held in zip(self._beyond, beyond, strict=True) if held[row]), None)
            if rule is None and leaves is not None:
                rule = self._rules.get(int(leaves[row]))
            chance = float(propensity[row])
            if rule is not None:
                found[row] = Refusal("group", rule.told)
            elif not self.randomised and not self.least_share <= chance <= 1 - self.least_share:
                share = min(chance, 1 - chance)
                found[row] = Refusal(
                    "propensity", f"of people like this, only {100 * share:.0f} in 100 got one of the options"
                )
            elif far[:, row].any():
                found[row] = Refusal("unlike", "nobody among those learnt from is much like this person")
        return found

    def propensity(self, features: Float[np.ndarray, "n p"]) -> Float[np.ndarray, " n"]:
        """Return the chance of the treatment; 0.5 where a coin decided."""
        return self._chance(self._reduction(features))

    def _chance(self, features: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
        if self._propensity is None:
            return np.full(len(features), 0.5)
        return np.asarray(self._propensity.predict_proba(features)[:, 1])


@dataclass(frozen=True, eq=False)
class _Units:
    """What rules are told in.

    Args:
        names: Of features.
        raw: Features before they were prepared, in the units of the table; None where a column has none.
        features: The same people prepared.
        treatment: Name of the option.
        comparator: Name of the other.
    """

    names: Sequence[str]
    raw: Float[np.ndarray, "n p"]
    features: Float[np.ndarray, "n p"]
    treatment: str
    comparator: str

    def some(self, among: Bool[np.ndarray, " n"]) -> _Units:
        """Return the same of some of the people."""
        return _Units(self.names, self.raw[among], self.features[among], self.treatment, self.comparator)

    def limit(self, column: int, at_most: bool, value: float) -> str:
        """Say a limit of a prepared feature in the table's own numbers: between the two people that it parts."""
        below = self.features[:, column] <= value
        own = self.raw[:, column]
        low, high = own[below].max(), own[~below].min()
        name = self.names[column]
        if set(np.unique(own)) <= {0.0, 1.0}:
            return f"{name}" if not at_most else f"not {name}"
        middle = f"{(low + high) / 2:.4g}"
        return f"{name} {'at most' if at_most else 'above'} {middle}"


def _upper(count: int, people: int) -> float:
    """Return the upper limit (95 %, one-sided) of a share (Wilson)."""
    share, z2 = count / people, _Z**2
    middle = share + z2 / (2 * people)
    half = _Z * np.sqrt(share * (1 - share) / people + z2 / (4 * people**2))
    return float((middle + half) / (1 + z2 / people))


def _path(tree: Any, leaf: int, units: _Units) -> str:
    """Return the limits on the way to a leaf; of several on one side of one feature the tightest."""
    inner = tree.tree_
    parents = {int(inner.children_left[n]): (n, True) for n in range(inner.node_count) if inner.children_left[n] >= 0}
    parents |= {
        int(inner.children_right[n]): (n, False) for n in range(inner.node_count) if inner.children_left[n] >= 0
    }
    limits: dict[tuple[int, bool], float] = {}
    node = leaf
    while node in parents:
        parent, at_most = parents[node]
        # From the leaf upwards: what comes first is the tightest.
        limits.setdefault((int(inner.feature[parent]), at_most), float(inner.threshold[parent]))
        node = int(parent)
    said = [units.limit(column, at_most, value) for (column, at_most), value in sorted(limits.items())]
    return " and ".join(said) or "any features"


def fit_support(
    cases: Cases,
    nuisance: Nuisance,
    *,
    raw: Float[np.ndarray, "n p"],
    names: Sequence[str],
    options: tuple[str, str] = ("the comparator", "the treatment"),
    randomised: bool = False,
    least_share: float = 0.05,
    seed: int = 0,
) -> Support:
    """Learn of whom something can be said.

    Args:
        cases: People.
        nuisance: Of them; names the propensity's learner.
        raw: Their features in the table's units, column for column.
        names: Of the columns.
        options: Names of comparator and treatment.
        randomised: Whether a coin decided.
        least_share: An option given to a smaller share of people like a person is too rare.
        seed: Decides everything random.

    Raises:
        ConfigError: The least share is not between 0 and 0.5.
        CapabilityError: scikit-learn is not installed.
    """
    if not 0 < least_share < 0.5:
        raise ConfigError(f"the least share must lie between 0 and 0.5, got {least_share:g}")
    made = Support(least_share, randomised)
    own, reduction = cases.reduced()
    raw = reduction.in_own_numbers(raw, cases.features)
    made.learn(cases, nuisance, _Units(reduction.names(names), raw, own.features, options[1], options[0]), seed)
    return made


def supported(refusals: Sequence[Refusal | None]) -> Bool[np.ndarray, " n"]:
    """Return of whom something can be said."""
    return np.array([r is None for r in refusals], dtype=bool)
