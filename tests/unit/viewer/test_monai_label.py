"""MONAI Label's protocol: its own client where it is installed, what it and its plug-ins send in any case.

Requests are replayed as monailabel 0.8.5 and its plug-ins for 3D Slicer and OHIF make them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import warnings
import zipimport
from email.parser import BytesParser
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch
from starlette.testclient import TestClient

from isocenter.core import Image
from isocenter.data.images.nifti import read_nifti, write_nifti
from isocenter.tasks.interact.engine import Engine
from isocenter.verbs.serving.foreign import LabelFiles
from isocenter.verbs.serving.interaction import SessionInteractions
from isocenter.viewer.app import create_app
from isocenter.viewer.ports import ForeignFiles, Ports
from isocenter.viewer.settings import IDENTITY, Limits, Settings
from viewing import AUTH, BALL, DISC, TOKEN, MemoryLibrary, disc, oblique, tcp_server

SHAPE = (24, 40, 44)
GEOMETRY = oblique(SHAPE)
UID = "1.2.826.0.1.3680043.8.498.77"


@pytest.fixture(scope="module")
def engine():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Engine()
    torch.set_num_threads(threads)


class SeriesLibrary(MemoryLibrary):
    def image_of_series(self, uid):
        return BALL if uid == UID else None


def make_app(engine, folder, **limits):
    library = SeriesLibrary(folder)
    del library.images["f" * 16]
    interactions = SessionInteractions(library, folder / "work", make_engine=lambda: engine)
    limits = Limits(**limits)
    foreign = LabelFiles(library, interactions, folder / "work", limits=limits)
    assert isinstance(foreign, ForeignFiles)
    settings = Settings(TOKEN, names=("testserver",), limits=limits, origins=("http://ohif.example:3000",))
    return create_app(Ports(library=library, interactions=interactions, foreign=foreign), settings)


@pytest.fixture
def monai(engine, tmp_path):
    """A client whose address holds the token, as 3D Slicer and OHIF are given it."""
    with TestClient(make_app(engine, tmp_path), base_url=f"http://testserver/monai/{TOKEN}/") as client:
        yield client


def inside_ball():
    return disc(1, SHAPE, 9.0, GEOMETRY)[1]


def ijk(inside):
    """Where 3D Slicer and OHIF say that the middle is: x, y, z of the file's voxels."""
    return [round(v) for v in np.argwhere(inside).mean(axis=0)[::-1]]


def overlap(a, b):
    return 2 * (a & b).sum() / max(1, a.sum() + b.sum())


def parts(response):
    """Split a multipart answer as `cgi.FieldStorage`, which MONAI Label's client uses, does."""
    head = f"Content-Type: {response.headers['content-type']}\r\n\r\n".encode()
    message = BytesParser().parsebytes(head + response.content)
    found = {}
    for part in message.get_payload():
        name = part.get_param("name", header="content-disposition")
        found[name] = (part.get_filename(), part.get_payload(decode=True))
    return found


def infer(monai, image, params, **query):
    files = {"params": (None, json.dumps(params))}
    return monai.post("infer/interact", params={"image": image, **query}, files=files)


def as_itk(content, suffix, tmp_path):
    """Read a file as 3D Slicer does."""
    file = tmp_path / f"got{suffix}"
    file.write_bytes(content)
    return SimpleITK.ReadImage(str(file))


def same_place(itk, geometry):
    """Whether a file that ITK read lies where a grid does: every corner, in LPS millimetres."""
    corners = np.array([[z, y, x] for z in (0, SHAPE[0] - 1) for y in (0, SHAPE[1] - 1) for x in (0, SHAPE[2] - 1)])
    points = [itk.TransformIndexToPhysicalPoint([int(x), int(y), int(z)]) for z, y, x in corners]
    return np.abs(np.array(points) - geometry.to_world(corners)).max() < 1e-3


def test_what_3d_slicer_does(monai, tmp_path):
    info = monai.get("info/").json()
    assert "config" not in info, "3D Slicer takes a server that has it for an old one"
    model = info["models"]["interact"]
    assert model["type"] == "deepgrow" and model["dimension"] == 3 and model["labels"] == []
    assert info["datastore"] == {"total": 3, "completed": 0, "label_tags": {}}
    assert set(info["strategies"]) == {"first", "random"} and info["trainers"] == {}
    sample = monai.post("activelearning/first", json={"client_id": "user-1"}).json()
    assert sample["id"] == BALL and sample["name"].endswith(".nii.gz") and not sample["path"]
    volume = as_itk(monai.get("datastore/image", params={"image": sample["id"]}).content, ".nii.gz", tmp_path)
    assert same_place(volume, GEOMETRY), "what Slicer shows lies where the image lies"
    inside = inside_ball()
    point = ijk(inside)
    assert SimpleITK.GetArrayFromImage(volume)[tuple(point[::-1])] > 100, "(i, j, k) is x, y, z of this file"
    params = {"label": "ball", "foreground": [point], "background": [], "client_id": "user-1"}
    params |= {"result_extension": ".nrrd", "result_dtype": "uint8"}
    got = parts(infer(monai, BALL, params))
    told = json.loads(got["params"][1])
    assert told["label_names"] == {"ball": 1} and told["expected_dice"] > 0
    assert got["image"][0].endswith(".nrrd")
    mask = as_itk(got["image"][1], ".nrrd", tmp_path)
    assert same_place(mask, GEOMETRY) and mask.GetPixelID() == SimpleITK.sitkUInt8
    first = SimpleITK.GetArrayFromImage(mask) == 1
    assert overlap(first, inside) > 0.7
    # One more click goes on from there; the same clicks in another order, or fewer, begin anew.
    more = {**params, "background": [[point[0] + 14, point[1], point[2]]]}
    second = infer(monai, BALL, more)
    assert second.status_code == 200
    again = as_itk(parts(infer(monai, BALL, params))["image"][1], ".nrrd", tmp_path)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(again) == 1, first)
    # The segments that it saves: a label map on the volume's own grid, the background left out but counted.
    array = np.zeros(SHAPE, dtype=np.uint8)
    array[first] = 1
    array[2:4, 3:6, 5:9] = 2
    label = SimpleITK.GetImageFromArray(array)
    label.CopyInformation(volume)
    file = tmp_path / "label.nii.gz"
    SimpleITK.WriteImage(label, str(file))
    said = {
        "label_info": [{"name": "ball", "idx": 2}, {"name": "vessel", "idx": 3}],
        "model": "",
        "client_id": "user-1",
    }
    with file.open("rb") as stream:
        saved = monai.put(
            "datastore/label",
            params={"image": BALL},
            files={"params": (None, json.dumps(said)), "label": ("/tmp/x/label.nii.gz", stream)},
        )
    assert saved.status_code == 200, saved.text
    assert saved.json()["versions"] == {"ball": 1, "vessel": 1}
    masks = monai.get(f"http://testserver/api/v1/images/{BALL}/masks", headers=AUTH).json()
    assert {(m["label"], m["reader"], m["version"]) for m in masks} == {("ball", "user-1", 1), ("vessel", "user-1", 1)}
    assert monai.get("info/").json()["datastore"]["completed"] == 1
    everything = monai.get("datastore/", params={"output": "all"}).json()["objects"]
    assert everything[BALL]["labels"]["final"]["info"]["params"]["label_names"] == {"ball": 1, "vessel": 2}
    back = monai.get("datastore/label", params={"label": BALL, "tag": "final"})
    assert 'filename="' in back.headers["content-disposition"]
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(as_itk(back.content, ".nii.gz", tmp_path)), array)
    assert monai.post("activelearning/first", json={}).json()["id"] != BALL


def test_what_ohif_does(monai):
    """OHIF names images by their Series Instance UID, sends a form without a file, and reads raw NRRD bytes."""
    inside = inside_ball()
    origin = {"Origin": "http://ohif.example:3000"}
    assert monai.get("info/", headers=origin).headers["access-control-allow-origin"] == origin["Origin"]
    ask = {**origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    asked = monai.options("activelearning/random", headers=ask)
    assert asked.is_success and "content-type" in asked.headers["access-control-allow-headers"]
    params = {
        "foreground": [ijk(inside)],
        "background": [],
        "result_extension": ".nrrd",
        "result_dtype": "uint8",
        "result_compress": False,
        "restore_label_idx": False,
    }
    answer = monai.post(
        "infer/interact",
        params={"image": UID, "output": "image"},
        files={"params": (None, json.dumps(params))},
        headers=origin,
    )
    assert answer.headers["access-control-allow-origin"] == origin["Origin"]
    head, _, voxels = answer.content.partition(b"\n\n")
    assert b"encoding: raw" in head and b"type: uint8" in head and b"sizes: 44 40 24" in head
    assert overlap(np.frombuffer(voxels, np.uint8).reshape(SHAPE) == 1, inside) > 0.7
    saved = monai.put(
        "datastore/label",
        params={"image": UID},
        files={
            "params": (None, json.dumps({"label_info": [{"name": "ball", "idx": 1}]})),
            "label": ("label.bin", inside.astype(np.uint8).tobytes()),
        },
        headers=origin,
    )
    assert saved.status_code == 200, saved.text
    assert monai.get("train/", params={"check_if_running": "true"}).status_code == 404
    assert monai.post("train/", json={}).status_code == 501
    other = monai.put("datastore/label", params={"image": UID}, headers={"Origin": "http://evil.example"})
    assert other.status_code == 403


def test_an_image_of_ones_own_is_outlined_in_a_session(monai, tmp_path):
    image, inside = disc(5, SHAPE, 9.0, GEOMETRY)
    ras = np.diag([-1.0, -1, 1, 1]) @ GEOMETRY.affine[:, [2, 1, 0, 3]]
    file = tmp_path / "mine.nii.gz"
    nibabel.Nifti1Image(image.array[0].transpose(2, 1, 0), ras).to_filename(file)
    begun = monai.put("session/", files=[("files", ("mine.nii.gz", file.read_bytes()))], data={"client_id": "u"})
    session = begun.json()["session_id"]
    assert begun.json()["session_info"]["expiry"] == 3600
    assert monai.get(f"session/{session}").status_code == 200
    got = infer(monai, "mine", {"foreground": [ijk(inside)]}, session_id=session)
    mask = as_itk(parts(got)["image"][1], ".nii.gz", tmp_path)
    assert same_place(mask, GEOMETRY)
    assert overlap(SimpleITK.GetArrayFromImage(mask) == 1, inside) > 0.7
    assert monai.delete(f"session/{session}").status_code == 200
    assert monai.get(f"session/{session}").status_code == 404
    assert infer(monai, "mine", {"foreground": [ijk(inside)]}, session_id=session).status_code == 404


def test_a_picture_without_a_place_keeps_its_voxels(monai, tmp_path):
    _, inside = disc(0)
    volume = as_itk(monai.get("datastore/image", params={"image": DISC}).content, ".nii.gz", tmp_path)
    got = infer(monai, DISC, {"foreground": [ijk(inside)], "result_extension": ".nrrd"})
    mask = as_itk(parts(got)["image"][1], ".nrrd", tmp_path)
    assert mask.GetDirection() == volume.GetDirection() and mask.GetOrigin() == volume.GetOrigin()
    assert overlap(SimpleITK.GetArrayFromImage(mask) == 1, inside) > 0.7
    file = tmp_path / "label.nrrd"
    SimpleITK.WriteImage(mask, str(file))
    saved = monai.put("datastore/label", params={"image": DISC}, files={"label": ("label.nrrd", file.read_bytes())})
    assert saved.status_code == 200, saved.text


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({}, 400),
        ({"foreground": []}, 400),
        ({"foreground": [], "background": [[1, 2, 3]]}, 400),
        ({"foreground": [[1, 2]]}, 400),
        ({"foreground": [["a", 2, 3]]}, 400),
        ({"foreground": [[500, 2, 3]]}, 400),
        ({"foreground": [[2, 2, 3]] * 3000}, 400),
        ({"foreground": [[2, 2, 3]], "result_extension": "/../../x"}, 400),
    ],
)
def test_what_can_not_be_followed_is_refused(monai, params, status):
    got = infer(monai, BALL, params)
    assert got.status_code == status and got.json()["detail"], got.text


def test_what_is_wrong_or_too_much_is_refused(engine, tmp_path):
    app = make_app(engine, tmp_path, upload_bytes=2000)
    with TestClient(app, base_url="http://testserver") as client:
        inside = f"/monai/{TOKEN}"
        for path in ("/info/", "/datastore/", "/monai/wrong/info/", "/monai//info/", "/monai", "/monai/"):
            assert client.get(path).status_code in (401, 404), path
        assert client.get("/info/", headers=AUTH).status_code == 200
        image = {"image": "../../../etc/passwd"}
        assert client.get(f"{inside}/datastore/image", params=image).status_code == 404
        assert client.get(f"{inside}/datastore/image", params={"image": "1.2.3"}).status_code == 404
        assert client.get(f"{inside}/datastore/label", params={"label": BALL}).status_code == 404
        assert client.post(f"{inside}/infer/other", params={"image": BALL}).status_code == 404
        assert client.post(f"{inside}/activelearning/none", json={}).status_code == 404
        assert (
            client.put(f"{inside}/datastore/", params={"image": "x"}, files={"file": ("x.nii", b"x")}).status_code
            == 501
        )
        big = {"label": ("label.nii.gz", b"x" * 5000)}
        assert client.put(f"{inside}/datastore/label", params={"image": BALL}, files=big).status_code == 413
        for name, content in (("l.nii.gz", b"x"), ("l.exe", b"x"), ("l.bin", b"123")):
            sent = client.put(f"{inside}/datastore/label", params={"image": BALL}, files={"label": (name, content)})
            assert sent.status_code in (400, 422), (name, sent.text)
        params = {"params": (None, "[1]"), "label": ("l.nii.gz", b"x")}
        assert client.put(f"{inside}/datastore/label", params={"image": BALL}, files=params).status_code == 400
        assert client.get(f"http://testserver/api/v1/images/{BALL}/masks", headers=AUTH).json() == []
        # The login that 3D Slicer shows where the address is given without the token.
        assert client.get("/auth/").json()["enabled"] is True
        assert client.get(f"{inside}/auth/").json()["enabled"] is False
        login = {"username": "AB", "password": "no", "grant_type": "password"}
        assert client.post("/auth/token", data=login).status_code == 401
        token = client.post("/auth/token", data={**login, "password": TOKEN}).json()
        headers = {"Authorization": f"{token['token_type']} {token['access_token']}"}
        assert client.get("/auth/token/valid", headers=headers).status_code == 200
        assert client.get("/info/", headers=headers).status_code == 200


def test_with_accounts_a_label_is_of_whose_account_it_is(engine, tmp_path):
    app = make_app(engine, tmp_path)

    async def asked(scope, receive, send):
        await app({**scope, IDENTITY: SimpleNamespace(name="CD", role="radiologist")}, receive, send)

    file = tmp_path / "label.nii.gz"
    write_nifti(Image(inside_ball().astype(np.int16)[None], GEOMETRY), file)
    with TestClient(asked, base_url=f"http://testserver/monai/{TOKEN}/") as monai:
        said = {"params": (None, json.dumps({"client_id": "AB", "label_info": [{"name": "ball", "idx": 1}]}))}
        sent = monai.put(
            "datastore/label", params={"image": BALL}, files={**said, "label": ("label.nii.gz", file.read_bytes())}
        )
        assert sent.status_code == 200, sent.text
        (mask,) = monai.get(f"http://testserver/api/v1/images/{BALL}/masks", headers=AUTH).json()
    assert mask["reader"] == "CD"


def test_a_label_on_another_grid_is_refused(monai, tmp_path):
    """A label that was mirrored on its way has the shape of the image, and lies on the other side."""
    mirrored = GEOMETRY.reoriented((0, 1, 2), (False, False, True))
    ras = np.diag([-1.0, -1, 1, 1]) @ mirrored.affine[:, [2, 1, 0, 3]]
    file = tmp_path / "label.nii.gz"
    nibabel.Nifti1Image(inside_ball().astype(np.uint8).transpose(2, 1, 0), ras).to_filename(file)
    sent = monai.put("datastore/label", params={"image": BALL}, files={"label": ("label.nii.gz", file.read_bytes())})
    assert sent.status_code == 422 and sent.json()["code"] == "geometry"


def monai_client():
    """MONAI Label's own client, from its installed package or its wheel (MONAILABEL_WHEEL).

    The module is loaded by itself: it needs requests alone, and the package round it asks for much more.
    """
    wheel = os.environ.get("MONAILABEL_WHEEL", "")
    package = importlib.util.find_spec("monailabel")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports cgi
        if wheel:
            importer = zipimport.zipimporter(f"{wheel}/monailabel/client")
            spec = importlib.util.spec_from_loader("client", importer)
        elif package is not None and package.submodule_search_locations:
            file = Path(package.submodule_search_locations[0]) / "client" / "client.py"
            spec = importlib.util.spec_from_file_location("client", file)
        else:
            return None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.MONAILabelClient


@pytest.mark.enable_socket
@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_its_own_client(engine, tmp_path):
    client_class = monai_client()
    if client_class is None:
        pytest.skip(
            "MONAI Label's client is not here: pip install --no-deps monailabel==0.8.5, or MONAILABEL_WHEEL=its wheel"
        )
    inside = inside_ball()
    with tcp_server(make_app(engine, tmp_path)) as port:
        client = client_class(f"http://127.0.0.1:{port}/monai/{TOKEN}", tmpdir=str(tmp_path), client_id="user-xyz")
        assert client.auth_enabled() is False
        assert client.info()["name"] == "Isocenter"
        sample = client.next_sample("first", {})
        assert sample["id"] == BALL
        file, told = client.infer("interact", BALL, {"label": "ball", "foreground": [ijk(inside)], "background": []})
        assert told["label_names"] == {"ball": 1}
        mask = read_nifti(Path(file))
        assert mask.geometry.same_grid(GEOMETRY)
        assert overlap(mask.array[0] == 1, inside) > 0.7
        saved = client.save_label(BALL, file, params={"label_info": [{"name": "ball", "idx": 1}]})
        assert saved["versions"] == {"ball": 1}
        back = read_nifti(Path(client.download_label(BALL, "final")))
        np.testing.assert_array_equal(back.array, mask.array)
        assert back.geometry.same_grid(GEOMETRY)
        assert client.datastore()["objects"][BALL]["labels"]["final"]
        write_nifti(disc(5, SHAPE, 9.0, GEOMETRY)[0], tmp_path / "mine.nii.gz")
        session = client.create_session(str(tmp_path / "mine.nii.gz"))["session_id"]
        assert client.get_session(session)["name"] == session
        file, _ = client.infer("interact", "mine", {"foreground": [ijk(inside)]}, session_id=session)
        assert read_nifti(Path(file)).geometry.same_grid(GEOMETRY)
        client.remove_session(session)
        assert client.train_status(check_if_running=True) is False
        login = client_class(f"http://127.0.0.1:{port}", tmpdir=str(tmp_path))
        assert login.auth_enabled() is True
        login.update_auth(login.auth_token("AB", TOKEN))
        assert login.auth_valid_token() and login.info()["name"] == "Isocenter"
