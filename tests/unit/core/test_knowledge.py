"""The table of findings is closed, and its codes are what their schemes say."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from pydicom.sr._concepts_dict import concepts

from isocenter.core.errors import DataError
from isocenter.core.knowledge import (
    ACUITY_CODES,
    ACUITY_WORDS,
    CHANGE_CODES,
    CHANGE_WORDS,
    FINDINGS,
    GRADE_CODES,
    GRADE_WORDS,
    LOCAL_SCHEME,
    PRESENCE_CODES,
    SIDE_CODES,
    SIDE_WORDS,
    FindingConcept,
    Ontology,
    Site,
)
from isocenter.core.knowledge.concept import local
from isocenter.core.units import Code

# SNOMED CT that DICOM's dictionary does not hold: written by hand, some from memory: check them before relying on them.
ELSEWHERE = {
    "95436008": "Lung consolidation",
    "233604007": "Pneumonia",
    "46621007": "Atelectasis",
    "8186001": "Cardiomegaly",
    "45647009": "Granuloma",
    "87433001": "Pulmonary emphysema",
    "13645005": "Chronic obstructive pulmonary disease",
    "51615001": "Fibrosis of lung",
    "12295008": "Bronchiectasis",
    "125605004": "Fracture of bone",
    "254837009": "Malignant neoplasm of breast",
    "4855003": "Diabetic retinopathy",
    "28998008": "Retinal hemorrhage",
}
MEANINGS: dict[tuple[str, str], set[str]] = {}
for _scheme, _table in concepts.items():
    for _values in _table.values():
        for _value, (_meaning, _) in _values.items():
            MEANINGS.setdefault((_scheme, _value), set()).add(re.sub(r" \([^()]*\)$", "", _meaning).lower())
QUALIFIERS = (*PRESENCE_CODES.values(), *SIDE_CODES.values(), *GRADE_CODES.values(), *CHANGE_CODES.values())
CODES = [f.code for f in FINDINGS] + [s.code for s in FINDINGS.sites] + [*QUALIFIERS, *ACUITY_CODES.values()]


def _finding(name: str, value: str = "F-1", **more: object) -> FindingConcept:
    return FindingConcept(name, local(value, "Something"), "lung", "chest radiograph", **more)  # type: ignore[arg-type]


LUNG = Site("lung", Code("39607008", "SCT", "Lung"), True)


@pytest.mark.parametrize("code", CODES, ids=str)
def test_codes_are_those_of_their_scheme(code):
    """The meaning may be any that DICOM's dictionary gives; "2667000" (Absent) is the code our SR has always used."""
    if code.scheme == LOCAL_SCHEME or code.value == "2667000":
        return
    if code.value in ELSEWHERE:
        assert (code.scheme, code.meaning) == ("SCT", ELSEWHERE[code.value])
        assert (code.scheme, code.value) not in MEANINGS
        return
    assert code.meaning.lower() in MEANINGS[code.scheme, code.value]


def test_every_code_is_one_finding_or_part():
    keys = [(c.scheme, c.value) for c in CODES]
    assert sorted({k for k in keys if keys.count(k) > 1}) == []


def test_private_codes_say_so_and_radlex_ids_look_like_some():
    assert all(f.code.scheme in ("SCT", "DCM", LOCAL_SCHEME) for f in FINDINGS)
    radlex = [f.radlex_code for f in FINDINGS if f.radlex_code is not None]
    assert len(radlex) > 10
    assert all(c.scheme == "RADLEX" and c.value.startswith("RID") and c.value[3:].isdigit() for c in radlex)


def test_words_are_as_reports_are_read():
    words = [w for f in FINDINGS for w in f.words]
    for table in (SIDE_WORDS, GRADE_WORDS, CHANGE_WORDS, ACUITY_WORDS):
        words += [w for phrases in table.values() for w in phrases]
    assert all(w == w.lower() and "-" not in w and w == " ".join(w.split()) and w for w in words)


def test_grades_sides_changes_have_words_and_codes():
    for words, codes in ((SIDE_WORDS, SIDE_CODES), (GRADE_WORDS, GRADE_CODES), (CHANGE_WORDS, CHANGE_CODES)):
        assert list(words) == list(codes)
        phrases = [p for ps in words.values() for p in ps]
        assert len(phrases) == len(set(phrases))


def test_look_ups_agree():
    for finding in FINDINGS:
        assert FINDINGS.named(finding.name) is finding
        assert FINDINGS.coded(finding.code.value, finding.code.scheme) is finding
        assert all(FINDINGS.called(word) is finding for word in finding.words)
        if finding.radlex is not None:
            assert FINDINGS.coded(finding.radlex, "RADLEX") is finding
    assert FINDINGS.called("Pleural-Fluid").name == "pleural effusion"
    assert FINDINGS.called("nothing like it") is None and FINDINGS.coded("1") is None
    assert FINDINGS.site("Hemidiaphragm".lower()).code.value == "5798000"
    for unknown in (FINDINGS.named, FINDINGS.site):
        with pytest.raises(DataError, match="named 'gout'"):
            unknown("gout")


def test_what_goes_with_what():
    assert FINDINGS.implied("hydropneumothorax") == {"pneumothorax", "pleural effusion"}
    assert FINDINGS.implied("consolidation") == {"opacity"}
    assert FINDINGS.implied("calcified nodule") == {"nodule", "opacity"}
    assert FINDINGS.exclude("benign breast lesion", "malignant breast lesion")
    assert FINDINGS.exclude("malignant breast lesion", "benign breast lesion")
    assert FINDINGS.exclude("normal breast", "breast cyst") and FINDINGS.exclude("breast mass", "normal breast")
    assert not FINDINGS.exclude("normal breast", "pneumonia")
    assert not FINDINGS.exclude("normal chest", "normal chest")
    assert FINDINGS.exclude("hyperinflation", "low lung volume")
    assert FINDINGS.conflicts(["pneumothorax", "pleural effusion"]) == ()
    # What is implied counts: a cyst is benign.
    assert ("benign breast lesion", "malignant breast lesion") in FINDINGS.conflicts(
        ["breast cyst", "malignant breast lesion"]
    )


def test_nothing_implies_what_it_excludes():
    for finding in FINDINGS:
        together = {finding.name, *FINDINGS.implied(finding.name)}
        assert FINDINGS.conflicts(together) == ()


def test_a_side_is_said_only_of_what_may_have_one():
    for exam in ("breast ultrasound", "fundus photograph", "brain MR", "abdomen CT"):
        assert all(FINDINGS.site(f.site).paired and f.sided for f in FINDINGS.of(exam))


@pytest.mark.parametrize(
    ("findings", "what"),
    [
        ((_finding("a"), _finding("a", "F-2")), "finding 'a' stands twice"),
        ((_finding("a"), _finding("b")), "code .* stands twice"),
        ((_finding("a", synonyms=("x",)), _finding("b", "F-2", synonyms=("x",))), "word 'x' stands twice"),
        ((_finding("a", implies=("b",)),), "'b', which is not known"),
        ((_finding("a", excludes=("b",)),), "'b', which is not known"),
        ((_finding("a", implies=("b",)), _finding("b", "F-2", implies=("a",))), "implies itself"),
        ((FindingConcept("a", local("F-1", "A"), "nose", "chest radiograph"),), "'nose', which is not known"),
    ],
)
def test_a_table_that_is_not_closed_is_refused(findings, what):
    with pytest.raises(DataError, match=what):
        Ontology(findings, (LUNG,))


def test_a_part_of_the_body_stands_once():
    with pytest.raises(DataError, match="part of the body 'lung' stands twice"):
        Ontology((), (LUNG, LUNG))


def test_it_is_light():
    code = (
        "import sys, isocenter.core.knowledge\n"
        "sys.exit(str(sorted({'pydicom', 'pydantic', 'torch', 'scipy'} & set(sys.modules))) "
        "if {'pydicom', 'pydantic', 'torch', 'scipy'} & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
