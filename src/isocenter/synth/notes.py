"""Invented clinical notes with planted identifiers, and where each stands: what de-identification is measured on.

Names are composed, not listed, so that no list of common names can know them all. Formats and phrases differ between
three parts, "first", "second" and "third", so that rules written with one in view meet another for the first time when
measured.
Beside the identifiers stand words and numbers that look like some: eponyms, vertebral levels, scores, doses, ratios.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

__all__ = ["Note", "Planted", "notes"]

Half = Literal["first", "second", "third"]


@dataclass(frozen=True)
class Planted:
    """One planted identifier.

    Args:
        start: First character.
        end: After the last.
        kind: "name", "date", "id", "phone", "email", "url", "address", "hospital" or "age".
    """

    start: int
    end: int
    kind: str


@dataclass(frozen=True)
class Note:
    """One note.

    Args:
        text: The note.
        planted: Its identifiers, in order.
        language: "en", "es", "de" or "zh".
    """

    text: str
    planted: tuple[Planted, ...]
    language: str


_GIVEN_TEXT = """
Tamsin Oluwaseun Piotr Ingeborg Kwabena Saoirse Thandiwe Leocadia Bartholomew Nadezhda Anselm Wilfredo Xiomara Cormac
Eilidh Tobias Marisol Gunther Hiroko Parvati Zdenka Isidro Aurelio Philippa Rosalind Desmond Mary John Robert Linda
Susan Michael Ahmed Elena Carmen David Grace Peter Fiona Malcolm Ottoline Bjarne Sunniva Rafaela Octavian Delphine
"""
_GIVEN = _GIVEN_TEXT.split()
_SYLLABLES_TEXT = """
bran dov mer tol quin ash wes hal ken rud thorn vik sol mar el fen gar ister lund mont nor pel rav stan trev
"""
_SYLLABLES = _SYLLABLES_TEXT.split()
_ENDS_TEXT = """
son ley ton wick berg ström ski ova ez ini er man well ford ington o aldi escu yan akis enko hurst by
"""
_ENDS = _ENDS_TEXT.split()
_REAL_TEXT = """
Smith Nguyen O'Brien Patel García Fernández Müller McAllister D'Angelo Okafor Lindqvist Park Cohen Abdullah Brown Young
"""
_REAL = _REAL_TEXT.split()
_STREETS_TEXT = """
Maple Thornbury Old Mill Station Wexford Harbour Juniper Cedar Creek Elm Quarry Church Orchard Bramble Sycamore
"""
_STREETS = _STREETS_TEXT.split()
_ROADS_TEXT = """
Street St Road Rd Avenue Ave Lane Drive Dr Court Close Boulevard Blvd Way Place Terrace Crescent
"""
_ROADS = _ROADS_TEXT.split()
_TOWNS = [
    "Harrowgate",
    "Millbrook",
    "Easton",
    "Dunmore",
    "Fairhaven",
    "Oakridge",
    "Stillwater",
    "Ashford",
    "Kingsbridge",
    "Larkspur",
    "Redmond",
]
_STATES_TEXT = """
OH TX CA NY FL IL WA MA PA GA
"""
_STATES = _STATES_TEXT.split()
_CITIES_DE_TEXT = """
Lindenau Bergheim Neustadt Waldkirch Rosenfeld
"""
_CITIES_DE = _CITIES_DE_TEXT.split()
_MAIL_TEXT = """
mailbox.example inbox.test clinic.example.org post.example.net nhs.example.uk
"""
_MAIL = _MAIL_TEXT.split()


class _Writer:
    """Writes a note piece by piece and remembers where identifiers went."""

    def __init__(self, random_source: random.Random, half: Half) -> None:
        self.random = random_source
        self.half = half
        self.given = random_source.choice(_GIVEN)
        self.family = self._family()
        self.words: list[str] = []
        self.length = 0
        self.planted: list[Planted] = []
        self.day = date(2012, 1, 1) + timedelta(days=random_source.randrange(4500))

    def pick(self, first: str, second: str, third: str) -> str:
        """Choose one of the variants of this part, which stand apart by " | "."""
        return self.random.choice({"first": first, "second": second, "third": third}[self.half].split(" | "))

    def write(self, template: str) -> None:
        """Write a template; {kind} is an identifier of that kind."""
        for part in re.split(r"(\{\w+\})", template):
            if part.startswith("{"):
                maker = getattr(self, "_" + part[1:-1])
                value, kind = maker()
                self.planted.append(Planted(self.length, self.length + len(value), kind))
                part = value
            self.words.append(part)
            self.length += len(part)

    def _family(self) -> str:
        if self.random.random() < 0.3:
            return self.random.choice(_REAL)
        stem = "".join(self.random.sample(_SYLLABLES, self.random.choice((1, 1, 2))))
        word = (stem + self.random.choice(_ENDS)).capitalize()
        return word + "-" + self.random.choice(_REAL) if self.random.random() < 0.06 else word

    def _patient(self) -> tuple[str, str]:
        initial = self.random.choice("ABCDEFGHJKLMNPRSTW")
        shape = self.pick(
            "{g} {f} | {f}, {g} | {g} {i}. {f} | {F}, {G} | {F}, {G} {i}",
            "{f}, {g} {i}. | {G} {F} | {F}^{G} | {g} {f} Jr. | {i}. {f}",
            "{f} {g} | {g} {i} {f} | {F} {G} {i} | {f},{g} | {f}, {g} ({i}.)",
        )
        return self._shaped(shape, initial), "name"

    def _shaped(self, shape: str, initial: str) -> str:
        return shape.format(g=self.given, f=self.family, G=self.given.upper(), F=self.family.upper(), i=initial)

    def _surname(self) -> tuple[str, str]:
        return self.family, "name"

    def _full(self) -> tuple[str, str]:
        return f"{self.given} {self.family}", "name"

    def _relative(self) -> tuple[str, str]:
        return f"{self.random.choice(_GIVEN)} {self.family}" if self.random.random() < 0.6 else self.random.choice(
            _GIVEN
        ), "name"

    def _doctor(self) -> tuple[str, str]:
        given, family = self.random.choice(_GIVEN), self._family()
        shape = self.pick(
            "{f} | {g} {f} | {i}. {f} | {g} {i}. {f}",
            "{f} | {i}.{j}. {f} | {g} {f} | {i} {f} | {g}-{h} {f}",
            "{f} | {i} {j} {f} | van {f} | de la {f} | {g} {f}-{k}",
        )
        i, j = self.random.sample("ABCDEFGHJKLMNPRSTW", 2)
        return shape.format(g=given, f=family, i=i, j=j, h=self.random.choice(_GIVEN), k=self._family()), "name"

    def _doctor_full(self) -> tuple[str, str]:
        return f"{self.random.choice(_GIVEN)} {self._family()}", "name"

    def _doctor_listed(self) -> tuple[str, str]:
        return f"{self._family()}, {self.random.choice(_GIVEN)}", "name"

    def _surname_other(self) -> tuple[str, str]:
        return self._family(), "name"

    def _doctor_shouted(self) -> tuple[str, str]:
        return f"{self.random.choice(_GIVEN)} {self._family()}".upper(), "name"

    def _gmc(self) -> tuple[str, str]:
        return self._digits(7), "id"

    def _date(self) -> tuple[str, str]:
        day = self.day - timedelta(days=self.random.choice((0, 1, 7, 90, 365, 1200)))
        month = day.strftime("%B")
        suffix = "th" if 11 <= day.day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
        text = self.pick(
            (
                "{d:%m/%d/%Y} | {d:%Y-%m-%d} | {M} {n}, {d:%Y} | {n} {M} {d:%Y} | {d:%d-%b-%Y} | "
                "{d:%m/%d/%y} | {d:%d.%m.%Y}"
            ),
            "{d:%Y/%m/%d} | {d:%b} {n} {d:%Y} | {n}{s} {M} {d:%Y} | {n}{s} of {M}, {d:%Y} | {d:%d %b "
            "%y} | {d:%d/%m/%Y} | "
            "{d:%A}, {M} {n}, {d:%Y} | {d:%Y%m%d} | {U} {n}, {d:%Y}",
            "{n} {M}, {d:%Y} | {d:%b}. {n}, {d:%Y} | {d:%Y.%m.%d} | {d:%d-%m-%Y} | {d:%a} {n} {d:%b} "
            "{d:%Y} | {d:%m-%d-%Y} | "
            "{n}{s} of {M} {d:%Y} | {d:%d%b%Y}",
        )
        return text.format(d=day, M=month, n=day.day, s=suffix, U=month.upper()), "date"

    def _month(self) -> tuple[str, str]:
        return self.day.strftime(self.pick("%B %Y | %m/%Y", "%b %Y | %B, %Y", "%b-%Y | %B of %Y")), "date"

    def _born(self) -> tuple[str, str]:
        born = date(1930, 1, 1) + timedelta(days=self.random.randrange(30000))
        return born.strftime(
            self.pick(
                "%m/%d/%Y | %Y-%m-%d | %d %B %Y", "%d/%m/%Y | %b %d, %Y | %d.%m.%y", "%d-%m-%Y | %d%b%Y | %m-%d-%Y"
            )
        ), "date"

    def _digits(self, count: int) -> str:
        return str(self.random.randrange(1, 10)) + "".join(self.random.choice("0123456789") for _ in range(count - 1))

    def _mrn(self) -> tuple[str, str]:
        shape = self.pick("7 | 8 | 3-4 | A6", "6 | 10 | AA7 | 2-2-3", "9 | AAA-6 | 3.3.3 | A-7")
        return self._from_shape(shape), "id"

    def _from_shape(self, shape: str) -> str:
        out = [
            self._digits(int(sign)) if sign.isdigit() else self.random.choice("BCEHKMRX") if sign == "A" else sign
            for sign in re.findall(r"\d+|.", shape)
        ]
        return "".join(out)

    def _accession(self) -> tuple[str, str]:
        return self._from_shape(
            self.pick("8 | A2-6 | AA8 | AA-4-5", "7 | 4AA5 | A9 | 2-AA-5", "6-AAA | AAA4-5 | AAA11 | 4/5")
        ), "id"

    def _ssn(self) -> tuple[str, str]:
        return self._from_shape("3-2-4"), "id"

    def _nhs(self) -> tuple[str, str]:
        return self._from_shape("3 3 4"), "id"

    def _policy(self) -> tuple[str, str]:
        return self._from_shape(self.pick("AAA7 | 9", "AA-8 | A3-4-2", "4 4 4 | AAAA7")), "id"

    def _serial(self) -> tuple[str, str]:
        return self._from_shape(self.pick("AA5 | 6", "A3A4 | AA-5", "2A5 | AAA3-2")), "id"

    def _phone(self) -> tuple[str, str]:
        shape = self.pick(
            "(3) 3-4 | 3-3-4 | +1 3 3 4 | 3.3.4",
            "(3)3-4 | 1-3-3-4 | +44 2 4 4 | 3-4 | 3-3-4 ext. 4 | 3.3.4 x3",
            "(3) 3 4 | 3 3 4 | +1-3-3-4 | 3/3-4 | +49 3 7",
        )
        return "".join(
            self._digits(int(p)) if re.fullmatch(r"[2-9]", p) else p
            for p in re.split(r"(?<![+\d])([2-9])(?!\d)", shape)
        ), "phone"

    def _pager(self) -> tuple[str, str]:
        return self._digits(self.random.choice((4, 5))), "phone"

    def _email(self) -> tuple[str, str]:
        user = self.pick("{g}.{f} | {i}{f}", "{f}_{g} | {g}{n}", "{f}{i} | {g}-{f}").format(
            g=self.given.lower(),
            f=re.sub(r"[^a-z]", "", self.family.lower()),
            i=self.given[0].lower(),
            n=self._digits(2),
        )
        return f"{user}@{self.random.choice(_MAIL)}", "email"

    def _url(self) -> tuple[str, str]:
        return self.pick(
            "https://portal.example.org/patient/{n} | www.{t}health.example.com/results",
            "http://pacs.{t}.example.net/viewer?study={n} | {t}radiology.org/reports",
            "portal.{t}clinic.com | https://{t}.example.edu/~{n}#top",
        ).format(n=self._digits(6), t=self.random.choice(_TOWNS).lower()), "url"

    def _address(self) -> tuple[str, str]:
        street = f"{self.random.randrange(1, 9900)} {self.random.choice(_STREETS)} {self.random.choice(_ROADS)}"
        town, state, code = self.random.choice(_TOWNS), self.random.choice(_STATES), self._digits(5)
        return self.pick(
            "{s} | {s}, {t}, {q} {z} | {s}, Apt {a}, {t}, {q} {z}",
            (
                "{s}, {t} {q} {z}-{y} | Flat {a}, {s}, {t}, SW1A 2AA | {s}, {t} | P.O. Box {z}, {t}, {q} "
                "{z} | {t}, {q} {z}"
            ),
            "{s}. {t}, {q} {z} | {s} Unit {a} | {s} #{a}, {t} {q} | {s}\n{t}, {q} {z} | Apt. {a}, {s}, {t} {q}, {z}",
        ).format(s=street, t=town, q=state, z=code, y=self._digits(4), a=self.random.randrange(1, 30)), "address"

    def _town(self) -> tuple[str, str]:
        return self.random.choice(_TOWNS), "address"

    def _hospital(self) -> tuple[str, str]:
        town, family = self.random.choice(_TOWNS), self._family()
        return self.pick(
            "{t} General Hospital | St. {f}'s Hospital | {t} Medical Center | University Hospital of {t} | {t} Clinic",
            "{t} Regional Medical Centre | {f} Memorial Hospital | Royal {t} Infirmary | {t} NHS "
            "Trust | {t} Imaging Associates | "
            "{f} Cancer Institute | Our Lady of {t} Hospital | {t} Community Health Center",
            "{t} and District Hospital | {t} VA Medical Center | Children's Hospital of {t} | {t} Nursing Home | "
            "{f} & {t} Radiology Associates | Mount {t} Medical Group | {t} Hospital for Women",
        ).format(t=town, f=family), "hospital"

    def _old(self) -> tuple[str, str]:
        return str(self.random.randrange(90, 104)), "age"


_HEADS = {
    "first": [
        "PATIENT: {patient}\nMRN: {mrn}\nDOB: {born}\nEXAM DATE: {date}\nACCESSION: {accession}\n\n",
        "Patient Name: {patient}    Medical Record Number: {mrn}\nDate of Birth: {born}\nReferring "
        "Physician: {doctor_full}\n"
        "Date of Exam: {date}\n\n",
        "{hospital}\nDepartment of Radiology\n\nName: {patient}\nID: {mrn}\nStudy date: {date}\n\n",
        "Re: {patient}, DOB {born}, SSN {ssn}\n\nDear Dr. {surname},\n\n",
    ],
    "second": [
        "Pt: {patient} ({mrn})\nBorn: {born}\nAcc #: {accession}\nSeen: {date}\n\n",
        "{hospital} | {address}\nTel: {phone}\n\nPatient: {patient}\nHosp No: {mrn}   NHS No: {nhs}\nDate: {date}\n\n",
        "NAME {patient}\tMR# {mrn}\tDOB {born}\nORDERING PROVIDER: {doctor_listed}\nSERVICE DATE: {date}\n\n",
        "To: {doctor_full}, {hospital}\nFrom: {doctor_full}\nPatient name - {patient}\nInsurance ID: {policy}\n\n",
    ],
    "third": [
        "RE: {patient}   D.O.B. {born}   MRN#{mrn}\nStudy performed {date}\n\n",
        "Patient {full}, born {born}, was examined on {date} at {hospital}.\n\n",
        "Exam ordered by: {doctor_listed} on {date}\nPatient's name: {patient}\nChart #{mrn}\nSSN# {ssn}\n\n",
        "CLINIC LETTER\n{hospital}\n{address}\nOur ref: {accession}\nDate dictated: {date}\n\nDear "
        "Doctor\n\nRe: {patient} d.o.b. {born}, "
        "Hospital number {mrn}\n\n",
    ],
}
_MIDDLES = {
    "first": [
        "Comparison is made with the study of {date}. ",
        "COMPARISON: CT {date}, MRI {month}. ",
        "Mr. {surname} is a 64-year-old man who lives at {address}. ",
        "Mrs. {surname} was seen by Dr. {doctor} on {date}. ",
        "The patient was transferred from {hospital} on {date}. ",
        "Findings were discussed with Dr. {doctor} by telephone at 14:35 on {date}. ",
        "His wife, {relative}, can be reached at {phone}. ",
        "She had surgery in {month} at {hospital}. ",
        "The {old}-year-old patient fell at home. ",
        "Contact: {email} or {phone}. ",
        "Results were faxed to {phone}. ",
        "The scanner's serial number is {serial}. ",
        "Insurance policy number {policy}. ",
        "{full} presented with cough and fever. ",
        "Images are available at {url}. ",
        "Communicated to {doctor_full} at 09:10. ",
    ],
    "second": [
        "Compared to {date}, there is no change. ",
        "Prior: {date} ({hospital}). ",
        "Ms {surname} resides in {town} and works as a teacher. ",
        "Case reviewed with Prof {doctor} and Dr {doctor}. ",
        "Called to {doctor_full}, RN, at 1540 hrs, call back {phone}. ",
        "Referred by {doctor_full} of {hospital}. ",
        "Her son {relative} was informed, mobile {phone}. ",
        "Pager {pager}. ",
        "The device (S/N {serial}) was implanted in {month}. ",
        "{full}'s daughter agreed to the examination. ",
        "Known to Dr {doctor} since {month}. ",
        "Address on file: {address}. ",
        "Aged {old}, she is independent. ",
        "Please write to {email}. ",
        "See {url} for the images. ",
        "Previous accession number {accession}. ",
        "Interpreted by {doctor_full} and verified by {doctor_full}. ",
    ],
    "third": [
        "I reviewed this 58 year old lady, Mrs {surname}, in clinic on {date}. ",
        "Spoke w/ Dr. {doctor} at 3 pm on {date}. ",
        "Held as per Dr {doctor}. ",
        "Ms. {surname}'s sister {relative} drove her from {town}. ",
        "{surname} tolerated the procedure well. ",
        "Consent was obtained by {doctor_full}. ",
        "Verbal report to {doctor_full} (ED) at 22:15. ",
        "Last seen in {month} by {doctor_full}, NP, at {hospital}. ",
        "Old films from {hospital} dated {date} were reviewed. ",
        "Home phone {phone}; work {phone}. ",
        "Now {old} years old, she walks with a frame. ",
        "Prescriptions go to the pharmacy at {address}. ",
        "Medicare no. {policy}. ",
        "He works for a firm in {town}. ",
        "Contact person: {relative} ({phone}). ",
        "Implant lot {serial}. ",
        "Brought by ambulance from {address}. ",
        "Mail to {email}; portal: {url}. ",
        "Dr. {doctor} of {hospital} agrees with this. ",
        "Follow-up visit with Nurse {surname_other} on {date}. ",
    ],
}
_ENDS_OF_NOTES = {
    "first": [
        "\n\nElectronically signed by {doctor_full}, MD on {date}",
        "\n\nDictated by: {doctor_full}, M.D.\nTranscribed: {date}",
        "\n\nSincerely,\n{doctor_full}, MD\n{hospital}\n{phone}",
        "\n\nRadiologist: {doctor_full}",
    ],
    "second": [
        "\n\nReported by: Dr {doctor_full} FRCR\n{date}",
        "\n\nSigned: {doctor_listed}, MD, PhD ({date} 16:42)",
        "\n\nKind regards\n\n{doctor_full}\nConsultant Radiologist, {hospital}",
        "\n\nAttending: {doctor_listed} | Resident: {doctor_listed} | {date}",
        "\n\n-- {doctor_full}",
    ],
    "third": [
        "\n\nFinalized by {doctor_full} on {date} at 08:12 AM",
        "\n\nThank you for referring this patient.\n\n{doctor_full}, FRCR\nGMC {gmc}",
        "\n\nRead by: {doctor_listed}   Approved: {doctor_full}",
        "\n\n/es/ {doctor_shouted}\nStaff Radiologist\nSigned: {date}",
        "\n\nCC: {doctor_full}; {doctor_full}",
    ],
}
_CLINICAL = [
    "History of Hodgkin lymphoma, status post ABVD. ",
    "There is a Baker cyst measuring 3.4 x 1.2 cm. ",
    "Disc bulge at L4/5 and L5/S1 with mild stenosis. ",
    "Pain is 3/10 at rest and 7/10 on movement. ",
    "T2 hyperintense lesion, 2.5 cm, in segment 4a/4b of the liver. ",
    "A 2/6 systolic murmur is heard. ",
    "Kerley B lines and small pleural effusions. ",
    "Gleason 3+4=7 in 4/12 cores. ",
    "Gadobutrol 7.5 ml was given at 2 ml/s. ",
    "SUVmax 12.4, SUVmean 5.61; liver 2.3. ",
    "Colles fracture of the left radius, Salter-Harris II on the right. ",
    "Bosniak IIF cyst in the upper pole of the left kidney. ",
    "Parkinson's disease is treated with levodopa 100/25 mg. ",
    "BI-RADS 4. Ki-67 is 15-20%. ",
    "The appendix is 6 mm wide; no Meckel diverticulum. ",
    "Swan-Ganz catheter in the right pulmonary artery. Foley catheter in place. ",
    "Creatinine 1.12 mg/dL, eGFR 68 ml/min/1.73 m2. ",
    "Cobb angle of 24 degrees from T5 to T12. ",
    "No evidence of Paget disease or Crohn disease. ",
    "Blood pressure 128/76, pulse 72, temperature 37.4. ",
    "Wilson disease and Addison disease are excluded. ",
    "TI-RADS 3 nodule in the right lobe, 12 x 9 x 8 mm (series 4, image 57). ",
    "Fleischner follow-up in 6 to 12 months. ",
    "Down syndrome. Marfan syndrome in the family. ",
    "Fazekas 2 changes; Virchow-Robin spaces. ",
    "Dose: CTDIvol 7.35 mGy, DLP 312.8 mGy cm. ",
    "ICD-10: C34.90, CPT 71260. ",
    "1.5 T magnet, TR/TE 4500/102, 5 mm slices, matrix 256 x 256. ",
    "Lisfranc joint is congruent. Achilles tendon is intact. ",
    "HbA1c 6.8 %, INR 2.5, WBC 11,300. ",
    "Child-Pugh B, MELD 14. ",
    "The patient was scanned with the arms down. ",
]
_OTHER = {
    "es": [
        "Paciente: {full}. Fecha de nacimiento: {born}. Nº historia: {mrn}.\nTC de tórax del "
        "{spanish}. Sin derrame pleural. Quiste de Baker de 3 cm. "
        "Informado por la Dra. {doctor_full}. Tel. {phone}.",
        "El Sr. {surname}, con DNI {dni}, fue visto el {spanish} en el {spanish_hospital}. Dolor 3/10. Disco L4/5.",
    ],
    "de": [
        "Patient: {patient}, geb. am {german_date}. Fallnummer {mrn}.\nCT Thorax vom {german}. Kein "
        "Erguss. Morbus Hodgkin bekannt. Baker-Zyste 3 cm. "
        "Befundet von Dr. {doctor_full}.",
        "Herr {surname}, {german_address}, stellte sich am {german} im {german_hospital} vor. Höhe L4/5, Schmerz 3/10.",
    ],
    "zh": [
        "姓名：{chinese}  住院号：{mrn}  检查日期：{chinese_date}\n"
        "胸部CT平扫未见异常，右肺结节约4 mm。报告医师：{chinese}",
        "患者{chinese}，男，65岁，于{chinese_date}就诊于{chinese_hospital}，联系电话：{chinese_phone}。L4/5椎间盘突出。",
    ],
}


def _more(name: str) -> Callable[[_Writer], tuple[str, str]]:
    def make(writer: _Writer) -> tuple[str, str]:
        choose, day = writer.random.choice, writer.day
        months_es = [
            "enero",
            "febrero",
            "marzo",
            "abril",
            "mayo",
            "junio",
            "julio",
            "agosto",
            "septiembre",
            "octubre",
            "noviembre",
            "diciembre",
        ]
        months_de = [
            "Januar",
            "Februar",
            "März",
            "April",
            "Mai",
            "Juni",
            "Juli",
            "August",
            "September",
            "Oktober",
            "November",
            "Dezember",
        ]
        chinese = choose("王李张刘陈杨赵黄周吴徐孙") + "".join(
            writer.random.sample("建国明华丽芳伟强敏静秀英", choose((1, 2)))
        )
        made = {
            "spanish": (f"{day.day} de {months_es[day.month - 1]} de {day.year}", "date"),
            "german": (f"{day.day}. {months_de[day.month - 1]} {day.year}", "date"),
            "german_date": (f"{day:%d.%m.%Y}", "date"),
            "dni": (writer._digits(8) + choose("ABCDEFGH"), "id"),
            "spanish_hospital": (
                choose(["Hospital General de ", "Hospital Universitario "]) + choose(_TOWNS),
                "hospital",
            ),
            "german_hospital": (
                choose(["Klinikum ", "Krankenhaus ", "Universitätsklinikum "]) + choose(_CITIES_DE),
                "hospital",
            ),
            "german_address": (
                (
                    f"{choose(_CITIES_DE)}er Straße {writer.random.randrange(1, 99)}, {writer._digits(5)} "
                    f"{choose(_CITIES_DE)}"
                ),
                "address",
            ),
            "chinese": (chinese, "name"),
            "chinese_date": (f"{day.year}年{day.month}月{day.day}日", "date"),
            "chinese_hospital": (choose(["临江", "东湖", "南山"]) + choose(["市第一人民医院", "中心医院"]), "hospital"),
            "chinese_phone": ("1" + choose("3578") + writer._digits(9), "phone"),
        }
        return made[name]

    return make


for _name in [
    "spanish",
    "german",
    "german_date",
    "dni",
    "spanish_hospital",
    "german_hospital",
    "german_address",
    "chinese",
    "chinese_date",
    "chinese_hospital",
    "chinese_phone",
]:
    setattr(_Writer, "_" + _name, _more(_name))


def notes(count: int, *, seed: int, half: Half) -> list[Note]:
    """Write invented notes; nine of ten in English, the rest in Spanish, German and Chinese.

    Args:
        count: How many.
        seed: Equal seeds, equal notes.
        half: Which of two sets of formats and phrases.

    Example:
        >>> note = notes(1, seed=1, half="first")[0]
        >>> all(0 <= place.start < place.end <= len(note.text) for place in note.planted)
        True
    """
    out = []
    for number in range(count):
        source = random.Random(f"{seed} {half} {number}")  # noqa: S311
        writer = _Writer(source, half)
        language = source.choice(("es", "de", "zh")) if source.random() < 0.1 else "en"
        if language == "en":
            writer.write(source.choice(_HEADS[half]))
            body = source.sample(_MIDDLES[half], source.randrange(2, 6)) + source.sample(
                _CLINICAL, source.randrange(4, 9)
            )
            source.shuffle(body)
            for sentence in body:
                writer.write(sentence)
            writer.write(source.choice(_ENDS_OF_NOTES[half]))
        else:
            writer.write(source.choice(_OTHER[language]))
        out.append(Note("".join(writer.words), tuple(writer.planted), language))
    return out
