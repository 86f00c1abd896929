"""What a pretraining needs before it is started: does it fit, in which layout, and how long will it take?

Memory is counted, not guessed. Time comes from a profile that was measured on such a machine, or, where there is none,
from a rate that is given and a utilisation that is assumed: then every line says so.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from isocenter.core.errors import CapabilityError, ConfigError
from isocenter.plugins import find, load
from isocenter.verbs.settings import configured

if TYPE_CHECKING:
    from isocenter.learn.planning.layout import Layout
    from isocenter.learn.pretraining.args import PretrainingArgs
    from isocenter.learn.pretraining.learner import Recipe

__all__ = ["LayoutEntry", "MeasureResult", "PlanConfig", "PlanResult", "measure", "plan", "run"]

ASSUMED, ASSUMED_LOW, ASSUMED_HIGH = 0.40, 0.25, 0.55
"""Share of a card's stated rate that trainings of this kind reach: assumed, with a wide range, never measured here."""
_PIXELS = {2: (224, 224), 3: (96, 96, 96)}
_GB = 1e9
_DAY = 86400.0


class PlanConfig(BaseModel):
    """Configuration of `isocenter plan`.

    Attributes:
        model: Name of a backbone: "vit-h-3d", "vit-base/16", "residual-large-3d"; or None with `config`.
        config: YAML file of a pretraining, of which every setting is taken; or None with `model`.
        method: Plug-in of `isocenter.methods` that learns from images.
        pixels: Of the input; None takes 224 x 224, or 96 x 96 x 96.
        gpus: Processes, each with a device of its own.
        memory: Of each, in GB (10^9 bytes).
        batch: Samples of a step, of all processes together; None takes 4096 (or that of `config`).
        samples: How many are to be learnt from in all; None says nothing of days.
        bfloat16: Whether the forward pass runs in bfloat16.
        profile: File that `isocenter plan --measure` wrote, or the name of a built-in one.
        rate_tflops: Without a profile: the rate that the maker of the card states, in 10^12 operations a second.
        network_gbps: What each process can send, in 10^9 bits a second; None leaves the network out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = None
    config: Path | None = None
    method: str = "masked"
    pixels: tuple[int, ...] | None = None
    gpus: int = Field(default=1, ge=1)
    memory: float = Field(default=80.0, gt=0)
    batch: int | None = Field(default=None, ge=1)
    samples: float | None = Field(default=None, ge=1)
    bfloat16: bool = True
    profile: str | None = None
    rate_tflops: float | None = Field(default=None, gt=0)
    network_gbps: float | None = Field(default=None, gt=0)


class LayoutEntry(BaseModel):
    """One way to train.

    Attributes:
        parallel: How processes hold the weights.
        recompute: Whether activations are computed again on the way back.
        fits: Whether it fits into the memory, a tenth of it left free.
        part: Samples that a process works through at a time.
        accumulate: Parts of a process's share of the batch.
        memory_gb: Of a process; with the fewest samples where it does not fit.
        memory_of_gb: The same by what it is for.
        network_gb: What a process sends in a step.
        step_seconds: Lower and upper end of a step's time; None without a rate.
        network_share: Largest share of a step that the network takes, nothing hidden behind the work; None without a
            rate of it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    parallel: Literal["one", "ddp", "fsdp"]
    recompute: bool
    fits: bool
    part: int
    accumulate: int
    memory_gb: float
    memory_of_gb: dict[str, float]
    network_gb: float
    step_seconds: tuple[float, float] | None = None
    network_share: float | None = None

    @property
    def words(self) -> str:
        """The layout in words."""
        again = ", recompute: true" if self.recompute else ""
        return f"parallel: {self.parallel}{again}" if self.parallel != "one" else f"one process{again}"


class PlanResult(BaseModel):
    """What was planned.

    Attributes:
        model: The backbone.
        method: The method.
        pixels: Of the input.
        gpus: Processes.
        memory: Of each, in GB.
        batch: Samples of a step.
        precision: Of the forward pass.
        parameters: Numbers in the weights, of a teacher too.
        trainable: Those that are learnt.
        tflop_per_sample: Operations forward and back, counted, in 10^12.
        activations_gb_per_sample: What the forward pass keeps for the way back, counted, in GB.
        layouts: Every way to train, the simplest first.
        chosen: Number of the best in `layouts`; None where none fits.
        samples: How many are to be learnt from.
        days: Lower and upper end; None without a rate or without `samples`.
        basis: Where the time comes from, in words.
        notes: What the plan does not know.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    method: str
    pixels: tuple[int, ...]
    gpus: int
    memory: float
    batch: int
    precision: Literal["float32", "bfloat16"]
    parameters: int
    trainable: int
    tflop_per_sample: float
    activations_gb_per_sample: float
    layouts: tuple[LayoutEntry, ...]
    chosen: int | None
    samples: float | None
    days: tuple[float, float] | None
    basis: str
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return the plan for a person."""
        side = " x ".join(map(str, self.pixels))
        found = [
            f"{self.model}, {self.method}, {side}, {self.precision}: {self.parameters / 1e6:.1f} million weights, "
            f"{self.tflop_per_sample:.3g} TFLOP and {self.activations_gb_per_sample:.3g} GB of activations a sample "
            "(counted)"
        ]
        for entry in self.layouts:
            named = ", ".join(f"{k} {v:.3g}" for k, v in entry.memory_of_gb.items() if v)
            fit = f"fits with {entry.part} samples at a time" if entry.fits else "does not fit"
            found.append(f"  {entry.words}: {fit}: {entry.memory_gb:.3g} of {self.memory:g} GB ({named})")
        if self.chosen is None:
            return [*found, "nothing fits: take more or larger devices, a smaller model, or smaller pixels"]
        best = self.layouts[self.chosen]
        parts = f"batch {self.batch}: {self.gpus} x {best.part} x {best.accumulate}"
        found.append(f"layout: {best.words}; {parts} (`accumulate: {best.accumulate}`)")
        if best.network_gb:
            share = "" if best.network_share is None else f", at most {best.network_share:.0%} of a step"
            found.append(f"network: each sends {best.network_gb:.3g} GB a step{share}")
        if best.step_seconds is not None:
            low, high = best.step_seconds
            found.append(f"step: {low:.3g} to {high:.3g} s")
        if self.days is not None and self.samples is not None:
            found.append(f"time: {_duration(self.days[0])} to {_duration(self.days[1])} for {self.samples:.3g} samples")
        return [*found, f"basis: {self.basis}", *(f"note: {note}" for note in self.notes)]


class MeasureResult(BaseModel):
    """What was measured.

    Attributes:
        file: The profile.
        device: The machine, in words.
        matrix_tflops: Rate of a large matrix product, by precision.
        utilisation: Of the best and the worst step, by precision: counted operations a second over that rate.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Path
    device: str
    matrix_tflops: dict[str, float]
    utilisation: dict[str, tuple[float, float]]

    def lines(self) -> list[str]:
        """Return the figures for a person."""
        found = [
            f"{kind}: matrix product {rate:.3g} TFLOP/s; steps reach {self.utilisation[kind][0]:.0%} to "
            f"{self.utilisation[kind][1]:.0%} of it"
            for kind, rate in self.matrix_tflops.items()
        ]
        return [self.device, *found, f"wrote {self.file}: isocenter plan --profile {self.file}"]


def plan(**settings: Any) -> PlanResult:
    """Plan a pretraining.

    Args:
        **settings: The fields of `PlanConfig`.

    Returns:
        Whether it fits, in which layout, and how long it takes.

    Raises:
        ConfigError: A setting is wrong, or days are asked for without any rate.
        CapabilityError: A package is missing, or the method can't be counted.
    """
    checked = configured(PlanConfig, **settings)
    return run(checked)


def run(config: PlanConfig) -> PlanResult:
    """Do what a `PlanConfig` says; see `plan`."""
    _check(config)
    from isocenter.learn.planning.counting import count
    from isocenter.learn.planning.layout import layouts

    recipe, args = _training(config)
    counted = {
        again: count(recipe, args.model_copy(update={"recompute": again}), bfloat16=config.bfloat16)
        for again in (False, True)
    }
    least = 2 if recipe.name == "vicreg" else 1
    found = tuple(layouts(counted, processes=config.gpus, batch=args.batch, memory=config.memory * _GB, least=least))
    timed, basis, notes = _timing(config, args)
    entries = tuple(_entry(layout, timed, config.network_gbps) for layout in found)
    fitting = [n for n, entry in enumerate(entries) if entry.fits]
    chosen = min(fitting, key=lambda n: (_cost(entries[n], found[n]), n), default=None)
    days = None
    if chosen is not None and config.samples is not None:
        seconds = entries[chosen].step_seconds
        if seconds is not None:
            steps = config.samples / args.batch
            days = (steps * seconds[0] / _DAY, steps * seconds[1] / _DAY)
    plain = counted[False]
    return PlanResult(
        model=_name(args),
        method=recipe.name,
        pixels=args.pixels,
        gpus=config.gpus,
        memory=config.memory,
        batch=args.batch,
        precision="bfloat16" if config.bfloat16 else "float32",
        parameters=plain.parameters,
        trainable=plain.trainable,
        tflop_per_sample=plain.sample.flops / 1e12,
        activations_gb_per_sample=plain.sample.saved / _GB,
        layouts=entries,
        chosen=chosen,
        samples=config.samples,
        days=days,
        basis=basis,
        notes=tuple(notes),
    )


def measure(
    out: Path | str, *, device: str = "auto", threads: int = 1, progress: Callable[[str, float], None] | None = None
) -> MeasureResult:
    """Measure the machine at hand, for plans on machines like it.

    Args:
        out: Profile (JSON) to write.
        device: Of torch; "auto" takes a GPU where there is one.
        threads: Of torch.
        progress: Called with what is measured and how much is done.

    Raises:
        CapabilityError: Torch is not installed.
        OutputError: The file can't be written.
    """
    _check_packages()
    import torch

    from isocenter.learn.planning import rates

    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    profile = rates.measure(torch.device(where), threads, progress or (lambda _what, _done: None))
    rates.save_profile(profile, Path(out))
    utilisation = {}
    for kind, rate in profile.matrix_tflops.items():
        reached = [s.flops / s.seconds / 1e12 / rate for s in profile.steps if s.bfloat16 == (kind == "bfloat16")]
        utilisation[str(kind)] = (min(reached), max(reached))
    return MeasureResult(
        file=Path(out),
        device=profile.device,
        matrix_tflops={str(k): v for k, v in profile.matrix_tflops.items()},
        utilisation=utilisation,
    )


def _check(config: PlanConfig) -> None:
    if (config.model is None) == (config.config is None):
        raise ConfigError("give --model NAME or --config FILE, one of them")
    if config.profile is not None and config.rate_tflops is not None:
        raise ConfigError("give --profile or --rate-tflops, one of them")
    if config.samples is not None and config.profile is None and config.rate_tflops is None:
        raise ConfigError(
            "how long it takes is not known without a rate: give --profile FILE, measured on such a machine by "
            "isocenter plan --measure FILE, or --rate-tflops, what the maker of the card states"
        )
    _check_packages()


def _check_packages() -> None:
    from isocenter.verbs.pretrain import missing_for_learning

    missing = missing_for_learning()
    if missing:
        raise CapabilityError(f"planning needs {', '.join(missing)}: pip install 'isocenter[learn]'")


def _training(config: PlanConfig) -> tuple[Recipe, PretrainingArgs]:
    """Return the method's recipe and the configuration that is planned."""
    from isocenter.learn.pretraining.method import ImageMethod
    from isocenter.models.backbones.build import spelled_out
    from isocenter.verbs.pretrain import read_settings

    settings: dict[str, Any] = {"method": config.method}
    if config.config is not None:
        settings = read_settings(config.config)
    name = str(settings["method"])
    if name not in find("isocenter.methods"):
        raise ConfigError(f"no method {name!r}; installed: {', '.join(find('isocenter.methods'))}")
    method = load("isocenter.methods", name)
    if not isinstance(method, ImageMethod):
        raise ConfigError(f"the method {name!r} is not one that can be planned; plan masked, distil or vicreg")
    if config.model is not None:
        backbone, dims = spelled_out(config.model)
        pixels = config.pixels or _PIXELS[dims or 2]
        if dims is not None and dims != len(pixels):
            raise ConfigError(f"{config.model} sees {dims} axes, `pixels` say {len(pixels)}")
        needed = {"seed": 0, "steps": 1, "learning_rate": 1e-4, "checkpoint_every": 1, "validate_every": 1}
        settings |= {"backbone": backbone, "pixels": list(pixels), "batch": 4096, **needed}
    elif config.pixels is not None:
        settings["pixels"] = list(config.pixels)
    if config.batch is not None:
        settings["batch"] = config.batch
    return method.recipe, method.configure({**settings, "accumulate": 1})


_Timed = Callable[["Layout"], "tuple[float, float] | None"]


def _timing(config: PlanConfig, args: PretrainingArgs) -> tuple[_Timed, str, list[str]]:
    """Return what tells the work of a step in seconds, lower and upper end; where it comes from; what it leaves out."""
    from isocenter.learn.planning.rates import load_profile

    notes = [
        "reading and preparing images is not in it; give each process workers enough to hide it (`images.workers`)"
    ]
    if config.gpus > 1 and config.network_gbps is None:
        notes.append("the network is not in it: say what each process can send (--network-gbps)")
    if config.profile is not None:
        profile = load_profile(config.profile)
        kind = _name(args).partition("-")[0]

        def from_profile(layout: Layout) -> tuple[float, float]:
            told = profile.seconds(layout.work, backbone=kind, bfloat16=config.bfloat16)
            return told.seconds * (1 - min(0.9, told.spread)), told.seconds * (1 + told.spread)

        basis = f"steps measured on {profile.device}, {profile.measured}; the range is how far off sizes not seen were"
        return from_profile, basis, notes
    if config.rate_tflops is not None:
        rate = config.rate_tflops * 1e12

        def assumed(layout: Layout) -> tuple[float, float]:
            return layout.work.flops / rate / ASSUMED_HIGH, layout.work.flops / rate / ASSUMED_LOW

        basis = (
            f"assumed utilisation {ASSUMED:.0%} of the card's stated rate ({config.rate_tflops:g} TFLOP/s), not "
            f"measured; the range is {ASSUMED_LOW:.0%} to {ASSUMED_HIGH:.0%}, assumed too"
        )
        return assumed, basis, notes
    return (lambda _layout: None), "memory and work are counted; no rate was given, so no time is told", notes


def _entry(layout: Layout, timed: _Timed, network_gbps: float | None) -> LayoutEntry:
    need = layout.need
    named = {key: getattr(need, key) / _GB for key in need.__dataclass_fields__}
    seconds, share = timed(layout), None
    if seconds is not None and network_gbps is not None and layout.network:
        network = layout.network * 8 / (network_gbps * 1e9)
        # At best all of it hides behind the work, at worst nothing.
        share = network / (seconds[0] + network)
        seconds = (max(seconds[0], network), seconds[1] + network)
    return LayoutEntry(
        parallel=layout.parallel,
        recompute=layout.recompute,
        fits=layout.part > 0,
        part=layout.part,
        accumulate=layout.accumulate,
        memory_gb=need.total / _GB,
        memory_of_gb=named,
        network_gb=layout.network / _GB,
        step_seconds=seconds,
        network_share=share,
    )


def _cost(entry: LayoutEntry, layout: Layout) -> float:
    """Return what is made small: the upper end of a step's time, or its operations where no rate is known."""
    return entry.step_seconds[1] if entry.step_seconds is not None else layout.work.flops


def _name(args: PretrainingArgs) -> str:
    if isinstance(args.backbone, str):
        return args.backbone
    return f"{str(args.backbone.get('kind', 'vit')).partition('-')[0]}-of-the-configuration"


def _duration(days: float) -> str:
    if days >= 2:
        return f"{days:.0f} days" if days >= 10 else f"{days:.1f} days"
    hours = days * 24
    return f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.1f} minutes"
