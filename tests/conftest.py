"""Shared fixtures: the folder of real data, and a network that is off."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import typecheck  # noqa: F401  # before anything of ours is imported: what checks the types of each function
from postgres_peer import KINDS, Cluster, Databases, databases_of, server

# No test is timed: a machine may be busy.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what takes minutes, saying how it is run: `make test` stays short on two cores."""
    if os.environ.get("ISOCENTER_LONG") == "1":
        return
    for item in items:
        if long := item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason=f"takes minutes: {long.args[0]}"))
        elif item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="a slow one: make slow"))


@pytest.fixture(scope="session", autouse=True)
def configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of configurations of the tests' own: none reads or writes the user's."""
    folder = tmp_path_factory.mktemp("configuration")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder))
        patch.delenv("ISOCENTER_PSEUDONYM_KEY", raising=False)
        yield folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data; skipped with a reason where it is absent, a failure under CI=true."""
    folder = Path(os.environ.get("ISOCENTER_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if folder.is_dir():
        return folder
    reason = f"real data folder {folder.name!r} is not beside the checkout; set ISOCENTER_SHARED_DATA"
    if os.environ.get("CI") == "true":
        pytest.fail(reason + " (under CI=true it must be there)")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    """A PostgreSQL of the tests' own; skipped, saying so, where it is not installed, and a failure under CI=true."""
    with server() as made:
        yield made


@pytest.fixture(params=KINDS)
def databases(request: pytest.FixtureRequest) -> Iterator[Databases]:
    """Where the nodes of a test keep their tables: the test is run with SQLite, and again with PostgreSQL."""
    yield from databases_of(request)
