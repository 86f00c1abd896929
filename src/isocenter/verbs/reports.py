"""Draft a report from what `isocenter read` answered: every sentence on evidence, or withheld.

result.json -> claim ledger -> sentences of the composer, or of a language model, each judged by the ledger ->
draft.html, draft.txt, draft.json. A draft is for a radiologist to correct and sign; nobody has signed it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from isocenter.core.errors import ConfigError
from isocenter.data.images.atomic import atomic_folder, make_parent
from isocenter.safety.claims import Ledger
from isocenter.tasks.report.compose import Draft, Language, compose
from isocenter.verbs.drafting.chosen import language_model
from isocenter.verbs.drafting.ledger import ledgers_of
from isocenter.verbs.drafting.page import render_draft
from isocenter.verbs.drafting.pictures import evidence_pictures
from isocenter.verbs.drafting.rephrase import rephrased
from isocenter.verbs.provenance import created_now
from isocenter.verbs.result import ResultDocument, read_result
from isocenter.verbs.settings import configured
from isocenter.version import __version__

__all__ = ["DraftDocument", "DraftPart", "ReportConfig", "composed", "report", "run"]

DOCUMENT, TEXT, PAGE = "draft.json", "draft.txt", "draft.html"
_COMPOSED = {
    "en": "Put into words by the embedded composer.",
    "es": "Redactado por el componedor incluido.",
    "zh": "由内置撰写器生成。",
}
_TECHNIQUE = {"en": "{} image(s): {}.", "es": "{} imagen(es): {}.", "zh": "{} 幅图像：{}。"}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReportConfig(_Strict):
    """Configuration of `isocenter report`.

    Attributes:
        result: Folder that `isocenter read` wrote, or its result.json.
        out: Folder to write.
        language: Of the draft: English, Spanish or Chinese.
        indication: As the clinician gave it; printed as given.
        comparison: With what it was compared; printed as given.
        llm_url: Base address of an OpenAI-compatible server that may put the draft into other words; None for none.
        llm_model: Name of the model at that server.
        allow_host: Hosts beside this machine that the draft may be sent to.
        llm_seconds: Longest time for the model's answer.
        llm_folder: Hugging Face folder of a language model on this machine; instead of a server.
        overwrite: Whether an older draft under `out` is replaced.
    """

    result: Path
    out: Path
    language: Literal["en", "es", "zh"] = "en"
    indication: str = Field(default="", max_length=2000)
    comparison: str = Field(default="", max_length=2000)
    llm_url: str | None = None
    llm_model: str = "default"
    allow_host: tuple[str, ...] = ()
    llm_seconds: float = Field(default=60.0, gt=0, le=3600)
    llm_folder: Path | None = None
    overwrite: bool = False


class DraftPart(_Strict):
    """The draft of one kind of examination.

    Attributes:
        exam: Which.
        of: How it was imaged, where it is of one image alone.
        ledger: Claims, evidence and limits.
        sections: Of the draft: name, title, sentences with their claims, or why they are withheld.
        written_by: Who put it into words.
    """

    exam: str
    of: str = ""
    ledger: dict[str, Any]
    sections: tuple[dict[str, Any], ...]
    written_by: str


class DraftDocument(_Strict):
    """What `draft.json` holds.

    Attributes:
        format: Version of this form.
        created: When, UTC.
        isocenter: Version.
        language: Of the draft.
        inputs: sha256 of the images that the result is of.
        parts: One for each kind of examination.
    """

    format: Literal["isocenter-draft/1"] = "isocenter-draft/1"
    created: str
    isocenter: str = __version__
    language: str
    inputs: tuple[str, ...]
    parts: tuple[DraftPart, ...]

    @property
    def withheld(self) -> int:
        """How many sentences were withheld."""
        return sum(bool(x["withheld"]) for part in self.parts for s in part.sections for x in s["sentences"])


def report(result: Path | str, out: Path | str, **settings: Any) -> DraftDocument:
    """Draft a report from a result.

    Args:
        result: Folder that `isocenter read` wrote, or its result.json.
        out: Folder to write.
        **settings: Any further field of `ReportConfig`.

    Returns:
        The document that stands in ``out/draft.json``.

    Raises:
        ConfigError: A setting is wrong, or the draft would leave this machine without leave.
        DataError: The result can't be read, or the output can't be written.
    """
    config = configured(ReportConfig, result=Path(result), out=Path(out), **settings)
    return run(config)


def run(config: ReportConfig) -> DraftDocument:
    """Do what a `ReportConfig` says; see `report`."""
    if (config.llm_url is not None or config.llm_folder is not None) and config.language != "en":
        raise ConfigError("the ledger judges English alone: a language model may be used with language 'en'")
    model = language_model(
        config.llm_url, config.llm_model, config.allow_host, config.llm_seconds, config.llm_folder
    )  # fmt: skip
    _check_out(config)
    result = read_result(config.result)
    parts: list[tuple[Draft, Ledger]] = []
    words = []
    for draft, ledger in composed(result, config.language, config.indication, config.comparison):
        how = _COMPOSED[config.language]
        if model is not None:
            draft, how = rephrased(draft, ledger, model)
        parts.append((draft, ledger))
        words.append(how)
    document = DraftDocument(
        created=created_now(),
        language=config.language,
        inputs=tuple(image.sha256 for image in result.images),
        parts=tuple(_part(draft, ledger, how) for (draft, ledger), how in zip(parts, words, strict=True)),
    )
    folder_of_result = config.result if config.result.is_dir() else config.result.parent
    picture = folder_of_result / "preview.png"
    page = render_draft(
        parts,
        subject=f"Study {result.study.patient_key}".strip(),
        preview=picture.read_bytes() if picture.is_file() else None,
        written_by=" ".join(dict.fromkeys(words)),
        pictures=evidence_pictures(result, folder_of_result),
    )
    make_parent(config.out)
    with atomic_folder(config.out, replace=config.overwrite) as folder:
        (folder / DOCUMENT).write_text(document.model_dump_json(indent=1) + "\n", "utf-8")
        (folder / TEXT).write_text("\n".join(draft.text for draft, _ in parts), "utf-8")
        (folder / PAGE).write_text(page, "utf-8")
    return document


def composed(
    result: ResultDocument, language: Language, indication: str = "", comparison: str = ""
) -> list[tuple[Draft, Ledger]]:
    """Return what the embedded composer writes of a result, with the ledger of each part.

    Args:
        result: What `isocenter read` answered.
        language: Of the draft.
        indication: As the clinician gave it.
        comparison: With what it was compared.
    """
    return [
        (
            compose(
                ledger, language=language, indication=indication, comparison=comparison,
                technique=_technique(result, language, ledger),
            ),
            ledger,
        )
        for ledger in ledgers_of(result)
    ]  # fmt: skip


def _check_out(config: ReportConfig) -> None:
    if config.out.exists() and (not config.out.is_dir() or any(config.out.iterdir())):
        if not config.overwrite:
            raise ConfigError(f"{config.out} is not empty; choose another folder, or give --overwrite")
        if not (config.out / DOCUMENT).is_file():
            raise ConfigError(f"{config.out} does not hold a {DOCUMENT}; it is not overwritten. Choose another")


def _technique(result: ResultDocument, language: str, ledger: Ledger) -> str:
    if ledger.of:
        return _TECHNIQUE[language].format(1, ledger.of)
    kinds = ", ".join(dict.fromkeys(image.modality or "?" for image in result.images))
    return _TECHNIQUE[language].format(len(result.images), kinds)


def _part(draft: Draft, ledger: Ledger, how: str) -> DraftPart:
    told = {
        "claims": [asdict(c) for c in ledger.claims],
        "evidence": [asdict(e) for e in ledger.evidence],
        "limits": list(ledger.limits),
    }
    sections = json.loads(json.dumps([asdict(s) for s in draft.sections]))
    return DraftPart(
        exam=ledger.exam, of=ledger.of, ledger=json.loads(json.dumps(told)), sections=sections, written_by=how
    )
