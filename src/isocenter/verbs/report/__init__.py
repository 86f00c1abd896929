"""The page a person reads: one self-contained file with pictures, numbers, doubts, and everything that was not done.

`planes` decides which way round a picture lies and which letters stand beside it, `display` turns values to grey,
`overlay` draws segments on it, `pictures` chooses what to show, `page` and `index` write HTML. Nothing is fetched from
anywhere when the page is opened, and without scripts only the scrolling through slices is lost.
"""

from __future__ import annotations

from isocenter.verbs.report.heat import heat_png
from isocenter.verbs.report.index import IndexEntry, index_html
from isocenter.verbs.report.overlay import PALETTE, overlay_png
from isocenter.verbs.report.page import render_html
from isocenter.verbs.report.pictures import Frame, Picture, pictures

__all__ = [
    "PALETTE",
    "Frame",
    "IndexEntry",
    "Picture",
    "heat_png",
    "index_html",
    "overlay_png",
    "pictures",
    "render_html",
]
