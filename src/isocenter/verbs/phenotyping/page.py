"""The page of a phenotype: the document and a picture in, one HTML file without script out."""

from __future__ import annotations

from functools import lru_cache

from jinja2 import Environment

from isocenter.verbs.phenotyping.document import FeatureEntry, PhenotypeDocument, RegionEntry
from isocenter.verbs.report.page import data_uri
from isocenter.verbs.report.page import environment as report_environment
from isocenter.verbs.report.words import figure, image_line, unit
from isocenter.verbs.templates import page_environment

__all__ = ["render_phenotype"]


@lru_cache(maxsize=1)
def _environment() -> Environment:
    made = page_environment("phenotyping")
    made.globals.update(css=report_environment().globals["css"], figure=figure, number=number, unit=unit, groups=groups)
    made.filters["data_uri"] = data_uri
    return made


def number(value: float) -> str:
    """Write a feature's value with four digits.

    Example:
        >>> [number(v) for v in (0.012345, 123456.7, -2.0)]
        ['0.01235', '1.235e+05', '-2']
    """
    return f"{value:.4g}"


def groups(region: RegionEntry) -> list[tuple[str, list[FeatureEntry]]]:
    """Return features by family, in their own order, those of each filter apart."""
    found: dict[str, list[FeatureEntry]] = {}
    for feature in region.features:
        filtered = f", {feature.tag.rsplit('.', 1)[0]}" if "." in feature.tag else ""
        found.setdefault(f"{feature.family}{filtered}", []).append(feature)
    return list(found.items())


def render_phenotype(document: PhenotypeDocument, preview: bytes | None) -> str:
    """Write the page.

    Args:
        document: What was found.
        preview: Picture (PNG) of the segments; None for none.
    """
    return (
        _environment()
        .get_template("page.html.j2")
        .render(document=document, preview=preview, subject=image_line(document.image))
    )
