"""Hashed words and pairs of words: the same anywhere, and nobody's number in them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.core.errors import ConfigError
from isocenter.models.hashed_text import LENGTH, hashed_text


@given(st.lists(st.text(max_size=60), min_size=1, max_size=4))
def test_a_vector_is_of_length_one_or_nothing_and_its_own(texts: list[str]) -> None:
    found = hashed_text(texts)
    for row, text in zip(found, texts, strict=True):
        assert np.isnan(row).all() or abs(np.linalg.norm(row) - 1) < 1e-9 or not row.any()
        np.testing.assert_array_equal(row, hashed_text([text])[0])


def test_numbers_tell_nobody_apart_and_order_counts() -> None:
    one, other, turned = hashed_text(["mass of 12 mm, ID 4711", "Mass of 34 mm. id 9832", "id 0000 mm mass of 00"])
    assert (one == other).all() and not (one == turned).all() and one.shape == (LENGTH,)
    # Known places: a vector that was kept must mean the same after an update.
    assert np.flatnonzero(hashed_text(["mass"], 64)[0]).tolist() == [23]
    with pytest.raises(ConfigError):
        hashed_text(["a"], 0)
