"""Measure any promptable segmenter: Dice and NSD after each act of a simulated user, or of a person's scribbles.

One interface for planes and volumes: a plane is a volume of one slice. A segmenter is given an image once (`begin`,
where it may encode) and then acts, one after the other; after each it returns the probability of every voxel. The
harness owns the clock, the user, the metrics and the checks, so that ours, a peer and a baseline meet the same terms.

NSD is taken at a tolerance in mm where the case's spacing is known and in voxels where it is not; each result says
which. Axes of length one are left out of it, so that a plane's border is its outline.

Source:
    Sofiiuk et al., ICIP 2022 (number of clicks to an agreement); Wong et al., ECCV 2024 (scribbles).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Shaped

from isocenter.core.errors import ConfigError, DataError, GeometryError, ModelError, PixelError, UnitsError
from isocenter.evaluate.bootstrap import LEAST_PATIENTS, bootstrap_mean
from isocenter.evaluate.clicks import SHOWN, clicks_to_dice
from isocenter.evaluate.interactive_user import Act, User, strokes
from isocenter.evaluate.overlap import dice, surface_distances

__all__ = [
    "Act",
    "Case",
    "Difference",
    "Estimate",
    "Interaction",
    "InteractiveSummary",
    "Row",
    "Segmenter",
    "SessionResult",
    "Tolerance",
    "User",
    "run_scribbles",
    "run_session",
    "summarise",
]

GOAL = 0.9
"""The Dice that `clicks_to_goal` counts to."""


@runtime_checkable
class Interaction(Protocol):
    """One image, and what was said about it so far."""

    def act(self, act: Act) -> Float[np.ndarray, "z y x"]:
        """Return the probability of every voxel after this act and all before it."""
        ...


@runtime_checkable
class Segmenter(Protocol):
    """A model, or a method, that answers acts."""

    @property
    def name(self) -> str:
        """Name for tables; two segmenters of one summary have different ones."""
        ...

    def begin(self, image: Float[np.ndarray, "z y x"], spacing_mm: tuple[float, float, float] | None) -> Interaction:
        """Take an image.

        Args:
            image: Intensities as they are stored; not scaled. One slice for a plane.
            spacing_mm: Distance between voxel centres along (z, y, x), or None where it is not known.
        """
        ...


@dataclass(frozen=True, eq=False)
class Case:
    """One image and the thing to be found in it.

    Args:
        name: Names the case; unique within its group.
        group: The data set, or the structure in it, that a table's row tells of.
        modality: As in DICOM: "CT", "MR", "US".
        patient: A pseudonym; images of one patient share it.
        image: Intensities (z, y, x), float, finite; one slice for a plane.
        target: What is to be found; not empty.
        spacing_mm: Distance between voxel centres along (z, y, x), or None where it is not known.

    Raises:
        GeometryError: Not three axes, or two grids.
        PixelError: An intensity that is not finite, or a target that is not bool.
        DataError: The target is empty: there is nothing to point at.
        UnitsError: The spacing is not three positive distances.
    """

    name: str
    group: str
    modality: str
    patient: str
    image: Shaped[np.ndarray, "..."]
    target: Shaped[np.ndarray, "..."]
    spacing_mm: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape != self.target.shape:
            raise GeometryError(
                f"image {self.image.shape} and target {self.target.shape} must share one grid (z, y, x); give a plane "
                "as one slice",
                source=self.name,
            )
        if self.target.dtype != np.bool_ or not np.issubdtype(self.image.dtype, np.floating):
            raise PixelError(
                f"the image must be float and the target bool, got {self.image.dtype} and {self.target.dtype}",
                source=self.name,
            )
        if not np.isfinite(self.image).all():
            raise PixelError(
                "the image holds voxels that are not finite; replace them before measuring", source=self.name
            )
        if not self.target.any():
            raise DataError("the target is empty: there is nothing to point at; leave the case out", source=self.name)
        spacing = self.spacing_mm
        if spacing is not None and (len(spacing) != 3 or not all(np.isfinite(s) and s > 0 for s in spacing)):
            raise UnitsError(f"spacing_mm must give 3 positive distances, got {spacing}", source=self.name)


@dataclass(frozen=True)
class Tolerance:
    """How far borders may lie apart and still agree.

    Args:
        mm: Where the spacing is known.
        voxels: Where it is not.
    """

    mm: float = 2.0
    voxels: float = 2.0

    def __post_init__(self) -> None:
        if not all(np.isfinite(v) and v >= 0 for v in (self.mm, self.voxels)):
            raise UnitsError(f"a tolerance must be zero or more, got {self.mm} mm and {self.voxels} voxels")


@dataclass(frozen=True, eq=False)
class SessionResult:
    """What happened on one case.

    Args:
        segmenter: Its name.
        user: Name of the rule, or of the person.
        case: Its name; group, modality, patient and shape are the case's too.
        dice: After each interaction; where the user had nothing more to say, the last value goes on to the budget.
        nsd: Likewise.
        tolerance: Of the NSD.
        tolerance_unit: "mm", or "voxels" where the spacing is not known.
        begin_seconds: Taking the image.
        act_seconds: Each interaction that was made; may be fewer than the budget.
        acts: What the user did, in order.
    """

    segmenter: str
    user: str
    case: str
    group: str
    modality: str
    patient: str
    shape: tuple[int, int, int]
    dice: tuple[float, ...]
    nsd: tuple[float, ...]
    tolerance: float
    tolerance_unit: Literal["mm", "voxels"]
    begin_seconds: float
    act_seconds: tuple[float, ...]
    acts: tuple[Act, ...]

    def clicks_to(self, goal: float = GOAL) -> int | None:
        """Return after how many interactions the Dice first reached the goal, or None: not within the budget."""
        return clicks_to_dice(self.dice, goal)


def _checked(name: str, said: object, shape: tuple[int, ...]) -> Float[np.ndarray, "z y x"]:
    """Refuse an answer that is no probability of every voxel."""
    if not isinstance(said, np.ndarray) or not np.issubdtype(said.dtype, np.floating):
        kind = said.dtype if isinstance(said, np.ndarray) else type(said).__name__
        raise ModelError(f"segmenter {name!r} must return a float array of probabilities, not {kind}")
    if said.shape != shape:
        raise ModelError(f"segmenter {name!r} answered on a grid of {said.shape} for an image of {shape}")
    if not np.isfinite(said).all():
        raise ModelError(f"segmenter {name!r} returned values that are not finite")
    if said.size and (said.min() < 0 or said.max() > 1):
        raise ModelError(f"segmenter {name!r} returned values outside 0..1; probabilities are needed, not logits")
    return said


class _Measure:
    """Dice and NSD against one case's target."""

    def __init__(self, case: Case, tolerance: Tolerance) -> None:
        self.case = case
        self.unit: Literal["mm", "voxels"] = "voxels" if case.spacing_mm is None else "mm"
        self.tolerance = tolerance.voxels if case.spacing_mm is None else tolerance.mm
        kept = [axis for axis in range(3) if case.image.shape[axis] > 1] or [2]
        self._flat = tuple(slice(None) if axis in kept else 0 for axis in range(3))
        self._spacing = tuple((case.spacing_mm or (1.0, 1.0, 1.0))[axis] for axis in kept)

    def __call__(self, answer: Bool[np.ndarray, "z y x"]) -> tuple[float, float]:
        a, b = self.case.target[self._flat], answer[self._flat]
        nsd = surface_distances(a, b, spacing_mm=self._spacing).nsd(self.tolerance)
        return dice(self.case.target, answer), nsd


def _run(
    segmenter: Segmenter,
    case: Case,
    who: str,
    budget: int,
    tolerance: Tolerance,
    say: Callable[[Bool[np.ndarray, "z y x"], int], Sequence[Act]],
) -> SessionResult:
    """Let someone speak up to `budget` times, each time one act or several, and measure after each time."""
    if budget < 1:
        raise ConfigError(f"a session needs at least one interaction, got {budget}")
    measure = _Measure(case, tolerance)
    start = time.perf_counter()
    interaction = segmenter.begin(case.image, case.spacing_mm)
    begin_seconds = time.perf_counter() - start
    answer = np.zeros(case.target.shape, dtype=bool)
    scores, seconds = [measure(answer)], []
    made: list[Act] = []
    for number in range(budget):
        acts = say(answer, number)
        if not acts:
            break
        start = time.perf_counter()
        for act in acts:
            said = interaction.act(act)
        seconds.append(time.perf_counter() - start)
        answer = _checked(segmenter.name, said, case.target.shape) >= 0.5
        made += acts
        scores.append(measure(answer))
    scores += [scores[-1]] * (budget + 1 - len(scores))
    return SessionResult(
        segmenter=segmenter.name,
        user=who,
        case=case.name,
        group=case.group,
        modality=case.modality,
        patient=case.patient,
        shape=case.target.shape,
        dice=tuple(s[0] for s in scores[1:]),
        nsd=tuple(s[1] for s in scores[1:]),
        tolerance=measure.tolerance,
        tolerance_unit=measure.unit,
        begin_seconds=begin_seconds,
        act_seconds=tuple(seconds),
        acts=tuple(made),
    )


def run_session(
    segmenter: Segmenter, case: Case, user: User, acts: int = 10, *, tolerance: Tolerance | None = None
) -> SessionResult:
    """Let a simulated user work on a case, and measure after each act.

    Args:
        segmenter: What is measured.
        case: The image and its target.
        user: Who points.
        acts: The budget; the user may be content before.
        tolerance: Of the NSD; 2 mm, or 2 voxels where the spacing is not known, when left out.

    Raises:
        ModelError: The segmenter returned another shape, values that are not finite, or values outside 0..1.
        ConfigError: A budget below one.
    """

    def say(answer: Bool[np.ndarray, "z y x"], number: int) -> list[Act]:
        act = user.act(case.target, answer, number)
        return [] if act is None else [act]

    return _run(segmenter, case, user.name, acts, tolerance or Tolerance(), say)


def run_scribbles(
    segmenter: Segmenter,
    case: Case,
    scribbles: Sequence[tuple[Bool[np.ndarray, "..."], Bool[np.ndarray, "..."]]],
    *,
    person: str = "human scribbles",
    tolerance: Tolerance | None = None,
) -> SessionResult:
    """Answer what one person drew: each set of scribbles is one interaction, whatever the answer to the one before.

    A mask is turned into centre lines, one for each connected piece of each slice, positive ones first; the answer
    that counts is the one after the set's last stroke, and its seconds are those of the whole set.

    Args:
        segmenter: What is measured.
        case: The image and its target.
        scribbles: Sets in the order drawn: masks (positive, negative) on the case's grid; one of the two may be empty.
        person: Who drew, for tables.
        tolerance: Of the NSD; 2 mm, or 2 voxels where the spacing is not known, when left out.

    Raises:
        GeometryError: A mask lies on another grid.
        DataError: No sets, or an empty one.
        ModelError: As in `run_session`.
    """
    rounds = []
    for number, pair in enumerate(scribbles):
        for drawn in pair:
            if drawn.shape != case.target.shape:
                raise GeometryError(
                    f"scribble set {number} is drawn on {drawn.shape}, the image is {case.target.shape}",
                    source=case.name,
                )
        rounds.append([*strokes(pair[0], positive=True), *strokes(pair[1], positive=False)])
    if not rounds or not all(rounds):
        raise DataError("every set of scribbles needs a stroke; leave empty ones out", source=case.name)
    return _run(segmenter, case, person, len(rounds), tolerance or Tolerance(), lambda _, number: rounds[number])


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval over patients.

    Args:
        value: The mean over images.
        low: Lower end; None where patients are too few for an interval.
        high: Upper end, likewise.
    """

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        """Write the mean, and the interval in brackets where there is one."""
        return f"{self.value:.3f}" + ("" if self.low is None else f" ({self.low:.3f} to {self.high:.3f})")


@dataclass(frozen=True)
class Row:
    """What one segmenter did for one user on one set of cases.

    Args:
        scope: "group", "modality", "all" (every image counts the same) or "mean of groups" (every group does; it has
            no intervals, for a resample of patients would change the groups).
        label: Name of the group or modality; empty for the other scopes.
        cases: Number of images; patients likewise.
        tolerance: Of the NSD, with its unit; two where spacings are known for some cases only.
        budget: Most interactions; the smallest where sessions differ.
        dice: After 1, 2, 3, 5, 10 interactions, as far as the budget goes.
        nsd: Likewise.
        clicks_to_goal: Mean number of interactions to a Dice of 0.9; a session that never reaches it counts its budget.
        never: Share of sessions that never reach it.
        begin_seconds: p50 and p95.
        act_seconds: p50 and p95; None where nobody ever had to act.
    """

    segmenter: str
    user: str
    scope: Literal["group", "modality", "all", "mean of groups"]
    label: str
    cases: int
    patients: int
    tolerance: tuple[str, ...]
    budget: int
    dice: dict[int, Estimate]
    nsd: dict[int, Estimate]
    clicks_to_goal: float
    never: float
    begin_seconds: tuple[float, float]
    act_seconds: tuple[float, float] | None


@dataclass(frozen=True)
class Difference:
    """One segmenter minus another on the same cases with the same user; fields as in `Row`, but of differences.

    The segmenter minus `against`: a positive difference says that the segmenter is better.
    """

    segmenter: str
    against: str
    user: str
    scope: Literal["group", "modality", "all"]
    label: str
    cases: int
    patients: int
    dice: dict[int, Estimate]
    nsd: dict[int, Estimate]


@dataclass(frozen=True)
class InteractiveSummary:
    """All sessions in rows, and paired differences.

    Args:
        rows: By segmenter and user: each group, each modality, all, mean of groups.
        differences: Empty unless two segmenters were to be compared.
    """

    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]

    def to_json(self) -> str:
        """Return everything as one JSON object."""
        return json.dumps(
            {
                "goal": GOAL,
                "level": 0.95,
                "rows": [asdict(row) for row in self.rows],
                "differences": [asdict(one) for one in self.differences],
            },
            indent=1,
        )

    def to_markdown(self) -> str:
        """Return tables: Dice, NSD, effort and seconds, and the differences."""
        return "\n".join([*_agreement(self.rows), *_effort(self.rows), *_paired(self.differences)]).rstrip("\n") + "\n"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    drawn = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in (head, *lines)]
    return [drawn[0], "|" + " - |" * len(head), *drawn[1:], ""]


def _after(rows: Sequence[Row] | Sequence[Difference]) -> list[int]:
    return sorted({k for row in rows for k in row.dice})


def _agreement(rows: Sequence[Row]) -> list[str]:
    lines = [
        f"Mean; in brackets the 95 % interval over patients (BCa bootstrap), where there are {LEAST_PATIENTS} or more.",
        "",
    ]
    for title, metric in (("Dice", "dice"), ("NSD", "nsd")):
        after = _after(rows)
        found = []
        for row in rows:
            values: dict[int, Estimate] = getattr(row, metric)
            within = [", ".join(row.tolerance)] if metric == "nsd" else []
            cells = [str(values[k]) if k in values else "" for k in after]
            label = row.label or row.scope
            found.append([row.segmenter, row.user, label, str(row.cases), str(row.patients), *within, *cells])
        unit = ["tolerance"] if metric == "nsd" else []
        head = ["segmenter", "user", "target", "images", "patients", *unit, *[f"{title} after {k}" for k in after]]
        lines += _table(head, found)
    return lines


def _effort(rows: Sequence[Row]) -> list[str]:
    found = []
    for row in rows:
        acts = ["", ""] if row.act_seconds is None else [f"{s:.3f}" for s in row.act_seconds]
        begin = [f"{s:.3f}" for s in row.begin_seconds]
        count = f"{row.clicks_to_goal:.1f} of {row.budget}"
        found.append([row.segmenter, row.user, row.label or row.scope, count, f"{row.never:.0%}", *begin, *acts])
    seconds = [f"{what}, s, {p}" for what in ("begin", "interaction") for p in ("p50", "p95")]
    head = ["segmenter", "user", "target", f"interactions to Dice {GOAL:g}", "never", *seconds]
    return _table(head, found)


def _paired(differences: Sequence[Difference]) -> list[str]:
    after = _after(differences)
    found = [
        [f"{d.segmenter} minus {d.against}", d.user, d.label or d.scope, str(d.cases), str(d.patients), title]
        + [str(values[k]) if k in values else "" for k in after]
        for d in differences
        for title, values in (("Dice", d.dice), ("NSD", d.nsd))
    ]
    head = ["difference", "user", "target", "images", "patients", "metric", *[f"after {k}" for k in after]]
    return _table(head, found) if found else []


def _estimate(values: Sequence[float], patients: Sequence[str]) -> Estimate:
    if len(set(patients)) < LEAST_PATIENTS:
        return Estimate(float(np.mean(values)))
    found = bootstrap_mean(values, patients)
    return Estimate(found.value, found.low, found.high)


def _p50_p95(seconds: Sequence[float]) -> tuple[float, float]:
    return float(np.percentile(seconds, 50)), float(np.percentile(seconds, 95))


_Scope = Literal["group", "modality", "all"]


def _scopes(results: Sequence[SessionResult]) -> list[tuple[_Scope, str, list[SessionResult]]]:
    """Return the sets of sessions that a row each tells of, in order."""
    found: list[tuple[_Scope, str, list[SessionResult]]] = [
        ("group", g, [r for r in results if r.group == g]) for g in sorted({r.group for r in results})
    ]
    found += [("modality", m, [r for r in results if r.modality == m]) for m in sorted({r.modality for r in results})]
    return [*found, ("all", "", list(results))]


def _row(scope: _Scope, label: str, members: Sequence[SessionResult]) -> Row:
    patients = [m.patient for m in members]
    budget = min(len(m.dice) for m in members)
    after = [k for k in SHOWN if k <= budget]
    reached = [m.clicks_to() for m in members]
    acts = [s for m in members for s in m.act_seconds]
    return Row(
        segmenter=members[0].segmenter,
        user=members[0].user,
        scope=scope,
        label=label,
        cases=len(members),
        patients=len(set(patients)),
        tolerance=tuple(sorted({f"{m.tolerance:g} {m.tolerance_unit}" for m in members})),
        budget=budget,
        dice={k: _estimate([m.dice[k - 1] for m in members], patients) for k in after},
        nsd={k: _estimate([m.nsd[k - 1] for m in members], patients) for k in after},
        clicks_to_goal=float(np.mean([len(m.dice) if r is None else r for r, m in zip(reached, members, strict=True)])),
        never=sum(r is None for r in reached) / len(members),
        begin_seconds=_p50_p95([m.begin_seconds for m in members]),
        act_seconds=_p50_p95(acts) if acts else None,
    )


def _mean_of_groups(groups: Sequence[Row], everything: Row) -> Row:
    """Return the row in which every group counts the same; seconds are those of all sessions."""

    def mean(metric: str) -> dict[int, Estimate]:
        return {k: Estimate(float(np.mean([getattr(g, metric)[k].value for g in groups]))) for k in everything.dice}

    return replace(
        everything,
        scope="mean of groups",
        dice=mean("dice"),
        nsd=mean("nsd"),
        clicks_to_goal=float(np.mean([g.clicks_to_goal for g in groups])),
        never=float(np.mean([g.never for g in groups])),
    )


def _difference(
    scope: _Scope, label: str, members: Sequence[SessionResult], others: dict[tuple[str, str], SessionResult]
) -> Difference:
    pairs = [(m, others[m.group, m.case]) for m in members]
    patients = [m.patient for m in members]
    after = [k for k in SHOWN if k <= min(min(len(a.dice), len(b.dice)) for a, b in pairs)]
    return Difference(
        segmenter=members[0].segmenter,
        against=pairs[0][1].segmenter,
        user=members[0].user,
        scope=scope,
        label=label,
        cases=len(pairs),
        patients=len(set(patients)),
        dice={k: _estimate([a.dice[k - 1] - b.dice[k - 1] for a, b in pairs], patients) for k in after},
        nsd={k: _estimate([a.nsd[k - 1] - b.nsd[k - 1] for a, b in pairs], patients) for k in after},
    )


def summarise(results: Sequence[SessionResult], *, compare: tuple[str, str] | None = None) -> InteractiveSummary:
    """Bring sessions together: by segmenter and user, for each group, each modality, all, and the mean of groups.

    Args:
        results: Sessions of any number of segmenters and users.
        compare: Names of two segmenters; the first minus the second, paired by case, is told for every user that
            both met, on the cases that both answered.

    Raises:
        DataError: No sessions.
        ConfigError: Two sessions of one segmenter and user on one case, or nothing to compare.
    """
    if not results:
        raise DataError("there are no sessions to summarise")
    runs: dict[tuple[str, str], dict[tuple[str, str], SessionResult]] = {}
    for result in results:
        held = runs.setdefault((result.segmenter, result.user), {})
        if (result.group, result.case) in held:
            raise ConfigError(
                f"two sessions of {result.segmenter!r} with {result.user!r} on case {result.case!r} of "
                f"{result.group!r}; a case's name must be unique within its group"
            )
        held[result.group, result.case] = result
    rows: list[Row] = []
    for held in runs.values():
        found = [_row(*scope) for scope in _scopes(list(held.values()))]
        rows += [*found, _mean_of_groups([r for r in found if r.scope == "group"], found[-1])]
    differences: list[Difference] = []
    if compare is not None:
        for user in sorted({u for _, u in runs}):
            mine, other = runs.get((compare[0], user), {}), runs.get((compare[1], user), {})
            shared = [r for key, r in mine.items() if key in other]
            differences += [_difference(*scope, other) for scope in _scopes(shared)] if shared else []
        if not differences:
            raise ConfigError(f"{compare[0]!r} and {compare[1]!r} answered no case in common with the same user")
    return InteractiveSummary(tuple(rows), tuple(differences))
