"""Application entities: who we are, whom we let in, and what we take from them."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from isocenter.clinic.dimse.upper_layer import AssociateRequest, Proposal
from isocenter.core.errors import ConfigError

__all__ = ["COMPRESSED", "UNCOMPRESSED", "Allowed", "LocalEntity", "Rejection", "TlsFiles", "negotiated"]

UNCOMPRESSED: Final = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2")
COMPRESSED: Final = (
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203",
    "1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.102", "1.2.840.10008.1.2.4.103",
)  # fmt: skip
VERIFICATION: Final = "1.2.840.10008.1.1"
STORAGE_COMMITMENT: Final = "1.2.840.10008.1.20.1"
MPPS: Final = "1.2.840.10008.3.1.2.3.3"
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_ABSTRACT_UNKNOWN, _TRANSFER_UNKNOWN = 3, 4
_TITLE = frozenset(map(chr, range(32, 127))) - {"\\"}


@dataclass(frozen=True)
class Allowed:
    """Somebody who may call.

    Args:
        title: Its application entity title.
        hosts: Addresses or networks (CIDR) that it may call from; empty for any.
    """

    title: str
    hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for host in self.hosts:
            try:
                ipaddress.ip_network(host, strict=False)
            except ValueError as error:
                raise ConfigError("an allowed host must be an address or a network such as 10.1.0.0/16") from error

    def matches(self, title: str, host: str) -> bool:
        """Tell whether a caller is this one."""
        if title != self.title:
            return False
        if not self.hosts:
            return True
        address = ipaddress.ip_address(host)
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in ipaddress.ip_network(network, strict=False) for network in self.hosts)


@dataclass(frozen=True)
class TlsFiles:
    """Files of DICOM TLS (BCP 195 profile: TLS 1.2 or newer).

    Args:
        certificate: Ours, with its chain (PEM).
        key: Its key (PEM).
        authorities: Who signs callers' certificates; None: callers need none.
    """

    certificate: Path
    key: Path
    authorities: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Return the server's side.

        Raises:
            ConfigError: A file can't be read, or key and certificate do not fit.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.certificate, self.key)
            if self.authorities is not None:
                context.load_verify_locations(self.authorities)
                context.verify_mode = ssl.CERT_REQUIRED
        except OSError as error:  # an SSLError is one
            raise ConfigError("certificate, key or authorities can't be used: are they PEM, do they fit?") from error
        return context


@dataclass(frozen=True)
class LocalEntity:
    """An application entity of ours.

    Args:
        title: What callers call; 1 to 16 characters.
        port: Where it listens; 0 lets the system choose.
        host: Address it listens on.
        allowed: Who may call; empty lets anybody, which is for tests.
        storage: Storage SOP classes that it takes; empty takes all below 1.2.840.10008.5.1.4.1.1.
        transfer_syntaxes: That it takes, best first.
        tls: Files of TLS; None without.
        associations: Most at one time in one process.
        silence_s: Seconds that a silent caller is borne.
        max_length: Longest data unit that it takes.
    """

    title: str
    port: int = 104
    host: str = "127.0.0.1"
    allowed: tuple[Allowed, ...] = ()
    storage: tuple[str, ...] = ()
    transfer_syntaxes: tuple[str, ...] = UNCOMPRESSED[:2] + COMPRESSED + UNCOMPRESSED[2:]
    tls: TlsFiles | None = None
    associations: int = 32
    silence_s: float = 60.0
    max_length: int = 1 << 18

    def __post_init__(self) -> None:
        if not self.title.strip() or len(self.title) > 16 or not _TITLE.issuperset(self.title):
            raise ConfigError("an application entity title has 1 to 16 characters of ASCII, without a backslash")
        if not 0 <= self.port < 65536:
            raise ConfigError("a port is a number from 0 to 65535")

    @cached_property
    def _syntaxes(self) -> Mapping[str, int]:
        return {syntax: rank for rank, syntax in enumerate(self.transfer_syntaxes)}

    def rejection(self, request: AssociateRequest, host: str) -> Rejection | None:
        """Tell why an association is refused; None where it is not."""
        if request.called != self.title.strip():
            return Rejection(1, 1, 7, "another title was called")
        if self.allowed and not any(one.matches(request.calling, host) for one in self.allowed):
            return Rejection(1, 1, 3, "this caller is not known")
        return None

    def answer(self, proposal: Proposal) -> tuple[int, int, str]:
        """Return number, result and transfer syntax for a presentation context."""
        if not self._takes(proposal.abstract_syntax):
            return proposal.context_id, _ABSTRACT_UNKNOWN, proposal.transfer_syntaxes[0]
        known = [syntax for syntax in proposal.transfer_syntaxes if syntax in self._syntaxes]
        if not known:
            return proposal.context_id, _TRANSFER_UNKNOWN, proposal.transfer_syntaxes[0]
        return proposal.context_id, 0, min(known, key=self._syntaxes.__getitem__)

    def _takes(self, abstract: str) -> bool:
        if abstract in (VERIFICATION, STORAGE_COMMITMENT, MPPS):
            return True
        return abstract in self.storage if self.storage else abstract.startswith(_STORAGE)


@dataclass(frozen=True)
class Rejection:
    """Why an association is refused (PS3.8 table 9-21), and in words for the log."""

    result: int
    source: int
    reason: int
    words: str


def negotiated(entity: LocalEntity, request: AssociateRequest) -> Sequence[tuple[int, int, str]]:
    """Return number, result and transfer syntax of each presentation context of a request."""
    return [entity.answer(proposal) for proposal in request.proposals]
