"""Debian's Orthanc as a hospital's archive that forwards what a scanner sends, and certificates for TLS."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
# What a scanner sends goes on to the node; so does what the node sends back, as a careless administrator would have it.
FORWARD = """
function OnStoredInstance(instanceId, tags, metadata, origin)
  if origin['RequestOrigin'] == 'DicomProtocol' then
    SendToModality(instanceId, 'node')
  end
end
"""


def need(*programs: str) -> None:
    """Skip where a program, or the archive's DICOMweb, is missing; fail under CI=true."""
    missing = [p for p in programs if shutil.which(p) is None] + ([] if PLUGIN.exists() else ["orthanc-dicomweb"])
    if missing:
        why = f"{', '.join(missing)} not installed"
        pytest.fail(why) if os.environ.get("CI") == "true" else pytest.skip(why)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as made:
        return int(made.getsockname()[1])


@dataclass(frozen=True)
class Certificates:
    """One certificate and key for both ends, signed by itself."""

    certificate: Path
    key: Path


def certificates(folder: Path) -> Certificates:
    need("openssl")
    made = Certificates(folder / "node.pem", folder / "node.key")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", made.key, "-out", made.certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    return made


@dataclass(frozen=True)
class Orthanc:
    """A running archive."""

    http: int
    dicom: int

    def ask(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=10) as answer:
            return json.loads(answer.read())

    @property
    def web(self) -> str:
        return f"http://127.0.0.1:{self.http}/dicom-web"


@contextmanager
def orthanc(folder: Path, node_port: int, tls: Certificates | None = None) -> Iterator[Orthanc]:
    """Run an archive that forwards to a node."""
    need("Orthanc")
    folder.mkdir()
    (folder / "forward.lua").write_text(FORWARD)
    here = Orthanc(free_port(), free_port())
    settings: dict[str, Any] = {
        "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"), "HttpPort": here.http,
        "DicomPort": here.dicom, "DicomAet": "ORTHANC", "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
        "Plugins": [str(PLUGIN)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}, "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": True, "LuaScripts": [str(folder / "forward.lua")], "StableAge": 1,
        "DicomModalities": {
            "node": {"AET": "ISOCENTER", "Host": "127.0.0.1", "Port": node_port, "UseDicomTls": tls is not None},
        },
    }  # fmt: skip
    if tls is not None:
        settings |= {
            "DicomTlsEnabled": True, "DicomTlsCertificate": str(tls.certificate), "DicomTlsPrivateKey": str(tls.key),
            "DicomTlsTrustedCertificates": str(tls.certificate), "DicomTlsRemoteCertificateRequired": False,
        }  # fmt: skip
    config = folder / "orthanc.json"
    config.write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(shutil.which("Orthanc")), str(config)], stdout=log, stderr=log, env={**os.environ, "TCP_NODELAY": "1"}
        )
    try:
        for _ in range(400):
            try:
                here.ask("/system")
                break
            except OSError:
                if process.poll() is not None:
                    pytest.fail((folder / "log").read_text()[-2000:])
                time.sleep(0.05)
        yield here
    finally:
        process.terminate()
        process.wait(20)
