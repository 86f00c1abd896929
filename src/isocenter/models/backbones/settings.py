"""What is common to the settings of all backbones: how they go into a card and come back from one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, TypeVar

from isocenter.core.errors import ConfigError

__all__ = ["BackboneSettings"]

Own = TypeVar("Own", bound="BackboneSettings")


@dataclass(frozen=True)
class BackboneSettings:
    """Settings of a backbone; each kind adds its own.

    Args:
        dims: 2 for planes, 3 for volumes.
        channels_in: Channels of the input.
    """

    kind: ClassVar[str] = ""
    dims: int = 2
    channels_in: int = 1

    def check_common(self) -> None:
        """Check what all backbones share.

        Raises:
            ConfigError: `dims` is not 2 or 3, or there is no channel.
        """
        if self.dims not in (2, 3) or self.channels_in < 1:
            raise ConfigError(
                f"a backbone has 2 or 3 dims and a channel or more, got {self.dims} and {self.channels_in}"
            )

    def as_card(self) -> dict[str, object]:
        """Return the settings as JSON-ready values, the kind among them."""
        values = {key: _plain(value) for key, value in asdict(self).items()}
        return {"kind": self.kind, **values}

    @classmethod
    def from_card(cls: type[Own], values: Mapping[str, object]) -> Own:
        """Return the settings that `as_card` wrote.

        Raises:
            ConfigError: A value is missing, unknown or out of range.
        """
        given = {key: value for key, value in values.items() if key != "kind"}
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(given) - known)
        if unknown or values.get("kind") != cls.kind:
            raise ConfigError(
                f"these are not the settings of a {cls.kind}: kind {values.get('kind')!r}, unknown {unknown}"
            )
        try:
            return cls(**{key: _tuples(value) for key, value in given.items()})
        except TypeError as error:
            raise ConfigError(f"these are not the settings of a {cls.kind}: {error}") from error


def _plain(value: Any) -> object:
    return [_plain(v) for v in value] if isinstance(value, tuple | list) else value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value
