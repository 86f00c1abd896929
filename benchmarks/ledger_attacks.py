"""What the claim ledger catches: true sentences of many ledgers, and the same sentences made wrong in one place.

    python -m benchmarks.ledger_attacks [--ledgers 60] [--seed 0]

Ledgers are drawn at random (findings with side, grade, change and probability; parts of the body with measurements),
true sentences are written about each claim in several wordings, and each is made wrong in one way: other side, denied
or affirmed, other number, other unit, other organ, another finding, other certainty, other grade, other change. A
sentence that a change leaves true (checked by how the claims are drawn, not by the judge) is not made. Writes
docs/results/ledger-attacks.md and .json. Target: 99 % of the wrong ones caught, at most 1 % of the true ones withheld.
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.__main__ import machine
from isocenter.core.knowledge import FINDINGS
from isocenter.safety.claims import Ledger, LedgerClaim, LedgerEvidence, Quantity, judge

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
_GRADES = {"mild": "small", "moderate": "moderate", "severe": "large"}
_CHANGES = {"new": "new", "worse": "worsening", "better": "improving", "unchanged": "stable"}
_EXAMS = {
    "chest radiograph": ("lung", "heart"), "breast ultrasound": ("breast",), "brain MR": ("hippocampus",),
    "abdomen CT": ("adrenal gland",), "fundus photograph": ("optic disc",),
}  # fmt: skip
_MEASURES = {
    "area": ("cm2", "cm²", (5.0, 300.0)), "volume": ("mL", "mL", (0.5, 9.5)), "long axis": ("mm", "mm", (10.0, 99.0)),
}  # fmt: skip
_INVENTED = (
    "sarcoidosis", "pulmonary embolism", "hernia", "tuberculosis", "glioma", "lymphoma", "abscess", "aneurysm",
    "metastasis", "fracture", "pneumomediastinum", "granuloma",
)  # fmt: skip
_ORGANS = ("liver", "kidney", "spleen", "stomach", "pancreas", "bladder", "femur", "thoracic spine", "diaphragm")


@dataclass(frozen=True)
class Sentence:
    """A sentence about one claim of a ledger; `how` is "" where it is true, else what was made wrong."""

    text: str
    claim: LedgerClaim
    how: str = ""


def ledger_at(rng: np.random.Generator) -> Ledger:
    """Draw a ledger."""
    exam = str(rng.choice(list(_EXAMS), p=(0.6, 0.1, 0.1, 0.1, 0.1)))
    concepts = [c for c in FINDINGS.of(exam) if not c.normal and c.name != "acute abnormality"]
    rng.shuffle(concepts)
    claims: list[LedgerClaim] = []
    taken: set[str] = set()
    for concept in concepts[: 7 if exam == "chest radiograph" else 3]:
        related = FINDINGS.implied(concept.name) | {concept.name}
        if related & taken or any(concept.name in FINDINGS.implied(t) for t in taken):
            continue
        if FINDINGS.conflicts([concept.name, *(c.about for c in claims if c.about in FINDINGS)]):
            continue
        taken |= related
        status = str(rng.choice(["present", "absent", "uncertain"], p=(0.45, 0.35, 0.2)))
        sided = status != "absent" and concept.sided and rng.random() < 0.7
        p = {"present": rng.uniform(75, 99), "absent": rng.uniform(1, 9), "uncertain": rng.uniform(30, 69)}[status]
        claims.append(
            LedgerClaim(
                f"c{len(claims)}", concept.name, (f"e{len(claims)}",), status,  # type: ignore[arg-type]
                side=str(rng.choice(["left", "right"])) if sided else None,  # type: ignore[arg-type]
                grade=str(rng.choice(list(_GRADES))) if status == "present" and rng.random() < 0.4 else None,  # type: ignore[arg-type]
                change=str(rng.choice(list(_CHANGES))) if status == "present" and rng.random() < 0.3 else None,  # type: ignore[arg-type]
                quantities=(Quantity("probability", round(float(p), 1), "%"),),
            )
        )  # fmt: skip
    for site in _EXAMS[exam]:
        sides = ("left", "right") if FINDINGS.site(site).paired else (None,)
        name = str(rng.choice(list(_MEASURES)))
        unit, _, ends = _MEASURES[name]
        values = rng.uniform(*ends) * np.array([1.0, rng.choice([0.6, 1.6])])
        for side, value in zip(sides, values, strict=False):
            low, high = round(float(value) * 0.9, 1), round(float(value) * 1.12, 1)
            quantity = Quantity(name, round(float(value), 1), unit, low, high, 90.0)
            claims.append(
                LedgerClaim(f"c{len(claims)}", site, (f"e{len(claims)}",), side=side, quantities=(quantity,))  # type: ignore[arg-type]
            )
    evidence = tuple(LedgerEvidence(f"e{n}", "measurement", "drawn at random") for n in range(len(claims)))
    return Ledger(exam, tuple(claims), evidence)  # type: ignore[arg-type]


def wordings(claim: LedgerClaim, rng: np.random.Generator) -> str:
    """Write a true sentence about a claim."""
    q = claim.quantities[0]
    if claim.about not in FINDINGS:
        side = f"{claim.side} " if claim.side else ""
        shown = _MEASURES[q.name][1]
        number = f"{q.value:.1f}" if rng.random() < 0.5 or q.value < 20 else f"{q.value:.0f}"
        interval = f"{q.level:.0f} % interval {q.low:g} to {q.high:g} {shown}"
        forms = (
            f"The {q.name} of the {side}{claim.about} is {number} {shown}.",
            f"The {side}{claim.about} has a {q.name} of {number} {shown}.",
            f"{side}{claim.about}: {q.name} {number} {shown}, {interval}.",
            f"The {side}{claim.about} measures {number} {shown} in {q.name}.",
        )
        return _capital(str(rng.choice(forms)))
    words = [_CHANGES.get(claim.change or "", ""), _GRADES.get(claim.grade or "", ""), claim.side or "", claim.about]
    name = " ".join(w for w in words if w)
    p = f"{q.value:.0f} %"
    forms = {
        "present": (
            f"There is a {name}.", f"{name} is seen.", f"{name}, with a probability of {p}.",
            f"The image shows {name} (probability {p}).", f"Findings are consistent with {name}.",
        ),
        "absent": (
            f"No {name}.", f"There is no evidence of {name}.", f"No {name} is seen (probability {p}).",
            f"{name} is not identified.", f"The image is without {name}.",
        ),
        "uncertain": (
            f"Possible {name}.", f"A {name} is possible, with a probability of {p}.", f"Findings may represent {name}.",
            f"{name} cannot be excluded (probability {p}).", f"There is a questionable {name}.",
        ),
    }[claim.status]  # fmt: skip
    return _capital(str(rng.choice(forms)))


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def attacks(claim: LedgerClaim, ledger: Ledger, seed: int) -> Iterator[Sentence]:
    """Make a claim's sentence wrong, each way that it can be."""

    def said(made: LedgerClaim, how: str) -> Sentence:
        return Sentence(wordings(made, np.random.default_rng(seed)), claim, how)

    other = {"left": "right", "right": "left"}
    q = claim.quantities[0]
    if claim.side is not None:
        twin = [c for c in ledger.claims if c.about == claim.about and c.side == other[claim.side]]
        if not twin or twin[0].quantities != claim.quantities:
            yield said(replace(claim, side=other[claim.side]), "side")  # type: ignore[arg-type]
    text = wordings(claim, np.random.default_rng(seed))
    if claim.about in FINDINGS:
        flipped = {"present": "absent", "absent": "present", "uncertain": "absent"}[claim.status]
        yield said(replace(claim, status=flipped), "negation")  # type: ignore[arg-type]
        sure = {"present": "uncertain", "uncertain": "present", "absent": "uncertain"}[claim.status]
        yield said(replace(claim, status=sure), "certainty")  # type: ignore[arg-type]
        if claim.status == "present":
            made = text.replace("There is a", "There is definitely a").replace("shows", "clearly shows")
            yield Sentence(made if made != text else f"Certainly {text}", claim, "certainty")
        if claim.grade is not None:
            grade = {"mild": "severe", "moderate": "mild", "severe": "mild"}[claim.grade]
            yield said(replace(claim, grade=grade), "grade")  # type: ignore[arg-type]
        if claim.status == "present":
            change = {"new": "unchanged", "worse": "better", "better": "worse", "unchanged": "new", None: "new"}
            yield said(replace(claim, change=change[claim.change]), "change")  # type: ignore[arg-type]
        yield from _other_finding(claim, ledger, seed, text)
    yield from _other_number(claim, q, seed, text)
    organ = _ORGANS[seed % len(_ORGANS)]
    if claim.about not in FINDINGS:
        yield Sentence(text.replace(claim.about, organ).replace(_capital(claim.about), _capital(organ)), claim, "organ")
        shown = _MEASURES[q.name][1]
        wrong = {"cm²": "mm²", "mL": "L", "mm": "cm"}[shown]
        yield Sentence(text.replace(f" {shown}", f" {wrong}"), claim, "unit")
        names = [n for n in _MEASURES if n != q.name]
        yield Sentence(text.replace(q.name, names[seed % 2]), claim, "quantity")
    else:
        yield Sentence(f"{text[:-1]} in the {organ}.", claim, "organ")


def _other_number(claim: LedgerClaim, q: Quantity, seed: int, text: str) -> Iterator[Sentence]:
    for shown in dict.fromkeys((f"{q.value:.1f}", f"{q.value:.0f}")):
        if f" {shown} " in text:
            factor = (1.3, 0.7, 10.0, 2.0)[seed % 4]
            wrong = f"{q.value * factor:.{1 if '.' in shown else 0}f}"
            if wrong != shown:
                yield Sentence(text.replace(f" {shown} ", f" {wrong} ", 1), claim, "number")
            return
    del claim


def _other_finding(claim: LedgerClaim, ledger: Ledger, seed: int, text: str) -> Iterator[Sentence]:
    spoken = {c.about for c in ledger.claims}
    related = {n for name in spoken if name in FINDINGS for n in (name, *FINDINGS.implied(name))}
    free = [c.name for c in FINDINGS.of(ledger.exam) if not c.normal and c.name not in related
            and not (FINDINGS.implied(c.name) & spoken)]  # fmt: skip
    if free:
        yield Sentence(wordings(replace(claim, about=free[seed % len(free)]), np.random.default_rng(seed)), claim,
                       "invented finding")  # fmt: skip
    invented = _INVENTED[seed % len(_INVENTED)]
    if invented not in related:
        yield Sentence(f"{text[:-1]} and {invented}.", claim, "invented finding")


def sentences(count: int, seed: int) -> Iterator[tuple[Ledger, Sentence]]:
    """Yield true sentences and attacks on so many ledgers."""
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        ledger = ledger_at(rng)
        for claim in ledger.claims:
            for _ in range(3):
                yield ledger, Sentence(wordings(claim, rng), claim)
            for one in attacks(claim, ledger, int(rng.integers(1 << 30))):
                yield ledger, one


def measured(count: int, seed: int, tell: Callable[[str], None] = lambda _line: None) -> dict[str, list[int]]:
    """Return, by what was made wrong ("" for true ones), how many sentences were withheld, and how many there were."""
    found: dict[str, list[int]] = {}
    for ledger, sentence in sentences(count, seed):
        withheld = not judge(sentence.text, ledger).supported
        row = found.setdefault(sentence.how, [0, 0])
        row[0] += withheld
        row[1] += 1
        if withheld == (sentence.how == ""):
            tell(f"{sentence.how or 'true'}: {sentence.text!r} {judge(sentence.text, ledger).reasons}")
    return found


def main() -> None:
    """Measure, and write the page; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ledgers", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", action="store_true", help="Print what was judged wrongly.")
    args = parser.parse_args()
    found = measured(args.ledgers, args.seed, print if args.show else lambda _line: None)
    true = found.pop("")
    caught, wrong = (sum(row[at] for row in found.values()) for at in (0, 1))
    lines = [
        "# What the claim ledger catches", "",
        f"`python -m benchmarks.ledger_attacks`, {datetime.datetime.now(tz=datetime.UTC).date()}, {machine()}. "
        f"{args.ledgers} ledgers drawn at random (seed {args.seed}), sentences in five wordings a claim, each made "
        "wrong in one place. Targets: 99 % of wrong sentences caught, at most 1 % of true ones withheld.", "",
        f"**Wrong sentences caught: {caught} of {wrong} ({caught / wrong:.2%}). "
        f"True sentences withheld: {true[0]} of {true[1]} ({true[0] / true[1]:.2%}).**", "",
        "| made wrong | sentences | caught |", "| - | - | - |",
        *(f"| {how} | {row[1]} | {row[0] / row[1]:.2%} |" for how, row in sorted(found.items())), "",
        "The wordings are ours, and the judge was made with them in view: a sentence in words of its own is more often "
        "withheld, which is the side to err on.", "",
    ]  # fmt: skip
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "ledger-attacks.md").write_text("\n".join(lines), "utf-8")
    document = {"name": "ledger_attacks", "caught": caught / wrong, "wrong": wrong, "withheld": true[0] / true[1],
                "true": true[1]}  # fmt: skip
    (RESULTS / "ledger-attacks.json").write_text(json.dumps({**document, "by": found}, indent=1) + "\n", "utf-8")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
