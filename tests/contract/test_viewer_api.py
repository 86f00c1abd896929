"""The page of the viewer's API is true: its routes are those of the app, its codes those of the errors."""

from __future__ import annotations

import re
from pathlib import Path

from isocenter.viewer import problems
from serving_cases import served, write_folder

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "viewer-api.md"


def test_the_routes_are_those_of_the_app(tmp_path: Path) -> None:
    told = set(re.findall(r"^\| `([A-Z]+ /[^`?]*)`", PAGE.read_text("utf-8"), re.MULTILINE))
    with served(write_folder(tmp_path / "in"), tmp_path / "work") as client:
        paths = client.get("/api/v1/openapi.json").json()["paths"]
    there = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert {f"{m} {re.sub(r':[a-z]+}', '}', p)}" for m, _, p in (r.partition(" ") for r in there)} - told == set()
    assert {t for t in told if t not in there and not t.startswith("WS ")} == set()


def test_the_codes_are_those_of_the_errors() -> None:
    rows = re.findall(r"^\| (\d{3}) \| ([^|]+) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    told = {
        (int(status), code) for status, codes in rows for code in re.split(r"[^a-z_]+", codes.split(" or ")[0]) if code
    }
    assert {(status, code) for _, status, code, _ in problems._KINDS} <= told
