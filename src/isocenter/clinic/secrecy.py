"""Whether what is sent to an address could be read by anybody on the way."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

__all__ = ["in_the_clear"]

_HERE: Final = ("localhost", "127.0.0.1", "::1")


def in_the_clear(url: str) -> bool:
    """Tell whether a secret that is sent to a URL leaves this machine unencrypted.

    Example:
        >>> in_the_clear("http://pacs.example/dicom-web"), in_the_clear("http://127.0.0.1:8042/"), in_the_clear("https://x/")
        (True, False, False)
        >>> in_the_clear("http://127.0.0.1@pacs.example/"), in_the_clear("HTTP://pacs.example")
        (True, True)
    """
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname not in _HERE
