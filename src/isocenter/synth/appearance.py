"""From anatomy to picture: random contrast, texture and the physics of several modalities.

Nothing here knows what a liver looks like. Intensities, textures and noise are drawn so widely that a real scanner is
one more draw among them; the few families (magnitude noise of MR, speckle of ultrasound, projection of a radiograph,
windowing of CT, hot spots of PET) are those whose statistics differ in kind.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage

from isocenter.synth.anatomy import Camera, Scene
from isocenter.synth.fields import random_field

__all__ = ["Look", "paint", "random_look", "scan"]

Plane = Float[np.ndarray, "h w"]


@dataclass(frozen=True, eq=False)
class Look:
    """How the tissues of a scene look, before noise: what pictures of one kind of scan share.

    Args:
        means: Mean intensity of every label.
        amplitudes: How loud the fine, middle and coarse texture of every label is.
        projected: Whether things add up along a ray, as in a radiograph, instead of covering each other.
        soft_scale: How soft the soft borders are.
    """

    means: Float[np.ndarray, " labels"]
    amplitudes: Float[np.ndarray, "labels 3"]
    projected: bool
    soft_scale: float

    def jittered(self, rng: np.random.Generator, amount: float) -> Look:
        """Return a look of the same kind: every mean moved by noise of this standard deviation."""
        means = self.means + rng.normal(0, amount, len(self.means)).astype(np.float32)
        return replace(self, means=means.astype(np.float32))


def random_look(
    rng: np.random.Generator, scene: Scene, target: frozenset[int], *, least_contrast: float = 0.06
) -> Look:
    """Draw a look.

    Args:
        rng: Where randomness comes from.
        scene: Anatomy.
        target: Labels that will be asked for; their contrast to what they lie in is drawn with care.
        least_contrast: The least of it, as a share of the range.
    """
    means = _tissue_means(rng, scene, target, least_contrast)
    loud = np.exp(rng.uniform(np.log(0.005), np.log(0.1)))
    amplitudes = loud * np.exp(rng.normal(0, 0.6, (len(scene.things) + 1, 3))) * (rng.random(3) < 0.6)
    projected = bool(rng.random() < (0.4 if scene.family == "pair" else 0.12))
    return Look(means, amplitudes.astype(np.float32), projected, float(rng.uniform(0.3, 1.5)))


def _tissue_means(
    rng: np.random.Generator, scene: Scene, target: frozenset[int], least_contrast: float
) -> Float[np.ndarray, " labels"]:
    """Draw the mean intensity of every label; often a few tissues are shared by many things, as in a real body."""
    count = len(scene.things) + 1
    if rng.random() < 0.5:
        palette = rng.uniform(0, 1, int(rng.integers(2, 6)))
        means = palette[rng.integers(0, len(palette), count)] + rng.normal(0, 0.02, count)
    else:
        means = rng.uniform(0, 1, count)
    groups: dict[int, float] = {}
    for label, thing in enumerate(scene.things, start=1):
        if thing.group:
            means[label] = groups.setdefault(thing.group, float(means[label])) + rng.normal(0, 0.015)
    if rng.random() < 0.6:
        label = int(rng.choice(sorted(target)))
        parent = scene.things[label - 1].parent if label else 0
        contrast = np.exp(rng.uniform(np.log(least_contrast), np.log(0.6))) * rng.choice([-1, 1])
        shift = means[parent] + contrast - means[label]
        for each in target:
            means[each] += shift
    if rng.random() < 0.25:
        _add_extremes(rng, means, scene, target)
    return means.astype(np.float32)


def _add_extremes(
    rng: np.random.Generator, means: Float[np.ndarray, " labels"], scene: Scene, target: frozenset[int]
) -> None:
    """Push some things far out, in place: air, bone, metal, bladder in PET; the rest shares a sliver of the range."""
    if rng.random() < 0.6 and 0 not in target:
        means[0] -= rng.uniform(1, 6) * rng.choice([1, -1], p=[0.85, 0.15])
    others = [
        label for label in range(1, len(means)) if label not in target and scene.things[label - 1].kind != "region"
    ]
    if others:
        for label in rng.choice(others, size=int(rng.integers(1, min(4, len(others)) + 1)), replace=False):
            means[label] += rng.uniform(0.7, 5) * rng.choice([1, -1], p=[0.7, 0.3])


def _textures(rng: np.random.Generator, pixels: int) -> Float[np.ndarray, "3 h w"]:
    """Return three noise fields of unit deviation: fine, middle and coarse, at random stretched along one axis."""
    planes = []
    for sigma in (rng.uniform(0.4, 1.0), rng.uniform(1.0, 2.5), rng.uniform(2.5, 6.0)):
        along = sigma * (rng.uniform(1.0, 3.0) if rng.random() < 0.3 else 1.0)
        noise = ndimage.gaussian_filter(
            rng.standard_normal((pixels, pixels)).astype(np.float32), (sigma, along), truncate=3.0, mode="wrap"
        )
        planes.append(noise / (noise.std() + 1e-6))
    return np.stack(planes)


def paint(rng: np.random.Generator, scene: Scene, camera: Camera, look: Look) -> tuple[Plane, Int[np.ndarray, "h w"]]:
    """Paint a scene.

    Args:
        rng: Where the grain of the textures comes from.
        scene: Anatomy.
        camera: Window and pixels.
        look: How its tissues look.

    Returns:
        Intensities, about 0 to 1, and the label of every pixel.
    """
    grid = scene.grid(camera)
    pixel = 2 * camera.half / camera.pixels
    textures = _textures(rng, camera.pixels)
    means, amplitudes = look.means, look.amplitudes
    image = means[0] + np.tensordot(amplitudes[0], textures, 1)
    labels = np.zeros((camera.pixels, camera.pixels), dtype=np.int16)
    for label, thing in enumerate(scene.things, start=1):
        distance = thing.surface(grid)
        width = max(0.35 * pixel, thing.softness * look.soft_scale)
        if not (distance < 4 * width).any():
            continue
        cover = 1 / (1 + np.exp(np.clip(distance / width, -30, 30) * 1.7))
        if look.projected:
            depth = np.sqrt(np.clip(-distance, 0, None) / (np.clip(-distance, 0, None).max() + 0.05))
            thick = cover * (0.7 + 0.3 * depth) if label % 2 else cover * (0.4 + 0.6 * depth)
            image = image + thick * (means[label] - 0.5) + cover * amplitudes[label, 0] * textures[0]
        else:
            own = means[label] + np.tensordot(amplitudes[label], textures, 1)
            image = image + cover * (own - image)
        if not thing.overlay:
            labels[distance < 0] = label
    return image.astype(np.float32), labels


def _field_of_view(rng: np.random.Generator, image: Plane) -> Plane:
    """Black out what lies outside a circle, a sector or a strip, as probes and film do."""
    n = image.shape[0]
    y, x = np.mgrid[0:n, 0:n].astype(np.float32) / n * 2 - 1
    kind = rng.integers(0, 3)
    if kind == 0:
        out = np.hypot(y - rng.normal(0, 0.1), x - rng.normal(0, 0.1)) > rng.uniform(0.8, 1.25)
    elif kind == 1:
        apex, slope = -1 - rng.uniform(0.0, 0.8), rng.uniform(0.5, 1.2)
        out = np.abs(x) > slope * (y - apex)
    else:
        edge = rng.uniform(0.6, 1.0)
        out = (np.abs(x) if rng.random() < 0.5 else np.abs(y)) > edge
    return np.where(out, np.float32(rng.choice([image.min(), image.max()], p=[0.85, 0.15])), image)


def _speckle(rng: np.random.Generator, noise: np.random.Generator, image: Plane) -> Plane:
    """Multiply by speckle whose grains are longer across the beam; add shadows and enhancement behind things."""
    grains = ndimage.gaussian_filter(
        noise.standard_normal((2, *image.shape)).astype(np.float32),
        (0, rng.uniform(0.3, 1.0), rng.uniform(0.5, 2.0)),
        truncate=3.0,
    )
    rayleigh = np.hypot(grains[0], grains[1])
    rayleigh /= rayleigh.mean() + 1e-6
    image = np.clip(image, 0.0, None) * rayleigh ** np.float32(rng.uniform(0.3, 1.0))
    if rng.random() < 0.6:
        image = np.log1p(image * rng.uniform(2, 20))
    if rng.random() < 0.4:
        n = image.shape[0]
        profile = ndimage.gaussian_filter1d(noise.standard_normal(n), rng.uniform(2, 10))
        depth = np.clip(np.arange(n)[:, None] / n - rng.uniform(0, 0.7), 0, None)
        image = image * np.exp(-np.abs(profile / (profile.std() + 1e-6))[None, :] * depth * rng.uniform(0, 2.5))
    if rng.random() < 0.4:
        image = image * np.linspace(1, rng.uniform(0.3, 1.5), image.shape[0], dtype=np.float32)[:, None]
    return image.astype(np.float32)


def _lose_resolution(rng: np.random.Generator, noise: np.random.Generator, image: Plane) -> Plane:
    """Sample coarsely (at random along one axis more than the other) and interpolate back."""
    n = image.shape[0]
    coarse = [max(8, int(n / np.exp(rng.uniform(0, np.log(3.5))))) for _ in range(2)]
    if rng.random() < 0.6:
        coarse[1] = coarse[0]
    smooth = ndimage.gaussian_filter(image, [0.4 * n / c for c in coarse], truncate=3.0)
    noisy = ndimage.zoom(smooth, [c / n for c in coarse], order=1)
    noisy = noisy + noise.standard_normal(noisy.shape).astype(np.float32) * np.float32(rng.uniform(0, 0.06))
    out = ndimage.zoom(noisy, [n / s for s in noisy.shape], order=int(rng.choice([0, 1], p=[0.15, 0.85])))
    whole: Plane = np.asarray(out[:n, :n], dtype=np.float32)
    return whole if whole.shape == (n, n) else image


def scan(rng: np.random.Generator, image: Plane, *, noise: np.random.Generator) -> Plane:
    """Pass a painted picture through a random scanner.

    Args:
        rng: Where the scanner's settings come from: the same state gives the same scanner.
        noise: Where the noise of this one picture comes from.
        image: Intensities, about 0 to 1.

    Returns:
        A picture of the same size in arbitrary units, finite.
    """
    n = image.shape[0]
    rows = np.linspace(-1, 1, n, dtype=np.float32)
    if rng.random() < 0.5:
        cells = int(rng.integers(5, 8))
        image = image * np.exp(random_field(noise, cells, rng.uniform(0.05, 0.3)).evaluate(rows, rows))
    if rng.random() < 0.25:
        image = image + random_field(noise, int(rng.integers(5, 10)), rng.uniform(0.03, 0.2)).evaluate(rows, rows)
    if rng.random() < 0.35:
        image = ndimage.gaussian_filter(image, np.exp(rng.uniform(np.log(0.4), np.log(2.5))), truncate=3.0)
    if rng.random() < 0.25:
        image = _speckle(rng, noise, image)
    level = np.float32(np.exp(rng.uniform(np.log(0.003), np.log(0.1))))
    kind = rng.integers(0, 4)
    white = noise.standard_normal((2, n, n)).astype(np.float32) * level
    if kind == 0:
        image = np.hypot(image + white[0], white[1])
    elif kind == 1:
        grain = ndimage.gaussian_filter(white[0], rng.uniform(0.4, 1.2), truncate=3.0)
        image = image + grain * (level / (grain.std() + 1e-6))
    elif kind == 2:
        image = image + white[0] * np.sqrt(np.clip(image, 0.02, None))
    if rng.random() < 0.4:
        image = _lose_resolution(rng, noise, image)
    low, high = np.percentile(image, [rng.uniform(0, 8), 100 - rng.uniform(0, 8)])
    if rng.random() < 0.5 and high > low:
        image = np.clip(image, low, high)
    span = float(image.max() - image.min())
    image = (image - image.min()) / np.float32(span if span > 0 else 1.0)
    if rng.random() < 0.5:
        image = image ** np.float32(np.exp(rng.normal(0, 0.4)))
    if rng.random() < 0.3:
        image = 1 - image
    if rng.random() < 0.22:
        image = _field_of_view(rng, image)
    return np.asarray(np.nan_to_num(image), dtype=np.float32)
