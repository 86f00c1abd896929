"""`check_evidence` finds what is wrong with evidence, and lets good evidence pass."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from isocenter.core import (
    Code,
    EvidenceMap,
    Explanation,
    Feature,
    Geometry,
    Measurement,
    ModelRef,
    Neighbour,
    Prediction,
    Scores,
    Study,
    TaskCard,
    Uncertainty,
)
from isocenter.core.errors import DataError, GeometryError, PluginError
from isocenter.core.units import UCUM
from isocenter.testing import check_evidence, check_task, example_study

CODE = Code("x", "99TEST", "spot")
CARD = TaskCard("spots", "Spots", (), (), False, False, (), False, "tests", "patients", "MIT")


@dataclass
class Spots:
    """A task that explains itself, in the way that a test asks for."""

    fault: str = ""
    card: TaskCard = CARD
    times: list[int] = field(default_factory=list)

    def run(self, study: Study, prompts: object = ()) -> Prediction:
        if not study.images or self.fault == "abstains":
            return Prediction.abstain("spots", "there is no image to look at")
        p = 0.5 + (0.1 * len(self.times) if self.fault == "moves" else 0)
        sure, model = Uncertainty("set", "nothing is promised"), ModelRef("m", "1", "", "MIT")
        return Prediction(
            Scores(((CODE, p),)), "spots", sure, model=model, inputs=("x",),
            measurements=(Measurement(CODE, p, UCUM["1"]),),
        )  # fmt: skip

    def explain(self, study: Study, prediction: Prediction) -> Explanation:
        if prediction.abstained is not None and self.fault != "abstains":
            return Explanation()
        self.times.append(1)
        image = study.images[0]
        geometry = Geometry(image.geometry.shape) if self.fault == "grid" else image.geometry
        array = np.zeros(geometry.shape, np.float32)
        array[0, 3, len(self.times) if self.fault == "differs" else 4] = 1
        if self.fault == "alters":
            image.array[0, 0, 0, 0] += 1
        near = [Neighbour("case a", "spot", 0.1), Neighbour("case b", "spot", 0.2)]
        feature = Feature(CODE, "because", {"a": 1.0})
        return Explanation(
            (EvidenceMap(CODE, array, geometry, "by hand"),),
            tuple(near[::-1] if self.fault == "order" else near), (feature,),
        )  # fmt: skip


def test_good_evidence_passes() -> None:
    assert "evidence" in check_task(Spots()).checks
    found = check_evidence(Spots(), example_study(CARD))
    assert found.maps[0].peak == (0, 3, 4)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("moves", "must not move the next answer"), ("grid", "own grid"), ("differs", "in two ways"),
        ("alters", "change its input"), ("order", "nearest first"), ("abstains", "abstention has no evidence"),
    ],
)  # fmt: skip
def test_faults_are_found(fault: str, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        check_evidence(Spots(fault), example_study(CARD))


def test_maps_and_features_hold_themselves_to_it() -> None:
    geometry = Geometry((1, 4, 4))
    good = np.zeros((1, 4, 4), np.float32)
    good[0, 1, 1] = 1
    EvidenceMap(CODE, good, geometry, "m")
    for bad in (good * np.nan, good * 2, good - 0.5, good * 0):
        with pytest.raises(DataError, match="finite values from 0 to 1"):
            EvidenceMap(CODE, bad, geometry, "m")
    with pytest.raises(GeometryError, match="disagree"):
        EvidenceMap(CODE, good, Geometry((1, 4, 5)), "m")
    with pytest.raises(DataError, match="must be finite"):
        Feature(CODE, "t", {"a": float("nan")})
