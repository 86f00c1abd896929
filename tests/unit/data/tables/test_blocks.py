"""Modalities beside a table: joined keys, regions, dates, text, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isocenter.core.errors import DataError, UnitsError
from isocenter.data.tables import read_block, read_texts


def written(file: Path, text: str) -> Path:
    file.write_text(text, "utf-8")
    return file


def test_one_row_for_each_patient(tmp_path: Path) -> None:
    file = written(
        tmp_path / "ct.csv",
        "patient,scan date,scanner,volume [mL],sharp,kind,made\np1,2020-01-02,A,1.5,yes,solid,synthetic\n"
        "p2,2020-01-03,B,,no,cystic,synthetic\n",
    )
    found = read_block(file, patient="who", batch="scanner")
    assert found.patients == ("p1", "p2") and found.lines == (2, 3) and found.batches == ("A", "B")
    assert found.columns == ("volume", "sharp") and found.units == ("mL", "1")
    np.testing.assert_array_equal(found.values, [[1.5, 1], [np.nan, 0]])
    assert [d.name for d in found.dates] == ["scan date"] and found.synthetic
    assert found.left_out == ("kind: words", "made: words")
    assert read_block(file, patient="patient").columns == ("volume", "sharp")


def test_regions_become_columns_and_rare_ones_are_told(tmp_path: Path) -> None:
    rows = ["p1,node,1,2020-01-02", "p1,mass,2,2020-02-02", "p2,mass,3,", "p3,mass,4,2020-01-05"]
    file = written(tmp_path / "f.csv", "patient,region,size,seen\n" + "\n".join(rows) + "\n")
    found = read_block(file, patient="patient")
    assert found.columns == ("mass: size",) and found.values.tolist() == [[2], [3], [4]]
    assert found.left_out == ("region node: of 33% of the patients alone",)
    # The latest date of a patient's rows counts.
    assert found.dates[0].values.astype("datetime64[D]").astype(str).tolist() == ["2020-02-02", "NaT", "2020-01-05"]
    file = written(tmp_path / "g.csv", "patient,label,size\np1,a,1\np1,b,2\np2,a,3\n")
    found = read_block(file, patient="patient")
    assert found.columns == ("a: size", "b: size")
    np.testing.assert_array_equal(found.values, [[1, 2], [3, np.nan]])


def test_folders_of_phenotypes(tmp_path: Path) -> None:
    head = "segment,label,tag,code,value,unit,reason\n"
    for key, value in (("p1", "3.5"), ("p2", "")):
        (tmp_path / "all" / key).mkdir(parents=True)
        written(
            tmp_path / "all" / key / "phenotype.csv",
            f"{head}1,mass,stat_mean,Q4LE,{value},[hnsf'U],\n1,mass,morph_vol,RNU0,{len(key)},mm3,\n",
        )
    found = read_block(tmp_path / "all", patient="who")
    assert found.patients == ("p1", "p2") and found.columns == ("mass: stat_mean", "mass: morph_vol")
    assert found.units == ("[hnsf'U]", "mm3") and found.values[0].tolist() == [3.5, 2] and np.isnan(found.values[1, 0])
    written(tmp_path / "all" / "p2" / "phenotype.csv", f"{head}1,mass,stat_mean,Q4LE,1,{{SUVbw}}g/ml,\n")
    with pytest.raises(DataError, match="line 2: stat_mean has another unit"):
        read_block(tmp_path / "all", patient="who")
    written(tmp_path / "all" / "p2" / "phenotype.csv", "tag,value\na,1\n")
    with pytest.raises(DataError, match="line 2 is not of a phenotype"):
        read_block(tmp_path / "all", patient="who")
    with pytest.raises(DataError, match="no folder of a patient"):
        read_block(tmp_path / "all" / "p1", patient="who")


def test_texts(tmp_path: Path) -> None:
    file = written(tmp_path / "r.csv", 'id,text,day\np1,"SYNTHETIC. A mass,\nlarge.",2020-01-02\np2,,2020-01-03\n')
    found = read_texts(file, patient="who", column="text")
    assert found.texts == ("SYNTHETIC. A mass,\nlarge.", "") and found.patients == ("p1", "p2")
    assert found.dates[0].name == "day" and found.synthetic
    with pytest.raises(DataError, match="has no column 'words'"):
        read_texts(file, patient="who", column="words")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("patient,a\np1,1\np2,2\np1,3\n", "line 4 is of the patient of line 2"),
        ("patient,a\np1,1\n,2\n", "line 3 has no patient"),
        ("name,a\np1,1\n", "names no patient: it needs a column 'who'"),
        ("patient,a\np1,x\np2,y\n", "holds no column of numbers"),
        ("patient,label,a\np1,m,1\np1,m,2\n", "line 3 is of the patient of line 2"),
        ("patient,a,a\np1,1,2\n", "stands twice"),
        ("patient,label,a\np1,1,1\np2,2,1\np3,3,1\n", "no region is found in"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_block(written(tmp_path / "t.csv", text), patient="who")


def test_units_and_scanners_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UnitsError, match="kilowatts"):
        read_block(written(tmp_path / "t.csv", "patient,a [kilowatts]\np1,1\n"), patient="who")
    text = "patient,label,scanner,a\np1,m,A,1\np1,n,B,2\n"
    with pytest.raises(DataError, match="line 3 is of another scanner"):
        read_block(written(tmp_path / "s.csv", text), patient="who", batch="scanner")


def test_a_single_region_keeps_its_name(tmp_path: Path) -> None:
    # Numbers of a node given where a mass was learnt from must not pass for the mass's.
    mass = read_block(written(tmp_path / "a.csv", "patient,region,size\np1,mass,3\n"), patient="patient")
    node = read_block(written(tmp_path / "b.csv", "patient,region,size\np1,node,3\n"), patient="patient")
    assert mass.columns == ("mass: size",) and node.columns == ("node: size",)


def test_two_segments_of_one_phenotype_that_are_called_alike(tmp_path: Path) -> None:
    (tmp_path / "p1").mkdir()
    rows = "1,mass,stat_mean,Q4LE,3,1,\n2,mass,stat_mean,Q4LE,9,1,\n"
    written(tmp_path / "p1" / "phenotype.csv", f"segment,label,tag,code,value,unit,reason\n{rows}")
    with pytest.raises(DataError, match="line 3: two segments of one patient are called alike"):
        read_block(tmp_path, patient="who")


def test_dates_of_phenotypes_are_read(tmp_path: Path) -> None:
    for key in ("p1", "p2"):
        (tmp_path / key).mkdir()
        head = "segment,label,tag,code,value,unit,reason\n"
        written(tmp_path / key / "phenotype.csv", f"{head}1,mass,stat_mean,Q4LE,3,1,\n")
    assert read_block(tmp_path, patient="who").dates == ()
    written(tmp_path / "p1" / "features.csv", "patient,region,acquired,made\np1,mass,2020-03-01,measured\n")
    (dates,) = read_block(tmp_path, patient="who").dates
    assert dates.values.astype("datetime64[D]").astype(str).tolist() == ["2020-03-01", "NaT"]
    written(tmp_path / "p1" / "features.csv", "patient,region,acquired,made\np1,mass,March,measured\n")
    with pytest.raises(DataError, match=r"'acquired' in a features\.csv holds what is no date"):
        read_block(tmp_path, patient="who")


@pytest.mark.parametrize("day", ["01.02.2020", "2020/02/01", "20200201", "2020-02-01"])
def test_dates_that_are_not_read_as_dates_are_refused(tmp_path: Path, day: str) -> None:
    # Otherwise what was made after the index time would be taken without a word.
    file = written(
        tmp_path / "t.csv", f"patient,seen,text,size\np1,{day},a,1\np2,{'soon' if '-' in day else day},b,2\n"
    )
    with pytest.raises(DataError, match="'seen' looks like dates; write them as 2024-01-31"):
        read_block(file, patient="patient")
    with pytest.raises(DataError, match="'seen' looks like dates"):
        read_texts(file, patient="patient", column="text")
    file = written(tmp_path / "u.csv", "patient,seen,text\np1,2020-01-02,a\np2,2020-13-45,b\n")
    with pytest.raises(DataError, match="line 3: 'seen' holds what is no date"):
        read_texts(file, patient="patient", column="text")
