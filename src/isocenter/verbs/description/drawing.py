"""Histograms and bars as inline SVG, by the page's own colours; text is escaped by markupsafe."""

from __future__ import annotations

from markupsafe import Markup

from isocenter.verbs.description.document import HistogramEntry

__all__ = ["histogram_svg", "size_of"]

_WIDTH, _HEIGHT = 420, 170
_LEFT, _BOTTOM, _TOP = 44, 36, 10
_PLOT = Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}"><title>{}</title>{}</svg>')
_BAR = Markup('<rect class="bin" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>')
_TEXT = Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
_LINE = Markup('<line class="grid" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>')


def size_of(count: int | None) -> str:
    """Write bytes in the unit that suits them.

    Example:
        >>> [size_of(n) for n in (None, 900, 2_500_000)]
        ['', '900 B', '2.5 MB']
    """
    if count is None:
        return ""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def histogram_svg(entry: HistogramEntry) -> Markup:
    """Draw a histogram."""
    most = max(entry.counts) or 1
    low, high = entry.edges[0], entry.edges[-1]
    wide, tall = _WIDTH - _LEFT - 8, _HEIGHT - _TOP - _BOTTOM

    def across(value: float) -> float:
        return _LEFT + (value - low) / (high - low) * wide

    base = _TOP + tall
    parts = [_LINE.format(_LEFT, _WIDTH - 8, base, base), _LINE.format(_LEFT, _WIDTH - 8, _TOP, _TOP)]
    parts += [_TEXT.format(_LEFT - 5, base + 4, "end", "0"), _TEXT.format(_LEFT - 5, _TOP + 8, "end", f"{most:,}")]
    for n, count in enumerate(entry.counts):
        if count:
            # A lone series must be seen beside thousands.
            height = max(1.5, count / most * tall)
            left, right = across(entry.edges[n]), across(entry.edges[n + 1])
            words = f"{entry.edges[n]:.3g} to {entry.edges[n + 1]:.3g} {entry.unit}: {count:,}"
            parts.append(_BAR.format(left + 0.5, base - height, right - left - 1, height, words))
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        value = low + share * (high - low)
        parts.append(_TEXT.format(across(value), base + 15, anchor, f"{value:.3g}"))
    parts.append(_TEXT.format(_LEFT + wide / 2, _HEIGHT - 5, "middle", f"{entry.name} ({entry.unit})"))
    return _PLOT.format(_WIDTH, _HEIGHT, f"Histogram of {entry.name}", entry.name, Markup("").join(parts))
