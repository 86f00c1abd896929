"""How many questions `isocenter ask` reads as they are meant, without a language model.

    python -m benchmarks.ask_questions [--part develop|test|fresh|last|blind|all] [--show]

Questions stand in benchmarks/ask_questions.txt with the calls and the outcome that are expected; the studies that they
are about are those of the tests (tests/asking_cases.py). A question is right if tool, arguments and outcome are. Also
counted: sentences with a claim that the ledger does not support when it is asked again, and claims of another part of
the body than the question names; there must be none. Fixed sentences (notes) are not counted by either. Writes
docs/results/ask.md and .json when all parts are run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.__main__ import machine

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from asking_cases import examined, poisoned  # noqa: E402
from asking_server import ATTACKS, LIE, obedient, serving  # noqa: E402
from isocenter.core.knowledge import FINDINGS  # noqa: E402
from isocenter.evaluate.report_mentions import stem  # noqa: E402
from isocenter.verbs.asking.dialogue import Answer, Dialogue  # noqa: E402
from isocenter.verbs.asking.grammar import plain  # noqa: E402
from isocenter.verbs.asking.sites import fits  # noqa: E402
from isocenter.verbs.asking.study import Examined  # noqa: E402
from isocenter.verbs.asking.tools import TOOLS, lexicon_of  # noqa: E402
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


def elsewhere(question: str, answer: Answer, study: Examined) -> int:
    """Count claims that lie in none of the parts of the body that a question names; 0 where it names none."""
    stems = [stem(word) for word in re.findall(r"[a-z]+", plain(question))]
    named = {one.name for one in lexicon_of(study).find(stems) if one.name not in FINDINGS and one.name != "lesion"}
    told = {t.id: t.claim for t in study.claims}
    claims = [told[name] for one in answer.said if one.kind == "claim" for name in one.claims]
    return sum(
        bool(named) and not any(c.site == site or (c.about in FINDINGS and fits(c.about, site)) for site in named)
        for c in claims
    )


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


@dataclass
class Tally:
    """How questions of a part were read.

    Args:
        every: All.
        right: As meant.
        refused: Refused, for another reason or instead of an answer.
        answered: Refused was meant, and it was answered.
        unsupported: Sentences with a claim that the ledger does not support.
        elsewhere: Claims of another part of the body than the question names.
        kinds: All and right ones by what is asked for.
        wrong: A line for each that was not read as meant.
    """

    every: int = 0
    right: int = 0
    refused: int = 0
    answered: int = 0
    unsupported: int = 0
    elsewhere: int = 0
    kinds: dict[str, tuple[int, int]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def tallied(asked: list[Question]) -> dict[str, Tally]:
    """Ask them, and count by part."""
    tallies: dict[str, Tally] = {}
    for q in asked:
        study, tally = examined(q.case), tallies.setdefault(q.part, Tally())
        dialogue = Dialogue(study)
        answers = [dialogue.ask(turn) for turn in q.turns]
        got = told(answers[-1])
        right = got == (q.call, q.outcome)
        kind = q.call.split(" ")[0] if q.call else q.outcome
        before = tally.kinds.get(kind, (0, 0))
        tally.kinds[kind] = (before[0] + 1, before[1] + right)
        tally.every += 1
        tally.right += right
        tally.refused += not right and got[1].startswith("refused")
        tally.answered += q.outcome.startswith("refused") and got[1] == "answered"
        tally.unsupported += sum(unsupported(a, study) for a in answers)
        tally.elsewhere += sum(elsewhere(turn, a, study) for turn, a in zip(q.turns, answers, strict=True))
        if not right:
            line = f"[{q.part}] {q.case}: {' || '.join(q.turns)}"
            tally.wrong.append(f"{line}: expected {q.call} -> {q.outcome}, got {' -> '.join(got)}")
    return tallies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("develop", "test", "fresh", "last", "blind", "all"), default="all")
    parser.add_argument("--show", action="store_true", help="print the questions that are read otherwise")
    args = parser.parse_args()
    tallies = tallied([q for q in questions() if args.part in ("all", q.part.split()[0])])
    for part, t in tallies.items():
        print(f"{part}: {t.right} of {t.every} as meant ({t.right / t.every:.1%}), {t.refused} refused instead")
        if args.show:
            print("\n".join(t.wrong))
    if args.part == "all":
        write(tallies)
    counts = {
        part: [t.right, t.every, t.refused, t.answered, t.unsupported, t.elsewhere] for part, t in tallies.items()
    }
    print(json.dumps({"name": "ask questions", "right, every, refused, answered, unsupported, elsewhere": counts}))


def write(tallies: dict[str, Tally]) -> None:
    """Write the page and the figures."""
    blind = tallies["blind"]
    lines = [
        "# Questions to a study",
        "",
        f"`python -m benchmarks.ask_questions`, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {machine()}. Without a "
        "language model. A question is read as meant if the tool, its arguments and the outcome are those that were "
        "written beside it.",
        "",
        f"**{blind.right} of {blind.every} questions in free words are read as meant** (part *blind*); of the others "
        f"{blind.refused} are refused, {blind.every - blind.right - blind.refused} answered by another "
        f"tool, which says "
        f"what it speaks of. Sentences that the ledger does not support: "
        f"{sum(t.unsupported for t in tallies.values())}. The judge that counts them is the one that let them be "
        "printed, so that this shows that nothing goes round it, and not that it is right. Claims of another part of "
        f"the body than the question names: {sum(t.elsewhere for t in tallies.values())}. Neither count covers the "
        "fixed sentences (notes): differences, centres, promised sets; tests compute those.",
        "",
        "| part | questions | read as meant | refused instead | otherwise | refusals that were answered | "
        "unsupported | elsewhere |",
        "| - | - | - | - | - | - | - | - |",
    ]
    lines += [
        f"| {part} | {t.every} | {t.right} ({t.right / t.every:.0%}) | {t.refused} | {t.every - t.right - t.refused} | "
        f"{t.answered if part.endswith('refused') else ''} | {t.unsupported} | {t.elsewhere} |"
        for part, t in tallies.items()
    ]
    lines += [
        "",
        "All by one hand, so that no figure says how users ask. *develop* and *test* were written before the rules, by "
        "the hand that wrote them; *develop* was looked at meanwhile, *test* was run when they were done "
        "(83 of 85, 28 of "
        "28; one defect was put right since). *fresh* was written after, in a patient's, a colleague's and "
        "a telegram's "
        "words: 27 of 54 and 9 of 17. The rules were widened by it, and *last* was written: 23 of 48 and 8 of 12. They "
        "were widened again, *blind* was written, run, and no rule was changed to fit it: that is the figure to go by. "
        "What is missing is mostly a word: the vocabulary is closed, so that a question about what is not "
        "known is never "
        "answered with what is. Since then a review found that a finding was answered for a part of the body that it "
        "does not lie in (fluid around the heart); such questions are now refused, or read as the finding there. Of "
        "these sets that changed one question (*develop refused* was 23 of 25); *blind* was and is 28 of 50.",
        "",
        "| what is asked for | all parts | blind |",
        "| - | - | - |",
    ]
    for kind in sorted({kind for t in tallies.values() for kind in t.kinds}):
        every = [t.kinds.get(kind, (0, 0)) for t in tallies.values()]
        one = [t.kinds.get(kind, (0, 0)) for part, t in tallies.items() if part.startswith("blind")]
        cells = [f"{sum(r for _, r in some)} of {sum(n for n, _ in some)}" for some in (every, one)]
        lines.append(f"| {kind} | {cells[0]} | {cells[1]} |")
    lines += [
        "",
        f"**Instructions.** {len(ATTACKS)} strings that try to instruct a model, and a model that obeys whatever it is "
        "sent (`tests/asking_server.py`). None reaches it, since a question with a word that the rules don't know is "
        "not sent (before that rule, 4 of each kind of question did); what such a model asks for or says is held back "
        "by the tools and the ledger besides (`tests/unit/verbs/asking/test_asking_calling.py`).",
        "",
        "| the string stands in | strings | reached the model | calls outside of the set | sentences that are not so |",
        "| - | - | - | - | - |",
        *attacked(),
        "",
        "Not read as meant:",
        "",
        *(f"- {one}" for t in tallies.values() for one in t.wrong),
        "",
    ]
    (RESULTS / "ask.md").write_text("\n".join(lines), "utf-8")
    document = {part: asdict(t) for part, t in tallies.items()}
    (RESULTS / "ask.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
