"""CT and PET of a synthetic patient: a trunk, an organ, and the lesion that the cause describes.

Both are painted from the same shapes on grids of their own, as two scanners would: CT finer, PET coarser and blurred.
Crude on purpose: size, border, necrosis, uptake and side of the lesion can be measured back, the rest is scenery.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float

from isocenter.core import Code, Geometry, Image, Mask, Quantity, Segment
from isocenter.synth.patients.cause import Cause, Stream, stream
from isocenter.synth.patients.words import MARK
from isocenter.synth.volume_grid import Grid, View, gaussian, separable
from isocenter.synth.volume_shapes import Blob, Waves

__all__ = ["CT_SPACING_MM", "PET_SPACING_MM", "PatientImages", "synthesise_images"]

_SIDE_MM = 192.0
CT_SPACING_MM, PET_SPACING_MM = 4.0, 6.0
_CT_HU = {"air": -1000.0, "body": -20.0, "organ": 60.0, "lesion": 45.0, "core": 8.0}
_PET_BODY, _PET_ORGAN, _PET_CORE = 0.6, 1.4, 0.5
_NO_WARP = np.zeros((3, 5, 5, 5), dtype=np.float32)
_MASS = Code("4147007", "SCT", "Mass")
_ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")


@dataclass(frozen=True, eq=False)
class PatientImages:
    """What the scanners saw.

    Args:
        ct: In HU.
        pet: In SUVbw, on its own grid.
        lesion: Where the lesion is, on the grid of the CT.
    """

    ct: Image
    pet: Image
    lesion: Mask


@dataclass(frozen=True, eq=False)
class _Scene:
    body: Blob
    organ: Blob
    lesion: Blob
    core: Blob | None


def _waves(rng: np.random.Generator, irregularity: float) -> Waves:
    count = 6
    directions = rng.standard_normal((count, 3))
    directions *= (rng.uniform(3, 7, count) / np.linalg.norm(directions, axis=1))[:, None]
    return Waves(directions, rng.uniform(0, 2 * np.pi, count), np.full(count, 0.16 * irregularity / np.sqrt(count)))


def _scene(seed: int, cause: Cause) -> _Scene:
    """Return the shapes in millimetres, (z, y, x) about the middle; x grows to the patient's left."""
    rng = stream(seed, cause.number, Stream.ANATOMY)
    flat = Waves(np.zeros((0, 3)), np.zeros(0), np.zeros(0))
    girth = (cause.weight_kg / 75) ** (1 / 3)
    body = Blob(np.zeros(3), np.eye(3), np.array([300.0, 62.0 * girth, 82.0 * girth]), 2.4, flat)
    organ_at = np.array([rng.uniform(-20, 20), rng.uniform(-8, 8), -32.0])
    organ = Blob(organ_at, np.eye(3), np.array([45.0, 30.0, 34.0]) * rng.uniform(0.9, 1.1, 3), 2.0, flat)
    at = np.array([rng.uniform(-25, 25), rng.uniform(-10, 10), (1 if cause.left else -1) * rng.uniform(36, 42)])
    stretch = np.exp(rng.normal(0, 0.12, 3))
    radii = cause.radius_mm * stretch / np.prod(stretch) ** (1 / 3)
    waves = _waves(rng, cause.irregularity)
    lesion = Blob(at, np.eye(3), radii, 2.0, waves)
    core = Blob(at, np.eye(3), radii * cause.necrosis ** (1 / 3), 2.0, waves) if cause.necrosis > 0 else None
    return _Scene(body, organ, lesion, core)


def _inside(shape: Blob | None, points: Float[np.ndarray, "3 n"], voxels: int) -> Bool[np.ndarray, "z y x"]:
    if shape is None:
        return np.zeros((voxels, voxels, voxels), dtype=bool)
    return np.asarray(shape.distance(points) < 0).reshape(voxels, voxels, voxels)


def _paint(
    scene: _Scene, spacing_mm: float, values: tuple[float, float, float, float, float]
) -> tuple[Float[np.ndarray, "z y x"], Bool[np.ndarray, "z y x"]]:
    """Paint air, body, organ, lesion and core on a grid; also return where the lesion is."""
    voxels = round(_SIDE_MM / spacing_mm)
    points = Grid(View(np.zeros(3), _SIDE_MM / 2, np.eye(3), _NO_WARP), voxels).lattice(1).reshape(3, -1)
    image = np.full((voxels, voxels, voxels), values[0], dtype=np.float32)
    lesion = _inside(scene.lesion, points, voxels)
    for shape, value in zip((scene.body, scene.organ, scene.lesion, scene.core), values[1:], strict=True):
        where = lesion if shape is scene.lesion else _inside(shape, points, voxels)
        image[where & lesion if shape is scene.core else where] = value
    return image, lesion


def _image(array: Float[np.ndarray, "z y x"], spacing_mm: float, quantity: Quantity, modality: str) -> Image:
    side = array.shape[0]
    first = -_SIDE_MM / 2 + spacing_mm / 2
    geometry = Geometry.axial((side,) * 3, spacing_mm=(spacing_mm,) * 3, origin_mm=(first,) * 3)
    return Image(
        np.asarray(array, dtype=np.float32)[None], geometry, quantity, modality, body_part="ABDOMEN",
        meta=MappingProxyType({MARK.lower(): True}), notes=("synthetic: of no person",),
    )  # fmt: skip


def synthesise_images(seed: int, cause: Cause) -> PatientImages:
    """Make CT, PET and the lesion's mask.

    Args:
        seed: Of the cohort.
        cause: The patient.

    Returns:
        CT 48 voxels a side of 4 mm, PET 32 of 6 mm, about the same middle.
    """
    scene, noise = _scene(seed, cause), stream(seed, cause.number, Stream.NOISE)
    hu = tuple(_CT_HU.values())
    ct, lesion = _paint(scene, CT_SPACING_MM, (hu[0], hu[1], hu[2], hu[3], hu[4]))
    ct = separable(ct, (gaussian(ct.shape[0], 0.5),) * 3)
    ct = np.clip(ct + noise.normal(0, 12, ct.shape), -1024, 3071)
    pet, _ = _paint(scene, PET_SPACING_MM, (0.0, _PET_BODY, _PET_ORGAN, cause.uptake_suv, _PET_CORE))
    pet = separable(pet, (gaussian(pet.shape[0], 0.55),) * 3)
    pet = np.clip(pet * (1 + noise.normal(0, 0.05, pet.shape)) + noise.normal(0, 0.05, pet.shape), 0, None)
    image = _image(np.round(ct), CT_SPACING_MM, Quantity.HU, "CT")
    segment = Segment(
        1, "Synthetic mass", _ABNORMAL, _MASS, algorithm_type="AUTOMATIC", algorithm_name="isocenter.synth (synthetic)"
    )
    return PatientImages(
        image,
        _image(pet, PET_SPACING_MM, Quantity.SUVBW, "PT"),
        Mask(lesion.astype(np.uint16), image.geometry, (segment,)),
    )
