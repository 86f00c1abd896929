"""A dialogue about one study: questions are checked, read by rules or by a model, answered by tools, remembered."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from isocenter.core.errors import ModelError
from isocenter.tasks.report.compose import Language
from isocenter.verbs.asking.calling import answered_by_model
from isocenter.verbs.asking.dialogue_parts import Answer, joined
from isocenter.verbs.asking.grammar import Read, Referent, read_question
from isocenter.verbs.asking.notes import note, refusal
from isocenter.verbs.asking.policy import check_question
from isocenter.verbs.asking.reply import Said, ToolCall
from isocenter.verbs.asking.study import Examined
from isocenter.verbs.asking.tools import lexicon_of, use
from isocenter.verbs.drafting.turns import CallingModel

__all__ = ["Answer", "Dialogue"]


@dataclass
class Dialogue:
    """Questions and answers about one study, with a memory of what was last spoken of.

    Args:
        examined: What was examined.
        language: Of the answers.
        model: A model that chooses the tools; None for rules alone.
        seconds: Longest time for a model's work on a question.
    """

    examined: Examined
    language: Language = "en"
    model: CallingModel | None = None
    seconds: float = 60.0
    last: Referent | None = field(default=None, init=False)

    def ask(self, question: str) -> Answer:
        """Answer a question, or say why not."""
        lexicon = lexicon_of(self.examined)
        checked = check_question(question, lexicon, self.examined.result.study.patient_key)
        if checked.refused:
            return self._refused(checked.refused)
        read = read_question(checked.text, lexicon, self.last)
        if self.model is None:
            return self._by_rules(read)
        if read.strange:  # what is not known here may be somebody's name
            made = self._by_rules(read)
            return replace(made, said=(*made.said, Said(note("not sent", self.language), "note")))
        try:
            answer = answered_by_model(
                checked.text, self.examined, self.language, self.model, self.last, self.seconds
            )  # fmt: skip
        except ModelError as error:
            made = self._by_rules(read)
            return replace(made, remarks=(f"read by the rules: {self.model.name} could not be used ({error})",))
        self._remember(answer.calls)
        return self._beside_the_rules(answer, read)

    def _beside_the_rules(self, answer: Answer, read: Read) -> Answer:
        """Say first that the rules would have read the question otherwise, and add what they would have answered."""
        if read.why:
            return replace(answer, said=(Said(note("not understood", self.language), "note"), *answer.said))
        if set(map(repr, read.calls)) == set(map(repr, answer.calls)):
            return answer
        replies = tuple(use(call, self.examined, self.language) for call in read.calls)
        rules = joined(read.calls, replies, self.language)
        first, between = (Said(note(key, self.language), "note") for key in ("other tools", "by the rules"))
        # What both say stands under each, as either may be the answer to what was asked.
        return replace(
            answer, said=(first, *answer.said, between, *rules.said), withheld=answer.withheld + rules.withheld
        )

    def _by_rules(self, read: Read) -> Answer:
        if read.why:
            return self._refused(read.why)
        replies = tuple(use(call, self.examined, self.language) for call in read.calls)
        answer = joined(read.calls, replies, self.language)
        self._remember(read.calls)
        notes = tuple(Said(note("read as", self.language, word=word), "note") for word in self._shown(read.corrected))
        return replace(answer, said=(*notes, *answer.said))

    def _shown(self, corrected: tuple[str, ...]) -> list[str]:
        lexicon = lexicon_of(self.examined)
        return [name for name in dict.fromkeys(lexicon.resolve(word) for word in corrected) if name is not None]

    def _remember(self, calls: tuple[ToolCall, ...]) -> None:
        about = [call for call in calls if "about" in call.arguments]
        if about:
            self.last = Referent(about[-1].tool, about[-1].arguments)

    def _refused(self, why: str) -> Answer:
        return Answer("refused", why, (Said(refusal(why, self.language), "note"),))
