"""A row for each region: what `isocenter prognose` and `isocenter treat` take as a block of features.

The heading states units in brackets as UCUM writes them. A patient is named as whoever asked named it, else by the
study's pseudonym; a date stands in it only where a patient was named: that file is no longer free of identity.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import date

from isocenter.verbs.phenotyping.document import PhenotypeDocument, RegionEntry

__all__ = ["feature_rows"]


def feature_rows(document: PhenotypeDocument, *, patient: str | None = None, acquired: date | None = None) -> str:
    """Write CSV: patient, region, then a column for each feature, measurement and number of an encoder.

    Args:
        document: What was found.
        patient: What the patient is called; None takes the study's pseudonym.
        acquired: When the image was made; written only of a patient that is named.
    """
    cells = [_cells(region) for region in document.regions]
    headings = list(dict.fromkeys(h for row in cells for h in row))
    dated = patient is not None and acquired is not None
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["patient", "region", *(["acquired"] if dated else []), "made", *headings])
    for region, row in zip(document.regions, cells, strict=True):
        head: Sequence[str] = [patient or document.study.patient_key, region.segment.label]
        day = [acquired.isoformat()] if dated and acquired is not None else []
        made = "synthetic" if document.synthetic else "measured"
        writer.writerow([*head, *day, made, *(row.get(h, "") for h in headings)])
    return stream.getvalue()


def _cells(region: RegionEntry) -> dict[str, str]:
    found = {_heading(f.tag, f.unit): "" if f.value is None else repr(f.value) for f in region.features}
    for m in region.measurements:
        name = f"{m.name.meaning}, {m.derivation.meaning}" if m.derivation else m.name.meaning
        found[_heading(name, m.unit.value)] = repr(m.value)
    if region.learned is not None:
        found |= {f"{region.learned.encoder}_{n}": repr(v) for n, v in enumerate(region.learned.vector)}
    return found


def _heading(name: str, unit: str) -> str:
    return name if unit in ("", "1") else f"{name} [{unit}]"
