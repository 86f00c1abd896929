"""The page: self-contained, escaped, legible, and as open about what was not done as about what was."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pytest

from isocenter.core import Geometry, Image, Mask, Segment
from isocenter.tasks.phenotype import measure
from isocenter.testing import phantom_geometry
from isocenter.verbs.report import IndexEntry, index_html, overlay_png, pictures, render_html
from isocenter.verbs.report.words import figure, measurement_rows
from isocenter.verbs.result import (
    CodeEntry,
    FileEntry,
    GeometryEntry,
    ImageEntry,
    InputFile,
    LeftOut,
    MeasurementEntry,
    ModelEntry,
    NotDone,
    PredictionEntry,
    PromptEntry,
    ProofEntry,
    ProvenanceEntry,
    QualityEntry,
    ResultDocument,
    SegmentEntry,
    SegmentProofEntry,
    StepEntry,
    StudyEntry,
    UncertaintyEntry,
)

SHA = "0123456789abcdef" * 4
HOSTILE = "<script>alert(1)</script>"


def code(meaning, value="1", scheme="SCT"):
    return CodeEntry(value=value, scheme=scheme, meaning=meaning)


def image_entry(shape=(6, 7, 8)):
    geometry = GeometryEntry(
        shape_zyx=shape,
        spacing_mm=(2.5, 0.8, 0.7),
        pixel_spacing_mm=(0.8, 0.7),
        orientation="SPL",
        affine_zyx_to_lps_mm=None,
        stack="space",
    )
    checks = (
        QualityEntry(check="spacing", status="warning", detail="ratio 3.6 is above the limit"),
        QualityEntry(check="motion", status="unknown", detail="no test for CT"),
        QualityEntry(check="values", status="ok", detail="finite everywhere"),
    )
    return ImageEntry(
        index=0,
        modality="CT",
        body_part="CHEST",
        quantity="HU",
        channels=1,
        geometry=geometry,
        sha256=SHA,
        quality=checks,
        notes=("resampled from gantry tilt",),
    )


def answer(**changed):
    proof = ProofEntry(
        grid="identical",
        grid_error_mm=0.0,
        exact=True,
        segments=(
            SegmentProofEntry(
                number=1,
                voxels=9,
                centroid_lps_mm=(1.0, 2.0, 3.0),
                volume_mm3=12.6,
                centroid_error_mm=0.0,
                volume_error=0.0,
                side="L",
            ),
        ),
    )
    segment = SegmentEntry(
        number=1,
        label=f"Mass {HOSTILE}",
        category=code("Tissue"),
        type=code("Tissue"),
        laterality=None,
        algorithm_type="SEMIAUTOMATIC",
        algorithm_name="x",
        colour=(1, 2, 3),
    )
    fields = {
        "task": "interact",
        "title": "Structure pointed at",
        "image": 0,
        "abstained": None,
        "intended_use": "Outlining for research.",
        "not_for": "Diagnosis.",
        "uncertainty": UncertaintyEntry(
            kind="interval", description="Dice on held-out data", low=0.7, high=0.9, level=0.9
        ),
        "model": ModelEntry(name="promptable", version="1", weights_sha256="f" * 64, licence="Apache-2.0"),
        "inputs": (SHA,),
        "prompts": (
            PromptEntry(kind="point", label="mass", positive=True, frame="lps_mm", coordinates=((1.0, -2.0, 3.0),)),
            PromptEntry(kind="point", label="mass", positive=False, frame="index_zyx", coordinates=((1.0, 2.0, 3.0),)),
        ),
        "steps": (StepEntry(name="scale", parameters={"low": -160}),),
        "segments": (segment,),
        "measurements": (
            MeasurementEntry(
                name=code("Volume"), derivation=None, value=53.28, unit=code("mL", "mL", "UCUM"), segment=1
            ),
            MeasurementEntry(
                name=code("Attenuation Coefficient"),
                derivation=code("Mean"),
                value=-12.345,
                unit=code("HU", "[hnsf'U]", "UCUM"),
                segment=1,
            ),
        ),
        "files": (FileEntry(path="interact/mass.seg.dcm", format="DICOM SEG", sha256=SHA, size_bytes=5, proof=proof),),
        "notes": ("propagated slice by slice",),
        "seconds": 1.5,
    }
    return PredictionEntry(**{**fields, **changed})


def document(**changed):
    fields = {
        "created": "2026-01-02T03:04:05Z",
        "study": StudyEntry(patient_key="p-1", study_uid="1.2.3"),
        "images": (image_entry(),),
        "predictions": (
            answer(),
            PredictionEntry(task="lungs-cxr", title="Lungs", image=0, abstained="needs modality CR or DX, this is CT"),
        ),
        "left_out": (
            LeftOut(where="IM42", reason="truncated; copy it again", kind="refused"),
            LeftOut(where="notes.txt", reason="a text file", kind="ignored"),
        ),
        "not_done": (NotDone(what="DICOM SR", why="no DICOM header to refer to"),),
        "provenance": ProvenanceEntry(
            isocenter="0.1.0",
            python="3.11",
            packages={"numpy": "2"},
            seed=3,
            config={"task": None},
            input_files=(InputFile(name="a.nii", sha256=SHA),),
            seconds={"run": 1.5},
        ),
    }
    return ResultDocument(**{**fields, **changed})


@pytest.fixture(scope="module")
def drawn():
    geometry = phantom_geometry(shape=(6, 7, 8))
    labels = np.zeros((6, 7, 8), np.uint16)
    labels[2:4, 2:5, 2:5] = 1
    image = Image(np.arange(6 * 7 * 8, dtype=np.int16).reshape(1, 6, 7, 8), geometry, modality="CT")
    return pictures(image, Mask(labels, geometry, (Segment(1, "Mass"),)), size=64)


@pytest.fixture(scope="module")
def page(drawn):
    return render_html(document(), {0: drawn})


class Tags(HTMLParser):
    """Collects tags and attributes, and fails on tags that are not closed in order."""

    VOID = frozenset({"meta", "link", "img", "input", "br", "circle", "path"})

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text.append(data)


def parsed(html):
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    return tags, " ".join(" ".join(tags.text).split())


def test_every_tag_is_closed_and_every_id_is_one(page):
    tags, _ = parsed(page)
    ids = [a["id"] for _, a in tags.seen if "id" in a]
    assert len(ids) == len(set(ids))
    inner = {a["href"][1:] for t, a in tags.seen if t == "a" and a["href"].startswith("#")}
    assert inner <= set(ids)
    pointed = {i for _, a in tags.seen for i in a.get("aria-labelledby", "").split()}
    assert pointed <= set(ids)


def test_nothing_is_fetched_from_anywhere(page):
    tags, _ = parsed(page)
    for tag, attributes in tags.seen:
        for name in ("src", "href", "srcset", "action", "data"):
            if attributes.get(name) is not None:
                assert attributes[name].startswith(("data:", "#")), (tag, name)
        assert not (tag == "script" and "src" in attributes)
    assert not re.search(r"https?://|//cdn|@import|url\((?!['\"]?data:)", page)
    policy = next(a["content"] for t, a in tags.seen if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy


def test_what_comes_from_the_document_is_escaped(page):
    assert HOSTILE not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_the_answer_its_numbers_and_its_doubt(page):
    _, text = parsed(page)
    assert "53.3 mL" in text
    for words in (
        "Volume 53.3 mL",
        "Attenuation Coefficient, mean −12.3 HU",
        "Between 0.70 and 0.90.",
        "90% of cases",
        "point in “mass” at L 1.0, A 2.0, S 3.0 mm",
        "point outside “mass” at slice 1, row 2, column 3",
        "Not for: Diagnosis.",
        "propagated slice by slice",
    ):
        assert words in text, words


def test_what_was_not_done_stands_beside_the_answer_and_in_full(page):
    _, text = parsed(page)
    assert "3 not done" in text
    for words in (
        "needs modality CR or DX, this is CT",
        "IM42",
        "truncated; copy it again",
        "no DICOM header to refer to",
    ):
        assert text.count(words) == 2, words
    assert "a text file" in text
    assert "1 caution on the image" in text
    assert "resampled from gantry tilt" in text
    assert "not tested no test for CT" in text


def test_provenance_and_disclaimer(page):
    _, text = parsed(page)
    assert text.count("not a medical device") + text.count("Not a medical device") >= 2
    for words in (
        "f" * 64,
        SHA,
        "Apache-2.0",
        "0.1.0",
        "proved : grid identical, every voxel equal",
        "side L",
        "a.nii",
    ):
        assert words in text, words


def test_sides_stand_on_every_picture(page, drawn):
    tags, _ = parsed(page)
    sides = [a["class"] for t, a in tags.seen if t == "span" and a.get("class", "").startswith("side ")]
    assert sides == ["side left", "side right", "side top", "side bottom"] * len(drawn)
    frames = [a for t, a in tags.seen if t == "div" and a.get("class") == "frame"]
    assert len(frames) == sum(len(p.frames) for p in drawn)
    assert sum("hidden" not in a for a in frames) == len(drawn)  # one is seen without any script


def test_an_unknown_side_is_said():
    flat = Image(np.arange(64, dtype=np.uint8).reshape(1, 1, 8, 8), phantom_geometry().__class__((1, 8, 8)))
    _, text = parsed(render_html(document(), {0: pictures(flat, None, size=32)}))
    assert "side unknown" in text
    assert "left and right are not known" in text


def test_a_page_without_any_answer(drawn):
    nothing = document(predictions=document().predictions[1:], not_done=(), left_out=())
    _, text = parsed(render_html(nothing, {-1: drawn}))
    assert "No answer: every task abstained" in text
    assert "Image 0 as read" in text
    empty = document(predictions=(), images=(), left_out=(), not_done=())
    assert "Nothing was asked" in render_html(empty, {})


def test_many_segments_stand_in_rows():
    one = answer()
    segments = tuple(one.segments[0].model_copy(update={"number": n, "label": f"part {n}"}) for n in range(1, 12))
    volumes = tuple(one.measurements[0].model_copy(update={"segment": n, "value": n / 4}) for n in range(1, 12))
    many = document(predictions=(answer(segments=segments, measurements=volumes),))
    _tags, text = parsed(render_html(many, {}))
    assert "Segment Volume, mL part 1 0.25 part 2 0.5" in text
    assert "part 11 2.75" in text
    assert "and 3 more in the table" in text


def test_prompts_are_counted_over_all_images_and_once_for_several_tasks():
    one = answer()
    assert len(one.prompts) > 0
    images = (image_entry(), image_entry().model_copy(update={"index": 1}))
    predictions = (one, one.model_copy(update={"task": "other"}), one.model_copy(update={"image": 1}))
    _, text = parsed(render_html(document(images=images, predictions=predictions), {}))
    assert f", with {2 * len(one.prompts)} prompts." in text


def test_one_reason_on_several_images_is_said_once():
    images = (image_entry(), image_entry().model_copy(update={"index": 1}))
    reasons = ("needs a volume", "needs a volume", "needs modality MR, this image is CT")
    predictions = tuple(
        PredictionEntry(task="t", title="Lungs", image=n % 2, abstained=reason) for n, reason in enumerate(reasons)
    )
    _, text = parsed(render_html(document(images=images, predictions=predictions, left_out=(), not_done=()), {}))
    assert text.count("Lungs (images 0, 1): needs a volume") == 2
    assert text.count("Lungs (image 0): needs modality MR, this image is CT") == 2
    assert "2 cautions on the images" in text


def test_the_page_is_the_same_each_time(drawn, page):
    assert render_html(document(), {0: drawn}) == page


@pytest.mark.parametrize("mode", [0, 1])
def test_contrast_is_wcag_aa_in_light_and_dark(mode):
    css = files("isocenter.verbs.report").joinpath("report.css").read_text("utf-8")
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", re.findall(r":root \{(.*?)\}", css, re.S)[mode]))

    def luminance(name):
        channels = [int(colours[name][i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    for ink, grounds in {
        "ink": ("page", "card", "chip", "caution-bg"),
        "soft": ("page", "card", "caution-bg"),
        "link": ("page", "card", "caution-bg"),
        "caution": ("page", "card", "caution-bg"),
        "ok": ("card",),
        "stop": ("card",),
    }.items():
        for ground in grounds:
            light, dark = sorted((luminance(ink), luminance(ground)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)


def test_the_index_links_and_shows(drawn):
    image = Image(np.arange(64, dtype=np.uint8).reshape(1, 1, 8, 8), phantom_geometry().__class__((1, 8, 8)))
    entry = IndexEntry(
        title=f"Chest {HOSTILE}",
        href="chest/report.html",
        summary="Both lungs.",
        thumbnail_png=overlay_png(image, None, size=32),
        facts=(("Left lung", "2,100 mL"),),
        credit="CC0",
    )
    html = index_html([entry], lead="Real images.")
    tags, text = parsed(html)
    assert HOSTILE not in html
    assert {a["href"] for t, a in tags.seen if t == "a"} == {"chest/report.html"}
    assert "Left lung 2,100 mL" in text
    assert not re.search(r"https?://", html)


@pytest.mark.parametrize(("value", "text"), [(0.5, "0.5"), (99.96, "100.0"), (100.4, "100"), (-0.004, "−0.004")])
def test_figures(value, text):
    assert figure(value) == text


@pytest.mark.parametrize(
    ("geometry", "names"),
    [
        (Geometry.axial((4, 20, 20), spacing_mm=(3.0, 0.5, 0.5)), ["Long axis (axial)", "Short axis (axial)"]),
        (Geometry((1, 20, 20), pixel_spacing_mm=(0.5, 0.5)), ["Long axis", "Short axis"]),
        (Geometry((4, 20, 20), pixel_spacing_mm=(0.5, 0.5), stack="time"), ["Long axis", "Short axis"]),
    ],
)
def test_axes_are_called_axial_in_volumes_only(geometry, names):
    labels = np.zeros(geometry.shape, np.uint16)
    labels[0, 5:10, 5:15] = 1
    image = Image(np.ones((1, *geometry.shape), np.float32), geometry, modality="US")
    measured = measure(image, Mask(labels, geometry, (Segment(1, "x"),)))
    entries = tuple(
        MeasurementEntry(
            name=CodeEntry(value=m.name.value, scheme=m.name.scheme, meaning=m.name.meaning),
            value=m.value,
            unit=CodeEntry(value=m.unit.value, scheme=m.unit.scheme, meaning=m.unit.meaning),
            segment=m.segment,
            derivation=None,
        )
        for m in measured
    )
    grid = image_entry().geometry.model_copy(
        update={
            "shape_zyx": geometry.shape,
            "stack": geometry.stack,
            "affine_zyx_to_lps_mm": None if geometry.affine is None else tuple(map(tuple, geometry.affine.tolist())),
        }
    )
    shown = [name for name, _, _ in measurement_rows(entries, grid)]
    assert [n for n in shown if "axis" in n] == names
    entry = image_entry().model_copy(update={"geometry": grid})
    html = render_html(document(images=(entry,), predictions=(answer(measurements=entries),)), {})
    assert ("(axial)" in html) == ("(axial)" in names[0])
