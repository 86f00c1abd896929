"""What the viewer is told once, at its start."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["IDENTITY", "NOT_FOR_CLINICAL_USE", "PREFIX", "Limits", "Settings"]

PREFIX = "/api/v1"
IDENTITY = "isocenter.identity"
"""Where in the ASGI scope it stands who asks, where there are accounts (`clinic.access.IDENTITY`)."""
NOT_FOR_CLINICAL_USE = "For research. Not a medical device; every answer needs review by a qualified person."


@dataclass(frozen=True)
class Limits:
    """What the server refuses beyond.

    Args:
        sessions: Interaction sessions at once.
        body_bytes: Of a request's body.
        upload_bytes: Of a file that is uploaded (a mask).
        image_bytes: Of an image as it lies in memory, for all that needs the whole of it.
        answer_bytes: Of the voxels in one answer.
        message_bytes: Of a message of the socket.
        replay_bytes: Of a replay on the socket, which holds all acts on an image.
        lease_seconds: How long a session keeps its place without a word.
        session_bytes: Of memory that all sessions hold together before idle ones rest.
        waiting_acts: Acts of one session that may wait for their turn.
    """

    sessions: int = 8
    body_bytes: int = 1 << 20
    upload_bytes: int = 256 << 20
    image_bytes: int = 2 << 30
    answer_bytes: int = 64 << 20
    message_bytes: int = 1 << 20
    replay_bytes: int = 8 << 20
    lease_seconds: float = 900.0
    session_bytes: int = 2 << 30
    waiting_acts: int = 32


@dataclass(frozen=True)
class Settings:
    """How the viewer is served.

    Args:
        token: Whoever sends it may use everything.
        host: Address that it listens on.
        port: Port.
        names: Names by which browsers may reach it, beside `host` and the loopback's names; Host headers of other names
            are refused, against DNS rebinding.
        limits: What is refused beyond.
        page: Folder of the built page; None for the one in the package.
        open_paths: Beginnings of paths that need no token, beside the page, its assets and the health check.
            A login of MONAI Label asks for the token itself.
        upload_paths: Beginnings of paths whose bodies may be as long as uploads.
        knows: Where there are accounts: tells whether an API token is one; None: `token` is the only one.
        origins: Other sites ("http://localhost:3000") whose pages may use MONAI Label's protocol, as OHIF does.
    """

    token: str
    host: str = "127.0.0.1"
    port: int = 8470
    names: tuple[str, ...] = ()
    limits: Limits = Limits()
    page: Path | None = None
    open_paths: tuple[str, ...] = ("/auth/",)
    upload_paths: tuple[str, ...] = ("/datastore/", "/session/", "/infer/", "/monai/")
    origins: tuple[str, ...] = ()
    knows: Callable[[str], bool] | None = None

    def is_token(self, given: str) -> bool:
        """Tell whether somebody sent a token that is good."""
        if self.knows is not None:
            return self.knows(given)
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())
