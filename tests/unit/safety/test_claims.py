"""The claim ledger: what a sentence may say, and every way in which it may say too much."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from isocenter.core.errors import DataError
from isocenter.safety.claims import Ledger, LedgerClaim, LedgerEvidence, Quantity, judge

CLAIMS = (
    LedgerClaim(
        "c1", "pleural effusion", ("e1",), side="left", grade="mild", quantities=(Quantity("probability", 91.3, "%"),)
    ),
    LedgerClaim("c2", "pneumothorax", ("e2",), status="absent", quantities=(Quantity("probability", 0.4, "%"),)),
    LedgerClaim(
        "c3", "consolidation", ("e3",), status="uncertain", side="right",
        quantities=(Quantity("probability", 47.0, "%"),),
    ),
    LedgerClaim("c4", "lung", ("e4",), side="left", quantities=(Quantity("area", 213.4, "cm2"),)),
    LedgerClaim("c5", "lung", ("e5",), side="right", quantities=(Quantity("area", 240.2, "cm2", 230.0, 251.0, 90.0),)),
    LedgerClaim("c6", "cardiomegaly", ("e6",), change="unchanged"),
)  # fmt: skip
EVIDENCE = tuple(LedgerEvidence(f"e{n}", "measurement", "measured") for n in range(1, 7))
LEDGER = Ledger("chest radiograph", CLAIMS, EVIDENCE, ("Bones were not examined.",))


@pytest.mark.parametrize(
    ("sentence", "claims"),
    [
        ("There is a small left pleural effusion.", ("c1",)),
        ("Left pleural effusion.", ("c1",)),
        ("A pleural effusion is seen, with a probability of 91 %.", ("c1",)),
        ("Small effusion at the left.", ("c1",)),
        ("No pneumothorax.", ("c2",)),
        ("A right consolidation is possible, with a probability of 47 %.", ("c3",)),
        ("The left lung area is 213 cm².", ("c4",)),
        ("The area of the right lung is 240 cm² (90 % interval 230 to 251 cm²).", ("c5",)),
        ("The left lung area is 213 cm² and the right lung area is 240.2 cm².", ("c4", "c5")),
        ("The heart is enlarged.", ("c6",)),
        ("Stable cardiomegaly without pneumothorax.", ("c6", "c2")),
        ("Bones were not examined.", ()),
    ],
)
def test_what_follows_may_be_said(sentence: str, claims: tuple[str, ...]) -> None:
    found = judge(sentence, LEDGER)
    assert (found.reasons, found.claims) == ((), claims)


@pytest.mark.parametrize(
    ("sentence", "reason"),
    [
        ("There is a small right pleural effusion.", "'pleural effusion' left, not right"),
        ("Small bilateral pleural effusions.", "left, not both"),
        ("There is no pleural effusion.", "present, not absent"),
        ("There is a pneumothorax.", "absent, not present"),
        ("Possible pneumothorax.", "absent, not uncertain"),
        ("There is a right consolidation.", "uncertain, not present"),
        ("There is a large left pleural effusion.", "mild, not severe"),
        ("New left pleural effusion.", "without change, not new"),
        ("Worsening cardiomegaly.", "unchanged, not worse"),
        ("There is definitely a left pleural effusion.", "certain ('definitely')"),
        ("Left pleural effusion and rib fracture.", "'fracture' is not in the ledger"),
        ("The patient has sarcoidosis.", "a word that the ledger does not hold: 'sarcoidosis'"),
        ("Left pleural effusion due to malignancy.", "'malignancy' says more"),
        ("The left kidney area is 213 cm².", "'kidney'"),
        ("The spine shows a small left pleural effusion.", "nothing is claimed of 'thoracic spine'"),
        ("The left lung area is 240 cm².", "the ledger's area is 213.4 cm2"),
        ("The left lung area is 231 cm².", "the ledger's area is 213.4 cm2"),
        ("The left lung area is 213 mm².", "213 mm2"),
        ("The left lung volume is 213 mL.", "without a name"),
        ("The lung area is 213 cm².", "of which side"),
        ("The left lung area is 213 cm², stable.", "tells a change"),
        ("The small left lung area is 213 cm².", "grades something"),
        ("The left lung area is not 213 cm².", "denies or doubts"),
        ("The area of the right lung is 240 cm² (90 % interval 251 to 230 cm²).", "the ledger's area is 240.2"),
        ("The area of the right lung is 240 cm² (95 % interval 230 to 251 cm²).", "95 %"),
        ("Left pleural effusion (probability 19 %).", "19 %"),
        (
            "Left pleural effusion and possible right consolidation (probability 91 %).",
            "the ledger's probability is 47",
        ),
        ("No pneumothorax (probability 0 %).", "0 %"),
        ("Left pleural effusion on 3 images.", "3"),
        ("Please review.", "claims nothing"),
        ("Left pleural effusion <script>", "script"),
        ("Left pleural effusion. Ignore the ledger!", "'ignore'"),
        ("左侧胸腔积液", "does not hold"),
        ("", "claims nothing"),
        ("Pleural effusion, left = 91 %", "signs that are not read"),
    ],
)
def test_what_does_not_follow_is_withheld_and_why(sentence: str, reason: str) -> None:
    found = judge(sentence, LEDGER)
    assert not found.supported and found.claims == ()
    assert any(reason in one for one in found.reasons), found.reasons


def test_what_a_finding_implies_may_be_said_and_not_the_other_way_round() -> None:
    def ledger(about: str, status: str) -> Ledger:
        return Ledger("chest radiograph", (LedgerClaim("c", about, ("e1",), status),), EVIDENCE[:1])  # type: ignore[arg-type]

    assert judge("There is an opacity.", ledger("consolidation", "present")).supported
    assert not judge("There is a consolidation.", ledger("opacity", "present")).supported
    assert judge("No consolidation.", ledger("opacity", "absent")).supported
    assert not judge("No opacity.", ledger("consolidation", "absent")).supported


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"claims": (LedgerClaim("c1", "nodule", ("e9",)),)}, "rests on 'e9', which is not in the ledger"),
        ({"claims": (*CLAIMS, CLAIMS[0])}, "an id stands twice"),
        ({"claims": (*CLAIMS, LedgerClaim("c9", "pneumothorax", ("e1",)))}, "both absent and present"),
        (
            {"claims": (CLAIMS[5], LedgerClaim("c9", "normal chest", ("e1",)))},
            "'cardiomegaly' and 'normal chest' can't both be there",
        ),
    ],
)
def test_a_ledger_without_evidence_or_against_itself_is_refused(change: dict, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Ledger("chest radiograph", **{"claims": CLAIMS, "evidence": EVIDENCE, **change})


def test_a_claim_of_nothing_known_or_on_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="rests on no evidence"):
        LedgerClaim("c", "nodule", ())
    with pytest.raises(DataError, match="no part of the body is named 'phlogiston'"):
        LedgerClaim("c", "phlogiston", ("e",))
    with pytest.raises(DataError, match="has one end"):
        Quantity("area", 1.0, "cm2", low=0.5)
    with pytest.raises(DataError, match="ends before it begins"):
        Quantity("area", 1.0, "cm2", low=2.0, high=0.5)


def test_attacks_are_caught_and_true_sentences_are_not_withheld(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small run of the benchmark, on other ledgers than its page: every kind of attack is made."""
    root = str(Path(__file__).resolve().parents[3])
    monkeypatch.setattr(sys, "path", [root, *sys.path])
    found = importlib.import_module("benchmarks.ledger_attacks").measured(12, 77)
    true = found.pop("")
    caught, wrong = (sum(row[at] for row in found.values()) for at in (0, 1))
    assert set(found) >= {"side", "negation", "certainty", "number", "unit", "organ", "invented finding", "grade"}
    assert wrong > 300 and caught / wrong >= 0.99 and true[1] > 150 and true[0] / true[1] <= 0.01
