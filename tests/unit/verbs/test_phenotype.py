"""isocenter phenotype: from files to a document, a table and a page."""

from __future__ import annotations

import csv
import json
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from isocenter import cli
from isocenter.core import Geometry, Image, Mask, Quantity, Segment
from isocenter.core.errors import CapabilityError, ConfigError, DataError, GeometryError, UnitsError
from isocenter.data.images import write_nifti
from isocenter.data.tables import read_block
from isocenter.models.backbones import build_backbone
from isocenter.models.weights import save_weights
from isocenter.synth.patients import synthesise_cohort, write_cohort
from isocenter.verbs.audit import audit_show
from isocenter.verbs.phenotype import phenotype
from isocenter.verbs.phenotyping.change import ResponseOptions, _targets, changed
from isocenter.verbs.phenotyping.document import PhenotypeDocument
from passport_cases import make_huggingface

SHAPE = (10, 24, 26)
CONFIGS = Path(__file__).parents[3] / "configs"


def _study(folder, *, scale=1.0, quantity=Quantity.ARBITRARY, modality="", spacing=(2.0, 1.0, 1.0), names=("a", "b")):
    folder.mkdir(parents=True, exist_ok=True)
    geometry = Geometry.axial(SHAPE, spacing_mm=spacing, origin_mm=(5.0, -7.0, 11.0))
    rng = np.random.default_rng(round(10 * scale))
    values = rng.normal(100, 20, SHAPE).round()
    z, y, x = np.indices(SHAPE)
    labels = np.zeros(SHAPE, np.uint16)
    labels[((z - 5) / 3.2) ** 2 + ((y - 8) / (5 * scale)) ** 2 + ((x - 8) / (6 * scale)) ** 2 < 1] = 1
    labels[(np.abs(z - 5) < 2) & (np.abs(y - 18) < 4) & (np.abs(x - 19) < 4)] = 2
    image = Image(values[None].astype(np.float32), geometry, quantity, modality)
    mask = Mask(labels, geometry, tuple(Segment(n, name) for n, name in enumerate(names, start=1)))
    write_nifti(image, folder / "image.nii.gz")
    write_nifti(mask, folder / "mask.nii.gz")
    return folder / "image.nii.gz", folder / "mask.nii.gz"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phenotype")
    image, mask = _study(folder / "in", quantity=Quantity.HU, modality="CT")
    audit = folder / "audit.jsonl"
    return folder, phenotype(image, mask, folder / "out", audit=audit)


def test_document_table_and_page_say_the_same(written):
    folder, document = written
    stored = PhenotypeDocument.model_validate_json((folder / "out" / "phenotype.json").read_text("utf-8"))
    assert stored == document
    with (folder / "out" / "phenotype.csv").open() as file:
        rows = list(csv.DictReader(file))
    values = {(r["segment"], r["tag"]): r["value"] for r in rows}
    for region in document.regions:
        assert len(region.features) == 487
        for f in region.features:
            assert values[(str(region.segment.number), f.tag)] == ("" if f.value is None else repr(f.value))
    page = (folder / "out" / "phenotype.html").read_text("utf-8")
    assert "cm_contrast_3D_avg" in page
    assert "<script" not in page
    assert "image.nii" not in page + (folder / "out" / "phenotype.json").read_text("utf-8")
    assert [line.said["outcome"] for line in audit_show(folder / "audit.jsonl").lines] == ["answered"]


def test_units_and_measurements(written):
    _, document = written
    region = document.regions[1]
    units = {f.tag: f.unit for f in region.features}
    assert units["stat_mean"] == "[hnsf'U]"
    assert units["morph_volume"] == "mm3"
    found = {m.name.value: m.value for m in region.measurements}
    assert found["RECIST-LONGEST"] == pytest.approx(np.hypot(7, 6), abs=1e-6)
    assert found["118565006"] == pytest.approx(3 * 7 * 7 * 2 / 1000)


def test_resampling_is_recorded_and_keeps_the_volume(tmp_path, written):
    image, mask = _study(tmp_path / "in", quantity=Quantity.HU)
    (tmp_path / "how.yaml").write_text("spacing_mm: [1.0, 1.0, 1.0]\nbins: 16\nfamilies: [morph, stat]\n")
    document = phenotype(image, mask, tmp_path / "out", config=tmp_path / "how.yaml", bins=8)
    assert document.provenance.config["bins"] == 8
    assert document.steps["resampled"]["rounded_to_whole_hu"] is True
    before = {f.tag: f.value for f in written[1].regions[0].features}
    after = {f.tag: f.value for f in document.regions[0].features}
    assert set(after) < set(before)
    assert after["morph_volume"] == pytest.approx(before["morph_volume"], rel=0.05)


def test_filters_add_features_of_their_response_maps(tmp_path):
    image, mask = _study(tmp_path / "in")
    (tmp_path / "how.yaml").write_text(
        "families: [stat, morph]\n"
        "filters:\n"
        "- {kind: log, deviation_mm: 2.0}\n"
        "- {kind: wavelet, wavelet: db2, bands: LLH, invariant: true}\n"
    )
    document = phenotype(image, mask, tmp_path / "out", config=tmp_path / "how.yaml")
    values = {f.tag: f.value for f in document.regions[0].features}
    assert {t.split(".")[0] for t in values if "." in t} == {"log_s2_3d", "wavelet_db2_LLH_1_3d_invar"}
    assert abs(values["log_s2_3d.stat_mean"]) < 5 < values["stat_mean"]
    (tmp_path / "wrong.yaml").write_text("filters:\n- {kind: laws, kernels: L5}\n")
    with pytest.raises(ConfigError, match="Laws"):
        phenotype(image, mask, tmp_path / "no", config=tmp_path / "wrong.yaml")


def test_perturbations_say_how_far_features_can_be_trusted(tmp_path):
    image, mask = _study(tmp_path / "in")
    quick = {"families": ("morph", "stat"), "perturb": 4}
    document = phenotype(image, mask, tmp_path / "out", **quick)
    deviations = {f.tag: f.deviation for f in document.regions[0].features}
    assert deviations["morph_volume"] > 0
    robust = {r.tag: r for r in document.robustness}
    assert robust["morph_vol_approx"].regions == 2
    assert robust["morph_vol_approx"].low < robust["morph_vol_approx"].icc < robust["morph_vol_approx"].high
    again = phenotype(image, mask, tmp_path / "again", **quick)
    assert again.robustness == document.robustness
    with pytest.raises(ConfigError, match="no spread"):
        phenotype(image, mask, tmp_path / "no", perturb=1)


def test_response_to_an_earlier_phenotype(tmp_path):
    quick = {"families": ("stat",), "aggregations": ("3D",)}
    phenotype(*_study(tmp_path / "then"), tmp_path / "before", **quick)
    now = _study(tmp_path / "now", scale=0.5)
    found_document = phenotype(*now, tmp_path / "after", prior=tmp_path / "before", days=90.0, **quick)
    found = found_document.response
    assert found is not None
    # The ellipsoid halves its longest diameter; the box keeps its own.
    assert found.category == "PR"
    assert found.current_mm <= 0.7 * found.baseline_mm
    assert found.from_baseline == pytest.approx((found.current_mm - found.baseline_mm) / found.baseline_mm)
    assert {v.segment for v in found.volumes} == {"a", "b"}
    assert found.volumes[0].share < -0.5
    node = phenotype(*now, tmp_path / "node", prior=tmp_path / "before", nodal=("b",), new_lesions=True, **quick)
    assert node.response.category == "PD"
    sizes = {m.name.value: m.value for m in node.regions[1].measurements}
    change = sizes["RECIST-SHORT"] - sizes["RECIST-LONGEST"]
    assert node.response.baseline_mm == pytest.approx(found.baseline_mm + change)
    assert any("taken from whoever asked" in n for n in found_document.notes)
    with pytest.raises(ConfigError, match="same image"):
        phenotype(*_study(tmp_path / "then"), tmp_path / "no", prior=tmp_path / "before", **quick)
    with pytest.raises(ConfigError, match="no segment is called"):
        phenotype(*now, tmp_path / "no", prior=tmp_path / "before", nodal=("c",), **quick)


def test_a_segment_that_was_empty_has_appeared_and_one_that_is_empty_counts_as_gone_and_is_told(tmp_path):
    quick = {"families": ("stat",), "aggregations": ("3D",)}
    full = phenotype(*_study(tmp_path / "in"), tmp_path / "out", **quick)

    def emptied(label):
        regions = [
            r.model_copy(update={"voxels": 0, "measurements": ()}) if r.segment.label == label else r
            for r in full.regions
        ]
        return full.model_copy(update={"regions": tuple(regions)})

    grown = changed(emptied("b"), full.regions, ResponseOptions())
    assert [t for t in grown.target if t == "b"] == [] and grown.category == "SD"
    assert any("1 segments have no counterpart then" in note for note in grown.notes)
    gone = changed(full, emptied("b").regions, ResponseOptions())
    assert any("1 segments are empty now and count as gone" in note for note in gone.notes)
    assert any("dates are not compared" in note for note in gone.notes)


def _encoder(folder, dims):
    settings = {
        "kind": "residual-unet", "dims": dims, "channels_in": 1, "widths": [4, 8], "blocks": [1, 1],
        "strides": [[1] * dims, [2] * dims],
    }  # fmt: skip
    card = {
        "name": f"tiny-{dims}d", "version": "1", "title": "tiny", "licence": "Apache-2.0", "network": settings,
        "preparation": {"kind": "percentile-window"}, "intended_use": "tests", "not_for": "else", "training_data": [],
        "training": {}, "metrics": [], "limitations": [],
    }  # fmt: skip
    net = build_backbone(settings)
    save_weights(folder, {k: v.numpy() for k, v in net.state_dict().items() if v.is_floating_point()}, card)
    return folder / f"tiny-{dims}d.safetensors"


@pytest.mark.parametrize("dims", [2, 3])
def test_an_encoder_of_planes_or_volumes(tmp_path, dims):
    weights = _encoder(tmp_path / "weights", dims)
    document = phenotype(*_study(tmp_path / "in"), tmp_path / "out", encoder=str(weights), families=("stat",))
    vectors = [np.array(r.learned.vector) for r in document.regions]
    assert {len(v) for v in vectors} == {8}
    assert np.isfinite(vectors).all()
    assert not np.allclose(vectors[0], vectors[1])
    assert f"tiny-{dims}d_7" in (tmp_path / "out" / "phenotype.csv").read_text()


@pytest.mark.parametrize("kind", ["dinov2", "vit"])
def test_an_encoder_of_a_hugging_face_folder(tmp_path, kind):
    folder = make_huggingface(tmp_path / "encoder", kind)
    document = phenotype(*_study(tmp_path / "in"), tmp_path / "out", encoder=str(folder), families=("stat",))
    vectors = [np.array(r.learned.vector) for r in document.regions]
    assert len(vectors[0]) > 8
    assert np.isfinite(vectors).all()
    assert not np.allclose(vectors[0], vectors[1])


def test_an_encoder_that_is_none_is_refused(tmp_path):
    with pytest.raises(CapabilityError, match="can't be pooled"):
        phenotype(*_study(tmp_path / "in"), tmp_path / "out", encoder="lungs-cxr", families=("stat",))
    assert not (tmp_path / "out").exists()


def test_the_shipped_configuration_is_valid(tmp_path):
    image, mask = _study(tmp_path / "in", quantity=Quantity.HU, modality="CT")
    document = phenotype(image, mask, tmp_path / "out", config=CONFIGS / "phenotype-ct.yaml")
    assert document.regions[0].steps["discretisation"]["width"] == 25.0
    assert any(f.tag.startswith("log_s2_3d.") and f.value is not None for f in document.regions[0].features)


def test_a_quantity_is_stated_only_where_the_file_says_none(tmp_path):
    image, mask = _study(tmp_path / "in")
    document = phenotype(image, mask, tmp_path / "out", quantity="SUVbw", families=("stat",))
    assert document.image.quantity == "SUVbw"
    assert any("stated" in n for n in document.image.notes)
    told = _study(tmp_path / "ct", quantity=Quantity.HU)
    with pytest.raises(ConfigError, match="can't be stated"):
        phenotype(*told, tmp_path / "no", quantity="SUVbw", families=("stat",))


def test_bad_input(tmp_path):
    image, mask = _study(tmp_path / "in")
    with pytest.raises(DataError, match="no such file"):
        phenotype(image, tmp_path / "nothing.nii", tmp_path / "out")
    (tmp_path / "text.txt").write_text("no mask")
    with pytest.raises(DataError, match="no mask"):
        phenotype(image, tmp_path / "text.txt", tmp_path / "out")
    far = Geometry.axial(SHAPE, spacing_mm=(2.0, 1.0, 1.0), origin_mm=(500.0, 0.0, 0.0))
    labels = np.zeros(SHAPE, np.uint16)
    labels[2:5, 3:8, 4:9] = 1
    write_nifti(Mask(labels, far, (Segment(1, "far"),)), tmp_path / "far.nii.gz")
    with pytest.raises(GeometryError, match="outside of the image"):
        phenotype(image, tmp_path / "far.nii.gz", tmp_path / "out")
    with pytest.raises(UnitsError, match="lowest intensity"):
        phenotype(image, mask, tmp_path / "out", discretisation="fixed bin size", bin_width=5.0)
    with pytest.raises(UnitsError, match="none of tissue"):
        phenotype(image, mask, tmp_path / "out", diffusion_unit="mm2/s", families=("stat",))
    with pytest.raises(ConfigError, match="bins"):
        phenotype(image, mask, tmp_path / "out", bins="many")
    with pytest.raises(ConfigError, match="settings by name"):
        (tmp_path / "list.yaml").write_text("- 1\n")
        phenotype(image, mask, tmp_path / "out", config=tmp_path / "list.yaml")
    with pytest.raises(DataError, match="no phenotype"):
        phenotype(image, mask, tmp_path / "out", prior=tmp_path / "in")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    for overwrite, words in ((False, "not empty"), (True, "does not hold a phenotype")):
        with pytest.raises(ConfigError, match=words):
            phenotype(image, mask, tmp_path / "full", overwrite=overwrite)
    assert not (tmp_path / "out").exists()


def test_the_command(tmp_path):
    image, mask = _study(tmp_path / "in")
    (tmp_path / "how.yaml").write_text("families: [stat]\n")
    arguments = [
        "phenotype", str(image), "--mask", str(mask), "--out", str(tmp_path / "out"),
        "--config", str(tmp_path / "how.yaml"),
    ]  # fmt: skip
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 0, done.output
    assert "18 of 18 features" in done.output
    again = CliRunner().invoke(cli.app, [*arguments, "--overwrite", "--json"])
    assert json.loads(again.stdout)["kind"] == "phenotype"


def test_rows_are_a_block_and_say_whose_and_when(tmp_path):
    image, mask = _study(tmp_path / "in", quantity=Quantity.HU, modality="CT")
    quick = {"families": ("morph", "stat"), "aggregations": ("3D",)}
    made = phenotype(image, mask, tmp_path / "p1", patient="p1", acquired=date(2020, 5, 1), **quick)
    with (tmp_path / "p1" / "features.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["patient"], r["region"], r["acquired"], r["made"]) for r in rows] == [
        ("p1", "a", "2020-05-01", "measured"), ("p1", "b", "2020-05-01", "measured")
    ]  # fmt: skip
    assert float(rows[1]["stat_var [[hnsf'U]2]"]) == next(
        f.value for f in made.regions[1].features if f.tag == "stat_var"
    )
    block = read_block(tmp_path / "p1" / "features.csv", patient="patient")
    assert block.patients == ("p1",) and "a: stat_mean" in block.columns and not block.synthetic
    assert dict(zip(block.columns, block.units, strict=True))["b: morph_integ_int"] == "mm3.[hnsf'U]"
    folder = read_block(tmp_path, patient="patient")
    assert folder.patients == ("p1",) and not folder.synthetic
    shared = (tmp_path / "p1" / "phenotype.json").read_text() + (tmp_path / "p1" / "phenotype.html").read_text()
    assert "2020-05-01" not in shared and '"p1"' not in shared
    unnamed = phenotype(image, mask, tmp_path / "other", acquired=date(2020, 5, 1), **quick)
    text = (tmp_path / "other" / "features.csv").read_text()
    assert unnamed.study.patient_key in text and "2020" not in text.splitlines()[0] and "2020-05-01" not in text


def test_synthetic_images_are_said_to_be_everywhere(tmp_path):
    write_cohort(tmp_path / "c", synthesise_cohort(1, 1), images=True)
    own = tmp_path / "c" / "images" / "synthetic-000000"
    quick = {"families": ("stat",), "aggregations": ("3D",)}
    made = phenotype(own / "ct.nii.gz", own / "lesion.nii.gz", tmp_path / "ct" / "x", **quick)
    assert made.synthetic
    assert "<b>Synthetic.</b>" in (tmp_path / "ct" / "x" / "phenotype.html").read_text()
    assert read_block(tmp_path / "ct" / "x" / "features.csv", patient="patient").synthetic
    assert read_block(tmp_path / "ct", patient="patient").synthetic


def test_the_page_writes_hounsfield_units_as_people_do(written):
    folder, _ = written
    page = (folder / "out" / "phenotype.html").read_text("utf-8")
    assert "hnsf" not in page and "<td>HU</td>" in page and "<td>HU²</td>" in page
    assert "[hnsf'U]" in (folder / "out" / "phenotype.json").read_text("utf-8")


def test_dates_of_two_images_are_compared(tmp_path):
    quick = {"families": ("stat",), "aggregations": ("3D",)}
    phenotype(*_study(tmp_path / "then"), tmp_path / "before", acquired=date(2020, 5, 1), **quick)
    now = _study(tmp_path / "now", scale=0.5)
    common = {"prior": tmp_path / "before", **quick}
    found = phenotype(*now, tmp_path / "after", acquired=date(2020, 7, 1), **common).response
    assert "the images were made 61 days apart, by their dates" in found.notes
    assert found.volumes[0].doubling_days < 0
    same = phenotype(*now, tmp_path / "same", acquired=date(2020, 5, 1), **common).response
    assert any("both images are of the same day" in n for n in same.notes)
    for when, days, words in ((date(2020, 4, 1), None, "30 days after this one"), (date(2020, 7, 1), 30.0, "not 30")):
        with pytest.raises(ConfigError, match=words):
            phenotype(*now, tmp_path / "no", acquired=when, days=days, **common)
    with pytest.raises(DataError, match="dated in the future"):
        phenotype(*now, tmp_path / "no", acquired=date(2199, 1, 1), **quick)


def test_targets_are_named_and_limited_as_recist_says(tmp_path):
    quick = {"families": ("stat",), "aggregations": ("3D",)}
    phenotype(*_study(tmp_path / "then"), tmp_path / "before", **quick)
    now = _study(tmp_path / "now", scale=0.5)
    common = {"prior": tmp_path / "before", **quick}
    one = phenotype(*now, tmp_path / "one", targets=("a=liver",), **common)
    lengths = {m.name.value: m.value for m in one.regions[0].measurements}
    assert one.response.current_mm == pytest.approx(lengths["RECIST-LONGEST"])
    assert any(n.startswith("1 segments are no targets") for n in one.response.notes)
    everyone = phenotype(*now, tmp_path / "all", **common).response
    assert any("no target was named" in n for n in everyone.notes)
    for targets, words in (
        (("c",), "no segment of the earlier image is called 'c'"),
        (("a", "a=x"), "named as a target twice"),
    ):
        with pytest.raises(ConfigError, match=words):
            phenotype(*now, tmp_path / "no", targets=targets, **common)
    regions = {f"l{n}": one.regions[0] for n in range(6)}
    for labels, words in (([f"l{n}" for n in range(6)], "6 targets; RECIST 1.1 takes at most 5"),
                          (["l0=liver", "l1=liver", "l2=liver"], r"3 targets of one organ \(liver\)")):  # fmt: skip
        with pytest.raises(ConfigError, match=words):
            _targets(ResponseOptions(targets=tuple(labels)), regions)


def test_a_pet_without_uptake_values_says_so_and_one_voxel_has_no_texture(tmp_path):
    image, mask = _study(tmp_path / "in", quantity=Quantity.BQML, modality="PT")
    made = phenotype(image, mask, tmp_path / "out", families=("stat", "cm"))
    assert any("SUV" in reason for reason in made.not_done), made.not_done
    assert not any(m.name.value == "126401" for m in made.regions[0].measurements)
