"""Linear answers, found exactly: equal to scikit-learn's, the penalty by the validation cases, nothing else learns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from isocenter.core.errors import ConfigError, TrainingError
from isocenter.data.labelled import Event
from isocenter.learn.adaptation import linear
from isocenter.learn.adaptation.alter import Alteration
from isocenter.learn.adaptation.linear import PENALTIES, fit_linear
from isocenter.learn.adaptation.plan import Plan
from isocenter.learn.adaptation.vectors import VectorCase, VectorJob, answers
from isocenter.models.learnt import LearntSettings, Preparation, build_learnt
from isocenter.models.learnt.descriptor import DescriptorEncoder, DescriptorSettings

CELLS = 4


def cases(kind: str, count: int = 60, seed: int = 0) -> list[VectorCase]:
    """Images of which the upper left cells are brighter where the label says so."""
    rng, found = np.random.default_rng(seed), []
    for number in range(count):
        image = rng.normal(0, 1, (1, 16, 16)).astype(np.float32)
        strength = rng.random()
        image[:, :4, :4] += 2 * strength
        image[:, 12:, 12:] += number % 3
        target = {
            "classify": number % 3, "multilabel": (int(strength > 0.5), int(number % 3 == 0) if number % 5 else -1),
            "regress": 40 + 10 * strength, "survive": Event(400 - 300 * strength, number % 4 > 0),
        }[kind]  # fmt: skip
        found.append(VectorCase(str(number), image, target))
    return found


def job(kind: str, validation: int = 20) -> VectorJob:
    outputs = {"classify": 3, "multilabel": 2}.get(kind, 1)
    settings = LearntSettings(DescriptorSettings(cells=CELLS).as_card(), outputs, mask=False, pool="grid")
    plan = Plan(Preparation(2, size=(16, 16)), settings, Alteration(), (16, 16), 8)
    return VectorJob(plan, kind, cases(kind), cases(kind, validation, seed=9) if validation else [], balanced=False)


def test_what_a_descriptor_sees() -> None:
    net = DescriptorEncoder(DescriptorSettings(cells=2))
    x = torch.zeros(1, 1, 8, 8)
    x[..., :4, :4] = 1.0
    x[..., 4:, 4:] += torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(2, 2)
    mean, rough, uneven = net.maps(x)[0][0]
    torch.testing.assert_close(mean, torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    assert rough[1, 1] == rough.max() and uneven[0].tolist() == [1, 1] and uneven[1].abs().max() < 1e-6
    assert net.embed(x).shape == (1, net.width) and not list(net.parameters())
    deep = DescriptorEncoder(DescriptorSettings(dims=3, channels_in=2, cells=2))
    assert deep.embed(torch.rand(3, 2, 6, 6, 8)).shape == (3, deep.width) == (3, 48)
    with pytest.raises(ConfigError, match="1 to 64 cells"):
        DescriptorSettings(cells=0)
    with pytest.raises(ConfigError, match="for the whole image"):
        build_learnt(LearntSettings(DescriptorSettings().as_card(), 2, mask=True))


@pytest.mark.parametrize("kind", ["classify", "multilabel", "regress"])
def test_it_is_the_minimum_that_scikit_learn_finds(kind: str) -> None:
    peers = pytest.importorskip("sklearn.linear_model")
    work = job(kind, validation=0)
    net = build_learnt(work.plan.network)
    learnt = fit_linear(net, work)
    assert (learnt.step, learnt.steps, learnt.validation) == (0, 0, {"penalty": 3.0})
    with torch.no_grad():
        x = net.encoder.embed(torch.from_numpy(np.stack([c.image for c in work.learnt]))).double().numpy()
        given = net(torch.from_numpy(np.stack([c.image for c in work.learnt]))).double().numpy()
    x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    targets = [c.target for c in work.learnt]
    if kind == "regress":
        y = (np.array(targets) - work.scale.mean) / work.scale.deviation
        peer = peers.Ridge(alpha=3.0 * len(x)).fit(x, y)
        np.testing.assert_allclose(given[:, 0], peer.predict(x), atol=2e-4)
    elif kind == "classify":
        peer = peers.LogisticRegression(C=1 / (3.0 * len(x)), max_iter=5000, tol=1e-9).fit(x, targets)
        np.testing.assert_allclose(
            torch.from_numpy(given).softmax(1).numpy(), peer.predict_proba(x), atol=2e-4
        )  # fmt: skip
    else:
        for number in (0, 1):
            y = np.array([t[number] for t in targets])
            known = y >= 0
            peer = peers.LogisticRegression(C=1 / (3.0 * known.sum()), max_iter=5000, tol=1e-9)
            peer.fit(x[known], y[known])
            np.testing.assert_allclose(given[:, number], peer.decision_function(x), atol=5e-4)


@pytest.mark.parametrize("kind", ["classify", "multilabel", "regress", "survive"])
def test_it_learns_and_the_validation_cases_choose(kind: str) -> None:
    work = job(kind)
    net = build_learnt(work.plan.network)
    first = fit_linear(net, work)
    assert first.validation["penalty"] in PENALTIES
    least = {"classify": 0.7, "multilabel": 0.8, "regress": -2.2, "survive": 0.7}[kind]
    assert first.validation["score"] > least, first.validation
    again = fit_linear(build_learnt(work.plan.network), work)
    for one, other in zip(net.head[-1].parameters(), again.net.head[-1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    p = answers(net, work.learnt, kind)
    assert np.isfinite(p).all()
    if kind == "multilabel":  # not weighted: on average as often as it is
        share = np.mean([c.target[0] for c in work.learnt])
        assert p[:, 0].mean() == pytest.approx(share, abs=0.01) and work.scale.shift == ()


def test_mirror_images_are_learnt_from_where_asked_and_what_is_not_finite_is_refused() -> None:
    work = job("classify", validation=0)
    mirrored = replace(work.plan, alteration=Alteration(mirror=(False, False, True)))
    both = VectorJob(mirrored, "classify", work.learnt, [], balanced=False)
    net = build_learnt(work.plan.network)
    fit_linear(net, both)
    flipped = [replace(c, image=np.ascontiguousarray(c.image[..., ::-1])) for c in work.learnt]
    wide = VectorJob(work.plan, "classify", [*work.learnt, *flipped], [], balanced=False)
    other = build_learnt(work.plan.network)
    fit_linear(other, wide)
    torch.testing.assert_close(net.head[-1].weight, other.head[-1].weight, atol=1e-5, rtol=0)
    broken = [replace(work.learnt[0], image=np.full((1, 16, 16), np.nan, np.float32)), *work.learnt[1:]]
    with pytest.raises(TrainingError, match="not finite"):
        fit_linear(net, VectorJob(work.plan, "classify", broken, [], balanced=False))
    with pytest.raises(TypeError, match="whole image"):
        fit_linear(torch.nn.Linear(2, 2), work)
    assert tuple(sorted(PENALTIES)) == linear.PENALTIES
