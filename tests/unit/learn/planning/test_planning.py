"""Plans: what is counted is what a real step does, what is told of time is what was measured, refusals are one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

import isocenter
from isocenter.core.errors import ConfigError
from isocenter.learn.planning import rates
from isocenter.learn.planning.counting import Counts, Ledger, Work, count, saved_bytes
from isocenter.learn.planning.layout import layouts, memory_of
from isocenter.learn.planning.rates import Profile, StepRow, Sum, built_in, load_profile
from isocenter.learn.pretraining.crops import generator
from isocenter.learn.pretraining.trainer import begun
from isocenter.models.backbones.build import spelled_out
from isocenter.verbs.plan import measure, plan
from pretraining_cases import METHODS, settings_of


def real_step(name: str, batch: int, **changes: Any) -> tuple[Ledger, int, Any]:
    """Run a step of a case on real tensors; return its ledger, the bytes that it kept, and its learner."""
    method = METHODS[name.partition("-")[0]]
    args = method.configure(settings_of(name, **changes))
    learner = begun(method.recipe, args).train()
    rng = generator(3, 0)
    shown = [
        method.recipe.views(args, rng.normal(size=(1, 32, 32)).astype(np.float32), generator(3, n))
        for n in range(batch)
    ]
    views = {key: torch.stack([v[key] for v in shown]) for key in shown[0]}
    ledger = Ledger()
    ledger.follow(learner)
    with ledger:
        loss, saved = saved_bytes(learner, views, bfloat16=False)
        loss.backward()
    ledger.leave()
    return ledger, saved + sum(v.numel() * v.element_size() for v in views.values()), (learner, views, args, method)


@pytest.mark.parametrize("name", ["masked", "masked-sparse", "distil", "vicreg-residual"])
def test_what_is_counted_without_memory_is_what_a_real_step_does(name: str) -> None:
    """Of a batch that was not counted: operations and kept bytes to the last one, the peak but for views, the rest."""
    ledger, saved, (learner, views, args, method) = real_step(name, 6)
    given = sum(v.numel() * v.element_size() for v in views.values())
    counts = count(method.recipe, args, bfloat16=False)
    work = counts.at(6)
    assert work.flops == pytest.approx(ledger.flops) and work.saved == pytest.approx(saved - given)
    assert counts.peak(6) == pytest.approx(given + max(a + g for a, g in ledger.trail), rel=0.02)
    assert work.traffic == pytest.approx(ledger.traffic, rel=0.15)  # a CPU's convolutions move some bytes of their own
    assert counts.parameters == sum(p.numel() for p in learner.parameters())
    assert counts.trainable == sum(p.numel() for p in learner.parameters() if p.requires_grad)
    assert sum(counts.units) == counts.parameters and len(counts.units) == len(learner.units()) + 1
    assert counts.averaged == (0 if name.startswith("distil") else counts.parameters)


def test_operations_are_those_of_torch_and_recomputing_costs_a_forward_pass() -> None:
    """The residual case has convolutions alone, of which torch's own counter knows the formulas."""
    method = METHODS["masked"]
    args = method.configure(settings_of("masked-sparse"))
    plain = count(method.recipe, args, bfloat16=False)
    again = count(method.recipe, args.model_copy(update={"recompute": True}), bfloat16=False)
    _, _, (learner, views, _, _) = real_step("masked-sparse", 4)
    with FlopCounterMode(display=False) as peer:
        learner(views)[0].backward()
    assert plain.at(4).flops == peer.get_total_flops()
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        learner.encoder.climb(learner.encoder.stem(views["image"]))
    assert 0.5 < (again.at(4).flops - plain.at(4).flops) / forward.get_total_flops() <= 1.0
    assert again.at(4).saved < plain.at(4).saved


PEAK = """
import copy, sys, numpy as np, torch
torch.set_num_threads(1)
from isocenter.learn.methods.masked import METHOD
from isocenter.learn.planning.rates import masked_args
from isocenter.learn.pretraining.crops import generator
from isocenter.learn.pretraining.trainer import begun, decayed

def kept(key):
    return int(next(l for l in open("/proc/self/status") if l.startswith(key)).split()[1]) * 1024

def train(args):
    learner = begun(METHOD.recipe, args).train()
    average = copy.deepcopy(learner)
    optimiser = torch.optim.AdamW(decayed(learner, 0.05), lr=1e-5, fused=True)
    image = np.random.default_rng(0).normal(size=(1, *args.pixels)).astype(np.float32)
    shown = [METHOD.recipe.views(args, image, generator(0, n)) for n in range(args.batch)]
    views = {k: torch.stack([v[k] for v in shown]) for k in shown[0]}
    for _ in range(2):
        optimiser.zero_grad(set_to_none=True)
        learner(views)[0].backward()
        optimiser.step()

train(masked_args("vit-tiny/8", (32, 32), 2))
before = kept("VmRSS")
train(masked_args(sys.argv[1], (128, 128), int(sys.argv[2])).model_copy(update={"recompute": sys.argv[3] == "again"}))
print(kept("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the peak of a process is read from /proc")
def test_the_planned_memory_is_the_peak_of_a_real_training(batch: int = 48, recompute: bool = False) -> None:
    """A process of its own, two steps of a small transformer with AdamW and averaging.

    What the process had before may be used again, and the system may take back what lies idle: the peak that is seen
    may lie below the plan, by a fifth or so. A plan that is too small would be the graver error.
    """
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(isocenter.__file__).parents[1]), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", PEAK, "vit-tiny/16", str(batch), "again" if recompute else "once"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    args = rates.masked_args("vit-tiny/16", (128, 128), batch).model_copy(update={"recompute": recompute})
    counts = count(METHODS["masked"].recipe, args, bfloat16=False)
    planned = memory_of(counts, "one", 1, batch, 1).total
    assert 0.7 * planned < float(done.stdout) < 1.2 * planned


def counts_of(units: tuple[int, ...] = (100, 100, 50), bfloat16: bool = False) -> Counts:
    """Return made-up counts of a learner of 250 weights; 1000 bytes a sample."""
    trail = np.array([[0.0, 1000.0, 0.0], [0.0, 500.0, 800.0], [0.0, 0.0, 1000.0]])
    return Counts(250, 250, 250, units, bfloat16, Work(), Work(1e6, 1e3, 800.0), trail)


def test_memory_and_network_by_hand() -> None:
    counts = counts_of()
    one = memory_of(counts, "one", 1, 4, 1)
    # At the worst moment 4 samples of 1000 bytes live and no gradient yet: 3000 beyond the 1000 of all gradients.
    assert (one.weights, one.gradients, one.optimiser, one.average, one.activations) == (1000, 1000, 2000, 1000, 3000)
    assert memory_of(counts, "one", 1, 1, 1).activations == 300  # 500 of activations and 800 of gradients
    assert memory_of(counts, "one", 1, 4, 2).activations == 4000
    assert memory_of(counts, "ddp", 2, 4, 1).gradients == 2000
    fsdp = memory_of(counts, "fsdp", 4, 4, 1)
    assert (fsdp.weights, fsdp.gradients, fsdp.optimiser, fsdp.average) == (250, 250, 500, 250)
    assert fsdp.activations == 4000 and fsdp.gathered == 4 * 200 + 4 * (100 + 2 * 50)
    found = list(layouts({False: counts, True: counts}, processes=4, batch=32, memory=1e9))
    assert [(x.parallel, x.recompute, x.part, x.accumulate) for x in found] == [
        ("ddp", False, 8, 1), ("fsdp", False, 8, 1), ("ddp", True, 8, 1), ("fsdp", True, 8, 1),
    ]  # fmt: skip
    assert found[0].network == 2 * 0.75 * 1000 and found[1].network == 0.75 * (2 * 1000 + 1000)
    tight = list(layouts({False: counts, True: counts}, processes=4, batch=32, memory=6000.0))
    assert [x.part for x in tight] == [0, 2, 0, 2] and tight[1].accumulate == 4
    assert tight[1].network == 4 * found[1].network
    with pytest.raises(ConfigError, match="4 processes can't share a batch of 6 equally"):
        list(layouts({False: counts, True: counts}, processes=4, batch=6, memory=1e9))


def test_rates_are_found_and_their_spread_is_that_of_sizes_left_out(tmp_path: Path) -> None:
    def row(flops: float, traffic: float, seconds: float) -> StepRow:
        return StepRow(model="vit-tiny/16", pixels=(32, 32), batch=1, bfloat16=False, flops=flops, traffic=traffic,
                       seconds=seconds)  # fmt: skip

    def profile(*rows: StepRow) -> Profile:
        return Profile(
            device="a machine", kind="cpu", threads=1, torch="2", measured="2026-01-01", steps=rows,
            matrix_tflops={"float32": 1.0, "bfloat16": 2.0},
        )  # fmt: skip

    # 50 GFLOP/s and 2 GB/s, exactly.
    exact = [row(f, b, f / 50e9 + b / 2e9) for f, b in ((1e9, 1e9), (5e9, 1e9), (2e9, 8e9), (9e9, 3e9))]
    told = profile(*exact).seconds(Sum(50e9, 4e9), backbone="vit", bfloat16=False)
    assert told.seconds == pytest.approx(3.0) and told.spread < 1e-9
    off = profile(*exact[:3], exact[3].model_copy(update={"seconds": exact[3].seconds * 1.5}))
    assert off.seconds(Sum(50e9, 4e9), backbone="vit", bfloat16=False).spread >= 1 / 3
    with pytest.raises(ConfigError, match="0 steps of a residual in float32, three are needed"):
        off.seconds(Sum(1, 1), backbone="residual", bfloat16=False)
    rates.save_profile(off, tmp_path / "p.json")
    assert load_profile(str(tmp_path / "p.json")) == off
    (tmp_path / "q.json").write_text('{"form": 2}')
    with pytest.raises(ConfigError, match=r"q\.json: not a profile"):
        load_profile(str(tmp_path / "q.json"))
    with pytest.raises(ConfigError, match="built-in profiles: cpu"):
        load_profile(str(tmp_path / "none.json"))


def test_the_built_in_profiles_are_whole() -> None:
    assert "cpu-xeon-amx" in built_in()
    for name in built_in():
        profile = load_profile(name)
        for backbone in ("vit", "residual"):
            for half in (False, True):
                told = profile.seconds(Sum(1e12, 1e10), backbone=backbone, bfloat16=half)
                assert told.seconds > 0 and told.spread < 1


@pytest.mark.slow
def test_a_machine_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = tuple(("residual-tiny", (16, 16), batch) for batch in (1, 2, 3))
    # The batch does not matter to what is counted: once for each precision is enough.
    known: dict[bool, Counts] = {}

    def once(recipe: Any, args: Any, *, bfloat16: bool) -> Counts:
        return known.setdefault(bfloat16, known.get(bfloat16) or count(recipe, args, bfloat16=bfloat16))

    monkeypatch.setattr(rates, "count", once)
    monkeypatch.setattr(rates, "_SIZES", {"cpu": sizes})
    monkeypatch.setattr(rates, "_REPEATS", 1)
    monkeypatch.setattr(rates, "_MATRIX", {"cpu": 64})
    said: list[str] = []
    done = measure(tmp_path / "here.json", device="cpu", progress=lambda what, _done: said.append(what))
    assert said == ["matrix products", *(f"{m} {p}" for m, _, _ in sizes for p in ("float32", "bfloat16"))]
    assert len(load_profile(str(tmp_path / "here.json")).steps) == 6
    assert done.lines()[0].endswith("1 thread") and all(low <= high for low, high in done.utilisation.values())
    told = plan(
        model="residual-tiny", pixels=(16, 16), batch=8, profile=str(tmp_path / "here.json"), samples=1e6, memory=4
    )
    assert told.days is not None and told.days[0] <= told.days[1] and told.basis.startswith("steps measured on")


@pytest.mark.slow
def test_a_plan_for_cards_that_nobody_measured_says_so() -> None:
    told = plan(
        model="residual-t-3d", pixels=(16, 16, 16), gpus=4, memory=80, batch=64, samples=1e6, rate_tflops=100,
        network_gbps=100,
    )  # fmt: skip
    assert told.model == "residual-tiny" and [e.parallel for e in told.layouts] == ["ddp", "fsdp", "ddp", "fsdp"]
    text = "\n".join(told.lines())
    assert "assumed utilisation 40% of the card's stated rate (100 TFLOP/s), not measured" in text
    assert "parallel: ddp" in text and "GB a step, at most" in text
    best = told.layouts[told.chosen or 0]
    assert best.step_seconds is not None and told.days is not None
    assert told.days[1] == pytest.approx(1e6 / 64 * best.step_seconds[1] / 86400)
    json.loads(told.model_dump_json())
    assert "nothing fits" in told.model_copy(update={"chosen": None}).lines()[-1]


def test_a_plan_of_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(settings_of("vicreg")))
    told = plan(config=tmp_path / "toy.yaml", bfloat16=False, memory=4)
    assert (told.batch, told.pixels, told.precision, told.model) == (8, (32, 32), "float32", "vit-of-the-configuration")
    assert "no rate was given, so no time is told" in told.basis


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give --model NAME or --config FILE"),
        ({"model": "vit-h-3d", "config": Path("x.yaml")}, "one of them"),
        ({"model": "vit-h-3d", "samples": 1e9}, "give --profile FILE, measured on such a machine"),
        ({"model": "vit-h-3d", "profile": "x", "rate_tflops": 1}, "--profile or --rate-tflops, one of them"),
        ({"model": "vit-x-3d"}, "no backbone 'vit-x'"),
        ({"model": "vit-h-3d", "pixels": (224, 224)}, "sees 3 axes, `pixels` say 2"),
        ({"model": "vit-h-3d", "method": "interactive"}, "plan masked, distil or vicreg"),
        ({"model": "vit-h-3d", "method": "none"}, "no method 'none'"),
        ({"model": "vit-t-2d", "pixels": (32, 32), "gpus": 3}, "3 processes can't share a batch of 4096 equally"),
        ({"model": "vit-h-3d", "gpus": 0}, "setting gpus"),
        ({"model": "vit-h-3d", "cards": 1}, "setting cards"),
    ],
)
def test_a_bad_plan_is_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        plan(**settings)
    assert "\n" not in str(caught.value)


def test_short_names() -> None:
    assert spelled_out("vit-h-3d") == ("vit-huge", 3) and spelled_out("ViT-B/16-2D") == ("vit-base/16", 2)
    assert spelled_out("residual-l-3d") == ("residual-large", 3) and spelled_out("vit-tiny/4") == ("vit-tiny/4", None)
