"""`vigilance:` and `canary:` of `clinic.yaml`: what stands in results, when there is an alarm, what is done then."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from isocenter.verbs.clinic.config_base import Strict

__all__ = ["ON_TRIAL", "CanaryConfig", "MarginsConfig", "VigilanceConfig"]

ON_TRIAL: Final = " (model on trial)"
"""Ends the mark of what a candidate answered."""
Rate = Annotated[float, Field(gt=0, lt=1)]


class MarginsConfig(Strict):
    """What a candidate must keep to be found not inferior (`isocenter clinic compare`); state them before you look.

    Attributes:
        dice: Least mean Dice of its segments with those of the live model.
        volume_share: Largest difference of a volume, as a share of the live model's, that is let pass.
        probability: Largest difference of a probability that is let pass.
        abstained: How much more often it may abstain or fail, as a share of studies.
    """

    dice: Rate = 0.9
    volume_share: Annotated[float, Field(gt=0)] = 0.1
    probability: Rate = 0.1
    abstained: Rate = 0.05


class VigilanceConfig(Strict):
    """How the node watches over its own answers.

    Attributes:
        mark: Stands in every result that is sent: in reports as a comment, in series descriptions of SEG and SR, in the
            description of an RT Structure Set. ASCII, at most 44 characters.
        gate: "own": each task's gate decides; "required": an answer to an image that no gate looked at is withheld.
        reference: File that `isocenter clinic reference` wrote, of studies that a task is known to do well on; without
            it the first answered studies of each rule and task are the reference.
        reference_studies: How many of them.
        window: Studies that the panel shows beside the reference, and that end an alarm when they are like it again.
        alpha: Chance of any false alarm of a rule and task in a period, where studies are alike.
        period_days: Length of a period.
        look_s: Time between two looks.
        failed: Rate of failed studies above which there is an alarm.
        abstained: Rate of abstentions above which there is an alarm; null for none. A change of it is told anyway.
        overridden: Rate of answers that readers override, above which there is an alarm; null for none.
        uncovered: Rate of promised sets and intervals that miss the truth, above which there is an alarm; null for
            none.
        on_alarm: "none", or "shadow": the rule's answers are kept and sent nowhere, until `isocenter clinic resume`.
        margins: What `isocenter clinic compare` asks of a candidate.
    """

    mark: Annotated[str, Field(min_length=1, max_length=44, pattern=r"^[ -\[\]-~]+$")] = "AI result, not for diagnosis"
    gate: Literal["own", "required"] = "own"
    reference: Path | None = None
    reference_studies: Annotated[int, Field(ge=30)] = 200
    window: Annotated[int, Field(ge=20)] = 100
    alpha: Rate = 0.05
    period_days: Annotated[float, Field(gt=0)] = 365.0
    look_s: Annotated[float, Field(gt=0)] = 60.0
    failed: Rate = 0.05
    abstained: Rate | None = None
    overridden: Rate | None = 0.2
    uncovered: Rate | None = 0.1
    on_alarm: Literal["none", "shadow"] = "none"
    margins: MarginsConfig = MarginsConfig()


class CanaryConfig(Strict):
    """A new model on trial: it answers a share of a rule's studies in place of the rule's tasks.

    Attributes:
        tasks: Names of installed tasks, or folders of adapted ones: a folder of its own for each model.
        share: Of studies, chosen by a keyed hash of the study's UID: the same study gives the same choice.
        failed: Rate of failures above which it is rolled back.
        abstained: Rate of abstentions above which it is rolled back.
        alpha: Chance that it is rolled back though its rates are within these limits.
    """

    tasks: tuple[str, ...] = Field(min_length=1)
    share: Annotated[float, Field(gt=0, le=1)] = 0.1
    failed: Rate = 0.05
    abstained: Rate = 0.3
    alpha: Rate = 0.05
