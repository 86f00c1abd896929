"""Whether a difference is more than chance: paired tests, correction for many of them, and how many patients it takes.

`paired` compares two systems on the same cases, `unpaired` two groups of cases, `multiplicity` corrects p values,
`sample_size` says how many further patients an answer would take. Everything counts patients, never images.
"""

from isocenter.evaluate.statistics.intraclass import IntraclassCorrelation, intraclass_correlation
from isocenter.evaluate.statistics.multiplicity import benjamini_hochberg, holm
from isocenter.evaluate.statistics.paired import (
    Comparison,
    compare_accuracy,
    compare_auroc,
    compare_means,
    compare_statistic,
    delong,
    mcnemar,
    sign_flip,
)
from isocenter.evaluate.statistics.proportion import share_by_patient
from isocenter.evaluate.statistics.sample_size import SampleSize, patients_for_power, sample_size
from isocenter.evaluate.statistics.unpaired import Gap, compare_groups

__all__ = [
    "Comparison",
    "Gap",
    "IntraclassCorrelation",
    "SampleSize",
    "benjamini_hochberg",
    "compare_accuracy",
    "compare_auroc",
    "compare_groups",
    "compare_means",
    "compare_statistic",
    "delong",
    "holm",
    "intraclass_correlation",
    "mcnemar",
    "patients_for_power",
    "sample_size",
    "share_by_patient",
    "sign_flip",
]
