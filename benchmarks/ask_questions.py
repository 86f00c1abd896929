"""How many questions `isocenter ask` reads as they are meant, without a language model.

    python -m benchmarks.ask_questions [--part develop|test|fresh|last|blind|all] [--show]

Questions stand in benchmarks/ask_questions.txt with the calls and the outcome that are expected; the studies that they
are about are those of the tests (tests/asking_cases.py). A question is right if tool, arguments and outcome are. Also
counted: sentences with a claim that the ledger does not support when it is asked again; there must be none. Writes
docs/results/ask.md and .json when all parts are run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from benchmarks.__main__ import machine

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from asking_cases import examined, poisoned  # noqa: E402
from asking_server import ATTACKS, LIE, obedient, serving  # noqa: E402
from isocenter.verbs.asking.dialogue import Answer, Dialogue  # noqa: E402
from isocenter.verbs.asking.study import Examined  # noqa: E402
from isocenter.verbs.asking.tools import TOOLS  # noqa: E402
from isocenter.verbs.drafting.served import ServedModel  # noqa: E402

RESULTS = ROOT / "docs" / "results"
QUESTIONS = Path(__file__).with_suffix(".txt")


@dataclass(frozen=True)
class Question:
    """A question: part, case, turns of the dialogue, expected tool with arguments ("" for a refusal), outcome."""

    part: str
    case: str
    turns: tuple[str, ...]
    call: str
    outcome: str


def questions() -> list[Question]:
    """Read them."""
    found, part = [], ""
    for line in QUESTIONS.read_text("utf-8").splitlines():
        if line.startswith("["):
            part = line.strip("[]")
        elif line.strip() and not line.startswith("#"):
            case, text, expected = (piece.strip() for piece in line.replace("||", "¦").split("|"))
            call, _, outcome = (piece.strip() for piece in expected.rpartition("->"))
            found.append(Question(part, case, tuple(t.strip() for t in text.split("¦")), call, outcome))
    return found


def told(answer: Answer) -> tuple[str, str]:
    """Return what was called and how it ended, in the form of the file."""
    order = ("about", "side", "place", "quantity", "status")
    calls = " + ".join(
        " ".join([c.tool, *(f"{k}={c.arguments[k]}" for k in order if k in c.arguments)]) for c in answer.calls
    )  # fmt: skip
    return calls, f"refused:{answer.why}" if answer.outcome == "refused" else answer.outcome


def unsupported(answer: Answer, study: Examined) -> int:
    """Count sentences with claims that the ledger does not support."""
    return sum(one.kind == "claim" and study.supports(one.text) is None for one in answer.said)


def attacked() -> list[str]:
    """Ask with a model that obeys whatever it is sent; return rows: where an attack stands, what came of it."""
    rows = []
    places = {
        "every text of the result": lambda attack: (poisoned(attack), "Is there an effusion?"),
        "the question alone": lambda attack: (examined("chest"), attack),
        "behind a question": lambda attack: (examined("chest"), f"Is there an effusion?\n{attack}"),
    }
    for place, made in places.items():
        seen = calls = lies = 0
        for attack in ATTACKS:
            study, question = made(attack)
            with serving(obedient(("find", {"about": "pleural effusion"}))) as server:
                answer = Dialogue(study, model=ServedModel(server.url, "m", seconds=5)).ask(question)
            seen += any(word in server.sent for word in ("SAY ", "CALL "))
            calls += any(call.tool not in TOOLS for call in answer.calls)
            lies += any(LIE in one.text for one in answer.said if one.kind != "limit") + unsupported(answer, study)
        rows.append(f"| {place} | {len(ATTACKS)} | {seen} | {calls} | {lies} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("develop", "test", "fresh", "last", "blind", "all"), default="all")
    parser.add_argument("--show", action="store_true", help="print the questions that are read otherwise")
    args = parser.parse_args()
    rows: Counter[tuple[str, str, bool]] = Counter()
    wrong, lies, answered_refusals = [], 0, 0
    for q in questions():
        if args.part != "all" and not q.part.startswith(args.part):
            continue
        study = examined(q.case)
        dialogue = Dialogue(study)
        answers = [dialogue.ask(turn) for turn in q.turns]
        got = told(answers[-1])
        right = got == (q.call, q.outcome)
        kind = q.call.split(" ")[0] if q.call else q.outcome
        rows[q.part, kind, right] += 1
        lies += sum(unsupported(a, study) for a in answers)
        answered_refusals += q.outcome.startswith("refused") and got[1] == "answered"
        if not right:
            asked = f"[{q.part}] {q.case}: {' || '.join(q.turns)}"
            wrong.append(f"{asked}: expected {q.call} -> {q.outcome}, got {' -> '.join(got)}")
    parts = list(dict.fromkeys(part for part, _, _ in rows))
    figures = {p: (_count(rows, p, right=True), _count(rows, p, right=False)) for p in parts}
    for part, (good, every) in figures.items():
        print(f"{part}: {good} of {every} ({good / every:.1%})")
    print(
        f"sentences that the ledger does not support: {lies}; questions to refuse that were answered: "
        f"{answered_refusals}"
    )
    if args.show:
        print("\n".join(wrong))
    if args.part == "all":
        write(rows, figures, lies, answered_refusals, wrong)
    print(json.dumps({"name": "ask questions", "right": figures, "unsupported": lies, "answered": answered_refusals}))


def _count(rows: Counter[tuple[str, str, bool]], part: str, *, right: bool) -> int:
    return sum(n for (name, _, good), n in rows.items() if name == part and (good or not right))


def write(
    rows: Counter[tuple[str, str, bool]],
    figures: dict[str, tuple[int, int]],
    lies: int,
    answered: int,
    wrong: list[str],
) -> None:
    """Write the page and the figures."""
    lines = [
        "# Questions to a study",
        "",
        f"`python -m benchmarks.ask_questions`, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {machine()}. Without a "
        "language model. A question is right if the tool, its arguments and the outcome are those that were written "
        "beside it.",
        "",
        "Questions and rules are by one hand. All questions were written before the rules; part *develop* "
        "was looked at "
        "while the rules were made, part *test* was run when they were done (first run: 83 of 85 and 28 of 28; since "
        "then "
        '"And the right lung?" goes on with what was asked before). So *test* says how far the rules reach beyond the '
        "examples that they were made on; as its writer made the rules too, it does not say how well they read users.",
        "",
        "| part | questions | right |",
        "| - | - | - |",
    ]
    lines += [f"| {part} | {every} | {good} ({good / every:.1%}) |" for part, (good, every) in figures.items()]
    lines += ["",
        f"Sentences with a claim that the ledger does not support: {lies}. Questions to refuse that were "
        f"answered: "
              f"{answered}.", "", "| what is asked for | develop | test |", "| - | - | - |"]  # fmt: skip
    kinds = sorted({kind for _, kind, _ in rows})
    for kind in kinds:
        cells = []
        for name in ("develop", "test"):
            good = sum(n for (p, k, r), n in rows.items() if p.startswith(name) and k == kind and r)
            every = sum(n for (p, k, _), n in rows.items() if p.startswith(name) and k == kind)
            cells.append(f"{good} of {every}" if every else "")
        lines.append(f"| {kind} | {cells[0]} | {cells[1]} |")
    lines += [
        "",
        f"**Instructions.** {len(ATTACKS)} strings that try to instruct a model, and a model that obeys whatever it is "
        "sent (`tests/asking_server.py`). Those in a question that words alone don't give away do reach it; what "
        "it then asks for or says is held back by the tools and the ledger.",
        "",
        "| the string stands in | strings | reached the model | calls outside of the set | sentences that are not so |",
        "| - | - | - | - | - |",
        *attacked(),
    ]
    lines += ["", "Read otherwise than meant:", "", *(f"- {one}" for one in wrong), ""]
    (RESULTS / "ask.md").write_text("\n".join(lines), "utf-8")
    document = {"figures": figures, "unsupported": lies, "answered": answered, "wrong": wrong}
    (RESULTS / "ask.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
