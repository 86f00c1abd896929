from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from isocenter.core.errors import ConfigError, DataError, GeometryError, ModelError, PixelError, UnitsError
from isocenter.evaluate.bootstrap import bootstrap_mean
from isocenter.evaluate.interactive import Case, Tolerance, run_scribbles, run_session, summarise
from isocenter.evaluate.interactive_user import BoxUser, CentreClicks, RandomClicks, Scribbler
from isocenter.evaluate.overlap import dice


@dataclass
class Fixed:
    """Says the same whatever it is told."""

    name: str
    said: object

    def begin(self, image, spacing_mm):
        return self

    def act(self, act):
        return self.said


class Grower:
    """Marks a cube round each positive click; gets better with every act."""

    def __init__(self, name="grower", reach=2):
        self.name, self.reach = name, reach

    def begin(self, image, spacing_mm):
        self.answer = np.zeros(image.shape)
        return self

    def act(self, act):
        index = np.rint(act.index_zyx[0]).astype(int)
        near = tuple(slice(max(0, i - self.reach), i + self.reach + 1) for i in index)
        self.answer[near] = float(act.positive)
        return self.answer.copy()


def _case(shape=(3, 20, 24), *, name="a", group="g", patient="p", spacing_mm=(2.5, 0.8, 0.7), seed=0):
    rng = np.random.default_rng(seed)
    target = np.zeros(shape, dtype=bool)
    target[tuple(slice(n // 4, max(1, 3 * n // 4)) for n in shape)] = True
    image = (target + rng.normal(0, 0.1, shape)).astype(np.float32)
    return Case(name, group, "MR", patient, image, target, spacing_mm)


@pytest.mark.parametrize("shape", [(1, 20, 24), (6, 20, 24), (4, 1, 9), (1, 1, 1)])
def test_an_oracle_is_right_at_once(shape):
    case = _case(shape)
    result = run_session(Fixed("oracle", case.target.astype(float)), case, CentreClicks(), 5)
    assert result.dice == (1.0,) * 5
    assert result.nsd == (1.0,) * 5
    assert len(result.act_seconds) == len(result.acts) == 1
    assert result.clicks_to() == 1


def test_the_stubborn_are_never_right():
    case = _case()
    result = run_session(Fixed("stubborn", np.zeros(case.target.shape)), case, CentreClicks())
    assert result.dice == result.nsd == (0.0,) * 10
    assert result.clicks_to() is None
    row = summarise([result]).rows[0]
    assert (row.never, row.clicks_to_goal) == (1.0, 10.0)


def test_each_act_is_measured_as_it_was():
    case = _case()
    result = run_session(Grower(), case, CentreClicks(), 4)
    again = Grower().begin(case.image, None)
    assert result.dice == tuple(dice(case.target, again.act(a) >= 0.5) for a in result.acts)
    assert result.dice[3] > result.dice[0] > 0


def test_a_session_is_the_same_again():
    for user in (CentreClicks(), RandomClicks(1), Scribbler(), BoxUser(0.2, 1, RandomClicks(2))):
        a, b = (run_session(Grower(), _case(), user, 6) for _ in range(2))
        assert (a.dice, a.nsd) == (b.dice, b.nsd)
        assert all(np.array_equal(x.index_zyx, y.index_zyx) for x, y in zip(a.acts, b.acts, strict=True))


def test_tolerance_is_in_mm_or_in_voxels():
    case = _case((1, 20, 24))
    shifted = np.roll(case.target, 2, axis=2).astype(float)  # 2 voxels, 1.4 mm
    tolerance = Tolerance(mm=1.5, voxels=1.5)
    in_mm = run_session(Fixed("s", shifted), case, CentreClicks(), 1, tolerance=tolerance)
    in_voxels = run_session(Fixed("s", shifted), replace(case, spacing_mm=None), CentreClicks(), 1, tolerance=tolerance)
    assert (in_mm.tolerance_unit, in_voxels.tolerance_unit) == ("mm", "voxels")
    assert in_mm.nsd[0] == 1.0
    assert 0.3 < in_voxels.nsd[0] < 1.0
    with pytest.raises(UnitsError):
        Tolerance(mm=-1.0)


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        (np.full((3, 20, 24), np.nan), "not finite"),
        (np.zeros((3, 20, 23)), "grid"),
        (np.full((3, 20, 24), 1.5), "outside"),
        (np.full((3, 20, 24), -0.1), "outside"),
        (np.zeros((3, 20, 24), dtype=bool), "float"),
        ([0.0], "float"),
    ],
)
def test_a_segmenter_that_breaks_its_word_is_named(said, complaint):
    with pytest.raises(ModelError, match=f"'broken'.*{complaint}"):
        run_session(Fixed("broken", said), _case(), CentreClicks())


def test_cases_that_cannot_be_measured_are_refused():
    good = _case()
    with pytest.raises(DataError, match="empty"):
        replace(good, target=np.zeros_like(good.target))
    with pytest.raises(PixelError, match="finite"):
        replace(good, image=np.full_like(good.image, np.nan))
    with pytest.raises(GeometryError, match="grid"):
        replace(good, image=good.image[:, :-1])
    with pytest.raises(UnitsError):
        replace(good, spacing_mm=(1.0, 0.0, 1.0))
    with pytest.raises(ConfigError, match="at least one"):
        run_session(Grower(), good, CentreClicks(), 0)
    everything = replace(good, target=np.ones_like(good.target))
    assert run_session(Grower(), everything, CentreClicks(), 2).dice[1] > 0


def test_a_silent_user_leaves_the_answer_as_it_is():
    result = run_session(Grower(), _case(), BoxUser(), 5)
    assert len(result.acts) == 1
    assert len(set(result.dice)) == 1
    assert len(result.dice) == 5


def test_scribbles_of_a_person_are_one_interaction_a_set():
    case = _case((1, 20, 24))
    inside, outside, more = np.zeros((3, *case.target.shape), dtype=bool)
    inside[0, 9:11, 8:16] = True
    outside[0, 1, 2:20] = outside[0, 18, 2:20] = True
    more[0, 7, 12] = True
    result = run_scribbles(Grower(), case, [(inside, outside), (more, ~case.target & False)], person="first person")
    assert len(result.dice) == len(result.act_seconds) == 2
    assert [a.positive for a in result.acts] == [True, False, False, True]
    assert result.user == "first person"
    with pytest.raises(DataError, match="stroke"):
        run_scribbles(Grower(), case, [(inside & False, inside & False)])
    with pytest.raises(GeometryError, match="set 0"):
        run_scribbles(Grower(), case, [(inside[:, :4], outside[:, :4])])


def _results():
    found = []
    for number in range(12):
        for group, extra in (("left", 0), ("right", 2)):
            case = _case((3, 20, 24 + extra), name=str(number), group=group, patient=f"p{number}", seed=number)
            case.target[:, 10:, : number % 5 + 6] = False
            found += [run_session(s, case, CentreClicks(), 5) for s in (Grower("wide", 4), Grower("narrow", 2))]
    return found


def test_summary_has_the_means_and_intervals_by_patient():
    results = _results()
    summary = summarise(results, compare=("wide", "narrow"))
    rows = {(r.segmenter, r.scope, r.label): r for r in summary.rows}
    assert len(rows) == 2 * 5
    everything = [r for r in results if r.segmenter == "wide"]
    expected = bootstrap_mean([r.dice[2] for r in everything], [r.patient for r in everything])
    found = rows["wide", "all", ""].dice[3]
    assert (found.value, found.low, found.high) == (expected.value, expected.low, expected.high)
    assert sorted(rows["wide", "group", "left"].nsd) == [1, 2, 3, 5]
    assert rows["wide", "mean of groups", ""].dice[1].value == pytest.approx(
        np.mean([rows["wide", "group", g].dice[1].value for g in ("left", "right")])
    )
    assert rows["wide", "all", ""].tolerance == ("2 mm",)
    (difference,) = [d for d in summary.differences if d.scope == "all"]
    gap = rows["wide", "all", ""].dice[3].value - rows["narrow", "all", ""].dice[3].value
    assert difference.dice[3].value == pytest.approx(gap)
    assert difference.dice[3].low <= gap <= difference.dice[3].high
    assert difference.cases == 24


def test_a_summary_can_be_read():
    summary = summarise(_results(), compare=("wide", "narrow"))
    page = summary.to_markdown()
    assert "wide minus narrow" in page
    assert "2 mm" in page
    tables = page.split("\n\n")[1:]
    assert len(tables) == 4
    for table in tables:
        assert len({line.count("|") for line in table.strip().splitlines()}) == 1
    told = json.loads(summary.to_json())
    assert told["rows"][0]["dice"]["3"]["value"] == pytest.approx(summary.rows[0].dice[3].value)


def test_too_few_patients_have_no_interval():
    row = summarise([run_session(Grower(), _case(), CentreClicks(), 3)]).rows[0]
    assert row.dice[3].low is None
    assert "(" not in str(row.dice[3])


def test_summaries_of_nothing_or_of_doubles_are_refused():
    one = run_session(Grower(), _case(), CentreClicks(), 1)
    with pytest.raises(DataError, match="no sessions"):
        summarise([])
    with pytest.raises(ConfigError, match="two sessions"):
        summarise([one, one])
    with pytest.raises(ConfigError, match="in common"):
        summarise([one], compare=("grower", "another"))
