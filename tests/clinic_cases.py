"""A node run as its users run it, beside Orthanc; what comes back is looked at with other makers' eyes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pytest
import yaml
from pydicom import Dataset, dcmread

import isocenter
from dciodvfy import dciodvfy_errors
from dcmtk_peer import need_dcmtk, run_dcmtk
from isocenter.verbs.clinic import clinic_status
from orthanc_peer import Certificates, Orthanc, certificates, free_port, need, orthanc

takes_minutes = pytest.mark.long("make clinic")
SEG, SR = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34"


def wait_for(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait until something is there; return it."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = what()
        if found:
            return found
        time.sleep(0.2)
    return what()


def settings(folder: Path, port: int, archive: int, tls: Certificates | None = None, **more: Any) -> Path:
    """Write the `clinic.yaml` of a node that answers CT with the toy task, and sends to Orthanc."""
    files = None
    if tls is not None:
        files = {"certificate": str(tls.certificate), "key": str(tls.key), "authorities": str(tls.certificate)}
    content: dict[str, Any] = {
        "store": "store", "acceptors": 1, "completeness": {"quiet_s": 3.0},
        "entities": [
            {"title": "ISOCENTER", "port": port, "callers": [{"title": "ORTHANC", "hosts": ["127.0.0.1"]}]}
        ],
        "destinations": {"pacs": {"kind": "dimse", "title": "ORTHANC", "host": "127.0.0.1", "port": archive}},
        "rules": [{"name": "bright", "modalities": ["CT"], "tasks": ["toy-bright"], "to": ["pacs"]}],
    }  # fmt: skip
    if files:
        content["entities"][0]["tls"] = {k: files[k] for k in ("certificate", "key")}
        content["destinations"]["pacs"]["tls"] = files
    file = folder / "clinic.yaml"
    file.write_text(yaml.safe_dump(content | more))
    return file


@contextmanager
def node(config: Path, toy: Path) -> Iterator[subprocess.Popen[str]]:
    """Run `isocenter clinic run`; it must end well when it is told to."""
    paths = [Path(isocenter.__file__).parents[1], Path(__file__).parent, toy]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "from isocenter.cli import main; main()", "clinic", "run", str(config)]
    log = config.parent / "node.log"
    with log.open("w") as stream:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stream, text=True, env=env)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert re.match(r"listening: ISOCENTER \d+", line), line + log.read_text()
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close() if process.stdout else None


def round_trip(folder: Path, study: Path, toy: Path, *, tls: bool, **more: Any) -> list[Dataset]:
    """Send a study to Orthanc as a scanner would; return the results that came back there, each proven."""
    need("dciodvfy")
    need_dcmtk("storescu", "findscu")
    port = free_port()
    secure = certificates(folder) if tls else None
    with orthanc(folder / "orthanc", port, secure) as archive:
        config = settings(folder, port, archive.dicom, secure, **more)
        with node(config, toy):
            store_scu(archive, study, secure)
            held = folder / "store" / "held"
            assert wait_for(lambda: len(list(held.rglob("*.dcm"))) >= len(list(study.rglob("*.dcm"))), 150), (
                folder / "orthanc" / "log"
            ).read_text()[-2000:]
            sent = {str(dcmread(f, stop_before_pixels=True).SOPInstanceUID) for f in study.rglob("*.dcm")}
            uid = str(dcmread(next(study.rglob("*.dcm")), stop_before_pixels=True).StudyInstanceUID)
            wait_for(lambda: clinic_status(config).deliveries.get("delivered", 0) >= 2, 150)
            time.sleep(3)  # what came back is forwarded again; that must not begin anything
            status = clinic_status(config)
            log = (folder / "node.log").read_text()
            assert status.studies == {"answered": 1}, f"{status}\n{log}"
            assert status.deliveries == {"delivered": 2}, f"{status}\n{log}"
            assert status.running
            found = results(archive, uid, sent, secure)
        assert not clinic_status(config).running
    for dataset in found:
        file = folder / f"{dataset.SOPInstanceUID}.dcm"
        dataset.save_as(file, enforce_file_format=True)
        # What the source itself breaks (a Study ID that is too long, say) its results must repeat.
        assert set(dciodvfy_errors(file)) <= set(dciodvfy_errors(next(study.rglob("*.dcm"))))
    proven_in_place(found, study)
    return found


def store_scu(archive: Orthanc, study: Path, tls: Certificates | None) -> None:
    """Send files with dcmtk."""
    files = sorted(map(str, study.rglob("*.dcm")))
    # As the files are: what is compressed is offered so, and beside it what every archive takes.
    syntax = {
        "1.2.840.10008.1.2.4.50": "-xy", "1.2.840.10008.1.2.4.70": "-xs", "1.2.840.10008.1.2.4.80": "-xt",
        "1.2.840.10008.1.2.4.90": "-xv", "1.2.840.10008.1.2.4.91": "-xw", "1.2.840.10008.1.2.5": "-xr",
    }.get(str(dcmread(files[0], stop_before_pixels=True).file_meta.TransferSyntaxUID), "-x=")  # fmt: skip
    # What is in the files is offered, and no more (-R): dcmtk's own list of classes ends before Comprehensive 3D SR.
    run_dcmtk(
        "storescu", *_over(tls), "-R", syntax, "-aet", "SCANNER", "-aec", "ORTHANC", "127.0.0.1", str(archive.dicom),
        *files,
    )  # fmt: skip


def _over(tls: Certificates | None) -> list[str]:
    return ["+tls", str(tls.key), str(tls.certificate), "-ic"] if tls else []


def results(archive: Orthanc, study: str, sent: set[str], tls: Certificates | None) -> list[Dataset]:
    """Return what is in the archive beside what was sent: by QIDO, by C-FIND, and as files, which must all agree."""
    listed = archive.ask(f"/dicom-web/studies/{study}/instances")
    classes = {i["00080018"]["Value"][0]: i["00080016"]["Value"][0] for i in listed}
    assert sent <= set(classes)
    made = {uid: kind for uid, kind in classes.items() if uid not in sent}
    assert sorted(made.values()) == sorted([SEG, SR])
    for modality in ("SEG", "SR"):
        (series,) = archive.ask(f"/dicom-web/studies/{study}/series?Modality={modality}")
        assert series["00201209"]["Value"] == [1], series
    said = run_dcmtk(
        "findscu", *_over(tls), "-S", "-aec", "ORTHANC", "-k", "QueryRetrieveLevel=SERIES",
        "-k", f"StudyInstanceUID={study}", "-k", "SeriesInstanceUID", "-k", "Modality",
        "127.0.0.1", str(archive.dicom),
    )  # fmt: skip
    modalities = re.findall(r"\(0008,0060\) CS \[(\w+)\s*\]", said)
    assert sorted(m for m in modalities if m in ("SEG", "SR")) == ["SEG", "SR"], said
    numbers = {n: archive.ask(f"/instances/{n}/simplified-tags")["SOPInstanceUID"] for n in archive.ask("/instances")}
    found = [_fetched(archive, number) for number, uid in numbers.items() if uid in made]
    assert len(found) == 2
    return found


def _fetched(archive: Orthanc, number: str) -> Dataset:
    with urllib.request.urlopen(f"http://127.0.0.1:{archive.http}/instances/{number}/file", timeout=10) as answer:
        content = answer.read()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.dcm"
        file.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # highdicom's, about what it will do one day
            dataset = dcmread(file)
            if dataset.Modality == "SEG":
                assert highdicom.seg.segread(file).number_of_segments >= 1
            else:
                report = highdicom.sr.srread(file)
                assert report.content.get_volumetric_roi_measurement_groups()
        return dataset


def proven_in_place(found: list[Dataset], study: Path) -> None:
    """Prove, by other makers' readers alone, that each voxel of the SEG lies on the pixel that it was made of."""
    sources = [dcmread(file) for file in sorted(study.rglob("*.dcm"))]
    values = {str(s.SOPInstanceUID): s.pixel_array * float(s.RescaleSlope) + float(s.RescaleIntercept) for s in sources}
    uids = list(values)
    (seg,) = (one for one in found if one.SOPClassUID == SEG)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        masks = highdicom.seg.Segmentation.from_dataset(seg).get_pixels_by_source_instance(
            uids, segment_numbers=[1], assert_missing_frames_are_empty=True
        )[..., 0]
    expected = np.stack([values[uid] for uid in uids])
    expected = expected > expected.mean()  # as the toy task has it
    assert masks.shape == expected.shape and expected.any() and not expected.all()
    wrong = (masks.astype(bool) != expected).sum(axis=(1, 2))
    assert not wrong.any(), f"voxels that differ, by instance: {wrong.tolist()}"
