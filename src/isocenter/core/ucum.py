"""Units of the Unified Code for Units of Measure: read, compared and converted; what does not convert is refused.

A unit is read as a factor and the base units it is made of ("mg/dL" is 0.01 kg/m3). Two units convert where they are
made of the same base units. Arbitrary units ([iU], Hounsfield) convert to themselves alone. Amount of substance is a
base of its own here, so mg/dL and mmol/L do not convert: that takes a molar mass, which no unit knows.

Source:
    The Unified Code for Units of Measure, version 2.1 (grammar, prefixes and atoms; of atoms those that
    medicine uses, not all).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from isocenter.core.errors import UnitsError

__all__ = ["Unit", "convert_units", "read_unit"]

_PREFIXES = {
    "Y": 1e24, "Z": 1e21, "E": 1e18, "P": 1e15, "T": 1e12, "G": 1e9, "M": 1e6, "k": 1e3, "h": 1e2, "da": 1e1,
    "d": 1e-1, "c": 1e-2, "m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12, "f": 1e-15, "a": 1e-18,
}  # fmt: skip
_DAY = 86400.0
# Of every atom: its factor in base units, what it is made of, and whether it takes a prefix.
_ATOMS: dict[str, tuple[float, dict[str, int], bool]] = {
    "m": (1.0, {"m": 1}, True), "g": (1e-3, {"kg": 1}, True), "s": (1.0, {"s": 1}, True),
    "K": (1.0, {"K": 1}, True), "mol": (1.0, {"mol": 1}, True), "eq": (1.0, {"mol": 1}, True),
    "osm": (1.0, {"mol": 1}, True), "A": (1.0, {"A": 1}, True), "rad": (1.0, {"rad": 1}, True),
    "L": (1e-3, {"m": 3}, True), "l": (1e-3, {"m": 3}, True),
    "min": (60.0, {"s": 1}, False), "h": (3600.0, {"s": 1}, False), "d": (_DAY, {"s": 1}, False),
    "wk": (7 * _DAY, {"s": 1}, False), "mo": (30.4375 * _DAY, {"s": 1}, False), "a": (365.25 * _DAY, {"s": 1}, False),
    "Hz": (1.0, {"s": -1}, True), "Bq": (1.0, {"s": -1}, True), "Ci": (3.7e10, {"s": -1}, True),
    "N": (1.0, {"kg": 1, "m": 1, "s": -2}, True), "Pa": (1.0, {"kg": 1, "m": -1, "s": -2}, True),
    "bar": (1e5, {"kg": 1, "m": -1, "s": -2}, True), "m[Hg]": (133322.0, {"kg": 1, "m": -1, "s": -2}, True),
    "J": (1.0, {"kg": 1, "m": 2, "s": -2}, True), "cal": (4.184, {"kg": 1, "m": 2, "s": -2}, True),
    "W": (1.0, {"kg": 1, "m": 2, "s": -3}, True), "V": (1.0, {"kg": 1, "m": 2, "s": -3, "A": -1}, True),
    "Gy": (1.0, {"m": 2, "s": -2}, True), "Sv": (1.0, {"m": 2, "s": -2}, True),
    "U": (1e-6 / 60, {"mol": 1, "s": -1}, True), "kat": (1.0, {"mol": 1, "s": -1}, True),
    "deg": (np.pi / 180, {"rad": 1}, False), "%": (1e-2, {}, False), "[ppth]": (1e-3, {}, False),
    "[ppm]": (1e-6, {}, False), "[in_i]": (0.0254, {"m": 1}, False), "[ft_i]": (0.3048, {"m": 1}, False),
    "[lb_av]": (0.45359237, {"kg": 1}, False), "[oz_av]": (0.028349523125, {"kg": 1}, False),
    "[stone_av]": (6.35029318, {"kg": 1}, False),
    "[iU]": (1.0, {"[iU]": 1}, True), "[IU]": (1.0, {"[iU]": 1}, True), "[arb'U]": (1.0, {"[arb'U]": 1}, True),
    "[hnsf'U]": (1.0, {"[hnsf'U]": 1}, False), "[pH]": (1.0, {"[pH]": 1}, False),
}  # fmt: skip
_SPECIAL = {"Cel": (1.0, 273.15), "[degF]": (5 / 9, 459.67 * 5 / 9)}
"""Temperatures that don't start at zero: factor and offset to kelvin."""
_TOKEN = re.compile(r"\d+(?![\d*^])|10[*^]|\[[^\]]+\]|\{[^}]*\}|[A-Za-z%]+(?:\[[^\]]+\])?|[-+]?\d+|[./()]")


@dataclass(frozen=True)
class Unit:
    """A unit, read.

    Args:
        text: As it was written.
        factor: To base units (m, kg, s, K, mol, A, rad, and arbitrary ones).
        made_of: Power of each base unit.
        offset: Added after the factor; only temperatures have one.
    """

    text: str
    factor: float
    made_of: tuple[tuple[str, int], ...]
    offset: float = 0.0


_UPTAKE = frozenset({"{SUVbw}g/ml", "{SUVlbm}g/ml", "{SUVibw}g/ml", "{SUVbsa}cm2/ml"})
"""Standardised uptake values as DICOM writes them (CID 84), against UCUM's own grammar."""


def read_unit(text: str) -> Unit:
    """Read a unit as UCUM writes it, case-sensitive.

    Args:
        text: For example "mg/dL", "10*9/L", "kg/m2", "mm[Hg]", "a" (years), "1" (none).

    Raises:
        UnitsError: It is not of UCUM, or of a kind that is not known here.

    Example:
        >>> read_unit("mm[Hg]").factor
        133.322
        >>> dict(read_unit("kg/m2").made_of)
        {'kg': 1, 'm': -2}
    """
    if text in _SPECIAL:
        factor, offset = _SPECIAL[text]
        return Unit(text, factor, (("K", 1),), offset)
    if text in _UPTAKE:  # one kind is not another: each is a unit of its own
        return Unit(text, 1.0, ((text, 1),))
    if re.search(r"\d\.\d", re.sub(r"\{[^}]*\}", "", text)):
        raise UnitsError(f"{text!r}: UCUM has whole numbers only; write a factor such as 1.73 as {{1.73}}")
    tokens = _TOKEN.findall(text)
    if not text or "".join(tokens) != text:
        raise UnitsError(f"{text!r} is not a unit of UCUM; write for example mg/dL, kg/m2, mm[Hg], a (years), 1 (none)")
    factor, powers, rest = _term(tokens, text)
    if rest:
        raise UnitsError(f"{text!r} is not a unit of UCUM: a bracket is closed that was not opened")
    return Unit(text, factor, tuple(sorted((name, power) for name, power in powers.items() if power)))


def _term(tokens: list[str], text: str) -> tuple[float, dict[str, int], list[str]]:
    """Read products and quotients up to the end or a closing bracket."""
    factor, powers, sign = 1.0, dict[str, int](), 1
    if tokens[:1] == ["/"]:
        sign, tokens = -1, tokens[1:]
    while True:
        if not tokens:
            raise UnitsError(f"{text!r} is not a unit of UCUM: something is missing at its end")
        one, made, tokens = _component(tokens, text)
        factor *= one**sign
        for name, power in made.items():
            powers[name] = powers.get(name, 0) + sign * power
        if not tokens or tokens[0] == ")":
            return factor, powers, tokens
        if tokens[0] not in "./":
            raise UnitsError(f"{text!r} is not a unit of UCUM: a point or stroke is missing before {tokens[0]!r}")
        sign, tokens = (1 if tokens[0] == "." else -1), tokens[1:]


def _component(tokens: list[str], text: str) -> tuple[float, dict[str, int], list[str]]:
    first, tokens = tokens[0], tokens[1:]
    if first == "(":
        factor, powers, tokens = _term(tokens, text)
        if tokens[:1] != [")"]:
            raise UnitsError(f"{text!r} is not a unit of UCUM: a bracket is not closed")
        tokens = tokens[1:]
    elif first.startswith("{"):
        factor, powers = 1.0, {}
    elif first in ("10*", "10^"):
        factor, powers = 10.0, {}
    elif first.isdigit():
        return float(first), {}, tokens
    else:
        factor, made = _atom(first, text)
        powers = dict(made)
    if tokens and re.fullmatch(r"[-+]?\d+", tokens[0]):
        power = int(tokens[0])
        factor, powers, tokens = factor**power, {n: p * power for n, p in powers.items()}, tokens[1:]
    if tokens and tokens[0].startswith("{"):  # an annotation says what was counted; it changes no unit
        tokens = tokens[1:]
    return factor, powers, tokens


def _atom(name: str, text: str) -> tuple[float, Mapping[str, int]]:
    if name in _ATOMS:
        return _ATOMS[name][0], _ATOMS[name][1]
    for length in (2, 1):
        prefix, rest = name[:length], name[length:]
        if prefix in _PREFIXES and rest in _ATOMS and _ATOMS[rest][2]:
            return _PREFIXES[prefix] * _ATOMS[rest][0], _ATOMS[rest][1]
    hint = "; temperatures stand alone" if any(name.endswith(s) for s in _SPECIAL) else ""
    raise UnitsError(f"{name!r} in the unit {text!r} is not known{hint}; units are written as in UCUM, case-sensitive")


def convert_units(
    values: Float[np.ndarray, "..."], from_unit: str, to_unit: str, *, what: str = "a value"
) -> Float[np.ndarray, "..."]:
    """Convert numbers from one unit to another.

    Args:
        values: Numbers; NaN stays NaN.
        from_unit: Their unit, of UCUM.
        to_unit: The unit wanted, of UCUM.
        what: What they are, for the message.

    Raises:
        UnitsError: A unit is not known, or the two are made of different base units.

    Example:
        >>> convert_units(np.array([37.0]), "Cel", "[degF]").round(1).tolist()
        [98.6]
        >>> convert_units(np.array([1.0, 2.0]), "g/L", "mg/dL").round(6).tolist()
        [100.0, 200.0]
    """
    one, other = read_unit(from_unit), read_unit(to_unit)
    if one.made_of != other.made_of:
        molar = {"mol"} & ({n for n, _ in one.made_of} ^ {n for n, _ in other.made_of})
        hint = " (between mass and amount of substance a molar mass is needed: convert before)" if molar else ""
        raise UnitsError(f"{what}: {from_unit!r} does not convert to {to_unit!r}{hint}")
    if from_unit == to_unit:
        return values
    if not one.offset and not other.offset:
        # Twelve digits: ratios of powers of ten come out whole, not as 99.99999999999999.
        ratio = float(f"{one.factor / other.factor:.12g}")
        return values * ratio
    return (values * one.factor + one.offset - other.offset) / other.factor
