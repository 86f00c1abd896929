"""Whether the part of the body that a question names is where its finding lies; and what the words mean there.

"Fluid around the heart" is no pleural effusion, and "an opacity in the adrenal gland" is no finding of a chest. A
question that names a finding and a part of the body is answered where the finding lies in it, read as the finding that
the same words mean there, or refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType

from isocenter.core.knowledge import FINDINGS
from isocenter.verbs.asking.names import Found, Lexicon

__all__ = ["fits", "placed"]

_WIDER: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "pleura": ("lung",), "hilum of lung": ("lung", "mediastinum"), "pulmonary artery": ("lung",),
        "heart": ("mediastinum",), "pericardium": ("heart", "mediastinum"), "thoracic aorta": ("mediastinum",),
        "thoracic lymph node": ("mediastinum", "hilum of lung"), "thoracic spine": ("bone of thorax",),
        # Fractures and lesions of the spine are counted among those of the thorax.
        "bone of thorax": ("thoracic spine",), "peritoneal cavity": ("diaphragm",),
        "optic disc": ("retina",), "optic cup": ("optic disc", "retina"), "retinal vessel": ("retina",),
    }
)  # fmt: skip
"""Parts of the body that hold another, or that people name for it: a pleural effusion is one "of the lung"."""
_ADJECTIVES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "heart": ("pericardial", "cardiac"), "pericardium": ("pericardial",), "pleura": ("pleural",),
        "mediastinum": ("mediastinal",), "hilum of lung": ("hilar",), "adrenal gland": ("adrenal",),
        "retina": ("retinal", "fundus"), "bone of thorax": ("bone", "rib"), "hippocampus": ("hippocampal",),
    }
)  # fmt: skip
_ALIKE: Mapping[str, str] = MappingProxyType({"fluid": "effusion"})
_OF = frozenset({"of", "in", "within", "inside", "on", "at"})
_BETWEEN = _OF | {"the", "a", "an", "this", "that", "left", "right", "upper", "lower", "anterior", "posterior"}


def fits(finding: str, site: str) -> bool:
    """Tell whether a finding lies in a part of the body.

    Example:
        >>> fits("pleural effusion", "lung"), fits("pleural effusion", "heart")
        (True, False)
    """
    own = FINDINGS.named(finding)
    if site == own.site or site in _WIDER.get(own.site, ()):
        return True
    return site == "chest" and own.exam == "chest radiograph"


def placed(found: Sequence[Found], stems: Sequence[str], lexicon: Lexicon) -> list[str] | None:
    """Return what is asked about, each finding where it is said to be; None where no finding is known there.

    Args:
        found: Names in the question.
        stems: Its words, in stems.
        lexicon: Names that may be asked for.
    """
    sites = [one for one in found if one.name not in FINDINGS and one.name != "lesion"]
    if _nested(sites, stems):
        return None
    things = [one for one in found if one.name in FINDINGS or one.name == "lesion"]
    if not sites or not things:
        return list(dict.fromkeys(one.name for one in found))
    names: list[str] = []
    for one in things:
        if one.name in FINDINGS and FINDINGS.named(one.name).normal and not _lies_in(one.name, sites):
            continue  # "is the heart normal?" asks what was found in it
        name = one.name if _lies_in(one.name, sites) else _there(one, sites, stems, lexicon)
        if name is None:
            return None
        names.append(name)
    return list(dict.fromkeys([*names, *(site.name for site in sites)]))


def _lies_in(name: str, sites: Sequence[Found]) -> bool:
    return name in FINDINGS and all(fits(name, site.name) for site in sites)


def _there(one: Found, sites: Sequence[Found], stems: Sequence[str], lexicon: Lexicon) -> str | None:
    """Return the finding that the same words mean at these parts of the body, or None."""
    said = " ".join(stems[one.start : one.end])
    for site in sites:
        for word in (*_ADJECTIVES.get(site.name, ()), site.name):
            name = lexicon.resolve(f"{word} {_ALIKE.get(said, said)}")
            if name is not None and _lies_in(name, sites):
                return name
    return None


def _nested(sites: Sequence[Found], stems: Sequence[str]) -> bool:
    """Tell whether a part of the body is named as one of another: "the hippocampus of the adrenal gland"."""
    for first, second in pairwise(sites):
        between = set(stems[first.end : second.start])
        wider = (*_WIDER.get(first.name, ()), "chest")
        if first.name != second.name and between & _OF and between <= _BETWEEN and second.name not in wider:
            return True
    return False
