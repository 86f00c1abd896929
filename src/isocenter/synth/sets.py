"""Sets of pictures of one task: the same structure in several patients, to learn from examples instead of clicks.

All members show the same plan of anatomy and ask for the same part of it. Each has its own body (a warp of its own,
every organ a little larger or smaller), its own framing and its own noise; the kind of scan is mostly shared, as it is
in one department, and at times redrawn, as it is between two.

Source:
    Butoi et al., UniverSeg, ICCV 2023 (synthetic tasks for learning in context).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from isocenter.core.errors import ConfigError
from isocenter.synth.anatomy import Camera, Scene, Surface, SynthSettings, random_scene
from isocenter.synth.appearance import Look, paint, random_look, scan
from isocenter.synth.fields import Field, random_field
from isocenter.synth.sample import Choice, Sample, choose, frame, visible

__all__ = ["synthesise_set"]

_DOMAIN = 77
_TRIES = 12


def _rng(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([*key, _DOMAIN])))


def _shifted(surface: Surface, by: float) -> Surface:
    return lambda grid: surface(grid) + np.float32(by)


def _another_body(rng: np.random.Generator, scene: Scene, camera: Camera, unlike: float) -> Scene:
    """Return the scene in another patient.

    Args:
        rng: Where randomness comes from.
        scene: The plan.
        camera: Where it will be looked at.
        unlike: How different patients are, about 0 to 1.
    """
    inner = np.clip(-scene.distances(replace(camera, pixels=24)).min(axis=(1, 2)), 0.005, None)
    change = np.clip(rng.normal(0, 0.25 * unlike, len(inner)), -0.5, 0.5) * inner
    things = [
        replace(t, surface=_shifted(t.surface, float(c))) if abs(c) > 1e-4 else t
        for t, c in zip(scene.things, change, strict=True)
    ]
    warp = []
    for field in scene.warp:
        cells = field.coefficients.shape[0]
        # The warp is drawn as strong as the window is wide: near things bend as much as far ones.
        own = random_field(rng, cells, 0.12 * unlike * camera.half * rng.uniform(0.2, 1.0))
        slow = random_field(rng, 5, 0.1 * unlike * camera.half * rng.uniform(0.0, 1.0))
        axis = np.linspace(-1.6, 1.6, cells, dtype=np.float32)
        warp.append(Field(field.coefficients + own.coefficients + slow.evaluate(axis, axis)))
    return replace(scene, things=tuple(things), warp=(warp[0], warp[1]))


def _member(
    key: tuple[int, ...], plan: tuple[Scene, Choice, Camera, Look], scanner: int, settings: SynthSettings, alike: float
) -> Sample | None:
    scene, choice, camera, look = plan
    rng = _rng(*key)
    unlike = 1.2 * (1 - alike)
    body = _another_body(rng, scene, camera, unlike)
    moved = replace(
        camera,
        row=camera.row + float(rng.normal(0, 0.12 * unlike)) * camera.half,
        column=camera.column + float(rng.normal(0, 0.12 * unlike)) * camera.half,
        half=float(np.clip(camera.half * np.exp(rng.normal(0, 0.12 * unlike)), 0.05, 1.1)),
    )
    if rng.random() < 0.15:
        look = random_look(rng, scene, choice.labels, least_contrast=settings.least_contrast)
    else:
        look = look.jittered(rng, 0.04)
    painted, labels = paint(rng, body, moved, look)
    target = visible(labels, choice, moved)
    if not max(8, 0.0008 * target.size) <= target.sum() <= 0.85 * target.size:
        return None
    settings_of_scanner = rng if rng.random() < 0.15 else _rng(scanner)
    image = scan(settings_of_scanner, painted, noise=rng)
    return Sample(image[None], labels[None], target[None], scene.family)


def synthesise_set(
    seed: int, index: int, count: int, *, pixels: int = 96, settings: SynthSettings | None = None
) -> tuple[Sample, ...]:
    """Make pictures of the same structure in several patients.

    Args:
        seed: Of the whole stream.
        index: Which set of the stream.
        count: How many pictures.
        pixels: Side of each, at least 16.
        settings: What to vary.

    Returns:
        Exactly `count` samples, none of them special; pure in (seed, index), whatever the count.

    Raises:
        ConfigError: A number is out of range.

    Example:
        >>> two, three = synthesise_set(1, 2, 2, pixels=32), synthesise_set(1, 2, 3, pixels=32)
        >>> two[1].image.tobytes() == three[1].image.tobytes()
        True
    """
    if pixels < 16 or min(seed, index) < 0 or count < 1:
        raise ConfigError(f"a set needs 16 pixels, a member, seed and index of 0 or more; got {pixels}, {count}")
    settings = settings or SynthSettings()
    rng = _rng(seed, index)
    attempt = 0
    while True:
        attempt += 1
        scene = random_scene(rng, settings)
        choice = choose(rng, scene, settings.amorphous)
        if choice is None:
            continue
        camera = frame(rng, choice, pixels)
        look = random_look(rng, scene, choice.labels, least_contrast=settings.least_contrast)
        scanner, alike = int(rng.integers(2**31)), float(rng.uniform(0.0, 0.9))
        turn, flip = int(rng.integers(0, 4)) if rng.random() < 0.5 else 0, bool(rng.random() < 0.5)
        members: list[Sample] = []
        for number in range(count):
            tries = (
                _member((seed, index, attempt, number, again), (scene, choice, camera, look), scanner, settings, alike)
                for again in range(_TRIES)
            )
            found = next((one for one in tries if one is not None), None)
            if found is None:
                break
            members.append(_turned(found, turn, flip=flip))
        if len(members) == count:
            return tuple(members)


def _turned(sample: Sample, turn: int, *, flip: bool) -> Sample:
    planes = [
        np.ascontiguousarray(np.rot90(p[:, :, ::-1] if flip else p, turn, axes=(1, 2)))
        for p in (sample.image, sample.labels, sample.target)
    ]
    return replace(sample, image=planes[0], labels=planes[1], target=planes[2])
