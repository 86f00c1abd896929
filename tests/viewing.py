"""A small library of images in memory, and a conversation over the socket, for tests of the viewer's interaction."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from pathlib import Path

import numpy as np
import uvicorn

from isocenter.core import Geometry, Image, Quantity, Source
from isocenter.core.errors import NotFound
from isocenter.core.fingerprint import fingerprint
from isocenter.data.images.nifti import write_nifti
from isocenter.viewer.ports import ImageItem, PixelForm, Planes, StudyDetail, StudyItem, StudyPage
from isocenter.viewer.settings import Limits
from isocenter.viewer.wire import decode_levels, pack, unpack

DISC, BALL, FLAT, OTHER = "d" * 16, "b" * 16, "f" * 16, "e" * 16
TOKEN = "0123456789abcdef-test"
AUTH = {"Authorization": f"Bearer {TOKEN}"}


def disc(seed, shape=(1, 60, 64), radius=13.0, geometry=None):
    """A bright disc or ball on a dark ground, and its mask."""
    rng = np.random.default_rng(seed)
    centre = np.array(shape) / 2 + rng.uniform(-3, 3, 3) * (np.array(shape) > 1)
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    gap = sum(((a - c) ** 2 for a, c, n in zip(axes, centre, shape, strict=True) if n > 1), start=np.zeros(shape))
    inside = gap < radius**2
    array = np.clip(rng.normal(40, 8, shape) + 90 * inside, 0, 255).astype(np.int16)[None]
    geometry = geometry or Geometry(shape)
    source = Source(sha256=fingerprint(array, geometry))
    return Image(array, geometry, Quantity.ARBITRARY, "MR", source), inside


def oblique(shape):
    """A grid with unequal spacing, turned, flipped, away from the origin."""
    turn = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, -1.0]])
    directions = turn[:, [2, 1, 0]]
    return Geometry.from_directions(shape, directions, spacing_mm=(2.5, 0.8, 0.7), origin_mm=(-31.0, 17.0, 40.0))


class MemoryLibrary:
    """The port `Library`, as far as interaction asks for it."""

    identified = False
    kind = "folder"

    def __init__(self, folder: Path):
        self.folder = folder
        shape = (24, 40, 44)
        self.images = {
            DISC: disc(0)[0],
            BALL: disc(1, shape, 9.0, oblique(shape))[0],
            FLAT: Image(np.zeros((1, 1, 8, 8), np.int16), Geometry((1, 8, 8))),
            OTHER: disc(3)[0],
        }
        self.reads = 0

    def image(self, image):
        self.reads += 1
        if image not in self.images:
            raise NotFound("there is no such image")
        return self.images[image]

    def image_item(self, image):
        whole = self.image(image)
        g = whole.geometry
        return ImageItem(
            id=image,
            index=0,
            modality=whole.modality,
            description="a ball",
            quantity=str(whole.quantity),
            unit="",
            shape_zyx=g.shape,
            channels=1,
            spacing_mm=g.spacing_mm,
            pixel_spacing_mm=g.pixel_spacing_mm,
            affine_zyx_to_lps_mm=None if g.affine is None else tuple(tuple(row) for row in g.affine.tolist()),
            orientation=g.orientation,
            patient_orientation=g.patient_orientation,
            frame="",
            stack="space",
            dark_is_high=False,
            windows=(),
            low=0.0,
            high=255.0,
            pixel=PixelForm("int16"),
            bytes=whole.array.nbytes,
        )

    def study_of(self, image):
        self.image(image)
        return "5" * 16

    def _item(self):
        return StudyItem("5" * 16, "p1", None, "balls", ("MR",), len(self.images), len(self.images))

    def studies(self, query):
        return StudyPage(1, (self._item(),)[query.offset :])

    def study(self, study):
        if study != "5" * 16:
            raise NotFound("there is no such study")
        return StudyDetail(self._item(), tuple(self.image_item(image) for image in sorted(self.images)))

    def planes(self, image, first, count):
        planes = np.moveaxis(self.image(image).array[:, first : first + count], 0, -1)
        return Planes((np.ascontiguousarray(planes),), f"{image}-{first}-{count}")

    def picture(self, image, picture):
        raise NotImplementedError

    def nifti(self, image):
        path = self.folder / f"{image}.nii.gz"
        if not path.is_file():
            write_nifti(self.image(image), path)
        return path


class Talk:
    """One side of a conversation over Starlette's test socket."""

    def __init__(self, socket):
        self.socket, self.seq = socket, 0
        self.levels = None

    def say(self, kind, /, **more):
        self.seq += 1
        self.socket.send_bytes(pack({"type": kind, "seq": self.seq, **more}))
        return self.seq

    def hear(self, *kinds):
        """Return the next message of these kinds; progress, leases and pongs are passed over."""
        while True:
            message = unpack(self.socket.receive_bytes())
            if message.kind in kinds or (not kinds and message.kind not in ("progress", "lease")):
                return message
            if message.kind not in ("progress", "lease", "alternative", "opened", "taken", "pong"):
                raise AssertionError(f"heard {message.head} in place of {kinds}")

    def open(self, image, shape, **more):
        self.say("open", image=image, **more)
        opened = self.hear("opened")
        self.levels = np.zeros(shape, dtype=np.uint8)
        self.take(self.hear("delta"))
        return opened

    def act(self, kind, /, **more):
        seq = self.say(kind, **more)
        message = self.hear("delta")
        assert message.head["seq"] == seq
        self.take(message)
        return message.head

    def take(self, message):
        z0, z1, y0, y1, x0, x1 = message.head["box_zyx"]
        levels = decode_levels(message.payload, (z1 - z0, y1 - y0, x1 - x0))
        self.levels[z0:z1, y0:y1, x0:x1] = levels

    @property
    def mask(self):
        return self.levels >= 2


@contextlib.contextmanager
def talking(client, session):
    with client.websocket_connect(
        f"/api/v1/sessions/{session}/socket", subprotocols=["isocenter.v1", f"bearer.{TOKEN}"]
    ) as socket:
        yield Talk(socket)


@contextlib.contextmanager
def tcp_server(app, port=0):
    """Serve an app on loopback, in a thread, as `isocenter serve` does in its process."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(64)
    config = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        timeout_graceful_shutdown=5,
        ws="websockets-sansio",
        ws_max_size=Limits().replay_bytes,
        lifespan="on",
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        end = time.monotonic() + 20
        while not server.started and time.monotonic() < end and thread.is_alive():
            time.sleep(0.01)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
