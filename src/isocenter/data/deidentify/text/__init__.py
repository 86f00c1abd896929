"""Free text without identity, by rules in four languages."""

from isocenter.data.deidentify.text.clean import CleanText, Span, clean_text

__all__ = ["CleanText", "Span", "clean_text"]
