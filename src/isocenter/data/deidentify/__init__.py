"""De-identification: pseudonyms, a policy, DICOM objects, free text, burnt-in text, faces, and a report of leaks."""

from isocenter.data.deidentify.dicom import Deidentified, Suspicion, deidentify_bytes
from isocenter.data.deidentify.identity import KnownIdentity
from isocenter.data.deidentify.leaks import Anonymity, LeakReport, k_anonymity
from isocenter.data.deidentify.policy import Policy
from isocenter.data.deidentify.pseudonyms import Pseudonyms
from isocenter.data.deidentify.text import CleanText, PresidioEngine, Span, TextEngine, clean_text

__all__ = [
    "Anonymity",
    "CleanText",
    "Deidentified",
    "KnownIdentity",
    "LeakReport",
    "Policy",
    "PresidioEngine",
    "Pseudonyms",
    "Span",
    "Suspicion",
    "TextEngine",
    "clean_text",
    "deidentify_bytes",
    "k_anonymity",
]
