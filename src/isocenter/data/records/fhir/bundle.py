"""Resources that point to each other: which are there, and what a reference means.

Inside a Bundle a reference is a full URL (urn:uuid or http), or relative ("Patient/7"); inside a resource "#a" means
what it contains. What is not there stays known by its address, so that a later file can still say who it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from isocenter.data.records.fhir.nodes import Node
from isocenter.data.records.fhir.values import human_name, numbered
from isocenter.data.records.people import words_of

__all__ = ["Resources", "first_identifier"]

_RELATIVE = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/[^/]+)?$")
_OWN = ("MR", "PI", "PT", "MRN")


def first_identifier(patient: Node) -> list[tuple[str, str]]:
    """Return (issuer, value) of a patient's identifiers, the hospital's number first, outdated ones last."""
    ranked = []
    for place, identifier in enumerate(patient.many("identifier")):
        pair = numbered(identifier)
        if pair[1]:
            codes = {c.text("code") for c in identifier.one("type").many("coding")}
            old = identifier.text("use") == "old"
            ranked.append((old, not codes & set(_OWN), place, pair))
    return list(dict.fromkeys(pair for *_, pair in sorted(ranked)))


@dataclass
class Resources:
    """The resources of one Bundle or file, by their addresses.

    Args:
        issuer: Put before the type of resource where an id has no server: "HOSPITAL/Patient".
    """

    issuer: str = ""
    _known: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, resource: dict[str, Any], full_url: str = "") -> None:
        """Make a resource known by its full URL, and by its type and id."""
        if full_url:
            self._known.setdefault(full_url, resource)
        kind, own = resource.get("resourceType"), resource.get("id")
        if isinstance(kind, str) and isinstance(own, str):
            self._known.setdefault(f"{kind}/{own}", resource)

    def find(self, reference: Node, inside: Node) -> Node:
        """Return what a Reference points to; an empty node where it is not here.

        Args:
            reference: The Reference.
            inside: The resource that it stands in, for what is contained.
        """
        address = reference.text("reference")
        found: dict[str, Any] | None = None
        if address.startswith("#"):
            for contained in inside.many("contained"):
                if contained.text("id") == address[1:]:
                    found = contained.content
        elif address:
            found = self._known.get(address)
            relative = _RELATIVE.search(address)
            if found is None and relative is not None:
                found = self._known.get(f"{relative[1]}/{relative[2]}")
        return Node(found or {}, f"{inside.place}:{address[:1] and 'reference'}", inside.wrong)

    def address(self, kind: str, own: str, server: str = "") -> tuple[str, str]:
        """Return a resource's id as an identifier: (server and type, id)."""
        before = server or self.issuer
        return (f"{before}/{kind}" if before else kind), own

    def person(self, reference: Node, inside: Node) -> tuple[str, str]:
        """Return (issuer, identifier) of the patient that a Reference points to; ("", "") where it says nothing."""
        stated = numbered(reference.one("identifier"))
        found = self.find(reference, inside)
        if found.text("resourceType") == "Patient":
            known = first_identifier(found)
            if known:
                return known[0]
            if found.text("id"):
                return self.address("Patient", found.text("id"))
        if stated[1]:
            return stated
        address = reference.text("reference")
        relative = _RELATIVE.search(address)
        if relative is not None and relative[1] == "Patient":
            return self.address("Patient", relative[2], address[: relative.start()].rstrip("/"))
        return ("urn", address) if address.startswith("urn:") else ("", "")

    def names(self, references: list[Node], inside: Node) -> tuple[str, ...]:
        """Return the names of persons and places that References point to or display."""
        names = []
        for reference in references:
            names.append(reference.text("display"))
            found = self.find(reference, inside)
            names += [human_name(n) for n in found.many("name")] if isinstance(found.content.get("name"), list) else []
            if found.text("resourceType") == "PractitionerRole":
                names += self.names([found.one("practitioner")], found)
        return words_of(names)
