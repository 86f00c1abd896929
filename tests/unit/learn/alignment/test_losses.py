"""Losses held against formulas written out by hand, against each other, and against what a mask must do."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from isocenter.learn.alignment.losses import alignment_loss, sigmoid_loss, softmax_loss
from isocenter.learn.alignment.texts import Told
from isocenter.learn.alignment.trainer import left_out_pairs

NONE = torch.zeros(2, 2, dtype=torch.bool)
EMPTY = torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.bool)


def log_sigmoid(x):
    return -math.log(1 + math.exp(-x))


def test_sigmoid_by_hand():
    logits = torch.tensor([[1.0, -0.5], [0.25, 2.0]])
    wanted = -(log_sigmoid(1.0) + log_sigmoid(0.5) + log_sigmoid(-0.25) + log_sigmoid(2.0)) / 2
    assert float(sigmoid_loss(logits, NONE, *EMPTY)) == pytest.approx(wanted, rel=1e-6)


def test_softmax_by_hand():
    logits = torch.tensor([[1.0, -0.5], [0.25, 2.0]])
    rows = [math.log(1 + math.exp(-1.5)), math.log(1 + math.exp(-1.75))]
    columns = [math.log(1 + math.exp(-0.75)), math.log(1 + math.exp(-2.5))]
    assert float(softmax_loss(logits, NONE, *EMPTY)) == pytest.approx((sum(rows) + sum(columns)) / 4, rel=1e-6)


@pytest.mark.parametrize("gap", [-3.0, 0.0, 0.5, 4.0])
def test_against_each_other_where_they_must_meet(gap):
    """With two pairs and logits a, -a the softmax sees the gap 2a once; the sigmoid sees a twice."""
    half = torch.tensor([[gap / 2, -gap / 2], [-gap / 2, gap / 2]])
    soft = math.log(1 + math.exp(-gap))
    assert float(softmax_loss(half, NONE, *EMPTY)) == pytest.approx(soft, rel=1e-5)
    assert float(sigmoid_loss(2 * half, NONE, *EMPTY)) == pytest.approx(2 * soft, rel=1e-5)


def test_contradictions_by_hand():
    logits = torch.tensor([[1.0, -0.5], [0.25, 2.0]])
    hard, known = torch.tensor([[0.75, 9.0], [9.0, 9.0]]), torch.tensor([[True, False], [False, False]])
    plain = float(sigmoid_loss(logits, NONE, *EMPTY))
    assert float(sigmoid_loss(logits, NONE, hard, known)) == pytest.approx(plain - log_sigmoid(-0.75) / 2, rel=1e-6)
    before = float(softmax_loss(logits, NONE, *EMPTY))
    change = math.log(1 + math.exp(-1.5) + math.exp(-0.25)) - math.log(1 + math.exp(-1.5))
    assert float(softmax_loss(logits, NONE, hard, known)) == pytest.approx(before + change / 4, rel=1e-6)


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
def test_what_is_left_out_is_neither_pulled_nor_pushed(kind):
    logits = torch.tensor([[1.0, 3.0, 0.1], [0.2, 1.0, 0.3], [0.5, 0.6, 1.0]], requires_grad=True)
    left_out = torch.zeros(3, 3, dtype=torch.bool)
    left_out[0, 1] = True
    left_out[2, 2] = True  # the own pair is always learnt from, whatever the mask says
    loss = alignment_loss(kind, logits, left_out, torch.zeros(3, 0), torch.zeros(3, 0, dtype=torch.bool))
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad[0, 1] == 0 and (logits.grad.diagonal() < 0).all()
    assert (logits.grad[1, [0, 2]] > 0).all()


def test_the_same_text_twice_is_no_negative():
    same = frozenset({"no effusion."})
    told = [Told("No effusion.", same, ()), Told("no  effusion.", same, ()), Told("Mass.", frozenset({"mass."}), ())]
    true = [same | {"mass."}, same, frozenset({"mass.", "large heart."})]
    assert left_out_pairs(told, true).tolist() == [[True, True, True], [True, True, False], [False, False, True]]


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
def test_a_single_pair_has_a_finite_loss(kind):
    one = torch.tensor([[0.3]])
    nothing = torch.zeros(1, 1, dtype=torch.bool), torch.zeros(1, 0), torch.zeros(1, 0, dtype=torch.bool)
    assert float(alignment_loss(kind, one, *nothing)) == pytest.approx(0.0 if kind == "softmax" else -log_sigmoid(0.3))
    assert np.isfinite(float(alignment_loss(kind, one, nothing[0], one, torch.ones(1, 1, dtype=torch.bool))))
