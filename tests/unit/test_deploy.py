"""What is in deploy/ is what it should be: it parses, holds no secret, and opens nothing to a network.

No image is built here: no container engine is asked for.
"""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path

import yaml

from isocenter.verbs.clinic import load_clinic_config
from isocenter.verbs.clinic.wiring import reception_of, rules_of

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


def test_compose_is_closed_and_healthy() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    assert set(compose["services"]) == {"archive", "database", "node", "viewer"}
    files = {DEPLOY / one["file"] for one in compose["configs"].values()}
    assert all(file.is_file() for file in files)
    made = set(re.findall(r"^make (\S+)", (DEPLOY / "secrets.sh").read_text("utf-8"), re.MULTILINE))
    assert {Path(one["file"]).name for one in compose["secrets"].values()} == made
    for name, service in compose["services"].items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} opens {port} to a network"
        assert ":latest" not in service["image"] and "no-new-privileges:true" in service["security_opt"]
        assert "healthcheck" in service or name == "node", "the node's stands in its image"
        for value in service.get("environment", {}).values():
            assert "/" in value or value == "isocenter", "a secret is a file, never an environment's value"
    node = compose["services"]["node"]
    assert node["read_only"] and node["cap_drop"] == ["ALL"]
    key = next(one for one in node["secrets"] if isinstance(one, dict))
    assert key["target"] == f"{node['environment']['XDG_CONFIG_HOME']}/isocenter/pseudonym.key"
    assert "deploy/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_settings_of_the_box_make_a_node(tmp_path: Path) -> None:
    config = load_clinic_config(DEPLOY / "clinic.yaml")
    reception = reception_of(config.model_copy(update={"store": tmp_path}))
    assert [entity.port for entity in reception.entities] == [11112]
    archive = json.loads((DEPLOY / "orthanc.json").read_text("utf-8"))
    assert archive["DicomModalities"]["node"]["AET"] == reception.entities[0].title
    assert archive["DicomAet"] == config.destinations["pacs"].title == reception.entities[0].allowed[0].title
    assert archive["AuthenticationEnabled"] is True
    assert all(route.route.shadow for route in rules_of(config).rules), "nothing is sent before somebody has looked"


def test_the_image_is_built_for_nobody_in_particular() -> None:
    text = (DEPLOY / "Containerfile").read_text("utf-8")
    stages = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert len(stages) == 2 and all(":" in image and not image.endswith(":latest") for image in stages)
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
    torch = re.search(r"^TORCH := (\S+)", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert torch and f'"torch=={torch[1]}+cpu"' in text
    for source in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        assert all((ROOT / name).exists() for name in source.split())


def test_the_unit_is_hardened() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "isocenter-clinic.service")
    service = unit["Service"]
    expected = {"NoNewPrivileges": "yes", "ProtectSystem": "strict", "StateDirectory": "isocenter", "UMask": "0077",
                "ProtectHome": "yes", "CapabilityBoundingSet": "", "User": "isocenter"}  # fmt: skip
    assert {key: service[key] for key in expected} == expected
    if shutil.which("systemd-analyze"):
        done = subprocess.run(
            ["systemd-analyze", "verify", str(DEPLOY / "isocenter-clinic.service")],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        said = [line for line in done.stderr.splitlines() if "isocenter-clinic.service" in line]
        assert all("is not executable" in line for line in said), said


def test_secrets_are_made_once_and_for_their_owner(tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "secrets.sh", tmp_path)
    script = (tmp_path / "secrets.sh").read_text().replace("chown 10001", "true 10001")
    (tmp_path / "secrets.sh").write_text(script)
    for _ in range(2):
        subprocess.run(["sh", str(tmp_path / "secrets.sh")], check=True, capture_output=True)
        found = {file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()}
    assert all(file.stat().st_mode & 0o077 == 0 for file in (tmp_path / "secrets").iterdir())
    assert found["database_password"].strip() in found["database_url"] and len(found["node_token"].strip()) == 64
    assert json.loads(found["orthanc_users.json"])["RegisteredUsers"]["admin"]
    assert len(set(found.values())) == len(found)
