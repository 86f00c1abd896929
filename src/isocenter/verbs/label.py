"""Findings of chest X-ray reports as labels: presence, side, grade, change, code and the place of the words.

reports -> cleaned, cut into sections -> findings by rule (`evaluate.report_labels`) -> labels.csv, labels.json and, if
asked for, chexpert.csv. The same text gives the same labels, every time and everywhere; nothing is learnt, nothing
leaves the machine. A report that can't be read for certain has a line too, and its reason.
"""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from isocenter.core.errors import ConfigError
from isocenter.core.knowledge import CHANGE_CODES, FINDINGS, GRADE_CODES, PRESENCE_CODES, SIDE_CODES
from isocenter.core.units import Code
from isocenter.data.images.atomic import atomic_folder, make_parent
from isocenter.data.reports import MAX_FILE, ReportText, decode_report, read_reports
from isocenter.evaluate.report_labels import CHEXPERT, Label, LabelledReport, chexpert_labels, label_sections
from isocenter.version import __version__

__all__ = ["FindingEntry", "LabelConfig", "LabelDocument", "ReportEntry", "SpanEntry", "label_reports", "run"]

DOCUMENT, TABLE, WIDE = "labels.json", "labels.csv", "chexpert.csv"
_COLUMNS = (
    *("report", "outcome", "finding", "presence", "laterality", "severity", "change"),
    *("code", "scheme", "meaning", "site", "implied_by", "spans", "words"),
)

Progress = Callable[[str, float], None]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LabelConfig(_Strict):
    """Configuration of `isocenter label`.

    Attributes:
        reports: Folder of .txt files, .csv, .jsonl, one text file, or "-" for standard input.
        out: Folder to write; None writes nothing.
        chexpert: Whether the 14 observations of CheXpert are given too.
        id_column: Column of the reports' names; None looks for one.
        text_column: Column of the texts; None looks for one.
        overwrite: Whether older labels under `out` are replaced.
    """

    reports: Path
    out: Path | None = None
    chexpert: bool = False
    id_column: str | None = None
    text_column: str | None = None
    overwrite: bool = False


class CodedEntry(_Strict):
    """A coded concept: value, scheme, meaning."""

    value: str
    scheme: str
    meaning: str


class SpanEntry(_Strict):
    """Where words stand: section, first character, one past the last, and the words."""

    section: str
    start: int
    end: int
    words: str


class FindingEntry(_Strict):
    """What a report says of a finding.

    Attributes:
        finding: Its name.
        code: Its code.
        site: Coded part of the body.
        presence: present, absent or uncertain.
        presence_code: The same, coded.
        laterality: left, right, both, or None.
        laterality_code: The same, coded.
        severity: mild, moderate, severe, or None.
        severity_code: The same, coded.
        change: new, worse, better, unchanged, resolved, mixed, or None where none is said.
        change_code: The same, coded; None for "mixed".
        implied_by: The finding that implies it, or None where the report speaks of it.
        spans: Words that it rests on.
    """

    finding: str
    code: CodedEntry
    site: CodedEntry
    presence: Literal["present", "absent", "uncertain"]
    presence_code: CodedEntry
    laterality: Literal["left", "right", "both"] | None
    laterality_code: CodedEntry | None
    severity: Literal["mild", "moderate", "severe"] | None
    severity_code: CodedEntry | None
    change: Literal["new", "worse", "better", "unchanged", "resolved", "mixed"] | None
    change_code: CodedEntry | None
    implied_by: str | None
    spans: tuple[SpanEntry, ...]


class ReportEntry(_Strict):
    """A report.

    Attributes:
        report: Its name.
        outcome: "labelled", or why it is not.
        findings: Sorted by name.
        read: Sections that were read.
        left_out: Sections that were not: what was asked, compared, or how it was made.
        foreign_sentences: Sentences of another language, which were not read.
        markup: Whether markup was taken out.
        chexpert: The 14 observations: 1, 0, -1 or None; None where not asked for.
    """

    report: str
    outcome: str
    findings: tuple[FindingEntry, ...] = ()
    read: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    foreign_sentences: int = 0
    markup: bool = False
    chexpert: dict[str, int | None] | None = None


class LabelDocument(_Strict):
    """Labels of reports.

    Attributes:
        isocenter: Version whose rules were used.
        labelled: How many reports were labelled.
        outcomes: How many reports by outcome.
        reports: In order.
    """

    isocenter: str
    labelled: int
    outcomes: dict[str, int]
    reports: tuple[ReportEntry, ...]

    def table(self) -> str:
        """Return the table of labels as CSV, a line for each finding, and one for each report without any."""
        rows: list[Sequence[object]] = []
        for entry in self.reports:
            rows += [_row(entry, finding) for finding in entry.findings]
            if not entry.findings:
                rows.append((entry.report, entry.outcome, *[""] * (len(_COLUMNS) - 2)))
        return _csv(_COLUMNS, rows)

    def chexpert_table(self) -> str:
        """Return the 14 observations of CheXpert as CSV: 1, 0, -1 or nothing; reports not labelled say why.

        Raises:
            ConfigError: They were not asked for.
        """
        rows: list[Sequence[object]] = []
        for entry in self.reports:
            if entry.chexpert is None:
                raise ConfigError("the 14 observations were not asked for; label with chexpert=True")
            values = [entry.chexpert[name] for name in CHEXPERT]
            rows.append((entry.report, entry.outcome, *("" if v is None else v for v in values)))
        return _csv(("report", "outcome", *CHEXPERT), rows)


def _csv(heading: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(heading)
    writer.writerows(rows)
    return stream.getvalue()


def _row(entry: ReportEntry, f: FindingEntry) -> tuple[object, ...]:
    return (
        *(entry.report, entry.outcome, f.finding, f.presence, f.laterality or "", f.severity or "", f.change or ""),
        *(f.code.value, f.code.scheme, f.code.meaning, f.site.meaning, f.implied_by or ""),
        ";".join(f"{s.section}:{s.start}-{s.end}" for s in f.spans),
        ";".join(s.words for s in f.spans),
    )


def label_reports(
    reports: Path | str,
    out: Path | str | None = None,
    *,
    chexpert: bool = False,
    id_column: str | None = None,
    text_column: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> LabelDocument:
    """Label reports of chest radiographs in English.

    Args:
        reports: Folder of .txt files, .csv, .jsonl, one text file, or "-" for standard input.
        out: Folder for labels.csv, labels.json and chexpert.csv; None writes nothing.
        chexpert: Whether the 14 observations of CheXpert are given too.
        id_column: Column of the reports' names; None looks for one of the usual names.
        text_column: Column of the texts; None looks for one of the usual names.
        overwrite: Whether older labels under `out` are replaced.
        progress: Told what is done, and its share.

    Raises:
        ConfigError: A setting is not valid.
        DataError: Nothing to read, or a table of another form.
        OutputError: The folder can't be written, or is not empty.
    """
    try:
        config = LabelConfig(
            reports=Path(reports),
            out=None if out is None else Path(out),
            chexpert=chexpert,
            id_column=id_column,
            text_column=text_column,
            overwrite=overwrite,
        )
    except ValidationError as error:
        raise ConfigError(f"label: {error.errors()[0]['loc'][0]} is not valid") from error
    return run(config, progress)


def run(config: LabelConfig, progress: Progress | None = None) -> LabelDocument:
    """Label what a configuration names.

    Raises:
        DataError: As `label_reports`.
    """
    if str(config.reports) == "-":
        texts: tuple[ReportText, ...] = (decode_report(sys.stdin.buffer.read(MAX_FILE + 1), "stdin"),)
    else:
        texts = read_reports(config.reports, id_column=config.id_column, text_column=config.text_column)
    entries = []
    for number, text in enumerate(texts, start=1):
        entries.append(_entry(text, config.chexpert))
        if progress is not None and number % 100 == 0:
            progress("labelling", number / len(texts))
    outcomes = Counter(e.outcome for e in entries)
    document = LabelDocument(
        isocenter=__version__, labelled=outcomes["labelled"], outcomes=dict(outcomes), reports=tuple(entries)
    )
    if config.out is not None:
        make_parent(config.out)
        with atomic_folder(config.out, replace=config.overwrite) as folder:
            (folder / TABLE).write_text(document.table(), "utf-8")
            (folder / DOCUMENT).write_text(document.model_dump_json(indent=1) + "\n", "utf-8")
            if config.chexpert:
                (folder / WIDE).write_text(document.chexpert_table(), "utf-8")
    return document


def _entry(text: ReportText, chexpert: bool) -> ReportEntry:
    if text.problem is not None:
        blank: dict[str, int | None] = dict.fromkeys(CHEXPERT)
        return ReportEntry(report=text.name, outcome=text.problem, chexpert=blank if chexpert else None)
    found = label_sections(text.sections)
    return ReportEntry(
        report=text.name,
        outcome=found.outcome,
        findings=_findings(found, text),
        read=found.read,
        left_out=found.left_out,
        foreign_sentences=len(found.foreign),
        markup=found.markup,
        chexpert=chexpert_labels(found) if chexpert else None,
    )


def _findings(found: LabelledReport, text: ReportText) -> tuple[FindingEntry, ...]:
    return tuple(_finding(label, text) for label in found.labels)


def _finding(label: Label, text: ReportText) -> FindingEntry:
    concept = label.concept
    return FindingEntry(
        finding=concept.name,
        code=_coded(concept.code),
        site=_coded(FINDINGS.site(concept.site).code),
        presence=label.presence,
        presence_code=_coded(PRESENCE_CODES[label.presence]),
        laterality=label.side,
        laterality_code=None if label.side is None else _coded(SIDE_CODES[label.side]),
        severity=label.grade,
        severity_code=None if label.grade is None else _coded(GRADE_CODES[label.grade]),
        change=label.change,
        change_code=None if label.change in (None, "mixed") else _coded(CHANGE_CODES[str(label.change)]),
        implied_by=label.implied_by,
        spans=tuple(
            SpanEntry(section=s.section, start=s.start, end=s.end, words=_words(text, s.section, s.start, s.end))
            for s in label.spans
        ),
    )


def _coded(code: Code) -> CodedEntry:
    return CodedEntry(value=code.value, scheme=code.scheme, meaning=code.meaning)


def _words(text: ReportText, section: str, start: int, end: int) -> str:
    """Return the words at a place: those of the finding, which say nothing of who the patient is."""
    by_name = {name.lower(): body for name, body in text.sections}
    body = by_name.get(section, text.sections[0][1] if len(text.sections) == 1 else "")
    return " ".join(body[start:end].split())
