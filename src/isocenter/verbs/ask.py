"""Ask about a study: answers by tools over the claim ledger, every sentence on evidence, or a refusal.

result.json (or a study, which is read first) -> claim ledgers -> a question, read by rules or by a language model that
chooses tools -> sentences that the ledger supports. Nothing else is said; what can't be answered is refused.
"""

from __future__ import annotations

import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from isocenter.core.errors import ConfigError
from isocenter.verbs import settings as fields
from isocenter.verbs.asking.answers import picture_of
from isocenter.verbs.asking.dialogue import Answer, Dialogue
from isocenter.verbs.asking.study import Examined, open_examined
from isocenter.verbs.drafting.chosen import language_model
from isocenter.verbs.provenance import created_now
from isocenter.version import __version__

__all__ = ["AskConfig", "AskDocument", "ask", "open_dialogue", "run"]

Progress = Callable[[str, float], None]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AskConfig(_Strict):
    """Configuration of `isocenter ask`.

    Attributes:
        study: Folder that `isocenter read` wrote, its result.json, or a study, which is read first.
        question: One question in English; None for a dialogue.
        prior: Result of an earlier study of the same patient.
        out: Where a study is read into; None for a folder that is deleted afterwards.
        language: Of the answers: English, Spanish or Chinese.
        llm_url: Base address of an OpenAI-compatible server that may choose the tools; None for none.
        llm_model: Name of the model at that server.
        allow_host: Hosts beside this machine that questions and answers may be sent to.
        llm_seconds: Longest time for the whole of a model's work on a question.
        llm_folder: Hugging Face folder of a language model on this machine; instead of a server.
    """

    study: Path
    question: str | None = None
    prior: Path | None = None
    out: Path | None = None
    language: Literal["en", "es", "zh"] = "en"
    llm_url: str | None = None
    llm_model: str = "default"
    allow_host: tuple[str, ...] = ()
    llm_seconds: float = Field(default=60.0, gt=0, le=3600)
    llm_folder: Path | None = None


class SentenceEntry(_Strict):
    """A sentence of an answer: what it rests on, and whether it claims something or says what was examined."""

    text: str
    kind: Literal["claim", "earlier", "note", "limit"]
    claims: tuple[str, ...]
    evidence: tuple[str, ...]


class CallEntry(_Strict):
    """A call of a tool."""

    tool: str
    arguments: dict[str, str]


class EvidenceEntry(_Strict):
    """Evidence that a sentence rests on, in one line for people; `picture` is relative to the result, "" for none."""

    id: str
    kind: str
    text: str
    picture: str = ""


class AskDocument(_Strict):
    """What `isocenter ask --json` prints; the question is not in it, as it may name somebody.

    Attributes:
        format: Version of this form.
        created: When, UTC.
        isocenter: Version.
        outcome: "answered"; "not found": looked for and not there; "not examined": no task looked; "refused".
        why: Why it was refused; "" where it was not.
        sentences: In order.
        calls: Tools that were called.
        data: What each tool answered.
        evidence: What the sentences rest on.
        by: Who chose the tools: "rules", or a model's name.
        remarks: What happened on the way.
        withheld: How many sentences were withheld.
        inputs: sha256 of the images that the result is of.
    """

    format: Literal["isocenter-ask/1"] = "isocenter-ask/1"
    created: str
    isocenter: str = __version__
    outcome: Literal["answered", "not found", "not examined", "refused"]
    why: str
    sentences: tuple[SentenceEntry, ...]
    calls: tuple[CallEntry, ...]
    data: tuple[dict[str, Any], ...]
    evidence: tuple[EvidenceEntry, ...]
    by: str
    remarks: tuple[str, ...]
    withheld: int
    inputs: tuple[str, ...]

    @property
    def text(self) -> str:
        """The answer as plain text, a sentence a line."""
        return "\n".join(one.text for one in self.sentences)


def ask(study: Path | str, question: str, *, progress: Progress | None = None, **settings: Any) -> AskDocument:
    """Ask one question.

    Args:
        study: Folder that `isocenter read` wrote, its result.json, or a study, which is read first.
        question: In English.
        progress: Called with the stage and how much is done, while a study is read.
        **settings: Any further field of `AskConfig`.

    Returns:
        The answer, or why there is none.

    Raises:
        ConfigError: A setting is wrong, the earlier result is of another patient, or a question would leave this
            machine without leave.
        DataError: The study or result can't be read.
        ModelError: The local language model can't be opened.
    """
    return run(configured(study, question=question, **settings), progress)


def configured(study: Path | str, **settings: Any) -> AskConfig:
    """Make an `AskConfig` from settings.

    Raises:
        ConfigError: One is wrong.
    """
    return fields.configured(AskConfig, study=Path(study), **settings)


def run(config: AskConfig, progress: Progress | None = None) -> AskDocument:
    """Do what an `AskConfig` says; see `ask`."""
    if config.question is None:
        raise ConfigError("there is no question; for a dialogue use open_dialogue")
    with open_dialogue(config, progress) as dialogue:
        return document_of(dialogue.ask(config.question), dialogue.examined)


@contextmanager
def open_dialogue(config: AskConfig, progress: Progress | None = None) -> Iterator[Dialogue]:
    """Open a dialogue: read the study where it is not yet, and the model where one is named.

    Args:
        config: What is asked of, and by whom it is answered.
        progress: Called with the stage and how much is done, while a study is read.

    Raises:
        ConfigError: A setting is wrong, or the earlier result is of another patient.
        DataError: The study or result can't be read.
        ModelError: The local language model can't be opened.
    """
    model = language_model(
        config.llm_url, config.llm_model, config.allow_host, config.llm_seconds, config.llm_folder
    )  # fmt: skip
    with ExitStack() as stack:
        result = config.study
        if not _is_result(result):
            result = config.out or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "result"
            _read_first(config.study, result, progress)
        elif config.out is not None:
            raise ConfigError("--out is for a study that is read first; a result was given")
        yield Dialogue(open_examined(result, config.prior), config.language, model, config.llm_seconds)


def _is_result(path: Path) -> bool:
    return path.name == "result.json" or (path.is_dir() and (path / "result.json").is_file())


def _read_first(study: Path, out: Path, progress: Progress | None) -> None:
    from isocenter.verbs.read import read

    read(study, out, progress=progress)


def document_of(answer: Answer, examined: Examined) -> AskDocument:
    """Return an answer as a document, with the evidence that its sentences rest on."""
    names = dict.fromkeys(name for one in answer.said for name in one.evidence)
    shown = []
    for name in names:
        evidence = examined.evidence(name)
        if evidence is not None:
            shown.append(
                EvidenceEntry(
                    id=name, kind=evidence.kind, text=printable(evidence.text), picture=printable(picture_of(evidence))
                )
            )
    return AskDocument(
        created=created_now(),
        outcome=answer.outcome,
        why=answer.why,
        sentences=tuple(
            SentenceEntry(text=printable(s.text), kind=s.kind, claims=s.claims, evidence=s.evidence)
            for s in answer.said
        ),
        calls=tuple(CallEntry(tool=c.tool, arguments=dict(c.arguments)) for c in answer.calls),
        data=answer.data,
        evidence=tuple(shown),
        by=answer.by,
        remarks=tuple(printable(text) for text in answer.remarks),
        withheld=answer.withheld,
        inputs=tuple(image.sha256 for image in examined.result.images),
    )


def printable(text: str) -> str:
    """Return text on one line without characters that control a terminal.

    Example:
        >>> printable("lung" + chr(27) + "[2J" + chr(10) + "cleared")
        'lung [2J cleared'
    """
    return " ".join("".join(" " if unicodedata.category(c)[0] == "C" else c for c in text).split())
