"""A language model behind any OpenAI-compatible server (vLLM, llama.cpp, Ollama), on this machine unless told else.

A draft speaks of a patient. It is sent to this machine alone; another host must be named by whoever runs it, and the
connection to it must be encrypted.
"""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from isocenter.core.errors import ConfigError, ModelError

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
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
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
        answer = self._post(json.dumps(body).encode())
        try:
            text = json.loads(answer)["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise ModelError("the server's answer is not in the form of a chat completion") from error
        if not isinstance(text, str):
            raise ModelError("the server's answer holds no text")
        return text

    def _post(self, body: bytes) -> bytes:
        parts, until = urlsplit(self.url), time.monotonic() + self.seconds
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=self.seconds)
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {self.key}"} if self.key else {})}
        try:
            connection.request("POST", f"{parts.path.rstrip('/')}/chat/completions", body, headers)
            response = connection.getresponse()
            found = bytearray()
            # Piece by piece: a server that drips a byte a second must not hold us for ever.
            while piece := response.read1(65536):
                found += piece
                if len(found) > _MOST_BYTES:
                    raise ModelError("the server's answer is longer than any draft")
                if time.monotonic() > until:
                    raise ModelError(f"the server did not end its answer within {self.seconds:g} s")
        except TimeoutError as error:
            raise ModelError(f"the server did not answer within {self.seconds:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise ModelError(f"the server can't be asked: {type(error).__name__}") from error
        finally:
            connection.close()
        if response.status != 200:
            raise ModelError(f"the server answered with status {response.status}")
        return bytes(found)
