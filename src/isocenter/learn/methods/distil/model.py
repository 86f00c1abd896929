"""What self-distillation trains: a student, and the teacher that is its average over steps; the teacher ships."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from isocenter.learn.methods.distil.args import DistilArgs, HeadArgs
from isocenter.learn.methods.distil.loss import centred, distance, koleo, sinkhorn
from isocenter.learn.pretraining.learner import Learner, encoder_of
from isocenter.learn.pretraining.parallel import gather, mean_over, world
from isocenter.models.backbones import ResidualEncoder, ViT

__all__ = ["Distil", "Head", "make"]


class Head(nn.Module):
    """A perceptron to a bottleneck of length 1, and prototypes of length 1 (weight normalisation with a fixed scale).

    Args:
        width: Of the embeddings.
        args: Its shape.
    """

    def __init__(self, width: int, args: HeadArgs) -> None:
        super().__init__()
        widths = [width, *[args.hidden] * (args.layers - 1), args.bottleneck]
        parts: list[nn.Module] = []
        for layer in range(args.layers):
            parts += [nn.GELU()] if layer else []
            linear = nn.Linear(widths[layer], widths[layer + 1])
            nn.init.trunc_normal_(linear.weight, std=widths[layer] ** -0.5)
            nn.init.zeros_(linear.bias)
            parts.append(linear)
        self.perceptron = nn.Sequential(*parts)
        self.prototypes = nn.Parameter(torch.randn(args.prototypes, args.bottleneck))

    def bottleneck(self, x: Float[torch.Tensor, "n width"]) -> Float[torch.Tensor, "n bottleneck"]:
        """Return vectors of length 1."""
        return functional.normalize(self.perceptron(x).float(), dim=1, eps=1e-6)

    def forward(self, x: Float[torch.Tensor, "n width"]) -> Float[torch.Tensor, "n prototypes"]:
        """Return the cosine to every prototype."""
        with torch.autocast(x.device.type, enabled=False):
            return functional.linear(self.bottleneck(x.float()), functional.normalize(self.prototypes, dim=1))


class Distil(Learner):
    """The learner: backbone and head of the student, of the teacher, and the running mean of what the teacher says.

    Args:
        backbone: The student's.
        args: Of the method.
    """

    figures = ("distance", "koleo", "entropy")
    centre: torch.Tensor
    said: torch.Tensor
    parts: torch.Tensor
    temperature: torch.Tensor

    def __init__(self, backbone: ViT | ResidualEncoder, args: DistilArgs) -> None:
        super().__init__(backbone)
        self.args = args
        self.head = Head(backbone.width, args.head)
        self.teacher = copy.deepcopy(backbone).requires_grad_(False)
        self.teacher_head = copy.deepcopy(self.head).requires_grad_(False)
        count = args.head.prototypes
        self.register_buffer("centre", torch.zeros(count))
        self.register_buffer("said", torch.zeros(count), persistent=False)
        self.register_buffer("parts", torch.zeros(()), persistent=False)
        self.register_buffer("temperature", torch.tensor(args.temperature(0)), persistent=False)

    def begin_step(self, step: int, steps: int) -> None:
        """Set the teacher's temperature."""
        self.temperature.fill_(self.args.temperature(step))
        self.said.zero_()
        self.parts.zero_()

    def before_update(self, step: int) -> None:
        """Hold the prototypes at the start."""
        if step < self.args.freeze_steps:
            self.head.prototypes.grad = None

    @torch.no_grad()
    def end_step(self, step: int, steps: int) -> None:
        """Let the teacher follow the student, and the running mean what the teacher said."""
        momentum = self.args.momentum(step)
        for mean, now in ((self.teacher, self.backbone), (self.teacher_head, self.head)):
            torch._foreach_lerp_([p.data for p in mean.parameters()], [p.data for p in now.parameters()], 1 - momentum)
        if float(self.parts) > 0:
            self.centre.lerp_(self.said / self.parts, 1 - self.args.centre_momentum)

    def averaged(self) -> nn.Module:
        """Return the teacher's backbone."""
        return self.teacher

    @torch.no_grad()
    def _answers(self, large: Float[torch.Tensor, "rows channel *space"]) -> Float[torch.Tensor, "rows prototypes"]:
        """Return what the teacher says of large crops, and remember its mean."""
        logits = self.teacher_head(self.teacher.embed(large))
        if self.training:
            self.said += mean_over(logits.mean(0))
            self.parts += 1
        if self.args.centring == "centre":
            return centred(logits, self.centre, self.temperature)
        if not self.training:
            return sinkhorn(logits, self.temperature)
        rows = len(logits)
        first = world().rank * rows
        return sinkhorn(gather(logits), self.temperature)[first : first + rows]

    def forward(self, views: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the loss of a batch, its terms, and the teacher's entropy as a share of the highest."""
        large = views["large"].transpose(0, 1)
        count, n = large.shape[:2]
        teacher = self._answers(large.flatten(0, 1))
        embedded = self.backbone.embed(large.flatten(0, 1))
        logits = [self.head(embedded).reshape(count, n, -1)]
        if "small" in views:
            small = views["small"].transpose(0, 1)
            said = self.head(self.backbone.embed(small.flatten(0, 1)))
            logits.append(said.reshape(*small.shape[:2], -1))
        apart = distance(torch.cat(logits), teacher.reshape(count, n, -1), self.args.student_temperature)
        entropy = -torch.special.xlogy(teacher, teacher).sum(1).mean() / torch.tensor(teacher.shape[1]).log()
        loss, near = apart, torch.zeros_like(apart)
        if self.args.koleo > 0:
            first = embedded[:n].float()
            near = koleo(gather(first) if self.training else first)
            loss = loss + self.args.koleo * near
        return loss, {"distance": apart, "koleo": near, "entropy": entropy}

    def watched(self, x: Float[torch.Tensor, "n channel *space"]) -> dict[str, Float[torch.Tensor, "n width"]]:
        """Return the teacher's embeddings, and those before its prototypes."""
        found = self.teacher.embed(x)
        return {"backbone": found, "head": self.teacher_head.bottleneck(found)}


def make(args: DistilArgs) -> Distil:
    """Build what a configuration says, with random weights."""
    return Distil(encoder_of(args), args)
