"""Alerts to a web hook: tried a few times, in a thread of its own, so that nothing waits for whoever listens."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import import_module
from typing import Any, Final

from isocenter.core.errors import CapabilityError

__all__ = ["WebHook"]

_LOG = logging.getLogger(__name__)
_WAITS_S: Final = (0.0, 2.0, 10.0)
_MOST: Final = 1000


class WebHook:
    """Posts what happens as JSON: {"kind", "study", "detail", "at"}. No patient's value is in it.

    Args:
        url: Where to.
        token: Bearer token, "" for none.
        timeout_s: Of each try.

    Raises:
        CapabilityError: httpx is not installed.
    """

    def __init__(self, url: str, token: str = "", timeout_s: float = 5.0) -> None:
        try:
            self._httpx: Any = import_module("httpx")
        except ImportError as error:
            raise CapabilityError("a web hook needs httpx: pip install 'isocenter[clinic]'") from error
        self._url, self._timeout_s = url, timeout_s
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._waiting: queue.Queue[Mapping[str, str] | None] = queue.Queue(_MOST)
        self._thread = threading.Thread(target=self._post_all, name="web-hook", daemon=True)
        self._thread.start()

    def __call__(self, kind: str, study: str, detail: str) -> None:
        """Tell of something; where too much waits already, that is logged, and the ledger has it all the same."""
        told = {"kind": kind, "study": study, "detail": detail, "at": datetime.now(UTC).isoformat(timespec="seconds")}
        try:
            self._waiting.put_nowait(told)
        except queue.Full:
            _LOG.warning("the web hook is far behind; an event was not posted")

    def close(self, patience_s: float = 5.0) -> None:
        """Post what waits, within bounds."""
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(patience_s)

    def _post_all(self) -> None:
        while (told := self._waiting.get()) is not None:
            for wait_s in _WAITS_S:
                time.sleep(wait_s)
                if self._posted(told):
                    break
            else:
                _LOG.error("the web hook did not take an event after %d tries", len(_WAITS_S))

    def _posted(self, told: Mapping[str, str]) -> bool:
        try:
            answer = self._httpx.post(self._url, json=dict(told), headers=self._headers, timeout=self._timeout_s)
        except self._httpx.HTTPError as error:
            _LOG.warning("the web hook can't be reached: %s", type(error).__name__)
            return False
        return bool(answer.is_success)
