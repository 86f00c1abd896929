"""What taking in an archive needs: cores, hours and bytes, from rates that were measured and say on which machine."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from isocenter.core.errors import DataError
from isocenter.verbs.settings import configured

__all__ = ["RATES", "ArchivePlan", "ArchivePlanConfig", "IngestRates", "plan_archive"]

RATES = "archive_rates.json"
_HOUR = 3600.0


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class IngestRates(_Strict):
    """Rates of taking in, as `python -m benchmarks.ingest` measured them.

    Attributes:
        machine: Where.
        date: When.
        header_core_s: Processor seconds an instance, by its header alone.
        copy_core_s: Processor seconds an instance for a de-identified copy, without its bytes.
        copy_core_s_each_mb: More for each 10^6 bytes.
        catalog_s_each_million: Seconds that writing the catalog takes for each million instances.
        catalog_bytes: Of catalog and journal, an instance.
        memory_mb: Peak of any process.
    """

    machine: str
    date: str
    header_core_s: float = Field(gt=0)
    copy_core_s: float = Field(gt=0)
    copy_core_s_each_mb: float = Field(ge=0)
    catalog_s_each_million: float = Field(ge=0)
    catalog_bytes: float = Field(gt=0)
    memory_mb: float = Field(gt=0)


class ArchivePlanConfig(_Strict):
    """Configuration of `isocenter plan --studies`.

    Attributes:
        studies: How many.
        instances: Of a study.
        instance_mb: Size of an instance, in 10^6 bytes.
        workers: Processes, on all machines together.
        pixels: Whether copies are made.
    """

    studies: float = Field(ge=1)
    instances: float = Field(default=300.0, gt=0)
    instance_mb: float = Field(default=0.5, gt=0)
    workers: int = Field(default=1, ge=1)
    pixels: bool = True


class ArchivePlan(_Strict):
    """What it needs.

    Attributes:
        instances: In all.
        core_hours: Of the work that any number of processes share.
        hours: With the processes asked for, the catalog included.
        catalog_hours: Of these, for writing the catalog, which one process does.
        stored_gb: Copies, catalog and journal, in 10^9 bytes.
        read_gb: From the sources.
        memory_mb: Of a process.
        rates: From what.
    """

    instances: float
    core_hours: float
    hours: float
    catalog_hours: float
    stored_gb: float
    read_gb: float
    memory_mb: float
    rates: IngestRates

    def lines(self) -> list[str]:
        """Return the plan as text."""
        return [
            f"{self.instances:.3g} instances, {self.read_gb:.3g} GB read, {self.stored_gb:.3g} GB stored",
            f"{self.core_hours:.3g} core hours; {self.hours:.3g} hours with the processes asked for, of which "
            f"{self.catalog_hours:.3g} hours for the catalog",
            f"{self.memory_mb:.0f} MB of memory a process",
            f"from rates measured on {self.rates.date}: {self.rates.machine}; disks and networks slower than its "
            f"are not in them",
        ]


def plan_archive(**options: Any) -> ArchivePlan:
    """Plan an ingest.

    Args:
        **options: Fields of `ArchivePlanConfig`.

    Raises:
        ConfigError: An option is wrong.
        DataError: The measured rates are damaged.

    Example:
        >>> small, large = plan_archive(studies=1e3), plan_archive(studies=1e6)
        >>> round(large.core_hours / small.core_hours)
        1000
    """
    config = configured(ArchivePlanConfig, **options)
    try:
        rates = IngestRates(**json.loads(files("isocenter.verbs").joinpath(RATES).read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise DataError("the measured rates are missing or damaged; install Isocenter again") from error
    count = config.studies * config.instances
    each = rates.copy_core_s + rates.copy_core_s_each_mb * config.instance_mb if config.pixels else rates.header_core_s
    core_hours = count * each / _HOUR
    catalog_hours = count / 1e6 * rates.catalog_s_each_million / _HOUR
    stored = count * (rates.catalog_bytes + (config.instance_mb * 1e6 if config.pixels else 0.0))
    return ArchivePlan(
        instances=count,
        core_hours=core_hours,
        hours=core_hours / config.workers + catalog_hours,
        catalog_hours=catalog_hours,
        stored_gb=stored / 1e9,
        read_gb=count * (config.instance_mb * 1e6 if config.pixels else 32768.0) / 1e9,
        memory_mb=rates.memory_mb,
        rates=rates,
    )
