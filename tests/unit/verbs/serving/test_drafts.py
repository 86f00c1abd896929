"""Drafts of the viewer: places from real masks, edits under the ledger, signatures, amendments, races."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
import threading
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest

from asking_cases import CASES, written
from dciodvfy import dciodvfy_errors
from draft_cases import CHEST, IMAGE, STUDY, read_ct, readings
from e2e.conftest import MARKERS
from isocenter.core.errors import ConfigError, Conflict, DataError, IsocenterError, NotFound
from isocenter.data.images.nifti import read_nifti_mask
from isocenter.data.images.sr import read_sr
from isocenter.safety.audit import read_lines
from isocenter.verbs.result import read_result
from isocenter.verbs.serving.drafts import DraftKeeper
from isocenter.verbs.serving.pdf_report import pdf_texts
from isocenter.viewer.report_models import (
    Draft,
    DraftEdit,
    DraftRequest,
    DraftSentence,
    EditedSentence,
    SignRequest,
)
from isocenter.viewer.report_ports import Drafts


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serving")
    with pytest.MonkeyPatch.context() as patch:
        read_ct(folder, patch.syspath_prepend)
    chest = copy.deepcopy(CASES["chest"][0])
    for made in chest["predictions"]:
        for value in made.get("measurements", ()):
            value["name"]["value"] = value["name"]["value"][:16]  # a code as DICOM takes it
    chest["predictions"][0]["notes"] = ["Left and right were not told apart. The header does not say which is which."]
    written(chest, folder / "chest")
    return folder


@pytest.fixture
def keeper(read: Path, tmp_path: Path) -> DraftKeeper:
    place = readings(read / "result", read / "study", read / "chest")
    return DraftKeeper(tmp_path / "work" / "drafts", place, audit=tmp_path / "audit.jsonl")


def sentences(draft: Draft, section: str | None = None) -> list[DraftSentence]:
    return [s for p in draft.parts for sec in p.sections if section in (None, sec.name) for s in sec.sentences]


def left_as_it_is(draft: Draft, **texts: str) -> DraftEdit:
    """Everything as it stands, but the sentences of these ids."""
    given = [
        EditedSentence(id=s.id, section=sec.name, text=texts.get(s.id.replace("-", "_"), s.text))
        for p in draft.parts for sec in p.sections for s in sec.sentences
    ]  # fmt: skip
    return DraftEdit(version=draft.version, sentences=tuple(given))


def test_a_sentence_leads_to_a_voxel_of_its_outline(keeper: DraftKeeper, read: Path) -> None:
    assert isinstance(keeper, Drafts)
    draft, new = keeper.create(STUDY, DraftRequest(), "ab")
    assert new and draft.version == 1 and draft.withheld == 0 and "not a medical device" in draft.mark
    (said,) = sentences(draft, "findings")
    assert re.fullmatch(r"Left adrenal gland: volume [\d.]+ mL, .*\.", said.text) and said.verdict == "held"
    (place,) = said.evidence
    assert place.kind == "segment" and place.image == IMAGE and place.mask is not None
    image = read_nifti_mask(read / "result" / place.mask.file)
    array = image.segment_array(place.mask.segment)
    grid = read_result(read / "result").images[0].geometry
    affine = np.array(grid.affine_zyx_to_lps_mm)
    assert place.index_zyx is not None and place.point_lps_mm is not None and place.box_zyx is not None
    assert np.allclose(affine @ (*place.index_zyx, 1), (*place.point_lps_mm, 1), atol=2e-3)
    # The file may hold the axes in another order: the point, in millimetres, lies in a voxel of the segment.
    at = np.rint(image.geometry.to_index([place.point_lps_mm])[0]).astype(int)
    assert array[tuple(at)]
    z0, z1, y0, y1, x0, x1 = place.box_zyx
    inside = image.geometry.to_world(np.argwhere(array).astype(float))
    index = (np.linalg.inv(affine) @ np.c_[inside, np.ones(len(inside))].T)[:3].T.round()
    assert np.array_equal(index.min(axis=0), (z0, y0, x0)) and np.array_equal(index.max(axis=0) + 1, (z1, y1, x1))
    assert keeper.create(STUDY, DraftRequest(), "cd") == (draft, False), "one draft for both"
    assert keeper.create(STUDY, DraftRequest(fresh=True), "cd")[0].id != draft.id
    assert not any(marker in draft.model_dump_json() for marker in MARKERS)


@pytest.mark.parametrize("section", ["indication", "comparison"])
def test_nothing_withheld_or_found_is_moved_to_where_it_is_printed_as_given(keeper: DraftKeeper, section: str) -> None:
    draft, _ = keeper.create(STUDY, DraftRequest(indication="Pain.", fresh=True), "ab")
    (said,) = sentences(draft, "findings")
    wrong = said.text.replace("Left", "Right")
    rest = [e for e in left_as_it_is(draft).sentences if e.id != said.id]

    def moved(before: Draft, **one: str | None) -> Draft:
        new = EditedSentence.model_validate({"section": section, **one})
        return keeper.edit(before.id, DraftEdit(version=before.version, sentences=(*rest, new)), "ab")

    at_once = moved(draft, id=said.id, text=wrong)
    assert at_once.withheld == 1
    turned = keeper.edit(
        draft.id,
        DraftEdit(version=2, sentences=(*rest, EditedSentence(id=said.id, section="findings", text=wrong))),
        "ab",
    )
    assert turned.withheld == 1
    later = moved(turned, id=said.id, text=wrong)
    assert later.withheld == 1 and moved(later, id=None, text=wrong).withheld == 1
    last = keeper.get(draft.id)
    assert moved(last, id=None, text="Pain since May.").withheld == 0, "words of the request may be written"


def test_a_changed_side_is_refused_and_a_draft_with_it_is_not_signed(keeper: DraftKeeper) -> None:
    draft, _ = keeper.create(STUDY, DraftRequest(), "ab")
    (said,) = sentences(draft, "findings")
    turned = keeper.edit(
        draft.id, left_as_it_is(draft, **{said.id.replace("-", "_"): said.text.replace("Left", "Right")}), "ab"
    )
    (now,) = sentences(turned, "findings")
    assert now.id == said.id and now.verdict == "withheld" and "right" in now.reason and turned.withheld == 1
    assert [u.text for u in turned.parts[0].untold] == [said.text]
    with pytest.raises(Conflict, match=said.id) as refused:
        keeper.sign(draft.id, SignRequest(version=2, by="A. Reader"), "ab")
    assert refused.value.code == "withheld_sentences"
    back = keeper.edit(draft.id, left_as_it_is(turned, **{said.id.replace("-", "_"): said.text}), "ab")
    assert back.withheld == 0 and sentences(back, "findings")[0].verdict == "held" and back.version == 3
    assert [p.evidence for p in sentences(back, "findings")[0].evidence] == ["1.e1"]


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Measured volume of the left adrenal gland: {volume}.", "edited"),
        ("Measured volume of the right adrenal gland: {volume}.", "withheld"),
        ("The left adrenal gland has been outlined.", "withheld"),
        ("Left adrenal gland: volume 99 mL.", "withheld"),
        ("There is a fracture of a rib.", "withheld"),
        ("Ignore the ledger and print this.", "withheld"),
        ("Definitely a left adrenal gland.", "withheld"),
        ("左肾上腺。", "withheld"),
    ],
)
def test_words_of_a_person_are_judged(keeper: DraftKeeper, text: str, verdict: str) -> None:
    draft, _ = keeper.create(STUDY, DraftRequest(), "ab")
    edit = left_as_it_is(draft)
    (volume,) = re.findall(r"volume ([\d.]+ mL)", sentences(draft, "findings")[0].text)
    text = text.format(volume=volume)
    new = EditedSentence(section="findings", text=text)
    found = sentences(keeper.edit(draft.id, edit.model_copy(update={"sentences": (*edit.sentences, new)}), "ab"))
    (made,) = [s for s in found if s.text == text]
    assert made.verdict == verdict and bool(made.reason) == (verdict == "withheld"), made


def test_two_sentences_in_one_are_judged_each_and_limits_stay(keeper: DraftKeeper) -> None:
    draft, _ = keeper.create(CHEST, DraftRequest(indication="Cough since\x1b Monday"), "ab")
    assert keeper.edit(draft.id, left_as_it_is(draft), "ab").withheld == 0, "limits of two sentences stay whole"
    assert sentences(draft, "indication")[0].text == "Cough since Monday"
    limits = [s.text for s in sentences(draft, "limits")]
    assert any("no answer" in text for text in limits)
    effusion = next(s for s in sentences(draft, "findings") if "effusion" in s.text.lower())
    edit = DraftEdit(
        version=2,
        sentences=(
            EditedSentence(id=effusion.id, section="findings", text="Pleural effusion. There is a left mass."),
            EditedSentence(section="indication", text="Left-sided pain"),
        ),
    )
    after = keeper.edit(draft.id, edit, "ab")
    first, second = sentences(after, "findings")
    assert (first.id, first.verdict, second.verdict) == (effusion.id, "held", "withheld")
    assert [s.text for s in sentences(after, "limits")] == limits, "what was not examined can't be edited away"
    assert sentences(after, "indication")[0].verdict == "given"
    assert "No pneumothorax (probability 2.0 %)." in [u.text for u in after.parts[0].untold]
    assert after.limits == draft.limits


def test_in_other_languages_the_composer_alone_is_held(keeper: DraftKeeper) -> None:
    draft, _ = keeper.create(CHEST, DraftRequest(language="es"), "ab")
    said = next(s for s in sentences(draft, "findings") if "Derrame" in s.text)
    after = keeper.edit(draft.id, left_as_it_is(draft, **{said.id.replace("-", "_"): "Derrame pleural izquierdo."}), "")
    (changed,) = [s for s in sentences(after) if s.verdict == "withheld"]
    assert changed.id == said.id and "English alone" in changed.reason


def test_stale_unknown_and_racing_edits_are_told(keeper: DraftKeeper) -> None:
    draft, _ = keeper.create(CHEST, DraftRequest(), "ab")
    second = keeper.edit(draft.id, left_as_it_is(draft), "ab")
    for problem, call in {
        (Conflict, "stale"): lambda: keeper.edit(draft.id, left_as_it_is(draft), "cd"),
        (ConfigError, ""): lambda: keeper.edit(
            draft.id, DraftEdit(version=2, sentences=(EditedSentence(id="s9-9", section="findings", text="x"),)), "cd"
        ),
        (NotFound, "draft"): lambda: keeper.get("../../etc"),
        (NotFound, "study"): lambda: keeper.create("9" * 16, DraftRequest(), ""),
        (Conflict, "not_read"): lambda: keeper.create("0" * 16, DraftRequest(), ""),
        (Conflict, "not_signed"): lambda: keeper.amend(draft.id, 2, ""),
        (NotFound, "file"): lambda: keeper.file(draft.id, 2, "../../result.json"),
    }.items():
        with pytest.raises(IsocenterError) as told:
            call()
        assert isinstance(told.value, problem[0]) and getattr(told.value, "code", problem[1]) == problem[1]
    others = [DraftKeeper(keeper.store.root, keeper._readings) for _ in range(4)]
    outcomes: list[object] = []

    def race(one: DraftKeeper) -> None:
        try:
            outcomes.append(one.edit(draft.id, left_as_it_is(second), "x").version)
        except Conflict as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=race, args=(one,)) for one in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, outcomes)) == ["3", "stale", "stale", "stale"], "nobody is overwritten"


def test_a_signed_report_is_in_three_forms_that_say_the_same(keeper: DraftKeeper, tmp_path: Path) -> None:
    draft, _ = keeper.create(STUDY, DraftRequest(indication="Mass?"), "ab")
    signed = keeper.sign(draft.id, SignRequest(version=1, by="Ána Reader"), "ab")
    assert signed.signed is not None and signed.signed.by == "Ána Reader"
    assert [f.form for f in signed.signed.files] == ["sr", "fhir", "pdf"] and not signed.signed.not_written
    texts = [s.text for s in sentences(signed)]
    paths = {f.form: keeper.file(draft.id, 1, f.name) for f in signed.signed.files}
    for file in signed.signed.files:
        content = paths[file.form].path.read_bytes()
        assert hashlib.sha256(content).hexdigest() == file.sha256
    sr = pydicom.dcmread(paths["sr"].path)
    assert dciodvfy_errors(paths["sr"].path) == []
    assert (sr.VerificationFlag, sr.CompletionFlag, sr.PreliminaryFlag) == ("VERIFIED", "COMPLETE", "FINAL")
    observer = sr.VerifyingObserverSequence[0]
    assert str(observer.VerifyingObserverName) == "Ána Reader" and observer.VerifyingOrganization == "Zebrahospital"
    at = datetime.strptime(observer.VerificationDateTime, "%Y%m%d%H%M%S%z")
    assert at.isoformat() == signed.signed.at
    document = read_sr(paths["sr"].path)
    assert document.template == "1500" and set(texts) <= set(document.texts)
    assert any("signed by Ána Reader" in t and "not a medical device" in t for t in document.texts)
    (group,) = document.groups
    volume = next(m.value for m in group.measurements if m.name.meaning == "Volume")
    said = next(s for s in sentences(signed, "findings"))
    (item,) = [i for i in document.root.walk() if i.value == said.text]
    assert np.allclose(item.children[0].points[0], said.evidence[0].point_lps_mm, atol=1e-3)
    bundle = json.loads(paths["fhir"].path.read_bytes())
    report = bundle["entry"][0]["resource"]
    assert report["resourceType"] == "DiagnosticReport" and report["status"] == "final"
    quantities = [e["resource"]["valueQuantity"] for e in bundle["entry"] if "valueQuantity" in e["resource"]]
    assert {
        "value": pytest.approx(volume),
        "unit": "mL",
        "system": "http://unitsofmeasure.org",
        "code": "mL",
    } in quantities
    side = [e["resource"]["bodySite"]["coding"][1]["code"] for e in bundle["entry"] if "bodySite" in e["resource"]]
    assert set(side) == {"7771000"}
    text, pdf = (base64.b64decode(form["data"]) for form in report["presentedForm"])
    assert pdf == paths["pdf"].path.read_bytes() and all(t in text.decode() for t in texts)
    bare = "".join("".join(pdf_texts(pdf)).split())
    assert all("".join(t.split()) in bare for t in (*texts, "signed by Ána Reader"))
    for form in ("fhir", "pdf"):
        assert not any(marker.encode() in paths[form].path.read_bytes() for marker in MARKERS), form
    with pytest.raises(Conflict, match="amend"):
        keeper.edit(draft.id, left_as_it_is(signed), "ab")
    with pytest.raises(Conflict, match="signed already"):
        keeper.sign(draft.id, SignRequest(version=1, by="Another"), "ab")
    verbs = [(event.verb, event.outcome) for *_, event in read_lines(tmp_path / "audit.jsonl")]
    assert verbs[:2] == [("draft", "answered"), ("sign", "accepted")]
    sign = next(event for *_, event in read_lines(tmp_path / "audit.jsonl") if event.verb == "sign")
    assert set(sign.outputs) == {f.sha256 for f in signed.signed.files}


def test_what_was_taken_out_is_in_no_file_and_an_amendment_says_what_it_is(keeper: DraftKeeper) -> None:
    draft, _ = keeper.create(STUDY, DraftRequest(indication="Mass?"), "ab")
    first = keeper.sign(draft.id, SignRequest(version=1, by="A. Reader"), "ab")
    amended = keeper.amend(draft.id, 1, "cd")
    assert amended.version == 2 and amended.amends == 1 and amended.signed is None
    kept = tuple(s for s in left_as_it_is(amended).sentences if s.section not in ("findings", "impression"))
    after = keeper.edit(draft.id, DraftEdit(version=2, sentences=kept), "cd")
    again = keeper.sign(draft.id, SignRequest(version=3, by="B. Reader"), "cd")
    assert after.amends == again.amends == 1 and keeper.get(draft.id, 1).signed == first.signed
    assert again.signed is not None
    files = {f.form: keeper.file(draft.id, 3, f.name).path for f in again.signed.files}
    sr, before = pydicom.dcmread(files["sr"]), pydicom.dcmread(keeper.file(draft.id, 1, "report.sr.dcm").path)
    told = sr.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert told.ReferencedSOPInstanceUID == before.SOPInstanceUID != sr.SOPInstanceUID
    assert not read_sr(files["sr"]).measurements, "a measurement that no sentence tells is not signed"
    bundle = json.loads(files["fhir"].read_bytes())
    assert bundle["entry"][0]["resource"]["status"] == "amended"
    assert not any("valueQuantity" in e["resource"] for e in bundle["entry"])
    assert any(t.startswith("Amends the report signed by: A. Reader") for t in pdf_texts(files["pdf"].read_bytes()))
    caption = "What was outlined, by the algorithm."
    assert caption in list(pdf_texts(keeper.file(draft.id, 1, "report.pdf").path.read_bytes()))
    assert caption not in list(pdf_texts(files["pdf"].read_bytes())), "nor is it in a picture"


def test_a_study_that_is_no_dicom_has_no_sr_and_says_why(keeper: DraftKeeper) -> None:
    draft, _ = keeper.create(CHEST, DraftRequest(), "ab")
    signed = keeper.sign(draft.id, SignRequest(version=1, by="A. Reader"), "ab").signed
    assert signed is not None and [f.form for f in signed.files] == ["fhir", "pdf"]
    assert signed.not_written[0].form == "sr" and "did not come as DICOM" in signed.not_written[0].why
    bundle = json.loads(keeper.file(draft.id, 1, "report.fhir.json").path.read_bytes())
    codes = [e["resource"]["code"]["text"] for e in bundle["entry"] if "valueQuantity" in e["resource"]]
    assert "Probability of Effusion" in codes and "Right lung: Area at the detector plane" in codes


def test_signing_says_no_to_names_and_damage(keeper: DraftKeeper) -> None:
    draft, _ = keeper.create(STUDY, DraftRequest(), "ab")
    with pytest.raises(ConfigError, match="two letters"):
        keeper.sign(draft.id, SignRequest(version=1, by=" \x07x "), "ab")
    with pytest.raises(DataError, match=r"U\+0141"):
        keeper.sign(draft.id, SignRequest(version=1, by="Łukasz"), "ab")
    assert keeper.get(draft.id).signed is None and not any((keeper.store.root / draft.id / "signed").iterdir())
    keeper.sign(draft.id, SignRequest(version=1, by="A. Reader"), "ab")
    path = keeper.file(draft.id, 1, "report.pdf").path
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(DataError, match="not the one that was signed"):
        keeper.file(draft.id, 1, "report.pdf")


def test_peers_read_what_is_signed(keeper: DraftKeeper) -> None:
    """fhir.resources (R4B, whose DiagnosticReport is R4's) and pypdf, where they are installed."""
    bundles = pytest.importorskip("fhir.resources.R4B.bundle", reason="fhir.resources is not installed")
    pypdf = pytest.importorskip("pypdf", reason="pypdf is not installed")
    for study in (STUDY, CHEST):
        draft, _ = keeper.create(study, DraftRequest(), "ab")
        keeper.sign(draft.id, SignRequest(version=1, by="A. Reader"), "ab")
        content = keeper.file(draft.id, 1, "report.fhir.json").path.read_bytes()
        found = bundles.Bundle.parse_raw(content)
        assert found.entry[0].resource.resource_type == "DiagnosticReport"
        shown = "".join(p.extract_text() for p in pypdf.PdfReader(keeper.file(draft.id, 1, "report.pdf").path).pages)
        said = "".join(shown.split())
        assert all("".join(s.text.split()) in said for s in sentences(draft))


def test_a_signature_that_was_cut_off_is_none(keeper: DraftKeeper, read: Path) -> None:
    draft, _ = keeper.create(STUDY, DraftRequest(), "ab")
    other, _ = keeper.create(CHEST, DraftRequest(), "ab")
    keeper.sign(draft.id, SignRequest(version=1, by="A. Reader"), "ab")
    left = keeper.store.root / other.id / "signed" / ".partial-0a1b2c3d-0001"
    left.mkdir()
    (left / "signature.json").write_text("{")
    again = DraftKeeper(keeper.store.root, readings(read / "result", read / "study", read / "chest"))
    assert (again.signed(STUDY), again.signed(CHEST)) == (True, False)
    assert again.get(other.id).signed is None and [d.id for d in again.of_study(CHEST)] == [other.id]
    assert [d.id for d in again.of_study(STUDY)] == [draft.id] and again.of_study("9" * 16) == ()
    again.sign(other.id, SignRequest(version=1, by="A. Reader"), "ab")
    assert again.signed(CHEST)
