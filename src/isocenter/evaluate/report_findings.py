"""What two reports claim, finding by finding, and whether they claim the same: by rules, the same way every time.

A claim is a finding, whether it is there (present, absent, uncertain), its side and its grade. Claims are read off
sentence by sentence (`report_mentions` says how). Those of one finding are drawn together: present outweighs uncertain
outweighs absent, left and right make both, the graver grade counts. What is denied has neither side nor grade.

Rules misread: irony of grammar, references to earlier images, and whatever the vocabulary does not hold. They do so
alike on both reports, so they blur a comparison more than they bias it; they are no substitute for a reader.

Source:
    Chapman et al., Journal of Biomedical Informatics 2001 (NegEx); Irvin et al., AAAI 2019 (claims of reports as
    labels); Yu et al., Patterns 2023 (why such figures are needed beside BLEU and ROUGE).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from isocenter.evaluate.chest_terms import CHEST, Vocabulary
from isocenter.evaluate.report_mentions import Grade, Mention, Side, Status, graver, read_mentions

__all__ = ["Claim", "ReportAgreement", "read_claims", "report_agreement"]

_WEIGHT: dict[Status, int] = {"absent": 0, "uncertain": 1, "present": 2}


@dataclass(frozen=True, order=True)
class Claim:
    """What a report says of one finding.

    Args:
        finding: Its name in the vocabulary.
        status: Whether it is there.
        side: Where, or None where it is not said or there are no sides.
        grade: How much, or None where it is not said.
    """

    finding: str
    status: Status
    side: Side | None = None
    grade: Grade | None = None


def read_claims(text: str, vocabulary: Vocabulary = CHEST) -> tuple[Claim, ...]:
    """Return what a report claims, one claim for each finding and side, sorted by name.

    Args:
        text: Findings and impression; leave out what was asked (indication), which claims nothing.
        vocabulary: Words of this kind of report.

    Example:
        >>> for claim in read_claims("Small left pleural effusion. No pneumothorax. Heart size is normal."):
        ...     print(claim.finding, claim.status, claim.side, claim.grade)
        cardiomegaly absent None None
        pleural effusion present left mild
        pneumothorax absent None None
    """
    mentions = [part for m in read_mentions(text, vocabulary) for part in _parts(m, vocabulary)]
    return tuple(sorted(_together(mentions), key=lambda c: (c.finding, c.side or "")))


def _parts(mention: Mention, vocabulary: Vocabulary) -> tuple[Mention, ...]:
    """Return the findings that one is made of: a hydropneumothorax is a pneumothorax and an effusion."""
    parts = vocabulary.parts.get(mention.finding)
    if parts is None or mention.status == "absent":
        return (mention,)
    return tuple(replace(mention, finding=part) for part in parts)


def _together(mentions: Iterable[Mention]) -> Iterator[Claim]:
    by_finding: dict[str, list[Mention]] = {}
    for mention in mentions:
        by_finding.setdefault(mention.finding, []).append(mention)
    for finding, said in by_finding.items():
        status = max((m.status for m in said), key=_WEIGHT.__getitem__)
        if status == "absent":
            yield Claim(finding, "absent")
            continue
        counted = [m for m in said if m.status == status]
        # "Blunting, suggesting small left effusions": what was doubted may still tell the side.
        doubted = [m for m in said if m.status != "absent"]
        sides = {m.side for m in counted if m.side} or {m.side for m in doubted if m.side}
        side: Side | None = None
        if sides:
            side = "both" if len(sides) > 1 else next(iter(sides))
        grade: Grade | None = None
        for mention in counted:
            grade = graver(grade, mention.grade)
        yield Claim(finding, status, side, grade)


@dataclass(frozen=True)
class ReportAgreement:
    """How far two reports claim the same.

    Args:
        reference: Claims of the report taken as true.
        answer: Claims of the report that is judged.
    """

    reference: tuple[Claim, ...]
    answer: tuple[Claim, ...]

    def _pairs(self) -> list[tuple[Claim, Claim]]:
        answered = {c.finding: c for c in self.answer}
        return [(c, answered[c.finding]) for c in self.reference if c.finding in answered]

    @property
    def precision(self) -> float:
        """Share of the answer's claims that the reference makes word for word; 1 where neither claims anything."""
        return _share(self.reference, self.answer)

    @property
    def recall(self) -> float:
        """Share of the reference's claims that the answer makes word for word; 1 where neither claims anything."""
        return _share(self.answer, self.reference)

    @property
    def f1(self) -> float:
        """Harmonic mean of the two: finding, status, side and grade must all be the same."""
        return _f1(self.reference, self.answer)

    @property
    def positive_f1(self) -> float:
        """F1 of the claims that something is or may be there; denials, of which reports are full, are left out."""
        return _f1(*(tuple(c for c in claims if c.status != "absent") for claims in (self.reference, self.answer)))

    @property
    def finding_f1(self) -> float:
        """F1 of what was claimed to be there or not, whatever its side and grade."""
        return _f1(*({(c.finding, c.status) for c in claims} for claims in (self.reference, self.answer)))

    @property
    def status_agreement(self) -> float:
        """Share of the findings that both speak of with the same status; NaN where there are none."""
        return _mean([a.status == b.status for a, b in self._pairs()])

    @property
    def side_agreement(self) -> float:
        """Of findings that both hold for there or possible, and one gives a side: share with the same side."""
        return _mean([a.side == b.side for a, b in self._there() if a.side or b.side])

    @property
    def grade_agreement(self) -> float:
        """Of findings that both hold for there or possible, and one gives a grade: share with the same grade."""
        return _mean([a.grade == b.grade for a, b in self._there() if a.grade or b.grade])

    def _there(self) -> list[tuple[Claim, Claim]]:
        return [(a, b) for a, b in self._pairs() if "absent" not in (a.status, b.status)]

    @property
    def contradicted(self) -> tuple[str, ...]:
        """Findings that one report claims and the other denies."""
        return tuple(a.finding for a, b in self._pairs() if {a.status, b.status} == {"present", "absent"})

    @property
    def wrong_side(self) -> tuple[str, ...]:
        """Findings that are left in one report and right in the other."""
        return tuple(a.finding for a, b in self._there() if {a.side, b.side} == {"left", "right"})


def _share(right: Iterable[object], claims: Iterable[object]) -> float:
    right, claims = set(right), set(claims)
    if not claims:
        return 0.0 if right else 1.0
    return len(right & claims) / len(claims)


def _f1(reference: Iterable[object], answer: Iterable[object]) -> float:
    a, b = set(reference), set(answer)
    return 2 * len(a & b) / (len(a) + len(b)) if a or b else 1.0


def _mean(values: list[bool]) -> float:
    return sum(values) / len(values) if values else float("nan")


def report_agreement(reference: str, answer: str, *, vocabulary: Vocabulary = CHEST) -> ReportAgreement:
    """Compare what two reports claim.

    Args:
        reference: The report taken as true.
        answer: The report that is judged.
        vocabulary: Words of this kind of report.

    Example:
        >>> found = report_agreement("Small left effusion. No pneumothorax.", "Small right effusion, no pneumothorax.")
        >>> found.f1, found.finding_f1, found.wrong_side
        (0.5, 1.0, ('pleural effusion',))
    """
    return ReportAgreement(read_claims(reference, vocabulary), read_claims(answer, vocabulary))
