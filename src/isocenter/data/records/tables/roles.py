"""What the columns of a table are, by their headings in several languages and spellings, and by what their cells hold.

Nothing is guessed from names alone where the cells disagree: a column "image" whose cells are no names of files is a
column like others. Who knows better says so: ``roles={"pidnum": "patient"}``.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from isocenter.core.errors import ConfigError, UnitsError
from isocenter.data.records.moments import table_moment
from isocenter.data.records.tables.headings import (
    compact_moment,
    folded,
    heading_words,
    numbers_people,
    says_age,
    says_moments,
)
from isocenter.data.tables.columns import MISSING, split_heading

__all__ = ["ROLES", "SECTIONS", "ColumnRole", "day_comes_first", "is_age", "is_missing", "tell_roles"]

SECTIONS = ("indication", "technique", "comparison", "findings", "impression", "addendum")
"""Roles that are sections of a report."""
_SPELLINGS: dict[str, tuple[str, ...]] = {
    "patient": (
        "patient", "patientid", "patid", "pid", "pidnum", "patientno", "patientnumber", "patientidentifier", "ptid",
        "mrn", "medicalrecordnumber", "subject", "subjectid", "subjid", "usubjid", "participant", "participantid",
        "personid", "person", "patientkey", "tcgabarcode", "bcrpatientbarcode", "patientennummer", "patientenid",
        "patientennr", "patientnr", "patientenkennung", "paciente", "idpaciente", "pacienteid", "numeropaciente", "nhc",
        "idpatient", "numeropatient", "nopatient", "ipp", "paziente", "idpaziente", "患者id", "患者编号", "病人id",
    ),
    "issuer": ("issuer", "issuerofpatientid", "assigningauthority"),
    "accession": (
        "accession", "accessionnumber", "accessionno", "accessionid", "accnumber", "accno", "acc", "studyid",
        "examid", "auftragsnummer", "untersuchungsnummer", "numerodeacceso", "numeroacceso", "numerodaccession",
        "检查号",
    ),
    "study_uid": ("studyuid", "studyinstanceuid", "studyinstanceuidanon", "uidestudio"),
    "identifier": ("id", "rowid", "reportid", "noteid", "reportnumber", "recordid", "befundid", "idinforme"),
    "date": (
        "date", "studydate", "examdate", "examinationdate", "scandate", "reportdate", "acquisitiondate", "visitdate",
        "datetime", "charttime", "chartdate", "timestamp", "observationdate", "datum", "untersuchungsdatum",
        "befunddatum", "fecha", "fechaestudio", "fechainforme", "dateexamen", "datedelexamen", "data", "日期",
        "检查日期",
    ),
    "age": ("age", "patientage", "ageyears", "ageinyears", "alter", "patientenalter", "edad", "etá", "eta", "年龄"),
    "sex": ("sex", "gender", "patientsex", "patientgender", "geschlecht", "sexo", "sexe", "sesso", "genero", "性别"),
    "birth_date": (
        "birthdate", "dateofbirth", "dob", "patientbirthdate", "geburtsdatum", "fechanacimiento",
        "fechadenacimiento", "datenaissance", "datedenaissance", "datadinascita", "出生日期",
    ),
    "name": ("patientname", "fullname", "patientenname", "nombrepaciente", "nompatient", "患者姓名", "姓名"),
    "person": (
        "firstname", "lastname", "surname", "familyname", "givenname", "vorname", "nachname", "address", "street",
        "phone", "telephone", "telefon", "email", "zip", "zipcode", "postcode", "plz", "ssn", "adresse", "direccion",
        "telefono", "apellido", "apellidos", "prenom", "physician", "referringphysician", "radiologist", "arzt",
    ),
    "deceased_date": ("dateofdeath", "deathdate", "dod", "sterbedatum", "todesdatum", "fechadefuncion"),
    "text": (
        "text", "reporttext", "reportbody", "fulltext", "body", "narrative", "report", "reports", "radiologyreport",
        "note", "notes", "clinicalnotes", "befund", "befundtext", "bericht", "informe", "texto", "compterendu",
        "rapport", "referto", "报告", "报告内容",
    ),
    "findings": ("findings", "finding", "findingssection", "hallazgos", "resultats", "reperti", "影像所见", "检查所见"),
    "impression": (
        "impression", "impressions", "conclusion", "conclusions", "beurteilung", "zusammenfassung", "impresion",
        "impresiondiagnostica", "conclusioni", "影像诊断", "诊断意见", "印象",
    ),
    "indication": ("indication", "indications", "clinicalhistory", "fragestellung", "klinischeangaben", "indicacion"),
    "technique": ("technique", "technik", "tecnica"),
    "comparison": ("comparison", "comparisons", "vergleich", "comparacion", "comparaison"),
    "addendum": ("addendum", "nachtrag"),
    "title": ("title", "reporttitle", "studydescription", "examdescription", "procedurename", "untersuchung"),
    "language": ("language", "lang", "sprache", "idioma", "langue"),
    "status": ("status", "reportstatus", "resultstatus"),
    "file": (
        "image", "imageindex", "imagefile", "imagepath", "imagename", "imagefilename", "dicompath", "dicomfile",
        "filepath", "path", "filename", "file", "img", "imgpath", "bild", "bilddatei", "datei", "dateiname", "imagen",
        "fichier", "imageid", "dicomid",
    ),
    "mask": ("mask", "maskfile", "maskpath", "segmentation", "segmentationfile", "maske"),
    "split": ("split", "subset", "partition", "datasplit", "fold"),
    "rater": ("rater", "reader", "annotator", "observer", "reviewer"),
    "code": ("code", "conceptcode", "testcode", "loinc", "loinccode", "parameter", "analyte", "variable", "itemid"),
    "display": ("display", "testname", "conceptname", "codedescription", "itemname", "description"),
    "system": ("system", "codesystem", "codingsystem", "vocabulary"),
    "value": ("value", "result", "resultvalue", "valuenum", "wert", "messwert", "valor", "valeur"),
    "unit": ("unit", "units", "uom", "valueuom", "einheit", "unidad", "unite"),
}  # fmt: skip
ROLES = tuple(_SPELLINGS)
_BY_NAME = {name: role for role, names in reversed(_SPELLINGS.items()) for name in names}
_ONCE = frozenset(ROLES) - {"person"}
_OF_A_PERSON = ("patient", "accession", "study_uid", "birth_date", "name")
"""Roles whose columns say who somebody is, also where another column has taken the role."""
_NUMBERED = frozenset(
    [
        "mrn", "ssn", "nhs", "nhsno", "cpr", "bsn", "nhc", "passport", "passnummer", "phone", "phoneno", "telephone",
        "mobile", "handy", "cellphone", "fax", "email", "mail", "address", "addr", "anschrift", "street", "strasse",
        "postcode", "postalcode", "zip", "plz", "city", "town", "iban", "kin", "birthplace", "yob", "birthyear",
        "yearofbirth", "geburtsjahr", "geburtsort", "medicalrecord", "medicalrecordno", "medicalrecordnumber",
        "hospitalnumber", "hospitalno", "socialsecurity", "emergencycontact", "insurancenumber", "insuranceno",
        "insuranceid", "policynumber", "versichertennummer", "telefonnummer", "rufnummer", "aadhaar", "ahv", "ahvnr",
        "ahvnummer", "codicefiscale", "curp", "dni", "egk", "fodselsnummer", "fødselsnummer", "insee", "kvnr", "nino",
        "personnummer", "pesel", "rentenversicherungsnummer", "sozialversicherungsnummer", "svnr", "svnummer",
        "kfzkennzeichen", "licenceplate", "licenseplate", "numberplate",
    ]
)  # fmt: skip
"""Words of a heading, alone or one after another, under which stands whose a row is, where they live, how they are
reached, or the year of their birth, which can't be moved as a date is."""
_PEOPLE = frozenset(
    [
        "", "given", "first", "middle", "last", "family", "maiden", "mother", "father", "spouse", "referring",
        "reading", "performing", "attending", "ordering", "referrer", "physician", "doctor", "radiologist", "surgeon",
        "operator", "technologist", "nurse", "reader", "rater", "reporter", "employer", "contact",
    ]
)  # fmt: skip
_CALLED = frozenset([f"{who}name" for who in _PEOPLE])
_ALONE = (_PEOPLE | {"forename", "surname", "initials", "name"}) - {
    *("", "first", "middle", "last", "family", "reading", "reader", "rater", "performing")
}
"""Headings under which names stand, and what they end with: only where cells are words, and not codes or numbers."""
_IMAGE_ENDINGS = re.compile(
    r"\.(dcm|dicom|ima|nii|nii\.gz|nrrd|mha|mhd|png|jpe?g|tiff?|bmp|gif|npz|npy|webp|txt|xml)$", re.IGNORECASE
)
_NAME_OF_FILE = re.compile(r"[^\s,;|]+")
_BARCODE = re.compile(r"TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}")
"""The Cancer Genome Atlas numbers its patients so, under whatever heading."""


@dataclass(frozen=True)
class ColumnRole:
    """A column and what it is.

    Args:
        place: From 0.
        heading: As it stands; columns of one name are numbered, nameless ones called by their place.
        name: Without the unit.
        unit: UCUM, "" where the heading states none.
        role: One of `ROLES`, "moment" for dates, "row" for a number of the row, "" for any other.
    """

    place: int
    heading: str
    name: str
    unit: str
    role: str


def is_missing(cell: str) -> bool:
    """Tell whether a cell says that nothing is known.

    Example:
        >>> is_missing(" NA "), is_missing("0")
        (True, False)
    """
    return cell.strip().strip("'\"").lower() in MISSING


def tell_roles(
    headings: Sequence[str], sample: Sequence[Sequence[str]], stated: Mapping[str, str] | None = None
) -> tuple[list[ColumnRole], list[str]]:
    """Tell what the columns are.

    Args:
        headings: As they stand.
        sample: Some rows of cells.
        stated: Role of columns by heading, over what would be told; "" for none.

    Returns:
        The columns, and notes of what was decided.

    Raises:
        ConfigError: What is stated names a column that is not there, or a role that there is not.

    Example:
        >>> [c.role for c in tell_roles(["Patient ID", "Geschlecht", "Hb [g/dL]"], [["1", "w", "12"]])[0]]
        ['patient', 'sex', '']
    """
    columns, notes = _named(headings)
    stated = dict(stated or {})
    for heading, role in stated.items():
        if heading not in {c.heading for c in columns} | {c.name for c in columns} | set(headings):
            raise ConfigError(f"roles name a column {heading!r}; there are {', '.join(c.heading for c in columns)}")
        if role not in (*ROLES, ""):
            raise ConfigError(f"{role!r} is no role of a column; there are {', '.join(ROLES)}")
    roles: dict[int, str] = {}
    for column in columns:
        for given in (column.heading, headings[column.place], column.name):
            if given in stated:
                roles[column.place] = stated[given]
    taken = {role for role in roles.values() if role in _ONCE}
    cells = {c.place: _cells(sample, c.place) for c in columns}
    first_text = _by_heading(columns, cells, roles, taken)
    _without_heading(headings, columns, cells, roles, notes, taken)
    if "patient" not in taken:
        for column in columns:
            known = cells[column.place]
            if column.place not in roles and known and all(_BARCODE.fullmatch(c) for c in known):
                roles[column.place] = "patient"
                notes.append(f"column {column.heading!r} holds TCGA barcodes: the patients")
                break
    _settle(roles, first_text, cells)
    out = []
    for column in columns:
        role = roles.get(column.place, "")
        if not role and _says_who(column.name, cells[column.place]):
            role = "person"
            notes.append(f"column {column.heading!r} says who somebody is, by its heading: no value is taken from it")
        if not role and (_all_moments(cells[column.place]) or _are_moments(column, cells[column.place])):
            role = "moment"
        if not role and not column.unit and numbers_people(column.name, cells[column.place]):
            role = "person"
            notes.append(f"column {column.heading!r} numbers people or what is theirs: no value is taken from it")
        out.append(ColumnRole(column.place, column.heading, column.name, column.unit, role))
    return out, notes


def _named(headings: Sequence[str]) -> tuple[list[ColumnRole], list[str]]:
    notes, out = [], []
    seen: dict[str, int] = {}
    for place, raw in enumerate(headings):
        heading = raw.strip().lstrip("\ufeff")
        if not heading:
            heading = f"column {place + 1}"
        seen[heading] = seen.get(heading, 0) + 1
        if seen[heading] > 1:
            notes.append(f"the heading {heading!r} stands more than once; the later ones are numbered")
            heading = f"{heading} ({seen[heading]})"
        try:
            name, unit = split_heading(heading)
        except UnitsError:
            name, unit = heading, None
            notes.append(f"the heading {heading!r} has brackets that hold no unit of UCUM; no unit is taken")
        out.append(ColumnRole(place, heading, name, unit or "", ""))
    return out, list(dict.fromkeys(notes))


def _cells(sample: Sequence[Sequence[str]], place: int) -> list[str]:
    return [row[place].strip() for row in sample if place < len(row) and not is_missing(row[place])]


def _by_heading(
    columns: Sequence[ColumnRole], cells: Mapping[int, list[str]], roles: dict[int, str], taken: set[str]
) -> list[int]:
    """Give roles by headings, the better spelling first; return the places of columns that may be texts."""
    texts = []
    wanted = []
    for column in columns:
        role = _BY_NAME.get(folded(column.name), "")
        if role and column.place not in roles and _fits(role, cells[column.place]):
            order = _SPELLINGS[role].index(folded(column.name))
            if role == "file":  # a name with an image's ending is better than one without
                order -= 100 * sum(bool(_IMAGE_ENDINGS.search(c)) for c in cells[column.place][:20])
            wanted.append((order, column.place, role))
    for _, place, role in sorted(wanted):
        if role in taken and role in _ONCE:
            continue
        taken.add(role)
        roles[place] = role
        if role in ("text", *SECTIONS):
            texts.append(place)
    return texts


def _without_heading(
    headings: Sequence[str],
    columns: Sequence[ColumnRole],
    cells: Mapping[int, list[str]],
    roles: dict[int, str],
    notes: list[str],
    taken: set[str],
) -> None:
    """A first column without a heading is what spreadsheets and data frames write for the row's name."""
    if not columns or headings[0].strip() or 0 in roles:
        return
    known = cells[0]
    if known and all(re.fullmatch(r"\d{1,9}(\.0)?", c) for c in known):
        numbers = [int(float(c)) for c in known]
        if all(b - a == 1 for a, b in itertools.pairwise(numbers)):
            roles[0] = "row"
            notes.append("the first column has no heading and counts the rows; it is left out")
            return
    if known and "patient" not in taken:
        roles[0] = "patient"
        taken.add("patient")
        notes.append("the first column has no heading and names the rows: taken for the patients; say roles if not")


def _fits(role: str, known: Sequence[str]) -> bool:
    if not known:
        return True
    if role in ("text", *SECTIONS):
        return sum(len(c) for c in known) / len(known) > 20 and any(" " in c for c in known)
    if role == "file":
        return all(_NAME_OF_FILE.fullmatch(c) or _IMAGE_ENDINGS.search(c) for c in known)
    if role == "mask":
        return all(_IMAGE_ENDINGS.search(c) for c in known)
    if role in ("date", "birth_date", "deceased_date"):
        # Also dates that read both ways: they are complained of by row, not taken for something else.
        return sum(_looks_like_date(c) for c in known) >= 0.5 * len(known)
    if role == "split":
        return len(set(known)) <= 10
    return True


def _settle(roles: dict[int, str], texts: Sequence[int], cells: Mapping[int, list[str]]) -> None:
    """Roles that mean something only together: a code with its value; and a row's id with a text."""
    held = set(roles.values())
    if not {"code", "value", "patient"} <= held:
        for place, role in list(roles.items()):
            if role in ("code", "value", "unit", "system", "display") and not (role == "unit" and "value" in held):
                del roles[place]
    for place, role in list(roles.items()):
        if role == "unit":
            continue
        if (role in ("title", "language", "status") and not texts) or (role == "rater" and "file" not in held):
            del roles[place]
    if "value" not in roles.values():
        for place, role in list(roles.items()):
            if role == "unit":
                del roles[place]


@lru_cache(maxsize=8192)
def is_age(heading: str) -> bool:
    """Tell whether a heading is that of a person's age.

    Example:
        >>> is_age("Patient Age"), is_age("age_at_diagnosis"), is_age("age of the lesion")
        (True, True, False)
    """
    return _BY_NAME.get(folded(heading), "") == "age" or says_age(heading)


def _says_who(heading: str, known: Sequence[str]) -> bool:
    """Tell whether a column without a role names or numbers people by its heading.

    Example:
        >>> _says_who("Mobile no.", ["0151"]), _says_who("surgeon", ["3"]), _says_who("surgeon", ["Miller"])
        (True, False, True)
        >>> _says_who("birth weight", ["3100"]), _says_who("nhsNumber", ["9434765919"]), _says_who("MRN2", ["7"])
        (False, True, True)
    """
    role = _BY_NAME.get(folded(heading), "")
    if role in _OF_A_PERSON:
        return True
    words = heading_words(heading)
    runs = {"".join(words[first:last]) for first in range(len(words)) for last in range(first + 1, first + 4)}
    if runs & _NUMBERED:
        return True
    called = bool(runs & (_CALLED - {"name"})) or "".join(words) in _ALONE
    return called and any(re.search(r"[^\W\d_]{3}", cell) for cell in known)


def _looks_like_date(cell: str) -> bool:
    found = table_moment(cell) or table_moment(cell, day_first=True) or compact_moment(cell)
    return found is not None


def _are_moments(column: ColumnRole, known: Sequence[str]) -> bool:
    return not column.unit and says_moments(column.name, known)


def _all_moments(known: Sequence[str]) -> bool:
    """Dates with marks between their parts; eight digits or a year may be a number."""
    return bool(known) and all(re.search(r"\d[-./]\d", c) and len(c) >= 8 and _looks_like_date(c) for c in known)


def day_comes_first(cells: Sequence[str]) -> bool | None:
    """Tell from dates with strokes whether the day stands first; None where they read both ways.

    Example:
        >>> day_comes_first(["1/2/2024", "31/1/2024"]), day_comes_first(["1/2/2024"])
        (True, None)
    """
    seen = set()
    for cell in cells:
        found = re.fullmatch(r"(\d{1,2})/(\d{1,2})/\d{4}", cell.strip())
        if found and int(found[1]) > 12:
            seen.add(True)
        elif found and int(found[2]) > 12:
            seen.add(False)
    return seen.pop() if len(seen) == 1 else None
