"""A labelled set becomes networks with held-out figures: read, fingerprint, plan, split, learn, measure.

Every network is judged on cases that neither it nor the choice of its best step ever saw. The task that is made of them
is their ensemble; its figures are those of its members, each on its own held-out cases.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from isocenter.core.errors import ConfigError, DataError, IsocenterError
from isocenter.core.sides import names_a_side
from isocenter.data.labelled import Event, LabelledCase, LabelledSet
from isocenter.learn.adaptation.begin import backbone_card, begin_network, choose_learning
from isocenter.learn.adaptation.engine import (
    Course,
    Job,
    Learnt,
    find_rate,
    fit,
    keep_first,
    measure_step,
    quickest_precision,
)
from isocenter.learn.adaptation.fingerprint import Fingerprint, Read, fingerprint, read_cases
from isocenter.learn.adaptation.held_out import MaskRow, VectorRow, measure_masks, measure_spoilt, measure_vectors
from isocenter.learn.adaptation.likeness import GateRow, gate_of, reference_of, strangeness_of
from isocenter.learn.adaptation.linear import fit_linear
from isocenter.learn.adaptation.masks import MaskCase, MaskJob
from isocenter.learn.adaptation.nearest import RetrievalRow, gallery_of, index_of, retrieval_of, retrieve_held_out
from isocenter.learn.adaptation.plan import Plan, Settled, plan_segmentation, plan_vector
from isocenter.learn.adaptation.settings import DataSettings
from isocenter.learn.adaptation.shelf import Shelf, alone_in, half_of_memory
from isocenter.learn.adaptation.split import Part, one_side, split
from isocenter.learn.adaptation.vectors import Scale, VectorCase, VectorJob
from isocenter.models.backbones import settings_from_card
from isocenter.models.learnt.features import embeddings_of
from isocenter.models.learnt.neighbours import CaseIndex
from isocenter.models.learnt.network import VectorNet
from isocenter.models.lora import merged_state
from isocenter.models.weights import Weights
from isocenter.safety.gate import Gate, Reference

__all__ = ["AdaptedSet", "DataSettings", "Member", "adapt_to_set", "learn_one"]

Tell = Callable[[str, float], None]
_LEAST_STEPS, _MOST_STEPS = 40, 20_000


@dataclass(frozen=True, eq=False)
class Member:
    """One network.

    Args:
        part: What it learnt from.
        arrays: Its weights.
        learnt: How it went.
        scale: Of numbers.
    """

    part: Part
    arrays: dict[str, np.ndarray]
    learnt: Learnt
    scale: Scale


@dataclass(frozen=True, eq=False)
class AdaptedSet:
    """What was learnt.

    Args:
        settings: With everything settled.
        found: The set's fingerprint.
        plan: What was settled of preparation and network.
        members: The networks.
        masks: Held-out figures, of masks.
        vectors: Held-out answers, else.
        failed: Cases that could not be read, and why.
        sources: Name and sha256 of every image that was read.
        seconds: All of it.
        rates: Learning rate of every network.
        notes: What was done to the set, in words.
        spoilt: Held-out figures of spoilt copies, of masks.
        gate: Which images the task answers; None where that can't be told.
        ungated: Why there is no gate.
        index: The cases that it learnt from, for answers to name the nearest; None for masks.
        retrieval: What near cases are worth on held-out ones; None where that can't be measured.
    """

    settings: DataSettings
    found: Fingerprint
    plan: Plan
    members: tuple[Member, ...]
    masks: tuple[MaskRow, ...]
    vectors: tuple[VectorRow, ...]
    failed: Mapping[str, str]
    sources: tuple[tuple[str, str], ...]
    seconds: float
    rates: tuple[float, ...] = field(default=())
    notes: tuple[str, ...] = field(default=())
    spoilt: tuple[MaskRow, ...] = ()
    gate: Gate | None = None
    ungated: str = ""
    index: CaseIndex | None = None
    retrieval: Mapping[str, object] | None = None


@dataclass
class _Found:
    """What held-out cases say, as it is gathered network by network."""

    members: list[Member] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    masks: list[MaskRow] = field(default_factory=list)
    vectors: list[VectorRow] = field(default_factory=list)
    spoilt: list[MaskRow] = field(default_factory=list)
    references: list[Reference | None] = field(default_factory=list)
    strange: list[GateRow] = field(default_factory=list)
    seen: list[np.ndarray] = field(default_factory=list)
    near: list[RetrievalRow] = field(default_factory=list)


def adapt_to_set(
    labelled: LabelledSet,
    settings: DataSettings,
    folder: Path,
    *,
    start: Weights | None = None,
    tell: Tell | None = None,
    agree: Callable[[Sequence[Read], Sequence[Read]], None] | None = None,
) -> AdaptedSet:
    """Learn from a labelled set.

    Args:
        labelled: The set.
        settings: How.
        folder: For checkpoints; a call with the same set and settings goes on from them.
        start: Weights of a backbone to begin with; None begins anew.
        tell: Called with what is done and how much of the whole.
        agree: Called before anything is learnt with what was read, and what of it will be held out; raises where that
            can't be used later.

    Raises:
        DataError: The set can't be learnt from.
        ConfigError: A setting does not fit it.
        WeightsError: The weights to begin with are of another network.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    most = half_of_memory() if settings.memory_gb is None else int(settings.memory_gb * 2**30)
    try:
        with Shelf(folder / "shelf", most_bytes=most) as shelf:
            return _adapt(labelled, settings, folder, (start, shelf), tell or (lambda _what, _done: None), agree)
    finally:
        torch.set_num_threads(threads)


def learn_one(
    labelled: LabelledSet,
    settings: DataSettings,
    folder: Path,
    number: int,
    *,
    start: Weights | None = None,
    tell: Tell | None = None,
) -> Learnt:
    """Learn one of the networks and no more: others learn beside it; `adapt_to_set` then finds them learnt.

    Args:
        labelled: The set.
        settings: How; with `steps`, so that all networks take as many.
        folder: For checkpoints, the same for all networks.
        number: Which network, from 0.
        start: Weights of a backbone to begin with.
        tell: Called with what is done and how much of the whole.

    Raises:
        DataError: The set can't be learnt from.
        ConfigError: There is no such network, no steps are said, or a setting does not fit the set.
        WeightsError: The weights to begin with are of another network.
    """
    if settings.steps is None or settings.method == "linear":
        raise ConfigError("one network learns by itself where its steps are said: give `steps`, and no linear method")
    say, threads = tell or (lambda _what, _done: None), torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    most = half_of_memory() if settings.memory_gb is None else int(settings.memory_gb * 2**30)
    try:
        with Shelf(folder / f"shelf-{number}-{os.getpid()}", most_bytes=most) as shelf:
            work, _ = _begun(labelled, settings, (start, shelf), say)
            parts = work.parts()
            work.check(parts)
            if not 0 <= number < len(parts):
                raise ConfigError(f"there are networks 1 to {len(parts)}, not {number + 1}")
            work.hold_to(folder, sorted(work.failed))
            work.settle(parts[0], len(parts), time.monotonic(), folder, say)
            member, _ = work.learn(parts[number], folder / f"network-{number}", _share(say, 0, 1))
            return member.learnt
    finally:
        torch.set_num_threads(threads)


def _begun(
    labelled: LabelledSet, settings: DataSettings, given: tuple[Weights | None, Shelf], say: Tell
) -> tuple[_Work, Fingerprint]:
    """Read a set and plan.

    Raises:
        DataError: Too many cases can't be learnt from.
    """
    read, failed = read_cases(
        labelled, most_unreadable=settings.most_unreadable, tell=lambda w, d: say(w, 0.03 * d), shelf=given[1]
    )
    found = fingerprint(labelled, read)
    work = _Work(labelled, settings, found, read, given)
    work.failed = failed | work.failed
    if len(work.failed) > settings.most_unreadable * len(labelled.cases):
        name, reason = next(iter(work.failed.items()))
        raise DataError(
            f"{len(work.failed)} of {len(labelled.cases)} cases can't be learnt from, more than "
            f"{settings.most_unreadable:.0%}; the first, {name!r}: {reason}",
            source=labelled.name,
        )
    return work, found


def _adapt(
    labelled: LabelledSet,
    settings: DataSettings,
    folder: Path,
    given: tuple[Weights | None, Shelf],
    say: Tell,
    agree: Callable[[Sequence[Read], Sequence[Read]], None] | None,
) -> AdaptedSet:
    started = time.monotonic()
    work, found = _begun(labelled, settings, given, say)
    failed, parts = work.failed, work.parts()
    work.check(parts)
    if agree is not None:
        agree(work.read, [work.read[i] for i in sorted({i for part in parts for i in part.held_out})])
    work.hold_to(folder, sorted(failed))
    work.settle(parts[0], len(parts), started, folder, say)
    told = _Found()
    for turn, part in enumerate(parts):
        member, rate = work.learn(part, folder / f"network-{part.number}", _share(say, turn, len(parts)))
        say(f"network {part.number + 1}: held-out cases", 0.05 + 0.93 * (turn + 1) / len(parts))
        told.members.append(member)
        told.rates.append(rate)
        work.measure(member, told)
        work.look_up(member, parts, told)
    gate, ungated = gate_of(told.references, told.strange)
    sources = tuple(sorted((one.case.name, one.image.sha256) for one in work.read))
    return AdaptedSet(
        work.settings, found, work.plan, tuple(told.members), tuple(told.masks), tuple(told.vectors), failed, sources,
        time.monotonic() - started, tuple(told.rates), work.notes, tuple(told.spoilt), gate, ungated,
        work.index(parts, told), retrieval_of(labelled.kind, told.near),
    )  # fmt: skip


def _device_of(settings: DataSettings) -> torch.device:
    """Return where networks learn; what is found exactly, without a step, stays on the processor."""
    here = torch.cuda.is_available()
    if settings.device == "cuda" and not here:
        raise ConfigError("device 'cuda': this machine has no GPU that torch can use; leave device 'auto' or 'cpu'")
    if settings.device == "cpu" or settings.method == "linear" or not here:
        return torch.device("cpu")
    return torch.device("cuda")


def _share(say: Tell, turn: int, count: int) -> Tell:
    def tell(what: str, done: float) -> None:
        say(f"network {turn + 1} of {count}: {what}", 0.05 + 0.93 * (turn + 0.95 * done) / count)

    return tell


class _Work:
    """What all networks share."""

    def __init__(
        self, labelled: LabelledSet, settings: DataSettings, found: Fingerprint, read: Sequence[Read],
        given: tuple[Weights | None, Shelf],
    ) -> None:  # fmt: skip
        self.labelled, self.settings, self.found = labelled, settings, found
        self.start, self._shelf = given
        self.device = _device_of(settings)
        self.masks = labelled.kind == "segment"
        self.plan = self._planned()
        self.failed: dict[str, str] = {}
        self.notes: tuple[str, ...] = ()
        self.read: list[Read] = []
        self.cases: list[MaskCase | VectorCase] = []
        self._prepare(read)

    def _planned(self) -> Plan:
        settings, labelled = self.settings, self.labelled
        if self.start is not None and settings.widths is not None:
            raise ConfigError("widths are those of the weights to begin with; give one of the two")
        mirror = self._mirror()
        backbone = None if self.start is None else settings_from_card(backbone_card(self.start))
        if (
            settings.gate_blocks is not None
            and "energy" in settings.gate_blocks
            and (self.masks or len(labelled.classes) < 2)
        ):
            raise ConfigError("gate_blocks: 'energy' is of networks that tell classes or findings apart")
        if self.masks:
            if settings.region is not None or settings.pool != "auto" or settings.method == "linear":
                raise ConfigError(
                    "region, pool and method 'linear' are of answers about whole images; leave them out for masks"
                )
            count = len(labelled.classes)
            plan = plan_segmentation(
                self.found, count, widths=settings.widths, mirror=mirror, most_side=settings.side, backbone=backbone
            )
        else:
            outputs = len(labelled.classes) if labelled.kind in ("classify", "multilabel") else 1
            plan = plan_vector(
                self.found, outputs, widths=settings.widths, mirror=mirror, most_side=settings.side,
                batch=settings.batch or (64 if self.found.dims == 2 else 16), backbone=backbone,
                settled=Settled(settings.region, settings.pool, settings.method == "linear"),
            )  # fmt: skip
        return plan if settings.batch is None else replace(plan, batch=settings.batch)

    def _mirror(self) -> tuple[bool, ...]:
        """Return the axes that may be mirrored: the left-right axis, where no class names a side."""
        sided = any(names_a_side(name) for name in self.labelled.classes)
        if self.settings.mirror == "on" and sided:
            raise ConfigError("a class names a side: mirrored, it would be on the other; leave mirror 'auto' or 'off'")
        if self.settings.mirror == "off" or sided:
            return (False, False, False)
        way = self.found.orientation
        return (False, False, True) if way is None else tuple(letter in "LR" for letter in way)

    def _prepare(self, read: Sequence[Read]) -> None:
        for one in read:
            try:
                prepared = self.plan.preparation.forward(one.image)
            except IsocenterError as error:
                self.failed[one.case.name] = str(error)
                continue
            self.read.append(one)
            if one.mask is not None:
                label = prepared.label(one.mask.array)
                case = MaskCase.of(one.case.name, prepared.array, label, len(self.labelled.classes))
                self.cases.append(replace(case, image=self._shelf.keep(case.image), label=self._shelf.keep(case.label)))
            else:
                self.cases.append(VectorCase(one.case.name, self._shelf.keep(prepared.array), one.case.target))

    def parts(self) -> tuple[Part, ...]:
        """Split all cases of the set, and leave out of each part what could not be read: one file moves no other."""
        settings = self.settings
        cases, notes = one_side(self.labelled.cases, {one.case.name: one.image.sha256 for one in self.read})
        self.notes = (*self.labelled.notes, *notes)
        strata = self._strata(cases)
        whole = split(cases, folds=settings.folds, seed=settings.seed, labelled=settings.labelled, strata=strata)
        place = {one.case.name: number for number, one in enumerate(self.read)}
        known = [place.get(case.name) for case in cases]

        def left(numbers: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(n for n in (known[i] for i in numbers) if n is not None)

        return tuple(Part(p.number, left(p.learnt), left(p.validation), left(p.held_out)) for p in whole)

    def hold_to(self, folder: Path, failed: Sequence[str]) -> None:
        """Note what checkpoints belong to, or refuse those of another set, other contents or other settings.

        Raises:
            ConfigError: So it is.
        """
        digest = hashlib.sha256()
        for one in sorted(self.read, key=lambda r: r.case.name):
            label = "" if one.mask is None else hashlib.sha256(one.mask.array.tobytes()).hexdigest()
            case = one.case
            row = (case.name, case.patient, case.split, repr(case.target), one.image.sha256, label)
            digest.update("\t".join(row).encode() + b"\n")
        document = {
            "settings": self.settings.model_dump(
                mode="json", exclude={"memory_gb", "device", "gate_copies", "gate_blocks"}
            ),
            "classes": list(self.labelled.classes),
            "cases": digest.hexdigest(),
            "left_out": list(failed),
            "plan": self.plan.as_card(),
            "began_from": None if self.start is None else self.start.card.sha256,
        }
        before = keep_first(folder / "belongs-to.json", document)
        differing = sorted(k for k in document if json.loads(json.dumps(document[k])) != before.get(k))
        if differing:
            raise ConfigError(
                f"{folder} holds checkpoints of another set or of other settings ({', '.join(differing)}); remove "
                "it, or give another folder for checkpoints"
            )

    def _strata(self, cases: Sequence[LabelledCase]) -> list[int]:
        targets = [case.target for case in cases]
        if self.labelled.kind == "classify":
            return [t if isinstance(t, int) else 0 for t in targets]
        if self.labelled.kind == "survive":
            return [int(t.happened) if isinstance(t, Event) else 0 for t in targets]
        return [0] * len(targets)

    def _check_targets(self) -> None:
        """Refuse labels that nothing could be learnt from."""
        kind, targets = self.labelled.kind, [one.case.target for one in self.read]
        reason = ""
        if kind == "classify" and len(self.labelled.classes) < 2:
            reason = "all cases are of one class"
        elif kind == "regress" and len({t for t in targets if isinstance(t, int | float)}) < 2:
            reason = "all cases have the same number"
        elif kind == "survive" and not any(t.happened for t in targets if isinstance(t, Event)):
            reason = "no event happened in any case"
        elif kind == "multilabel":
            for number, name in enumerate(self.labelled.classes):
                said = {t[number] for t in targets if isinstance(t, tuple)}
                if not {0, 1} <= said:
                    reason = f"the finding {name!r} is never {'present' if 1 not in said else 'absent'}"
                    break
        if reason:
            raise DataError(f"{reason}: there is nothing to tell apart", source=self.labelled.name)

    def check(self, parts: Sequence[Part]) -> None:
        """Refuse a split in which a network would not see a class that there is.

        Raises:
            DataError: So it is; or the labels are all alike.
        """
        self._check_targets()
        for part in parts:
            if not part.learnt or not part.held_out:
                lacking = "learn from" if not part.learnt else "be held to"
                raise DataError(
                    f"network {part.number + 1} has no readable case to {lacking}",
                    source=self.labelled.name,
                )
            if self.labelled.kind == "classify":
                learnt = {self.read[i].case.target for i in part.learnt}
                missing = [n for i, n in enumerate(self.labelled.classes) if i not in learnt]
            elif self.masks:
                seen = {
                    k for i in part.learnt for k, spots in enumerate(self._mask(i).spots) if len(spots)
                }  # fmt: skip
                missing = [n for i, n in enumerate(self.labelled.classes) if i not in seen]
            else:
                continue
            if missing and self.settings.labelled is None:
                raise DataError(
                    f"no case that network {part.number + 1} learns from holds {missing[0]!r}; give more patients "
                    "that have it, or ask for fewer folds",
                    source=self.labelled.name,
                )

    def _mask(self, number: int) -> MaskCase:
        case = self.cases[number]
        if not isinstance(case, MaskCase):
            raise TypeError("not a case with a mask")
        return case

    def job(self, part: Part) -> Job:
        """Return what a network learns."""
        learnt, validation = ([self.cases[i] for i in some] for some in (part.learnt, part.validation))
        if self.masks:
            return MaskJob(
                self.plan,
                [c for c in learnt if isinstance(c, MaskCase)],
                [c for c in validation if isinstance(c, MaskCase)],
            )
        return VectorJob(
            self.plan,
            self.labelled.kind,
            [c for c in learnt if isinstance(c, VectorCase)],
            [c for c in validation if isinstance(c, VectorCase)],
            balanced=self.settings.method != "linear",
        )

    def begin(self, part: Part) -> nn.Module:
        """Return a network before it learns."""
        torch.manual_seed(self.settings.seed * 1000 + part.number)
        net = begin_network(self.plan.network, self.start)
        choose_learning(net, self.settings.method, rank=self.settings.rank, seed=self.settings.seed)
        layout = torch.channels_last if self.found.dims == 2 else torch.channels_last_3d
        return net.to(device=self.device, memory_format=layout)  # type: ignore[call-overload,no-any-return]

    def settle(self, part: Part, networks: int, started: float, folder: Path, say: Tell) -> None:
        """Settle precision and steps by the speed of this machine, once: a call that goes on keeps what was settled."""
        kept = folder / "settled.json"
        if kept.is_file():
            self.settings = self.settings.model_copy(update=json.loads(kept.read_text("utf-8")))
            return
        if self.settings.method == "linear":  # takes no steps, and products in full precision
            self.settings = self.settings.model_copy(update={"precision": "float32", "steps": None})
            return
        settings, job, net = self.settings, self.job(part), self.begin(part)
        course = self._course(part, steps=100, rate=settings.learning_rate or 1e-3)
        precision = settings.precision
        if precision == "auto":
            say("measuring the speed of this machine", 0.04)
            precision = "bfloat16" if quickest_precision(net, job, course) else "float32"
        self.settings = settings = settings.model_copy(update={"precision": precision})
        if settings.steps is None:
            step = measure_step(net, job, replace(course, bfloat16=precision == "bfloat16"))
            left = settings.minutes * 60 - (time.monotonic() - started)
            # A twelfth goes to looking at validation and held-out cases.
            steps = int(np.clip(0.92 * left / networks / step, _LEAST_STEPS, _MOST_STEPS))
            self.settings = settings.model_copy(update={"steps": steps})
        found = keep_first(kept, {"precision": self.settings.precision, "steps": self.settings.steps})
        self.settings = self.settings.model_copy(update=found)  # another process may have been first

    def _course(self, part: Part, *, steps: int, rate: float) -> Course:
        settings = self.settings
        return Course(
            settings.seed, part.number, steps, learning_rate=rate, bfloat16=settings.precision == "bfloat16",
            average=0.99 if steps > 300 else 0.97,
        )  # fmt: skip

    def learn(self, part: Part, folder: Path, tell: Tell) -> tuple[Member, float]:
        """Learn one network, or go on with it."""
        settings, job, net = self.settings, self.job(part), self.begin(part)
        steps = settings.steps or _LEAST_STEPS
        rate = settings.learning_rate
        if settings.method == "linear" and isinstance(job, VectorJob):
            learnt, rate = fit_linear(net, job), 0.0
        else:
            if rate is None:
                rate = find_rate(net, job, self._course(part, steps=steps, rate=1e-3), folder)
            with alone_in(folder):
                learnt = fit(net, job, self._course(part, steps=steps, rate=rate), folder, tell)
        arrays = {k: v.detach().float().cpu().numpy().copy() for k, v in merged_state(learnt.net).items()}
        scale = job.settle_scale(learnt.net) if isinstance(job, VectorJob) else Scale()
        return Member(part, arrays, learnt, scale), rate

    def measure(self, member: Member, told: _Found) -> None:
        """Add what a network says of its held-out cases, and how strange they are to it."""
        net, plan, number = member.learnt.net, self.plan, member.part.number
        held = [(self.read[i], self.cases[i]) for i in member.part.held_out]
        reference = reference_of(net, plan, [self.cases[i] for i in member.part.learnt], self.settings)
        told.references.append(reference)
        rows = []
        if reference is not None:
            rows = strangeness_of(
                reference, net, plan, [case for _, case in held], number, copies=self.settings.gate_copies
            )
        told.strange += rows
        strange = {row.name: row.strange for row in rows if not row.copy}
        if self.masks:
            pairs = [(one, case) for one, case in held if isinstance(case, MaskCase)]
            told.masks += measure_masks(net, plan, pairs, number, strange)
            told.spoilt += measure_spoilt(net, plan, pairs, number, reference)
            return
        vectors = [(one, case) for one, case in held if isinstance(case, VectorCase)]
        told.vectors += measure_vectors(net, plan, vectors, self.labelled.kind, member.scale, number, strange)

    def look_up(self, member: Member, parts: Sequence[Part], told: _Found) -> None:
        """Add what a network sees in the cases of the index, and what near cases are worth for held-out ones."""
        net, part = member.learnt.net, member.part
        if self.masks or not isinstance(net, VectorNet):
            return
        gallery, kind = _gallery(parts), self.labelled.kind
        seen = embeddings_of(net, [self.cases[i].image for i in gallery])
        told.seen.append(seen)
        own = {*part.learnt, *part.validation}
        rows = [row for row, i in enumerate(gallery) if i in own]
        held = [(self.read[i].case.patient, self.read[i].case.target) for i in part.held_out]
        asked = embeddings_of(net, [self.cases[i].image for i in part.held_out])
        known = [self.read[gallery[row]].case.target for row in rows]
        told.near += retrieve_held_out(kind, known, seen[rows], held, asked)

    def index(self, parts: Sequence[Part], told: _Found) -> CaseIndex | None:
        """Return the index of cases, None for masks."""
        if not told.seen:
            return None
        cases = [(self.read[i].image.sha256, self.read[i].case.target) for i in _gallery(parts)]
        return index_of(self.labelled.kind, self.labelled.classes, cases, told.seen)


def _gallery(parts: Sequence[Part]) -> tuple[int, ...]:
    return gallery_of([i for part in parts for i in (*part.learnt, *part.validation)])
