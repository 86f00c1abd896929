"""Studies that are arriving: each instance is looked at as it lands, and what is wrong is told at once.

The watch reads the ledger, which the workflow fills, and the held instances; it changes neither. What it knows it knows
in memory only: killed and started again, it reads the instances of the studies that are arriving once more, and tells
no alert twice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlalchemy import select

from isocenter.clinic.arrival.expect import Expected, stated_of
from isocenter.clinic.arrival.series import Alert, Patience, Series
from isocenter.clinic.arrival.warm import FolderMemo, arrival_folder
from isocenter.clinic.dimse.holding import place_of
from isocenter.clinic.workflow.ledger import ARRIVING, COMPLETE, FAILED, WORKING, Ledger, StudyState
from isocenter.clinic.workflow.tables import INSTANCES
from isocenter.clinic.workflow.told import told_of
from isocenter.core.errors import DataError
from isocenter.core.memo import remembering
from isocenter.data.images.dicom.header import Header, read_dataset, scan, whole_header
from isocenter.data.images.dicom.plane import needs_dataset, planes_of

__all__ = ["ArrivingStudy", "Watch", "WatchSettings"]

_LOG = logging.getLogger(__name__)
_MARGIN_S = 10.0
_AT_ONCE = 200
_SHARE = 10.0
Teller = Callable[[str, str, str], None]


@dataclass(frozen=True)
class WatchSettings:
    """How studies are watched.

    Args:
        store: The node's folder.
        patience: How long a gap may stand.
        expected: What is expected of studies.
        pixels: Whether pixels are looked at as they land.
        ignored: Codes of checks that nobody is to be told of.
        memo_bytes: Most that is kept of one study's decoded pixels and answers.
        reserve_bytes: Room on the disk that is left to what is received.
    """

    store: Path
    patience: Patience = field(default_factory=Patience)
    expected: Expected = field(default_factory=Expected)
    pixels: bool = True
    ignored: tuple[str, ...] = ()
    memo_bytes: int = 4 << 30
    reserve_bytes: int = 512 << 20


@dataclass(eq=False)
class ArrivingStudy:
    """A study that is arriving, as far as it was looked at.

    Args:
        study: Study Instance UID.
        version: Grows when more arrives after an answer.
        series: Its series, by UID.
        sops: Its instances.
        since: When the last instance that was looked at landed.
        began: When the first one did.
    """

    study: str
    version: int
    series: dict[str, Series] = field(default_factory=dict)
    sops: set[str] = field(default_factory=set)
    since: float = 0.0
    began: float = 0.0
    patients: set[tuple[str, str]] = field(default_factory=set, repr=False)
    told: set[str] = field(default_factory=set)
    next_looks: dict[str, float] = field(default_factory=dict)

    @property
    def patients_mixed(self) -> bool:
        """Whether its instances are of more than one patient."""
        return len(self.patients) > 1


class Watch:
    """Looks at what has landed.

    Args:
        settings: How.
        ledger: Of the node.
        tell: Told of each alert: code, study, line.
        clock: Returns the time, in seconds of the epoch.
    """

    def __init__(
        self, settings: WatchSettings, ledger: Ledger, tell: Teller, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings, self._ledger, self._tell, self._clock = settings, ledger, tell, clock
        self.studies: dict[str, ArrivingStudy] = {}

    def take_up(self) -> None:
        """Look at what was received before this process began: what is complete by now is told of as such."""
        for state in (*self._ledger.in_state(COMPLETE), *self._ledger.in_state(WORKING)):
            self._follow(self.studies.setdefault(state.study, ArrivingStudy(state.study, state.version)), state)

    def turn(self) -> bool:
        """Look at what is new; return whether there may be more at once."""
        arriving = {state.study: state for state in self._ledger.in_state(ARRIVING)}
        more = False
        for study, state in arriving.items():
            known = self.studies.get(study)
            if known is None or known.version != state.version:
                known = self.studies[study] = ArrivingStudy(study, state.version)
            more |= self._follow(known, state)
        for study in self.studies.keys() - arriving.keys():
            self._finish(self.studies.pop(study))
        return more

    def _follow(self, known: ArrivingStudy, state: StudyState) -> bool:
        new = self._landed(known, state)
        with remembering(self.memo(known.study)):
            for row in new[:_AT_ONCE]:
                self._take(known, row)
        for series in known.series.values():
            # A series of ten thousand slices takes its time: it is looked at the less often.
            now, begun = self._clock(), time.monotonic()
            if now >= known.next_looks.get(series.uid, 0.0):
                self._alert(known, series.look(now))
                known.next_looks[series.uid] = now + _SHARE * (time.monotonic() - begun)
        return len(new) > _AT_ONCE

    def _landed(self, known: ArrivingStudy, state: StudyState) -> list[dict[str, Any]]:
        """Return the instances that were not looked at, in the order in which they came."""
        if len(known.sops) >= state.instances:
            return []
        wanted = (INSTANCES.c.study == known.study) & (INSTANCES.c.at >= known.since - _MARGIN_S)
        with self._ledger.engine.connect() as connection:
            rows = connection.execute(select(INSTANCES).where(wanted).order_by(INSTANCES.c.at, INSTANCES.c.sop)).all()
        new = [dict(row._mapping) for row in rows if row.sop not in known.sops]
        if not new and state.instances > len(known.sops):
            known.since = 0.0  # a journal was read late; look at all of them next time
        return new

    def memo(self, study: str) -> FolderMemo:
        """Return where arrays of a study are kept while it arrives."""
        settings = self._settings
        return FolderMemo(arrival_folder(settings.store, study) / "memo", settings.memo_bytes, settings.reserve_bytes)

    def _take(self, known: ArrivingStudy, row: dict[str, Any]) -> None:
        """Look at one instance."""
        known.sops.add(row["sop"])
        known.since, known.began = max(known.since, row["at"]), known.began or row["at"]
        file = place_of(self._settings.store, known.study, row["sop"])
        try:
            header = scan(file, "an instance")
            header = replace(header, name=_called(header))
            self._patient(known, header.text("IssuerOfPatientID"), header.text("PatientID"))
            if not header.has_pixels:
                return
            dataset = None
            if self._settings.expected.expectations or needs_dataset(header):
                with whole_header(header.name):
                    dataset = read_dataset(file, name=header.name)
                    stated = stated_of(dataset)
                self._alert(known, self._settings.expected.contradicted(row["series"], stated))
            planes = planes_of(header, dataset if needs_dataset(header) else None)
            series = known.series.get(row["series"])
            if series is None:
                settings = self._settings
                series = known.series[row["series"]] = Series(row["series"], settings.patience, settings.pixels)
            self._alert(known, series.add(planes, row["at"]))
        except OSError:
            _LOG.warning("an instance of a study that is arriving can't be opened")
        except DataError as error:
            self._alert(known, [Alert("unreadable", row["series"], str(error))])

    def _patient(self, known: ArrivingStudy, issuer: str, patient: str) -> None:
        known.patients.add((issuer, patient))
        if len(known.patients) > 1:
            what = f"instances of {len(known.patients)} patients in one study; nothing will be answered for any"
            self._alert(known, [Alert("mixed-patients", "", what)])

    def _finish(self, known: ArrivingStudy) -> None:
        """Say what is certain now that the study is complete."""
        state = self._ledger.study(known.study)
        if state is None or state.version != known.version or state.state == FAILED:
            return
        self._follow_last(known, state)
        for series in known.series.values():
            self._alert(known, series.look(self._clock(), ended=True))
        with self._ledger.engine.connect() as connection:
            told = told_of(connection, [known.study]).get(known.study)
        came = state.instances if told is None or told.here is None else told.here
        if told is not None and told.ended and came < told.expected:
            what = f"the scanner made {told.expected} images, and {came} came"
            self._alert(known, [Alert("count", "", what)])

    def _follow_last(self, known: ArrivingStudy, state: StudyState) -> None:
        with remembering(self.memo(known.study)):
            for row in self._landed(known, state):
                self._take(known, row)

    def _alert(self, known: ArrivingStudy, alerts: Sequence[Alert]) -> None:
        for alert in alerts:
            if alert.code in self._settings.ignored or alert.line in known.told:
                continue
            known.told.add(alert.line)
            if self._ledger.tell_once("alert", known.study, alert.line):
                self._tell("alert", known.study, alert.line)


def _called(header: Header) -> str:
    """Return what a technologist calls an instance by."""
    number = header.float("InstanceNumber")
    return "an image" if number is None else f"image {number:.0f}"
