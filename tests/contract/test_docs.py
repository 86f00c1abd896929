"""The docs are true: links lead somewhere, commands exist, configurations are valid."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [p for p in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")] if ".venv" not in p.parts]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target) or target.startswith("#"):
            continue
        if not (page.parent / target.split("#")[0]).exists():
            broken.append(target)
    assert not broken


def test_commands_in_the_docs_exist() -> None:
    from typer.main import get_command

    from isocenter.cli import app

    known = set(get_command(app).commands)
    used = set()
    for page in PAGES:
        for block in re.findall(r"```(?:console|sh|bash)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            used |= set(re.findall(r"^\$ (?:\.venv/bin/)?isocenter ([a-z]+)", block, re.MULTILINE))
    assert used
    assert used <= known


def test_every_make_target_does_something() -> None:
    """A phony target without a recipe ends well and has done nothing; every module that a recipe runs exists."""
    text = (ROOT / "Makefile").read_text("utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony
    rules = dict(re.findall(r"^([a-z]+):(.*(?:\n\t.*)*)", text, re.MULTILINE))
    assert set(phony[1].split()) == set(rules)
    assert all(rule.strip() for rule in rules.values())
    assert set(re.findall(r"make ([a-z]+)", rules["help"])) <= set(rules)
    for module in re.findall(r"-m ((?:isocenter|benchmarks)[\w.]*)", text):
        path = ROOT / ("src" if module.startswith("isocenter") else "") / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module
    for config in re.findall(r"configs/[\w.-]+", text):
        assert (ROOT / config).is_file(), config


def test_pictures_in_the_docs_are_tracked() -> None:
    tracked = set(
        subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    )
    for page in PAGES:
        for target in re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            assert str((page.parent / target).resolve().relative_to(ROOT)) in tracked
