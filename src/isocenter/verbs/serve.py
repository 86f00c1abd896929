"""Serve: the viewer over an archive or a folder, on this machine.

Sources are read and never written to: what people make (masks, drafts, readings, the work list) goes to the work
folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from isocenter.core.errors import CapabilityError, ConfigError, OutputError
from isocenter.data.images.atomic import explain_os_error
from isocenter.data.images.quiet import quiet

if TYPE_CHECKING:
    from fastapi import FastAPI

    from isocenter.clinic.access import Access
    from isocenter.viewer.settings import Settings

__all__ = ["TOKEN_VARIABLE", "ServeConfig", "Serving", "open_server", "serve"]

TOKEN_VARIABLE = "ISOCENTER_TOKEN"  # noqa: S105  # the name of a variable
_PACKAGES = ("fastapi", "uvicorn", "websockets", "python_multipart")
_LEAST_TOKEN = 16
_SHUTDOWN_SECONDS = 10


class ServeConfig(BaseModel):
    """Configuration of `isocenter serve`.

    Attributes:
        path: Archive, or folder of studies, or one file.
        work: Folder of what people make; None for ARCHIVE/work, or FOLDER-isocenter beside a plain folder.
        host: Address to listen on.
        port: Port; 0 for any that is free.
        names: Further names by which browsers may reach it.
        origins: Other sites whose pages may use MONAI Label's protocol, such as OHIF's.
        token_file: File that holds the token; else the environment's ISOCENTER_TOKEN, or a new one.
        memory_mb: Voxels that are kept in memory.
        image_mb: Largest image that is taken as a whole (outlining, readings, NIfTI).
        sessions: Interaction sessions at once.
        on_irregular: What is done with irregular series: "resample" to a regular grid and say so, or "raise": leave
            them out.
        page: Folder of a built page; None for the one in the package.
        prognosis: Folder of a model of `isocenter prognose`, asked about the patients of `clinical`.
        treatment: Folder with `treat.yaml`, settings of `isocenter treat`, and its table; asked about the same.
        accounts: A node's `clinic.yaml`, whose accounts, roles and tokens hold here too (`access`); None: one token.
        clinical: Table of patients: a column `study`, `patient_key` or `patient`, and what the models learnt with.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path
    work: Path | None = None
    host: str = "127.0.0.1"
    port: int = Field(default=8470, ge=0, le=65535)
    names: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    token_file: Path | None = None
    memory_mb: int = Field(default=2048, ge=64)
    image_mb: int = Field(default=2048, ge=1)
    sessions: int = Field(default=8, ge=1, le=256)
    on_irregular: Literal["raise", "resample"] = "resample"
    page: Path | None = None
    prognosis: Path | None = None
    treatment: Path | None = None
    clinical: Path | None = None
    accounts: Path | None = None

    @property
    def work_folder(self) -> Path:
        """The folder of what people make."""
        if self.work is not None:
            return self.work
        path = Path(os.path.abspath(self.path))  # noqa: PTH100  # links are kept: the folder stands beside the name given
        if is_archive(path):
            return path / "work"
        return path.parent / f"{path.name}-isocenter"


@dataclass(frozen=True)
class Serving:
    """A server that is ready to be run.

    Args:
        app: The ASGI app.
        settings: How it is served, with the token.
        work: Folder of what people make.
        page_built: Whether there is a page.
    """

    app: FastAPI
    settings: Settings
    work: Path
    page_built: bool

    def address(self, port: int | None = None) -> str:
        """Return the address to open in a browser; the token stands behind the #, which browsers never send."""
        host = self.settings.host
        name = "127.0.0.1" if host in ("0.0.0.0", "::", "") else f"[{host}]" if ":" in host else host  # noqa: S104
        token = f"#token={self.settings.token}" if self.settings.knows is None else ""
        return f"http://{name}:{self.settings.port if port is None else port}/{token}"


def is_archive(path: Path) -> bool:
    """Tell whether a folder is an archive that `isocenter ingest` made."""
    return (path / "archive.json").is_file()


def open_server(config: ServeConfig) -> Serving:
    """Make the app of a configuration, without listening yet.

    Raises:
        CapabilityError: A package is missing.
        ConfigError: The token is too short, or the work folder lies inside a plain folder of sources.
        DataError: The path is not there, or the archive is damaged.
        OutputError: The work folder can't be written, or another server holds it.
    """
    _require_packages()
    from isocenter.verbs.serving.ports import make_ports
    from isocenter.verbs.serving.work_folder import lock_work
    from isocenter.viewer.app import create_app
    from isocenter.viewer.page import built_page
    from isocenter.viewer.settings import Limits, Settings

    work = _work_folder(config)
    access = None if config.accounts is None else _accounts(config)
    settings = Settings(
        token=_token(config),
        host=config.host,
        port=config.port,
        names=config.names,
        origins=tuple(origin.rstrip("/") for origin in config.origins),
        limits=Limits(sessions=config.sessions, image_bytes=config.image_mb << 20),
        page=config.page,
        knows=None if access is None else access.knows,
    )
    lock = lock_work(work)
    try:
        ports, closing = make_ports(config, work, settings)
    except BaseException:
        lock.close()
        raise
    if access is None:
        app = create_app(ports, settings, on_close=(lock.close, *closing))
    else:
        from isocenter.clinic.access import protect

        on_close = (access.close, lock.close, *closing)
        app = create_app(ports, settings, on_close=on_close, protect=partial(protect, access=access))
    return Serving(app, settings, work, (built_page(settings) / "index.html").is_file())


def serve(path: Path | str, *, started: Callable[[Serving, int], None] | None = None, **settings: Any) -> None:
    """Serve until stopped (Ctrl-C or SIGTERM); open requests are finished first.

    Args:
        path: Archive, or folder of studies.
        started: Called with the server and its port once it listens.
        **settings: Any further field of `ServeConfig`.

    Raises:
        ConfigError: A setting is wrong.
        OutputError: The address is taken, or the work folder can't be written.
        CapabilityError: A package is missing.
        DataError: The path can't be read.
    """
    try:
        config = ServeConfig(path=Path(path), **settings)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ConfigError(f"setting {'.'.join(str(p) for p in first['loc'])}: {first['msg']}") from error
    _require_packages()
    from isocenter.verbs.serving.running import listen, run_server

    # Around everything: blocks of it in several threads undo each other's, and what lies below must be silence too.
    with quiet(), listen(config.host, config.port) as listener:
        serving = open_server(config)
        run_server(serving.app, listener, lambda port: started(serving, port) if started else None)


def _require_packages() -> None:
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise CapabilityError(f'a server needs {", ".join(missing)}: pip install "isocenter[viewer]"')


def _work_folder(config: ServeConfig) -> Path:
    if not config.path.exists():
        raise explain_os_error(FileNotFoundError(2, "No such file or directory"), config.path, doing="read")
    work = config.work_folder
    try:
        work.mkdir(parents=True, exist_ok=True)
        work.chmod(0o700)
        probe = work / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        what = explain_os_error(error, work, doing="write")
        raise OutputError(f"{what}; give another place with --work") from error
    return work


def _accounts(config: ServeConfig) -> Access:
    """Return what guards the viewer by the accounts of a node."""
    if config.accounts is None:
        raise ConfigError("no accounts were named")
    if config.origins:
        raise ConfigError("with accounts, pages of other sites are refused: serve OHIF from the same address")
    missing = [name for name in ("sqlalchemy", "argon2", "httpx") if find_spec(name) is None]
    if missing:
        raise CapabilityError(f'accounts need {", ".join(missing)}: pip install "isocenter[clinic]"')
    from isocenter.clinic.access import LayerSettings
    from isocenter.verbs.clinic.access import viewer_access
    from isocenter.verbs.clinic.config import load_clinic_config
    from isocenter.viewer.security import POLICY
    from isocenter.viewer.settings import Settings

    settings = LayerSettings(
        names=(config.host, *config.names), body_bytes=1 << 20, upload_bytes=256 << 20,
        upload_paths=Settings("").upload_paths, policy=POLICY,
    )  # fmt: skip
    return viewer_access(load_clinic_config(config.accounts), settings)


def _token(config: ServeConfig) -> str:
    from isocenter.viewer.security import new_token

    if config.accounts is not None:
        return new_token()  # nobody is told of it: there are accounts
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if config.token_file is not None:
        try:
            token = config.token_file.read_text("utf-8").strip()
        except OSError as error:
            raise explain_os_error(error, config.token_file, doing="read") from error
    if not token:
        if config.token_file is not None:
            raise ConfigError(f"{config.token_file} is empty; write a token of {_LEAST_TOKEN} letters or more into it")
        return new_token()
    if len(token) < _LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token or "," in token:
        raise ConfigError(f"a token has {_LEAST_TOKEN} or more ASCII letters, digits and signs, without space or comma")
    return token
