"""A network over several sources of one patient, of which any may be missing.

Every source becomes one token; a source that is missing has a token of its own that is learnt. A learned question
attends over the tokens, and how much it takes from each is told with the answer; besides, each source that is there
adds what it says by itself. While it learns, sources are dropped at random, so that it knows what to do without them.

Source:
    Vaswani et al., NeurIPS 2017 (attention); Neverova et al., TPAMI 2016 (modality dropout).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import nn

from isocenter.core.errors import ConfigError, DataError

__all__ = ["FusionNet", "FusionSettings", "Head"]

Head = Literal["classify", "cox", "discrete"]


@dataclass(frozen=True)
class FusionSettings:
    """What a network is made of.

    Args:
        sources: Name and length of each source's vector, in order.
        head: What is learnt: a class, a risk, or hazards over intervals.
        outputs: Classes, 1, or intervals.
        width: Of a token.
        heads: Of the attention.
        dropout: Of the pooled token while it learns.
        drop_source: Chance that a source of a patient is dropped while it learns; one is always kept.

    Raises:
        ConfigError: A number is out of range, or a source is named twice.
    """

    sources: tuple[tuple[str, int], ...]
    head: Head
    outputs: int
    width: int = 32
    heads: int = 2
    dropout: float = 0.1
    drop_source: float = 0.3

    def __post_init__(self) -> None:
        names = [name for name, _ in self.sources]
        if not names or len(set(names)) != len(names) or min(size for _, size in self.sources) < 1:
            raise ConfigError("fusion needs a source, each name once, and vectors of a length")
        if self.head not in get_args(Head) or self.outputs < (2 if self.head == "classify" else 1):
            raise ConfigError(f"no head {self.head!r} with {self.outputs} outputs")
        if self.width < 1 or self.width % self.heads or not 0 <= self.dropout < 1 or not 0 <= self.drop_source < 1:
            raise ConfigError("the width must be a multiple of the heads, and chances lie in 0..1")


class FusionNet(nn.Module):
    """The network.

    Args:
        settings: What it is made of.
    """

    def __init__(self, settings: FusionSettings) -> None:
        super().__init__()
        self.settings = settings
        width, count = settings.width, len(settings.sources)
        self.project = nn.ModuleList([nn.Sequential(nn.Linear(n, width), nn.GELU()) for _, n in settings.sources])
        self.kind = nn.Parameter(torch.randn(count, width) * 0.02)
        self.missing = nn.Parameter(torch.randn(count, width) * 0.02)
        self.question = nn.Parameter(torch.randn(1, 1, width))
        # What each source says by itself: without it a few hundred patients teach less than a plain regression.
        own = settings.outputs if settings.head == "classify" else 1
        self.straight = nn.ModuleList([nn.Linear(n, own, bias=False) for _, n in settings.sources])
        for line in self.straight:
            nn.init.zeros_(line.weight)  # type: ignore[arg-type]
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, settings.heads, batch_first=True)
        self.answer = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Dropout(settings.dropout),
            nn.Linear(width, settings.outputs),
        )  # fmt: skip

    def forward(
        self, vectors: Mapping[str, Float[torch.Tensor, "n _"]], present: Bool[torch.Tensor, "n sources"]
    ) -> tuple[Float[torch.Tensor, "n outputs"], Float[torch.Tensor, "n sources"]]:
        """Return the outputs, and how much attention each source got.

        Args:
            vectors: Of each source; what stands where a source is missing is not looked at.
            present: Which sources each patient has.

        Returns:
            The outputs, and weights that add up to 1 for each patient; a missing source may have some too: that it is
            missing can tell.

        Raises:
            DataError: A source is not there, or a patient has none.
        """
        lacking = [name for name, _ in self.settings.sources if name not in vectors]
        if lacking:
            raise DataError(f"needs the sources {', '.join(lacking)}; give them as missing where nobody has them")
        if not bool(present.any(dim=1).all()):
            raise DataError("a patient has no source at all: nothing can be said")
        if self.training and self.settings.drop_source:
            present = self._dropped(present)
        tokens, straight = [], torch.zeros(())
        for number, (name, _) in enumerate(self.settings.sources):
            has = present[:, number, None]
            # Zeros where it is missing: NaN there would spoil the gradient although it is not chosen.
            vector = torch.where(has, vectors[name], torch.zeros_like(vectors[name]))
            seen = self.project[number](vector)
            straight = straight + self.straight[number](vector)
            tokens.append(torch.where(has, seen, self.missing[number]) + self.kind[number])
        row = self.norm(torch.stack(tokens, dim=1))
        question = self.question.expand(len(row), -1, -1)
        pooled, weights = self.attention(question, row, row, need_weights=True, average_attn_weights=True)
        return self.answer(pooled[:, 0]) + straight, weights[:, 0]

    def _dropped(self, present: Bool[torch.Tensor, "n sources"]) -> Bool[torch.Tensor, "n sources"]:
        kept = present & (torch.rand(present.shape) >= self.settings.drop_source)
        # Who would have none keeps all.
        return torch.where(kept.any(dim=1, keepdim=True), kept, present)
