"""Labels of real reports, and the sample that the CheXpert labeler comes with."""

from __future__ import annotations

import csv
import tarfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

from isocenter.evaluate.report_labels import CHEXPERT, chexpert_labels, label_report
from isocenter.verbs.label import label_reports

pytestmark = pytest.mark.real


def test_the_sample_of_the_chexpert_labeler(shared_data: Path) -> None:
    folder = shared_data / "reports_labelers" / "chexpert_labeler"
    with (folder / "labeled_reports.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    for row in rows:
        found = chexpert_labels(label_report(row["Reports"]))
        assert found == {name: int(float(row[name])) if row[name] else None for name in CHEXPERT}


def test_whole_reports_with_their_headings(shared_data: Path, tmp_path: Path) -> None:
    """Indication and comparison are not read, whatever they hold; every place holds the words of its finding."""
    texts = {}
    with tarfile.open(next((shared_data / "reports_iu_xray").glob("*.tgz"))) as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.name.endswith(".xml") else None
            if stream is not None and len(texts) < 300:
                parts = ElementTree.parse(stream).getroot().iter("AbstractText")
                lines = [f"{p.get('Label')}: {p.text or ''}" for p in parts]
                texts[Path(member.name).stem] = "\n".join(lines)
    for name, text in texts.items():
        (tmp_path / f"{name}.txt").write_text(text, "utf-8")
    found = label_reports(tmp_path)
    # A few hold nothing but an indication.
    assert found.labelled >= 290 and set(found.outcomes) <= {"labelled", "nothing to read"}
    for entry in found.reports:
        assert set(entry.read) <= {"findings", "impression"}
        assert entry.foreign_sentences == 0
        for finding in entry.findings:
            assert all(texts[entry.report][s.start : s.end].split() == s.words.split() for s in finding.spans)
            assert finding.spans
