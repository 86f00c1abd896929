"""One network for every prompt: encode the picture once, then answer each prompt; examples come in as memory.

Three parts share one shape for planes and volumes (`dims`). The *image encoder* sees the picture alone and makes dense
features; it runs once per picture. The *memory* reads examples (pictures with their masks, encoded by the same
encoder): every place of the picture looks up the places of the examples that are like it and is told what was drawn
there. The *prompter* sees the prompts (`inputs`), the features and what the memory says; it is small, so that a click
costs milliseconds. Most of its work happens at half resolution and below: prompts are folded 2x2 into channels and
unfolded at the end, and two light layers at full resolution draw the border.

It gives one answer and three alternatives (a first click is ambiguous: a part, an organ, a pair), and for each the
overlap (IoU) that it expects.

Source:
    Ronneberger et al., MICCAI 2015; He et al., CVPR 2016; Kirillov et al., ICCV 2023 (ambiguity, predicted quality);
    Oh et al., ICCV 2019 (reading masks from a memory); Rakic et al., ECCV 2024 (context of confirmed cases).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import nn
from torch.nn import functional

from isocenter.core.errors import ConfigError
from isocenter.models.interactive.inputs import PICTURE_CHANNELS, PROMPT_CHANNELS

__all__ = [
    "ALTERNATIVES",
    "Answer",
    "Examples",
    "Features",
    "InteractiveNet",
    "InteractiveSettings",
    "fold",
    "laid_out",
]

ALTERNATIVES = 3
_FOLD = 4  # the memory's grid is this much coarser than the features, which are at half resolution


@dataclass(frozen=True)
class InteractiveSettings:
    """Shape of the network; written into the weights' card.

    Args:
        dims: 2 for planes, 3 for volumes.
        widths: Channels of the image encoder at 1/2, 1/4, 1/8, ... of the picture; at least three.
        prompt_widths: The same of the prompter.
        fine: Channels at full resolution.
        blocks: Convolutions per residual stage of the image encoder.
        memory: Channels of the memory's keys and of what it says.

    Raises:
        ConfigError: A number is out of range.
    """

    dims: int = 2
    widths: tuple[int, ...] = (32, 64, 128, 192)
    prompt_widths: tuple[int, ...] = (32, 48, 64, 96)
    fine: int = 8
    blocks: int = 2
    memory: int = 48

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(int(w) for w in self.widths))
        object.__setattr__(self, "prompt_widths", tuple(int(w) for w in self.prompt_widths))
        least = min(*self.widths, *self.prompt_widths, self.fine, self.blocks, self.memory)
        if self.dims not in (2, 3) or len(self.widths) < 3 or len(self.widths) != len(self.prompt_widths) or least < 1:
            raise ConfigError(
                f"an interactive network has 2 or 3 dimensions and three or more positive widths each; got {self}"
            )

    @property
    def multiple(self) -> int:
        """Every side of the input must be a multiple of this."""
        return int(2 ** len(self.widths))

    @classmethod
    def from_card(cls, network: Mapping[str, object]) -> InteractiveSettings:
        """Read the settings from a card.

        Raises:
            ConfigError: Something is missing, unknown or not a number.
        """
        try:
            values = dict(network)
            lists = {k: tuple(int(str(w)) for w in values.pop(k)) for k in ("widths", "prompt_widths")}  # type: ignore[attr-defined]
            return cls(**lists, **{k: int(str(v)) for k, v in values.items()})  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError("the card does not describe an interactive network") from error

    def as_card(self) -> dict[str, object]:
        """Return the settings as JSON-ready values."""
        return {**asdict(self), "widths": list(self.widths), "prompt_widths": list(self.prompt_widths)}


class Features(NamedTuple):
    """What the image encoder says of a batch: dense features at 1/2, 1/4, ... of the picture, finest first.

    `unit` is the direction of the finest ones, which every answer asks for; None to find it when it is needed.
    """

    levels: tuple[torch.Tensor, ...]
    unit: torch.Tensor | None = None

    def directions(self) -> torch.Tensor:
        """Return the finest features, each place scaled to length one."""
        return functional.normalize(self.levels[0].float(), dim=1) if self.unit is None else self.unit

    def of(self, rows: torch.Tensor) -> Features:
        """Return the features of some samples of the batch."""
        return Features(tuple(level[rows] for level in self.levels), None if self.unit is None else self.unit[rows])


class Examples(NamedTuple):
    """Memory of examples for a batch.

    `keys` and `values` hold the places of all examples of each sample, (n, places, channels); `valid` says which are
    filled; `prototypes` the mean feature inside and outside the masks, (n, 2, channels of the finest level).
    """

    keys: Float[torch.Tensor, "n m k"]
    values: Float[torch.Tensor, "n m v"]
    valid: Bool[torch.Tensor, "n m"]
    prototypes: Float[torch.Tensor, "n 2 c"]


class Answer(NamedTuple):
    """Logits on the grid of the input and the expected IoU (as logit): the answer, then its alternatives."""

    logits: torch.Tensor  # (n, 1 + ALTERNATIVES, *space)
    quality: torch.Tensor  # (n, 1 + ALTERNATIVES)
    recalled: torch.Tensor  # (n, 1, *half): what the memory alone would draw, 0 to 1; 0 without examples


_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_POOL = {2: functional.avg_pool2d, 3: functional.avg_pool3d}


def fold(x: torch.Tensor, by: int) -> torch.Tensor:
    """Move blocks of `by` along every axis into channels."""
    n, c, *space = x.shape
    dims = len(space)
    x = x.reshape(n, c, *(part for s in space for part in (s // by, by)))
    order = [0, 1, *range(3, 3 + 2 * dims, 2), *range(2, 2 + 2 * dims, 2)]
    return x.permute(order).reshape(n, c * by**dims, *(s // by for s in space))


def _unfold(x: torch.Tensor, by: int) -> torch.Tensor:
    """Undo `fold`."""
    n, c, *space = x.shape
    dims = len(space)
    x = x.reshape(n, c // by**dims, *([by] * dims), *space)
    order = [0, 1, *(axis for d in range(dims) for axis in (2 + dims + d, 2 + d))]
    return x.permute(order).reshape(n, c // by**dims, *(s * by for s in space))


def laid_out(x: torch.Tensor) -> torch.Tensor:
    """Return a batch with its channels last in memory, as convolutions like it."""
    layout = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    return x.contiguous(memory_format=layout)


class _Stage(nn.Module):
    """Convolutions with a way around them."""

    def __init__(self, dims: int, width: int, blocks: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(blocks):
            layers += [
                _CONV[dims](width, width, 3, padding=1, bias=False),
                _NORM[dims](width),
                nn.ReLU(inplace=True),
            ]
        self.body = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x and what the convolutions add to it."""
        return x + self.body(x)  # type: ignore[no-any-return]


class _Hourglass(nn.Module):
    """Down to the coarsest level and up again; something may be added at each level on the way down."""

    def __init__(self, dims: int, widths: tuple[int, ...], blocks: int, up_blocks: int) -> None:
        super().__init__()
        self.encoder = nn.ModuleList([_Stage(dims, w, blocks) for w in widths])
        self.down = nn.ModuleList([_CONV[dims](a, b, 2, 2) for a, b in pairwise(widths)])
        self.up = nn.ModuleList([_CONV[dims](b, a, 1) for a, b in pairwise(widths)])
        self.decoder = nn.ModuleList([_Stage(dims, w, up_blocks) for w in widths[:-1]])
        self.context = nn.Linear(widths[-1], widths[-1])

    def forward(self, h: torch.Tensor, beside: tuple[torch.Tensor, ...] = ()) -> tuple[torch.Tensor, ...]:
        """Return the decoded levels, finest first, and at the end the coarsest."""
        skips: list[torch.Tensor] = []
        for index, stage in enumerate(self.encoder):
            if index < len(beside):
                h = h + beside[index]
            h = stage(h)
            if index < len(self.down):
                skips.append(h)
                h = self.down[index](h)
        pooled = h.flatten(2).mean(dim=2)
        h = h + self.context(pooled)[(...,) + (None,) * (h.ndim - 2)]
        levels = [h]
        for up, stage, skip in zip(reversed(self.up), reversed(self.decoder), reversed(skips), strict=True):
            h = stage(functional.interpolate(up(h), scale_factor=2.0, mode="nearest") + skip)
            levels.append(h)
        return tuple(reversed(levels))


def _places(space: tuple[int, ...], device: torch.device) -> Float[torch.Tensor, "places waves"]:
    """Return where each place of a grid lies in its picture, as waves of four lengths along each axis."""
    axes = torch.meshgrid(
        *[(torch.arange(s, device=device, dtype=torch.float32) + 0.5) / s * 2 - 1 for s in space], indexing="ij"
    )
    flat = torch.stack([a.flatten() for a in axes], dim=1)
    angles = flat[:, :, None] * torch.pi * torch.tensor([0.5, 1.0, 2.0, 4.0], device=device)
    return torch.cat([angles.sin(), angles.cos()], dim=2).flatten(1)


class InteractiveNet(nn.Module):
    """The network.

    Args:
        settings: Its shape.

    Example:
        >>> net = InteractiveNet(InteractiveSettings(widths=(4, 8, 8), prompt_widths=(4, 4, 4), memory=4)).eval()
        >>> features = net.encode(torch.zeros(2, PICTURE_CHANNELS, 16, 8))
        >>> net.answer(features, torch.zeros(2, PICTURE_CHANNELS + PROMPT_CHANNELS, 16, 8)).logits.shape
        torch.Size([2, 4, 16, 8])
    """

    def __init__(self, settings: InteractiveSettings) -> None:
        super().__init__()
        self.settings = settings
        dims, widths, own, fine = settings.dims, settings.widths, settings.prompt_widths, settings.fine
        conv, norm, block = _CONV[dims], _NORM[dims], 2**dims
        self.image_stem = nn.Sequential(
            conv(block * PICTURE_CHANNELS, widths[0], 3, padding=1, bias=False), norm(widths[0]), nn.ReLU(inplace=True)
        )
        self.image = _Hourglass(dims, widths, settings.blocks, settings.blocks)
        self.across = nn.ModuleList([conv(a, b, 1) for a, b in zip(widths, own, strict=True)])
        # Beside the folded prompts the prompter sees five maps at half resolution: likeness of the features to what was
        # pointed at (this, not this), likeness to the examples (inside, outside), and what the memory would draw.
        channels = PICTURE_CHANNELS + PROMPT_CHANNELS
        self.prompt_stem = nn.Sequential(
            conv(block * channels + 5, own[0], 3, padding=1, bias=False), norm(own[0]), nn.ReLU(inplace=True)
        )
        self.prompter = _Hourglass(dims, own, 1, 1)
        self.key = nn.Linear(sum(widths[:3]), settings.memory, bias=False)
        self.drawn = nn.Linear(widths[2] + _FOLD**dims, settings.memory)
        self.told = nn.Linear(settings.memory + _FOLD**dims + 1, own[2])
        # How much unlike features, and how much another place in the picture, tell against looking there (as logs).
        # They start where features that never learnt to recall do it best.
        self.sharpness = nn.Parameter(torch.tensor([1.6, 0.2]))
        self.unfold = conv(own[0], block * fine, 1)
        self.border = nn.Sequential(
            conv(fine + channels, fine, 3, padding=1),
            nn.ReLU(inplace=True),
            conv(fine, 1 + ALTERNATIVES, 3, padding=1),
        )
        self.judge = nn.Sequential(nn.Linear(own[-1] + 2 * own[0] + 2, 64), nn.ReLU(inplace=True), nn.Linear(64, 1))

    def encode(self, picture: torch.Tensor) -> Features:
        """Return the features of pictures, (n, 2, *space); sides a multiple of `InteractiveSettings.multiple`."""
        levels = self.image(self.image_stem(laid_out(fold(picture, 2))))
        return Features(levels, functional.normalize(levels[0].float(), dim=1))

    def _keys(self, features: Features) -> torch.Tensor:
        """Return what places are looked up by, (n, places, k): the direction of their features, and where they lie."""
        dims = self.settings.dims
        levels = [
            _POOL[dims](level.float(), 2 ** (2 - depth)) if depth < 2 else level.float()
            for depth, level in enumerate(features.levels[:3])
        ]
        joined = torch.cat([functional.normalize(level, dim=1) for level in levels], dim=1).flatten(2).transpose(1, 2)
        directions = functional.normalize(self.key(joined).float(), dim=2)
        where = _places(tuple(features.levels[2].shape[2:]), joined.device)[None].expand(len(joined), -1, -1)
        unlike, away = (0.5 * self.sharpness).exp()
        return torch.cat([directions * unlike, where * away], dim=2)

    def remember(self, features: Features, masks: torch.Tensor, owner: torch.Tensor, samples: int) -> Examples:
        """Make the memory of a batch from encoded examples.

        Args:
            features: Of the examples.
            masks: Their masks, (m, *space), 0 to 1, on the grid of their pictures.
            owner: Which sample of the batch each belongs to, (m,).
            samples: How many samples the batch has.
        """
        dims = self.settings.dims
        half = _POOL[dims](masks[:, None].float(), 2)
        drawn = fold(half, _FOLD).flatten(2).transpose(1, 2)
        middle = features.levels[2].float().flatten(2).transpose(1, 2)
        keys = self._keys(features)
        values = torch.cat([self.drawn(torch.cat([middle, drawn], dim=2)).float(), drawn], dim=2)
        finest = features.directions()
        inside = (torch.cat([half, 1 - half], dim=1).flatten(2) @ finest.flatten(2).transpose(1, 2)).float()
        weight = torch.stack([w.flatten(1).sum(1) for w in (half, 1 - half)], dim=1)[..., None]
        counts = torch.bincount(owner, minlength=samples)
        most, places = int(counts.max()), keys.shape[1]
        shape = (samples, most, places)
        all_keys, all_values = keys.new_zeros(*shape, keys.shape[2]), values.new_zeros(*shape, values.shape[2])
        valid = torch.zeros(samples, most, dtype=torch.bool, device=keys.device)
        rank = torch.zeros_like(owner)
        for sample in range(samples):
            mine = owner == sample
            rank[mine] = torch.arange(int(counts[sample]), device=owner.device)
        all_keys = all_keys.index_put((owner, rank), keys)
        all_values = all_values.index_put((owner, rank), values)
        valid[owner, rank] = True
        sums = finest.new_zeros(samples, 2, finest.shape[1]).index_add(0, owner, inside)
        weights = finest.new_zeros(samples, 2, 1).index_add(0, owner, weight)
        return Examples(
            all_keys.flatten(1, 2),
            all_values.flatten(1, 2),
            valid[:, :, None].expand(-1, -1, places).flatten(1, 2),
            sums / (weights + 1e-3),
        )

    def _read(self, features: Features, examples: Examples | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return what the memory says: channels for the prompter, a drawing and likenesses at half resolution.

        Only samples that have examples are looked up.
        """
        dims = self.settings.dims
        middle, finest = features.levels[2], features.levels[0]
        samples, space = len(middle), tuple(middle.shape[2:])
        cells = _FOLD**dims
        read = middle.new_zeros(samples, middle[0, 0].numel(), self.settings.memory + cells + 1, dtype=torch.float32)
        like = finest.new_zeros(samples, 2, *finest.shape[2:], dtype=torch.float32)
        if examples is not None and bool(examples.valid.any()):
            rows = examples.valid.any(dim=1).nonzero()[:, 0]
            asked = features if len(rows) == samples else features.of(rows)
            gap = torch.cdist(self._keys(asked), examples.keys[rows]).square()
            weight = gap.neg().masked_fill(~examples.valid[rows][:, None], float("-inf")).softmax(dim=2)
            found = weight @ examples.values[rows]
            read = read.index_copy(0, rows, functional.pad(found.float(), (0, 1), value=1.0))
            alike = examples.prototypes[rows] @ asked.directions().flatten(2)
            like = like.index_copy(0, rows, alike.float().reshape(len(rows), *like.shape[1:]))
        told = self.told(read).transpose(1, 2).reshape(samples, -1, *space)
        drawing = _unfold(read[..., -cells - 1 : -1].transpose(1, 2).reshape(samples, cells, *space), _FOLD)
        return told, drawing, like

    def _pointed(self, features: Features, prompts: torch.Tensor) -> torch.Tensor:
        """Return the likeness of every place to what was pointed at: this, and not this."""
        dims = self.settings.dims
        finest = features.directions().flatten(2)
        first = PICTURE_CHANNELS + 1
        seeds = _POOL[dims](prompts[:, first : first + 2].float(), 2).flatten(2)
        means = seeds @ finest.transpose(1, 2) / (seeds.sum(2)[..., None] + 1e-3)
        like = means @ finest
        return like.reshape(len(like), 2, *features.levels[0].shape[2:])

    def answer(self, features: Features, inputs: torch.Tensor, examples: Examples | None = None) -> Answer:
        """Answer prompts.

        Args:
            features: From `encode`.
            inputs: Picture channels, then prompt channels (`encode_prompts`), (n, 12, *space).
            examples: From `remember`, None for none.
        """
        told, drawing, like = self._read(features, examples)
        folded = fold(inputs, 2)
        maps = torch.cat([folded, self._pointed(features, inputs), like, drawing], dim=1)
        beside = [conv(level) for conv, level in zip(self.across, features.levels, strict=True)]
        beside[2] = beside[2] + told.to(beside[2].dtype)
        levels = self.prompter(self.prompt_stem(laid_out(maps)), tuple(beside))
        fine = _unfold(self.unfold(levels[0]), 2)
        logits = self.border(laid_out(torch.cat([fine, inputs.to(fine.dtype)], dim=1))).float()
        return Answer(logits, self._quality(levels[-1].float(), levels[0].float(), logits), drawing)

    def forward(self, inputs: torch.Tensor) -> Answer:
        """Answer prompts without examples; `inputs` as in `answer`."""
        return self.answer(self.encode(inputs[:, :PICTURE_CHANNELS]), inputs)

    def _quality(self, coarse: torch.Tensor, features: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Judge each answer from what was seen inside it and at its border; no gradient goes back into the answer."""
        pooled = coarse.detach().flatten(2).mean(dim=2)[:, None].expand(-1, logits.shape[1], -1)
        inside = _POOL[self.settings.dims](torch.sigmoid(logits.detach()), 2).flatten(2)
        unsure = inside * (1 - inside) * 4
        area, doubt = inside.mean(dim=2), unsure.mean(dim=2)
        places = features.detach().flatten(2).transpose(1, 2)
        seen = [w @ places / (w.sum(2)[..., None] + 1.0) for w in (inside, unsure)]
        numbers = torch.stack([area.sqrt(), doubt / (area + 1e-3)], dim=2)
        return self.judge(torch.cat([pooled, *seen, numbers], dim=2))[..., 0]  # type: ignore[no-any-return]
