"""Which image of a study a reading speaks of, also where the study has changed since."""

from __future__ import annotations

import pytest

from isocenter.verbs.result import GeometryEntry, ImageEntry
from isocenter.verbs.serving.readings import same_image

SHAPE = (4, 8, 8)


def _entry(index: int, series: str, shape: tuple[int, int, int] = SHAPE) -> ImageEntry:
    geometry = GeometryEntry.model_construct(shape_zyx=shape)
    return ImageEntry.model_construct(index=index, series_uid=series, geometry=geometry)


READ = [_entry(0, "1.2"), _entry(1, "1.3"), _entry(2, "1.3")]
"""A reading of a series, and of two stacks of another (two echoes)."""


@pytest.mark.parametrize(
    ("opened", "expected"),
    [
        pytest.param(["a 1.2", "first 1.3", "second 1.3"], ["a", "first", "second"], id="as it was"),
        # The second stack now has the number that the first had before.
        pytest.param(["new 1.1", "a 1.2", "first 1.3", "second 1.3"], ["a", "first", "second"], id="one more before"),
        pytest.param(["first 1.3", "second 1.3"], [None, "first", "second"], id="one less before"),
        pytest.param(["a 1.2", "first 1.3", "second 1.3", "third 1.3"], ["a", None, None], id="one more stack"),
        pytest.param(["a 1.2", "first 1.3"], ["a", None, None], id="one stack less"),
    ],
)
def test_image_of_a_reading(opened: list[str], expected: list[str | None]) -> None:
    now = [(name, SHAPE, series) for name, series in (one.split() for one in opened)]
    assert [same_image(entry, READ, now) for entry in READ] == expected


def test_another_shape_is_another_image() -> None:
    assert same_image(READ[0], READ, [("a", (5, 8, 8), "1.2")]) is None
