"""The types that everything passes around: frozen dataclasses on numpy, and nothing else of ours."""

from __future__ import annotations

from isocenter.core.evidence import Combines, EvidenceMap, Explains, Explanation, Feature, Neighbour, NoSuchEvidence
from isocenter.core.geometry import Geometry
from isocenter.core.image import Image, Source
from isocenter.core.mask import Mask, Segment
from isocenter.core.prediction import Effect, Estimate, Likeness, ModelRef, Prediction, Risk, Scores, Step, Uncertainty
from isocenter.core.prompt import Prompt
from isocenter.core.report import Evidence, Finding, Report
from isocenter.core.study import Record, Study
from isocenter.core.task import LooksAhead, Task, TaskCard, TaskEntry
from isocenter.core.units import Code, Measurement, Quantity

__all__ = [
    "Code",
    "Combines",
    "Effect",
    "Estimate",
    "Evidence",
    "EvidenceMap",
    "Explains",
    "Explanation",
    "Feature",
    "Finding",
    "Geometry",
    "Image",
    "Likeness",
    "LooksAhead",
    "Mask",
    "Measurement",
    "ModelRef",
    "Neighbour",
    "NoSuchEvidence",
    "Prediction",
    "Prompt",
    "Quantity",
    "Record",
    "Report",
    "Risk",
    "Scores",
    "Segment",
    "Source",
    "Step",
    "Study",
    "Task",
    "TaskCard",
    "TaskEntry",
    "Uncertainty",
]
