"""Answers: how likely each of a closed set is, and what a model writes of its own accord.

A closed set is what an answer may enter a ledger by: the model is not asked to write, but how likely it is to have
written each of the answers that are possible; these likelihoods, made to sum to one, are what is calibrated.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch.nn import functional

from isocenter.core.errors import ConfigError
from isocenter.models.multimodal.dialogue import Laid, lay_out, spread
from isocenter.models.multimodal.network import MultimodalNetwork, joined
from isocenter.models.multimodal.words import Words

__all__ = ["answer_loss", "log_likelihoods", "score_answers", "score_choices", "write_answer"]


def _tensors(laid: Laid, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    ids, known, answer = (torch.from_numpy(a).to(device) for a in (laid.ids, laid.known, laid.answer))
    return ids, known, answer


def _said(
    net: MultimodalNetwork, words: Words, laid: Laid, seen: Float[torch.Tensor, "m image_tokens width"]
) -> tuple[Float[torch.Tensor, "n length_1"], Bool[torch.Tensor, "n length_1"]]:
    """Return the log-likelihood of every token after the first, and which are of the answer."""
    ids, known, answer = _tensors(laid, seen.device)
    vectors, pictures = joined(net, ids, words.image, seen)
    logits, _ = net.read(vectors, known, pictures=pictures)
    target = ids[:, 1:].masked_fill(pictures[:, 1:], 0)
    flat = functional.cross_entropy(logits[:, :-1].float().transpose(1, 2), target, reduction="none")
    return -flat, answer[:, 1:]


def answer_loss(
    net: MultimodalNetwork, words: Words, laid: Laid, seen: Float[torch.Tensor, "m image_tokens width"]
) -> Float[torch.Tensor, ""]:
    """Return how surprising the answers are: the mean over their tokens, in nats.

    Args:
        net: The network.
        words: Its words.
        laid: Questions with answers.
        seen: Tokens of all images, in the order of rows.
    """
    said, answer = _said(net, words, laid, seen)
    return -(said * answer).sum() / answer.sum()


def log_likelihoods(
    net: MultimodalNetwork, words: Words, laid: Laid, seen: Float[torch.Tensor, "m image_tokens width"]
) -> tuple[Float[torch.Tensor, " n"], Int64[torch.Tensor, " n"]]:
    """Return the log-likelihood of each answer, its end with it, and of how many tokens it is."""
    said, answer = _said(net, words, laid, seen)
    return (said * answer).sum(dim=1), answer.sum(dim=1)


@torch.inference_mode()
def score_answers(
    net: MultimodalNetwork, words: Words, images: Sequence[np.ndarray], question: str, answers: Sequence[str]
) -> Float[np.ndarray, " k"]:
    """Return the log-likelihood of each answer to one question; the question is read once.

    Args:
        net: The network.
        words: Its words.
        images: As they go into the tower.
        question: The question.
        answers: The closed set.

    Raises:
        ConfigError: Fewer than two answers, an empty one, or a dialogue that is too long.
    """
    _check_closed(answers)
    lay_out(
        words, [(question, len(images))] * len(answers), answers, tokens=net.tokens, length=net.length
    )  # fmt: skip
    first, cache = _begun(net, words, images, question)
    rows = [words.answer(answer) for answer in answers]
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
    own = torch.tensor([[True] * len(row) + [False] * (longest - len(row)) for row in rows])
    logits, _ = net.read(net.embed(ids), own, net.repeated(cache, len(rows)))
    # What the question made likely comes first, then what each token of an answer did.
    before = torch.cat([first.expand(len(rows), 1, -1), logits[:, :-1]], dim=1).float()
    said = -functional.cross_entropy(before.transpose(1, 2), ids, reduction="none")
    found: Float[np.ndarray, " k"] = (said * own).sum(dim=1).double().numpy()
    return found


def _check_closed(answers: Sequence[str]) -> None:
    if len(answers) < 2 or len(set(answers)) < len(answers) or not all(a.strip() for a in answers):
        raise ConfigError("a closed set needs two different answers or more, none of them empty")


def _begun(
    net: MultimodalNetwork, words: Words, images: Sequence[np.ndarray], question: str
) -> tuple[torch.Tensor, object]:
    """Read a question; return what it makes likely to come next, (1, 1, vocabulary), and the cache."""
    ids = torch.tensor([spread(words.question(question, len(images)), words.image, net.tokens)])
    if ids.shape[1] >= net.length:
        raise ConfigError(f"the question has {ids.shape[1]} tokens with its images, the model reads {net.length}")
    if images:
        vectors, pictures = joined(net, ids, words.image, net.see(torch.from_numpy(np.stack(images))))
    else:
        vectors, pictures = net.embed(ids), torch.zeros(ids.shape, dtype=torch.bool)
    logits, cache = net.read(vectors, torch.ones(ids.shape, dtype=torch.bool), pictures=pictures)
    return logits[:, -1:], cache


@torch.inference_mode()
def score_choices(
    net: MultimodalNetwork,
    words: Words,
    seen: Float[torch.Tensor, "n image_tokens width"],
    questions: Sequence[str],
    answers: Sequence[str],
    *,
    at_once: int = 64,
) -> Float[np.ndarray, "n k"]:
    """Return the log-likelihood of each answer to many questions of one image each.

    Args:
        net: The network.
        words: Its words.
        seen: Tokens of each question's image, from `see`.
        questions: The questions.
        answers: The closed set of all of them.
        at_once: Rows in memory at a time.

    Raises:
        ConfigError: Fewer than two answers, an empty one, or a dialogue that is too long.
    """
    _check_closed(answers)
    few, found = max(1, at_once // len(answers)), []
    for start in range(0, len(questions), few):
        some = questions[start : start + few]
        asked = [(question, 1) for question in some for _ in answers]
        laid = lay_out(words, asked, [a for _ in some for a in answers], tokens=net.tokens, length=net.length)
        tokens = seen[start : start + few].repeat_interleave(len(answers), dim=0)
        said, _ = log_likelihoods(net, words, laid, tokens)
        found.append(said.view(len(some), len(answers)).double().cpu().numpy())
    return np.concatenate(found) if found else np.zeros((0, len(answers)))


@torch.inference_mode()
def write_answer(
    net: MultimodalNetwork, words: Words, images: Sequence[np.ndarray], question: str, *, most: int = 48
) -> str:
    """Return what the model writes: at each step the likeliest token, up to an end.

    Args:
        net: The network.
        words: Its words.
        images: As they go into the tower.
        question: The question.
        most: Tokens at most.

    Raises:
        ConfigError: The question is too long.
    """
    logits, cache = _begun(net, words, images, question)
    read = len(words.question(question, len(images))) + len(images) * (net.tokens - 1)
    written: list[int] = []
    while len(written) < min(most, net.length - read):
        token = int(logits[0, -1].argmax())
        if token in words.ends:
            break
        written.append(token)
        logits, cache = net.read(net.embed(torch.tensor([[token]])), torch.ones(1, 1, dtype=torch.bool), cache)
    return words.decode(written)
