"""A node that looks at arrivals, killed while a series lands: the final answer is the batch answer, byte for byte."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pynetdicom
import pytest
import torch
import yaml
from benchmarks._streaming_task import write_unskilled
from pydicom import dcmread

import isocenter
from arrival_cases import body, files_of
from clinic_cases import free_port, takes_minutes, wait_for
from isocenter.clinic.ports import Route, Work
from isocenter.clinic.workflow import open_ledger
from isocenter.clinic.workflow.engine import result_folder
from isocenter.verbs.clinic import load_clinic_config
from isocenter.verbs.clinic.tasks import answer
from isocenter.verbs.clinic.wiring import task_settings

pytestmark = [pytest.mark.enable_socket, takes_minutes]


def begin(config: Path) -> subprocess.Popen[str]:
    """Start a node in a group of its own."""
    root = Path(isocenter.__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "from isocenter.cli import main; main()", "clinic", "run", str(config)]
    log = (config.parent / "node.log").open("a")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=env, start_new_session=True)
    log.close()
    assert process.stdout is not None
    assert process.stdout.readline().startswith("listening"), (config.parent / "node.log").read_text()
    return process


def end(process: subprocess.Popen[str]) -> None:
    """Kill a node and all its processes."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def send(files: list[Path], port: int) -> list[Path]:
    """Send files until the node does not take one; return those that are left."""
    entity = pynetdicom.AE("SCANNER")
    first = dcmread(files[0])
    entity.add_requested_context(first.SOPClassUID, first.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", port, ae_title="NODE")
    if not association.is_established:
        return files
    for number, file in enumerate(files):
        if association.send_c_store(dcmread(file)).get("Status") != 0:
            return files[number:]
        time.sleep(0.1)
    association.release()
    return []


def bytes_of(folder: Path) -> dict[str, bytes]:
    kinds = (".dcm", ".nii.gz", ".png")
    return {f.name: f.read_bytes() for f in folder.iterdir() if f.name.endswith(kinds)}


@pytest.fixture
def _one_thread() -> Iterator[None]:
    """As the node has: the last bits of a sum may depend on how many threads make it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_one_thread")
def test_a_node_that_is_killed_as_a_series_lands_gives_the_batch_answer(tmp_path: Path) -> None:
    task = write_unskilled(tmp_path / "task", body(), widths=(4, 8), window=(4, 32, 32))
    files = files_of(tmp_path / "in", transfer_syntax_uid="1.2.840.10008.1.2.4.90")
    study, port = str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID), free_port()
    (tmp_path / "node").mkdir()
    config = tmp_path / "node" / "clinic.yaml"
    content = {
        "store": "store", "acceptors": 1, "completeness": {"quiet_s": 90.0},
        "entities": [{"title": "NODE", "port": port, "callers": [{"title": "SCANNER"}]}],
        "rules": [{"name": "ct", "modalities": ["CT"], "tasks": [str(task)]}],
        "arrival": {"every_s": 0.5, "lull_s": 0.3},
    }  # fmt: skip
    config.write_text(yaml.safe_dump(content))
    rng, left, store = random.Random(5), files, tmp_path / "node" / "store"

    def ahead() -> set[str]:
        return {file.name for file in (store / "arrival").glob("*/memo/*")}

    for number, part in enumerate((files[:5], files[5:9], files[9:12])):
        before, process = ahead(), begin(config)
        unsent = send(part, port)
        assert not unsent
        # The first life may end before anything was looked at; in the others something was done ahead before the kill.
        assert number == 0 or wait_for(lambda before=before: ahead() - before, 80), "nothing was done ahead"
        time.sleep(rng.uniform(0.0, 2.0))
        end(process)
        left = [file for file in left if file not in part]
    for file in list((store / "arrival").glob("*/memo/*"))[::3]:
        file.write_bytes(file.read_bytes()[:-9])  # as a crash of the machine may leave it
    process = begin(config)
    try:
        assert not send(left, port)
        ledger = open_ledger(f"sqlite:///{store / 'ledger.db'}")
        # Answers ahead have the lowest priority: a busy machine gives them time late.
        assert wait_for(lambda: any(e["kind"] == "provisional" for e in ledger.events()), 80), ledger.events()
        wait_for(lambda: getattr(ledger.study(study), "state", "") in ("answered", "failed"), 200)
        kinds = [e["kind"] for e in ledger.events()]
        state = ledger.study(study)
        assert state is not None
        assert (state.state, state.version) == ("answered", 1), ledger.events()
        assert "alert" not in kinds, ledger.events()
        wait_for(lambda: not list((store / "arrival").glob("*")), 15)
        assert not list((store / "arrival").glob("*")), "what was kept is gone with the answer"
        ledger.engine.dispose()
    finally:
        end(process)
    received = tmp_path / "received"
    received.mkdir()
    for file in files:
        os.link(file, received / file.name)
    # As the node has them: what its results say of themselves (a mark, say) is in their bytes.
    asked = task_settings(load_clinic_config(config))["ct"]
    answer(Work(study, 1, Route("ct", (str(task),)), received, "x", tmp_path / "batch"), asked)
    found, batch = bytes_of(result_folder(store, study, 1, "ct")), bytes_of(tmp_path / "batch")
    assert len(batch) >= 3
    assert found == batch
