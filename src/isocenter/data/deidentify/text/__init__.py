"""Free text without identity, by rules in four languages; other engines can be plugged in."""

from isocenter.data.deidentify.text.clean import CleanText, Span, clean_text
from isocenter.data.deidentify.text.engines import PresidioEngine, TextEngine

__all__ = ["CleanText", "PresidioEngine", "Span", "TextEngine", "clean_text"]
