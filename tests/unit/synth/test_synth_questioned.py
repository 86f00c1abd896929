"""Questions about synthetic patients: what is answered is what was painted, seen in the picture itself."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy import ndimage

from isocenter.core.errors import ConfigError
from isocenter.synth.questioned import MODALITIES, QUESTION_KINDS, synthesise_questioned

MANY = [synthesise_questioned(5, n) for n in range(160)]


def test_a_patient_is_a_function_of_seed_and_index():
    again = synthesise_questioned(5, 17)
    assert again.image.tobytes() == MANY[17].image.tobytes() and again.questions == MANY[17].questions
    assert synthesise_questioned(6, 17).image.tobytes() != MANY[17].image.tobytes()
    assert synthesise_questioned(5, 17, pixels=32).questions == MANY[17].questions


def test_answers_are_of_the_closed_sets_and_balanced():
    found: dict[str, Counter[str]] = {}
    for sample in MANY:
        for asked in sample.questions:
            assert asked.answer in QUESTION_KINDS[asked.kind]
            found.setdefault(asked.kind, Counter())[asked.answer] += 1
    assert set(found) == set(QUESTION_KINDS)
    for kind, counts in found.items():
        assert set(counts) == set(QUESTION_KINDS[kind])
        assert max(counts.values()) < (0.5 if len(counts) == 3 else 0.68) * sum(counts.values()), kind


def _spots(image: np.ndarray) -> list[tuple[float, float]]:
    """Return column and size of bright spots inside a brain: of the picture, not of the truth."""
    middle = ndimage.gaussian_filter(image, 1.0)
    inside = np.hypot(*(np.indices(image.shape) - 31.5)) < 22
    level = np.median(middle[inside])
    spots, count = ndimage.label((middle > level + 0.14) & inside)
    return [
        (float(np.nonzero(spots == n)[1].mean()), float((spots == n).sum()))
        for n in range(1, count + 1)
        if (spots == n).sum() > 4
    ]


def test_what_is_said_of_a_brain_is_seen_in_it():
    right, asked = 0, 0
    for sample in (s for s in MANY if s.modality == MODALITIES[2]):
        spots = _spots(sample.image[0])
        said = {q.kind: q.answer for q in sample.questions}
        asked += 1
        seen = len(spots) == 1 + QUESTION_KINDS["count"].index(said["count"])
        if seen and "side" in said:
            seen = (spots[0][0] < 31.5) == (said["side"] == "left")
        if seen and "which" in said:
            seen = (max(spots, key=lambda s: s[1])[0] < 31.5) == (said["which"] == "left")
        right += seen
    assert right >= 0.85 * asked > 20


def test_what_is_said_of_an_ultrasound_picture_is_seen_in_it():
    for sample in (s for s in MANY if s.modality == MODALITIES[1] and len(s.lesions) == 1):
        dark = ndimage.gaussian_filter(sample.image[0], 2.0)[6:]
        column = np.unravel_index(dark.argmin(), dark.shape)[1]
        assert (column < 31.5) == (dict((q.kind, q.answer) for q in sample.questions)["side"] == "left")  # noqa: C402


def test_a_side_of_a_film_is_the_patients():
    for sample in (s for s in MANY if s.modality == MODALITIES[0]):
        devices = [f for f in sample.findings if f.kind == "device"]
        if devices:
            bright = ndimage.gaussian_filter(sample.image[0], 1.5)[:22]
            column = np.unravel_index(bright.argmax(), bright.shape)[1]
            assert (column > 31.5) == (devices[0].side == "left")  # the patient's left is at the right edge


def test_lesions_lie_apart():
    for sample in MANY:
        for n, one in enumerate(sample.lesions):
            for other in sample.lesions[:n]:
                assert np.hypot(*np.subtract(one.middle, other.middle)) > one.radius + other.radius


def test_what_is_refused():
    for arguments in ((1, 1, 31), (-1, 1, 64), (1, -1, 64)):
        with pytest.raises(ConfigError):
            synthesise_questioned(*arguments[:2], pixels=arguments[2])
