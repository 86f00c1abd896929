"""The server's process: a socket, uvicorn, and an orderly end."""

from __future__ import annotations

import errno
import logging
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import uvicorn

from isocenter.core.errors import OutputError
from isocenter.viewer.settings import Limits

__all__ = ["listen", "run_server"]

_SHUTDOWN_SECONDS = 10
_KEEP_ALIVE_SECONDS = 30
_MESSAGE_BYTES = Limits().replay_bytes


class _Server(uvicorn.Server):
    """A server that says when it listens, and may be told to stop by other means than a signal."""

    def __init__(
        self, config: uvicorn.Config, listening: Callable[[], None], stopped: Callable[[], bool] | None
    ) -> None:
        super().__init__(config)
        self._listening, self._stopped = listening, stopped

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            self._listening()

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or (self._stopped is not None and self._stopped())

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take signals, unless another process decides when this one stops."""
        if self._stopped is not None:
            yield
            return
        with super().capture_signals():
            yield


def run_server(
    app: Any,
    listener: socket.socket,
    started: Callable[[int], None],
    *,
    stopped: Callable[[], bool] | None = None,
    tls: tuple[Path, Path] | None = None,
    logs: bool = True,
) -> None:
    """Run an app until the process is told to stop; requests that are open are finished first.

    Args:
        app: ASGI.
        listener: As `listen` returns it; whoever opened it closes it.
        started: Called with the port once it listens.
        stopped: Tells when to stop; None: a signal does.
        tls: Files of certificate and key (PEM); None: plain HTTP.
        logs: Whether to write to standard error what there is to log; not where this process has its logs already,
            whose form and secrecy then hold for the server's as well.
    """
    if logs:
        _log_to_standard_error()
    config = uvicorn.Config(
        app,
        log_config=uvicorn.config.LOGGING_CONFIG if logs else None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        ws="websockets-sansio" if find_spec("websockets") is not None else "none",
        ws_max_size=_MESSAGE_BYTES,
        lifespan="on",
        ssl_certfile=None if tls is None else tls[0],
        ssl_keyfile=None if tls is None else tls[1],
    )
    config.load()
    if config.ssl is not None:
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
        config.ssl.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    number = listener.getsockname()[1]
    with suppress(KeyboardInterrupt):
        _Server(config, lambda: started(number), stopped).run(sockets=[listener])


def _log_to_standard_error() -> None:
    """Show defects by their type; with ISOCENTER_DEBUG=1 with their trace, which may hold values from headers."""
    log = logging.getLogger("isocenter.viewer")
    log.setLevel(logging.DEBUG if os.environ.get("ISOCENTER_DEBUG") == "1" else logging.WARNING)
    if not log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("isocenter: %(message)s"))
        log.addHandler(handler)
        log.propagate = False


def listen(host: str, port: int) -> socket.socket:
    """Listen on an address.

    Args:
        host: Address.
        port: Port; 0 for any that is free.

    Raises:
        OutputError: It is taken, or none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named: asyncio turns off the wait for more bytes (Nagle) only where it sees that it is TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise OutputError(f"port {port} is taken; stop the other server, or give another --port") from error
        raise OutputError(f"cannot listen on {host} port {port} ({error.strerror}); give another --host") from error
    return listener
