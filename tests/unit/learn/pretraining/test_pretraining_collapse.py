"""The collapse detector: fires on a method whose loss is set to collapse, and not on a healthy one."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from isocenter.core.errors import TrainingError
from isocenter.learn.method import Stop
from isocenter.learn.pretraining.args import CollapseArgs
from isocenter.learn.pretraining.collapse import Spread, Watch, effective_rank, spread_of
from pretraining_cases import METHODS, settings_of, toy

GOOD = Spread(rank=10.0, std=1.0, spread=0.5)


def test_the_effective_rank_by_hand() -> None:
    """Singular values 3 and 1: shares 3/4 and 1/4."""
    x = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]]) / math.sqrt(2)
    wanted = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert effective_rank(x) == pytest.approx(wanted)
    assert effective_rank(x + 1000) == pytest.approx(wanted, rel=1e-3), "an offset that all share tells none apart"
    assert effective_rank(torch.ones(5, 3)) == 1.0
    assert effective_rank(torch.outer(torch.arange(9.0), torch.ones(4))) == pytest.approx(1.0, abs=1e-5)
    torch.manual_seed(0)
    assert 50 < effective_rank(torch.randn(1000, 64)) <= 64


def test_the_spread_by_hand() -> None:
    found = spread_of(torch.tensor([[1.0, 2.0], [3.0, 2.0]]))
    assert found.std == pytest.approx(math.sqrt(0.5)), "variances 1 and 0"
    assert found.spread == pytest.approx(math.sqrt(0.5) / math.sqrt((1 + 4 + 9 + 4) / 4))
    assert spread_of(torch.zeros(4, 3)) == Spread(1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("dead", "reason"),
    [
        (Spread(10.0, 0.9, 0.001), "they differ by 0.001 of their length"),
        (Spread(1.2, 0.9, 0.5), r"effective rank is 1\.20, less than 1\.5"),
        (Spread(10.0, 0.04, 0.5), r"standard deviation fell to 0\.04 from 1"),
    ],
)
def test_a_dead_run_stops_with_its_reason(dead: Spread, reason: str) -> None:
    watch = Watch(CollapseArgs(patience=2))
    watch.look(0, {"backbone": GOOD, "head": GOOD})
    watch.look(10, {"backbone": GOOD, "head": dead})
    watch.look(20, {"backbone": GOOD, "head": GOOD})  # it recovered
    watch.look(30, {"backbone": GOOD, "head": dead})
    resumed = Watch(CollapseArgs(patience=2))
    resumed.load(watch.state())
    for one in (watch, resumed):
        with pytest.raises(TrainingError, match=f"step 40: the embeddings have collapsed .head: .*{reason}"):
            one.look(40, {"backbone": GOOD, "head": dead})


def test_what_is_no_collapse() -> None:
    watch = Watch(CollapseArgs(patience=1))
    watch.look(0, {"backbone": Spread(1.0, 1.0, 0.0)})  # first weights are judged by nobody
    watch.look(10, {"backbone": Spread(10.0, 0.01, 0.5)})  # a backbone's own scale is free
    Watch(CollapseArgs(stop=False, patience=1)).look(5, {"backbone": Spread(1.0, 0.0, 0.0)})


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy(tmp_path_factory.mktemp("images") / "toy")


def test_vicreg_without_variance_and_covariance_is_found_dead(images: Path, tmp_path: Path) -> None:
    method = METHODS["vicreg"]
    changes = {"steps": 120, "average": 0.5, "learning_rate": 0.005, "validate_every": 10, "checkpoint_every": 10}
    dead = settings_of("vicreg", data=str(images), variance=0.0, covariance=0.0, **changes)
    with pytest.raises(TrainingError, match=r"embeddings have collapsed .expander: .*lower learning rate"):
        method.train(method.configure(dead), tmp_path / "dead", Stop(), lambda _r: None)
    assert (tmp_path / "dead" / "checkpoint.pt").is_file()


def test_distil_without_centre_and_sharpening_is_found_dead(images: Path, tmp_path: Path) -> None:
    method = METHODS["distil"]
    changes = {"steps": 120, "validate_every": 10, "teacher_temperature": [1.0, 1.0], "centre_momentum": 0.999999}
    with pytest.raises(TrainingError, match=r"embeddings have collapsed .head: "):
        method.train(
            method.configure(settings_of("distil", data=str(images), **changes)), tmp_path, Stop(), lambda _r: None
        )


@pytest.mark.parametrize("name", ["masked", "masked-sparse", "distil", "vicreg"])
def test_a_healthy_run_goes_on(name: str, images: Path, tmp_path: Path) -> None:
    method = METHODS[name.partition("-")[0]]
    settings = settings_of(name, data=str(images), steps=40, collapse={"patience": 1, "probe": 24})
    method.train(method.configure(settings), tmp_path, Stop(), lambda _r: None)
