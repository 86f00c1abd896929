"""The page of `isocenter describe`: one HTML file that needs no other file and no script."""

from __future__ import annotations

from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from isocenter.verbs.description.document import DescriptionDocument
from isocenter.verbs.description.drawing import histogram_svg, size_of
from isocenter.verbs.report.page import environment as report_environment

__all__ = ["description_environment", "render_description"]


@lru_cache(maxsize=1)
def description_environment() -> Environment:
    """Return the environment of the templates of this room."""
    made = Environment(
        loader=PackageLoader("isocenter.verbs", "description"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    plots = PackageLoader("isocenter.verbs", "evaluation").get_source(made, "evaluation.css")[0]
    made.globals.update(
        css=report_environment().globals["css"],
        # Our own file, read at build time; nothing of the document is ever marked as safe.
        plots=Markup(plots),  # noqa: S704
        histogram=histogram_svg,
    )
    made.filters["size"] = size_of
    made.filters["thousands"] = lambda n: "" if n is None else f"{n:,}"
    made.filters["percent"] = lambda share: (
        "0 %"
        if share == 0
        else "> 99.9 %"
        if 0.999 < share < 1
        else "< 0.1 %"
        if share < 0.001
        else f"{100 * share:.1f} %"
    )
    return made


def render_description(document: DescriptionDocument) -> str:
    """Write the page."""
    return description_environment().get_template("describe.html.j2").render(d=document)
