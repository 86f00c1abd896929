"""A language model puts a draft into other words; what it says passes the ledger, or does not reach the page.

The model is given the composer's sentences and nothing else: no image, no header, no report of a person. It answers
with sentences by section as JSON. Each is judged (`safety.claims.judge`); what is not supported is withheld and shown
as withheld, and a claim that no supported sentence makes is told in the composer's words. So the model can change how
something is said, never what.
"""

from __future__ import annotations

import json
import unicodedata
from typing import Protocol, runtime_checkable

from isocenter.core.errors import ModelError
from isocenter.safety.claims import Ledger, judge
from isocenter.tasks.report.compose import Draft, DraftSection, DraftSentence

__all__ = ["LanguageModel", "rephrased"]

_ASK = (
    "You put the findings of a radiology draft into fluent English. You may join or reword sentences. You must not "
    "add, drop or change any finding, side, number, unit, grade, certainty or change. Use only words that stand in the "
    "draft and plain words of reports. Answer with one JSON object and nothing else: "
    '{"findings": [sentences], "impression": [sentences]}.'
)
_MOST_SENTENCES, _MOST_CHARACTERS = 60, 600


@runtime_checkable
class LanguageModel(Protocol):
    """What is asked of a language model."""

    @property
    def name(self) -> str:
        """Its name, for the page."""

    def complete(self, system: str, user: str, *, schema: dict[str, object]) -> str:
        """Return what it answers.

        Raises:
            ModelError: It did not answer, not in time, or not as text.
        """


_SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {
        name: {"type": "array", "items": {"type": "string"}} for name in ("findings", "impression")
    },
    "required": ["findings", "impression"],
    "additionalProperties": False,
}  # fmt: skip


def rephrased(draft: Draft, ledger: Ledger, model: LanguageModel) -> tuple[Draft, str]:
    """Return the draft in the model's words where the ledger allows it, and what happened in one sentence.

    Args:
        draft: The composer's, in English.
        ledger: What may be claimed.
        model: The model.
    """
    told = {s.name: [x.text for x in s.sentences if not x.withheld] for s in draft.sections}
    user = json.dumps({k: told.get(k, []) for k in ("findings", "impression")}, ensure_ascii=False)
    try:
        said = _sentences(model.complete(_ASK, user, schema=_SCHEMA))
    except ModelError as error:
        return draft, f"The composer's words: {model.name} could not be used ({error})."
    sections, withheld = [], 0
    for section in draft.sections:
        if section.name not in ("findings", "impression"):
            sections.append(section)
            continue
        made = _judged(section, said[section.name], ledger)
        withheld += sum(bool(s.withheld) for s in made.sentences)
        sections.append(made)
    how = f"{withheld} of its sentences were withheld" if withheld else "all its sentences follow from the ledger"
    return Draft(draft.language, tuple(sections)), f"Put into words by {model.name}: {how}."


def _sentences(text: str) -> dict[str, list[str]]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError("its answer is no JSON") from error
    found: dict[str, list[str]] = {}
    for name in ("findings", "impression"):
        part = document.get(name) if isinstance(document, dict) else None
        if not isinstance(part, list) or not all(isinstance(one, str) for one in part):
            raise ModelError(f"its answer has no list of sentences {name!r}")
        if len(part) > _MOST_SENTENCES or any(len(one) > _MOST_CHARACTERS for one in part):
            raise ModelError("its answer is longer than any draft")
        found[name] = [one.strip() for one in part]
        # Lone surrogates can't be written to a file, and signs of control could hide or reorder words on a page.
        if any(unicodedata.category(sign)[0] == "C" for one in found[name] for sign in one):
            raise ModelError("its answer holds signs that are no text")
    return found


def _judged(section: DraftSection, said: list[str], ledger: Ledger) -> DraftSection:
    sentences, made = [], set()
    for text in said:
        verdict = judge(text, ledger)
        sentences.append(DraftSentence(verdict.sentence, verdict.claims, verdict.reasons))
        made |= set(verdict.claims)
    # What it left out is told by the composer, so that nothing is lost by being put into other words.
    sentences += [
        sentence
        for sentence in section.sentences
        if (not sentence.claims or not set(sentence.claims) <= made) and sentence.text not in said
    ]
    return DraftSection(section.name, section.title, tuple(sentences))
