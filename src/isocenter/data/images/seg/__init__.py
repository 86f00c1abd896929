"""DICOM Segmentation: BINARY, FRACTIONAL and label maps, written with a geometry proof and read from any tool.

The way of a mask into a file: `sources` finds what it was drawn on, `stored` plans the frames and packs their bits,
`segments` describes the segments, `encode` turns per-frame groups into bytes, `write` puts them together and proves the
result. The way back: `scan` picks places and segments from the per-frame groups, `grid` makes a regular grid of the
places, `frames` unpacks the pixels, `read` paints them.

Both ways are streams over frames; no object is built per frame, and no stack of all segments unless they overlap.
"""

from __future__ import annotations

from isocenter.data.images.seg.read import read_seg
from isocenter.data.images.seg.stored import SegKind
from isocenter.data.images.seg.write import SegOptions, write_seg

__all__ = ["SegKind", "SegOptions", "read_seg", "write_seg"]
