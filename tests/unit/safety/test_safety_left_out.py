"""A gate by leaving out: a hospital's own grain does not count as strange, another layout does; bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from isocenter.core.errors import ConfigError, DataError
from isocenter.safety.descriptors import descriptors
from isocenter.safety.gate import Gate, fit_gate, fit_reference
from isocenter.safety.left_out import Known, fit_gate_left_out, readings_left_out

SOURCES = {"north": 0.0, "south": 1.0, "west": 2.0}
"""Blur of each source in pixels: what its texture tells it by."""


def pictures(seed: int, count: int, blur: float) -> list[np.ndarray]:
    """Two dark fields in a bright frame that is lighter at the top, with the grain of a source."""
    rng, found = np.random.default_rng(seed), []
    y, x = np.indices((32, 28)) / np.array((32, 28))[:, None, None]
    for _ in range(count):
        image = 0.4 * (1 - y)
        for middle in (0.3, 0.7):
            at = middle + rng.uniform(-0.05, 0.05), 0.5 + rng.uniform(-0.06, 0.06)
            image = image - np.exp(-(((x - at[0]) / 0.12) ** 2) - ((y - at[1]) / 0.3) ** 2)
        image = ndimage.gaussian_filter(image + 0.15 * rng.normal(size=image.shape), blur * rng.uniform(0.8, 1.2))
        found.append(((image - image.mean()) / image.std()).astype(np.float32))
    return found


def numbers(image: np.ndarray) -> dict[str, np.ndarray]:
    return descriptors(image[None])


def known(sources=("north", "south"), count: int = 60) -> list[Known]:
    return [
        Known(numbers(image), source, source)
        for seed, source in enumerate(sources) for image in pictures(seed, count, SOURCES[source])
    ]  # fmt: skip


@pytest.fixture(scope="module")
def images() -> list[Known]:
    return known()


@pytest.fixture(scope="module")
def gate(images: list[Known]) -> Gate:
    return fit_gate_left_out(images, refused_share=0.1)


def refused(gate: Gate, shown: list[np.ndarray]) -> float:
    return float(np.mean([gate.judge([numbers(image)]).reason is not None for image in shown]))


def test_no_source_left_out_is_refused_more_often_than_asked(images: list[Known], gate: Gate) -> None:
    shares = []
    for source in ("north", "south"):
        mine = [one.features for one in images if one.source == source]
        readings = readings_left_out(images, gate, source, mine)
        shares.append(np.mean([r.reason is not None for r in readings]))
    assert max(shares) <= 0.1
    assert max(shares) >= 0.05, "the limit is that of the source that looks strangest, and no wider"
    assert len(gate.scores) == 60


def test_what_tells_sources_apart_is_not_refused_and_what_tells_kinds_apart_is(gate: Gate) -> None:
    for n, blur in enumerate((0.0, 1.0)):
        assert refused(gate, pictures(50 + n, 40, blur)) <= 0.05, "its own sources"
        changed = pictures(60 + n, 12, blur)
        for change in (lambda a: -a, np.rot90, lambda a: a.T):
            assert refused(gate, [np.ascontiguousarray(change(image)) for image in changed]) >= 0.95
    assert refused(gate, [np.random.default_rng(n).normal(size=(32, 28)) for n in range(5)]) == 1.0


def test_a_gate_that_knows_one_source_refuses_the_other_much_more_often(gate: Gate) -> None:
    """The reason for all this: the way of learnt tasks, whose limit is set on images of their own source."""
    own = [numbers(image) for image in pictures(0, 60, 0.0)]
    held = [numbers(image) for image in pictures(9, 60, 0.0)]
    reference = fit_reference(own)
    narrow = fit_gate([reference], [[reference.strangeness(one)] for one in held])
    other = pictures(8, 30, 1.0)
    assert refused(narrow, other) >= 0.9
    assert refused(gate, other) <= 0.1


def test_copies_may_be_known_without_a_say_and_small_sources_too(images: list[Known]) -> None:
    copies = [Known(numbers(np.fliplr(image).copy()), "north", "north", judged=False) for image in pictures(0, 60, 0.0)]
    few = known(("west",), count=5)
    made = fit_gate_left_out([*images, *copies, *few], refused_share=0.1)
    assert len(made.scores) == 60
    assert refused(made, [np.fliplr(image) for image in pictures(70, 20, 0.0)]) <= 0.05


def test_a_looser_block_refuses_less_of_what_it_tells() -> None:
    rng = np.random.default_rng(0)

    def made(texture: float, layout: float = 0.0) -> dict[str, np.ndarray]:
        return {"layout": rng.normal(layout, 1, 6), "texture": rng.normal(texture, 0.5, 6)}

    images = [Known(made(shift), source, source) for source, shift in (("a", -1.0), ("b", 1.0)) for _ in range(60)]
    plain, loose = (fit_gate_left_out(images, refused_share=0.1, looser=wider) for wider in ({}, {"texture": 4.0}))
    for texture, layout, before, after in ((8.0, 0.0, True, False), (0.0, 9.0, True, True), (1.0, 0.0, False, False)):
        for gate, strange in ((plain, before), (loose, after)):
            judged = [gate.judge([made(texture, layout)]).reason is not None for _ in range(20)]
            assert (float(np.mean(judged)) > 0.5) is strange, (texture, layout)
    for wrong in ({"texture": 0.5}, {"colour": 2.0}):
        with pytest.raises(ConfigError, match="scales are made wider"):
            fit_gate_left_out(images, looser=wrong)


def test_the_gate_survives_its_arrays(gate: Gate) -> None:
    again = Gate.from_arrays(gate.arrays())
    for image in (*pictures(80, 5, 0.0), np.random.default_rng(0).normal(size=(32, 28)).astype(np.float32)):
        one, other = gate.judge([numbers(image)]), again.judge([numbers(image)])
        assert one.score == pytest.approx(other.score, rel=1e-3) and (one.reason is None) == (other.reason is None)


def test_bad_input(images: list[Known], gate: Gate) -> None:
    with pytest.raises(ConfigError, match="a share between 0 and 1"):
        fit_gate_left_out(images, refused_share=1.0)
    with pytest.raises(DataError, match="at least two parts"):
        fit_gate_left_out(known(("north",)))
    with pytest.raises(DataError, match="no source has 20 judged images"):
        fit_gate_left_out(known(count=12), refused_share=0.1)
    with pytest.raises(DataError, match="no source has 99 judged images"):
        fit_gate_left_out(images, refused_share=0.01)
    cut = replace(images[0], features={**images[0].features, "layout": np.zeros(3)})
    with pytest.raises(DataError, match="the same numbers of 'layout'"):
        fit_gate_left_out([cut, *images[1:]])
    for wrong in ({**images[0].features, "layout": np.full(64, np.nan)}, {"texture": images[0].features["texture"]}):
        with pytest.raises(DataError, match="no finite numbers of 'layout'"):
            fit_gate_left_out([*images[1:], replace(images[0], features=wrong)])
    with pytest.raises(DataError, match="nothing is known but 'north'"):
        readings_left_out(known(("north",)), gate, "north", [images[0].features])
