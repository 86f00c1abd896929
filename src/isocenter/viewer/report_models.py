"""What the routes of drafts, questions and outlooks take and give, as models: they are the OpenAPI of these routes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "AmendRequest",
    "AskAnswer",
    "AskRequest",
    "AskSentence",
    "Curve",
    "Draft",
    "DraftEdit",
    "DraftPart",
    "DraftRequest",
    "DraftSection",
    "DraftSentence",
    "EditedSentence",
    "NotWritten",
    "Outlook",
    "Place",
    "PlaceMap",
    "PlaceMask",
    "SignRequest",
    "Signed",
    "SignedFile",
    "Untold",
]

Language = Literal["en", "es", "zh"]
SectionName = Literal["indication", "technique", "comparison", "findings", "impression", "limits"]
Triple = tuple[float, float, float]
LONGEST_TEXT, MOST_SENTENCES = 1000, 500


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PlaceMask(_Model):
    """The outline that shows a place: a segment of an answer of the reading, and the file that holds it."""

    reading: str
    prediction: int
    segment: int
    file: str


class PlaceMap(_Model):
    """The map that shows a place, as a file of the reading: where networks looked, over the image."""

    reading: str
    file: str


class Place(_Model):
    """Where in a picture something that is said can be seen.

    Attributes:
        kind: "segment": an outline; "map": where networks looked; "probability": a number of a whole image.
        evidence: Its name in the ledger, e.g. "1.e3".
        image: Identifier of the image; None where the page does not know it.
        image_index: Its number in the reading.
        label: In one line.
        point_lps_mm: A voxel of it, in patient millimetres; None where the image has no place in the patient.
        index_zyx: The same voxel as an index of the image.
        box_zyx: Bounds z0, z1, y0, y1, x0, x1 of it, half open.
        mask: The outline, where there is one.
        map: Where networks looked, where that is known.
        picture: File of the reading that shows it, None for none.
    """

    kind: Literal["segment", "map", "probability"]
    evidence: str
    image: str | None
    image_index: int
    label: str
    point_lps_mm: Triple | None = None
    index_zyx: tuple[int, int, int] | None = None
    box_zyx: tuple[int, int, int, int, int, int] | None = None
    mask: PlaceMask | None = None
    map: PlaceMap | None = None
    picture: str | None = None


class DraftSentence(_Model):
    """A sentence of a draft.

    Attributes:
        id: Within the draft; it stays with a sentence through versions.
        text: What it says.
        verdict: "held": the composer's, and all of it follows from the ledger; "edited": a person's words that the
            ledger holds; "given": the clinician's or reader's words about the request, which claim nothing of the
            images; "withheld": not to be signed.
        reason: Why it is withheld, "" where it is not.
        claims: Names of the claims that it makes.
        evidence: Where they can be seen.
    """

    id: str
    text: str
    verdict: Literal["held", "edited", "given", "withheld"]
    reason: str = ""
    claims: tuple[str, ...] = ()
    evidence: tuple[Place, ...] = ()


class DraftSection(_Model):
    """A section of a draft: name, heading in its language, sentences in order."""

    name: SectionName
    title: str
    sentences: tuple[DraftSentence, ...]


class Untold(_Model):
    """A claim of the ledger that no sentence tells any more, with the sentence that would."""

    claim: str
    section: SectionName
    text: str


class DraftPart(_Model):
    """The part of a draft that is of one kind of examination; `of` says which image where it is of one alone."""

    exam: str
    of: str
    sections: tuple[DraftSection, ...]
    untold: tuple[Untold, ...] = ()


class SignedFile(_Model):
    """A file of a signed report."""

    form: Literal["sr", "fhir", "pdf"]
    name: str
    url: str
    sha256: str
    size_bytes: int


class NotWritten(_Model):
    """A form in which a signed report was not written, and why."""

    form: str
    why: str


class Signed(_Model):
    """Who signed a version, when, and what was written."""

    by: str
    at: str
    version: int
    files: tuple[SignedFile, ...]
    not_written: tuple[NotWritten, ...] = ()


class Draft(_Model):
    """A draft of a report in one version.

    Attributes:
        id: Of the draft, through all versions.
        study: Identifier of the study.
        reading: Identifier of the reading that it is of.
        version: From 1.
        language: Of its text.
        created: When this version was made, UTC.
        reader: Initials of who made this version, "" for the composer.
        parts: One for each kind of examination.
        limits: What was not examined or not answered, and what the numbers do not promise.
        withheld: How many sentences are withheld.
        amends: Version whose signed report this one amends, None for none.
        signed: Who signed this version; None where nobody did.
        mark: What it is, to be shown with it.
    """

    id: str
    study: str
    reading: str
    version: int
    language: Language
    created: str
    reader: str = ""
    parts: tuple[DraftPart, ...]
    limits: tuple[str, ...]
    withheld: int
    amends: int | None = None
    signed: Signed | None = None
    mark: str


class DraftRequest(_Model):
    """Ask for the draft of a study's newest reading.

    Attributes:
        language: Of the draft.
        indication: As the clinician gave it.
        comparison: With what it was compared.
        fresh: Whether a new draft is made where there is one of this reading already.
    """

    language: Language = "en"
    indication: str = Field(default="", max_length=2000)
    comparison: str = Field(default="", max_length=2000)
    fresh: bool = False


class EditedSentence(_Model):
    """A sentence as a person left it; without an id it is a new one, of the part that is named."""

    id: str | None = None
    section: SectionName
    text: str = Field(max_length=LONGEST_TEXT)
    part: int = Field(default=0, ge=0)


class DraftEdit(_Model):
    """All sentences of a draft as they shall stand, and the version that was edited."""

    version: int = Field(ge=1)
    sentences: tuple[EditedSentence, ...] = Field(max_length=MOST_SENTENCES)


class SignRequest(_Model):
    """Sign a version."""

    version: int = Field(ge=1)
    by: str = Field(min_length=2, max_length=64)


class AmendRequest(_Model):
    """Begin a new version of a report that is signed."""

    version: int = Field(ge=1)


class AskRequest(_Model):
    """A question, and the conversation that it belongs to; None begins one."""

    question: str = Field(min_length=1, max_length=2000)
    conversation: str | None = Field(default=None, max_length=64)
    language: Language = "en"


class AskSentence(_Model):
    """A sentence of an answer; `kind` as in `isocenter ask`."""

    text: str
    kind: Literal["claim", "earlier", "note", "limit"]
    evidence: tuple[Place, ...] = ()


class AskAnswer(_Model):
    """An answer.

    Attributes:
        conversation: To go on with.
        outcome: "answered", "not found", "not examined" or "refused".
        refused: Why it was refused, None where it was not.
        answer: Sentences with places to jump to.
        calls: Tools that were called, with their arguments.
        by: Who chose the tools: "rules", or a model's name.
        remarks: What happened on the way.
        withheld: How many sentences the ledger did not let pass.
    """

    conversation: str
    outcome: Literal["answered", "not found", "not examined", "refused"]
    refused: str | None
    answer: tuple[AskSentence, ...]
    calls: tuple[dict[str, Any], ...]
    by: str
    remarks: tuple[str, ...] = ()
    withheld: int = 0


class Curve(_Model):
    """Shares in percent over days, with a band; `low` and `high` are empty where there is none."""

    name: str
    days: tuple[float, ...]
    percent: tuple[float, ...]
    low_percent: tuple[float, ...] = ()
    high_percent: tuple[float, ...] = ()


class Outlook(_Model):
    """What a configured model says of a patient, or why it says nothing.

    Attributes:
        kind: Which.
        abstained: Why nothing is said; None where something is.
        document: What the verb says of the person, in its own form.
        curves: To be drawn.
        facts: Of the model: what it learnt from, what its figures are, what the numbers promise.
        matched_by: Column of the clinical table by which the patient was found.
        synthetic: Whether the people behind it are invented.
        mark: What it is, to be shown with it.
    """

    kind: Literal["prognosis", "treatment"]
    abstained: str | None
    document: dict[str, Any] | None = None
    curves: tuple[Curve, ...] = ()
    facts: dict[str, Any] = {}
    matched_by: str | None = None
    synthetic: bool = False
    mark: str
