"""Fields of a configuration, or an error that names the one that is wrong: what every verb begins with."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from isocenter.core.errors import ConfigError

__all__ = ["configured"]

Config = TypeVar("Config", bound=BaseModel)


def configured(kind: type[Config], /, **fields: Any) -> Config:
    """Return a configuration.

    Args:
        kind: Its model.
        **fields: Of the model.

    Raises:
        ConfigError: A field is unknown, missing or wrong; the message names it and never says its value.

    Example:
        >>> class Small(BaseModel):
        ...     levels: int
        >>> configured(Small, levels=3).levels
        3
    """
    try:
        return kind(**fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ConfigError(f"setting {'.'.join(str(p) for p in first['loc'])}: {first['msg']}") from error
