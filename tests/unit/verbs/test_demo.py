"""The demo: its images are where it says, its prompts lie inside them, and nothing of the user's is replaced."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from isocenter.core.errors import CapabilityError, ConfigError
from isocenter.data.images import read_study
from isocenter.plugins import task_entries
from isocenter.verbs import demo as room
from isocenter.verbs.demo import DemoCase, cases, demo


@pytest.mark.parametrize("case", cases(), ids=lambda c: c.name)
def test_prompts_lie_inside_the_image(case: DemoCase) -> None:
    path = case.path()
    assert path is not None, f"{case.package} carries no {case.file}"
    assert case.credit
    image = read_study(path).study.images[0]
    assert case.targets
    assert bool(image.modality) != bool(case.modality), "the modality is stated just where the file says none"
    for target in case.targets:
        assert target.task is None or target.task in task_entries()[0]
        for prompt in target.core_prompts():
            assert image.geometry.contains_index(prompt.index_zyx(image.geometry)).all()


def test_sides_are_the_patients() -> None:
    """What the prompts call left lies at greater x (LPS) than what they call right."""
    case = next(c for c in cases() if c.name == "abdomen-mr")
    path = case.path()
    assert path is not None
    geometry = read_study(path).study.images[0].geometry
    middle = {
        t.laterality: float(geometry.to_world(t.core_prompts()[0].coordinates)[:, 0].mean())
        for t in case.targets
        if t.laterality
    }
    assert middle["left"] > middle["right"] + 50


def test_something_else_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine", "utf-8")
    with pytest.raises(ConfigError, match="is not empty and holds no demo"):
        demo(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]


def test_without_its_packages_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = (cases()[0].model_copy(update={"package": "no_such_package"}),)
    monkeypatch.setattr(room, "cases", lambda: absent)
    with pytest.raises(CapabilityError, match=r"pip install 'isocenter\[demo\]'"):
        demo(tmp_path / "demo")
    assert list(tmp_path.iterdir()) == []


def test_a_page_links_every_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One case that asks for no task is read whole; one whose package is missing is left out, and said."""
    spine = next(c for c in cases() if c.name == "spine-ct").model_copy(update={"targets": ()})
    absent = spine.model_copy(update={"name": "absent", "package": "no_such_package"})
    monkeypatch.setattr(room, "cases", lambda: (spine, absent))
    for _ in range(2):  # the second replaces the first
        done = demo(tmp_path / "demo")
    assert Path(done.page).is_file()
    assert 'href="spine-ct/report.html"' in Path(done.page).read_text("utf-8")
    assert (tmp_path / "demo" / "spine-ct" / "report.html").is_file()
    assert [c.result for c in done.cases] == ["spine-ct", None]
    assert "no_such_package is not installed" in done.cases[1].outcome
    assert json.loads((tmp_path / "demo" / "demo.json").read_text("utf-8"))["cases"][0]["name"] == "spine-ct"
