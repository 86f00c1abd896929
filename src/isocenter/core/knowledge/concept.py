"""What a table of findings is made of, and how it is asked: by name, by code, by the words that reports use.

The table is small and closed: each finding that another one implies or excludes stands in it, nothing implies itself,
no code and no word belongs to two findings. `Ontology` refuses anything else when it is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from isocenter.core.errors import DataError
from isocenter.core.units import Code

__all__ = ["LOCAL_SCHEME", "Exam", "FindingConcept", "Ontology", "Site", "local"]

LOCAL_SCHEME = "99ISOCENTER"
"""Private scheme (DICOM PS3.16 section 8.2) of concepts that no code of SNOMED CT or DICOM was found for."""

Exam = Literal["chest radiograph", "breast ultrasound", "fundus photograph", "brain MR", "abdomen CT", "other"]
"""Kinds of examination whose findings the table holds; of any other it holds parts of the body alone."""

Course = Literal["acute", "chronic", "either"]
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def local(value: str, meaning: str) -> Code:
    """Return a code of our own, for what has none that we are sure of.

    Example:
        >>> str(local("F-101", "Acute chest abnormality"))
        'Acute chest abnormality (F-101, 99ISOCENTER)'
    """
    return Code(value, LOCAL_SCHEME, meaning)


@dataclass(frozen=True)
class Site:
    """A part of the body.

    Args:
        name: Preferred name, lower case.
        code: Its code.
        paired: Whether there is a left and a right one.
        synonyms: Other names.
    """

    name: str
    code: Code
    paired: bool = False
    synonyms: tuple[str, ...] = ()


@dataclass(frozen=True)
class FindingConcept:
    """A finding, and what is known of it.

    Args:
        name: Preferred name, lower case; the name by which all of Isocenter calls it.
        code: Its code: SNOMED CT ("SCT"), DICOM ("DCM"), or `LOCAL_SCHEME`.
        site: Name of the part of the body that it is seen in.
        exam: Kind of examination that speaks of it.
        synonyms: Words of reports for it: lower case, singular, without hyphens.
        radlex: RadLex identifier, or None where none is known to be right.
        sided: Whether left or right is said of it.
        implies: Names of what is there too wherever this is.
        excludes: Names of what can't be there in the same examination.
        course: Whether it is acute or chronic by its nature.
        normal: Whether it says that nothing was found; it excludes every other finding of its examination.
    """

    name: str
    code: Code
    site: str
    exam: Exam
    synonyms: tuple[str, ...] = ()
    radlex: str | None = None
    sided: bool = True
    implies: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    course: Course = "either"
    normal: bool = False

    @property
    def radlex_code(self) -> Code | None:
        """The RadLex identifier as a code, or None."""
        return None if self.radlex is None else Code(self.radlex, "RADLEX", self.name.capitalize())

    @property
    def words(self) -> tuple[str, ...]:
        """The preferred name and the other words, each once."""
        return tuple(dict.fromkeys((self.name, *self.synonyms)))


@dataclass(frozen=True)
class Ontology:
    """A closed table of findings and of the parts of the body that they are seen in.

    Args:
        findings: In order.
        sites: In order.

    Raises:
        DataError: A name, code or word stands twice, a name is missing, or something implies itself.
    """

    findings: tuple[FindingConcept, ...]
    sites: tuple[Site, ...]
    _by_name: dict[str, FindingConcept] = field(init=False, repr=False, compare=False, default_factory=dict)
    _by_code: dict[tuple[str, str], FindingConcept] = field(init=False, repr=False, compare=False, default_factory=dict)
    _by_word: dict[str, FindingConcept] = field(init=False, repr=False, compare=False, default_factory=dict)
    _by_site: dict[str, Site] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        for site in self.sites:
            for name in dict.fromkeys((site.name, *site.synonyms)):
                _once(self._by_site, name, site, "part of the body")
        for finding in self.findings:
            _once(self._by_name, finding.name, finding, "finding")
            _once(self._by_code, (finding.code.scheme, finding.code.value), finding, "code")
            if finding.radlex is not None:
                _once(self._by_code, ("RADLEX", finding.radlex), finding, "code")
            for word in finding.words:
                _once(self._by_word, word, finding, "word")
        for finding in self.findings:
            missing = [n for n in (*finding.implies, *finding.excludes) if n not in self._by_name]
            if missing or finding.site not in self._by_site:
                raise DataError(f"{finding.name!r} speaks of {(missing or [finding.site])[0]!r}, which is not known")
            if finding.name in self.implied(finding.name):
                raise DataError(f"{finding.name!r} implies itself")

    def __iter__(self) -> Iterator[FindingConcept]:
        return iter(self.findings)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def named(self, name: str) -> FindingConcept:
        """Return the finding of a preferred name.

        Raises:
            DataError: There is none.
        """
        if name not in self._by_name:
            raise DataError(f"no finding is named {name!r}; see docs/reference/findings.md for those that are")
        return self._by_name[name]

    def coded(self, value: str, scheme: str = "SCT") -> FindingConcept | None:
        """Return the finding that a code of SNOMED CT, DICOM, RadLex or ours means, or None."""
        return self._by_code.get((scheme, value))

    def called(self, words: str) -> FindingConcept | None:
        """Return the finding that words mean, or None; case, hyphens and white space don't count.

        Example:
            >>> from isocenter.core.knowledge import FINDINGS
            >>> FINDINGS.called("Pleural  Fluid").name
            'pleural effusion'
        """
        return self._by_word.get(" ".join(words.lower().replace("-", " ").replace("_", " ").split()))

    def site(self, name: str) -> Site:
        """Return a part of the body by its name or a synonym.

        Raises:
            DataError: There is none.
        """
        if name not in self._by_site:
            raise DataError(f"no part of the body is named {name!r}; see docs/reference/findings.md for those that are")
        return self._by_site[name]

    def of(self, exam: Exam) -> tuple[FindingConcept, ...]:
        """Return the findings of one kind of examination, in order."""
        return tuple(f for f in self.findings if f.exam == exam)

    def implied(self, name: str) -> frozenset[str]:
        """Return the names of all that is there too where a finding is, over as many steps as there are.

        Raises:
            DataError: There is no such finding.

        Example:
            >>> from isocenter.core.knowledge import FINDINGS
            >>> sorted(FINDINGS.implied("hydropneumothorax"))
            ['pleural effusion', 'pneumothorax']
        """
        found: set[str] = set()
        waiting = list(self.named(name).implies)
        while waiting:
            one = waiting.pop()
            if one not in found:
                found.add(one)
                waiting += self.named(one).implies
        return frozenset(found)

    def exclude(self, first: str, second: str) -> bool:
        """Tell whether two findings can't both be there in one examination.

        Raises:
            DataError: There is no such finding.
        """
        a, b = self.named(first), self.named(second)
        if a.name == b.name:
            return False
        everything = (a.normal or b.normal) and a.exam == b.exam
        return everything or b.name in a.excludes or a.name in b.excludes

    def conflicts(self, names: Iterable[str]) -> tuple[tuple[str, str], ...]:
        """Return the pairs among findings that can't both be there, what they imply included, each pair once.

        Raises:
            DataError: There is no such finding.

        Example:
            >>> from isocenter.core.knowledge import FINDINGS
            >>> FINDINGS.conflicts(["normal chest", "pneumonia"])
            (('normal chest', 'opacity'), ('normal chest', 'pneumonia'))
        """
        there = sorted({n for name in names for n in (name, *self.implied(name))})
        return tuple((a, b) for i, a in enumerate(there) for b in there[i + 1 :] if self.exclude(a, b))


def _once(table: dict[_Key, _Value], key: _Key, value: _Value, what: str) -> None:
    if key in table:
        raise DataError(f"the {what} {key!r} stands twice")
    table[key] = value
