"""HL7 v2 ORU to rows: an OBR with its OBX is a report, records, or both.

Texts (TX, FT, and ST beside them or under a section's code) are the report's; numbers, codes, dates and single words
are records. What was deleted or entered in error (OBX-11 D, W) is no statement. A later message with the same filler
number replaces an earlier one: both come out, the engine keeps the last.

Source:
    HL7 v2.5.1, chapter 7 (ORU^R01, OBR, OBX); IHE Radiology Technical Framework, ZDS segment and OBR-18.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BufferedIOBase, BytesIO

from isocenter.core.errors import DataError
from isocenter.data.records.hl7.message import Message, Segment, parse_message, split_stream
from isocenter.data.records.hl7.patients import clinician_names, patient_of
from isocenter.data.records.hl7.values import coded, document, section_of, values_of
from isocenter.data.records.moments import hl7_moment
from isocenter.data.records.people import is_ucum
from isocenter.data.records.rows import Found, RawPatient, RawRecord, RawReport, Refusal, Status, merge

__all__ = ["read_hl7", "stream_hl7"]

_STATES: dict[str, Status] = {
    "F": "final", "P": "preliminary", "R": "preliminary", "A": "preliminary", "C": "corrected", "X": "cancelled",
    "O": "registered", "I": "registered", "S": "registered", "U": "final", "D": "withdrawn", "W": "withdrawn",
}  # fmt: skip
"""HL7 tables 0123 (OBR-25) and 0085 (OBX-11)."""
_KNOWN = frozenset(
    ("MSH", "PID", "PD1", "PV1", "PV2", "NK1", "ORC", "OBR", "OBX", "NTE", "ZDS", "IPC", "SFT", "TQ1", "DSC", "CTI",
     "CTD", "FT1", "SPM", "SAC", "UAC", "EVN", "TQ2", "OBR", "PRT", "ROL")
)  # fmt: skip
_STUDY = "113014"
"""DCM code of an OBX that holds the Study Instance UID."""


@dataclass
class _Order:
    """One OBR and what belongs to it."""

    obr: Segment
    orc: Segment | None
    number: int
    results: list[tuple[int, Segment]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    uids: list[str] = field(default_factory=list)
    ipc: Segment | None = None


@dataclass
class _Person:
    """One PID and what belongs to it."""

    pid: Segment
    beside: list[Segment] = field(default_factory=list)
    orders: list[_Order] = field(default_factory=list)
    uids: list[str] = field(default_factory=list)
    ipc: Segment | None = None


def read_hl7(data: bytes, source: str = "HL7") -> Found:
    r"""Read all messages of bytes.

    Args:
        data: A message, several, a batch, or with the frame of MLLP.
        source: What they are called in refusals.

    Example:
        >>> message = b"MSH|^~\\&|||||||ORU^R01|1|P|2.5\rPID|||4711^^^A\rOBR|1||A1|CT\rOBX|1|TX|CT||Clear.||||||F\r"
        >>> found = read_hl7(message)
        >>> found.reports[0].patient, found.reports[0].accession, found.reports[0].sections
        ('4711', 'A1', (('', 'Clear.'),))
    """
    return merge(stream_hl7(BytesIO(data), source))


def stream_hl7(stream: BufferedIOBase, source: str = "HL7") -> Iterator[Found]:
    """Yield what each message of a stream holds; memory does not grow with their number.

    Raises:
        DataError: The stream holds a message without an end.
    """
    messages = 0
    in_batch: int | None = None
    for place, piece in enumerate(split_stream(stream), start=1):
        kind = piece[:3]
        where = f"{source}: message {messages + 1}"
        if kind in (b"FHS", b"BHS"):
            in_batch = messages if kind == b"BHS" else in_batch
            continue
        if kind == b"FTS":
            continue
        if kind == b"BTS":
            counted = messages - (in_batch or 0)
            stated = piece.split(piece[3:4])[1:2] if len(piece) > 3 else []
            if stated and stated[0].strip().isdigit() and int(stated[0]) != counted:
                reason = f"the batch says that it has {int(stated[0])} messages, and has {counted}; fetch it again"
                yield Found(refused=(Refusal(source, reason),))
            continue
        if kind != b"MSH":
            yield Found(refused=(Refusal(f"{source}: piece {place}", "stands before the first MSH; no message"),))
            continue
        messages += 1
        try:
            yield _of_message(parse_message(piece), where)
        except DataError as error:
            yield Found(refused=(Refusal(where, str(error)),))
    if not messages:
        yield Found(refused=(Refusal(source, "holds no HL7 message"),))


def _of_message(message: Message, where: str) -> Found:
    header = message.header
    kind = (header.text(9), header.text(9, 2), header.text(9, 3))
    notes = tuple(f"{where}: {note}" for note in message.notes)
    if kind[0] != "ORU" and not kind[2].startswith("ORU"):
        told = "^".join(part for part in kind[:2] if re.fullmatch("[A-Z][A-Z0-9]{2}", part)) or "of no type"
        return Found(refused=(Refusal(where, f"a message {told}, not ORU; only results are read", "ignored"),))
    refused = [Refusal(f"{where}, line {n}", "no segment; it is left out") for n in message.strange]
    people = _grouped(message.segments, where, refused)
    if not people:
        return Found(refused=(*refused, Refusal(where, "has no PID; whose result it is can't be told")), notes=notes)
    parts = [_of_person(person, header, where) for person in people]
    return merge([Found(refused=tuple(refused), notes=notes), *parts])


def _grouped(segments: Sequence[Segment], where: str, refused: list[Refusal]) -> list[_Person]:
    people: list[_Person] = []
    orc: Segment | None = None
    counts: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    for segment in segments[1:]:
        name = segment.name
        counts[name] += 1
        if name == "PID":
            people.append(_Person(segment))
            orc = None
        elif not people:
            if name in ("ORC", "OBR", "OBX", "NTE", "ZDS", "IPC"):
                refused.append(Refusal(f"{where}, {name} {counts[name]}", "stands before any PID"))
        elif name in ("PD1", "PV1", "PV2", "NK1"):
            people[-1].beside.append(segment)
        elif name == "ORC":
            orc = segment
        elif name == "OBR":
            people[-1].orders.append(_Order(segment, orc, counts[name]))
            orc = None
        elif name == "ZDS":
            _at(people[-1]).uids += [uid for r in segment.repetitions(1) if (uid := segment.component(r, 1))]
        elif name == "IPC":
            _at(people[-1]).ipc = segment
        elif name in ("OBX", "NTE"):
            orders = people[-1].orders
            if not orders:
                refused.append(Refusal(f"{where}, {name} {counts[name]}", "belongs to no OBR; it is left out"))
            elif name == "OBX":
                orders[-1].results.append((counts[name], segment))
            else:
                orders[-1].notes.append("\n".join(segment.unescape(r) for r in segment.repetitions(3)))
        elif name not in _KNOWN:
            unknown[name] += 1
    refused += [Refusal(where, f"{n} segments {name} are not read", "ignored") for name, n in sorted(unknown.items())]
    return people


def _at(person: _Person) -> _Person | _Order:
    """ZDS and IPC belong to the order before them, else to all of the person's."""
    return person.orders[-1] if person.orders else person


def _of_person(person: _Person, header: Segment, where: str) -> Found:
    patient, wrong = patient_of(person.pid, person.beside)
    refused = [Refusal(f"{where}, PID", reason) for reason in wrong]
    if not person.orders:
        refused.append(Refusal(where, "a PID without OBR: a patient without a result"))
    reports: list[RawReport] = []
    records: list[RawRecord] = []
    for order in person.orders:
        _of_order(order, person, patient, header, (reports, records, refused, where))
    return Found(() if patient is None else (patient,), tuple(reports), tuple(records), refused=tuple(refused))


def _of_order(
    order: _Order,
    person: _Person,
    patient: RawPatient | None,
    header: Segment,
    out: tuple[list[RawReport], list[RawRecord], list[Refusal], str],
) -> None:
    reports, records, refused, where = out
    obr, orc = order.obr, order.orc
    issuer, identifier = ("", "") if patient is None else (patient.issuer, patient.identifier)
    ipc = order.ipc or person.ipc
    accession, given_by = _accession(obr, orc, ipc)
    uid = next(iter((*order.uids, *person.uids, ipc.text(3) if ipc else "")), "")
    texts, values, stated_uid = _sorted(order, where, refused)
    uid = uid or stated_uid
    times = [_moment(segment, number, where, refused) for segment, number in ((obr, 22), (obr, 7), (header, 7))]
    filler = obr.text(3) or (orc.text(3) if orc else "")
    placer = obr.text(2) or (orc.text(2) if orc else "")
    status, states = _status(obr, texts)
    title, service = obr.text(4, 2) or obr.text(4, 5) or obr.text(4), coded(obr, obr.raw(4))
    lines: dict[str, list[str]] = {}
    for place, obx, text in texts:
        name = section_of(obx)
        plain = name in ("", title.lower(), service[2].lower())
        lines.setdefault("" if plain else name, []).append(text)
        if not name and not obx.raw(3):
            refused.append(
                Refusal(f"{where}, OBX {place}", "has no OBX-3; its text is kept without a section", "ignored")
            )
    if order.notes:
        lines.setdefault("comments", []).extend(order.notes)
    sections = tuple((name, "\n".join(part)) for name, part in lines.items())
    if any(text.strip() for _, text in sections):
        parent = obr.text(29, 2) or obr.text(29)
        amends = parent or (filler if "C" in states or status == "corrected" else "")
        segments = [*person.beside, *([orc] if orc else []), obr, *(obx for _, obx, _ in texts)]
        reports.append(
            RawReport(
                issuer, identifier, sections, accession, given_by, uid, times[0] or times[1] or times[2], times[1], "",
                title, status, "hl7", filler, placer, amends, clinician_names(segments),
            )
        )  # fmt: skip
    elif not values and order.results:
        refused.append(Refusal(f"{where}, OBR {order.number}", "has results, but none with a text or a value"))
    elif not order.results:
        refused.append(Refusal(f"{where}, OBR {order.number}", "has no results", "ignored"))
    shared = (issuer, identifier, times[1] or times[0] or times[2], accession, uid)
    for place, obx in values:
        _records(obx, f"{where}, OBX {place}", shared, f"{filler}/{obx.text(1) or place}", records, refused)


def _sorted(
    order: _Order, where: str, refused: list[Refusal]
) -> tuple[list[tuple[int, Segment, str]], list[tuple[int, Segment]], str]:
    """Part the results of an order into texts of the report, values, and the study's UID."""
    texts: list[tuple[int, Segment, str]] = []
    values: list[tuple[int, Segment]] = []
    uid = ""
    narrative = any(obx.text(2).upper() in ("TX", "FT") for _, obx in order.results)
    for place, obx in order.results:
        here = f"{where}, OBX {place}"
        kind, code = obx.text(2).upper(), coded(obx, obx.raw(3))
        if obx.text(11).upper() in ("D", "W"):
            refused.append(Refusal(here, "was deleted or entered in error (OBX-11)", "ignored"))
        elif code[0] == _STUDY or code[2].casefold() == "study instance uid":
            uid = uid or obx.text(5)
        elif kind in ("ED", "RP"):
            text, wrong = document(obx) if kind == "ED" else ("", "a pointer to a document elsewhere is not followed")
            if wrong:
                refused.append(Refusal(here, wrong))
            else:
                texts.append((place, obx, text))
        elif kind in ("TX", "FT") or (kind == "ST" and (narrative or _is_section(obx, order.obr))):
            texts.append((place, obx, "\n".join(obx.unescape(r) for r in obx.repetitions(5))))
        elif obx.repetitions(5):
            values.append((place, obx))
        else:
            refused.append(Refusal(here, "has no value", "ignored"))
    return texts, values, uid


def _is_section(obx: Segment, obr: Segment) -> bool:
    """Tell whether a line of type ST is the report's: under a section's code, or the code of the order itself."""
    if coded(obx, obx.raw(3))[:2] == coded(obr, obr.raw(4))[:2]:
        return True
    return section_of(obx) in ("findings", "impression", "addendum", "technique", "comparison", "recommendation")


def _accession(obr: Segment, orc: Segment | None, ipc: Segment | None) -> tuple[str, str]:
    """Return the accession number and who gave it: IPC-1, OBR-18 (IHE), else the filler's number."""
    for segment, number in ((ipc, 1), (obr, 18), (obr, 3), (orc, 3)):
        if segment is not None and segment.text(number):
            return segment.text(number), "" if number == 18 else segment.text(number, 2)
    return "", ""


def _status(obr: Segment, texts: Sequence[tuple[int, Segment, str]]) -> tuple[Status, set[str]]:
    states = {obx.text(11).upper() for _, obx, _ in texts} - {""}
    stated = obr.text(25).upper()
    if "C" in states or stated == "C":
        return "corrected", states
    if stated in _STATES:
        return _STATES[stated], states
    if states and states <= {"F", "U"}:
        return "final", states
    return ("preliminary" if states & {"P", "R", "S"} else ""), states


def _moment(segment: Segment, number: int, where: str, refused: list[Refusal]) -> str:
    text = segment.text(number)
    found = hl7_moment(text) if text else ""
    if found is None:
        refused.append(Refusal(f"{where}, {segment.name}-{number}", "is no date; the row has none from here"))
    return found or ""


def _records(
    obx: Segment,
    here: str,
    shared: tuple[str, str, str, str, str],
    identifier: str,
    records: list[RawRecord],
    refused: list[Refusal],
) -> None:
    issuer, patient, moment, accession, uid = shared
    values, wrong = values_of(obx)
    if wrong:
        refused.append(Refusal(here, wrong))
        return
    own = hl7_moment(obx.text(14)) if obx.text(14) else ""
    if own is None:
        refused.append(Refusal(f"{here}-14", "is no date; the order's is taken"))
    code, system, words = coded(obx, obx.raw(3))
    if not code:
        refused.append(Refusal(here, "has no OBX-3; what was observed can't be told"))
        return
    unit = obx.text(6) if any(v.number is not None or v.text[:1] in "<>" for v in values) else ""
    if unit and not is_ucum(unit):
        refused.append(Refusal(here, "its unit is not of UCUM; it is kept as it stands", "ignored"))
    records += [
        RawRecord(
            issuer, patient, "observation", code, system, words, value.number, unit, value.text, value.code,
            value.moment, own or moment, _STATES.get(obx.text(11).upper(), ""), "hl7", identifier, accession, uid,
        )
        for value in values
    ]  # fmt: skip
