"""Claims that the rules read in real reports, against findings that people marked in them."""

from __future__ import annotations

import csv
import tarfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

from isocenter.evaluate.report_findings import read_claims

pytestmark = pytest.mark.real

NAMES = {
    "Atelectasis": "atelectasis",
    "Cardiomegaly": "cardiomegaly",
    "Effusion": "pleural effusion",
    "Infiltration": "infiltrate",
    "Mass": "mass",
    "Nodule": "nodule|calcified nodule",
    "Pneumonia": "pneumonia",
    "Pneumothorax": "pneumothorax",
    "Consolidation": "consolidation",
    "Edema": "pulmonary edema",
    "Emphysema": "emphysema",
    "Fibrosis": "fibrosis",
    "Pleural_Thickening": "pleural thickening",
}


def test_claims_against_marked_findings(shared_data: Path) -> None:
    """The words were chosen with these reports in view: the figure says that they are read, not how others are."""
    folder = shared_data / "reports_iu_xray"
    reports = {}
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.name.endswith(".xml") else None
            if stream is not None:
                parts = {p.get("Label"): p.text or "" for p in ElementTree.parse(stream).getroot().iter("AbstractText")}
                text = f"{parts.get('FINDINGS', '')}\n\n{parts.get('IMPRESSION', '')}"
                reports[f"CXR{Path(member.name).stem}"] = {
                    c.finding for c in read_claims(text) if c.status == "present"
                }
    right = invented = missed = 0
    with (folder / "findings_labels_14.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for column, finding in NAMES.items():
                marked, read = row[column] == "1", not reports[row["filename"]].isdisjoint(finding.split("|"))
                right += marked and read
                invented += read and not marked
                missed += marked and not read
    assert right + missed > 500
    assert right / (right + missed) > 0.87
    assert right / (right + invented) > 0.92
