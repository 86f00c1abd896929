"""What is thrown at a node: well-formed seeds, made wrong by a seeded generator, over DIMSE, MLLP and HTTP.

An attack sends something and looks at what came back; `Target.taken` remembers what was answered with success, which
must then be held, and `Target.wrong` what may never be answered.
"""

from __future__ import annotations

import functools
import json
import random
import socket
import struct
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import httpx
from pydicom import Dataset

from benchmarks._fuzz_bytes import (
    BIG,
    CANARY,
    COMMITMENT,
    CONTEXTS,
    CT,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    MPPS,
    PATIENCE_S,
    RLE,
    TOKEN,
    VERIFICATION,
    Caller,
    Target,
    body_of,
    command,
    data_unit,
    dataset,
    element,
    item,
    message,
    nested,
    part10,
    pdu,
    request,
    spoiled,
    store_command,
    twisted,
)  # fmt: skip

_KINDS = {2: "accepted", 3: "rejected", 4: "answered", 6: "released", 7: "aborted"}


def _answered(target: Target, caller: Caller, what: str, patience_s: float = 0.5) -> None:
    got = caller.unit(patience_s)
    target.say(f"{what}: {'nothing, or closed' if got is None else _KINDS.get(got[0], 'other')}")


def units(target: Target, chance: random.Random) -> None:
    """Protocol data units that are none, or come when they may not."""
    with Caller(target) as caller:
        kind = chance.randrange(11)
        good = pdu(1, request(CONTEXTS))
        if kind == 0:
            caller.send(spoiled(chance, good))
        elif kind == 1:
            caller.send(pdu(chance.randrange(256), chance.randbytes(chance.choice((0, 4, 70, 3000)))))
        elif kind == 2:
            caller.send(pdu(chance.choice((1, 4)), b"", chance.choice((1 << 17, 1 << 20, 0x7FFFFFFF, 0xFFFFFFFF))))
            caller.send(chance.randbytes(4096))
        elif kind == 3:
            caller.send(message(1, command({0x0002: VERIFICATION, 0x0100: 0x30, 0x0110: 1, 0x0800: 0x0101})))
        elif kind == 4:
            for at in range(min(len(good), 60)):
                caller.send(good[at : at + 1])
                time.sleep(0.004)
        elif kind == 5:
            caller.send(good[: chance.randrange(len(good))])
            return
        elif kind == 6:
            syntax = "1." * chance.choice((10, 40, 500, 30000)) + "2"
            wide = item(0x40, chance.choice((syntax[:65000].encode(), b"\xff" * chance.choice((64, 30000, 65000)))))
            body = request(())[:-1] + b"Z"
            context = bytes((1, 0, 0, 0)) + item(0x30, CT.encode()) + wide
            caller.send(pdu(1, body + item(0x20, context)) if len(context) < 65536 else good)
        elif kind == 7:
            numbers = chance.choice(((0,), (129,), (1, 1), tuple(range(1, 256, 2)), (255,)))
            caller.send(pdu(1, request([(n, CT, (EXPLICIT, IMPLICIT)) for n in numbers])))
        elif kind == 8:
            caller.send(pdu(1, request(CONTEXTS, called=chance.choice(("", "SOMEBODY", "FUZZED\0X", "ÿÿ")[:3]))))
        else:
            deep = b""
            for _ in range(chance.choice((2, 30, 900))):
                deep = item(chance.choice((0x20, 0x50, 0x54, 0x58)), deep + b"\0\1\0\0")[:60000]
            caller.send(pdu(1, request(CONTEXTS) + deep))
        _answered(target, caller, "association request")


def _odd_command(chance: random.Random, sop: str) -> bytes:
    return command(
        {
            0x0002: chance.choice((CT, MPPS, COMMITMENT)),
            0x0100: chance.randrange(65536),
            0x0110: 7,
            0x0800: chance.choice((0, 1, 0x0101)),
            0x1000: chance.choice((sop, "", "1." * 31, "x")),
        }
    )


def conversation(target: Target, chance: random.Random) -> None:  # noqa: C901  # a list of things to do
    """An association that goes wrong after it was accepted."""
    with Caller(target) as caller:
        if not caller.associated(most=chance.choice((0, 1, 11, 12, 13, 1 << 14, 0xFFFFFFFF))):
            target.err("a well-formed association was not accepted")
            return
        sop = target.uid()
        echo = command({0x0002: VERIFICATION, 0x0100: 0x30, 0x0110: 1, 0x0800: 0x0101})
        kind = chance.randrange(12)
        if kind == 0:
            caller.send(message(1, spoiled(chance, echo)))
        elif kind == 1:
            caller.send(message(3, spoiled(chance, store_command(sop)), b"\0" * 64))
        elif kind == 2:
            caller.send(spoiled(chance, message(3, store_command(sop), body_of(dataset(target, sop)))))
        elif kind == 3:
            caller.send(data_unit(chance.choice((0, 2, 17, 129, 255)), chance.randrange(256), echo))
        elif kind == 4:
            caller.send(data_unit(3, 3, store_command(sop)) + data_unit(3, 0, b"\0" * 100))
            caller.send(chance.choice((pdu(7, b"\0\0\0\0"), pdu(5, bytes(4)), data_unit(3, 3, echo), pdu(1, b""))))
        elif kind == 5:
            caller.send(data_unit(3, 3, store_command(sop)))
            for _ in range(chance.choice((100, 3000))):
                caller.send(data_unit(3, 0, b"") * 40)
        elif kind == 6:
            caller.send(data_unit(1, 1, b"\0" * 4000) * chance.choice((1, 30)))
        elif kind == 7:
            caller.send(message(chance.choice((1, 3, 11, 13)), _odd_command(chance, sop), chance.randbytes(50)))
        elif kind == 8:
            caller.send(pdu(chance.choice((1, 2, 3, 6)), chance.randbytes(80)))
        elif kind == 9:
            # a message in the smallest pieces there are, many of them empty
            body = body_of(dataset(target, sop))
            pieces = b"".join(data_unit(3, 0, body[at : at + 1]) for at in range(len(body))) + data_unit(3, 2, b"")
            caller.send(data_unit(3, 3, store_command(sop)) + pieces)
            if caller.status() == 0:
                target.took(sop, body)
            return
        elif kind == 10:
            caller.send(message(1, echo) * chance.choice((1, 200)))
            return  # gone without a word, answers unread
        else:
            caller.send(data_unit(3, 3, store_command(sop)) + data_unit(3, 0, b"\0" * 9000))
            return  # half an association
        _answered(target, caller, "conversation", 0.3)


def instances(target: Target, chance: random.Random) -> None:
    """Data sets that are none, in every transfer syntax that is offered."""
    with Caller(target) as caller:
        if not caller.associated():
            target.err("a well-formed association was not accepted")
            return
        for number in range(4):
            sop = target.uid()
            context, syntax = chance.choice(((3, EXPLICIT), (3, EXPLICIT), (5, IMPLICIT), (7, BIG), (15, RLE)))
            if syntax == RLE:
                one = dataset(target, sop)
                raw = body_of(one)
                at = raw.find(b"\xe0\x7f\x10\x00")
                frames = struct.pack("<HHI", 0xFFFE, 0xE000, 0) + struct.pack("<HHI", 0xFFFE, 0xE000, 64) + bytes(64)
                data = raw[:at] + b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff" + frames
                data += b"\xfe\xff\xdd\xe0\0\0\0\0" if chance.random() < 0.5 else b""
            else:
                data = twisted(chance, target, sop, syntax)
            data += b"\0" * (len(data) % 2 and chance.random() < 0.5)
            caller.send(message(context, store_command(sop, number + 1), data, chance.choice((256, 1 << 14))))
            status = caller.status()
            target.say("C-STORE: " + ("none" if status is None else f"{status:04X}"))
            if status == 0:
                target.took(sop, data)
            elif status is None:
                target.err("a C-STORE in good form was not answered")
                return
        caller.send(pdu(5, bytes(4)))


def services(target: Target, chance: random.Random) -> None:
    """Storage commitment and performed procedure steps with data sets that are none."""
    with Caller(target) as caller:
        if not caller.associated():
            target.err("a well-formed association was not accepted")
            return
        for number in range(3):
            asked = Dataset()
            uid = target.uid()
            if chance.random() < 0.5:
                context = 11
                told = command({0x0003: COMMITMENT, 0x0100: 0x0130, 0x0110: number, 0x0800: 1,
                                0x1001: f"{COMMITMENT}.1", 0x1008: chance.choice((1, 1, 2))})  # fmt: skip
                asked.TransactionUID = uid
                inner = Dataset()
                inner.ReferencedSOPClassUID, inner.ReferencedSOPInstanceUID = CT, f"{target.root}.1"
                asked.ReferencedSOPSequence = [inner]
            else:
                context = 13
                kind = chance.choice((0x0140, 0x0120))
                told = command({0x0002: MPPS, 0x0100: kind, 0x0110: number, 0x0800: 1, 0x1000: uid})
                inner = Dataset()
                inner.StudyInstanceUID = f"{target.root}.9.1"
                asked.ScheduledStepAttributesSequence = [inner]
                asked.PerformedProcedureStepStatus = "IN PROGRESS"
                asked.PatientName, asked.PatientID = f"{CANARY}^Step", f"{CANARY}-8"
                asked.PerformedProcedureStepStartDate = chance.choice(("20260101", "99999999", "2026"))
                asked.PerformedProcedureStepStartTime = "120000"
            data = body_of(asked)
            choice = chance.randrange(5)
            if choice == 0:
                data = spoiled(chance, data)
            elif choice == 1:
                data = data[: data.find(b"SQ")] + b"LO" + data[data.find(b"SQ") + 2 :]
            elif choice == 2:
                data += nested(chance.choice((3, 400, 3000)))
            elif choice == 3:
                data = chance.randbytes(200)
            caller.send(message(context, told, data))
            status = caller.status()
            target.say("service: " + ("none" if status is None else f"{status:04X}"))
            if status is None:
                target.err("a message in good form was not answered")
                return


# ---- HL7

ORDER = (
    "MSH|^~\\&|RIS|HOSP|NODE||20260101||OMI^O23^OMI_O23|{control}|P|2.5.1||||||UNICODE UTF-8\r"
    f"PID|1||{CANARY}-9^^^HOSP||{CANARY}^Max\r"
    "ORC|NW|PL{control}\rTQ1|1||||||||S\rOBR|1|PL{control}||CT^CT^L\rIPC|{control}|RP1|{study}|SPS1|CT\r"
)


def spoken(target: Target, sent: bytes, patience_s: float = PATIENCE_S) -> list[bytes]:
    """Send bytes by MLLP, and return the answers of the first moment."""
    with socket.create_connection(("127.0.0.1", target.hl7), timeout=patience_s) as line:
        got = b""
        with suppress(OSError):
            line.sendall(sent)
            while not got.endswith(b"\x1c\r") and (piece := line.recv(65536)):
                got += piece
        return [one.partition(b"\x0b")[2] for one in got.split(b"\x1c\r")[:-1]]


def orders(target: Target, chance: random.Random) -> None:
    """Messages that are none, in good frames and in bad ones."""
    control = target.uid().rpartition(".")[2]
    good = ORDER.format(control=f"F{control}", study=target.root + ".9.3").encode()
    kind = chance.randrange(9)
    if kind == 0:
        good = spoiled(chance, good)
    elif kind == 1:
        marks = chance.choice(
            (b"|^~\\&", b"||||||", b"\r\r\r\r\r", b"^|~\\&", b"|^~", b"\x00\x01\x02\x03\x04", b"|^^^^")
        )
        good = b"MSH" + marks + good[8:]
    elif kind == 2:
        good = good.replace(
            b"UNICODE UTF-8", chance.choice((b"8859/1", b"ISO IR87", b"NONE", b"~~~", b"\xff", b"UTF-16"))
        )
        good = good.replace(
            b"^Max", chance.choice((b"^\xff\xfe", b"^\xed\xa0\x80", b"^\\X0D0A\\", b"^\\XZZ\\", b"^\\" * 300))
        )
    elif kind == 3:
        good = good.replace(b"RP1", b"R" * chance.choice((70_000, 3_000_000, 5_000_000)))
    elif kind == 4:
        good += b"OBX|1|TX|||a\r" * chance.choice((100, 20_000))
    elif kind == 5:
        good = good.replace(b"|1|", b"|" + b"~" * chance.choice((10, 50_000)) + b"|", 1)
    elif kind == 6:
        good = good.replace(b"NW", chance.choice((b"ZZ", b"", b"CA", b"XO"))).replace(
            b"2.5.1", chance.choice((b"2.5.1", b"3", b""))
        )
    elif kind == 7:
        good = good.replace(b"OMI^O23", chance.choice((b"ORU^R01", b"ADT^A01", b"ORM^O01", b"^", b"OMI^O23^^^")))
    frame = b"\x0b" + good + b"\x1c\r"
    if b"\x1c\r" in good or b"\x0b" in good or chance.random() < 0.2:
        frame = chance.choice((good, b"\x0b" * 3 + good, frame[:-1], frame[: len(frame) // 2], chance.randbytes(2000)))
        answers = spoken(target, frame, 0.3)
        target.say(f"HL7, broken frame: {'answered' if answers else 'nothing'}")
        return
    answers = spoken(target, frame)
    code = next((one.split(b"\rMSA|")[1][:2].decode("ascii", "replace") for one in answers if b"\rMSA|" in one), "none")
    target.say(f"HL7: {code}")
    if code == "none":
        target.err("a message in a good frame was not answered")
    elif code == "AA":
        target.heard(good)


# ---- HTTP


@functools.cache
def _web(port: int) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S)


def asked(target: Target, method: str, path: str, *, token: bool = True, **given: Any) -> httpx.Response | None:
    """Ask the web server; an answer of 500 may not be, nor one to somebody without a token."""
    headers = {**given.pop("headers", {}), **({"Authorization": f"Bearer {TOKEN}"} if token else {})}
    try:
        answer = _web(target.web).request(method, path, headers=headers, **given)
    except httpx.TimeoutException:
        target.err(f"no answer in time to {method} {path[:40]}")
        return None
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, ValueError):
        return None
    target.say(f"HTTP: {answer.status_code}")
    if answer.status_code >= 500 and answer.status_code not in (501, 503, 507):
        target.err(f"{answer.status_code} to {method} {path.partition('?')[0][:60]}")
    if not token and answer.status_code < 400 and path.partition("?")[0] not in ("/health", "/ready"):
        target.err(f"{answer.status_code} without a token to {method} {path[:40]}")
    return answer


WORKITEM: dict[str, Any] = {
    "00741000": {"vr": "CS", "Value": ["SCHEDULED"]}, "00741200": {"vr": "CS", "Value": ["MEDIUM"]},
    "00741204": {"vr": "LO", "Value": ["fuzz"]}, "00404005": {"vr": "DT", "Value": ["20260101120000"]},
    "00404041": {"vr": "CS", "Value": ["READY"]}, "00100010": {"vr": "PN", "Value": [{"Alphabetic": CANARY}]},
    "00404021": {"vr": "SQ", "Value": [{"00080050": {"vr": "SH", "Value": ["1"]}}]},
}  # fmt: skip


def _nasty(chance: random.Random) -> Any:
    deep: Any = []
    for _ in range(chance.choice((5, 80, 200))):  # three levels each, and Python writes a thousand
        deep = [deep] if chance.random() < 0.5 else {"00080050": {"vr": "SQ", "Value": [deep]}}
    return chance.choice((
        None, True, -1, 1e308 * 10, float("nan"), 10**30, "", "x" * 100_000, "\ud800", "\0", [], {}, [[]], deep,
        {"vr": "SQ"}, {"vr": "DS", "Value": ["x"]}, {"vr": "PN", "Value": ["x"]}, {"vr": "??", "Value": 3},
        {"Alphabetic": 3}, {"vr": "US", "Value": [-1e400]}, {"vr": "OB", "InlineBinary": "!"},
    ))  # fmt: skip


def _twist(chance: random.Random, value: Any) -> Any:
    """Return a JSON value with something in it replaced."""
    if chance.random() < 0.25 or not isinstance(value, dict | list) or not value:
        return _nasty(chance)
    made = dict(value) if isinstance(value, dict) else list(value)
    key = chance.choice(list(made)) if isinstance(made, dict) else chance.randrange(len(made))
    made[key] = _twist(chance, made[key])
    if isinstance(made, dict) and chance.random() < 0.2:
        made[chance.choice(("", "00000000", "FFFFFFFF", "7FE00010", "x" * 300, "0008005"))] = _nasty(chance)
    return made


def workitems(target: Target, chance: random.Random) -> None:
    """The worklist with JSON that is wrong, and with states out of turn."""
    uid = target.uid()
    body: Any = WORKITEM if chance.random() < 0.2 else _twist(chance, WORKITEM)
    raw = json.dumps(body).encode()
    if chance.random() < 0.2:
        raw = spoiled(chance, raw)
    elif chance.random() < 0.05:
        depth = chance.choice((1000, 100_000))
        raw = raw.replace(b'"MEDIUM"', b"[" * depth + b"]" * depth)
    token = chance.random() < 0.9
    kind = {"content-type": "application/dicom+json"}
    asked(target, "POST", f"/dicomweb/workitems?workitem={uid}", content=raw, headers=kind, token=token)
    state = {"00741000": {"vr": "CS", "Value": ["IN PROGRESS"]}, "00081195": {"vr": "UI", "Value": [uid]}}
    wrong = json.dumps(_twist(chance, state) if chance.random() < 0.6 else state)
    asked(target, "PUT", f"/dicomweb/workitems/{uid}/state", content=wrong.encode(), headers=kind, token=token)
    asked(target, "GET", f"/dicomweb/workitems/{uid}", token=token)
    asked(target, "GET", "/dicomweb/workitems?limit=5", token=token)


_VALUES = (
    "*", "1.2.3", "", "%00", "a" * 1100, "*a" * 9, "*A" * 8 + "z", "20260101-", "-", "-20269999", "\\", "\N{LUNGS}",
    "'--", "..", "1e400", "99999999999999999999", "0", "-1", "NaN", "%ff%fe", "00100010", "all", ",,,", "true",
)  # fmt: skip
_NAMES = (
    "PatientName", "PatientID", "StudyDate", "StudyInstanceUID", "ModalitiesInStudy", "limit", "offset", "includefield",
    "fuzzymatching", "00100010", "FFFFFFFF", "00741000", "SeriesNumber", "NumberOfFrames", "accept", "viewport",
    "window", "quality", "x", "", "AccessionNumber", "after", "filter",
)  # fmt: skip
_MEDIA = (
    "*/*", "application/dicom+json", 'multipart/related; type="application/dicom"; transfer-syntax=*', "image/png",
    ";;;", "application/octet-stream", "image/jpeg;q=9", "a/b;q=0.1,,,", "application/dicom; transfer-syntax=1.2.3",
    "x" * 3000, '"' + '\\"' * 20_000,
)  # fmt: skip
_HEADERS = ({"host": "evil"}, {"origin": "http://evil"}, {"content-length": "x"}, {"range": "bytes=9-1"})


def queries(target: Target, chance: random.Random, paths: Sequence[tuple[str, str]]) -> None:
    """Every route of the node with wrong paths, parameters and headers."""
    for _ in range(4):
        method, path = chance.choice(paths)
        known = chance.choice(list(target.taken) or ["1.2"])
        while "{" in path:
            before, _, rest = path.partition("{")
            inner, _, after = rest.partition("}")
            value = {"study": f"{target.root}.9.{chance.randrange(40)}", "sop": known}.get(
                inner, chance.choice(_VALUES)
            )
            path = before + (chance.choice(_VALUES) if chance.random() < 0.3 else value) + after
        pairs = [f"{chance.choice(_NAMES)}={chance.choice(_VALUES)}" for _ in range(chance.randrange(4))]
        headers = {"accept": chance.choice(_MEDIA)} if chance.random() < 0.6 else {}
        if chance.random() < 0.1:
            headers |= chance.choice(_HEADERS)
        asked(
            target,
            method,
            path + ("?" + "&".join(pairs) if pairs else ""),
            headers=headers,
            token=chance.random() < 0.85,
        )


def stored(target: Target, chance: random.Random) -> None:
    """STOW-RS: parts that are no DICOM, multipart that is none, deflated bombs."""
    parts, sent = [], []
    for _ in range(chance.randint(1, 3)):
        sop = target.uid()
        syntax = chance.choice((EXPLICIT, IMPLICIT, BIG))
        content = part10(dataset(target, sop), syntax)
        at = 144 + int.from_bytes(content[140:144], "little")
        kind = chance.randrange(5)
        if kind == 0:
            content = content[:at] + twisted(chance, target, sop, syntax)
        elif kind == 1:
            content = content[:132] + spoiled(chance, content[132:at]) + content[at:]
        elif kind == 2:
            size = chance.choice((0, 1 << 20, 64 << 20))
            packed = zlib.compressobj(9, wbits=-15)
            one = dataset(target, sop)
            one.PixelData = b""
            raw = body_of(one)[:-12] + element(0x7FE00010, b"OW", b"", size)
            pressed = packed.compress(raw) + packed.compress(bytes(size)) + packed.flush()
            head = part10(dataset(target, sop), EXPLICIT)[:at]
            content = _as_deflated(head) + (pressed if chance.random() < 0.7 else pressed[: len(pressed) // 2])
        parts.append(content)
        sent.append((sop, content))
    boundary = chance.choice((b"b", b"x" * 70, b"fuzz-boundary"))
    body = b"".join(b"--" + boundary + b"\r\nContent-Type: application/dicom\r\n\r\n" + p + b"\r\n" for p in parts)
    body += b"--" + boundary + b"--\r\n"
    if chance.random() < 0.3:
        body = spoiled(chance, body)
        sent = []
    told = f'multipart/related; type="application/dicom"; boundary={boundary.decode()}'
    answer = asked(target, "POST", "/dicomweb/studies", content=body, headers={"content-type": told})
    if answer is None or answer.status_code not in (200, 202):
        return
    with suppress(ValueError, KeyError):
        for one in answer.json().get("00081199", {}).get("Value", ()):
            sop = one["00081155"]["Value"][0]
            for mine, content in sent:
                if mine == sop:
                    target.took(sop, content[144 + int.from_bytes(content[140:144], "little") :])


def _as_deflated(head: bytes) -> bytes:
    """Return File Meta Information that says deflated."""
    old = EXPLICIT.encode() + b"\0"
    new = DEFLATED.encode()
    at = head.find(b"\x02\x00\x10\x00UI")
    changed = head[: at + 6] + len(new).to_bytes(2, "little") + new + head[at + 8 + len(old) :]
    length = int.from_bytes(head[140:144], "little") + len(new) - len(old)
    return changed[:140] + length.to_bytes(4, "little") + changed[144:]


def raw_http(target: Target, chance: random.Random) -> None:
    """Bytes that are no HTTP, or stop in the middle."""
    good = (
        f"POST /dicomweb/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"
        'Content-Type: multipart/related; type="application/dicom"; boundary=b\r\nTransfer-Encoding: chunked\r\n\r\n'
        "20\r\n--b\r\nContent-Type: application/dicom\r\n\r\n0\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", target.web), timeout=1) as line, suppress(OSError):
        line.sendall(chance.choice((spoiled(chance, good), good[: chance.randrange(len(good))], chance.randbytes(500),
                                    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 3000, b"GET /" + b"a" * 70000)))  # fmt: skip
        line.settimeout(0.2)
        got = line.recv(100)
        target.say(f"raw HTTP: {got[9:12].decode('ascii', 'replace') if got else 'closed'}")


Attack = Callable[[Target, random.Random], None]


def attacks(paths: Sequence[tuple[str, str]]) -> dict[str, Attack]:
    """Return all attacks by name, in the order in which they take turns."""
    return {
        "protocol data units": units, "HL7 messages": orders, "data sets by C-STORE": instances,
        "workitems (JSON)": workitems, "messages on an association": conversation, "STOW-RS bodies": stored,
        "services (commitment, steps)": services, "queries": functools.partial(queries, paths=paths),
        "raw HTTP": raw_http,
    }  # fmt: skip
