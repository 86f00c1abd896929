"""A recipe behind the face that `isocenter pretrain` knows (`learn.method.Method`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from isocenter.core.errors import ConfigError
from isocenter.learn.method import Stop, Tell
from isocenter.learn.pretraining.args import PretrainingArgs
from isocenter.learn.pretraining.card import Told, export, plot_curves
from isocenter.learn.pretraining.files import Index, index_of
from isocenter.learn.pretraining.images import Images
from isocenter.learn.pretraining.learner import Recipe
from isocenter.learn.pretraining.states import has_checkpoint
from isocenter.learn.pretraining.trainer import Trainer

__all__ = ["ImageMethod"]


class ImageMethod:
    """A method that learns from images without labels.

    Args:
        recipe: What it is made of.
    """

    parallel = True

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._known: tuple[tuple[Path, tuple[str, ...]], Index] | None = None

    @property
    def name(self) -> str:
        """Name in configurations and as a plug-in."""
        return self.recipe.name

    def configure(self, settings: Mapping[str, Any]) -> PretrainingArgs:
        """Check settings.

        Raises:
            ConfigError: A setting is unknown, missing or out of range.
        """
        try:
            return self.recipe.args.model_validate(dict(settings))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(p) for p in first["loc"])
            message = first["msg"].removeprefix("Value error, ")
            raise ConfigError(f"setting {where}: {message}" if where else message) from error

    def data_identity(self, config: BaseModel) -> dict[str, Any]:
        """Say what is learnt from: how many images, and the hash of their hashes.

        Raises:
            ConfigError: No images were given.
            DataError: There are none.
        """
        args = self._own(config)
        self._known = None  # files may have changed since this process last looked
        index = self._index(args)
        return {
            "kind": "images",
            "images": len(index.entries),
            "files": index.files,
            "index_sha256": index.sha256,
        }

    def train(self, config: BaseModel, out: Path, stop: Stop, tell: Tell) -> None:
        """Train into a folder; see `Trainer`."""
        args = self._own(config)
        trainer = Trainer(self.recipe, args, Images(self._index(args), args), out)
        trainer.run(Stop(stop.until, stop.resume and has_checkpoint(out), stop.checkpoint_minutes), tell)

    def export(self, config: BaseModel, out: Path, *, command: str, machine: str) -> Path:
        """Write the averaged backbone with its card.

        Raises:
            WeightsError: There is no checkpoint.
        """
        args = self._own(config)
        index = self._index(args)
        learnt, held = index.split(args.images.held_out)
        told = Told(
            command=command,
            machine=machine,
            data=index.name,
            images=(len(learnt), len(held)),
            index_sha256=index.sha256,
        )
        return export(self.recipe, args, out, told)

    def draw(self, out: Path, picture: Path) -> None:
        """Draw loss and effective rank over steps."""
        plot_curves(out, picture)

    def _own(self, config: BaseModel) -> PretrainingArgs:
        if not isinstance(config, self.recipe.args):
            raise ConfigError(f"the method {self.name!r} takes its own configuration, not {type(config).__name__}")
        return config

    def _index(self, args: PretrainingArgs) -> Index:
        if args.data is None:
            raise ConfigError(f"the method {self.name!r} learns from images: give their folder (--data FOLDER)")
        key = (args.data.absolute(), args.images.leave_out)
        if self._known is None or self._known[0] != key:
            self._known = (key, index_of(args.data, args.images.leave_out))
        return self._known[1]
