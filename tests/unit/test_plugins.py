"""Plug-ins: found by entry point, checked, described, and never fatal when broken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from isocenter import plugins
from isocenter.core import TaskEntry
from isocenter.core.errors import CapabilityError, PluginError
from toy_plugin import install_toy


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    tasks = {"toy-bright": "BRIGHT", "toy-needs": "NEEDS", "toy-missing": "no_such_name", "toy-text": "NOT_A_TASK",
             "toy-elsewhere": "no_such_module:X", "toy-renamed": "BRIGHT", "toy-changeling": "CHANGELING"}  # fmt: skip
    monkeypatch.syspath_prepend(str(install_toy(tmp_path / "toy", tasks)))
    monkeypatch.delitem(sys.modules, "toyplug", raising=False)
    return monkeypatch


def test_built_ins_are_plugins_like_any_other() -> None:
    found = {(p.group, p.name): p for p in plugins.describe()}
    assert {"hippocampus-t1", "interact", "lungs-cxr"} <= {n for g, n in found if g == "isocenter.tasks"}
    lungs = found["isocenter.tasks", "lungs-cxr"]
    assert lungs.origin == "isocenter"
    assert lungs.licence == "CC-BY-4.0"
    assert lungs.fits == "CR/DX/RG; CHEST/THORAX/LUNG/LUNGS; 2D"
    assert ("isocenter.readers", "images") in found


def _usable(loaded: object) -> bool:
    from isocenter.learn.method import Method

    return callable(loaded) or isinstance(loaded, Method)


def test_every_built_in_loads() -> None:
    for group in plugins.GROUPS:
        for name, entry in plugins.find(group).items():
            if entry.dist is not None and entry.dist.name == "isocenter":
                loaded = plugins.load(group, name)
                assert isinstance(loaded, TaskEntry) if group == "isocenter.tasks" else _usable(loaded)


def test_listing_imports_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; from isocenter.plugins import describe\n"
        "found = describe(); assert any(p.group == 'isocenter.tasks' for p in found)\n"
        "print(sorted(p.name for p in found if 'torch' in p.missing))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "'lungs-cxr'" in done.stdout


def test_a_name_registered_twice_raises(toy: pytest.MonkeyPatch, tmp_path: Path) -> None:
    toy.syspath_prepend(str(install_toy(tmp_path / "second", {"toy-bright": "BRIGHT"}, name="rival")))
    with pytest.raises(PluginError, match=r"'toy-bright' is registered twice, by (rival|toyplug) 1\.5.*uninstall one"):
        plugins.describe()
    with pytest.raises(PluginError, match="registered twice"):
        plugins.task_entries()


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("toy-missing", "AttributeError"),
        ("toy-elsewhere", "ModuleNotFoundError"),
        ("toy-text", "is a str, not an isocenter.core.TaskEntry"),
        ("toy-renamed", "has a card named 'toy-bright', registered as 'toy-renamed'"),
    ],
)
def test_a_broken_plugin_is_reported_and_the_others_work(toy: pytest.MonkeyPatch, name: str, problem: str) -> None:
    del toy
    good, broken = plugins.task_entries()
    assert problem in {b.name: b.reason for b in broken}[name]
    assert "toy-bright" in good and "lungs-cxr" in good and name not in good
    assert problem in (next(p for p in plugins.describe() if p.name == name).problem or "")


def test_what_is_missing_is_said(toy: pytest.MonkeyPatch) -> None:
    del toy
    entry = plugins.task_entries()[0]["toy-needs"]
    assert plugins.missing_packages(entry.card) == ("no_such_package",)
    assert next(p for p in plugins.describe() if p.name == "toy-needs").missing == ("no_such_package",)
    with pytest.raises(CapabilityError, match="needs no_such_package"):
        plugins.load_task(entry)


def test_a_task_must_have_the_card_it_registered(toy: pytest.MonkeyPatch) -> None:
    del toy
    with pytest.raises(PluginError, match="does not make a task with the card it registered"):
        plugins.load_task(plugins.task_entries()[0]["toy-changeling"])


def test_unknown_group_and_name() -> None:
    with pytest.raises(PluginError, match=r"no plug-in group 'isocenter\.nothing'"):
        plugins.find("isocenter.nothing")
    with pytest.raises(PluginError, match=r"no plug-in 'nothing' in isocenter\.metrics; installed: \w+"):
        plugins.load("isocenter.metrics", "nothing")
