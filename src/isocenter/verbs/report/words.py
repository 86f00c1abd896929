"""Numbers and codes in words: what a person reads instead of a field name."""

from __future__ import annotations

from isocenter.verbs.result import (
    GeometryEntry,
    ImageEntry,
    LikenessEntry,
    MeasurementEntry,
    PredictionEntry,
    PromptEntry,
    SegmentEntry,
    UncertaintyEntry,
)

__all__ = [
    "asked",
    "figure",
    "finding_rows",
    "image_line",
    "is_chance",
    "likeness_line",
    "measurement_rows",
    "prompt_line",
    "uncertainty_lines",
    "unit",
]

_UNITS = {
    "[hnsf'U]": "HU",
    "{SUVbw}g/ml": "SUVbw",
    "{pixels}": "px",
    "mm2": "mm²",
    "mm3": "mm³",
    "cm3": "cm³",
    "Bq/ml": "Bq/mL",
}
_CHANCE = "Probability of "
_SHORT = {"Maximum 3D Diameter of a Mesh": "Maximum 3D diameter"}
_IN_A_VOLUME = {"Long axis": "Long axis (axial)", "Short axis": "Short axis (axial)"}
"""The axes of a volume are measured in its most axial slices; those of a single plane or a cine in that plane."""


def figure(value: float) -> str:
    """Write a number with the digits that a measurement of an image carries.

    Example:
        >>> [figure(v) for v in (1234.56, 45.678, 3.14159, 0.012345, 0.0, -7.5, 12.0)]
        ['1,235', '45.7', '3.14', '0.0123', '0', '−7.50', '12.0']
    """
    size = abs(value)
    if size == 0:
        return "0"
    text = f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"
    if size < 1:
        text = f"{value:.3g}"
    return text.replace("-", "−")


def unit(code: str) -> str:
    """Write a UCUM unit as people do; "" for a pure number.

    Example:
        >>> [unit(u) for u in ("mL", "[hnsf'U]", "1", "[hnsf'U]2", "mm3.[hnsf'U]")]
        ['mL', 'HU', '', 'HU²', 'mm³·HU']
    """
    if code in _UNITS or code == "1":
        return _UNITS.get(code, "")
    if "[hnsf'U]" not in code:
        return code
    return code.replace("[hnsf'U]", "HU").replace("mm3.", "mm³·").replace("HU2", "HU²")


def measurement_rows(
    measurements: tuple[MeasurementEntry, ...], geometry: GeometryEntry
) -> list[tuple[str, str, dict[int | None, str]]]:
    """Group measurements into rows (name, unit, value by segment number), in the order of their first occurrence.

    Args:
        measurements: Of one answer.
        geometry: The grid of its image, which says in what plane axes were measured.
    """
    rows: dict[tuple[str, str], dict[int | None, str]] = {}
    volume = geometry.shape_zyx[0] > 1 and geometry.stack == "space" and geometry.affine_zyx_to_lps_mm is not None
    short = {**_SHORT, **_IN_A_VOLUME} if volume else _SHORT
    for m in measurements:
        name = short.get(m.name.meaning, m.name.meaning)
        if m.derivation is not None:
            name = f"{name}, {m.derivation.meaning.lower()}"
        rows.setdefault((name, unit(m.unit.value)), {})[m.segment] = figure(m.value)
    return [(name, shown, values) for (name, shown), values in rows.items()]


def uncertainty_lines(found: UncertaintyEntry, segments: tuple[SegmentEntry, ...]) -> list[str]:
    """Put an uncertainty in sentences: what is promised, and the numbers."""
    labels = {s.number: s.label for s in segments}
    lines = [found.description]
    interval = found.low is not None and found.high is not None
    if interval and found.unit is not None and found.low is not None and found.high is not None:
        lines.append(
            f"Between {figure(found.low)} and {figure(found.high)} {unit(found.unit.value)}.".replace(" .", ".")
        )
    elif interval and f"{found.low:.2f}" != f"{found.high:.2f}":
        lines.append(f"Between {found.low:.2f} and {found.high:.2f}.")
    elif found.low is not None:
        lines.append(f"Expected {found.kind}: {found.low:.2f}.")
    if found.per_segment:
        each = "; ".join(f"{labels.get(n, f'segment {n}')} {v:.2f}" for n, v in found.per_segment.items())
        lines.append(f"By segment: {each}.")
    if found.members:
        lines.append("One of: " + ", ".join(m.meaning for m in found.members) + ".")
    if found.level is None:
        lines.append("No coverage is promised.")
    else:
        lines.append(f"Promised to hold in {found.level:.0%} of cases like those it was established on.")
    return lines


def is_chance(measurement: MeasurementEntry) -> bool:
    """Tell whether a measurement is the probability of a class or a finding of the whole image."""
    return measurement.segment is None and measurement.name.meaning.startswith(_CHANCE)


def finding_rows(prediction: PredictionEntry) -> list[tuple[str, str, str]]:
    """Return name, probability and what the promised set says of each class or finding, likeliest first.

    Args:
        prediction: An answer.

    Returns:
        The last is "present", "absent" or "not decided" where a finding has a set of its own, "in the set" or "not in
        the set" where classes share one, "" where none is promised.
    """
    own = {u.about.meaning: {m.meaning for m in u.members} for u in prediction.further if u.about is not None}
    sure = prediction.uncertainty
    shared = {m.meaning for m in sure.members} if sure is not None and sure.kind == "set" and sure.members else None
    found = []
    for m in sorted((m for m in prediction.measurements if is_chance(m)), key=lambda m: -m.value):
        name, said = m.name.meaning.removeprefix(_CHANCE), ""
        if name in own:
            said = next(iter(own[name])).lower() if len(own[name]) == 1 else "not decided"
        elif shared is not None:
            said = "in the set" if name in shared else "not in the set"
        found.append((name, f"{100 * m.value:.2g} %" if m.value < 0.995 else f"{100 * m.value:.3g} %", said))
    return found


def likeness_line(found: LikenessEntry) -> str:
    """Say how like the images that a task learnt from an image is.

    Example:
        >>> likeness_line(LikenessEntry(score=1.234, p_value=0.31, refused_share=0.05, description="Texture."))
        'Texture. Score 1.2, p = 0.31; refused at p = 0.05 or below.'
    """
    return (
        f"{found.description} Score {found.score:.1f}, p = {found.p_value:.2g}; refused at p = "
        f"{found.refused_share:g} or below."
    )


def image_line(image: ImageEntry) -> str:
    """Describe an image in one line, from facts that are known."""
    said = [image.modality or "modality unknown", image.body_part.lower() or "body part not stated"]
    return ", ".join([*said, _grid(image.geometry)])


def _grid(geometry: GeometryEntry) -> str:
    z, y, x = geometry.shape_zyx
    if geometry.stack == "time":
        size = f"{z} frames of {y} x {x}"
    else:
        size = f"{y} x {x}" if z == 1 else f"{z} slices of {y} x {x}"
    if geometry.spacing_mm is not None:
        size += " at " + " x ".join(f"{s:.3g}" for s in geometry.spacing_mm[0 if z > 1 else 1 :]) + " mm"
    elif geometry.pixel_spacing_mm is not None:
        size += " at " + " x ".join(f"{s:.3g}" for s in geometry.pixel_spacing_mm) + " mm"
    else:
        size += ", spacing unknown"
    return size


def prompt_line(prompt: PromptEntry) -> str:
    """Describe a prompt: its sign, kind, meaning and place.

    Example:
        >>> prompt_line(PromptEntry(kind="point", label="mass", positive=True, frame="lps_mm",
        ...     coordinates=((12.0, -3.5, 40.0),)))
        'point in “mass” at L 12.0, A 3.5, S 40.0 mm'
    """
    relation = "in" if prompt.positive else "outside"
    line = f"{prompt.kind} {relation} “{prompt.label}”"
    if len(prompt.coordinates) == 1:
        first = prompt.coordinates[0]
        if prompt.frame == "lps_mm":
            letters = (p if v >= 0 else n for v, p, n in zip(first, "LPS", "RAI", strict=True))
            line += " at " + ", ".join(f"{a} {abs(v):.1f}" for a, v in zip(letters, first, strict=True)) + " mm"
        else:
            line += " at slice {:g}, row {:g}, column {:g}".format(*first)
    elif prompt.coordinates:
        line += f" of {len(prompt.coordinates)} points"
    return line


def asked(images: tuple[ImageEntry, ...], tasks: tuple[str, ...], prompts: int) -> str:
    """Say what was asked for, in one sentence."""
    what = f"{len(images)} image{'s' if len(images) != 1 else ''}"
    kinds = ", ".join(dict.fromkeys(i.modality or "unknown modality" for i in images))
    how = f"{len(tasks)} task{'s' if len(tasks) != 1 else ''} ({', '.join(tasks)})" if tasks else "no task"
    with_prompts = f", with {prompts} prompt{'s' if prompts != 1 else ''}" if prompts else ""
    return f"Read {what} ({kinds}) with {how}{with_prompts}."
