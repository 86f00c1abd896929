"""Addresses that are none, and answers of a model that can't be put on a page."""

from __future__ import annotations

import json

import pytest

from asking_cases import CASES
from isocenter.core.errors import ConfigError
from isocenter.tasks.report.compose import compose
from isocenter.verbs.drafting.ledger import ledgers_of
from isocenter.verbs.drafting.rephrase import rephrased
from isocenter.verbs.drafting.served import ServedModel
from isocenter.verbs.result import ResultDocument


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:abc/v1", "http://127.0.0.1:99999/v1", "http://127.0.0.1:0/v1", "http://[::1", "http://",
     "ftp://127.0.0.1", "http://127.0.0.1/v é", "http://127.0.0.1/v 1", "http://" + "a" * 70 + ".org", ""],
)  # fmt: skip
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="no address of a server"):
        ServedModel(url, "m", allowed=("a" * 70 + ".org",))


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/v1", "http://[::1]:8000/v1", "http://localhost"])
def test_what_is_one_is_taken(url: str) -> None:
    assert ServedModel(url, "m").url == url


class Says:
    """A model that says one thing."""

    name = "m"

    def __init__(self, text: str) -> None:
        self.text = text

    def complete(self, system: str, user: str, *, schema: dict[str, object]) -> str:
        return self.text


def said(sentence: str) -> str:
    return json.dumps({"findings": [sentence], "impression": []})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 200_000, "no JSON"), ('{"findings":' * 100_000, "no JSON"),
        (said("Pleural effusion \ud800."), "no text"), (said("Pleural\x1b[2J effusion."), "no text"),
        (said("Pleural \u202eeffusion."), "no text"), (said("Pleural\neffusion."), "no text"),
    ],
    ids=["deep list", "deep object", "surrogate", "escape", "other direction", "line"],
)  # fmt: skip
def test_what_cannot_be_put_on_a_page_leaves_the_composers_words(text: str, why: str) -> None:
    ledger = ledgers_of(ResultDocument.model_validate(CASES["chest"][0]))[0]
    draft = compose(ledger)
    found, how = rephrased(draft, ledger, Says(text))
    assert found == draft and why in how and "could not be used" in how


def test_space_around_a_sentence_does_no_harm() -> None:
    ledger = ledgers_of(ResultDocument.model_validate(CASES["chest"][0]))[0]
    found, how = rephrased(compose(ledger), ledger, Says(said(" There is a pleural effusion.\n")))
    section = found.section("findings")
    assert section is not None and section.sentences[0].text == "There is a pleural effusion." and "all its" in how
