"""Whose study it is, without saying so: one patient or an error, and a pseudonym."""

from __future__ import annotations

from collections.abc import Sequence

from isocenter.core.errors import IdentityLeak
from isocenter.data.images.dicom.header import Header
from isocenter.data.images.patient import Patient, doubtful, identifies, two_patients
from isocenter.data.images.pseudonym import KEY_VARIABLE, pseudonym, pseudonym_key

__all__ = ["check_one_patient", "patient_key"]


def check_one_patient(headers: Sequence[Header]) -> tuple[str, ...]:
    """Refuse files of two patients, by the rule of `two_patients`; files without any identity fit everybody.

    Returns:
        Notes for whoever reads the study: none, or that the files agree in the identifier and not in the rest.

    Raises:
        IdentityLeak: There are two; the message names one file of each, and no value.
    """
    patients = [Patient.of(header.text) for header in headers]
    found = two_patients((h.text("SeriesInstanceUID"), p) for h, p in zip(headers, patients, strict=True))
    if found is not None:
        one, other = (headers[place].name for place in found)
        raise IdentityLeak(f"files of two patients in one study: {one} and {other}. Pass one patient at a time")
    if doubtful(patients):
        return (
            "the files agree in the patient's identifier, and not in name, birth date or sex: make sure that they are "
            "of one patient",
        )
    return ()


def patient_key(headers: Sequence[Header], *, key: bytes | None = None) -> tuple[str, tuple[str, ...]]:
    """Return a pseudonym: a keyed hash of the patient's identifier and its issuer.

    Nobody without the key can look it up by trying identifiers. On one installation, all studies of one patient have
    one pseudonym; where no file has an identifier (or one that everybody gets, as "ANONYMOUS"), the Study Instance UID
    stands for it, and each study has its own.

    Args:
        headers: Files of one patient.
        key: Secret key; None takes that of `pseudonym_key`.

    Returns:
        32 hexadecimal digits, and notes: none, or that they hold for this run alone.
    """
    lasting = True
    if key is None:
        key, lasting = pseudonym_key()
    header = next((h for h in headers if identifies(h.text("PatientID"))), headers[0])
    parts = [header.text("PatientID"), header.text("IssuerOfPatientID")]
    if not identifies(parts[0]):
        parts.append(min(h.text("StudyInstanceUID") for h in headers))
    note = f"no key for pseudonyms could be kept, so this one holds for this run alone; set {KEY_VARIABLE}"
    return pseudonym(key, *parts), () if lasting else (note,)
