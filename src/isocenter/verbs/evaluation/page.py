"""The page of an evaluation or a scorecard: documents and pictures in, one self-contained HTML file out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Protocol, runtime_checkable

from jinja2 import Environment
from markupsafe import Markup

from isocenter.verbs.evaluation.document import EvaluationDocument, FigureEntry, ScorecardDocument
from isocenter.verbs.evaluation.drawing import curves_svg, drops_svg, forest_svg, reliability_svg, roc_svg
from isocenter.verbs.report.page import data_uri
from isocenter.verbs.report.page import environment as report_environment
from isocenter.verbs.templates import page_environment

__all__ = ["key_figures", "render_evaluation", "render_scorecard"]

_MARKS = {"passed": "✓", "failed": "✕", "not measured": "?", "not applicable": "–", "measured": "·"}
_CSS = {
    "passed": "ok", "failed": "fail", "not measured": "warning", "not applicable": "unknown", "measured": "unknown",
}  # fmt: skip
_KEY = 6


def number(value: float | None) -> str:
    """Write a figure with three decimals, or three digits where it is larger.

    Example:
        >>> [number(v) for v in (0.87312, 12.3456, 1234.5, None, -0.05)]
        ['0.873', '12.3', '1,234', '', '−0.050']
    """
    if value is None:
        return ""
    text = f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 100 else f"{value:,.0f}"
    return text.replace("-", "−")


@runtime_checkable
class _Named(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def structure(self) -> str: ...


def named(figure: _Named) -> str:
    """Write a figure's name, and what it is of."""
    return ", ".join(filter(None, (figure.name, figure.structure)))


def unit(code: str) -> str:
    """Write a unit after its number; nothing for a ratio."""
    return "" if code == "1" else f" {code}"


def p_value(p: float | None) -> str:
    """Write a p value.

    Example:
        >>> [p_value(v) for v in (0.0002, 0.034, 1.0, None)]
        ['< 0.001', '0.034', '1.000', '']
    """
    return "" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Return the templates' environment: everything is escaped, and an unknown name is an error."""
    made = page_environment("evaluation")
    made.filters["data_uri"] = data_uri
    common = report_environment()
    made.globals.update(
        number=number, unit=unit, named=named, p_value=p_value, mark_of=_MARKS.__getitem__, css_of=_CSS.__getitem__,
        roc_svg=roc_svg, reliability_svg=reliability_svg, curves_svg=curves_svg, drops_svg=drops_svg,
        forest_svg=forest_svg,
        # Our own files, read at build time; nothing of the document is ever marked as safe.
        css=lambda: Markup(common.get_template("report.css").render() + made.get_template("evaluation.css").render()),  # noqa: S704
    )  # fmt: skip
    return made


def key_figures(document: EvaluationDocument) -> list[FigureEntry]:
    """Return the figures shown first: the first structure of each metric."""
    seen: dict[str, FigureEntry] = {}
    for figure in document.figures:
        if figure.value is not None:
            seen.setdefault(figure.name, figure)
    return list(seen.values())[:_KEY]


Pictures = Mapping[int, tuple[bytes, bytes | None]]


def render_evaluation(document: EvaluationDocument, pictures: Pictures | None = None) -> str:
    """Write the page of an evaluation.

    Args:
        document: What was measured.
        pictures: PNG of the answer and of the reference, by number of the case.

    Returns:
        One HTML document without any reference to another file or address, and without scripts.
    """
    return _render(document.title, f"{document.kind}, {document.cases} cases", document, None, pictures)


def render_scorecard(card: ScorecardDocument, pictures: Pictures | None = None) -> str:
    """Write the page of a scorecard, as `render_evaluation`."""
    return _render(f"Scorecard of {card.task}", card.card.title, card.evaluation, card, pictures)


def _render(
    title: str,
    subject: str,
    document: EvaluationDocument | None,
    card: ScorecardDocument | None,
    pictures: Pictures | None,
) -> str:
    return (
        environment()
        .get_template("evaluation.html.j2")
        .render(
            title=title,
            subject=subject,
            document=document,
            card=card,
            pictures=dict(pictures or {}),
            key=[] if document is None else key_figures(document),
            worst_name="" if document is None else document.worst_by,
        )
    )
