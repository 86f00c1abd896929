"""JSON of FHIR read with care: what has another type than the standard says is complained of, not stumbled over."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

__all__ = ["Node"]


class Node:
    """One JSON object of a resource, and where complaints of it go.

    Args:
        content: The object.
        place: Path within the resource, for complaints.
        wrong: Takes the complaints.

    Example:
        >>> wrong = []
        >>> node = Node({"code": {"text": "Hb"}, "status": 7}, "Observation", wrong)
        >>> node.one("code").text("text"), node.text("status"), wrong
        ('Hb', '', ['Observation.status is no text'])
    """

    def __init__(self, content: dict[str, Any], place: str, wrong: list[str]) -> None:
        self.content = content
        self.place = place
        self.wrong = wrong

    def __bool__(self) -> bool:
        return bool(self.content)

    def __contains__(self, key: str) -> bool:
        return self.content.get(key) is not None

    def _complain(self, key: str, what: str) -> None:
        self.wrong.append(f"{self.place}.{key} is no {what}")

    def text(self, key: str) -> str:
        """Return a text without blanks around it, "" where there is none."""
        found = self.content.get(key)
        if found is None:
            return ""
        if not isinstance(found, str):
            self._complain(key, "text")
            return ""
        return found.strip()

    def texts(self, key: str) -> list[str]:
        """Return a list of texts."""
        found = self._list(key)
        if any(not isinstance(item, str) for item in found if item is not None):
            self._complain(key, "list of texts")
        return [item.strip() for item in found if isinstance(item, str) and item.strip()]

    def number(self, key: str) -> float | None:
        """Return a finite number, None where there is none."""
        found = self.content.get(key)
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
            self._complain(key, "finite number")
            return None
        return float(found)

    def truth(self, key: str) -> bool | None:
        """Return true or false, None where neither is said."""
        found = self.content.get(key)
        if found is not None and not isinstance(found, bool):
            self._complain(key, "true or false")
            return None
        return found

    def one(self, key: str) -> Node:
        """Return an object; an empty one where there is none."""
        found = self.content.get(key)
        if found is not None and not isinstance(found, dict):
            self._complain(key, "object")
        return Node(found if isinstance(found, dict) else {}, f"{self.place}.{key}", self.wrong)

    def many(self, key: str) -> Iterator[Node]:
        """Yield the objects of a list."""
        for number, item in enumerate(self._list(key)):
            if isinstance(item, dict):
                yield Node(item, f"{self.place}.{key}[{number}]", self.wrong)
            elif item is not None:
                self._complain(f"{key}[{number}]", "object")

    def first(self, key: str) -> Node:
        """Return the first object of a list; an empty one where there is none."""
        return next(self.many(key), Node({}, f"{self.place}.{key}", self.wrong))

    def _list(self, key: str) -> list[Any]:
        found = self.content.get(key)
        if found is None:
            return []
        if not isinstance(found, list):
            self._complain(key, "list")
            return []
        return found
