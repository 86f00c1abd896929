"""Drafts of real readings: a chest radiograph whose sentences lead to where the networks looked, and its signing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import isocenter
from isocenter.data.images.nifti import read_nifti
from isocenter.verbs.result import read_result
from isocenter.verbs.serving.asking import Conversations
from isocenter.verbs.serving.drafts import DraftKeeper, ReadingPlace
from isocenter.viewer.report_models import AskRequest, DraftEdit, DraftRequest, EditedSentence, SignRequest

pytestmark = pytest.mark.real
pytest.importorskip("torch")
STUDY = "1" * 16


def test_a_chest_radiograph_from_answers_to_a_signed_report(shared_data: Path, tmp_path: Path) -> None:
    image = sorted((shared_data / "cxr_nih" / "images_256").glob("*.png"))[0]
    isocenter.diagnose(image, tmp_path / "r", tasks=("chest-xray",), modality="DX", body_part="CHEST")
    place = ReadingPlace("2" * 16, tmp_path / "r", {0: "3" * 16})
    keeper = DraftKeeper(tmp_path / "drafts", lambda _study, _reading: place)
    draft, _ = keeper.create(STUDY, DraftRequest(), "ab")
    sentences = [(x.name, s) for p in draft.parts for x in p.sections for s in x.sentences]
    seen = [p for _, s in sentences for p in s.evidence if p.map is not None]
    assert seen and draft.withheld == 0 and all(s.evidence for name, s in sentences if name == "findings")
    for where in seen:
        assert where.map is not None and where.index_zyx is not None and where.point_lps_mm is None
        stored = read_nifti(tmp_path / "r" / where.map.file).array[0]
        assert stored.dtype == np.uint8 and stored[where.index_zyx] == stored.max() == 255, "the map's strongest voxel"
    result = read_result(tmp_path / "r")
    assert {f.path for p in result.predictions for f in p.files} >= {p.map.file for p in seen if p.map is not None}
    # A side that no radiograph of this set states can't be written into it.
    told = next(s for name, s in sentences if name == "findings" and s.text.startswith(("Possible", "No ")))
    sided = told.text.replace("Possible ", "Possible left ").replace("No ", "No left ")
    edit = tuple(
        EditedSentence(id=s.id, section=name, text=sided if s.id == told.id else s.text) for name, s in sentences
    )
    after = keeper.edit(draft.id, DraftEdit(version=1, sentences=edit), "ab")
    refused = [s for p in after.parts for x in p.sections for s in x.sentences if s.verdict == "withheld"]
    assert [s.id for s in refused] == [told.id] and "left" in refused[0].reason, refused
    back = tuple(EditedSentence(id=s.id, section=name, text=s.text) for name, s in sentences)
    keeper.edit(draft.id, DraftEdit(version=2, sentences=back), "ab")
    signed = keeper.sign(draft.id, SignRequest(version=3, by="A. Reader"), "ab").signed
    assert signed is not None and [f.form for f in signed.files] == ["fhir", "pdf"]
    bundle = json.loads(keeper.file(draft.id, 3, "report.fhir.json").path.read_bytes())
    values = [e["resource"]["valueQuantity"]["value"] for e in bundle["entry"] if "valueQuantity" in e["resource"]]
    chances = [m.value for p in result.answered for m in p.measurements if m.name.meaning.startswith("Probability of ")]
    assert values and set(values) <= set(chances)
    found = Conversations(lambda _study, _reading: place).ask(STUDY, AskRequest(question="Is there an effusion?"))
    assert found.answer[0].evidence and found.outcome in ("answered", "not found")
