"""Fixed sentences of answers, in three languages: what was examined, what wasn't, and why a question is not answered.

They claim nothing of the patient that the ledger would have to support; numbers in them are computed from a result.
What is filled in is a number or a name of a closed table: no word of a question, a header or a report can get in.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from isocenter.core.errors import DataError
from isocenter.core.knowledge import FINDINGS
from isocenter.core.knowledge.languages import CHINESE, SPANISH
from isocenter.tasks.report.compose import Language

__all__ = ["MODALITIES", "QUANTITIES", "REFUSALS", "note", "refusal"]

QUANTITIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "volume": ("volume",),
        "area": ("area", "area at the detector"),
        "diameter": (
            *("long axis", "short axis", "long axis at the detector", "short axis at the detector"),
            "maximum diameter",
        ),
    }
)
"""Kinds of size that may be asked for, and the names of the ledger's numbers that they mean."""
MODALITIES: Mapping[str, str] = MappingProxyType(
    {
        "CR": "computed radiograph", "DX": "digital radiograph", "RG": "radiograph", "MG": "mammogram", "CT": "CT",
        "MR": "MR", "PT": "PET", "US": "ultrasound", "NM": "nuclear medicine", "XA": "X-ray angiography",
        "RF": "fluoroscopy", "OP": "photograph of the eye", "OPT": "tomogram of the eye", "XC": "photograph",
        "RTDOSE": "radiotherapy dose",
    }
)  # fmt: skip
_NOTES: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "taken for granted": (
            "It was looked for and is called absent, whatever the question takes for granted.",
            "Se buscó y se considera ausente, sea cual sea lo que la pregunta da por hecho.",
            "已检索该项并判定为不存在，与提问的前提不符。",
        ),
        "not looked for": (
            "{name}: no task that answered looked for it; nothing can be said of it.",
            "{name}: ninguna tarea que respondió lo buscó; nada puede decirse de ello.",
            "{name}：没有任务检索过此项，无法作答。",
        ),
        "other side": (
            "{name}: nothing is claimed of this side or part: {side}.",
            "{name}: nada se afirma de este lado o parte: {side}.",
            "{name}：{side}无任何结论。",
        ),
        "no side": (
            "{name}: no side is known; what answered does not say where in the image it lies.",
            "{name}: no se conoce el lado; lo que respondió no dice en qué parte de la imagen está.",
            "{name}：侧别未知；作答的任务不说明其在图像中的位置。",
        ),
        "no part": (
            "{name}: it is not known in which part it lies.",
            "{name}: no se sabe en qué parte está.",
            "{name}：所在部分未知。",
        ),
        "no quantity": (
            "{name}: {quantity} was not measured.",
            "{name}: no se midió ({quantity}).",
            "{name}：未测量{quantity}。",
        ),
        "no size": (
            "{name}: no outline was made of it, so it has no size here.",
            "{name}: no se delineó, por lo que aquí no tiene tamaño.",
            "{name}：未勾画轮廓，故无大小。",
        ),
        "seen in": (
            "{name} is a finding of this part of the body: {site}. No outline says where in the image it lies.",
            "{name} es un hallazgo de esta parte del cuerpo: {site}. Ningún contorno dice en qué parte de "
            "la imagen está.",
            "{name}所属部位：{site}。没有轮廓说明其在图像中的位置。",
        ),
        "centre": (
            "Centre of the outline {id}: x {x}, y {y}, z {z} mm in DICOM patient coordinates (x grows to the patient's "
            "left, y to the back, z to the head; 0 is the scanner's origin, not the middle of the body).",
            "Centro del contorno {id}: x {x}, y {y}, z {z} mm en coordenadas DICOM del paciente (x crece hacia la "
            "izquierda del paciente, y hacia atrás, z hacia la cabeza; 0 es el origen del equipo, no el centro del "
            "cuerpo).",
            "轮廓 {id} 的中心：DICOM 患者坐标 x {x}、y {y}、z {z} mm"
            "（x 向患者左侧增大，y 向后，z 向头；0 为设备原点，而非身体中线）。",
        ),
        "no prior": (
            "No earlier study was given, so nothing can be said of a change; give one with --prior.",
            "No se dio ningún estudio anterior, así que nada puede decirse de un cambio; indique uno con --prior.",
            "未提供既往检查，无法说明变化；请用 --prior 提供。",
        ),
        "prior in result": (
            "No earlier result was given to this question; the result itself holds a comparison, see its page.",
            "A esta pregunta no se le dio ningún resultado anterior; el propio resultado contiene una comparación, "
            "véase su página.",
            "本次提问未提供既往结果；结果本身含有对比，见其页面。",
        ),
        "order as told": (
            "That the other study is the earlier one is as you told.",
            "Que el otro estudio sea el anterior es según lo indicado.",
            "另一检查在前，系按您所述。",
        ),
        "not earlier": (
            "{name}: no task that answered in the earlier study looked for it.",
            "{name}: ninguna tarea que respondió en el estudio anterior lo buscó.",
            "{name}：既往检查中没有作答的任务检索过此项。",
        ),
        "otherwise earlier": (
            "{name}: the earlier study claims nothing of just this; what it claims of the same is of another side, "
            "part or name.",
            "{name}: el estudio anterior no afirma nada exactamente de esto; lo que afirma de lo mismo es de otro "
            "lado, parte o nombre.",
            "{name}：既往检查对此项无对应结论；其相关结论属于另一侧、另一部分或另一名称。",
        ),
        "not now": (
            "{name}: claimed in the earlier study; no task that answered in this one looked for it.",
            "{name}: afirmado en el estudio anterior; ninguna tarea que respondió en este lo buscó.",
            "{name}：既往检查有结论；本次没有作答的任务检索过此项。",
        ),
        "otherwise now": (
            "{name}: claimed in the earlier study; this one claims nothing of just this.",
            "{name}: afirmado en el estudio anterior; este no afirma nada exactamente de esto.",
            "{name}：既往检查有结论；本次对此项无对应结论。",
        ),
        "not paired": (
            "{name}: there are several of them, so it is not known which belong together; they are not compared.",
            "{name}: hay varios, así que no se sabe cuáles se corresponden; no se comparan.",
            "{name}：有多项，无法确定如何对应，未作比较。",
        ),
        "one only": (
            "{name}: {quantity} was measured in one of the studies only.",
            "{name}: {quantity} se midió solo en uno de los estudios.",
            "{name}：仅一次检查测量了{quantity}。",
        ),
        "difference from zero": (
            "{name}: {quantity} now minus earlier {value} {unit}; the earlier value is 0.",
            "{name}: {quantity}, ahora menos antes {value} {unit}; el valor anterior es 0.",
            "{name}：{quantity}，本次减既往 {value} {unit}；既往值为 0。",
        ),
        "earlier": ("Earlier study: {sentence}", "Estudio anterior: {sentence}", "既往检查：{sentence}"),
        "difference": (
            "{name}: {quantity} now minus earlier {value} {unit} ({percent} %).",
            "{name}: {quantity}, ahora menos antes {value} {unit} ({percent} %).",
            "{name}：{quantity}，本次减既往 {value} {unit}（{percent} %）。",
        ),
        "apart": (
            "The promised intervals of both studies do not overlap.",
            "Los intervalos prometidos de ambos estudios no se solapan.",
            "两次检查所承诺的区间不重叠。",
        ),
        "overlap": (
            "The promised intervals of both studies overlap: the difference may be none.",
            "Los intervalos prometidos de ambos estudios se solapan: puede no haber diferencia.",
            "两次检查所承诺的区间重叠：可能并无差别。",
        ),
        "no interval": (
            "No interval is promised for it: how much of a number is error of measurement is not known.",
            "No se promete intervalo: no se sabe cuánto de un número es error de medida.",
            "未承诺区间：数值中测量误差有多大未知。",
        ),
        "status": (
            "{name}: called {now} now, {before} earlier.",
            "{name}: ahora {now}, antes {before}.",
            "{name}：本次{now}，既往{before}。",
        ),
        "set": (
            "The set that is promised to hold the truth in {level} % of cases: {names}.",
            "Conjunto que, según lo prometido, contiene la verdad en el {level} % de los casos: {names}.",
            "承诺在 {level} % 的病例中包含真值的集合：{names}。",
        ),
        "no set": (
            "No set is promised: present stands for a probability of 90 % or more, absent for less than 10 %.",
            "No se promete conjunto: presente es una probabilidad del 90 % o más; ausente, de menos del 10 %.",
            "未承诺集合：概率不低于 90 % 记为存在，低于 10 % 记为不存在。",
        ),
        "likeness": (
            "Of images like those that the task learnt from, {percent} % are as strange as this one.",
            "De las imágenes como aquellas de las que aprendió la tarea, el {percent} % son tan raras como esta.",
            "与训练图像同类的图像中，{percent} % 与此图同样少见。",
        ),
        "map": (
            "Evidence {id}: a picture beside the result shows where the networks looked.",
            "Evidencia {id}: una imagen junto al resultado muestra dónde miraron las redes.",
            "证据 {id}：结果旁的图片显示网络关注的位置。",
        ),
        "weights": (
            "Evidence {id}: weights with sha256 {sha}.",
            "Evidencia {id}: pesos con sha256 {sha}.",
            "证据 {id}：权重 sha256 {sha}。",
        ),
        "not by the table": (
            "Of the findings that are known for this kind of examination ({exam}), no task looked for: {names}.",
            "De los hallazgos conocidos para este tipo de examen ({exam}), ninguna tarea buscó: {names}.",
            "此类检查（{exam}）的已知项目中，没有任务检索：{names}。",
        ),
        "image": (
            "Image {number}: {modality}, {exam}, {x} × {y} × {z} voxels.",
            "Imagen {number}: {modality}, {exam}, {x} × {y} × {z} vóxeles.",
            "图像 {number}：{modality}，{exam}，{x} × {y} × {z} 体素。",
        ),
        "tasks": (
            "{number} answers of tasks; {other} times a task abstained.",
            "{number} respuestas de tareas; {other} veces una tarea se abstuvo.",
            "任务作答 {number} 项；任务弃答 {other} 次。",
        ),
        "left out": (
            "Inputs that are not in the study: {number}.",
            "Entradas que no están en el estudio: {number}.",
            "未纳入检查的输入：{number}。",
        ),
        "no finding": (
            "No task that answered looked for findings.",
            "Ninguna tarea que respondió buscó hallazgos.",
            "没有作答的任务检索过异常。",
        ),
        "no finding of": (
            "{name}: no task that answered looked for findings in it.",
            "{name}: ninguna tarea que respondió buscó hallazgos en ello.",
            "{name}：没有作答的任务检索过其异常。",
        ),
        "none so": (
            "No finding has that status.",
            "Ningún hallazgo tiene ese estado.",
            "没有该状态的项目。",
        ),
        "nothing answered": (
            "No task gave an answer that can be put into a sentence: nothing can be said of this study.",
            "Ninguna tarea dio una respuesta que pueda ponerse en una frase: nada puede decirse de este estudio.",
            "没有任务给出可以用语句表述的答案：对此检查无法作任何说明。",
        ),
        "read as": ("A word was read as: {word}.", "Una palabra se leyó como: {word}.", "有一个词被读作：{word}。"),
        "other tools": (
            "The language model chose these tools; the rules would have asked others. Judge whether these answer the "
            "question.",
            "El modelo de lenguaje eligió estas herramientas; las reglas habrían usado otras. Juzgue si estas "
            "responden a la pregunta.",
            "这些工具由语言模型选择；规则会选用其他工具。请判断其是否回答了问题。",
        ),
        "not understood": (
            "The language model chose these tools; the rules do not understand this question. Judge whether these "
            "answer it.",
            "El modelo de lenguaje eligió estas herramientas; las reglas no entienden esta pregunta. Juzgue si la "
            "responden.",
            "这些工具由语言模型选择；规则无法理解此问题。请判断其是否作答。",
        ),
        "by the rules": (
            "As the rules read the question:",
            "Según leen la pregunta las reglas:",
            "按规则对问题的理解：",
        ),
        "not sent": (
            "The question was not sent to the language model: a word of it is not known here, and could name somebody.",
            "La pregunta no se envió al modelo de lenguaje: contiene una palabra desconocida aquí, que podría nombrar "
            "a alguien.",
            "问题未发送给语言模型：其中有此处未知的词，可能是人名。",
        ),
        "withheld of the model": (
            "{number} sentences of the language model were withheld: they do not follow from what the tools answered.",
            "Se retuvieron {number} frases del modelo de lenguaje: no se deducen de lo que respondieron las "
            "herramientas.",
            "语言模型的 {number} 句话未显示：不能由工具的回答得出。",
        ),
        "withheld": (
            "{number} sentences were withheld: the ledger does not support them.",
            "Se retuvieron {number} frases: el registro no las respalda.",
            "{number} 句话未显示：证据账本不支持。",
        ),
    }
)  # fmt: skip
REFUSALS: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "empty": (
            "Nothing was asked.", "No se preguntó nada.", "没有提问。",
        ),
        "length": (
            "The question is too long; ask in one sentence.", "La pregunta es demasiado larga; pregunte en una frase.",
            "问题过长，请用一句话提问。",
        ),
        "language": (
            "Questions are read in English alone; please ask in English.",
            "Las preguntas solo se leen en inglés; pregunte en inglés, por favor.",
            "只能读取英文提问，请用英文提问。",
        ),
        "treatment": (
            "Questions about treatment, doses or what to do next are not answered here; please ask the physician in "
            "charge.",
            "Aquí no se responden preguntas sobre tratamiento, dosis o qué hacer; consulte al médico responsable.",
            "此处不回答治疗、剂量或后续处理的问题，请咨询主管医生。",
        ),
        "prognosis": (
            "Questions about the course of a disease are not answered here; please ask the physician in charge.",
            "Aquí no se responden preguntas sobre el pronóstico; consulte al médico responsable.",
            "此处不回答预后问题，请咨询主管医生。",
        ),
        "patient": (
            "Only the study that was opened can be asked about: no person by name or number, and no other patient.",
            "Solo puede preguntarse por el estudio abierto: ninguna persona por nombre o número, ni otro paciente.",
            "只能询问已打开的检查，不能按姓名或编号询问任何人或其他患者。",
        ),
        "instruction": (
            "That is an instruction, not a question about the study; it is not followed.",
            "Eso es una instrucción, no una pregunta sobre el estudio; no se sigue.",
            "这是指令而不是关于检查的问题，不予执行。",
        ),
        "question": (
            "This can't be answered from the study. You may ask what was found, whether and where "
            "something is, on which "
            "side, how large, what changed, why, how sure, and what was not examined.",
            "Esto no puede responderse con el estudio. Puede preguntar qué se encontró, si algo está y "
            "dónde, de qué lado, "
            "qué tamaño tiene, qué cambió, por qué, con qué seguridad y qué no se examinó.",
            "根据此检查无法回答。可询问：发现了什么、某项是否存在及位置、侧别、大小、变化、依据、把握程度、以及未检查的内容。",
        ),
        "referent": (
            "It is not clear what the question is about; please name the finding or the part of the body.",
            "No está claro de qué trata la pregunta; nombre el hallazgo o la parte del cuerpo.",
            "不清楚所问对象，请说出所见项目或部位。",
        ),
    }
)  # fmt: skip
_INDEX: Mapping[Language, int] = MappingProxyType({"en": 0, "es": 1, "zh": 2})
_WORDS: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "left": ("left", "izquierdo", "左侧"), "right": ("right", "derecho", "右侧"), "both": ("both", "ambos", "双侧"),
        "anterior": ("anterior", "anterior", "前部"), "posterior": ("posterior", "posterior", "后部"),
        "upper": ("upper", "superior", "上部"), "lower": ("lower", "inferior", "下部"),
        "present": ("present", "presente", "存在"), "absent": ("absent", "ausente", "不存在"),
        "neither": ("neither present nor absent", "ni presente ni ausente", "既非存在亦非不存在"),
        "uncertain": ("possible", "posible", "可能存在"), "diameter": ("diameter", "diámetro", "径线"),
        "other": ("of a kind not in the table", "de un tipo fuera de la tabla", "表外类型"),
        "unknown": ("of unknown modality", "de modalidad desconocida", "模态未知"),
        "chest radiograph": ("chest radiograph", "radiografía de tórax", "胸片"),
        "breast ultrasound": ("breast ultrasound", "ecografía de mama", "乳腺超声"),
        "fundus photograph": ("fundus photograph", "retinografía", "眼底照片"),
        "brain MR": ("brain MR", "RM cerebral", "脑 MR"), "abdomen CT": ("abdomen CT", "TC abdominal", "腹部 CT"),
    }
)  # fmt: skip
_UNITS = frozenset({"", "mL", "mm", "cm2", "mm2", "mm3", "%", "HU", "voxel"})
_COMMA: Mapping[Language, str] = MappingProxyType({"en": ", ", "es": ", ", "zh": "、"})


def refusal(why: str, language: Language) -> str:
    """Return the fixed sentence of a refusal.

    Example:
        >>> refusal("empty", "en")
        'Nothing was asked.'
    """
    return REFUSALS[why][_INDEX[language]]


def note(key: str, language: Language, *, sentence: str = "", ids: tuple[str, str] = ("", ""), **fills: object) -> str:
    """Return a fixed sentence, filled.

    Args:
        key: Which.
        language: Of the sentence.
        sentence: A sentence that a ledger was asked about.
        ids: Name of evidence or of a claim, and a sha256.
        **fills: Numbers, or names of the closed tables; a tuple of names is a list.

    Raises:
        DataError: What is to be filled in is in no table.

    Example:
        >>> note("not looked for", "en", name="fracture")
        'Fracture: no task that answered looked for it; nothing can be said of it.'
    """
    form = _NOTES[key][_INDEX[language]]
    words = {name: _filled(value, language) for name, value in fills.items()}
    text = form.format(**words, sentence=sentence, id=ids[0], sha=ids[1])
    return text[:1].upper() + text[1:]


def _filled(value: object, language: Language) -> str:
    if isinstance(value, tuple):
        return _COMMA[language].join(_filled(one, language) for one in value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"{value:+.3g}" if abs(value) < 100 else f"{value:+.0f}"
    text = str(value)
    if text in _WORDS:
        return _WORDS[text][_INDEX[language]]
    if text in _UNITS:
        return {"mm2": "mm²", "cm2": "cm²", "mm3": "mm³"}.get(text, text)
    if text in MODALITIES:
        return MODALITIES[text]
    names = {"es": SPANISH, "zh": CHINESE}.get(language)
    if text in FINDINGS or text in {site.name for site in FINDINGS.sites}:
        if names is None:
            return text
        return (names.findings if text in FINDINGS else names.sites)[text].partition("|")[0]
    if text in SPANISH.quantities:
        return text if names is None else names.quantities[text]
    raise DataError("a word that stands in no table was to be put into an answer")
