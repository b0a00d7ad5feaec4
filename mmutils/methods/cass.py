"""CASS: a convolutional network and a vision transformer agree on each picture.

Singh et al. 2022, https://arxiv.org/abs/2206.04170; the loss follows the authors' code. It asks for agreement only, so
both networks may give every picture the same embedding, a perfect loss and worthless features. A cure prevents this.
"""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmutils.methods import Method
from mmutils.methods.clip import chance, contrastive_loss, duplicates
from mmutils.models.fusion import Concatenation, FusedEncoder
from mmutils.models.image import ImageEncoder
from mmutils.models.text import load_text_encoder

CURES = ("none", "stop_gradient", "variance", "contrastive")
COVARIANCE = 0.04  # weight of the covariance term of "variance", as in VICReg
TEMPERATURE = 0.1  # of "contrastive"


class CASS(Method):
    """Both encoders see the same picture, or the first and the last view where the batch has a list of them. Cures:

    - "none": the published form;
    - "stop_gradient": each branch predicts the other through a small network, and only the predicting side learns
      (SimSiam, Chen and He 2021, https://arxiv.org/abs/2011.10566);
    - "variance": every dimension varies over the batch, and no two vary together (VICReg, Bardes et al. 2022,
      https://arxiv.org/abs/2105.04906), here on L2-normalised embeddings;
    - "contrastive": a branch finds its partner among the other pictures of the batch, CLIP's loss between two networks
      (SimCLR's, Chen et al. 2020, https://arxiv.org/abs/2002.05709, has the other pictures of its own branch too).

    Args:
        cnn, vit: encoders, from a batch to features (B, D); dim: E of the embeddings that are compared.
        hidden: width of the layer between features and embedding; None for the published single linear layer.
    """

    def __init__(
        self, cnn: nn.Module, vit: nn.Module, dim: int = 256, hidden: int | None = None, cure: str = "contrastive"
    ):
        super().__init__()
        if cure not in CURES:
            raise ValueError(f"cure={cure!r} is unknown; there are {', '.join(CURES)}")
        self.cnn, self.vit, self.cure = cnn, vit, cure
        self.cnn_head, self.vit_head = (
            nn.Linear(encoder.dim, dim) if hidden is None else _mlp(encoder.dim, hidden, dim) for encoder in (cnn, vit)
        )
        if cure == "stop_gradient":
            self.cnn_predictor, self.vit_predictor = (_mlp(dim, max(8, dim // 4), dim) for _ in range(2))

    def embed(self, batch: dict) -> tuple[Tensor, Tensor]:
        """Projections (B, E) of both branches, float32 and not normalised."""
        views, first, second = batch.get("image"), batch, batch
        if isinstance(views, list | tuple):
            first, second = ({**batch, "image": view} for view in (views[0], views[-1]))
        return self.cnn_head(self.cnn(first).float()), self.vit_head(self.vit(second).float())

    def loss(self, batch: dict, progress: float) -> Tensor:
        self.check_batch(len(batch["id"]))
        a, b = self.embed(batch)  # (B, E) each
        loss, at_chance = self.objective(a, b, batch)
        self.watch.keep(cnn=a, vit=b)
        self.watch.add(agreement=agreement_loss(a, b), loss_chance=at_chance)
        return loss

    def objective(self, a: Tensor, b: Tensor, batch: dict) -> tuple[Tensor, Tensor | float]:
        """Loss of projections (B, E), and its value at chance: independent even directions, or equal cosines."""
        if self.cure == "stop_gradient":
            first = agreement_loss(self.cnn_predictor(a), b.detach())
            return (first + agreement_loss(self.vit_predictor(b), a.detach())) / 2, 2.0
        if self.cure == "variance":
            a, b = (F.normalize(x, dim=-1) * math.sqrt(x.shape[-1]) for x in (a, b))  # even directions: variance 1
            variance, covariance = (variance_loss(a) + variance_loss(b)) / 2, covariance_loss(a) + covariance_loss(b)
            at_chance = 2 + COVARIANCE * 2 * (a.shape[1] - 1) / len(a)
            return agreement_loss(a, b) + variance + COVARIANCE * covariance, at_chance
        if self.cure == "contrastive":
            a, b, same = F.normalize(a, dim=-1), F.normalize(b, dim=-1), duplicates(batch).to(a.device)
            return contrastive_loss(a, b, 1 / TEMPERATURE, same), chance(same)
        return agreement_loss(a, b), 2.0

    def encoders(self) -> dict[str, nn.Module]:
        return {"cnn": self.cnn, "vit": self.vit}


def cass_mm(
    networks: Mapping[str, int],
    texts: Sequence[str],
    text_encoder: str = "",
    pretrained: bool = False,
    shared_text: bool = False,
    hidden: float = 0.0,
    cure: str = "contrastive",
) -> CASS:
    """CASS for posts, CASS-MM: two fused encoders whose features are 256 units on picture and text; every layer trains.

    Args:
        networks: the timm models of the two branches with their pixels, CNN first.
        texts: those of the pretraining, for the tokenizer of a text encoder from scratch.
        text_encoder: a Hugging Face model; empty for a small one from scratch.
        pretrained: whether the image networks start from ImageNet weights.
        shared_text: one text encoder for both branches, else one each.
        hidden: share of the examples of which a branch is not shown picture or text, drawn anew for each branch.
    """
    images = [ImageEncoder(name, pretrained, size=size) for name, size in networks.items()]
    first = load_text_encoder(texts, text_encoder, frozen=False)
    second = first if shared_text else load_text_encoder(texts, text_encoder, frozen=False)
    branches = []
    for image, text in zip(images, (first, second), strict=True):
        branches.append(FusedEncoder(image, text, Concatenation(image.dim, text.dim, (256,), dropout=0.0, hide=hidden)))
    return CASS(*branches, cure=cure)


def agreement_loss(a: Tensor, b: Tensor) -> Tensor:
    """Mean over the rows of a and b (B, E) of 2 - 2 cos: 0 for equal directions, 2 independent, 4 opposite."""
    return (2 - 2 * F.cosine_similarity(a, b, dim=-1)).mean()


def variance_loss(a: Tensor) -> Tensor:
    """Mean over dimensions of max(0, 1 - standard deviation of a (B, E)): 0 when all vary, 0.99 at collapse."""
    return F.relu(1 - (a.var(dim=0) + 1e-4).sqrt()).mean()


def covariance_loss(a: Tensor) -> Tensor:
    """Sum of squared covariances between different dimensions of a (B, E), divided by E: 0 when none vary together."""
    covariance = torch.cov(a.T)  # (E, E)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / a.shape[1]


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two layers with batch norm between them; without biases, which alone could give a constant answer."""
    first, last = nn.Linear(inputs, hidden, bias=False), nn.Linear(hidden, outputs, bias=False)
    return nn.Sequential(first, nn.BatchNorm1d(hidden), nn.ReLU(), last)
