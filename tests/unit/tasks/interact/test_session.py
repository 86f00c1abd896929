"""Point, correct, undo, confirm, and the next image from what was confirmed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from isocenter.core import Geometry, Image, Prompt
from isocenter.core.errors import ConfigError, DataError, GeometryError, Stopped
from isocenter.tasks.interact.engine import Engine, Examples
from isocenter.tasks.interact.placing import Placed, place
from isocenter.tasks.interact.session import Act, Session


@pytest.fixture(scope="module")
def engine():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Engine()
    torch.set_num_threads(threads)


def disc(seed, shape=(1, 60, 64), radius=13.0):
    rng = np.random.default_rng(seed)
    centre = np.array(shape) / 2 + rng.uniform(-3, 3, 3) * (np.array(shape) > 1)
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    gap = sum(((a - c) ** 2 for a, c, n in zip(axes, centre, shape, strict=True) if n > 1), start=np.zeros(shape))
    inside = gap < radius**2
    array = (rng.normal(40, 8, shape) + 90 * inside).astype(np.float32)
    return Image(array[None], Geometry(shape)), inside


def click(inside, *, positive=True):
    where = np.argwhere(inside).mean(axis=0) if positive else np.array([0, 2, 2])
    return Prompt("point", np.rint(where)[None].astype(float), positive, "index_zyx")


def overlap(a, b):
    return 2 * (a & b).sum() / max(1, a.sum() + b.sum())


@pytest.mark.parametrize("shape", [(1, 60, 64), (24, 40, 44)])
def test_only_the_changed_box_comes_back(engine, shape):
    image, inside = disc(0, shape)
    session = Session(engine)
    nothing = session.begin(image)
    assert nothing.mask.size == 0 and nothing.expected_dice is None and not session.mask.any()
    whole = np.zeros(shape, dtype=bool)
    for prompt in (click(inside), click(inside, positive=False)):
        change = session.prompt(prompt)
        whole[change.box] = change.mask
        np.testing.assert_array_equal(whole, session.mask)
    assert overlap(whole, inside) > 0.7
    assert 0 < change.expected_dice <= 1


def test_undo_and_redo_bring_back_the_very_mask(engine):
    image, inside = disc(1)
    session = Session(engine)
    session.begin(image)
    masks = [session.mask]
    for prompt in (click(inside), click(inside, positive=False)):
        session.prompt(prompt)
        masks.append(session.mask)
    for expected in (masks[1], masks[0], masks[0]):
        session.undo()
        np.testing.assert_array_equal(session.mask, expected)
    assert session.prompts == ()
    for expected in (masks[1], masks[2], masks[2]):
        session.redo()
        np.testing.assert_array_equal(session.mask, expected)
    session.undo()
    session.prompt(click(inside, positive=False))
    assert session.redo().mask.size == 0, "a new act ends what could be redone"


def test_a_session_answers_as_the_same_prompts_do_at_once(engine):
    from isocenter.core import Study
    from isocenter.tasks.interact.task import Interact

    image, inside = disc(2)
    prompts = [click(inside), click(inside, positive=False)]
    session = Session(engine)
    session.begin(image)
    for prompt in prompts:
        session.prompt(prompt)
    at_once = Interact().run(Study("p", images=(image,)), prompts).value.array == 1
    assert overlap(session.mask, at_once) > 0.99


def test_a_refused_prompt_changes_nothing(engine):
    image, inside = disc(3)
    session = Session(engine)
    with pytest.raises(ConfigError, match="no image is open"):
        session.prompt(click(inside))
    session.begin(image)
    session.prompt(click(inside))
    before = session.mask
    with pytest.raises(ConfigError, match="outside the image"):
        session.prompt(Prompt("point", np.array([[0.0, 500, 5]]), True, "index_zyx"))
    np.testing.assert_array_equal(session.mask, before)
    assert len(session.prompts) == 1
    with pytest.raises(ConfigError, match="alternative 7"):
        session.choose(7)
    with pytest.raises(DataError, match="flat"):
        Session(engine).begin(Image(np.zeros((1, 1, 8, 8), np.float32), Geometry((1, 8, 8))))


def test_alternatives_can_be_chosen_and_undone(engine):
    image, inside = disc(4)
    session = Session(engine)
    session.begin(image)
    first = session.prompt(click(inside))
    before = session.mask
    if not first.alternatives:
        pytest.fail("a first click offered no alternative")
    session.choose(0)
    np.testing.assert_array_equal(session.mask, first.alternatives[0].mask)
    session.undo()
    np.testing.assert_array_equal(session.mask, before)


@pytest.mark.parametrize("shape", [(1, 60, 64), (8, 40, 44)])
def test_confirmed_cases_answer_the_next_image(engine, shape):
    session = Session(engine, label="disc")
    for seed in range(4):
        image, inside = disc(seed, shape)
        session.begin(image)
        if len(session.examples) == 0 or overlap(session.mask, inside) < 0.8:
            session.prompt(click(inside))
        assert session.confirm().segments[0].label == "disc"
    image, inside = disc(9, shape)
    change = session.begin(image)
    assert change.expected_dice is not None
    assert overlap(session.mask, inside) > 0.6
    session.prompt(click(inside, positive=False))
    assert session.mask.any(), "a correction of an automatic outline may say only what it is not"


def test_the_page_about_sessions_is_true(engine):
    page = (Path(__file__).parents[4] / "docs" / "how-to" / "case-by-case.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (image, inside), (next_image, _) = disc(2), disc(3)
    names = {"image": image, "next_image": next_image}
    exec(
        compile(code.replace("Session(Engine(),", "Session(engine,"), "case-by-case.md", "exec"),
        {**names, "engine": engine},
        names,
    )
    assert overlap(names["mask"].array > 0, inside) > 0.7
    assert names["change"].mask.any()


def test_a_thousand_clicks_are_answered(engine):
    image, inside = disc(5)
    rng = np.random.default_rng(0)
    rows, columns = rng.permutation(np.argwhere(np.ones(inside.shape[1:], dtype=bool)))[:1000].T
    prompts = [
        Prompt("point", np.array([[0.0, r, c]]), bool(inside[0, r, c]), "index_zyx")
        for r, c in zip(rows.tolist(), columns.tolist(), strict=True)
    ]
    opened = engine.open(image.array[0], image.geometry)
    placed = place(prompts, image.geometry)
    assert isinstance(placed, Placed)
    probability = opened.answer(placed).probability
    assert np.isfinite(probability).all()
    assert overlap(probability >= 0.5, inside) > 0.9


@pytest.mark.parametrize("shape", [(1, 60, 64), (24, 40, 44)])
def test_an_example_on_another_grid_is_refused(engine, shape):
    image, inside = disc(6, shape)
    examples = Examples(engine)
    with pytest.raises(GeometryError, match="one grid"):
        examples.add(image.array[0], inside[:, :-1])
    assert not len(examples)


def ball(seed=1):
    return disc(seed, (24, 40, 44), 9.0)


def test_levels_say_what_the_mask_says_and_where_there_is_doubt(engine):
    from isocenter.models.interactive.part import Part
    from isocenter.tasks.interact.session import _in_255, _levels

    edges = np.array([0, 0.2499999, 0.25, 0.4999999, 0.5, 0.7499999, 0.75, 1], dtype=np.float32).reshape(1, 2, 4)
    part = Part((1, 2, 4), (slice(0, 1), slice(0, 2), slice(0, 4)), edges)
    assert _levels(_in_255(part)).ravel().tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    # Every float next to a beginning of a level, on its own side; all others to half a part, or one at a beginning.
    close = np.concatenate([np.nextafter(np.float32(v), np.float32([0, 1])) for v in (0.25, 0.5, 0.75)])
    many = np.concatenate([close, np.linspace(0, 1, 10_002, dtype=np.float32)]).reshape(1, -1, 4)
    values = _in_255(Part(many.shape, tuple(slice(0, n) for n in many.shape), many))
    assert np.array_equal(_levels(values), sum((many >= step).astype(np.uint8) for step in (0.25, 0.5, 0.75)))
    assert np.abs(values - many * 255.0).max() < 1
    image, inside = disc(0)
    session = Session(engine)
    session.begin(image)
    levels = np.zeros(inside.shape, dtype=np.uint8)
    for prompt in (click(inside), click(inside, positive=False)):
        change = session.prompt(prompt)
        levels[change.box] = change.levels
        np.testing.assert_array_equal(levels >= 2, session.mask)
    assert {0, 1, 2, 3} == set(np.unique(levels))
    whole = np.zeros_like(levels)
    whole[session.whole.box] = session.whole.levels
    np.testing.assert_array_equal(whole, levels)


def test_clear_begins_anew_and_can_be_taken_back(engine):
    image, inside = disc(1)
    session = Session(engine)
    session.begin(image)
    assert session.clear().levels.size == 0 and not session.can_undo
    session.prompt(click(inside))
    before = session.mask
    session.clear()
    assert not session.mask.any() and session.prompts == ()
    session.undo()
    np.testing.assert_array_equal(session.mask, before)
    assert session.can_redo


def test_a_replay_gives_the_very_levels(engine):
    image, inside = ball()
    acts = [
        Act("prompt", click(inside)),
        Act("prompt", click(inside, positive=False)),
        Act("undo"),
        Act("propagate", axis=0, first=4, last=19),
        Act("clear"),
        Act("undo"),
        Act("redo"),
        Act("undo"),
    ]
    one, other = Session(engine), Session(engine)
    one.begin(image)
    for act in acts:
        one.act(act)
    change = other.replay(image, acts)
    np.testing.assert_array_equal(change.levels, one.whole.levels)
    assert change.box == one.whole.box and one.mask.any()
    with pytest.raises(ConfigError, match="prompt"):
        one.act(Act("prompt"))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_propagation_goes_from_what_was_marked_and_stays_within_its_range(engine, axis):
    image, inside = ball()
    session = Session(engine)
    session.begin(image)
    with pytest.raises(ConfigError, match="point at it first"):
        session.propagate(axis, 0, 5)
    session.prompt(click(inside))
    before, told = session.mask, []
    middle = round(np.argwhere(inside).mean(axis=0)[axis])
    first, last = middle - 4, middle + 4
    session.propagate(axis, first, last, lambda done, of: told.append((done, of)))
    after = session.mask
    assert told and told[-1] == (8, 8) and [d for d, _ in told] == list(range(1, 9))
    stacked, old = np.moveaxis(after, axis, 0), np.moveaxis(before, axis, 0)
    np.testing.assert_array_equal(stacked[middle], old[middle])
    np.testing.assert_array_equal(stacked[:first], old[:first])
    np.testing.assert_array_equal(stacked[last + 1 :], old[last + 1 :])
    assert overlap(stacked[first : last + 1], np.moveaxis(inside, axis, 0)[first : last + 1]) > 0.6
    for wrong in ((axis, -1, 4), (axis, 5, 4), (axis, 0, 99), (3, 0, 4)):
        with pytest.raises(ConfigError):
            session.propagate(*wrong)
    np.testing.assert_array_equal(session.mask, after)
    session.undo()
    np.testing.assert_array_equal(session.mask, before)


def test_propagation_that_is_stopped_changes_nothing(engine):
    image, inside = ball()
    session = Session(engine)
    session.begin(image)
    session.prompt(click(inside))
    before = session.whole

    def stop(done, _of):
        if done == 3:
            raise Stopped("stopped")

    with pytest.raises(Stopped):
        session.propagate(0, 0, 23, stop)
    np.testing.assert_array_equal(session.whole.levels, before.levels)
    assert not session.can_redo
    session.undo()
    assert not session.can_undo


def test_a_proposal_can_be_stopped_or_left_out(engine):
    session = Session(engine, label="disc")
    image, inside = disc(0, (8, 40, 44))
    session.begin(image)
    session.prompt(click(inside))
    session.confirm()

    def stop(_done, _of):
        raise Stopped("stopped")

    other, _ = disc(1, (8, 40, 44))
    assert session.begin(other, progress=stop).expected_dice is None
    assert session.begin(other, propose=False).expected_dice is None
    told = []
    assert session.begin(other, progress=lambda done, of: told.append((done, of))).expected_dice is not None
    assert told == [(n, 8) for n in range(8)]


@pytest.mark.parametrize("shape", [(1, 60, 64), (8, 40, 44)])
def test_a_session_that_rested_goes_on_as_if_it_had_not(engine, shape):
    sessions = [Session(engine, label="disc", keep=2) for _ in range(2)]
    for rests, session in zip((True, False), sessions, strict=True):
        for seed in range(3):
            image, inside = disc(seed, shape)
            session.begin(image)
            if rests:
                session.rest()
                with pytest.raises(ConfigError):
                    session.prompt(click(inside))
                session.wake(image)
            session.prompt(click(inside))
            session.confirm()
        image, inside = disc(9, shape)
        session.begin(image)
        if rests:
            held = session.bytes
            session.rest()
            assert session.bytes < held
            session.wake(image)
        session.prompt(click(inside, positive=False))
    np.testing.assert_array_equal(sessions[0].whole.levels, sessions[1].whole.levels)
    assert len(sessions[0].cases) == 2 == len(sessions[0].examples)
    with pytest.raises(ConfigError, match="no image was open"):
        Session(engine).wake(image)
