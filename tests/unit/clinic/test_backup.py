"""Backup and restore: one moment of a node that runs, whole or not at all, and exactly once afterwards."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import tempfile
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from sqlalchemy import select

from access_cases import PASSWORD
from isocenter.clinic.access import Passwords, open_accounts
from isocenter.clinic.access.identity import digest
from isocenter.clinic.backup import unpack, write_backup
from isocenter.clinic.children import StoreLock
from isocenter.clinic.dimse.holding import recover
from isocenter.clinic.ports import Outcome
from isocenter.clinic.workflow import Ledger, open_ledger
from isocenter.clinic.workflow.tables import LEDGER, STUDIES
from isocenter.core.errors import ConfigError, DataError
from isocenter.verbs.clinic import clinic_backup, clinic_restore, clinic_status, load_clinic_config
from observed_store import STUDY, busy_store
from postgres_peer import KINDS, Cluster, Databases, databases_of
from unit.clinic.workflow.test_engine import World, dataset, engine, hold, turn

# DBOS leaves connections of SQLite to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def config_of(folder: Path, name: str = "store", **more: object) -> Path:
    content = {
        "store": str(folder / name),
        "entities": [{"title": "ISOCENTER", "port": 0, "callers": [{"title": "SCANNER"}]}],
    }
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(content | more))
    return file


def rows(ledger: Ledger) -> dict[str, list[tuple]]:
    with ledger.engine.connect() as connection:
        return {t.name: sorted(map(tuple, connection.execute(select(t))), key=repr) for t in LEDGER.sorted_tables}


target = pytest.fixture(params=KINDS, name="target")(databases_of)
"""Where the restored node keeps its tables."""


def test_what_is_restored_is_what_was(databases: Databases, target: Databases, tmp_path: Path) -> None:
    """From SQLite and PostgreSQL into either; who could sign in still can, and a token still holds."""
    store, place = tmp_path / "store", tmp_path / "other"
    ledger = busy_store(store, databases.url(store))
    access = {"access": {}}
    accounts = open_accounts(databases.url(store, "access.db"), Passwords(1, 8, 1))
    accounts.add_user("ada", "radiologist", PASSWORD, "Ada Lovelace")
    secret = accounts.add_token("robot", "service", ("dicomweb",), time.time() + 600)
    accounts.engine.dispose()
    results = tmp_path / "store" / "results"
    results.mkdir()
    (results / "c.dcm").write_bytes(b"a result")
    (tmp_path / "store" / "audit").mkdir()
    (tmp_path / "store" / "audit" / "read.jsonl").write_text("{}\n")
    before = rows(ledger)
    config = config_of(tmp_path, **access, **databases.settings(store))
    made = clinic_backup(config, tmp_path / "node.backup")
    assert made.file.stat().st_mode & 0o777 == 0o600 and not made.instances
    with pytest.raises(ConfigError, match="replaces nothing"):
        clinic_backup(config, made.file)
    with pytest.raises(ConfigError, match="not stand in the store"):
        clinic_backup(config, tmp_path / "store" / "x")
    assert not list(tmp_path.glob(".partial*"))

    other = config_of(tmp_path, "other", **access, **target.settings(place))
    found = clinic_restore(other, made.file)
    assert found.unheld == 4  # two that arrive, one that waits, one under way
    assert load_clinic_config(other).store == place
    assert place.stat().st_mode & 0o777 == 0o700
    assert (place / "results" / "c.dcm").read_bytes() == b"a result"
    assert (place / "audit" / "read.jsonl").read_text() == "{}\n"
    assert not (place / "node.json").exists() and not (place / ".store").exists()
    again = open_ledger(target.url(place))
    after = rows(again)
    changed = {"studies", "events"}
    assert {k: v for k, v in after.items() if k not in changed} == {k: v for k, v in before.items() if k not in changed}
    assert clinic_status(other).studies == {"answered": 1, "failed": 5}
    assert sum("not in the backup" in one["reason"] for one in clinic_status(other).failed) == 4
    again.tell("after", "", "")  # what is new gets a number of its own
    assert again.events()[0]["kind"] == "after"
    restored = open_accounts(target.url(place, "access.db"), Passwords(1, 8, 1))
    assert [(one.name, one.full_name) for one in restored.users()] == [("ada", "Ada Lovelace")]
    assert restored.verify("ada", PASSWORD) is not None
    holder = restored.by_token(digest(secret))
    assert holder is not None and holder.name == "robot"
    assert (place / "access.db").exists() == (target.cluster is None)
    with pytest.raises(ConfigError, match="not empty"):
        clinic_restore(other, made.file)
    shutil.rmtree(place)
    if target.cluster is not None:
        with pytest.raises(ConfigError, match="holds a ledger already"):
            clinic_restore(other, made.file)
    for one in (ledger, again, restored):
        one.engine.dispose()


def test_a_backup_is_of_one_moment(databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the node does while its tables are read is not in the backup, not even half of it."""
    ledger = busy_store(tmp_path / "store", databases.url(tmp_path / "store"))
    real, done = json.dumps, []

    def meanwhile(*args: object, **more: object) -> str:
        if not done:
            done.append(1)
            ledger.tell("meanwhile", "", "")
            ledger.mark(STUDY.format(0), 1, "failed")
        return real(*args, **more)

    monkeypatch.setattr("isocenter.clinic.backup.json.dumps", meanwhile)
    before = rows(ledger)
    write_backup(tmp_path / "store", ledger, tmp_path / "b")
    monkeypatch.undo()
    assert done and rows(ledger) != before
    manifest = unpack(tmp_path / "b", tmp_path / "out")
    for name, held in before.items():
        read = [json.loads(line) for line in (tmp_path / "out" / "ledger" / f"{name}.jsonl").read_text().splitlines()]
        assert sorted((tuple(one.values()) for one in read), key=repr) == held
        assert manifest["rows"][name] == len(held)
    ledger.engine.dispose()


def rewritten(file: Path, to: Path, change) -> Path:
    """Write a tar again, with some members changed."""
    with tarfile.open(file) as old, tarfile.open(to, "w") as new:
        for member in old:
            content = change(member, old.extractfile(member).read())
            if content is not None:
                member.size = len(content)
                new.addfile(member, io.BytesIO(content))
    return to


@pytest.mark.parametrize("how", ["cut", "bit", "manifest", "missing", "more", "outside", "link", "text"])
def test_what_was_altered_is_not_restored(how: str, tmp_path: Path) -> None:
    busy_store(tmp_path / "store").engine.dispose()
    good, bad = clinic_backup(config_of(tmp_path), tmp_path / "good").file, tmp_path / "bad"
    if how == "cut":
        bad.write_bytes(good.read_bytes()[:-12000])
    elif how == "text":
        bad.write_text("no backup at all")
    elif how in ("bit", "manifest", "missing"):
        name = {"bit": "studies.jsonl", "manifest": "manifest.json", "missing": "1-1.jsonl"}[how]

        def change(member: tarfile.TarInfo, content: bytes) -> bytes | None:
            if not member.name.endswith(name):
                return content
            return None if how == "missing" else content.replace(b"1", b"2", 1)

        rewritten(good, bad, change)
    else:
        shutil.copy(good, bad)
        with tarfile.open(bad, "a") as tar:
            info = tarfile.TarInfo({"more": "store/more", "outside": "store/../../out", "link": "store/link"}[how])
            if how == "link":
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(info)
    other = config_of(tmp_path, "other")
    with pytest.raises(DataError):
        clinic_restore(other, bad)
    assert not (tmp_path / "other").exists() and not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".partial*"))


def test_what_was_altered_leaves_a_database_empty(postgresql: Cluster, tmp_path: Path) -> None:
    busy_store(tmp_path / "store").engine.dispose()
    made = clinic_backup(config_of(tmp_path), tmp_path / "good")
    bad = tmp_path / "bad"
    rewritten(
        made.file, bad, lambda member, content: content[:-9] if member.name.endswith("studies.jsonl") else content
    )
    databases = Databases(postgresql)
    other = config_of(tmp_path, "other", **databases.settings(tmp_path / "other"))
    with pytest.raises(DataError):
        clinic_restore(other, bad)
    ledger = open_ledger(databases.url(tmp_path / "other"))
    assert not any(rows(ledger).values())
    ledger.engine.dispose()
    assert clinic_restore(other, made.file).rows == made.rows
    databases.close()


def test_a_store_in_use_is_not_restored_into(tmp_path: Path) -> None:
    busy_store(tmp_path / "store").engine.dispose()
    made = clinic_backup(config_of(tmp_path), tmp_path / "b")
    lock = StoreLock(tmp_path / "other")
    lock.shared()
    with pytest.raises(ConfigError, match="another node works"):
        clinic_restore(config_of(tmp_path, "other"), made.file)
    lock.release()
    assert clinic_restore(config_of(tmp_path, "other"), made.file).files == made.files
    with pytest.raises(ConfigError, match="no store"):
        clinic_backup(config_of(tmp_path, "nowhere"), tmp_path / "c")


def test_a_restored_node_goes_on_and_delivers_nothing_anew(databases: Databases, tmp_path: Path) -> None:
    """Backed up at the worst moment; then the first node goes on for a while before its machine is lost."""
    first = World()
    first.outcomes = [Outcome("later", "down")]
    with engine(tmp_path / "store", first, databases=databases) as (made, ledger):
        hold(tmp_path / "store", *(dataset("1.2.5", n) for n in range(3)))
        turn(made, lambda: ledger.counts().get("delivery waiting") == 1)
        hold(tmp_path / "store", *(dataset("1.2.6", n) for n in range(2)))
        ledger.take_in(tmp_path / "store" / "journal")
        ledger.mark("1.2.6", 1, "complete")
        backup = write_backup(tmp_path / "store", ledger, tmp_path / "b", instances=True)
        turn(made, lambda: ledger.counts().get("delivery delivered") == 2)
    assert len(first.sent) == len(set(first.sent)) == 2

    clinic_restore(config_of(tmp_path, "other", **databases.settings(tmp_path / "other")), backup.file)
    assert recover(tmp_path / "other").broken == 0
    second = World()
    with engine(tmp_path / "other", second, databases=databases) as (made, ledger):
        # Delivered may be before its study is marked as answered.
        turn(made, lambda: ledger.counts() == {"answered": 2, "delivery delivered": 2})
    assert set(second.sent) == set(first.sent), "the archive gets the same objects, under the same UIDs"
    assert len(second.sent) == 2
    files = [sorted((tmp_path / name / "results").rglob("*.dcm")) for name in ("store", "other")]
    assert [dcmread(f).InstanceNumber for f in files[0]] == [dcmread(f).InstanceNumber for f in files[1]]


def test_results_that_the_ledger_does_not_know_stay_out(tmp_path: Path) -> None:
    """They may have been made of fewer instances than the restored node will have."""
    ledger = busy_store(tmp_path / "store")
    late = tmp_path / "store" / "results" / hashlib.sha256(b"x").hexdigest()[:32] / "v1" / "late"
    late.mkdir(parents=True)
    (late / "result.json").write_text("{}")
    write_backup(tmp_path / "store", ledger, tmp_path / "b")
    manifest = unpack(tmp_path / "b", tmp_path / "out")
    assert not [name for name in manifest["files"] if "late" in name]
    ledger.engine.dispose()


steps = st.lists(st.tuples(st.sampled_from(["hold", "take", "complete", "backup"]), st.integers(0, 2)), max_size=12)


@given(steps, st.booleans())
@settings(max_examples=12, deadline=None)
def test_what_is_restored_knows_all_that_was_held(steps: list[tuple[str, int]], instances: bool) -> None:
    """Whatever was done before: a restored store holds what the ledger knows, and takes in the rest once."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = folder / "store"
        store.mkdir()
        ledger = open_ledger(f"sqlite:///{store / 'ledger.db'}")
        held = set()
        for number, (what, study) in enumerate(steps):
            if what == "hold":
                hold(store, dataset(f"1.2.{study}", number))
                held.add(f"1.2.{study}.1.{number}")
            elif what == "take":
                ledger.take_in(store / "journal") if (store / "journal").is_dir() else None
            elif what == "complete":
                ledger.mark(f"1.2.{study}", 1, "complete")
        known = {r["sop"] for s in range(3) for r in ledger.instances(f"1.2.{s}")}
        made = write_backup(store, ledger, folder / "b", instances=instances)
        ledger.engine.dispose()
        clinic_restore(config_of(folder, "other"), made.file)
        other = open_ledger(f"sqlite:///{folder / 'other' / 'ledger.db'}")
        recover(folder / "other")
        if (folder / "other" / "journal").is_dir():
            other.take_in(folder / "other" / "journal")
        after = {r["sop"] for s in range(3) for r in other.instances(f"1.2.{s}")}
        assert after == (held if instances else known)
        files = list((folder / "other" / "held").rglob("*.dcm"))
        assert len(files) == (len(held) if instances else 0)
        with other.engine.connect() as connection:
            states = set(connection.scalars(select(STUDIES.c.state)))
        assert instances or states <= {"failed", "answered"}
        other.engine.dispose()
