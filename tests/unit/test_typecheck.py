"""The tests' own checker of types: what it must refuse, so that no test passes beside a wrong type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest
from jaxtyping import Float, TypeCheckError

from isocenter.core import Geometry
from typecheck import checked

if TYPE_CHECKING:
    from nowhere import Unknown


@checked
def named(count: int, later: Later | None = None) -> str:
    return "x" * count if later is None else later  # type: ignore[return-value]


@checked
def scaled(by: float, unknown: Unknown = None) -> float:
    return by


@checked
def product(a: Float[np.ndarray, "n m"], b: Float[np.ndarray, "m k"]) -> Float[np.ndarray, "n k"]:
    return a @ b if a.shape[1] == 3 else a


@checked
def several(count: int) -> Iterator[int]:
    yield from range(count)


class Later:
    @checked
    def itself(self) -> Later:
        return self

    @checked
    def wrong(self) -> Later:
        return "self"  # type: ignore[return-value]


def test_wrong_types_are_refused_going_in_and_coming_out():
    assert named(2) == "xx"
    for call in (
        lambda: named("2"),
        lambda: named(1, "not later"),
        lambda: named(1, Later()),
        lambda: Later().wrong(),
        lambda: list(several("3")),
    ):
        with pytest.raises(TypeCheckError):
            call()
    assert list(several(2)) == [0, 1]
    assert isinstance(Later().itself(), Later)


def test_an_int_is_a_float_and_what_only_type_checkers_know_is_anything():
    assert scaled(1, "anything") == 1


def test_shapes_of_all_arguments_are_compared():
    assert product(np.zeros((2, 3)), np.zeros((3, 4))).shape == (2, 4)
    with pytest.raises(TypeCheckError):
        product(np.zeros((2, 3)), np.zeros((4, 4)))
    with pytest.raises(TypeCheckError):
        product(np.zeros((2, 5)), np.zeros((5, 4)))


def test_our_code_is_under_it():
    with pytest.raises(TypeCheckError):
        Geometry.axial("3", spacing_mm=(1.0, 1.0, 1.0))
