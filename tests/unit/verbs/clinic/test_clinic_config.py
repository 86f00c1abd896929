"""`clinic.yaml`: strict, secrets from outside, the example is a node, and the reference page knows every field."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel
from typer.testing import CliRunner

from isocenter.cli_clinic import app
from isocenter.clinic.dimse import Limits
from isocenter.clinic.ports import Deliverer, Preparer, Route, Router, Work
from isocenter.clinic.workflow import open_ledger
from isocenter.core.errors import ConfigError
from isocenter.data.deidentify import Policy, Pseudonyms
from isocenter.testing.dicom_phantom import write_ct_series
from isocenter.testing.phantom import phantom
from isocenter.verbs.clinic import clinic_recover, clinic_replay, clinic_run, clinic_status, load_clinic_config
from isocenter.verbs.clinic import config as settings
from isocenter.verbs.clinic.wiring import (
    Deidentifier,
    OnePatient,
    destinations_of,
    parts_of,
    reception_of,
    reports_to,
    rules_of,
    runner_of,
)

ROOT = Path(__file__).resolve().parents[4]
EXAMPLE = ROOT / "configs" / "clinic.yaml"


def content() -> dict:
    return {
        "store": "store",
        "entities": [{"title": "NODE", "port": 0, "callers": [{"title": "SCANNER"}]}],
        "destinations": {"pacs": {"kind": "dimse", "title": "PACS", "host": "127.0.0.1", "port": 104}},
        "rules": [{"name": "ct", "modalities": ["CT"], "tasks": ["lungs-cxr"], "to": ["pacs"]}],
    }


def written(folder: Path, changes: dict | None = None) -> Path:
    file = folder / "clinic.yaml"
    file.write_text(yaml.safe_dump(content() | (changes or {})))
    return file


def test_the_example_makes_a_node(tmp_path: Path) -> None:
    config = load_clinic_config(EXAMPLE).model_copy(update={"store": tmp_path / "store"})
    reception = reception_of(config)
    assert [e.title for e in reception.entities] == ["ISOCENTER"]
    assert reception.entities[0].allowed[0].hosts == ("127.0.0.1/32",)
    assert reception.limits == Limits(200_000_000_000, 1024 << 20, 8192 << 20)
    destinations = destinations_of(config)
    assert set(destinations) == {"pacs", "research"}
    assert all(isinstance(d, Deliverer) for d in destinations.values())
    rules = rules_of(config)
    assert isinstance(rules, Router)
    assert [r.route.name for r in rules.rules] == ["hippocampus", "chest", "collect"]
    assert [part.name for part in parts_of(config)] == ["workflow"]
    runner_of(config).close()
    assert config.database_url("ledger.db") == f"sqlite:///{tmp_path}/store/ledger.db"


def test_every_field_is_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "clinic-yaml.md").read_text("utf-8")
    folder = Path(settings.__file__).parent
    modules = [import_module(f"isocenter.verbs.clinic.{file.stem}") for file in sorted(folder.glob("config*.py"))]
    found = [value for module in modules for value in vars(module).values()]
    models = [m for m in found if isinstance(m, type) and issubclass(m, BaseModel)]
    fields = {name for m in models if m is not BaseModel for name in m.model_fields}
    told = set(re.findall(r"^\| `([a-z0-9_]+)`", page, re.MULTILINE))
    assert fields == told


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": "red"}, "colour: Extra inputs"),
        ({"store": None}, "store"),
        ({"acceptors": 0}, "acceptors"),
        ({"rules": [{"name": "x", "tasks": ["a"], "to": ["nowhere"]}]}, "no destination is named nowhere"),
        ({"rules": [{"name": "x", "tasks": ["a"]}] * 2}, "two rules have one name"),
        ({"rules": [{"name": "x", "tasks": ["a"], "description": "("}]}, "no regular expression"),
        ({"rules": [{"name": "x", "tasks": []}]}, "tasks"),
        ({"entities": []}, "entities"),
        ({"entities": [{"title": "A" * 17, "callers": [{"title": "B"}]}]}, "title"),
        ({"entities": [{"title": "A", "callers": []}]}, "callers"),
        ({"entities": [{"title": "A", "callers": [{"title": "B"}], "tls": {}}]}, "needs certificate and key"),
        ({"entities": [{"title": "A", "callers": [{"title": "B"}]}] * 2}, "two entities have one title"),
        ({"destinations": {"pacs": {"kind": "pigeon"}}}, "pigeon"),
        ({"destinations": {"pacs": {"kind": "dicomweb", "url": "ftp://x"}}}, "url"),
        (
            {"destinations": {"pacs": {"kind": "dicomweb", "url": "http://pacs.example/", "token": {"env": "T"}}}},
            "a token over http://",
        ),
        ({"observe": {"traces_url": "http://x.example/", "traces_token": {"env": "T"}}}, "a token over http://"),
        ({"arrival": {"notify": {"url": "http://x.example/", "token": {"env": "T"}}}}, "a token over http://"),
        ({"arrival": {"critical": [{"task": "t", "finding": "1", "at_least": 1, "unit": "furlong"}]}}, "furlong"),
        ({"database": "postgresql://user:password@host/db"}, "database"),
        ({"database": {"env": "A", "file": "b"}}, "a secret is {file: PATH} or {env: NAME}"),
    ],
)
def test_what_is_wrong_is_named(changes: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        load_clinic_config(written(tmp_path, changes))
    assert "password" not in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        load_clinic_config(tmp_path / "away.yaml")
    for text in ("a: [", "- 1", ""):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(ConfigError, match=r"no YAML|no settings"):
            load_clinic_config(tmp_path / "bad.yaml")


def test_secrets_come_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "url"
    secret.write_text("postgresql://u:p@h/d\n")
    secret.chmod(0o644)
    config = load_clinic_config(written(tmp_path, {"database": {"file": str(secret)}}))
    with pytest.raises(ConfigError, match="chmod 600"):
        config.database_url("ledger.db")
    secret.chmod(0o600)
    assert config.database_url("ledger.db") == "postgresql+psycopg://u:p@h/d"
    config = load_clinic_config(written(tmp_path, {"database": {"env": "NODE_URL"}}))
    with pytest.raises(ConfigError, match="is empty"):
        config.database_url("ledger.db")
    monkeypatch.setenv("NODE_URL", "mysql://x")
    with pytest.raises(ConfigError, match="begins with postgresql"):
        config.database_url("ledger.db")


def test_a_node_that_never_ran_is_looked_at_and_recovered(tmp_path: Path) -> None:
    file = written(tmp_path)
    status = clinic_status(file)
    assert (status.running, status.studies, status.dead_letters) == (False, {}, ())
    ledger = open_ledger(load_clinic_config(file).database_url("ledger.db"))
    for kind in ("association refused", "answered", "clock"):
        ledger.tell(kind, "", "SCANNER")
    ledger.engine.dispose()
    assert [one["kind"] for one in clinic_status(file).turned_away] == ["clock", "association refused"]
    told = CliRunner().invoke(app, ["status", str(file)])
    assert told.output.splitlines()[-2].endswith(" association refused: SCANNER")
    assert clinic_replay(file) == (0, 0)
    found = clinic_recover(file)
    assert (found.unfinished, found.broken, found.noted) == (0, 0, 0)
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "to",
    [
        {**content()["destinations"]["pacs"], "tls": {"authorities": "AWAY"}},
        {"kind": "dicomweb", "url": "https://pacs.example/dicom-web", "authorities": "AWAY"},
        {"kind": "fhir", "url": "https://ris.example/r4", "patient_system": "urn:oid:1.2", "authorities": "AWAY"},
        {"kind": "hl7", "host": "ris.example", "port": 2575, "tls": {"authorities": "AWAY"}},
    ],
)
def test_certificates_that_are_missing_are_told_before_anything_is_received(tmp_path: Path, to: dict) -> None:
    told = yaml.safe_load(yaml.safe_dump(to).replace("AWAY", str(tmp_path / "away.pem")))
    with pytest.raises(ConfigError, match=r"PEM|certificates"):
        clinic_run(written(tmp_path, {"destinations": {"pacs": told}}))
    assert not (tmp_path / "store").exists()


def test_reports_of_storage_commitment_go_to_each_entity_s_own_callers(tmp_path: Path) -> None:
    callers = [{"title": "CT1", "port": 104, **more} for more in (
        {"hosts": ["10.1.0.5"]}, {"hosts": ["10.2.0.5/32"], "tls": {}},
        {"hosts": ["10.3.0.0/16"], "host": "ct.example"}, {"hosts": ["10.4.0.0/16"]},
        {"hosts": ["fd00::5/128"], "port": None}, {},
    )]  # fmt: skip
    entities = [{"title": title, "port": 0, "callers": [one]} for title, one in zip("ABCDEF", callers, strict=True)]
    found = reports_to(load_clinic_config(written(tmp_path, {"entities": entities})))
    assert {who: (node.ae_title, node.host, node.port, node.own_title) for who, node in found.items()} == {
        ("A", "CT1"): ("CT1", "10.1.0.5", 104, "A"),
        ("B", "CT1"): ("CT1", "10.2.0.5", 104, "B"),
        ("C", "CT1"): ("CT1", "ct.example", 104, "C"),
    }
    assert [found[title, "CT1"].tls is not None for title in "ABC"] == [False, True, False]
    assert reports_to(load_clinic_config(EXAMPLE))["ISOCENTER", "ORTHANC"].host == "127.0.0.1"
    away = {"title": "A", "callers": [{**callers[0], "tls": {"authorities": str(tmp_path / "away.pem")}}]}
    with pytest.raises(ConfigError, match="PEM"):
        clinic_run(written(tmp_path, {"entities": [away]}))
    assert not (tmp_path / "store").exists()


def test_one_patient_and_no_identity(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    write_ct_series(folder, phantom())
    work = Work("1.2", 1, Route("r", ("t",)), folder, "0", tmp_path / "out")
    gate = OnePatient()
    assert gate.check(work).passed
    preparer = Deidentifier(Pseudonyms(b"a key"), Policy())
    assert isinstance(preparer, Preparer)
    (tmp_path / "clean").mkdir()
    (tmp_path / "clean" / "left-behind").write_text("of a run that was killed")
    clean = preparer.prepare(folder, tmp_path / "clean")
    assert sorted(f.name for f in clean.iterdir()) == sorted(f.name for f in folder.iterdir())

    def other(index: int, dataset):
        dataset.PatientID = f"P{index}"
        return dataset

    mixed = tmp_path / "mixed"
    write_ct_series(mixed, phantom(), change=other)
    verdict = gate.check(Work("1.2", 1, Route("r", ("t",)), mixed, "0", tmp_path / "out"))
    assert not verdict.passed and "patients" in verdict.reason and "P1" not in verdict.reason
