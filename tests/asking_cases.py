"""Results to ask about: a chest radiograph, hippocampi, a breast, a tumour, one where nothing was answered."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from isocenter.verbs.asking.study import Examined
from isocenter.verbs.result import ResultDocument

__all__ = ["CASES", "code", "examined", "poisoned", "written"]

_SIDES = {"Right": "24028007", "Left": "7771000"}


def code(value: str, meaning: str, scheme: str = "SCT") -> dict[str, str]:
    return {"value": value, "scheme": scheme, "meaning": meaning}


def _image(modality: str, part: str, shape: tuple[int, int, int], spacing: Any, sha: str) -> dict[str, Any]:
    return {
        "index": 0, "modality": modality, "body_part": part, "quantity": "arbitrary", "channels": 1, "sha256": sha * 32,
        "geometry": {"shape_zyx": shape, "spacing_mm": spacing, "pixel_spacing_mm": None, "orientation": None,
                     "affine_zyx_to_lps_mm": None, "stack": "space"},
    }  # fmt: skip


def _segment(number: int, label: str, kind: dict[str, str], side: str | None) -> dict[str, Any]:
    return {
        "number": number, "label": label, "category": code("123037004", "Anatomical Structure"), "type": kind,
        "laterality": None if side is None else code(_SIDES[side], side), "algorithm_type": "AUTOMATIC",
        "algorithm_name": "a", "colour": (60, 150, 220),
    }  # fmt: skip


def _measured(name: str, value: float, unit: str, segment: int | None) -> dict[str, Any]:
    return {
        "name": code(name, name, "99ISOCENTER"), "derivation": None, "value": value, "unit": code(unit, unit, "UCUM"),
        "segment": segment,
    }  # fmt: skip


def _answer(task: str, title: str, sha: str, **more: Any) -> dict[str, Any]:
    model = {"name": "m", "version": "1", "weights_sha256": "0f" * 32, "licence": "CC0-1.0"}
    return {
        "task": task, "title": title, "image": 0, "abstained": None, "model": model, "inputs": (sha * 32,),
        "uncertainty": {"kind": "quality", "description": "d"}, **more,
    }  # fmt: skip


def _findings(
    task: str, title: str, sha: str, chances: Mapping[str, float], members: tuple[str, ...]
) -> dict[str, Any]:
    sure: dict[str, Any] = {"kind": "set", "description": "none is promised"}
    if members:
        sure = {
            "kind": "set",
            "description": "d",
            "level": 0.9,
            "members": [code(m, m, "99ISOCENTER") for m in members],
        }
    told = [_measured(f"Probability of {name}", p, "1", None) for name, p in chances.items()]
    return _answer(task, title, sha, uncertainty=sure, measurements=told)


def _document(key: str, image: dict[str, Any], predictions: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "created": "2026-01-01T00:00:00+00:00", "study": {"patient_key": key, "study_uid": "1.2"}, "images": [image],
        "predictions": predictions,
        "provenance": {"isocenter": "0", "python": "3.11", "packages": {}, "seed": 0, "config": {}},
    }  # fmt: skip


def chest(sha: str = "ab", effusion: float = 0.93, right: float = 24020.0) -> dict[str, Any]:
    lung = code("39607008", "Lung")
    lungs = [_segment(1, "Right lung", lung, "Right"), _segment(2, "Left lung", lung, "Left")]
    area = "Area at the detector plane"
    chances = {"Effusion": effusion, "Pneumothorax": 0.02, "Consolidation": 0.4, "Cardiomegaly": 0.95}
    return _document(
        "key-one", _image("DX", "CHEST", (1, 9, 9), None, sha),
        [
            _answer("lungs-cxr", "Lungs", sha, segments=lungs,
                    measurements=[_measured(area, right, "mm2", 1), _measured(area, 21340.0, "mm2", 2)]),
            _findings("chest", "Chest findings", sha, chances, ()),
            {"task": "hippocampus-t1", "title": "Hippocampus", "image": 0, "abstained": "needs MR", "model": None},
        ],
    )  # fmt: skip


def brain(sha: str = "cd", shrunk: float = 1.0) -> dict[str, Any]:
    site = code("5366008", "Hippocampus")
    parts = [
        ("Right", "anterior", 1.61),
        ("Right", "posterior", 1.42),
        ("Left", "anterior", 1.52),
        ("Left", "posterior", 1.37),
    ]
    segments = [_segment(n, f"{s} hippocampus, {p}", site, s) for n, (s, p, _) in enumerate(parts, start=1)]
    measured = [_measured("Volume", v * shrunk, "mL", n) for n, (_, _, v) in enumerate(parts, start=1)]
    further = [
        {"kind": "interval", "description": "d", "low": 0.9 * v * shrunk, "high": 1.1 * v * shrunk, "level": 0.9,
         "segment": n, "unit": code("mL", "mL", "UCUM")}
        for n, (_, _, v) in enumerate(parts, start=1)
    ]  # fmt: skip
    proof = {
        "grid": "identical", "grid_error_mm": 0.0, "exact": True,
        "segments": [{"number": n, "voxels": 9, "centroid_lps_mm": (-25.0 if s == "Right" else 25.0, 10.0, -12.0),
                      "volume_mm3": 1000 * v, "centroid_error_mm": 0.0, "volume_error": 0.0, "side": s[0]}
                     for n, (s, _, v) in enumerate(parts, start=1)],
    }  # fmt: skip
    file = {"path": "seg.nii.gz", "format": "NIfTI", "sha256": sha * 32, "size_bytes": 9, "proof": proof}
    made = _answer("hippocampus-t1", "Hippocampus", sha, segments=segments, measurements=measured, further=further,
                   files=[file])  # fmt: skip
    return _document("key-two", _image("MR", "BRAIN", (9, 9, 9), (1.0, 1.0, 1.0), sha), [made])


def breast() -> dict[str, Any]:
    chances = {"benign": 0.06, "malignant": 0.92, "normal": 0.02}
    made = _findings("breast", "Breast lesions", "ef", chances, ("malignant",))
    return _document("key-three", _image("US", "BREAST", (1, 9, 9), None, "ef"), [made])


def sarcoma() -> dict[str, Any]:
    outline = _segment(1, "lesion", code("52988006", "Lesion"), None)
    measured = [_measured("Volume", 412.0, "mL", 1), _measured("Long axis", 98.4, "mm", 1)]
    made = _answer("interact", "Outline what is pointed at", "12", segments=[outline], measurements=measured)
    return _document("key-four", _image("PT", "THIGH", (9, 9, 9), (3.0, 4.0, 4.0), "12"), [made])


def empty() -> dict[str, Any]:
    made = {"task": "lungs-cxr", "title": "Lungs", "image": 0, "abstained": "needs a chest radiograph"}
    return _document("key-five", _image("OT", "", (1, 9, 9), None, "34"), [made])


CASES: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    "chest": (chest(), chest("ba", effusion=0.05, right=23100.0)),
    "brain": (brain(), brain("dc", shrunk=1.3)),
    "breast": (breast(), None),
    "sarcoma": (sarcoma(), None),
    "empty": (empty(), None),
}
"""A result, and an earlier one or None, by name."""


@lru_cache
def examined(name: str) -> Examined:
    """Return a case, opened; it is frozen, so that all may share it."""
    now, before = CASES[name]
    return Examined(
        ResultDocument.model_validate(now), None if before is None else ResultDocument.model_validate(before)
    )


def written(document: dict[str, Any], folder: Path) -> Path:
    """Write a result as `isocenter read` would, and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(ResultDocument.model_validate(document).to_json(), "utf-8")
    return folder


def poisoned(attack: str) -> Examined:
    """A result all of whose free text holds an attack."""
    made = copy.deepcopy(chest())
    made["study"].update(patient_key=attack, notes=[attack])
    made["images"][0].update(description=attack, quantity=attack, notes=[attack], series_uid=attack, modality="DX")
    made["images"].append({**made["images"][0], "index": 1, "modality": attack, "body_part": attack})
    made["left_out"] = [{"where": attack, "reason": attack, "kind": "refused"}]
    made["not_done"] = [{"what": attack, "why": attack}]
    for prediction in made["predictions"]:
        prediction.update(title=attack, notes=[attack], intended_use=attack, not_for=attack)
        if prediction["abstained"]:
            prediction.update(abstained=attack, task=attack)
            continue
        prediction["uncertainty"]["description"] = attack
        prediction["model"].update(name=attack, version=attack, weights_sha256=attack, licence=attack)
        for segment in prediction.get("segments", ()):
            segment.update(label=attack, algorithm_name=attack)
            segment["type"]["meaning"] = attack
    odd = copy.deepcopy(made["predictions"][1])
    odd["measurements"][0]["name"]["meaning"] = f"Probability of {attack}"
    odd["measurements"] = odd["measurements"][:1]
    made["predictions"].append(odd)
    return Examined(ResultDocument.model_validate(made))
