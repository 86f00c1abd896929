"""Series that stand out among those of their modality, by robust z scores, and small pictures of them."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import PIL.Image
from jaxtyping import Float

from isocenter.data.catalog.catalog import Catalog
from isocenter.data.catalog.pictures import Pictures, places_of, read_planes, small
from isocenter.verbs.description.document import OutlierEntry
from isocenter.verbs.report.page import data_uri

__all__ = ["RULE", "find_outliers", "robust_z"]

_LEAST = 20
_FAR = 6.0
_SHOWN = 12
_LEAST_LOG, _LEAST_LEVEL = 0.02, 0.02
"""Two hundredths, of a size or of the usual range of pixels: less than six times that is no outlier."""
_ALIKE = 3
_SIDE, _COARSE = 160, 64
"""Pixels of the longer side of a picture; coarse where burnt-in text may stand in it, which then can't be read."""
_COLUMNS = {
    "rows": "rows", "columns": "columns", "frames": "frames", "pixel_spacing_x_mm": "pixel spacing (mm)",
    "slice_thickness_mm": "slice thickness (mm)", "spacing_mm": "distance between slices (mm)",
}  # fmt: skip
_LEVELS = ("dark end of its pixels", "median of its pixels", "bright end of its pixels")
RULE = (
    f"A number further than {_FAR:g} robust z scores from the median of its modality (scores by the median absolute "
    f"deviation; sizes and spacings on a logarithmic scale; groups of {_LEAST} series or more)."
)


def robust_z(values: Float[np.ndarray, " n"], least: float = 1e-9) -> Float[np.ndarray, " n"]:
    """Return how far each value lies from the median, in robust standard deviations.

    Args:
        values: NaN where unknown.
        least: What a deviation counts for at least: a difference that means nothing is none.

    Example:
        >>> robust_z(np.array([1.0, 2.0, 3.0, 4.0, 100.0])).round(1).tolist()
        [-1.3, -0.7, 0.0, 0.7, 65.4]
    """
    middle = np.nanmedian(values)
    away = np.abs(values - middle)
    spread = 1.4826 * float(np.nanmedian(away))
    if not spread > 1e-9:
        # More than half are equal: how far those lie that are not, on average over all, tells what is far.
        spread = 1.2533 * float(np.nanmean(away))
    return np.asarray(np.nan_to_num((values - middle) / max(spread, least, 1e-9)))


def find_outliers(
    catalog: Catalog, pictures: Pictures | None, *, coarse: bool = False
) -> tuple[tuple[OutlierEntry, ...], int]:
    """Return the series that stand out most, with pictures, and how many stand out.

    Args:
        catalog: The catalog.
        pictures: Of its series; None where it holds no copies of images.
        coarse: Whether pictures are too small for text in them to be read.
    """
    wanted = ", ".join(f'"{c}"' for c in _COLUMNS)
    rows = catalog.sql(
        f"SELECT series_uid, coalesce(modality, 'no modality (' || form || ')') AS grp, {wanted} FROM series "
        "WHERE role = 'image' AND held IS NULL ORDER BY series_uid"
    ).to_pylist()
    levels = {}
    if pictures is not None:
        levels = {p.series_uid: pictures.levels[n] for n, p in enumerate(pictures.places)}
    groups: dict[str, list[dict[str, object]]] = {}
    for row in rows:
        groups.setdefault(row["grp"], []).append(row)
    found: dict[str, tuple[float, str, list[str]]] = {}
    for group, some in sorted(groups.items()):
        if len(some) < _LEAST:
            continue
        for name, values, shown, least in _features(some, levels):
            scores = robust_z(values, least)
            middle = float(np.nanmedian(shown))
            for n in np.flatnonzero(np.abs(scores) > _FAR):
                uid = str(some[int(n)]["series_uid"])
                score, _, why = found.get(uid, (0.0, "", []))
                why = [*why, f"{name} {_number(float(shown[n]))}, median {_number(middle)} (z {scores[n]:+.1f})"]
                found[uid] = (max(score, abs(float(scores[n]))), group, why)
    best = _varied(sorted(found.items(), key=lambda item: (-item[1][0], item[0])))
    shown_pictures = (
        _pictures(catalog, [uid for uid, _ in best], _COARSE if coarse else _SIDE) if pictures is not None else {}
    )
    return tuple(
        OutlierEntry(
            series_uid=uid, group=group, why=tuple(why), z=round(score, 2), picture=shown_pictures.get(uid, "")
        )
        for uid, (score, group, why) in best
    ), len(found)


def _varied(found: list[tuple[str, tuple[float, str, list[str]]]]) -> list[tuple[str, tuple[float, str, list[str]]]]:
    """Return those to show: of one modality and one reason a few at most, so that one kind does not hide the others."""
    kinds: dict[tuple[str, str], int] = {}
    out = []
    for item in found:
        kind = (item[1][1], next(name for name in (*_COLUMNS.values(), *_LEVELS) if item[1][2][0].startswith(name)))
        kinds[kind] = kinds.get(kind, 0) + 1
        if kinds[kind] <= _ALIKE:
            out.append(item)
    return out[:_SHOWN]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _features(
    rows: Sequence[dict[str, object]], levels: dict[str, Float[np.ndarray, " 3"]]
) -> list[tuple[str, Float[np.ndarray, " n"], Float[np.ndarray, " n"], float]]:
    """Return name, values to score, values to show, and the least deviation; unknown ones are NaN."""
    out = []
    for column, name in _COLUMNS.items():
        values = np.array([np.nan if (v := row[column]) is None or not float(str(v)) > 0 else float(str(v))
                           for row in rows])  # fmt: skip
        if np.isfinite(values).sum() >= _LEAST:
            out.append((name, np.log(values), values, _LEAST_LOG))
    known = [levels[str(r["series_uid"])] for r in rows if str(r["series_uid"]) in levels]
    width = float(np.median([level[2] - level[0] for level in known])) if known else 0.0
    for place, name in enumerate(_LEVELS):
        values = np.array(
            [float(levels[str(r["series_uid"])][place]) if str(r["series_uid"]) in levels else np.nan for r in rows]
        )
        if np.isfinite(values).sum() >= _LEAST:
            out.append((name, values, values, _LEAST_LEVEL * width))
    return out


def _pictures(catalog: Catalog, series: list[str], side: int) -> dict[str, str]:
    """Return small PNGs of series, of the archive's own copies, as data URIs."""
    if not series:
        return {}
    out = {}
    for place, planes in read_planes(catalog.root, places_of(catalog, series)):
        if isinstance(planes, str):
            continue
        plane = planes[0]
        share = side / max(plane.shape)
        shown = small(plane, max(1, round(plane.shape[0] * share)), max(1, round(plane.shape[1] * share)))
        low, high = np.percentile(shown, (0.5, 99.5))
        scaled = np.clip((shown - low) / ((high - low) or 1.0), 0, 1) * 255
        packed = io.BytesIO()
        PIL.Image.fromarray(scaled.astype(np.uint8)).save(packed, "PNG")
        out[place.series_uid] = data_uri(packed.getvalue(), "image/png")
    return out
