"""Pictures of natural frequencies as inline SVG: a hundred people per option, told apart by shape and not by colour.

Source:
    Galesic, Garcia-Retamero and Gigerenzer, Health Psychology 2009 (icon arrays); Zikmund-Fisher et al., Medical
    Decision Making 2014 (people, in rows of ten).
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from isocenter.verbs.treatment.document import AmountEntry, BalanceEntry, GroupEntry

__all__ = ["balance_svg", "groups_svg", "icons_svg"]

_STEP, _SIDE = 20, 10
_PERSON = Markup('<use href="#{}" x="{}" y="{}" class="{}"/>')
_SHAPES = Markup(
    '<svg width="0" height="0" aria-hidden="true" class="shapes"><defs>'
    '<symbol id="person-yes" viewBox="0 0 16 18" width="16" height="18"><circle cx="8" cy="4" r="3.4"/>'
    '<path d="M2 18v-5a6 5 0 0 1 12 0v5z"/></symbol>'
    '<symbol id="person-no" viewBox="0 0 16 18" width="16" height="18"><circle cx="8" cy="4" r="2.8"/>'
    '<path d="M2.7 17.3v-4.300a5.300 4.300 0 0 1 10.600 0v4.300z"/></symbol>'
    "</defs></svg>"
)


def shapes() -> Markup:
    """Return the figures that pictures use, once per page."""
    return _SHAPES


def icons_svg(option: str, words: str, amount: AmountEntry) -> Markup:
    """Draw a hundred people, those first of whom the words hold; outlined ones lie within the interval.

    Args:
        option: Its name.
        words: What holds, as after "of 100 people like this, 40".
        amount: Chance, 0 to 1.

    Example:
        >>> drawn = icons_svg("new", "are alive", AmountEntry(value=0.4, low=0.3, high=0.5, level=0.9))
        >>> drawn.count('class="yes sure"'), drawn.count('class="yes maybe"'), drawn.count('class="no maybe"')
        (30, 10, 10)
    """
    count, low, high = (round(100 * v) for v in (amount.value, amount.low, amount.high))
    parts = []
    for place in range(100):
        held, maybe = place < count, low <= place < high
        css = f"{'yes' if held else 'no'} {'maybe' if maybe else 'sure'}"
        row, column = divmod(place, _SIDE)
        shape = "person-yes" if held else "person-no"
        parts.append(_PERSON.format(shape, column * _STEP + 2, row * _STEP + 1, css))
    side = _SIDE * _STEP
    told = f"{option}: of 100 people like this, about {count} ({low} to {high}) {words}"
    return Markup('<svg class="icons" viewBox="0 0 {} {}" role="img" aria-label="{}"><title>{}</title>{}</svg>').format(
        side, side, told, told, Markup("").join(parts)
    )


def _scale(values: Sequence[float], width: float) -> tuple[float, float, float]:
    low, high = min(*values, 0.0), max(*values, 0.0)
    room = 0.06 * (high - low or 1.0)
    low, high = low - room, high + room
    return low, high, width / (high - low)


def groups_svg(groups: Sequence[GroupEntry], claim: str) -> Markup:
    """Draw what was predicted of each fifth against what was found; on the line both agree."""
    width, height, left, bottom = 420, 300, 56, 40
    ends = [v for g in groups for v in (g.predicted, g.found.low, g.found.high)]
    low, high, across = _scale(ends, width - left - 30)
    up = (height - bottom - 12) / (high - low)

    def at(x: float, y: float) -> tuple[float, float]:
        return left + (x - low) * across, height - bottom - (y - low) * up

    line = Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>')
    parts = [line.format("chance", *at(low, low), *at(high, high))]
    if low < 0 < high:
        parts += [line.format("grid", *at(low, 0), *at(high, 0)), line.format("grid", *at(0, low), *at(0, high))]
    for group in groups:
        x, y = at(group.predicted, group.found.value)
        parts.append(
            line.format("whisker s0", *at(group.predicted, group.found.low), *at(group.predicted, group.found.high))
        )
        parts.append(Markup('<circle class="dot s0" cx="{:.1f}" cy="{:.1f}" r="5"/>').format(x, y))
    text = Markup('<text class="name" x="{}" y="{}" text-anchor="{}">{}</text>')
    for value in (low, 0.0, high):
        x, y = at(value, value)
        parts.append(text.format(f"{x:.1f}", height - bottom + 16, "middle", f"{value:.3g}"))
        parts.append(text.format(left - 6, f"{y + 4:.1f}", "end", f"{value:.3g}"))
    parts.append(text.format((left + width) / 2, height - 6, "middle", f"predicted {claim}"))
    parts.append(
        Markup('<text class="name" transform="translate(12 {}) rotate(-90)" text-anchor="middle">found</text>').format(
            (height - bottom) / 2
        )
    )
    told = f"Predicted {claim} of fifths of the people against what was found; on the dotted line both agree."
    return Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}"><title>{}</title>{}</svg>').format(
        width, height, told, told, Markup("").join(parts)
    )


def balance_svg(rows: Sequence[BalanceEntry], most: int = 20) -> Markup:
    """Draw standardised differences before (rings) and after weighting (dots); between the dotted lines is balanced."""
    shown = rows[:most]
    width, left, step = 560, 230, 18
    height = step * len(shown) + 36
    reach = max(0.25, *(abs(v) for r in shown for v in (r.before, r.after)))
    middle, scale = left + (width - left - 12) / 2, (width - left - 12) / 2 / reach
    line = Markup('<line class="{}" x1="{:.1f}" y1="6" x2="{:.1f}" y2="{}"/>')
    parts = [line.format("grid", middle, middle, height - 26)]
    parts += [line.format("chance", middle + s * scale, middle + s * scale, height - 26) for s in (-0.1, 0.1)]
    for number, row in enumerate(shown):
        y = 16 + step * number
        parts.append(Markup('<text class="name" x="{}" y="{}" text-anchor="end">{}</text>').format(
            left - 8, y + 4, row.feature.replace("[hnsf'U]", "HU")))  # fmt: skip
        parts.append(Markup('<circle class="box" cx="{:.1f}" cy="{}" r="4.5"/>').format(middle + row.before * scale, y))
        parts.append(Markup('<circle class="dot s0" cx="{:.1f}" cy="{}" r="4"/>').format(middle + row.after * scale, y))
    for value in (-reach, 0.0, reach):
        parts.append(Markup('<text class="name" x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
            middle + value * scale * 0.96, height - 8, f"{value:.2g}"))  # fmt: skip
    told = "Standardised differences of features between the options, before weighting (rings) and after (dots)."
    return Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}"><title>{}</title>{}</svg>').format(
        width, height, told, told, Markup("").join(parts)
    )
