"""The nearest confirmed cases: what networks see in the images that they learnt from, and what was confirmed of them.

An index holds, for each network, the embedding of each case, its label in words, and an opaque name made from the
image's hash: no name of a case, file or patient. It is read with the task and never alters an answer.

Distance is the cosine distance of embeddings whose every number was brought to mean 0 and deviation 1 over the index,
mean of the networks: 0 the same direction, 1 unrelated, 2 opposite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from isocenter.core import Neighbour
from isocenter.core.errors import WeightsError

__all__ = ["MOST_CASES", "CaseIndex", "distances", "opaque"]

MOST_CASES = 2000
"""An index holds no more: of a larger set, cases spread over all of it."""
_DIGITS = 12


def opaque(sha256: str) -> str:
    """Return the name under which an image stands in an index.

    Example:
        >>> opaque("ab" * 32)
        'case abababababab'
    """
    return f"case {sha256[:_DIGITS]}"


def distances(
    gallery: Float[np.ndarray, "n width"], query: Float[np.ndarray, " width"]
) -> Float[np.ndarray, " n"]:  # fmt: skip
    """Return the distance of each row of a gallery from a query."""
    mean, spread = gallery.mean(0), gallery.std(0)
    spread = np.where(spread > 1e-9, spread, 1.0)
    rows, one = (gallery - mean) / spread, (query - mean) / spread
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(one)
    return np.asarray(1 - rows @ one / np.maximum(lengths, 1e-12), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class CaseIndex:
    """What is known of the cases.

    Args:
        names: Opaque.
        labels: In words.
        embeddings: Of each network.

    Raises:
        WeightsError: Lengths differ, a value is not finite, or there is no case.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    embeddings: tuple[Float[np.ndarray, "n _"], ...]

    def __post_init__(self) -> None:
        sizes = {len(self.names), len(self.labels), *(len(e) for e in self.embeddings)}
        if len(sizes) != 1 or not self.names or not self.embeddings:
            raise WeightsError("an index of cases needs names, labels and embeddings, equally many")
        if not all(np.isfinite(e).all() for e in self.embeddings):
            raise WeightsError("an index of cases holds an embedding that is not finite")

    def arrays(self) -> dict[str, np.ndarray]:
        """Return arrays that `from_arrays` reads."""
        each = {f"network-{n}": e.astype(np.float32) for n, e in enumerate(self.embeddings)}
        return {"names": np.array(self.names, dtype=np.str_), "labels": np.array(self.labels, dtype=np.str_), **each}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Shaped[np.ndarray, "..."]]) -> CaseIndex:
        """Return what `arrays` gave.

        Raises:
            WeightsError: Something is missing.
        """
        try:
            count = sum(key.startswith("network-") for key in arrays)
            embeddings = tuple(arrays[f"network-{n}"].astype(np.float64) for n in range(count))
            return cls(tuple(map(str, arrays["names"])), tuple(map(str, arrays["labels"])), embeddings)
        except KeyError as error:
            raise WeightsError(f"an index of cases lacks {error}") from error

    def nearest(self, seen: Sequence[Float[np.ndarray, " _"]], count: int) -> tuple[Neighbour, ...]:
        """Return the nearest cases, nearest first; of equally near ones by name.

        Args:
            seen: Embedding of an image by each network.
            count: At most so many.

        Raises:
            WeightsError: The index is of other networks.
        """
        if [len(s) for s in seen] != [e.shape[1] for e in self.embeddings]:
            raise WeightsError("the index of cases is of other networks than the task's; adapt again")
        far = np.mean([distances(e, s) for e, s in zip(self.embeddings, seen, strict=True)], axis=0)
        order = sorted(range(len(far)), key=lambda i: (float(far[i]), self.names[i]))[:count]
        return tuple(Neighbour(self.names[i], self.labels[i], round(max(0.0, float(far[i])), 6)) for i in order)
