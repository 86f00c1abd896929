"""The page of `isocenter treat`: one document in, one self-contained HTML file out."""

from __future__ import annotations

from functools import lru_cache

from jinja2 import Environment
from markupsafe import Markup

from isocenter.verbs.evaluation.page import environment as evaluation_environment
from isocenter.verbs.evaluation.page import p_value
from isocenter.verbs.templates import page_environment
from isocenter.verbs.treatment.document import AmountEntry, OutcomeBlock, TreatDocument
from isocenter.verbs.treatment.icons import balance_svg, groups_svg, icons_svg, shapes

__all__ = ["amount", "render_treat", "shown"]


def _number(value: float) -> str:
    text = f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 1000 else f"{value:,.0f}"
    return text.replace("-", "−")


def shown(text: str) -> str:
    """Write units in brackets as people do.

    Example:
        >>> shown("ct: stat_mean [[hnsf'U]] above 40"), shown("age [a]")
        ('ct: stat_mean [HU] above 40', 'age [a]')
    """
    return text.replace("[hnsf'U]", "HU").replace("{SUVbw}g/ml", "SUVbw")


def amount(entry: AmountEntry, block: OutcomeBlock) -> str:
    """Write a number with its interval: a chance in 100 people, another in its unit.

    Example:
        >>> amount(AmountEntry(value=0.123, low=-0.02, high=0.2, level=0.9), OutcomeBlock.model_construct(chance=True))
        '12.3 in 100 (−2.0 to 20.0)'
    """
    if block.chance:
        return f"{100 * entry.value:.1f} in 100 ({100 * entry.low:.1f} to {100 * entry.high:.1f})".replace("-", "−")
    unit = "" if block.unit == "1" else f" {block.unit}"
    return f"{_number(entry.value)}{unit} ({_number(entry.low)} to {_number(entry.high)})"


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Return the template's environment: everything is escaped, and an unknown name is an error."""
    made = page_environment("treatment")
    common = evaluation_environment()
    made.globals.update(
        amount=amount, number=_number, p_value=p_value, icons_svg=icons_svg, groups_svg=groups_svg,
        balance_svg=balance_svg, shapes=shapes, shown=shown,
        # Our own files, read at build time; nothing of the document is ever marked as safe.
        css=lambda: Markup(common.globals["css"]() + made.get_template("treat.css").render()),  # type: ignore[operator]  # noqa: S704
    )  # fmt: skip
    return made


def render_treat(document: TreatDocument) -> str:
    """Write the page.

    Returns:
        One HTML document without any reference to another file or address, and without scripts.
    """
    return environment().get_template("treat.html.j2").render(d=document)
