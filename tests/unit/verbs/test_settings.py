"""A wrong field is named in one way by every verb, and its value is not told."""

from __future__ import annotations

from pathlib import Path

import pytest

from isocenter.core.errors import ConfigError
from isocenter.verbs.cohort import CohortConfig
from isocenter.verbs.ingest import IngestConfig
from isocenter.verbs.prognosis.asking import PeopleConfig
from isocenter.verbs.settings import configured


def test_fields_become_a_configuration() -> None:
    made = configured(IngestConfig, sources=("a",), to=Path("b"), workers=3)
    assert (made.workers, made.to, made.deface) == (3, Path("b"), False)


def test_a_field_may_have_any_name() -> None:
    made = configured(PeopleConfig, model=Path("m"))
    assert made.model == Path("m")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"colour": "Zyxwvut"}, "setting colour: Extra inputs are not permitted"),
        ({"seed": "Zyxwvut"}, "setting seed: Input should be a valid integer"),
    ],
)
def test_what_is_wrong_is_named_and_its_value_is_not(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configured(CohortConfig, **fields)
    assert message in str(caught.value)
    assert "Zyxwvut" not in str(caught.value)
