"""`isocenter report`: a draft on evidence, in three languages, and models that say what isn't so."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

import isocenter
from isocenter import cli
from isocenter.core.errors import ConfigError, DataError
from isocenter.verbs.result import ResultDocument

SCT = {"scheme": "SCT"}


def code(value: str, meaning: str, scheme: str = "SCT") -> dict[str, str]:
    return {"value": value, "scheme": scheme, "meaning": meaning}


def measured(name: dict[str, str], value: float, unit: str, segment: int | None) -> dict[str, object]:
    return {"name": name, "derivation": None, "value": value, "unit": code(unit, unit, "UCUM"), "segment": segment}


def result(folder: Path) -> Path:
    """A chest radiograph: lungs with areas, three findings of one of which the task is sure; a task that abstained."""
    lungs = [
        {
            "number": n, "label": f"{side} lung", "category": code("123037004", "Anatomical Structure"),
            "type": code("39607008", "Lung"), "laterality": code(value, side), "algorithm_type": "AUTOMATIC",
            "algorithm_name": "lungs-cxr", "colour": (60, 150, 220),
        }
        for n, (side, value) in enumerate((("Right", "24028007"), ("Left", "7771000")), start=1)
    ]  # fmt: skip
    area = code("AREA-DETECTOR", "Area at the detector plane", "99ISOCENTER")
    model = {"name": "m", "version": "1", "weights_sha256": "0" * 64, "licence": "CC0-1.0"}
    base = {"image": 0, "intended_use": "", "not_for": "", "model": model, "inputs": ("ab" * 32,)}
    sure = {"kind": "quality", "description": "d", "low": 0.8, "high": 0.95, "level": 0.9}
    findings = {"Effusion": 0.93, "Pneumothorax": 0.02, "Consolidation": 0.4}
    document = {
        "created": "2026-01-01T00:00:00+00:00",
        "study": {"patient_key": "p1", "study_uid": "1.2", "notes": ()},
        "images": [
            {
                "index": 0, "modality": "DX", "body_part": "CHEST", "quantity": "arbitrary", "channels": 1,
                "geometry": {"shape_zyx": (1, 9, 9), "spacing_mm": None, "pixel_spacing_mm": (0.2, 0.2),
                             "orientation": None, "affine_zyx_to_lps_mm": None, "stack": "space"},
                "sha256": "ab" * 32,
            }
        ],
        "predictions": [
            {**base, "task": "lungs-cxr", "title": "Lungs", "abstained": None, "uncertainty": sure, "segments": lungs,
             "measurements": [measured(area, 24020.0, "mm2", 1), measured(area, 21340.0, "mm2", 2)]},
            {**base, "task": "chest", "title": "Chest findings", "abstained": None,
             "uncertainty": {"kind": "set", "description": "none is promised"},
             "measurements": [measured(code(k, f"Probability of {k}", "99ISOCENTER"), v, "1", None)
                              for k, v in findings.items()]},
            {**base, "task": "hippocampus-t1", "title": "Hippocampus", "abstained": "needs MR", "model": None},
        ],
        "left_out": (), "not_done": (), "files": (),
        "provenance": {"isocenter": "0", "python": "3.11", "packages": {}, "seed": 0, "config": {},
                       "prompts_sha256": None, "input_files": (), "seconds": {}},
    }  # fmt: skip
    made = ResultDocument.model_validate(document)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(made.to_json(), "utf-8")
    return folder


def texts(document, name: str) -> list[str]:
    return [
        x["text"] for p in document.parts for s in p.sections if s["name"] == name for x in s["sentences"]
        if not x["withheld"]
    ]  # fmt: skip


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("id"):
            self.ids.add(str(given["id"]))
        if tag == "a" and given.get("class") == "said":
            self.links.append(str(given["href"]).removeprefix("#"))


def test_every_sentence_leads_to_its_evidence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = result(tmp_path / "r")
    out = tmp_path / "draft"
    assert cli.run(["report", str(folder), "--out", str(out), "--indication", "Cough <b>"]) == 0
    shown = capsys.readouterr().out
    assert "Findings:" in shown and "signed by nobody" in shown and "withheld" not in shown
    document = json.loads((out / "draft.json").read_text())
    page = (out / "draft.html").read_text("utf-8")
    links = _Links()
    links.feed(page)
    said = [x for p in document["parts"] for s in p["sections"] for x in s["sentences"] if x["claims"]]
    assert len(links.links) == len(said) == 7 and set(links.links) <= links.ids
    assert "Cough &lt;b&gt;" in page and "<b>" not in re.sub(r"<b>e\d+</b>", "", page)
    text = (out / "draft.txt").read_text("utf-8")
    for sentence in (
        "Right lung: area at the detector 240 cm².", "Left lung: area at the detector 213 cm².",
        "Pleural effusion (probability 93 %).", "No pneumothorax (probability 2.0 %).",
        "Possible consolidation (probability 40 %).", "Hippocampus: no answer, because needs MR.",
    ):  # fmt: skip
        assert sentence in text
    impression = text.split("IMPRESSION")[1].split("LIMITS")[0]
    assert "pneumothorax" not in impression.lower() and "Pleural effusion." in impression


def test_a_findings_own_set_says_whether_it_is_there(tmp_path: Path) -> None:
    folder = result(tmp_path / "r")
    document = json.loads((folder / "result.json").read_text())
    sets = {"Effusion": ["Absent", "Present"], "Pneumothorax": ["Absent"], "Consolidation": ["Present"]}
    document["predictions"][1]["further"] = [
        {"kind": "set", "description": "d", "level": 0.9, "about": code(k, k, "99ISOCENTER"),
         "members": [code(state, state) for state in states]}
        for k, states in sets.items()
    ]  # fmt: skip
    (folder / "result.json").write_text(json.dumps(document))
    draft = isocenter.report(folder, tmp_path / "draft")
    said = texts(draft, "findings")
    for sentence in (
        "Possible pleural effusion (probability 93 %).", "No pneumothorax (probability 2.0 %).",
        "Possible consolidation (probability 40 %).",
    ):  # fmt: skip
        assert sentence in said, "set and probability must say the same"
    assert not any("no set is promised" in limit for limit in texts(draft, "limits"))
    shown = next(e["text"] for e in draft.parts[0].ledger["evidence"] if "Effusion" in e["text"])
    assert "set of 90%: Absent, Present" in shown
    document["predictions"][1]["further"].pop()
    (folder / "result.json").write_text(json.dumps(document))
    draft = isocenter.report(folder, tmp_path / "draft", overwrite=True)
    assert any("no set is promised for Consolidation" in limit for limit in texts(draft, "limits"))


@pytest.mark.parametrize(
    ("language", "sentences"),
    [
        ("es", ["Derrame pleural (probabilidad 93 %).", "Sin neumotórax (probabilidad 2.0 %).",
                "Pulmón derecho: área en el detector 240 cm²."]),
        ("zh", ["胸腔积液（概率 93 %）。", "未见气胸（概率 2.0 %）。", "左侧肺：探测器平面面积 213 cm²。"]),
    ],
)  # fmt: skip
def test_other_languages_say_the_same(language: str, sentences: list[str], tmp_path: Path) -> None:
    found = isocenter.report(result(tmp_path / "r"), tmp_path / "d", language=language)
    assert set(sentences) <= set(texts(found, "findings")) and found.withheld == 0
    english = isocenter.report(result(tmp_path / "r"), tmp_path / "e")
    claims = [[x["claims"] for s in p.sections for x in s["sentences"] if x["claims"]] for p in found.parts]
    assert claims == [[x["claims"] for s in p.sections for x in s["sentences"] if x["claims"]] for p in english.parts]


@pytest.fixture
def server() -> Iterator[Callable[[Callable[[BaseHTTPRequestHandler], None]], str]]:
    """Start a server that answers as told; returns its address."""
    running: list[HTTPServer] = []

    def start(answer: Callable[[BaseHTTPRequestHandler], None]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                self.asked = json.loads(self.rfile.read(length))
                answer(self)

            def log_message(self, *_: object) -> None:
                pass

        made = HTTPServer(("127.0.0.1", 0), Handler)
        running.append(made)
        threading.Thread(target=made.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{made.server_port}/v1"

    yield start
    for one in running:
        one.shutdown()
        one.server_close()


def says(document: object) -> Callable[[BaseHTTPRequestHandler], None]:
    text = document if isinstance(document, str) else json.dumps(document)
    return sends(json.dumps({"choices": [{"message": {"content": text}}]}).encode())


def sends(body: bytes, status: int = 200) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@pytest.mark.enable_socket
def test_a_model_that_makes_things_up_reaches_no_page(tmp_path: Path, server) -> None:
    said = {
        "findings": [
            "There is a pleural effusion, with a probability of 93 %.",
            "There is a large right pleural effusion.",
            "A 12 mm nodule is seen in the left lung.",
            "The pneumothorax is unchanged.",
            "The area at the detector of the right lung is 240 cm².",
            "The liver is normal.",
            "Consolidation is confirmed.",
        ],
        "impression": ["Tension pneumothorax. Call the surgeon."],
    }
    found = isocenter.report(result(tmp_path / "r"), tmp_path / "d", llm_url=server(says(said)), llm_model="liar")
    told = texts(found, "findings") + texts(found, "impression")
    assert said["findings"][0] in told and said["findings"][4] in told, "what is true may be put into other words"
    for lie in [*said["findings"][1:4], *said["findings"][5:], *said["impression"]]:
        assert lie not in told
    assert "Possible consolidation (probability 40 %)." in told, "what it left out, the composer tells"
    assert found.withheld == 6 and "6 of its sentences were withheld" in found.parts[0].written_by
    plain = (tmp_path / "d" / "draft.txt").read_text("utf-8").lower()
    assert not any(word in plain for word in ("nodule", "liver", "tension", "surgeon", "confirmed"))


@pytest.mark.enable_socket
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (says("Certainly! Here is your report."), "its answer is no JSON"),
        (says({"findings": "all"}), "has no list of sentences"),
        (says({"findings": ["x" * 601], "impression": []}), "longer than any draft"),
        (sends(b"{}"), "not in the form of a chat completion"),
        (sends(b"\x00garbage"), "not in the form of a chat completion"),
        (sends(b"x" * (1 << 21)), "longer than any draft"),
        (sends(b"no", 503), "status 503"),
        (lambda _: time.sleep(1.5), "did not answer within 0.5 s"),
    ],
)
def test_a_model_that_fails_leaves_the_composers_words(answer, words: str, tmp_path: Path, server) -> None:
    found = isocenter.report(
        result(tmp_path / "r"), tmp_path / "d", llm_url=server(answer), llm_model="broken", llm_seconds=0.5
    )
    assert words in found.parts[0].written_by and "The composer's words" in found.parts[0].written_by
    assert "Pleural effusion (probability 93 %)." in texts(found, "findings") and found.withheld == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"llm_url": "http://llm.example.org/v1"}, "would leave this machine for llm.example.org"),
        ({"llm_url": "http://llm.example.org/v1", "allow_host": ("llm.example.org",)}, "by https alone"),
        ({"llm_url": "ftp://127.0.0.1/v1"}, "no address of a server"),
        ({"llm_url": "http://127.0.0.1:9/v1", "language": "zh"}, "judges English alone"),
        ({"language": "la"}, "language"),
    ],
)
def test_what_is_refused(settings: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        isocenter.report(result(tmp_path / "r"), tmp_path / "d", **settings)
    assert not (tmp_path / "d").exists()


def test_what_is_no_result_and_what_is_taken(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no result can be read here"):
        isocenter.report(tmp_path, tmp_path / "d")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "mine.txt").write_text("x")
    with pytest.raises(ConfigError, match="is not empty"):
        isocenter.report(result(tmp_path / "r"), tmp_path / "d")
    with pytest.raises(ConfigError, match="does not hold a draft"):
        isocenter.report(result(tmp_path / "r"), tmp_path / "d", overwrite=True)
    isocenter.report(tmp_path / "r", tmp_path / "e")
    isocenter.report(tmp_path / "r", tmp_path / "e", overwrite=True)
