"""The run-time type checker of the tests: beartype, where an int is a float (PEP 484's numeric tower).

jaxtyping's own decorator compares the shapes of all arguments with each other, which costs tens of microseconds a call
and a millisecond a function. Where no annotation is of jaxtyping there are no shapes: beartype alone checks the same,
and its check is made when the function is first called, when all names that its annotations use are there.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype
from beartype.door import is_bearable
from beartype.roar import BeartypeException

check = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=jaxtyping.TypeCheckError))
_with_shapes = jaxtyping.jaxtyped


def checked(fn: Any = None, *, typechecker: Any = check) -> Any:
    """Decorate a function, or a dataclass, with the checks that its annotations need."""
    if fn is None:
        return functools.partial(checked, typechecker=typechecker)
    if not inspect.isfunction(fn):
        return _with_shapes(fn, typechecker=typechecker)
    if inspect.iscoroutinefunction(fn) or inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        return _made(fn, typechecker)
    if not fn.__annotations__:
        return fn
    return _lazily(fn, typechecker)


def _lazily(fn: Callable[..., Any], typechecker: Any) -> Callable[..., Any]:
    made: Callable[..., Any] | None = None

    @functools.wraps(fn)
    def first(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        nonlocal made
        if made is None:
            made = _made(fn, typechecker)
        return made(*args, **kwargs)

    return first


def _made(fn: Callable[..., Any], typechecker: Any) -> Callable[..., Any]:
    stated = fn.__annotations__
    hints = {name: _resolved(hint, fn.__globals__) for name, hint in stated.items()}
    if any(map(_has_shapes, hints.values())):
        return _with_shapes(fn, typechecker=typechecker)
    fn.__annotations__ = {name: hint for name, hint in hints.items() if _is_known(hint)}
    try:
        made = check(fn)
    finally:
        fn.__annotations__ = stated
    if made is not fn:
        made.__annotations__ = stated
    return made


def _is_known(hint: Any) -> bool:
    """Whether beartype can check by a hint: not by every generic class, nor where a name inside it is only a string."""
    try:
        is_bearable(None, hint)
    except BeartypeException:
        return False
    return True


def _has_shapes(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(_has_shapes(part) for part in typing.get_args(hint))


def _resolved(hint: Any, names: dict[str, Any]) -> Any:
    if not isinstance(hint, str):
        return hint
    try:
        return typing.get_type_hints(_Holder(hint), names, include_extras=True)["value"]
    except Exception:  # noqa: BLE001  # what is imported for type checkers alone is nothing to check by
        return Any


class _Holder:
    def __init__(self, hint: str) -> None:
        self.__annotations__ = {"value": hint}


jaxtyping.jaxtyped = checked
