"""The server as users start it: a process with an address, a reading, a stop, and the same work after a restart."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import PIL.Image
import pytest

from isocenter import cli
from serving_cases import TOKEN, ramp, write_study

pytestmark = pytest.mark.enable_socket
_START_SECONDS, _JOB_SECONDS = 120, 240


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "isocenter.cli", "serve", *arguments]


@contextmanager
def running(*arguments: str, **variables: str) -> Iterator[tuple[httpx.Client, subprocess.Popen[str]]]:
    """A server on a free port, with variables of its environment, and a client that has its token."""
    environment = {**os.environ, "ISOCENTER_TOKEN": TOKEN, **variables}
    # What it says goes to a file: a pipe that nobody reads is full one day, and the server waits for ever.
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            command(*arguments, "--port", "0"), stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        ) as process,
    ):
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()  # printed once it listens
            base, _, token = address.partition("/#token=")
            assert base.startswith("http://127.0.0.1:") and token == TOKEN, log.seek(0) or log.read()
            headers = {"Authorization": f"Bearer {TOKEN}"}
            with httpx.Client(base_url=f"{base}/api/v1", headers=headers, timeout=_START_SECONDS) as client:
                yield client, process
        finally:
            process.kill()


def ended(client: httpx.Client, job: str) -> dict[str, Any]:
    until = time.monotonic() + _JOB_SECONDS
    while time.monotonic() < until:
        found: dict[str, Any] = client.get(f"/jobs/{job}").json()
        if found["state"] not in ("queued", "running"):
            return found
        time.sleep(0.1)
    raise AssertionError(f"the job did not end: {found}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("served") / "in"
    write_study(root / "ct", ramp(), study="1.2.9.1")
    noise = np.random.default_rng(0).normal(120, 40, (64, 72)).clip(0, 255).astype(np.uint8)
    PIL.Image.fromarray(noise).save(root / "chest.png")
    return root


@pytest.mark.slow
def test_a_study_is_listed_read_and_still_read_after_a_restart(folder: Path) -> None:
    work = folder.parent / "in-isocenter"  # the default, beside the folder
    with running(str(folder)) as (client, process):
        found = {s["description"]: s for s in client.get("/studies").json()["items"]}
        assert set(found) == {"CT of a ramp", "chest.png"}
        study = found["chest.png"]["id"]
        (image,) = client.get(f"/studies/{study}").json()["images"]
        assert len(client.get(f"/images/{image['id']}/pixels").content) == 64 * 72
        refused = client.post(f"/studies/{study}/readings", json={"tasks": ["none-such"]})
        assert (refused.status_code, refused.json()["code"]) == (400, "config")
        wanted = {"tasks": ["lungs-cxr"], "evidence": False, "modality": "DX", "body_part": "CHEST"}
        job = client.post(f"/studies/{study}/readings", json=wanted).json()["job"]
        waiting = client.post(f"/studies/{study}/readings", json=wanted).json()["job"]
        assert client.post(f"/jobs/{waiting}/stop").json()["state"] == "stopped"
        done = ended(client, job)
        assert done["state"] == "done", done
        with client.stream("GET", f"/jobs/{job}/events") as events:
            assert events.headers["content-type"].startswith("text/event-stream")
            assert '"state": "done"' in events.read().decode()
        latest = client.get(f"/studies/{study}/readings/latest").json()
        assert latest["reading"] == done["result"]["reading"]
        assert [p["task"] for p in latest["predictions"]] == ["lungs-cxr"]
        assert latest["links"]["images"] == {"0": image["id"]}
        base = str(client.base_url).removesuffix("/api/v1/")
        page = client.get(base + latest["links"]["page"])
        assert page.status_code == 200 and "sandbox" in page.headers["content-security-policy"]
        for name in ("../latest", "inputs.json", "nothing.json"):
            assert client.get(f"/readings/{latest['reading']}/files/{name}").status_code in (404, 422)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    assert (work.stat().st_mode & 0o777) == 0o700
    assert not list(work.rglob(".partial-*")) and not list(folder.rglob("*.json"))
    with running(str(folder)) as (client, process):
        assert client.get(f"/images/{image['id']}").json() == image  # its study was not opened since
        assert client.get(f"/studies/{study}/readings/latest").json()["reading"] == latest["reading"]
        assert client.get("/studies", params={"status": "read"}).json()["total"] == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(30) in (0, 130)


def test_a_reading_that_is_stopped_leaves_nothing(folder: Path, tmp_path: Path, toy_folder: Path) -> None:
    mark = tmp_path / "begun"
    path = os.pathsep.join([str(toy_folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    variables = {"PYTHONPATH": path, "TOY_MARK": str(mark)}
    with running(str(folder), "--work", str(tmp_path / "work"), **variables) as (client, process):
        study = client.get("/studies", params={"q": "ramp"}).json()["items"][0]["id"]
        job = client.post(f"/studies/{study}/readings", json={"tasks": ["toy-slow"]}).json()["job"]
        until = time.monotonic() + 60
        while not mark.exists():  # a task that takes a minute: it can't be done before it is stopped
            assert time.monotonic() < until, client.get(f"/jobs/{job}").json()
            time.sleep(0.05)
        client.post(f"/jobs/{job}/stop")
        assert ended(client, job)["state"] == "stopped"
        assert client.get(f"/studies/{study}/readings/latest").status_code == 404
        assert [f for f in (tmp_path / "work" / "readings").rglob("*") if f.is_file()] == []
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["NOWHERE"], 3, "there is no such file or folder|does not exist|No such file"),
        (["FOLDER", "--token-file", "EMPTY"], 2, "is empty"),
        (["FOLDER", "--token-file", "SHORT"], 2, "a token has 16 or more"),
        (["FOLDER", "--work", "FILE/work"], 6, "give another place with --work"),
        (["FOLDER", "--host", "203.0.113.7"], 6, "cannot listen on"),
        (["FOLDER", "--sessions", "0"], 2, "sessions"),
    ],
)
def test_what_it_refuses(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    (tmp_path / "EMPTY").write_text("\n", "utf-8")
    (tmp_path / "SHORT").write_text("abc", "utf-8")
    (tmp_path / "FILE").write_text("", "utf-8")
    places = {name: str(tmp_path / name) for name in ("NOWHERE", "EMPTY", "SHORT", "FILE/work")} | {
        "FOLDER": str(folder)
    }
    given = [places.get(a, a) for a in arguments]
    if "--work" not in given:
        given += ["--work", str(tmp_path / "work")]
    assert cli.run(["serve", *given]) == code
    told = capsys.readouterr()
    assert any(word in told.err for word in words.split("|")), told.err
    assert told.err.count("\n") == 1 and not told.out


def test_a_port_or_a_work_folder_that_is_taken(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = str(tmp_path / "work")
    with running(str(folder), "--work", work) as (client, _):
        port = str(client.base_url.port)
        assert cli.run(["serve", str(folder), "--work", str(tmp_path / "other"), "--port", port]) == 6
        assert f"port {port} is taken" in capsys.readouterr().err
        assert cli.run(["serve", str(folder), "--work", work, "--port", "0"]) == 6
        assert "another server works in this folder" in capsys.readouterr().err
