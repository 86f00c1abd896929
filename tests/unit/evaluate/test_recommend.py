"""Advice on metrics: what each kind of task and each trait of its data brings up."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from isocenter.core.errors import ConfigError
from isocenter.evaluate.recommend import TaskData, recommend

ROOT = Path(__file__).resolve().parents[3]
KINDS = ("segmentation", "detection", "classification", "findings", "survival", "report", "retrieval", "interactive")


def _metrics(**data):
    return [s.metric for s in recommend(TaskData(**data)).metrics]


def _pitfalls(**data):
    return [p.name for p in recommend(TaskData(**data)).pitfalls]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("much", [False, True])
def test_every_metric_that_is_advised_is_there_and_has_a_source(kind, much):
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]
    known = set(groups["isocenter.metrics"])
    data = (
        TaskData(
            kind,
            classes=4,
            ordered=True,
            cases=500,
            patients=400,
            prevalence=0.02,
            structure_voxels=30,
            thin=True,
            several_per_image=True,
            empty_cases=True,
            unanswered_cases=3,
            probabilities=True,
            horizon_days=365,
        )
        if much
        else TaskData(kind)
    )
    advice = recommend(data)
    assert advice.metrics
    assert {s.metric for s in advice.metrics} <= known
    assert len({s.metric for s in advice.metrics}) == len(advice.metrics)
    assert len({p.name for p in advice.pitfalls}) == len(advice.pitfalls)
    assert all(x.source for x in (*advice.metrics, *advice.pitfalls))


def test_a_plain_segmentation_leads_with_overlap_and_has_no_warning():
    assert _metrics(kind="segmentation", structure_voxels=50_000) == ["dice", "nsd", "hd95", "volume_error"]
    assert _pitfalls(kind="segmentation", structure_voxels=50_000) == []


@pytest.mark.parametrize(
    ("data", "first", "warned"),
    [
        ({"structure_voxels": 40}, "nsd", "tiny structures"),
        ({"thin": True}, "centreline_dice", "thin structures"),
        ({"several_per_image": True}, "lesion_scores", "large lesions outweigh small ones"),
        ({"empty_cases": True}, "dice", "empty references"),
        ({"classes": 5}, "dice", "classes averaged"),
        ({"spacing_known": False}, "dice", "unknown spacing"),
        ({"cases": 30, "patients": 20}, "dice", "images of one patient are not independent"),
        ({"unanswered_cases": 2}, "dice", "cases without an answer"),
        ({"cases": 5, "patients": 5}, "dice", "too few patients"),
    ],
)
def test_traits_of_a_segmentation(data, first, warned):
    assert _metrics(kind="segmentation", **data)[0] == first
    assert warned in _pitfalls(kind="segmentation", **data)


def test_without_spacing_no_distance_is_advised():
    assert _metrics(kind="segmentation", spacing_known=False, structure_voxels=10) == ["dice"]


def test_traits_of_a_classification():
    assert "rare class" in _pitfalls(kind="classification", classes=2, prevalence=0.02)
    assert "rare class" not in _pitfalls(kind="classification", classes=2, prevalence=0.4)
    assert "few events" in _pitfalls(kind="classification", classes=2, prevalence=0.2, cases=100)
    assert "few events" not in _pitfalls(kind="classification", classes=2, prevalence=0.2, cases=1000)
    assert _metrics(kind="classification", classes=5, ordered=True)[0] == "kappa"
    assert "recalibration" in _metrics(kind="classification", classes=2, probabilities=True)
    assert "class_wise_ece" in _metrics(kind="classification", classes=5, probabilities=True)
    assert not {"brier", "net_benefit"} & set(_metrics(kind="classification", classes=2))


def test_a_horizon_brings_figures_of_that_day():
    assert _metrics(kind="survival", horizon_days=365)[:2] == ["dynamic_auc", "brier_survival"]
    assert _metrics(kind="survival")[0] == "uno_concordance"


def test_refused():
    with pytest.raises(ConfigError, match="prevalence"):
        TaskData("classification", prevalence=2.0)
    with pytest.raises(ConfigError, match="classes"):
        TaskData("classification", classes=0)
    with pytest.raises(ConfigError, match="patients"):
        TaskData("classification", cases=3, patients=5)


def test_images_without_a_lesion_are_missed_in_detection():
    assert "no empty images" in _pitfalls(kind="detection", prevalence=1.0)
    assert "no empty images" not in _pitfalls(kind="detection"), "it is not known"
    assert "empty images" in _pitfalls(kind="detection", prevalence=0.5, empty_cases=True)
