"""A signed report as a PDF, read back before it stands.

The same report gives the same bytes. Pages are written without compression and in the standard fonts, so that what
stands in them can be read back by the few lines below, and by anybody. Chinese is set in a font that readers of PDFs
bring along (STSong-Light); a sign that neither font has is refused, never dropped.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from isocenter.core.errors import CapabilityError, DataError, ProofError
from isocenter.data.images.atomic import atomic_path

try:
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.lib.units import mm
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.cidfonts import UnicodeCIDFont
    from reportlab.platypus import Image as Picture
    from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer
except ModuleNotFoundError:  # said when a PDF is asked for: the API works without it
    pdfmetrics = None

__all__ = ["PdfReport", "pdf_bytes", "pdf_texts", "write_pdf_report"]

_LATIN, _BOLD, _CHINESE = "Helvetica", "Helvetica-Bold", "STSong-Light"
_STRING = re.compile(rb"\((?:[^()\\]|\\.)*\)\s*Tj", re.DOTALL)
_STREAM = re.compile(rb"stream\r?\n(.*?)endstream", re.DOTALL)
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|.)", re.DOTALL)
_FOOT = re.compile(r"Page \d+")
_PLAIN = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f"}


@dataclass(frozen=True)
class PdfReport:
    """What the pages say.

    Args:
        title: At the top.
        facts: Name and value of what the report is of, and who signed it.
        sections: Title and sentences of each.
        remark: On every page.
        picture: A picture (PNG) at the end, empty for none.
        caption: Of the picture.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    sections: tuple[tuple[str, tuple[str, ...]], ...]
    remark: str
    picture: bytes = b""
    caption: str = ""

    @property
    def texts(self) -> tuple[str, ...]:
        """All that the pages say, in order."""
        said = [self.title, *(f"{name}: {value}" for name, value in self.facts)]
        for title, sentences in self.sections:
            said += [title, *sentences]
        return (*said, *([self.caption] if self.picture else []))


def write_pdf_report(report: PdfReport, path: Path) -> bytes:
    """Write a report as a PDF, and read it back.

    Args:
        report: What it says.
        path: Final file name; appears only when what was read back is what was to be written.

    Returns:
        The file's content.

    Raises:
        CapabilityError: ReportLab is not installed.
        DataError: A sign is in no font that a PDF can count on.
        OutputError: The operating system refused.
        ProofError: What was read back is not what was to be written.
    """
    content = pdf_bytes(report)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
        _check(report, temporary.read_bytes())
    return content


def pdf_bytes(report: PdfReport) -> bytes:
    """Return a report as a PDF; see `write_pdf_report`."""
    if pdfmetrics is None:
        raise CapabilityError("a PDF needs reportlab: pip install 'isocenter[viewer]'")
    stream = io.BytesIO()
    document = SimpleDocTemplate(
        stream, pagesize=A4, invariant=1, pageCompression=0, title=report.title, author="Isocenter",
        leftMargin=20 * mm, rightMargin=20 * mm, topMargin=18 * mm, bottomMargin=22 * mm,
    )  # fmt: skip

    def foot(canvas: Any, made: Any) -> None:
        canvas.saveState()
        for number, text in enumerate((f"Page {made.page}", report.remark)):
            size = min(7.5, 7.5 * 170 * mm / pdfmetrics.stringWidth(text, _font(text), 7.5))
            canvas.setFont(_font(text), size)
            canvas.drawString(20 * mm, 12 * mm + 3.5 * mm * number, text)
        canvas.restoreState()

    story: list[Any] = [_paragraph(report.title, size=15, bold=True, before=0)]
    story += [_paragraph(f"{name}: {value}", size=9, before=1) for name, value in report.facts]
    for title, sentences in report.sections:
        story.append(_paragraph(title, size=11, bold=True, before=9))
        story += [_paragraph(text, size=10, before=2) for text in sentences]
    if report.picture:
        drawn = Picture(io.BytesIO(report.picture))
        scale = min(120 * mm / drawn.drawWidth, 90 * mm / drawn.drawHeight)
        drawn.drawWidth, drawn.drawHeight = drawn.drawWidth * scale, drawn.drawHeight * scale
        drawn.hAlign = "LEFT"
        story += [Spacer(1, 6 * mm), drawn, _paragraph(report.caption, size=8, before=1)]
    document.build(story, onFirstPage=foot, onLaterPages=foot)
    return stream.getvalue()


def _font(text: str, *, bold: bool = False) -> str:
    try:
        text.encode("cp1252")
    except UnicodeEncodeError:
        return _chinese(text)
    return _BOLD if bold else _LATIN


def _chinese(text: str) -> str:
    try:
        text.encode("gb2312")
    except UnicodeEncodeError as error:
        sign = text[error.start]
        raise DataError(
            f"the sign U+{ord(sign):04X} is in no font that a PDF can count on; write the report without it"
        ) from error
    if _CHINESE not in pdfmetrics.getRegisteredFontNames():
        pdfmetrics.registerFont(UnicodeCIDFont(_CHINESE))
    return _CHINESE


def _paragraph(text: str, *, size: float, bold: bool = False, before: float = 0) -> Any:
    font = _font(text, bold=bold)
    style = ParagraphStyle(
        "said", fontName=font, fontSize=size, leading=size * 1.3, spaceBefore=before * mm / 3,
        wordWrap="CJK" if font == _CHINESE else None,
    )  # fmt: skip
    return Paragraph(escape(text, quote=False), style)


def pdf_texts(content: bytes) -> Iterator[str]:
    """Yield the strings that the pages of a PDF of ours show, in order."""
    for stream in _STREAM.finditer(content):
        font = b""
        for token in re.finditer(rb"/(F\d+)\b[^/]*?Tf|" + _STRING.pattern, stream[1], re.DOTALL):
            if token[1]:
                font = token[1]
                continue
            raw = _ESCAPE.sub(_unescaped, token[0][1 : token[0].rindex(b")")])
            yield raw.decode("utf-16-be" if font in _wide(content) else "cp1252")


def _wide(content: bytes) -> frozenset[bytes]:
    """Return the names of the fonts whose strings are of two bytes a sign."""
    objects = (part for part in content.split(b"endobj") if b"/UniGB-UCS2-H" in part)
    return frozenset(name for part in objects for name in re.findall(rb"/Name /(F\d+)", part))


def _unescaped(match: re.Match[bytes]) -> bytes:
    inside = match[1]
    if inside[:1].isdigit():
        return bytes([int(inside, 8) & 0xFF])
    return _PLAIN.get(inside, inside)


def _check(report: PdfReport, content: bytes) -> None:
    found = list(pdf_texts(content))
    pages = len(re.findall(rb"/Type /Page\b", content))
    if pages == 0 or found.count(report.remark) < pages:
        raise ProofError("a page of the PDF read back does not say what it is; nothing was kept")
    # A page's foot stands between the lines of a sentence that goes on overleaf.
    said = _bare("".join(text for text in found if text != report.remark and not _FOOT.fullmatch(text)))
    place = 0
    for text in report.texts:
        at = said.find(_bare(text), place)
        if at < 0:
            raise ProofError("the PDF read back does not say what was signed; nothing was kept")
        place = at + len(_bare(text))


def _bare(text: str) -> str:
    """Return text without spaces: a line's end takes one away."""
    return "".join(text.split())
