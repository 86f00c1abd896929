"""Names of findings and parts of the body, and the few words around them, in Spanish and Chinese.

A report that is composed from the ledger is written in these words alone. Names were written by us after the usual
terms of radiology in each language; English names are those of the table itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["CHINESE", "SPANISH", "Names"]


@dataclass(frozen=True, eq=False)
class Names:
    """Words of one language.

    Args:
        findings: By name in `FINDINGS`; in Spanish with "|f" or "|m", "|fp" or "|mp" for gender and number.
        sites: By name of the part of the body, with the same marks.
        sides: "left", "right", "both"; in Spanish masculine and feminine, singular and plural, by "/".
        grades: "mild", "moderate", "severe".
        changes: "new", "worse", "better", "unchanged".
        quantities: By name of what is measured.
    """

    findings: Mapping[str, str]
    sites: Mapping[str, str]
    sides: Mapping[str, str]
    grades: Mapping[str, str]
    changes: Mapping[str, str]
    quantities: Mapping[str, str]


SPANISH = Names(
    findings=MappingProxyType(
        {
            "normal chest": "radiografía de tórax normal|f",
            "acute abnormality": "alteración aguda|f",
            "opacity": "opacidad|f",
            "consolidation": "consolidación|f",
            "infiltrate": "infiltrado|m",
            "pneumonia": "neumonía|f",
            "atelectasis": "atelectasia|f",
            "pulmonary edema": "edema pulmonar|m",
            "vascular congestion": "congestión vascular pulmonar|f",
            "heart failure": "insuficiencia cardíaca|f",
            "cardiomegaly": "cardiomegalia|f",
            "pericardial effusion": "derrame pericárdico|m",
            "pleural effusion": "derrame pleural|m",
            "blunted costophrenic angle": "borramiento del ángulo costofrénico|m",
            "pleural thickening": "engrosamiento pleural|m",
            "pleural scarring": "cicatriz pleural|f",
            "pneumothorax": "neumotórax|m",
            "hydropneumothorax": "hidroneumotórax|m",
            "pneumomediastinum": "neumomediastino|m",
            "free air": "aire libre subdiafragmático|m",
            "subcutaneous emphysema": "enfisema subcutáneo|m",
            "nodule": "nódulo|m",
            "nodular opacity": "opacidad nodular|f",
            "calcified nodule": "nódulo calcificado|m",
            "mass": "masa|f",
            "granuloma": "granuloma|m",
            "cavity": "cavitación|f",
            "cyst or bulla": "quiste o bulla|m",
            "emphysema": "enfisema|m",
            "obstructive lung disease": "enfermedad pulmonar obstructiva|f",
            "hyperinflation": "hiperinsuflación|f",
            "fibrosis": "fibrosis|f",
            "scarring": "cicatriz|f",
            "interstitial markings": "aumento de la trama intersticial|m",
            "bronchiectasis": "bronquiectasias|fp",
            "lymphadenopathy": "adenopatías|fp",
            "hilar enlargement": "aumento del hilio|m",
            "mediastinal widening": "ensanchamiento mediastínico|m",
            "aortic disease": "alteración de la aorta|f",
            "pulmonary hypertension": "hipertensión pulmonar|f",
            "hernia": "hernia|f",
            "elevated diaphragm": "elevación del diafragma|f",
            "low lung volume": "volumen pulmonar bajo|m",
            "fracture": "fractura|f",
            "degenerative change": "cambios degenerativos|mp",
            "scoliosis": "escoliosis|f",
            "osteopenia": "osteopenia|f",
            "bone abnormality": "alteración ósea|f",
            "device": "dispositivo|m",
            "normal breast": "mama normal|f",
            "breast mass": "masa mamaria|f",
            "benign breast lesion": "lesión mamaria benigna|f",
            "malignant breast lesion": "lesión mamaria maligna|f",
            "breast cyst": "quiste mamario|m",
            "normal fundus": "fondo de ojo normal|m",
            "diabetic retinopathy": "retinopatía diabética|f",
            "retinal hemorrhage": "hemorragia retiniana|f",
            "drusen": "drusas|fp",
            "enlarged optic cup": "excavación papilar aumentada|f",
            "swollen optic disc": "edema de papila|m",
            "narrowed retinal vessels": "estrechamiento de los vasos retinianos|m",
            "normal hippocampus": "hipocampo normal|m",
            "hippocampal atrophy": "atrofia del hipocampo|f",
            "normal adrenal gland": "glándula suprarrenal normal|f",
            "adrenal mass": "masa suprarrenal|f",
            "adrenal hyperplasia": "hiperplasia suprarrenal|f",
        }
    ),
    sites=MappingProxyType(
        {
            "chest": "tórax|m",
            "lung": "pulmón|m",
            "pleura": "pleura|f",
            "hilum of lung": "hilio pulmonar|m",
            "pulmonary artery": "arteria pulmonar|f",
            "heart": "corazón|m",
            "pericardium": "pericardio|m",
            "mediastinum": "mediastino|m",
            "thoracic aorta": "aorta torácica|f",
            "thoracic lymph node": "ganglio torácico|m",
            "diaphragm": "diafragma|m",
            "bone of thorax": "hueso del tórax|m",
            "thoracic spine": "columna dorsal|f",
            "subcutaneous tissue": "tejido subcutáneo|m",
            "peritoneal cavity": "cavidad peritoneal|f",
            "breast": "mama|f",
            "retina": "retina|f",
            "optic disc": "papila óptica|f",
            "optic cup": "excavación papilar|f",
            "retinal vessel": "vaso retiniano|m",
            "hippocampus": "hipocampo|m",
            "adrenal gland": "glándula suprarrenal|f",
            "lesion": "lesión|f",
        }
    ),
    sides=MappingProxyType(
        {
            "left": "izquierdo/izquierda/izquierdos/izquierdas",
            "right": "derecho/derecha/derechos/derechas",
            "both": "bilateral/bilateral/bilaterales/bilaterales",
        }
    ),
    grades=MappingProxyType(
        {
            "mild": "leve/leve/leves/leves",
            "moderate": "moderado/moderada/moderados/moderadas",
            "severe": "grave/grave/graves/graves",
        }
    ),
    changes=MappingProxyType(
        {
            "new": "de nueva aparición/de nueva aparición/de nueva aparición/de nueva aparición",
            "worse": "en aumento/en aumento/en aumento/en aumento",
            "better": "en disminución/en disminución/en disminución/en disminución",
            "unchanged": "sin cambios/sin cambios/sin cambios/sin cambios",
        }
    ),
    quantities=MappingProxyType(
        {
            "volume": "volumen",
            "area": "área",
            "area at the detector": "área en el detector",
            "long axis": "eje mayor",
            "short axis": "eje menor",
            "long axis at the detector": "eje mayor en el detector",
            "short axis at the detector": "eje menor en el detector",
            "maximum diameter": "diámetro máximo",
            "probability": "probabilidad",
            "expected dice": "Dice esperado",
        }
    ),
)

CHINESE = Names(
    findings=MappingProxyType(
        {
            "normal chest": "胸片未见异常",
            "acute abnormality": "急性异常",
            "opacity": "肺部阴影",
            "consolidation": "肺实变",
            "infiltrate": "肺浸润",
            "pneumonia": "肺炎",
            "atelectasis": "肺不张",
            "pulmonary edema": "肺水肿",
            "vascular congestion": "肺血管淤血",
            "heart failure": "心力衰竭",
            "cardiomegaly": "心影增大",
            "pericardial effusion": "心包积液",
            "pleural effusion": "胸腔积液",
            "blunted costophrenic angle": "肋膈角变钝",
            "pleural thickening": "胸膜增厚",
            "pleural scarring": "胸膜瘢痕",
            "pneumothorax": "气胸",
            "hydropneumothorax": "液气胸",
            "pneumomediastinum": "纵隔气肿",
            "free air": "膈下游离气体",
            "subcutaneous emphysema": "皮下气肿",
            "nodule": "结节",
            "nodular opacity": "结节状影",
            "calcified nodule": "钙化结节",
            "mass": "肿块",
            "granuloma": "肉芽肿",
            "cavity": "空洞",
            "cyst or bulla": "囊肿或肺大疱",
            "emphysema": "肺气肿",
            "obstructive lung disease": "阻塞性肺病",
            "hyperinflation": "肺过度充气",
            "fibrosis": "纤维化",
            "scarring": "瘢痕",
            "interstitial markings": "间质纹理增多",
            "bronchiectasis": "支气管扩张",
            "lymphadenopathy": "淋巴结肿大",
            "hilar enlargement": "肺门增大",
            "mediastinal widening": "纵隔增宽",
            "aortic disease": "主动脉异常",
            "pulmonary hypertension": "肺动脉高压",
            "hernia": "疝",
            "elevated diaphragm": "膈肌抬高",
            "low lung volume": "肺容积减小",
            "fracture": "骨折",
            "degenerative change": "退行性变",
            "scoliosis": "脊柱侧弯",
            "osteopenia": "骨量减少",
            "bone abnormality": "骨质异常",
            "device": "植入或外置器械",
            "normal breast": "乳腺未见异常",
            "breast mass": "乳腺肿块",
            "benign breast lesion": "乳腺良性病变",
            "malignant breast lesion": "乳腺恶性病变",
            "breast cyst": "乳腺囊肿",
            "normal fundus": "眼底未见异常",
            "diabetic retinopathy": "糖尿病视网膜病变",
            "retinal hemorrhage": "视网膜出血",
            "drusen": "玻璃膜疣",
            "enlarged optic cup": "视杯增大",
            "swollen optic disc": "视盘水肿",
            "narrowed retinal vessels": "视网膜血管变细",
            "normal hippocampus": "海马未见异常",
            "hippocampal atrophy": "海马萎缩",
            "normal adrenal gland": "肾上腺未见异常",
            "adrenal mass": "肾上腺肿块",
            "adrenal hyperplasia": "肾上腺增生",
        }
    ),
    sites=MappingProxyType(
        {
            "chest": "胸部",
            "lung": "肺",
            "pleura": "胸膜",
            "hilum of lung": "肺门",
            "pulmonary artery": "肺动脉",
            "heart": "心脏",
            "pericardium": "心包",
            "mediastinum": "纵隔",
            "thoracic aorta": "胸主动脉",
            "thoracic lymph node": "胸部淋巴结",
            "diaphragm": "膈肌",
            "bone of thorax": "胸廓骨骼",
            "thoracic spine": "胸椎",
            "subcutaneous tissue": "皮下组织",
            "peritoneal cavity": "腹膜腔",
            "breast": "乳腺",
            "retina": "视网膜",
            "optic disc": "视盘",
            "optic cup": "视杯",
            "retinal vessel": "视网膜血管",
            "hippocampus": "海马",
            "adrenal gland": "肾上腺",
            "lesion": "病灶",
        }
    ),
    sides=MappingProxyType({"left": "左侧", "right": "右侧", "both": "双侧"}),
    grades=MappingProxyType({"mild": "轻度", "moderate": "中度", "severe": "重度"}),
    changes=MappingProxyType(
        {"new": "新发", "worse": "较前加重的", "better": "较前好转的", "unchanged": "较前无变化的"}
    ),
    quantities=MappingProxyType(
        {
            "volume": "体积",
            "area": "面积",
            "area at the detector": "探测器平面面积",
            "long axis": "长径",
            "short axis": "短径",
            "long axis at the detector": "探测器平面长径",
            "short axis at the detector": "探测器平面短径",
            "maximum diameter": "最大径",
            "probability": "概率",
            "expected dice": "预期Dice",
        }
    ),
)
