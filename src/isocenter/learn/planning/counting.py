"""The work and the memory of a training step, counted on tensors that have a shape and no memory.

The step that is counted is the real one: the learner of the method, forward and back, with the views that it would get.
Every operation passes by: its floating-point operations (torch's own formulas, back pass included), the bytes that it
moves, and the memory that lives at that moment. Two batch sizes give what is fixed and what each sample adds.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from isocenter.core.errors import CapabilityError
from isocenter.learn.pretraining.args import PretrainingArgs
from isocenter.learn.pretraining.crops import generator
from isocenter.learn.pretraining.learner import Learner, Recipe

__all__ = ["Counts", "Ledger", "Work", "count", "saved_bytes", "view_shapes"]

_ATEN = torch.ops.aten
_FLASH = _ATEN._scaled_dot_product_flash_attention_for_cpu
_FLASH_BACK = _ATEN._scaled_dot_product_flash_attention_for_cpu_backward
_FREE = {_ATEN._unsafe_view, _ATEN.detach, _ATEN.alias}
FLOAT = 4
"""Bytes of a weight, a gradient, a moment of AdamW: all in float32, whatever the forward pass runs in."""


@dataclass(frozen=True)
class Work:
    """What a step, or a sample of it, takes.

    Args:
        flops: Floating-point operations of matrix products, convolutions and attention; a product and a sum are two.
        traffic: Bytes that all other operations read and write.
        saved: Bytes of activations that the forward pass keeps for the way back.
    """

    flops: float = 0.0
    traffic: float = 0.0
    saved: float = 0.0


@dataclass(frozen=True)
class Counts:
    """A training step, counted.

    Args:
        parameters: Numbers in the weights, of a teacher too.
        trainable: Those that have a gradient.
        averaged: Numbers of the averaged twin; 0 where the learner keeps its own.
        units: Numbers in each module that is gathered alone where weights are shared out.
        bfloat16: Whether the forward pass runs in bfloat16.
        fixed: What a step takes, however small the batch.
        sample: What each sample adds.
        trail: After every operation, in bytes: what lives whatever the batch, what each sample adds, and gradients.
    """

    parameters: int
    trainable: int
    averaged: int
    units: tuple[int, ...]
    bfloat16: bool
    fixed: Work
    sample: Work
    trail: np.ndarray

    def peak(self, batch: int, *, gradients: Literal["come", "wait", "none"] = "come") -> float:
        """Return the bytes that live at once at the worst moment, beyond weights.

        Args:
            batch: Samples.
            gradients: They come one by one on the way back; or all wait from a part of the batch before; or none
                count here.
        """
        alive = self.trail[:, 0] + batch * self.trail[:, 1]
        if gradients == "come":
            alive = alive + self.trail[:, 2]
        waiting = FLOAT * self.trainable if gradients == "wait" else 0
        return float(alive.max()) + waiting

    def at(self, batch: int) -> Work:
        """Return what a step of a batch takes."""
        pairs = ((getattr(self.fixed, k), getattr(self.sample, k)) for k in Work.__dataclass_fields__)
        return Work(*(fixed + batch * each for fixed, each in pairs))

    @property
    def update_traffic(self) -> float:
        """Bytes that clipping, AdamW and averaging read and write once a step."""
        # Clip: read for the length, read, write. AdamW: weight, gradient, two moments; write three. Average: 2 and 1.
        return float(FLOAT * (10 * self.trainable + 3 * self.averaged))


def _attention(query: Any, key: Any, value: Any, *_args: Any, out_shape: Any = None, **_more: Any) -> int:
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def _attention_back(grad: Any, query: Any, key: Any, value: Any, *_args: Any, out_shape: Any = None, **_: Any) -> int:
    return int(sdpa_backward_flop_count(grad, query, key, value))  # type: ignore[no-untyped-call]


class _Unasked(TorchFunctionMode):
    """Answers "is any value so?" with no: drawing first weights asks, and there are no values."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return False if func is torch.Tensor.any else func(*args, **(kwargs or {}))


class Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps count while operations pass by; for fake tensors and for real ones.

    The formulas are those of torch's `FlopCounterMode`; that one itself would keep tensors alive that should be gone.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops, self.traffic, self.alive, self.gradients = 0, 0, 0, 0
        self.trail: list[tuple[int, int]] = []
        self._hooks: list[Any] = []
        self._formulas = FlopCounterMode(
            display=False, custom_mapping={_FLASH: _attention, _FLASH_BACK: _attention_back}
        ).flop_registry
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and note what it moves and what it makes."""
        read = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        # What was there before anything ran, weights and views, is counted by whoever made it.
        self._known.update(t.untyped_storage() for t in read)
        out = func(*args, **(kwargs or {}))
        made = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        formula = self._formulas.get(func._overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=out)
        elif func.namespace == "aten" and not func.is_view and func._overloadpacket not in _FREE:
            self.traffic += sum(t.numel() * t.element_size() for t in (*read, *made))
        for tensor in made:
            self._note(tensor.untyped_storage())
        self.trail.append((self.alive, self.gradients))
        return out

    def follow(self, learner: Learner) -> None:
        """Tell gradients from activations from now on."""
        self._hooks = [
            p.register_post_accumulate_grad_hook(self._is_gradient)  # type: ignore[no-untyped-call]
            for p in learner.parameters()
            if p.requires_grad
        ]

    def leave(self) -> None:
        """Follow no longer."""
        for hook in self._hooks:
            hook.remove()

    def _is_gradient(self, parameter: torch.Tensor) -> None:
        size = parameter.numel() * parameter.element_size()
        self.alive -= size
        self.gradients += size
        self.trail.append((self.alive, self.gradients))

    def _note(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.alive += size
        weakref.finalize(storage, self._gone, size)

    def _gone(self, size: int) -> None:
        self.alive -= size


def view_shapes(recipe: Recipe, args: PretrainingArgs) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Return shape and type of what a method is shown of one image, by name."""
    rng = generator(args.seed, 0)
    image = rng.normal(size=(args.channels, *args.pixels)).astype(np.float32)
    return {name: (tuple(view.shape), view.dtype) for name, view in recipe.views(args, image, rng).items()}


def saved_bytes(learner: Learner, views: Mapping[str, torch.Tensor], *, bfloat16: bool) -> tuple[torch.Tensor, int]:
    """Run a learner forward; return its loss and the bytes that it keeps for the way back, weights left out.

    Works on real tensors as on fake ones, so that one can be held against the other.
    """
    weights = {p.untyped_storage()._cdata for p in (*learner.parameters(), *learner.buffers())}
    weights |= {v.untyped_storage()._cdata for v in views.values()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss, _ = learner(dict(views))
        total = sum(kept.values())
    return loss, total


def count(recipe: Recipe, args: PretrainingArgs, *, bfloat16: bool) -> Counts:
    """Count a training step of a method.

    Args:
        recipe: The method.
        args: Its configuration; the size of its batch does not matter.
        bfloat16: Whether the forward pass runs in bfloat16 (with the rules of autocast on a CPU).

    Raises:
        CapabilityError: An operation of this method can't be counted without values.
    """
    shapes = view_shapes(recipe, args)
    try:
        with torch.device("meta"), _Unasked():
            learner = recipe.learner(args).train()
        with FakeTensorMode(allow_non_fake_inputs=True):
            learner.to_empty(device="cpu")
            found = [_step(learner, shapes, batch, bfloat16=bfloat16) for batch in _BATCHES]
    except (NotImplementedError, RuntimeError) as error:
        line = (str(error).strip().splitlines() or [""])[0][:160]
        raise CapabilityError(
            f"a step of {recipe.name} can't be counted without running it ({type(error).__name__}: {line})"
        ) from error
    (few, trail), (many, longer) = found
    if len(trail) != len(longer):
        raise CapabilityError(f"a step of {recipe.name} can't be counted: it does other things with a larger batch")
    step = _BATCHES[1] - _BATCHES[0]
    each = {k: (getattr(many, k) - getattr(few, k)) / step for k in Work.__dataclass_fields__}
    rest = {k: max(0.0, getattr(few, k) - _BATCHES[0] * v) for k, v in each.items()}
    numbers = sum(p.numel() for p in learner.parameters())
    units = tuple(sum(p.numel() for p in unit.parameters()) for unit in learner.units())
    return Counts(
        parameters=numbers,
        trainable=sum(p.numel() for p in learner.parameters() if p.requires_grad),
        averaged=numbers if learner.averaged() is None else 0,
        units=(*units, numbers - sum(units)),
        bfloat16=bfloat16,
        fixed=Work(**rest),
        sample=Work(**each),
        trail=_straight(trail, longer),
    )


_BATCHES = (2, 4)
"""A loss over a batch needs two rows."""


def _step(
    learner: Learner, shapes: Mapping[str, tuple[tuple[int, ...], torch.dtype]], batch: int, *, bfloat16: bool
) -> tuple[Work, np.ndarray]:
    views = {name: torch.zeros((batch, *shape), dtype=kind) for name, (shape, kind) in shapes.items()}
    ledger = Ledger()
    ledger.follow(learner)
    with ledger:
        loss, saved = saved_bytes(learner, views, bfloat16=bfloat16)
        loss.backward()  # type: ignore[no-untyped-call]
    ledger.leave()
    learner.zero_grad(set_to_none=True)
    given = sum(v.numel() * v.element_size() for v in views.values())
    trail = np.array(ledger.trail, dtype=np.float64)
    trail[:, 0] += given
    return Work(float(ledger.flops), float(ledger.traffic), float(saved)), trail


def _straight(few: np.ndarray, many: np.ndarray) -> np.ndarray:
    """Return what lives whatever the batch, what each sample adds, and gradients, from two batches."""
    each = (many[:, 0] - few[:, 0]) / (_BATCHES[1] - _BATCHES[0])
    return np.stack([few[:, 0] - _BATCHES[0] * each, each, few[:, 1]], axis=1)
