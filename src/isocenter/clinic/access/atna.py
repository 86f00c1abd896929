"""Events of access as DICOM audit messages, sent by syslog over TLS to an audit repository.

Source:
    DICOM PS3.15 A.5 (audit message), RFC 5424 (syslog), RFC 5425 (over TLS: each message behind its length).
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from typing import Any, Final
from xml.etree import ElementTree

from isocenter.core.errors import TransportError

__all__ = ["SyslogTls", "audit_message", "syslog_frame"]

_Code = tuple[str, str, str]
_EVENTS: Final[dict[str, tuple[_Code, _Code | None]]] = {
    "start": (("110100", "DCM", "Application Activity"), ("110120", "DCM", "Application Start")),
    "stop": (("110100", "DCM", "Application Activity"), ("110121", "DCM", "Application Stop")),
    "login": (("110114", "DCM", "User Authentication"), ("110122", "DCM", "Login")),
    "logout": (("110114", "DCM", "User Authentication"), ("110123", "DCM", "Logout")),
    "record-read": (("110101", "DCM", "Audit Log Used"), None),
    "user-added": (("110113", "DCM", "Security Alert"), ("110136", "DCM", "Security Roles Changed")),
    "user-role": (("110113", "DCM", "Security Alert"), ("110136", "DCM", "Security Roles Changed")),
    "user-revoked": (("110113", "DCM", "Security Alert"), ("110137", "DCM", "User security Attributes Changed")),
    "user-password": (("110113", "DCM", "Security Alert"), ("110137", "DCM", "User security Attributes Changed")),
    "token-added": (("110113", "DCM", "Security Alert"), ("110137", "DCM", "User security Attributes Changed")),
    "token-revoked": (("110113", "DCM", "Security Alert"), ("110137", "DCM", "User security Attributes Changed")),
    "revoked-while-open": (("110114", "DCM", "User Authentication"), ("110123", "DCM", "Logout")),
}
_READ: Final = ("110103", "DICOM Instances Accessed")
_QUERY: Final = ("110112", "Query")
_SOURCE_TYPE: Final = "3"  # PS3.15 A.5.1: a web server process
_PRIORITY: Final = {0: 85, 4: 84, 8: 83, 12: 82}  # facility 10 (security), notice to critical


def audit_message(content: Mapping[str, Any], time: str, node: str, site: str = "") -> bytes:
    """Return the audit message of a line of the record.

    Args:
        content: What the line says.
        time: When, as ISO 8601.
        node: Audit Source ID.
        site: Audit Enterprise Site ID; "" for none.
    """
    root = ElementTree.Element("AuditMessage")
    event = ElementTree.SubElement(
        root,
        "EventIdentification",
        EventActionCode=str(content["act"]),
        EventDateTime=time,
        EventOutcomeIndicator=str(content["outcome"]),
    )
    kind, more = _EVENTS.get(str(content["kind"]), (_accessed(content), None))
    _coded(event, "EventID", kind)
    if more is not None:
        _coded(event, "EventTypeCode", more)
    if content.get("why") or content.get("status"):
        said = " ".join(str(content[k]) for k in ("status", "why") if content.get(k))
        ElementTree.SubElement(event, "EventOutcomeDescription").text = said
    who = ElementTree.SubElement(
        root,
        "ActiveParticipant",
        UserID=str(content.get("who") or content.get("address") or "unknown"),
        UserIsRequestor="true",
    )
    if content.get("address"):
        who.set("NetworkAccessPointID", str(content["address"]))
        who.set("NetworkAccessPointTypeCode", "2")
    if content.get("role"):
        _coded(who, "RoleIDCode", (str(content["role"]), "99ISOCENTER", str(content["role"])))
    ElementTree.SubElement(root, "ActiveParticipant", UserID=node, UserIsRequestor="false")
    source = ElementTree.SubElement(root, "AuditSourceIdentification", AuditSourceID=node)
    if site:
        source.set("AuditEnterpriseSiteID", site)
    ElementTree.SubElement(source, "AuditSourceTypeCode", {"csd-code": _SOURCE_TYPE})
    if content.get("study"):
        study = str(content["study"])
        plain = "." in study
        _object(root, study, "3", ("110180", "DCM", "Study Instance UID") if plain else _DIGEST)
    if content.get("what"):
        _object(root, str(content["what"]), "13", ("12", "RFC-3881", "URI"))
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text


_DIGEST: Final = ("study-sha256", "99ISOCENTER", "SHA-256 of the Study Instance UID")


def _accessed(content: Mapping[str, Any]) -> _Code:
    search = content["act"] == "R" and not content.get("study")
    code, meaning = _QUERY if search else _READ
    return code, "DCM", meaning


def _coded(parent: ElementTree.Element, name: str, code: _Code) -> None:
    attributes = {"csd-code": code[0], "codeSystemName": code[1], "originalText": code[2]}
    ElementTree.SubElement(parent, name, attributes)


def _object(root: ElementTree.Element, identifier: str, role: str, kind: _Code) -> None:
    found = ElementTree.SubElement(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=identifier,
        ParticipantObjectTypeCode="2",
        ParticipantObjectTypeCodeRole=role,
    )
    _coded(found, "ParticipantObjectIDTypeCode", kind)


def syslog_frame(message: bytes, time: str, host: str, process: int, outcome: int = 0) -> bytes:
    """Return a message of syslog as it goes over TLS: its length, a space, and itself.

    Args:
        message: The audit message.
        time: When, as ISO 8601.
        host: Name of this machine.
        process: Number of this process.
        outcome: Of the event; how grave it is follows.
    """
    names = "".join(c for c in host if "!" <= c <= "~")[:255] or "-"
    head = f"<{_PRIORITY.get(outcome, 82)}>1 {time} {names} isocenter {process} IHE+RFC-3881 - \ufeff"
    body = head.encode() + message
    return f"{len(body)} ".encode() + body


class SyslogTls:
    """A connection to an audit repository, opened when it is first needed, and again when it was lost.

    Args:
        host: Its address.
        port: Its port.
        context: TLS, with our certificate where it asks for one.
        timeout_s: Of each step.
    """

    def __init__(self, host: str, port: int, context: ssl.SSLContext, timeout_s: float = 10.0) -> None:
        self._to, self._context, self._timeout = (host, port), context, timeout_s
        self._socket: ssl.SSLSocket | None = None

    def send(self, frames: bytes) -> None:
        """Send frames. Syslog has no answer: that it was sent is all that is known.

        Raises:
            TransportError: It could not be sent.
        """
        try:
            if self._socket is not None and self._is_gone(self._socket):
                self.close()
            if self._socket is None:
                plain = socket.create_connection(self._to, self._timeout)
                try:
                    self._socket = self._context.wrap_socket(plain, server_hostname=self._to[0])
                except BaseException:
                    plain.close()
                    raise
            self._socket.sendall(frames)
        except OSError as error:
            self.close()
            raise TransportError(f"the audit repository can't be reached ({type(error).__name__})") from error

    @staticmethod
    def _is_gone(connection: ssl.SSLSocket) -> bool:
        """Tell whether the other side has closed: what is sent then would be lost without a word."""
        connection.setblocking(False)
        try:
            return connection.recv(1) == b""
        except (ssl.SSLWantReadError, BlockingIOError):
            return False
        except OSError:
            return True
        finally:
            connection.settimeout(10.0)

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
