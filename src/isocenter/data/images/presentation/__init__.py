"""DICOM presentation states: what was found, drawn over the very images that it was found on.

`write_presentation_state` draws outlines of segments and circles round points over a grayscale or colour image, reads
the file back, and compares what is drawn there with what was to be drawn, in patient millimetres.
`read_presentation_state` reads any softcopy presentation state's graphics.
"""

from __future__ import annotations

from isocenter.data.images.presentation.drawing import Drawing, Shape, Spot
from isocenter.data.images.presentation.read import PresentationState, read_presentation_state
from isocenter.data.images.presentation.write import PresentationProof, write_presentation_state

__all__ = [
    "Drawing",
    "PresentationProof",
    "PresentationState",
    "Shape",
    "Spot",
    "read_presentation_state",
    "write_presentation_state",
]
