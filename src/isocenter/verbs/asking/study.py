"""What questions are asked of: a result of `isocenter read`, its ledgers, and an earlier one of the same patient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from isocenter.core.errors import ConfigError
from isocenter.core.knowledge import FINDINGS
from isocenter.safety.claims import Ledger, LedgerClaim, LedgerEvidence, judge
from isocenter.tasks.report.compose import Language, compose
from isocenter.verbs.drafting.ledger import ledgers_of
from isocenter.verbs.result import PredictionEntry, ResultDocument, read_result

__all__ = ["Examined", "Told", "open_examined"]


@dataclass(frozen=True)
class Told:
    """A claim and where it stands.

    Args:
        ledger: Number of its ledger in the result, from 1.
        claim: The claim.
        of: How what it is about was imaged, where its ledger is of one image alone.
    """

    ledger: int
    claim: LedgerClaim
    of: str = ""

    @property
    def id(self) -> str:
        """Its name in the whole result, e.g. "1.c3"."""
        return f"{self.ledger}.{self.claim.id}"

    @property
    def evidence(self) -> tuple[str, ...]:
        """Names of what it rests on, in the whole result."""
        return tuple(f"{self.ledger}.{name}" for name in self.claim.evidence)


@dataclass(frozen=True)
class Examined:
    """A study as it was examined, and perhaps an earlier one.

    Args:
        result: What `isocenter read` answered.
        prior: The same of an earlier study of the same patient, or None.

    Raises:
        ConfigError: The earlier one is not known to be of the same patient, or is the same study.
    """

    result: ResultDocument
    prior: ResultDocument | None = None

    def __post_init__(self) -> None:
        if self.prior is None:
            return
        keys = self.result.study.patient_key, self.prior.study.patient_key
        if not keys[0] or keys[0] != keys[1]:
            raise ConfigError(
                "the earlier result can't be shown to be of the same patient (patient_key of both must be the same); "
                "they are not compared"
            )
        if {i.sha256 for i in self.result.images} == {i.sha256 for i in self.prior.images}:
            raise ConfigError("the earlier result is of the same images; give the one of an earlier study")

    @cached_property
    def ledgers(self) -> tuple[Ledger, ...]:
        """One for each kind of examination."""
        return ledgers_of(self.result)

    @cached_property
    def earlier(self) -> tuple[Ledger, ...]:
        """Those of the earlier study; none where there is none."""
        return () if self.prior is None else ledgers_of(self.prior)

    @property
    def claims(self) -> Iterator[Told]:
        """Every claim of the study, in order."""
        return _told(self.ledgers)

    @property
    def earlier_claims(self) -> Iterator[Told]:
        """Every claim of the earlier study, in order."""
        return _told(self.earlier)

    @property
    def exams(self) -> tuple[str, ...]:
        """Kinds of examination in the study."""
        return tuple(ledger.exam for ledger in self.ledgers)

    @property
    def evidence_names(self) -> tuple[str, ...]:
        """Names of all evidence in the whole result."""
        return tuple(f"{n}.{e.id}" for n, ledger in enumerate(self.ledgers, start=1) for e in ledger.evidence)

    def evidence(self, name: str) -> LedgerEvidence | None:
        """Return what stands under a name like "1.e3", or None."""
        number, _, one = name.partition(".")
        if not number.isdecimal() or not 0 < int(number) <= len(self.ledgers):
            return None
        return next((e for e in self.ledgers[int(number) - 1].evidence if e.id == one), None)

    def prediction(self, evidence: LedgerEvidence) -> PredictionEntry | None:
        """Return the answer of the task that a piece of evidence is from, or None."""
        for number, made in enumerate(self.result.predictions):
            seen = made.inputs[0] if made.inputs else f"answer {number}"
            if made.abstained is None and made.task == evidence.task and seen == evidence.input:
                return made
        return None

    def sentence(self, told: Told, language: Language, quantities: tuple[str, ...] | None = None) -> str | None:
        """Return the composer's sentence on a claim of the study; None where the ledger does not let it be printed.

        Args:
            told: The claim.
            language: Of the sentence.
            quantities: Names of the numbers to tell; None for all.
        """
        return _sentence(self.ledgers[told.ledger - 1], told.claim, language, quantities)

    def earlier_sentence(self, told: Told, language: Language) -> str | None:
        """Return the same of a claim of the earlier study."""
        return _sentence(self.earlier[told.ledger - 1], told.claim, language, None)

    def supports(self, sentence: str) -> tuple[str, ...] | None:
        """Return names of the claims that an English sentence makes; None where no ledger of the study supports it."""
        for number, ledger in enumerate(self.ledgers, start=1):
            verdict = judge(sentence.removeprefix(f"{ledger.of}: ") if ledger.of else sentence, ledger)
            if verdict.supported and verdict.claims:
                return tuple(f"{number}.{name}" for name in verdict.claims)
        return None


def open_examined(result: Path, prior: Path | None = None) -> Examined:
    """Read a result, and an earlier one.

    Args:
        result: Folder that `isocenter read` wrote, or its result.json.
        prior: The same of an earlier study, or None.

    Raises:
        DataError: One can't be read.
        ConfigError: The earlier one is not known to be of the same patient.
    """
    return Examined(read_result(result), None if prior is None else read_result(prior))


def _told(ledgers: tuple[Ledger, ...]) -> Iterator[Told]:
    for number, ledger in enumerate(ledgers, start=1):
        for claim in ledger.claims:
            yield Told(number, claim, ledger.of)


def _sentence(
    ledger: Ledger, claim: LedgerClaim, language: Language, quantities: tuple[str, ...] | None
) -> str | None:  # fmt: skip
    if quantities is not None and claim.about not in FINDINGS:
        chosen = tuple(q for q in claim.quantities if q.name in quantities)
        claim = replace(claim, quantities=chosen or claim.quantities)
    alone = Ledger(ledger.exam, (claim,), ledger.evidence)
    section = compose(alone, language=language).section("findings")
    if section is None or section.sentences[0].withheld:
        return None
    text = section.sentences[0].text
    # Judged once more by all that the ledger holds: what is right beside one claim may be read as another of two.
    if language == "en" and claim.id not in judge(text, ledger).claims:
        return None
    return text
