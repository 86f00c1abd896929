"""Words for findings on chest radiographs, and the words that deny, doubt, place and grade them: words only, no rules.

Names and words of findings, sides, grades and changes come from `core.knowledge`, which labels and coded output share;
cues, and parts with what is said of them, stand here. Phrases are lower case, singular, without hyphens;
`isocenter.evaluate.report_mentions` brings texts to that form. The rules know nothing of what stands in the table.

Source:
    Findings after Irvin et al., AAAI 2019 (CheXpert), and the labels of Demner-Fushman et al., JAMIA 2016 (IU X-ray);
    cues after Chapman et al., Journal of Biomedical Informatics 2001 (NegEx) and Peng et al., AMIA Summits 2018
    (NegBio). Written anew, from reports.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from isocenter.core.knowledge import CHANGE_WORDS, FINDINGS, GRADE_WORDS, SIDE_WORDS

__all__ = ["CHEST", "Vocabulary"]


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Words of one kind of report.

    Args:
        findings: Name of each finding, and its phrases.
        unsided: Findings of the middle, or of the whole, that have no side.
        subjects: Parts that are said to be normal, large or otherwise; for each predicate the finding that it denies
            ("normal") or claims.
        predicates: Phrases of each predicate.
        cues: Phrases of each kind of cue; `report_mentions` says what each does.
        sides: Phrases for left, right and both sides.
        grades: Phrases for mild, moderate and severe.
        changes: Phrases for new, worse, better, unchanged and resolved.
        parts: Findings that are two others in one.
    """

    findings: Mapping[str, tuple[str, ...]]
    unsided: frozenset[str]
    subjects: Mapping[str, tuple[tuple[str, ...], Mapping[str, str]]]
    predicates: Mapping[str, tuple[str, ...]]
    cues: Mapping[str, tuple[str, ...]]
    sides: Mapping[str, tuple[str, ...]]
    grades: Mapping[str, tuple[str, ...]]
    changes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


_CONCEPTS = tuple(c for c in FINDINGS.of("chest radiograph") if not c.normal)

_CUES: dict[str, tuple[str, ...]] = {
    # Denies what follows, up to the end of its clause.
    "deny": (
        *("no", "without", "no evidence of", "no evidence for", "no sign of", "no definite", "no convincing", "nor"),
        *(
            "without evidence of",
            "free of",
            "clear of",
            "grossly clear of",
            "clear of any",
            "negative for",
            "absence of",
            "neither",
            "not",
            "never",
        ),
        *("no radiographic evidence of", "resolution of", "resolved", "denies", "no visible", "no appreciable"),
        *("lack of", "rather than", "interval resolution of", "no significant", "no suspicious", "no obvious"),
        *(
            "with resolution of",
            "with interval resolution of",
            "with interval clearing of",
            "no new",
            "without new",
            "interval removal of",
            "interval clearing of",
            "no typical finding of",
            "removal of",
            "no finding to suggest",
            "no finding of",
            "without sign of",
        ),
    ),
    # Denies what stands before.
    "denied": (
        *("not seen", "not identified", "not present", "not evident", "not visualized", "not demonstrated", "absent"),
        *("no longer seen", "no longer identified", "no longer visualized", "no longer present", "has resolved"),
        *("have resolved", "is resolved", "not appreciated", "not detected", "has been removed", "have been removed"),
        *("ruled out", "excluded", "has cleared", "have cleared", "unlikely", "no longer evident", "not noted"),
        *("not definitely seen", "not definitely identified", "no longer noted", "removed"),
        *("with interval resolution", "with resolution", "with interval clearing"),
    ),
    # Doubts what follows.
    "hedge": (
        *("maybe", "may include", "could include", "might include", "would be", "cannot rule out", "can not rule out"),
        *(
            "no evidence to rule out",
            "cannot entirely exclude",
            "suspicion for",
            "could obscure",
            "may obscure",
            "could mask",
            "may mask",
            "could hide",
            "may hide",
        ),
        *("possible", "possibly", "probable", "probably", "likely", "may represent", "may be", "could represent"),
        *("could be", "suspicious for", "suspicion of", "concerning for", "concern for", "questionable", "question of"),
        *("suggesting", "suggestive of", "suggest", "cannot exclude", "can not exclude", "worrisome for", "perhaps"),
        *("may reflect", "might represent", "might be", "could reflect", "differential includes", "versus", "vs"),
        *("presumed", "suspected", "consider", "compatible with possible", "not exclude", "equivocal", "apparent"),
        *("suggestion of", "could indicate", "differential consideration", "differential diagnosis", "might reflect"),
        *("most likely", "related to", "may indicate", "can be seen with", "difficult to exclude", "potentially"),
    ),
    # Doubts what stands before.
    "hedged": (
        *("cannot be excluded", "can not be excluded", "not excluded", "could not be excluded", "is possible"),
        *("is suspected", "not entirely excluded", "is not excluded", "cannot be ruled out", "should be considered"),
        *("may be present", "could be present", "might be present", "possibly be present", "not clearly seen"),
        *("poorly evaluated", "incompletely evaluated", "not well evaluated", "poorly visualized", "poorly seen"),
        *("may have this appearance", "could have this appearance", "might have this appearance"),
        *("difficult to entirely exclude", "not entirely exclude", "not well seen", "not well visualized"),
        *("may not be demonstrated", "may not be seen", "may not be visible", "may not be apparent"),
        *("not completely excluded", "difficult to exclude entirely", "is questioned", "are possible"),
    ),
    # Speaks of what was, or was asked: no claim.
    "past": (
        *(
            "history of",
            "evaluate for",
            "rule out",
            "evaluation for",
            "assess for",
            "question",
            "status post removal of",
        ),
        *("correlate clinically for", "correlate for", "clinical correlation for", "correlation for"),
        *("prior history of", "clinical concern for", "looking for", "indication"),
    ),
    # Ends a denial or a doubt.
    "stop": (
        *("but", "however", "although", "though", "except", "except for", "aside from", "apart from", "other than"),
        *("which", "otherwise", "with the exception of", "there is", "there are", "there has been", "in addition"),
        *("while", "whereas", "yet"),
    ),
    "verb": (
        *("is", "are", "was", "were", "has", "have", "appear", "remain", "demonstrate", "show", "seem", "reveal"),
        *("contain", "project", "represent"),
    ),
    "or": ("or", "and or", "nor any"),
    "and": ("and", "as well as", "plus"),
    # Looks like a cue, or like a side, and is none.
    "none": (
        *("no change", "no interval change", "no significant change", "no significant interval change", "not only"),
        *("no further", "without change", "no acute change", "without contrast", "no comparison", "no prior"),
        *("left ventricle", "left ventricular", "right ventricle", "right ventricular", "left atrium", "left atrial"),
        *("right atrium", "right atrial", "left heart", "right heart", "right paratracheal stripe", "no additional"),
        *("no definite change", "if clinically", "likely not", "mass effect", "critical mass", "no increase"),
        *("small bowel", "large bowel", "air fluid level", "body mass", "soft tissue density", "bone density"),
        *(
            "thyroid mass",
            "pericardial mass",
            "cystic fibrosis",
            "masslike",
            "nodular like",
            "fat pad",
            "round mass like",
        ),
        *("joint effusion", "knee effusion", "middle ear effusion", "suprapatellar effusion", "ear effusion"),
        *("nipple shadow", "calcium density", "bony density", "no substantial change", "no interval"),
    ),
}

CHEST = Vocabulary(
    findings={concept.name: concept.words for concept in _CONCEPTS},
    unsided=frozenset(concept.name for concept in _CONCEPTS if not concept.sided),
    subjects={
        "heart": (
            (
                *("heart", "heart size", "cardiac silhouette", "cardiac size", "cardiac contour", "size of the heart"),
                *("cardiac", "cardiopericardial silhouette", "cardiac shadow", "heart shadow", "cardiac and"),
            ),
            {"normal": "cardiomegaly", "large": "cardiomegaly"},
        ),
        "heart and mediastinum": (
            (
                *(
                    "pericardial silhouette",
                    "cardiomediastinal silhouette",
                    "cardiomediastinal contour",
                    "cardio mediastinal silhouette",
                ),
                *("cardiomediastinum", "cardiac mediastinal silhouette", "cardiac mediastinal contour"),
            ),
            {"normal": "cardiomegaly|mediastinal widening", "large": "cardiomegaly"},
        ),
        "mediastinum": (
            ("mediastinum", "mediastinal contour", "mediastinal silhouette", "mediastinal size", "mediastinal"),
            {"normal": "mediastinal widening", "large": "mediastinal widening"},
        ),
        "lungs": (
            ("lung", "lung field", "lung zone", "pulmonary parenchyma", "lung parenchyma"),
            {"normal": "opacity", "low": "low lung volume"},
        ),
        "vessels": (
            ("pulmonary vasculature", "pulmonary vascularity", "vascularity", "vasculature", "pulmonary vessel"),
            {"normal": "vascular congestion", "large": "vascular congestion"},
        ),
        "pleura": (
            ("pleural space", "costophrenic angle", "costophrenic sulcus", "pleura", "costophrenic sulci"),
            {"normal": "pleural effusion"},
        ),
        "hila": (
            ("hilum", "hila", "hilar contour", "hilar structure"),
            {"normal": "hilar enlargement", "large": "hilar enlargement"},
        ),
        "bones": (
            (
                *(
                    "bony structure",
                    "osseous structure",
                    "bone",
                    "bony thorax",
                    "skeletal structure",
                    "ribs",
                    "skeleton",
                ),
                *("bony skeleton", "thoracic spine", "osseous thorax", "visualized bony structure"),
            ),
            {"normal": "bone abnormality"},
        ),
        "aorta": (
            ("aorta", "thoracic aorta"),
            {"normal": "aortic disease", "large": "aortic disease", "wound": "aortic disease"},
        ),
        "diaphragm": (("diaphragm", "hemidiaphragm"), {"high": "elevated diaphragm", "flat": "hyperinflation"}),
        "chest": (
            ("chest", "chest xxxx", "chest radiograph", "chest x ray", "chest film", "examination", "exam", "study"),
            {"normal": "acute abnormality"},
        ),
    },
    predicates={
        "normal": (
            *("normal", "clear", "unremarkable", "within normal limit", "intact", "normal in size", "free", "negative"),
            *(
                "not enlarged",
                "sharp",
                "grossly clear",
                "grossly unremarkable",
                "grossly normal",
                "without abnormality",
            ),
            *("within limit of normal", "not widened", "within normal", "normal limit", "no abnormality"),
            *("without acute abnormality", "upper limit of normal", "top normal", "without acute finding"),
        ),
        "large": (
            *("enlarged", "widened", "prominent", "prominence", "enlargement", "engorged", "fullness", "congested"),
            *("dilated", "slightly large"),
        ),
        "wound": ("tortuous", "ectatic", "unfolded", "calcified", "uncoiled", "atherosclerotic"),
        "high": ("elevated", "elevation", "raised"),
        "flat": ("flattened", "flattening"),
        "low": ("low in volume", "low volume", "underinflated"),
    },
    cues=_CUES,
    sides=SIDE_WORDS,
    grades=GRADE_WORDS,
    changes=CHANGE_WORDS,
    parts={"hydropneumothorax": ("pneumothorax", "pleural effusion")},
)
"""English reports of chest radiographs."""
