"""Risk curves and groups as inline SVG: readable in light and dark, each line told apart by its style too."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from isocenter.verbs.prognosis.document import CalibrationEntry, PersonEntry

__all__ = ["calibration_svg", "risk_svg"]

_WIDTH, _HEIGHT = 620, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 14, 44
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_OPEN = Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}"><title>{}</title><desc>{}</desc>')
_GRID = Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>')
_TICK = Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
_AREA = Markup('<polygon class="{}" points="{}"/>')
_LINE = Markup('<polyline class="{}" points="{}"/>')
_UPRIGHT = Markup('<line class="chance" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>')
_WHISKER = Markup('<line class="whisker s0" x1="{0:.1f}" x2="{0:.1f}" y1="{1:.1f}" y2="{2:.1f}"/>')
_DOT = Markup('<circle class="dot s0" cx="{:.1f}" cy="{:.1f}" r="5"/>')
_NAME = Markup('<text class="name" x="{}" y="{}" text-anchor="middle">{}</text>')
_SIDE = Markup('<text class="name" transform="translate(13 {}) rotate(-90)" text-anchor="middle">{}</text>')


class _Plot:
    """A drawing with shares upwards."""

    def __init__(self, most: float, words: tuple[str, str]) -> None:
        self._most = most
        self.parts = [_OPEN.format(_WIDTH, _HEIGHT, f"{words[0]}. {words[1]}", *words)]

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = _LEFT + x / self._most * (_WIDTH - _LEFT - _RIGHT)
        return across, _HEIGHT - _BOTTOM - y * (_HEIGHT - _TOP - _BOTTOM)

    def points(self, xs: Sequence[float], ys: Sequence[float]) -> str:
        return " ".join("{:.1f},{:.1f}".format(*self.at(x, y)) for x, y in zip(xs, ys, strict=True))

    def axes(self, across: str, upwards: str, ticks: Sequence[float]) -> None:
        for share in _SHARES:
            x, y = self.at(0, share)
            self.parts += [_GRID.format(_LEFT, _WIDTH - _RIGHT, y, y), _TICK.format(x - 6, y + 4, "end", f"{share:g}")]
        for tick in ticks:
            x, y = self.at(tick, 0)
            self.parts.append(_TICK.format(x, y + 16, "middle", f"{tick:,.3g}" if tick < 1000 else f"{tick:,.0f}"))
        self.parts += [
            _NAME.format((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 6, across),
            _SIDE.format((_TOP + _HEIGHT - _BOTTOM) / 2, upwards),
        ]

    def done(self) -> Markup:
        return Markup("").join([*self.parts, Markup("</svg>")])


def _steps(xs: Sequence[float], ys: Sequence[float], end: float) -> tuple[list[float], list[float]]:
    """Return a curve that stays until it steps."""
    across, up = [0.0], [1.0]
    for x, y in zip(xs, ys, strict=True):
        if x > end:
            break
        across += [x, x]
        up += [up[-1], y]
    return [*across, end], [*up, up[-1]]


def risk_svg(person: PersonEntry, at_days: Sequence[float], horizon_days: float, event: str) -> Markup:
    """Draw the curve of a person with its band, over the curve of the nearest patients with its interval.

    Args:
        person: With an answer.
        at_days: Days of the curve.
        horizon_days: Marked by an upright line.
        event: What is counted.
    """
    end = float(at_days[-1])
    words = (
        f"Chance of being without {event}",
        f"Of this person with a band, and of the {person.neighbours} nearest patients; the upright line is day "
        f"{horizon_days:g}.",
    )
    plot = _Plot(end, words)
    plot.axes("days", f"without {event}", [end * k / 5 for k in range(6)])
    if person.neighbours_low:
        low = _steps(person.neighbours_days, person.neighbours_low, end)
        high = _steps(person.neighbours_days, person.neighbours_high, end)
        plot.parts.append(_AREA.format("band near", plot.points(*high) + " " + plot.points(low[0][::-1], low[1][::-1])))
    days = [0.0, *at_days]
    ends = plot.points(days, [1.0, *person.survival_high])
    back = plot.points(days[::-1], [1.0, *person.survival_low][::-1])
    plot.parts.append(_AREA.format("band own", f"{ends} {back}"))
    near = _steps(person.neighbours_days, person.neighbours_survival, end)
    plot.parts.append(_LINE.format("series s1", plot.points(*near)))
    plot.parts.append(_LINE.format("series s0", plot.points(days, [1.0, *person.survival])))
    x, bottom = plot.at(horizon_days, 0)
    plot.parts.append(_UPRIGHT.format(x, _TOP, bottom))
    return plot.done()


def calibration_svg(groups: Sequence[CalibrationEntry]) -> Markup:
    """Draw what was said against what happened, group by group; the diagonal is perfect."""
    plot = _Plot(
        1.0, ("Calibration at the horizon", "Predicted against observed share; the dotted diagonal is perfect.")
    )
    plot.axes("predicted risk", "observed share", _SHARES)
    plot.parts.append(_LINE.format("chance", plot.points([0, 1], [0, 1])))
    for group in groups:
        x, y = plot.at(group.predicted, group.observed)
        if group.low is not None and group.high is not None:
            plot.parts.append(_WHISKER.format(x, plot.at(0, group.low)[1], plot.at(0, group.high)[1]))
        plot.parts.append(_DOT.format(x, y))
    return plot.done()
