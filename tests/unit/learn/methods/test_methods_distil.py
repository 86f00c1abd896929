"""Self-distillation: every formula by hand, and it learns."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from isocenter.learn.methods.distil import METHOD, RECIPE
from isocenter.learn.methods.distil.args import HeadArgs
from isocenter.learn.methods.distil.loss import centred, distance, koleo, sinkhorn
from isocenter.learn.methods.distil.model import Distil, Head
from isocenter.learn.methods.distil.transform import views
from isocenter.learn.pretraining.crops import generator
from isocenter.learn.pretraining.trainer import begun
from method_cases import linear_probe, trained
from pretraining_cases import settings_of, toy


def test_centring_and_sharpening_by_hand() -> None:
    """Logits (1, 0) with centre (0.5, 0): (0.5, 0); over 0.1: (5, 0)."""
    found = centred(torch.tensor([[1.0, 0.0]]), torch.tensor([0.5, 0.0]), torch.tensor(0.1))
    first = 1 / (1 + math.exp(-5))
    assert found[0].tolist() == pytest.approx([first, 1 - first])


def test_the_distance_by_hand() -> None:
    """Two large crops and a small one: teacher 1 against students 2 and 3, teacher 2 against 1 and 3; never its own."""
    teacher = torch.tensor([[[1.0, 0.0]], [[0.25, 0.75]]])
    logits = torch.tensor([[[0.2, 0.0]], [[0.0, 0.1]], [[0.3, 0.3]]])

    def log(crop: int, which: int) -> float:
        a, b = (math.exp(float(v) / 0.1) for v in logits[crop, 0])
        return math.log((a, b)[which] / (a + b))

    pairs = [
        -log(1, 0), -log(2, 0),
        -0.25 * log(0, 0) - 0.75 * log(0, 1), -0.25 * log(2, 0) - 0.75 * log(2, 1),
    ]  # fmt: skip
    assert float(distance(logits, teacher, 0.1)) == pytest.approx(sum(pairs) / 4, rel=1e-5)


def test_sinkhorn_uses_all_prototypes_equally() -> None:
    torch.manual_seed(0)
    logits = torch.randn(12, 4) + torch.tensor([3.0, 0, 0, 0])  # the first would take all
    even = sinkhorn(logits, torch.tensor(0.5), rounds=50)
    assert torch.allclose(even.sum(1), torch.ones(12), atol=1e-5)
    assert torch.allclose(even.sum(0), torch.full((4,), 3.0), atol=1e-3)
    # One round by hand, without logarithms: columns to 1, then rows to 1.
    plain = torch.exp(logits / 0.5)
    plain = plain / plain.sum(0)
    plain = plain / plain.sum(1, keepdim=True)
    assert torch.allclose(sinkhorn(logits, torch.tensor(0.5), rounds=1), plain, atol=1e-6)
    assert bool(sinkhorn(logits * 1e4, torch.tensor(0.04)).isfinite().all())


def test_koleo_by_hand() -> None:
    """Three vectors: two at a right angle to each other, one opposite of the first."""
    x = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]])
    assert float(koleo(x)) == pytest.approx(-math.log(math.sqrt(2)), rel=1e-6), "each's nearest is at sqrt(2)"
    near = torch.tensor([[1.0, 0.0], [1.0, 1e-3], [-1.0, 0.0], [-1.0, 1e-3]], requires_grad=True)
    loss = koleo(near)
    loss.backward()
    assert float(loss.detach()) > 5 and bool(near.grad.isfinite().all())


def test_schedules() -> None:
    args = METHOD.configure(
        settings_of("distil", steps=100, teacher_temperature=[0.04, 0.08], temperature_steps=10, teacher_momentum=0.9)
    )
    assert [args.temperature(s) for s in (0, 5, 10, 99)] == pytest.approx([0.04, 0.06, 0.08, 0.08])
    assert [args.momentum(s) for s in (0, 50, 100)] == pytest.approx([0.9, 0.95, 1.0])
    assert METHOD.configure(settings_of("distil", small_pixels=None)).small_size == (16, 16)


def test_the_head_gives_cosines() -> None:
    torch.manual_seed(0)
    head = Head(8, HeadArgs(hidden=16, layers=3, bottleneck=4, prototypes=5))
    x = torch.randn(3, 8)
    assert torch.allclose(head.bottleneck(x).norm(dim=1), torch.ones(3))
    wanted = torch.nn.functional.cosine_similarity(head.perceptron(x)[:, None], head.prototypes[None], dim=2)
    assert torch.allclose(head(x), wanted, atol=1e-6)
    assert len(Head(8, HeadArgs(layers=1)).perceptron) == 1


def made(**changes: object) -> tuple[Distil, dict[str, torch.Tensor]]:
    args = METHOD.configure(settings_of("distil", **changes))
    learner = begun(RECIPE, args)
    rng = np.random.default_rng(0)
    samples = [views(args, rng.normal(size=(1, 40, 40)), generator(k)) for k in range(4)]
    return learner, {k: torch.stack([s[k] for s in samples]) for k in samples[0]}


def test_the_teacher_follows_and_is_never_pulled() -> None:
    learner, batch = made(teacher_momentum=0.75, centre_momentum=0.6)
    assert {k: tuple(v.shape) for k, v in batch.items()} == {"large": (4, 2, 1, 32, 32), "small": (4, 2, 1, 16, 16)}
    learner.train()
    learner.begin_step(0, 24)
    assert float(learner.temperature) == pytest.approx(0.04)
    said = learner.teacher_head(learner.teacher.embed(batch["large"].transpose(0, 1).flatten(0, 1)))
    loss, figures = learner(batch)
    loss.backward()
    assert all(p.grad is None for p in [*learner.teacher.parameters(), *learner.teacher_head.parameters()])
    assert all(p.grad is not None for p in learner.backbone.parameters())
    assert 0 < figures["entropy"].item() <= 1 and figures["koleo"].item() == 0
    learner.before_update(0)
    assert learner.head.prototypes.grad is None, "prototypes are held at the start"
    with torch.no_grad():
        for p in learner.backbone.parameters():
            p.add_(1.0)
    before = {k: v.clone() for k, v in learner.teacher.state_dict().items()}
    learner.end_step(0, 24)
    for key, value in learner.teacher.state_dict().items():
        assert torch.allclose(value, 0.75 * before[key] + 0.25 * (before[key] + 1.0), atol=1e-6)
    assert torch.allclose(learner.centre, 0.4 * said.mean(0), atol=1e-6)
    learner.eval()
    centre = learner.centre.clone()
    learner(batch)
    assert learner.centre.equal(centre), "validation leaves the running mean alone"
    assert learner.averaged() is learner.teacher


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy(tmp_path_factory.mktemp("images") / "toy", 48)


@pytest.mark.parametrize("name", ["distil", pytest.param("distil-sinkhorn", marks=pytest.mark.slow)])
def test_it_learns(name: str, images: Path, tmp_path: Path) -> None:
    gentle = {"learning_rate": 0.001, "batch": 16, "appearance": 0.5, "crop": {"share": [0.7, 1.0]}}
    steps, _, (before, after) = trained(name, images, tmp_path, steps=80, validate_every=40, **gentle)
    # The teacher's own entropy moves; what the student can learn is the rest of the distance.
    far = [row["distance"] - row["entropy"] * math.log(32) for row in steps]
    assert np.mean(far[-5:]) < 0.8 * np.mean(far[:5])
    assert linear_probe(after, images) >= linear_probe(before, images) + 0.1
