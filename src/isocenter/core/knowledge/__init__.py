"""What is known of findings: names, codes, words, where they are seen, what goes with what and what never does.

One table for all that speaks of findings: reading reports (`evaluate.chest_terms`), labelling, grounding, coded output.

    >>> from isocenter.core.knowledge import FINDINGS
    >>> effusion = FINDINGS.called("pleural fluid")
    >>> effusion.name, str(effusion.code), FINDINGS.site(effusion.site).name
    ('pleural effusion', 'Pleural effusion (60046008, SCT)', 'pleura')

Codes of SNOMED CT and DICOM are given where we are sure of them: those that DICOM's own dictionary holds are compared
with it in tests, the others are listed there by hand. Everything else has a code of the private scheme
`99ISOCENTER`. Nothing here is a terminology server; a few dozen findings are all there is.
"""

from __future__ import annotations

from isocenter.core.knowledge.chest import CHEST_FINDINGS
from isocenter.core.knowledge.concept import LOCAL_SCHEME, Exam, FindingConcept, Ontology, Site
from isocenter.core.knowledge.others import OTHER_FINDINGS
from isocenter.core.knowledge.qualifiers import (
    ACUITY_CODES,
    ACUITY_WORDS,
    CHANGE_CODES,
    CHANGE_WORDS,
    GRADE_CODES,
    GRADE_WORDS,
    PRESENCE_CODES,
    SIDE_CODES,
    SIDE_WORDS,
)
from isocenter.core.knowledge.sites import SITES

__all__ = [
    "ACUITY_CODES",
    "ACUITY_WORDS",
    "CHANGE_CODES",
    "CHANGE_WORDS",
    "FINDINGS",
    "GRADE_CODES",
    "GRADE_WORDS",
    "LOCAL_SCHEME",
    "PRESENCE_CODES",
    "SIDE_CODES",
    "SIDE_WORDS",
    "Exam",
    "FindingConcept",
    "Ontology",
    "Site",
]

FINDINGS = Ontology((*CHEST_FINDINGS, *OTHER_FINDINGS), SITES)
"""Every finding that is known."""
