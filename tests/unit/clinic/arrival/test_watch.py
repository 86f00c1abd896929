"""The watch: what lands is looked at once, alerts are events at once and once, and a restart changes nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom import Dataset

from arrival_cases import body, files_of, land
from isocenter.clinic.arrival import Expectation, Expected, FolderMemo, Patience, Watch, WatchSettings
from isocenter.clinic.arrival.expect import stated_of
from isocenter.clinic.workflow import Completeness, Ledger, open_ledger
from isocenter.core.errors import ConfigError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Node:
    """A store, its ledger, and a watch."""

    def __init__(self, store: Path, expected: Expected | None = None) -> None:
        self.store, self.told, self.clock = store, [], Clock()
        self.clock.now = datetime.now(UTC).timestamp()
        store.mkdir(exist_ok=True)
        made = open_ledger(f"sqlite:///{store / 'ledger.db'}")
        self.ledger = Ledger(made.engine, self.clock)
        self.settings = WatchSettings(store, Patience(5.0), expected or Expected(), reserve_bytes=0)
        self.begin()

    def begin(self) -> None:
        """Begin a watch, as a process that was started again does."""
        self.watch = Watch(self.settings, self.ledger, lambda *told: self.told.append(told), self.clock)
        self.watch.take_up()

    def turn(self) -> None:
        self.ledger.take_in(self.store / "journal")
        self.watch.turn()

    def alerts(self) -> list[str]:
        return [e["detail"] for e in reversed(self.ledger.events()) if e["kind"] == "alert"]


def test_alerts_come_before_the_study_is_complete_and_once(tmp_path: Path) -> None:
    node = Node(tmp_path / "store")
    files = files_of(tmp_path / "in", body((20, 40, 40)), lambda index, one: None if index == 6 else one)
    land(node.store, *files[:12])
    node.turn()
    assert node.alerts() == []
    node.clock.now += 6
    node.turn()
    found = node.alerts()
    assert len(found) == 1
    assert found[0].startswith("missing-slices: series ")
    assert node.told[0][0] == "alert"
    node.begin()
    node.turn()
    node.clock.now += 6
    node.turn()
    assert node.alerts() == found, "a watch that was killed tells nothing twice"
    assert "PHANTOM" not in json.dumps([node.told, node.alerts()]).upper()


def test_what_is_missing_at_the_end_is_told_at_the_end(tmp_path: Path) -> None:
    node = Node(tmp_path / "store")

    def elsewhere(index: int, one: Dataset) -> Dataset:
        if index == 6:
            one.SeriesInstanceUID = "1.2.9"  # what is of another series is not the slice that is missing
        return one

    land(node.store, *files_of(tmp_path / "in", change=elsewhere))
    node.turn()
    assert node.alerts() == []
    node.clock.now += 4
    assert node.ledger.complete(Completeness(quiet_s=1.0))
    steps = node.store / "steps.jsonl"
    at = datetime.now(UTC).isoformat()
    ((study, known),) = node.watch.studies.items()
    (series,) = set(known.series) - {"1.2.9"}
    line = {"step": "9", "status": "COMPLETED", "studies": [study], "series": {series: 14}, "calling": "CT", "at": at}
    steps.write_text(json.dumps(line) + "\n")
    node.ledger.take_in_steps(steps)
    node.turn()
    missing, count = node.alerts()
    assert missing.startswith("missing-slices")
    assert count == "count: the scanner made 14 images, and 13 came"
    assert node.watch.studies == {}


def test_two_patients_in_one_study(tmp_path: Path) -> None:
    def other(index: int, one: Dataset) -> Dataset:
        one.PatientID = "SECRET-OTHER" if index == 3 else one.PatientID
        return one

    node = Node(tmp_path / "store")
    land(node.store, *files_of(tmp_path / "in", change=other))
    node.turn()
    assert node.alerts() == ["mixed-patients: instances of 2 patients in one study; nothing will be answered for any"]


def test_what_was_ordered_against_what_arrives(tmp_path: Path) -> None:
    def portal(_index: int, one: Dataset) -> Dataset:
        one.RequestedProcedureDescription = "CT liver, portal venous"
        one.SeriesDescription = "Arterial 1.0"
        one.ContrastBolusAgent = "Iohexol"
        one.ContrastBolusStartTime, one.AcquisitionTime = "235950.0", "000015"
        return one

    expected = Expected(
        (
            Expectation("liver", "liver", ("CT",), ("ABDOMEN", "LIVER"), phase="portal|venous", contrast=True),
            Expectation("liver-delay", "liver", delay_s=(55.0, 85.0), never="arterial"),
            Expectation("brain", "brain", ("MR",), ("BRAIN",)),
        )
    )
    node = Node(tmp_path / "store", expected)
    land(node.store, *files_of(tmp_path / "in", change=portal)[:2])
    node.turn()
    assert [a.split(": ")[0] for a in node.alerts()] == ["wrong-body-part", "wrong-phase", "wrong-phase", "wrong-phase"]
    assert "body part CHEST where ABDOMEN or LIVER is expected (liver)" in node.alerts()[0]
    assert "taken 25 s after the bolus began, where 55 to 85 s are expected (liver-delay)" in " ".join(node.alerts())
    assert "Arterial" not in " ".join(node.alerts()), "texts of headers are not repeated"


def test_what_is_not_stated_contradicts_nothing() -> None:
    expected = Expectation("x", body_parts=("HEAD",), phase="late", delay_s=(1.0, 2.0))
    assert expected.contradicted("1", stated_of(Dataset())) == []
    scout = Dataset()
    scout.ImageType, scout.BodyPartExamined, scout.SeriesDescription = (
        ["ORIGINAL", "PRIMARY", "LOCALIZER"],
        "CHEST",
        "x",
    )
    assert expected.contradicted("1", stated_of(scout)) == []
    with pytest.raises(ConfigError, match="no regular expression"):
        Expectation("x", order="(")


def test_a_broken_instance_is_told_and_others_are_looked_at(tmp_path: Path) -> None:
    def cut(index: int, one: Dataset) -> Dataset:
        if index == 3:
            one.PixelData = one.PixelData[:100]
        return one

    node = Node(tmp_path / "store")
    land(node.store, *files_of(tmp_path / "in", change=cut))
    node.turn()
    (study,) = node.watch.studies.values()
    assert len(study.sops) == 14
    assert sum(len(series.planes) for series in study.series.values()) >= 13


def test_frames_are_decoded_once_for_all(tmp_path: Path) -> None:
    node = Node(tmp_path / "store")
    files = files_of(tmp_path / "in", transfer_syntax_uid="1.2.840.10008.1.2.4.90")
    land(node.store, *files)
    node.turn()
    (study,) = node.watch.studies
    memo = node.watch.memo(study)
    assert isinstance(memo, FolderMemo)
    assert len(list(memo.folder.iterdir())) == len(files)
