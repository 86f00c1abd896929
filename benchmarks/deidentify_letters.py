"""Whole letters and notes in other styles than those of `isocenter.synth.notes`.

Written after the rules and measured before any was changed for them; no rule was ever changed for "last". Marks
in the templates (deidentify_letters.txt) are [[kind:text]]; names, numbers and places are drawn
from lists that neither the rules nor the generator have.
"""

from __future__ import annotations

import random
import re
from pathlib import Path

from isocenter.data.deidentify import KnownIdentity
from isocenter.synth.notes import Note, Planted

_GIVEN_TEXT = """
Chidinma Kaspar Yevgenia Thijs Anneliese Ravindra Siobhan Lorcan Mireille Tadeusz Ngozi Hyun-woo Beatrix
Caspian Delia Edmund Farah Gwendolyn Harvey Imelda Jasper Keziah Lionel Maud Nigel Odette Percival Quentin
Rhiannon Stanley
"""
GIVEN = _GIVEN_TEXT.split()
_FAMILY_TEXT = """
Achterberg Bancroft Chukwuemeka Dalgliesh Eriksen Fitzwilliam Goldblum Hathaway Iyer Jankowski Kirkbride
Lovelace Montague Nakagawa O'Shaughnessy Penhaligon Quigley Rasmussen Szymanski Thackeray Underhill Vanhouten
Wojcik Yardley
"""
FAMILY = _FAMILY_TEXT.split()
_PLACES_TEXT = """
Aldwick Brackenfell Cotterstock Denholm Elsworth Fernhollow Glanford Heathcote Inverallan Kelsborough
"""
PLACES = _PLACES_TEXT.split()
TEMPLATES = {
    name: Path(__file__).with_name(f"deidentify_{name}.txt").read_text("utf-8").split("====\n")
    for name in ("letters", "last")
}
_MONTHS_TEXT = "January February March April May June July August September October November December"
_MARK = re.compile(r"\[\[(\w+):(.*?)\] ?\]", re.DOTALL)


def letters(count: int, *, seed: int, which: str = "letters") -> list[tuple[Note, KnownIdentity]]:
    """Write invented letters of the templates in one of the two files, each with what a record knows of its patient."""
    out = []
    for number in range(count):
        r = random.Random(f"{which} {seed} {number}")
        template, values = r.choice(TEMPLATES[which]), _values(r)
        text = re.sub(r"\{(\w+)\}", lambda hit, told=values: told[hit[1]], template)
        known = KnownIdentity((f"{values['F']}^{values['G']}",), (values["n7"], values["n6"], values["nhs"]))
        pieces: list[str] = []
        planted: list[Planted] = []
        at = length = 0
        for hit in _MARK.finditer(text):
            before = text[at : hit.start()]
            pieces += [before, hit[2]]
            length += len(before)
            planted.append(Planted(length, length + len(hit[2]), hit[1]))
            length += len(hit[2])
            at = hit.end()
        out.append((Note("".join([*pieces, text[at:]]), tuple(planted), "en"), known))
    return out


def _digits(r: random.Random, count: int) -> str:
    return str(r.randrange(1, 10)) + "".join(r.choice("0123456789") for _ in range(count - 1))


def _values(r: random.Random) -> dict[str, str]:
    """Draw what stands in the places of a template."""
    months = _MONTHS_TEXT.split()
    day, month, year = r.randrange(1, 29), r.randrange(1, 13), r.randrange(2008, 2025)
    given, family, places = r.sample(GIVEN, 5), r.sample(FAMILY, 4), r.sample(PLACES, 2)
    word = months[month - 1]
    return {
        "G": given[0],
        "g2": given[1],
        "G2": given[2],
        "g3": given[3],
        "F": family[0],
        "H": family[1],
        "J": family[2],
        "F2": family[3],
        "FU": family[0].upper(),
        "GU": given[0].upper(),
        "P": places[0],
        "P2": places[1],
        "md": f"{month}/{day}/{year % 100:02d}",
        "my": f"{word[:3]} {year - 2}",
        "dmy": f"{day} {word} {year}",
        "iso": f"{year}-{month:02d}-{day:02d}",
        "slash": f"{month:02d}/{day:02d}/{year}",
        "long": f"{word} {day}, {year}",
        "mdy": f"{word[:3]} {day:02d}, {year}",
        "born": f"{month}/{day}/{year - 60}",
        "p1": f"({_digits(r, 3)}) {_digits(r, 3)}-{_digits(r, 4)}",
        "p2": f"{_digits(r, 3)}-{_digits(r, 3)}-{_digits(r, 4)}",
        "uk": f"01{_digits(r, 3)} {_digits(r, 6)}",
        "e1": f"{given[0].lower()}.{_digits(r, 2)}@post.example.com",
        "u1": f"https://pacs.{places[0].lower()}.example/{_digits(r, 6)}",
        "n3": _digits(r, 3),
        "n6": _digits(r, 6),
        "n7": _digits(r, 7),
        "n8": _digits(r, 8),
        "n10": _digits(r, 10),
        "sp": f"S{year % 100}-{_digits(r, 5)}",
        "ssn": f"{_digits(r, 3)}-{_digits(r, 2)}-{_digits(r, 4)}",
        "nhs": f"{_digits(r, 3)} {_digits(r, 3)} {_digits(r, 4)}",
        "acc": f"RAD-{_digits(r, 7)}",
        "mem": f"W{_digits(r, 9)}",
        "z": _digits(r, 5),
        "uk_code": f"LS{_digits(r, 1)} {_digits(r, 1)}QT",
    }
