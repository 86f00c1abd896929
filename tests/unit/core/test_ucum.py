"""Units: read by UCUM's grammar, converted, or refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.core.errors import UnitsError
from isocenter.core.ucum import convert_units, read_unit


@pytest.mark.parametrize(
    ("value", "one", "other", "expected"),
    [
        (1.0, "g/L", "mg/dL", 100.0),
        (120.0, "mm[Hg]", "kPa", 15.99864),
        (1.0, "a", "d", 365.25),
        (2.0, "wk", "d", 14.0),
        (5.0, "10*9/L", "10*3/uL", 5.0),
        (98.6, "[degF]", "Cel", 37.0),
        (300.0, "K", "Cel", 26.85),
        (1.0, "[lb_av]", "kg", 0.45359237),
        (60.0, "mL/min", "mL/s", 1.0),
        (1000.0, "mm2/s", "m2/s", 1e-3),
        (50.0, "%", "1", 0.5),
        (1.0, "k[iU]/L", "[iU]/mL", 1.0),
        (7.0, "g/(kg.d)", "mg/g/d", 7.0),
    ],
)  # fmt: skip
def test_conversions_known_from_elsewhere(value: float, one: str, other: str, expected: float) -> None:
    assert convert_units(np.array([value]), one, other)[0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("text", ["", "mg//dL", "years", "mg/dl/", "(g", "g)", "1.73.m2", "mCel", "mmHg", "5 g"])
def test_what_is_no_unit_is_refused(text: str) -> None:
    with pytest.raises(UnitsError):
        read_unit(text)


@pytest.mark.parametrize(("one", "other"), [("mg", "mL"), ("[hnsf'U]", "1"), ("kg", "m"), ("[iU]/L", "mol/L")])
def test_what_does_not_convert_is_refused(one: str, other: str) -> None:
    with pytest.raises(UnitsError, match="does not convert"):
        convert_units(np.array([1.0]), one, other)


def test_mass_and_amount_need_a_molar_mass() -> None:
    with pytest.raises(UnitsError, match="molar mass"):
        convert_units(np.array([1.0]), "mg/dL", "mmol/L", what="column 'creatinine'")


@given(st.floats(-1e6, 1e6), st.sampled_from([("mg/dL", "g/L"), ("Cel", "[degF]"), ("a", "mo"), ("mm[Hg]", "Pa")]))
def test_there_and_back_is_the_identity(value: float, pair: tuple[str, str]) -> None:
    there = convert_units(np.array([value]), *pair)
    assert convert_units(there, pair[1], pair[0])[0] == pytest.approx(value, rel=1e-9, abs=1e-9)


def test_missing_stays_missing() -> None:
    assert np.isnan(convert_units(np.array([np.nan]), "g", "kg")[0])


def test_uptake_values_of_dicom_are_read_and_never_made_of_each_other() -> None:
    values = np.array([1.0, 2.5])
    assert convert_units(values, "{SUVbw}g/ml", "{SUVbw}g/ml").tolist() == [1.0, 2.5]
    for other in ("{SUVlbm}g/ml", "g/mL", "1"):
        with pytest.raises(UnitsError):
            convert_units(values, "{SUVbw}g/ml", other)
