"""The protocol of MONAI Label (0.8), so that the clients of 3D Slicer and OHIF connect to this server unchanged.

Their address is ``http://HOST:PORT/monai/TOKEN/``: these clients fetch images without any header, so that the token
must stand in the path. Without it, the same routes take the token as every route does, or as the password of a login.

Voxels are counted (i, j, k) = (x, y, z) of the file that the client was given; nothing here knows left from right.
Points, files and names are handed to `ports.ForeignFiles`. There is no training: a confirmed case helps with the next
at once.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Body, File, Form, Query, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response

from isocenter.core import Prompt
from isocenter.core.errors import CapabilityError, ConfigError, NotFound
from isocenter.version import __version__
from isocenter.viewer.ports import ForeignFiles, ImageItem, Interactions, Library, OutlineRequest, Ports, StudyQuery
from isocenter.viewer.problems import answer
from isocenter.viewer.settings import IDENTITY, NOT_FOR_CLINICAL_USE, Settings

__all__ = ["MODEL", "router"]

MODEL = "interact"
_MOST_STUDIES = 64
"""Studies whose images are listed; the protocol has no pages."""
_MOST_POINTS = 2_000
_SESSION_SECONDS = 3600
_FINAL = "final"


def router(ports: Ports, settings: Settings) -> APIRouter:
    """Return the routes, twice: as they are, and below the token."""
    both = APIRouter(include_in_schema=False)
    if ports.foreign is None or ports.interactions is None:
        return both
    server = _Server(ports.library, ports.interactions, ports.foreign)
    plain = _routes(server, settings)
    both.include_router(plain)
    both.include_router(_login(settings, offered=True))
    # Whoever is let in here has the token: `security.Guard` reads it in the path.
    both.include_router(_routes(server, settings), prefix="/monai/{token}")
    both.include_router(_login(settings, offered=False), prefix="/monai/{token}")
    return both


@dataclass(frozen=True)
class _Sent:
    """An image that a client sent for a session."""

    image: str
    name: str
    created: int
    expiry: int


class _Server:
    """What the routes ask; names of images are ours, or the Series Instance UID that OHIF knows."""

    def __init__(self, library: Library, interactions: Interactions, foreign: ForeignFiles) -> None:
        self.library, self.interactions, self.foreign = library, interactions, foreign
        self.sessions: dict[str, _Sent] = {}

    def image(self, name: str) -> str:
        """Return our name of an image."""
        if not name:
            raise ConfigError("say which image")
        found = self.foreign.image_of_series(name) if "." in name else None
        return found or name

    def images(self) -> list[ImageItem]:
        """List the images of the newest studies."""
        found: list[ImageItem] = []
        for study in self.library.studies(StudyQuery(limit=_MOST_STUDIES)).items:
            found.extend(i for i in self.library.study(study.id).images if not i.too_large and i.channels in (1, 3))
        return found

    def status(self) -> dict[str, Any]:
        """Return how many images there are, and how many are done."""
        images = self.images()
        done = sum(bool(self.interactions.masks(image.id)) for image in images)
        return {"total": len(images), "completed": done, "label_tags": {_FINAL: done} if done else {}}

    def labels(self) -> list[str]:
        """Return the structures that somebody works on or worked on."""
        names = {label for _, label, _ in self.interactions.known()}
        return ["object", *sorted(names - {"object"})]

    def info(self) -> dict[str, Any]:
        """Return what the server offers, as MONAI Label says it."""
        return {
            "name": "Isocenter",
            "description": f"Isocenter: outline what is pointed at. {NOT_FOR_CLINICAL_USE}",
            "version": __version__,
            "labels": self.labels(),
            "models": {
                MODEL: {
                    # "deepgrow": foreground and background points of one structure. No labels of its own: 3D Slicer
                    # would run it on every new image, without a point.
                    "type": "deepgrow",
                    "labels": [],
                    "dimension": 3,
                    "description": "Outlines what is pointed at, in pictures and volumes of any modality",
                    "config": {},
                }
            },
            "trainers": {},
            "strategies": {
                "first": {"description": "The next image without a mask", "config": {}},
                "random": {"description": "Any image without a mask", "config": {}},
            },
            "scoring": {},
            "train_stats": {},
            "datastore": self.status(),
        }

    def everything(self) -> dict[str, Any]:
        """Return all images with their labels."""
        objects = {}
        for item in self.images():
            latest = {mask.label: mask for mask in self.interactions.masks(item.id)}
            names = {label: number for number, label in enumerate(sorted(latest), start=1)}
            labels = {_FINAL: {"ext": ".nii.gz", "info": {"params": {"label_names": names}}}} if latest else {}
            objects[item.id] = {"image": {"ext": ".nii.gz", "info": _info(item)}, "labels": labels}
        return {"name": "Isocenter", "description": "", "images_dir": "", "labels_dir": "labels", "objects": objects}

    def next_sample(self, strategy: str) -> dict[str, Any]:
        """Return an image without a mask; nothing where all have one."""
        if strategy not in ("first", "random"):
            raise NotFound(f"there is no strategy {strategy[:32]!r}; use first or random")
        open_ = [item for item in self.images() if not self.interactions.masks(item.id)]
        if not open_:
            return {}
        item = secrets.choice(open_) if strategy == "random" else open_[0]
        return {"id": item.id, "path": "", "name": f"{item.id}.nii.gz", **_info(item)}

    def outlined(self, image: str, params: Mapping[str, Any], who: str) -> tuple[bytes, str, dict[str, Any]]:
        """Outline what is pointed at; return the file, its name and what is told of it."""
        label = str(params.get("label") or "object")[:64]
        suffix = str(params.get("result_extension") or ".nii.gz")
        request = OutlineRequest(
            image=image,
            prompts=_prompts(params, label),
            label=label,
            who=who,
            suffix=suffix if suffix.startswith(".") else f".{suffix}",
            packed=params.get("result_compress", True) is not False,
        )
        since = time.perf_counter()
        done = self.foreign.outline(request)
        told = {
            "label_names": {label: 1},
            "expected_dice": done.expected_dice,
            "latencies": {"total": round(time.perf_counter() - since, 3)},
        }
        return done.content, done.name, told


def _routes(server: _Server, settings: Settings) -> APIRouter:
    routes = APIRouter(tags=["MONAI Label"])
    _add_datastore(routes, server, settings)
    _add_sessions(routes, server, settings)

    @routes.get("/info/")
    def info() -> dict[str, Any]:
        """Tell what is offered."""
        return server.info()

    @routes.post("/activelearning/{strategy}")
    def sample(strategy: str, _params: Annotated[dict[str, Any] | None, Body()] = None) -> dict[str, Any]:
        """Choose the next image."""
        return server.next_sample(strategy)

    @routes.post("/infer/{model}")
    async def infer(
        model: str,
        request: Request,
        image: str = "",
        session_id: str = "",
        output: str = "",
    ) -> Response:
        """Outline what is pointed at."""
        if model != MODEL:
            raise NotFound(f"there is no model {model[:32]!r}; there is {MODEL}")
        if output == "dicom_seg":
            raise CapabilityError("save the label, and fetch it as SEG from the viewer's address of the mask")
        async with request.form(max_files=2, max_fields=8) as form:
            params = _params_of(form.get("params"))
            file = form.get("file")
            sent = await _content(file, settings) if _is_file(file) else None
        taken = ""
        if sent is not None:
            taken = name = await run_in_threadpool(server.foreign.take, *sent)
        elif session_id:
            name = _session(server, session_id).image
        else:
            name = server.image(image)
        try:
            content, file_name, told = await run_in_threadpool(server.outlined, name, params, _who(request, params))
        finally:
            if taken:
                server.foreign.drop(taken)
        if output == "json":
            return JSONResponse(told)
        if output == "image":
            kind = "application/octet-stream"
            return Response(
                content, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{file_name}"'}
            )
        return _multipart(told, content, file_name)

    @routes.get("/train/")
    def training() -> Response:
        """Tell that nothing is being trained: the clients take any answer but 404 for "running"."""
        return answer(404, "not_found", "Nothing is trained", "confirmed cases help at once; there is no training here")

    @routes.post("/train/")
    @routes.post("/train/{model}")
    @routes.delete("/train/")
    def train(model: str = "") -> Response:
        """Refuse: there is no training."""
        raise CapabilityError("confirmed cases help at once; to train, use `isocenter adapt` on the work folder")

    @routes.get("/logs/")
    def logs() -> Response:
        """Show no logs: they may speak of patients."""
        return PlainTextResponse("logs stay on the server\n")

    return routes


def _add_datastore(routes: APIRouter, server: _Server, settings: Settings) -> None:
    @routes.get("/datastore/")
    def datastore(output: str = "stats") -> dict[str, Any]:
        """Tell which images and labels there are."""
        return server.everything() if output in ("all", "train") else server.status()

    @routes.api_route("/datastore/image", methods=["GET", "HEAD"])
    def image(image: str) -> FileResponse:
        """Send an image as NIfTI."""
        name = server.image(image)
        path = server.foreign.image_file(name)
        return FileResponse(path, media_type="application/gzip", filename=f"{name}.nii.gz")

    @routes.get("/datastore/image/info")
    def image_info(image: str) -> dict[str, Any]:
        """Tell what is known of an image."""
        return _info(server.library.image_item(server.image(image)))

    @routes.put("/datastore/")
    @routes.put("/datastore/image")
    @routes.delete("/datastore/")
    @routes.delete("/datastore/image")
    @routes.delete("/datastore/label")
    def change() -> Response:
        """Refuse: sources are never written to, and no mask is taken away."""
        raise CapabilityError(
            "images are served from where they lie and are not changed; send your own image in a session, and put it "
            "into the served folder to keep labels of it"
        )

    @routes.api_route("/datastore/label", methods=["GET", "HEAD"])
    def label(
        label: str = "", image: str = "", tag: str = _FINAL
    ) -> FileResponse:  # fmt: skip
        """Send the latest version of every structure, as one label map."""
        if tag != _FINAL:
            raise NotFound("labels have the tag final")
        name = server.image(label or image)
        path, _ = server.foreign.label_file(name)
        return FileResponse(path, media_type="application/gzip", filename=f"{name}.nii.gz")

    @routes.get("/datastore/label/info")
    def label_info(label: str, tag: str = _FINAL) -> dict[str, Any]:
        """Tell which value is which structure."""
        _, names = server.foreign.label_file(server.image(label))
        return {"params": {"label_names": dict(names)}}

    @routes.put("/datastore/label")
    async def save_label(
        asked: Request,
        image: str,
        label: Annotated[UploadFile, File()],
        params: Annotated[str, Form(max_length=100_000)] = "{}",
        tag: Annotated[str, Query(max_length=64)] = _FINAL,
    ) -> dict[str, Any]:
        """Take a label: every structure of it becomes a new version. With accounts, it is whose account it is."""
        said, name = _params_of(params), server.image(image)
        content, file_name = await _content(label, settings)
        reader = _who(asked, said)
        labels = _label_names(said.get("label_info"))
        added = await run_in_threadpool(
            lambda: server.foreign.add_label(name, content, file_name, labels=labels, reader=reader)
        )
        versions = {item.label: item.version for item in added}
        return {"image": image, "label": name, "tag": _FINAL, "versions": versions}


def _add_sessions(routes: APIRouter, server: _Server, settings: Settings) -> None:
    @routes.put("/session/")
    async def create(files: Annotated[list[UploadFile], File()], expiry: int = 0) -> dict[str, Any]:
        """Take an image of the client's own, for a while."""
        if len(files) != 1:
            raise ConfigError("a session has one image, as NIfTI or NRRD")
        content, name = await _content(files[0], settings)
        image = await run_in_threadpool(server.foreign.take, content, name)
        session = secrets.token_hex(16)
        now = int(time.time())
        server.sessions[session] = _Sent(
            image, name, now, expiry if 0 < expiry <= _SESSION_SECONDS else _SESSION_SECONDS
        )
        while len(server.sessions) > 256:
            del server.sessions[next(iter(server.sessions))]
        return {"session_id": session, "session_info": _session_info(session, server.sessions[session])}

    @routes.get("/session/{session}")
    def one(session: str) -> dict[str, Any]:
        """Return a session."""
        return _session_info(session, _session(server, session))

    @routes.delete("/session/{session}")
    def remove(session: str) -> dict[str, Any]:
        """End a session."""
        sent = _session(server, session)
        del server.sessions[session]
        server.foreign.drop(sent.image)
        return _session_info(session, sent)


def _login(settings: Settings, *, offered: bool) -> APIRouter:
    """Return the routes by which 3D Slicer asks whether a login is needed; the password is the token."""
    routes = APIRouter(tags=["MONAI Label"])

    @routes.get("/auth/")
    def enabled() -> dict[str, Any]:
        """Tell whether a login is needed."""
        return {"enabled": offered, "client_id": "", "realm": "Isocenter"}

    @routes.post("/auth/token")
    async def token(request: Request) -> Response:
        """Exchange the password for a token: they are the same."""
        async with request.form(max_files=0, max_fields=8) as form:
            password = form.get("password")
        if not isinstance(password, str) or not settings.is_token(password):
            return answer(401, "unauthorized", "A token is needed", "the password is a token of the server")
        return JSONResponse({"access_token": password, "token_type": "Bearer"})

    @routes.get("/auth/token/valid")
    def valid(request: Request) -> Response:
        """Tell whether a token is valid."""
        given = request.headers.get("authorization", "").partition(" ")[2]
        if offered and not settings.is_token(given):
            return answer(401, "unauthorized", "A token is needed", "log in again")
        return JSONResponse({"username": "", "name": "", "roles": []})

    return routes


def _who(asked: Request, said: Mapping[str, Any]) -> str:
    """Return who works: with accounts whose account it is, as nobody works in another's name; else what is said."""
    known = asked.scope.get(IDENTITY)
    return str(said.get("client_id") or "")[:64] if known is None else str(known.name)


def _prompts(params: Mapping[str, Any], label: str) -> tuple[Prompt, ...]:
    """Return what is pointed at: foreground and background points (i, j, k), or those under the label."""
    prompts = []
    roi = params.get("roi")
    if isinstance(roi, list) and len(roi) == 6:
        low, high = _points([[roi[0], roi[2], roi[4]], [roi[1], roi[3], roi[5]]])
        prompts.append(_prompt("box", np.stack([np.minimum(low, high), np.maximum(low, high)]), positive=True))
    for name, positive in (("foreground", True), (label, True), ("background", False)):
        listed = params.get(name)
        if name == label and label in ("foreground", "background"):
            continue
        if isinstance(listed, list):
            prompts.extend(_prompt("point", point[None], positive=positive) for point in _points(listed))
    if len(prompts) > _MOST_POINTS:
        raise ConfigError(f"at most {_MOST_POINTS} points are taken at once")
    return tuple(prompts)


def _points(listed: list[Any]) -> np.ndarray:
    """Return points (z, y, x) from points (i, j, k)."""
    if len(listed) > _MOST_POINTS:
        raise ConfigError(f"at most {_MOST_POINTS} points are taken at once")
    for point in listed:
        numbers = isinstance(point, list) and len(point) == 3
        if not numbers or not all(type(v) in (int, float) and abs(v) < 1e9 for v in point):
            raise ConfigError("a point is three numbers: i, j, k of the image's voxels")
    return np.array(listed, dtype=np.float64).reshape(-1, 3)[:, ::-1]


def _prompt(kind: Any, points: np.ndarray, *, positive: bool) -> Prompt:
    return Prompt(kind, points, positive, "index_zyx")


def _params_of(text: object) -> dict[str, Any]:
    if text is None or text == "":
        return {}
    try:
        params = json.loads(text) if isinstance(text, str | bytes) else None
    except (ValueError, RecursionError):
        params = None
    if not isinstance(params, dict):
        raise ConfigError("params are a JSON object")
    return params


def _label_names(listed: object) -> dict[int, str]:
    """Return which value is which structure, as 3D Slicer ("idx") and OHIF ("id", "idx") say it."""
    names: dict[int, str] = {}
    for one in listed if isinstance(listed, list) else []:
        if isinstance(one, Mapping) and isinstance(one.get("name"), str):
            value = one.get("idx", one.get("id"))
            number = value if isinstance(value, int) and not isinstance(value, bool) else len(names) + 1
            names[number] = str(one["name"]).strip()[:64] or "object"
    return names


def _is_file(value: object) -> bool:
    return hasattr(value, "filename") and hasattr(value, "read")


async def _content(file: Any, settings: Settings) -> tuple[bytes, str]:
    """Return what was uploaded, and the last part of its name (of which nothing but the suffix is used)."""
    content = await file.read(settings.limits.upload_bytes + 1)
    name = str(file.filename or "").replace("\\", "/").rpartition("/")[2]
    return content, name


def _session(server: _Server, session: str) -> _Sent:
    sent = server.sessions.get(session)
    if sent is None or sent.created + sent.expiry < time.time():
        server.sessions.pop(session, None)
        raise NotFound("there is no such session; send the image again")
    return sent


def _session_info(session: str, sent: _Sent) -> dict[str, Any]:
    return {
        "name": session,
        "path": "",
        "image": sent.name,
        "meta": {},
        "create_ts": sent.created,
        "last_access_ts": int(time.time()),
        "expiry": sent.expiry,
    }


def _info(item: ImageItem) -> dict[str, Any]:
    return {"modality": item.modality, "description": item.description, "shape": list(item.shape_zyx[::-1])}


def _multipart(told: Mapping[str, Any], content: bytes, name: str) -> Response:
    """Answer with words and a file in one, as MONAI Label does."""
    boundary = secrets.token_hex(16)
    parts = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="params"\r\nContent-Type: application/json\r\n\r\n'
        f'{json.dumps(told)}\r\n--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
        f"Content-Type: application/octet-stream\r\n\r\n"
    )
    body = parts.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    return Response(body, media_type=f"multipart/form-data; boundary={boundary}")
