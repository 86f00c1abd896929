"""What a folder says of itself in words: its licence, its intended use, what it is not for. Quoted, never invented."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

import yaml

from isocenter.models.passport.document import UNKNOWN

__all__ = ["Statements", "read_statements"]


class Statements(TypedDict):
    """What a folder says of itself, under the names of `Passport`."""

    licence: str
    licence_from: str
    intended_use: str
    not_for: str


_MOST_WORDS = 600
_MOST_BYTES = 1 << 20
_USES = ("intended use", "intended uses", "direct use", "uses", "intended purpose", "use")
_AGAINST = ("out-of-scope use", "out of scope use", "out-of-scope", "not for", "misuse", "prohibited use")
_PAGES = ("README.md", "docs/README.md", "MODEL_CARD.md")
_LICENCES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "docs/license.txt", "docs/LICENSE")


def read_statements(folder: Path, metadata: Mapping[str, object] | None = None) -> Statements:
    """Return what a folder says of itself.

    The licence is taken from `metadata`, else from the front matter of the README, else it is the first line of a
    licence file, in quotation marks. Uses are taken from `metadata`, else from the README's sections of that name.

    Args:
        folder: May hold a README.md with a YAML front matter, as model cards do, or a licence file.
        metadata: Fields of a description that is there anyway.
    """
    told = dict(metadata or {})
    page = next((text for name in _PAGES if (text := _text(folder / name))), "")
    front, body = _split(page)
    stated = [(_licence(told), "its metadata"), (_licence(front), "the front matter of README.md")]
    for name in _LICENCES:
        first = next((line.strip("# ").strip() for line in _text(folder / name).splitlines() if line.strip()), "")
        stated.append((f'"{first[:120]}"' if first else "", f"the first line of {name}"))
    licence, source = next(((words, source) for words, source in stated if words), (UNKNOWN, ""))
    uses = {
        key: (_plain(told[key]) if isinstance(told.get(key), str) else "") or _section(body, names) or UNKNOWN
        for key, names in (("intended_use", _USES), ("not_for", _AGAINST))
    }
    return Statements(licence=licence, licence_from=source, intended_use=uses["intended_use"], not_for=uses["not_for"])


def _text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return stream.read(_MOST_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return ""


def _split(page: str) -> tuple[dict[str, object], str]:
    match = re.match(r"\A---\s*\n(.*?)\n---\s*(?:\n|\Z)", page, re.DOTALL)
    if match is None:
        return {}, page
    try:
        front = yaml.safe_load(match[1])
    except (yaml.YAMLError, ValueError, RecursionError):
        front = None
    return ({str(k): v for k, v in front.items()} if isinstance(front, dict) else {}), page[match.end() :]


def _licence(fields: Mapping[str, object]) -> str:
    stated = next((fields[key] for key in ("license", "licence") if fields.get(key)), None)
    if isinstance(stated, list):
        stated = ", ".join(str(part) for part in stated)
    if not isinstance(stated, str):
        return ""
    other = fields.get("license_name")
    return str(other) if stated.strip().lower() == "other" and isinstance(other, str) else " ".join(stated.split())


def _section(body: str, names: tuple[str, ...]) -> str:
    """Return the text under the first heading of one of these names, shortened."""
    heads = list(re.finditer(r"^(#{1,6})\s+(.+?)\s*#*\s*$", body, re.MULTILINE))
    for wanted in names:
        for index, head in enumerate(heads):
            title = re.sub(r"[^a-z -]", "", head[2].lower()).strip()
            if title in (wanted, f"{wanted}s") or title.startswith(f"{wanted} "):
                end = heads[index + 1].start() if index + 1 < len(heads) else len(body)
                words = _plain(body[head.end() : end])
                if words:
                    return words
    return ""


def _plain(text: object) -> str:
    words = " ".join(re.sub(r"<!--.*?-->", " ", str(text), flags=re.DOTALL).split())
    if words.lower().strip("[]. ") in ("more information needed", "n/a", "none", ""):
        return ""
    return words if len(words) <= _MOST_WORDS else words[:_MOST_WORDS].rsplit(" ", 1)[0] + " ..."
