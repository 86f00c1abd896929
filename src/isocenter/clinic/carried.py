"""Answers that can't go on: their line is gone, or what they are made of can't be read to its end.

For the layers around a web app. An answer that has begun can't be taken back: it is left unfinished, which makes the
server cut the line, so that whoever reads it sees that it is not whole. One line of the log says why; a trace never
does, as it may hold anything.
"""

from __future__ import annotations

import logging
import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from isocenter.core.errors import IsocenterError

__all__ = ["BROKEN_OFF", "Gone", "broken_off", "carried"]

_LOG = logging.getLogger(__name__)
_CLOSED = re.compile(r"role=SERVER and state=(?:MUST_CLOSE|CLOSED|ERROR)")
"""What h11, on which uvicorn stands, says of an answer to a line that it has given up."""
BROKEN_OFF = "an answer was broken off in its middle"
"""How the line of the log begins."""


class Gone(Exception):
    """The server can't send any more: the line is closed, or what came on it was no HTTP."""


async def carried(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Let an app answer a request; where the line is given up meanwhile, end when the server has closed it.

    Args:
        app: ASGI; `Gone` is raised in it where it sends in vain.
        scope: Of a request.
        receive: Of the server.
        send: Of the server.
    """

    async def carry(message: Message) -> None:
        try:
            await send(message)
        except Exception as error:
            if not _CLOSED.search(str(error)):
                raise
            raise Gone from error

    try:
        await app(scope, receive, carry)
    except Gone:
        # A request that stopped being HTTP in its middle: the line is closed, and nobody waits for an answer. Until the
        # server has seen it closed, it takes an app that ends without an answer for a broken one.
        _LOG.info("a request was broken off by its client before it was answered")
        while (await receive())["type"] != "http.disconnect":
            pass


def broken_off(error: Exception) -> bool:
    """Tell whether what broke an answer that had begun is no defect, and log it: data that can't be read to their end.

    Args:
        error: What the app raised; starlette wraps errors that it would have answered, had the answer not begun.
    """
    found = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ is not None else error
    if not isinstance(found, IsocenterError | OSError):
        return False
    _LOG.warning("%s: %s", BROKEN_OFF, type(found).__name__)
    return True
