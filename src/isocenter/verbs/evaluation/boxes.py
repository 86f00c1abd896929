"""A table of places in images: boxes or points, in pixels or millimetres, read strictly.

image,patient,class,x0,y0,x1,y1          boxes in pixels; z0 and z1 too in volumes
image,patient,class,x,y,z,radius         centres in pixels; radius: how near an answer must be
image,x0_mm,y0_mm,x1_mm,y1_mm            the same in millimetres, corners at the edges of the box
image,class,x0,y0,x1,y1,score            answers; the score is higher for surer ones

A reference whose place is empty is an image without a thing. patient and class may be left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from isocenter.core.errors import ConfigError, DataError, GeometryError
from isocenter.verbs.evaluation.tables import Table

__all__ = ["Corners", "Placed", "read_places"]

Corners = Literal["half-open", "inclusive"]
_ASK = (
    "say what the corners of the boxes are: --corners half-open (x1 is the first pixel beyond the box, which is x1 - "
    "x0 wide, as in COCO) or --corners inclusive (x1 is its last pixel, and it is x1 - x0 + 1 wide)"
)


@dataclass(frozen=True, eq=False)
class Placed:
    """Places in images.

    Args:
        table: They were read from.
        form: Boxes, or points.
        axes: 2 or 3.
        unit: Of the coordinates.
        numbers: Low corner and high corner, or centre and perhaps a radius; a box is as wide as its corners lie apart.
        radius: Whether points have one.
        filled: Rows that hold a place; others name an image without one.
        images: Of each row.
        classes: Of each row; "" where the table has none.
        scores: Of each row; None for references.
    """

    table: Table
    form: Literal["box", "point"]
    axes: int
    unit: Literal["pixels", "mm"]
    numbers: Float[np.ndarray, "n k"]
    radius: bool
    filled: Bool[np.ndarray, " n"]
    images: tuple[str, ...]
    classes: tuple[str, ...]
    scores: Float[np.ndarray, " n"] | None

    @property
    def known_classes(self) -> bool:
        """Whether the table has a column of classes."""
        return "class" in self.table.columns


def _forms(end: str) -> Iterator[tuple[Literal["box", "point"], int, tuple[str, ...]]]:
    for letters in ("xyz", "xy"):
        yield "box", len(letters), tuple(f"{c}{n}{end}" for n in "01" for c in letters)
    for letters in ("xyz", "xy"):
        yield "point", len(letters), tuple(f"{c}{end}" for c in letters)


def _form(table: Table) -> tuple[Literal["box", "point"], int, Literal["pixels", "mm"], tuple[str, ...]]:
    """Find out which columns hold the place."""
    there = set(table.columns)
    every = {c for end in ("", "_mm") for _, _, columns in _forms(end) for c in columns}
    every |= {"radius", "radius_mm"}
    for end, unit in (("", "pixels"), ("_mm", "mm")):
        for form, axes, columns in _forms(end):
            if not set(columns) <= there:
                continue
            wanted = (*columns, f"radius{end}") if form == "point" and f"radius{end}" in there else columns
            more = sorted((there & every) - set(wanted))
            if more:
                raise DataError(
                    f"{', '.join(wanted)} hold a {form}; {', '.join(more)} do not belong to it: take one form and one "
                    "unit",
                    source=table.file,
                )
            return form, axes, "mm" if unit == "mm" else "pixels", wanted
    raise DataError(
        "needs the columns x0,y0,x1,y1 of boxes (in volumes z0,z1 too) or x,y of points (in volumes z too), in pixels, "
        f"or all of them with _mm; it has {', '.join(table.columns)}",
        source=table.file,
    )


def read_places(table: Table, corners: Corners | None, *, scored: bool) -> Placed:
    """Read a table of places.

    Args:
        table: See above.
        corners: What the corners of boxes in pixels are.
        scored: Whether it holds answers, each with a score.

    Raises:
        DataError: A column is missing, a number is not finite, or a row stands twice.
        GeometryError: A box ends before it begins, or holds nothing.
        ConfigError: Nobody said what the corners are, or said it of points or millimetres.
    """
    form, axes, unit, columns = _form(table)
    if form == "box" and unit == "pixels" and corners is None:
        raise ConfigError(_ASK)
    if form == "box" and unit == "mm" and corners == "inclusive":
        raise ConfigError("--corners inclusive is for boxes in pixels: corners in mm are the edges of the box")
    filled = np.array([any(row[c] for c in columns) for row in table.rows])
    if scored and not filled.all():
        row = int((~filled).argmax())
        raise DataError(f"line {table.line(row)}: the place is empty; an answer needs one", source=table.file)
    # A row without a place is read as zeros, so that the complaints of all others keep their lines.
    spare = dict.fromkeys(columns, "0")
    whole = Table(
        table.file, table.columns,
        tuple(row if there else {**row, **spare} for row, there in zip(table.rows, filled, strict=True)),
        table.lines,
    )  # fmt: skip
    numbers = np.array([whole.numbers(c, what="finite coordinate") for c in columns]).T
    if form == "box":
        _refuse_boxes(table, numbers, axes, filled, empty=corners != "inclusive" and not scored)
        numbers[:, axes:] += 1.0 if corners == "inclusive" else 0.0
    radius = form == "point" and len(columns) > axes
    if radius:
        for row in np.flatnonzero(filled & (numbers[:, -1] <= 0)).tolist()[:1]:
            raise DataError(f"line {table.line(row)}: the radius must be above zero", source=table.file)
    classes = _classes(table, filled)
    scores = np.array(table.numbers("score", what="finite score")) if scored else None
    images = tuple(table.names("image"))
    said = [None] * len(images) if scores is None else scores.tolist()
    _refuse_twice(table, [*zip(images, classes, numbers.tolist(), said, strict=True)])
    return Placed(table, form, axes, unit, numbers, radius, filled, images, classes, scores)


def _classes(table: Table, filled: Bool[np.ndarray, " n"]) -> tuple[str, ...]:
    if "class" not in table.columns:
        return ("",) * len(table.rows)
    found = table.column("class")
    for row, (name, there) in enumerate(zip(found, filled, strict=True)):
        if there and not name:
            raise DataError(f"line {table.line(row)}: class is empty", source=table.file)
    return tuple(name if there else "" for name, there in zip(found, filled, strict=True))


def _refuse_boxes(
    table: Table, numbers: Float[np.ndarray, "n k"], axes: int, filled: Bool[np.ndarray, " n"], *, empty: bool
) -> None:
    size = numbers[:, axes:] - numbers[:, :axes]
    for row in np.flatnonzero(filled & (size < 0).any(axis=1)).tolist()[:1]:
        raise GeometryError(
            f"line {table.line(row)}: the box ends before it begins; a column with 0 is the low corner, with 1 the "
            "high one (not a width)",
            source=table.file,
        )
    for row in np.flatnonzero(filled & (size == 0).any(axis=1)).tolist()[:1] if empty else []:
        raise GeometryError(
            f"line {table.line(row)}: the box holds nothing; if its high corner is its last pixel, say --corners "
            "inclusive",
            source=table.file,
        )


def _refuse_twice(table: Table, rows: Sequence[Sequence[object]]) -> None:
    first: dict[str, int] = {}
    for row, content in enumerate(rows):
        before = first.setdefault(repr(content), row)
        if before != row:
            raise DataError(
                f"line {table.line(row)} says the same as line {table.line(before)}: take one of the two out",
                source=table.file,
            )
