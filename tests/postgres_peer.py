"""Where the nodes of a test keep their tables: SQLite in their stores, or Debian's PostgreSQL, a database for each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from benchmarks._postgresql import Cluster, cluster, programs

__all__ = ["KINDS", "Cluster", "Databases", "databases_of", "server"]
KINDS = ("sqlite", "postgresql")


@contextmanager
def server(*, flushed: bool = False) -> Iterator[Cluster]:
    """Run a server; skipped, saying so, where PostgreSQL is not installed, and a failure under CI=true.

    Args:
        flushed: Whether it keeps what was committed when it is stopped as in a crash.
    """
    if programs() is None:
        why = "PostgreSQL (Debian: postgresql) is not installed"
        pytest.fail(why) if os.environ.get("CI") == "true" else pytest.skip(why)
    with cluster(flushed=flushed) as made:
        yield made


class Databases:
    """The databases of a test's nodes, by store.

    Args:
        cluster: The server; None for SQLite.
    """

    def __init__(self, cluster: Cluster | None = None) -> None:
        self.cluster = cluster
        self._urls: dict[Path, str] = {}

    def url(self, store: Path, file: str = "ledger.db") -> str:
        """Return the database of a node: always the same, empty at first."""
        if self.cluster is None:
            return f"sqlite:///{store / file}"
        if store not in self._urls:
            self._urls[store] = self.cluster.new()
        return self._urls[store]

    def settings(self, store: Path) -> dict[str, Any]:
        """Return what `clinic.yaml` says of it."""
        if self.cluster is None:
            return {}
        secret = store.with_name(f"{store.name}.database")
        secret.write_text(self.url(store))
        secret.chmod(0o600)
        return {"database": {"file": str(secret)}}

    def close(self) -> None:
        """Have them empty again, whoever is still connected."""
        for url in self._urls.values():
            if self.cluster is not None:
                self.cluster.give_back(url)


def databases_of(request: pytest.FixtureRequest) -> Iterator[Databases]:
    """Make databases of the kind that is a fixture's parameter; PostgreSQL is started when it is first asked for."""
    made = Databases(request.getfixturevalue("postgresql") if request.param == "postgresql" else None)
    yield made
    made.close()
