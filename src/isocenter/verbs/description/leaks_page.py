"""The page of the leak report: one HTML file that needs no other file and no script."""

from __future__ import annotations

from isocenter.verbs.description.page import description_environment
from isocenter.verbs.leaks import LeaksDocument

__all__ = ["render_leaks"]


def render_leaks(document: LeaksDocument) -> str:
    """Write the page."""
    return description_environment().get_template("leaks.html.j2").render(d=document)
