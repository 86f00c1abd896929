"""A node of the clinic under malformed input: does it crash, hang, grow, lose or let out anything?

    python -m benchmarks.fuzz_node [--minutes 10] [--seed N] [--page docs/results/fuzz.md]

A node is started as its users start it (`isocenter clinic run`), with its entity, its web server and HL7 on loopback.
Then malformed protocol data units, messages, data sets, HL7, HTTP and JSON are thrown at it by several threads, made
from good ones by a seeded generator (`_fuzz_attacks`). All the while good requests are made of it, which must be
answered in time. When the storm is over it is counted: processes, open files, threads, memory, files on their way in;
whether all that was answered with success is held, byte for byte; and what stands in the log.

Not a measure of speed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from benchmarks.__main__ import machine
from benchmarks._fuzz_attacks import ORDER, asked, attacks, spoken
from benchmarks._fuzz_bytes import (
    CALLER,
    CANARY,
    CONTEXTS,
    IMPLICIT,
    TITLE,
    TOKEN,
    VERIFICATION,
    Caller,
    Target,
    body_of,
    command,
    data_unit,
    dataset,
    message,
    pdu,
    store_command,
)
from isocenter.clinic.carried import BROKEN_OFF
from isocenter.clinic.dimse.holding import dataset_sha256, place_of
from isocenter.clinic.dimse.journal import read_lines
from isocenter.clinic.node import STATE_FILE
from isocenter.core.errors import DataError
from isocenter.data.images.dicom.header import Wanted, scan

ROOT = Path(__file__).resolve().parents[1]
BOUND_S = 60.0
"""Longest that a good request may take while the storm goes on: what takes longer hangs. Not a measure of speed."""
LONG = 2.0
"""Minutes from which on an instance of 2 GiB is sent as well."""
_NAME: Wanted = {0x00080018: ("SOPInstanceUID", "text")}
FILES_MORE, THREADS_MORE, MEMORY_MORE_MIB = 24, 48, 128


@dataclass(frozen=True)
class Plan:
    """What is done.

    Args:
        minutes: Of the storm.
        seed: Of everything random; which attack meets which state of the node is up to the scheduler.
        workers: Attackers at one time.
        patience_s: How long the node may take to come to rest after the storm.
    """

    minutes: float = 10.0
    seed: int = 10
    workers: int = 3
    patience_s: float = 300.0


@dataclass(frozen=True)
class State:
    """What a process holds."""

    files: int
    threads: int
    memory_mib: float


@dataclass
class Found:
    """What was counted, and what was wrong."""

    seconds: float = 0.0
    thrown: Counter[str] = field(default_factory=Counter)
    took_s: dict[str, float] = field(default_factory=dict)
    said: Counter[str] = field(default_factory=Counter)
    probes: Counter[str] = field(default_factory=Counter)
    longest_s: dict[str, float] = field(default_factory=dict)
    before: dict[str, State] = field(default_factory=dict)
    after: dict[str, State] = field(default_factory=dict)
    taken: int = 0
    held: int = 0
    acknowledged: int = 0
    messages: int = 0
    huge_mib: int | None = None
    faults: Counter[str] = field(default_factory=Counter)

    @property
    def good(self) -> bool:
        """Whether nothing was wrong."""
        return not self.faults


# ---- the node


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        return int(made.getsockname()[1])


def _config(folder: Path, target: Target) -> Path:
    told = {
        "store": "store", "acceptors": 2, "rules": [], "completeness": {"quiet_s": 2.0},
        "entities": [{"title": TITLE, "port": target.dimse, "callers": [{"title": CALLER, "hosts": ["127.0.0.1"]}]}],
        "web": {"port": target.web, "token": {"env": "FUZZ_TOKEN"}, "upload_mb": 64},
        "hl7": {"listen": {"port": target.hl7}},
        "limits": {"instance_mb": 64, "reserve_mb": 64},
        "arrival": {"provisional": False},
    }  # fmt: skip
    file = folder / "clinic.yaml"
    file.write_text(yaml.safe_dump(told))
    return file


@contextmanager
def node(folder: Path, target: Target) -> Iterator[subprocess.Popen[bytes]]:
    """Run a node; its log is node.log in the folder."""
    paths = [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "FUZZ_TOKEN": TOKEN, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    config = _config(folder, target)
    with (folder / "node.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "isocenter.cli", "clinic", "run", str(config)], stdout=log, stderr=log, env=env
        )
    try:
        _wait(lambda: process.poll() is not None or _ready(target), 120)
        if process.poll() is not None or not _ready(target):
            raise SystemExit(f"the node did not start:\n{(folder / 'node.log').read_text()[-3000:]}")
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _ready(target: Target) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", target.hl7), 2):
            pass
        return httpx.get(f"http://127.0.0.1:{target.web}/ready", timeout=5).status_code == 200
    except (httpx.HTTPError, OSError):
        return False


def _wait(what: Callable[[], bool], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if what():
            return True
        time.sleep(0.3)
    return what()


def _processes(folder: Path) -> dict[str, int]:
    """Return the numbers of the node's processes by name."""
    pids: Mapping[str, list[int]] = json.loads((folder / "store" / STATE_FILE).read_text())["pids"]
    return {f"{name} {i + 1}" if len(found) > 1 else name: pid for name, found in pids.items() for i, pid in enumerate(found)}  # fmt: skip  # noqa: E501


def _states(processes: Mapping[str, int]) -> dict[str, State]:
    found = {}
    for name, pid in processes.items():
        with suppress(psutil.NoSuchProcess):
            one = psutil.Process(pid)
            found[name] = State(one.num_fds(), one.num_threads(), round(one.memory_info().rss / 2**20, 1))
    return found


# ---- good requests, all the while


def _echo(target: Target) -> bool:
    with Caller(target) as caller:
        if not caller.associated():
            return False
        caller.send(message(1, command({0x0002: VERIFICATION, 0x0100: 0x30, 0x0110: 1, 0x0800: 0x0101})))
        good = caller.status() == 0
        caller.send(pdu(5, bytes(4)))
        return good and caller.unit() is not None


def _store(target: Target) -> bool:
    sop = target.uid()
    with Caller(target) as caller:
        if not caller.associated([c for c in CONTEXTS if c[0] in (1, 5)]):
            return False
        data = body_of(dataset(target, sop, f"{target.root}.8"), IMPLICIT)
        caller.send(message(5, store_command(sop), data))
        good = caller.status() == 0
        if good:
            target.took(sop, data)
        return good


def _order(target: Target) -> bool:
    control = target.uid().rpartition(".")[2]
    sent = ORDER.format(control=f"G{control}", study=f"{target.root}.8").encode()
    answers = spoken(target, b"\x0b" + sent + b"\x1c\r", BOUND_S)
    good = any(f"MSA|AA|G{control}".encode() in one for one in answers)
    if good:
        target.heard(sent)
    return good


def _health(target: Target) -> bool:
    answer = asked(target, "GET", "/health", token=False)
    return answer is not None and answer.status_code == 200


def _query(target: Target) -> bool:
    answer = asked(target, "GET", f"/dicomweb/studies/{target.root}.8/instances?limit=3")
    return answer is not None and answer.status_code == 200 and bool(answer.json())


PROBES: Mapping[str, Callable[[Target], bool]] = {
    "C-ECHO": _echo, "C-STORE": _store, "HL7 order": _order, "GET /health": _health, "QIDO": _query,
}  # fmt: skip


def _probe(target: Target, found: Found, stop: threading.Event, processes: Mapping[str, int]) -> None:
    while not stop.is_set():
        for name, good in PROBES.items():
            began = time.monotonic()
            try:
                fine = good(target)
            except (OSError, ValueError) as error:
                found.faults[f"{name} failed while the storm went on ({type(error).__name__})"] += 1
                continue
            took = time.monotonic() - began
            found.probes[name] += 1
            found.longest_s[name] = max(found.longest_s.get(name, 0.0), took)
            if not fine:
                found.faults[f"{name} was not answered with success while the storm went on"] += 1
            elif took > BOUND_S:
                found.faults[f"{name} took longer than {BOUND_S:.0f} s"] += 1
        for name, pid in processes.items():
            if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                found.faults[f"the process {name} died"] = 1
        stop.wait(0.4)


# ---- the storm


def _storm(target: Target, found: Found, plan: Plan, number: int, until: float) -> None:
    chance = random.Random(plan.seed * 1000 + number)
    answer = asked(target, "GET", "/node/v1/openapi.json")
    told = {} if answer is None else answer.json().get("paths", {})
    paths = [(method.upper(), path) for path, methods in told.items() for method in methods]
    paths += [("GET", "/dicomweb/nothing"), ("PATCH", "/dicomweb/studies"), ("GET", "/node/v1/openapi.json")]
    todo = list(attacks(paths).items())
    turn = number * 3
    while time.monotonic() < until:
        name, attack = todo[turn % len(todo)]
        turn += 1
        found.thrown[name] += 1
        began = time.monotonic()
        try:
            attack(target, chance)
        except ConnectionRefusedError:
            found.faults[f"nobody listened any more ({name})"] += 1
            time.sleep(0.5)
        except OSError:
            target.say(f"{name}: the line was cut")
        except Exception as error:  # noqa: BLE001  # an attacker that ends by itself must not look like peace
            target.err(f"the attack itself failed: {name} ({type(error).__name__}: {error})")
        found.took_s[name] = found.took_s.get(name, 0.0) + time.monotonic() - began


def run(plan: Plan, folder: Path) -> Found:
    """Do it, and count.

    Args:
        plan: What.
        folder: Of the node's store and log; empty.
    """
    with warnings.catch_warnings():
        # What pydicom says in this process of data sets that are wrong on purpose is no finding.
        warnings.simplefilter("ignore")
        return _run(plan, folder)


def _run(plan: Plan, folder: Path) -> Found:
    folder.mkdir(parents=True, exist_ok=True)
    root = f"1.2.826.0.1.{random.Random(plan.seed).randrange(10**6, 10**7)}"
    target, found = Target(free_port(), free_port(), free_port(), root), Found()
    with node(folder, target) as process:
        processes = _processes(folder)
        for good in PROBES.values():
            _wait(lambda good=good: good(target), BOUND_S)  # type: ignore[misc]
        began = time.monotonic()
        # What is imported and opened once is no growth: states are taken when everything was used a little.
        _together(target, found, plan, processes, time.monotonic() + min(20.0, plan.minutes * 60 / 3))
        found.before = _rested(processes, folder, None, plan.patience_s)
        _together(target, found, plan, processes, began + plan.minutes * 60)
        found.seconds = round(time.monotonic() - began, 1)
        found.after = _rested(processes, folder, found.before, plan.patience_s)
        _grown(found)
        if _processes(folder) != processes:
            found.faults["a process was started again"] += 1
        left = list((folder / "store" / "spool").iterdir())
        if left:
            found.faults["files on their way in were left behind"] = len(left)
        _probe_once(target, found)
        if plan.minutes >= LONG:
            _huge(target, found, processes)
        process.send_signal(signal.SIGTERM)
        if process.wait(60) != 0:
            found.faults["the node did not end well"] += 1
    _check_held(target, found, folder / "store")
    _check_log(found, folder / "node.log")
    found.said, found.faults = target.said + found.said, found.faults + target.wrong
    return found


def _huge(target: Target, found: Found, processes: Mapping[str, int]) -> None:
    """Send an instance of 2 GiB, where 64 MiB are taken: it is refused, and takes no memory on its way."""
    # Of those who receive it; the others may still be at work on what came before.
    processes = {name: pid for name, pid in processes.items() if name.startswith("acceptors")}
    before, most, piece = _states(processes), Counter[str](), data_unit(3, 0, bytes((1 << 18) - 6))
    with Caller(target) as caller:
        if not caller.associated():
            found.faults["a well-formed association was not accepted after the storm"] += 1
            return
        caller.line.settimeout(60)
        caller.send(data_unit(3, 3, store_command(target.uid())))
        for number in range(1 << 13):
            caller.send(piece)
            if number % 1000 == 0:
                most |= Counter({name: int(one.memory_mib) for name, one in _states(processes).items()})
        caller.send(data_unit(3, 2, b""))
        status = caller.status(60)
    found.huge_mib = max(most[name] - int(before[name].memory_mib) for name in most)
    if status != 0xA700:
        found.faults["an instance of 2 GiB was not refused with A700"] += 1
    if found.huge_mib > MEMORY_MORE_MIB:
        found.faults["an instance of 2 GiB took memory"] += 1


def _probe_once(target: Target, found: Found) -> None:
    for name, good in PROBES.items():
        if not good(target):
            found.faults[f"{name} was not answered with success after the storm"] += 1


def _together(target: Target, found: Found, plan: Plan, processes: Mapping[str, int], until: float) -> None:
    stop = threading.Event()
    probing = threading.Thread(target=_probe, args=(target, found, stop, processes))
    storm = [
        threading.Thread(target=_storm, args=(target, found, plan, number, until)) for number in range(plan.workers)
    ]
    for thread in (probing, *storm):
        thread.start()
    for thread in storm:
        thread.join()
    stop.set()
    probing.join()


def _rested(
    processes: Mapping[str, int], folder: Path, before: Mapping[str, State] | None, patience_s: float
) -> dict[str, State]:
    """Return what the processes hold when they have come to rest, or patience is at its end."""

    def rests() -> bool:
        now = _states(processes)
        if any((folder / "store" / "spool").iterdir()) or _busy(processes):
            return False
        return before is None or not any(_more(before[name], now[name]) for name in now)

    time.sleep(1)
    _wait(rests, patience_s)
    return _states(processes)


def _busy(processes: Mapping[str, int]) -> bool:
    """Tell whether the processes are at work: together at more than a fifth of a processor, for two seconds."""

    def used() -> float:
        total = 0.0
        for pid in processes.values():
            with suppress(psutil.NoSuchProcess):
                told = psutil.Process(pid).cpu_times()
                total += told.user + told.system
        return total

    before = used()
    time.sleep(2)
    return used() - before > 0.4


def _more(before: State, after: State) -> list[str]:
    grown = []
    if after.files > before.files + FILES_MORE:
        grown.append("open files")
    if after.threads > before.threads + THREADS_MORE:
        grown.append("threads")
    if after.memory_mib > before.memory_mib + MEMORY_MORE_MIB:
        grown.append("memory")
    return grown


def _grown(found: Found) -> None:
    for name, before in found.before.items():
        if name not in found.after:
            found.faults[f"the process {name} was gone"] += 1
            continue
        for what in _more(before, found.after[name]):
            found.faults[f"{what} of {name} grew"] += 1


def _check_held(target: Target, found: Found, store: Path) -> None:
    """Compare what was answered with success with what is held."""
    lines: dict[str, dict[str, Any]] = {}
    for journal in sorted((store / "journal").glob("*.jsonl")):
        for _, line in read_lines(journal):
            if not line.get("conflict"):
                lines.setdefault(str(line["sop"]), line)
    for sop, digest in target.taken.items():
        line = lines.get(sop)
        place = None if line is None else place_of(store, str(line["study"]), sop)
        if line is None or place is None or not place.is_file():
            found.faults["an instance that was answered with success is not held"] += 1
        elif digest not in (line["sha256"], dataset_sha256(place)) or line["sha256"] != dataset_sha256(place):
            found.faults["an instance is held with other content than was answered for"] += 1
        else:
            # What a sender wrote into it is held as it came; that it is the one asked for can be read.
            try:
                found.held += scan(place, wanted=_NAME).text("SOPInstanceUID") == sop
            except DataError:
                found.faults["an instance that was answered with success can't be read"] += 1
    inbox = {str(line["sha256"]) for file in store.rglob("messages.jsonl") for _, line in read_lines(file)}
    if found.held < len(target.taken) and not found.faults:
        found.faults["an instance is held under another's name"] = len(target.taken) - found.held
    found.taken, found.acknowledged = len(target.taken), len(target.messages)
    found.messages = len(target.messages & inbox)
    if target.messages - inbox:
        found.faults["an acknowledged message is not on the disk"] = len(target.messages - inbox)


def _check_log(found: Found, log: Path) -> None:
    text = log.read_text("utf-8", "replace")
    signs = {
        "a value of a patient": CANARY, "a trace that nobody caught": "Traceback", "the token": TOKEN,
        "a process that was started again": "started again", "a defect": "a defect of Isocenter",
        "a part of the node that ended by an error": "ends by an error",
        "a part of the node that had to be ended": "does not end by itself",
    }  # fmt: skip
    for what, sign in signs.items():
        count = text.count(sign)
        if count:
            found.faults[f"{what} stands in the log"] = count
    # An answer that can't go on is left unfinished, which the web server remarks as an error of the app.
    broken = text.count(BROKEN_OFF)
    if broken:
        found.said["HTTP: broken off in its middle, as the log says"] = broken
    remarks = 0
    for line in text.splitlines():
        with suppress(ValueError):
            told = json.loads(line)
            remarks += isinstance(told, dict) and told.get("logger") == "uvicorn.error" and told.get("level") == "error"
    if remarks > broken:
        found.faults["an error of the web server stands in the log"] = remarks - broken


# ---- the page


def page(plan: Plan, found: Found, note: str = "") -> str:
    """Return the page of a run, with what is to be noted of its circumstances."""
    minutes = f"{found.seconds / 60:.1f}"
    lines = [
        "# A node under malformed input",
        "",
        "Made by `make fuzz` (`benchmarks/fuzz_node.py`), which anyone can start; not a measure of speed. A minute of",
        "it is a test (`tests/e2e/test_fuzz_node.py`), and so are the OpenAPI documents of node and viewer, asked by",
        "Schemathesis (`tests/contract/test_openapi.py`).",
        "",
        f"{minutes} minutes, seed {plan.seed}, {plan.workers} attackers at one time, {datetime.date.today()},",
        f"{machine()}. The seed fixes what is thrown; what it meets depends on the scheduler.",
        *([note] if note else []),
        "",
        f"**{'Nothing was wrong.' if found.good else 'Not in order:'}**",
        "",
        *[f"- {count} x {what}" for what, count in found.faults.most_common()],
        *([] if found.good else [""]),
        "## Thrown",
        "",
        "| attack | times | seconds each |",
        "| --- | --- | --- |",
        *[f"| {name} | {count:,} | {found.took_s[name] / count:.2f} |" for name, count in found.thrown.items()],
        "",
        "One of `queries` or `workitems` is four requests, of `data sets by C-STORE` up to four instances.",
        "",
        "## Answered",
        "",
        "| answer | times |",
        "| --- | --- |",
        *[f"| {name} | {count:,} |" for name, count in sorted(found.said.items())],
        "",
        f"{found.held:,} of {found.taken:,} instances and {found.messages:,} of {found.acknowledged:,} messages that",
        "were answered with success are held, byte for byte; each instance is read as the one that was sent.",
        "",
        f"## Good requests meanwhile (bound: {BOUND_S:.0f} s)",
        "",
        "| request | times | longest, s |",
        "| --- | --- | --- |",
        *[f"| {name} | {count:,} | {found.longest_s[name]:.2f} |" for name, count in found.probes.items()],
        "",
        "## Growth",
        "",
        "Taken when everything had been used a little, and when the node had come to rest after the storm; bounds:",
        f"{FILES_MORE} files, {THREADS_MORE} threads, {MEMORY_MORE_MIB} MiB more.",
        "",
        "| process | open files | threads | memory, MiB |",
        "| --- | --- | --- | --- |",
        *[
            f"| {name} | {one.files} to {found.after[name].files} | {one.threads} to {found.after[name].threads} "
            f"| {one.memory_mib:.0f} to {found.after[name].memory_mib:.0f} |"
            for name, one in found.before.items()
            if name in found.after
        ],
    ]
    if found.huge_mib is not None:
        lines += [
            "",
            "At last an instance of 2 GiB (64 MiB are taken), to be refused (A700): "
            f"{found.huge_mib} MiB of the acceptor's memory.",
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=10)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--keep", type=Path, help="folder for the node's store and log; else a temporary one")
    parser.add_argument("--note", default="", help="stands on the page, of the circumstances")
    given = parser.parse_args()
    plan = Plan(given.minutes, given.seed)
    with tempfile.TemporaryDirectory() as temporary:
        found = run(plan, given.keep or Path(temporary))
    if given.page:
        given.page.write_text(page(plan, found, given.note), "utf-8")
    print(page(plan, found, given.note))
    print(json.dumps({"name": "fuzz_node", "good": found.good, "seed": plan.seed, "faults": found.faults}))
    sys.exit(0 if found.good else 1)


if __name__ == "__main__":
    main()
