"""The client against a real server on loopback: what is done, what is refused, what a restart takes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch

from isocenter.client import Client, error_of
from isocenter.client.transport import split_address
from isocenter.core.errors import (
    AtCapacity,
    ConfigError,
    Conflict,
    NotFound,
    SessionExpired,
    TransportError,
)
from isocenter.tasks.interact.engine import Engine
from isocenter.verbs.serving.interaction import SessionInteractions
from isocenter.viewer.app import create_app
from isocenter.viewer.ports import Ports
from isocenter.viewer.settings import Limits, Settings
from viewing import BALL, DISC, OTHER, TOKEN, MemoryLibrary, disc, oblique, tcp_server

pytestmark = pytest.mark.enable_socket


@pytest.fixture(scope="module")
def engine():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Engine()
    torch.set_num_threads(threads)


def app_of(engine, folder, **limits):
    library = MemoryLibrary(folder)
    interactions = SessionInteractions(library, folder / "work", make_engine=lambda: engine)
    settings = Settings(TOKEN, limits=Limits(**limits))
    return create_app(Ports(library=library, interactions=interactions), settings)


@pytest.fixture(scope="module")
def port(engine, tmp_path_factory):
    with tcp_server(app_of(engine, tmp_path_factory.mktemp("served"), sessions=3)) as port:
        yield port


@pytest.fixture
def client(port):
    with Client(f"http://127.0.0.1:{port}/#token={TOKEN}", reader="AB", timeout_seconds=30) as client:
        yield client


def overlap(a, b):
    return 2 * (a & b).sum() / max(1, a.sum() + b.sum())


def test_a_case_from_the_list_to_the_mask(client, tmp_path):
    assert client.info()["api"] == "1"
    (study,) = client.every_study()
    detail = client.study(study)
    assert {item.id for item in detail.images} >= {DISC, BALL}
    shape = (24, 40, 44)
    geometry = oblique(shape)
    _, inside = disc(1, shape, 9.0, geometry)
    place = geometry.to_world(np.argwhere(inside).mean(axis=0)[None])[0]
    with client.session("ball") as session:
        outline = session.open(client.image_item(BALL))
        assert outline.expected_dice is None and not outline.mask.any()
        outline = session.point(place)
        assert overlap(outline.mask, inside) > 0.7 and outline.prompts == 1
        session.box(geometry.to_world(np.array([[4, 10, 10], [20, 30, 34]])))
        assert session.undo().prompts == 1
        assert session.redo().prompts == 2
        assert session.clear().prompts == 0
        session.undo()
        session.propagate("z", 3, 20)
        expected = session.undo().mask
        assert session.mask.geometry.same_grid(geometry)
        name = session.confirm()
        with pytest.raises(ConfigError, match="no image is open"):
            session.point(place)
    (item,) = client.masks(BALL)
    assert (item.id, item.label, item.reader, item.clicks) == (name, "ball", "AB", 2)
    mask = client.mask(name)
    assert mask.geometry.same_grid(geometry)
    np.testing.assert_array_equal(mask.array == 1, expected)
    assert client.save_mask(item, tmp_path / "m.nii.gz").stat().st_size > 100
    assert client.save_nifti(BALL, tmp_path / "i.nii.gz").stat().st_size > 100


def test_errors_are_ours(client, port):
    with pytest.raises(NotFound):
        client.study("0" * 16)
    with pytest.raises(NotFound):
        client.mask("0" * 16)
    with pytest.raises(TransportError, match="token"), Client(f"http://127.0.0.1:{port}", "wrong-token-wrong") as wrong:
        wrong.info()
    with pytest.raises(TransportError, match="does not answer"), Client("http://127.0.0.1:9", TOKEN) as nobody:
        nobody.info()
    with pytest.raises(ConfigError, match="http"):
        Client("ftp://x")
    places = []
    with pytest.raises(AtCapacity, match="3 places"):
        for _ in range(4):
            places += [client.session("disc")]
    gone = places.pop()
    gone.close()
    gone.close()
    with pytest.raises(SessionExpired):
        gone.open(DISC)
    one, other = places
    one.open(DISC)
    with pytest.raises(Conflict) as taken:
        other.open(DISC)
    assert taken.value.code == "taken"
    other.open(DISC, take_over=True)
    with pytest.raises(Conflict):
        one.point((0, 30, 32), frame="index_zyx")
    with pytest.raises(ConfigError, match="outside the image"):
        other.point((0, 300, 32), frame="index_zyx")
    with pytest.raises(ConfigError, match="three numbers"):
        other.point((30, 32))
    for session in places:
        session.close()


def test_what_a_lost_connection_took_is_done_again(client):
    _, inside = disc(0)
    centre = np.argwhere(inside).mean(axis=0)
    with client.session("disc") as session:
        session.open(DISC)
        before = session.point(centre, frame="index_zyx").levels
        session._socket.socket.close()
        assert session.point((0, 2, 2), positive=False, frame="index_zyx").prompts == 2
        np.testing.assert_array_equal(session.undo().levels, before)


def test_a_mask_that_somebody_confirmed_meanwhile_is_told_once_and_then_joined_by_ours(client):
    centre = np.argwhere(disc(0)[1]).mean(axis=0)
    with client.session("late") as one, client.session("late") as other:
        one.open(DISC)
        one.point(centre, frame="index_zyx")
        other.open(DISC, take_over=True)
        other.point(centre, frame="index_zyx")
        first = other.confirm()
        other.close()
        with pytest.raises(Conflict) as late:
            one.confirm()
        assert late.value.code == "stale"
        second = one.confirm()
    masks = {mask.version: mask.id for mask in client.masks(DISC) if mask.label == "late"}
    assert masks == {1: first, 2: second}


def test_what_is_too_long_is_refused_and_not_tried_again(client):
    centre = np.argwhere(disc(0)[1]).mean(axis=0)
    with client.session("long") as session:
        session.open(DISC)
        session.point(centre, frame="index_zyx")
        with pytest.raises(TransportError, match="as long as this"):
            session.scribble(np.full((60_000, 3), 1 / 3), frame="index_zyx")
        assert session.point(centre, frame="index_zyx").prompts == 2


def test_a_restarted_server_goes_on_where_it_was(engine, tmp_path):
    _, inside = disc(0)
    centre = np.argwhere(inside).mean(axis=0)
    with tcp_server(app_of(engine, tmp_path)) as port:
        client = Client(f"http://127.0.0.1:{port}", TOKEN, timeout_seconds=30)
        session = client.session("disc")
        session.open(DISC)
        session.point(centre, frame="index_zyx")
        session.confirm()
        session.open(OTHER)
        before = session.point(centre, frame="index_zyx").levels
    with tcp_server(app_of(engine, tmp_path), port):
        session.undo()
        np.testing.assert_array_equal(session.redo().levels, before)
        assert len(session.cases) == 1
        session.confirm()
        assert len(client.masks(DISC)) == len(client.masks(OTHER)) == 1
        session.close()
        client.close()


def test_an_image_comes_as_the_server_has_it():
    shape, slope = (5, 4, 3), 0.5
    geometry = oblique(shape)
    stored = np.arange(60, dtype="<i2").reshape(*shape, 1)
    item = MemoryLibrary.image_item(MemoryLibrary(Path()), BALL)

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/pixels"):
            first, count = int(request.url.params["first"]), int(request.url.params["count"])
            return httpx.Response(200, content=stored[first : first + count].tobytes())
        assert request.headers["authorization"] == "Bearer t" and request.headers["x-isocenter-reader"] == "AB"
        told = {
            **{name: getattr(item, name) for name in ("id", "index", "modality", "description", "unit", "notes")},
            "quantity": "HU",
            "shape_zyx": shape,
            "channels": 1,
            "spacing_mm": geometry.spacing_mm,
            "pixel_spacing_mm": None,
            "affine_zyx_to_lps_mm": geometry.affine.tolist(),
            "orientation": geometry.orientation,
            "patient_orientation": ["", ""],
            "frame": "f",
            "stack": "space",
            "dark_is_high": False,
            "windows": [{"name": "soft", "centre": 40, "width": 400, "more": 1}],
            "low": 0,
            "high": 1,
            "pixel": {"dtype": "int16", "slope": slope, "intercept": -10},
            "bytes": 120,
            "something_new": True,
        }
        return httpx.Response(200, json=told)

    client = Client("http://server", "t", reader="AB", transport=httpx.MockTransport(answer))
    image = client.image("i")
    np.testing.assert_allclose(image.array[0], stored[..., 0] * slope - 10)
    assert image.geometry.same_grid(geometry) and image.quantity.value == "HU" and image.window == ((40.0, 400.0),)
    part = client.image("i", first=2, count=2)
    np.testing.assert_array_equal(part.array, image.array[:, 2:4])
    np.testing.assert_allclose(part.geometry.to_world([[0, 0, 0]]), geometry.to_world([[2, 0, 0]]))


def test_an_address_holds_the_token_and_codes_are_errors():
    assert split_address("http://h:1/x/#token=a_b-c") == ("http://h:1/x", "a_b-c")
    assert isinstance(error_of("not_read", "x"), Conflict)
    refusal = error_of("withheld_sentences", "1 sentence")
    assert isinstance(refusal, Conflict) and refusal.code == "withheld_sentences"
    assert isinstance(error_of("brand_new", "x"), TransportError)


def test_the_client_needs_no_torch_and_no_server():
    code = (
        "import sys, isocenter.client; "
        "there = {m.split('.')[0] for m in sys.modules}; "
        "bad = {'torch', 'fastapi', 'starlette', 'uvicorn', 'pydicom', 'scipy'} & there; "
        "sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_page_about_the_client_is_true(client, port, tmp_path, monkeypatch):
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "client.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert blocks
    names: dict = {}
    for code in blocks:
        if "# needs" in code:  # readings and drafts, which this server does not offer
            compile(code, "client.md", "exec")
            continue
        code = code.replace("http://127.0.0.1:8470/#token=...", f"http://127.0.0.1:{port}/#token={TOKEN}")
        exec(compile(code, "client.md", "exec"), names)
    names["client"].close()
    assert names["mask"].array.any()
    assert (tmp_path / "nodule.nii.gz").is_file()
