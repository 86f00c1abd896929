"""The report page: `ResultDocument` and pictures in, one HTML file out."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import lru_cache

from jinja2 import Environment
from markupsafe import Markup

from isocenter.verbs.report import words
from isocenter.verbs.report.pictures import Picture
from isocenter.verbs.result import PredictionEntry, ResultDocument
from isocenter.verbs.templates import page_environment

__all__ = ["environment", "render_html"]

_MARKS = {"ok": "✓", "note": "i", "warning": "!", "fail": "✕", "unknown": "?"}
_SPOKEN = {"ok": "fine", "note": "note", "warning": "caution", "fail": "not fit", "unknown": "not tested"}


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Return the templates' environment: everything is escaped, and an unknown name is an error."""
    made = page_environment("report")
    made.filters["data_uri"] = data_uri
    made.filters["hex_colour"] = lambda rgb: "#{:02x}{:02x}{:02x}".format(*rgb)
    made.globals.update(
        mark=_MARKS.__getitem__,
        spoken=_SPOKEN.__getitem__,
        figure=words.figure,
        image_line=words.image_line,
        prompt_line=words.prompt_line,
        rows=words.measurement_rows,
        sure=words.uncertainty_lines,
        findings=words.finding_rows,
        not_chances=lambda some: tuple(m for m in some if not words.is_chance(m)),
        like=words.likeness_line,
        # Our own files, read at build time; nothing of the document is ever marked as safe.
        css=lambda: Markup(made.get_template("report.css").render()),  # noqa: S704
        js=lambda: Markup(made.get_template("report.js.j2").render()),  # noqa: S704
    )
    return made


def data_uri(content: bytes, kind: str) -> str:
    """Put a file into a URI, so that the page needs nothing beside itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def render_html(
    document: ResultDocument, pictures: Mapping[int, Sequence[Picture]], evidence: Mapping[str, bytes] | None = None
) -> str:
    """Write the report page.

    Args:
        document: The result.
        pictures: Pictures by position of the prediction in `document.predictions`; an image without any answer may be
            shown under the key -1 - image index.
        evidence: Pictures (PNG) of evidence by their path in the result.

    Returns:
        One HTML document without any reference to another file or address. Scripts are only needed to scroll.
    """
    answered = [(n, p) for n, p in enumerate(document.predictions) if p.abstained is None]
    tasks = tuple(dict.fromkeys(p.title or p.task for p in document.predictions))
    warnings = [(i, q) for i in document.images for q in i.quality if q.status in ("warning", "fail")]
    # Several tasks may be given the same prompts of an image; those of different images are different ones.
    prompts = sum(
        max((len(p.prompts) for p in document.predictions if p.image == i.index), default=0) for i in document.images
    )
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            document=document,
            pictures=pictures,
            evidence=evidence or {},
            answered=answered,
            abstained=_abstentions(document),
            refused=[r for r in document.left_out if r.kind == "refused"],
            ignored=[r for r in document.left_out if r.kind == "ignored"],
            warnings=warnings,
            asked=words.asked(document.images, tasks, prompts),
            headline=_headline(document, len(answered)),
            key_figures={n: _key_figures(p) for n, p in answered},
        )
    )


def _abstentions(document: ResultDocument) -> list[tuple[str, str, str]]:
    """Return (task, reason, images) of every abstention; a task's same reason on several images is said once."""
    found: dict[tuple[str, str], list[str]] = {}
    for p in document.predictions:
        if p.abstained is not None:
            found.setdefault((p.title or p.task, p.abstained), []).append(str(p.image))
    return [
        (title, reason, f"image{'s' if len(images) > 1 else ''} {', '.join(images)}")
        for (title, reason), images in found.items()
    ]


def _headline(document: ResultDocument, answered: int) -> str:
    if not document.predictions:
        return "Nothing was asked of the images"
    if not answered:
        return "No answer: every task abstained"
    titles = [p.title or p.task for p in document.answered]
    return "; ".join(dict.fromkeys(titles))


def _key_figures(prediction: PredictionEntry) -> list[tuple[str, str]]:
    """Return (label, value with unit) of the size of each segment: the first measurement that it has."""
    labels = {s.number: s.label for s in prediction.segments}
    found: dict[int, str] = {}
    for m in prediction.measurements:
        if m.segment is not None and m.segment not in found:
            found[m.segment] = f"{words.figure(m.value)} {words.unit(m.unit.value) or m.name.meaning.lower()}"
    return [(labels.get(number, f"segment {number}"), text) for number, text in found.items()]
