"""BIDS: images as raw data, masks as a derivative of them with the table of their labels.

Source:
    Brain Imaging Data Structure 1.10, derivatives, "Discrete segmentations"; names of PET from its extension. CT has
    none in the standard; `ct/sub-*_ct.nii.gz` follows BEP 024, and a .bidsignore says so to the validator.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from isocenter.core import Image
from isocenter.core.errors import ConfigError, DataError
from isocenter.data.images.nifti import read_nifti, read_nifti_mask
from isocenter.data.images.proof import prove, prove_image
from isocenter.data.labelled.cases import LabelledCase, LabelledSet
from isocenter.data.labelled.export.form import ExportOptions, Ready, as_labelmap, write_image, write_mask
from isocenter.version import __version__

__all__ = ["Bids"]

_VERSION = "1.10.0"
_OF_MODALITY = {"CT": ("ct", "ct"), "PT": ("pet", "pet")}
_ANATOMY = re.compile(r"(T1w|T2w|T2star|T2starw|FLAIR|PDw|PDT2|inplaneT1|inplaneT2|angio|UNIT1|MEGRE)")
_PIPELINE = "isocenter"


class Bids:
    """A BIDS folder and its derivative."""

    def __init__(self, labelled: LabelledSet, folder: Path, options: ExportOptions) -> None:
        self._labelled, self._folder, self._suffix = labelled, folder, options.suffix
        self._subjects: dict[str, str] = {}
        self._images: dict[str, int] = {}
        self._ct = False
        if self._suffix and not _ANATOMY.fullmatch(self._suffix) and self._suffix not in ("ct", "pet"):
            raise ConfigError(f"{self._suffix!r} is no suffix of BIDS for an image; T1w, T2w, FLAIR, pet, ... are")

    def add(self, ready: Ready) -> None:
        """Write a case."""
        if ready.image.geometry.affine is None:
            raise DataError(
                "it has no place in the patient, and BIDS holds volumes; export pictures as COCO or folders"
            )
        place, suffix = self._kind(ready.image)
        subject = self._subject(ready.case.patient)
        run = self._images[subject] = self._images.get(subject, 0) + 1
        stem = f"sub-{subject}_run-{run}"
        raw = self._folder / f"sub-{subject}" / place
        made = self._folder / "derivatives" / _PIPELINE / f"sub-{subject}" / place
        for folder in (raw, made):
            folder.mkdir(parents=True, exist_ok=True)
        image, label = raw / f"{stem}_{suffix}.nii.gz", made / f"{stem}_desc-confirmed_dseg.nii.gz"
        mask = as_labelmap(ready)
        write_image(ready.image, image)
        write_mask(mask, label)
        prove_image(ready.image, read_nifti(image))
        prove(mask, read_nifti_mask(label, mask.segments))
        source = f"bids:raw:{image.relative_to(self._folder).as_posix()}"
        facts = {"Manual": True, "Sources": [source], "Atlas": "none"}
        (made / f"{stem}_desc-confirmed_dseg.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")

    def finish(self, cases: Sequence[LabelledCase]) -> Iterable[str]:
        """Write what describes the set."""
        made = self._folder / "derivatives" / _PIPELINE
        about = {
            "Name": self._labelled.name,
            "BIDSVersion": _VERSION,
            "License": self._labelled.licence or "not stated",
        }
        (self._folder / "dataset_description.json").write_text(
            json.dumps({**about, "DatasetType": "raw"}, indent=1) + "\n", "utf-8"
        )
        derived = {
            **about,
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "Isocenter", "Version": __version__}],
            "DatasetLinks": {"raw": "../.."},
        }
        (made / "dataset_description.json").write_text(json.dumps(derived, indent=1) + "\n", "utf-8")
        rows = [f"{number}\t{name}\n" for number, name in enumerate(self._labelled.classes, start=1)]
        (made / "desc-confirmed_dseg.tsv").write_text("index\tname\n0\tbackground\n" + "".join(rows), "utf-8")
        (self._folder / "README").write_text(
            f"{self._labelled.name}: images with masks that people confirmed, exported by Isocenter.\n", "utf-8"
        )
        parts = {self._subjects[case.patient]: case.split for case in cases}
        table = "".join(f"sub-{subject}\t{part or 'n/a'}\n" for subject, part in sorted(parts.items()))
        (self._folder / "participants.tsv").write_text("participant_id\tsplit\n" + table, "utf-8")
        (self._folder / "participants.json").write_text(
            json.dumps({"split": {"Description": "part of the set that the subject belongs to"}}, indent=1) + "\n",
            "utf-8",
        )
        if not self._ct:
            return []
        (self._folder / ".bidsignore").write_text("*_ct.*\nct/\n", "utf-8")
        return ["BIDS has no CT yet; its files follow BEP 024 and are named in .bidsignore"]

    def _kind(self, image: Image) -> tuple[str, str]:
        """Return the folder and the suffix of an image."""
        if self._suffix and self._suffix not in ("ct", "pet"):
            return "anat", self._suffix
        found = _OF_MODALITY.get(self._suffix.upper().replace("PET", "PT") or image.modality)
        if found is None:
            raise ConfigError(
                f"BIDS names the contrast of an image ({image.modality or 'its modality is not known'}): say which "
                "one, as T1w, T2w or FLAIR"
            )
        self._ct = self._ct or found[0] == "ct"
        return found

    def _subject(self, patient: str) -> str:
        if patient not in self._subjects:
            plain = re.sub(r"[^A-Za-z0-9]", "", patient) or "x"
            taken = set(self._subjects.values())
            name, number = plain, 1
            while name in taken:
                number += 1
                name = f"{plain}x{number}"
            self._subjects[patient] = name
        return self._subjects[patient]
