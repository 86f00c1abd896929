"""A row of a table is of the file that it names, and of no other of that name."""

from __future__ import annotations

from pathlib import Path

import pytest

from isocenter.data.archive.datasets import Sets
from isocenter.data.catalog.catalog import open_catalog
from isocenter.data.deidentify import Pseudonyms
from isocenter.data.records import Manifest, ManifestRow
from isocenter.verbs.archive_folder import problems_of
from isocenter.verbs.ingest import ingest

from .conftest import KEY, picture, table

NAMES = Pseudonyms(KEY.encode())


def told(files: list[str], rows: dict[str, list[ManifestRow]], source: str = "src") -> dict[str, str]:
    """Return the patient that a table names for each file, "" for none; and how many rows are of no one file."""
    sets = Sets(source)
    sets.seen("dataset.json")
    for name in (*files, *rows):
        sets.seen(name)
    for name, some in rows.items():
        sets.told(name, [Manifest(name, "file", tuple(some))])
    for name in (*files, *rows):
        sets.counted(name)
    out = {name: where.row.patient if (where := sets.place(name)).row is not None else "" for name in files}
    return out | {trouble.name: trouble.reason.partition(" row")[0] for trouble in sets.unplaced()}


def row(file: str, patient: str, mask: str = "") -> ManifestRow:
    return ManifestRow(file, {}, patient, "", mask)


@pytest.mark.parametrize(
    ("files", "rows", "expected"),
    [
        # What the row names, and not another file of that name.
        (["A/scan.png", "B/scan.png"], [row("A/scan.png", "P1")], {"A/scan.png": "P1", "B/scan.png": ""}),
        (["B/scan.png"], [row("A/scan.png", "P1")], {"B/scan.png": "", "t.csv": "a"}),
        # A bare name that several have is nobody's; of one file it is that file's, wherever it lies.
        (["A/scan.png", "B/scan.png"], [row("scan.png", "P1")], {"A/scan.png": "", "B/scan.png": "", "t.csv": "a"}),
        (["A/x/scan.png"], [row("scan.png", "P1")], {"A/x/scan.png": "P1"}),
        (["scan.png", "B/scan.png"], [row("scan.png", "P1")], {"scan.png": "P1", "B/scan.png": ""}),
        (["scan.png"], [row("A/scan.png", "P1")], {"scan.png": "", "t.csv": "a"}),
        # A name that begins with its patient's identifier is that patient's in every size; short numbers are anybody's.
        (
            ["small/00000211_000.png", "large/00000211_000.png"],
            [row("00000211_000.png", "211")],
            {"small/00000211_000.png": "211", "large/00000211_000.png": "211"},
        ),
        (["A/1_0.png", "B/1_0.png"], [row("1_0.png", "1")], {"A/1_0.png": "", "B/1_0.png": "", "t.csv": "a"}),
        (
            ["A/00000211_0.png", "B/00000211_0.png"],
            [row("00000211_0.png", "212")],
            {"A/00000211_0.png": "", "B/00000211_0.png": "", "t.csv": "a"},
        ),
        (
            ["A/00000211_0.png", "B/00000211_0.png"],
            [row("A/00000211_0.png", "211")],
            {"A/00000211_0.png": "211", "B/00000211_0.png": ""},
        ),
        # The table knows the set from elsewhere, or lies beside it.
        (["x/A/1.png", "x/B/1.png"], [row("A/1.png", "P1"), row("B/1.png", "P2")],
         {"x/A/1.png": "P1", "x/B/1.png": "P2"}),
        (["A/1.png", "B/1.png"], [row("D:/old/A/1.png", "P1")], {"A/1.png": "P1", "B/1.png": ""}),
        (["1.png", "B/1.png"], [row("/data/src/1.png", "P1")], {"1.png": "P1", "B/1.png": ""}),
        # Masks are of their images' patients: in folders of masks, by their names, or where the table says.
        (
            ["images/1.png", "masks/1_mask.png", "masks/2_mask.png"],
            [row("images/1.png", "P1"), row("images/2.png", "P2")],
            {"images/1.png": "P1", "masks/1_mask.png": "P1", "masks/2_mask.png": "P2"},
        ),
        (["images/1.png", "masks/1.png"], [row("1.png", "P1")], {"images/1.png": "P1", "masks/1.png": "P1"}),
        (["a/im1.png", "drawn/im1_mask.png"], [row("im1.png", "P1")], {"a/im1.png": "P1", "drawn/im1_mask.png": "P1"}),
        (
            ["A/s_1.png", "B/s_1.png", "B/s_1_mask.png"],
            [row("A/s_1.png", "P1")],
            {"A/s_1.png": "P1", "B/s_1.png": "", "B/s_1_mask.png": ""},
        ),
        (
            ["A/1.png", "m/liver.png", "B/liver.png"],
            [row("A/1.png", "P1", "m/liver.png")],
            {"A/1.png": "P1", "m/liver.png": "P1", "B/liver.png": ""},
        ),
        # A case of several files; a name without its ending.
        (
            ["imagesTr/l_001_0000.nii.gz", "imagesTr/l_001_0001.nii.gz", "labelsTr/l_001.nii.gz"],
            [row("l_001", "P1")],
            {"imagesTr/l_001_0000.nii.gz": "P1", "imagesTr/l_001_0001.nii.gz": "P1", "labelsTr/l_001.nii.gz": "P1"},
        ),
        (["nifti/S_2/CT.nii.gz", "nifti/S_2/CT_mask.nii.gz"], [row("S_2", "P1")],
         {"nifti/S_2/CT.nii.gz": "P1", "nifti/S_2/CT_mask.nii.gz": "P1"}),
        (["A/S_2/CT.nii.gz", "B/S_2/CT.nii.gz"], [row("S_2", "P1")],
         {"A/S_2/CT.nii.gz": "", "B/S_2/CT.nii.gz": "", "t.csv": "a"}),
        # Folders of images may be a patient's each, and one of them not in the table.
        (["P1_images/1.png", "P2_images/1.png", "P1_masks/1.png"], [row("P1_images/1.png", "P1")],
         {"P1_images/1.png": "P1", "P2_images/1.png": "", "P1_masks/1.png": "P1"}),
        (["seg_001/1.png", "seg_002/1.png"], [row("D:/old/seg_001/1.png", "P1")],
         {"seg_001/1.png": "P1", "seg_002/1.png": ""}),
        # Rows of two patients are nobody's, and that is told; the same row again, and a mask's beside its image's, are.
        (["A/1.png"], [row("A/1.png", "P1"), row("A/1.png", "P2")], {"A/1.png": "", "t.csv": "several"}),
        (["x/1.png"], [row("1.png", "P1"), row("1.png", "P2")], {"x/1.png": "", "t.csv": "several"}),
        (["x/1.png"], [row("1.png", "P1"), row("1.png", "P1")], {"x/1.png": "P1"}),
        (["A/1.png", "B/2.png", "m/1.png"], [row("A/1.png", "P1", "m/1.png"), row("B/2.png", "P2", "m/1.png")],
         {"A/1.png": "P1", "B/2.png": "P2", "m/1.png": "", "t.csv": "several"}),
        (["images/1.png", "masks/1.png"], [row("d/images/1.png", "P1", "d/masks/1.png")],
         {"images/1.png": "P1", "masks/1.png": "P1"}),
        # DICOM says itself whose it is, and stands in nobody's way.
        (["A/1.dcm", "B/1.dcm"], [row("1.dcm", "P1")], {"A/1.dcm": "", "B/1.dcm": ""}),
    ],
)  # fmt: skip
def test_a_row_is_of_one_file(files: list[str], rows: list[ManifestRow], expected: dict[str, str]) -> None:
    assert told(files, {"t.csv": rows}) == expected


def test_many_rows_of_one_name_are_told_apart_by_their_folders() -> None:
    people = [f"patient{n}/study1" for n in range(40)]
    files = [f"train/{p}/view1.png" for p in people] + ["train/patient99/study1/view1.png"]
    rows = [row(f"Set-v1/train/{p}/view1.png", f"P{n}") for n, p in enumerate(people)]
    expected = {f: f"P{n}" for n, f in enumerate(files[:-1])} | {files[-1]: ""}
    assert told(files, {"t.csv": rows}) == expected
    # The same from a folder beside, with the set's folder not in the table; and where two tables do not agree.
    rows = [row(f"{p}/view1.png", f"P{n}") for n, p in enumerate(people)]
    assert told([*files, "meta/x.txt"], {"meta/t.csv": rows}) == expected | {"meta/x.txt": ""}
    twice = {"meta/t.csv": rows, "other/t.csv": [row("patient3/study1/view1.png", "Q")]}
    assert told(files, twice) == expected | {"train/patient3/study1/view1.png": "", "meta/t.csv": "several"}


def test_a_file_has_what_all_of_its_rows_say(tmp_path: Path) -> None:
    picture(tmp_path / "s" / "A" / "scan7x.png", 1)
    rows = [{"file": "A/scan7x.png", "patient": "P1", "label": label} for label in ("mass", "effusion")]
    table(tmp_path / "s" / "boxes.csv", rows)
    table(tmp_path / "s" / "people.csv", [{"file": "A/scan7x.png", "patient": "P1", "sex": "F"}])
    assert ingest([str(tmp_path / "s")], tmp_path / "a", workers=1).clean
    catalog = open_catalog(tmp_path / "a")
    labels = catalog.sql("SELECT value FROM labels ORDER BY value").column(0).to_pylist()
    assert labels == ["F", "effusion", "mass"]
    assert catalog.sql("SELECT sex, patient_from FROM instances").to_pylist() == [{"sex": "F", "patient_from": "table"}]


def test_a_picture_of_the_name_in_another_folder_gets_neither_patient_nor_label(tmp_path: Path) -> None:
    for seed, folder in enumerate("AB"):
        picture(tmp_path / "s" / folder / "scan7x.png", seed)
    table(tmp_path / "s" / "t.csv", [{"file": "A/scan7x.png", "patient": "P1", "label": "malignant"}])
    made = ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    assert made.clean
    catalog = open_catalog(tmp_path / "a")
    labels = catalog.sql("SELECT patient_key, value FROM labels").to_pylist()
    assert labels == [{"patient_key": NAMES.patient("s", "P1"), "value": "malignant"}]
    told = catalog.sql("SELECT patient_from FROM instances ORDER BY 1").column(0).to_pylist()
    assert told == ["name", "table"]


def test_a_row_that_could_be_of_two_files_is_told_and_told_no_more_once_it_is_clear(tmp_path: Path) -> None:
    for seed, folder in enumerate("AB"):
        picture(tmp_path / "s" / folder / "scan7x.png", seed)
    table(tmp_path / "s" / "t.csv", [{"file": "scan7x.png", "patient": "P1", "label": "malignant"}])
    made = ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    assert (made.refused, made.tables["labels"].rows) == (1, 0)
    ((_, reason, _, first),) = [p for p in problems_of(tmp_path / "a") if p[0] == "refused"]
    assert (first, reason.split(":")[0]) == ("t.csv", "a row names no one file")
    table(tmp_path / "s" / "t.csv", [{"file": "B/scan7x.png", "patient": "P1", "label": "malignant"}])
    again = ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    assert (again.clean, again.tables["labels"].rows) == (True, 1)
    fresh = ingest([str(tmp_path / "s")], tmp_path / "b", workers=1)
    assert fresh.catalog_hash == again.catalog_hash


def note(file: Path, patient: str, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"MRN: {patient}\n\nFindings: {text} is seen here today.\n")


def test_a_report_of_the_name_in_another_folder_gets_no_label(tmp_path: Path) -> None:
    note(tmp_path / "s" / "A" / "r1.txt", "1001", "a large nodule")
    note(tmp_path / "s" / "B" / "r1.txt", "1002", "nothing abnormal")
    table(tmp_path / "s" / "t.csv", [{"file": "A/r1.txt", "diagnosis": "cancer"}])
    ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    catalog = open_catalog(tmp_path / "a")
    labels = catalog.sql(
        "SELECT l.name, l.value, r.text FROM labels l JOIN reports r USING (report_key, patient_key)"
    ).to_pylist()
    assert [(r["name"], r["value"], "nodule" in r["text"]) for r in labels] == [("diagnosis", "cancer", True)]
    assert catalog.sql("SELECT count(*) AS n FROM labels").to_pylist() == [{"n": 1}]
    # The table is corrected: the label goes where it now says.
    table(tmp_path / "s" / "t.csv", [{"file": "B/r1.txt", "diagnosis": "none at all"}])
    ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    labels = (
        open_catalog(tmp_path / "a")
        .sql("SELECT l.value, r.text FROM labels l JOIN reports r USING (report_key, patient_key)")
        .to_pylist()
    )
    assert [(r["value"], "abnormal" in r["text"]) for r in labels] == [("none at all", True)]


def test_reports_that_a_table_names_by_their_own_numbers_are_found_where_one_has_the_number(tmp_path: Path) -> None:
    def written(folder: str, identifier: str, file: str, text: str) -> None:
        (tmp_path / "s" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "s" / folder / file).write_text(
            f'<eCitation><uId id="{identifier}"/><AbstractText Label="FINDINGS">{text}</AbstractText></eCitation>'
        )

    written("A", "CXR1", "1.xml", "Clear.")
    written("A", "CXR2", "2.xml", "Effusion.")
    written("B", "CXR2", "2.xml", "Mass.")
    table(tmp_path / "s" / "t.csv", [{"file": f"CXR{n}", "finding": f"f{n}"} for n in (1, 2)])
    made = ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    labels = (
        open_catalog(tmp_path / "a")
        .sql("SELECT l.value, r.text FROM labels l JOIN reports r USING (report_key, patient_key)")
        .to_pylist()
    )
    assert labels == [{"value": "f1", "text": "findings: Clear."}]
    assert made.conflicts == 2


def test_sets_whose_names_begin_alike_are_two(tmp_path: Path) -> None:
    for site in ("Site A", "Site B"):
        (tmp_path / "s" / site).mkdir(parents=True)
        (tmp_path / "s" / site / "dataset.json").write_text("{}")
        (tmp_path / "s" / site / "x.xml").write_text(
            f'<eCitation><uId id="CXR1"/><AbstractText Label="FINDINGS">{site}.</AbstractText></eCitation>'
        )
    table(tmp_path / "s" / "Site A" / "t.csv", [{"file": "CXR1", "finding": "f1"}])
    assert ingest([str(tmp_path / "s")], tmp_path / "a", workers=1, identified=True).clean
    labels = (
        open_catalog(tmp_path / "a")
        .sql("SELECT r.text FROM labels l JOIN reports r USING (report_key, patient_key)")
        .to_pylist()
    )
    assert labels == [{"text": "findings: Site A."}]
