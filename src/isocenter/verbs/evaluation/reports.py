"""Reports against reports: by the words they share, and by what they claim.

A table with the columns case, reference and report (and patient), or two folders of .txt files with the same names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from isocenter.core.errors import DataError
from isocenter.data.images.atomic import explain_os_error
from isocenter.evaluate.report_findings import ReportAgreement, report_agreement
from isocenter.evaluate.text_overlap import bleu, rouge_l, rouge_n, sentence_bleu
from isocenter.verbs.evaluation.masks import named
from isocenter.verbs.evaluation.scores import Cases, cases_of
from isocenter.verbs.evaluation.system import System, mean_measure
from isocenter.verbs.evaluation.tables import Table, patients_for

__all__ = ["holds_reports", "report_folders", "report_system", "reports_of_table"]

_NOTE = (
    "claims are read by rules for chest reports in English: findings, present, absent or uncertain, side and grade; "
    "reports of another kind or language hold claims that the rules do not know"
)


def holds_reports(folder: Path) -> bool:
    """Tell whether a folder holds texts."""
    return any(p.suffix.lower() == ".txt" and not p.name.startswith(".") for p in folder.iterdir())


def reports_of_table(table: Table, patients: Table | None) -> System:
    """Read a table of reports and return the system.

    Raises:
        DataError: A column is missing, or a reference is empty.
    """
    return report_system(cases_of(table, patients), table.names("reference"), table.column("report"))


def report_folders(
    predictions: Path, references: Path, missing: Literal["fail", "count-as-zero"], patients: Table | None
) -> System:
    """Read two folders of texts and return the system.

    Raises:
        DataError: A side lacks a case and that was not allowed, or a file is no text in UTF-8.
    """
    found, wanted = _texts(predictions), _texts(references)
    lost, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if (lost or extra) and missing == "fail":
        raise DataError(
            f"{named(lost, 'no report', predictions)}{' and ' if lost and extra else ''}"
            f"{named(extra, 'no reference', references)}; give --missing count-as-zero to count a reference "
            "without a report as an empty one"
        )
    if not set(found) & set(wanted):
        raise DataError("no name of a report is that of a reference", source=predictions)
    names = sorted(wanted)
    who, known, notes = patients_for(names, patients)
    more = [f"{len(lost)} references have no report: each counts as an empty one"] if lost else []
    more += [f"{len(extra)} reports have no reference and were left out"] if extra else []
    made = report_system(
        Cases(tuple(names), tuple(who), known, (*notes, *more)),
        [_text(wanted[n]) for n in names],
        [_text(found[n]) if n in found else "" for n in names],
    )
    digest = hashlib.sha256("\n".join(_text(wanted[n]) for n in names).encode()).hexdigest()
    return System(**{**vars(made), "inputs": {"references": digest}})


def _texts(folder: Path) -> dict[str, Path]:
    return {p.stem: p for p in sorted(folder.iterdir()) if p.suffix.lower() == ".txt" and not p.name.startswith(".")}


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise DataError("not a text in UTF-8", source=file) from error
    except OSError as error:
        raise explain_os_error(error, file, doing="read") from error


_CLAIMS: tuple[tuple[str, Callable[[ReportAgreement], float]], ...] = (
    ("claim F1", lambda a: a.f1),
    ("positive claim F1", lambda a: a.positive_f1),
    ("finding F1", lambda a: a.finding_f1),
    ("claim precision", lambda a: a.precision),
    ("claim recall", lambda a: a.recall),
    ("side agreement", lambda a: a.side_agreement),
    ("grade agreement", lambda a: a.grade_agreement),
)


def report_system(cases: Cases, references: Sequence[str], reports: Sequence[str]) -> System:
    """Return the system of a report for each case.

    Args:
        cases: Which cases.
        references: The reports taken as true.
        reports: The reports that are judged; an empty one claims nothing.

    Raises:
        DataError: A reference is empty.
    """
    empty = [n for n, text in enumerate(references, start=1) if not text.strip()]
    if empty:
        raise DataError(f"the reference of case {empty[0]} is empty: there is nothing to compare with")
    found = [report_agreement(a, b) for a, b in zip(references, reports, strict=True)]
    measures = [mean_measure(name, "", [value(a) for a in found]) for name, value in _CLAIMS]
    contradicted = np.array([float(len(a.contradicted)) for a in found])
    wrong = np.array([float(len(a.wrong_side)) for a in found])
    measures += [
        mean_measure("contradicted findings in a report", "", contradicted, higher_is_better=False),
        mean_measure("findings on the wrong side in a report", "", wrong, higher_is_better=False),
        mean_measure(
            "sentence BLEU", "", [sentence_bleu(a, b) / 100 for a, b in zip(references, reports, strict=True)]
        ),
        mean_measure("ROUGE-1", "", [rouge_n(a, b).f1 for a, b in zip(references, reports, strict=True)]),
        mean_measure("ROUGE-L", "", [rouge_l(a, b).f1 for a, b in zip(references, reports, strict=True)]),
    ]
    # A side that is wrong is the gravest thing a report can say, then what it contradicts.
    bad = np.array([1 - a.f1 for a in found]) + contradicted + 2 * wrong
    silent = sum(not a.reference for a in found)
    whole = bleu(references, reports) / 100
    notes = [
        *cases.notes,
        _NOTE,
        f"BLEU over all reports together: {whole:.3f}, without an interval",
    ]
    if silent:
        notes.append(
            f"no claim was found in {silent} of {len(found)} references: a report without one counts as 1 there"
        )
    rows = [
        {"number": n, "case": case, "patient": patient}
        | {m.name: float(m.values[n - 1]) for m in measures if m.values is not None}
        | {"note": _said(agreement)}
        for n, (case, patient, agreement) in enumerate(zip(cases.names, cases.patients, found, strict=True), start=1)
    ]
    return System(
        "reports", cases.names, cases.patients, cases.known, tuple(measures), tuple(rows), bad, notes=tuple(notes)
    )


def _said(agreement: ReportAgreement) -> str:
    said = [f"contradicted: {', '.join(agreement.contradicted)}"] if agreement.contradicted else []
    said += [f"wrong side: {', '.join(agreement.wrong_side)}"] if agreement.wrong_side else []
    return "; ".join(said)
