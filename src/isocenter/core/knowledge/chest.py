"""Findings of chest radiographs, with the words that reports in English use for them.

The words were written anew, from reports; their names are those that `evaluate` has always used. A finding that stands
for a group (any fracture, any device) has a code of our own or the group's, never that of one member.

Source:
    Findings after Irvin et al., AAAI 2019 (CheXpert), and the labels of Demner-Fushman et al., JAMIA 2016 (IU X-ray).
    Codes: DICOM PS3.16 CID 6102 to 6106 and SNOMED CT; RadLex identifiers where two sources agree.
"""

from __future__ import annotations

from isocenter.core.knowledge.concept import FindingConcept, local
from isocenter.core.units import Code

__all__ = ["CHEST_FINDINGS"]


def _sct(value: str, meaning: str) -> Code:
    return Code(value, "SCT", meaning)


def _lung(
    name: str,
    code: Code,
    *synonyms: str,
    site: str = "lung",
    radlex: str | None = None,
    sided: bool = True,
    implies: tuple[str, ...] = (),
    excludes: tuple[str, ...] = (),
) -> FindingConcept:
    return FindingConcept(name, code, site, "chest radiograph", synonyms, radlex, sided, implies, excludes)


CHEST_FINDINGS: tuple[FindingConcept, ...] = (
    FindingConcept(
        "normal chest",
        local("F-100", "Normal chest radiograph"),
        "chest",
        "chest radiograph",
        ("no finding", "normal chest radiograph", "no acute finding"),
        sided=False,
        normal=True,
    ),
    FindingConcept(
        "acute abnormality",
        local("F-101", "Acute abnormality of the chest"),
        "chest",
        "chest radiograph",
        (
            *("acute cardiopulmonary abnormality", "acute cardiopulmonary finding", "acute cardiopulmonary disease"),
            *("acute cardiopulmonary process", "acute radiographic cardiopulmonary process", "acute process"),
            *("acute radiographic cardiopulmonary abnormality", "acute pulmonary disease", "acute pulmonary process"),
            *("acute pulmonary abnormality", "acute pulmonary finding", "acute finding"),
            *("acute disease", "active disease", "active cardiopulmonary disease", "acute intrathoracic abnormality"),
            *("acute intrathoracic process", "acute cardiopulmonary", "acute cardiac or pulmonary abnormality"),
            *("acute chest abnormality", "acute thoracic abnormality", "acute chest disease", "acute cardiac disease"),
            *("acute or active cardiac pulmonary or pleural disease", "active pulmonary disease"),
        ),
        sided=False,
        course="acute",
    ),
    _lung(
        "opacity",
        Code("112001", "DCM", "Opacity"),
        *("opacification", "airspace disease", "air space disease", "airspace opacity", "density"),
        *("airspace opacification", "focal airspace disease", "focal air space opacity", "pulmonary opacity"),
        *("parenchymal opacity", "focal opacity", "patchy opacity", "haziness", "focal lung abnormality"),
        radlex="RID28530",
    ),
    _lung(
        "consolidation",
        _sct("95436008", "Lung consolidation"),
        *("focal consolidation", "lobar consolidation", "alveolar consolidation"),
        radlex="RID43255",
        implies=("opacity",),
    ),
    _lung(
        "infiltrate",
        Code("112121", "DCM", "Infiltrate"),
        *("infiltration", "pulmonary infiltrate"),
        implies=("opacity",),
    ),
    _lung(
        "pneumonia",
        _sct("233604007", "Pneumonia"),
        *("bronchopneumonia", "infectious process", "pulmonary infection", "pneumonitis"),
        radlex="RID5350",
        implies=("opacity",),
    ),
    _lung(
        "atelectasis",
        _sct("46621007", "Atelectasis"),
        *("atelectatic change", "subsegmental atelectasis", "lobar collapse", "collapse"),
        radlex="RID28493",
        implies=("opacity",),
    ),
    _lung(
        "pulmonary edema",
        _sct("19242006", "Pulmonary edema"),
        *("pulmonary oedema", "edema", "oedema", "interstitial edema", "alveolar edema"),
        *("fluid overload", "volume overload"),
        radlex="RID4866",
        implies=("opacity",),
    ),
    _lung(
        "vascular congestion",
        local("F-102", "Congestion of pulmonary vessels"),
        *("pulmonary vascular congestion", "congestion", "venous congestion"),
        *("pulmonary venous hypertension", "vascular engorgement", "cephalization", "pulmonary venous congestion"),
        sided=False,
    ),
    _lung(
        "heart failure",
        _sct("84114007", "Heart failure"),
        *("congestive heart failure", "chf", "failure", "cardiac decompensation"),
        site="heart",
        sided=False,
    ),
    _lung(
        "cardiomegaly",
        _sct("8186001", "Cardiomegaly"),
        *("cardiac enlargement", "enlarged cardiac silhouette", "enlarged heart", "large heart", "heart is large"),
        *("heart size is large", "heart size large"),
        site="heart",
        sided=False,
    ),
    _lung(
        "pericardial effusion",
        _sct("373945007", "Pericardial effusion"),
        site="pericardium",
        radlex="RID38588",
        sided=False,
    ),
    _lung(
        "pleural effusion",
        _sct("60046008", "Pleural effusion"),
        *("effusion", "pleural fluid", "hydrothorax", "parapneumonic effusion", "pleural air fluid"),
        site="pleura",
        radlex="RID34539",
    ),
    _lung(
        "blunted costophrenic angle",
        local("F-122", "Blunted costophrenic angle"),
        *("blunting", "costophrenic blunting", "blunted", "blunted costophrenic sulcus"),
        *("blunting of costophrenic angle", "blunted costophrenic", "blunting of the costophrenic angle"),
        site="pleura",
    ),
    _lung(
        "pleural thickening",
        local("F-103", "Pleural thickening or plaque"),
        "pleural plaque",
        "pleural scarring",
        "apical cap",
        "apical capping",
        site="pleura",
    ),
    _lung("pneumothorax", _sct("36118008", "Pneumothorax"), "pneumothoraces", site="pleura", radlex="RID5352"),
    _lung(
        "hydropneumothorax",
        local("F-104", "Hydropneumothorax"),
        *("hydropneumothoraces", "haemopneumothorax", "hemopneumothorax"),
        site="pleura",
        implies=("pneumothorax", "pleural effusion"),
    ),
    _lung(
        "pneumomediastinum",
        _sct("16838000", "Pneumomediastinum"),
        "mediastinal emphysema",
        site="mediastinum",
        sided=False,
    ),
    _lung(
        "free air",
        local("F-105", "Free air below the diaphragm"),
        *("pneumoperitoneum", "free intraperitoneal air", "subdiaphragmatic air"),
        site="peritoneal cavity",
        sided=False,
    ),
    _lung(
        "subcutaneous emphysema",
        local("F-106", "Subcutaneous emphysema"),
        *("subcutaneous air", "subcutaneous gas"),
        site="subcutaneous tissue",
    ),
    _lung(
        "nodule",
        _sct("27925004", "Nodule"),
        *("pulmonary nodule", "lung nodule", "noncalcified nodule"),
        radlex="RID50149",
        implies=("opacity",),
    ),
    _lung(
        "nodular opacity",
        Code("112067", "DCM", "Nodular pattern"),
        *("nodular density", "nodularity", "nodular opacification", "nodular pattern"),
        implies=("opacity",),
    ),
    _lung(
        "calcified nodule",
        local("F-123", "Calcified nodule of lung"),
        *("calcified pulmonary nodule", "calcified lung nodule", "dense nodule"),
        implies=("nodule",),
    ),
    _lung(
        "mass",
        _sct("4147007", "Mass"),
        *("mass lesion", "tumor", "tumour", "neoplasm", "malignancy", "lung cancer", "metastasis"),
        "metastatic disease",
        radlex="RID3874",
        implies=("opacity",),
    ),
    _lung(
        "granuloma",
        _sct("45647009", "Granuloma"),
        *("granulomatous disease", "calcified granuloma", "granulomatous change"),
    ),
    _lung(
        "cavity",
        local("F-107", "Cavity of lung"),
        *("cavitation", "cavitary lesion", "cavitary disease"),
    ),
    _lung(
        "cyst or bulla",
        local("F-108", "Cyst or bulla of lung"),
        *("bulla", "bullae", "cyst", "bleb", "bullous disease", "bullous change"),
    ),
    _lung(
        "emphysema",
        _sct("87433001", "Pulmonary emphysema"),
        *("emphysematous change", "emphysematous disease", "emphysematous"),
        radlex="RID4799",
        sided=False,
    ),
    _lung(
        "obstructive lung disease",
        _sct("13645005", "Chronic obstructive pulmonary disease"),
        *("copd", "chronic obstructive pulmonary disease", "obstructive pulmonary disease"),
        *("chronic obstructive lung disease", "chronic airway disease"),
        sided=False,
    ),
    _lung(
        "hyperinflation",
        local("F-110", "Hyperinflation of lung"),
        *("hyperinflated", "hyperexpansion", "hyperexpanded", "hyperlucency", "hyperlucent"),
        *("flattened diaphragm", "flattening of the diaphragm", "air trapping", "overinflation", "hyperaeration"),
        sided=False,
        excludes=("low lung volume",),
    ),
    _lung(
        "fibrosis",
        _sct("51615001", "Fibrosis of lung"),
        *("fibrotic change", "pulmonary fibrosis", "honeycombing", "interstitial lung disease"),
        *("fibrotic scarring", "interstitial fibrosis"),
    ),
    _lung("scarring", _sct("12402003", "Scar tissue"), "scar", "parenchymal scar", "cicatrix"),
    _lung(
        "interstitial markings",
        Code("112004", "DCM", "Abnormal interstitial pattern"),
        *("interstitial marking", "interstitial prominence", "interstitial opacity", "interstitial change"),
        *("reticular opacity", "interstitial disease", "prominent interstitium", "reticular marking"),
        *("interstitial thickening", "bronchovascular marking", "peribronchial cuffing", "bronchial wall thickening"),
    ),
    _lung("bronchiectasis", _sct("12295008", "Bronchiectasis"), "bronchiectatic change"),
    _lung(
        "lymphadenopathy",
        _sct("30746006", "Lymphadenopathy"),
        *("adenopathy", "lymph node enlargement", "enlarged lymph node"),
        site="thoracic lymph node",
        radlex="RID3798",
    ),
    _lung(
        "hilar enlargement",
        local("F-111", "Enlargement of hilum of lung"),
        *("hilar prominence", "hilar mass", "hilar fullness", "enlarged hilum"),
        site="hilum of lung",
    ),
    _lung(
        "mediastinal widening",
        local("F-112", "Widening, mass or shift of mediastinum"),
        *("widened mediastinum", "mediastinal mass", "mediastinal shift"),
        site="mediastinum",
        sided=False,
    ),
    _lung(
        "aortic disease",
        local("F-113", "Tortuous, calcified or wide aorta"),
        *("aortic tortuosity", "tortuous aorta", "tortuous thoracic aorta", "ectatic aorta", "aortic ectasia"),
        *("aortic calcification", "atherosclerosis", "atherosclerotic disease", "atherosclerotic calcification"),
        *("aortic aneurysm", "atherosclerotic change", "aortic atherosclerosis", "tortuosity", "unfolded aorta"),
        *("calcified aorta", "atherosclerotic aorta", "ectasia", "atheromatous"),
        site="thoracic aorta",
        sided=False,
    ),
    _lung(
        "pulmonary hypertension",
        _sct("70995007", "Pulmonary hypertension"),
        "pulmonary arterial hypertension",
        site="pulmonary artery",
        sided=False,
    ),
    _lung(
        "hernia",
        local("F-114", "Hiatal or diaphragmatic hernia"),
        *("hiatal hernia", "hiatus hernia", "diaphragmatic hernia"),
        site="diaphragm",
        sided=False,
    ),
    _lung(
        "elevated diaphragm",
        local("F-115", "Elevated diaphragm"),
        *("elevated hemidiaphragm", "elevation of hemidiaphragm", "eventration"),
        *("hemidiaphragm elevation", "diaphragmatic elevation"),
        site="diaphragm",
    ),
    _lung(
        "low lung volume",
        local("F-116", "Low lung volume"),
        *("low inspiratory volume", "hypoinflation", "hypoinflated", "hypoventilatory"),
        sided=False,
    ),
    _lung(
        "fracture",
        _sct("125605004", "Fracture of bone"),
        *("rib fracture", "compression fracture", "compression deformity", "broken rib"),
        site="bone of thorax",
        radlex="RID4650",
    ),
    _lung(
        "degenerative change",
        local("F-117", "Degenerative change of bone or joint"),
        *("degenerative disease", "spondylosis", "osteophyte", "osteoarthritis", "arthritis"),
        *("osteophytosis", "endplate change", "spurring", "disc disease", "arthritic change", "bony spurring"),
        site="thoracic spine",
        sided=False,
    ),
    _lung(
        "scoliosis",
        local("F-118", "Abnormal curvature of spine"),
        *("kyphosis", "kyphoscoliosis", "scoliotic curvature", "shaped curvature", "dextroscoliosis"),
        "levoscoliosis",
        site="thoracic spine",
        sided=False,
    ),
    _lung(
        "osteopenia",
        local("F-119", "Reduced density of bone"),
        *("osteoporosis", "bony demineralization", "demineralization"),
        site="bone of thorax",
        sided=False,
    ),
    _lung(
        "bone abnormality",
        local("F-120", "Other abnormality of bone"),
        *("acute bony abnormality", "acute osseous abnormality", "bony abnormality", "osseous abnormality"),
        *("acute bony finding", "acute osseous finding", "bone lesion", "lytic lesion", "osseous lesion"),
        *("acute bony pathology", "acute skeletal abnormality", "bony lesion", "skeletal abnormality"),
        site="bone of thorax",
        sided=False,
    ),
    _lung(
        "device",
        local("F-121", "Device or surgical material"),
        *("pacemaker", "picc", "picc line", "central line", "central venous catheter", "catheter", "tube", "icd"),
        *("endotracheal tube", "chest tube", "port", "sternotomy wire", "surgical clip", "clip", "defibrillator"),
        *("nasogastric tube", "sternotomy", "prosthesis", "stent", "prosthetic valve", "valve replacement", "hardware"),
        site="chest",
        sided=False,
    ),
)
"""In the order that tables print them."""
