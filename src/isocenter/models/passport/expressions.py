"""MONAI's configuration language, of which we take data alone: literals, and `@` references to them.

`$` begins Python code there. A literal behind it (`$(96, 96)`) and a bare reference (`$@size`) are data; anything more
is refused, never run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

from isocenter.core.errors import WeightsError

__all__ = ["find_targets", "resolve"]

_REFERENCE = re.compile(r"\$?\s*@([A-Za-z_][\w]*(?:(?:#|::)\w+)*)\s*")
_DEEPEST = 32


def resolve(value: Any, config: Mapping[str, Any], where: str, depth: int = 0) -> Any:
    """Return a value of the configuration as plain data.

    Args:
        value: Any part of it.
        config: All of it, which references point into.
        where: Names the value in messages.
        depth: How many references and levels were followed.

    Raises:
        WeightsError: It holds code, an object to build, a reference to another file, to nothing or to itself.

    Example:
        >>> resolve({"in_channels": "@c", "size": "$(96, 96)"}, {"c": 1}, "network_def")
        {'in_channels': 1, 'size': (96, 96)}
    """
    if depth > _DEEPEST:
        raise WeightsError(f"{where}: refers to itself, or is nested too deep; take the bundle from its source again")
    if isinstance(value, Mapping):
        if "_target_" in value:
            raise WeightsError(
                f"{where}: asks to build {value['_target_']!r}; only plain values are taken as arguments"
            )
        return {str(k): resolve(v, config, f"{where}.{k}", depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(resolve(v, config, f"{where}[{i}]", depth + 1) for i, v in enumerate(value))
    if not isinstance(value, str) or value[:1] not in ("$", "@", "%"):
        return value
    reference = _REFERENCE.fullmatch(value)
    if reference is not None:
        return resolve(_look_up(reference[1], config, where), config, where, depth + 1)
    if value.startswith("$"):
        try:
            return ast.literal_eval(value[1:].strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
            raise WeightsError(
                f"{where}: {value[:80]!r} is code, which is never run; write its value there if you know it"
            ) from error
    raise WeightsError(f"{where}: {value[:80]!r} refers to something else than a value of this file; write it there")


def _look_up(path: str, config: Mapping[str, Any], where: str) -> Any:
    found: Any = config
    for part in re.split(r"#|::", path):
        if isinstance(found, Mapping) and part in found:
            found = found[part]
        elif isinstance(found, list) and part.isdigit() and int(part) < len(found):
            found = found[int(part)]
        else:
            raise WeightsError(f"{where}: refers to @{path}, which is not there; take the bundle from its source again")
    return found


def find_targets(value: Any, *names: str) -> Iterator[Mapping[str, Any]]:
    """Yield every part of a configuration whose `_target_` has one of these names; nothing is built.

    Example:
        >>> list(find_targets({"a": [{"_target_": "monai.transforms.Spacingd", "pixdim": [1, 1, 2]}]}, "Spacingd"))
        [{'_target_': 'monai.transforms.Spacingd', 'pixdim': [1, 1, 2]}]
    """
    if isinstance(value, Mapping):
        if str(value.get("_target_", "")).rpartition(".")[2] in names:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from find_targets(inner, *names)
