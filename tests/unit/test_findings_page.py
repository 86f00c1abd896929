"""The page of findings is the table of findings."""

from __future__ import annotations

from pathlib import Path

from isocenter.core.knowledge import (
    ACUITY_CODES,
    CHANGE_CODES,
    FINDINGS,
    GRADE_CODES,
    LOCAL_SCHEME,
    PRESENCE_CODES,
    SIDE_CODES,
)
from isocenter.evaluate.report_labels import CHEXPERT

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "findings.md"
EXAMS = ("chest radiograph", "breast ultrasound", "fundus photograph", "brain MR", "abdomen CT")


INTRODUCTION = f"""\
Made from `isocenter.core.knowledge` by `tests/unit/test_findings_page.py`. Labels, metrics and coded output
call a finding by these names. SCT is SNOMED CT, DCM is DICOM PS3.16; `{LOCAL_SCHEME}` is a private scheme of
ours, for findings without a code that we are sure of, and for those that stand for a group. Codes of SNOMED CT
that DICOM's own dictionary holds are compared with it in tests; the others (listed in
`tests/unit/core/test_knowledge.py`) were written by hand, some from memory: check
them against a terminology server before relying on them. Using SNOMED CT beyond
DICOM's subset may need a licence of your country."""


def page() -> str:
    """Return the page, made from the table itself."""
    lines = ["# Findings", INTRODUCTION]
    for exam in EXAMS:
        rows = ["| finding | code | RadLex | site | side | implies | excludes |", "| - | - | - | - | - | - | - |"]
        for f in FINDINGS.of(exam):  # type: ignore[arg-type]
            excludes = "every other" if f.normal else ", ".join(f.excludes)
            cells = (f.name, f"{f.code.value} {f.code.scheme}", f.radlex or "", f.site, "yes" if f.sided else "no")
            rows.append(f"| {' | '.join(cells)} | {', '.join(f.implies)} | {excludes} |")
        lines += [f"## {exam[0].upper()}{exam[1:]}", "\n".join(rows)]
    rows = ["| part of the body | code | paired |", "| - | - | - |"]
    rows += [f"| {s.name} | {s.code.value} {s.code.scheme} | {'yes' if s.paired else 'no'} |" for s in FINDINGS.sites]
    lines += ["## Parts of the body", "\n".join(rows)]
    rows = ["| what is said | values and codes |", "| - | - |"]
    tables = (PRESENCE_CODES, SIDE_CODES, GRADE_CODES, CHANGE_CODES, ACUITY_CODES)
    for what, codes in zip(("presence", "side", "grade", "change", "acuity"), tables, strict=True):
        rows.append(f"| {what} | {'; '.join(f'{name}: {c.value} {c.scheme}' for name, c in codes.items())} |")
    lines += ["## What is said of a finding", "\n".join(rows)]
    rows = ["| observation of CheXpert | findings |", "| - | - |"]
    rows += [f"| {name} | {', '.join(found) or 'nothing is there or uncertain'} |" for name, found in CHEXPERT.items()]
    return "\n\n".join([*lines, "## Observations of CheXpert", "\n".join(rows)]) + "\n"


def test_the_page_is_the_table() -> None:
    assert PAGE.read_text("utf-8") == page(), (
        'run: PYTHONPATH=tests python -c "from unit.test_findings_page import *; PAGE.write_text(page())"'
    )
