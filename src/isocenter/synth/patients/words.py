"""The report of a synthetic patient, written from the cause and never from the pictures."""

from __future__ import annotations

from types import MappingProxyType

from isocenter.core import Report
from isocenter.synth.patients.cause import Cause, Stream, stream

__all__ = ["MARK", "write_report"]

MARK = "SYNTHETIC"
"""Stands in every text, table, header and document that is made here."""

_BORDERS = (
    (0.25, ("well circumscribed", "with smooth margins")),
    (0.55, ("with lobulated margins", "with partly irregular margins")),
    (1.01, ("with irregular margins", "with spiculated margins")),
)
_CORES = (
    (0.1, ("without necrosis", "of homogeneous attenuation")),
    (0.25, ("with a small necrotic centre", "with a small hypodense centre")),
    (1.01, ("with central necrosis", "with a large hypodense centre")),
)


def write_report(seed: int, cause: Cause) -> Report:
    """Write the report of CT and FDG PET.

    Example:
        >>> from isocenter.synth.patients.cause import draw_cause
        >>> "SYNTHETIC" in write_report(1, draw_cause(1, 7)).sections["technique"]
        True
    """
    rng = stream(seed, cause.number, Stream.WORDS)

    def of(table: tuple[tuple[float, tuple[str, str]], ...], value: float) -> str:
        return next(words for limit, words in table if value < limit)[int(rng.integers(2))]

    side = "left" if cause.left else "right"
    across = round(cause.radius_mm / 5, 1)
    lead = ("There is a", "Solitary")[int(rng.integers(2))]
    taking = "intensely" if cause.uptake_suv > 8 else "moderately" if cause.uptake_suv > 4 else "mildly"
    findings = (
        f"{lead} {across:.1f} cm mass in the {side} half of the body, {of(_BORDERS, cause.irregularity)}, "
        f"{of(_CORES, cause.necrosis)}. On PET it is {taking} FDG avid, SUVmax {cause.uptake_suv:.1f}. "
        "No second lesion."
    )
    return Report(
        MappingProxyType(
            {
                "technique": f"{MARK} PATIENT: invented, of no person. CT and FDG PET of the trunk.",
                "findings": findings,
                "impression": f"{across:.1f} cm FDG avid mass in the {side} half.",
            }
        )
    )
