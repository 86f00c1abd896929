"""Fusion networks as learners: plain matrices say what torch says; modalities that are missing, and what each adds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from isocenter.core.errors import DataError
from isocenter.evaluate.ranking import concordance
from isocenter.models.covariates import Block, Covariate, Covariates
from isocenter.models.fusion.network import FusionNet, FusionSettings
from isocenter.tasks.prognose.fused import FusionLearner, parts_of
from isocenter.tasks.prognose.fusing import FusedNetworks
from isocenter.tasks.prognose.keeping import arrays_of, trained_from
from isocenter.tasks.prognose.learners import Choice, SourceCurves, SourceLearner, Times, Trained, learn
from isocenter.tasks.prognose.nested import patient_folds
from isocenter.tasks.prognose.preparing import fit_people
from isocenter.tasks.prognose.sources import modalities


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


N = 200
AT = np.array([100.0])


def drawn(seed: int = 0) -> tuple[Covariates, Times]:
    rng = np.random.default_rng(seed)
    signal, age = rng.normal(size=N), rng.normal(size=N)
    ct = signal[:, None] * np.random.default_rng(5).normal(size=6) + 0.5 * rng.normal(size=(N, 6))
    ct[rng.random(N) < 0.3] = np.nan
    noise = rng.normal(size=(N, 5))
    event, lost = rng.exponential(150 * np.exp(-1.2 * signal - 0.4 * age)), rng.uniform(50, 600, N)
    blocks = (Block("ct", tuple("abcdef"), ct), Block("noise", tuple("abcde"), noise))
    return Covariates((Covariate("age", age),), blocks), Times(np.minimum(event, lost), event <= lost)


def learnt(name: str) -> tuple[Trained, Covariates, Times]:
    people, times = drawn()
    folds = patient_folds([str(n) for n in range(N)], times.happened, 2)
    learner = FusionLearner(name, decays=(0.1,), networks=2, steps=60)  # type: ignore[arg-type]
    assert isinstance(learner, SourceLearner)
    return learn(learner, people, times, Choice(folds, concordance)), people, times


@pytest.mark.parametrize("head", ["cox", "discrete"])
def test_plain_matrices_say_what_torch_says(head: str) -> None:
    torch.manual_seed(3)
    layout = (("a", 3), ("b", 2), ("c", 4))
    net = FusionNet(FusionSettings(layout, head, 1 if head == "cox" else 4)).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    x = np.random.default_rng(0).normal(size=(30, 9))
    x[:10, :3] = np.nan
    x[5:15, 3:5] = np.nan
    scales = tuple((np.zeros(n), np.ones(n)) for _, n in layout)
    ours = FusedNetworks(layout, scales, (parts_of(net),), 2, None, None, np.zeros(net.settings.outputs))
    parts = {name: torch.from_numpy(p.astype(np.float32)) for (name, _), p in
             zip(layout, np.split(np.nan_to_num(x), [3, 5], axis=1), strict=True)}  # fmt: skip
    present = torch.from_numpy(~np.isnan(x[:, [0, 3, 5]]))
    with torch.no_grad():
        out, weights = net(parts, present)
    np.testing.assert_allclose(ours.outputs(x), out.numpy(), atol=2e-5)
    np.testing.assert_allclose(ours.attention(x), weights.numpy(), atol=2e-6)
    nobody = np.full((1, 9), np.nan)
    assert np.isnan(ours.attention(nobody)).all() and (ours.outputs(nobody) == 0).all()


@pytest.mark.parametrize("name", ["fusion", "fusion-deepsurv"])
def test_a_fusion_learns_is_kept_and_tells_what_each_modality_adds(name: str) -> None:
    if name == "fusion-deepsurv":
        pytest.importorskip("torchsurv")
    made, people, _ = learnt(name)
    assert isinstance(made.model, SourceCurves) and made.setting["networks"] == 2
    new, later = drawn(seed=1)
    with_it = concordance(later.days, later.happened, made.risk(new))
    assert with_it > 0.62 and with_it > concordance(later.days, later.happened, made.risk(new.without("ct"))) + 0.04
    curves = made.survival(new, np.array([50.0, 100.0, 300.0]))
    assert (np.diff(curves, axis=1) <= 0).all() and ((curves >= 0) & (curves <= 1)).all()
    back = trained_from(arrays_of(made, AT))
    np.testing.assert_array_equal(back.survival(new, AT), made.survival(new, AT))

    has = int(np.flatnonzero(people.blocks[0].present)[0])
    lacks = int(np.flatnonzero(~people.blocks[0].present)[0])
    told = {m.name: m for m in modalities(back, people.rows(np.array([has])), AT)}
    assert list(told) == ["table", "ct", "noise"] and sum(m.attention or 0 for m in told.values()) == pytest.approx(1)
    assert all(m.present and m.without is not None for m in told.values())
    gone = {m.name: m for m in modalities(back, people.rows(np.array([lacks])), AT)}
    assert not gone["ct"].present and gone["ct"].without is None and gone["table"].without is not None
    # Over all people, what is taken away changes the risk most where it tells most: attention need not follow.
    whole = made.survival(new, AT)[:, 0]
    moved = {n: float(np.abs(made.survival(new.without(n), AT)[:, 0] - whole).mean()) for n in ("ct", "noise")}
    assert moved["ct"] > 2 * moved["noise"]


def test_a_dozen_patients_are_refused() -> None:
    people, times = drawn()
    rows = np.flatnonzero(people.blocks[0].present)[:12].astype(np.int64)
    own = Times(times.days[rows], np.repeat([True, False], [2, 10]))
    preparation = fit_people(people.rows(rows))
    learner = FusionLearner("fusion").over(preparation.layout)
    with pytest.raises(DataError, match="2 patients with the event and 10 others are too few to join several sources"):
        learner.fit(preparation.gapped(people.rows(rows)), own, {"decay": 0.1, "networks": 1}, 0)
    folds = patient_folds([str(n) for n in rows], own.happened, 2)
    with pytest.raises(DataError, match="6 people of a training part have the block 'ct': at least 10"):
        learn(FusionLearner("fusion"), people.rows(rows), own, Choice(folds, concordance))
    with pytest.raises(DataError, match="needs to know the modalities"):
        FusionLearner("fusion").fit(np.zeros((30, 3)), times.rows(np.arange(30)), {"decay": 0.1, "networks": 1}, 0)
