"""Backup and restore of a node."""

from __future__ import annotations

import shutil
from pathlib import Path

from isocenter.clinic.backup import (
    Backup,
    Restored,
    accounts_beside,
    load_ledger,
    take_accounts,
    unpack,
    write_backup,
)
from isocenter.clinic.children import StoreLock
from isocenter.clinic.workflow import open_ledger
from isocenter.core.errors import ConfigError
from isocenter.data.images.atomic import atomic_folder, explain_os_error
from isocenter.verbs.clinic.config import ClinicConfig, Secret, load_clinic_config

__all__ = ["clinic_backup", "clinic_restore"]

_LOCK = "node.lock"


def clinic_backup(config: Path | str | ClinicConfig, to: Path | str, *, instances: bool = False) -> Backup:
    """Write a backup of a node, which may run meanwhile.

    Args:
        config: `clinic.yaml`, or what it says.
        to: The file; it must not be there.
        instances: Whether held instances are in it.

    Raises:
        ConfigError: A setting is wrong, there is no such node, or the file is there.
        OutputError: It can't be written.
    """
    config = config if isinstance(config, ClinicConfig) else load_clinic_config(config)
    if not config.store.is_dir():
        raise ConfigError(f"there is no store at {config.store}; nothing was backed up")
    ledger = open_ledger(config.database_url("ledger.db"))
    try:
        return write_backup(config.store, ledger, Path(to), instances=instances)
    finally:
        ledger.engine.dispose()


def clinic_restore(config: Path | str | ClinicConfig, file: Path | str) -> Restored:
    """Put a backup in place of an empty store, and of an empty database. All of it is checked first.

    Args:
        config: `clinic.yaml`, or what it says: store and database may be others than those backed up.
        file: The backup.

    Raises:
        ConfigError: A node works on the store, or store or database are not empty.
        DataError: The file is no backup, or was altered or cut off; nothing was restored.
        OutputError: The store can't be written.
    """
    config = config if isinstance(config, ClinicConfig) else load_clinic_config(config)
    store = config.store
    _make_way(store)
    if isinstance(config.database, Secret):
        ledger = open_ledger(config.database_url("ledger.db"))
        try:
            # The folder gets its name before the database's transaction ends: where that fails, neither is there.
            with ledger.engine.begin() as connection, atomic_folder(store) as folder:
                manifest = unpack(Path(file), folder)
                unheld = load_ledger(connection, folder, manifest)
                take_accounts(connection, folder, manifest)
                _lift(folder)
        finally:
            ledger.engine.dispose()
    else:
        with atomic_folder(store) as folder:
            manifest = unpack(Path(file), folder)
            (folder / "store").mkdir(mode=0o700, exist_ok=True)
            ledger = open_ledger(f"sqlite:///{folder / 'store' / 'ledger.db'}")
            try:
                with ledger.engine.begin() as connection, accounts_beside(folder, manifest) as accounts:
                    unheld = load_ledger(connection, folder, manifest, accounts)
            finally:
                ledger.engine.dispose()
            _lift(folder)
    return Restored(manifest["made_at"], len(manifest["files"]), manifest["rows"], manifest["instances"], unheld)


def _make_way(store: Path) -> None:
    """Refuse a store that is in use or holds anything; make room for the new one.

    Raises:
        ConfigError: It is in use, or not empty.
    """
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        if not store.is_dir():
            return
        if {entry.name for entry in store.iterdir()} - {_LOCK}:
            raise ConfigError(f"{store} is not empty; a backup is restored into a store of its own")
        lock = StoreLock(store)
        try:
            lock.alone(patience_s=0.5)
            (store / _LOCK).unlink(missing_ok=True)
        finally:
            lock.release()
    except OSError as error:
        raise explain_os_error(error, store, doing="write") from error


def _lift(folder: Path) -> None:
    """Have a folder hold the store itself, where it held the backup."""
    inner = folder / ".store"
    (folder / "store").mkdir(mode=0o700, exist_ok=True)
    (folder / "store").rename(inner)
    shutil.rmtree(folder / "ledger", ignore_errors=True)
    for entry in sorted(inner.iterdir()):
        entry.rename(folder / entry.name)
    inner.rmdir()
    folder.chmod(0o700)
