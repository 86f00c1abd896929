"""Sets that labels and report metrics are measured on, and a plain NegEx as a peer. Not a benchmark itself.

The Indiana University reports (CC BY-NC-ND) are read where they lie and no text of theirs is written anywhere.
"""

from __future__ import annotations

import csv
import hashlib
import re
import tarfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from isocenter.core.knowledge import FINDINGS

# Column of the hand-checked sheet -> findings that count for it. Its column Hernia is empty, and is left out.
COLUMNS: dict[str, tuple[str, ...]] = {
    "Atelectasis": ("atelectasis",),
    "Cardiomegaly": ("cardiomegaly",),
    "Effusion": ("pleural effusion", "hydropneumothorax"),
    "Infiltration": ("infiltrate",),
    "Mass": ("mass",),
    "Nodule": ("nodule", "calcified nodule"),
    "Pneumonia": ("pneumonia",),
    "Pneumothorax": ("pneumothorax", "hydropneumothorax"),
    "Consolidation": ("consolidation",),
    "Edema": ("pulmonary edema",),
    "Emphysema": ("emphysema",),
    "Fibrosis": ("fibrosis",),
    "Pleural_Thickening": ("pleural thickening",),
}


def open_indiana(data: Path) -> tuple[dict[str, str], dict[str, dict[str, bool]]]:
    """Return findings and impression of each report, and what people marked in those that were checked by hand."""
    folder = data / "reports_iu_xray"
    texts: dict[str, str] = {}
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.name.endswith(".xml") else None
            if stream is not None:
                parts = {p.get("Label"): p.text or "" for p in ElementTree.parse(stream).getroot().iter("AbstractText")}
                text = f"{parts.get('FINDINGS', '')}\n\n{parts.get('IMPRESSION', '')}"
                texts[f"CXR{Path(member.name).stem}"] = text
    with (folder / "findings_labels_14.csv").open(encoding="utf-8") as file:
        marked = {r["filename"]: {c: r[c] == "1" for c in COLUMNS} for r in csv.DictReader(file)}
    return texts, marked


def in_view(name: str) -> bool:
    """Tell whether a report is of the half that words and rules were improved on: by a hash of its name."""
    return hashlib.sha256(name.encode()).digest()[0] % 2 == 0


def phrases(file: Path) -> list[str]:
    """Return the lines of a phrase file; "_" stands for the end of a word there."""
    return [line.strip().strip("_").strip() for line in file.read_text("utf-8").splitlines() if line.strip()]


# Words that no report in view holds, and that would be completed to another one.
_WHOLE = {"plate": "plate", "coil": "coil", "arthroplast": "arthroplasty"}


def completed(stem: str, words: Counter[str]) -> str:
    """Complete the last word of a phrase that is cut off ("atelecta") to the most frequent word that begins so."""
    *first, last = stem.split()
    if last in _WHOLE:
        return " ".join([*first, _WHOLE[last]])
    if last in words:
        return stem
    found = [w for w, _ in words.most_common() if w.startswith(last)]
    return " ".join([*first, found[0] if found else last])


_DENY = r"\b(?:no|not|without|denies|free of|negative for|absence of|clear of|rules? out|resolved)\b"
_DOUBT = r"\b(?:possibl[ey]|probabl[ey]|likely|may|could|might|suspected|suspicious|suggest\w*|questionable|versus)\b"
_AFTER = r"\b(?:not (?:seen|identified|present|excluded)|absent|resolved|unlikely|is possible|cannot be excluded)\b"
WINDOW = 5


class PlainNegEx:
    """A plain NegEx of our own: words of findings, and a trigger within five words before or behind, in its sentence.

    It has the same words for findings as ours, and none of the rules: no parts and predicates, no lists, no clauses.

    Source:
        Chapman et al., Journal of Biomedical Informatics 2001.
    """

    def __init__(self) -> None:
        words = {w: f.name for f in FINDINGS.of("chest radiograph") if not f.normal for w in f.words}
        listed = sorted(words, key=len, reverse=True)
        self.names = words
        self.finding = re.compile(r"\b(" + "|".join(map(re.escape, listed)) + r")(?:e?s)?\b")
        self.deny, self.doubt, self.after = re.compile(_DENY), re.compile(_DOUBT), re.compile(_AFTER)

    def label(self, text: str) -> dict[str, int]:
        """Return findings: 1 there, 0 denied, -1 doubted; there outweighs doubted outweighs denied."""
        found: dict[str, int] = {}
        for sentence in re.split(r"[.;:?!]|\n\s*\n", text.lower()):
            for match in self.finding.finditer(sentence):
                before = " ".join(sentence[: match.start()].split()[-WINDOW:])
                behind = " ".join(sentence[match.end() :].split()[:WINDOW])
                value = 1
                if self.deny.search(before) or self.after.search(behind):
                    value = 0
                elif self.doubt.search(before):
                    value = -1
                name = self.names[match[1]]
                found[name] = max(found.get(name, value), value, key=(0, -1, 1).index)
        return found


class NegSpacy:
    """negspaCy on a blank English pipeline: its own terms, our words for findings, sentences by full stops.

    Source:
        github.com/jenojp/negspacy (MIT); only where it is installed, in an environment of its own.
    """

    def __init__(self) -> None:
        import spacy
        from negspacy.negation import Negex  # noqa: F401  # registers the component

        self.pipeline = spacy.blank("en")
        self.pipeline.add_pipe("sentencizer")
        ruler = self.pipeline.add_pipe("entity_ruler", config={"phrase_matcher_attr": "LOWER"})
        self.names: dict[str, str] = {}
        for finding in FINDINGS.of("chest radiograph"):
            for word in () if finding.normal else finding.words:
                for form in (word, f"{word}s"):
                    self.names.setdefault(form, finding.name)
        ruler.add_patterns([{"label": "FINDING", "pattern": form} for form in self.names])
        self.pipeline.add_pipe("negex", config={"ent_types": ["FINDING"]})

    def label(self, text: str) -> dict[str, int]:
        """Return findings: 1 there, 0 denied."""
        found: dict[str, int] = {}
        for entity in self.pipeline(text).ents:
            name = self.names[entity.text.lower()]
            found[name] = max(found.get(name, 0), int(not entity._.negex))
        return found
