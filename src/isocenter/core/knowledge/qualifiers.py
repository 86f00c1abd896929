"""Words and codes of what is said of a finding: presence, side, grade, change since an earlier image, acuity.

Words are lower case, singular, without hyphens, like those of findings.

Source:
    Codes: SNOMED CT, as DICOM PS3.16 uses it (CID 240, 244, 3716, 6130, 3770); our own where DICOM has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from isocenter.core.knowledge.concept import local
from isocenter.core.units import Code

__all__ = [
    "ACUITY_CODES",
    "ACUITY_WORDS",
    "CHANGE_CODES",
    "CHANGE_WORDS",
    "GRADE_CODES",
    "GRADE_WORDS",
    "PRESENCE_CODES",
    "SIDE_CODES",
    "SIDE_WORDS",
]

PRESENCE_CODES: Mapping[str, Code] = MappingProxyType(
    {
        "present": Code("52101004", "SCT", "Present"),
        "absent": Code("2667000", "SCT", "Absent"),
        "uncertain": Code("82334004", "SCT", "Indeterminate"),
    }
)

SIDE_CODES: Mapping[str, Code] = MappingProxyType(
    {
        "left": Code("7771000", "SCT", "Left"),
        "right": Code("24028007", "SCT", "Right"),
        "both": Code("51440002", "SCT", "Right and left"),
    }
)

SIDE_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "left": ("left", "left sided", "lingula", "lingular"),
        "right": ("right", "right sided", "right middle lobe"),
        "both": (
            *("bilateral", "bilaterally", "both", "bibasilar", "biapical", "bibasal", "right greater than left"),
            *("left greater than right", "right and left", "left and right", "right more than left", "perihilar"),
            *("left more than right", "either"),
        ),
    }
)

GRADE_CODES: Mapping[str, Code] = MappingProxyType(
    {
        "mild": Code("255604002", "SCT", "Mild"),
        "moderate": Code("6736007", "SCT", "Moderate"),
        "severe": Code("24484000", "SCT", "Severe"),
    }
)

GRADE_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "mild": (
            *("mild", "mildly", "small", "minimal", "minimally", "tiny", "trace", "slight", "slightly", "minor"),
            *("subtle", "borderline", "faint", "early", "minute"),
        ),
        "moderate": ("moderate", "moderately", "mild to moderate", "medium", "small to moderate", "moderate sized"),
        "severe": (
            *("severe", "severely", "large", "marked", "markedly", "massive", "extensive", "huge"),
            *("moderate to severe", "moderate to large", "advanced", "gross", "dense", "significant"),
            "diffuse severe",
        ),
    }
)

CHANGE_CODES: Mapping[str, Code] = MappingProxyType(
    {
        "new": local("C-1", "New since the earlier image"),
        "worse": local("C-2", "Worse than on the earlier image"),
        "better": local("C-3", "Better than on the earlier image"),
        "unchanged": Code("260388006", "SCT", "No change"),
        "resolved": local("C-4", "Gone since the earlier image"),
    }
)

CHANGE_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "new": (
            *("new", "newly", "interval development of", "development of", "developing", "has developed"),
            *("have developed", "interval appearance of", "new interval", "no new", "without new"),
        ),
        "worse": (
            *("worse", "worsening", "worsened", "increasing", "has increased", "have increased", "enlarging"),
            *("increased in size", "interval increase in", "increase in size", "interval worsening of", "larger"),
            *("progression of", "interval progression of", "has progressed", "have progressed", "progressive"),
            *("interval enlargement of", "increased from prior", "increased since", "increased compared"),
            *("more extensive", "more conspicuous", "interval increase"),
        ),
        "better": (
            *("improved", "improving", "improvement", "interval improvement in", "interval improvement of"),
            *("improvement in", "improvement of", "decreasing", "has decreased", "have decreased", "smaller"),
            *("decreased in size", "interval decrease in", "decrease in size", "resolving", "nearly resolved"),
            *("partially resolved", "near complete resolution of", "near resolution of", "partial resolution of"),
            *("decreased from prior", "decreased since", "decreased compared", "less extensive", "partial clearing of"),
            *("has improved", "have improved", "interval decrease", "less conspicuous", "almost completely resolved"),
        ),
        "unchanged": (
            *("stable", "unchanged", "not changed", "not significantly changed", "again seen", "again noted"),
            *(
                "again demonstrated",
                "persistent",
                "persistence of",
                "stable appearing",
                "as before",
                "similar to prior",
            ),
            *("no change", "no interval change", "no significant change", "no significant interval change"),
            *("without change", "no definite change", "no substantial change", "similar in appearance"),
            *("without significant change", "without interval change", "stable in appearance", "has not changed"),
            *("have not changed", "no change in", "relatively unchanged", "similar in size"),
        ),
        "resolved": (
            *("resolution of", "resolved", "interval resolution of", "no longer seen", "no longer identified"),
            *("no longer visualized", "no longer present", "has resolved", "have resolved", "is resolved"),
            *("has been removed", "have been removed", "has cleared", "have cleared", "no longer evident"),
            *("no longer noted", "removal of", "interval removal of", "interval clearing of", "removed"),
            *("with interval resolution", "with resolution", "with interval clearing", "with resolution of"),
            *("with interval resolution of", "with interval clearing of"),
        ),
    }
)
"""What is said of a finding in view of an earlier image. A phrase may deny besides ("resolution of", "no new")."""

ACUITY_CODES: Mapping[str, Code] = MappingProxyType(
    {"acute": Code("385315009", "SCT", "Acute onset"), "chronic": Code("90734009", "SCT", "Chronic")}
)

ACUITY_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "acute": ("acute", "acutely", "recent", "active"),
        "chronic": ("chronic", "old", "remote", "healed", "longstanding", "long standing"),
    }
)
