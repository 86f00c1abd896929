"""De-identification: pseudonyms, a policy, DICOM objects, free text, burnt-in text, faces, and a report of leaks."""

from isocenter.data.deidentify.dicom import Deidentified, Suspicion, deidentify_bytes
from isocenter.data.deidentify.identity import KnownIdentity
from isocenter.data.deidentify.policy import Policy
from isocenter.data.deidentify.pseudonyms import Pseudonyms
from isocenter.data.deidentify.text import CleanText, Span, clean_text

__all__ = [
    "CleanText",
    "Deidentified",
    "KnownIdentity",
    "Policy",
    "Pseudonyms",
    "Span",
    "Suspicion",
    "clean_text",
    "deidentify_bytes",
]
