"""The work list: whole changes, turns of several readers, orders, agreement, exports without identities."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from isocenter.core.errors import ConfigError, Conflict, DataError, NotFound
from isocenter.data.labelled import open_labelled
from isocenter.verbs.serving.worklist import LabelWork
from isocenter.viewer.work import ExportOrder, TurnChange, WorkLabel, WorkList, WorkPlan, WorkQuery
from work_cases import SECRET, SmallEye, SmallLibrary, SmallMasks

KNEE = WorkLabel("knee")
GRADE = WorkLabel("grade", "class", ("none", "mild", "severe"), graded=True)


def made(tmp_path, plan: WorkPlan, *, patients: int = 6, each: int = 1, **options):
    library = SmallLibrary(patients, each=each)
    masks = SmallMasks(library)
    work = LabelWork(tmp_path, library, masks, **options)
    work.set_plan(plan)
    assert work.wait().problem == ""
    return work, library, masks


def every(work: LabelWork, **query):
    return work.items(WorkQuery(limit=1000, **query)).items


def done(work: LabelWork, masks: SmallMasks, reader: str, **drawing) -> str | None:
    item = work.next(reader, "")
    if item is None:
        return None
    answer = ""
    if item.kind == "mask":
        masks.add(item.image, item.label, reader, **drawing)
    else:
        answer = item.classes[0]
    work.change(item.id, TurnChange(item.version, reader, "done", answer=answer))
    return item.id


def test_it_is_the_port(tmp_path):
    assert isinstance(LabelWork(tmp_path, SmallLibrary(), SmallMasks(SmallLibrary())), WorkList)


def test_items_are_made_of_images_and_labels_and_stay_after_a_restart(tmp_path):
    work, library, masks = made(tmp_path, WorkPlan(labels=(KNEE, GRADE), readers=("AB", "CD")))
    page = work.items(WorkQuery())
    assert page.total == 12 and page.plan.version == 1 and page.counts == {"open": 12, "unassigned": 0}
    assert page.by_reader == {"AB": {"open": 6}, "CD": {"open": 6}}
    again = LabelWork(tmp_path, library, masks)
    assert again.items(WorkQuery()) == page
    library.patients["ffffffffffffffff"] = "new"
    again.refresh()
    again.wait()
    assert again.items(WorkQuery()).total == 14
    assert [i.id for i in every(again)][:12] == [i.id for i in page.items]


def test_next_goes_on_with_what_was_begun_and_ends(tmp_path):
    work, _, masks = made(tmp_path, WorkPlan(labels=(KNEE,)))
    first = work.next("AB", "")
    assert work.next("AB", "").id == first.id and work.next("CD", "").id != first.id
    assert first.turns[0].state == "doing"
    taken = {done(work, masks, reader) for reader in ("AB", "CD") for _ in range(6)} - {None}
    assert len(taken) == 6 and work.next("AB", "") is None
    assert work.items(WorkQuery()).counts == {"done": 6, "unassigned": 0}
    assert work.next("AB", "hip") is None


def test_a_share_of_patients_is_labelled_by_several(tmp_path):
    plan = WorkPlan(labels=(KNEE,), readers=("AB", "CD", "EF"), shared=0.5, shared_readers=2)
    work, _, _ = made(tmp_path, plan, patients=40, each=2)
    items = every(work)
    wanted: dict[str, set[int]] = {}
    for item in items:
        wanted.setdefault(item.patient_key, set()).add(item.wanted)
        assert len({t.reader for t in item.turns}) == item.wanted
    assert all(len(found) == 1 for found in wanted.values())  # whole patients
    assert 10 <= sum(2 in found for found in wanted.values()) <= 30
    held = Counter(t.reader for i in items for t in i.turns)
    assert max(held.values()) - min(held.values()) <= 2


def test_a_second_writer_is_told(tmp_path):
    work, library, masks = made(tmp_path, WorkPlan(labels=(KNEE,), readers=("AB",)))
    other = LabelWork(tmp_path, library, masks)
    item = every(work)[0]
    work.change(item.id, TurnChange(item.version, "AB", "skipped", "motion"))
    with pytest.raises(Conflict) as told:
        other.change(item.id, TurnChange(item.version, "AB", "open"))
    assert told.value.code == "stale"
    assert work.item(item.id).turns[0].reason == "motion"
    with pytest.raises(Conflict):
        other.set_plan(WorkPlan(labels=(KNEE,), version=0))


def test_many_readers_at_once_never_share_what_one_shall_do(tmp_path):
    _, library, masks = made(tmp_path, WorkPlan(labels=(KNEE,)), patients=24)
    found: list[str] = []

    def read(name: str) -> None:
        mine = LabelWork(tmp_path, library, masks)
        while (item := mine.next(name, "")) is not None:
            found.append(item.id)
            mine.change(item.id, TurnChange(item.version, name, "skipped", "a test"))

    threads = [threading.Thread(target=read, args=(f"R{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 24 == len(set(found))  # an error in a thread is a warning, and so an error here


def test_what_a_turn_needs(tmp_path):
    work, _, masks = made(tmp_path, WorkPlan(labels=(KNEE, GRADE), readers=("AB",)))
    knee = next(i for i in every(work) if i.kind == "mask")
    grade = next(i for i in every(work) if i.kind == "class")
    for item, change in (
        (knee, TurnChange(knee.version, "AB", "skipped")),
        (knee, TurnChange(knee.version, "AB", "done")),  # nothing was confirmed
        (knee, TurnChange(knee.version, "AB", "again", "look")),  # nothing was done
        (grade, TurnChange(grade.version, "AB", "done", answer="terrible")),
    ):
        with pytest.raises(ConfigError):
            work.change(item.id, change)
    masks.add(knee.image, "knee", "CD")
    with pytest.raises(ConfigError):  # another reader's
        work.change(knee.id, TurnChange(knee.version, "AB", "done"))
    with pytest.raises(NotFound):
        work.change(knee.id, TurnChange(knee.version, "CD", "done"))
    with pytest.raises(NotFound):
        work.item("0" * 16)
    mine = masks.add(knee.image, "knee", "AB")
    after = work.change(knee.id, TurnChange(knee.version, "AB", "done"))
    assert after.turns[0].answer == mine and after.version == knee.version + 1
    again = work.change(knee.id, TurnChange(after.version, "AB", "again", "border  at\nthe top"))
    assert again.turns[0].reason == "border at the top" and work.next("AB", "").id == knee.id
    assert work.item(grade.id).turns[0].state == "open"


def test_what_was_confirmed_elsewhere_counts(tmp_path):
    work, _, masks = made(tmp_path, WorkPlan(labels=(KNEE,)))
    first = work.next("AB", "")
    mask = masks.add(first.image, "knee", "AB")
    assert work.next("AB", "").id != first.id
    assert [(t.state, t.answer) for t in work.item(first.id).turns] == [("done", mask)]


def test_assigning_keeps_what_is_done(tmp_path):
    work, _, masks = made(tmp_path, WorkPlan(labels=(KNEE,), readers=("AB",)))
    item_id = done(work, masks, "AB")
    item = work.assign(item_id, version=work.item(item_id).version, readers=("CD",))
    assert [(t.reader, t.state) for t in item.turns] == [("AB", "done"), ("CD", "open")]
    item = work.assign(item_id, version=item.version, readers=())
    assert [t.reader for t in item.turns] == ["AB"]
    with pytest.raises(ConfigError):
        work.assign(item_id, version=item.version, readers=("\n",))


def test_orders(tmp_path):
    eye = SmallEye()
    work, library, masks = made(tmp_path, WorkPlan(labels=(KNEE,)), patients=12, eye=eye)
    given = [i.id for i in every(work)]
    begun = work.next("AB", "").id
    work.reorder("random", 5)
    assert work.wait().problem == ""
    random = [i.id for i in every(work)]
    assert sorted(random) == sorted(given) and random != given
    assert work.plan().order == "random" and work.plan().version == 2
    masks.add(library.images[0], "knee", "AB")
    work.reorder("active", 0)
    assert work.wait().problem == ""
    active = [i.id for i in every(work)]
    assert sorted(active) == sorted(given) and active not in (given, random)
    assert active.index(begun) == 11  # it has begun: the order is of those that wait
    looked = eye.looked
    work.reorder("active", 0)
    work.wait()
    assert eye.looked == looked == 12 and [i.id for i in every(work)] == active
    blind = LabelWork(tmp_path, library, masks)
    with pytest.raises(ConfigError, match="no model"):
        blind.reorder("active", 0)


def test_broken_studies_are_counted_not_fatal(tmp_path):
    library = SmallLibrary(5)
    library.broken.add(next(iter(library.patients)))
    work = LabelWork(tmp_path, library, SmallMasks(library))
    work.set_plan(WorkPlan(labels=(KNEE,)))
    filling = work.wait()
    assert filling.left_out == 1 and work.items(WorkQuery()).total == 4


def test_agreement_of_masks(tmp_path):
    plan = WorkPlan(labels=(KNEE,), readers=("AB", "CD"), shared=1.0)
    work, _, masks = made(tmp_path, plan, patients=12)
    for number, item in enumerate(every(work)):
        masks.add(item.image, "knee", "AB")
        masks.add(item.image, "knee", "CD", shift=number % 3, empty=number == 7)
    found = work.agreement(label="knee", tolerance_mm=1.0)
    (pair,) = found["pairs"]
    assert pair["readers"] == ["AB", "CD"] and pair["images"] == 12
    assert 0 < pair["dice"]["low"] < pair["dice"]["value"] < pair["dice"]["high"] < 1
    assert pair["nsd"]["value"] > pair["dice"]["value"]  # one voxel, 0.7 mm, lies within the tolerance
    assert pair["presence"]["agreed"] == pytest.approx(11 / 12, abs=1e-4)
    worst = found["disagreements"][0]
    assert worst["item"] == every(work)[7].id and worst["dice"] == 0.0
    with pytest.raises(NotFound):
        work.agreement(label="hip", tolerance_mm=1.0)


def test_agreement_of_classes(tmp_path):
    work, _, _ = made(tmp_path, WorkPlan(labels=(GRADE,), readers=("AB", "CD"), shared=1.0), patients=12)
    for number, item in enumerate(every(work)):
        for reader in ("AB", "CD"):
            answer = GRADE.classes[number % 3]
            if reader == "CD" and number == 2:
                answer = "none"
            version = work.item(item.id).version
            work.change(item.id, TurnChange(version, reader, "done", answer=answer))
    found = work.agreement(label="grade", tolerance_mm=1.0)
    (pair,) = found["pairs"]
    assert pair["agreed"] == pytest.approx(11 / 12, abs=1e-4) and 0.5 < pair["kappa"]["value"] < 1
    assert found["disagreements"] == [
        {"item": every(work)[2].id, "readers": ["AB", "CD"], "answers": ["severe", "none"]}
    ]


def test_export_hides_patients_and_keeps_them_together(tmp_path):
    work, library, masks = made(tmp_path / "work", WorkPlan(labels=(KNEE, WorkLabel("hip"))), patients=6, each=2)
    for image in library.images[:-1]:
        masks.add(image, "knee", "AB")
        masks.add(image, "hip", "AB", shift=5)
    masks.add(library.images[-1], "knee", "AB")
    order = ExportOrder("nnunet", parts="train=0.5,test=0.5", licence="CC0-1.0")
    told = work.export(order)
    assert told.cases == 11 and told.left_out[0][1] == "no mask of hip" and set(told.parts) == {"train", "test"}
    folder = tmp_path / "work" / told.folder
    read = open_labelled(folder)
    assert read.classes == ("knee", "hip") and read.licence == "CC0-1.0" and read.patients_known
    whole = b"".join(p.read_bytes() for p in folder.rglob("*") if p.is_file())
    assert SECRET.encode() not in whole and not any(key.encode() in whole for key in library.patients.values())
    for case in read.cases:
        image = case.name.removeprefix("c-")
        assert np.array_equal(case.image().array, library.image(image).array)
    again = work.export(order)
    names = [sorted(p.name for p in (tmp_path / "work" / t.folder).rglob("*")) for t in (told, again)]
    assert names[0] == names[1] and told.id != again.id
    path, name = work.exported(told.id)
    with zipfile.ZipFile(path) as packed:
        assert packed.testzip() is None and f"nnunet-{told.id}/dataset.json" in packed.namelist()
    assert name.endswith(".zip")
    for bad in ("../list", "0" * 16):
        with pytest.raises(NotFound):
            work.exported(bad)


def test_export_chooses_between_readers(tmp_path):
    work, library, masks = made(tmp_path, WorkPlan(labels=(KNEE,)), patients=2)
    image = library.images[0]
    for reader, shift in (("AB", 0), ("CD", 1), ("EF", 2), ("AB", 3)):
        masks.add(image, "knee", reader, shift=shift)

    def columns(choose: str) -> tuple[int, int]:
        told = work.export(ExportOrder("folders", choose=choose))
        (case,) = open_labelled(tmp_path / told.folder).cases
        inside = np.flatnonzero(case.mask(case.image().geometry).array.any(axis=(0, 1)))
        return int(inside[0]), int(inside[-1])

    assert columns("latest") == (5, 9)  # AB's second
    assert columns("reader:CD") == (3, 7)
    assert columns("majority") == (4, 8)  # of 3-7, 4-8 and 5-9, two of three
    for choose in ("best", "reader:", "readers:AB"):
        with pytest.raises(ConfigError):
            work.export(ExportOrder("folders", choose=choose))
    with pytest.raises(DataError, match="no mask of"):
        work.export(ExportOrder("folders", choose="reader:XY"))


def test_what_is_wanted_again_is_not_exported(tmp_path):
    work, _, masks = made(tmp_path, WorkPlan(labels=(KNEE,), readers=("AB",)), patients=3)
    first = done(work, masks, "AB")
    done(work, masks, "AB")
    work.change(first, TurnChange(work.item(first).version, "AB", "again", "look"))
    told = work.export(ExportOrder("folders"))
    assert told.cases == 1 and "another look" in told.left_out[0][1]


def test_status_of_a_study(tmp_path):
    work, library, masks = made(tmp_path, WorkPlan(labels=(KNEE, GRADE), readers=("AB",)), patients=2)
    study = next(iter(library.patients))
    assert work.status(study) == ("new", "AB") and work.status("0" * 16) == ("new", None)
    done(work, masks, "AB")
    assert work.status(study) == ("open", "AB")
    done(work, masks, "AB")
    assert work.status(study) == ("read", None)


@pytest.mark.parametrize(
    "plan",
    [
        WorkPlan(),
        WorkPlan(labels=(KNEE, KNEE)),
        WorkPlan(labels=(WorkLabel(""),)),
        WorkPlan(labels=(WorkLabel("a", "class", ("x",)),)),
        WorkPlan(labels=(KNEE,), readers=("AB", "AB")),
        WorkPlan(labels=(KNEE,), readers=("AB",), shared=0.5),
        WorkPlan(labels=(KNEE,), shared=1.5),
    ],
)
def test_plans_that_make_no_sense(tmp_path, plan):
    with pytest.raises(ConfigError):
        LabelWork(tmp_path, SmallLibrary(), SmallMasks(SmallLibrary())).set_plan(plan)


def test_a_damaged_list_is_said(tmp_path):
    work, library, masks = made(tmp_path, WorkPlan(labels=(KNEE,)))
    work.store._file.write_bytes(b"no database at all" * 100)
    with pytest.raises(DataError, match="damaged"):
        LabelWork(tmp_path, library, masks).plan()


def test_a_list_of_another_version_is_not_touched(tmp_path):
    work, _, _ = made(tmp_path, WorkPlan(labels=(KNEE,)))
    with sqlite3.connect(work.store._file) as connection:
        connection.execute("UPDATE meta SET value = '9' WHERE name = 'format'")
    connection.close()
    with pytest.raises(DataError, match="another version"):
        work.set_plan(replace(work.plan(), seed=3))


_KILLED = """
import sys
from pathlib import Path
from isocenter.verbs.serving.worklist import LabelWork
from isocenter.viewer.work import TurnChange, WorkLabel, WorkPlan
from work_cases import SmallLibrary, SmallMasks
library = SmallLibrary(8)
work = LabelWork(Path(sys.argv[1]), library, SmallMasks(library))
work.set_plan(WorkPlan(labels=(WorkLabel("knee"),)))
work.wait()
print("ready", flush=True)
while True:
    item = work.next("AB", "")
    item = work.change(item.id, TurnChange(item.version, "AB", "skipped", "a test"))
    work.change(item.id, TurnChange(item.version, "AB", "open"))
"""


def test_a_writer_that_is_killed_leaves_whole_items(tmp_path):
    command = [sys.executable, "-c", _KILLED, str(tmp_path)]
    # The cases of these tests stand beside them, which a process of its own does not know.
    path = os.pathsep.join([str(Path(__file__).resolve().parents[3]), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as writer:
        assert writer.stdout.readline().strip() == "ready"
        time.sleep(0.3)
        writer.kill()
    work = LabelWork(tmp_path, SmallLibrary(8), SmallMasks(SmallLibrary(8)))
    items = every(work)
    assert len(items) == 8 and len({i.rank for i in items}) == 8
    assert any(i.version > 1 for i in items)  # it was at work when it was killed
    for item in items:
        assert len(item.turns) <= 1
        assert all((t.state == "skipped") == bool(t.reason) for t in item.turns)
    assert work.next("CD", "") is not None
