"""The supervisor: what dies is started again, a store has one node, it ends in order; and a quick fault run."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from benchmarks.node_faults import Plan, run

from isocenter.clinic.children import StoreLock
from isocenter.clinic.dimse import LocalEntity, Reception
from isocenter.clinic.dimse.holding import HINDERED
from isocenter.clinic.node import STATE_FILE, Node, Part, receiving_since
from isocenter.core.errors import ConfigError
from postgres_peer import server

pytestmark = pytest.mark.enable_socket


def beat(file: Path, stopped: Callable[[], bool]) -> None:
    """A part that says that it lives."""
    with file.open("a") as stream:
        stream.write(f"{os.getpid()}\n")
    while not stopped():
        time.sleep(0.02)
    with file.open("a") as stream:
        stream.write("ended\n")


def wait(what: Callable[[], object], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.05)


def test_a_node_starts_again_what_dies_and_ends_in_order(tmp_path: Path) -> None:
    store, beats = tmp_path / "store", tmp_path / "beats"
    reception = Reception((LocalEntity("NODE", port=0),), store, ("1.2.3.4", "TEST"))
    with Node(reception, (Part("beat", functools.partial(beat, beats)),), acceptors=1) as node:
        assert node.ports["NODE"] > 0 and (store / STATE_FILE).is_file()
        wait(lambda: beats.is_file() and beats.read_text())
        with pytest.raises(ConfigError, match="another node"):
            StoreLock(store).alone(patience_s=0.1)
        wait(lambda: (store / HINDERED).is_file())
        began, before = receiving_since(store, 0.0), node.pids
        os.kill(before["beat"][0], signal.SIGKILL)
        wait(lambda: node.watch() == 1)
        assert receiving_since(store, 0.0) == began, "receiving went on"
        os.kill(before["acceptors"][0], signal.SIGKILL)
        wait(lambda: node.watch() == 1)
        assert receiving_since(store, 0.0) > began
        wait(lambda: len(beats.read_text().splitlines()) == 2)
        assert set(map(str, before["beat"] + node.pids["beat"])) == set(beats.read_text().splitlines())
    assert beats.read_text().splitlines()[-1] == "ended"
    assert not (store / STATE_FILE).exists() and receiving_since(tmp_path, 7.0) == 7.0
    lock = StoreLock(store)
    assert lock.is_free()
    lock.release()


def give_up(file: Path, error: type[BaseException], _stopped: Callable[[], bool]) -> None:
    """A part that ends by an error, while a thread of it still tries."""
    with file.open("a") as stream:
        stream.write(f"{os.getpid()}\n")
    threading.Thread(target=time.sleep, args=(60,)).start()
    raise error(1)


def test_a_part_that_ends_by_an_error_waits_for_no_thread(tmp_path: Path) -> None:
    lives = [tmp_path / "told", tmp_path / "untold"]
    reception = Reception((LocalEntity("NODE", port=0),), tmp_path / "store", ("1.2.3.4", "TEST"))
    errors = (SystemExit, OSError)  # a part of the clinic's has told of its error already
    parts = tuple(Part(f.name, functools.partial(give_up, f, e)) for f, e in zip(lives, errors, strict=True))
    with Node(reception, parts, acceptors=1) as node:
        again = 0
        for _ in range(400):
            again += node.watch()
            if again >= 2 and all(len(file.read_text().splitlines()) >= 2 for file in lives):
                break
            time.sleep(0.05)
        assert all(len(file.read_text().splitlines()) >= 2 for file in lives)


def test_parts_have_names_of_their_own(tmp_path: Path) -> None:
    part = Part("one", functools.partial(beat, tmp_path))
    with pytest.raises(ConfigError, match="one name"):
        Node(Reception((LocalEntity("NODE", port=0),), tmp_path, ("1.2.3.4", "TEST")), (part, part))


# pynetdicom's sockets of associations that were cut are closed by the garbage collector.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.skipif(sys.platform != "linux", reason="a small disk is mounted, and processes are killed, as Linux does")
def test_killed_starved_and_cut_off_it_answers_each_study_once(tmp_path: Path) -> None:
    figures = run(Plan.quick(), tmp_path)
    assert figures.good, f"{figures}\n{(tmp_path / 'node.log').read_text()[-3000:]}"
    assert sum(figures.kills.values()) == 3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.skipif(sys.platform != "linux", reason="a small disk is mounted, and processes are killed, as Linux does")
def test_a_database_that_crashes_too_costs_no_study(tmp_path: Path) -> None:
    with server() as own:
        figures = run(Plan.quick(), tmp_path, own)
    assert figures.good, f"{figures}\n{(tmp_path / 'node.log').read_text()[-3000:]}"
