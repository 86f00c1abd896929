"""Real words and real labels: rules hold on thousands of sentences, and a set is split by patient."""

from __future__ import annotations

import re
import tarfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest

from isocenter.learn.alignment.config import load_config
from isocenter.learn.alignment.contradiction import contradict
from isocenter.learn.alignment.pairs import LabelData, open_pairs
from isocenter.learn.alignment.texts import split_sentences

pytestmark = pytest.mark.real
ROOT = Path(__file__).parents[2]


def test_rules_on_real_reports(shared_data: Path) -> None:
    sentences: set[str] = set()
    with tarfile.open(next((shared_data / "reports_iu_xray").glob("*.tgz"))) as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.name.endswith(".xml") else None
            if stream is not None:
                for part in ElementTree.parse(stream).getroot().iter("AbstractText"):
                    if part.get("Label") in ("FINDINGS", "IMPRESSION") and part.text:
                        sentences |= set(split_sentences(part.text))
    assert len(sentences) > 3000
    kinds: Counter[str] = Counter()
    for sentence in sorted(sentences):
        for found in contradict(sentence):
            kinds[found.kind] += 1
            assert found.text.lower() != " ".join(sentence.split()).lower()
            if found.kind == "laterality":
                assert not re.search(r"\b(no|not|without)\b", sentence, re.IGNORECASE)
                (back,) = contradict(found.text, ["laterality"])
                assert back.text == " ".join(sentence.split())
    # Most sentences have a negation, and those that find something at a side have that side.
    assert kinds["negation"] > 0.6 * len(sentences) and kinds["laterality"] > 300


def test_labelled_chest_films_are_split_by_patient(shared_data: Path) -> None:
    config = load_config(ROOT / "configs" / "align-cxr-labels.yaml")
    assert isinstance(config.data, LabelData)
    pairs = open_pairs(config.data, config.image.side, shared_data / "cxr_nih", config.seed)
    assert len(pairs.pairs) == 421 and pairs.known_patients
    counts = {split: len(pairs.of(split)) for split in ("train", "validation", "test")}
    assert counts == {"train": 232, "validation": 42, "test": 147}
    assert sum(pair.findings["Effusion"] for pair in pairs.pairs) == 50
    first = next(pair for pair in pairs.pairs if pair.patient == "282")
    assert {label for label, there in first.findings.items() if there} == {
        "Consolidation", "Effusion", "Infiltration", "Nodule",
    }  # fmt: skip
    assert "there is pleural effusion." in first.true and "no cardiomegaly." in first.true
    assert pairs.prepared(0).shape == (1, 96, 96)
