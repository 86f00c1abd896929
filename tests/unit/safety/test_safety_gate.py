"""The gate: refuses no more of its own kind than it says, tells other kinds, survives its file; bad input."""

from __future__ import annotations

import io

import numpy as np
import pytest
from scipy import ndimage

from isocenter.core import Geometry, Image, Quantity
from isocenter.core.errors import ConfigError, DataError
from isocenter.safety.acquisition import Acquisition
from isocenter.safety.descriptors import block_means, descriptors
from isocenter.safety.gate import Gate, Reference, combined, fit_gate, fit_reference


def pictures(seed: int, count: int, shape=(24, 20)) -> list[np.ndarray]:
    """Two dark fields in a bright frame that is lighter at the top, and grain: like each other, none like another."""
    rng, found = np.random.default_rng(seed), []
    y, x = np.indices(shape) / np.array(shape)[:, None, None]
    for _ in range(count):
        image = 0.4 * (1 - y) + 0.1 * rng.normal(size=shape)
        for middle in (0.3, 0.7):
            at = middle + rng.uniform(-0.04, 0.04), 0.5 + rng.uniform(-0.05, 0.05)
            image = image - np.exp(-(((x - at[0]) / 0.12) ** 2) - ((y - at[1]) / 0.3) ** 2)
        found.append(((image - image.mean()) / image.std()).astype(np.float32)[None])
    return found


def numbers(image: np.ndarray, shift: float = 0.0) -> dict[str, np.ndarray]:
    """Descriptors, and a stand-in for a network's features."""
    made = np.tanh(np.linspace(-1, 1, image.size * 6).reshape(6, -1) @ image.ravel() / 40) + shift
    return {**descriptors(image), "embedding": made}


@pytest.fixture(scope="module")
def gate() -> Gate:
    references = [fit_reference([numbers(i) for i in pictures(n, 60)], [0, 1] * 30) for n in (1, 2)]
    held = [[r.strangeness(numbers(i)) for r in references] for i in pictures(3, 99)]
    return fit_gate(references, held)


def refused(gate: Gate, images: list[np.ndarray]) -> float:
    return float(np.mean([gate.judge([numbers(i)] * 2).reason is not None for i in images]))


def test_its_own_kind_is_refused_no_more_often_than_it_says(gate: Gate) -> None:
    assert refused(gate, pictures(4, 400)) <= 0.09, "5 %, and three deviations of 99 calibration and 400 test cases"
    p = np.array([gate.judge([numbers(i)] * 2).p_value for i in pictures(5, 400)])
    assert abs(p.mean() - 0.5) < 0.1 and p.min() >= 1 / 100


def test_no_bag_is_refused_more_often_than_it_says() -> None:
    """Exactly, as for all conformal rules: each case in turn is the further one."""
    scores = np.random.default_rng(0).permutation(40).astype(float)
    out = 0
    for i in range(40):
        one = Gate((), np.sort(np.delete(scores, i)))
        above = 39 - int(np.searchsorted(one.scores, scores[i], side="left"))
        out += (1 + above) / 40 <= one.refused_share
    assert out / 40 <= 0.05


@pytest.mark.parametrize(
    ("change", "block"),
    [
        (lambda i: -i, "layout"),
        (lambda i: i[:, ::-1], "layout"),
        (lambda i: np.random.default_rng(0).normal(size=i.shape).astype(np.float32), None),
        (lambda i: ndimage.gaussian_filter(i, (0, 2, 2)), "texture"),
        (lambda i: np.where(i > 0.5, 3.0, -0.3).astype(np.float32), "values"),
    ],
    ids=["inverted", "overturned", "noise", "blurred", "two values"],
)
def test_other_kinds_are_refused_with_the_reason(gate: Gate, change, block: str | None) -> None:
    readings = [gate.judge([numbers(change(i))] * 2) for i in pictures(6, 20)]
    assert all(r.reason is not None for r in readings)
    assert block is None or np.mean([r.block == block for r in readings]) > 0.5
    reason = str(readings[0].reason)
    assert reason.startswith("the image is unlike those it learnt from") and "p = 0.01, limit 0.05" in reason


def test_what_only_the_network_sees_is_enough(gate: Gate) -> None:
    image = pictures(7, 1)[0]
    assert gate.judge([numbers(image)] * 2).reason is None
    reading = gate.judge([numbers(image, shift=0.8)] * 2)
    assert reading.reason is not None and reading.block == "embedding" and "what the network sees" in reading.reason


def test_the_nearest_class_counts() -> None:
    rng = np.random.default_rng(8)

    def of(middle: float, n: int) -> list[dict[str, np.ndarray]]:
        return [{"embedding": rng.normal(middle, 0.3, 4)} for _ in range(n)]

    two = fit_reference(of(-5, 30) + of(5, 30), [0] * 30 + [1] * 30)
    one = fit_reference(of(-5, 30) + of(5, 30))
    between = {"embedding": np.zeros(4)}
    assert two.strangeness(between)["embedding"] > 5 > two.strangeness(of(5, 1)[0])["embedding"]
    assert two.strangeness(between)["embedding"] > 2 * one.blocks["embedding"].strangeness(np.zeros(4))[0]


def test_mahalanobis_is_that_of_the_shrunken_covariance() -> None:
    peer = pytest.importorskip("sklearn.covariance")
    values = np.random.default_rng(9).normal(size=(40, 6)) @ np.random.default_rng(10).normal(size=(6, 6))
    block = fit_reference([{"a": v} for v in values]).blocks["a"]
    x = (values - values.mean(0)) / values.std(0)
    covariance = peer.LedoitWolf(assume_centered=True).fit(x).covariance_
    for new in np.random.default_rng(11).normal(size=(5, 6)):
        gap = (new - values.mean(0)) / values.std(0)
        expected = np.sqrt(gap @ np.linalg.solve(covariance, gap) / 6)
        assert block.distances(new)[0] == pytest.approx(expected, rel=1e-6)


def test_it_survives_its_file(gate: Gate) -> None:
    stream = io.BytesIO()
    np.savez_compressed(stream, **gate.arrays())
    assert len(stream.getvalue()) < 400_000
    stream.seek(0)
    with np.load(stream, allow_pickle=False) as arrays:
        again = Gate.from_arrays({name: arrays[name] for name in arrays.files})
    for image in [*pictures(12, 5), -pictures(12, 1)[0]]:
        one, two = gate.judge([numbers(image)] * 2), again.judge([numbers(image)] * 2)
        assert two.score == pytest.approx(one.score, abs=1e-3) and two.block == one.block
    broken = gate.arrays()
    del broken["0/layout/bank"]
    for wrong in (
        broken,
        {},
        {"card": np.zeros(3, np.uint8)},
        {**gate.arrays(), "card": np.frombuffer(b"{}", np.uint8)},
    ):
        with pytest.raises(ConfigError, match="not a gate"):
            Gate.from_arrays(wrong)


def test_bad_input(gate: Gate) -> None:
    good = [numbers(i) for i in pictures(13, 10)]
    with pytest.raises(DataError, match="7 images are too few"):
        fit_reference(good[:7])
    with pytest.raises(DataError, match="3 classes for 10 images"):
        fit_reference(good, [0, 1, 2])
    with pytest.raises(DataError, match="same numbers of 'embedding'"):
        fit_reference([*good[:9], {k: v for k, v in good[9].items() if k != "embedding"}])
    with pytest.raises(DataError, match="not finite"):
        fit_reference([*good[:9], {**good[9], "embedding": np.full(6, np.nan)}])
    with pytest.raises(DataError, match="18 held-out images are too few to refuse at most 5%"):
        fit_gate(gate.references, [[r.strangeness(good[0]) for r in gate.references]] * 18)
    with pytest.raises(ConfigError, match="a share between 0 and 1"):
        fit_gate(gate.references, [], refused_share=0.0)
    with pytest.raises(DataError, match="features of 1 networks for a gate of 2"):
        gate.judge(good[:1])
    with pytest.raises(DataError, match="64 numbers of 'layout'"):
        gate.judge([{**good[0], "layout": np.zeros(3)}] * 2)
    with pytest.raises(DataError, match="not finite"):
        gate.judge([{**good[0], "layout": np.full(64, np.inf)}] * 2)
    assert combined([{"a": 1.0}]) == (1.0, "a") and Reference({}).strangeness({}) == {}


def test_descriptors_do_not_depend_on_size_and_scale() -> None:
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(1, 40, 60)), (0, 4, 4)).astype(np.float32)
    twice = np.kron(smooth, np.ones((1, 2, 2), np.float32)) * 3 + 7
    one, two = descriptors(smooth), descriptors(twice)
    np.testing.assert_allclose(one["layout"], two["layout"], atol=1e-4)
    np.testing.assert_allclose(one["values"][:8], two["values"][:8], atol=0.02)
    volume = descriptors(np.random.default_rng(1).normal(size=(1, 5, 9, 11)).astype(np.float32))
    assert {k: v.shape for k, v in volume.items()} == {"layout": (144,), "values": (13,), "texture": (14,)}
    assert all(np.isfinite(v).all() for v in descriptors(np.zeros((3, 1, 8), np.float32)).values()), "flat, one row"
    np.testing.assert_allclose(block_means(np.arange(12.0).reshape(3, 4), (1, 2)), [[4.5, 6.5]])


def picture(array: np.ndarray, quantity=Quantity.ARBITRARY, **given) -> Image:
    return Image(array, Geometry((1, *array.shape[2:])), quantity, **given)


def test_how_an_image_was_made() -> None:
    grey = np.arange(24, dtype=np.int16).reshape(1, 1, 4, 6)
    made = Acquisition.of([picture(grey, modality="DX"), picture(grey + 1, modality="CR")])
    assert Acquisition.from_card(made.as_card()) == made
    assert made.strange(picture(grey)) is None, "what says nothing is left to the pixels"
    assert "its modality is US" in str(made.strange(picture(grey, modality="US")))
    colour = np.concatenate([grey, grey + 1, grey + 2])
    assert "it is in colour" in str(made.strange(picture(colour, Quantity.RGB)))
    assert made.strange(picture(np.repeat(grey, 3, axis=0), Quantity.RGB)) is None, "grey, stored as colour"
    inverted = picture(grey, meta={"PhotometricInterpretation": "MONOCHROME1"}, modality="DX")
    assert made.strange(inverted) is None, "the preparation takes the negative"
    dose = picture(grey, Quantity.HU, meta={"PhotometricInterpretation": "MONOCHROME1"})
    assert "larger values are darker" in str(Acquisition.of([picture(grey, Quantity.HU)]).strange(dose))
    assert Acquisition.of([dose]).strange(dose) is None
    assert "its values are HU" in str(made.strange(picture(grey, Quantity.HU)))
    place = Geometry.axial((2, 4, 6), spacing_mm=(2.0, 0.8, 0.8), origin_mm=(0, 0, 0))
    far = Geometry.axial((2, 4, 6), spacing_mm=(9.0, 0.8, 0.8), origin_mm=(0, 0, 0))
    volume = np.random.default_rng(0).integers(-1000, 500, (1, 2, 4, 6)).astype(np.int16)
    ct = Acquisition.of([Image(volume, place, Quantity.HU, modality="CT")])
    assert ct.strange(Image(volume, place, Quantity.HU, modality="CT")) is None
    assert "its spacing is" in str(ct.strange(Image(volume, far, Quantity.HU, modality="CT")))
    high = Image((volume + 5000).astype(np.int16), place, Quantity.HU, modality="CT")
    assert "its values reach from" in str(ct.strange(high))
    with pytest.raises(ConfigError, match="no image"):
        Acquisition.of([])
    with pytest.raises(ConfigError, match="not how images were made"):
        Acquisition.from_card({"unknown": 1})
