"""The training: every step is a function of the configuration, the step and the weights, so a kill leaves no trace.

Batches, texts and alterations are drawn anew from (seed, step, place), never from a running state. The checkpoint holds
network, average, optimiser and the hash of the vocabulary; the vocabulary itself lies beside it.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from torch import nn

from isocenter.core.errors import CapabilityError, ConfigError, WeightsError
from isocenter.data.images.atomic import atomic_path
from isocenter.learn.alignment.config import AlignmentTraining
from isocenter.learn.alignment.contradiction import contradict
from isocenter.learn.alignment.losses import alignment_loss
from isocenter.learn.alignment.measure import probe_figures, probe_items, retrieval_figures
from isocenter.learn.alignment.pairs import Pairs
from isocenter.learn.alignment.texts import Told, tell
from isocenter.learn.checkpoint import CsvLog, load_checkpoint, save_checkpoint
from isocenter.learn.jitter import jittered
from isocenter.models.aligned import Aligned, AlignedNet, AlignedSettings
from isocenter.models.text import (
    TextSettings,
    Tokenizer,
    read_tokenizer,
    tokenizer_document,
    train_byte_pairs,
)
from isocenter.models.text.folder import load_folder
from isocenter.models.weights import load_weights

__all__ = ["CHECKPOINT", "VOCABULARY", "Trainer", "fill_backbone", "left_out_pairs"]

CHECKPOINT, VOCABULARY = "checkpoint.pt", "vocabulary.json"
_STEPS = ("step", "loss", "right", "right_hard", "scale", "bias", "rate")
_CHECKS = ("step", "image_to_text_1", "image_to_text_5", "text_to_image_1", "text_to_image_5", "negation", "laterality")
_WATCHED = 128
"""Pairs of the validation split that are looked at during a training."""


def _rng(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def left_out_pairs(told: list[Told], true: list[frozenset[str]]) -> Bool[np.ndarray, "n n"]:
    """Return which images a text is no known negative of: those of whom all that it says is known to be true.

    Args:
        told: The texts of a batch.
        true: What is known to be true of each image, normalised.
    """
    return np.array([[text.sentences <= known for text in told] for known in true], dtype=bool).reshape(
        len(true), len(told)
    )


class Trainer:
    """A training.

    Args:
        config: Everything that it depends on.
        pairs: What it learns from.
        out: Its folder.

    Raises:
        ConfigError: There are fewer pairs to train on than a batch takes.
        WeightsError: Weights to begin with, or a folder of a text tower, are not what they must be.
        CapabilityError: A text tower needs transformers, or there is no such device.
    """

    def __init__(self, config: AlignmentTraining, pairs: Pairs, out: Path) -> None:
        self.config, self.pairs, self.out = config, pairs, out
        self.train_places = pairs.of("train")
        if len(self.train_places) < config.batch:
            raise ConfigError(
                f"{len(self.train_places)} pairs to train on, and a batch takes {config.batch}: a text is told apart "
                "from other texts, so give more pairs, or a smaller batch (of two or more)"
            )
        if config.device == "cuda" and not torch.cuda.is_available():
            raise CapabilityError("there is no CUDA device here; set device: cpu")
        self.tokenizer, self.net = self._begin()
        self.net.to(config.device)
        self._lock()
        self.average = copy.deepcopy(self.net).eval()
        for parameter in self.average.parameters():
            parameter.requires_grad_(False)
        learning = [p for p in self.net.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": [p for p in learning if p.ndim > 1], "weight_decay": config.weight_decay},
                {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
            betas=(0.9, 0.98),
        )
        self.step, self.seconds = 0, 0.0

    @property
    def vocabulary_sha256(self) -> str:
        """The hash that names the vocabulary."""
        return hashlib.sha256(tokenizer_document(self.tokenizer)).hexdigest()

    def _begin(self) -> tuple[Tokenizer, AlignedNet]:
        """Make the tokenizer and the network to begin with."""
        config, text = self.config, self.config.text
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            tower: nn.Module | None = None
            tokenizer: Tokenizer
            if text.folder is not None:
                known, tokenizer = load_folder(Path(text.folder), text.length)
                tower, card = known, known.as_card()
            else:
                tokenizer = self._vocabulary()
                card = TextSettings(tokenizer.size, text.length, text.width, text.depth, text.heads).as_card()
            settings = AlignedSettings(config.image.card, card, config.width, config.image.pooling, config.loss)
            net = AlignedNet(settings, tower)
        if config.loss == "sigmoid":
            # As many pairs are right as the bias says: SigLIP's own -10 fits its batches of 32,768.
            nn.init.constant_(net.bias, -math.log(config.batch - 1 + config.texts.hard_negatives))
        if config.image.start_from is not None:
            fill_backbone(net.image, config.image.start_from)
        return tokenizer, net

    def _vocabulary(self) -> Tokenizer:
        """Learn the vocabulary from the reports to train on, and from what contradicts them."""
        texts = []
        for at in self.train_places:
            pair = self.pairs.pairs[at]
            texts += [*pair.metadata, *pair.sentences]
            texts += [item.text for sentence in pair.sentences for item in contradict(sentence)]
        return train_byte_pairs(texts, size=self.config.text.vocabulary)

    def _lock(self) -> None:
        for tower, locked in ((self.net.image, self.config.image.locked), (self.net.text, self.config.text.locked)):
            for parameter in tower.parameters():
                parameter.requires_grad_(not locked)

    def _learning(self) -> None:
        self.net.train()
        for tower, locked in ((self.net.image, self.config.image.locked), (self.net.text, self.config.text.locked)):
            if locked:
                tower.eval()

    def batch(self, step: int) -> list[int]:
        """Return the places of the pairs of a step; every epoch has an order of its own."""
        config, count = self.config, len(self.train_places)
        per_epoch = count // config.batch
        epoch, within = divmod(step, per_epoch)
        order = _rng(config.seed, 1, epoch).permutation(count)
        return [self.train_places[i] for i in order[within * config.batch : (within + 1) * config.batch]]

    def drawn(self, step: int) -> tuple[torch.Tensor, list[Told], list[frozenset[str]]]:
        """Return the images, the texts and what is known to be true, of a step."""
        config = self.config
        images, told, true = [], [], []
        for place, at in enumerate(self.batch(step)):
            rng = _rng(config.seed, 2, step, place)
            pair = self.pairs.pairs[at]
            images.append(jittered(rng, self.pairs.prepared(at), config.jitter))
            told.append(tell(rng, pair.sentences, config.texts, pair.metadata))
            true.append(pair.true | told[-1].sentences)
        return torch.from_numpy(np.stack(images)).to(config.device), told, true

    def _embed_texts(self, texts: list[str]) -> torch.Tensor:
        tokens = self.tokenizer.encode(texts, self.net.text_tower.length)
        ids, known = (torch.from_numpy(array).to(self.config.device) for array in (tokens.ids, tokens.known))
        return self.net.embed_texts(ids, known)

    def train_step(self) -> dict[str, float]:
        """Learn from one batch; return the numbers of this step."""
        config, rate = self.config, self.config.rate(self.step)
        images, told, true = self.drawn(self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self._learning()
        owner = [i for i, text in enumerate(told) for _ in text.contradictions]
        contradictions = [c for text in told for c in text.contradictions]
        with self._randomness(), self._precision():
            seen = self.net.embed_images(images)
            read = self._embed_texts([text.text for text in told] + contradictions)
        count, most = len(told), config.texts.hard_negatives
        cosine = seen @ read[:count].T
        logits = self.net.scaled(cosine)
        hard = torch.zeros(count, most, device=logits.device)
        known = torch.zeros(count, most, dtype=torch.bool, device=logits.device)
        if contradictions:
            column = [sum(o == other for other in owner[:i]) for i, o in enumerate(owner)]
            values = self.net.scaled((seen[owner] * read[count:]).sum(dim=1))
            hard = hard.index_put((torch.tensor(owner), torch.tensor(column)), values)
            known[owner, column] = True
        left_out = torch.from_numpy(left_out_pairs(told, true)).to(logits.device)
        loss = alignment_loss(config.loss, logits, left_out, hard, known)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        learning = [p for p in self.net.parameters() if p.requires_grad]
        torch.nn.utils.clip_grad_norm_(learning, config.clip_norm)
        self.optimiser.step()
        self._average()
        self.step += 1
        return {
            "step": self.step,
            "loss": float(loss.detach()),
            **_rightness(logits.detach(), left_out, hard.detach(), known),
            "scale": float(self.net.log_scale.detach().exp()),
            "bias": float(self.net.bias.detach()),
            "rate": rate,
        }

    @contextlib.contextmanager
    def _randomness(self) -> Iterator[None]:
        """Draw what torch draws (dropout of a tower) from seed and step."""
        with torch.random.fork_rng(devices=["cuda"] if self.config.device == "cuda" else []):
            torch.manual_seed((self.config.seed * 1_000_003 + self.step) % 2**63)
            yield

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.config.device, torch.bfloat16, enabled=self.config.bfloat16)

    def _average(self) -> None:
        decay = min(self.config.average, (self.step + 1) / (self.step + 10))
        ours, mean = dict(self.net.named_parameters()), dict(self.average.named_parameters())
        changing = [name for name, parameter in ours.items() if parameter.requires_grad]
        with torch.no_grad():
            torch._foreach_lerp_([mean[k] for k in changing], [ours[k] for k in changing], 1 - decay)

    def model(self) -> Aligned:
        """Return the averaged network as it can be asked; it shares nothing with the training."""
        net = copy.deepcopy(self.average).to("cpu").eval()
        return Aligned(net, self.tokenizer, self.pairs.image_input)

    def validate(self) -> dict[str, float]:
        """Return retrieval and probes on pairs of other patients."""
        places, aligned = self.pairs.of("validation", _WATCHED), self.model()
        images = aligned.embed_images([self.pairs.plane(at) for at in places])
        texts = aligned.embed_texts([" ".join(self.pairs.pairs[at].sentences) for at in places])
        by_place = dict(zip(places, images, strict=True))
        figures = retrieval_figures(self.pairs, places, images, texts, (1, 5))
        found = {f.name.replace("recall@", ""): f.value for f in figures}
        row = {
            f"{to.replace(' ', '_')}_{k}": found[f"{k}, {to}"]
            for to in ("image to text", "text to image")
            for k in (1, 5)
        }
        probes = probe_figures(probe_items(self.pairs, places), self.pairs, by_place, aligned.embed_texts)
        told = {f.name.removeprefix("probe: "): f.value for f in probes}
        return {**row, **{kind: told.get(kind, float("nan")) for kind in ("negation", "laterality")}}

    def save(self) -> None:
        """Write the checkpoint, and the vocabulary beside it."""
        self.out.mkdir(parents=True, exist_ok=True)
        with atomic_path(self.out / VOCABULARY) as temporary:
            temporary.write_bytes(tokenizer_document(self.tokenizer))
        save_checkpoint(
            self.out / CHECKPOINT,
            {
                "config": self.config.model_dump_json(),
                "vocabulary_sha256": self.vocabulary_sha256,
                "step": self.step,
                "seconds": self.seconds,
                "net": self.net.state_dict(),
                "average": self.average.state_dict(),
                "optimiser": self.optimiser.state_dict(),
            },
        )

    def resume(self) -> None:
        """Take up where the checkpoint left off.

        Raises:
            WeightsError: There is no readable checkpoint, or the vocabulary is of another run.
        """
        state = load_checkpoint(self.out / CHECKPOINT)
        try:
            data = (self.out / VOCABULARY).read_bytes()
        except OSError as error:
            raise WeightsError(f"{self.out} holds a checkpoint and no {VOCABULARY}; start without --resume") from error
        hashes = {state["vocabulary_sha256"], hashlib.sha256(data).hexdigest()}
        if hashes != {self.vocabulary_sha256}:
            raise WeightsError(
                f"{VOCABULARY} in {self.out} is of another run, or the reports have changed: every word would mean "
                "another; start without --resume"
            )
        self.tokenizer = read_tokenizer(data)
        self.step, self.seconds = state["step"], state["seconds"]
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
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
        before, saved, last = time.monotonic() - self.seconds, time.monotonic(), {}
        try:
            while self.step < min(config.steps, until or config.steps):
                row = self.train_step()
                log.add(row)
                self.seconds = time.monotonic() - before
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


def _rightness(
    logits: torch.Tensor, left_out: torch.Tensor, hard: torch.Tensor, known: torch.Tensor
) -> dict[str, float]:
    """Return how often the own text beats all others, and how often it beats its contradictions; NaN without any."""
    own = logits.diagonal()
    others = logits.masked_fill(left_out, -torch.inf).masked_fill(
        torch.eye(len(logits), dtype=torch.bool, device=logits.device), -torch.inf
    )
    beaten = (own[:, None] > hard)[known]
    return {
        "right": float((own > others.max(dim=1).values).float().mean()),
        "right_hard": float(beaten.float().mean()) if len(beaten) else float("nan"),
    }


def fill_backbone(backbone: nn.Module, name: str) -> None:
    """Fill a backbone from weights whose parameters have its names, alone, under "backbone." or under "image.".

    Raises:
        WeightsError: They are of another backbone.
    """
    arrays = load_weights(name).arrays
    parts = [
        {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
        for prefix in ("backbone.", "image.")
    ]
    inner = next((part for part in parts if part), dict(arrays))
    wanted = backbone.state_dict()
    wrong = [k for k, v in wanted.items() if k not in inner or tuple(v.shape) != inner[k].shape]
    if wrong:
        raise WeightsError(
            f"start_from: {Path(name).name} is not of the backbone that `image` describes ({wrong[0]} is missing or "
            "has another shape); give the settings that its card states"
        )
    backbone.load_state_dict({k: torch.from_numpy(inner[k].copy()) for k in wanted})
