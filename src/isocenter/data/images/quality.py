"""Is this image fit to be read? Coded checks, each with its threshold, and "unknown" where no honest test exists.

A check never blocks by itself; it tells the reader of the result what to mistrust. "Sign" in a name means an indirect
hint, not a diagnosis of the defect. Everything runs on at most `MOST_PLANES` planes spread over the stack, apart from
the counts of extreme values and of repeated slices, so a 512x512x300 volume takes well under a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Shaped
from pydicom import Dataset
from scipy import ndimage

from isocenter.core import Image, Quantity
from isocenter.data.images.body_parts import BODY_PARTS
from isocenter.data.images.glyphs import text_lines

__all__ = ["GHOST_LIMIT", "TRUNCATION_LIMIT", "Check", "Quality", "edge_share", "ghost_sign", "inspect"]

Status = Literal["ok", "warning", "fail", "unknown"]

MOST_PLANES = 16
ANISOTROPY_LIMIT = 3.0
"""Largest over smallest spacing. A convention of ours: beyond it, shapes across slices are mostly interpolation."""
SATURATION_LIMIT = 0.005
"""Share of voxels that hold the highest value, beyond which the top of the scale is taken to be clipped (ours)."""
GHOST_LIMIT = 0.025
"""Ghosting ratio of the ACR MRI phantom test (Large and Medium Phantom Test Guidance, 2018: at most 0.025)."""
TRUNCATION_LIMIT = 0.05
"""Share of the edge of the field of view that is not air in a CT plane; a couch alone takes less (ours)."""
CT_NOISE_LIMIT_HU = 50.0
"""Noise in soft tissue that hides a 50 HU contrast voxel by voxel (ours)."""
SNR_LIMIT = 5.0
"""The Rose criterion: detail is detected reliably at a signal-to-noise ratio of about 5 (Rose 1948)."""
_AIR_HU = -300.0
_PADDING_HU = -1100.0
_WITH_SNR = frozenset({"MR", "PT", "NM"})
_PICTURES = frozenset({"", "US", "SC", "OT", "XC", "GM", "OP", "ES", "DX", "CR", "MG", "XA", "RF", "PX", "IO"})
_HEAD_ONLY = frozenset({"BRAIN", "HEAD", "SKULL", "ORBIT", "EYE", "FACE", "SINUS"})
_HEAD_LIMIT_MM = 500.0


@dataclass(frozen=True)
class Check:
    """One question about an image, and its answer.

    Args:
        name: Code of the check, e.g. "saturation".
        status: "ok", "warning" (read with care), "fail" (not fit), or "unknown" (not tested, and why).
        detail: What was found, in one sentence with numbers and the threshold.
    """

    name: str
    status: Status
    detail: str


@dataclass(frozen=True)
class Quality:
    """All checks of one image, in a fixed order."""

    checks: tuple[Check, ...]

    def __getitem__(self, name: str) -> Check:
        """Return a check by its name.

        Raises:
            KeyError: There is no such check.
        """
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(name)

    @property
    def worst(self) -> Status:
        """The gravest status: fail, then warning, then unknown, then ok."""
        found = {c.status for c in self.checks}
        order: tuple[Status, ...] = ("fail", "warning", "unknown", "ok")
        return next((s for s in order if s in found), "ok")


@dataclass(frozen=True, eq=False)
class _View:
    """The image as the checks see it: a few planes of its first channel (grey value of a colour image), as floats."""

    image: Image
    headers: Sequence[Dataset]

    @cached_property
    def planes(self) -> Float[np.ndarray, "n y x"]:
        count = self.image.geometry.shape[0]
        # The middle of each of n equal parts: end slices of a volume are often empty.
        number = min(count, MOST_PLANES)
        chosen = ((np.arange(number) + 0.5) * count / number).astype(int)
        array = self.image.array[:, chosen].astype(np.float32)
        grey = array.mean(axis=0) if self.image.quantity is Quantity.RGB else array[0]
        return np.asarray(np.nan_to_num(grey, nan=0.0, posinf=0.0, neginf=0.0))

    @cached_property
    def foreground(self) -> Bool[np.ndarray, "n y x"]:
        return self.planes > _otsu(self.planes)

    @property
    def is_ct(self) -> bool:
        return self.image.modality == "CT" and self.image.quantity is Quantity.HU

    def tag(self, keyword: str) -> str:
        """Return a header value as upper-case text, from the image's own facts or its first header; "" if absent."""
        value = self.image.meta.get(keyword)
        if value is None and self.headers:
            value = self.headers[0].get(keyword)
        return "" if value is None else str(value).strip().upper()


def inspect(image: Image, headers: Sequence[Dataset] | None = None) -> Quality:
    """Check an image for what may spoil an answer.

    Args:
        image: The image.
        headers: Its DICOM headers in z order, where it has any: positions of single slices are only known there.

    Returns:
        Checks named geometry, spacing, slices, values, saturation, motion, truncation, noise, text and body-part.

    Source:
        Thresholds stand, with their source, at the top of this module and in each check's detail.

    Example:
        >>> from isocenter.testing import phantom
        >>> inspect(phantom())["values"].detail
        'finite everywhere; -20 to 183'
    """
    view = _View(image, headers or ())
    return Quality(
        (
            _geometry(view),
            _spacing(view),
            _slices(view),
            _values(view),
            _saturation(view),
            _motion(view),
            _truncation(view),
            _noise(view),
            _text(view),
            _body_part(view),
        )
    )


def _geometry(view: _View) -> Check:
    geometry = view.image.geometry
    if geometry.orientation is not None:
        return Check("geometry", "ok", f"place in the patient known; axes towards {', '.join(geometry.orientation)}")
    if any(geometry.patient_orientation):
        row, column = (letters or "?" for letters in geometry.patient_orientation)
        return Check(
            "geometry", "ok", f"a picture without a place in the patient; rows run to {row}, columns to {column}"
        )
    return Check("geometry", "unknown", "no place in the patient and no orientation: left and right are not known")


def _spacing(view: _View) -> Check:
    geometry = view.image.geometry
    if geometry.spacing_mm is None:
        if geometry.pixel_spacing_mm is None:
            return Check("spacing", "unknown", "no spacing in the header: nothing can be measured in millimetres")
        row, column = geometry.pixel_spacing_mm
        return Check("spacing", "ok", f"pixels {row:.4g} x {column:.4g} mm; no spacing between planes applies")
    text = " x ".join(f"{s:.4g}" for s in geometry.spacing_mm)
    if not view.image.is_volume:
        return Check(
            "spacing", "ok", f"pixels {geometry.spacing_mm[1]:.4g} x {geometry.spacing_mm[2]:.4g} mm, one plane"
        )
    ratio = max(geometry.spacing_mm) / min(geometry.spacing_mm)
    detail = f"{text} mm (z, y, x), ratio {ratio:.1f} (limit {ANISOTROPY_LIMIT:g})"
    thickness = view.tag("SliceThickness")
    gap = geometry.spacing_mm[0] - _number(thickness) if thickness else 0.0
    if gap > 0.05 * geometry.spacing_mm[0]:
        detail += f"; {gap:.2g} mm between slices were not imaged"
    status: Status = "warning" if ratio > ANISOTROPY_LIMIT else "ok"
    return Check("spacing", status, detail)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("inf")


def _slices(view: _View) -> Check:
    image = view.image
    if image.geometry.shape[0] == 1:
        return Check("slices", "ok", "a single plane")
    told = [n for n in image.notes if any(w in n.lower() for w in ("missing", "duplicate", "gap", "resampled"))]
    repeated = _repeated(image)
    if image.geometry.stack == "time":
        status: Status = "warning" if repeated else "ok"
        return Check("slices", status, f"{image.geometry.shape[0]} frames, {repeated} equal to the one before")
    gaps, doubles = _positions(view.headers)
    faults = [
        *(f"{gaps} missing by position" for _ in range(gaps > 0)),
        *(f"{doubles} at a position already taken" for _ in range(doubles > 0)),
        *(f"{repeated} equal to the slice before, voxel by voxel" for _ in range(repeated > 0)),
        *(f"the reader says: {note}" for note in told),
    ]
    count = f"{image.geometry.shape[0]} slices"
    if faults:
        return Check("slices", "warning", f"{count}; {'; '.join(faults)}")
    if len(view.headers) == image.geometry.shape[0]:
        return Check("slices", "ok", f"{count}, evenly placed, none missing between the first and last, none repeated")
    if image.source.instance_uids:
        return Check("slices", "ok", f"{count}, read as an even stack, none repeated")
    return Check(
        "slices", "unknown", f"{count}, none repeated; this format keeps no position per slice to find gaps by"
    )


def _repeated(image: Image) -> int:
    array = image.array[0]
    thin = array[:, :: max(1, array.shape[1] // 16)]
    suspects = np.flatnonzero((thin[1:] == thin[:-1]).all(axis=(1, 2)))
    # A constant slice (air beyond the body, padding) repeats without harm.
    return sum(1 for i in suspects if np.array_equal(array[i], array[i + 1]) and array[i].min() != array[i].max())


def _positions(headers: Sequence[Dataset]) -> tuple[int, int]:
    """Return (missing, doubled) slices from Image Position (Patient) along the normal (PS3.3 C.7.6.2.1.1)."""
    known = [d for d in headers if d.get("ImagePositionPatient") and d.get("ImageOrientationPatient")]
    if len(known) < 3:
        return 0, 0
    row, column = np.reshape(np.asarray(known[0].ImageOrientationPatient, dtype=np.float64), (2, 3))
    places = np.sort([np.asarray(d.ImagePositionPatient, dtype=np.float64) @ np.cross(row, column) for d in known])
    steps = np.diff(places)
    distinct = steps[steps > 1e-3]
    if not len(distinct):
        return 0, len(steps)
    usual = float(np.median(distinct))
    missing = int(np.sum(np.round(distinct[distinct > 1.5 * usual] / usual) - 1))
    return missing, int(len(steps) - len(distinct))


def _values(view: _View) -> Check:
    array = view.image.array
    broken = 0
    if array.dtype.kind == "f":
        broken = int(array.size - np.count_nonzero(np.isfinite(array)))
    if broken == array.size:
        return Check("values", "fail", "no voxel holds a finite number")
    low, high = (float(f(view.planes)) for f in (np.min, np.max))
    if low == high and array.min() == array.max():
        return Check("values", "fail", f"every voxel holds the same value, {low:g}")
    if broken:
        return Check("values", "warning", f"{broken} of {array.size} voxels are not finite numbers")
    return Check("values", "ok", f"finite everywhere; {float(array.min()):g} to {float(array.max()):g}")


def _saturation(view: _View) -> Check:
    array = view.image.array
    highest, lowest = array.max(), array.min()
    if not np.isfinite(float(highest)) or highest == lowest:
        return Check("saturation", "unknown", "not tested: the values are constant or not finite")
    top = np.count_nonzero(array == highest) / array.size
    bottom = np.count_nonzero(array == lowest) / array.size
    detail = f"{top:.2%} of voxels hold the highest value, {float(highest):g} (limit {SATURATION_LIMIT:.1%}); "
    detail += f"{bottom:.2%} the lowest, {float(lowest):g}"
    return Check("saturation", "warning" if top > SATURATION_LIMIT else "ok", detail)


def _otsu(values: Shaped[np.ndarray, "..."]) -> float:
    """Return the threshold that best splits values into two classes (Otsu 1979), on a clipped histogram."""
    low, high = np.percentile(values[:, ::2, ::2], (0.5, 99.5))
    if high <= low:
        return float(high)
    counts, edges = np.histogram(values, bins=128, range=(float(low), float(high)))
    centres = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)
    weight = below / below[-1]
    mean = np.cumsum(counts * centres) / below[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (mean[-1] * weight - mean) ** 2 / (weight * (1 - weight))
    return float(centres[int(np.nanargmax(between))])


def _motion(view: _View) -> Check:
    """Look for ghosts of the body in the air beside it along the phase axis (MR)."""
    if view.image.modality != "MR":
        name = view.image.modality or "an unknown modality"
        return Check("motion", "unknown", f"no test for {name} that one image without a reference allows")
    ratios = [
        r
        for plane, body in zip(view.planes, view.foreground, strict=True)
        if (r := ghost_sign(plane, body)) is not None
    ]
    if not ratios:
        return Check("motion", "unknown", "not tested: too little air around the body, or its values were removed")
    signed = float(np.median(ratios))
    phase = {"ROW": 1, "COL": -1}.get(view.tag("InPlanePhaseEncodingDirection"), 0)
    ratio = abs(signed) if phase == 0 else max(0.0, signed * phase)
    axis = "along the phase axis" if phase else "between the two axes (phase axis not in the header)"
    detail = f"ghosting sign {ratio:.3f}: excess signal in the air {axis}, over the body's (limit {GHOST_LIMIT:g}, ACR)"
    return Check("motion", "warning" if ratio > GHOST_LIMIT else "ok", detail)


def ghost_sign(plane: Float[np.ndarray, "y x"], body: Bool[np.ndarray, "y x"]) -> float | None:
    """Return (air left and right of the body - air above and below) / (2 x body), or None without enough air."""
    height, width = plane.shape
    body = ndimage.binary_opening(body, iterations=2)
    if body.sum() < 0.02 * body.size:
        return None
    rows, columns = np.flatnonzero(body.any(axis=1)), np.flatnonzero(body.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    margin = max(2, int(0.02 * min(height, width)))
    beside = [plane[top:bottom, : max(0, left - margin)], plane[top:bottom, right + margin :]]
    above = [plane[: max(0, top - margin), left:right], plane[bottom + margin :, left:right]]
    means = []
    for strips, across in ((beside, width), (above, height)):
        axis = 1 if strips is beside else 0
        air = np.concatenate([s.ravel() for s in strips])
        if sum(s.shape[axis] for s in strips) < 0.04 * across or not len(air) or np.mean(air == 0) > 0.5:
            return None
        means.append(float(air.mean()))
    return (means[0] - means[1]) / (2 * float(plane[body].mean()))


def _truncation(view: _View) -> Check:
    """See whether the body reaches the edge of the field of view (CT)."""
    if not view.is_ct:
        name = view.image.modality or "an unknown modality"
        return Check("truncation", "unknown", f"tested in CT alone, where air has a known value; this is {name}")
    shares = [edge_share(plane) for plane in view.planes]
    worst, touched = max(shares), sum(s > TRUNCATION_LIMIT for s in shares)
    detail = (
        f"the body covers {worst:.0%} of the edge of the field of view in the worst of {len(shares)} planes looked at"
    )
    detail += f" (limit {TRUNCATION_LIMIT:.0%}; {touched} above it)"
    return Check("truncation", "warning" if touched else "ok", detail)


def edge_share(plane: Float[np.ndarray, "y x"]) -> float:
    """Return the share of the edge of a CT plane's field of view (in HU) that is not air."""
    height, width = plane.shape
    y, x = np.ogrid[:height, :width]
    outside = plane[np.hypot(y - (height - 1) / 2, x - (width - 1) / 2) > 0.51 * max(height, width)]
    padded = outside.size > 0 and (outside.max() < _PADDING_HU or (np.ptp(outside) == 0 and outside[0] == plane.min()))
    if not padded or max(height, width) > 1.1 * min(height, width):
        edge = np.concatenate([plane[0], plane[-1], plane[1:-1, 0], plane[1:-1, -1]])
        return float(np.mean(edge > _AIR_HU))
    # A reconstruction circle, padded outside: look just inside the circle that touches the sides.
    angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    radius = 0.48 * min(height, width)
    rows = np.round((height - 1) / 2 + radius * np.sin(angles)).astype(int)
    columns = np.round((width - 1) / 2 + radius * np.cos(angles)).astype(int)
    return float(np.mean(plane[rows, columns] > _AIR_HU))


_DIFFERENCE = np.array([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]], dtype=np.float32)


def _noise(view: _View) -> Check:
    """Estimate noise from the difference of two Laplacians (Immerkaer 1996), by the median, inside the body."""
    if not view.is_ct and view.image.modality not in _WITH_SNR:
        name = view.image.modality or "an unknown modality"
        return Check("noise", "unknown", f"no test for {name}: its grain is signal, or its scale is not linear")
    step = max(1, len(view.planes) // 6)
    planes = view.planes[::step]
    if min(planes.shape[1:]) < 16 or view.image.quantity is Quantity.RGB:
        return Check("noise", "unknown", "not tested: a colour image, or fewer than 16 rows or columns")
    inside = (planes > -100) & (planes < 200) if view.is_ct else view.foreground[::step]
    inside = ndimage.binary_erosion(inside, np.ones((1, 3, 3)))
    if inside.sum() < 500:
        return Check("noise", "unknown", "not tested: too few voxels inside the body")
    response = np.stack([ndimage.convolve(p, _DIFFERENCE) for p in planes])[inside]
    sigma = float(np.median(np.abs(response))) / 0.6745 / 6.0
    note = "noise is underestimated where neighbouring voxels are correlated, as in most reconstructions"
    if view.is_ct:
        detail = f"standard deviation about {sigma:.1f} HU in soft tissue (limit {CT_NOISE_LIMIT_HU:g} HU); {note}"
        return Check("noise", "warning" if sigma > CT_NOISE_LIMIT_HU else "ok", detail)
    if sigma == 0:
        return Check("noise", "unknown", "not tested: the image is flat between neighbours (synthetic or smoothed)")
    snr = float(np.median(planes[inside])) / sigma
    detail = f"signal-to-noise ratio about {snr:.0f} inside the body (limit {SNR_LIMIT:g}, Rose); {note}"
    return Check("noise", "warning" if snr < SNR_LIMIT else "ok", detail)


def _text(view: _View) -> Check:
    """Look for burnt-in annotation: what the header says, and lines of bright glyphs."""
    said = view.tag("BurnedInAnnotation")
    if said == "YES":
        return Check(
            "text", "warning", "the header says that the pixels hold burnt-in annotation: it may name the patient"
        )
    header = "the header says there is none" if said == "NO" else "the header does not say"
    if view.image.modality not in _PICTURES:
        return Check("text", "ok" if said == "NO" else "unknown", f"{header}; pixels of this modality are not searched")
    middle = view.planes[len(view.planes) // 2]
    lines = text_lines(middle)
    if lines:
        return Check("text", "warning", f"{len(lines)} line(s) of bright glyphs found: text that may name the patient")
    return Check("text", "ok" if said == "NO" else "unknown", f"{header}; no line of bright glyphs found in the pixels")


def _body_part(view: _View) -> Check:
    part = view.image.body_part.upper()
    if not part:
        return Check("body-part", "unknown", "not in the header, and never guessed from pixels")
    spacing = view.image.geometry.spacing_mm
    if part in _HEAD_ONLY and spacing is not None:
        extent = max(n * s for n, s in zip(view.image.geometry.shape, spacing, strict=True))
        if extent > _HEAD_LIMIT_MM:
            return Check("body-part", "warning", f"header says {part}, but the image is {extent:.0f} mm long or wide")
    if part in BODY_PARTS:
        return Check("body-part", "ok", f"header says {part}; not verified from pixels")
    return Check("body-part", "unknown", "header holds a body part that is not among the terms of PS3.16 Annex L")
