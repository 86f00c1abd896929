"""The result document: its schema is the published one, it round-trips, and it refuses what it does not know."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from pydantic import ValidationError

from isocenter.core import (
    Code,
    Image,
    Mask,
    Measurement,
    ModelRef,
    Prediction,
    Prompt,
    Segment,
    Source,
    Step,
    TaskCard,
    Uncertainty,
)
from isocenter.core.errors import DataError
from isocenter.core.units import UCUM
from isocenter.data.images.quality import inspect
from isocenter.testing import phantom
from isocenter.verbs.entries import image_entry, prediction_entry
from isocenter.verbs.result import ProvenanceEntry, ResultDocument, StudyEntry, read_result, result_schema

ROOT = Path(__file__).resolve().parents[3]
PUBLISHED = ROOT / "docs" / "reference" / "result.schema.json"
CARD = TaskCard("t", "T", (), (), None, False, (), False, "use", "not", "MIT")


def _document(**changes: Any) -> ResultDocument:
    image = phantom()
    mask = Mask(np.ones(image.geometry.shape, np.uint16), image.geometry, (Segment(1, "One"),))
    answer = Prediction(
        mask,
        "t",
        Uncertainty("quality", "nothing", 0.5, 0.75, 0.9, per_segment={1: 0.625}),
        model=ModelRef("m", "1", "ab" * 32, "MIT"),
        inputs=("cd" * 32,),
        steps=(Step("crop", {"start": np.array([1, 2]), "spacing_mm": np.float32(0.5), "kind": Path("x")}),),
        measurements=(Measurement(Code("118565006", "SCT", "Volume"), 0.25, UCUM["mL"], 1),),
    )
    prompt = Prompt("point", np.array([[1.0, 2.0, 3.0]]), label="One")
    given: dict[str, Any] = {
        "created": "2026-01-02T03:04:05+00:00",
        "study": StudyEntry(patient_key="key", study_uid="1.2"),
        "images": (image_entry(0, image, inspect(image), ("modality",)),),
        "predictions": (
            prediction_entry(CARD, 0, answer, prompts=(prompt,), files=(), seconds=0.1234),
            prediction_entry(CARD, 0, Prediction.abstain("t", "no reason"), prompts=(), files=(), seconds=0),
        ),
        "provenance": ProvenanceEntry(isocenter="0", python="3", packages={}, seed=0, config={}),
    }
    return ResultDocument(**{**given, **changes})


def test_the_published_schema_is_the_codes_own() -> None:
    assert PUBLISHED.read_text("utf-8") == result_schema(), (
        'run: python -c "from isocenter.verbs.result import *; print(result_schema(), end=str())" '
        "> docs/reference/result.schema.json"
    )


def test_a_document_is_valid_against_the_published_schema() -> None:
    schema = json.loads(PUBLISHED.read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    document = json.loads(_document().to_json())
    jsonschema.validate(document, schema)
    document["predictions"][0]["surprise"] = 1
    with pytest.raises(jsonschema.ValidationError, match="surprise"):
        jsonschema.validate(document, schema)


def test_every_part_is_described_in_the_schema() -> None:
    schema = json.loads(PUBLISHED.read_text("utf-8"))
    assert all(d.get("description") for d in schema["$defs"].values())
    assert schema["properties"]["schema_version"]["enum"] == ["1.0", "1.1", "1.2", "1.3"]


def test_round_trip(tmp_path: Path) -> None:
    document = _document()
    (tmp_path / "result.json").write_text(document.to_json(), "utf-8")
    assert read_result(tmp_path) == document
    assert read_result(tmp_path / "result.json") == document


def test_a_document_of_an_older_version_is_read(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(_document(schema_version="1.0").to_json(), "utf-8")
    assert read_result(tmp_path).schema_version == "1.0"
    assert _document().schema_version == "1.3"


def test_the_figures_arrive_unchanged() -> None:
    entry = json.loads(_document().to_json())
    answer = entry["predictions"][0]
    assert answer["measurements"][0]["value"] == 0.25
    assert answer["measurements"][0]["unit"] == {"value": "mL", "scheme": "UCUM", "meaning": "milliliter"}
    assert answer["prompts"][0]["coordinates"] == [[1.0, 2.0, 3.0]]
    assert answer["steps"][0]["parameters"] == {"start": [1, 2], "spacing_mm": 0.5, "kind": "x"}
    assert answer["uncertainty"]["per_segment"] == {"1": 0.625}
    assert answer["seconds"] == 0.123
    grid = entry["images"][0]["geometry"]
    assert grid["shape_zyx"] == [2, 3, 5] and grid["spacing_mm"] == [2.5, 0.8, 0.7]
    assert np.array_equal(grid["affine_zyx_to_lps_mm"], phantom().geometry.require_affine())
    assert entry["predictions"][1]["abstained"] == "no reason"
    assert entry["images"][0]["stated"] == ["modality"]


def test_answered() -> None:
    assert [p.abstained for p in _document().answered] == [None]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("{}", "created: Field required"),
        ("not json", "document: Invalid JSON"),
        ('{"schema_version": "9.0"}', "schema_version"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, text: str, place: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(text, "utf-8")
    with pytest.raises(DataError, match=place):
        read_result(path)
    with pytest.raises(DataError, match="give the folder that"):
        read_result(tmp_path / "absent")


def test_a_figure_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValidationError, match="finite"):
        StudyEntry.model_validate({"patient_key": "k", "study_uid": "", "notes": ()}) and ProvenanceEntry(
            isocenter="0", python="3", packages={}, seed=0, config={}, seconds={"total": math.nan}
        )


def test_the_name_of_an_image_depends_on_voxels_type_and_place() -> None:
    names = {phantom(n).sha256 for n in (0, 1)}
    assert len(names) == 2
    assert phantom().sha256 == phantom().sha256
    image = phantom()
    assert image_entry(0, image, inspect(image), ()).sha256 == image.sha256
    assert Image(image.array, image.geometry, source=Source(sha256="of the reader")).sha256 == "of the reader"


def test_an_answer_of_no_image_and_a_probability_beyond_one_are_refused() -> None:
    document = json.loads(_document().to_json())
    document["predictions"][0]["image"] = 7
    with pytest.raises(ValidationError, match="image 7, which is not among the images"):
        ResultDocument.model_validate(document)
    document = json.loads(_document().to_json())
    document["predictions"][0]["measurements"] = [
        {"name": {"value": "p", "scheme": "99ISOCENTER", "meaning": "Probability of mass"}, "derivation": None,
         "value": 17.5, "unit": {"value": "1", "scheme": "UCUM", "meaning": "no units"}, "segment": None}
    ]  # fmt: skip
    with pytest.raises(ValidationError, match="outside 0 to 1"):
        ResultDocument.model_validate(document)
