"""The training: every step is a function of the configuration, the step and the weights, so a kill leaves no trace.

Batches and alterations are drawn anew from (seed, step, place), never from a running state. A blind training is the
same in everything but that each image is replaced by the mean of the training images: what it answers rightly, it
answers from the words of the question and from how frequent answers are.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from isocenter.core.errors import CapabilityError, ConfigError, DataError, TrainingError, WeightsError
from isocenter.learn.checkpoint import CsvLog, load_checkpoint, save_checkpoint
from isocenter.learn.jitter import jittered
from isocenter.learn.multimodal.begin import Beginning, begin
from isocenter.learn.multimodal.cases import Case, Cases
from isocenter.learn.multimodal.config import MultimodalTraining
from isocenter.learn.multimodal.measure import answer_closed, free_losses
from isocenter.models.multimodal import Laid, Multimodal, answer_loss, lay_out, set_learning, words_document

__all__ = ["CHECKPOINT", "Trainer"]

CHECKPOINT = "checkpoint.pt"
_STEPS = ("step", "loss", "rate")
_CHECKS = ("step", "accuracy", "loss")


def _rng(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


class Trainer:
    """A training.

    Args:
        config: Everything that it depends on.
        cases: What it learns from.
        out: Its folder.
        blind: Whether images are replaced by the mean image.

    Raises:
        ConfigError: Parts don't fit together, or there are fewer questions than a batch takes.
        DataError: A question with its answer is longer than the model reads.
        WeightsError: What is begun with can't be read.
        CapabilityError: It needs transformers, or there is no such device.
    """

    def __init__(self, config: MultimodalTraining, cases: Cases, out: Path, *, blind: bool = False) -> None:
        self.config, self.cases, self.out, self.blind = config, cases, out, blind
        self.train_places = cases.of("train")
        if len(self.train_places) < config.batch:
            raise ConfigError(
                f"{len(self.train_places)} questions to train on, and a batch takes {config.batch}: give more, or a "
                "smaller batch"
            )
        if config.device == "cuda" and not torch.cuda.is_available():
            raise CapabilityError("there is no CUDA device here; set device: cpu")
        texts = [t for at in self.train_places for t in (cases.cases[at].question, cases.cases[at].answer)]
        self.beginning: Beginning = begin(config, texts)
        self._model = self.beginning.model
        if self._model.image_input != cases.image_input:
            raise ConfigError("images were prepared for another network than the one that is begun with")
        self.net: nn.Module = self._model.net
        self.words, self.learning = self._model.words, config.learns.learning(config.seed)
        self._check_lengths()
        set_learning(self.net, self.learning)
        self.net.to(config.device)
        self.mean_image = cases.mean_image()
        self.changing = {name: p for name, p in self.net.named_parameters() if p.requires_grad}
        self.average = {name: p.detach().clone() for name, p in self.changing.items()}
        self.optimiser = torch.optim.AdamW(
            [
                {"params": [p for p in self.changing.values() if p.ndim > 1], "weight_decay": config.weight_decay},
                {"params": [p for p in self.changing.values() if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
            betas=(0.9, 0.98),
        )
        self.step, self.seconds = 0, 0.0

    @property
    def vocabulary_sha256(self) -> str:
        """The hash that names the words."""
        return hashlib.sha256(words_document(self.words)).hexdigest()

    def _check_lengths(self) -> None:
        for case in self.cases.cases:
            try:
                self._laid([case])
            except ConfigError as error:
                raise DataError(f"row {case.number}: {error}", source=self.cases.source) from error

    def _laid(self, cases: list[Case]) -> Laid:
        return lay_out(
            self.words,
            [(case.question, len(case.images)) for case in cases],
            [case.answer for case in cases],
            tokens=self._model.net.tokens,
            length=self._model.net.length,
        )

    def batch(self, step: int) -> list[int]:
        """Return the places of the questions of a step; every epoch has an order of its own."""
        config, count = self.config, len(self.train_places)
        per_epoch = count // config.batch
        epoch, within = divmod(step, per_epoch)
        order = _rng(config.seed, 1, epoch).permutation(count)
        return [self.train_places[i] for i in order[within * config.batch : (within + 1) * config.batch]]

    def _seen(self, step: int, cases: list[Case]) -> Float[torch.Tensor, "m tokens width"]:
        """Return the tokens of the images of a step, in the order of questions."""
        config, net = self.config, self._model.net
        names = [(place, name) for place, case in enumerate(cases) for name in case.images]
        if self.blind:
            one = net.see(torch.from_numpy(self.mean_image[None]).to(config.device))
            return one.expand(len(names), -1, -1)  # type: ignore[no-any-return]
        images = [
            jittered(_rng(config.seed, 2, step, place, number), self.cases.prepared(name), config.jitter)
            for number, (place, name) in enumerate(names)
        ]
        return net.see(torch.from_numpy(np.stack(images)).to(config.device))  # type: ignore[no-any-return]

    def _learning_mode(self) -> None:
        self.net.train()
        if self.learning.tower == "locked":
            self._model.net.vision.eval()

    def train_step(self) -> dict[str, float]:
        """Learn from one batch; return the numbers of this step.

        Raises:
            TrainingError: The loss is no number.
        """
        rate = self.config.rate(self.step)
        cases = [self.cases.cases[at] for at in self.batch(self.step)]
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self._learning_mode()
        with self._randomness():
            loss = answer_loss(self._model.net, self.words, self._laid(cases), self._seen(self.step, cases))
        value = float(loss.detach())
        if not np.isfinite(value):
            raise TrainingError(f"the loss of step {self.step + 1} is no number; set a smaller learning_rate")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(list(self.changing.values()), self.config.clip_norm)
        self.optimiser.step()
        decay = min(self.config.average, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            ours = [p.detach() for p in self.changing.values()]
            torch._foreach_lerp_([self.average[name] for name in self.changing], ours, 1 - decay)
        self.step += 1
        return {"step": self.step, "loss": value, "rate": rate}

    @contextlib.contextmanager
    def _randomness(self) -> Iterator[None]:
        """Draw what torch draws (dropout of a folder's model) from seed and step."""
        with torch.random.fork_rng(devices=["cuda"] if self.config.device == "cuda" else []):
            torch.manual_seed((self.config.seed * 1_000_003 + self.step) % 2**63)
            yield

    @contextlib.contextmanager
    def averaged(self) -> Iterator[Multimodal]:
        """Lend the model with its averaged weights, on the CPU and in evaluation mode; they are put back after."""
        kept = {name: p.detach().clone() for name, p in self.changing.items()}
        self._fill(self.average)
        self.net.to("cpu").eval()
        try:
            yield self._model
        finally:
            self.net.to(self.config.device)
            self._fill(kept)

    def _fill(self, values: Mapping[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.changing.items():
                parameter.copy_(values[name])

    def image_of(self, name: str) -> np.ndarray:
        """Return what this training sees in place of an image: itself, or the mean image."""
        return self.mean_image if self.blind else self.cases.prepared(name)

    def validate(self) -> dict[str, float]:
        """Return accuracy over closed kinds, and the loss of free answers (NaN without any), on other patients."""
        places = self.cases.of("validation", self.config.watched)
        with self.averaged() as model:
            found = answer_closed(model, self.cases, places, self.image_of)
            losses = free_losses(model, self.cases, places, self.image_of)
        right = [r for one in found for r in one.right.tolist()]
        return {
            "accuracy": float(np.mean(right)) if right else float("nan"),
            "loss": float(np.mean(losses.values)) if len(losses.values) else float("nan"),
        }

    def save(self) -> None:
        """Write the checkpoint."""
        self.out.mkdir(parents=True, exist_ok=True)
        save_checkpoint(
            self.out / CHECKPOINT,
            {
                "config": self.config.model_dump_json(),
                "blind": self.blind,
                "vocabulary_sha256": self.vocabulary_sha256,
                "step": self.step,
                "seconds": self.seconds,
                "net": {k: v.detach() for k, v in self.changing.items()},
                "buffers": {k: v for k, v in self.net.named_buffers() if v is not None},
                "average": self.average,
                "optimiser": copy.deepcopy(self.optimiser.state_dict()),
            },
        )

    def resume(self) -> None:
        """Take up where the checkpoint left off.

        Raises:
            WeightsError: There is no readable checkpoint, or it is of another training.
        """
        state = load_checkpoint(self.out / CHECKPOINT)
        if state.get("vocabulary_sha256") != self.vocabulary_sha256 or state.get("blind") != self.blind:
            raise WeightsError(
                f"{CHECKPOINT} in {self.out.name!r} is of another training, or what is learnt from has changed: every "
                "word would mean another; start without --resume"
            )
        self.step, self.seconds = state["step"], state["seconds"]
        self._fill(state["net"])
        for name, buffer in self.net.named_buffers():
            if name in state["buffers"]:
                buffer.copy_(state["buffers"][name])
        self.average = {name: state["average"][name].to(self.config.device) for name in self.changing}
        self.optimiser.load_state_dict(state["optimiser"])

    def run(
        self,
        *,
        until: int | None = None,
        resume: bool = False,
        checkpoint_minutes: float = 3.0,
        tell_step: Callable[[Mapping[str, float], Mapping[str, float]], None] | None = None,
    ) -> None:
        """Train to the end, or to a step.

        Args:
            until: Stop there, after a checkpoint; None for the end.
            resume: Begin from the checkpoint in the folder, if there is one.
            checkpoint_minutes: Longest time between two checkpoints.
            tell_step: Called after every step with its row and the last validation's.
        """
        config, threads = self.config, torch.get_num_threads()
        torch.set_num_threads(config.threads)
        if resume and (self.out / CHECKPOINT).is_file():
            self.resume()
        keep = self.step if resume else None
        log = CsvLog(self.out / "steps.csv", _STEPS, keep_until=keep)
        checks = CsvLog(self.out / "validation.csv", _CHECKS, keep_until=keep)
        last: dict[str, float] = {}
        before, saved = time.process_time() - self.seconds, time.monotonic()
        try:
            while self.step < min(config.steps, until or config.steps):
                row = self.train_step()
                log.add(row)
                self.seconds = time.process_time() - before
                if self.step % config.validate_every == 0 or self.step == config.steps:
                    last = {"step": self.step, **self.validate()}
                    checks.add(last)
                due = time.monotonic() - saved > 60 * checkpoint_minutes
                if due or self.step % config.checkpoint_every == 0 or self.step in (config.steps, until):
                    self.save()
                    saved = time.monotonic()
                if tell_step is not None:
                    tell_step(row, last)
        finally:
            log.close()
            checks.close()
            torch.set_num_threads(threads)
