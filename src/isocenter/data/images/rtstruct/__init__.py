"""RT Structure Set: regions of interest as contours, read onto a grid and written from one.

Reading (`read_rtstruct`) fills contours by the standard's own rule: what is inside or on the line. Writing
(`write_rtstruct`) draws along voxel edges, so that any program that asks whether a voxel's centre lies inside gets the
very same voxels back. Holes are keyholes, or exclusive-or contours on request. The price is a staircase where a
treatment planning system would draw a smooth line; it is the honest picture of what the voxels say.
"""

from __future__ import annotations

from isocenter.data.images.rtstruct.read import rasterise, read_rtstruct
from isocenter.data.images.rtstruct.structure_set import Contour, Region, StructureSet, open_rtstruct
from isocenter.data.images.rtstruct.write import write_rtstruct

__all__ = ["Contour", "Region", "StructureSet", "open_rtstruct", "rasterise", "read_rtstruct", "write_rtstruct"]
