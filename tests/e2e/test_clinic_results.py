"""A whole result set from the node to Orthanc and back, unchanged; Orthanc itself checked as another node."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pydicom
import pytest

from air_cases import result_set
from clinic_cases import node, settings, store_scu, takes_minutes, wait_for
from dciodvfy import dciodvfy_errors
from dcmtk_peer import need_dcmtk
from isocenter.data.conformance import check_objects
from isocenter.verbs.clinic import clinic_status
from isocenter.verbs.clinic.conform import clinic_conform, peer_of, peers
from orthanc_peer import Orthanc, free_port, need, orthanc

pytestmark = [pytest.mark.enable_socket, takes_minutes]


def fetch(archive: Orthanc, folder: Path) -> dict[str, Path]:
    """Fetch all that an archive has, by SOP Instance UID."""
    folder.mkdir()
    found = {}
    for number, name in enumerate(archive.ask("/instances")):
        address = f"http://127.0.0.1:{archive.http}/instances/{name}/file"
        with urllib.request.urlopen(address, timeout=10) as answer:
            path = folder / f"{number:04d}.dcm"
            path.write_bytes(answer.read())
        found[str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)] = path
    return found


def same(one: Path, other: Path) -> bool:
    """Tell whether two files hold the same data set, whatever their meta information says."""
    return pydicom.dcmread(one).to_json() == pydicom.dcmread(other).to_json()


def test_the_node_sends_a_whole_set_and_keeps_to_the_standard(study: Path, toy_folder: Path, tmp_path: Path) -> None:
    need("dciodvfy")
    need_dcmtk("storescu")
    port = free_port()
    with orthanc(tmp_path / "orthanc", port) as archive:
        config = settings(tmp_path, port, archive.dicom, results={"rules": ["bright"]})
        with node(config, toy_folder):
            store_scu(archive, study, None)
            wait_for(lambda: clinic_status(config).deliveries.get("delivered", 0) >= 4)
            status = clinic_status(config)
            assert status.deliveries == {"delivered": 4}, status
            told = clinic_conform(dimse=peer_of(config, store=True))
            states = {one.name: one.state for one in told.transactions}
            assert "fail" not in states.values() and states["dimse.store"] == "pass", told.transactions
        back = fetch(archive, tmp_path / "back")
        made = sorted((tmp_path / "store" / "results").rglob("*.dcm"))
        kinds = [str(pydicom.dcmread(f, stop_before_pixels=True).Modality) for f in made]
        assert sorted(kinds) == ["KO", "PR", "SEG", "SR"]
        for file in made:
            uid = str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID)
            assert same(file, back[uid]), "the archive keeps it as it was sent"
            assert set(dciodvfy_errors(file)) <= set(dciodvfy_errors(next(study.rglob("*.dcm"))))
        verdicts = {v.name: v for v in check_objects(tmp_path / "back")}
        assert {n: v.faults for n, v in verdicts.items() if v.state == "fail"} == {}
        assert verdicts["pr.place"].state == "pass"


def test_every_object_of_a_set_goes_into_orthanc_and_back(tmp_path: Path) -> None:
    need_dcmtk("storescu")
    folder = result_set(tmp_path / "set")
    with orthanc(tmp_path / "orthanc", free_port()) as archive:
        store_scu(archive, folder, None)
        back = fetch(archive, tmp_path / "back")
        for file in folder.rglob("*.dcm"):
            assert same(file, back[str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID)]), file.name
        assert "fail" not in {v.state for v in check_objects(tmp_path / "back")}
        dimse, web = peers(None, peer=f"dicom://TESTER@127.0.0.1:{archive.dicom}/ORTHANC", web=archive.web, store=True)
        told = {one.name: one for one in clinic_conform(dimse=dimse, web=web).transactions}
    # Orthanc has no worklist, and lets in whoever calls; the rest is as the standard has it.
    passed = {n for n, one in told.items() if one.state == "pass"}
    assert {"dimse.echo", "dimse.context", "dimse.store", "web.stow", "web.qido", "web.wado", "web.metadata"} <= passed
    assert told["ups.create"].state == "not applicable" and told["dimse.caller"].state == "fail"
