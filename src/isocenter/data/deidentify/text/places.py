"""Addresses and institutions in free text."""

from __future__ import annotations

import re

from isocenter.data.deidentify.text.words import EPONYMS, NOT_NAMES

__all__ = ["find_addresses", "find_hospitals"]

_CAP = r"(?:[A-ZÀ-Þ][\w’'.-]*|of|the|and|de|del|la|los|las|der|und|für|zum|am|&)"
_NOT_FIRST = r"(?!(?:The|This|At|In|From|To|Of|And|Seen|Sent|Referred|Transferred|Outside|Prior|Our|Your|A|An)\b)"
_KIND = (
    r"(?:Hospitals?|Medical\s+(?:Cent(?:er|re)|Group|Associates|College)|Health\s?care(?:\s+(?:System"
    r"|Center|Centre|Trust))?"
    r"|Health\s+(?:System|Center|Centre|Network|Partners|Board)|Clinic|Infirmary"
    r"|Imaging(?:\s+(?:Center|Centre|Associates))?"
    r"|Radiology\s+(?:Associates|Group|Center|Partners)|Cancer\s+(?:Center|Centre|Institute)|Hospice"
    r"|Nursing\s+Home|Care\s+Home"
    r"|Sanatorium|NHS\s+(?:Foundation\s+)?Trust|Surgery\s+Center|Surgical\s+Center|Urgent\s+Care"
    r"|Rehabilitation\s+Center"
    r"|Institute|University|Universität|Family\s+Practice|Health|Medical\s+Practice|Surgery"
    r"|Polyclinic|Children's|Memorial)"
)
_HOSPITALS = [
    re.compile(
        rf"(?<![\w])(?:Our[ ]Lady[ ]of[ ]|(?:{_NOT_FIRST}{_CAP}[ ])){{1,6}}(?:{_KIND})(?:[ ]+(?:of|at"
        rf"|for|-)[ ]+(?:{_CAP}[ ]?){{1,4}})?(?![\w])"
    ),
    re.compile(
        r"(?<![\w])(?:University|Institute)[ ]of[ ](?:[A-Z][\w’'.-]*[ ]?){1,4}(?:Hospitals?|Medical[ "
        r"]Cent(?:er|re)|Health)?"
    ),
    re.compile(
        rf"(?<![\w])(?:Hospital|Cl[ií]nica|Centro[ ]de[ ]Salud|Policl[ií]nica|Sanatorio|Complejo[ ]Hospitalario)"
        rf"(?:[ ](?:General|Universitario|Cl[ií]nico|Comarcal|Regional|Infantil|de|del|la|los|las|{_CAP})){{1,6}}"
    ),
    re.compile(
        r"(?<![\w])(?:[A-ZÄÖÜ][\wäöüß.-]+[ -]){0,3}(?:Krankenhaus|[Uu]niversitäts(?:klinikum|klinik"
        r"|medizin)|Klinikum|Klinik|Kreiskrankenhaus"
        r"|Praxis|Charité|Spital)(?:[ ](?:(?:am|an|der|des|zum|für|in|St\.)[ ])*[A-ZÄÖÜ][\wäöüß.-]+){0,4}"
    ),
    re.compile(r"[\u4e00-\u9fff]{2,16}?(?:医院|卫生院|诊所|医学院|保健院|卫生服务中心)"),
]
_PLAIN = re.compile(
    r"^(?:University|General|Memorial|Regional|Health|Institute|Surgery|Clinic|Imaging|Hospital|Klinik|Praxis)s?$"
)
_STREET = (
    r"(?:Street|St|Road|Rd|Avenue|Ave?|Lane|Ln|Drive|Dr|Boulevard|Blvd|Court|Ct|Way|Place|Pl|Terrace"
    r"|Ter|Close|Crescent|Cres|Square"
    r"|Sq|Highway|Hwy|Parkway|Pkwy|Circle|Cir|Trail|Trl|Row|Gardens|Grove|Hill|Mews|Walk|Alley|Plaza"
    r"|Loop|Pike|Rise|View)"
)
_STATES = (
    r"(?:A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|P[AR]|RI"
    r"|S[CD]|T[NX]|UT|V[AT]|W[AIVY])"
)
# Of these, two letters that mean nothing else in a report.
_PLAIN_STATES = r"(?:A[KZ]|CA|D[E]|FL|GA|I[A]|K[SY]|N[CDEHJMVY]|RI|TX|UT|V[AT]|W[AIVY])"
_ZIP = r"\d{5}(?:-\d{4})?"
_UK = r"[A-Z]{1,2}\d[A-Z\d]?[ ]?\d[A-Z]{2}"
_CITY = r"(?:[A-Z][\w’'.-]+(?:[ -](?:[A-Z][\w’'.-]+|upon|on|under|le|de|la|am|an|der)){0,3})"
_TAIL = (
    rf"(?:,?\s+(?:{_CITY}),?\s+(?:{_STATES}\.?,?\s+{_ZIP}|{_STATES}\b|{_UK}|{_ZIP})"
    rf"|,\s+(?:{_CITY})(?:,?\s+(?:{_UK}|{_STATES}(?:\s+{_ZIP})?))?)"
)
_UNIT = r"(?:,?\s+(?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor|Fl|Room|Rm|Bldg|Building|\#)\.?\s?\#?[\w-]{1,6})?"
_ADDRESSES = [
    re.compile(
        rf"(?<![\w./])(?:(?:Flat|Apt|Unit|Apartment)\.?[ ]\w{{1,5}},?[ ])?\d{{1,5}}[A-Z]?(?:-\d+)?,?[ "
        rf"](?:(?:N|S|E|W|North|South|East|West|NE|NW|SE|SW)\.?[ ])?"
        rf"(?:[A-Z][\w’'-]+\.?[ ]|\d+(?:st|nd|rd|th)[ ]){{1,4}}{_STREET}\b\.?{_UNIT}(?:{_TAIL})?"
    ),
    re.compile(rf"\bP\.?\s?O\.?\s?Box\s+\d+(?:{_TAIL})?", re.IGNORECASE),
    re.compile(rf"(?<![\w]){_CITY},[ ](?:{_STATES}\.?,?[ ]{_ZIP}|{_PLAIN_STATES})(?![\w])"),
    re.compile(rf"(?<![\w]){_UK}(?![\w])"),
    re.compile(rf"(?<![\w]){_STATES}[ ]{_ZIP}(?![\w])"),
    re.compile(
        r"(?<![\w])(?:C/|Calle|Avda?\.?|Avenida|Plaza|Pza\.?|Paseo|Camino|Carretera|Ronda|Travesía)[ "
        r"]?(?:(?:de|del|la|las|los|el|[A-ZÁÉÍÓÚÑ][\wáéíóúñ.-]*)[ ]?){1,6}"
        r",?[ ]?(?:n[.º°]*[ ]?)?\d{1,4}(?:,?[ ]\d{1,2}[.ºª°]*[ ]?[A-Z]?)?(?:,?[ ]+\d{5})?(?:,?[ "
        r"]+[A-ZÁÉÍÓÚÑ][\wáéíóúñ]+(?:[ ][A-ZÁÉÍÓÚÑ][\wáéíóúñ]+)?)?"
    ),
    re.compile(
        r"(?<![\w])(?:[A-ZÄÖÜ][\wäöüß.-]*?(?:straße|strasse|str\.|weg|gasse|platz|allee|ring|ufer"
        r"|damm|chaussee)|(?:[A-ZÄÖÜ][\wäöüß-]+[ -])(?:Straße|Strasse|Str\.|Weg|Gasse|Platz|Allee"
        r"|Ring|Ufer|Damm))"
        r"[ ]\d{1,4}[ ]?[a-z]?(?![\w])(?:,?[ ]+(?:D-)?\d{5}[ ]+[A-ZÄÖÜ][\wäöüß-]+(?:[ ](?:am|an|der|im|ob)[ ]\w+)*)?"
    ),
    re.compile(r"(?<![\w])(?:D-)?\d{5}[ ][A-ZÄÖÜ][\wäöüß-]{3,}(?![\w])"),
    re.compile(
        r"(?:[\u4e00-\u9fff]{2,8}(?:省|自治区))?[\u4e00-\u9fff]{2,8}市?[\u4e00-\u9fff]{1,8}(?:区|县"
        r"|镇)[\u4e00-\u9fff\d]{1,14}(?:路|街|道|巷|弄|村)(?:\d+\s?号?)?(?:\d+\s?(?:栋|单元|室|楼|幢|号))*"
    ),
    re.compile(
        r"\b(?i:lives\s+in|lives\s+at|resident\s+of|residing\s+in|residing\s+at|resides\s+(?:in|at)"
        r"|living\s+in|moved\s+(?:here\s+)?from|native\s+of|originally\s+from"
        r"|travell?ed\s+from|address\s*:|home\s+address\s*:|residente\s+en|vive\s+en|wohnhaft\s+in"
        r"|住址\s*[:：]|地址\s*[:：])\s*(?P<v>[^\n.;]{3,70}?)(?=\s*(?:[.;\n]|,\s*(?:and|who|with|where"
        r"|presents?)|\s+(?:with|and|who|since|where)\b|$))"
    ),
]


_TOWN = re.compile(
    r"\b(?:in|from|near)\s(?P<v>[A-ZÀ-Þ][a-zß-ÿ]{2,}(?:[ -][A-ZÀ-Þ][a-zß-ÿ]{2,})?)(?=[.,;)]|[ "
    r"](?:and|with|on|who|by|for|where|since|last|in)\b)"
)


def _town(text: str, hit: re.Match[str]) -> bool:
    """Tell whether the capital word behind a preposition is a place: no term, and nowhere else in small letters."""
    word = hit["v"].split()[0].lower()
    if word in NOT_NAMES or word in EPONYMS:
        return False
    return re.search(rf"(?<![\w]){re.escape(word)}(?![\w])", text) is None


def find_hospitals(text: str) -> list[tuple[int, int]]:
    """Return where institutions stand."""
    found = ((hit.start(), hit[0].rstrip(" ,.")) for rule in _HOSPITALS for hit in rule.finditer(text))
    return [(start, start + len(name)) for start, name in found if not _PLAIN.match(name)]


def find_addresses(text: str) -> list[tuple[int, int]]:
    """Return where addresses stand: streets with numbers, postal codes with towns, and where somebody lives."""
    hits = ((rule, hit) for rule in _ADDRESSES for hit in rule.finditer(text))
    out = [hit.span("v") if "v" in rule.groupindex else _unpadded(hit) for rule, hit in hits]
    out += [hit.span("v") for hit in _TOWN.finditer(text) if _town(text, hit)]
    return out


def _unpadded(hit: re.Match[str]) -> tuple[int, int]:
    return hit.start(), hit.start() + len(hit[0].rstrip(" ,"))
