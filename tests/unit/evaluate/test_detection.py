"""FROC and average precision: by hand, against slow restatements of PASCAL VOC's and COCO's rules, and pycocotools
where it is installed."""

from __future__ import annotations

import numpy as np
import pytest

from isocenter.core.errors import ConfigError, DataError, GeometryError, UnitsError
from isocenter.evaluate.detection import (
    COCO_IOUS,
    BoxRule,
    PointRule,
    RadiusRule,
    box_iou,
    detection_precision,
    froc,
    match_answers,
)

NONE = np.zeros((0, 3))


def test_iou_of_boxes_equals_that_of_their_voxels():
    rng = np.random.default_rng(0)
    for axes in (2, 3):
        low = rng.integers(0, 5, (6, axes))
        boxes = np.concatenate([low, low + rng.integers(1, 5, (6, axes))], axis=1).astype(float)
        masks = []
        for box in boxes.astype(int):
            mask = np.zeros((10,) * axes, bool)
            mask[tuple(slice(a, b) for a, b in zip(box[:axes], box[axes:], strict=True))] = True
            masks.append(mask)
        expected = [[(a & b).sum() / (a | b).sum() for b in masks] for a in masks]
        assert np.allclose(box_iou(boxes, boxes), expected)
    assert box_iou(np.zeros((1, 4)), np.zeros((1, 4))).tolist() == [[0.0]]


def _scene(seed, images=12):
    rng = np.random.default_rng(seed)
    reference, found, scores = [], [], []
    for _ in range(images):
        low = rng.uniform(0, 60, (rng.integers(0, 4), 3))
        things = np.concatenate([low, low + rng.uniform(4, 10, low.shape)], axis=1)
        near = things[rng.random(len(things)) < 0.8].repeat(rng.integers(1, 3), axis=0)
        near = near + rng.normal(0, 0.8, (len(near), 1))
        low = rng.uniform(0, 60, (rng.integers(0, 3), 3))
        answers = np.concatenate([near, np.concatenate([low, low + 6], axis=1)])
        reference.append(things)
        found.append(answers)
        scores.append(rng.random(len(answers)))
    return reference, found, scores


def _voc(reference, found, scores, least):
    """Average precision as the rules of VOC read: one list, one pass, then the envelope integrated step by step."""
    rows = sorted(((s, i, j) for i, image in enumerate(scores) for j, s in enumerate(image)), reverse=True)
    taken, true = set(), []
    for _, i, j in rows:
        overlaps = [(box_iou(found[i][j : j + 1], r[None])[0, 0], k) for k, r in enumerate(reference[i])]
        free = [(o, k) for o, k in overlaps if o >= least and (i, k) not in taken]
        if free:
            taken.add((i, max(free)[1]))
        true.append(bool(free))
    total = sum(len(r) for r in reference)
    recall = [sum(true[: n + 1]) / total for n in range(len(true))]
    precision = [sum(true[: n + 1]) / (n + 1) for n in range(len(true))]
    area, before = 0.0, 0.0
    for n in range(len(true)):
        area += (recall[n] - before) * max(precision[n:])
        before = recall[n]
    return area


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("least", [0.1, 0.5])
def test_average_precision_by_the_rules_of_voc(seed, least):
    scene = _scene(seed)
    assert detection_precision(*scene, rule=BoxRule(least)) == pytest.approx(_voc(*scene, least))


@pytest.mark.parametrize("seed", range(4))
def test_froc_by_trying_every_threshold(seed):
    reference, found, scores = _scene(seed)
    curve = froc(reference, found, scores, rule=BoxRule(0.3), repeats="false")
    for threshold, false, sensitivity in zip(curve.thresholds, curve.false_per_image, curve.sensitivity, strict=True):
        hits = answers = 0
        for things, boxes, values in zip(reference, found, scores, strict=True):
            kept = values >= threshold
            answers += kept.sum()
            if len(things) and kept.any():
                one = froc([things], [boxes[kept]], [values[kept]], rule=BoxRule(0.3))
                hits += round(one.sensitivity[-1] * len(things))
        assert sensitivity == pytest.approx(hits / sum(len(r) for r in reference))
        assert false == pytest.approx((answers - hits) / len(reference))
    for rate, reached in zip(curve.rates, curve.at_rates, strict=True):
        assert reached == max(
            [s for s, f in zip(curve.sensitivity, curve.false_per_image, strict=True) if f <= rate] + [0]
        )
    assert curve.mean == pytest.approx(np.mean(curve.at_rates))


def test_a_repeat_is_false_or_ignored():
    things = [np.array([[5.0, 5, 5]])]
    answers, scores = [np.array([[5.0, 5, 5], [5, 5, 6]])], [np.array([0.9, 0.8])]
    rule = PointRule(within_mm=2)
    assert froc(things, answers, scores, rule=rule).false_per_image.tolist() == [0]
    assert froc(things, answers, scores, rule=rule, repeats="false").false_per_image.tolist() == [0, 1]


def test_points_inside_boxes():
    things = [np.array([[0.0, 0, 0, 4, 4, 4], [1, 1, 1, 9, 9, 9]])]
    answers, scores = [np.array([[2.0, 2, 2], [8, 8, 8], [20, 20, 20]])], [np.array([0.9, 0.8, 0.7])]
    assert froc(things, answers, scores, rule=PointRule()).at_rates == (1.0,) * 7
    assert detection_precision(things, answers, scores, rule=PointRule()) == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_order_of_images_and_answers_decides_nothing(seed):
    reference, found, scores = _scene(seed)
    scores = [np.round(s, 1) for s in scores]  # many ties
    rng = np.random.default_rng(seed)
    turns = [rng.permutation(len(s)) for s in scores]
    images = rng.permutation(len(scores))
    turned = (
        [reference[i] for i in images],
        [found[i][turns[i]] for i in images],
        [scores[i][turns[i]] for i in images],
    )
    rule = BoxRule(0.3)
    assert froc(reference, found, scores, rule=rule).at_rates == froc(*turned, rule=rule).at_rates
    assert detection_precision(reference, found, scores, rule=rule) == detection_precision(*turned, rule=rule)


def test_no_answer_and_nothing_to_find():
    thing = np.array([[5.0, 5, 5]])
    rule = PointRule(within_mm=2)
    silent = froc([thing], [NONE], [np.zeros(0)], rule=rule)
    assert silent.at_rates == (0.0,) * 7
    assert detection_precision([thing], [NONE], [np.zeros(0)], rule=rule) == 0.0
    with pytest.raises(DataError, match="no image holds"):
        froc([NONE], [thing], [np.ones(1)], rule=rule)


def test_refused():
    thing, box = np.array([[5.0, 5, 5]]), np.array([[0.0, 0, 0, 2, 2, 2]])
    with pytest.raises(DataError, match="1 images of things, 2 of answers"):
        froc([thing], [thing, thing], [np.ones(1)], rule=PointRule(3))
    with pytest.raises(DataError, match="1 answers with 2 scores"):
        froc([thing], [thing], [np.ones(2)], rule=PointRule(3))
    with pytest.raises(DataError, match="not finite"):
        froc([thing], [thing * np.nan], [np.ones(1)], rule=PointRule(3))
    with pytest.raises(GeometryError, match="ends before it begins"):
        box_iou(box, box[:, ::-1].copy())
    with pytest.raises(GeometryError, match="4 or 6 numbers"):
        froc([thing], [thing], [np.ones(1)], rule=PointRule())
    with pytest.raises(UnitsError, match="within_mm"):
        froc([thing], [thing], [np.ones(1)], rule=PointRule(-1))
    with pytest.raises(ConfigError, match="least_iou"):
        froc([box], [box], [np.ones(1)], rule=BoxRule(0.0))
    with pytest.raises(ConfigError, match="0 or more"):
        froc([thing], [thing], [np.ones(1)], rule=PointRule(3), rates=(-1,))
    with pytest.raises(GeometryError, match="a centre of 3 axes and a radius"):
        froc([thing], [thing], [np.ones(1)], rule=RadiusRule())
    with pytest.raises(UnitsError, match="radius of thing 0"):
        froc([np.array([[5.0, 5, 5, 0]])], [thing], [np.ones(1)], rule=RadiusRule())


def test_within_its_own_radius():
    """As in LUNA16: by hand, one answer on the very edge of the small thing, one just beyond it."""
    things = [np.array([[10.0, 10, 2], [30, 30, 6]])]
    answers = [np.array([[12.0, 10], [10, 12.1], [30, 35]])]
    curve = froc(things, answers, [np.array([0.9, 0.8, 0.7])], rule=RadiusRule())
    assert curve.sensitivity.tolist() == [0.5, 0.5, 1.0] and curve.false_per_image.tolist() == [0, 1, 1]


def _coco_points(reference, found, scores, least):
    """COCO's average over 101 sensitivities, as its rules read: each answer a point, the greatest precision beyond."""
    rows = sorted(((s, i, j) for i, image in enumerate(scores) for j, s in enumerate(image)), reverse=True)
    taken, true = set(), []
    for _, i, j in rows:
        overlaps = [(box_iou(found[i][j : j + 1], r[None])[0, 0], k) for k, r in enumerate(reference[i])]
        free = [(o, k) for o, k in overlaps if o >= least and (i, k) not in taken]
        if free:
            taken.add((i, max(free)[1]))
        true.append(bool(free))
    total = sum(len(r) for r in reference)
    found_at = [(sum(true[: n + 1]) / total, sum(true[: n + 1]) / (n + 1)) for n in range(len(true))]
    return np.mean([max((p for r, p in found_at if r >= t), default=0.0) for t in np.linspace(0, 1, 101)])


@pytest.mark.parametrize("seed", range(4))
def test_cocos_points(seed):
    scene = _scene(seed)
    for least in (0.5, 0.75):
        expected = _coco_points(*scene, least)
        assert detection_precision(*scene, rule=BoxRule(least), points="coco") == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(4))
def test_cocos_mean_equals_pycocotools(seed):
    coco, evaluation = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    rng = np.random.default_rng(seed)
    reference, found, scores = [], [], []
    for _ in range(20):
        low = rng.uniform(0, 60, (rng.integers(0, 5), 2))
        things = np.concatenate([low, low + rng.uniform(4, 20, low.shape)], axis=1)
        near = things.repeat(2, axis=0) + rng.normal(0, 1.0, (2 * len(things), 4))
        stray = rng.uniform(0, 60, (rng.integers(0, 3), 2))
        reference.append(things)
        found.append(np.concatenate([near, np.concatenate([stray, stray + 8], axis=1)]))
        scores.append(rng.random(len(found[-1])))
    truth = coco.COCO()
    boxes = [(i, [*b[:2].tolist(), *(b[2:] - b[:2]).tolist()]) for i, image in enumerate(reference) for b in image]
    truth.dataset = {
        "images": [{"id": i} for i in range(20)], "categories": [{"id": 1}], "info": {},
        "annotations": [
            {"id": n, "image_id": i, "category_id": 1, "bbox": b, "area": b[2] * b[3], "iscrowd": 0}
            for n, (i, b) in enumerate(boxes, start=1)
        ],
    }  # fmt: skip
    truth.createIndex()
    said = truth.loadRes([
        {"image_id": i, "category_id": 1, "bbox": [*b[:2].tolist(), *(b[2:] - b[:2]).tolist()], "score": float(s)}
        for i, (image, values) in enumerate(zip(found, scores, strict=True))
        for b, s in zip(image, values, strict=True)
    ])  # fmt: skip
    peer = evaluation.COCOeval(truth, said, "bbox")
    peer.evaluate()
    peer.accumulate()
    peer.summarize()
    ours = [detection_precision(reference, found, scores, rule=BoxRule(i), points="coco") for i in COCO_IOUS]
    assert np.mean(ours) == pytest.approx(peer.stats[0], abs=1e-9)
    assert ours[0] == pytest.approx(peer.stats[1], abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_images_that_count_twice_or_not_at_all(seed):
    """A resample by counts is the same as the images themselves, drawn so often."""
    reference, found, scores = _scene(seed)
    drawn = np.random.default_rng(seed).integers(0, len(scores), len(scores))
    times = np.bincount(drawn, minlength=len(scores))
    rule = BoxRule(0.3)
    matches = match_answers(reference, found, scores, rule=rule)
    again = ([reference[i] for i in drawn], [found[i] for i in drawn], [scores[i] for i in drawn])
    assert matches.froc(times=times).at_rates == froc(*again, rule=rule).at_rates
    for points in ("all", "coco"):
        expected = detection_precision(*again, rule=rule, points=points)
        assert matches.precision(times=times, points=points) == pytest.approx(expected)
