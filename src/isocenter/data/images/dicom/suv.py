"""SUVbw from a PET header, or the reason why not. A wrong SUV is worse than none.

Source:
    DICOM PS3.3 C.8.9.1 and C.8.9.4; QIBA FDG-PET/CT profile, "SUV calculation" (vendor-neutral pseudo-code).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydicom import Dataset

from isocenter.core import Quantity
from isocenter.data.images.dicom.header import Header

__all__ = ["PetScale", "pet_scale"]

_PHILIPS_SUV = (0x7053, 0x1000)
_PHILIPS_ACTIVITY = (0x7053, 0x1009)
_PHILIPS_CREATOR = "Philips PET Private Group"
_GE_CREATOR = "GEMS_PETD_01"
_PLAUSIBLE_DOSE_BQ = (1e5, 1e11)
_PLAUSIBLE_WEIGHT_KG = (0.5, 500.0)


@dataclass(frozen=True)
class PetScale:
    """What to multiply rescaled PET values by, and what they then are.

    Args:
        factor: Multiplies the rescaled values.
        quantity: What they are after it.
        note: How it was found, or why there is no SUV.
    """

    factor: float
    quantity: Quantity
    note: str


class _NotPossible(Exception):
    """The header does not allow a trustworthy SUV; the text says why."""


def pet_scale(dataset: Dataset, headers: Sequence[Header]) -> PetScale:
    """Find the SUVbw factor of a PET series.

    Args:
        dataset: Full header of one of its files.
        headers: Scanned headers of all of them (for the earliest acquisition time).

    Returns:
        A factor to SUVbw where every piece is there; otherwise 1, the header's own unit, and the missing piece.
    """
    units = str(dataset.get("Units", "")).strip()
    if units == "GML":
        kind = str(dataset.get("SUVType", "")).strip() or "BW"
        if kind == "BW":
            return PetScale(1.0, Quantity.SUVBW, "PET values are SUVbw as stored (Units GML)")
        return PetScale(1.0, Quantity.ARBITRARY, f"PET values are SUV of type {kind}, not body weight; kept as stored")
    if units == "CNTS":
        return _counts(dataset, headers)
    if units == "BQML":
        try:
            return PetScale(_factor(dataset, headers), Quantity.SUVBW, _how(dataset))
        except _NotPossible as reason:
            return PetScale(1.0, Quantity.BQML, f"no SUV: {reason}; values stay in Bq/mL")
    return PetScale(1.0, Quantity.ARBITRARY, "PET values are in no unit that SUV can be made from; kept as stored")


def _counts(dataset: Dataset, headers: Sequence[Header]) -> PetScale:
    """Philips counts, with the maker's private factors."""
    if dataset.get((0x7053, 0x0010)) is not None and str(dataset[0x7053, 0x0010].value).strip() == _PHILIPS_CREATOR:
        suv = _private(dataset, _PHILIPS_SUV)
        if suv:
            return PetScale(suv, Quantity.SUVBW, "SUVbw from counts by the maker's SUV factor (7053,1000)")
        activity = _private(dataset, _PHILIPS_ACTIVITY)
        if activity:
            try:
                return PetScale(activity * _factor(dataset, headers), Quantity.SUVBW, _how(dataset))
            except _NotPossible as reason:
                return PetScale(
                    activity, Quantity.BQML, f"no SUV: {reason}; Bq/mL by the maker's activity factor (7053,1009)"
                )
    return PetScale(1.0, Quantity.ARBITRARY, "no SUV: values are counts without the maker's factor; kept as stored")


def _private(dataset: Dataset, tag: tuple[int, int]) -> float | None:
    element = dataset.get(tag)
    try:
        value = float(element.value) if element is not None else 0.0
    except (TypeError, ValueError):
        return None
    return value if value > 0 else None


def _how(dataset: Dataset) -> str:
    reference = str(dataset.get("DecayCorrection", ""))
    return f"SUVbw from Bq/mL by dose, half life and weight (decay correction {reference})"


def _factor(dataset: Dataset, headers: Sequence[Header]) -> float:
    """Return grams of body weight over decayed dose."""
    corrected = dataset.get("CorrectedImage") or ()
    corrected = {corrected} if isinstance(corrected, str) else set(corrected)
    if not {"ATTN", "DECY"} <= corrected:
        raise _NotPossible("the image is not corrected for attenuation and decay")
    weight = _positive(dataset.get("PatientWeight"), "the patient's weight")
    if not _PLAUSIBLE_WEIGHT_KG[0] <= weight <= _PLAUSIBLE_WEIGHT_KG[1]:
        raise _NotPossible("the patient's weight is not plausible in kg")
    radio = dataset.get("RadiopharmaceuticalInformationSequence")
    if not radio:
        raise _NotPossible("the radiopharmaceutical information is missing")
    if len(radio) > 1:
        raise _NotPossible("there are several radiopharmaceuticals")
    dose = _positive(radio[0].get("RadionuclideTotalDose"), "the injected dose")
    if not _PLAUSIBLE_DOSE_BQ[0] <= dose <= _PLAUSIBLE_DOSE_BQ[1]:
        raise _NotPossible("the injected dose is not plausible in Bq (is it in MBq?)")
    half_life = _positive(radio[0].get("RadionuclideHalfLife"), "the half life")
    correction = str(dataset.get("DecayCorrection", "")).strip()
    if correction == "ADMIN":
        return weight * 1000.0 / dose
    if correction != "START":
        raise _NotPossible("decay correction is neither to the start of the scan nor to the administration")
    elapsed = _elapsed_seconds(dataset, radio[0], headers)
    if elapsed > 10 * half_life:
        raise _NotPossible("more than ten half lives lie between injection and scan")
    return float(weight * 1000.0 / (dose * 2.0 ** (-elapsed / half_life)))


def _positive(value: Any, what: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise _NotPossible(f"{what} is missing") from None
    if not number > 0 or number == float("inf"):
        raise _NotPossible(f"{what} is not positive")
    return number


def _elapsed_seconds(dataset: Dataset, radio: Dataset, headers: Sequence[Header]) -> float:
    """Seconds from injection to the start of the scan."""
    scan = _scan_start(dataset, headers)
    stated = _moment(str(radio.get("RadiopharmaceuticalStartDateTime") or ""))
    if stated is not None:
        injection = stated
    else:
        clock = str(radio.get("RadiopharmaceuticalStartTime") or "").strip()
        same_day = _moment(scan.strftime("%Y%m%d") + clock) if clock else None
        if same_day is None:
            raise _NotPossible("the time of injection is missing")
        # Without a date, an injection "after" the scan was before midnight (PS3.3 C.8.9.2).
        injection = same_day if same_day <= scan else same_day - timedelta(days=1)
    elapsed = (scan - injection).total_seconds()
    if elapsed < 0:
        raise _NotPossible("the injection is dated after the scan")
    return elapsed


def _scan_start(dataset: Dataset, headers: Sequence[Header]) -> datetime:
    """Series time is the scan's start, unless a later reconstruction has overwritten it."""
    series = _moment(str(dataset.get("SeriesDate") or "") + str(dataset.get("SeriesTime") or ""))
    moments = [_moment(h.text("AcquisitionDate") + h.text("AcquisitionTime")) for h in headers]
    known = [m for m in moments if m is not None]
    if not known or len(known) < len(moments):
        raise _NotPossible("acquisition times are missing")
    if series is not None and series <= min(known):
        return series
    creator = dataset.get((0x0009, 0x0010))
    if creator is not None and str(creator.value).strip() == _GE_CREATOR:
        element = dataset.get((0x0009, 0x100D))
        stated = _moment(_as_text(element.value)) if element is not None else None
        if stated is not None:
            return stated
    raise _NotPossible("the series is dated after its acquisition, so the time it is decay-corrected to is unknown")


def _as_text(value: Any) -> str:
    return value.decode("ascii", "replace").strip("\0 ") if isinstance(value, bytes) else str(value)


def _moment(text: str) -> datetime | None:
    """Parse YYYYMMDDHHMMSS[.F]; offsets from UTC are dropped, since both times come from one scanner."""
    text = text.strip().split("+")[0].split("-")[0]
    whole, _, fraction = text.partition(".")
    if len(whole) == 12:
        whole += "00"
    if len(whole) != 14 or not whole.isdigit():
        return None
    try:
        return datetime.strptime(f"{whole}.{(fraction or '0')[:6]}", "%Y%m%d%H%M%S.%f")
    except ValueError:
        return None
