"""A study that arrives at a scanner's pace: from its last slice to its result, answered ahead against answered after.

    python -m benchmarks.streaming --data ../shared/data [--quick] [--page docs/results/streaming.md]

Two nodes in turn, `isocenter clinic run` each: one with `arrival:`, one without (the peer). Both get the same studies
from a process that sends one slice after the other over one association at a pace; each study has UIDs of its own. What
is timed is the ledger's: from the journal's line of the last instance to "answered". Completeness is by
silence, the same in both, and part of the time. Every byte of every mask, SEG and SR must be the same from both, or
there is no figure.

CT of STS_002 (TCIA Soft-tissue-Sarcoma by IBSI, CC BY 3.0) in JPEG 2000; MR crops of the Medical Segmentation Decathlon
(task 4, CC BY-SA 4.0), written as DICOM. The CT's network has the form that `isocenter adapt --data` makes for such a
CT, on planes of half the resolution, and no skill: it is not trained.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pynetdicom
import yaml
from pydicom import Dataset, dcmread
from pydicom.uid import UID, JPEG2000Lossless, generate_uid

from benchmarks.__main__ import machine
from benchmarks._streaming_task import write_unskilled
from isocenter.clinic.workflow import Ledger, open_ledger
from isocenter.clinic.workflow.engine import result_folder
from isocenter.core import Image
from isocenter.data.images import read_study
from isocenter.testing.dicom_phantom import write_ct_series
from isocenter.verbs.result import read_result

ROOT = Path(__file__).resolve().parents[1]
MR = "1.2.840.10008.5.1.4.1.1.4"
QUIET_S = 3.0


@dataclass(frozen=True)
class Case:
    """A series to send, and who answers it.

    Args:
        name: For the page.
        rule: Of the node.
        files: Its slices, in order.
        pace: Slices a second.
    """

    name: str
    rule: str
    files: tuple[Path, ...]
    pace: float


@dataclass
class Seconds:
    """What was timed of one case on one node, one number a study, in seconds from the last instance."""

    final: list[float] = field(default_factory=list)
    provisional: list[float] = field(default_factory=list)
    before_end: list[bool] = field(default_factory=list)
    outputs: list[dict[str, str]] = field(default_factory=list)


def send(files: Sequence[Path], port: int, pace: float) -> None:
    """Send files over one association, one every so often; what a sender process does."""
    entity = pynetdicom.AE("SCANNER")
    sets = [dcmread(file) for file in files]
    for one in sets:
        entity.add_requested_context(one.SOPClassUID, one.file_meta.TransferSyntaxUID)
        break
    association = entity.associate("127.0.0.1", port, ae_title="NODE")
    if not association.is_established:
        raise SystemExit("no association")
    begun = time.monotonic()
    for number, one in enumerate(sets):
        time.sleep(max(0.0, begun + number / pace - time.monotonic()))
        if association.send_c_store(one).Status != 0:
            raise SystemExit("an instance was not taken")
    association.release()


@contextmanager
def node(folder: Path, rules: list[dict[str, Any]], arrival: dict[str, Any] | None) -> Iterator[tuple[Path, int]]:
    """Run a node; yield its store and port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    folder.mkdir()
    content: dict[str, Any] = {
        "store": "store", "acceptors": 1, "completeness": {"quiet_s": QUIET_S}, "rules": rules,
        "entities": [{"title": "NODE", "port": port, "callers": [{"title": "SCANNER"}]}],
    }  # fmt: skip
    config = folder / "clinic.yaml"
    config.write_text(yaml.safe_dump(content | ({"arrival": arrival} if arrival is not None else {})))
    command = [sys.executable, "-c", "from isocenter.cli import main; main()", "clinic", "run", str(config)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        if process.stdout is None or not process.stdout.readline().startswith("listening"):
            raise SystemExit((folder / "log").read_text())
        yield folder / "store", port
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    finally:
        process.kill()
        process.wait()


def renamed(files: Sequence[Path], out: Path, of: str) -> list[Path]:
    """Write a series again under other UIDs, the same ones for the same word."""
    out.mkdir(parents=True)
    made = []
    for file in files:
        one = dcmread(file)
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
            setattr(one, name, generate_uid(entropy_srcs=[str(one.get(name)), of]))
        one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
        one.save_as(out / file.name, enforce_file_format=True)
        made.append(out / file.name)
    return made


def timed(case: Case, store: Path, port: int, folder: Path, numbers: Sequence[int]) -> Seconds:
    """Send a case once for each number; return what the ledger says of it."""
    found = Seconds()
    ledger = open_ledger(f"sqlite:///{store / 'ledger.db'}")
    for number in numbers:
        name = f"{case.rule}-{case.pace:g}-{number}"
        files = renamed(case.files, folder / name, name)
        study = str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)
        command = [sys.executable, "-m", "benchmarks.streaming", "--send", str(port), str(case.pace), *map(str, files)]
        subprocess.run(command, cwd=ROOT, check=True)
        events = answered(ledger, study)
        last = max(row["at"] for row in ledger.instances(study))
        done = {e["kind"]: e["at"] for e in events}
        if "answered" not in done:
            raise SystemExit(f"not answered: {[(e['kind'], e['detail']) for e in events]}")
        found.final.append(done["answered"] - last)
        whole = [e["at"] - last for e in events if e["kind"] == "provisional" and f" {len(files)} " in e["detail"]]
        found.provisional += [min(whole)] if whole else []
        found.before_end.append(any(e["kind"] == "provisional" and e["at"] < last for e in events))
        found.outputs.append(outputs(result_folder(store, study, 1, case.rule)))
        shutil.rmtree(files[0].parent)
    ledger.engine.dispose()
    return found


def answered(ledger: Ledger, study: str) -> list[dict[str, Any]]:
    """Wait until a study is answered; return its events, oldest first."""
    until = time.monotonic() + 600
    while time.monotonic() < until:
        state = ledger.study(study)
        if state is not None and state.state in ("answered", "failed"):
            break
        time.sleep(0.05)
    return [e for e in reversed(ledger.events(limit=5000)) if e["study"] == study]


def outputs(folder: Path) -> dict[str, str]:
    """Return the hash of all that an answer is: masks, SEG, SR, and the predictions but for how long they took."""
    kinds = (".dcm", ".nii.gz", ".png")
    found = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.iterdir() if f.name.endswith(kinds)}
    said = [p.model_copy(update={"seconds": 0.0}).model_dump_json() for p in read_result(folder).predictions]
    return {**found, "predictions": hashlib.sha256("\n".join(said).encode()).hexdigest()}


def ct_files(data: Path, out: Path) -> tuple[Path, ...]:
    """Write the CT of STS_002 in JPEG 2000, in the order of its slices."""
    files = sorted((data / "ct_mr_pet_sts/dicom/STS_002/CT/image").iterdir())
    sets = sorted((dcmread(f) for f in files), key=lambda d: float(d.ImagePositionPatient[2]))
    out.mkdir()
    made = []
    for number, one in enumerate(sets):
        one.compress(JPEG2000Lossless, generate_instance_uid=False)
        one.save_as(out / f"{number:04d}.dcm", enforce_file_format=True)
        made.append(out / f"{number:04d}.dcm")
    return tuple(made)


def mr_files(data: Path, out: Path) -> tuple[Path, ...]:
    """Write a crop around a hippocampus as a DICOM MR series."""
    image = read_study(sorted((data / "mr_hippocampus_msd/images").iterdir())[3], modality="MR").study.images[0]
    values = np.round(np.clip(image.array.astype(np.float64), 0, 30000)).astype(np.int16)
    crop = Image(values, image.geometry, image.quantity, "MR", body_part="BRAIN")

    def as_mr(_index: int, one: Dataset) -> Dataset:
        one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = UID(MR)
        one.Modality, one.ScanningSequence, one.SequenceVariant, one.ScanOptions = "MR", "GR", "SP", ""
        one.MRAcquisitionType, one.EchoTime, one.EchoTrainLength, one.RepetitionTime = "3D", "3", "1", "8"
        del one.KVP
        return one

    return tuple(write_ct_series(out, crop, name="hippocampus", change=as_mr))


def measure(data: Path, work: Path, *, quick: bool) -> dict[str, Any]:
    """Run both nodes on all cases; return the figures."""
    ct, mr = ct_files(data, work / "ct"), mr_files(data, work / "mr")
    image = read_study(work / "ct").study.images[0]
    widths = (8, 16, 32) if quick else (16, 32, 64, 128)
    planes, rows, columns = image.geometry.spacing_mm or (1.0, 1.0, 1.0)
    task = write_unskilled(
        work / "task", image, widths=widths, window=(24, 64, 64), spacing_mm=(planes, 2 * rows, 2 * columns),
        mirror=(False, False, False),
    )  # fmt: skip
    rules = [
        {"name": "ct", "modalities": ["CT"], "tasks": [str(task)]},
        {"name": "mr", "modalities": ["MR"], "tasks": ["hippocampus-t1"]},
    ]
    cases = [Case("CT, 48 slices, 2 a second", "ct", ct, 2.0)]
    if quick:
        cases = [Case("CT, 24 slices, 8 a second", "ct", ct[:24], 8.0)]
    else:
        cases += [
            Case("CT, 48 slices, 20 a second", "ct", ct, 20.0),
            Case(f"MR crop, {len(mr)} slices, 5 a second", "mr", mr, 5.0),
        ]
    numbers = range(2) if quick else range(3)
    found: dict[str, list[Seconds]] = {case.name: [] for case in cases}
    for which, arrival in (("batch", None), ("streaming", {"every_s": 2.0, "lull_s": 0.7})):
        with node(work / which, rules, arrival) as (store, port):
            for case in cases:
                found[case.name].append(timed(case, store, port, work / "sent", numbers))
                print(which, case.name, found[case.name][-1].final, found[case.name][-1].provisional, flush=True)
    for name, (batch, streaming) in found.items():
        if batch.outputs != streaming.outputs or not all(len(one) > 2 for one in batch.outputs):
            raise SystemExit(f"{name}: the answers differ: {batch.outputs} {streaming.outputs}")
    return {"found": found, "studies": len(numbers)}


def interval(values: Sequence[float]) -> str:
    """Median, least and largest."""
    return f"{np.median(values):.1f} ({min(values):.1f} to {max(values):.1f})" if values else "none"


def page(figures: dict[str, Any]) -> str:
    """Return docs/results/streaming.md."""
    rows = []
    for name, (batch, streaming) in figures["found"].items():
        ahead = f"{sum(streaming.before_end)} of {len(streaming.before_end)}"
        cells = (interval(batch.final[1:]), interval(streaming.final[1:]), interval(streaming.provisional[1:]), ahead)
        rows.append(f"| {name} | {' | '.join(cells)} |")
    said = f"""
    A node with `arrival:` against one without, in turn, on the same machine; {figures["studies"]} studies of each kind
    sent to each by an association at a pace, the first of them to warm up and not counted. Seconds from the last
    instance's line in the journal: median (least to largest). Completeness is by silence of {QUIET_S:g} s, and within
    every figure but the provisional one. **All masks, SEG, SR, previews and predictions were the same from both nodes,
    byte for byte**; the run ends without figures where one is not.
    """
    what = """
    CT: STS_002 (CC BY 3.0), JPEG 2000, 3.27 mm; a network of the form that `isocenter adapt --data` makes, on planes
    of half the resolution and without mirrored views, which keeps the run short, not trained: its masks mean nothing,
    and no gate stands before it. A gate's look at the network's
    embedding depends on the whole extent, and would be added to both columns. MR: a crop of the Medical
    Segmentation Decathlon (CC BY-SA 4.0), answered by `hippocampus-t1`, which prepares an image by numbers of all
    of it: none of its network's work can be done before the last slice, and what is gained is that the wait for
    silence is used. Two cores do all of this: the sender, the node's processes, and work ahead at low priority.
    """
    head = ("series", "batch: final", "streaming: final", "streaming: provisional, of all slices")
    lines = [
        "# A study that arrives: from its last slice to its result",
        "",
        f"`python -m benchmarks.streaming --data DATA`, {datetime.date.today().isoformat()}, {machine()}.",
        "",
        " ".join(said.split()),
        "",
        f"| {' | '.join(head)} | studies with a provisional answer before the last slice |",
        "| --- | --- | --- | --- | --- |",
        *rows,
        "",
        " ".join(what.split()),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, or be the sender."""
    if sys.argv[1:2] == ["--send"]:
        send([Path(f) for f in sys.argv[4:]], int(sys.argv[2]), float(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ISOCENTER_SHARED_DATA", "../shared/data")))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--page", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        figures = measure(args.data, Path(work), quick=args.quick)
    if args.page is not None:
        args.page.write_text(page(figures), "utf-8")
    name, (batch, streaming) = next(iter(figures["found"].items()))
    ours, peer = float(np.median(streaming.final[1:])), float(np.median(batch.final[1:]))
    print(
        json.dumps(
            {
                "name": "streaming", "ours": round(ours, 2), "peer": round(peer, 2), "unit": "s from the last slice",
                "ratio": round(peer / ours, 3), "peer_name": "our own node without arrival", "peer_version": "same",
                "input": name,
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
