"""Addresses of servers: which studies of which archive, in one line.

    dicomweb+https://host[:port]/path?KEYWORD=VALUE&...
    dicom://[OWN:]THEIRS@host:port?method=get&KEYWORD=VALUE&...
    dicom://[OWN:]THEIRS@host:port?method=move&listen=[address:]port&KEYWORD=VALUE&...

OWN and THEIRS are application entity titles. What begins with a capital is a keyword of DICOM and chooses studies; what
does not is an option. An address never holds what lets one in: that comes from the environment, or from a file that the
environment names.
"""

from __future__ import annotations

import base64
import json
import ssl
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from isocenter.clinic.retrieve.dimse import DimseNode, retrieve_get, retrieve_move
from isocenter.clinic.retrieve.plan import Patience, Query, Retrieved
from isocenter.clinic.retrieve.web import DicomWebServer, retrieve_dicomweb
from isocenter.clinic.secrecy import in_the_clear
from isocenter.core.errors import ConfigError

__all__ = [
    "CREDENTIALS_VARIABLE",
    "TOKEN_VARIABLE",
    "Access",
    "ServerAddress",
    "access_to",
    "fetch",
    "is_server_address",
    "read_address",
]

Way = Literal["dicomweb", "get", "move"]
TOKEN_VARIABLE = "ISOCENTER_DICOMWEB_TOKEN"  # noqa: S105
"""Holds a bearer token, for the one DICOMweb server of a run."""
CREDENTIALS_VARIABLE = "ISOCENTER_SERVER_CREDENTIALS"
"""Names a JSON file: by "host" or "host:port", any of token; user and password; ca; certificate and key."""
_WEB = ("dicomweb+https", "dicomweb+http")
_OPTIONS = {
    "dicomweb": ("everything", "retries", "timeout_s"),
    "dicom": ("everything", "retries", "timeout_s", "method", "listen", "tls"),
}
_ANY = "0.0.0.0"  # noqa: S104
"""Who is asked to send to us must be able to reach us."""


@dataclass(frozen=True)
class ServerAddress:
    """A server, and which studies of it.

    Args:
        way: How they are fetched.
        host: Its name or address.
        port: Its port; None for the usual one of the web.
        url: Root of its DICOMweb service, "" for DIMSE.
        titles: Our application entity title and theirs, empty for DICOMweb.
        query: Which studies.
        patience: Tries and times.
        listen: Address and port of our store, for C-MOVE.
        tls: Whether DIMSE is encrypted.
    """

    way: Way
    host: str
    port: int | None
    url: str
    titles: tuple[str, str]
    query: Query = field(repr=False)
    patience: Patience
    listen: tuple[str, int] = ("", 0)
    tls: bool = False

    @property
    def name(self) -> str:
        """Return the address without what it asks for, which may name a patient."""
        if self.way == "dicomweb":
            return f"dicomweb+{self.url}"
        return f"dicom://{self.titles[1]}@{self.where}"

    @property
    def where(self) -> str:
        """Return host and port as an address has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def identity(self) -> str:
        """Return what is the same wherever the same studies of the same server are asked for."""
        return "\n".join((self.name, *(f"{k}={v}" for k, v in sorted(self.query.filters.items()) if v)))


@dataclass(frozen=True)
class Access:
    """What lets one in; it never shows itself.

    Args:
        token: Bearer token, "" for none.
        headers: Further headers.
        ca: File of certificates to trust, None for the system's.
        certificate: Files of our own certificate and its key, None for none.
    """

    token: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    ca: Path | None = None
    certificate: tuple[Path, Path] | None = None


def is_server_address(text: str) -> bool:
    """Tell whether a source is a server's address.

    Example:
        >>> is_server_address("dicom://PACS@10.0.0.5:104?PatientID=1"), is_server_address("s3://bucket/x")
        (True, False)
    """
    return text.partition("://")[0].lower() in (*_WEB, "dicom")


def read_address(text: str) -> ServerAddress:
    """Read a server's address.

    Raises:
        ConfigError: It is none, holds a password, or asks for what there is not. The message never repeats it.

    Example:
        >>> made = read_address("dicom://US:PACS@10.0.0.5:104?method=get&AccessionNumber=A1")
        >>> made.way, made.titles, made.name
        ('get', ('US', 'PACS'), 'dicom://PACS@10.0.0.5:104')
    """
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise ConfigError("a server's address has a host, and a port that is a number from 1 to 65535") from error
    if not host or parts.fragment:
        raise ConfigError("a server's address needs a host; # in a value is written %23")
    web = parts.scheme.lower() in _WEB
    filters, options = _asked(parts.query, _OPTIONS["dicomweb" if web else "dicom"])
    query = Query(filters, everything=_yes(options, "everything"))
    patience = _patience(options)
    if web:
        if "@" in parts.netloc:
            raise ConfigError(
                f"a server's address holds no user and no password: put them into the file that "
                f"{CREDENTIALS_VARIABLE} names"
            )
        url = f"{parts.scheme.lower().removeprefix('dicomweb+')}://{parts.netloc.lower()}{parts.path.rstrip('/')}"
        return ServerAddress("dicomweb", host, port, url, ("", ""), query, patience)
    return _dimse(parts, host, port, query, patience, options)


def access_to(addresses: Iterable[ServerAddress], environ: Mapping[str, str]) -> list[Access]:
    """Find what lets one in, for each address.

    Args:
        addresses: Of one run.
        environ: The environment.

    Raises:
        ConfigError: The file can't be read, may be read by others or has entries that are none; one token is given for
            several servers; a secret would travel in the clear.
    """
    listed = list(addresses)
    known = _credentials(environ.get(CREDENTIALS_VARIABLE, ""))
    token = environ.get(TOKEN_VARIABLE, "")
    if token and len({a.where for a in listed if a.way == "dicomweb"}) > 1:
        raise ConfigError(
            f"{TOKEN_VARIABLE} would be sent to several servers; give each its own in the file that "
            f"{CREDENTIALS_VARIABLE} names"
        )
    out = []
    for address in listed:
        entry = known.get(address.where, known.get(address.host, {}))
        own = entry.get("token", "") or (token if address.way == "dicomweb" else "")
        headers = {}
        if "user" in entry:
            pair = f"{entry['user']}:{entry.get('password', '')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode('ascii')}"
        if (own or headers) and in_the_clear(address.url):
            raise ConfigError("a secret over http:// could be read by anybody on the way; use dicomweb+https://")
        certificate = (Path(entry["certificate"]), Path(entry["key"])) if "certificate" in entry else None
        ca = Path(entry["ca"]) if "ca" in entry else None
        out.append(Access("" if headers else own, headers, ca, certificate))
    return out


def fetch(
    address: ServerAddress,
    access: Access,
    to: Path,
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> Retrieved:
    """Fetch the studies of an address into STUDY/SERIES/INSTANCE.dcm below a folder; what is there stays.

    Args:
        address: Where, and which.
        access: What lets one in.
        to: The folder.
        progress: Called with a study's UID, its number and how many there are, before it is fetched.

    Raises:
        CapabilityError: httpx or pynetdicom is not installed.
        TransportError: The other system does not answer, does not let us in, or can't say what it has.
        OutputError: The folder can't be written, the disk is full.
    """
    patience = address.patience
    if address.way == "dicomweb":
        verify: bool | Path = True if access.ca is None else access.ca
        server = DicomWebServer(address.url, access.token, access.headers, verify, access.certificate)
        return retrieve_dicomweb(server, address.query, to, patience=patience, progress=progress)
    context = _context(access) if address.tls else None
    node = DimseNode(address.host, address.port or 104, address.titles[1], address.titles[0], context)
    if address.way == "get":
        return retrieve_get(node, address.query, to, patience=patience, progress=progress)
    return retrieve_move(node, address.query, to, listen=address.listen, patience=patience, progress=progress)


def _asked(text: str, options: tuple[str, ...]) -> tuple[dict[str, str], dict[str, str]]:
    """Return filters and options of an address's query."""
    filters: dict[str, str] = {}
    chosen: dict[str, str] = {}
    for key, value in parse_qsl(text, keep_blank_values=True):
        into = filters if key[:1].isupper() else chosen
        if key in into:
            raise ConfigError(f"{key} stands twice in a server's address; name it once")
        if into is chosen and key not in options:
            raise ConfigError(
                f"a server's address has keywords of DICOM (PatientID, StudyDate, ...) and {', '.join(options)}; "
                "anything else, and any secret, does not belong there"
            )
        into[key] = value
    return filters, chosen


def _dimse(
    parts: SplitResult, host: str, port: int | None, query: Query, patience: Patience, options: Mapping[str, str]
) -> ServerAddress:
    if not port or parts.path not in ("", "/"):
        raise ConfigError("an address of DIMSE is dicom://[OWN:]THEIRS@host:port?method=get&PatientID=..., with a port")
    method = options.get("method", "get")
    if method not in ("get", "move"):
        raise ConfigError("method is get (C-GET) or move (C-MOVE)")
    titles = [unquote(title) for title in parts.netloc.rpartition("@")[0].split(":")]
    if len(titles) == 1:
        titles.insert(0, "ISOCENTER")
    if len(titles) != 2:
        raise ConfigError("before the @ stands their application entity title, or ours, a colon and theirs")
    DimseNode(host, port, titles[1], titles[0])  # its own checks come before any work
    listen = ("", 0)
    if method == "move":
        place, _, number = options.get("listen", "").rpartition(":")
        if not number.isdecimal() or not 0 < int(number) < 65536:
            raise ConfigError(
                "method=move needs listen=PORT, or listen=ADDRESS:PORT: where the other system sends to, as it knows us"
            )
        listen = (place.strip("[]") or _ANY, int(number))
    elif "listen" in options:
        raise ConfigError("listen is for method=move; C-GET needs no port of ours")
    way: Way = "move" if method == "move" else "get"
    tls = _yes(options, "tls")
    return ServerAddress(way, host, port, "", (titles[0], titles[1]), query, patience, listen, tls)


def _yes(options: Mapping[str, str], name: str) -> bool:
    told = options.get(name, "no")
    if told not in ("yes", "no"):
        raise ConfigError(f"{name} is yes or no")
    return told == "yes"


def _patience(options: Mapping[str, str]) -> Patience:
    usual = Patience()
    try:
        retries = int(options.get("retries", usual.retries))
        timeout_s = float(options.get("timeout_s", usual.timeout_s))
    except ValueError as error:
        raise ConfigError("retries and timeout_s are numbers") from error
    return Patience(retries=retries, timeout_s=timeout_s)


def _credentials(file: str) -> dict[str, dict[str, str]]:
    if not file:
        return {}
    path = Path(file)
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ConfigError(f"others may read the file that {CREDENTIALS_VARIABLE} names; chmod 600 it")
        found: Any = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"the file that {CREDENTIALS_VARIABLE} names can't be read; correct its path") from error
    except ValueError as error:
        raise ConfigError(f"the file that {CREDENTIALS_VARIABLE} names is no JSON") from error
    words = {"token", "user", "password", "ca", "certificate", "key"}
    good = isinstance(found, dict) and all(
        isinstance(entry, dict)
        and set(entry) <= words
        and all(isinstance(value, str) for value in entry.values())
        and ("certificate" in entry) == ("key" in entry)
        for entry in found.values()
    )
    if not good:
        raise ConfigError(
            f"the file that {CREDENTIALS_VARIABLE} names is an object: by host, or host:port, any of token; user and "
            "password; ca; certificate and key"
        )
    return {str(where).lower(): entry for where, entry in found.items()}


def _context(access: Access) -> ssl.SSLContext:
    try:
        made = ssl.create_default_context(cafile=None if access.ca is None else str(access.ca))
        if access.certificate is not None:
            made.load_cert_chain(*(str(part) for part in access.certificate))
    except OSError as error:
        raise ConfigError("a file of certificates can't be read; check its path and form") from error
    return made
