"""DICOM Structured Reports: measurements written as TID 1500, reports of any template read.

`write_sr` puts answers and abstentions of tasks into a Comprehensive 3D SR and reads it back before it stands.
`read_sr` takes any SR: what it knows becomes measurement groups and sections, and the whole tree stays beside them.
"""

from __future__ import annotations

from isocenter.data.images.sr.attested import Attestation, SignedPoint, SignedSentence, SrReference
from isocenter.data.images.sr.content import Abstention, Answer, SegReference, SrContent
from isocenter.data.images.sr.read import MeasurementGroup, SrDocument, SrItem, read_sr
from isocenter.data.images.sr.result_set import Critical, ResultSet
from isocenter.data.images.sr.write import write_sr

__all__ = [
    "Abstention",
    "Answer",
    "Attestation",
    "Critical",
    "MeasurementGroup",
    "ResultSet",
    "SegReference",
    "SignedPoint",
    "SignedSentence",
    "SrContent",
    "SrDocument",
    "SrItem",
    "SrReference",
    "read_sr",
    "write_sr",
]
