"""Outlining as users do it: a process over DICOM, killed in the middle of the work, and what stands after it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest

from isocenter.client import Client
from isocenter.core import Geometry, Image
from isocenter.core.errors import TransportError
from isocenter.data.images.rtstruct import read_rtstruct
from isocenter.data.images.seg import read_seg
from serving_cases import TOKEN, served, studies, write_study

pytestmark = pytest.mark.enable_socket


def start(folder, port="0"):
    environment = {**os.environ, "ISOCENTER_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "isocenter.cli", "serve", str(folder), "--port", port]
    with (folder.parent / "server.log").open("a") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
    return process, process.stdout.readline().strip()


def ball(centre):
    shape = (20, 48, 56)
    geometry = Geometry.axial(shape, spacing_mm=(2.0, 1.0, 0.5), origin_mm=(5.0, -7.0, 11.0), frame_uid="1.2.3")
    z, y, x = np.ogrid[:20, :48, :56]
    inside = ((z - centre[0]) * 2.0) ** 2 + (y - centre[1]) ** 2 + ((x - centre[2]) * 0.5) ** 2 < 9**2
    noise = np.random.default_rng(0).normal(-600, 20, shape)
    return Image((noise + 650 * inside).astype(np.int16)[None], geometry), inside


def overlap(a, b):
    return 2 * (a & b).sum() / max(1, a.sum() + b.sum())


def test_work_outlives_a_killed_server_and_is_written_as_seg_and_rtstruct(tmp_path: Path):
    folder = tmp_path / "in"
    cases = {"1.2.9.1": ball((9, 20, 22)), "1.2.9.2": ball((10, 26, 30))}
    for number, (uid, (image, _)) in enumerate(cases.items()):
        write_study(folder / uid, image, study=uid, date=f"2024010{number + 1}")
    image, inside = cases["1.2.9.1"]
    place = image.geometry.to_world(np.argwhere(inside).mean(axis=0)[None])[0]
    process, address = start(folder)
    port = address.partition("/#")[0].rpartition(":")[2]
    try:
        with Client(address, reader="AB", timeout_seconds=60) as client:
            second, first = (client.study(s).images[0] for s in client.every_study())
            session = client.session("ball")
            session.open(first)
            outline = session.point(place)
            assert overlap(outline.mask, inside) > 0.7
            mask = session.confirm()
            for form, read in (("seg", read_seg), ("rtstruct", read_rtstruct)):
                file = client.save_mask(mask, tmp_path / f"{form}.dcm", form=form)
                back = read(file, geometry=image.geometry)
                assert overlap(np.asarray(back.array).reshape(inside.shape) > 0, outline.mask) > 0.95, form
            next_inside = cases["1.2.9.2"][1]
            there = np.argwhere(next_inside).mean(axis=0)
            session.open(second, propose=False)
            session.point(there, frame="index_zyx")
            before = session.point((2, 2, 2), positive=False, frame="index_zyx").levels
            # OHIF, which knows the series alone.
            params = {"foreground": [there[::-1].tolist()], "result_extension": ".nrrd", "result_compress": False}
            monai = f"{address.partition('/#')[0]}/monai/{TOKEN}"
            answer = httpx.post(
                f"{monai}/infer/interact",
                params={"image": "1.2.9.2.1", "output": "image"},
                files={"params": (None, json.dumps(params))},
                timeout=60,
            )
            voxels = np.frombuffer(answer.content.partition(b"\n\n")[2], np.uint8).reshape(next_inside.shape)
            assert overlap(voxels == 1, next_inside) > 0.7
            process.kill()
            process.communicate()
            with pytest.raises(TransportError):
                client.info()
            process, _ = start(folder, port)
            # The client connects again and replays what it did; a proposal was not asked for the first time either.
            assert session.undo().prompts == 1
            np.testing.assert_array_equal(session.redo().levels, before)
            assert len(session.cases) == 1
            session.confirm()
            assert [m.version for m in client.masks(first)] == [1]
            assert len(client.masks(second)) == 1
            session.close()
    finally:
        process.kill()
        process.communicate()


def test_a_series_that_was_resampled_is_not_named_by_its_uid(tmp_path: Path):
    image, _ = ball((9, 20, 22))
    write_study(tmp_path / "in" / "whole", image, study="1.2.9.1")
    write_study(tmp_path / "in" / "gap", image, study="1.2.9.2", patient="P2")
    gone = sorted((tmp_path / "in" / "gap").rglob("*.dcm"))
    for file in gone[7:9]:
        file.unlink()
    with served(tmp_path / "in", tmp_path / "work") as client:
        found = {s["instances"]: s["id"] for s in studies(client)}
        (image_item,) = client.get(f"/api/v1/studies/{found[18]}").json()["images"]
        assert any("resampled" in note for note in image_item["notes"])
        assert client.get("/datastore/image/info", params={"image": "1.2.9.1.1"}).status_code == 200
        refused = client.get("/datastore/image/info", params={"image": "1.2.9.2.1"})
        assert (refused.status_code, refused.json()["code"]) == (422, "geometry")
        assert client.get("/datastore/image/info", params={"image": image_item["id"]}).status_code == 200
