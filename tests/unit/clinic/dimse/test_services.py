"""Storage commitment and performed procedure steps, with pynetdicom at the other end."""

from __future__ import annotations

import errno
import os
import shutil
import ssl
from functools import partial
from pathlib import Path

import pynetdicom
import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from isocenter.clinic.dimse import (
    N_ACTION,
    N_CREATE,
    N_SET,
    Commitments,
    PerformedSteps,
    TlsFiles,
    commitment_report,
    open_commitments,
    read_lines,
    send_commitment_report,
)
from isocenter.clinic.dimse.association import Peer
from isocenter.clinic.dimse.messages import Command
from isocenter.clinic.retrieve import DimseNode
from isocenter.core.errors import TransportError

from .test_acceptor import CT, calling, certificates, node

pytestmark = pytest.mark.enable_socket
COMMITMENT, COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
STEP = "1.2.840.10008.3.1.2.3.3"


def services(folder: Path):
    steps = PerformedSteps(folder / "journal-steps")
    return {N_ACTION: Commitments(folder / "commitments"), N_CREATE: steps, N_SET: steps}


def referenced(*uids: str) -> list[Dataset]:
    items = []
    for uid in uids:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, uid
        items.append(item)
    return items


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_commitment_is_written_down_and_reported(tmp_path: Path, syntax: str) -> None:
    asked = Dataset()
    asked.TransactionUID, asked.ReferencedSOPSequence = "1.2.77", referenced("1.2.3.1", "1.2.3.2")
    with (
        node(tmp_path, services=partial(services, tmp_path)) as here,
        calling(here.port, contexts=((COMMITMENT, syntax),)) as line,
    ):
        status, _ = line.send_n_action(asked, 1, COMMITMENT, COMMITMENT_INSTANCE)
        assert status.Status == 0
        status, _ = line.send_n_action(asked, 2, COMMITMENT, COMMITMENT_INSTANCE)
        assert status.Status == 0x0123
        for none in ("../../x", ".5"):  # the second would be the name of a file that is still being written
            asked["TransactionUID"] = DataElement("TransactionUID", "UI", none, validation_mode=0)
            status, _ = line.send_n_action(asked, 1, COMMITMENT, COMMITMENT_INSTANCE)
            assert status.Status == 0x0120
    (request,) = open_commitments(tmp_path / "commitments")
    report, event = commitment_report(request, {"1.2.3.1": CT})
    assert event == 2
    assert [i.ReferencedSOPInstanceUID for i in report.ReferencedSOPSequence] == ["1.2.3.1"]
    assert [(i.ReferencedSOPInstanceUID, i.FailureReason) for i in report.FailedSOPSequence] == [("1.2.3.2", 0x0112)]
    assert commitment_report(request, {"1.2.3.1": CT, "1.2.3.2": "1.2"})[0].FailedSOPSequence[0].FailureReason == 0x0119
    whole, event = commitment_report(request, {"1.2.3.1": CT, "1.2.3.2": CT})
    assert event == 1
    assert "FailedSOPSequence" not in whole

    heard = []

    def on_report(event):
        heard.append((event.event_type, event.event_information.TransactionUID))
        return 0x0000, None

    listener = pynetdicom.AE(ae_title="CALLER")
    listener.add_supported_context(COMMITMENT, scu_role=True, scp_role=True)
    server = listener.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(pynetdicom.evt.EVT_N_EVENT_REPORT, on_report)]
    )
    listener.require_called_aet = True
    folder = tmp_path / "commitments"
    try:
        port = server.server_address[1]
        with pytest.raises(TransportError, match="no association"):
            send_commitment_report(folder, request, (whole, 1), DimseNode("127.0.0.1", port, "ANOTHER", "NODE"))
        assert open_commitments(folder) == [request]
        send_commitment_report(folder, request, (whole, 1), DimseNode("127.0.0.1", port, "CALLER", "NODE"))
    finally:
        server.shutdown()
    assert heard == [(1, "1.2.77")]
    assert not open_commitments(tmp_path / "commitments")


# pynetdicom drops the socket of a connection that failed without closing it.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_report_goes_by_tls_where_the_other_side_takes_nothing_else(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    certificates(tmp_path)
    heard = []

    def on_report(event):
        heard.append((event.event_type, event.assoc.requestor.ae_title, event.assoc.acceptor.ae_title))
        return 0x0000, None

    listener = pynetdicom.AE(ae_title="CALLER")
    listener.add_supported_context(COMMITMENT, scu_role=True, scp_role=True)
    server = listener.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(pynetdicom.evt.EVT_N_EVENT_REPORT, on_report)],
        ssl_context=TlsFiles(tmp_path / "node.pem", tmp_path / "node.key", tmp_path / "ca.pem").context(),
    )  # fmt: skip
    folder, port = tmp_path / "commitments", server.server_address[1]
    folder.mkdir()
    (folder / "1.2.7.json").write_text("{}")
    request = {"transaction": "1.2.7", "calling": "CALLER", "called": "NODE", "wanted": [(CT, "1.2.3.1")]}
    report = commitment_report(request, {"1.2.3.1": CT})
    context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    context.check_hostname = False
    context.load_cert_chain(tmp_path / "caller.pem", tmp_path / "caller.key")
    try:
        with pytest.raises(TransportError, match="no association"):
            send_commitment_report(folder, request, report, DimseNode("127.0.0.1", port, "CALLER", "NODE"), 2)
        assert not heard
        send_commitment_report(folder, request, report, DimseNode("127.0.0.1", port, "CALLER", "NODE", context))
    finally:
        server.shutdown()
    assert heard == [(1, "NODE", "CALLER")]
    assert not list(folder.iterdir())


def test_a_step_is_followed_from_begin_to_end(tmp_path: Path) -> None:
    begin = Dataset()
    scheduled = Dataset()
    scheduled.StudyInstanceUID = "1.2.3.1"
    begin.ScheduledStepAttributesSequence = [scheduled]
    begin.PerformedProcedureStepStatus = "IN PROGRESS"
    begin.PatientName = "Muster^Max"
    end = Dataset()
    series = Dataset()
    series.SeriesInstanceUID, series.ReferencedImageSequence = "1.2.3.1.1", referenced("1", "2", "3")
    end.PerformedProcedureStepStatus, end.PerformedSeriesSequence = "COMPLETED", [series]
    with (
        node(tmp_path, services=partial(services, tmp_path)) as here,
        calling(here.port, contexts=((STEP, ExplicitVRLittleEndian),)) as line,
    ):
        assert line.send_n_set(end, STEP, "1.2.9")[0].Status == 0x0112
        assert line.send_n_create(begin, STEP, "1.2.9")[0].Status == 0
        assert line.send_n_create(begin, STEP, "1.2.9")[0].Status == 0x0111
        assert line.send_n_set(end, STEP, "1.2.9")[0].Status == 0
        assert line.send_n_set(end, STEP, "1.2.9")[0].Status == 0x0110
        assert line.send_n_create(end, STEP, "1.2.8")[0].Status == 0x0106
    file = tmp_path / "journal-steps" / "steps.jsonl"
    lines = [line for _, line in read_lines(file)]
    assert [(line["status"], line["studies"], line["series"]) for line in lines] == [
        ("IN PROGRESS", ["1.2.3.1"], {}),
        ("COMPLETED", ["1.2.3.1"], {"1.2.3.1.1": 3}),
    ]
    assert "Muster" not in file.read_text()


def test_a_step_that_a_full_disk_cut_off_swallows_none_of_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduled, begin = Dataset(), Dataset()
    scheduled.StudyInstanceUID = "1.2.3.1"
    begin.ScheduledStepAttributesSequence, begin.PerformedProcedureStepStatus = [scheduled], "IN PROGRESS"
    data = pynetdicom.dsutils.encode(begin, is_implicit_vr=False, is_little_endian=True) or b""
    first, second = PerformedSteps(tmp_path), PerformedSteps(tmp_path)  # one in each acceptor

    def create(steps: PerformedSteps, uid: str) -> int:
        command = Command(N_CREATE, 1, STEP, uid, has_data=True)
        return steps.handle(command, data, ExplicitVRLittleEndian, Peer("CT1", "NODE", "127.0.0.1")).status

    assert create(first, "1.2.9.1") == 0
    real, calls = os.write, iter((lambda fd, piece: real(fd, piece[:-1]), _full))
    monkeypatch.setattr(os, "write", lambda fd, piece: next(calls)(fd, piece))
    assert create(first, "1.2.9.2") == 0x0213
    monkeypatch.setattr(os, "write", real)
    assert create(second, "1.2.9.3") == 0
    assert create(first, "1.2.9.2") == 0, "it was not taken before, though only the line's end was missing"
    lines = [line["step"] for _, line in read_lines(tmp_path / "steps.jsonl")]
    assert lines == ["1.2.9.1", "1.2.9.3", "1.2.9.2"]


def test_what_a_message_leaves_out_stays_as_it_was_said(tmp_path: Path) -> None:
    scheduled, series, begin, going_on, end = (Dataset() for _ in range(5))
    scheduled.StudyInstanceUID, series.SeriesInstanceUID = "1.2.3.1", "1.2.3.1.1"
    series.ReferencedImageSequence = referenced("1", "2")
    begin.ScheduledStepAttributesSequence, begin.PerformedProcedureStepStatus = [scheduled], "IN PROGRESS"
    going_on.PerformedSeriesSequence, end.PerformedProcedureStepStatus = [series], "COMPLETED"
    steps = PerformedSteps(tmp_path)
    for kind, message in ((N_CREATE, begin), (N_SET, going_on), (N_SET, end)):
        data = pynetdicom.dsutils.encode(message, is_implicit_vr=False, is_little_endian=True) or b""
        peer, command = Peer("CT1", "NODE", "127.0.0.1"), Command(kind, 1, STEP, "1.2.9", has_data=True)
        assert steps.handle(command, data, ExplicitVRLittleEndian, peer).status == 0
    told = [(line["status"], line["series"]) for _, line in read_lines(tmp_path / "steps.jsonl")]
    assert told == [("IN PROGRESS", {}), ("IN PROGRESS", {"1.2.3.1.1": 2}), ("COMPLETED", {"1.2.3.1.1": 2})]


def _full(_descriptor: int, _piece: bytes) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")
