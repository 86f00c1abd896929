"""An aligned model as it is saved, loaded and asked: network, tokenizer, how images go in, and the card.

NAME.safetensors        the arrays
NAME.json, NAME.md      the card
NAME.vocabulary.json    the tokenizer; its sha256 stands on the card
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from isocenter.core.errors import ConfigError, PixelError, WeightsError
from isocenter.models.aligned.network import AlignedNet, AlignedSettings
from isocenter.models.preparation import Letterbox, normalise
from isocenter.models.text import Tokenizer, read_tokenizer, tokenizer_document
from isocenter.models.weights import Weights, WeightsCard, load_weights, save_weights

__all__ = ["Aligned", "ImageInput", "load_aligned", "save_aligned", "vocabulary_path"]

_AT_ONCE = 64


@dataclass(frozen=True)
class ImageInput:
    """How a plane goes into the network: normalised, fitted into a square, never mirrored.

    Args:
        side: Pixels of the square.
    """

    side: int

    def prepare(self, plane: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "1 side side"]:
        """Return the network's input for one plane.

        Raises:
            PixelError: The plane is flat, or holds values that are not finite.
        """
        flat = normalise(np.asarray(plane, dtype=np.float32))
        rows, columns = flat.shape
        same = rows == columns == self.side
        return (flat if same else Letterbox(rows, columns, self.side).forward(flat))[None]


@dataclass(frozen=True, eq=False)
class Aligned:
    """Network and tokenizer together.

    Args:
        net: The network, in evaluation mode.
        tokenizer: Turns text into its tokens.
        image_input: Turns planes into its input.
        card: What vouches for the weights; None for one that was not saved.
    """

    net: AlignedNet
    tokenizer: Tokenizer
    image_input: ImageInput
    card: WeightsCard | None = None

    @torch.inference_mode()
    def embed_images(self, planes: Sequence[np.ndarray]) -> Float[np.ndarray, "n width"]:
        """Return a vector of length 1 for each plane (rows, columns), whose columns grow to the patient's left.

        Raises:
            PixelError: A plane is flat, has another number of axes, or holds values that are not finite.
        """
        for plane in planes:
            if np.ndim(plane) != 2:
                raise PixelError(f"an aligned model for planes takes (rows, columns), got {np.shape(plane)}")
        found = [
            self.net.embed_images(torch.from_numpy(np.stack([self.image_input.prepare(p) for p in some]))).numpy()
            for some in (planes[i : i + _AT_ONCE] for i in range(0, len(planes), _AT_ONCE))
        ]
        return np.concatenate(found) if found else np.zeros((0, self.net.settings.width), np.float32)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Float[np.ndarray, "n width"]:
        """Return a vector of length 1 for each text.

        Raises:
            ConfigError: A text is empty.
        """
        empty = [i for i, text in enumerate(texts) if not text.strip()]
        if empty:
            raise ConfigError(f"text number {empty[0]} is empty; say what to look for")
        found = []
        for at in range(0, len(texts), _AT_ONCE):
            tokens = self.tokenizer.encode(texts[at : at + _AT_ONCE], self.net.text_tower.length)
            found.append(self.net.embed_texts(torch.from_numpy(tokens.ids), torch.from_numpy(tokens.known)).numpy())
        return np.concatenate(found) if found else np.zeros((0, self.net.settings.width), np.float32)

    def weigh(
        self,
        images: Float[np.ndarray, "n width"],
        present: Float[np.ndarray, " width"],
        absent: Float[np.ndarray, " width"],
    ) -> Float[np.ndarray, " n"]:
        """Return how much better the words for "there" fit each image than those for "not there", 0 to 1.

        Args:
            images: From `embed_images`.
            present: From `embed_texts`, of what says that it is there.
            absent: The same, of what says that it is not.

        Returns:
            0.5 where both fit alike. It ranks images; it is no probability of disease.
        """
        scale = float(self.net.log_scale.detach().clamp(max=float(np.log(100.0))).exp())
        weighed: Float[np.ndarray, " n"] = 1 / (1 + np.exp(-scale * (images @ (present - absent))))
        return weighed


def vocabulary_path(weights: Path) -> Path:
    """Return where the tokenizer of a file of weights lies."""
    return weights.with_name(f"{weights.stem}.vocabulary.json")


def save_aligned(
    folder: Path,
    arrays: Mapping[str, np.ndarray],
    tokenizer: Tokenizer,
    settings: AlignedSettings,
    card: Mapping[str, object],
) -> Path:
    """Write weights, tokenizer and card.

    Args:
        folder: Where they go.
        arrays: The network's parameters by name.
        tokenizer: The one that it learnt with.
        settings: What the network is built of.
        card: Fields of `WeightsCard` but `network` and those that are measured; `preparation` holds `side`.

    Returns:
        The file of the weights.

    Raises:
        WeightsError: The card's fields break the schema.
    """
    vocabulary = tokenizer_document(tokenizer)
    network = {**settings.as_card(), "vocabulary_sha256": hashlib.sha256(vocabulary).hexdigest()}
    whole = save_weights(folder, arrays, {**card, "network": network})
    weights = folder / f"{whole.name}.safetensors"
    vocabulary_path(weights).write_bytes(vocabulary)
    return weights


def load_aligned(weights: Path | str) -> Aligned:
    """Load an aligned model, once weights and vocabulary are what the card vouches for.

    Args:
        weights: The `.safetensors` file, or the folder of a run of `isocenter align`.

    Raises:
        WeightsError: Something is missing, altered, or of another run.
        CapabilityError: The text tower needs transformers, which is not installed.
    """
    file = _file_of(Path(weights))
    loaded = load_weights(file)
    sidecar = vocabulary_path(file)
    try:
        vocabulary = sidecar.read_bytes()
    except OSError as error:
        raise WeightsError(f"{sidecar.name}: the vocabulary is not beside the weights; get all files again") from error
    said = loaded.card.network.get("vocabulary_sha256")
    found = hashlib.sha256(vocabulary).hexdigest()
    if found != said:
        raise WeightsError(
            f"{sidecar.name}: this vocabulary is of another run (sha256 {found[:12]}..., card {str(said)[:12]}...): "
            "every word would mean another; get all files from one run"
        )
    return _built(loaded, read_tokenizer(vocabulary), file)


def _file_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    for folder in (path / "weights", path):
        files = sorted(folder.glob("*.safetensors"))
        if len(files) == 1:
            return files[0]
    raise WeightsError(f"{path} holds no weights of isocenter align, or several; give the .safetensors file")


def _built(loaded: Weights, tokenizer: Tokenizer, file: Path) -> Aligned:
    side = loaded.card.preparation.get("side")
    try:
        settings = AlignedSettings.from_card(loaded.card.network)
        net = AlignedNet(settings)
        net.load_state_dict({key: torch.from_numpy(array) for key, array in loaded.arrays.items()})
    except (ConfigError, RuntimeError, TypeError) as error:
        raise WeightsError(
            f"{file.name}: the card does not describe an aligned model that these weights fill"
        ) from error
    if not isinstance(side, int) or side < 1:
        raise WeightsError(f"{file.name}: the card does not say how large images are")
    return Aligned(net.eval(), tokenizer, ImageInput(side), loaded.card)
