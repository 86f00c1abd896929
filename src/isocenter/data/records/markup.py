"""Text out of HTML and XHTML: what a reader of the page would see, a line where the page breaks one."""

from __future__ import annotations

import re
from html.parser import HTMLParser

__all__ = ["plain_text"]

_BLOCKS = frozenset(
    ("p", "br", "div", "li", "ul", "ol", "tr", "table", "h1", "h2", "h3", "h4", "h5", "h6", "section", "hr", "pre",
     "blockquote", "dl", "dt", "dd", "header", "footer", "caption")
)  # fmt: skip
_HIDDEN = frozenset(("script", "style", "head", "title", "template"))


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.out: list[str] = []
        self.hidden = 0
        self.kept = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _HIDDEN:
            self.hidden += 1
        elif tag == "body":
            self.hidden = 0  # a head that was never closed
        elif tag in _BLOCKS:
            self.out.append("\n")
            self.kept += tag == "pre"
        elif tag in ("td", "th"):
            self.out.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag in _HIDDEN:
            self.hidden = max(0, self.hidden - 1)
        elif tag in _BLOCKS:
            self.out.append("\n")
            self.kept = max(0, self.kept - (tag == "pre"))

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.out.append(data if self.kept else re.sub(r"\s+", " ", data))


def plain_text(markup: str) -> str:
    r"""Return the text of HTML.

    Example:
        >>> plain_text("<div><p>No&nbsp;effusion.</p><p>Heart <b>normal</b>.<br/>End</p><script>x</script></div>")
        'No effusion.\nHeart normal.\nEnd'
    """
    parser = _Text()
    parser.feed(markup)
    parser.close()
    lines = (re.sub(r"[ \t\xa0]+", " ", line).strip() for line in "".join(parser.out).split("\n"))
    return "\n".join(line for line in lines if line)
