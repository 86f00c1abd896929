"""Words for findings on chest radiographs, and the words that deny, doubt, place and grade them: words only, no rules.

Phrases are lower case, singular, without hyphens; `isocenter.evaluate.report_findings` brings texts to that form. An
ontology may take the place of this table: the rules know nothing of what stands in it.

Source:
    Findings after Irvin et al., AAAI 2019 (CheXpert), and the labels of Demner-Fushman et al., JAMIA 2016 (IU X-ray);
    cues after Chapman et al., Journal of Biomedical Informatics 2001 (NegEx) and Peng et al., AMIA Summits 2018
    (NegBio). Written anew, from reports.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
        cues: Phrases of each kind of cue; `report_findings` says what each does.
        sides: Phrases for left, right and both sides.
        grades: Phrases for mild, moderate and severe.
    """

    findings: Mapping[str, tuple[str, ...]]
    unsided: frozenset[str]
    subjects: Mapping[str, tuple[tuple[str, ...], Mapping[str, str]]]
    predicates: Mapping[str, tuple[str, ...]]
    cues: Mapping[str, tuple[str, ...]]
    sides: Mapping[str, tuple[str, ...]]
    grades: Mapping[str, tuple[str, ...]]


_FINDINGS: dict[str, tuple[str, ...]] = {
    "acute abnormality": (
        *("acute cardiopulmonary abnormality", "acute cardiopulmonary finding", "acute cardiopulmonary disease"),
        *("acute cardiopulmonary process", "acute radiographic cardiopulmonary process", "acute process"),
        *("acute radiographic cardiopulmonary abnormality", "acute pulmonary disease", "acute pulmonary process"),
        *("acute pulmonary abnormality", "acute pulmonary finding", "acute abnormality", "acute finding"),
        *("acute disease", "active disease", "active cardiopulmonary disease", "acute intrathoracic abnormality"),
        *("acute intrathoracic process", "acute cardiopulmonary", "acute cardiac or pulmonary abnormality"),
        *("acute chest abnormality", "acute thoracic abnormality", "acute chest disease", "acute cardiac disease"),
        *("acute or active cardiac pulmonary or pleural disease", "active pulmonary disease"),
    ),
    "opacity": (
        *("opacity", "opacification", "airspace disease", "air space disease", "airspace opacity", "density"),
        *("airspace opacification", "focal airspace disease", "focal air space opacity", "pulmonary opacity"),
        *("parenchymal opacity", "focal opacity", "patchy opacity", "haziness", "focal lung abnormality"),
    ),
    "consolidation": ("consolidation", "focal consolidation", "lobar consolidation", "alveolar consolidation"),
    "infiltrate": ("infiltrate", "infiltration", "pulmonary infiltrate"),
    "pneumonia": ("pneumonia", "bronchopneumonia", "infectious process", "pulmonary infection", "pneumonitis"),
    "atelectasis": ("atelectasis", "atelectatic change", "subsegmental atelectasis", "lobar collapse", "collapse"),
    "pulmonary edema": (
        *("pulmonary edema", "pulmonary oedema", "edema", "oedema", "interstitial edema", "alveolar edema"),
        *("fluid overload", "volume overload"),
    ),
    "vascular congestion": (
        *("vascular congestion", "pulmonary vascular congestion", "congestion", "venous congestion"),
        *("pulmonary venous hypertension", "vascular engorgement", "cephalization", "pulmonary venous congestion"),
    ),
    "heart failure": ("heart failure", "congestive heart failure", "chf", "failure", "cardiac decompensation"),
    "cardiomegaly": ("cardiomegaly", "cardiac enlargement", "enlarged cardiac silhouette", "enlarged heart"),
    "pericardial effusion": ("pericardial effusion",),
    "pleural effusion": (
        *(
            "pleural effusion",
            "effusion",
            "pleural fluid",
            "hydrothorax",
            "parapneumonic effusion",
            "pleural air fluid",
        ),
        *("blunting", "costophrenic blunting", "blunted costophrenic angle", "blunted"),
    ),
    "pleural thickening": ("pleural thickening", "pleural plaque", "pleural scarring", "apical cap", "apical capping"),
    "pneumothorax": ("pneumothorax", "pneumothoraces", "hydropneumothorax"),
    "pneumomediastinum": ("pneumomediastinum", "mediastinal emphysema"),
    "free air": ("free air", "pneumoperitoneum", "free intraperitoneal air", "subdiaphragmatic air"),
    "subcutaneous emphysema": ("subcutaneous emphysema", "subcutaneous air", "subcutaneous gas"),
    "nodule": ("nodule", "nodular density", "nodular opacity", "pulmonary nodule", "nodularity", "noncalcified nodule"),
    "mass": (
        "mass",
        "mass lesion",
        "tumor",
        "tumour",
        "neoplasm",
        "malignancy",
        "lung cancer",
        "metastasis",
        "metastatic disease",
    ),
    "granuloma": (
        "granuloma",
        "granulomatous disease",
        "calcified granuloma",
        "calcified nodule",
        "granulomatous change",
    ),
    "cavity": ("cavity", "cavitation", "cavitary lesion", "cavitary disease"),
    "cyst or bulla": ("bulla", "bullae", "cyst", "bleb", "bullous disease", "bullous change"),
    "emphysema": (
        *(
            "emphysema",
            "emphysematous change",
            "copd",
            "chronic obstructive pulmonary disease",
            "emphysematous disease",
        ),
        *("obstructive lung disease", "emphysematous", "obstructive pulmonary disease"),
    ),
    "hyperinflation": (
        *("hyperinflation", "hyperinflated", "hyperexpansion", "hyperexpanded", "hyperlucency", "hyperlucent"),
        *("flattened diaphragm", "flattening of the diaphragm", "air trapping", "overinflation", "hyperaeration"),
    ),
    "fibrosis": (
        *("fibrosis", "fibrotic change", "pulmonary fibrosis", "honeycombing", "interstitial lung disease"),
        *("fibrotic scarring", "interstitial fibrosis"),
    ),
    "scarring": ("scarring", "scar", "parenchymal scar", "cicatrix"),
    "interstitial markings": (
        *("interstitial marking", "interstitial prominence", "interstitial opacity", "interstitial change"),
        *("reticular opacity", "interstitial disease", "prominent interstitium", "reticular marking"),
        *("interstitial thickening", "bronchovascular marking", "peribronchial cuffing", "bronchial wall thickening"),
    ),
    "bronchiectasis": ("bronchiectasis", "bronchiectatic change"),
    "lymphadenopathy": ("lymphadenopathy", "adenopathy", "lymph node enlargement", "enlarged lymph node"),
    "hilar enlargement": ("hilar enlargement", "hilar prominence", "hilar mass", "hilar fullness", "enlarged hilum"),
    "mediastinal widening": ("mediastinal widening", "widened mediastinum", "mediastinal mass", "mediastinal shift"),
    "aortic disease": (
        *("aortic tortuosity", "tortuous aorta", "tortuous thoracic aorta", "ectatic aorta", "aortic ectasia"),
        *("aortic calcification", "atherosclerosis", "atherosclerotic disease", "atherosclerotic calcification"),
        *("aortic aneurysm", "atherosclerotic change", "aortic atherosclerosis", "tortuosity", "unfolded aorta"),
        *("calcified aorta", "atherosclerotic aorta", "ectasia", "atheromatous"),
    ),
    "pulmonary hypertension": ("pulmonary hypertension", "pulmonary arterial hypertension"),
    "hernia": ("hernia", "hiatal hernia", "hiatus hernia", "diaphragmatic hernia"),
    "elevated diaphragm": (
        *("elevated hemidiaphragm", "elevation of hemidiaphragm", "elevated diaphragm", "eventration"),
        *("hemidiaphragm elevation", "diaphragmatic elevation"),
    ),
    "low lung volume": (
        "low lung volume",
        "low inspiratory volume",
        "hypoinflation",
        "hypoinflated",
        "hypoventilatory",
    ),
    "fracture": ("fracture", "rib fracture", "compression fracture", "compression deformity", "broken rib"),
    "degenerative change": (
        *("degenerative change", "degenerative disease", "spondylosis", "osteophyte", "osteoarthritis", "arthritis"),
        *("osteophytosis", "endplate change", "spurring", "disc disease", "arthritic change", "bony spurring"),
    ),
    "scoliosis": (
        "scoliosis",
        "kyphosis",
        "kyphoscoliosis",
        "scoliotic curvature",
        "shaped curvature",
        "dextroscoliosis",
        "levoscoliosis",
    ),
    "osteopenia": ("osteopenia", "osteoporosis", "bony demineralization", "demineralization"),
    "bone abnormality": (
        *("acute bony abnormality", "acute osseous abnormality", "bony abnormality", "osseous abnormality"),
        *("acute bony finding", "acute osseous finding", "bone lesion", "lytic lesion", "osseous lesion"),
        *("acute bony pathology", "acute skeletal abnormality", "bony lesion", "skeletal abnormality"),
    ),
    "device": (
        *("pacemaker", "picc", "picc line", "central line", "central venous catheter", "catheter", "tube", "icd"),
        *("endotracheal tube", "chest tube", "port", "sternotomy wire", "surgical clip", "clip", "defibrillator"),
        *("nasogastric tube", "sternotomy", "prosthesis", "stent", "prosthetic valve", "valve replacement", "hardware"),
    ),
}

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
        *("no typical finding of", "removal of", "no finding to suggest", "no finding of", "without sign of"),
    ),
    # Denies what stands before.
    "denied": (
        *("not seen", "not identified", "not present", "not evident", "not visualized", "not demonstrated", "absent"),
        *("no longer seen", "no longer identified", "no longer visualized", "no longer present", "has resolved"),
        *("have resolved", "is resolved", "not appreciated", "not detected", "has been removed", "have been removed"),
        *("ruled out", "excluded", "has cleared", "have cleared", "unlikely", "no longer evident", "not noted"),
        *("not definitely seen", "not definitely identified", "not clearly seen", "no longer noted"),
    ),
    # Doubts what follows.
    "hedge": (
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
        *("no further", "without change", "no new", "no acute change", "without contrast", "no comparison", "no prior"),
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
        *("nipple shadow", "calcium density", "bony density", "no substantial change", "no interval"),
    ),
}

CHEST = Vocabulary(
    findings=_FINDINGS,
    unsided=frozenset(
        {
            *("acute abnormality", "cardiomegaly", "pericardial effusion", "pneumomediastinum", "heart failure"),
            *("vascular congestion", "mediastinal widening", "aortic disease", "pulmonary hypertension", "scoliosis"),
            *("osteopenia", "free air", "low lung volume", "degenerative change", "bone abnormality", "hernia"),
            *("emphysema", "hyperinflation", "device"),
        }
    ),
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
                *("cardiomediastinal silhouette", "cardiomediastinal contour", "cardio mediastinal silhouette"),
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
    sides={
        "left": ("left", "left sided", "lingula", "lingular"),
        "right": ("right", "right sided", "right middle lobe"),
        "both": (
            *("bilateral", "bilaterally", "both", "bibasilar", "biapical", "bibasal", "right greater than left"),
            *("left greater than right", "right and left", "left and right", "right more than left", "perihilar"),
            *("left more than right", "either"),
        ),
    },
    grades={
        "mild": (
            *(
                "mild",
                "mildly",
                "small",
                "minimal",
                "minimally",
                "tiny",
                "trace",
                "slight",
                "slightly",
                "minor",
                "subtle",
            ),
            *("borderline", "faint", "early", "minute"),
        ),
        "moderate": ("moderate", "moderately", "mild to moderate", "medium", "small to moderate", "moderate sized"),
        "severe": (
            *(
                "severe",
                "severely",
                "large",
                "marked",
                "markedly",
                "massive",
                "extensive",
                "huge",
                "moderate to severe",
            ),
            *("moderate to large", "advanced", "gross", "dense", "significant", "diffuse severe"),
        ),
    },
)
"""English reports of chest radiographs."""
