"""Synthetic patients: the report says what the film shows, on the side where the film shows it."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocenter.core.errors import ConfigError
from isocenter.learn.alignment.contradiction import CONTRADICTIONS, contradict_in_report
from isocenter.synth.paired import synthesise_pair
from isocenter.synth.paired_text import KINDS, SIDES, Claim, PairedFinding

PATIENTS = st.integers(0, 10**6)
_WORDS = {
    "effusion": r"effusion|costophrenic",
    "opacity": r"nodule|mass\b|round opacity",
    "consolidation": r"consolidat|airspace shadowing",
    "cardiomegaly": r"heart|cardiomegaly|cardiac",
    "device": r"pacemaker|implanted device",
}


def claim_of(text: str) -> Claim:
    """Read a sentence anew, by its words alone: a second opinion on what `Sentence.claim` says."""
    low = text.lower()
    kinds = tuple(kind for kind, pattern in _WORDS.items() if re.search(pattern, low))
    denied = bool(re.search(r"\bno\b|\bnot\b|free of", low))
    sound = re.search(r"\bclear\b|normal|sharp", low)
    kinds = kinds or ("effusion", "opacity", "consolidation")
    sides = SIDES if re.search("bilateral|both", low) else tuple(s for s in SIDES if re.search(rf"\b{s}\b", low))
    zone = next((z for z in ("upper", "lower") if z in low), "")
    size = next((s for s in ("small", "large") if re.search(rf"\b{s}\b", low)), "")
    if "opacity" in kinds and not denied:
        size = "small" if "nodule" in low else "large" if "mass" in low else size
    return Claim(kinds, denied == bool(sound), sides, zone, size)


def middle(change: np.ndarray) -> tuple[float, float]:
    """Return row and column of the middle of a change, -1 to 1."""
    weight = np.abs(change)
    at = (np.arange(len(change)) + 0.5) / len(change) * 2 - 1
    return float((weight.sum(axis=1) * at).sum() / weight.sum()), float((weight.sum(axis=0) * at).sum() / weight.sum())


def without(sample, seed: int, index: int, *finding: PairedFinding) -> np.ndarray:
    rest = [f for f in sample.findings if f not in finding]
    return sample.image[0] - synthesise_pair(seed, index, findings=rest).image[0]


@given(seed=st.integers(0, 3), index=PATIENTS)
@settings(max_examples=150, deadline=None)
def test_every_sentence_is_true_of_what_was_painted(seed, index):
    sample = synthesise_pair(seed, index, pixels=32)
    assert sample.sentences
    for sentence in sample.sentences:
        assert sentence.claim.holds(sample.findings), sentence.text
        assert claim_of(sentence.text).holds(sample.findings), sentence.text
    told = [s.claim for s in sample.sentences if s.claim.present]
    for finding in sample.findings:
        assert any(finding.kind in c.kinds and (not finding.side or finding.side in c.sides) for c in told)


@given(seed=st.integers(0, 3), index=PATIENTS)
@settings(max_examples=150, deadline=None)
def test_every_contradiction_is_false_of_what_was_painted(seed, index):
    sample = synthesise_pair(seed, index, pixels=32)
    texts = [s.text for s in sample.sentences]
    for at in range(len(texts)):
        for item in contradict_in_report(texts, at, CONTRADICTIONS):
            assert not claim_of(item.text).holds(sample.findings), (texts[at], item)


@given(seed=st.integers(0, 3), index=PATIENTS)
@settings(max_examples=80, deadline=None)
def test_the_patients_left_is_at_the_right_edge_of_the_film(seed, index):
    """What the text calls left changes the film at its right, and the other way round: the gravest defect."""
    sample = synthesise_pair(seed, index)
    for sentence in sample.sentences:
        sides = re.findall(r"\b(left|right)\b", sentence.text)
        if not sentence.claim.present or not sides:
            continue
        (kind,) = sentence.claim.kinds
        painted = [f for f in sample.findings if f.kind == kind and f.side == sides[0]]
        row, column = middle(without(sample, seed, index, *painted))
        assert (column > 0.05) if sides[0] == "left" else (column < -0.05), sentence.text
        if "upper" in sentence.text or "lower" in sentence.text:
            assert (row < 0) if "upper" in sentence.text else (row > 0), sentence.text


def test_the_chest_itself_tells_the_sides():
    """The heart's apex and the air of the stomach lie at the patient's left: right of the middle of the film."""
    films = np.mean([synthesise_pair(3, i, findings=()).image[0] for i in range(60)], axis=0)
    heart, stomach = films[40:44], films[48:52]
    assert heart[:, 36:42].mean() > heart[:, 22:28].mean() + 0.1
    assert stomach[:, 42:50].mean() < stomach[:, 14:22].mean() - 0.03


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", SIDES)
def test_mirrored_findings_mirror_the_change(kind, side):
    if kind == "cardiomegaly":
        wide = synthesise_pair(5, 1, findings=[PairedFinding(kind)]).image - synthesise_pair(5, 1, findings=()).image
        assert wide.mean() > 0.005
        return
    zone = "lower" if kind in ("opacity", "consolidation") else ""
    size = "large" if kind in ("opacity", "effusion") else ""
    plain = synthesise_pair(5, 1, findings=()).image[0]
    shown = synthesise_pair(5, 1, findings=[PairedFinding(kind, side, zone, size)]).image[0]
    _, column = middle(shown - plain)
    assert (column > 0.2) == (side == "left") and (column < -0.2) == (side == "right")


def test_pure_in_seed_and_index_whatever_the_size():
    a, b = synthesise_pair(1, 2), synthesise_pair(1, 2)
    assert a.image.tobytes() == b.image.tobytes() and a.sentences == b.sentences
    assert synthesise_pair(1, 2, pixels=96).findings == a.findings
    assert synthesise_pair(1, 3).image.tobytes() != a.image.tobytes()
    assert a.image.dtype == np.float32 and a.image.min() >= 0 and a.image.max() <= 1
    assert a.report.sections["findings"].startswith(a.sentences[0].text)


def test_removing_a_finding_changes_nothing_else():
    for index in range(200):
        sample = synthesise_pair(1, index)
        nodule = [f for f in sample.findings if f.kind == "opacity" and f.size == "small"]
        if nodule and len(sample.findings) > 1:
            change = np.abs(without(sample, 1, index, *nodule))
            assert (change > 0.02).mean() < 0.05
            return
    pytest.fail("no such patient among 200")


@pytest.mark.parametrize(
    "wrong",
    [("effusion", "left"), ("opacity", "left", "middle", "small"), ("device",), ("cardiomegaly", "left"), ("ghost",)],
)
def test_findings_that_make_no_sense(wrong):
    with pytest.raises(ConfigError, match="no such finding"):
        PairedFinding(*wrong)


def test_bad_arguments():
    with pytest.raises(ConfigError, match="32 pixels"):
        synthesise_pair(1, 1, pixels=16)
