"""The command line: quick to start, documented, quiet on standard output."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from typer.main import get_command

from isocenter import cli
from isocenter.core import errors
from isocenter.core.errors import DataError, IsocenterError
from isocenter.data.images.atomic import explain_os_error

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference" / "cli.md"
COMMANDS = (
    "read",
    "segment",
    "pretrain",
    "plan",
    "align",
    "adapt",
    "evaluate",
    "check",
    "label",
    "labels",
    "ingest",
    "find",
    "cohort",
    "duplicates",
    "describe",
    "leaks",
    "shards",
    "report",
    "ask",
    "mcp",
    "diagnose",
    "phenotype",
    "treat",
    "prognose",
    "serve",
    "demo",
    "models",
    "audit",
    "clinic",
    "plugins",
    "version",
)
BELOW = {
    "models": ("add", "list", "check", "card"),
    "audit": ("verify", "show"),
    "labels": ("export", "convert", "agreement"),
    "clinic": (
        "run",
        "status",
        "replay",
        "worklist",
        "recover",
        "backup",
        "restore",
        "vigilance",
        "compare",
        "promote",
        "rollback",
        "resume",
        "feedback",
        "reference",
        "conform",
        "statement",
        "user",
        "token",
        "audit",
    ),
    "align": ("train", "classify", "retrieve"),
}
DEEPER = {
    "clinic user": ("add", "list", "role", "revoke", "password"),
    "clinic token": ("add", "list", "revoke"),
}


def reference() -> str:
    """Return the page that documents the command line, made from its own help."""
    parts = [
        "# The command line",
        "Made from the commands' own help by `tests/unit/test_cli.py`. See also [exit codes](exit-codes.md), "
        "[the prompt file](prompts.md) and [the result's schema](result.schema.json).",
    ]
    listed = [name for command in COMMANDS for name in (command, *(f"{command} {n}" for n in BELOW.get(command, ())))]
    listed = [name for one in listed for name in (one, *(f"{one} {n}" for n in DEEPER.get(one, ())))]
    app = get_command(cli.app)  # once: making all commands anew for each takes most of the time
    for name in ("", *listed):
        arguments = [*name.split(), "--help"]
        text = CliRunner().invoke(app, arguments, terminal_width=100, prog_name="isocenter").output
        text = "\n".join(line.rstrip() for line in text.strip("\n").splitlines())
        parts.append(f"## isocenter {name}".rstrip() + f"\n\n```text\n{text}\n```")
    return "\n\n".join(parts) + "\n"


def test_the_reference_is_the_help() -> None:
    assert REFERENCE.read_text("utf-8") == reference(), (
        'run: PYTHONPATH=tests python -c "from unit.test_cli import *; REFERENCE.write_text(reference())"'
    )


def test_every_command_is_documented() -> None:
    found = get_command(cli.app).commands  # type: ignore[attr-defined]
    assert set(found) == set(COMMANDS)
    for name, below in BELOW.items():
        assert set(found[name].commands) == set(below)
    for name, below in DEEPER.items():
        above, _, last = name.partition(" ")
        assert set(found[above].commands[last].commands) == set(below)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from isocenter import cli; cli.run(['--help'])\n"
        "heavy = {'numpy', 'pydantic', 'pydicom', 'scipy', 'torch', 'SimpleITK', 'nibabel', 'jaxtyping', 'rich'}\n"
        "sys.exit(f'imported: {sorted(heavy & set(sys.modules))}' if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage: isocenter" in done.stdout or "Usage:" in done.stdout


def test_the_package_imports_nothing_heavy() -> None:
    code = "import sys, isocenter; sys.exit(bool({'numpy', 'torch', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_package_offers_the_verbs() -> None:
    import isocenter

    assert all(callable(getattr(isocenter, verb)) for verb in isocenter.__all__ if verb[0] != "_")
    assert isocenter.ResultDocument.__name__ == "ResultDocument"
    assert set(dir(isocenter)) == set(isocenter.__all__)
    with pytest.raises(AttributeError, match="no attribute 'paint'"):
        _ = isocenter.paint


def test_version_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["version", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["isocenter"] == "0.1.0" and "numpy" in found["packages"]


def test_plugins_as_json_and_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["plugins", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    names = {p["name"]: p for p in found["plugins"]}
    assert names["lungs-cxr"]["licence"] == "CC-BY-4.0"
    assert names["images"]["origin"].startswith("isocenter ")
    assert cli.run(["plugins"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in names) and "CC-BY-4.0" in text


def test_every_exit_code_is_documented() -> None:
    page = (ROOT / "docs" / "reference" / "exit-codes.md").read_text("utf-8")
    assert {int(n) for n in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)} == {int(e) for e in cli.Exit}


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_has_an_exit_code_of_its_kind(name: str) -> None:
    error = getattr(errors, name)("message")
    assert isinstance(error, IsocenterError)
    expected = cli.Exit.DEFECT
    for kind, code in (
        (errors.ConfigError, cli.Exit.USAGE),
        (errors.DataError, cli.Exit.INPUT),
        (errors.OutputError, cli.Exit.OUTPUT),
        ((errors.ModelError, errors.PluginError), cli.Exit.MODEL),
    ):
        if isinstance(error, kind):
            expected = code
    assert cli.exit_code(error) == expected


def test_output_that_cannot_be_written_has_its_own_code() -> None:
    for doing, code in (("write", cli.Exit.OUTPUT), ("read", cli.Exit.INPUT)):
        refusal = OSError(28, "No space left on device")
        try:
            raise explain_os_error(refusal, Path("x"), doing=doing) from refusal
        except DataError as error:
            assert cli.exit_code(error) == code
    # A name that the user chose says nothing about what went wrong.
    assert cli.exit_code(DataError("no image here", source="a: cannot write: b")) == cli.Exit.INPUT


def test_a_defect_shows_its_type_and_place_and_not_its_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("Zebraname")

    monkeypatch.setattr("isocenter.verbs.plugins.describe", fail)
    monkeypatch.delenv("ISOCENTER_DEBUG", raising=False)
    assert cli.run(["plugins"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert "RuntimeError (test_cli.py line " in err and "Zebraname" not in err
    monkeypatch.setenv("ISOCENTER_DEBUG", "1")
    with pytest.raises(RuntimeError, match="Zebraname"):
        cli.run(["plugins"])


def test_a_warning_of_a_library_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import logging
    import warnings

    def warn() -> tuple[()]:
        warnings.warn("Invalid value for VR DA: 'Zebradate'", stacklevel=1)
        logging.getLogger("pydicom").warning("Zebraname")
        return ()

    monkeypatch.setattr("isocenter.verbs.plugins.describe", warn)
    assert cli.run(["plugins", "--json"]) == 0
    assert "Zebra" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("name", ["read", "align"])
def test_a_plugin_never_replaces_a_command_of_ours(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: [name])
    monkeypatch.setattr("isocenter.plugins.find", lambda _: {name: name})
    assert cli.run(["version"]) == cli.Exit.MODEL
    assert f"the plug-in command {name!r} clashes" in capsys.readouterr().err
