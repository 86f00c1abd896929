"""COCO: pictures and one file of annotations, a mask of each class as uncompressed run lengths.

Run lengths keep a mask to the pixel, which polygons do not. They run down the columns, begin with what is outside, and
may overlap between classes. An image that was looked at and holds nothing stands in the file without an annotation.

Source:
    Lin et al., ECCV 2014; https://cocodataset.org/#format-data.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from isocenter.core.errors import DataError
from isocenter.data.labelled.cases import LabelledCase, LabelledSet
from isocenter.data.labelled.coco import ANNOTATIONS, mask_of_runs
from isocenter.data.labelled.export.form import ExportOptions, Ready, is_picture, write_image, write_patients

__all__ = ["Coco", "runs_of_mask"]


def runs_of_mask(mask: Bool[np.ndarray, "h w"]) -> list[int]:
    """Return run lengths down the columns, outside first.

    Example:
        >>> runs_of_mask(np.array([[False, True], [True, True]]))
        [1, 3]
    """
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return [0, *runs] if flat.size and flat[0] else runs


class Coco:
    """images/ and annotations.json."""

    def __init__(self, labelled: LabelledSet, folder: Path, _options: ExportOptions) -> None:
        self._labelled, self._folder = labelled, folder
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        (folder / "images").mkdir()

    def add(self, ready: Ready) -> None:
        """Write a case."""
        if not is_picture(ready.image):
            raise DataError("COCO holds pictures of 8 or 16 bits, or 8-bit colour; export volumes in another form")
        name = f"{ready.case.name}.png"
        write_image(ready.image, self._folder / "images" / name)
        _, height, width = ready.image.geometry.shape
        number = len(self._images) + 1
        licence = {"license": 1} if self._labelled.licence else {}
        entry = {"id": number, "file_name": name, "height": height, "width": width, "patient": ready.case.patient}
        self._images.append({**entry, "split": ready.case.split, **licence})
        for segment in ready.mask.segments:
            inside = ready.mask.segment_array(segment.number)[0]
            if not inside.any():
                continue
            runs = runs_of_mask(inside)
            if not np.array_equal(mask_of_runs(runs, (height, width)), inside):
                raise DataError("a mask was read back otherwise than it was written; nothing was kept")
            rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
            box = [int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]
            self._annotations.append(
                {
                    "id": len(self._annotations) + 1,
                    "image_id": number,
                    "category_id": segment.number,
                    "segmentation": {"counts": runs, "size": [height, width]},
                    "area": int(inside.sum()),
                    "bbox": box,
                    "iscrowd": 0,
                }
            )

    def finish(self, cases: Sequence[LabelledCase]) -> Iterable[str]:
        """Write what describes the set."""
        licence = self._labelled.licence
        document = {
            "info": {"description": self._labelled.name, "version": "1.0"},
            "licenses": [{"id": 1, "name": licence, "url": ""}] if licence else [],
            "images": self._images,
            "annotations": self._annotations,
            "categories": [{"id": n, "name": c} for n, c in enumerate(self._labelled.classes, start=1)],
        }
        (self._folder / ANNOTATIONS).write_text(json.dumps(document) + "\n", "utf-8")
        write_patients(cases, self._folder)
        return ()
