"""The words on the cards of the automatic tasks: data, licence, use and limits. Figures come from the run alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from isocenter.core.errors import ConfigError
from isocenter.learn.automatic import AutomaticConfig
from isocenter.learn.automatic_data import Case

__all__ = ["STRUCTURES", "card_fields", "gate_sets"]

STRUCTURES = {
    "lungs": ("both lungs",),
    "hippocampus": ("anterior hippocampus", "posterior hippocampus"),
}
"""Names of the foreground classes, in order."""

_WORDS: dict[str, dict[str, object]] = {
    "lungs": {
        "title": "Lungs in a frontal chest X-ray",
        "licence": "CC-BY-4.0",
        "intended_use": "Outlining both lung fields in an upright frontal chest X-ray of an adult; research use.",
        "not_for": "Diagnosis on its own; lateral views; children; lungs that are cut off or absent.",
        "limitations": (
            "Outlines include the lung behind the heart, as the human outlines did; they are larger than the aerated "
            "lung that is seen free.",
            "Trained and measured on 48 patients with COVID-19 or suspected of it, nearly all of one German hospital: "
            "the cross-validated figure says nothing of other hospitals, children, or disease that hides a lung.",
            "The pixel spacing of the training images is not known: no distance in mm was measured.",
            "The mirror image counts as a chest too; the network can't tell right from left.",
            "The expected Dice was tied to agreement on the networks of the folds, not on the one that ships.",
        ),
    },
    "hippocampus": {
        "title": "Anterior and posterior hippocampus in T1-weighted MR",
        "licence": "CC-BY-SA-4.0",
        "intended_use": "Outlining the two parts of one hippocampus in T1-weighted MR of an adult; research use.",
        "not_for": "Diagnosis on its own; other contrasts; children; brains with surgery or a mass at this place.",
        "limitations": (
            "Trained and measured on crops of about 35 x 50 x 35 mm at 1 mm from one hospital; one crop a patient is "
            "assumed, because the set does not say.",
            "In a larger volume it depends on a point or box near the hippocampus; that use was not measured with "
            "expert outlines.",
            "Left or right is not told apart.",
            "The expected Dice was tied to agreement on the networks of the folds, not on the one that ships.",
        ),
    },
}


def _training_data(config: AutomaticConfig, cases: Sequence[Case]) -> list[dict[str, object]]:
    patients = len({case.group for case in cases})
    if config.data == "hippocampus":
        return [
            {
                "name": "Medical Segmentation Decathlon, Task04 Hippocampus",
                "licence": "CC-BY-SA-4.0",
                "source": "http://medicaldecathlon.com",
                "cases": len(cases),
                "note": f"{len(cases)} of the 260 labelled T1 crops; anterior and posterior part traced by experts.",
                "attribution": (
                    "Vanderbilt University Medical Center; Antonelli et al., The Medical Segmentation Decathlon, "
                    "Nature Communications 2022; Simpson et al., arXiv:1902.09063.",
                ),
            }
        ]
    sources = sorted(Counter(case.source for case in cases).items())
    return [
        {
            "name": "covid-chestxray-dataset, the images under CC BY 3.0 or 4.0 that have a lung mask",
            "licence": "CC-BY-3.0 and CC-BY-4.0, by image",
            "source": "https://github.com/ieee8023/covid-chestxray-dataset",
            "cases": len(cases),
            "patients": patients,
            "note": "Longest side at most 512 px, 8 bit. No image under CC BY-SA was used.",
            "attribution": (
                "Cohen et al., COVID-19 Image Data Collection, arXiv:2006.11988.",
                *(f"{count} images: {_as_link(source)}" for source, count in sources),
            ),
        },
        {
            "name": "V7 Labs covid-19-xray-dataset: lung outlines of these images",
            "licence": "CC-BY-4.0",
            "source": "https://github.com/v7labs/covid-19-xray-dataset",
            "cases": len(cases),
            "patients": patients,
            "note": "Outlines drawn by people, the lung behind the heart included.",
            "attribution": ("V7 Labs, covid-19-xray-dataset.",),
        },
    ]


_GATE_SETS: dict[str, dict[str, dict[str, object]]] = {
    "lungs": {
        "covid": {
            "name": "covid-chestxray-dataset, the images under CC BY 3.0 or 4.0 that have a lung mask",
            "licence": "CC-BY-3.0 and CC-BY-4.0, by image",
            "source": "https://github.com/ieee8023/covid-chestxray-dataset",
            "note": "The images that the weights learnt from; their authors are named there.",
            "attribution": ("Cohen et al., COVID-19 Image Data Collection, arXiv:2006.11988.",),
        },
        "nih": {
            "name": "NIH ChestX-ray14, frontal X-rays of adults",
            "licence": "NIH: no restriction on use, attribution asked",
            "source": "https://nihcc.app.box.com/v/ChestXray-NIHCC",
            "note": "256 x 256 px, 8 bit. Known to the gate alone: the weights never saw them.",
            "attribution": (
                "NIH Clinical Center; Wang et al., ChestX-ray8: Hospital-scale Chest X-ray Database, CVPR 2017.",
            ),
        },
    },
    "hippocampus": {
        "hippocampus": {
            "name": "Medical Segmentation Decathlon, Task04 Hippocampus",
            "licence": "CC-BY-SA-4.0",
            "source": "http://medicaldecathlon.com",
            "note": "The crops that the weights learnt from.",
            "attribution": (
                "Vanderbilt University Medical Center; Antonelli et al., The Medical Segmentation Decathlon, Nature "
                "Communications 2022; Simpson et al., arXiv:1902.09063.",
            ),
        },
    },
}


def gate_sets(data: str, counts: Mapping[str, int], patients: Mapping[str, int]) -> list[dict[str, object]]:
    """Return the sets that a gate knows, as fields of `TrainingSet`.

    Args:
        data: Which data the task was trained on.
        counts: Images of each set.
        patients: Patients of each set.
    """
    sets = _GATE_SETS[data]
    return [{**sets[name], "cases": count, "patients": patients[name]} for name, count in counts.items()]


def _as_link(source: str) -> str:
    return source if source.startswith("http") else f"https://doi.org/{source}"


def card_fields(config: AutomaticConfig, cases: Sequence[Case], summary: Mapping[str, object]) -> dict[str, object]:
    """Return the fields of a `WeightsCard` that a finished run fills.

    Args:
        config: The run's configuration.
        cases: What it was trained on.
        summary: What `automatic_evaluate.summarise` returned.

    Raises:
        ConfigError: The summary holds no metrics.
    """
    metrics = summary["metrics"]
    if not isinstance(metrics, list) or not metrics:
        raise ConfigError("a card needs the metrics of a cross-validation")
    done = len(summary["folds"]) if isinstance(summary["folds"], dict) else 0
    part = "" if done == config.folds else f", {done} of the {config.folds} folds"
    how = f"{config.folds}-fold cross-validation by patient{part}; held-out images; bootstrap over patients (BCa)"
    schedule = config.schedule
    return {
        "name": config.name,
        "version": "1",
        "scorecard": f"docs/results/scorecard-{config.name}.md",
        **_WORDS[config.data],
        "network": config.network.as_card(),
        "preparation": {"side_pixels": config.window[0]} if config.network.rank == 2 else {"spacing_mm": 1.0},
        "training_data": _training_data(config, cases),
        "training": {
            "command": f"python -m isocenter.learn.automatic configs/{config.name}.yaml --data FOLDER --run RUN",
            "configuration": config.model_dump(mode="json"),
            "seed": config.seed,
            "windows_seen_by_each_fold": schedule.iterations_fold * schedule.batch,
            "windows_seen_by_these_weights": schedule.iterations_final * schedule.batch,
            "note": "These weights learnt longer than the folds' and from every case; they were not measured.",
        },
        "metrics": [
            {k: m[k] for k in ("name", "structure", "value", "unit", "low", "high", "level", "count")} | {"how": how}
            for m in metrics
        ],
        "calibration": summary["calibration"],
    }
