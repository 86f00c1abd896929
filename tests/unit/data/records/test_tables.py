"""Tables: encodings, delimiters, roles, and every row in the result or among what was refused."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest

from isocenter.core.errors import ConfigError, DataError
from isocenter.data.records import ReadOptions
from isocenter.data.records.rows import merge
from isocenter.data.records.tables import read_table, stream_parquet, stream_table
from isocenter.data.records.tables.delimited import tell_shape
from isocenter.data.records.tables.roles import tell_roles


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1", "cp1252"])
def test_encodings(encoding):
    rows = "".join(f"{n};Größe;m\n" for n in range(30))
    found = read_table(f"patient;Befund;Geschlecht\n{rows}".encode(encoding), "a.csv")
    assert len(found.patients) == 30
    assert {r.text for r in found.records if r.code == "Befund"} == {"Größe"}
    assert bool(found.notes) == (encoding in ("utf-16-le", "latin-1", "cp1252"))


def test_mixed_encodings_keep_what_is_good():
    data = "patient,a\n1,Größe\n".encode() + "2,Größe\n".encode("latin-1")
    found = read_table(data, "a.csv")
    assert [r.text for r in found.records] == ["Größe", "Größe"]
    assert "partly" in found.notes[0]


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [("a,b\n1,2\n", ","), ("a;b\n1;2\n", ";"), ("a\tb\n1\t2\n", "\t"), ("a|b\n1|2\n", "|"), ("sep=;\na;b\n", ";"),
     ("a  b\n1   NA\n2 3\n4 5\n", " ")],
)  # fmt: skip
def test_delimiters(text, delimiter):
    shape = tell_shape(io.StringIO(text).readlines())
    assert shape is not None
    assert shape.delimiter == delimiter


def test_row_names_of_r_and_of_data_frames():
    found = read_table(b"x y\np1 1 2\np2 3 NA\np3 4 5\np4 5 6\n", "a.txt")
    assert [(r.patient, r.code, r.number) for r in found.records][:3] == [
        ("p1", "x", 1),
        ("p1", "y", 2),
        ("p2", "x", 3),
    ]
    counted = read_table(b",x\n0,5\n1,6\n2,7\n", "a.csv")
    assert [r.code for r in counted.records] == ["x"] * 3
    assert "counts the rows" in counted.notes[0]


def test_comments_quotes_and_bad_rows():
    data = b'# made\n## by,us\npatient,note_a\n1,"two\nlines"\n2\n3,x,y\n4,"open"x\n5,ok\n,nobody\n'
    found = read_table(data, "a.csv")
    assert [(r.patient, r.text, r.identifier) for r in found.records] == [
        ("1", "two\nlines", "line 4"), ("5", "ok", "line 9"), ("", "nobody", "line 10"),
    ]  # fmt: skip
    told = {r.where: r.reason for r in found.refused}
    assert told["a.csv, line 6"] == "has 1 cells, the heading has 2"
    assert told["a.csv, line 7"] == "has 3 cells, the heading has 2"
    assert "quote" in told["a.csv, line 8"]
    assert told["a.csv, line 10"] == "has no patient"


def test_duplicate_and_empty_headings():
    found = read_table(b"patient,a,a,\n1,2,3,4\n", "a.csv")
    assert [(r.code, r.number) for r in found.records] == [("a", 2), ("a (2)", 3), ("column 4", 4)]


def test_values_units_ages_and_numbers_that_are_names():
    data = (
        b"PatientID,Alter,hb [g/dL],code_a,x,when\n007,045Y,12.5,0012,<5,2024-01-31\n008,061M,13,0013,1e3,2024-02-01\n"
    )
    found = read_table(data, "a.csv")
    got = {(r.patient, r.code): r for r in found.records}
    assert (got["007", "Alter"].number, got["007", "Alter"].unit) == (45, "a")
    assert (got["008", "Alter"].number, got["008", "Alter"].unit) == (61, "mo")
    assert (got["007", "hb"].number, got["007", "hb"].unit) == (12.5, "g/dL")
    assert got["007", "code_a"].text == "0012"
    assert (got["007", "x"].text, got["008", "x"].number) == ("<5", 1000)
    assert (got["007", "when"].value_time, got["007", "when"].text) == ("2024-01-31", "")


def test_decimal_commas():
    found = read_table(b"patient;hb\n1;12,5\n2;13\n", "a.csv")
    assert [r.number for r in found.records] == [12.5, 13]
    assert [r.number for r in read_table(b"patient;hb\n1;12,5\n2;13.5\n", "a.csv").records] == [None, 13.5]


def test_dates_that_read_both_ways():
    data = b"patient,date,hb\n1,1/2/2024,12\n"
    found = read_table(data, "a.csv")
    assert found.records[0].time == ""
    assert "both ways" in found.refused[0].reason
    assert read_table(data, "a.csv", ReadOptions(day_first=True)).records[0].time == "2024-02-01"
    by_others = read_table(data + b"2,31/1/2024,13\n", "a.csv")
    assert [r.time for r in by_others.records] == ["2024-02-01", "2024-01-31"]
    words = read_table(b"patient,comment_a\n1,1/2/2024\n2,good\n", "a.csv")
    assert [r.text for r in words.records] == ["good"], "a date among words never passes for a word"


def test_persons_and_births_are_no_records():
    data = b"mrn,dob,patient name,phone,sex,hb\n1,1950-02-03,Max Muster,030,F,12\n"
    found = read_table(data, "a.csv", ReadOptions(issuer="HOSP"))
    (patient,) = found.patients
    assert (patient.issuer, patient.birth_date, patient.name, patient.words) == (
        "HOSP",
        "1950-02-03",
        "Max Muster",
        ("030",),
    )
    assert {r.code for r in found.records} == {"sex", "hb"}
    nobody = read_table(b"name_x,dob,hb\nM,1950-02-03,12\n", "a.csv")
    assert "no column of the table numbers them" in nobody.refused[0].reason


def test_reports_with_sections_and_labels():
    long = "The lungs are clear without any effusion."
    data = (
        f'subject_id,study_id,findings,impression,status,edema\n1,50,"{long}","{long}",Final,0\n2,51,,,x,1\n'.encode()
    )
    found = read_table(data, "a.csv")
    (report,) = found.reports
    assert report.sections == (("findings", long), ("impression", long))
    assert (report.patient, report.accession, report.status) == ("1", "50", "final")
    assert [(label.name, label.value, label.kind) for label in found.labels] == [
        ("edema", "0", "finding"), ("edema", "1", "finding"),
    ]  # fmt: skip
    assert any("no text" in r.reason for r in found.refused)


def test_manifest_of_images():
    data = b"Image Index,Patient ID,split,label,mask\nb\\1.png,7.0,Train,x,m/1.png\n2.png,8.0,val,,\n,9.0,test,y,\n"
    found = read_table(data, "labels.csv")
    (manifest,) = found.manifests
    assert [(r.file, r.patient, r.split, dict(r.values), r.mask) for r in manifest.rows] == [
        ("b/1.png", "7", "train", {"label": "x"}, "m/1.png"), ("2.png", "8", "validation", {}, ""),
    ]  # fmt: skip
    assert (manifest.file_column, manifest.patient_column, manifest.split_column) == (
        "Image Index",
        "Patient ID",
        "split",
    )
    assert found.refused[0].where == "labels.csv, line 4"
    assert not found.records


def test_tall_tables_and_stated_roles():
    data = b"patient,loinc,value,unit\n1,718-7,12.5,g/dL\n1,X,,\n1,Y,3,mmHg\n"
    found = read_table(data, "a.csv")
    assert [(r.kind, r.code, r.number, r.unit) for r in found.records] == [
        ("observation", "718-7", 12.5, "g/dL"), ("observation", "Y", 3, "mmHg"),
    ]  # fmt: skip
    assert {r.kind for r in found.refused} == {"ignored"}
    stated = read_table(b"nr,hb\n5,12\n", "a.csv", ReadOptions(roles={"nr": "patient"}))
    assert stated.records[0].patient == "5"
    with pytest.raises(ConfigError, match="no role"):
        read_table(b"nr,hb\n5,12\n", "a.csv", ReadOptions(roles={"nr": "person id"}))
    with pytest.raises(ConfigError, match="name a column"):
        read_table(b"nr,hb\n5,12\n", "a.csv", ReadOptions(roles={"x": "patient"}))


def test_arff_and_no_table():
    data = b"% c\n@relation r\n@attribute 'a b' numeric\n@attribute s {m,f}\n@data\n1,m\n?,f\n{0 1}\n1\n"
    found = read_table(data, "a.arff")
    assert [(r.code, r.number, r.text) for r in found.records] == [("a b", 1, ""), ("s", None, "m"), ("s", None, "f")]
    assert len(found.refused) == 2
    with pytest.raises(DataError, match="no table"):
        read_table(b"", "a.csv")


def test_streaming_gives_the_same_as_reading_whole(monkeypatch):
    data = b"patient,hb,sex\n" + b"".join(b"%d,%d,f\n" % (n, n) for n in range(2000))
    whole = read_table(data, "a.csv")
    monkeypatch.setattr("isocenter.data.records.tables.read._CHUNK", 7)
    parts = list(stream_table(io.BytesIO(data), "a.csv"))
    assert len(parts) > 200
    assert merge(parts) == whole


def test_parquet_gives_what_csv_gives(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.table(
        {"patient": ["1", "2"], "hb [g/dL]": [12.5, None], "n": [3, 4], "l": [[1], [2]], "ok": [True, None]}
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=1)
    found = merge(stream_parquet(tmp_path / "a.parquet", "a.parquet"))
    assert [(r.patient, r.code, r.number, r.text) for r in found.records] == [
        ("1", "hb", 12.5, ""), ("1", "n", 3, ""), ("1", "ok", None, "true"), ("2", "n", 4, ""),
    ]  # fmt: skip
    assert "nested" in found.notes[0]
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="Parquet"):
        merge(stream_parquet(tmp_path / "b.parquet", "b"))


def test_a_day_that_is_not_in_the_calendar_reads_neither_way():
    found = read_table(b"patient,visit_date,hb\n1,31/02/2024,9\n2,01/02/2024,8\n3,02/03/2024,8\n", "a.csv")
    told = {r.reason for r in found.refused}
    assert told == {"column 'visit_date' is no date"}


def test_columns_that_say_who_somebody_is_give_no_value():
    heading = "patient_id,MRN,mobile,nhsNumber,Emergency contact,surgeon,Name,year of birth,hb,drug name,insurance"
    found = read_table(
        f"{heading}\n1,88123411,15112345,9434765919,Maria,Zebrowski,Jonas,1931,12.5,cisplatin,private\n"
        "2,88123412,15112346,9434765918,Anna,Zebrowski,Petra,1951,11.5,none,public\n".encode(),
        "a.csv",
    )
    assert {r.code for r in found.records} == {"hb", "drug name", "insurance"}
    assert sum("says who somebody is" in note for note in found.notes) == 7
    # National numbers are not written in one way.
    numbers = read_table(
        b"patient,Aadhaar no.,AHV-Nr,PESEL,hb\n1,1234 5678 9012,756.1234.5678.97,44051401359,9\n", "c.csv"
    )
    assert {r.code for r in numbers.records} == {"hb"}
    # A number of a surgeon, and a reader's answer, name nobody.
    codes = read_table(b"patient,surgeon,reader1\n1,3,yes\n2,4,no\n", "b.csv")
    assert {r.code for r in codes.records} == {"surgeon", "reader1"}


def roles_of(heading: str, *columns: Sequence[str]) -> dict[str, str]:
    columns_of, _ = tell_roles(heading.split(","), list(zip(*columns, strict=True)))
    return {column.heading: column.role for column in columns_of}


@pytest.mark.parametrize(
    ("heading", "cells"),
    [
        ("surgery_date", ["20190304", "20200102"]), ("surgery_date", ["20190304.0", "20200102.0"]),
        ("x", ["20190304", "20200102", "99999999"]), ("seen", ["201903041605", "202001020000"]),
        ("seen", ["20190304160501"]), ("exam_year", ["2019", "2020"]), ("sample.yr", ["1995", "2003"]),
        ("op_date", ["43528", "43901"]), ("op_date", ["43528.604", "0"]), ("readmitted", ["0", "0", "0", "20190304"]),
        ("Datum_OP", ["1551657600", "1551657700"]),
    ],
)  # fmt: skip
def test_numbers_that_are_dates_are_moments(heading, cells):
    assert roles_of(f"patient,{heading}", [str(n) for n in range(len(cells))], cells)[heading] == "moment"


@pytest.mark.parametrize(
    ("heading", "cells"),
    [
        ("national_id", ["123456789", "223456789", "323456780"]), ("hadm_id", ["22334455", "22334455", "22334456"]),
        ("Account no.", ["551234", "551235"]), ("caseNumber", ["2019001.0", "2019002.0"]), ("id2", ["88123", "88124"]),
        ("Fallnummer", ["88123456"]), ("insurance_policy_number", ["88123456", "98123457"]), ("csn", ["100200300"]),
    ],
)  # fmt: skip
def test_numbers_of_people_give_no_value(heading, cells):
    table = "".join(f"{n},{cell},{n + 0.5}\n" for n, cell in enumerate(cells, start=1))
    found = read_table(f"patient,{heading},hb\n{table}".encode(), "a.csv")
    assert {r.code for r in found.records} == {"hb"}
    assert not found.suspicious
    assert any("numbers people" in r.reason for r in found.refused) or "insurance" in heading


@pytest.mark.parametrize(
    ("heading", "cells"),
    [
        ("hb", ["12.5", "13.25", "9"]), ("platelets", ["150000", "251000", "199000"]), ("wbc_count", ["1234567"] * 3),
        ("number of cells", ["1234567", "7654321", "2345678"]), ("voxels", ["10033455", "20033456", "30033457"]),
        ("volume [mm3]", ["20190304", "20200102", "10010"]), ("site_id", ["10001", "10002", "10003"]),
        ("scanner_id", ["1", "2", "1"]), ("concept_id", ["40212223", "40212224", "40212225"]), ("hu", ["2019", "1950"]),
        ("arm_no", ["1", "2"]), ("case_no", ["1", "2", "3"]), ("visit_date", ["0", "14", "28"]), ("los", ["3", "12"]),
        ("days_to_date", ["43528", "43901"]), ("years_of_smoking", ["20", "40"]), ("load", ["1003345", "33456", "9"]),
        ("itemid", ["220045", "220045", "220046"]), ("mr_volume_mm3", ["20190304", "1234567", "12345"]),
        ("neutrophil_count", ["2019", "1999"]), ("grade", ["1", "2"]), ("dose_mg", ["1950", "2000"]),
    ],
)  # fmt: skip
def test_measurements_counts_and_categories_stay_numbers(heading, cells):
    table = "".join(f"{n},{cell},x\n" for n, cell in enumerate(cells, start=1))
    found = read_table(f"patient,{heading},stage\n{table}".encode(), "a.csv")
    numbers = [r.number for r in found.records if r.code != "stage"]
    assert numbers == [float(cell) for cell in cells]
    assert not found.suspicious
    assert not found.refused


@pytest.mark.parametrize(
    ("heading", "cells"),
    [("rx_id", ["1234567", "1234567", "1234568"]), ("extern", ["10033455", "20033456", "30033457"])],
)
def test_undecided_numbers_stay_and_are_told(heading, cells):
    table = "".join(f"{n},{cell}\n" for n, cell in enumerate(cells, start=1))
    found = read_table(f"patient,{heading}\n{table}".encode(), "a.csv")
    assert [r.number for r in found.records] == [float(cell) for cell in cells]
    assert [(r.where, r.reason.split(" holds")[0]) for r in found.suspicious] == [("a.csv", f"column {heading!r}")]


def test_a_compact_date_is_a_moment_also_of_floats():
    found = read_table(b"patient,study_date,biopsy_date,hb\n1,20190304.0,20190301.0,12\n2,20200102.0,,11\n", "a.csv")
    assert {r.time for r in found.records} == {"2019-03-04", "2020-01-02"}
    assert [r.value_time for r in found.records if r.code == "biopsy_date"] == ["2019-03-01"]
