"""Batches of views, each a pure function of (seed, step, place); drawn ahead by threads where there are some."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise

import torch

from isocenter.learn.pretraining.args import CropArgs, PretrainingArgs
from isocenter.learn.pretraining.crops import crop, generator
from isocenter.learn.pretraining.images import Images
from isocenter.learn.pretraining.learner import Recipe
from isocenter.learn.pretraining.parallel import World

__all__ = ["Loader"]

_STEP, _HELD, _PROBE = 1, 2, 3
"""Streams of randomness: training, validation, and the crops whose embeddings are watched."""

Batch = dict[str, torch.Tensor]


class Loader:
    """Makes batches.

    Args:
        recipe: The method.
        args: Its configuration.
        images: What there is to show.
        world: This process among all.
    """

    def __init__(self, recipe: Recipe, args: PretrainingArgs, images: Images, world: World) -> None:
        self._recipe, self._args, self._images, self._world = recipe, args, images, world
        workers = args.images.workers
        self._pool = ThreadPoolExecutor(workers, "views") if workers else None
        self._ahead: dict[int, list[Future[Batch]]] = {}

    def close(self) -> None:
        """Let the threads go."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def places(self, step: int) -> list[range]:
        """Return the numbers of the samples of a step that are this process's, one range for each part of the batch."""
        part = self._args.batch // self._args.accumulate
        first = step * self._args.batch
        return [
            self._world.share(range(first + k * part, first + (k + 1) * part)) for k in range(self._args.accumulate)
        ]

    def batches(self, step: int) -> list[Batch]:
        """Return the parts of a step's batch, and begin the next one."""
        if self._pool is None:
            return [self._stacked([self._sample(step, n) for n in numbers]) for numbers in self.places(step)]
        for ahead in range(step, min(step + 2, self._args.steps)):
            if ahead not in self._ahead:
                self._ahead[ahead] = [
                    self._pool.submit(self._sample, ahead, n) for numbers in self.places(ahead) for n in numbers
                ]
        samples = [f.result() for f in self._ahead.pop(step)]
        each = len(samples) // self._args.accumulate
        return [self._stacked(samples[k : k + each]) for k in range(0, len(samples), each)]

    def held_out(self, count: int) -> list[Batch]:
        """Return views of held-out images, the same at every validation, in batches of the size of a part."""
        samples = []
        for number in range(count):
            rng = generator(self._args.seed, _HELD, number)
            samples.append(self._recipe.views(self._args, self._images.draw(number, rng, held=True), rng))
        # Parts are larger than in training rather than smaller: a loss over a batch needs two rows.
        parts = max(1, len(samples) * self._args.accumulate // self._args.batch)
        edges = [round(k * len(samples) / parts) for k in range(parts + 1)]
        return [self._stacked(samples[a:b]) for a, b in pairwise(edges)]

    def probe(self, count: int) -> torch.Tensor:
        """Return plain crops whose embeddings are watched, the same at every validation: of images learnt from."""
        plain = CropArgs(share=self._args.crop.share, zoom=self._args.crop.zoom, flip=False)
        crops = []
        for number in range(count):
            rng = generator(self._args.seed, _PROBE, number)
            crops.append(crop(self._images.draw(number, rng), rng, self._args.pixels, plain))
        return torch.stack(crops)

    def _sample(self, step: int, number: int) -> Batch:
        rng = generator(self._args.seed, _STEP, step, number)
        return self._recipe.views(self._args, self._images.draw(number, rng), rng)

    def _stacked(self, samples: Sequence[Batch]) -> Batch:
        return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}
