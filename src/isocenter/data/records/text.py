"""A report in a text file: the whole text, and what its first lines say of the patient and the study.

Not every text is a report. Lists of words, licences, programs and read-mes lie beside reports in every folder; they are
left out, and that is said.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePosixPath

from isocenter.data.records.decoding import decode
from isocenter.data.records.moments import hl7_moment, table_moment
from isocenter.data.records.options import ReadOptions
from isocenter.data.records.rows import Found, RawReport, Refusal

__all__ = ["MAX_REPORT", "read_text"]

MAX_REPORT = 16_000_000
"""Bytes of a file above which it is no report."""
_NO_REPORT = re.compile(
    r"(read_?me|licen[cs]e|copying|notice|sources?|changelog|changes|authors|contributing|citation|requirements"
    r"|sha(1|256|512)(sums?)?|md5(sums?)?|manifest|index|labels|classes|pyproject|robots|file_?info)(?![a-z])",
    re.IGNORECASE,
)
_HEADING = re.compile(
    r"^\W{0,8}(findings?|impressions?|conclusions?|indications?|techniques?|comparisons?|clinical (history|information)"
    r"|history|exam(ination)?|procedure|report|addendum|befund|beurteilung|fragestellung|technik|klinische angaben"
    r"|hallazgos|impresi[oó]n|conclusi[oó]n|indicaci[oó]n|t[eé]cnica|r[eé]sultats?|technique|conclusion|indication"
    r"|compte[- ]rendu|reperti|conclusioni|影像所见|影像诊断|检查所见|诊断意见|所見|診断)\s{0,3}[:：]?",
    re.IGNORECASE | re.MULTILINE,
)
_SENTENCE = re.compile(r"(?:\S+[ \t\n]+){2,}\S+[.!?](?:\s|$)|\S{6,}[。！？]")
_FIELDS = {
    "accession": r"accession(?: (?:number|no\.?|nr\.?|#))?|acc\.? ?#|auftragsnummer",
    "patient": r"patient[ _]?(?:id|identifier|number|no\.?)|mrn|medical record number|patienten-?(?:id|nummer|nr\.?)",
    "study_uid": r"study(?: instance)?[ _]?uid",
    "time": r"(?:exam(?:ination)?|study|report|service)[ _]?date(?:/time)?|date of (?:exam(?:ination)?|study|service)"
    r"|untersuchungsdatum|fecha(?: del estudio)?",
}
_LINE = {
    name: re.compile(rf"^[ \t]*(?:{words})[ \t]*[:#=][ \t]*(?P<value>\S[^\n]{{0,80}}?)[ \t]*$", re.I | re.M)
    for name, words in _FIELDS.items()
}
_HEAD_CHARACTERS = 1500


def read_text(data: bytes, source: str, options: ReadOptions | None = None) -> Found:
    r"""Read a text file as a report.

    Args:
        data: The file.
        source: Its name; without folders and ending it is the report's identifier.
        options: What the name is, and who gave the patients' identifiers.

    Example:
        >>> found = read_text(b"Accession: A7\nExam date: 2024-01-31\n\nFINDINGS: Clear lungs.", "note.txt")
        >>> found.reports[0].identifier, found.reports[0].accession, found.reports[0].time
        ('note', 'A7', '2024-01-31')
    """
    options = options or ReadOptions()
    name = PurePosixPath(source.replace("\\", "/")).name
    stem = name[: name.rindex(".")] if "." in name[1:] else name
    if len(data) > MAX_REPORT:
        return Found(refused=(Refusal(source, f"longer than {MAX_REPORT:,} bytes; it is no report"),))
    decoded = decode(data)
    text = decoded.text.lstrip("\ufeff")
    problem = _problem(text, stem)
    if problem:
        return Found(refused=(Refusal(source, problem, "ignored"),))
    refused: list[Refusal] = []
    found = _fields(text, source, options, refused)
    report = RawReport(
        options.issuer if found.get("patient") else "", found.get("patient", ""), (("", text),),
        found.get("accession", ""), "", found.get("study_uid", ""), found.get("time", ""), form="text", identifier=stem,
        inside=source.partition("/")[2],
    )  # fmt: skip
    if options.text_name == "accession" and not report.accession:
        report = replace(report, accession=stem)
    if options.text_name == "patient" and not report.patient:
        report = replace(report, patient=stem, issuer=options.issuer)
    notes = (f"{source}: {decoded.note}",) if decoded.note else ()
    return Found(reports=(report,), refused=tuple(refused), notes=notes)


def _problem(text: str, stem: str) -> str:
    """Return why a text is no report; "" where it may be one."""
    if not text.strip():
        return "the file is empty"
    if text.count("\0") or sum(c < " " and c not in "\t\n\r\f\x0b" for c in text[:4096]) > 8:
        return "no text"
    if _NO_REPORT.match(stem):
        return "a text about files, not a report"
    lines = text[:20_000].splitlines()
    if _HEADING.search(text[:20_000]) and any(" " in line.strip() and line.strip()[-1] not in ":：" for line in lines):
        return ""
    marks = sum(text[:20_000].count(c) for c in "{}<>=|\\")
    if marks > 0.02 * min(len(text), 20_000):
        return "a text for programs, not a report"
    if not _SENTENCE.search(text[:20_000]):
        return "no heading and no sentence of a report; a list of words?"
    return ""


def _fields(text: str, source: str, options: ReadOptions, refused: list[Refusal]) -> dict[str, str]:
    head = text[:_HEAD_CHARACTERS].replace("\r\n", "\n").replace("\r", "\n")
    found = {name: match["value"].strip() for name, line in _LINE.items() if (match := line.search(head))}
    if "time" in found:
        moment = table_moment(found["time"], day_first=options.day_first) or hl7_moment(found["time"])
        if moment is None:
            refused.append(
                Refusal(source, "its date is none, or reads both ways (say day_first); it has none from here")
            )
        found["time"] = moment or ""
    if "study_uid" in found and not re.fullmatch(r"[0-9][0-9.]{0,63}", found["study_uid"]):
        refused.append(Refusal(source, "its Study Instance UID is none"))
        del found["study_uid"]
    return found
