"""The house rules that no linter knows: sizes, forbidden names, local imports, asserts, and a base without torch."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "isocenter"
COMMANDS = ("cli.py", "cli_models.py", "cli_pretrain.py")
FILES = sorted(SRC.rglob("*.py"))
FORBIDDEN_NAMES = re.compile(r"^(utils?|helpers?|.*manager|base_.*|misc|common)\.py$")


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_there_is_a_house() -> None:
    assert len(FILES) > 20


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_file_keeps_the_house_rules(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 600, "a file stays under 600 lines"
    assert not FORBIDDEN_NAMES.match(path.name), "the name says nothing"
    tree = _tree(path)
    assert ast.get_docstring(tree), "every module says what it is"
    relative = path.relative_to(SRC)
    local_imports_allowed = relative.parts[0] in ("verbs", *COMMANDS) or relative.name == "__init__.py"
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Assert), f"line {node.lineno}: input is checked with an error, not an assert"
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        assert length <= 80, f"{node.name} has {length} lines"
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        # Typer commands are the one place where a parameter is a command-line option.
        if relative.parts[0] not in COMMANDS:
            count = len([a for a in arguments if a.arg not in ("self", "cls")])
            assert count <= 8, f"{node.name} takes {count} parameters"
        if not local_imports_allowed:
            for inner in ast.walk(node):
                names = (
                    [inner.module or ""]
                    if isinstance(inner, ast.ImportFrom)
                    else [a.name for a in inner.names]
                    if isinstance(inner, ast.Import)
                    else []
                )
                assert not any(n.split(".")[0] == "isocenter" for n in names), f"{node.name} imports locally"


def test_errors_are_all_exported_and_in_the_printed_tree() -> None:
    from isocenter.core import errors

    defined = {n for n, v in vars(errors).items() if isinstance(v, type) and issubclass(v, errors.IsocenterError)}
    assert defined == set(errors.__all__)
    assert all(name in (errors.__doc__ or "") for name in defined)


def test_base_imports_without_torch() -> None:
    """The whole base, in a process where importing torch fails."""
    rooms = ["core", "data.images", "evaluate", "safety", "clinic", "viewer", "testing", "plugins", "cli"]
    code = "import sys; sys.modules['torch'] = None; import isocenter\n" + "\n".join(
        f"import isocenter.{room}" for room in rooms
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nothing_names_this_workplace() -> None:
    """No absolute path of the machine it was built on, in any tracked text file."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split(
        "\n"
    )
    needles = ["/" + "work/main", "/" + "work/shared", "/" + "root/", "/opt/" + "pypi", "/opt/" + "wheels"]
    found = []
    for name in filter(None, listed):
        path = ROOT / name
        if path.is_file() and path.stat().st_size < 2_000_000:
            text = path.read_bytes().decode("utf-8", errors="ignore")
            found += [name for needle in needles if needle in text]
    assert not found
