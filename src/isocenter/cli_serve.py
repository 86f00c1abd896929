"""The command `isocenter serve`: the viewer in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isocenter.terminal import out, say

if TYPE_CHECKING:
    from isocenter.verbs.serve import Serving

__all__ = ["serve"]


def serve(
    path: Annotated[
        Path | None, typer.Argument(help="Archive, folder of studies, or one file.", show_default=False, readable=False)
    ] = None,
    clinic: Annotated[
        Path | None,
        typer.Option(
            "--clinic",
            help="Instead: run the clinic's node of this clinic.yaml, with its web server (isocenter clinic).",
        ),
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(
            "--work", help="Folder of what people make; default: ARCHIVE/work, or FOLDER-isocenter beside it."
        ),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port; 0 for any that is free.")] = 8470,
    name: Annotated[
        list[str] | None, typer.Option("--name", help="A further name by which browsers may reach it; repeatable.")
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option("--origin", help="A site whose pages may use MONAI Label's protocol (OHIF's); repeatable."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file", help="File that holds the token; default: the environment's ISOCENTER_TOKEN, or a new one."
        ),
    ] = None,
    memory_mb: Annotated[int, typer.Option("--memory-mb", help="Voxels that are kept in memory.")] = 2048,
    image_mb: Annotated[int, typer.Option("--image-mb", help="Largest image that is taken as a whole.")] = 2048,
    sessions: Annotated[int, typer.Option("--sessions", help="Interaction sessions at once.")] = 8,
    on_irregular: Annotated[
        str, typer.Option("--on-irregular", help="Irregular series: 'resample' and say so, or 'raise': leave out.")
    ] = "resample",
    prognosis: Annotated[
        Path | None, typer.Option("--prognosis", help="Folder of a model of isocenter prognose; needs --clinical.")
    ] = None,
    treatment: Annotated[
        Path | None,
        typer.Option("--treatment", help="Folder with treat.yaml (settings of isocenter treat); needs --clinical."),
    ] = None,
    clinical: Annotated[
        Path | None, typer.Option("--clinical", help="Table of the patients that these models are asked about.")
    ] = None,
    accounts: Annotated[
        Path | None,
        typer.Option("--accounts", help="A node's clinic.yaml, whose accounts and roles hold here."),
    ] = None,
) -> None:
    """Serve the viewer: studies, outlining, readings and drafts in a browser on this machine."""
    if path is None or clinic is not None:
        _node(clinic, alone=path is None)
        return
    from isocenter.verbs.serve import serve as verb

    verb(
        path,
        started=_started,
        work=work,
        host=host,
        port=port,
        names=tuple(name or ()),
        origins=tuple(origin or ()),
        token_file=token_file,
        memory_mb=memory_mb,
        image_mb=image_mb,
        sessions=sessions,
        on_irregular=on_irregular,
        prognosis=prognosis,
        treatment=treatment,
        clinical=clinical,
        accounts=accounts,
    )
    say("stopped")


def _node(file: Path | None, *, alone: bool) -> None:
    """Run a node with its web server; the same as `isocenter clinic run`, which also runs one without."""
    from isocenter.cli_clinic import run
    from isocenter.core.errors import ConfigError
    from isocenter.verbs.clinic import load_clinic_config

    if file is None or not alone:
        raise ConfigError("give the path of what the viewer is to show, or --clinic and the node's settings")
    if load_clinic_config(file).web is None:
        raise ConfigError(f"{file} has no section web; add one, or use: isocenter clinic run {file}")
    run(file)


def _started(serving: Serving, port: int) -> None:
    out(serving.address(port))
    say(f"what people make is written to {serving.work}; stop with Ctrl-C")
    if serving.settings.host not in ("127.0.0.1", "localhost", "::1"):
        whoever = "whoever has the token sees every study" if serving.settings.knows is None else "passwords pass here"
        say(f"other machines can reach this server, and {whoever}. Put TLS in front of it")
    if not serving.page_built:
        say("the page is not built (make viewer); the API works")
