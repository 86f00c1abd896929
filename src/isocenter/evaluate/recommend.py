"""Which metrics suit a task, and what in its data would make them mislead.

A description of the task and the data goes in, names of metrics (those of the plug-in group `isocenter.metrics`) and
warnings come out, each with its reason and source. The rules are those of Metrics Reloaded and of the papers on single
pitfalls, written down once; where they leave a choice, the choice is said.

Source:
    Maier-Hein et al., Nature Methods 2024 (Metrics Reloaded); Reinke et al., Nature Methods 2024 (pitfalls).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from isocenter.core.errors import ConfigError

__all__ = ["Advice", "Pitfall", "Suggestion", "TaskData", "recommend"]

Kind = Literal[
    "segmentation", "detection", "classification", "findings", "survival", "report", "retrieval", "interactive"
]

RELOADED = "Maier-Hein et al., Nature Methods 2024 (Metrics Reloaded)"
PITFALLS = "Reinke et al., Nature Methods 2024"

TINY_VOXELS = 100
"""A sphere of 100 voxels has 3 across its radius: one layer of voxels is most of its Dice."""
RARE = 0.1
FEW_POSITIVE = 100


@dataclass(frozen=True)
class TaskData:
    """What is known of a task and its data; None and False where it is not known or does not hold.

    Args:
        kind: What is answered: a mask ("segmentation"), boxes or points ("detection"), one of several classes
            ("classification"), any of several findings ("findings"), a risk ("survival"), a text ("report"), a rank
            ("retrieval") or a mask by somebody who points ("interactive").
        classes: Classes or findings; labels but the background of a mask.
        ordered: Whether the classes are in order, as grades and stages are.
        cases: Images.
        patients: Patients; fewer than cases where some have several images.
        prevalence: Share of cases of the rarest class or finding, or with something to segment or detect.
        structure_voxels: Median size of the structures.
        thin: Whether they are tubes or sheets: vessels, airways, nerves.
        several_per_image: Whether an image may hold several of a kind: lesions, cells.
        empty_cases: Whether some cases hold nothing to be found.
        spacing_known: Whether distances in mm are known for all cases.
        unanswered_cases: Cases without an answer.
        probabilities: Whether the answers are probabilities that somebody will act on.
        horizon_days: Of a risk: until when it is asked.
    """

    kind: Kind
    classes: int = 1
    ordered: bool = False
    cases: int | None = None
    patients: int | None = None
    prevalence: float | None = None
    structure_voxels: float | None = None
    thin: bool = False
    several_per_image: bool = False
    empty_cases: bool = False
    spacing_known: bool = True
    unanswered_cases: int = 0
    probabilities: bool = False
    horizon_days: float | None = None

    def __post_init__(self) -> None:
        if self.classes < 1:
            raise ConfigError(f"classes must be 1 or more, got {self.classes}")
        if self.prevalence is not None and not 0 <= self.prevalence <= 1:
            raise ConfigError(f"prevalence must lie in 0..1, got {self.prevalence}")
        if self.cases is not None and self.patients is not None and self.patients > self.cases:
            raise ConfigError(f"{self.patients} patients can't have fewer images, {self.cases}")


@dataclass(frozen=True)
class Suggestion:
    """A metric that suits.

    Args:
        metric: Its name among `isocenter.metrics`.
        why: What it tells.
        source: Who says so.
    """

    metric: str
    why: str
    source: str = RELOADED


@dataclass(frozen=True)
class Pitfall:
    """What would mislead in these data.

    Args:
        name: A short name that stays the same.
        what: What goes wrong, and what to do.
        source: Who says so.
    """

    name: str
    what: str
    source: str = PITFALLS


@dataclass(frozen=True)
class Advice:
    """What to measure and what to beware of.

    Args:
        metrics: The main one first.
        pitfalls: The gravest first.
    """

    metrics: tuple[Suggestion, ...]
    pitfalls: tuple[Pitfall, ...]


def recommend(data: TaskData) -> Advice:
    """Say which metrics suit a task, and what in its data would make them mislead.

    Raises:
        ConfigError: No such kind of task.

    Example:
        >>> advice = recommend(TaskData("segmentation", structure_voxels=40, several_per_image=True))
        >>> [s.metric for s in advice.metrics]
        ['lesion_scores', 'nsd', 'dice', 'hd95', 'volume_error']
        >>> [p.name for p in advice.pitfalls]
        ['tiny structures', 'large lesions outweigh small ones']
    """
    rules = {
        "segmentation": _segmentation,
        "detection": _detection,
        "classification": _classification,
        "findings": _findings,
        "survival": _survival,
        "report": _report,
        "retrieval": _retrieval,
        "interactive": _interactive,
    }
    if data.kind not in rules:
        raise ConfigError(f"kind must be one of {', '.join(rules)}, got {data.kind!r}")
    found = [*rules[data.kind](data), *_any_task(data)]
    return Advice(
        tuple(f for f in found if isinstance(f, Suggestion)), tuple(f for f in found if isinstance(f, Pitfall))
    )


Found = Iterator[Suggestion | Pitfall]


def _tiny(data: TaskData) -> bool:
    return data.structure_voxels is not None and data.structure_voxels < TINY_VOXELS


def _segmentation(data: TaskData) -> Found:
    if data.several_per_image:
        yield Suggestion(
            "lesion_scores", "counts lesions that were found, whatever their size; say how they are matched"
        )
    if data.thin:
        yield Suggestion("centreline_dice", "whether the branches hang together", "Shit et al., CVPR 2021 (clDice)")
    if _tiny(data) and data.spacing_known:
        yield Suggestion(
            "nsd", "agreement of outlines within what readers differ by; set tolerance_mm from two readers"
        )
    yield Suggestion("dice", "overlap")
    if not _tiny(data) and data.spacing_known:
        yield Suggestion(
            "nsd", "agreement of outlines within what readers differ by; set tolerance_mm from two readers"
        )
    if data.spacing_known:
        yield Suggestion("hd95", "the worst of the outline, but for its worst twentieth")
        if not data.thin:
            yield Suggestion(
                "volume_error", "whether sizes that are reported are right, and to which side they are off"
            )
    else:
        yield Pitfall(
            "unknown spacing",
            "distances in voxels can't be compared between images; only overlap is measured until spacings are known",
        )
    if _tiny(data):
        yield Pitfall(
            "tiny structures",
            f"the median structure has fewer than {TINY_VOXELS} voxels: one voxel more or less moves Dice by points; "
            "lead with NSD or with counts of lesions, and show Dice by size",
        )
    if data.thin:
        yield Pitfall(
            "thin structures",
            "Dice and HD95 hardly see a break in a vessel; lead with centreline Dice and NSD",
        )
    if data.several_per_image:
        yield Pitfall(
            "large lesions outweigh small ones",
            "Dice over a whole image is that of its largest lesion; count lesions, and tell sensitivity by size",
        )
    if data.empty_cases:
        yield Pitfall(
            "empty references",
            "cases without a structure give Dice 1 or 0 by convention, and infinite distances; tell them apart, as a "
            "classification, and never leave infinite distances out of a mean without saying so",
        )
    if data.classes > 1:
        yield Pitfall("classes averaged", "a mean over classes hides the worst; show each class before the mean")


def _detection(data: TaskData) -> Found:
    yield Suggestion("froc", "sensitivity at so many false positives per image; say what counts as found")
    yield Suggestion("detection_ap", "one figure over all thresholds, of boxes")
    yield Pitfall(
        "matching decides",
        "the figures depend on what counts as found; an IoU that suits photographs is too strict for small lesions in "
        "volumes (0.1, or a point inside, is usual)",
    )
    if data.empty_cases:
        yield Pitfall(
            "empty images", "images without a lesion count in FROC (false positives) but hardly in average precision"
        )

    elif data.prevalence == 1:
        yield Pitfall(
            "no empty images",
            "without images that hold nothing, false positives per image are those of patients with a lesion; where "
            "most have none (screening) add such images",
        )
    if data.classes > 1:
        yield Pitfall("classes averaged", "a mean over classes hides the worst; show each class before the mean")


def _rare(data: TaskData) -> Iterator[Pitfall]:
    if data.prevalence is not None and data.prevalence < RARE:
        yield Pitfall(
            "rare class",
            f"with a prevalence of {data.prevalence:.2g} accuracy and AUROC look good for whoever finds little; show "
            "average precision beside the prevalence, MCC and net benefit",
            "Saito and Rehmsmeier, PLoS ONE 2015; Chicco and Jurman, BMC Genomics 2020",
        )
        yield Pitfall(
            "prevalence elsewhere",
            "predictive values, average precision and calibration hold at this prevalence only; where it will differ, "
            "tell sensitivity, specificity and likelihood ratios",
        )
    if data.prevalence is not None and data.cases is not None and data.prevalence * data.cases < FEW_POSITIVE:
        yield Pitfall(
            "few events",
            f"about {data.prevalence * data.cases:.0f} cases of the rarest class: fewer than {FEW_POSITIVE} make "
            "intervals wide and subgroups meaningless",
            "Collins, Ogundimu and Altman, Statistics in Medicine 2016",
        )


def _probable(data: TaskData, ece: str) -> Found:
    if data.probabilities:
        brier = "brier" if data.classes <= 2 or data.kind == "findings" else "brier_classes"
        yield Suggestion(brier, "error of the probabilities as such: both order and calibration")
        if ece == "recalibration":
            yield Suggestion(
                "recalibration", "whether risks are too extreme or too high", "Van Calster et al., BMC Medicine 2019"
            )
        else:
            yield Suggestion(ece, "whether each class's probability can be believed", "Nixon et al., CVPR 2019")
        yield Suggestion(
            "net_benefit",
            "what acting on the answer is worth at the threshold that is meant",
            "Vickers and Elkin, Medical Decision Making 2006",
        )
        yield Pitfall(
            "binned calibration",
            "ECE depends on its bins and is above zero by chance in small sets; show the reliability diagram with "
            "intervals, and slope and intercept",
            "Van Calster et al., BMC Medicine 2019",
        )


def _classification(data: TaskData) -> Found:
    if data.ordered:
        yield Suggestion("kappa", "agreement beyond chance, weighted: two grades off is worse than one", "Cohen 1968")
    if data.classes <= 2:
        yield Suggestion("auroc", "order of cases over all thresholds")
        yield Suggestion("auprc", "precision over sensitivity, where those without it are many")
        yield Suggestion("sensitivity_at_specificity", "what is found at the false alarms that can be afforded")
    else:
        yield Suggestion("balanced_accuracy", "share found of each class, each class alike")
        yield Suggestion("f1_macro", "finding and not inventing, each class alike")
        yield Suggestion("auroc", "order of cases, one class against the rest")
    yield Suggestion("mcc", "one figure of the whole table of decisions")
    yield from _rare(data)
    yield from _probable(data, "recalibration" if data.classes <= 2 else "class_wise_ece")
    if data.ordered:
        yield Pitfall(
            "order ignored", "accuracy and F1 treat neighbouring grades as any other error; lead with weighted kappa"
        )
    if data.classes > 2:
        yield Pitfall("classes averaged", "a mean over classes hides the worst; show the confusion matrix")
    yield Pitfall(
        "threshold chosen on the test set",
        "a threshold chosen on the cases that it is then measured on promises too much; choose it on others",
    )


def _findings(data: TaskData) -> Found:
    yield Suggestion("auroc", "order of cases, finding by finding (evaluate.separation.each_finding)")
    yield Suggestion("auprc", "precision over sensitivity, finding by finding; most findings are rare")
    yield Suggestion("sensitivity_at_specificity", "what is found at the false alarms that can be afforded")
    yield from _rare(data)
    yield from _probable(data, "recalibration")
    yield Pitfall(
        "findings averaged",
        "a mean over findings hides the rare ones; show each, and correct comparisons for their number",
    )


def _survival(data: TaskData) -> Found:
    source = "Blanche, Kattan and Gerds, Biostatistics 2019"
    if data.horizon_days is not None:
        yield Suggestion("dynamic_auc", "order of those with the event by the horizon and those without", source)
        yield Suggestion(
            "brier_survival", "error of the risk at the horizon", "Graf et al., Statistics in Medicine 1999"
        )
    yield Suggestion(
        "uno_concordance", "order of pairs, whoever was lost when", "Uno et al., Statistics in Medicine 2011"
    )
    yield Suggestion(
        "integrated_brier", "error of the survival curve as a whole", "Graf et al., Statistics in Medicine 1999"
    )
    if data.horizon_days is not None:
        yield Pitfall(
            "concordance is no risk at a horizon",
            "C rewards order over all times; the best C is not always the best risk at the horizon asked for",
            source,
        )
    yield Pitfall(
        "many lost from sight",
        "Harrell's C depends on who was lost when; tell Uno's C, and how many were still in sight at the end",
        "Uno et al., Statistics in Medicine 2011",
    )


def _report(_: TaskData) -> Found:
    source = "Yu et al., Patterns 2023"
    yield Suggestion("report_agreement", "whether the same is claimed: findings, denial, side, grade", source)
    yield Suggestion("rouge_l", "shared words in order; for comparison with other papers only", source)
    yield Suggestion("bleu", "shared words; for comparison with other papers only", source)
    yield Pitfall(
        "words are not findings",
        "BLEU and ROUGE hardly see a lost 'no' or a swapped side; lead with what is claimed, and name contradictions",
        source,
    )


def _retrieval(_: TaskData) -> Found:
    source = "Voorhees, TREC-8 1999"
    yield Suggestion("recall_at_k", "whether a right one is among the first", source)
    yield Suggestion("mean_reciprocal_rank", "how early the first right one stands", source)
    yield Suggestion("ndcg_at_k", "where relevance has degrees", "Jarvelin and Kekalainen, ACM TOIS 2002")
    yield Pitfall(
        "size of the pool",
        "recall at k falls with the number of candidates; tell it beside that of a random order, for the same pool",
        source,
    )


def _interactive(data: TaskData) -> Found:
    source = "Sofiiuk et al., ICIP 2022"
    yield Suggestion("dice", "overlap after so many acts of pointing; show the whole curve", source)
    if data.spacing_known:
        yield Suggestion("nsd", "agreement of outlines within what readers differ by, after as many acts")
    yield Pitfall(
        "simulated users",
        "figures are of the rule or person who pointed: a user who sees the reference clicks better than people; tell "
        "the rule, and compare methods under the same one",
        "Wong et al., ECCV 2024 (ScribblePrompt)",
    )
    yield Pitfall(
        "failures hidden in a mean of clicks",
        "a case that never reaches the goal counts as the budget: show the share of failures beside the clicks",
        source,
    )


def _any_task(data: TaskData) -> Found:
    if data.cases is not None and data.patients is not None and data.patients < data.cases:
        yield Pitfall(
            "images of one patient are not independent",
            f"{data.cases} images of {data.patients} patients: take intervals and tests by patient "
            "(evaluate.bootstrap), and keep a patient on one side of every split",
            "Obuchowski, Biometrics 1997; " + PITFALLS,
        )
    if data.unanswered_cases:
        yield Pitfall(
            "cases without an answer",
            f"{data.unanswered_cases} cases have no answer: count them as the worst answer, or tell their share beside "
            "the figures; leaving them out flatters whoever fails on hard ones",
        )
    if data.patients is not None and data.patients < 10:
        yield Pitfall(
            "too few patients", f"{data.patients} patients: no interval is given for fewer than 10; show each case"
        )
