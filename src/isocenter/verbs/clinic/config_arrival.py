"""`arrival:` of `clinic.yaml`: what is done with studies that are still arriving."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, model_validator

from isocenter.core.errors import UnitsError
from isocenter.core.ucum import read_unit
from isocenter.verbs.clinic.config_base import Name, Secret, Strict, refuse_token_in_the_clear
from isocenter.verbs.read import Coded

__all__ = ["ArrivalConfig", "CriticalConfig", "ExpectConfig", "NotifyConfig"]

Share = Annotated[float, Field(ge=0)]


class ExpectConfig(Strict):
    """What studies of one kind are expected to be; what contradicts it is told at once.

    Attributes:
        name: For the alert.
        order: Regular expression, sought in study description and requested procedure; empty takes every study.
        modalities: That images may be of; empty for any.
        body_parts: That headers may state; a header that states none contradicts nothing.
        phase: Regular expression, to be found in description, protocol or sequence name of each series but localizers.
        never: Regular expression that must not be found there.
        contrast: Whether the header must say that contrast was given, or must not; null for either.
        delay_s: Least and longest time from the beginning of the bolus to the image, where the header has both.
    """

    name: Name
    order: str = ""
    modalities: tuple[Coded, ...] = ()
    body_parts: tuple[Coded, ...] = ()
    phase: str = ""
    never: str = ""
    contrast: bool | None = None
    delay_s: tuple[Share, Share] | None = None

    @model_validator(mode="after")
    def _sensible(self) -> ExpectConfig:
        for pattern in (self.order, self.phase, self.never):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"a pattern is no regular expression: {error}") from error
        return self


class CriticalConfig(Strict):
    """A finding that moves its study to the front of the work.

    Attributes:
        task: Name of the task.
        finding: Code value of the measurement, as the result has it.
        at_least: From here on it is critical.
        at_most: Up to here it is critical.
        segment: Label of the segment that is measured; empty for any, or for the whole image.
        unit: Unit of the limits, of UCUM; "1" for probabilities. A value in another unit is converted, or not compared.
    """

    task: str
    finding: str
    at_least: float | None = None
    at_most: float | None = None
    segment: str = ""
    unit: str = "1"

    @model_validator(mode="after")
    def _sensible(self) -> CriticalConfig:
        if self.at_least is None and self.at_most is None:
            raise ValueError("a critical finding needs at_least or at_most")
        try:
            read_unit(self.unit)
        except UnitsError as error:
            raise ValueError(str(error)) from error
        return self


class NotifyConfig(Strict):
    """Where alerts and critical findings are posted, as JSON without a patient's value.

    Attributes:
        url: Of a web hook.
        token: Bearer token; over https alone, or to this machine.
        timeout_s: Of each try.
    """

    url: Annotated[str, Field(pattern=r"^https?://")]
    token: Secret | None = None
    timeout_s: Annotated[float, Field(gt=0)] = 5.0

    @model_validator(mode="after")
    def _not_in_the_clear(self) -> NotifyConfig:
        refuse_token_in_the_clear(self.url, self.token)
        return self


class ArrivalConfig(Strict):
    """Studies that are still arriving: checked instance by instance, and answered ahead.

    Attributes:
        grace_s: A gap between slices that come in order is told after so long; of other series, when nothing came for
            so long.
        pixels: Whether pixels are looked at as they land: motion, field of view; and decoded once for all.
        ignore: Codes of alerts that nobody is to be told of.
        expect: What studies are expected to be.
        provisional: Whether tasks answer before the study is complete; these answers are marked, and superseded.
        every_s: Between two provisional answers about one study, while more arrives.
        lull_s: When nothing came for so long, what has come is answered at once.
        deliver_provisional: Whether provisional answers are sent to the rule's archives, as such; never as messages
            (FHIR, HL7).
        critical: Findings that move a study to the front of the work.
        patience_s: No complete study is overtaken by others for longer than that.
        cache_mb: Most that is kept of arriving studies' decoded pixels and answers; gone when they are answered.
        notify: Where alerts and critical findings are posted; null for nowhere.
    """

    grace_s: Annotated[float, Field(gt=0)] = 5.0
    pixels: bool = True
    ignore: tuple[str, ...] = ()
    expect: tuple[ExpectConfig, ...] = ()
    provisional: bool = True
    every_s: Annotated[float, Field(gt=0)] = 10.0
    lull_s: Annotated[float, Field(gt=0)] = 1.0
    deliver_provisional: bool = False
    critical: tuple[CriticalConfig, ...] = ()
    patience_s: Annotated[float, Field(ge=0)] = 1800.0
    cache_mb: Annotated[int, Field(ge=0)] = 4096
    notify: NotifyConfig | None = None
