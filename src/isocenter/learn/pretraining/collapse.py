"""Are the embeddings of different images still different? A run whose embeddings are all alike has learnt nothing.

Source:
    Garrido et al., RankMe, ICML 2023 (effective rank: the exponential of the entropy of normalised singular values);
    Roy and Vetterli, EUSIPCO 2007. The mean is taken off first: what all images share tells none apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float

from isocenter.core.errors import TrainingError
from isocenter.learn.pretraining.args import CollapseArgs

__all__ = ["Spread", "Watch", "effective_rank", "spread_of"]


def effective_rank(embeddings: Float[torch.Tensor, "n width"]) -> float:
    """Return how many directions embeddings use: the exponential of the entropy of their singular values.

    Args:
        embeddings: One row for each image; their mean is taken off.

    Returns:
        1 where all lie on a line (or are one point), at most the smaller of `n` - 1 and `width`.

    Example:
        >>> round(effective_rank(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])), 6)
        2.0
    """
    centred = embeddings.double() - embeddings.double().mean(0)
    values = torch.linalg.svdvals(centred)
    total = values.sum()
    if not float(total) > 0:
        return 1.0
    share = values / total
    return float(torch.exp(-torch.special.xlogy(share, share).sum()))


@dataclass(frozen=True)
class Spread:
    """How different embeddings are.

    Args:
        rank: Effective rank.
        std: Standard deviation over images, root mean square over channels.
        spread: The same as a share of the embeddings' length: 0 where all are one point.
    """

    rank: float
    std: float
    spread: float


def spread_of(embeddings: Float[torch.Tensor, "n width"]) -> Spread:
    """Measure how different embeddings are."""
    x = embeddings.double()
    std = float(x.var(dim=0, unbiased=False).mean().sqrt())
    length = float(x.square().mean().sqrt())
    return Spread(effective_rank(embeddings), std, std / length if length > 0 else 0.0)


class Watch:
    """Follows a run's embeddings from one validation to the next, and stops a dead one.

    Args:
        args: When a run counts as dead.
    """

    def __init__(self, args: CollapseArgs) -> None:
        self._args = args
        self._highest: dict[str, float] = {}
        self._dead: dict[str, int] = {}

    def state(self) -> dict[str, dict[str, float] | dict[str, int]]:
        """Return what a resumed run must know."""
        return {"highest": dict(self._highest), "dead": dict(self._dead)}

    def load(self, state: Mapping[str, Mapping[str, float]]) -> None:
        """Take up what `state` returned."""
        self._highest = {k: float(v) for k, v in state["highest"].items()}
        self._dead = {k: int(v) for k, v in state["dead"].items()}

    def look(self, step: int, found: Mapping[str, Spread]) -> None:
        """Take the embeddings of a validation, by the place in the network that they are from; the backbone's first.

        Raises:
            TrainingError: They have collapsed, and the run is to stop then.
        """
        for number, (place, now) in enumerate(found.items()):
            # The first weights are judged by nobody; the backbone's own scale is free, that of a head is not.
            reason = self._reason(place, now, scale=number > 0) if step > 0 else ""
            self._highest[place] = max(self._highest.get(place, 0.0), now.std)
            self._dead[place] = self._dead.get(place, 0) + 1 if reason else 0
            if reason and self._args.stop and self._dead[place] >= self._args.patience:
                raise TrainingError(
                    f"step {step}: the embeddings have collapsed ({place}: {reason}), so nothing is learnt any more; "
                    "the last checkpoint is kept. Start anew with a lower learning rate, a larger batch, or more "
                    "weight on what keeps embeddings apart (`collapse.stop: false` lets it go on)"
                )

    def _reason(self, place: str, now: Spread, *, scale: bool) -> str:
        args, before = self._args, self._highest.get(place, 0.0)
        if now.spread < args.least_spread:
            return f"they differ by {now.spread:.2g} of their length, less than {args.least_spread:g}"
        if scale and now.std < args.shrunk_to * before:
            return f"their standard deviation fell to {now.std:.2g} from {before:.2g}"
        if now.rank < args.least_rank:
            return f"their effective rank is {now.rank:.2f}, less than {args.least_rank:g}"
        return ""
