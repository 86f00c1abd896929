"""DICOM objects without identity, by the Basic Application Level Confidentiality Profile of PS3.15 and its options."""

from isocenter.data.deidentify.dicom.instance import Deidentified, Suspicion, deidentify_bytes

__all__ = ["Deidentified", "Suspicion", "deidentify_bytes"]
