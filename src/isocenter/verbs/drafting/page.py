"""The page of a draft: sentences on the one hand, what each rests on beside them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from jinja2 import Environment

from isocenter.safety.claims import Ledger
from isocenter.tasks.report.compose import Draft
from isocenter.verbs.report.page import data_uri
from isocenter.verbs.report.page import environment as report_environment
from isocenter.verbs.templates import page_environment

__all__ = ["render_draft"]


@lru_cache(maxsize=1)
def _environment() -> Environment:
    made = page_environment("drafting")
    made.globals.update(css=report_environment().globals["css"])
    made.filters["data_uri"] = data_uri
    return made


def render_draft(
    parts: list[tuple[Draft, Ledger]],
    *,
    subject: str,
    preview: bytes | None,
    written_by: str,
    pictures: Mapping[str, bytes] | None = None,
) -> str:
    """Write the page.

    Args:
        parts: A draft and its ledger for each kind of examination.
        subject: What the page is of, without a patient's name.
        preview: Picture (PNG) of what was outlined; None for none.
        written_by: Who put the sentences into words.
        pictures: Pictures (PNG) of evidence by their path in the result.

    Returns:
        One HTML document that needs no other file and no script.
    """
    return (
        _environment()
        .get_template("draft.html.j2")
        .render(parts=parts, subject=subject, preview=preview, written_by=written_by, pictures=pictures or {})
    )
