"""DINO: a student predicts from one view of a picture what its teacher, the student's moving average, says of another.

Caron et al. 2021, https://arxiv.org/abs/2104.14294; schedules and the order of a step follow the authors' code,
https://github.com/facebookresearch/dino. Gradients are clipped per parameter here: train with `TrainConfig(clip=None)`.
"""

import math
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmutils.methods import Method

GLOBAL_VIEWS = 2  # the first views of each picture, which the teacher sees
STUDENT_TEMPERATURE = 0.1
CENTER_MOMENTUM = 0.9
WARMUP = 0.3


class DINO(Method):
    """Self-distillation: the first two views go through teacher and student, the local ones through the student only.

    Centering alone leads to uniform answers (teacher_entropy at log P in the history), sharpening alone to a constant
    one (prototypes_used at 1); together they prevent both.

    Args:
        encoder: from a batch to features (B, D); becomes the student, and the teacher is a copy of it.
        prototypes: P; 65,536 in the paper, 1,000 to 8,000 for small data.
        teacher_temperature: at the start, and after the share `WARMUP` of the training; linear between them.
        momentum: where the teacher's schedule starts. 0.996 is for long runs; 1 - 10 / steps or lower for short ones.
        freeze: share of the training in which the prototypes stand still; clip: largest norm of a parameter's gradient.
    """

    def __init__(
        self,
        encoder: nn.Module,
        prototypes: int = 2048,
        hidden: int = 1024,
        bottleneck: int = 256,
        teacher_temperature: tuple[float, float] = (0.04, 0.07),
        momentum: float = 0.996,
        freeze: float = 0.1,
        clip: float = 3.0,
    ):
        super().__init__()
        head = Head(encoder.dim, prototypes, hidden, bottleneck)
        self.student = nn.ModuleDict({"encoder": encoder, "head": head})
        self.teacher = deepcopy(self.student).requires_grad_(False)
        self.register_buffer("center", torch.zeros(prototypes))
        self.teacher_temperature, self.momentum, self.freeze, self.clip = teacher_temperature, momentum, freeze, clip

    def train(self, mode: bool = True) -> "DINO":
        """As for any module, but the teacher drops nothing out: dropout and stochastic depth are the student's."""
        super().train(mode)
        for module in self.teacher.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd) or hasattr(module, "drop_prob"):
                module.eval()
        return self

    def loss(self, batch: dict, progress: float) -> Tensor:
        """`dino_loss` of a batch whose `image` is a list of views, the global ones first; moves the center."""
        views = batch["image"]
        count = len(views) if isinstance(views, list | tuple) else 1
        if count < GLOBAL_VIEWS:
            raise ValueError(f"DINO needs at least {GLOBAL_VIEWS} views of each example, not {count}: use MultiCrop")
        self.check_batch(len(batch["id"]))
        with torch.no_grad():
            features = encode_views(self.teacher["encoder"], batch, views[:GLOBAL_VIEWS])  # (G, B, D)
            teacher = self.teacher["head"](features)  # (G, B, P)
        student = self.student["head"](encode_views(self.student["encoder"], batch, views))  # (V, B, P)
        start, end = self.teacher_temperature
        temperature = end if progress >= WARMUP else start + (end - start) * progress / WARMUP
        loss = dino_loss(student, teacher, self.center, temperature)
        answers = F.softmax((teacher - self.center) / temperature, dim=-1)  # (G, B, P)
        self.watch.keep(teacher=features[0])
        self.watch.add(
            loss_chance=math.log(teacher.shape[-1]),
            teacher_entropy=torch.special.entr(answers).sum(dim=-1).mean(),
            prototypes_used=torch.special.entr(answers.mean(dim=(0, 1))).sum().exp(),
        )
        self.center.copy_(CENTER_MOMENTUM * self.center + (1 - CENTER_MOMENTUM) * teacher.mean(dim=(0, 1)))  # (P,)
        return loss

    @torch.no_grad()
    def before_step(self, progress: float) -> None:
        for parameter in self.student.parameters():
            if parameter.grad is not None:
                nn.utils.clip_grad_norm_(parameter, self.clip)
        if progress < self.freeze:
            self.student["head"].prototypes.weight.grad = None  # a zero would still let momentum and decay move it

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        momentum = 1 - (1 - self.momentum) * (1 + math.cos(math.pi * progress)) / 2  # half a cosine up to 1
        for teacher, student in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            teacher.lerp_(student, 1 - momentum)

    def encoders(self) -> dict[str, nn.Module]:
        """`teacher` is the one to keep and evaluate, as in the paper; `student` is the one that is trained."""
        return {"teacher": self.teacher["encoder"], "student": self.student["encoder"]}


class Head(nn.Module):
    """Features (..., D) to logits (..., P): three layers, L2 norm, cosines with P prototypes (weights of norm 1)."""

    def __init__(self, dim: int, prototypes: int, hidden: int, bottleneck: int):
        super().__init__()
        first, second, third = nn.Linear(dim, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, bottleneck)
        self.layers = nn.Sequential(first, nn.GELU(), second, nn.GELU(), third)
        self.prototypes = nn.Linear(bottleneck, prototypes, bias=False)
        for layer in (first, second, third):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        bottleneck = F.normalize(self.layers(features.float()), dim=-1)
        return F.linear(bottleneck, F.normalize(self.prototypes.weight, dim=-1))


def dino_loss(student: Tensor, teacher: Tensor, center: Tensor, temperature: float) -> Tensor:
    """Cross-entropy in nats between teacher and student, mean over examples and all pairs of two different views.

    log P for a student at chance; at the optimum the entropy of the teacher, which no gradient reaches.
    student: logits (V, B, P); teacher: those (G, B, P) of the first G of these views; temperature: of the teacher.
    """
    targets = F.softmax((teacher.detach() - center) / temperature, dim=-1)  # (G, B, P)
    guesses = F.log_softmax(student / STUDENT_TEMPERATURE, dim=-1)  # (V, B, P)
    losses = -torch.einsum("gbp,vbp->gv", targets, guesses) / student.shape[1]  # (G, V)
    return losses[~torch.eye(*losses.shape, dtype=torch.bool, device=losses.device)].mean()


def encode_views(encoder: nn.Module, batch: dict, views: list[Tensor]) -> Tensor:
    """Float32 features (V, B, D) of V views (B, 3, H, W) of any sizes, one pass per size; text is repeated per view."""
    features = {}  # by the view's place
    for size in sorted({view.shape[-2:] for view in views}, reverse=True):
        places = [place for place, view in enumerate(views) if view.shape[-2:] == size]
        inputs = {
            name: torch.cat([value] * len(places)) if isinstance(value, Tensor) else value * len(places)
            for name, value in batch.items()
        }
        inputs["image"] = torch.cat([views[place] for place in places])
        features |= zip(places, encoder(inputs).float().chunk(len(places)), strict=True)  # (B, D) each
    return torch.stack([features[place] for place in range(len(views))])
