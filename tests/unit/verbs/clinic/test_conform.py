"""The command, its JSON, and the statement that is made of the code's own tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from air_cases import result_set
from isocenter.cli import app
from isocenter.core.errors import ConfigError
from isocenter.data.conformance import RULES
from isocenter.verbs.clinic.conform import clinic_conform, peers
from isocenter.verbs.clinic.statement import conformance_statement

STATEMENT = Path(__file__).parents[4] / "docs/reference/conformance-statement.md"


def test_the_statement_is_what_the_code_says_now() -> None:
    pytest.importorskip("fastapi")
    made = conformance_statement()
    assert STATEMENT.read_text() == made, "make it again: isocenter clinic statement > docs/reference/..."
    assert all(f"| {name} |" in made for name in RULES)
    assert "Task Performer" in made and "1.2.840.10008.1.20.1" in made and "/workitems/{uid}/state" in made


def test_objects_are_checked_from_the_command_line(tmp_path: Path) -> None:
    folder = result_set(tmp_path)
    done = CliRunner().invoke(app, ["clinic", "conform", "--objects", str(folder), "--json"])
    found = json.loads(done.stdout)
    assert done.exit_code == 0 and found["claim"] == "self-tested, not certified by IHE"
    assert {one["state"] for one in found["objects"]} == {"pass", "not applicable"} and found["transactions"] == []
    (folder / "image-0.ko.dcm").unlink()
    (folder / "image-0.sr.dcm").unlink()
    done = CliRunner().invoke(app, ["clinic", "conform", "--objects", str(folder)])
    assert done.exit_code == 1 and "fail: set.root" in done.stdout


def test_who_is_to_be_checked_is_said_in_one_way(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to check"):
        clinic_conform()
    dimse, web = peers(None, peer="dicom://ME@archive.example:11112/PACS", web="http://here", listen=99)
    assert dimse is not None and web is not None and not web.store
    assert (dimse.calling, dimse.host, dimse.port, dimse.title, dimse.listen) == (
        "ME",
        "archive.example",
        11112,
        "PACS",
        99,
    )
    with pytest.raises(ConfigError, match="a peer is"):
        peers(None, peer="archive.example")
    with pytest.raises(ConfigError, match="not both"):
        peers(tmp_path / "clinic.yaml", peer="dicom://A@b:1/C")
    file = tmp_path / "clinic.yaml"
    file.write_text('store: store\nentities: [{title: "A", callers: [{title: "B"}]}]\n')
    with pytest.raises(ConfigError, match="does not run"):
        peers(file)
