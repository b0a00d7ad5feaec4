"""Image encoder: any timm model by its name."""

import difflib

import timm
import torch
import torch.nn.functional as F
from timm.data import resolve_model_data_config
from timm.models import group_parameters
from torch import Tensor, nn

from mmutils.models.encoder import Encoded, Encoder, check_layers, entry
from mmutils.models.weights import image_weights


class _WholeMap(nn.Conv2d):
    """VGG's layer whose kernel covers the feature map whole: as a product of matrices it is several times faster."""

    def forward(self, image: Tensor) -> Tensor:  # (B, D, H, W) -> (B, K, 1, 1)
        if image.shape[-2:] != self.kernel_size:
            return super().forward(image)
        return F.linear(image.flatten(1), self.weight.flatten(1), self.bias)[..., None, None]


class ImageEncoder(Encoder):
    """Any timm model by its name, without its classification layer.

    It takes pixels in [0, 1] and normalises them with the model's own mean and standard deviation. Its tokens are the
    patches of a transformer, or the places of a convolutional network's last feature map; None where these have another
    width than the features (VGG).

    ValueError for a name that timm does not have, FileNotFoundError where there are no weights.

    Args:
        pretrained: weights from a package or the hub, which the attribute `source` names; frozen: never train them.
        size: pixels of the square input, by default the model's own; a transformer's position table is resized to it.
            Larger views are shrunk to it; smaller ones are enlarged where the model has a fixed input size.
        pad: for whoever decodes pictures: keep their proportions, with white beside them.
    """

    def __init__(self, name: str, pretrained: bool = False, frozen=False, size: int | None = None, pad=False):
        super().__init__()
        self.name, self.pad = name, pad
        if not timm.is_model(name):
            near = ", ".join(difflib.get_close_matches(name, timm.list_models(), n=5, cutoff=0.4)) or "none"
            raise ValueError(f"timm has no model {name!r}; near: {near}. timm.list_models() has all")
        file, self.source = image_weights(name, pretrained)
        self.fixed_size = timm.get_pretrained_cfg(name, allow_unregistered=False).fixed_input_size
        options = {"pretrained_cfg_overlay": {"file": str(file), "custom_load": False}} if file else {}  # not as .npz
        options |= {"img_size": size} if self.fixed_size and size else {}
        self.network = timm.create_model(name, pretrained=self.source != "random", num_classes=0, **options)
        if isinstance(layer := getattr(getattr(self.network, "pre_logits", None), "fc1", None), nn.Conv2d):
            layer.__class__ = _WholeMap  # the same weights
        config = resolve_model_data_config(self.network)
        self.size = size or config["input_size"][-1]
        self.dim = getattr(self.network, "head_hidden_size", self.network.num_features)
        for key in ("mean", "std"):
            self.register_buffer(key, torch.tensor(config[key]).view(3, 1, 1), persistent=False)
        if frozen:
            self.freeze()

    def below(self, layers: int) -> list[str]:
        groups = group_parameters(self.network, self.network.group_matcher(coarse=False))  # by number of the layer
        lower = sorted(groups)[: check_layers(layers, len(groups), self.name)]
        return [f"network.{name}" for number in lower for name in groups[number]]

    def encode(self, batch: dict) -> Encoded:
        image = entry(batch, "image", "give Batches an image_size")
        if not isinstance(image, Tensor):
            raise ValueError(f"the batch has {len(image)} views; encode them one by one: {{**batch, 'image': view}}")
        largest = max(image.shape[-2:])
        if largest > self.size or (largest < self.size and self.fixed_size):
            image = F.interpolate(image, (self.size, self.size), mode="bilinear", antialias=True)
        grid = self.network.forward_features((image - self.mean) / self.std)  # (B, T, D), (B, D, H, W) or (B, H, W, D)
        if grid.ndim == 3:
            tokens = grid[:, getattr(self.network, "num_prefix_tokens", 0) :]
        else:
            tokens = grid.flatten(1, 2) if getattr(self.network, "output_fmt", "") == "NHWC" else grid.flatten(2).mT
            tokens = tokens if tokens.shape[-1] == self.dim else None
        return Encoded(self.network.forward_head(grid), tokens)
