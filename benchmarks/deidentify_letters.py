"""Whole letters and notes in other styles than those of `isocenter.synth.notes`.

Written after the rules and measured before any was changed for them; docs/results/deidentification.md says how. Marks are [[kind:text]]; names, numbers and places
are drawn from lists that neither the rules nor the generator have.
"""

from __future__ import annotations

import random
import re

from isocenter.synth.notes import Note, Planted

GIVEN = ["Chidinma", "Kaspar", "Yevgenia", "Thijs", "Anneliese", "Ravindra", "Siobhan", "Lorcan", "Mireille", "Tadeusz", "Ngozi", "Hyun-woo", "Beatrix", "Caspian", "Delia", "Edmund", "Farah", "Gwendolyn", "Harvey", "Imelda", "Jasper", "Keziah", "Lionel", "Maud", "Nigel", "Odette", "Percival", "Quentin", "Rhiannon", "Stanley"]  # fmt: skip
FAMILY = (
    "Achterberg Bancroft Chukwuemeka Dalgliesh Eriksen Fitzwilliam Goldblum Hathaway Iyer Jankowski Kirkbride Lovelace "
    "Montague Nakagawa O'Shaughnessy Penhaligon Quigley Rasmussen Szymanski Thackeray Underhill Van Houten Wojcik Yardley"
).replace("Van Houten", "Vanhouten").split()  # fmt: skip
PLACES = [
    "Aldwick",
    "Brackenfell",
    "Cotterstock",
    "Denholm",
    "Elsworth",
    "Fernhollow",
    "Glanford",
    "Heathcote",
    "Inverallan",
    "Kelsborough",
]

TEMPLATES = (
    """EMERGENCY DEPARTMENT NOTE

[[name:{G} {F}] ] is a 47 y/o F who came in by EMS at 0215 on [[date:{md}] ] with RUQ pain 8/10. PMH: Hashimoto thyroiditis, L5/S1
discectomy ([[date:{my}] ]). PCP is Dr. [[name:{H}] ]. US shows a 4 mm stone; Murphy sign positive. WBC 14.2, lipase 38.
Surgery (Dr. [[name:{J}] ]) consulted. Daughter [[name:{g2}] ] at bedside, cell [[phone:{p1}] ].
MRN [[id:{n7}] ] / FIN [[id:{n10}] ]
""",
    """Dear [[name:{G}] ],

Thank you for attending the breast clinic at [[hospital:{P} General Infirmary] ] on [[date:{dmy}] ]. Your mammogram was normal (BI-RADS 1).
If you have any questions please ring [[phone:{uk}] ] or write to [[email:{e1}] ].

Yours sincerely

Miss [[name:{G2} {H}] ]
Consultant Breast Surgeon
""",
    """OPERATIVE REPORT
Patient: [[name:{F}, {G}] ]   Hospital #: [[id:{n6}] ]   Date of surgery: [[date:{iso}] ]
Surgeon: [[name:{G2} {H}, ] ]MD   Assistant: [[name:{J}, {g2}] ]   Anesthesia: [[name:{g3} {F2}] ], CRNA
Procedure: Whipple procedure. The Kocher maneuver was performed. The ligament of Treitz was identified. EBL 350 ml.
Specimen [[id:{sp}] ] was sent to pathology. The patient was taken to PACU in stable condition.
""",
    """NURSING NOTE [[date:{slash}] ] 07:00 - Pt [[name:{H}] ] slept well. Foley draining 40 ml/h. Wife ([[name:{g2}] ]) called at 0630 for an update,
number on chart [[phone:{p2}] ]. Pain 2/10. Seen on rounds by Drs. [[name:{J}] ] and [[name:{F2}] ]. SSN on file [[id:{ssn}] ].
""",
    """ADDENDUM: After discussion with [[name:{G2} {H}] ] (Neurology, [[hospital:{P} University Hospital] ]) on [[date:{long}] ], the T2 signal in the left
temporal lobe is felt to be stable since [[date:{my}] ]. Fazekas 1. No Chiari malformation.
[[name:{g3} {F2}] ], MD, PhD / [[date:{slash}] ]
""",
    """Patient: [[name:{G} {F}] ]
Address: [[address:{n3} {P} Gardens, {P2}, {uk_code}] ]
NHS number: [[id:{nhs}] ]
Seen in the memory clinic with his son [[name:{g2}] ], aged 61. He scored 24/30 on the MMSE. He worked as a miner in [[address:{P2}] ].
He was last reviewed by Professor [[name:{H}] ] in [[date:{my}] ]. MRI: Scheltens 2/4, Koedam 1.
GP: Dr [[name:{G2} {J}] ], [[hospital:{P} Medical Practice] ]
""",
    """RADIOLOGY REPORT  Accession: [[id:{acc}] ]  Performed: [[date:{mdy}] ]
Ordered by [[name:{J}, {G2}] ]. Technologist: [[name:{g3} {F2}] ].
CLINICAL INFORMATION: 58M, Crohn disease. TECHNIQUE: 80 ml Omnipaque 350, 120 kVp, 1.25 mm.
FINDINGS: Meckel diverticulum excluded. Bosniak II cyst, 1.4 x 1.2 cm. Prostate 4.8 cm; PI-RADS 2. Baker cyst.
IMPRESSION: No obstruction. Critical results were phoned to [[name:{G2} {J}] ] at 11:42 a.m. on [[date:{slash}] ].
Report finalized by [[name:{g3} {H}] ], M.D. For images see [[url:{u1}] ]
""",
    """Discharge summary. Admitted [[date:{mdy}] ], discharged [[date:{slash}] ]. [[name:{G} {F}] ] (DOB [[date:{born}] ]) is a retired teacher from
[[address:{P2}] ]. He was transferred from [[hospital:{P} Community Hospital] ] for a Stanford B dissection. Follow-up with Dr. [[name:{H}] ] in 2 weeks;
appointments: [[phone:{p1}] ]. Insurance: member ID [[id:{mem}] ]. Pharmacy: [[address:{n3} {P} Parkway, {P2}, NJ {z}] ].
""",
    """Pt name: [[name:{FU} {GU}] ]
Req no. [[id:{n8}] ]  Location: Ward 6B
Clinical details: ?PE. Wells score 4.5. Previous DVT [[date:{my}] ].
CTPA: No embolus. RV/LV ratio 0.8. 6 mm nodule, Fleischner.
Reported by: [[name:{G2} {H}] ], ST4 Radiology; checked by [[name:{J}] ] [[date:{dmy}] ]
""",
    """Phone call with patient's mother, [[name:{g2} {F}] ], [[date:{long}] ]. She can be reached on [[phone:{uk}] ] or [[email:{e1}] ]. The family will move
to [[address:{n3} {P} Crescent, {P2}] ] in the autumn. Next appointment with [[name:{G2}] ] from physiotherapy. Cobb angle 18 degrees.
""",
)
_MARK = re.compile(r"\[\[(\w+):(.*?)\] ?\]", re.DOTALL)


def letters(count: int, *, seed: int) -> list[Note]:
    """Write invented letters."""
    out = []
    for number in range(count):
        r = random.Random(f"letters {seed} {number}")
        text = _filled(r.choice(TEMPLATES), r)
        pieces: list[str] = []
        planted: list[Planted] = []
        at = length = 0
        for hit in _MARK.finditer(text):
            before = text[at : hit.start()]
            pieces += [before, hit[2]]
            length += len(before)
            planted.append(Planted(length, length + len(hit[2]), hit[1]))
            length += len(hit[2])
            at = hit.end()
        out.append(Note("".join([*pieces, text[at:]]), tuple(planted), "en"))
    return out


def _digits(r: random.Random, count: int) -> str:
    return str(r.randrange(1, 10)) + "".join(r.choice("0123456789") for _ in range(count - 1))


def _filled(template: str, r: random.Random) -> str:
    months = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ]
    day, month, year = r.randrange(1, 29), r.randrange(1, 13), r.randrange(2008, 2025)
    given, family, places = r.sample(GIVEN, 5), r.sample(FAMILY, 4), r.sample(PLACES, 2)
    word = months[month - 1]
    values = {
        "G": given[0], "g2": given[1], "G2": given[2], "g3": given[3], "F": family[0], "H": family[1], "J": family[2],
        "F2": family[3], "FU": family[0].upper(), "GU": given[0].upper(), "P": places[0], "P2": places[1],
        "md": f"{month}/{day}/{year % 100:02d}", "my": f"{word[:3]} {year - 2}", "dmy": f"{day} {word} {year}",
        "iso": f"{year}-{month:02d}-{day:02d}", "slash": f"{month:02d}/{day:02d}/{year}", "long": f"{word} {day}, {year}",
        "mdy": f"{word[:3]} {day:02d}, {year}", "born": f"{month}/{day}/{year - 60}",
        "p1": f"({_digits(r, 3)}) {_digits(r, 3)}-{_digits(r, 4)}", "p2": f"{_digits(r, 3)}-{_digits(r, 3)}-{_digits(r, 4)}",
        "uk": f"01{_digits(r, 3)} {_digits(r, 6)}", "e1": f"{given[0].lower()}.{_digits(r, 2)}@post.example.com",
        "u1": f"https://pacs.{places[0].lower()}.example/{_digits(r, 6)}", "n3": _digits(r, 3), "n6": _digits(r, 6),
        "n7": _digits(r, 7), "n8": _digits(r, 8), "n10": _digits(r, 10), "sp": f"S{year % 100}-{_digits(r, 5)}",
        "ssn": f"{_digits(r, 3)}-{_digits(r, 2)}-{_digits(r, 4)}", "nhs": f"{_digits(r, 3)} {_digits(r, 3)} {_digits(r, 4)}",
        "acc": f"RAD-{_digits(r, 7)}", "mem": f"W{_digits(r, 9)}", "z": _digits(r, 5), "uk_code": f"LS{_digits(r, 1)} {_digits(r, 1)}QT",
    }  # fmt: skip
    return re.sub(r"\{(\w+)\}", lambda hit: values[hit[1]], template)
