"""Routes by rule: by modality, body part, description and the titles of sender and receiver."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from isocenter.clinic.ports import Facts, Route
from isocenter.core.errors import ConfigError

__all__ = ["Rule", "Rules"]


@dataclass(frozen=True)
class Rule:
    """Which studies take a route. What is not stated matches everything.

    Args:
        route: What is done.
        modalities: Any of them.
        body_parts: Any of them, as in the header.
        description: Regular expression, sought in study and series descriptions without regard to case.
        calling: Titles of senders; * and ? as in names of files.
        called: Titles of ours.

    Raises:
        ConfigError: The regular expression is none.
    """

    route: Route
    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    description: str = ""
    calling: tuple[str, ...] = ()
    called: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        try:
            re.compile(self.description)
        except re.error as error:
            raise ConfigError(f"rule {self.route.name!r}: the description is no regular expression: {error}") from error

    def matches(self, facts: Facts) -> bool:
        """Tell whether a study takes the route."""
        return (
            _any(self.modalities, facts.modalities)
            and _any(self.body_parts, facts.body_parts)
            and _any(self.calling, (facts.calling,))
            and _any(self.called, (facts.called,))
            and (
                not self.description
                or any(re.search(self.description, text, re.IGNORECASE) for text in facts.descriptions)
            )
        )


def _any(patterns: Sequence[str], values: Sequence[str]) -> bool:
    return not patterns or any(fnmatchcase(value, pattern) for pattern in patterns for value in values)


@dataclass(frozen=True)
class Rules:
    """A `Router`: every rule that matches applies.

    Args:
        rules: In the order of the configuration.

    Raises:
        ConfigError: Two have one name.

    Example:
        >>> rules = Rules((Rule(Route("ct", ("lungs",)), modalities=("CT",)),))
        >>> [route.name for route in rules.routes(Facts("1.2", "SCANNER", "NODE", ("CT", "SR")))]
        ['ct']
    """

    rules: tuple[Rule, ...]

    def __post_init__(self) -> None:
        names = [rule.route.name for rule in self.rules]
        if len(set(names)) < len(names):
            raise ConfigError("two rules have one name; results are filed under it, so give each its own")

    def routes(self, facts: Facts) -> Sequence[Route]:
        """Return the routes of a study."""
        return [rule.route for rule in self.rules if rule.matches(facts)]
