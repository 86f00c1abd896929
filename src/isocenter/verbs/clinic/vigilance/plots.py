"""Plots of the panel, as SVG made here: no script, and words for whoever can't see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup, escape

from isocenter.verbs.clinic.vigilance.assess import FeatureState, RateState

__all__ = ["agreement_plot", "evidence_plot", "rate_plot", "values_plot", "words_plot"]

_WIDTH: Final = 220
_HEIGHT: Final = 46
_EDGE: Final = 4


def evidence_plot(trace: Sequence[float], limit: float, words: str) -> Markup:
    """Draw evidence over time, and the line at which there is an alarm.

    Args:
        trace: Log10 of the capital.
        limit: Log10 at which there is an alarm.
        words: What it shows.
    """
    if not trace:
        return _svg("", words)
    low, high = min(-1.0, *trace), max(limit * 1.15, *trace)
    beyond = max(trace) >= limit
    y = _place(limit, low, high)
    inner = f'<line class="limit" x1="0" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
    zero = _place(0.0, low, high)
    inner += f'<line class="zero" x1="0" x2="{_WIDTH}" y1="{zero:.1f}" y2="{zero:.1f}"/>'
    inner += f'<polyline class="{"stop" if beyond else "line"}" points="{_points(trace, low, high)}"/>'
    return _svg(inner, words)


def values_plot(state: FeatureState, words: str) -> Markup:
    """Draw numbers over time on the reference's middle 90 %, 50 % and median."""
    band = state.reference_values
    if isinstance(band, dict) or not band:
        return _svg("", words)
    every = [*band, *state.points]
    low, high = min(every), max(every)
    pad = (high - low) * 0.08 or 1.0
    low, high = low - pad, high + pad
    inner = ""
    for css, a, b in (("wideband", band[0], band[4]), ("band", band[1], band[3])):
        top, bottom = _place(b, low, high), _place(a, low, high)
        inner += f'<rect class="{css}" x="0" y="{top:.1f}" width="{_WIDTH}" height="{max(1.0, bottom - top):.1f}"/>'
    middle = _place(band[2], low, high)
    inner += f'<line class="median" x1="0" x2="{_WIDTH}" y1="{middle:.1f}" y2="{middle:.1f}"/>'
    count = max(1, len(state.points) - 1)
    for n, value in enumerate(state.points):
        x = _EDGE + n * (_WIDTH - 2 * _EDGE) / count
        inner += f'<circle class="dot" cx="{x:.1f}" cy="{_place(value, low, high):.1f}" r="1.5"/>'
    return _svg(inner, words)


def words_plot(state: FeatureState, words: str) -> Markup:
    """Draw shares of words: the reference above, the window below; the three commonest, and the rest."""
    before, now = state.reference_values, state.window_values
    if not isinstance(before, dict) or not isinstance(now, dict):
        return _svg("", words)
    names = sorted({*before, *now}, key=lambda w: (-before.get(w, 0.0), -now.get(w, 0.0), w))[:3]
    inner = ""
    for row, shares in enumerate((before, now)):
        x, y = 0.0, 4 + row * 21
        parts = [(n, shares.get(w, 0.0)) for n, w in enumerate(names)]
        parts.append((3, max(0.0, sum(shares.values()) - sum(s for _, s in parts))))
        for n, share in parts:
            width = share * _WIDTH
            if width > 0.4:
                inner += f'<rect class="word{n}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="17"/>'
                if n < len(names) and width > 34:
                    label = escape(names[n][: int(width / 7)])
                    inner += f'<text x="{x + 4:.1f}" y="{y + 12.5}">{label}</text>'
            x += width
    return _svg(inner, words)


def rate_plot(state: RateState, words: str) -> Markup:
    """Draw a rate with its interval on 0 to 1, and its limit."""
    inner = f'<line class="zero" x1="0" x2="{_WIDTH}" y1="30" y2="30"/>'
    for n in range(5):
        x = n * _WIDTH / 4
        inner += f'<line class="zero" x1="{x:.1f}" x2="{x:.1f}" y1="27" y2="33"/>'
    if state.cases:
        a, b = state.low * _WIDTH, state.high * _WIDTH
        value = state.happened / state.cases
        css = "stop" if state.since is not None else "line"
        inner += f'<line class="{css} thick" x1="{a:.1f}" x2="{b:.1f}" y1="18" y2="18"/>'
        inner += f'<circle class="dot big" cx="{min(_WIDTH - 4, max(4, value * _WIDTH)):.1f}" cy="18" r="4"/>'
    if state.limit is not None:
        x = state.limit * _WIDTH
        inner += f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="6" y2="36"/>'
    return _svg(inner, words)


def agreement_plot(
    means: Sequence[float], differences: Sequence[float], lines: tuple[float, ...], words: str
) -> Markup:
    """Draw differences over means, with bias and limits.

    Args:
        means: Of both methods, one a patient.
        differences: Second less first.
        lines: Bias, lower and upper limit.
        words: What it shows.
    """
    width, height = 420, 190
    xs, ys = (min(means), max(means)), (min(*differences, *lines), max(*differences, *lines))
    dx, dy = (xs[1] - xs[0]) or 1.0, (ys[1] - ys[0]) or 1.0
    ys, dy = (ys[0] - 0.06 * dy, ys[1] + 0.06 * dy), 1.12 * dy
    inner = ""
    for css, at in zip(("median", "limit", "limit"), lines, strict=True):
        y = height - 12 - (at - ys[0]) / dy * (height - 24)
        inner += f'<line class="{css}" x1="0" x2="{width}" y1="{y:.1f}" y2="{y:.1f}"/>'
        inner += f'<text class="tick" x="{width - 4}" y="{y - 4:.1f}" text-anchor="end">{at:+.3g}</text>'
    for m, d in zip(means, differences, strict=True):
        x, y = 12 + (m - xs[0]) / dx * (width - 90), height - 12 - (d - ys[0]) / dy * (height - 24)
        inner += f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
    return _svg(inner, words, width, height)


def _svg(inner: str, words: str, width: int = _WIDTH, height: int = _HEIGHT) -> Markup:
    return Markup(  # noqa: S704 - all that is not ours is escaped
        f'<svg role="img" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'aria-label="{escape(words)}"><title>{escape(words)}</title>{inner}</svg>'
    )


def _place(value: float, low: float, high: float) -> float:
    return _EDGE + (1 - (value - low) / ((high - low) or 1.0)) * (_HEIGHT - 2 * _EDGE)


def _points(values: Sequence[float], low: float, high: float) -> str:
    count = max(1, len(values) - 1)
    return " ".join(
        f"{_EDGE + n * (_WIDTH - 2 * _EDGE) / count:.1f},{_place(v, low, high):.1f}" for n, v in enumerate(values)
    )
