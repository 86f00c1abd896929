"""A PostgreSQL of one's own for a while: a cluster in a folder, on a loopback port, gone afterwards."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from urllib.parse import quote

USER, PASSWORD = "isocenter", "a pass:w@rd/%"
"""Who a node signs in as: the owner of its database, and nobody else; the password has signs that a URL must escape."""
_ADMIN = "postgres"
_PORTS = range(20000, 32000)  # below those that are given to whoever calls out
_PATIENCE_S = 30.0
_CUT_OFF = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{name}'"
_EMPTY = """
DO $$ DECLARE one text; BEGIN
  FOR one IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
    EXECUTE format('DROP SCHEMA %I CASCADE', one);
  END LOOP;
END $$;
CREATE SCHEMA public AUTHORIZATION pg_database_owner;
"""


def programs() -> Path | None:
    """Return the folder of Debian's newest PostgreSQL; None where there is none."""
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    return max((one.parent for one in found), key=lambda one: float(one.parent.name), default=None)


class Cluster:
    """A server that is started and stopped at will; what it holds stays.

    Args:
        folder: Of the server alone.
        where: Its programs.
        flushed: Whether what is committed outlasts a power cut; without it, it is much faster.
    """

    def __init__(self, folder: Path, where: Path, *, flushed: bool) -> None:
        self._folder, self._programs, self._flushed = folder, where, flushed
        self._numbers, self.port = itertools.count(1), 0
        self._empty: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._as: dict[str, int] = {}
        if os.geteuid() == 0:  # PostgreSQL does not run as root
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
            self._as = {"user": user.pw_uid, "group": user.pw_gid}
        subprocess.run(
            [where / "initdb", "-D", folder / "data", "-U", _ADMIN, "-E", "UTF8", "--no-sync", "--auth-local=trust",
             "--auth-host=scram-sha-256"],
            check=True, capture_output=True, cwd=folder, **self._as,
        )  # fmt: skip

    def start(self) -> None:
        """Start it; on the port that it had, or on one that is free.

        Raises:
            RuntimeError: It can't be started.
        """
        # A port is tried, not looked for: tests, whose sockets are shut, start this too.
        for port in [self.port] if self.port else random.SystemRandom().sample(_PORTS, 8):
            if self._started(port):
                self.port = port
                return
        raise RuntimeError(f"PostgreSQL does not start: {(self._folder / 'log').read_text()[-2000:]}")

    def _started(self, port: int) -> bool:
        quick = [] if self._flushed else ["-F", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._folder / "data", "-p", str(port), "-k", self._folder,
                 "-c", "listen_addresses=127.0.0.1", *quick],
                stdout=log, stderr=log, cwd=self._folder, **self._as,
            )  # fmt: skip
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until and self._process.poll() is None:
            # By its own folder: another server may have the port.
            with contextlib.suppress(OSError):
                self.run("SELECT 1", port=port)
                return True
            time.sleep(0.02)
        self.stop()
        return False

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: with SIGINT in order, whoever is connected is cut off; with SIGQUIT at once, as in a crash."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(how)
            self._process.wait(_PATIENCE_S)
        self._process = None

    @property
    def version(self) -> str:
        """As the programs say: "postgres (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)", without its first word."""
        done = subprocess.run([self._programs / "postgres", "-V"], capture_output=True, text=True, check=True)
        return " ".join(done.stdout.split()[1:3]).replace("(", "").replace(")", "")

    def run(self, statement: str, *, database: str = "postgres", port: int = 0) -> None:
        """Run statements of SQL, by default in the database that is always there.

        Raises:
            ConnectionError: The server does not answer.
        """
        psycopg = import_module("psycopg")  # of the extra "clinic", which not every test needs
        place = f"host={self._folder} port={port or self.port} user={_ADMIN} dbname={database}"
        try:
            with psycopg.connect(place, autocommit=True) as connection:
                connection.execute(statement.encode())
        except psycopg.OperationalError as error:
            raise ConnectionError("PostgreSQL does not answer") from error

    def new(self) -> str:
        """Return the URL of an empty database, as SQLAlchemy has it."""
        if self._empty:
            return self._empty.pop()
        number = next(self._numbers)
        if number == 1:
            self.run(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")
        self.run(f"CREATE DATABASE node{number} OWNER {USER}")
        return f"postgresql+psycopg://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/node{number}"

    def give_back(self, url: str) -> None:
        """Empty a database, for the next: several times as fast as to make another. Who is connected is cut off."""
        name = url.rpartition("/")[2]
        self.run(_CUT_OFF.format(name=name))
        self.run(_EMPTY, database=name)
        self._empty.append(url)


@contextmanager
def cluster(*, flushed: bool = False) -> Iterator[Cluster]:
    """Run a server; it and all that it held are gone afterwards.

    Raises:
        FileNotFoundError: Debian's PostgreSQL is not installed.
    """
    where = programs()
    if where is None:
        raise FileNotFoundError("PostgreSQL (Debian: postgresql) is not installed")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        made = Cluster(folder, where, flushed=flushed)
        made.start()
        try:
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
