"""Who may do what: rules by method and path, denied where none says so, and checked against what an app has."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from isocenter.clinic.access.identity import ROLES, SCOPES, Role
from isocenter.core.errors import ConfigError

__all__ = ["PUBLIC", "SAFE", "SOCKET", "Act", "Found", "Rule", "Table", "routes_of", "rules"]

SOCKET: Final = "WEBSOCKET"
SAFE: Final = ("GET", "HEAD", "OPTIONS")
PUBLIC: Final[frozenset[Role]] = frozenset()
"""Roles of what everybody may have, without an account too."""
Act = Literal["C", "R", "U", "D", "E"]
"""Create, read, update, delete, execute: DICOM PS3.15 A.5.1, Event Action Code."""
_ACTS: Final[dict[str, Act]] = {"GET": "R", "POST": "C", "PUT": "U", "PATCH": "U", "DELETE": "D", SOCKET: "E"}
_PARAMETER = re.compile(r"\{(\w+)(?::(path|int|uuid|float))?\}")
_FORMS = {"": "[^/]+", "path": ".*", "int": "[0-9]+", "float": r"[0-9]+(?:\.[0-9]+)?", "uuid": "[0-9a-fA-F-]{32,36}"}


@dataclass(frozen=True)
class Rule:
    """Who may use a route.

    Args:
        method: "GET", ..., or `SOCKET`.
        path: As the app declares it, with {parameters}.
        roles: Who; `PUBLIC` for everybody.
        scope: What a token must be for.
        act: What is written into the audit record.
        told: Whether a use is written into the audit record: not what holds nothing of a patient and is asked for
            every few seconds.
        study: Name of the parameter that is a study's UID or key; "" for none.
    """

    method: str
    path: str
    roles: frozenset[Role]
    scope: str
    act: Act
    told: bool = True
    study: str = ""

    def may(self, role: Role, scopes: Collection[str] | None) -> bool:
        """Tell whether a role may, and a token of these scopes; None: no token, so that the role alone counts."""
        if self.roles == PUBLIC:
            return True
        return role in self.roles and (scopes is None or self.scope in scopes)


def rules(scope: str, roles: str, lines: str, *, told: bool = True) -> tuple[Rule, ...]:
    """Return the rules of a block of the table.

    Args:
        scope: What a token must be for.
        roles: Names of roles, or "public".
        lines: A method and a path each; a letter of `Act` behind it where it is not the method's own.
        told: Whether uses are written into the audit record.

    Raises:
        ConfigError: The block is not well formed.
    """
    named = roles.split()
    allowed = PUBLIC if named == ["public"] else frozenset(role for role in ROLES if role in named)
    if (allowed == PUBLIC) != (named == ["public"]) or len(allowed) not in (0, len(named)):
        raise ConfigError(f"{roles!r} are no roles")
    if scope not in SCOPES:
        raise ConfigError(f"{scope!r} is no scope")
    made = []
    for line in filter(None, map(str.strip, lines.splitlines())):
        method, path, *act = line.split()
        names = [name for name, _ in _PARAMETER.findall(path)]
        study = "study" if "study" in names else ""
        rule = Rule(method, path, allowed, scope, _ACTS[method], told, study)
        for letter in act:
            rule = replace(rule, act=_act(letter))
        made.append(rule)
    return tuple(made)


def _act(letter: str) -> Act:
    for known in _ACTS.values():
        if known == letter:
            return known
    raise ConfigError(f"{letter!r} is no act")


@dataclass(frozen=True)
class Found:
    """What a table says of a request.

    Args:
        rule: That of the route, as the app would choose it.
        others: Further rules whose path fits too: they must allow it as well, so that the order of an app's routes
            never decides who may.
        study: What stands in the path for a study; "" for nothing.
        token: What stands in the path for a token; "" for nothing.
    """

    rule: Rule
    others: tuple[Rule, ...]
    study: str
    token: str

    def may(self, role: Role, scopes: Collection[str] | None) -> bool:
        """Tell whether all rules allow it."""
        return all(rule.may(role, scopes) for rule in (self.rule, *self.others))

    @property
    def public(self) -> bool:
        """Whether everybody may."""
        return all(rule.roles == PUBLIC for rule in (self.rule, *self.others))


class Table:
    """Rules, by method and path.

    Args:
        rules: All of them; what none names is denied.

    Raises:
        ConfigError: Two are of one method and path.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self._by_method: dict[str, list[tuple[re.Pattern[str], Rule]]] = {}
        seen = set()
        for rule in self.rules:
            key = (rule.method, _shape(rule.path))
            if key in seen:
                raise ConfigError(f"the authorisation table names {rule.method} {rule.path} twice")
            seen.add(key)
            self._by_method.setdefault(rule.method, []).append((_pattern(rule.path), rule))

    def find(self, method: str, path: str) -> Found | None:
        """Return what the table says of a request; None where it says nothing, and it is denied.

        Args:
            method: Of the request; HEAD is GET.
            path: As the app sees it, decoded.
        """
        named = [
            (rule, match.groupdict())
            for pattern, rule in self._by_method.get("GET" if method == "HEAD" else method, ())
            if (match := pattern.fullmatch(path)) is not None
        ]
        if not named:
            return None
        named.sort(key=lambda one: (len(one[1]), -len(one[0].path)))  # the one that says most of the path outright
        rule, values = named[0]
        study = values.get(rule.study, "") if rule.study else ""
        return Found(rule, tuple(other for other, _ in named[1:]), study, values.get("token", ""))

    def methods(self, path: str) -> list[str]:
        """Return by which methods a path may be asked."""
        return [m for m in self._by_method if self.find(m, path) is not None]

    def missing(self, routes: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return the routes, method and path each, that the table does not name."""
        named = {(rule.method, _shape(rule.path)) for rule in self.rules}
        return sorted({(m, p) for m, p in routes if (m, _shape(p)) not in named})

    def check(self, app: Any) -> None:
        """Check that every route of an app is in the table.

        Args:
            app: A FastAPI or Starlette app.

        Raises:
            ConfigError: One is not: nobody has said who may use it.
        """
        missing = self.missing(routes_of(app))
        if missing:
            listed = ", ".join(f"{method} {path}" for method, path in missing)
            raise ConfigError(f"no rule says who may use {listed}: add it to the authorisation table")


def routes_of(app: Any) -> Iterator[tuple[str, str]]:
    """Yield method and path of every route of an app; HEAD goes with GET.

    Args:
        app: A FastAPI or Starlette app, or a router.

    Raises:
        ConfigError: Something is mounted whose routes can't be seen.
    """
    for route in _flat(app.routes):
        path, methods = getattr(route, "path", None), getattr(route, "methods", None)
        if path is None:
            raise ConfigError(f"the routes behind a {type(route).__name__} can't be seen, so nobody may use them")
        if methods:
            yield from ((method, path) for method in sorted(methods) if method != "HEAD" or "GET" not in methods)
        elif "websocket" in type(getattr(route, "original_route", route)).__name__.lower():
            yield SOCKET, path
        else:
            raise ConfigError(f"what is mounted at {path} has routes that can't be seen, so nobody may use them")


def _flat(routes: Iterable[Any]) -> Iterator[Any]:
    for route in routes:
        # FastAPI keeps an included router whole, and says by this what its routes are where it was included.
        inner = getattr(route, "effective_route_contexts", None)
        if inner is None:
            yield route
        else:
            for context in inner():
                yield getattr(context, "starlette_route", None) or context


def _shape(path: str) -> str:
    return _PARAMETER.sub("{}", path)


def _pattern(path: str) -> re.Pattern[str]:
    text, end, seen = "", 0, 0
    for match in _PARAMETER.finditer(path):
        name = match[1]
        text += re.escape(path[end : match.start()]) + f"(?P<{name}>{_FORMS[match[2] or '']})"
        end, seen = match.end(), seen + 1
    return re.compile(text + re.escape(path[end:]))
