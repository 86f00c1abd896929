"""Other finders of identifiers beside our rules, plugged in through one Protocol; Presidio as the first of them.

Our rules always run: an engine can only add to what they find.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

from isocenter.core.errors import CapabilityError

__all__ = ["PresidioEngine", "TextEngine"]


@runtime_checkable
class TextEngine(Protocol):
    """Finds identifiers in free text. It must be hashable, and the same text must always give the same answer."""

    def find(self, text: str) -> Sequence[tuple[int, int, str]]:
        """Return (start, end, kind) with kinds "name", "id", "phone", "email", "url", "address", "hospital"."""


# Dates are left to our own rules, which move them; an engine could only blacken them.
_KINDS = {
    "PERSON": "name",
    "PHONE_NUMBER": "phone",
    "EMAIL_ADDRESS": "email",
    "URL": "url",
    "IP_ADDRESS": "id",
    "LOCATION": "address",
    "ORGANIZATION": "hospital",
    "US_SSN": "id",
    "US_DRIVER_LICENSE": "id",
    "US_PASSPORT": "id",
    "US_ITIN": "id",
    "US_BANK_NUMBER": "id",
    "MEDICAL_LICENSE": "id",
    "UK_NHS": "id",
    "UK_NINO": "id",
    "ES_NIF": "id",
    "ES_NIE": "id",
    "IBAN_CODE": "id",
    "CREDIT_CARD": "id",
    "CRYPTO": "id",
}


@dataclass(frozen=True)
class PresidioEngine:
    """Microsoft Presidio's analyser, with its pattern recognisers alone or with a language model of the user's.

    Args:
        language: Two letters.
        model: Name or folder of an installed spaCy pipeline that finds persons and places; "" is a blank one, which
            needs no download and finds none, so that only patterns and checksums remain.
        least_score: From 0 to 1.
        kinds: Presidio's entities that are taken; None takes those we know, () none.

    Raises:
        CapabilityError: presidio-analyzer or the model is not installed.
    """

    language: str = "en"
    model: str = ""
    least_score: float = 0.4
    kinds: tuple[str, ...] | None = None
    _analyser: Any = field(default=None, repr=False, compare=False, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_analyser", _analyser(self.language, self.model))

    def find(self, text: str) -> Sequence[tuple[int, int, str]]:
        """Return what Presidio finds above the least score."""
        wanted = list(_KINDS if self.kinds is None else self.kinds)
        results = self._analyser.analyze(text=text, language=self.language, score_threshold=self.least_score)
        return sorted(
            (r.start, r.end, _KINDS[r.entity_type])
            for r in results
            if r.entity_type in wanted and r.entity_type in _KINDS
        )


def _analyser(language: str, model: str) -> Any:
    try:
        presidio = import_module("presidio_analyzer")
        nlp = import_module("presidio_analyzer.nlp_engine")
        spacy = import_module("spacy")
    except ImportError as error:
        raise CapabilityError("this engine needs Presidio: pip install presidio-analyzer") from error
    engine = nlp.SpacyNlpEngine(models=[{"lang_code": language, "model_name": model or "blank"}])
    try:
        engine.nlp = {language: spacy.load(model) if model else spacy.blank(language)}
    except OSError as error:
        raise CapabilityError(f"the spaCy pipeline {model!r} is not installed") from error
    registry = presidio.RecognizerRegistry(supported_languages=[language])
    registry.load_predefined_recognizers(languages=[language], nlp_engine=engine)
    return presidio.AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=[language])
