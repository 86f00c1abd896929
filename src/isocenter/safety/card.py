"""How a fitted rule comes back from the JSON that it wrote into a card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from isocenter.core.errors import ConfigError

__all__ = ["rule_from"]

Rule = TypeVar("Rule")


def rule_from(kind: type[Rule], values: Mapping[str, Any], what: str) -> Rule:
    """Return the rule that wrote some values; lists become the tuples that they were.

    Args:
        kind: A frozen dataclass.
        values: By field.
        what: Names the rule in the message.

    Raises:
        ConfigError: A value is missing or unknown.

    Example:
        >>> from isocenter.safety.acquisition import Acquisition
        >>> rule_from(Acquisition, {"modality": "MR"}, "how images were made")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        isocenter.core.errors.ConfigError: this is not how images were made: ...
    """
    try:
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    except TypeError as error:
        raise ConfigError(f"this is not {what}: {error}") from error
