"""Tables of pictures and their words: what is read, what is refused, and who goes into which split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Picture

from isocenter.core.errors import ConfigError, DataError, IdentityLeak, PixelError
from isocenter.data.pairs import SPLITS, PairColumns, read_pair_table, read_plane, split_by_patient


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png", "c.PNG"):
        Picture.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(tmp_path / name, format="PNG")
    return tmp_path


def table(folder: Path, *lines: str) -> Path:
    file = folder / "pairs.csv"
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return file


def test_rows_are_read(folder):
    file = table(folder, "\ufeffimage,report,who,view", 'a.png,"No effusion, no mass.",7,PA', "c.PNG, Mass ,8,")
    rows = read_pair_table(file, folder, PairColumns(patient="who", extra=("view",)))
    assert [(r.number, r.image.name, r.text, r.patient, r.split) for r in rows] == [
        (1, "a.png", "No effusion, no mass.", "7", ""),
        (2, "c.PNG", "Mass", "8", ""),
    ]
    assert [dict(r.extra) for r in rows] == [{"view": "PA"}, {"view": ""}]
    assert [r.patient for r in read_pair_table(file, folder, PairColumns())] == ["row 1", "row 2"]


@pytest.mark.parametrize(
    ("lines", "columns", "message"),
    [
        (("picture,report", "a.png,x"), {}, r"no column 'image'; it has 'picture', 'report'"),
        (("image,report", "a.png,x"), {"patient": "who"}, "no column 'who'"),
        (("image,report",), {}, "a heading and no row"),
        (("image,report", "z.png,x"), {}, "row 1 names a picture that is not in the folder"),
        (("image,report", ",x"), {}, "row 1 names no picture"),
        (("image,report", "a.png,x", "b.png,  "), {}, "row 2 has an empty report"),
        (("image,report", "a.png"), {}, "row 1 has an empty report"),
        (("image,report", "../a.png,x"), {}, "outside the folder"),
        (("image,report", "/etc/a.png,x"), {}, "outside the folder"),
        (("image,report", "pairs.csv,x"), {}, "is no picture"),
        (("image,report", "a.png,x", "a.png,y"), {}, "rows 1 and 2 name the same picture"),
        (("image,report,who", "a.png,x,"), {"patient": "who"}, "row 1 names no patient"),
        (("image,report,part", "a.png,x,dev"), {"split": "part"}, "row 1 is in none of the splits train"),
    ],
)
def test_what_is_refused(folder, lines, columns, message):
    with pytest.raises(DataError, match=message) as caught:
        read_pair_table(table(folder, *lines), folder, PairColumns(**columns))
    assert caught.value.source == "pairs.csv"


def test_a_patient_in_two_splits_is_refused_without_a_name(folder):
    file = table(folder, "image,report,who,part", "a.png,x,SMITH,train", "b.png,y,JONES,test", "c.PNG,z,SMITH,test")
    with pytest.raises(
        IdentityLeak, match=r"rows 1 and 3 are of one patient and in two splits \(train, test\)"
    ) as told:
        read_pair_table(file, folder, PairColumns(patient="who", split="part"))
    assert "SMITH" not in str(told.value)


def test_unreadable_tables(folder):
    with pytest.raises(DataError, match="cannot read"):
        read_pair_table(folder / "none.csv", folder, PairColumns())
    (folder / "x.csv").write_bytes(b"image,report\na.png,\xff\xfe\n")
    with pytest.raises(DataError, match="not a CSV file in UTF-8"):
        read_pair_table(folder / "x.csv", folder, PairColumns())


@given(
    patients=st.lists(st.sampled_from([str(i) for i in range(12)]), min_size=30, max_size=60),
    seed=st.integers(0, 50),
)
def test_no_patient_is_in_two_splits(patients, seed):
    if len(set(patients)) < 4:
        return
    splits = split_by_patient(patients, {"validation": 0.2, "test": 0.2}, seed)
    assert all(len({s for p, s in zip(patients, splits, strict=True) if p == name}) == 1 for name in set(patients))
    assert set(splits) == set(SPLITS)
    # Whoever goes where does not depend on the order of the rows.
    again = split_by_patient(patients[::-1], {"validation": 0.2, "test": 0.2}, seed)
    assert again == splits[::-1]


def test_too_few_patients_to_split():
    with pytest.raises(ConfigError, match="2 patients can't be split"):
        split_by_patient(["a", "b", "b"], {"validation": 0.2, "test": 0.2}, 0)


def test_planes_are_taken_as_they_are_hung(folder):
    assert read_plane(folder / "a.png").tolist() == np.arange(12.0).reshape(3, 4).tolist()
    colour = np.zeros((3, 4, 3), np.uint8)
    colour[:, 3] = (30, 60, 90)
    Picture.fromarray(colour).save(folder / "rgb.png")
    assert read_plane(folder / "rgb.png")[0].tolist() == [0, 0, 0, 60]
    (folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(PixelError, match="row 3"):
        read_plane(folder / "a.png", "pairs.csv, row 3")
