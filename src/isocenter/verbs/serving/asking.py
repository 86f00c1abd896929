"""Questions about a study as a chat: a dialogue for each conversation, its answers with places to jump to.

A conversation lives in memory, remembers what was last spoken of, and is let go after an hour or when many newer ones
are there. It belongs to one reading: when the study is read again, what was said is of the old one, and it is over.
"""

from __future__ import annotations

import secrets
import threading
import time as clock
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isocenter.core.errors import Conflict, SessionExpired
from isocenter.verbs.ask import AskConfig, document_of, open_dialogue
from isocenter.verbs.asking.dialogue import Dialogue
from isocenter.verbs.serving.drafts import Readings
from isocenter.verbs.serving.places import Places
from isocenter.viewer.report_models import AskAnswer, AskRequest, AskSentence

__all__ = ["Conversations"]

MOST, SECONDS = 64, 3600.0
"""Conversations that are kept at once, and how long after the last question."""


@dataclass
class _Conversation:
    study: str
    reading: str
    dialogue: Dialogue
    places: Places
    last: float
    lock: threading.Lock = field(default_factory=threading.Lock)


class Conversations:
    """Conversations about studies (`viewer.report_ports.Asking`).

    Args:
        readings: Gives readings of a study.
        model: Settings of a language model that may choose the tools (`llm_url`, `llm_folder`, ... of `AskConfig`).
    """

    def __init__(self, readings: Readings, model: Mapping[str, Any] | None = None) -> None:
        self._readings, self._model = readings, dict(model or {})
        self._lock = threading.Lock()
        self._open: OrderedDict[str, _Conversation] = OrderedDict()

    def ask(self, study: str, request: AskRequest) -> AskAnswer:
        """Answer a question, or say why not; see `Asking`."""
        reading = self._readings(study, None)
        if reading is None:
            raise Conflict("the study was not read yet: run a reading first", code="not_read")
        name = request.conversation or secrets.token_hex(8)
        with self._lock:
            self._expire()
            talk = self._open.get(name)
            if request.conversation is not None:
                if talk is None or talk.study != study:
                    raise SessionExpired("this conversation is over; begin another")
                if talk.reading != reading.id:
                    raise SessionExpired("the study was read again; begin another conversation")
        if talk is None:
            talk = self._begun(study, reading.id, reading.folder, request, reading.images)
        with talk.lock:
            answer = talk.dialogue.ask(request.question)
        with self._lock:
            talk.last = clock.monotonic()
            self._open[name] = talk
            self._open.move_to_end(name)
            while len(self._open) > MOST:
                self._open.popitem(last=False)
        told = document_of(answer, talk.dialogue.examined)
        return AskAnswer(
            conversation=name,
            outcome=told.outcome,
            refused=told.why or None,
            answer=tuple(
                AskSentence(text=s.text, kind=s.kind, evidence=tuple(p for e in s.evidence for p in talk.places.of(e)))
                for s in told.sentences
            ),
            calls=tuple({"tool": c.tool, "arguments": c.arguments} for c in told.calls),
            by=told.by,
            remarks=told.remarks,
            withheld=told.withheld,
        )

    def _begun(
        self, study: str, reading: str, folder: Path, request: AskRequest, images: Mapping[int, str]
    ) -> _Conversation:
        config = AskConfig(study=folder, language=request.language, **self._model)
        with ExitStack() as stack:  # a result is given, so nothing is read that would have to be let go
            dialogue = stack.enter_context(open_dialogue(config))
        places = Places(reading, folder, dialogue.examined, images)
        return _Conversation(study, reading, dialogue, places, clock.monotonic())

    def _expire(self) -> None:
        old = clock.monotonic() - SECONDS
        for name in [name for name, talk in self._open.items() if talk.last < old]:
            del self._open[name]
