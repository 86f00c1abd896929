"""Whether DICOM objects that an algorithm made keep to what IHE's AI Results profile and the standard ask of them.

    check_objects(folder) -> a verdict on each rule, by name, with the section of the standard that it comes from

The rules are as the authors of this package read them: self-tested, not certified by IHE. Rules that the profile adds
to DICOM are marked; sections are cited of the standard alone.
"""

from __future__ import annotations

from isocenter.data.conformance import pictures, relations, reports  # noqa: F401 - they register their rules
from isocenter.data.conformance.rules import RULES, Objects, Rule, Verdict, check_objects, load_objects

__all__ = ["RULES", "Objects", "Rule", "Verdict", "check_objects", "load_objects"]
