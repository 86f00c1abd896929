"""Synthetic volumes: patients who share an anatomy and a question, each a pure function of (seed, index, position).

A task is planned once: an anatomy, one wanted structure in it, and a camera placed so that the structure fills a random
share of the cube, whole or cut by its border. Each patient then has sizes, bends, camera, contrast and noise of their
own. Any worker in any order makes the same bytes.

Source:
    Billot et al., SynthSeg, MedIA 2023; Dey et al., anatomix, ICLR 2025; Rakic et al., MultiverSeg, ICCV 2025 (several
    patients of one task).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from isocenter.core.errors import ConfigError
from isocenter.synth.volume_anatomy import Plan, log_uniform, random_plan, turn_of, vary
from isocenter.synth.volume_appearance import Seen, field_of_view, labels_of, look, paint, scan, tissue_means, visible
from isocenter.synth.volume_grid import SPLINE_GAIN, Grid, View

__all__ = ["VolumeSample", "VolumeSettings", "synthesise_volume", "synthesise_volumes", "wanted_labels"]

DOMAIN = 3_141_592  # keeps this stream apart from that of pictures with the same seed and index
SCOUT_VOXELS = 40
SCOUT_HALF = 1.1
PREVIEW_VOXELS = 32
TRIALS = 8  # how often a look is drawn anew while the target cannot be seen in the preview
HIDDEN = 0.1  # share of looks that are kept unseen
LEAST, MOST = 0.0005, 0.6


@dataclass(frozen=True, eq=False)
class VolumeSample:
    """A synthetic volume with its truth.

    Args:
        image: Intensities in arbitrary units, finite.
        labels: What lies where, 0 is background.
        target: What is asked for, between 0.05 % and 60 % of the voxels.
        family: Kind of anatomy.
    """

    image: Float[np.ndarray, "z y x"]
    labels: Int[np.ndarray, "z y x"]
    target: Bool[np.ndarray, "z y x"]
    family: str


@dataclass(frozen=True)
class VolumeSettings:
    """What the volume engine is asked to vary.

    Args:
        variation: How much patients of one task differ: 1 for sizes +-15 % and small turns, 0 for the same anatomy.
        amorphous: How often a target is a tissue without a shape of its own, relative to an organ.
        restyled: How often a patient was scanned otherwise than the others of the task.

    Raises:
        ConfigError: A number is out of range.
    """

    variation: float = 1.0
    amorphous: float = 0.35
    restyled: float = 0.2

    def __post_init__(self) -> None:
        if not (0 <= self.variation <= 2 and 0 <= self.amorphous <= 10 and 0 <= self.restyled <= 1):
            raise ConfigError(f"variation must lie in 0..2, amorphous in 0..10 and restyled in 0..1, got {self}")


@dataclass(frozen=True, eq=False)
class _Look:
    """Tissue means, and the seed of the scanner's style."""

    means: Float[np.ndarray, " labels"]
    style: int


@dataclass(frozen=True, eq=False)
class _Preview:
    """The unvaried anatomy on a small grid, for trying looks on it."""

    grid: Grid
    scene: tuple[Seen, ...]
    labels: Int[np.ndarray, "z y x"]
    target: Bool[np.ndarray, "z y x"]


@dataclass(frozen=True, eq=False)
class _Task:
    """What all patients of a task share."""

    plan: Plan
    wanted: frozenset[int]
    view: View
    pivot: Float[np.ndarray, "3"]  # middle of the wanted structure, scene units
    free: float  # how far the camera may move, scene units
    preview: _Preview
    look: _Look
    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    largest: bool


def wanted_labels(
    rng: np.random.Generator, plan: Plan, labels: Int[np.ndarray, "z y x"], amorphous: float
) -> frozenset[int] | None:
    """Choose the labels that will be asked for; None where nothing can be seen.

    Args:
        rng: Where randomness comes from.
        plan: What there is.
        labels: What is seen where.
        amorphous: How often a tissue without a shape of its own is chosen, relative to an organ.
    """
    sizes = np.bincount(labels.ravel(), minlength=len(plan.things) + 1)
    usable = [i for i in range(1, len(sizes)) if sizes[i] >= 4]
    if not usable:
        return None
    kinds = {"blob": 1.0, "lobe": 0.5, "region": amorphous, "tube": 0.7, "layer": 0.35, "rim": 0.25}
    weights = np.array([kinds[plan.things[i - 1].kind] for i in usable])
    if plan.family in ("pair", "repeated", "trunk"):
        weights *= [3.0 if plan.things[i - 1].group else 1.0 for i in usable]
    if not weights.any():
        return None
    label = int(rng.choice(usable, p=weights / weights.sum()))
    group = plan.things[label - 1].group
    chosen = plan.descendants(label) if rng.random() < 0.7 else {label}
    if group and rng.random() < 0.45:
        for other, thing in enumerate(plan.things, start=1):
            if thing.group == group:
                chosen |= plan.descendants(other)
    elif rng.random() < 0.07:
        near = ndimage.binary_dilation(np.isin(labels, list(chosen)))
        beside = [i for i in np.unique(labels[near]).tolist() if i and i not in chosen]
        if beside:
            chosen |= plan.descendants(int(rng.choice(beside)))
    return frozenset(chosen)


def _warp(rng: np.random.Generator, strength: float) -> Float[np.ndarray, "3 c c c"]:
    cells = int(rng.integers(5, 9))
    amplitude = log_uniform(rng, 0.006, 0.06) * strength * 5 / cells
    return np.asarray(
        rng.standard_normal((3, cells, cells, cells), dtype=np.float32) * np.float32(SPLINE_GAIN * amplitude)
    )


def _camera(rng: np.random.Generator, mask: Bool[np.ndarray, "z y x"]) -> tuple[View, Float[np.ndarray, "3"], float]:
    """Place a camera so that the mask fills a random share of its side.

    Returns:
        The camera, the middle of the mask, and how far the camera may move between patients.
    """
    along = ((np.arange(SCOUT_VOXELS) + 0.5) / SCOUT_VOXELS * 2 - 1) * SCOUT_HALF
    spans = [along[np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))[[0, -1]]] for axis in range(3)]
    low, high = np.array(spans).T
    extent = float((high - low).max()) + SCOUT_HALF / SCOUT_VOXELS
    half = float(np.clip(extent / log_uniform(rng, 0.12, 1.1) / 2, 0.05, 1.15))
    free = max(half - extent / 2, 0.0)
    reach = free * 0.85 if rng.random() < 0.75 else free + 0.35 * extent
    centre = (low + high) / 2 + rng.uniform(-1, 1, 3) * reach
    bound = max(1.15 - half, 0.0)
    view = View(np.clip(centre, -bound, bound), half, turn_of(rng, 0.12), np.zeros((3, 5, 5, 5), dtype=np.float32))
    return (
        view,
        (low + high) / 2,
        min(0.3 * free + 0.02 * half, float(rng.choice([0.08, 0.25, 3.0], p=[0.5, 0.35, 0.15])) * extent),
    )


def _preview(view: View, plan: Plan, wanted: frozenset[int]) -> _Preview:
    grid = Grid(view, PREVIEW_VOXELS)
    scene = look(grid, plan)
    labels = labels_of(scene, PREVIEW_VOXELS)
    return _Preview(grid, scene, labels, np.isin(labels, list(wanted)))


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def _contrast(plan: Plan, wanted: frozenset[int], means: Float[np.ndarray, " labels"]) -> float:
    label = min(wanted)
    return float(abs(means[label] - means[plan.things[label - 1].parent]))


def _random_look(rng: np.random.Generator, plan: Plan, wanted: frozenset[int], preview: _Preview) -> _Look:
    """Draw a look in which the target can mostly be seen, by trying it on the preview."""
    hidden = rng.random() < HIDDEN
    for _ in range(TRIALS):
        chosen = _Look(tissue_means(rng, plan, wanted), int(rng.integers(0, 2**31)))
        if hidden:
            break
        style = _generator(chosen.style)
        image = paint(style, rng, preview.grid, preview.scene, preview.labels, chosen.means)
        if visible(scan(style, rng, image, preview.target, _contrast(plan, wanted, chosen.means)), preview.target):
            break
    return chosen


def _plan_task(rng: np.random.Generator, settings: VolumeSettings) -> _Task | None:
    plan = random_plan(rng)
    scout = View(np.zeros(3), SCOUT_HALF, np.eye(3), np.zeros((3, 5, 5, 5), dtype=np.float32))
    labels = labels_of(look(Grid(scout, SCOUT_VOXELS), plan), SCOUT_VOXELS)
    wanted = wanted_labels(rng, plan, labels, settings.amorphous)
    if wanted is None:
        return None
    mask = np.isin(labels, list(wanted))
    if not mask.any():
        return None
    view, pivot, free = _camera(rng, mask)
    preview = _preview(view, plan, wanted)
    if not 2 * LEAST <= preview.target.mean() <= 0.85 * MOST:
        return None
    axes = rng.permutation(3)
    flips = rng.random(3) < 0.5
    return _Task(
        plan,
        wanted,
        view,
        pivot,
        free,
        preview,
        _random_look(rng, plan, wanted, preview),
        (int(axes[0]), int(axes[1]), int(axes[2])),
        (bool(flips[0]), bool(flips[1]), bool(flips[2])),
        all(plan.things[label - 1].kind == "region" for label in wanted) and rng.random() < 0.7,
    )


def _largest(mask: Bool[np.ndarray, "z y x"]) -> Bool[np.ndarray, "z y x"]:
    pieces, count = ndimage.label(mask)
    return mask if count < 2 else pieces == 1 + int(np.bincount(pieces.ravel())[1:].argmax())


def _patient(
    rng: np.random.Generator, task: _Task, voxels: int, strength: float, settings: VolumeSettings
) -> VolumeSample | None:
    """Make one patient of a task, or None where too little or too much of the target is seen.

    At strength 0 it is never None: the task was planned so that the unvaried anatomy fits.
    """
    turn, zoom = turn_of(rng, 0.14 * strength), float(np.exp(rng.uniform(-0.12, 0.12) * strength))
    drift = rng.uniform(-1, 1, 3) * task.free * strength
    view = View(
        task.pivot + zoom * (turn @ (task.view.centre - task.pivot)) + drift,
        task.view.half * zoom,
        turn @ task.view.turn,
        _warp(rng, min(strength, 1.0)),
    )
    plan = vary(rng, task.plan, strength)
    covered = field_of_view(rng, voxels) if strength else None
    grid = Grid(view, voxels)
    scene = look(grid, plan)
    labels = labels_of(scene, voxels)
    whole = labels
    if covered is not None:
        labels = np.where(covered, labels, np.int16(0))
    chosen = np.zeros(len(plan.things) + 1, dtype=bool)
    chosen[list(task.wanted)] = True
    target = chosen[labels]
    if task.largest and strength:
        target = _largest(target)
    if strength and not LEAST <= target.mean() <= MOST:
        return None
    chosen_look = task.look
    if rng.random() < settings.restyled:
        chosen_look = _random_look(rng, task.plan, task.wanted, task.preview)
    style = _generator(chosen_look.style)
    jitter = rng.normal(0, 0.012, len(chosen_look.means)) * min(strength, 1.0)
    means = np.asarray(chosen_look.means + jitter, dtype=np.float32)
    image = paint(style, rng, grid, scene, whole, means)
    image = scan(style, rng, image, target, _contrast(plan, task.wanted, means))
    if covered is not None:
        image[~covered] = image.min() if rng.random() < 0.9 else image.max()
    turned = tuple(slice(None, None, -1) if flip else slice(None) for flip in task.flips)
    image, labels, target = (np.ascontiguousarray(v.transpose(task.axes)[turned]) for v in (image, labels, target))
    return VolumeSample(image, labels, target, plan.family)


def synthesise_volumes(
    seed: int, index: int, count: int, *, voxels: int = 64, settings: VolumeSettings | None = None
) -> tuple[VolumeSample, ...]:
    """Make several patients of one task: the same anatomy and the same wanted structure, otherwise their own.

    Args:
        seed: Of the whole stream.
        index: Which task of the stream.
        count: How many patients; the first ones stay the same when more are asked for.
        voxels: Along each side of the cube, at least 24.
        settings: What to vary.

    Raises:
        ConfigError: The cube would be too small, no patient is asked for, or seed or index is negative.

    Example:
        >>> two, three = synthesise_volumes(1, 7, 2, voxels=24), synthesise_volumes(1, 7, 3, voxels=24)
        >>> two[1].image.tobytes() == three[1].image.tobytes()
        True
    """
    if voxels < 24 or count < 1 or min(seed, index) < 0:
        raise ConfigError(
            "a volume needs at least 24 voxels a side, one patient and seed, index of 0 or more; "
            f"got {voxels}, {count}, {seed}, {index}"
        )
    settings = settings or VolumeSettings()
    key = [seed, index, DOMAIN]
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([*key, 1])))
    while True:
        task = _plan_task(rng, settings)
        if task is not None:
            break
    patients = []
    for position in range(count):
        own = np.random.Generator(np.random.PCG64(np.random.SeedSequence([*key, 2 + position])))
        shares = (1.0, 1.0, 0.8, 0.6, 0.3, 0.0)
        tries = (_patient(own, task, voxels, settings.variation * share, settings) for share in shares)
        patients.append(next(patient for patient in tries if patient is not None))
    return tuple(patients)


def synthesise_volume(
    seed: int, index: int, *, voxels: int = 64, settings: VolumeSettings | None = None
) -> VolumeSample:
    """Make one volume: the first patient of a task.

    Args:
        seed: Of the whole stream.
        index: Which task of the stream.
        voxels: Along each side of the cube, at least 24.
        settings: What to vary.

    Raises:
        ConfigError: The cube would be too small, or seed or index is negative.

    Example:
        >>> one, same = synthesise_volume(1, 7, voxels=24), synthesise_volume(1, 7, voxels=24)
        >>> one.image.tobytes() == same.image.tobytes(), one.image.shape
        (True, (24, 24, 24))
    """
    return synthesise_volumes(seed, index, 1, voxels=voxels, settings=settings)[0]
