"""Killed at each place that could tell the difference: one answer, one result, one version."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from isocenter.clinic.ports import Outcome, Work, Worked
from isocenter.clinic.workflow.engine import Engine
from postgres_peer import Databases
from unit.clinic.workflow.test_engine import World, dataset, engine, hold, ledger_of, state

PLACES = ("asked", "result written", "answers in the ledger", "delivered", "closed")
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.skipif(sys.platform != "linux", reason="forks"),
]


class Mortal(World):
    """A world in which the process kills itself, once at each place."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def die(self, place: str) -> None:
        mark = self._folder / place.replace(" ", "-")
        if place in PLACES and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def run(self, work: Work) -> Worked:
        self.die("asked")
        worked = super().run(work)
        with (self._folder / "uids").open("a") as stream:
            stream.write(f"{worked.files[0].path.read_bytes().count(b'CHEST')}\n")
        self.die("result written")
        return worked

    def deliver(self, files: Sequence[Path]) -> Sequence[Outcome]:
        found = super().deliver(files)
        with (self._folder / "sent").open("a") as stream:
            stream.writelines(f"{uid}\n" for uid in self.sent)
        self.die("delivered")
        return found

    def notify(self, kind: str, study: str, detail: str) -> None:
        self.die("closed")


def live(folder: Path, databases: Databases) -> None:
    """One life of the process, until all is done or it is killed."""
    world = Mortal(folder)
    with engine(folder / "store", world, databases=databases) as (made, ledger):
        queue = ledger.queue

        def queued(rows):
            found = queue(rows)
            world.die("answers in the ledger")
            return found

        ledger.queue = queued
        until = time.monotonic() + 15
        while time.monotonic() < until:
            made.turn()
            if state(ledger, "1.2.1")[0] == "answered" and ledger.counts().get("delivery delivered") == 1:
                break
            time.sleep(0.02)
        assert isinstance(made, Engine)
    os._exit(0)


@pytest.mark.parametrize("databases", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True)
def test_killed_at_each_place_it_answers_once(databases: Databases, tmp_path: Path) -> None:
    databases.url(tmp_path / "store")  # made once, for all lives
    hold(tmp_path / "store", dataset("1.2.1", 1), dataset("1.2.1", 2))
    context = multiprocessing.get_context("fork")
    ends = []
    for _ in range(len(PLACES) + 2):
        process = context.Process(target=live, args=(tmp_path, databases))
        process.start()
        process.join(40)
        ends.append(process.exitcode)
        if process.exitcode != -signal.SIGKILL:
            break
    assert ends.count(-signal.SIGKILL) == len(PLACES) and ends[-1] == 0, ends
    ledger = ledger_of(tmp_path / "store", databases)
    assert state(ledger, "1.2.1") == ("answered", 1)
    assert len(ledger.answers("1.2.1")) == 1
    assert ledger.counts() == {"answered": 1, "delivery delivered": 1}
    ledger.engine.dispose()
    sent = (tmp_path / "sent").read_text().split()
    assert len(sent) >= 2 and len(set(sent)) == 1, "sent again, and the same"
    assert len((tmp_path / "uids").read_text().split()) >= 3, "steps did run again"
