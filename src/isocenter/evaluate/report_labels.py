"""Labels of a report: each finding once, with presence, side, grade, change, code, and where the words stand.

What is said of one finding in several places is drawn together as in `report_findings`: present outweighs uncertain
outweighs absent; left and right make both; the graver grade counts; changes that differ are "mixed". What a finding
implies by the table of `core.knowledge` is added and marked, unless the report speaks of it itself.

A text that can't be read for certain is not labelled, and says why: empty, too long, no text, not English, of another
part of the body.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from isocenter.core.knowledge import FINDINGS, SIDE_CODES, FindingConcept
from isocenter.core.report import Evidence, Finding, Report
from isocenter.evaluate.chest_terms import CHEST
from isocenter.evaluate.report_mentions import Change, Grade, Mention, Side, Status, graver, read_mentions
from isocenter.evaluate.report_text import (
    MAX_CHARACTERS,
    CleanText,
    clean_text,
    english,
    foreign_sentences,
    is_read,
    other_body_part,
    split_sections,
)

__all__ = [
    "CHEXPERT",
    "Label",
    "LabelledReport",
    "Outcome",
    "Span",
    "chexpert_labels",
    "label_report",
    "label_sections",
]

Outcome = Literal["labelled", "empty", "too long", "no text", "not English", "not of the chest", "nothing to read"]

_WEIGHT: dict[Status, int] = {"absent": 0, "uncertain": 1, "present": 2}
_BINARY = ("%PDF-", "PK\x03\x04", "{\\rtf", "\x7fELF", "\x89PNG")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\ufffd]")
_MOST_CONTROL = 0.02
"""Share of control characters above which a text is none."""


@dataclass(frozen=True)
class Span:
    """Where words stand.

    Args:
        section: Name of the section, lower case; "" where it has none.
        start: First character, in the text as it came.
        end: One past the last.
    """

    section: str
    start: int
    end: int


@dataclass(frozen=True)
class Label:
    """What a report says of a finding.

    Args:
        concept: The finding.
        presence: Whether it is there.
        side: Where.
        grade: How much.
        change: Against an earlier image; "mixed" where the report says several. Of what is absent, "new" denies only
            that it came anew ("no new nodule"), and "resolved" says that it was there before.
        spans: Words that it rests on.
        implied_by: Name of the finding that implies it, or None where the report speaks of it.
        named: Whether a word of the finding stands in the text, not only a part that was judged ("clear lungs").
    """

    concept: FindingConcept
    presence: Status
    side: Side | None = None
    grade: Grade | None = None
    change: Change | Literal["mixed"] | None = None
    spans: tuple[Span, ...] = ()
    implied_by: str | None = None
    named: bool = True


@dataclass(frozen=True)
class LabelledReport:
    """A report and its labels.

    Args:
        outcome: "labelled", or why it is not.
        labels: Sorted by name of the finding.
        read: Names of the sections that were read, in order.
        left_out: Names of the sections that were not.
        foreign: Where sentences of another language stand, which were not read.
        markup: Whether markup was taken out.
        parts: Parts of the body that were judged, with what was denied of them, for the table of CheXpert.
    """

    outcome: Outcome
    labels: tuple[Label, ...] = ()
    read: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    foreign: tuple[Span, ...] = ()
    markup: bool = False
    parts: tuple[tuple[str, str], ...] = ()

    def report(self, sections: Mapping[str, str]) -> Report:
        """Return the report as `core.Report`, its findings bound to the places of their words.

        Args:
            sections: The texts that were labelled, by name.
        """
        findings = tuple(
            Finding(
                label.concept.code,
                label.presence,
                tuple(Evidence(text_span=(s.section, s.start, s.end)) for s in label.spans),
                site=FINDINGS.site(label.concept.site).code,
                laterality=None if label.side is None else SIDE_CODES[label.side],
            )
            for label in self.labels
        )
        return Report(sections, "en", findings)


@dataclass(frozen=True)
class _Said:
    """A mention, and where it stands in the text as it came."""

    mention: Mention
    span: Span


def label_report(text: str) -> LabelledReport:
    """Label a report of a chest radiograph in English.

    Args:
        text: With or without headings; places of words are counted in it as it is.

    Example:
        >>> found = label_report("HISTORY: Pneumonia. FINDINGS: New small left effusion. No pneumothorax.")
        >>> for label in found.labels:
        ...     print(label.concept.name, label.presence, label.side, label.grade, label.change, label.spans[0])
        pleural effusion present left mild new Span(section='findings', start=45, end=53)
        pneumothorax absent None None None Span(section='findings', start=58, end=70)
        >>> label_report("Kein Pneumothorax.").outcome
        'not English'
    """
    return label_sections([("", text)])


def label_sections(sections: Sequence[tuple[str, str]]) -> LabelledReport:
    """Label a report that comes section by section.

    Args:
        sections: Name and text of each; "" as a name where the text may hold headings of its own. Places of words are
            counted in the text of their section.

    Example:
        >>> found = label_sections([("indication", "Pneumonia?"), ("impression", "Clear lungs.")])
        >>> found.read, found.left_out, [(label.concept.name, label.presence) for label in found.labels]
        (('impression',), ('indication',), [('opacity', 'absent')])
    """
    if sum(len(text) for _, text in sections) > MAX_CHARACTERS:
        return LabelledReport("too long")
    if not any(text.strip() for _, text in sections):
        return LabelledReport("empty")
    if any(_binary(text) for _, text in sections):
        return LabelledReport("no text")
    pieces, left_out = _pieces(sections)
    markup = any(clean.markup for _, clean, _, _ in pieces)
    whole = "\n".join(clean.text[start:end] for _, clean, start, end in pieces)
    read = tuple(dict.fromkeys(name for name, *_ in pieces if name))
    if not whole.strip():
        return LabelledReport("nothing to read", left_out=left_out, markup=markup)
    outcome: Outcome = "labelled"
    if not english(whole):
        outcome = "not English"
    elif other_body_part(whole):
        outcome = "not of the chest"
    if outcome != "labelled":
        return LabelledReport(outcome, read=read, left_out=left_out, markup=markup)
    said, foreign = _read(pieces)
    parts = tuple(dict.fromkeys((s.mention.part, s.mention.finding) for s in said if s.mention.part is not None))
    return LabelledReport("labelled", _labels(said), read, left_out, foreign, markup, parts)


def _binary(text: str) -> bool:
    return text.startswith(_BINARY) or len(_CONTROL.findall(text)) > max(2, _MOST_CONTROL * len(text))


def _pieces(
    sections: Sequence[tuple[str, str]],
) -> tuple[list[tuple[str, CleanText, int, int]], tuple[str, ...]]:
    """Return what is read (name, text, first and last character), and names of what is not."""
    pieces, left_out = [], []
    for name, text in sections:
        if not is_read(name):
            left_out.append(name.lower())
            continue
        clean = clean_text(text)
        for section in split_sections(clean.text):
            if section.read:
                pieces.append((name.lower() or section.name, clean, section.start, section.end))
            else:
                left_out.append(section.name)
    return pieces, tuple(dict.fromkeys(left_out))


def _read(pieces: Iterable[tuple[str, CleanText, int, int]]) -> tuple[list[_Said], tuple[Span, ...]]:
    said, foreign = [], []
    for name, clean, start, end in pieces:
        body = clean.text[start:end]
        for low, high in foreign_sentences(body):
            foreign.append(Span(name, *clean.span(start + low, start + high)))
            body = body[:low] + "." + " " * (high - low - 2) + "." + body[high:] if high - low > 1 else body
        for mention in read_mentions(body, CHEST):
            span = Span(name, *clean.span(start + mention.start, start + mention.end))
            said.append(_Said(mention, span))
    return said, tuple(foreign)


def _labels(said: Sequence[_Said]) -> tuple[Label, ...]:
    by_finding: dict[str, list[_Said]] = {}
    for one in said:
        by_finding.setdefault(one.mention.finding, []).append(one)
    labels = {name: _label(name, ones) for name, ones in by_finding.items()}
    implied = {label.concept.name: label for label in _implied(labels)}
    return tuple(sorted((labels | implied).values(), key=lambda label: label.concept.name))


def _label(name: str, ones: Sequence[_Said]) -> Label:
    status = max((o.mention.status for o in ones), key=_WEIGHT.__getitem__)
    counted = [o for o in ones if o.mention.status == status]
    changes = list(dict.fromkeys(o.mention.change for o in counted if o.mention.change is not None))
    change: Change | Literal["mixed"] | None = None
    if changes:
        change = changes[0] if len(changes) == 1 else "mixed"
    side: Side | None = None
    grade: Grade | None = None
    if status != "absent":
        # "Blunting, suggesting small left effusions": what was doubted may still tell the side.
        doubted = [o for o in ones if o.mention.status != "absent"]
        sides = {o.mention.side for o in counted} - {None} or {o.mention.side for o in doubted} - {None}
        side = None if not sides else "both" if len(sides) > 1 else sides.pop()
        for one in counted:
            grade = graver(grade, one.mention.grade)
    spans = tuple(dict.fromkeys(o.span for o in counted))
    named = any(o.mention.part is None for o in counted)
    return Label(FINDINGS.named(name), status, side, grade, change, spans, named=named)


def _implied(labels: Mapping[str, Label]) -> Iterator[Label]:
    """Yield what is implied and not spoken of; of several reasons the surest, then the first by name."""
    there = [label for label in labels.values() if label.presence != "absent"]
    there.sort(key=lambda label: (_WEIGHT[label.presence], label.concept.name))
    found: dict[str, Label] = {}
    for label in sorted(there, key=lambda one: (-_WEIGHT[one.presence], one.concept.name)):
        for name in sorted(FINDINGS.implied(label.concept.name)):
            if name not in labels and name not in found:
                concept = FINDINGS.named(name)
                side = label.side if concept.sided else None
                reason = label.concept.name
                found[name] = replace(label, concept=concept, side=side, grade=None, change=None, implied_by=reason)
    yield from found.values()


CHEXPERT: Mapping[str, tuple[str, ...]] = {
    "No Finding": (),
    "Enlarged Cardiomediastinum": ("mediastinal widening",),
    "Cardiomegaly": ("cardiomegaly",),
    "Lung Lesion": ("nodule", "nodular opacity", "mass", "cavity"),
    "Lung Opacity": ("opacity", "infiltrate", "interstitial markings", "scarring"),
    "Edema": ("pulmonary edema", "vascular congestion", "heart failure"),
    "Consolidation": ("consolidation",),
    "Pneumonia": ("pneumonia",),
    "Atelectasis": ("atelectasis",),
    "Pneumothorax": ("pneumothorax", "hydropneumothorax"),
    "Pleural Effusion": ("pleural effusion", "hydropneumothorax"),
    "Pleural Other": ("pleural thickening", "pleural scarring", "fibrosis"),
    "Fracture": ("fracture",),
    "Support Devices": ("device",),
}
"""Findings behind each of the 14 observations of CheXpert, in its order."""

# Judging the whole silhouette speaks of the mediastinum there, and clear lungs of no opacity.
_UNSAID = frozenset({("heart and mediastinum", "cardiomegaly"), ("lungs", "opacity")})


def chexpert_labels(found: LabelledReport) -> dict[str, int | None]:
    """Return the 14 observations of CheXpert: 1 there, 0 denied, -1 uncertain, None not spoken of.

    Its conventions are kept: "no new ..." is uncertain, clear lungs deny no opacity, a silhouette of heart and
    mediastinum that is normal denies an enlarged cardiomediastinum alone; nothing is implied. "No Finding" is 1 where
    nothing is there or uncertain, devices aside.

    Source:
        Irvin et al., AAAI 2019.

    Example:
        >>> found = chexpert_labels(label_report("Mild cardiomegaly. No effusion. Possible atelectasis."))
        >>> {name: value for name, value in found.items() if value is not None}
        {'Cardiomegaly': 1, 'Atelectasis': -1, 'Pleural Effusion': 0}
    """
    if found.outcome != "labelled":
        return dict.fromkeys(CHEXPERT)
    said = {label.concept.name: label for label in found.labels if label.implied_by is None}
    values: dict[str, int | None] = {}
    for name, findings in CHEXPERT.items():
        votes = [v for f in findings if f in said for v in [_vote(said[f], found)] if v is not None]
        values[name] = 1 if 1 in votes else -1 if -1 in votes else 0 if 0 in votes else None
    # A silhouette of heart and mediastinum that is large is both there.
    whole = said.get("cardiomegaly")
    if whole is not None and whole.presence != "absent" and ("heart and mediastinum", "cardiomegaly") in found.parts:
        values["Enlarged Cardiomediastinum"] = values["Cardiomegaly"]
    others = any(_vote(label, found) in (1, -1) for name, label in said.items() if name != "device")
    values["No Finding"] = None if others or not said else 1
    return values


def _vote(label: Label, found: LabelledReport) -> int | None:
    if label.presence != "absent":
        return 1 if label.presence == "present" else -1
    if label.change == "new":
        return -1
    judged = {part for part, finding in found.parts if finding == label.concept.name}
    if not label.named and all((part, label.concept.name) in _UNSAID for part in judged):
        return None
    return 0
