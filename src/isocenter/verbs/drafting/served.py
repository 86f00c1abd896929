"""A language model behind any OpenAI-compatible server (vLLM, llama.cpp, Ollama), on this machine unless told else.

A draft speaks of a patient. It is sent to this machine alone; another host must be named by whoever runs it, and the
connection to it must be encrypted.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from isocenter.core.errors import ConfigError, ModelError
from isocenter.verbs.drafting.turns import ModelTurn, RequestedCall

__all__ = ["ServedModel"]

_HERE = frozenset({"localhost", "127.0.0.1", "::1"})
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class ServedModel:
    """A model behind a server.

    Args:
        url: Base address, e.g. "http://127.0.0.1:8000/v1".
        model: Name of the model at the server.
        allowed: Hosts beside this machine that a draft may be sent to.
        seconds: Longest time for an answer.
        key: Sent as a bearer token; "" for none.

    Raises:
        ConfigError: The address is none, or its host is not allowed.
    """

    url: str
    model: str
    allowed: tuple[str, ...] = ()
    seconds: float = 60.0
    key: str = ""

    def __post_init__(self) -> None:
        parts = _parts(self.url)
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"{self.url!r} is no address of a server; e.g. http://127.0.0.1:8000/v1")
        if parts.hostname in _HERE:
            return
        if parts.hostname not in self.allowed:
            raise ConfigError(
                f"the draft would leave this machine for {parts.hostname}; if that is allowed, name it: "
                f"--allow-host {parts.hostname}"
            )
        if parts.scheme != "https":
            raise ConfigError(f"to {parts.hostname} a draft is sent by https alone")

    @property
    def name(self) -> str:
        """Its name, for the page."""
        return self.model

    def complete(self, system: str, user: str, *, schema: dict[str, object]) -> str:
        """Return what the model answers.

        Raises:
            ModelError: The server did not answer, not in time, or not in its form.
        """
        body = {
            "model": self.model, "temperature": 0, "max_tokens": 2048, "stream": False,
            "messages": [{"role": "system", "content": system}, {"role": "user", "content": user}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "draft", "schema": schema}},
        }  # fmt: skip
        text = _message(self._post(json.dumps(body).encode(), self.seconds)).get("content")
        if not isinstance(text, str):
            raise ModelError("the server's answer holds no text")
        return text

    def choose(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]], *, seconds: float
    ) -> ModelTurn:
        """Return which tools the model would call, or what it says; see `CallingModel`.

        Raises:
            ModelError: The server did not answer, not in time, or not in its form.
        """
        body = {
            "model": self.model, "temperature": 0, "max_tokens": 1024, "stream": False, "messages": list(messages),
            "tools": list(tools), "tool_choice": "auto",
        }  # fmt: skip
        message = _message(self._post(json.dumps(body).encode(), min(seconds, self.seconds)))
        text, wanted = message.get("content") or "", message.get("tool_calls") or []
        if not isinstance(text, str) or not isinstance(wanted, list):
            raise ModelError("the server's answer is not in the form of a chat completion")
        return ModelTurn(text, tuple(_requested(one, number) for number, one in enumerate(wanted)))

    def _post(self, body: bytes, seconds: float) -> bytes:
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=seconds)
        # Headers, sizes of chunks and trailers that drip byte by byte never meet the timeout of a socket: the line is
        # cut when time is over.
        line = _Line(connection)
        cut = threading.Timer(seconds, line.cut)
        cut.daemon = True
        cut.start()
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {self.key}"} if self.key else {})}
        late = f"the server did not answer within {round(seconds, 1):g} s"
        try:
            connection.request("POST", f"{parts.path.rstrip('/')}/chat/completions", body, headers)
            line.held = connection.sock
            response = connection.getresponse()
            found = bytearray()
            while piece := response.read1(65536):
                found += piece
                if len(found) > _MOST_BYTES:
                    raise ModelError("the server's answer is longer than any draft")
                if line.over:
                    break
            if line.over:  # a line that was cut looks like an answer that ended
                raise ModelError(f"the server did not end its answer within {round(seconds, 1):g} s")
        except TimeoutError as error:
            raise ModelError(late) from error
        except (OSError, http.client.HTTPException) as error:
            raise ModelError(late if line.over else f"the server can't be asked: {type(error).__name__}") from error
        finally:
            cut.cancel()
            connection.close()
        if response.status != 200:
            raise ModelError(f"the server answered with status {response.status}")
        return bytes(found)


class _Line:
    """The line to a server, which can be cut.

    Args:
        connection: Over which is asked.
    """

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self.connection, self.over = connection, False
        # A connection forgets its socket once the headers say that the answer is its last.
        self.held: socket.socket | None = None

    def cut(self) -> None:
        """Shut it down, whoever reads from it."""
        self.over = True
        line = self.held or self.connection.sock
        if line is not None:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)


def _parts(url: str) -> SplitResult | None:
    """Return the parts of an address; None where it is none."""
    try:
        parts = urlsplit(url)
        (parts.hostname or "").encode("idna")
        known = parts.port is None or parts.port > 0
    except ValueError:
        return None
    return parts if known and url.isascii() and url.isprintable() and " " not in url else None


def _message(answer: bytes) -> dict[str, Any]:
    try:
        message = json.loads(answer)["choices"][0]["message"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise ModelError("the server's answer is not in the form of a chat completion") from error
    if not isinstance(message, dict):
        raise ModelError("the server's answer is not in the form of a chat completion")
    return message


def _requested(one: object, number: int) -> RequestedCall:
    function = one.get("function") if isinstance(one, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(one, dict) or not isinstance(function, dict) or not isinstance(name, str):
        raise ModelError("the server's answer asks for a tool in a form of its own")
    arguments = function.get("arguments") or "{}"  # some servers send an object, most its text
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return RequestedCall(str(one.get("id") or f"call_{number}"), name, text)
