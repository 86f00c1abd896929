"""`isocenter clinic conform`: what objects and a running node keep to, by rule. Self-tested, not certified by IHE."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from isocenter.clinic.conformance import DimsePeer, WebPeer, check_dimse, check_web
from isocenter.clinic.node import STATE_FILE
from isocenter.core.errors import ConfigError
from isocenter.data.conformance import check_objects
from isocenter.verbs.clinic.config import ClinicConfig, Secret, load_clinic_config

__all__ = ["Conformity", "ConformityEntry", "clinic_conform", "peer_of", "peers"]

_ADDRESS = re.compile(r"dicom://([!-?A-~]{1,16})@([^/:@]+|\[[0-9a-fA-F:]+\]):([0-9]{1,5})/([!-.0-~]{1,16})")


class ConformityEntry(BaseModel):
    """A rule or check.

    Attributes:
        name: Of it.
        title: What it asks.
        source: Where it is asked for.
        state: "pass", "fail", or "not applicable".
        faults: What is wrong where, or why it was not checked; never a patient's value.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    source: str
    state: Literal["pass", "fail", "not applicable"]
    faults: tuple[str, ...] = ()


class Conformity(BaseModel):
    """What was found.

    Attributes:
        claim: What this is worth.
        objects: Rules of objects; empty where no folder was given.
        transactions: Checks of a running node; empty where none was asked for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    claim: str = "self-tested, not certified by IHE"
    objects: tuple[ConformityEntry, ...] = ()
    transactions: tuple[ConformityEntry, ...] = ()

    @property
    def failed(self) -> tuple[ConformityEntry, ...]:
        """What failed."""
        return tuple(one for one in (*self.objects, *self.transactions) if one.state == "fail")


def clinic_conform(
    *, objects: Path | None = None, dimse: DimsePeer | None = None, web: WebPeer | None = None
) -> Conformity:
    """Check objects, and a running node.

    Args:
        objects: Folder of results, and of their images if these are there.
        dimse: Node whose DIMSE services are checked.
        web: Service whose DICOMweb is checked.

    Raises:
        ConfigError: There is nothing to check.
        DataError: The folder holds no result of an algorithm.
        CapabilityError: A package is missing.
    """
    if objects is None and dimse is None and web is None:
        raise ConfigError("nothing to check: give a node's clinic.yaml, a peer, a URL, or --objects FOLDER")
    found = [] if objects is None else check_objects(objects)
    told = [] if dimse is None else check_dimse(dimse)
    told += [] if web is None else check_web(web)
    return Conformity(
        objects=tuple(ConformityEntry(**asdict(v)) for v in found),
        transactions=tuple(ConformityEntry(**asdict(v)) for v in told),
    )


def peer_of(config: Path | str | ClinicConfig, *, store: bool = False) -> DimsePeer:
    """Return our own running node as something to be checked, called as its first caller calls it.

    Raises:
        ConfigError: A setting is wrong, or the node does not run.
    """
    config = config if isinstance(config, ClinicConfig) else load_clinic_config(config)
    entity = config.entities[0]
    port = entity.port
    try:
        state: dict[str, Any] = json.loads((config.store / STATE_FILE).read_text("utf-8"))
        port = int(state["ports"][entity.title])
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError("the node does not run: start it with isocenter clinic run") from error
    caller = entity.callers[0]
    context = None
    if entity.tls is not None:
        from isocenter.verbs.clinic.wiring import client_tls  # heavy: the workflow comes with it

        context = client_tls(entity.tls)
    host = "127.0.0.1" if entity.host in ("0.0.0.0", "::") else entity.host  # noqa: S104 - it listens on all
    return DimsePeer(entity.title, host, port, caller.title, store=store, listen=caller.port, tls=context)


def peers(
    config: Path | None,
    *,
    peer: str | None = None,
    web: str | None = None,
    token: Path | None = None,
    store: bool = False,
    listen: int | None = None,
) -> tuple[DimsePeer | None, WebPeer | None]:
    """Return who is to be checked, as a command line says it.

    Args:
        config: Settings of a running node of ours; None for none.
        peer: Another node, dicom://CALLING@HOST:PORT/TITLE; None for none.
        web: Root of a DICOMweb service; None for none.
        token: File that holds a bearer token for it.
        store: Whether a test image may be stored.
        listen: Port where a node reports storage commitments to us.

    Raises:
        ConfigError: A setting is wrong, or the address is none.
    """
    if config is not None and peer is not None:
        raise ConfigError("give a node's settings or --peer, not both")
    dimse = None
    if config is not None:
        dimse = peer_of(config, store=store)
    elif peer is not None:
        found = _ADDRESS.fullmatch(peer)
        if found is None:
            raise ConfigError(f"{peer}: a peer is dicom://CALLING@HOST:PORT/TITLE")
        dimse = DimsePeer(found[4], found[2], int(found[3]), found[1], store=store)
    if dimse is not None and listen is not None:
        dimse = replace(dimse, listen=listen)
    secret = "" if token is None else Secret(file=token).read()
    return dimse, None if web is None else WebPeer(web, secret, store=store)
