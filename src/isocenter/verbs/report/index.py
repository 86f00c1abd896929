"""The first page of several results: a thumbnail, a sentence and a link for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from isocenter.verbs.report.page import environment

__all__ = ["IndexEntry", "index_html"]


@dataclass(frozen=True)
class IndexEntry:
    """One result on the index page.

    Args:
        title: What it is.
        href: Relative link to its report page.
        summary: One or two sentences.
        thumbnail_png: A picture; empty for none.
        facts: Short (name, value) pairs shown below.
        credit: Where the image comes from, and its licence.
    """

    title: str
    href: str
    summary: str
    thumbnail_png: bytes = b""
    facts: tuple[tuple[str, str], ...] = ()
    credit: str = ""


def index_html(entries: Sequence[IndexEntry], *, title: str = "Isocenter demo", lead: str = "") -> str:
    """Write the index page; it refers to nothing but the reports that it links to.

    Args:
        entries: Results in the order to show them.
        title: Heading.
        lead: A sentence or two below the heading.
    """
    return environment().get_template("index.html.j2").render(entries=entries, title=title, lead=lead)
