"""Every error has a status, a code and words; nothing of the server's disk is told."""

from __future__ import annotations

import pytest

from isocenter.core import errors
from isocenter.core.errors import Conflict, DataError, IsocenterError, PixelError, TooLarge
from isocenter.viewer.problems import answer, defect, error_of, problem_of, status_of

ALL = [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize("kind", [k for k in ALL if k not in (IsocenterError, Conflict)], ids=lambda k: k.__name__)
def test_every_error_has_its_answer(kind: type[IsocenterError]) -> None:
    status, code, title = status_of(kind("what, where, what to do"))
    assert 400 <= status < 600 and status != 500
    assert code and title
    assert problem_of(kind("what, where, what to do")).detail == "what, where, what to do"
    same = error_of(problem_of(kind("words")))
    assert isinstance(kind("words"), type(same)) and status_of(same)[0] == status


def test_the_root_is_a_defect() -> None:
    assert status_of(IsocenterError("?"))[0] == 500


def test_a_conflict_has_a_code_of_its_own() -> None:
    assert status_of(Conflict("edited meanwhile", code="withheld_sentences"))[:2] == (409, "withheld_sentences")


def test_a_place_on_the_disk_is_not_told() -> None:
    found = problem_of(PixelError("is cut off", source="/srv/studies/of/somebody/0001.dcm"))
    assert found.detail == "is cut off"
    assert problem_of(DataError("is cut off", source="b/0001.dcm")).detail == "b/0001.dcm: is cut off"
    assert status_of(TooLarge("x"))[0] == 413


def test_the_form_of_an_answer() -> None:
    found = answer(503, "at_capacity", "Full", "come back", sessions=8)
    assert found.media_type == "application/problem+json"
    assert found.headers["retry-after"] == "5"
    assert b'"sessions":8' in found.body and b'"status":503' in found.body
    assert b"Jane" not in defect(ValueError("Jane")).body
