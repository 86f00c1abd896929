"""A multimodal model as it is saved, loaded and asked: network, words, how images go in, and the card.

NAME.safetensors        the arrays: all of them, or those of an adapter for weights that lie elsewhere
NAME.json, NAME.md      the card
NAME.vocabulary.json    the words; their sha256 stands on the card
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from isocenter.core.errors import ConfigError, WeightsError
from isocenter.models.multimodal.adapter import Learning, fill_learnt, set_learning, take_in
from isocenter.models.multimodal.answers import score_answers, score_choices, write_answer
from isocenter.models.multimodal.folder import Base, open_base
from isocenter.models.multimodal.inputs import ImageInput
from isocenter.models.multimodal.network import build_multimodal
from isocenter.models.multimodal.words import Words, read_words, words_document
from isocenter.models.weights import Weights, WeightsCard, load_weights, save_weights

__all__ = ["Multimodal", "load_multimodal", "open_multimodal", "save_multimodal", "words_path"]

_AT_ONCE = 32


@dataclass(frozen=True, eq=False)
class Multimodal:
    """Network and words together.

    Args:
        net: A `MultimodalNetwork`, in evaluation mode.
        words: Turn text into its tokens.
        image_input: Turns planes or volumes into what its tower sees.
        card: What vouches for the weights; None for those of a folder, or that were not saved.
    """

    net: Any
    words: Words
    image_input: ImageInput
    card: WeightsCard | None = None

    def prepare(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return images as they go into the tower.

        Raises:
            PixelError: An image is flat, has another number of axes, or holds values that are not finite.
        """
        return [self.image_input.prepare(np.asarray(image, dtype=np.float32)) for image in images]

    def score(self, images: Sequence[np.ndarray], question: str, answers: Sequence[str]) -> Float[np.ndarray, " k"]:
        """Return the log-likelihood of each of a closed set of answers to a question about images.

        Args:
            images: Planes (rows, columns) whose columns grow to the patient's left, or volumes (z, y, x).
            question: The question.
            answers: The closed set.

        Raises:
            PixelError: An image is not what it must be.
            ConfigError: The set is none, the question is empty, or the dialogue is too long.
        """
        _check_question(question)
        return score_answers(self.net, self.words, self.prepare(images), question, answers)

    def choose(self, images: Sequence[np.ndarray], question: str, answers: Sequence[str]) -> Float[np.ndarray, " k"]:
        """Return how likely each answer is among the closed set; not calibrated. See `score`."""
        said = self.score(images, question, answers)
        raised = np.exp(said - said.max())
        return np.asarray(raised / raised.sum())

    def write(self, images: Sequence[np.ndarray], question: str, *, most: int = 48) -> str:
        """Return what the model writes: free text, that nothing vouches for.

        Args:
            images: As in `score`.
            question: The question.
            most: Tokens at most.

        Raises:
            PixelError: An image is not what it must be.
            ConfigError: The question is empty or too long.
        """
        _check_question(question)
        return write_answer(self.net, self.words, self.prepare(images), question, most=most)

    @torch.inference_mode()
    def see(self, prepared: Sequence[np.ndarray]) -> Float[torch.Tensor, "m tokens width"]:
        """Return the tokens of prepared images; the same array is looked at once."""
        known: dict[int, int] = {}
        distinct: list[np.ndarray] = []
        at = []
        for image in prepared:
            if id(image) not in known:
                known[id(image)] = len(distinct)
                distinct.append(image)
            at.append(known[id(image)])
        found = [
            self.net.see(torch.from_numpy(np.stack(distinct[i : i + _AT_ONCE])))
            for i in range(0, len(distinct), _AT_ONCE)
        ]
        return torch.cat(found)[at]

    def score_many(
        self, seen: Float[torch.Tensor, "n tokens width"], questions: Sequence[str], answers: Sequence[str]
    ) -> Float[np.ndarray, "n k"]:
        """Return the log-likelihood of each answer to many questions of one image each; see `score_choices`."""
        return score_choices(self.net, self.words, seen, questions, answers)


def _check_question(question: str) -> None:
    if not question.strip():
        raise ConfigError("the question is empty; say what is asked")


def words_path(weights: Path) -> Path:
    """Return where the words of a file of weights lie."""
    return weights.with_name(f"{weights.stem}.vocabulary.json")


def save_multimodal(
    folder: Path,
    arrays: Mapping[str, np.ndarray],
    model: Multimodal,
    card: Mapping[str, object],
    *,
    base: Base | None = None,
    learning: Learning | None = None,
) -> Path:
    """Write weights, words and card.

    Args:
        folder: Where they go.
        arrays: All parameters by name (`whole_arrays`), or with `base` those of an adapter (`learnt_arrays`).
        model: Network, words and image input.
        card: Fields of `WeightsCard` but `network`, `preparation` and those that are measured.
        base: The folder that an adapter changes; None for weights that need nothing else.
        learning: With a base: what learnt.

    Returns:
        The file of the weights.

    Raises:
        WeightsError: The card's fields break the schema.
    """
    vocabulary = words_document(model.words)
    network = {**model.net.as_card(), "vocabulary_sha256": hashlib.sha256(vocabulary).hexdigest()}
    if base is not None and learning is not None:
        network["adapter"] = {"base": base.as_card(), "learning": learning.as_card()}
    fields = {**card, "network": network, "preparation": model.image_input.as_card()}
    whole = save_weights(folder, arrays, fields)
    weights = folder / f"{whole.name}.safetensors"
    words_path(weights).write_bytes(vocabulary)
    return weights


def open_multimodal(path: Path | str, *, base: Path | str | None = None, length: int = 4096) -> Multimodal:
    """Open a multimodal model: our own weights, or a LLaVA or Gemma 3 folder of Hugging Face.

    Args:
        path: A `.safetensors` file of ours, the folder of a run of `isocenter adapt`, or a folder with config.json.
        base: The folder that an adapter changes, where `path` is one.
        length: Tokens of a dialogue at most, for a folder; its own limit where that is less.

    Raises:
        WeightsError: Something is missing, altered, or of another kind; the message says what to do.
        CapabilityError: It needs transformers, which is not installed.
    """
    place = Path(path)
    if place.is_dir() and (place / "config.json").is_file() and not _own_files(place):
        found = open_base(place, length)
        return Multimodal(found.net, found.words, found.image_input)
    return load_multimodal(place, base=base)


def load_multimodal(weights: Path | str, *, base: Path | str | None = None) -> Multimodal:
    """Load our own multimodal weights, once weights and words are what the card vouches for.

    Args:
        weights: The `.safetensors` file, or the folder that it lies in (or in whose folder `weights` it lies).
        base: The folder that an adapter changes; needed for adapters alone.

    Raises:
        WeightsError: Something is missing, altered, or of another run; an adapter without its base, or another one.
        CapabilityError: A part needs transformers, which is not installed.
    """
    file = _file_of(Path(weights))
    loaded = load_weights(file)
    sidecar = words_path(file)
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
    try:
        net = _adapted(loaded, base, file) if "adapter" in loaded.card.network else _built(loaded)
        return Multimodal(
            net.eval(), read_words(vocabulary), ImageInput.from_card(loaded.card.preparation), loaded.card
        )
    except (ConfigError, RuntimeError, TypeError) as error:
        raise WeightsError(
            f"{file.name}: the card does not describe a multimodal model that these weights fill"
        ) from error


def _own_files(folder: Path) -> list[Path]:
    return [f for f in sorted(folder.glob("*.safetensors")) if words_path(f).is_file()]


def _file_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    for folder in (path / "weights", path):
        files = _own_files(folder)
        if len(files) == 1:
            return files[0]
    raise WeightsError(f"{path} holds no multimodal weights, or several; give the .safetensors file")


def _built(loaded: Weights) -> Any:
    card = {k: v for k, v in loaded.card.network.items() if k != "vocabulary_sha256"}
    net = build_multimodal(card)
    given = {key: torch.from_numpy(array) for key, array in loaded.arrays.items()}
    told = net.load_state_dict(given, strict=False)
    # Names of one tensor (an embedding that is the head too) are written once.
    own = {p.data_ptr() for name, p in net.named_parameters() if name in given}
    lost = [name for name, p in net.named_parameters() if name not in given and p.data_ptr() not in own]
    if lost or told.unexpected_keys:
        raise WeightsError(f"{loaded.card.name}: the weights are of another network than their card says")
    return net


def _adapted(loaded: Weights, base: Path | str | None, file: Path) -> Any:
    """Build an adapter's network from its base, with the changes taken in."""
    adapter = loaded.card.network["adapter"]
    if not isinstance(adapter, Mapping):
        raise ConfigError("the card's adapter is none")
    if base is None:
        raise WeightsError(
            f"{file.name}: these weights change others, which lie elsewhere; give their folder as the base "
            f"({adapter['base'].get('name')!r}, sha256 {str(adapter['base'].get('sha256'))[:12]}...)"
        )
    card = {k: v for k, v in loaded.card.network.items() if k not in ("vocabulary_sha256", "adapter")}
    found = open_base(Path(base), int(_length_of(card)))
    if found.sha256 != adapter["base"].get("sha256"):
        raise WeightsError(
            f"{file.name}: {Path(base).name} is another folder than the one that was adapted (sha256 "
            f"{found.sha256[:12]}..., card {str(adapter['base'].get('sha256'))[:12]}...); give that one"
        )
    net = found.under(card)
    set_learning(net, Learning.from_card(adapter["learning"]))
    fill_learnt(net, loaded.arrays)
    take_in(net)
    return net


def _length_of(card: Mapping[str, Any]) -> Any:
    language = card.get("language")
    return card.get("length") if not isinstance(language, Mapping) else language.get("length")
