"""Tables of images, questions and answers: what is read, and every row that is refused with its number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from isocenter.core.errors import DataError, IdentityLeak
from isocenter.core.wording import plain_question
from isocenter.data.questions import QuestionColumns, read_question_table

COLUMNS = QuestionColumns(patient="patient", split="split", kind="kind")
HEAD = "image,question,answer,patient,split,kind\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png"):
        Picture.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    return tmp_path


def read(folder: Path, text: str, columns: QuestionColumns = COLUMNS):
    (folder / "t.csv").write_text(text, "utf-8")
    return read_question_table(folder / "t.csv", folder, columns)


def test_rows_are_read(folder):
    one, two = read(folder, HEAD + "a.png|b.png, Which?,left,p,train,side\na.png,Where?,right,p,train,side\n")
    assert [i.name for i in one.images] == ["a.png", "b.png"] and one.question == "Which?" and one.kind == "side"
    assert two.number == 2 and two.answer == "right"
    (plain,) = read(folder, "image,report\na.png,All clear.\n", QuestionColumns(question=None, answer="report"))
    assert (plain.question, plain.kind, plain.patient) == ("Describe the image.", "describe the image", "image a.png")
    assert plain_question("  Is THIS\none ?! ") == "is this one"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (",Which?,left,p,train,side", "row 1 names no image"),
        ("a.png,,left,p,train,side", "row 1 has an empty question"),
        ("a.png,Which?,,p,train,side", "row 1 has an empty answer"),
        ("c.png,Which?,left,p,train,side", "row 1 names an image that is not in the folder"),
        ("../t.png,Which?,left,p,train,side", "row 1 names an image outside the folder"),
        ("notes.txt,Which?,left,p,train,side", "row 1 names a file that is no image"),
        ("a.png,Which?,left,,train,side", "row 1 names no patient"),
        ("a.png,Which?,left,p,later,side", "row 1 is in none of the splits"),
        ("a.png,Which?,left,p,train,", "row 1 says no kind"),
        (f"a.png,{'x' * 20_001},left,p,train,side", "has a question of 20001 letters"),
        ("a.png,Which?,left,p,train,side\na.png,which,right,p,train,side", "rows 1 and 2 ask one question twice"),
    ],
)
def test_bad_rows_are_refused(folder, row, message):
    with pytest.raises(DataError, match=message):
        read(folder, HEAD + row + "\n")


def test_bad_tables_are_refused(folder):
    for text, message in ((HEAD, "a heading and no row"), ("image\na.png\n", "has no column 'question'")):
        with pytest.raises(DataError, match=message):
            read(folder, text)
    (folder / "t.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not a CSV file"):
        read_question_table(folder / "t.csv", folder, COLUMNS)
    with pytest.raises(DataError):
        read_question_table(folder / "none.csv", folder, COLUMNS)
    leak = "a.png,Which?,left,p,train,side\nb.png,Which?,left,p,test,side\n"
    with pytest.raises(IdentityLeak, match="of one patient and in two splits"):
        read(folder, HEAD + leak)
    with pytest.raises(IdentityLeak, match="one image and two patients"):
        read(folder, HEAD + "a.png,Which?,left,p,train,side\na.png,Where?,left,q,train,side\n")


def test_one_image_under_two_paths_is_one_image(folder):
    (folder / "sub").mkdir()
    (folder / "link.png").symlink_to(folder / "a.png")
    for other in ("sub/../a.png", "link.png"):
        rows = f"a.png,Which?,left,p,train,side\n{other},Where?,left,q,test,side\n"
        with pytest.raises(IdentityLeak, match="one image and two patients"):
            read(folder, HEAD + rows)
        with pytest.raises(DataError, match="rows 1 and 2 ask one question twice"):
            read(folder, HEAD + f"a.png,Which?,left,p,train,side\n{other},Which?,left,p,train,side\n")
        unknown = read(folder, f"image,question,answer\na.png,Which?,left\n{other},Where?,right\n", QuestionColumns())
        assert {row.patient for row in unknown} == {"image a.png"}  # or the two could be dealt into two splits
