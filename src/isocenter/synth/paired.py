"""Synthetic patients with a frontal chest film and its report, both from one seed.

A patient is an anatomy, a set of findings and the noise of one exposure, each with a random stream of its own: the same
patient with other findings (`synthesise_pair(..., findings=())`) differs by those findings alone. The report is
written from the findings that were painted, never from the picture, by `paired_text`.

**Sides.** The film is seen as a radiologist hangs it: facing the patient, so the patient's left is at the right edge of
the image. Columns grow to the patient's left, as x does in DICOM's LPS.

Everything here is invented and crude; it teaches and tests how words bind to places, not what disease looks like.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from isocenter.core import Report
from isocenter.core.errors import ConfigError
from isocenter.synth.paired_text import KINDS, SIDES, PairedFinding, Sentence, write_sentences

__all__ = ["PairedSample", "synthesise_pair"]

_DOMAIN = 1_618_033  # keeps this stream apart from the others with the same seed and index
_ANATOMY, _FINDINGS, _LOOKS, _EXPOSURE, _TEXT = range(5)
_SIGN = MappingProxyType({"left": 1.0, "right": -1.0})
"""Where a side of the patient lies along the columns of the film: the left at its right."""

_CHANCE = MappingProxyType({"effusion": 0.4, "opacity": 0.35, "consolidation": 0.3, "cardiomegaly": 0.4, "device": 0.3})

Plane = Float[np.ndarray, "h w"]


@dataclass(frozen=True, eq=False)
class PairedSample:
    """One synthetic patient.

    Args:
        image: The film (channel, row, column), 0 black to 1 white; columns grow to the patient's left.
        findings: What was painted.
        sentences: The report, sentence by sentence, each with what it claims.
    """

    image: Float[np.ndarray, "1 h w"]
    findings: tuple[PairedFinding, ...]
    sentences: tuple[Sentence, ...]

    @property
    def report(self) -> Report:
        """The report."""
        return Report(MappingProxyType({"findings": " ".join(s.text for s in self.sentences)}))


@dataclass(frozen=True)
class _Anatomy:
    """Numbers of one chest, in halves of the film: u grows to the patient's left, v to the feet."""

    lung_u: float
    lung_half: tuple[float, float]
    lung_v: float
    heart: tuple[float, float, float, float]  # middle u, v; half width and height
    dome: tuple[float, float]  # height of the diaphragm at the patient's left and right
    ribs: float
    tilt: float
    shift: tuple[float, float]
    scale: float


def _rng(seed: int, index: int, *key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index, _DOMAIN, *key])))


def _draw_anatomy(rng: np.random.Generator) -> _Anatomy:
    def near(value: float, spread: float) -> float:
        return float(value * (1 + spread * rng.uniform(-1, 1)))

    left = near(0.5, 0.08)
    return _Anatomy(
        lung_u=near(0.42, 0.05),
        lung_half=(near(0.31, 0.06), near(0.66, 0.06)),
        lung_v=float(rng.uniform(-0.1, -0.02)),
        heart=(near(0.1, 0.2), near(0.34, 0.08), near(0.27, 0.06), near(0.27, 0.08)),
        dome=(left, left - float(rng.uniform(0.03, 0.09))),
        ribs=float(rng.uniform(0.02, 0.07)),
        tilt=float(rng.normal(0, 0.03)),
        shift=(float(rng.uniform(-0.05, 0.05)), float(rng.uniform(-0.05, 0.05))),
        scale=float(rng.uniform(0.95, 1.08)),
    )


def _draw_findings(rng: np.random.Generator) -> tuple[PairedFinding, ...]:
    """Draw findings independently; an effusion may be on both sides, then of one size."""
    found = []
    for kind in KINDS:
        present, both, side = rng.random() < _CHANCE[kind], rng.random() < 0.2, SIDES[int(rng.integers(2))]
        zone, size = ("upper", "lower")[int(rng.integers(2))], ("small", "large")[int(rng.integers(2))]
        if not present:
            continue
        if kind == "cardiomegaly":
            found.append(PairedFinding(kind))
        elif kind == "device":
            found.append(PairedFinding(kind, side))
        elif kind == "effusion":
            found += [PairedFinding(kind, s, size=size) for s in (SIDES if both else (side,))]
        elif kind == "consolidation":
            found.append(PairedFinding(kind, side, zone))
        else:
            found.append(PairedFinding(kind, side, zone, size))
    return tuple(found)


def _soft(distance: Plane, width: float) -> Plane:
    """Return 1 inside (negative distances), 0 outside, with a border of some width."""
    shade: Plane = (0.5 - 0.5 * np.tanh(distance / width)).astype(np.float32)
    return shade


def _ellipse(u: Plane, v: Plane, middle: tuple[float, float], half: tuple[float, float]) -> Plane:
    """Return the distance to an ellipse, roughly, negative inside."""
    reach: Plane = np.hypot((u - middle[0]) / half[0], (v - middle[1]) / half[1]).astype(np.float32)
    return (reach - 1) * min(half)


def _lungs(u: Plane, v: Plane, body: _Anatomy) -> dict[str, Plane]:
    """Return how much of each pixel is lung, at either side."""
    lungs: dict[str, Plane] = {}
    for side, dome in zip(SIDES, body.dome, strict=True):
        sign = _SIGN[side]
        inside = _soft(_ellipse(u, v, (sign * body.lung_u, body.lung_v), body.lung_half), 0.03)
        floor = dome + 0.35 * (np.abs(u) - body.lung_u) ** 2
        lungs[side] = inside * _soft((v - floor).astype(np.float32), 0.03)
    return lungs


def _effusion(u: Plane, v: Plane, finding: PairedFinding, body: _Anatomy, rng: np.random.Generator) -> Plane:
    """Fluid over the diaphragm, higher along the chest wall."""
    depth = rng.uniform(0.16, 0.22) if finding.size == "small" else rng.uniform(0.42, 0.55)
    dome, sign = body.dome[SIDES.index(finding.side)], _SIGN[finding.side]
    outward = np.clip((sign * u - body.lung_u) / body.lung_half[0], -1, 1)
    top = dome - depth * (0.8 + 0.55 * outward)
    level = _soft((top - v).astype(np.float32), 0.035)
    inside = _soft(_ellipse(u, v, (sign * body.lung_u, body.lung_v), body.lung_half), 0.03)
    shade: Plane = 0.5 * level * inside * _soft((v - dome - 0.03).astype(np.float32), 0.03)
    return shade


def _place(finding: PairedFinding, body: _Anatomy, rng: np.random.Generator) -> tuple[float, float]:
    """Return the middle of something that lies in a zone of a lung."""
    row = rng.uniform(-0.46, -0.3) if finding.zone == "upper" else rng.uniform(0.1, 0.24)
    return float(_SIGN[finding.side] * (body.lung_u + rng.uniform(-0.06, 0.1))), float(row)


def _opacity(u: Plane, v: Plane, finding: PairedFinding, body: _Anatomy, rng: np.random.Generator) -> Plane:
    middle = _place(finding, body, rng)
    radius = float(rng.uniform(0.075, 0.095) if finding.size == "small" else rng.uniform(0.15, 0.19))
    shade: Plane = np.float32(0.5) * _soft(_ellipse(u, v, middle, (radius, radius)), 0.02)
    return shade


def _consolidation(u: Plane, v: Plane, finding: PairedFinding, body: _Anatomy, rng: np.random.Generator) -> Plane:
    middle = _place(finding, body, rng)
    blotches = ndimage.zoom(rng.uniform(0, 1, (9, 9)), len(u) / 9, order=1)
    spread = np.exp(-(((u - middle[0]) / 0.2) ** 2 + ((v - middle[1]) / 0.2) ** 2))
    shade: Plane = (0.55 * spread * (0.45 + 0.9 * blotches)).astype(np.float32)
    return shade


def _device(u: Plane, v: Plane, finding: PairedFinding, body: _Anatomy, rng: np.random.Generator) -> Plane:
    """A box under the collarbone and a wire to the heart."""
    sign = _SIGN[finding.side]
    start = (sign * float(rng.uniform(0.5, 0.62)), float(rng.uniform(-0.62, -0.5)))
    end = (body.heart[0] - 0.05, body.heart[1] + 0.08)
    box = np.maximum(np.abs(u - start[0]) - 0.09, np.abs(v - start[1]) - 0.075).astype(np.float32)
    along = np.clip((v - start[1]) / (end[1] - start[1]), 0, 1)
    path = start[0] + (end[0] - start[0]) * np.sqrt(along)
    wire = np.where((v > start[1]) & (v < end[1]), np.abs(u - path) - 0.012, 1.0).astype(np.float32)
    shade: Plane = np.maximum(1.2 * _soft(box, 0.015), 0.6 * _soft(wire, 0.012)).astype(np.float32)
    return shade


_PAINT = MappingProxyType(
    {"effusion": _effusion, "opacity": _opacity, "consolidation": _consolidation, "device": _device}
)


def _film(seed: int, index: int, pixels: int, findings: Sequence[PairedFinding]) -> Plane:
    """Paint the attenuation of a chest with findings, before exposure."""
    body = _draw_anatomy(_rng(seed, index, _ANATOMY))
    at = ((np.arange(pixels) + 0.5) / pixels * 2 - 1).astype(np.float32)
    v, u = np.meshgrid(at, at, indexing="ij")
    cos, sin = np.float32(np.cos(body.tilt)), np.float32(np.sin(body.tilt))
    scale = np.float32(body.scale)
    u, v = (
        (cos * u - sin * v) * scale - np.float32(body.shift[0]),
        (sin * u + cos * v) * scale - np.float32(body.shift[1]),
    )
    lungs = _lungs(u, v, body)
    film = 0.62 * _soft(_ellipse(u, v, (0.0, 0.25), (0.95, 1.5)), 0.04)
    film -= 0.42 * (lungs["left"] + lungs["right"])
    film += 0.22 * _soft((np.abs(u) - 0.1).astype(np.float32), 0.03)
    film += 0.16 * _soft(_ellipse(u, v, (0.17, -0.3), (0.1, 0.1)), 0.03)  # the arch of the aorta, at the patient's left
    film -= 0.14 * _soft(_ellipse(u, v, (0.45, body.dome[0] + 0.2), (0.14, 0.08)), 0.03)  # air in the stomach
    wave = np.sin((v + 0.35 * (np.abs(u) - 0.5) ** 2) * 34)
    film += np.float32(body.ribs) * (wave > 0.35) * (np.abs(u) > 0.14)
    wide = 1.55 if any(f.kind == "cardiomegaly" for f in findings) else 1.0
    middle, half = (body.heart[0] * (1 + 0.5 * (wide - 1)), body.heart[1]), (body.heart[2] * wide, body.heart[3])
    film = np.maximum(film, 0.68 * _soft(_ellipse(u, v, middle, half), 0.03))
    for finding in findings:
        if finding.kind != "cardiomegaly":
            looks = _rng(seed, index, _LOOKS, KINDS.index(finding.kind), SIDES.index(finding.side))
            film = film + _PAINT[finding.kind](u, v, finding, body, looks)
    return np.asarray(film, dtype=np.float32)


def _expose(rng: np.random.Generator, film: Plane) -> Plane:
    """Blur, uneven exposure, contrast and noise; nothing that moves or mirrors."""
    pixels = len(film)
    film = ndimage.gaussian_filter(film, rng.uniform(0.002, 0.008) * pixels)
    slope = np.linspace(-1, 1, pixels, dtype=np.float32)
    film = film + np.float32(rng.normal(0, 0.03)) * slope[:, None] + np.float32(rng.normal(0, 0.03)) * slope
    film = np.clip(film * np.float32(rng.uniform(0.85, 1.1)) + np.float32(rng.uniform(-0.03, 0.08)), 0, 1.4) / 1.4
    film = film ** np.float32(np.exp(rng.normal(0, 0.15)))
    noisy = film + rng.normal(0, rng.uniform(0.005, 0.03), film.shape)
    return np.clip(noisy, 0, 1).astype(np.float32)


def synthesise_pair(
    seed: int, index: int, *, pixels: int = 64, findings: Sequence[PairedFinding] | None = None
) -> PairedSample:
    """Make one patient: film and report.

    Args:
        seed: Of the whole stream.
        index: Which patient of the stream.
        pixels: Side of the film, at least 32.
        findings: What the patient shall have instead of what the seed gives: the same chest and the same exposure.

    Raises:
        ConfigError: The film would be too small, or seed or index is negative.

    Example:
        >>> one, same = synthesise_pair(1, 7), synthesise_pair(1, 7)
        >>> one.image.tobytes() == same.image.tobytes(), one.sentences == same.sentences
        (True, True)
        >>> print(synthesise_pair(1, 7, findings=[PairedFinding("device", "left")]).sentences[0].text)
        There is a pacemaker over the left chest.
    """
    if pixels < 32 or min(seed, index) < 0:
        raise ConfigError(f"a film needs 32 pixels and seed, index of 0 or more; got {pixels}, {seed}, {index}")
    given = _draw_findings(_rng(seed, index, _FINDINGS)) if findings is None else tuple(findings)
    image = _expose(_rng(seed, index, _EXPOSURE), _film(seed, index, pixels, given))
    return PairedSample(image[None], given, write_sentences(_rng(seed, index, _TEXT), given))
