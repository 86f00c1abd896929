"""Curves as inline SVG: readable in light and dark, by line style and not by colour alone, each with its description.

Colours are the page's own variables; nothing is fetched. Text is escaped by markupsafe.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup

from isocenter.verbs.evaluation.document import (
    CurveEntry,
    DropEntry,
    ReliabilityEntry,
    RocEntry,
    SubgroupBlock,
    SubgroupEntry,
)

__all__ = ["curves_svg", "drops_svg", "forest_svg", "reliability_svg", "roc_svg"]

_WIDTH, _HEIGHT = 460, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 14, 42
_SMALL = (300, 220)
"""Of a drawing that stands among many."""
_MOST = 6
"""Lines of one drawing; more can't be told apart."""
_SIGNIFICANT = 0.05
_UPRIGHT = Markup('<text class="name" transform="translate(13 {}) rotate(-90)" text-anchor="middle">{}</text>')
_PLOT = Markup(
    '<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}"><title>{}</title><desc>{}</desc>{}</svg>'
)
_SAMPLE = Markup(
    '<li><svg class="key" viewBox="0 0 30 8" aria-hidden="true"><line class="series s{}" x1="1" x2="29" y1="4" '
    'y2="4"/></svg>{}</li>'
)


class _Frame:
    """Axes from data to pixels."""

    def __init__(
        self, x: tuple[float, float], y: tuple[float, float], size: tuple[int, int] = (_WIDTH, _HEIGHT)
    ) -> None:
        self._x, self._y, (self._width, self._height) = x, y, size

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return the pixel of a point."""
        across, up = (x - self._x[0]) / (self._x[1] - self._x[0]), (y - self._y[0]) / (self._y[1] - self._y[0])
        width, height = self._width - _LEFT - _RIGHT, self._height - _TOP - _BOTTOM
        return _LEFT + across * width, self._height - _BOTTOM - up * height

    def line(self, points: Iterable[tuple[float, float]], css: str) -> Markup:
        """Return a polyline."""
        text = " ".join("{:.1f},{:.1f}".format(*self.at(x, y)) for x, y in points)
        return Markup('<polyline class="{}" points="{}"/>').format(css, text)

    def axes(self, label_x: str, label_y: str, ticks_x: Sequence[float], ticks_y: Sequence[float]) -> Markup:
        """Return both axes with ticks and names."""
        parts = [Markup("")]
        for tick in ticks_y:
            x, y = self.at(self._x[0], tick)
            parts.append(Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
                _LEFT, self._width - _RIGHT, y, y))  # fmt: skip
            parts.append(
                Markup('<text x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(x - 6, y + 4, _short(tick))
            )
        for tick in ticks_x:
            x, y = self.at(tick, self._y[0])
            parts.append(
                Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>').format(x, y + 16, _short(tick))
            )
        middle = (_LEFT + self._width - _RIGHT) / 2
        parts.append(Markup('<text class="name" x="{}" y="{}" text-anchor="middle">{}</text>').format(
            middle, self._height - 6, label_x))  # fmt: skip
        parts.append(_UPRIGHT.format(
            (_TOP + self._height - _BOTTOM) / 2, label_y))  # fmt: skip
        return Markup("").join(parts)


def _short(value: float) -> str:
    return f"{round(value, 9):.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def _svg(parts: Sequence[Markup], title: str, words: str, height: int = _HEIGHT, width: int = _WIDTH) -> Markup:
    return _PLOT.format(
        width, height, f"{title}. {words}", title, words, Markup("").join(parts)
    )  # fmt: skip


def _legend(names: Sequence[str]) -> Markup:
    """Return the names of the lines, each with a sample of it."""
    items = [
        _SAMPLE.format(
            n, name) for n, name in enumerate(names)
    ]  # fmt: skip
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(items))


_UNIT = (0.0, 0.25, 0.5, 0.75, 1.0)


def roc_svg(curves: Sequence[RocEntry]) -> Markup:
    """Draw ROC curves; the diagonal is chance."""
    frame, shown = _Frame((0, 1), (0, 1)), curves[:_MOST]
    parts = [frame.axes("1 − specificity", "sensitivity", _UNIT, _UNIT), frame.line([(0, 0), (1, 1)], "chance")]
    parts += [
        frame.line(zip(c.false_positive_rate, c.sensitivity, strict=True), f"series s{n}") for n, c in enumerate(shown)
    ]
    names = [c.structure or "answer" for c in shown]
    return _svg(parts, "ROC curve", f"Of {', '.join(names)}; the dotted diagonal is chance.") + _legend(names)


def reliability_svg(curves: Sequence[ReliabilityEntry]) -> Markup:
    """Draw reliability diagrams; a perfect one is the diagonal, and a point's size tells how many cases it is of."""
    frame, shown = _Frame((0, 1), (0, 1)), curves[:_MOST]
    parts = [
        frame.axes("predicted probability", "observed share", _UNIT, _UNIT), frame.line([(0, 0), (1, 1)], "chance")
    ]  # fmt: skip
    for n, curve in enumerate(shown):
        points = [
            (p, o, c) for p, o, c in zip(curve.predicted, curve.observed, curve.counts, strict=True)
            if p is not None and o is not None
        ]  # fmt: skip
        parts.append(frame.line([(p, o) for p, o, _ in points], f"series s{n}"))
        most = max((c for _, _, c in points), default=1)
        for p, o, count in points:
            x, y = frame.at(p, o)
            parts.append(Markup('<circle class="dot s{}" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"/>').format(
                n, x, y, 2.5 + 5 * (count / most) ** 0.5))  # fmt: skip
    names = [f"{c.structure or 'answer'} (ECE {c.expected_calibration_error:.3f})" for c in shown]
    return _svg(parts, "Reliability diagram", f"Of {', '.join(names)}; the dotted diagonal is perfect.") + _legend(
        names
    )


def curves_svg(curves: Sequence[CurveEntry]) -> Markup:
    """Draw curves of one title: a share from 0 to 1 against what goes across; points beyond its end are left out."""
    shown = [c for c in curves if c.x][:_MOST]
    if not shown:
        return Markup("")
    low = min(c.x_least for c in shown)
    high = max(c.x[-1] if c.x_most is None else c.x_most for c in shown)
    frame = _Frame((low, high if high > low else low + 1), (0, 1))
    ticks = [low + (high - low) * share for share in _UNIT] if high > low else [low]
    if all(c.x == tuple(float(round(v)) for v in c.x) for c in shown):
        ticks = sorted({float(round(v)) for v in ticks})
    first = shown[0]
    parts = [frame.axes(first.x_label, first.y_label, ticks, _UNIT)]
    for n, curve in enumerate(shown):
        points = [(x, y) for x, y in zip(curve.x, curve.y, strict=True) if low <= x <= high]
        # Sensitivity stays what it is until more false answers are allowed: the end of the drawing is reached.
        points += [(high, points[-1][1])] if points and curve.x_most is not None and points[-1][0] < high else []
        parts.append(frame.line(points, f"series s{n}"))
    names = [c.name for c in shown]
    return _svg(parts, first.title, f"{first.y_label} against {first.x_label}, of {', '.join(names)}.") + _legend(names)


def drops_svg(curves: Sequence[DropEntry]) -> list[Markup]:
    """Draw one figure against the grade of each corruption, intervals as whiskers: a small drawing for each.

    All share one axis, which starts near the lowest number and says so: a fall by a few hundredths would be a flat line
    on an axis from 0. Each bears its own name, so that no line has to be found in a legend.
    """
    shown = [c for c in curves if any(p.value is not None for p in c.points)]
    values = [v for c in shown for p in c.points for v in (p.value, p.low, p.high) if v is not None]
    if not values:
        return []
    step = _step(max(values) - min(values))
    low, high = step * math.floor(min(values) / step), step * math.ceil(max(values) / step)
    high = high if high > low else low + step
    ticks = [low + step * n for n in range(round((high - low) / step) + 1)]
    return [_drop(curve, (low, high), ticks) for curve in shown]


def _step(width: float) -> float:
    """Return a round distance between ticks, for three to seven of them."""
    ten = 10.0 ** math.floor(math.log10(width / 5 if width > 0 else 0.1))
    return next(ten * many for many in (1, 2, 5, 10) if ten * many >= width / 5 * (1 - 1e-9) or many == 10)


def _drop(curve: DropEntry, reach: tuple[float, float], ticks: Sequence[float]) -> Markup:
    frame, low = _Frame((-0.25, 5.25), reach, _SMALL), reach[0]
    parts = [frame.axes("grade of change (0: as it is)", _cut(curve.name, 24), (0, 1, 2, 3, 4, 5), ticks)]
    if low != 0:
        x, y = frame.at(-0.25, low)
        parts.append(Markup('<text x="{:.1f}" y="{:.1f}">axis from {}, not 0</text>').format(x + 5, y - 5, _short(low)))
    known = [p for p in curve.points if p.value is not None]
    parts.append(frame.line([(p.grade, p.value or 0.0) for p in known], "series s0"))
    for p in known:
        if p.low is not None and p.high is not None:
            parts.append(frame.line([(p.grade, p.low), (p.grade, p.high)], "whisker s0"))
        x, y = frame.at(p.grade, p.value or 0.0)
        parts.append(Markup('<circle class="dot s0" cx="{:.1f}" cy="{:.1f}" r="4"/>').format(x, y))
    words = f"{curve.name} {curve.structure} against grades 0 to 5; the numbers are in the table."
    drawn = _svg(parts, f"Drop curve of {curve.kind}", words, _SMALL[1], _SMALL[0])
    return Markup("<h3>{}</h3>{}").format(curve.kind, drawn)


def forest_svg(block: SubgroupBlock) -> Markup:
    """Draw the figure of every group with its interval, the overall one as a line, those that were not tested named."""
    rows = [row for row in block.rows if row.value is not None]
    if not rows:
        return Markup("")
    ends = [v for row in rows for v in (row.value, row.low, row.high) if v is not None] + [block.overall]
    low, high = min(ends), max(ends)
    margin = 0.06 * (high - low or 1.0)
    low, high = low - margin, high + margin
    width, left, right, step, top = 860, 330, 190, 24, 26
    height = top + step * len(rows) + 34

    def x_of(value: float) -> float:
        return left + (value - low) / (high - low) * (width - left - right)

    overall = x_of(block.overall)
    parts = [
        Markup('<line class="chance" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>').format(
            overall, top - 8, height - 26
        ),
        Markup('<text x="{:.1f}" y="14" text-anchor="middle">all {:.3f}</text>').format(overall, block.overall),
    ]
    for n, row in enumerate(rows):
        parts.append(_forest_row(row, top + step * (n + 0.5), x_of, width - right + 8, left - 10))
    for share in (0.0, 0.5, 1.0):
        value = low + margin + share * (high - low - 2 * margin)
        parts.append(Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{:.3g}</text>').format(
            x_of(value), height - 8, value))  # fmt: skip
    words = (
        f"{block.name} {block.structure} of {len(rows)} groups; a filled square differs from the rest after correction."
    )
    return _svg(parts, "Subgroups", words, height, width)


def _forest_row(row: SubgroupEntry, y: float, x_of: object, right: float, left: float) -> Markup:
    if not callable(x_of) or row.value is None:
        return Markup("")
    differs = row.p_corrected is not None and row.p_corrected <= _SIGNIFICANT
    css = "box differs" if differs else "box"
    x = x_of(row.value)
    parts = [Markup('<text x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(left, y + 4, _cut(row.name))]
    if row.low is not None and row.high is not None:
        parts.append(Markup('<line class="whisker s0" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>').format(
            x_of(row.low), x_of(row.high), y, y))  # fmt: skip
    parts.append(Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="9" height="9"/>').format(css, x - 4.5, y - 4.5))
    interval = "" if row.low is None else f" ({row.low:.3f} to {row.high:.3f})"
    parts.append(Markup('<text x="{:.1f}" y="{:.1f}">{}</text>').format(right, y + 4, f"{row.value:.3f}{interval}"))
    return Markup("").join(parts)


def _cut(name: str, most: int = 54) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
