"""A node from outside, with a patient whose every text is marked: nothing that looks after the node holds any of it."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from pathlib import Path

import pydicom
import pynetdicom
import pytest
from pydicom.datadict import DicomDictionary

from clinic_cases import node, settings, takes_minutes, wait_for
from isocenter.verbs.clinic import clinic_backup, clinic_status
from observed_store import close_socket_of
from orthanc_peer import free_port

pytest.importorskip("fastapi")
pytestmark = [pytest.mark.enable_socket, takes_minutes]
TOKEN = "observe-observe-observe-observe"
CANARY = "Kanarienvogel"
_VALUES = {"PN": f"{CANARY}^Given", "CS": CANARY.upper(), "DA": "19340506", "TM": "010203", "DT": "19340506010203"}
_GROUPS = (0x0008, 0x0010, 0x0018, 0x0020, 0x0032, 0x0038, 0x0040)
_TEXTS = ("PN", "LO", "SH", "LT", "ST", "UT", "UC", "DA", "DT")


def marked_study(study: Path) -> list[pydicom.Dataset]:
    """Return the instances of a study with a mark in each text of the first groups of the dictionary."""
    found = []
    for file in sorted(study.rglob("*.dcm")):
        dataset = pydicom.dcmread(file)
        for tag, (vr, _, _, retired, keyword) in DicomDictionary.items():
            if tag >> 16 in _GROUPS and vr in _TEXTS and not retired and keyword and "CodeValue" not in keyword:
                setattr(dataset, keyword, _VALUES.get(vr, CANARY))
        dataset.PatientID = f"{CANARY}-7"
        dataset.PatientBirthDate = "19340506"
        found.append(dataset)
    return found


def send(port: int, instances: list[pydicom.Dataset], ours: str = "ORTHANC", title: str = "ISOCENTER") -> list[int]:
    """Send instances as a scanner does; return the answers."""
    entity = pynetdicom.AE(ae_title=ours)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 90
    entity.add_requested_context(instances[0].SOPClassUID, instances[0].file_meta.TransferSyntaxUID)
    line = entity.associate("127.0.0.1", port, ae_title=title)
    try:
        return [line.send_c_store(one).Status for one in instances] if line.is_established else []
    finally:
        if line.is_established:
            line.release()
        close_socket_of(line)


def test_nothing_of_a_patient_is_told(study: Path, toy_folder: Path, tmp_path: Path) -> None:
    port, web, nobody = free_port(), free_port(), free_port()
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    config = settings(
        tmp_path, port, nobody, insistence={"tries": 1}, web={"port": web, "token": {"file": str(token)}},
        observe={"log_level": "debug"},
    )  # fmt: skip
    instances = marked_study(study)

    def ask(path: str, content: dict | None = None) -> tuple[int, str]:
        data = None if content is None else json.dumps(content).encode()
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{web}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    with node(config, toy_folder):
        assert send(port, instances) == [0] * len(instances)
        assert send(port, instances[:1]) == [0]
        again = instances[0].copy()
        again.file_meta = instances[0].file_meta
        again.PatientName = f"{CANARY}^Other"
        assert send(port, [again]) == [0xC111]
        assert send(port, instances[:1], ours="STRANGER") == [] == send(port, instances[:1], title="ELSEWHERE")
        assert wait_for(lambda: clinic_status(config).deliveries.get("dead") == 2, 90), clinic_status(config)
        assert wait_for(lambda: ask("/ready")[0] == 200), ask("/ready")
        assert wait_for(lambda: len(json.loads(ask("/node/v1/events?kind=association%20refused")[1])) == 2)
        status = json.loads(ask("/node/v1/status")[1])
        assert (status["studies"], len(status["dead_letters"]), len(status["conflicts"])) == ({"answered": 1}, 2, 1)
        pages = {p: ask(p) for p in ("/metrics", "/panel", "/node/v1/status", "/node/v1/events", "/node/v1/studies",
                                     "/node/v1/deliveries", "/health", "/ready")}  # fmt: skip
        assert {code for code, _ in pages.values()} == {200}
        keys = [one["delivery"] for one in status["dead_letters"]]
        assert json.loads(ask("/node/v1/replay", {"deliveries": keys[:1]})[1]) == {"deliveries": 1, "studies": 0}
        for wrong in ({}, {"everything": True, "deliveries": keys}, {"delivery": "x"}):
            assert ask("/node/v1/replay", wrong)[0] in (400, 422)
        made = clinic_backup(config, tmp_path / "backup")
        assert made.rows["conflicts"] == 1
    told = {path: text for path, (_, text) in pages.items()}
    told["log"] = (tmp_path / "node.log").read_text()
    told["status"] = clinic_status(config).model_dump_json()
    for where, text in told.items():
        for mark in (CANARY, "19340506"):
            assert mark.lower() not in text.lower(), f"{mark} in {where}"
    uid = str(instances[0].StudyInstanceUID)
    assert uid not in told["log"] and uid not in told["/metrics"]
    for line in told["log"].splitlines():
        one = json.loads(line)
        assert {"time", "level", "component", "pid", "event"} <= set(one), line
    assert {"node", "acceptor", "workflow", "web"} <= {json.loads(n)["component"] for n in told["log"].splitlines()}
    assert re.search(r'isocenter_instances_total\{called="ISOCENTER",outcome="conflict"\} 1\n', told["/metrics"])
    assert clinic_status(config).ready is False, "a node that does not run is not ready"
