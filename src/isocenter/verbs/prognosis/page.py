"""The pages of `isocenter prognose`: a model with its figures, and people with their curves."""

from __future__ import annotations

from functools import lru_cache

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from isocenter.verbs.evaluation.page import number
from isocenter.verbs.prognosis.document import PrognosisDocument, PrognosisModel
from isocenter.verbs.prognosis.drawing import calibration_svg, risk_svg
from isocenter.verbs.report.page import environment as report_environment
from isocenter.verbs.templates import page_environment

__all__ = ["render_model", "render_people"]


@lru_cache(maxsize=1)
def _environment() -> Environment:
    made = page_environment("prognosis")
    plots = PackageLoader("isocenter.verbs", "evaluation").get_source(made, "evaluation.css")[0]
    made.globals.update(
        css=report_environment().globals["css"],
        # Our own file, read at build time; nothing of the document is ever marked as safe.
        plots=Markup(plots),  # noqa: S704
        calibration=calibration_svg,
        curve=risk_svg,
    )
    made.filters["number"] = number
    made.filters["percent"] = lambda share: f"{100 * share:.0f} %" if share >= 0.095 else f"{100 * share:.1f} %"
    return made


def render_model(model: PrognosisModel) -> str:
    """Write the page of a model: one HTML document that needs no other file and no script."""
    return _environment().get_template("model.html.j2").render(model=model)


def render_people(document: PrognosisDocument) -> str:
    """Write the page of people: one HTML document that needs no other file and no script."""
    return _environment().get_template("people.html.j2").render(document=document)
