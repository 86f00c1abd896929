"""How many instances a second does the node receive and durably store, against Orthanc and storescp?

    python -m benchmarks.cstore [--quick]

Ours: `isocenter clinic run` as a site runs it, two acceptors, its workflow beside them on the same cores; an instance
is on the disk (fsync of the file and its folder) and in the journal before it is answered. No rule, so that nothing is
computed. Peers: Orthanc as Debian has it, storage flushed (`SyncStorageArea`, its default), started empty for each
run; and dcmtk's `storescp --fork`, which writes files and neither flushes nor indexes them.
The sender is dcmtk's `storescu`, one process for each association, with TCP_NODELAY=1 on both ends, without which every
small file waits 40 ms. Every instance must be held once by whoever received it, or the benchmark fails.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.__main__ import machine
from benchmarks._dcmtk import ENVIRONMENT, dcmtk
from benchmarks._dcmtk import version as dcmtk_version
from benchmarks.ingest import _get, _when_ready, write

_PAGE = Path(__file__).resolve().parents[1] / "docs" / "results" / "cstore.md"
_TITLE = "ISOCENTER"
_CASES = (
    ("64 x 64, one association", 64, 4000, 1),
    ("64 x 64, four associations", 64, 4000, 4),
    ("512 x 512, one association", 512, 1000, 1),
    ("512 x 512, four associations", 512, 1000, 4),
)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        return int(made.getsockname()[1])


def spread(folder: Path, count: int) -> list[Path]:
    """Spread files over as many folders as there are senders."""
    files, folders = sorted(folder.rglob("*.dcm")), [folder / f"part{n}" for n in range(count)]
    for number, part in enumerate(folders):
        part.mkdir()
        for file in files[number::count]:
            file.rename(part / file.name)
    return folders


def send(port: int, folders: list[Path]) -> float:
    """Send each folder over an association of its own, all at once; return the seconds it took."""
    began = time.perf_counter()
    command = [dcmtk("storescu"), "-aet", "SCANNER", "-aec", _TITLE, "+sd", "+r", "-xe", "127.0.0.1", str(port)]
    senders = [
        subprocess.Popen([*command, str(folder)], env=ENVIRONMENT, stdout=subprocess.DEVNULL) for folder in folders
    ]
    ends = [sender.wait() for sender in senders]
    if any(ends):
        raise SystemExit("a sender was not answered with success")
    return time.perf_counter() - began


@contextmanager
def node(scratch: Path) -> Iterator[tuple[int, Path]]:
    """Run our node; its port and its store."""
    store = scratch / "store"
    callers = "[{title: SCANNER}]"
    settings = f"store: {store}\nacceptors: 2\nentities:\n  - {{title: {_TITLE}, port: 0, callers: {callers}}}\n"
    (scratch / "clinic.yaml").write_text(settings, "utf-8")
    command = [sys.executable, "-m", "isocenter.cli", "clinic", "run", str(scratch / "clinic.yaml")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            for line in process.stdout or ():
                found = re.search(rf"{_TITLE} (\d+)", line)
                if found:
                    break
            else:
                raise SystemExit("the node did not start")
            time.sleep(5.0)  # its processes import what they need
            yield int(found.group(1)), store
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def ours(scratch: Path, folders: list[Path], count: int) -> tuple[float, dict[str, float]]:
    """Return seconds, and the peak memory (MiB) of each kind of process."""
    with node(scratch) as (port, store):
        took = send(port, folders)
        held = sum(1 for _ in (store / "held").rglob("*.dcm"))
        pids: dict[str, list[int]] = json.loads((store / "node.json").read_text("utf-8"))["pids"]
        peaks = {kind: max(_peak(pid) for pid in of) for kind, of in pids.items()}
    if held != count:
        raise SystemExit(f"the node holds {held} of {count} instances")
    return took, peaks


def _peak(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def orthanc(scratch: Path, folders: list[Path], count: int) -> tuple[float, str]:
    """Return seconds, and the version."""
    web, dicom = free_port(), free_port()
    settings = {
        "StorageDirectory": str(scratch / "db"), "IndexDirectory": str(scratch / "db"), "HttpPort": web,
        "DicomPort": dicom, "DicomAet": _TITLE, "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
        "DicomAlwaysAllowStore": True, "SyncStorageArea": True,
    }  # fmt: skip
    (scratch / "orthanc.json").write_text(json.dumps(settings), "utf-8")
    command = [str(shutil.which("Orthanc") or shutil.which("orthanc")), str(scratch / "orthanc.json")]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet, env=ENVIRONMENT) as process:
        try:
            version = _when_ready(web, process)
            took = send(dicom, folders)
            held = int(_get(web, "/statistics")["CountInstances"])
        finally:
            process.terminate()
    if held != count:
        raise SystemExit(f"Orthanc holds {held} of {count} instances")
    return took, version


def storescp(scratch: Path, folders: list[Path], count: int) -> float:
    """Return seconds."""
    port = free_port()
    command = [dcmtk("storescp"), "--fork", "-od", str(scratch), "-aet", _TITLE, str(port)]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            for _ in range(200):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            took = send(port, folders)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
    held = sum(1 for file in scratch.iterdir() if file.is_file())
    if held != count:
        raise SystemExit(f"storescp holds {held} of {count} instances")
    return took


def measure(scratch: Path, side: int, count: int, senders: int, repeats: int) -> dict[str, list[float]]:
    """Return instances a second of each, in turn."""
    write(scratch / "in", count, side)
    folders = spread(scratch / "in", senders)
    rates: dict[str, list[float]] = {"ours": [], "orthanc": [], "storescp": []}
    for _ in range(repeats):
        for who in rates:
            place = scratch / who
            place.mkdir()
            if who == "ours":
                took = ours(place, folders, count)[0]
            elif who == "orthanc":
                took = orthanc(place, folders, count)[0]
            else:
                took = storescp(place, folders, count)
            rates[who].append(count / took)
            shutil.rmtree(place)
    shutil.rmtree(scratch / "in")
    return rates


def memory(scratch: Path, sizes: tuple[int, ...]) -> dict[int, tuple[float, dict[str, float]]]:
    """Return, for studies of so many instances, seconds and the peak memory of each kind of process."""
    found = {}
    for size in sizes:
        write(scratch / "in", size, 64, one_study=True)
        (scratch / "node").mkdir()
        found[size] = ours(scratch / "node", [scratch / "in"], size)
        shutil.rmtree(scratch / "in")
        shutil.rmtree(scratch / "node")
    return found


def write_page(rows: list[tuple[str, dict[str, list[float]]]], studies: dict, versions: tuple[str, str]) -> None:
    """Write docs/results/cstore.md."""
    lines = [
        "# Instances received and durably stored",
        "",
        f"`python -m benchmarks.cstore`, {datetime.date.today().isoformat()}, {machine()}; Orthanc {versions[0]},",
        f"{versions[1]}. Sent by storescu on the same cores; each receiver in turn, empty, on the same files; medians",
        "of three runs (least to most). The node runs its workflow beside, and has flushed an instance before it",
        "answers; so has Orthanc; storescp flushes and indexes nothing.",
        "",
        "| what is sent | node, instances/s | Orthanc | storescp | node to Orthanc |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, rates in rows:
        cells = [f"{statistics.median(v):.0f} ({min(v):.0f} to {max(v):.0f})" for v in rates.values()]
        ratio = statistics.median(rates["ours"]) / statistics.median(rates["orthanc"])
        lines.append(f"| {name} | {' | '.join(cells)} | {ratio:.2f} |")
    lines += [
        "",
        "Asked for: 0.8 of Orthanc on one association, 1.2 on four.",
        "",
        "## One study of many instances",
        "",
    ]
    lines += ["| instances | seconds | instances/s | peak memory of a process, MiB |", "| --- | --- | --- | --- |"]
    for size, (took, peaks) in studies.items():
        told = ", ".join(f"{kind} {mib:.0f}" for kind, mib in peaks.items())
        lines.append(f"| {size} | {took:.1f} | {size / took:.0f} | {told} |")
    _PAGE.write_text("\n".join(lines) + "\n", "utf-8")


def main() -> None:
    """Run and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    missing = [p for p in ("storescu", "storescp") if not dcmtk(p)]
    missing += [] if shutil.which("Orthanc") or shutil.which("orthanc") else ["Orthanc"]
    if missing:
        raise SystemExit(f"not installed: {', '.join(missing)} (Debian: dcmtk, orthanc)")
    rows, studies = [], {}
    with tempfile.TemporaryDirectory(prefix="isocenter-cstore-") as folder:
        scratch = Path(folder)
        for name, side, count, senders in _CASES[: 2 if quick else None]:
            rows.append((name, measure(scratch, side, count // (10 if quick else 1), senders, 1 if quick else 3)))
            print(name, {who: round(statistics.median(v)) for who, v in rows[-1][1].items()}, flush=True)
        if not quick:
            studies = memory(scratch, (1_000, 10_000))
        write(scratch / "in", 1, 64)
        (scratch / "one").mkdir()
        version = orthanc(scratch / "one", [scratch / "in"], 1)[1]
    versions = (version, " ".join(dcmtk_version(dcmtk("storescp")).split()[:3]))
    if not quick:
        write_page(rows, studies, versions)
    cases = [
        {
            "name": f"cstore, {name}", "ours": round(statistics.median(rates["ours"]), 1),
            "peer": round(statistics.median(rates[who]), 1), "unit": "instances/s",
            "ratio": round(statistics.median(rates["ours"]) / statistics.median(rates[who]), 3),
            "peer_name": told, "peer_version": one, "input": name,
        }
        for name, rates in rows
        for who, told, one in (("orthanc", "Orthanc", version), ("storescp", "storescp, not flushed", versions[1]))
    ]  # fmt: skip
    print(json.dumps({**cases[0], "name": "cstore", "cases": cases[1:]}))


if __name__ == "__main__":
    main()
